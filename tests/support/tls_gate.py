"""A listener for TLS, and clients that do what they like with their bytes, all on one thread.

The mux is never told to wait: so its clock may be one that only the test moves.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any, TypeVar

from support.certificates import server_context
from support.tls_by_hand import ByHand

from eventmux import Closed, Closing, Connect, Error, Event, EventMux, Read, Timeout

__all__ = ["Gate", "break_off", "making_gates"]

Kind = TypeVar("Kind", bound=Event)


def break_off(sock: socket.socket, is_reset: bool) -> None:
    """Close a socket, by a reset or by an orderly end."""
    if is_reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _wait(*handles: socket.socket | EventMux) -> None:
    """Wait a moment, or until one can be read from; many descriptors are open."""
    poller = select.poll()
    for each in handles:
        poller.register(each, select.POLLIN)
    poller.poll(10)


class Gate:
    """A listener for TLS, and those who come to it, all on one thread.

    Args:
        context: of the server.
        clock: of the mux.
        options: of the listener.
    """

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> None:
        self.mux = EventMux(clock=clock)
        self.listener = self.mux.listen(
            "tls://127.0.0.1:0", tls=context or server_context(), **options
        )
        self.clients: list[socket.socket] = []
        self.events: list[Event] = []

    def come(self, receive_buffer: int = 0) -> socket.socket:
        """Return a new connection, of which the mux has not heard yet."""
        sock = socket.socket()
        self.clients.append(sock)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(self.listener.getsockname())
        sock.setblocking(False)
        return sock

    def send(self, sock: socket.socket, data: bytes) -> None:
        """Send all of it, while the mux turns."""
        while data:
            with suppress(BlockingIOError):
                data = data[sock.send(data) :]
            self.turn()

    def receive(self, sock: socket.socket) -> bytes:
        """Return what the server says next; nothing is its end."""
        for _ in range(1000):
            self.turn()
            try:
                return sock.recv(65536)
            except BlockingIOError:
                _wait(sock, self.mux)
            except ConnectionResetError:
                return b""
        raise AssertionError("nothing is said")

    def turn(self) -> None:
        """Let the mux do something, without waiting; what it tells waits in `events`."""
        event = self.mux.mux(0)
        if not isinstance(event, Timeout):
            self.events.append(event)

    def next(self, kind: type[Kind]) -> Kind:
        """Return the next event, which has to be of this type."""
        for _ in range(1000):
            if not self.events:
                self.turn()
            if self.events:
                break
            _wait(self.mux)
        assert self.events, f"no {kind.__name__}"
        event = self.events.pop(0)
        assert isinstance(event, kind), event
        return event

    def shake_hands(self, sock: socket.socket, client: ByHand) -> Connect:
        """Do a handshake by hand."""
        self.send(sock, client.hello())
        while not client.take(self.receive(sock)):
            self.send(sock, client.to_send())
        self.send(sock, client.to_send())
        return self.next(Connect)

    def assert_refuses(self, sender: object) -> Error:
        """Assert that this client came to nothing, and that nothing of it is left."""
        error = self.next(Error)
        assert error.fh is self.listener
        assert "TLS handshake with" in error.error
        assert error.exception is not None
        assert error.sender == sender
        self.assert_serves()
        assert self.mux.handles() == [self.listener]
        return error

    def assert_serves(self) -> None:
        """Assert that an honest client is heard and answered."""
        sock, client = self.come(), ByHand()
        fh = self.shake_hands(sock, client).fh
        self.send(sock, client.write(b"honest"))
        assert self.next(Read) == Read(fh, b"honest")
        self.mux.send(fh, b"answer")
        heard = b""
        while heard != b"answer":
            heard += client.read(self.receive(sock))
        self.events.clear()
        self.send(sock, client.close())
        sock.close()
        assert self.next(Closing).reason is None
        self.next(Closed)

    def close(self) -> None:
        """Close all that was opened."""
        for sock in self.clients:
            sock.close()
        self.mux.__exit__()


@contextmanager
def making_gates() -> Iterator[Callable[..., Gate]]:
    """Give what makes them; they are closed at the end."""
    with ExitStack() as stack:

        def make(context: ssl.SSLContext | None = None, **options: Any) -> Gate:
            return stack.enter_context(closing(Gate(context, **options)))

        yield make
