"""Who is to be answered: one call, as a procedure gets it.

A `Caller` ends in one answer. If the program forgets it before, its finalizer leaves a note with
the server, and does no more: a finalizer may run at any moment, in the middle of anything.
"""

from __future__ import annotations

import socket
from typing import Any, Literal

from rpcasync._log import fields, shorten
from rpcasync.serving.identity import Identity
from rpcasync.serving.peer import Peer
from rpcasync.wire.messages import Request

__all__ = [
    *("Caller", "Dropped", "Open", "about", "check_function", "has_timed_out", "is_late"),
]


class Caller(Request):
    """One call to be answered: a procedure gets it first and gives it to `Server.return_()`.

    It may be kept, and answered at any time. One that is forgotten without an answer is
    answered by the server, with an error. `id` is its number on the wire, `procedure` its name;
    `args` are gone when the procedure runs.
    """

    __slots__ = ("__weakref__", "_began", "_payload", "_peer", "_timed_out", "answered")
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    _peer: Peer
    _began: float | Open | str | None
    """What is noted of it while it is under way, or its outcome; None if nothing is: see
    `counting`. Only there if somebody counted when the call came."""
    _payload: bytes
    """The packet as it came; only where calls are passed on or watched, and until that is done."""
    _timed_out: bool  # only there once it is True; see `has_timed_out()`
    answered: bool | None
    """None until it is counted as running, which it is before a procedure sees it."""

    def __repr__(self) -> str:
        """Show the call and where it came from."""
        return f"<Caller {self.id} {shorten(self.procedure)} of {self._peer.name}>"

    @property
    def fh(self) -> socket.socket:
        """The client's socket."""
        return self._peer.fh

    @property
    def peer(self) -> Identity:
        """Who has called: an `eventmux.Peer`, with address, credentials, certificate...

        It is the same for all calls of a connection, and stays when that has ended.
        """
        return self._peer.identity

    @property
    def alive(self) -> bool:
        """True if the client is still there to be answered, as far as is known."""
        return not self._peer.gone

    @property
    def meta(self) -> dict[Any, Any]:
        """What the program wants to know of the client: one dict for all calls of a connection.

        Who it is that has logged in, say. It is forgotten with the client.
        """
        return self._peer.meta

    def __del__(self) -> None:
        """Leave a note for the server, which answers on its next turn."""
        try:
            if not self.answered and not self._peer.gone:
                self._peer.sender.note_dropped(Dropped(self))
        except AttributeError:
            pass  # interrupted before it was known whose call this is


class Dropped:
    """What is left of a `Caller` that was forgotten without an answer."""

    __slots__ = ("_began", "_peer", "answered", "id", "procedure", "size")

    def __init__(self, caller: Caller) -> None:
        self._peer = caller._peer
        self.answered = caller.answered
        self.id = caller.id
        self.procedure = caller.procedure
        self.size = caller.size
        self._began = getattr(caller, "_began", None)


class Open:
    """What is known of a call that is counted, and not answered while its procedure runs."""

    __slots__ = ("began", "came", "id", "procedure", "size")

    def __init__(self, caller: Caller, came: float) -> None:
        self.came = came
        self.began: float | None = None  # when its procedure was called
        self.id = caller.id
        self.procedure = caller.procedure
        self.size = caller.size


def about(caller: Caller | Dropped, ms: float | None = None) -> dict[str, object]:
    """Return what a line of the log has beside its message that is about a call."""
    peer = caller._peer.name
    return fields(peer=peer, procedure=caller.procedure, call=caller.id, ms=ms)


def is_late(caller: object) -> Literal[False]:
    """Return False for a call whose time was over before it was answered.

    Raises:
        ValueError: it was answered by the program.
        TypeError: it is no call.
    """
    _check(caller)
    if has_timed_out(caller):
        return False
    raise ValueError(f"{caller!r} is answered already: return_() and error() answer once")


def has_timed_out(caller: object) -> bool:
    """True for a call that was answered because its time was over."""
    return getattr(caller, "_timed_out", False)


def check_function(caller: object, function: object) -> None:
    """See that something is a call, and that something can be called for it.

    Raises:
        TypeError: it is not, or cannot.
    """
    _check(caller)
    if not callable(function):
        raise TypeError(f"function is {function!r}, must be a function of the caller")


def _check(caller: object) -> None:
    if type(caller) is not Caller:
        raise TypeError(f"caller is {caller!r}, must be what the procedure was given")
