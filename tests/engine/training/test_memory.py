"""Memory that a training keeps between its steps, seen by the pages that the kernel has to make; each in a process whose heap is new."""

import ctypes
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library")

PAGES_MADE = """
import ctypes, resource, contextlib
from engine.training.memory import kept_memory

def pages_made():
    "While a block of 64 MiB is asked for, written and freed eight times."
    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes, library.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        block = library.malloc(2**26)
        ctypes.memset(block, 1, 2**26)
        library.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""


def pages(lines):
    said = subprocess.run([sys.executable, "-c", PAGES_MADE + lines], capture_output=True, text=True, check=True).stdout
    return [int(number) for number in said.split()]


def test_memory_that_is_freed_is_asked_of_the_kernel_once():
    usual, kept, afterwards = pages("print(pages_made())\nwith kept_memory():\n    print(pages_made())\nprint(pages_made())")
    assert kept < usual / 4
    assert afterwards > usual / 2


def test_it_is_given_back_after_an_error_too():
    usual, afterwards = pages(
        "print(pages_made())\nwith contextlib.suppress(ZeroDivisionError), kept_memory():\n    1 / 0\nprint(pages_made())"
    )
    assert afterwards > usual / 2
