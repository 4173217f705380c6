"""Echo servers, to measure the multiplexer alone: each as one writes it with its library.

They read 64 KB at a time where that can be said, serve any number of connections, and run until
the process is ended.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import cast

_HOST = "127.0.0.1"
_READ_SIZE = 65536
_BACKLOG = 4096


def _eventmux(port: int) -> None:
    from eventmux import EventMux

    mux = EventMux()
    mux.listen(f"tcp://{_HOST}:{port}", backlog=_BACKLOG)
    for event in mux:
        if event.type == "read":
            mux.send(event.fh, event.data)


def _selectors(port: int) -> None:
    """The floor: it keeps no state, and forgets what a full socket does not take."""
    selector = selectors.DefaultSelector()
    listener = socket.create_server((_HOST, port), backlog=_BACKLOG)
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            sock = cast("socket.socket", key.fileobj)
            if sock is listener:
                sock, _ = listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(sock, selectors.EVENT_READ)
                continue
            try:
                data = sock.recv(_READ_SIZE)
                if data:
                    sock.send(data)
                    continue
            except ConnectionResetError:
                pass
            selector.unregister(sock)
            sock.close()


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


def _asyncio(port: int) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Echo, _HOST, port, backlog=_BACKLOG)
        await server.serve_forever()

    asyncio.run(serve())


def _streams(port: int) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_READ_SIZE):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(echo, _HOST, port, backlog=_BACKLOG)
        await server.serve_forever()

    asyncio.run(serve())


def _trio(port: int) -> None:
    import trio

    async def echo(stream: trio.SocketStream) -> None:
        try:
            while data := await stream.receive_some(_READ_SIZE):
                await stream.send_all(data)
        except trio.BrokenResourceError:
            pass

    async def serve() -> None:
        await trio.serve_tcp(echo, port, host=_HOST, backlog=_BACKLOG)

    trio.run(serve)


def _gevent(port: int) -> None:
    from gevent.server import StreamServer

    def echo(sock: socket.socket, _address: object) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while data := sock.recv(_READ_SIZE):
                sock.sendall(data)
        except ConnectionError:
            pass

    StreamServer((_HOST, port), echo, backlog=_BACKLOG).serve_forever()


@dataclass(frozen=True, slots=True)
class EchoServer:
    """A server, and what it needs."""

    title: str
    serve: Callable[[int], None]
    needs: str = ""  # module and package

    @property
    def is_installed(self) -> bool:
        """True if the module is there that it needs."""
        return not self.needs or find_spec(self.needs) is not None

    def version(self) -> str:
        """Return package and version; nothing for what comes with Python."""
        return f"{self.needs} {metadata.version(self.needs)}" if self.needs else ""


BASE = "selectors"
OURS = "eventmux"
ECHO_SERVERS = {
    "eventmux": EchoServer("eventmux", _eventmux),
    "selectors": EchoServer("bare selectors, the floor", _selectors),
    "asyncio": EchoServer("asyncio.Protocol", _asyncio),
    "streams": EchoServer("asyncio streams", _streams),
    "trio": EchoServer("trio", _trio, "trio"),
    "gevent": EchoServer("gevent", _gevent, "gevent"),
}
