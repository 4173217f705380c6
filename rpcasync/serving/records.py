"""What is told of the calls and the clients of a server: values, and the words for how a call ends.

This file counts nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rpcasync.serving.identity import Identity
from rpcasync.wire.messages import Id

__all__ = [
    *("ANSWERED", "DROPPED", "EXCEPTION", "FAULT", "GONE", "OUTCOMES", "REFUSED", "TIMEOUT"),
    *("CallRecord", "Connection", "OnCall", "Outcome", "check_on_call"),
]

Outcome = Literal["answered", "fault", "exception", "dropped", "timeout", "gone", "refused"]

ANSWERED: Outcome = "answered"
FAULT: Outcome = "fault"
EXCEPTION: Outcome = "exception"
DROPPED: Outcome = "dropped"
TIMEOUT: Outcome = "timeout"
GONE: Outcome = "gone"
REFUSED: Outcome = "refused"
OUTCOMES = ANSWERED, FAULT, EXCEPTION, DROPPED, TIMEOUT, GONE, REFUSED


# There may be one for each call, and a frozen dataclass takes three times as long to make.
class CallRecord(NamedTuple):
    """How one call of a client has ended, as `Server(on_call=)` is told.

    It is a tuple with names: `record._asdict()` is a dict of it.

    `outcome` is one of:

    - `answered`: `return_()` was called, or the server behind has answered.
    - `fault`: `error()` was called, or a `Fault` was raised; or so the server behind has answered.
    - `exception`: the procedure raised something else, or answered with what cannot be sent.
    - `dropped`: it has forgotten its caller without an answer.
    - `timeout`: its time was over.
    - `gone`: the client left, or was disconnected, before it was answered; the procedure may go on.
    - `refused`: no procedure was called: there is none of that name, or the values do not fit.
    """

    procedure: str
    """Its name, as the client has sent it."""
    peer: Identity
    """Who has called: an `eventmux.Peer`, as `caller.peer`."""
    id: Id
    """The number of the call on the wire, as `caller.id`."""
    outcome: Outcome
    wait: float
    """Seconds for which it waited until others were answered."""
    seconds: float
    """From when the procedure was called to the end; 0 if it was not."""
    received: int
    """Bytes of the request, without the four of its length."""
    sent: int
    """Bytes of the answer, with its length; 0 if none was sent."""
    started: float
    """When the procedure was called, as `time.time()` tells it."""


OnCall = Callable[[CallRecord], object]
"""What is told of each call that has ended."""


def check_on_call(function: object) -> None:
    """See that something can be told of calls.

    Raises:
        TypeError: it cannot be called.
    """
    if function is not None and not callable(function):
        raise TypeError(f"on_call is {function!r}, must be a function of a CallRecord, or None")


@dataclass(frozen=True, slots=True)
class Connection:
    """One client of a server, as `Server.connections()` tells it.

    What has to be counted for is None as long as nobody has: see `Server.stats()`.
    """

    peer: Identity
    """Who it is: an `eventmux.Peer`."""
    since: float | None
    """When it has connected, as `time.time()` tells it; None if that was before anybody counted."""
    calls: int
    """Calls that have come of it since somebody counts."""
    running: int
    """Calls that were given to a procedure and not answered."""
    waiting: int
    """Calls that wait until others have been answered."""
    queued: int
    """Bytes that it has not read."""
    idle: float | None
    """Seconds since a call came of it; None if none has since somebody counts."""
    codec: str
    """What it speaks; before its first call, what is supposed."""
