"""Both ends of TLS connections, to measure the multiplexer alone: on eventmux, on asyncio, by hand.

What an end does is the same for all: it echoes or asks for echoes, it only sends or only receives.
The one by hand is what the other two are measured with: blocking sockets of the `ssl` module, and
`select.poll()` where there are many.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import cast

from benchmarks.meter import fail

__all__ = ["CLIENTS", "SERVERS", "Work"]

_HOST = "127.0.0.1"
_BACKLOG = 1024
_PIECE = 65536  # of what is only sent


class Work:
    """What an end is to do, and what it has done.

    Args:
        name: "echo", "send" or "receive".
        connections: how many a client makes.
        size: of a message, in bytes.
        pem_file: the certificate of a server; what a client trusts.
    """

    def __init__(self, name: str, connections: int, size: int, pem_file: str) -> None:
        self.name = name
        self.connections = connections
        self.message = (bytes(range(256)) * (size // 256 + 1))[:size]
        self.pem_file = pem_file
        self.count = 0  # echoes, or bytes; a thread looks at it now and then

    def check(self, heard: bytes | bytearray) -> None:
        """Count an echo; end the process if it is wrong."""
        if heard != self.message:
            fail(f"wrong echo: {heard!r:.200}")
        self.count += 1

    def server_context(self) -> ssl.SSLContext:
        """Return a context of a server."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.pem_file)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return a context of a client."""
        return ssl.create_default_context(cafile=self.pem_file)


# ---- eventmux ----------------------------------------------------------------------------


def _eventmux_server(port: int, work: Work) -> None:
    from eventmux import EventMux

    mux = EventMux()
    mux.listen(f"tls://{_HOST}:{port}", tls=work.server_context(), backlog=_BACKLOG)
    for event in mux:
        if event.type == "read":
            if work.name == "echo":
                mux.send(event.fh, event.data)
        elif work.name == "send" and event.type in ("connect", "sent"):
            mux.send(event.fh, work.message)


def _eventmux_client(port: int, work: Work) -> None:
    from eventmux import EventMux

    mux, context = EventMux(), work.client_context()
    heard: dict[object, bytearray] = {}
    for _ in range(work.connections):
        fh = mux.connect(f"tls://{_HOST}:{port}", tls=context)
        heard[fh] = bytearray()
        if work.name == "echo":
            mux.send(fh, work.message)
    for event in mux:
        if event.type == "read":
            if work.name == "receive":
                work.count += len(event.data)
                continue
            data = heard[event.fh]
            data += event.data
            if len(data) >= len(work.message):
                work.check(data)
                data.clear()
                mux.send(event.fh, work.message)
        elif event.type == "error":
            fail(event.error)
        elif work.name == "send" and event.type in ("ready", "sent"):
            mux.send(event.fh, work.message)
            work.count += len(work.message)


# ---- asyncio -----------------------------------------------------------------------------


class _Protocol(asyncio.Protocol):
    """What both ends on asyncio have in common."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._is_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._work.name == "send":
            self._send()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._send()

    def _send(self) -> None:
        while self._work.name == "send" and not self._is_paused:
            self._transport.write(self._work.message)
            self._work.count += len(self._work.message)


class _Echo(_Protocol):
    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


class _Receiver(_Protocol):
    def data_received(self, data: bytes) -> None:
        self._work.count += len(data)


class _Asker(_Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._heard = bytearray()
        self._transport.write(self._work.message)

    def data_received(self, data: bytes) -> None:
        self._heard += data
        if len(self._heard) >= len(self._work.message):
            self._work.check(self._heard)
            self._heard.clear()
            self._transport.write(self._work.message)


def _asyncio_server(port: int, work: Work) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        kind = _Echo if work.name == "echo" else _Receiver
        server = await loop.create_server(
            lambda: kind(work), _HOST, port, ssl=work.server_context(), backlog=_BACKLOG
        )
        await server.serve_forever()

    asyncio.run(serve())


def _asyncio_client(port: int, work: Work) -> None:
    async def ask() -> None:
        loop, context = asyncio.get_running_loop(), work.client_context()
        kind = _Asker if work.name == "echo" else _Receiver
        for _ in range(work.connections):
            await loop.create_connection(lambda: kind(work), _HOST, port, ssl=context)
        await loop.create_future()

    asyncio.run(ask())


# ---- by hand -----------------------------------------------------------------------------


def _server_by_hand(port: int, work: Work) -> None:
    """Serve all at once; those that are connected have to speak as soon as they are."""
    context = work.server_context()
    poller = select.poll()
    listener = socket.create_server((_HOST, port), backlog=_BACKLOG)
    poller.register(listener, select.POLLIN)
    socks: dict[int, ssl.SSLSocket] = {}
    while True:
        for fd, _ in poller.poll():
            if fd in socks:
                if not _serve_by_hand(socks[fd], work):
                    poller.unregister(fd)
                    socks.pop(fd).close()
                continue
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                secure = context.wrap_socket(sock, server_side=True)
            except (ssl.SSLError, ConnectionError):  # who only looked whether we listen
                sock.close()
                continue
            socks[secure.fileno()] = secure
            poller.register(secure, select.POLLIN | (select.POLLOUT * (work.name == "send")))


def _serve_by_hand(sock: ssl.SSLSocket, work: Work) -> bool:
    try:
        if work.name == "send":
            sock.sendall(work.message)
            return True
        data = _receive(sock, len(work.message) if work.name == "echo" else 1)
        if data and work.name == "echo":
            sock.sendall(data)
        return bool(data)
    except OSError:
        return False


def _client_by_hand(port: int, work: Work) -> None:
    context = work.client_context()
    socks = [_connect(port, context) for _ in range(work.connections)]
    sock = socks[0]
    if work.name == "receive":
        while True:
            work.count += len(sock.recv(_PIECE))
    elif work.name == "send":
        while True:
            sock.sendall(work.message)
            work.count += len(work.message)
    for each in _ready(socks, work):
        work.check(_receive(each, len(work.message)))
        each.sendall(work.message)


def _ready(socks: list[ssl.SSLSocket], work: Work) -> Iterator[ssl.SSLSocket]:
    """Ask on all; give each that can be read from, for ever."""
    for sock in socks:
        sock.sendall(work.message)
    if len(socks) == 1:
        while True:
            yield socks[0]
    poller = select.poll()
    by_fd = {sock.fileno(): sock for sock in socks}
    for sock in socks:
        poller.register(sock, select.POLLIN)
    while True:
        for fd, _ in poller.poll():
            yield by_fd[fd]


def _connect(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    sock = socket.create_connection((_HOST, port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(sock, server_hostname=_HOST)


def _receive(sock: ssl.SSLSocket, size: int) -> bytes:
    data = sock.recv(_PIECE)
    while data and len(data) < size:
        more = sock.recv(_PIECE)
        if not more:
            return b""
        data += more
    return data


End = Callable[[int, Work], None]
SERVERS: dict[str, End] = {
    "eventmux": _eventmux_server,
    "asyncio": _asyncio_server,
    "hand": _server_by_hand,
}
CLIENTS: dict[str, End] = {
    "eventmux": _eventmux_client,
    "asyncio": _asyncio_client,
    "hand": _client_by_hand,
}
