"""File descriptors that a peer has passed over a UNIX socket (SCM_RIGHTS, unix(7)).

The kernel has opened them in this process by the time that they are read, so somebody must own them
at every moment: until the program takes them they are their `PassedFds`'s, which closes them when
it goes. So what a stranger passes to a program that does not expect it stays open no longer than
its event.

This file knows nothing of selectors and events, and receives nothing.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Callable, Collection, Iterable

__all__ = ["MOST_FDS", "PassedFds", "close_all", "rights"]

MOST_FDS = 253
"""How many descriptors one message may carry: SCM_MAX_FD of Linux."""

_RIGHTS = (getattr(socket, "SOL_SOCKET", 1), getattr(socket, "SCM_RIGHTS", -1))
_IS_CLOEXEC = hasattr(socket, "MSG_CMSG_CLOEXEC")  # then they come so
Message = tuple[int, int, bytes]


class PassedFds:
    """Those that came with one read, until the program takes them.

    Taken, they are the program's to close; `socket.socket(fileno=fd)` makes a connection of one.
    None of them is inherited by a program that is started.

    Args:
        ancillary: what `socket.recvmsg()` gave beside the data.
    """

    __slots__ = ("ancillary",)

    def __init__(self, ancillary: Collection[Message] = ()) -> None:
        self.ancillary = ancillary  # as `recvmsg()` gives it: kept by C code, see `readable()`

    def __len__(self) -> int:
        """Return how many there are to be taken."""
        return len(self._numbers())

    def __repr__(self) -> str:
        """Return how many there are: the numbers are told by `take()` alone."""
        return f"<{len(self)} passed descriptors>"

    def take(self) -> list[int]:
        """Return the descriptors, which are the program's from now on; a second time none."""
        numbers = self._numbers()
        if not _IS_CLOEXEC:
            for number in numbers:
                os.set_inheritable(number, False)
        self.ancillary = ()
        return numbers

    def close(self) -> None:
        """Close those that were not taken."""
        close_all(self.take())

    def __del__(self) -> None:
        """Close those that were not taken: nobody else knows of them."""
        self.close()

    def _numbers(self) -> list[int]:
        numbers = array.array("i")
        for level, kind, body in getattr(self, "ancillary", ()):  # it may be interrupted when made
            if (level, kind) == _RIGHTS:
                numbers.frombytes(body[: len(body) - len(body) % numbers.itemsize])
        return list(numbers)


def rights(numbers: Iterable[int]) -> Message:
    """Return the ancillary data that passes descriptors on."""
    return *_RIGHTS, array.array("i", numbers).tobytes()


def close_all(numbers: list[int], close: Callable[[int], None] = os.close) -> None:
    """Close descriptors; `close` is at hand also when Python ends."""
    while numbers:
        try:
            close(numbers.pop())
        except OSError:  # on some systems the close of a file tells of an earlier write
            continue
