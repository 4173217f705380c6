"""Clients and servers in this process with hand-driven peers: bytes in and out, no threads."""

from __future__ import annotations

import itertools
import socket
from typing import Any, Protocol

from eventmux import Event, EventMux, Timeout
from rpcasync import Server
from rpcasync.errors import ProtocolError
from rpcasync.wire.codecs import Codec, get_codec
from rpcasync.wire.framing import LengthPrefix
from rpcasync.wire.protocol import ClientProtocol


class Taker(Protocol):
    """A client or a server."""

    def io(self, event: Event | None) -> Event | None: ...


def turn(mux: EventMux, *takers: Taker) -> list[Event]:
    """Run the loop until nothing happens; return the events that were nobody's."""
    foreign: list[Event] = []
    event: Event | None
    while not isinstance(event := mux.mux(0), Timeout):
        for taker in takers:
            event = taker.io(event)
        if event is not None:
            foreign.append(event)
    return foreign


def set_next_id(protocol: ClientProtocol, id: int) -> None:
    """Have the counter stand here, as after so many calls: no test can make 2**31 of them."""
    protocol._next_id = id


def set_clock(server: Server, seconds: float) -> None:
    """Have each look at the clock take so long: turns end by what is done, not by how fast."""
    server._dispatcher._turns.clock = itertools.count(0.0, seconds).__next__


def split(framing: LengthPrefix, data: bytes) -> tuple[list[bytes], ProtocolError | None]:
    """Return the payloads that are complete with these bytes, and what is wrong behind them."""
    framing.feed(data)
    frames, framing.frames = framing.cut(), []
    return frames[::-1], framing.failure


class Peer:
    """The other end of a connection: sends what it likes and sees what comes."""

    def __init__(self, sock: socket.socket, codec: str | Codec = "storable") -> None:
        self.sock = sock
        self.codec = get_codec(codec)
        self.framing = LengthPrefix(2**31)
        self.ended = False
        sock.setblocking(False)

    def packet(self, *values: object) -> bytes:
        return self.framing.frame(self.codec.encode(list(values)))

    def send(self, *values: object) -> None:
        self.sock.sendall(self.packet(*values))

    def send_calls(self, *calls: tuple[object, ...]) -> None:
        """Send calls at once; their ids are 0, 1, 2..."""
        self.sock.sendall(b"".join(self.packet(id, *call) for id, call in enumerate(calls)))

    def read(self) -> list[object]:
        """Return the packets that have come."""
        frames = []
        try:
            while data := self.sock.recv(2**20):
                found, failure = split(self.framing, data)
                assert failure is None, failure
                frames += found
            self.ended = True
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.ended = True
        return [self.codec.decode(frame) for frame in frames]


class Bench:
    """A server on a mux; `turn()` runs its loop until nothing happens any more."""

    def __init__(self, mux: EventMux, namespace: object, **options: Any) -> None:
        self.mux = mux
        # Unless a test is about it, no procedure is slow because this machine is busy.
        self.rpc = Server(mux, namespace, **{"slow": None, **options})
        self.foreign: list[object] = []  # events that were not the server's
        self._socks: list[socket.socket] = []

    def peer(self, codec: str | Codec = "storable") -> Peer:
        ours, theirs = socket.socketpair()
        self.rpc.add_client(ours)
        self._socks.append(theirs)
        return Peer(theirs, codec)

    def knock(self, listener: socket.socket, codec: str | Codec = "storable") -> Peer:
        """Connect to a listener; the server hears of it when the loop turns."""
        sock = socket.socket(listener.family)
        self._socks.append(sock)
        sock.connect(listener.getsockname())
        return Peer(sock, codec)

    def turn(self) -> None:
        self.foreign += turn(self.mux, self.rpc)

    def ask(self, peer: Peer, *values: object) -> list[object]:
        """Send one packet and return all that comes back."""
        rest = memoryview(peer.packet(*values))
        while rest:
            rest = rest[peer.sock.send(rest[:100_000]) :]
            self.turn()
        return peer.read()

    def close(self) -> None:
        for sock in self._socks:
            sock.close()
