"""A client and a server of TLS on one mux, and foreign ones of Python's `ssl` in threads."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from support.certificates import client_context, server_context
from support.pump import PATIENCE, kinds

from eventmux import Event, EventMux, Timeout

__all__ = [
    "HandClient",
    "TLSEnds",
    "contexts_of_version",
    "foreign_client",
    "foreign_server",
    "settled",
]


def contexts_of_version(version: ssl.TLSVersion) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return contexts of a server and of a client that speak this version alone."""
    contexts = server_context(), client_context()
    for context in contexts:
        context.minimum_version = context.maximum_version = version
    return contexts


def settled(mux: EventMux) -> list[Event]:
    """Return all events that come; a handshake goes through turns that have none."""
    events: list[Event] = []
    idle = 0
    while idle < 20:
        event = mux.mux(0)
        if isinstance(event, Timeout):
            idle += 1
        elif event is not None:
            idle = 0
            events.append(event)
    return events


class TLSEnds:
    """A listener for TLS, and what connects to it.

    Args:
        mux: for both.
        server: context of the server.
        options: of the listener.
    """

    def __init__(self, mux: EventMux, server: ssl.SSLContext | None = None, **options: Any) -> None:
        self.mux = mux
        self.listener = mux.listen("tls://127.0.0.1:0", tls=server or server_context(), **options)
        self.port: int = self.listener.getsockname()[1]
        self.events: list[Event] = []

    def connect(self, client: ssl.SSLContext | None = None, **options: Any) -> Any:
        """Start to connect."""
        url = f"tls://localhost:{self.port}"
        return self.mux.connect(url, tls=client or client_context(), **options)

    def until(self, *kinds: tuple[str, object]) -> list[Event]:
        """Turn until an event of each type and handle has come; return them. Others are kept."""
        wanted, found = list(kinds), []
        while wanted:
            event = self.next()
            for kind, fh in wanted:
                if event.type == kind and fh in (None, event.fh):
                    wanted.remove((kind, fh))
                    found.append(event)
                    break
        return found

    def next(self) -> Event:
        """Return the next event, which is kept as well."""
        event = self.mux.mux(PATIENCE)
        assert event.type != "timeout", f"only {kinds(self.events)[-20:]}"
        self.events.append(event)
        return event

    def up(self, **options: Any) -> tuple[Any, Any]:
        """Return our two ends of a connection that is up, the client's first."""
        fh = self.connect(**options)
        found = {event.type: event for event in self.until(("ready", fh), ("connect", None))}
        self.events.clear()
        return fh, found["connect"].fh

    def drain(self) -> list[Event]:
        """Return all events of all handles until nothing more comes at once."""
        return settled(self.mux)

    def of(self, fh: object) -> list[str]:
        """Return the types of the events of a handle, in order."""
        return [event.type for event in self.events if event.fh is fh]


@contextmanager
def foreign_client(
    port: int, talk: Callable[[ssl.SSLSocket], None], context: ssl.SSLContext | None = None
) -> Iterator[list[object]]:
    """Have Python's `ssl` connect in a thread; what it raises is in the list at the end."""
    raised: list[object] = []

    def run() -> None:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as raw:
            try:
                sock = (context or client_context()).wrap_socket(raw, server_hostname="localhost")
                with sock:
                    talk(sock)
            except Exception as error:  # noqa: BLE001  # for the test to see
                raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield raised
    thread.join(PATIENCE)
    assert not thread.is_alive()


@contextmanager
def foreign_server(
    talk: Callable[[ssl.SSLSocket], None], context: ssl.SSLContext | None = None
) -> Iterator[int]:
    """Have Python's `ssl` serve one connection in a thread; give the port."""

    def run() -> None:
        with suppress(OSError):
            raw, _ = listener.accept()
            with raw:
                raw.settimeout(PATIENCE)
                with (context or server_context()).wrap_socket(raw, server_side=True) as sock:
                    talk(sock)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(PATIENCE)
        assert not thread.is_alive()


class HandClient:
    """A client that is turned by hand, over the other end of a connection of a mux.

    Args:
        mux: that serves it.
        sock: its end; the handshake is through when this returns.
        events: where those go that come meanwhile.
    """

    def __init__(
        self, mux: EventMux, sock: socket.socket, events: list[Event] | None = None
    ) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client_context().wrap_bio(
            self.incoming, self.outgoing, server_hostname="localhost"
        )
        self.has_ended = False
        self.alert = ""
        for _ in range(6):
            with suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
            sock.send(self.outgoing.read())
            came = settled(mux)
            if events is not None:
                events += came
            self._hear()

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            while data := self.sock.recv(65536):
                self.incoming.write(data)

    def say(self, data: bytes) -> bytes:
        """Return what is to be sent for plain bytes."""
        self.tls.write(data)
        return self.outgoing.read()

    def take(self) -> bytes:
        """Return the plain bytes that have come; see whether it was the end, or an alert."""
        self._hear()
        data = b""
        try:
            while not self.has_ended:
                piece = self.tls.read(65536)
                data += piece
                self.has_ended = not piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.alert = (error.reason or "").partition("ALERT_")[2].replace("_", " ").lower()
        return data
