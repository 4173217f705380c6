"""What few streams have: what comes after their usual life, and how they began.

Most streams that are idle share one `Extras`, so that what is rare costs them nothing.
"""

from __future__ import annotations

from eventmux._channels.backlog import Backlog
from eventmux._channels.lingering import Lingering
from eventmux._channels.passing import Passing
from eventmux.errors import EventMuxError
from eventmux.peers import Peer
from eventmux.tcp import Changes

__all__ = ["USUAL_EXTRAS", "Extras", "Rejected"]


class Rejected:
    """Input that could not be cut: why, and what it was."""

    __slots__ = ("failure", "rest")

    def __init__(self, failure: EventMuxError, rest: list[bytes]) -> None:
        self.failure = failure
        self.rest = rest


class Extras:
    """Those of one stream."""

    __slots__ = (
        "backlog",
        "end",
        "is_batch",
        "is_ending",
        "is_heard",
        "is_let_go",
        "is_unsettled",
        "lingering",
        "passing",
        "peer",
        "tuned",
    )

    def __init__(self) -> None:
        self.backlog: Backlog | None = None  # once the buffer was changed
        self.end: OSError | Rejected | bool = False  # why nothing is read any more
        self.is_batch = False  # all records of one read come in one event
        self.is_ending = False  # our side ends when all has left: shutdown()
        self.is_let_go = False  # the program has closed it
        self.is_heard = False  # nothing more comes of the peer, as was seen after that
        self.is_unsettled = False  # the mux is to call settle()
        self.lingering: Lingering | None = None  # once the last word is said
        self.passing: Passing | None = None  # once descriptors were sent along
        self.peer: Peer | None = None  # what the socket itself does not tell of it
        self.tuned: Changes = ()  # what was set on it, and what it was before


USUAL_EXTRAS = Extras()
