"""The peers of a server: who is there, what leaves to them, and how they end.

All sending is one `mux.send()`, put off so that many answers leave in one write. Sending to a peer
that is not there any more is no error.
"""

from __future__ import annotations

import contextlib
import socket
from functools import partial
from typing import Protocol

from rpcasync._log import log, shorten
from rpcasync.errors import Disconnected, EncodeError
from rpcasync.serving.admission import Admission
from rpcasync.serving.callers import Caller
from rpcasync.serving.notes import Notes
from rpcasync.serving.peer import Peer
from rpcasync.wire.messages import Id
from rpcasync.wire.protocol import ServerProtocol

__all__ = ["HIGH_WATER", "Mux", "Peers"]

# A client that has this many bytes of answers to read is neither read from nor served.
HIGH_WATER = 1024 * 1024


class Mux(Protocol):
    """What a server needs of a mux: a part of `EventMux`.

    More of its methods are used where a mux has them: without `close`, answers that do not leave
    at once are lost when we disconnect a client; without `push_event` and `post`, calls that may
    run now, or were dropped by the program, wait for the next event; without `want_read`, calls
    over the limit wait in memory; without `timer`, it is not noticed that a client hangs up
    while it is not read from.
    """

    def add(
        self, fh: socket.socket, *, listen: bool | None = ..., high_water: int | None = ...
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
        admission: counts their calls.
        notes: has the rest done on the next turn.
        max_outbuffer: bytes that may be queued for a client when a callback is called.
    """

    def __init__(self, mux: Mux, admission: Admission, notes: Notes, max_outbuffer: int) -> None:
        self._mux = mux
        self._close = getattr(mux, "close", None)
        self._admission = admission
        self._max_outbuffer = max_outbuffer
        self.notes = notes
        self.by_fh: dict[socket.socket, Peer] = {}
        self.leaving: set[socket.socket] = set()  # closed by us, `Closed` is to come

    def add(self, fh: socket.socket, protocol: ServerProtocol) -> None:
        """Note a client that is watched."""
        peer = self.by_fh[fh] = Peer(fh, _name(fh), protocol, self)
        log.debug("client %s connected", peer.name)

    # Sending

    def answer(self, caller: Caller, packet: bytes) -> bool:
        """Send the answer to a call; return False if the client has gone."""
        caller.answered = True
        peer = caller._peer
        if self._admission.finish(peer):
            self.notes.wake()
        return not peer.gone and self.send(peer, packet)

    def send(self, peer: Peer, packet: bytes) -> bool:
        """Send an answer; return False if the client has gone."""
        try:
            peer.queued = self._mux.send(peer.fh, packet, later=True)
        except KeyError:  # the program killed or removed the socket without asking us
            self.forget(peer)
            return False
        return True

    def send_callback(self, peer: Peer, packet: bytes) -> None:
        """Send a packet that no call of the client has asked for, and nothing else limits.

        Raises:
            Disconnected: too much is queued for the client, which is disconnected; or it is gone.
        """
        if peer.queued > self._max_outbuffer:
            self.update_queued(peer)  # perhaps it has read since
        if peer.queued > self._max_outbuffer and not peer.gone:
            why = f"does not read: {peer.queued} bytes queued, limit is {self._max_outbuffer}"
            self._kill(peer, why)
            raise Disconnected(f"client {peer.name} {why}")
        if peer.gone or not self.send(peer, packet):
            raise Disconnected(f"client {peer.name} has gone")

    def update_queued(self, peer: Peer) -> None:
        """Send what can be sent, and see how much is queued then; the client may be gone."""
        try:
            peer.queued = self._mux.send(peer.fh)
        except KeyError:  # the program killed or removed the socket without asking us
            self.forget(peer)

    def send_failure(self, peer: Peer, id: Id, text: str) -> None:  # noqa: A002
        """Answer with an error; if not even that can be sent, end the connection."""
        try:
            self.send(peer, peer.protocol.failure(id, text))
        except EncodeError as error:
            self.disconnect(peer, f"an error cannot be sent to it: {error}")

    # Calls that end

    def finish(self, caller: Caller) -> None:
        """Note that a call is answered, or will be at once."""
        caller.answered = True
        if self._admission.finish(caller._peer):
            self.notes.wake()

    def note_dropped(self, peer: Peer, id: Id, procedure: str) -> None:  # noqa: A002
        """Have a call answered whose `Caller` is gone."""
        self.notes.add(partial(self._answer_dropped, peer, id, procedure))

    def _answer_dropped(self, peer: Peer, id: Id, procedure: str) -> None:  # noqa: A002
        if self._admission.finish(peer):
            self.notes.wake()
        if not peer.gone:
            name = shorten(procedure)
            log.error(
                "procedure %s dropped call %r without an answer: answer with return_()", name, id
            )
            self.send_failure(peer, id, f"{name}: did not answer")

    def wake_for_waiting(self) -> None:
        """Have an event come if a call that waits may run now."""
        if self._admission.has_next():
            self.notes.wake()

    # The end of a connection

    def disconnect(self, peer: Peer, reason: str) -> None:
        """Close a connection from our side; the answers that are queued go out first."""
        if self._close is None:
            self.update_queued(peer)
            self._kill(peer, reason)
            return
        log.warning("client %s disconnected: %s", peer.name, reason)
        self.forget(peer)
        with contextlib.suppress(KeyError):  # the program killed or removed the socket itself
            self._close(peer.fh)
            self.leaving.add(peer.fh)

    def _kill(self, peer: Peer, reason: str) -> None:
        """Close a connection now."""
        log.warning("client %s disconnected: %s", peer.name, reason)
        self.forget(peer)
        self.kill_socket(peer.fh, reason)

    def kill_socket(self, fh: socket.socket, reason: str | None = None) -> None:
        """Close a socket now, unless the program has done so itself."""
        with contextlib.suppress(KeyError):
            self._mux.kill(fh, reason)
            self.leaving.add(fh)

    def forget(self, peer: Peer) -> None:
        """Note that a client has gone: its calls need no answers, its callbacks are dead."""
        self.by_fh.pop(peer.fh, None)
        if not peer.gone:
            peer.gone = True
            self._admission.forget(peer)
            self.wake_for_waiting()


def _name(sock: socket.socket) -> str:
    """Name a client for the log."""
    try:
        address = sock.getpeername()
    except OSError:
        address = None
    if isinstance(address, tuple):
        return f"{address[0]}:{address[1]}"
    return f"fd {sock.fileno()}"
