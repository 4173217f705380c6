"""The peers of a server: who is there, what leaves to them, and how they end.

All sending is one `mux.send()`, put off so that many answers leave in one write. Sending to a peer
that is not there any more is no error.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import Protocol

from eventmux.sockets import has_gone
from rpcasync._log import fields, log, shorten
from rpcasync.errors import EncodeError, never_sent
from rpcasync.serving.admission import Admission
from rpcasync.serving.aging import Aging
from rpcasync.serving.alarms import Alarms
from rpcasync.serving.budget import LITTLE, Budget
from rpcasync.serving.callers import Caller, Dropped, about
from rpcasync.serving.closings import Closings
from rpcasync.serving.counting import Counting
from rpcasync.serving.ended import Ended
from rpcasync.serving.identity import Identity, name_of
from rpcasync.serving.idling import Idling
from rpcasync.serving.lag import Lag
from rpcasync.serving.notes import Notes
from rpcasync.serving.patience import Patience
from rpcasync.serving.peer import Peer
from rpcasync.serving.records import ANSWERED, DROPPED, FAULT, Outcome
from rpcasync.serving.retries import end_retries
from rpcasync.serving.watching import Watchers
from rpcasync.wire.protocol import ServerProtocol

__all__ = ["OUT_OF_MEMORY", "Mux", "Peers"]

# A client that has this many bytes of answers to read is neither read from nor served.
HIGH_WATER = 1024 * 1024
_TELLING = 1.0  # seconds that somebody with TLS who is refused has to hear of it
_MOST_TOLD = 64  # at a time
OUT_OF_MEMORY = "out of memory: what was kept for it is freed"


class Mux(Protocol):
    """What a server needs of a mux: a part of `EventMux`.

    More of its methods are used where a mux has them: without `close`, answers that do not leave
    at once are lost when we disconnect a client; without `push_event` and `post`, calls that may
    run now, or were dropped by the program, wait for the next event, and all calls of a client
    run in one go; without `flush`, answers may leave some milliseconds later; without
    `want_read`, calls over the limit wait in memory, and there is no limit on clients; without
    `listen`, listeners have no options but those that its `add` takes; without `timer`, it is not
    noticed that a client hangs up while it is not read from, no packet is late, and what
    needs a timer is refused.
    """

    def add(
        self,
        fh: socket.socket,
        *,
        listen: bool | None = ...,
        high_water: int | None = ...,
        max_outbuffer: int | None = ...,
        half_close: bool = ...,
    ) -> None:
        """Watch a socket, or a listener and what it accepts."""
        ...

    def send(self, fh: socket.socket, *data: bytes, later: bool = False) -> int:
        """Send, or queue to be sent in this turn."""
        ...

    def kill(self, fh: socket.socket, reason: str | None = None) -> None:
        """Close a socket now; a `Closed` event is to come."""
        ...


class Peers:
    """The clients of one server.

    Args:
        mux: what their sockets are watched by.
        notes: has the rest done on the next turn.
        alarms: those of their calls, which end with the last client.
        max_outbuffer: bytes that may be queued for a client that does not read.
        max_buffered: bytes that may be kept for all of them.
    """

    def __init__(
        self,
        mux: Mux,
        notes: Notes,
        alarms: Alarms,
        max_outbuffer: int,
        max_buffered: int,
    ) -> None:
        self._mux = mux
        self._close = getattr(mux, "close", None)
        self._flush = getattr(mux, "flush", None)
        self.admissions = Admission(), Admission()
        """Those of clients, and of inner peers: no client waits for a copy of a call."""
        self._max_outbuffer = max_outbuffer
        self.high_water = min(HIGH_WATER, max_outbuffer)
        self.notes = notes
        self._alarms = alarms
        self.closings = Closings(notes)
        self.ended = Ended(notes, self._let_go)
        self.budget = Budget(max_buffered, self.update_queued, self.kill)
        self.patience = Patience(mux, self.kill)
        self.by_fh: dict[socket.socket, Peer] = {}
        self.idling = Idling(mux, self.by_fh.values, self.update_queued, self.disconnect_idle)
        self.aging = Aging(mux, self.by_fh.values)
        self.on_room: Callable[[], None] | None = None
        """Is called on the turn after a client has gone, while somebody waits for that."""
        self.on_left: Callable[[], None] | None = None
        """Is called on the turn after the last client has gone, or a listener without clients."""
        self.on_gone: Callable[[], None] | None = None
        """Is called when a client has gone."""
        self.watchers: Watchers | None = None
        self.counting: Counting | None = None
        """Counts calls as they end; None as long as nobody wants to know."""
        self.lag = Lag(mux, self.by_fh.values)
        self.accepted = self.refused = 0  # connections so far
        self.inner: set[socket.socket] = set()  # of those, the sockets that are no client's
        self.leaving: dict[socket.socket, Peer | None] = {}  # closed by us, `Closed` is to come

    def add(self, fh: socket.socket, protocol: ServerProtocol, identity: Identity) -> None:
        """Note a client that is watched."""
        self.idling.begin()  # first: behind the next line, it is done
        self.aging.begin()
        self.lag.begin()
        peer = self.by_fh[fh] = Peer(fh, name_of(fh, identity), protocol, self, identity)
        self.accepted += 1
        if self.counting is not None:
            self.counting.begin(peer)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("client %s connected", peer.name, extra=fields(peer=peer.name))

    # Sending

    def answer(self, caller: Caller, packet: bytes, outcome: Outcome = ANSWERED) -> bool:
        """Send the answer to a call; return False if the client has gone."""
        peer = caller._peer
        is_sent = not peer.gone and self.send(peer, packet)
        # Only now: if it is interrupted before, the client is told at least that.
        if self.admissions[peer.is_inner].finish(caller):
            self.notes.wake()
        if self.watchers is not None:
            self.watchers.ended(caller, packet[4:])
        if peer.extras is not None:
            end_retries(peer, caller)
            self.ended.note(peer)
        if self.counting is not None and (
            outcome is not ANSWERED or getattr(caller, "_began", None) is not None
        ):
            self.counting.ended(caller, outcome, len(packet))
        return is_sent

    def send(self, peer: Peer, packet: bytes) -> bool:
        """Send a packet; return False if the client has gone, or goes by this one."""
        try:
            peer.queued = queued = self._mux.send(peer.fh, packet, later=True)
        except KeyError:  # the program killed or removed the socket without asking us
            self.forget(peer)
            return False
        except MemoryError:
            self.kill(peer, OUT_OF_MEMORY)
            return False
        return queued <= LITTLE or self._may_wait(peer, len(packet))

    def _may_wait(self, peer: Peer, size: int) -> bool:
        """False if so much was queued before this packet that the client has to go.

        So a single packet may be larger than the limit.
        """
        if peer.queued - size > self._max_outbuffer:
            limit = self._max_outbuffer
            self.kill(peer, f"does not read: {peer.queued} bytes queued, limit is {limit}")
        else:
            self.budget.see(peer)
        return not peer.gone

    def send_callback(self, peer: Peer, packet: bytes) -> None:
        """Send a packet that no call of the client has asked for.

        It is the caller's affair if the client has gone before, but not if it goes by this one.

        Raises:
            Disconnected: the client has gone.
        """
        if not self.send(peer, packet) and peer.fh not in self.leaving:
            raise never_sent(f"client {peer.name} has gone")

    def update_queued(self, peer: Peer) -> None:
        """Send what can be sent, and see how much is queued then; the client may be gone."""
        try:
            peer.queued = self._mux.send(peer.fh)
        except KeyError:  # the program killed or removed the socket without asking us
            self.forget(peer)

    def fail(self, caller: Caller | Dropped, text: str, outcome: Outcome = FAULT) -> None:
        """Answer a call with an error; if not even that can be sent, end the connection."""
        self.finish(caller)
        peer = caller._peer
        try:
            packet = b"" if peer.gone else peer.protocol.failure(caller.id, text)
        except EncodeError as error:
            packet = b""
            self.disconnect(peer, f"an error cannot be sent to it: {error}")
        if packet:
            self.send(peer, packet)
        if self.watchers is not None:
            self.watchers.ended(caller, packet[4:])
        if self.counting is not None:
            self.counting.ended(caller, outcome, len(packet))

    def flush(self) -> None:
        """Have answers that were put off leave now."""
        if self._flush is not None:
            self._flush()

    # Calls that end

    def finish(self, caller: Caller | Dropped) -> None:
        """Note that a call is answered, or will be at once."""
        peer = caller._peer
        if self.admissions[peer.is_inner].finish(caller):
            self.notes.wake()
        if peer.extras is not None:
            end_retries(peer, caller)
            self.ended.note(peer)

    def note_dropped(self, dropped: Dropped) -> None:
        """Have a call answered whose `Caller` is gone."""
        self.notes.add(partial(self._answer_dropped, dropped))

    def _answer_dropped(self, dropped: Dropped) -> None:
        if dropped._peer.gone:
            self.finish(dropped)
        else:
            name = shorten(dropped.procedure)
            log.error(
                "procedure %s dropped call %r without an answer: call return_(caller, ...),"
                " or keep the caller and do so later",
                *(name, dropped.id),
                extra=about(dropped),
            )
            text = f"{name}: did not answer: in the server, it has to call return_(caller, ...)"
            self.fail(dropped, text, DROPPED)

    def wake_for_waiting(self) -> None:
        """Have an event come if a call that waits may run now."""
        if self.has_next():
            self.notes.wake()

    def has_next(self) -> bool:
        """True if a call that waits may run."""
        return any(admission.has_next() for admission in self.admissions)

    def next_peer(self) -> Peer | None:
        """Return whose call may run next; None if none waits, or none may run."""
        clients, inner = self.admissions
        return clients.next_peer() or inner.next_peer()

    # The end of a connection

    def see(self, peer: Peer, is_new: bool) -> None:
        """Look at what is kept of a client, and for how long.

        Args:
            peer: whose.
            is_new: another packet was completed since the last look.
        """
        self.ended.see(peer)
        self.patience.see(peer, is_new)
        self.budget.see(peer)

    def drop_if_gone(self, peer: Peer) -> bool:
        """Forget a client that nothing can reach any more; return whether it is one."""
        if not peer.gone and has_gone(peer.fh):
            log.debug("client %s has gone", peer.name, extra=fields(peer=peer.name))
            self.kill_socket(peer.fh)
            self.forget(peer)
        return peer.gone

    def disconnect(self, peer: Peer, reason: str, level: int = logging.WARNING) -> None:
        """Close a connection from our side; the answers that are queued go out first."""
        if self._close is None:
            self.update_queued(peer)
            self.kill(peer, reason, level)
            return
        self._see_off(peer, self._close)
        extra = fields(peer=peer.name)
        log.log(level, "client %s disconnected: %s", peer.name, reason, extra=extra)

    def _let_go(self, peer: Peer) -> None:
        """Close the connection of a client that has ended its side, and is owed nothing."""
        extra = fields(peer=peer.name)
        log.debug("client %s closed: it has its answers", peer.name, extra=extra)
        if self._close is None:
            self.update_queued(peer)
            self.kill_socket(peer.fh)
            self.forget(peer)
        else:
            self._see_off(peer, self._close)

    def _see_off(self, peer: Peer, close: Callable[[socket.socket], None]) -> None:
        self.leaving[peer.fh] = peer  # first, as in kill_socket()
        try:
            close(peer.fh)
        except KeyError:  # the program killed or removed the socket itself
            del self.leaving[peer.fh]
        self.forget(peer)
        if peer.fh in self.leaving:
            self.budget.see(peer)  # it may have much to read

    def disconnect_idle(self, peer: Peer, reason: str) -> None:
        """Close a connection that nobody uses, which is nothing to be warned of."""
        self.disconnect(peer, reason, logging.INFO)

    def kill(self, peer: Peer, reason: str, level: int = logging.WARNING) -> None:
        """Close a connection now."""
        self.kill_socket(peer.fh, reason)
        self.forget(peer)
        extra = fields(peer=peer.name)
        log.log(level, "client %s disconnected: %s", peer.name, reason, extra=extra)

    def kill_socket(self, fh: socket.socket, reason: str | None = None) -> None:
        """Close a socket now, unless the program has done so itself."""
        self.leaving[fh] = None  # first: should Ctrl-C come between the two, `Closed` is still ours
        try:
            self._mux.kill(fh, reason)
        except KeyError:
            del self.leaving[fh]

    def refuse(self, fh: socket.socket, *, is_encrypted: bool = False) -> None:
        """Close the socket of somebody who is no client; what was interrupted can be repeated.

        With TLS, he is told that it is the end, and not somebody on the way who has cut it off.
        That takes a moment, which not many may have at a time.
        """
        self.refused += 1
        is_told = is_encrypted and self._close is not None and len(self.leaving) < _MOST_TOLD
        self.leaving[fh] = None
        with contextlib.suppress(KeyError):  # it was done: `Closed` is to come
            if is_told and self._close is not None:
                self._close(fh, timeout=_TELLING)
            else:
                self._mux.kill(fh, "refused")

    def closed(self, fh: socket.socket) -> None:
        """Note that a socket is closed that was to be."""
        peer = self.leaving.get(fh)
        if peer is not None:
            self.budget.forget(peer)
        self._note_left(fh)
        self.leaving.pop(fh, None)
        if self.on_room is not None:
            self.notes.add(self.on_room)

    def _note_left(self, fh: socket.socket) -> None:
        """Have it looked who is left if this is the last one: before it goes from the tables.

        Behind that, the event that brings its end would be nobody's, should this be interrupted.
        """
        if self.on_left is not None:
            are_here = len(self.by_fh) - (fh in self.by_fh) > len(self.inner)
            if not are_here and len(self.leaving) == (fh in self.leaving):
                self.notes.add(self.on_left)

    def forget(self, peer: Peer) -> None:
        """Note that a client has gone: its calls need no answers, its callbacks are dead."""
        # First: until it is out of the table, this can be repeated.
        self.admissions[peer.is_inner].forget(peer)
        self.budget.forget(peer)
        self.patience.forget(peer)
        self.idling.forget(peer)
        peer.protocol.framing.clear()
        self.inner.discard(peer.fh)
        if self.counting is not None:
            self.counting.forget(peer)
        end_retries(peer)
        self.closings.forget(peer)
        extras = peer.extras
        if extras is not None:
            for function in extras.on_gone:
                self.notes.add(function)
            extras.on_gone = []  # last: should it be interrupted before, they are noted twice
        self._note_left(peer.fh)
        self.by_fh.pop(peer.fh, None)
        if not self.by_fh:
            self._alarms.clear()  # else the timer would keep a mux waiting that has nothing else
            self.idling.stop()
            self.aging.stop()
            self.lag.stop()
        if self.on_gone is not None:
            self.on_gone()
        if self.on_room is not None:
            self.notes.add(self.on_room)
        self.wake_for_waiting()
