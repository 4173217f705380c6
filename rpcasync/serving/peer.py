"""A peer is what a server knows of one client: its state, and its callbacks.

This file sends nothing itself and knows no mux.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol
from weakref import WeakValueDictionary

from rpcasync._log import fields, log
from rpcasync.coderefs import Coderef
from rpcasync.errors import ArgumentError, Disconnected
from rpcasync.serving.identity import Identity, is_told_by_name, named
from rpcasync.serving.notes import Notes
from rpcasync.wire.leaves import map_leaves
from rpcasync.wire.messages import CallbackRef, Id, invoke_values
from rpcasync.wire.protocol import ServerProtocol

__all__ = ["Peer", "Sender"]


class Sender(Protocol):
    """What a peer needs of its server."""

    notes: Notes

    def send_callback(self, peer: Peer, packet: bytes) -> None:
        """Send a packet that is no answer."""
        ...

    def note_dropped(self, dropped: Any) -> None:
        """Answer a call whose `Caller` is gone, on the next turn."""
        ...


class Extras:
    """What the server knows about few clients: the others take no memory for it."""

    __slots__ = (
        "behind",
        "closings",
        "has_ended",
        "has_failed",
        "meta",
        "on_gone",
        "on_invoke",
        "retries",
    )

    def __init__(self) -> None:
        self.meta: dict[Any, Any] = {}  # the program's, about this client; see `Caller`
        self.retries: dict[Any, dict[Any, None]] = {}  # by call: see `retries`
        self.closings: dict[Any, None] = {}  # when it has gone, in order: see `closings`
        self.on_gone: list[Callable[[], None]] = []  # called once it has gone
        self.has_ended = False  # it has finished sending, and waits for its answers: see `ended`
        self.has_failed = False  # sending fails: it has to be read from, to notice its end
        self.behind: Callable[[], int] | None = None  # bytes of its calls that others do not read

        # Called with what is sent to a function of its: the id, and the values; None to release it.
        self.on_invoke: Callable[[Id, list[object] | None], None] | None = None


class Peer:
    """What the server knows about one client."""

    __slots__ = (
        "_coderefs",
        "_identity",
        "age",
        "broken",
        "calls",
        "ending",
        "extras",
        "fh",
        "goaways",
        "gone",
        "held",
        "in_line",
        "is_inner",
        "muted",
        "name",
        "paused",
        "protocol",
        "queued",
        "running",
        "sender",
        "stalled",
        "waiting",
        "waiting_size",
        "was_heard",
    )

    def __init__(
        self,
        fh: socket.socket,
        name: str,
        protocol: ServerProtocol,
        sender: Sender,
        identity: Identity,
    ) -> None:
        self.fh = fh
        self.name = name
        # Of most, the name says all. Ten thousand that are idle need not have it twice.
        self._identity = None if is_told_by_name(identity) else identity
        self.protocol = protocol
        self.sender = sender
        self.gone = False  # no answer can reach it any more
        self.broken = ""  # why it is disconnected as soon as what was read has been served
        self.queued = 0  # bytes of answers in the mux, as of the last one
        self.paused = False  # requests may be left in the protocol: too much is queued
        self.in_line = False  # requests are left in the protocol: its turn was over
        self.ending = False  # `Closed` comes as soon as nothing is queued for it
        self.muted = False  # nothing is read from it: it is in line, or too many of its calls wait
        self.held = 0  # bytes kept for it, as of the last look: see `budget`
        self.running = 0  # calls that are under way
        self.calls: deque[Any] | None = None  # those that wait until others have been answered
        self.waiting = 0  # how many
        self.waiting_size = 0  # bytes that they take
        self.stalled = False  # their turn came while too much was queued
        self.age = 0  # how often `aging` has looked at it
        self.was_heard = True  # something came of it, since `idling` has looked
        self.is_inner = False  # it is of this program's own, and no client as others are
        self.extras: Extras | None = None
        self.goaways: tuple[Id, ...] = ()  # of its functions, those that say that it should go
        self._coderefs: WeakValueDictionary[Id, Coderef] | None = None

    def with_extras(self) -> Extras:
        """Return what few clients have, made by the first who asks."""
        if self.extras is None:
            self.extras = Extras()
        return self.extras

    def call_when_gone(self, function: Callable[[], None]) -> None:
        """Have a function called on the turn after it has gone.

        Ctrl-C may have it called again, so that it must do no harm the second time.
        """
        self.with_extras().on_gone.append(function)

    @property
    def meta(self) -> dict[Any, Any]:
        """What the program notes of this client; see `Caller`. Most programs have nothing to."""
        return self.with_extras().meta

    @meta.setter
    def meta(self, meta: dict[Any, Any]) -> None:
        self.with_extras().meta = meta

    @property
    def identity(self) -> Identity:
        """Who it is, also when it has gone."""
        if self._identity is None:
            self._identity = named(self.name)
        return self._identity

    # Its functions, for `Coderef`

    def has_coderefs(self) -> bool:
        """True while one of them is alive."""
        return bool(self._coderefs)

    @property
    def coderefs(self) -> WeakValueDictionary[Id, Coderef]:
        """Those that are alive, by id; most clients pass none, and have no table."""
        if self._coderefs is None:
            self._coderefs = WeakValueDictionary()
        return self._coderefs

    def take_callbacks(self, args: list[object], limit: int) -> list[object]:
        """Return the arguments of a call with a Coderef for each callback.

        Raises:
            ArgumentError: there are more of them than the limit, with those of other calls; or
                they are nested too deeply.
        """
        refused: set[Id] = set()

        def take(value: object) -> object:
            if not isinstance(value, CallbackRef):
                return value
            coderef = self.coderefs.get(value.id)
            if coderef is None or not coderef.alive:
                if len(self.coderefs) >= limit:
                    refused.add(value.id)
                    return None
                coderef = self.coderefs[value.id] = Coderef(self, value.id)
            return coderef

        try:
            taken = map_leaves(args, take)
        except ValueError as error:
            raise ArgumentError(str(error)) from None
        if not refused:
            return taken
        for callback_id in refused:
            self._send_release(callback_id)
        count = len(self.coderefs) + len(refused)
        raise ArgumentError(f"{count} callbacks are alive, limit is {limit}")

    def invoke(self, id: Id, args: list[object], payload: bytes = b"") -> None:  # noqa: A002
        """Send a call of a function of the client's; in another server's packet, if it is one."""
        if log.isEnabledFor(logging.DEBUG):
            log.debug("> callback %r of %s", id, self.name, extra=fields(peer=self.name))
        if self.extras is not None and self.extras.on_invoke is not None:
            self.extras.on_invoke(id, args)
        if payload:
            packet = self.protocol.relayed(id, payload, invoke_values(args))
        else:
            packet = self.protocol.invoke(id, args)
        self.sender.send_callback(self, packet)

    def release(self, coderef: Coderef) -> None:
        """Tell the client that a function will not be called any more."""
        if self.coderefs.get(coderef.id) is coderef:
            del self.coderefs[coderef.id]
            self._send_release(coderef.id)

    def note_unused(self, coderef_id: Id) -> None:
        """Remember to tell it. No more: this runs in a finalizer."""
        if not self.gone:
            self.sender.notes.add(lambda: self._release_unused(coderef_id))

    def _release_unused(self, coderef_id: Id) -> None:
        coderef = self.coderefs.get(coderef_id)
        if coderef is None or not coderef.alive:  # else the client has passed it again
            self._send_release(coderef_id)
        if self.goaways and not self._coderefs:
            self._coderefs = None  # most who ask for `goaway` pass nothing else

    def tell_to_go(self) -> None:
        """Call the first function that it has passed to `goaway`, and forget it."""
        id = self.goaways[0]  # noqa: A001
        with contextlib.suppress(Disconnected):  # then there is nobody to be told
            self.invoke(id, [])
        self.sender.notes.add(partial(self._release_goaway, id))
        # Last: should it be interrupted before, it is called twice, rather than never.
        self.goaways = tuple(other for other in self.goaways if other != id)

    def _release_goaway(self, callback_id: Id) -> None:
        """Tell the client that such a function was called, unless the program has it."""
        if callback_id not in self.goaways:
            self._release_unused(callback_id)

    def _send_release(self, callback_id: Id) -> None:
        if not self.gone and callback_id not in self.goaways:
            if self.extras is not None and self.extras.on_invoke is not None:
                self.extras.on_invoke(callback_id, None)
            with contextlib.suppress(Disconnected):  # then there is nobody to be told
                self.sender.send_callback(self, self.protocol.release(callback_id))
