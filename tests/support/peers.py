"""A server in this process with hand-driven peers: bytes in and out, no second thread."""

from __future__ import annotations

import socket

from eventmux import EventMux
from rpcasync import Server, StorableCodec
from rpcasync.codecs import Codec
from rpcasync.framing import LengthPrefix


class Peer:
    """The other end of a connection: sends what it likes and sees what comes."""

    def __init__(self, sock: socket.socket, codec: Codec | None = None) -> None:
        self.sock = sock
        self.codec = codec or StorableCodec()
        self.framing = LengthPrefix(2**31)
        self.ended = False
        sock.setblocking(False)

    def packet(self, *values: object) -> bytes:
        return self.framing.frame(self.codec.encode(list(values)))

    def send(self, *values: object) -> None:
        self.sock.sendall(self.packet(*values))

    def read(self) -> list[object]:
        """Return the packets that have come."""
        try:
            while data := self.sock.recv(2**20):
                self.framing.feed(data)
            self.ended = True
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.ended = True
        packets = []
        while (frame := self.framing.next_frame()) is not None:
            packets.append(self.codec.decode(frame))
        return packets


class Bench:
    """A server on a mux; `turn()` runs its loop until nothing happens any more."""

    def __init__(self, mux: EventMux, namespace: object, **options: object) -> None:
        self.mux = mux
        self.rpc = Server(mux, namespace, **options)
        self.foreign: list[object] = []  # events that were not the server's
        self._socks: list[socket.socket] = []

    def peer(self, codec: Codec | None = None) -> Peer:
        ours, theirs = socket.socketpair()
        self.rpc.add_client(ours)
        self._socks.append(theirs)
        return Peer(theirs, codec)

    def turn(self) -> None:
        while (event := self.mux.mux(0)).type != "timeout":
            event = self.rpc.io(event)
            if event is not None:
                self.foreign.append(event)

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
