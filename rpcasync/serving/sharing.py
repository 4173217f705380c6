"""Which of several processes accepts next, where they share their listeners: who has the fewest
clients.

Each has a place on a scoreboard that all of them see, with the number of its clients. All are woken
when somebody connects. One that has more clients than another lets that go first, and looks again a
moment later; after a few moments in which nobody was accepted it takes him itself. A process that
hangs is so much of a delay, once: until its numbers change, nobody lets it go first again. One
connection is taken at a time, so that the numbers are right when the next one is looked at.

Nothing is done for a call, and nothing while nobody connects. This file knows no sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rpcasync.serving.scoreboard import Scoreboard

__all__ = ["Sharing"]

_MOMENT = 0.0005  # seconds; epoll waits for whole milliseconds, so for one
_MOST_LOOKS = 10  # in vain


class Sharing:
    """What one process does about it.

    Args:
        board: the one of all of them.
        place: ours there.
    """

    def __init__(self, board: Scoreboard, place: int) -> None:
        self._board = board
        self._place = place
        self._counts: list[Callable[[], int | None]] = []  # of our servers
        self._seen = -1  # what had been accepted when we let others go first
        self._looks = 0  # since then
        self._asleep: dict[int, tuple[int, int]] = {}  # places that hang, and what stood there
        self._own = 0

    def join(self, count: Callable[[], int | None]) -> None:
        """Count the clients of a server.

        Args:
            count: returns how many there are; None if it accepts nobody.
        """
        self._counts.append(count)

    def update(self) -> None:
        """Tell the others how many clients we have."""
        known = [clients for count in self._counts if (clients := count()) is not None]
        self._own = sum(known)
        self._board.write(self._place, self._own if known else None)

    def wait(self) -> float:
        """Return in how many seconds to look again; 0 if it is our turn."""
        self.update()
        places = self._board.read()
        fewer = {at: one for at, one in enumerate(places) if 0 <= one[0] < self._own}
        accepted = sum(one[1] for one in places)
        if accepted != self._seen:  # who has fewer is alive, or it was another one
            self._seen, self._looks = accepted, 0
        self._looks += 1
        if fewer.items() - self._asleep.items():
            if self._looks <= _MOST_LOOKS:
                return _MOMENT
            self._asleep = fewer
        self._looks = 0
        return 0.0

    def took(self) -> None:
        """Note that we have accepted one, whom our server does not know yet."""
        self._own += 1
        self._board.write(self._place, self._own)
        self._board.count(self._place)
