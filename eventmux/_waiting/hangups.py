"""Connections of which one thing is still to be seen: that nothing can reach the peer any more.

The peer has finished sending, and nothing is queued for it. For a selector such a socket is
readable, and mostly writable, for ever; asked for neither, it reports nothing. An epoll that is
asked for neither still reports that a connection has ended in both directions. So these sockets are
in an epoll of their own, which the selector watches as one more descriptor, whatever its kind.

Where there is no epoll, the end is noticed when something is sent.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable

from eventmux._waiting.pollable import Ending, Internal, Pollable

__all__ = ["HangUps"]


class HangUps(Internal):
    """The epoll of one poller.

    Args:
        arm: sees what a pollable wants then.
        meet_ghost: is told that something is reported which the program has closed: epoll does so
            while a duplicate of it is open. Then it is time to `start_over()`.

    Raises:
        OSError: the process is out of descriptors.
    """

    __slots__ = ("_arm", "_epoll", "_meet_ghost", "_waiting")

    def __init__(self, arm: Callable[[Pollable], None], meet_ghost: Callable[[], None]) -> None:
        self._epoll = select.epoll()
        super().__init__(self._epoll.fileno())
        self._arm = arm
        self._meet_ghost = meet_ghost
        self._waiting: dict[int, Ending] = {}  # by descriptor

    def add(self, fd: int, pollable: Ending) -> None:
        """Wait for the end of a connection.

        Raises:
            OSError: the descriptor is closed.
        """
        with contextlib.suppress(FileExistsError):  # it was interrupted behind that
            self._epoll.register(fd, 0)
        self._waiting[fd] = pollable

    def discard(self, fd: int) -> None:
        """Do not wait for it any more, if it was waited for."""
        if self._waiting.pop(fd, None) is not None:
            with contextlib.suppress(OSError):  # the program has closed it
                self._epoll.unregister(fd)

    def owner(self, fd: int) -> Pollable | None:
        """Return what is waited for with a descriptor."""
        return self._waiting.get(fd)

    def readable(self) -> None:
        """Tell those whose connections have ended."""
        for fd, _ in self._epoll.poll(0):
            pollable = self._waiting.get(fd)
            if pollable is None or not _has_ended(fd):  # it may be another that has the number now
                self._meet_ghost()
            else:
                pollable.hung_up()
                self._arm(pollable)

    def start_over(self) -> None:
        """Forget what the program has closed; the selector must not be watching this meanwhile.

        By number it cannot be removed any more, so the descriptor gets another epoll.
        """
        with select.epoll() as fresh:
            for fd in self._waiting:
                with contextlib.suppress(OSError):  # closed as well: it will be looked after
                    fresh.register(fd, 0)
            os.dup2(fresh.fileno(), self.fd, inheritable=False)

    def close(self) -> None:
        """Wait for nothing any more."""
        self._epoll.close()


def _has_ended(fd: int) -> bool:
    asked = select.poll()
    asked.register(fd, 0)
    return bool(asked.poll(0))
