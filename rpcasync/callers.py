"""Who is to be answered: a connection as the server knows it, and a call on it.

A `Caller` ends in one answer. If the program forgets it before, its finalizer leaves a note with
the server, and does no more: a finalizer may run at any moment, in the middle of anything.

This file sends nothing and knows no mux.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from rpcasync._log import shorten
from rpcasync.messages import Id
from rpcasync.protocol import ServerProtocol

__all__ = ["Caller", "Connection"]


class Connection:
    """What the server knows about one client."""

    __slots__ = ("broken", "fh", "gone", "name", "note_dropped", "paused", "protocol", "queued")

    def __init__(
        self,
        fh: socket.socket,
        name: str,
        protocol: ServerProtocol,
        note_dropped: Callable[[Connection, Id, str], None],
    ) -> None:
        self.fh = fh
        self.name = name
        self.protocol = protocol
        self.note_dropped = note_dropped
        self.gone = False  # no answer can reach it any more
        self.broken = ""  # why it is disconnected as soon as what was read has been served
        self.queued = 0  # bytes of answers in the mux, as of the last one
        self.paused = False  # requests may be left in the protocol: too much is queued


class Caller:
    """One call to be answered: a procedure gets it first and gives it to `Server.return_()`.

    It may be kept, and answered at any time. One that is forgotten without an answer is
    answered by the server, with an error.
    """

    __slots__ = ("__weakref__", "answered", "connection", "id", "procedure")

    def __init__(self, connection: Connection, id: Id, procedure: str) -> None:  # noqa: A002
        self.connection = connection
        self.id = id
        self.procedure = procedure
        self.answered = False

    def __repr__(self) -> str:
        """Show the call and where it came from."""
        return f"<Caller {self.id} {shorten(self.procedure)} of {self.connection.name}>"

    @property
    def fh(self) -> socket.socket:
        """The client's socket."""
        return self.connection.fh

    @property
    def alive(self) -> bool:
        """True if the client is still there to be answered."""
        return not self.connection.gone

    def __del__(self) -> None:
        """Leave a note for the server, which answers on its next turn."""
        if not self.answered:
            self.connection.note_dropped(self.connection, self.id, self.procedure)
