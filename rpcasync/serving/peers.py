"""The connections of a server: who is there, what leaves to them, and how they end.

All sending is one `mux.send()`, put off so that many answers leave in one write. Whoever is not
there any more is no error.

Here are the notes of finalizers, too, which may run at any moment and in any thread: what they ask
for is done on the next turn.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from eventmux.events import Event
from eventmux.sockets import has_hung_up
from rpcasync._log import log, shorten
from rpcasync.errors import Disconnected, EncodeError
from rpcasync.serving.admission import Admission
from rpcasync.serving.callers import Caller
from rpcasync.serving.peer import Connection
from rpcasync.wire.messages import Id
from rpcasync.wire.protocol import ServerProtocol

__all__ = ["HIGH_WATER", "Connections", "Mux"]

# A client that has this many bytes of answers to read is neither read from nor served.
HIGH_WATER = 1024 * 1024
_LOOK_AGAIN = 1.0  # seconds


class Mux(Protocol):
    """What a server needs of a mux: a part of `EventMux`.

    More of its methods are used where a mux has them: without `close`, answers that do not leave
    at once are lost when we disconnect a client; without `push_event` and `post`, what waits for
    an answer or was dropped by the program has to wait for the next event; without `want_read`,
    calls that may not wait any more do so in memory; without `timer`, a client that hangs up
    while it is not read from is not noticed.
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


class Connections:
    """The clients of one server.

    Args:
        mux: what their sockets are watched by.
        admission: counts their calls.
        max_outbuffer: bytes that may be queued for a client when a callback is called.
    """

    def __init__(self, mux: Mux, admission: Admission, max_outbuffer: int) -> None:
        self._mux = mux
        self._close = getattr(mux, "close", None)
        self._want_read = getattr(mux, "want_read", None)
        self._push_event = getattr(mux, "push_event", None)
        self._post = getattr(mux, "post", self._push_event)
        self._admission = admission
        self._max_outbuffer = max_outbuffer
        self.notes: deque[Callable[[], None]] = deque()
        self.is_woken = False  # `wake_event` is in the queue
        self._is_looking = False  # a timer for muted clients runs
        self.wake_event = Event()  # in the queue when there is something to do without an event
        self.by_fh: dict[socket.socket, Connection] = {}
        self.leaving: set[socket.socket] = set()  # closed by us, `Closed` is to come
        self._muted: set[Connection] = set()  # nothing is read from these, not even their end
        self._timer = getattr(mux, "timer", None)

    def add(self, fh: socket.socket, protocol: ServerProtocol) -> None:
        """Note a client that is watched."""
        client = self.by_fh[fh] = Connection(fh, _name(fh), protocol, self)
        log.debug("client %s connected", client.name)

    # Sending

    def answer(self, caller: Caller, packet: bytes) -> bool:
        """Send the answer to a call; return False if the client has gone."""
        caller.answered = True
        client = caller.connection
        if self._admission.finish(client):
            self._wake(self._push_event)
        return not client.gone and self.send(client, packet)

    def send(self, client: Connection, packet: bytes) -> bool:
        """Send an answer; return False if the client has gone."""
        try:
            client.queued = self._mux.send(client.fh, packet, later=True)
        except KeyError:  # the program killed or removed the socket without asking us
            self.forget(client)
            return False
        return True

    def send_callback(self, client: Connection, packet: bytes) -> None:
        """Send a packet that no call of the client has asked for, and nothing else limits.

        Raises:
            Disconnected: too much is queued for the client, which is disconnected; or it is gone.
        """
        if client.queued > self._max_outbuffer:
            self.update_queued(client)  # perhaps it has read since
        if client.queued > self._max_outbuffer and not client.gone:
            why = f"does not read: {client.queued} bytes queued, limit is {self._max_outbuffer}"
            self._kill(client, why)
            raise Disconnected(f"client {client.name} {why}")
        if client.gone or not self.send(client, packet):
            raise Disconnected(f"client {client.name} has gone")

    def update_queued(self, client: Connection) -> None:
        """Send what can be sent, and see how much is queued then; the client may be gone."""
        try:
            client.queued = self._mux.send(client.fh)
        except KeyError:  # the program killed or removed the socket without asking us
            self.forget(client)

    def send_failure(self, client: Connection, id: Id, text: str) -> None:  # noqa: A002
        """Answer with an error; if not even that can be sent, end the connection."""
        try:
            self.send(client, client.protocol.failure(id, text))
        except EncodeError as error:
            self.disconnect(client, f"an error cannot be sent to it: {error}")

    def mute(self, client: Connection, muted: bool) -> None:
        """Stop reading from a client, or go on. The end of one that has failed has to be seen."""
        muted = muted and not client.failed
        if muted != client.muted and self._want_read is not None and not client.gone:
            client.muted = muted
            if muted:
                self._muted.add(client)
                self._look_again()
            with contextlib.suppress(KeyError):
                self._want_read(client.fh, not muted)

    def _look_again(self) -> None:
        if self._timer is not None and not self._is_looking:
            self._is_looking = True
            self._timer(_LOOK_AGAIN, self)

    def _look_after_muted(self) -> None:
        """Read again from muted clients that have gone: what they have sent is all that comes."""
        self._is_looking = False
        for client in tuple(self._muted):
            if client.gone or not client.muted:
                self._muted.discard(client)
            elif has_hung_up(client.fh):
                client.failed = True
                self.mute(client, False)
        if self._muted:
            self._look_again()

    # Calls that end

    def finish(self, caller: Caller) -> None:
        """Note that a call is answered, or will be at once."""
        caller.answered = True
        if self._admission.finish(caller.connection):
            self._wake(self._push_event)

    def note_dropped(self, client: Connection, id: Id, procedure: str) -> None:  # noqa: A002
        """Have a call answered whose `Caller` is gone."""
        self.note(partial(self._answer_dropped, client, id, procedure))

    def _answer_dropped(self, client: Connection, id: Id, procedure: str) -> None:  # noqa: A002
        if self._admission.finish(client):
            self._wake(self._push_event)
        if not client.gone:
            name = shorten(procedure)
            log.error(
                "procedure %s dropped call %r without an answer: answer with return_()", name, id
            )
            self.send_failure(client, id, f"{name}: did not answer")

    # What is to be done on the next turn

    def note(self, action: Callable[[], None]) -> None:
        """Remember it, and no more: this runs in a finalizer."""
        self.notes.append(action)
        self._wake(self._post)

    def do_noted(self) -> None:
        """Do what was noted."""
        while self.notes:
            try:
                self.notes.popleft()()
            except Exception:  # noqa: BLE001  # a codec of the program's own may raise anything
                log.exception("a callback or call that was dropped could not be told so")

    def is_ours(self, event: Event) -> bool:
        """True for an event that only tells us to look; what is not noted is done here."""
        if event.type == "timer" and getattr(event, "data", None) is self:
            self._look_after_muted()
            return True
        return event is self.wake_event

    def wake_for_waiting(self) -> None:
        """Have an event come if a call that waits may run now."""
        if self._admission.has_next():
            self._wake(self._push_event)

    def _wake(self, push: Callable[[Event], None] | None) -> None:
        if not self.is_woken and push is not None:
            self.is_woken = True
            push(self.wake_event)

    # The end of a connection

    def disconnect(self, client: Connection, reason: str) -> None:
        """Close a connection from our side; the answers that are queued go out first."""
        if self._close is None:
            self.update_queued(client)
            self._kill(client, reason)
            return
        log.warning("client %s disconnected: %s", client.name, reason)
        self.forget(client)
        with contextlib.suppress(KeyError):  # the program killed or removed the socket itself
            self._close(client.fh)
            self.leaving.add(client.fh)

    def _kill(self, client: Connection, reason: str) -> None:
        """Close a connection now."""
        log.warning("client %s disconnected: %s", client.name, reason)
        self.forget(client)
        self.kill_socket(client.fh, reason)

    def kill_socket(self, fh: socket.socket, reason: str | None = None) -> None:
        """Close a socket now, unless the program has done so itself."""
        with contextlib.suppress(KeyError):
            self._mux.kill(fh, reason)
            self.leaving.add(fh)

    def forget(self, client: Connection) -> None:
        """Note that a client has gone: its calls need no answers, its callbacks are dead."""
        self.by_fh.pop(client.fh, None)
        if not client.gone:
            client.gone = True
            self._admission.forget(client)
            self.wake_for_waiting()


def _name(sock: socket.socket) -> str:
    """Name the peer for the log."""
    try:
        peer = sock.getpeername()
    except OSError:
        peer = ""
    if isinstance(peer, tuple):
        return f"{peer[0]}:{peer[1]}"
    return f"fd {sock.fileno()}"
