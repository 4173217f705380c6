"""What comes between the calls of clients and the procedures: who watches them, and who takes them.

A server with neither is not slower for it. What watches may not harm: what it raises is logged, and
the call goes on.
"""

from __future__ import annotations

from typing import Protocol

from rpcasync._log import log, shorten
from rpcasync.serving.callers import Caller, Dropped, about

__all__ = ["CallWatcher", "Relay", "Watchers"]


class CallWatcher(Protocol):
    """Whoever wants to see the calls of a server.

    A call is known by its client and its id. Of one that is not answered when its client goes,
    there may be no end.
    """

    def began(self, caller: Caller, values: list[object], payload: bytes) -> None:
        """See a call before its procedure runs, or it is passed on.

        Args:
            caller: the call.
            values: its arguments, with a `Coderef` for each function of the client's.
            payload: the packet as it came, without the length.
        """
        ...

    def ended(self, caller: Caller | Dropped, payload: bytes) -> None:
        """See what a call was answered with, by whomever.

        Args:
            caller: the call, or what is left of one that was dropped.
            payload: the packet of the answer, without the length; empty if the client has gone.
        """
        ...


class Relay(Protocol):
    """What may take a call before the procedures are looked at."""

    def passes_on(self, procedure: str) -> bool:
        """Return True if somebody else answers the calls of a procedure."""
        ...

    def take(self, caller: Caller, values: list[object]) -> bool:
        """Return True if somebody else answers the call.

        Raises:
            Exception: as a procedure does.
        """
        ...


class Watchers:
    """All that watch one server."""

    __slots__ = ("all",)

    def __init__(self) -> None:
        self.all: list[CallWatcher] = []

    def began(self, caller: Caller, values: list[object], payload: bytes) -> None:
        """Tell all of them of a call."""
        for watcher in self.all:
            try:
                watcher.began(caller, values, payload)
            except Exception:  # noqa: BLE001  # the call is not to suffer
                _tell(caller)

    def ended(self, caller: Caller | Dropped, payload: bytes) -> None:
        """Tell all of them of an answer."""
        for watcher in self.all:
            try:
                watcher.ended(caller, payload)
            except Exception:  # noqa: BLE001  # the call is not to suffer
                _tell(caller)


def _tell(caller: Caller | Dropped) -> None:
    name = shorten(caller.procedure)
    log.exception("procedure %s: what watches its calls failed", name, extra=about(caller))
