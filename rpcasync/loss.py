"""What comes of a connection that has ended: calls that fail, and a process that is to end.

A server that was started as a child process closes its sockets on its way out: a moment later it
has a status. The calls are pending until then, as the loop turns, and tell it; or for a second.
`children/ending.py` watches the process.

This file sets no timer for that: `due` says when it has waited long enough.
"""

from __future__ import annotations

import errno
import os
import subprocess
from typing import Any, Protocol, cast

from eventmux import EventMux
from eventmux.events import Event, Handle
from rpcasync._log import log, shorten
from rpcasync.calls import Call
from rpcasync.children.ending import Ending
from rpcasync.errors import Disconnected
from rpcasync.inbox import Inbox
from rpcasync.wire.messages import Id
from rpcasync.wire.protocol import ClientProtocol

__all__ = ["BY_SERVER", "GRACE", "MOMENT", "Loss", "crashed_procedure", "nobody_there", "why_lost"]

BY_SERVER = "the server closed the connection"
_ENDS_BY_SERVER = (BY_SERVER, os.strerror(errno.EPIPE), os.strerror(errno.ECONNRESET))
_NOBODY_THERE = (os.strerror(errno.ECONNREFUSED), os.strerror(errno.ENOENT))
GRACE = 5.0  # seconds that a server has to end by itself
MOMENT = 1.0  # seconds that the status of a process may come after the end of its connection


class _Keeps(Protocol):
    """Knows what has not left."""

    def take_kept(self) -> set[Id]: ...


class Loss:
    """The end of one connection.

    Args:
        mux: what the socket is watched by.
        fh: the socket.
        protocol: the core.
        inbox: tells the callbacks.
        name: the server, for messages.
        process: the server, if it is a child process; default is what was started for the socket.
    """

    __slots__ = (
        *("_crashed", "_ending", "_fh", "_inbox", "_is_cut", "_mux", "_name", "_protocol"),
        *("_status_due", "_was_refused", "is_awaited", "is_leaving", "outbox", "process"),
        *("reason", "was_up"),
    )

    def __init__(
        self,
        mux: EventMux[Event],
        fh: Handle,
        protocol: ClientProtocol,
        inbox: Inbox,
        name: str,
        process: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.process: subprocess.Popen[bytes] | None = process or getattr(fh, "process", None)
        """The process of the server, if it is a child of this one."""
        self._mux = mux
        self._fh = fh
        self._protocol = protocol
        self._inbox = inbox
        self._name = name
        self._crashed = ""  # the procedure whose exception has ended the connection
        self._ending: Ending | None = None
        self._status_due: float | None = None
        self._was_refused = False  # it failed before it was up
        self._is_cut = False  # something was queued that has not left
        self.outbox: _Keeps | None = None
        """Knows which calls have not left."""
        self.reason = ""
        """Why the connection ended, as far as is known."""
        self.was_up = False
        """There was a connection."""
        self.is_leaving = False
        """The program has disconnected."""
        self.is_awaited = False
        """Calls wait for the status of the process."""

    @property
    def due(self) -> float | None:
        """When calls that wait for the status fail without it; None if none does."""
        return self._status_due if self.is_awaited and self._protocol.pending else None

    @property
    def is_ending(self) -> bool:
        """True while the loop has something to do for the end: output, or a process."""
        if self._ending is not None and self._ending.is_awaited:
            return True
        try:
            return self.is_leaving and self._mux.buflen(self._fh) >= 0
        except (KeyError, RuntimeError):  # it is not watched any more
            return False

    def io(self, event: Event) -> tuple[bool, Exception | None]:
        """Take an event; return whether it was of the process, or the timer of its grace.

        With it goes what a callback has raised.
        """
        if self._ending is None or not self._ending.io(event):
            return False, None
        return True, self.lose() if self.is_awaited and event.type == "child" else None

    def note(self, event: Event) -> None:
        """Note what an event tells of the connection."""
        details: Any = event
        if event.type == "ready":
            self.was_up = True
        elif event.type == "error":
            self.reason = details.error
            self._was_refused = not self.was_up
        elif event.type == "closing":
            self.reason = self.reason or details.reason or BY_SERVER
        elif event.type == "closed":
            self.reason = self.reason or details.reason or "the socket was closed"
            self._is_cut = self._is_cut or details.missing > 0

    def leave(self, grace: float) -> None:
        """Note that the program has disconnected, and have the process end."""
        self.reason = self.reason or "disconnected"
        self.is_leaving = True
        if self._ending is None:
            self._see_to_process(grace)
        else:
            self._ending.hurry(grace)

    def lose(self) -> Exception | None:
        """Fail the calls of a connection that has gone, perhaps in a moment; end the process.

        Returns:
            What a callback has raised, when all have had their turn.
        """
        now = self._mux.clock()
        if self._status_due is None:
            self._status_due = now + MOMENT
        self._see_to_process(GRACE)
        ending = self._ending
        self.is_awaited = (
            bool(self._protocol.pending)
            and ending is not None
            and ending.is_running
            and not self.is_leaving
            and now < self._status_due
        )
        return None if self.is_awaited else self.fail()

    def fail(self) -> Exception | None:
        """Fail all pending calls; those that their callbacks make have an event of their own.

        Returns:
            As `lose()`.
        """
        self._see_to_crash()
        calls = cast("list[Call]", self._protocol.connection_lost())
        self.is_awaited = False
        reason, status = self.reason, None
        if not self.was_up:
            reason = nobody_there(reason)
        if calls and self.process is not None and not self.is_leaving:  # it ended by itself
            status = _status_of(self.process)
        unsent = self._unsent(calls)
        error = f"{self._name}: {why_lost(reason, self._crashed, status)}"
        first: Exception | None = None
        for call in calls:
            if call.id in self._protocol.pending:  # a callback may have asked for its result
                failure = Disconnected(f"{call.procedure}: {error}")
                failure._was_up = self.was_up or self.is_leaving
                failure.may_have_run = call.id not in unsent
                first = self._inbox.fail(call, failure, first)
        return first

    def _unsent(self, calls: list[Call]) -> set[Id]:
        """Return of which pending calls it is known that not all has left.

        What was queued and is missing is the end of the last packets: surely of the last one.
        """
        if self._was_refused:
            return {call.id for call in calls}
        unsent = self.outbox.take_kept() if self.outbox is not None else set()
        if self._is_cut:
            unsent.add(self._protocol.newest_id)
        return unsent

    def _see_to_crash(self) -> None:
        """Note which procedure it was whose exception has ended the connection, if one has."""
        crash, self._inbox.crash = self._inbox.crash, None
        if crash is not None and not self.is_leaving:
            self._crashed = crashed_procedure(crash, self.reason, self._protocol)

    def _see_to_process(self, grace: float) -> None:
        """Have the server's process end, if it was started for this client."""
        process = self.process
        if process is None or process.returncode is not None or self._ending is not None:
            return
        try:
            self._ending = Ending(self._mux, process, self._name, grace, self._fh)
        except (OSError, RuntimeError, ValueError) as error:
            log.warning("%s: process %d is not waited for: %s", self._name, process.pid, error)


def _status_of(process: subprocess.Popen[bytes]) -> int | None:
    """Return how a process has ended; None if it has not, or somebody else has asked before."""
    status = process.poll()
    return None if getattr(process, "is_lost", False) else status


def crashed_procedure(crash: tuple[str, int], reason: str, protocol: ClientProtocol) -> str:
    """Return the procedure whose exception has ended a connection; "" if it was something else.

    A server that disconnects a client for it takes none of its calls any more. So one that has
    answered a call which was made later has ended for something else.

    Args:
        crash: the procedure that failed, and the id of the next call when that was told.
        reason: why the connection ended.
        protocol: the core.
    """
    procedure, next_id = crash
    is_by_server = reason in _ENDS_BY_SERVER
    return procedure if is_by_server and not protocol.has_answered_since(next_id) else ""


def nobody_there(reason: str) -> str:
    """Return why a connection did not come up, with what to look at if nobody listens there."""
    return f"{reason}: is the server running?" if reason in _NOBODY_THERE else reason


def why_lost(reason: str, crashed: str, status: int | None) -> str:
    """Return why calls fail with a connection, as far as is known.

    Args:
        reason: what was seen of its end.
        crashed: the procedure that has ended it; "" is none.
        status: of the server's process, if it was started by this client, and ended by itself.
    """
    if crashed and not status:
        reason += f" after {shorten(crashed)} failed; see its log"
    return reason if status is None else f"{reason}; its process has ended with status {status}"
