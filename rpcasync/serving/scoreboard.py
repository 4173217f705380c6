"""The memory that the workers of a program, and their parent, share: how many clients each has.

    place 0    clients, or -1 if it accepts nobody    8 bytes
               connections that it has accepted       8 bytes
    place 1    ...

A worker writes at its own place alone, and the parent where one has ended, so that there is nothing
to lock. A number that is read while it changes costs no more than a moment's wait.

It is a file without a name, since workers are other programs: a descriptor is all that they can be
given of it.
"""

from __future__ import annotations

import mmap
import os

__all__ = ["Scoreboard", "make_file"]

_SIZE = 8  # bytes of one
_NOBODY = -1


class Scoreboard:
    """The memory.

    Args:
        descriptor: of the file, which is closed.

    Raises:
        OSError: it cannot be mapped.
        ValueError: it has no bytes.
    """

    def __init__(self, descriptor: int) -> None:
        try:
            self._memory = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)
        numbers = memoryview(self._memory).cast("q")
        self._clients, self._accepted = numbers[0::2], numbers[1::2]

    def write(self, place: int, clients: int | None) -> None:
        """Say how many clients a worker has; None if it accepts nobody."""
        self._clients[place] = _NOBODY if clients is None else clients

    def count(self, place: int) -> None:
        """Note that a worker has accepted another one."""
        self._accepted[place] += 1

    def read(self) -> list[tuple[int, int]]:
        """Return each place: its clients, -1 if it accepts nobody; and how many it has accepted."""
        return [*zip(self._clients.tolist(), self._accepted.tolist(), strict=True)]


def make_file(places: int) -> int:
    """Return the descriptor of a file for a scoreboard with so many places, nobody at any.

    Raises:
        OSError: it cannot be made.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("rpcasync workers")
    else:
        import tempfile  # it takes a while, and Linux has no need of it

        with tempfile.TemporaryFile(buffering=0) as file:
            descriptor = os.dup(file.fileno())
    one = _NOBODY.to_bytes(_SIZE, "little", signed=True) + bytes(_SIZE)
    try:
        os.write(descriptor, one * places)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
