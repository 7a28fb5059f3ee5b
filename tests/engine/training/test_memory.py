import ctypes
import resource

import pytest

from engine.training.memory import kept_memory

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library")

BLOCK = 64 * 2**20
ROUNDS = 8


def pages_made():
    """Pages that the kernel made while a large block is asked for, written and freed again and again."""
    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes, library.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(ROUNDS):
        block = library.malloc(BLOCK)
        ctypes.memset(block, 1, BLOCK)
        library.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_memory_that_is_freed_is_asked_of_the_kernel_once():
    usual = pages_made()
    with kept_memory():
        kept = pages_made()
    assert kept < usual / 4
    assert pages_made() > usual / 2


def test_it_is_given_back_after_an_error_too():
    with pytest.raises(ZeroDivisionError), kept_memory():
        1 / 0  # noqa: B018
    assert pages_made() > BLOCK / resource.getpagesize()
