"""Functions of a client's that the server can call.

A client puts a `CallbackRef` in the place of each function in the arguments of a call; the server
puts a `Coderef` in the place of each CallbackRef. A Coderef belongs to a connection, calls through
it, and dies with it.

A finalizer may run at any moment, in the middle of anything: that of a Coderef leaves a note with
the connection, and does no more.

This file knows no mux and no bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import chain
from typing import Protocol

from rpcasync._log import fields, log
from rpcasync.errors import Disconnected, RPCError, never_sent
from rpcasync.wire.messages import Id

__all__ = ["Coderef", "CoderefOwner", "pass_on"]


class CoderefOwner(Protocol):
    """What a Coderef needs of the connection that it came by."""

    @property
    def name(self) -> str:
        """The client, for messages."""
        ...

    @property
    def gone(self) -> bool:
        """True if nothing can reach the client any more."""
        ...

    def invoke(self, id: Id, args: list[object], payload: bytes = b"") -> None:  # noqa: A002
        """Send a call of the client's function.

        Args:
            id: the function.
            args: what it is called with.
            payload: the packet in which another server has called it, if one has.
        """
        ...

    def release(self, coderef: Coderef) -> None:
        """Tell the client that its function will not be called any more."""
        ...

    def note_unused(self, coderef_id: Id) -> None:
        """Remember to tell it, on the next turn."""
        ...


class Coderef:
    """A function of a client's, which has passed it as an argument: call it.

        def rpc_count(caller, upto: int, progress: Coderef):
            for number in range(upto):
                progress(number)
            rpc.return_(caller)

    It may be kept, and called at any time, until the client has gone. What is passed are values,
    then names and values; there is no answer. When the last reference to it is gone, or at the
    end of a `with` block, the client is told that it will not be called any more.
    """

    __slots__ = ("__weakref__", "_owner", "_released", "id")

    def __init__(self, owner: CoderefOwner, id: Id) -> None:  # noqa: A002
        self.id = id
        self._owner = owner
        self._released = False  # last: it has the finalizer do something

    def __repr__(self) -> str:
        """Show whose it is, and whether it can be called."""
        state = "" if self.alive else " released" if self._released else " dead"
        return f"<Coderef {self.id} of {self._owner.name}{state}>"

    @property
    def alive(self) -> bool:
        """True if it can be called: the client is there, and it was not released."""
        return not self._released and not self._owner.gone

    def _is_of(self, owner: CoderefOwner) -> bool:
        """Return True if it came by this connection."""
        return self._owner is owner

    def __call__(self, /, *args: object, **named: object) -> None:
        """Call the client's function with values, then with names and values.

        Raises:
            Disconnected: the client has gone that passed it, whoever's call is being served.
            ValueError: it was released.
            EncodeError: a value cannot be sent, or the packet is over the limit.
        """
        self._check_alive()
        self._owner.invoke(self.id, [*args, *chain.from_iterable(named.items())])

    call = __call__

    def _pass_on(self, args: Sequence[object], payload: bytes) -> None:
        """Call the client's function for another server, whose packet goes on as it came.

        Raises:
            Exception: as when it is called.
        """
        self._check_alive()
        self._owner.invoke(self.id, [*args], payload)

    def _check_alive(self) -> None:
        if self._released:
            raise ValueError(f"{self!r} cannot be called any more")
        if self._owner.gone:
            raise never_sent(f"callback {self.id}: client {self._owner.name} has gone")

    def release(self) -> None:
        """Tell the client that it will not be called any more; twice is once."""
        if not self._released:
            self._released = True
            self._owner.release(self)

    def __enter__(self) -> Coderef:
        """Return the Coderef itself; the end of the block releases it."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Release it."""
        self.release()

    def __del__(self) -> None:
        """Leave a note for the server, which releases it on its next turn."""
        if not getattr(self, "_released", True):
            self._released = True  # first, so that no other thread calls it meanwhile
            self._owner.note_unused(self.id)


def pass_on(server: str, coderef: Coderef, args: Sequence[object], payload: bytes = b"") -> None:
    """Call a callback of a client of ours, which was passed on to a server, for that server.

    Where there is a packet, and both speak its format, it goes on as it came, but for the id.

    What goes wrong between the two of them must not end us: the client has gone, or its codec has
    no form for a value.
    """
    try:
        coderef._pass_on(args, payload)
    except (RPCError, ValueError) as error:
        has_gone = isinstance(error, Disconnected)  # which clients may do at any time
        level = logging.INFO if has_gone else logging.WARNING
        # As text: what keeps what was logged would keep the callback, by the error's traceback.
        log.log(
            level,
            "%s: a callback that was passed on: %s",
            *(server, str(error)),
            extra=fields(server=server),
        )
