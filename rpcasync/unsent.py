"""What is told of a client that ends with calls that were never sent.

Calls leave when the loop turns. A program that makes some and never turns it ends in silence, and
nothing has happened. So the client is looked at once, at its end: when it is garbage, or when the
program ends. Nothing is counted before that.

This file changes nothing. What it tells is what the client knew when it ended.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Sized
from typing import Protocol, cast
from weakref import WeakSet

from eventmux import EventMux
from eventmux.events import Event, Handle
from rpcasync._log import log, shorten
from rpcasync.calls import Call
from rpcasync.wire.protocol import ClientProtocol

__all__ = ["Unsent"]

_MOST_NAMES = 3


class _Leaving(Protocol):
    """Knows whether the program has disconnected."""

    is_leaving: bool


class Unsent:
    """Looks at a client when nobody has it any more; only the client may refer to this.

    Args:
        mux: what the socket is watched by.
        fh: the socket.
        protocol: the core.
        loss: knows whether the program has disconnected: a `Loss`.
        name: the server, for the log.
    """

    __slots__ = (
        *("__weakref__", "_fh", "_is_told", "_loss", "_mux", "_name", "_pid", "_protocol"),
        *("has_turned", "is_left_behind", "waiting"),
    )

    def __init__(
        self, mux: EventMux[Event], fh: Handle, protocol: ClientProtocol, loss: _Leaving, name: str
    ) -> None:
        self._mux = mux
        self._fh = fh
        self._protocol = protocol
        self._loss = loss
        self._name = name
        self._pid = os.getpid()
        self.has_turned = False
        """The client was given an event of its own."""
        self.is_left_behind = False
        """`disconnect()` has left calls to the loop, and that has not turned since."""
        self.waiting: Sized = ()
        """Calls that wait for others to end."""
        self._is_told = False  # last: it has the finalizer do something
        _alive.add(self)

    def __del__(self) -> None:
        """Tell; at the end of Python, `_tell_all()` has done so."""
        if not sys.is_finalizing() and hasattr(self, "_is_told"):
            self.tell()

    def tell(self) -> None:
        """Log which calls were never sent, once; nothing in a child that was forked."""
        if self._is_told or os.getpid() != self._pid:
            return
        self._is_told = True
        calls = cast("list[Call]", list(self._protocol.pending.values()))
        if not calls:
            return
        if not self._has_output():
            has_turned = self.has_turned or self._protocol.has_answered_since(0)
            if not (has_turned or self._loss.is_leaving):
                log.warning(
                    "%s: rpc.io() was given no event, so nobody hears what comes of %s;"
                    " turn the loop with rpc.io(mux.mux()), or ask for call.result()",
                    *(self._name, _names(calls)),
                )
            return
        names = _names(calls)
        if self.has_turned and len(calls) > 1:  # those before it may have been sent
            names = f"{_names(calls[-1:])}, and perhaps some before it"
        if self._loss.is_leaving:
            log.warning(
                "%s: calls that were never sent: %s; disconnect() leaves them to the loop:"
                " turn it until mux.mux() returns None",
                *(self._name, names),
            )
        else:
            log.warning(
                "%s: calls that were never sent: %s; they leave when the connection is up and"
                " the loop turns: rpc.io(mux.mux()), or ask for call.result()",
                *(self._name, names),
            )

    def _has_output(self) -> bool:
        if self.waiting:
            return True
        try:
            return self._mux.buflen(self._fh) > 0
        except (KeyError, RuntimeError):  # it is not watched any more
            return self.is_left_behind


_alive: WeakSet[Unsent] = WeakSet()


def _names(calls: list[Call]) -> str:
    names = ", ".join(shorten(call.procedure) for call in calls[:_MOST_NAMES])
    more = len(calls) - _MOST_NAMES
    return names if more <= 0 else f"{names} and {more} more"


def _tell_all() -> None:
    """Tell of all clients at the end of the program.

    What has ended it is told by Python: then it is no news that calls were not sent. But Ctrl-C
    ends a program that hangs, and this may say why it did.
    """
    ended_by = getattr(sys, "last_type", None)
    if ended_by is None or issubclass(ended_by, KeyboardInterrupt):
        for client in list(_alive):
            client.tell()


atexit.register(_tell_all)
