"""What leaves to a server: calls, and how much of them may wait for a server that does not read.

A call is refused when too much is queued before it, so that one of any size can be made. Then
nothing has changed, and the others are still under way.

This file hands nothing to the program, and knows no timeouts of calls.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from eventmux import EventMux
from eventmux.events import Closed, Event, Handle
from rpcasync.calls import Call
from rpcasync.errors import QueueFull
from rpcasync.wire.messages import Id
from rpcasync.wire.protocol import ClientProtocol

__all__ = ["NOT_WATCHED", "Outbox"]

NOT_WATCHED = "the socket is not watched any more"


class Outbox:
    """What is queued for one server.

    Args:
        mux: what the socket is watched by.
        fh: the socket.
        protocol: the core.
        max_outbuffer: bytes that may be queued when a call is made.
    """

    __slots__ = ("_fh", "_max_outbuffer", "_mux", "_protocol", "_queued", "_send", "refused")

    def __init__(
        self, mux: EventMux[Event], fh: Handle, protocol: ClientProtocol, max_outbuffer: int
    ) -> None:
        self._mux = mux
        self._send = mux.send
        self._fh = fh
        self._protocol = protocol
        self._max_outbuffer = max_outbuffer
        self._queued = 0  # bytes, as of the last call
        self.refused: set[Id] | None = None  # most have none, and a set takes memory
        """Pending calls that were made when the socket was not watched any more."""

    def put(
        self, call: Call, values: list[object], keep: Callable[[Any], object] | None = None
    ) -> None:
        """Make a call, which has its id then; it leaves with others.

        Args:
            call: it is pending then.
            values: what is sent.
            keep: returns what the server is to call in the place of a function among these.

        Raises:
            EncodeError: an argument cannot be sent.
            QueueFull: too much is queued already.
        """
        if self._queued > self._max_outbuffer:
            self._make_room(call)
        call.id, packet = self._protocol.call(call.procedure, values, call, keep)
        try:  # as in `_put()`, which would take its time for each call
            self._queued = self._send(self._fh, packet, later=True)
        except KeyError:
            self._tell_not_watched(call)

    def relay(
        self, call: Call, values: list[object], payload: bytes, functions: Mapping[Id, object]
    ) -> None:
        """Make a call that came from another client: see `ClientProtocol.relay()`.

        Raises:
            EncodeError: an argument cannot be sent.
            QueueFull: too much is queued already.
        """
        if self._queued > self._max_outbuffer:
            self._make_room(call)
        relay = self._protocol.relay
        call.id, packet = relay(call.procedure, values, call, payload, functions)
        self._put(call, packet)

    def _put(self, call: Call, packet: bytes) -> None:
        try:
            self._queued = self._send(self._fh, packet, later=True)
        except KeyError:
            self._tell_not_watched(call)

    def _tell_not_watched(self, call: Call) -> None:
        """Fail the calls: there will be no event any more that could."""
        self._refuse([call.id])
        self._mux.push_event(Closed(self._fh, reason=NOT_WATCHED))

    def _refuse(self, ids: Iterable[Id]) -> None:
        if self.refused is None:
            self.refused = set()
        self.refused.update(ids)

    def _make_room(self, call: Call) -> None:
        """Send what can be sent.

        Raises:
            QueueFull: that was not enough.
        """
        try:
            self._queued = self._send(self._fh)
        except KeyError:  # it is not watched any more: the call will fail
            self._queued = 0
        if self._queued > self._max_outbuffer:
            raise QueueFull(
                f"{call.procedure}: {self._queued} bytes queued for a server that does not read,"
                f" limit is {self._max_outbuffer}"
            )

    def take_kept(self) -> set[Id]:
        """Return which pending calls are known not to have been given to the mux, and forget it."""
        kept, self.refused = self.refused, None
        return kept or set()

    def close(self, grace: float) -> bool:
        """Send what is queued, and close the socket, within so many seconds.

        Returns:
            True if something is left that leaves as the loop turns.
        """
        with contextlib.suppress(KeyError):  # the server has closed it before
            if self._send(self._fh):
                self._mux.close(self._fh, timeout=grace)
                return True
            if self._mux.peer(self._fh).tls is not None:
                self._mux.shutdown(self._fh)  # else the server may take it for cut off
            self._mux.kill(self._fh)
        return False
