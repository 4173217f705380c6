"""What the C library does with the memory of messages that are gone.

This file knows nothing of handles, and changes nothing but what is kept of the heap.
"""

from __future__ import annotations

from functools import cache

__all__ = ["keep_freed_memory"]

_LARGE_BLOCK = 2 * 1024 * 1024  # bytes


@cache
def keep_freed_memory() -> None:
    """Have glibc keep what is freed, some megabytes at most, for the next message.

    It gives the end of its heap back to the kernel once 128 KB of it are free, and gets it anew,
    page by page, for the next message: for one of 100 KB, that took longer than all the rest. By
    the first larger block that is freed it learns to keep twice as much, see mallopt(3) on
    M_MMAP_THRESHOLD. Other allocators do not mind. Once in a process is enough.
    """
    bytes(_LARGE_BLOCK)
