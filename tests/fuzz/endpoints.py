"""Whole servers, clients and streams, over socketpairs: nothing that is sent may stop their loop.

One loop serves all inputs of a target, as a real one would: what an input leaves behind, the next
ones meet. After each input an honest client makes a call, which has to be answered, and of the
other nothing may be left. What is logged is looked at, too: nothing that a peer sent may stand in
it as a control character, or begin a line.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import time
from collections.abc import Callable
from random import Random

from eventmux import Event, EventMux, Read
from fuzz import packets
from fuzz.cutting import Buffers, framed
from fuzz.mutators import cut
from fuzz.procedures import Procedures
from fuzz.targets import Target, check, drawn_from
from rpcasync import Client, Server
from rpcasync.errors import RPCError

__all__ = ["ENDPOINTS"]

_PATIENCE = 20.0  # seconds until something has not happened; a client that is muted takes one
# What controls a terminal, and a line that a peer begins.
_FORBIDDEN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]|\nERROR rpcasync: forged")
_ROOM = bytearray(1_000_000)  # one for all: what is measured is not ours


class Log(logging.Handler):
    """Reads every line, and keeps the first that is not as it should be."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        self.fault = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Look at a line."""
        text = self.format(record)
        if not self.fault and (found := _FORBIDDEN.search(text)):
            self.fault = ascii(text[max(0, found.start() - 80) : found.end() + 20])

    def start(self) -> Log:
        """Read from now on."""
        for name in ("rpcasync", "eventmux"):
            logging.getLogger(name).addHandler(self)
            logging.getLogger(name).setLevel(logging.DEBUG)
        return self

    def stop(self) -> None:
        """Read no more."""
        for name in ("rpcasync", "eventmux"):
            logging.getLogger(name).removeHandler(self)
            logging.getLogger(name).setLevel(logging.NOTSET)

    def check(self) -> None:
        """Raise Broken if a line was wrong."""
        fault, self.fault = self.fault, ""
        check(not fault, "a peer writes to the log", fault)


class WholeServer(Target):
    """A server: its loop goes on, others are answered, and who has gone leaves nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = framed()

    def begin(self) -> None:
        """Make a server, and an honest client of it."""
        self._mux = EventMux()
        names = Procedures()
        self._names = names
        self._rpc = names.rpc = Server(self._mux, names, max_packet=2**21, max_callbacks=100)
        self._rpc.set_limits(outstanding=50, max_waiting=20)
        ours, theirs = socket.socketpair()
        self._rpc.add_client(ours)
        self._honest = Client(self._mux, theirs)
        self._log = Log().start()

    def close(self) -> None:
        """Close everything."""
        self._log.stop()
        self._mux.__exit__()

    def make(self, source: Random) -> bytes:
        """Return a stream of calls."""
        return packets.packets(source, packets.request)

    def run(self, data: bytes) -> str:
        """Send it as a client, or as two at once, and have another one ask."""
        source = drawn_from(data)
        hostile = [self._connect() for _ in range(source.choice((1, 1, 1, 2)))]
        reads = source.random() < 0.7
        heard = 0
        for piece in cut(source, data):
            for sock in hostile:
                heard += self._send(sock, piece, reads)
        if source.random() < 0.3:
            self._turn()
        for sock in hostile:
            if source.random() < 0.3:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_WR)
                self._turn()
            sock.close()
        self._ask()
        self._until(lambda: len(self._rpc.clients) == 1, "a client that has gone is still there")
        self._names.kept.clear()
        self._names.callbacks.clear()
        self._turn()
        check(not self._rpc.has_queued(), "calls of a client that has gone wait")
        self._log.check()
        return f"{min(heard.bit_length(), 8)}"

    def _connect(self) -> socket.socket:
        ours, hostile = socket.socketpair()
        hostile.setblocking(False)
        self._rpc.add_client(ours)
        return hostile

    def _send(self, sock: socket.socket, data: bytes, reads: bool) -> int:
        """Send what is taken, while the loop turns; return how much came back."""
        heard, end = 0, time.monotonic() + _PATIENCE
        while data:
            try:
                data = data[sock.send(data) :]
            except BlockingIOError:
                if not reads or time.monotonic() > end:
                    self._turn()
                    break  # a server that waits for its client to read takes no more
            except OSError:
                break  # it was disconnected
            self._turn()
            if reads:
                heard += _receive(sock)
        return heard

    def _turn(self) -> None:
        while not _is_timeout(event := self._mux.mux(0)):
            foreign = self._honest.io(self._rpc.io(event))
            check(foreign is None, "an event that is nobody's", foreign)

    def _until(self, is_so: Callable[[], bool], what: str) -> None:
        """Turn the loop until something is so."""
        end = time.monotonic() + _PATIENCE
        while not is_so():
            check(time.monotonic() < end, what)
            self._honest.io(self._rpc.io(self._mux.mux(0.1)))

    def _ask(self) -> None:
        call = self._honest.add(n1=2, n2=3)
        self._until(lambda: call.done, "another client is not answered")
        check(call.result() == ("sum", 5), "a wrong answer", call.result())


class WholeClient(Target):
    """A client with calls under way: whatever it hears, each of them ends, and its loop goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = framed()

    def begin(self) -> None:
        """Make a mux for all clients."""
        self._mux = EventMux()
        self._log = Log().start()

    def close(self) -> None:
        """Close everything."""
        self._log.stop()
        self._mux.__exit__()

    def make(self, source: Random) -> bytes:
        """Return a stream of answers."""
        return packets.packets(source, packets.reply)

    def run(self, data: bytes) -> str:
        """Send it as a server."""
        source = drawn_from(data)
        ours, hostile = socket.socketpair()
        hostile.setblocking(False)
        codec = "json" if data[4:5] in (b"[", b"{") else "storable"
        client = Client(self._mux, ours, codec=codec, max_packet=2**21)
        ended: list[object] = []
        calls = [
            client.add(lambda **values: ended.append(values), n1=1, n2=2),
            client.add(lambda sum, error=None: ended.append(error), n1=1, n2=2),
            client.add(lambda *values: ended.append(values), n1=1, n2=2),
            client.add(n1=1, n2=2),
            client.follow(lambda *news: ended.append(news), print_nothing, lambda error=None: None),
            client.follow({"key": [print_nothing]}),
        ]
        self._turn(client)
        waits = source.random() < 0.2  # the program does, and has no loop of its own
        for piece in cut(source, data):
            self._send(client, hostile, piece)
            if waits:
                with contextlib.suppress(RPCError):
                    client.wait(0.0, calls[0])
                with contextlib.suppress(RPCError):
                    calls[3].result(0.0)
        hostile.close()
        end = time.monotonic() + _PATIENCE
        while ours in self._mux.handles() or self._mux.has_events():
            check(time.monotonic() < end, "the end is not noticed")
            self._io(client, self._mux.mux(0.1))
        self._turn(client)
        check(all(call.done for call in calls), "a call does not end", calls)
        check(not client.has_coderefs(), "a callback is kept")
        self._log.check()
        return " ".join(sorted({f"{type(each).__name__} {str(each)[:12]}" for each in ended}))

    def _send(self, client: Client, sock: socket.socket, data: bytes) -> None:
        while data:
            try:
                data = data[sock.send(data) :]
            except BlockingIOError:
                pass
            except OSError:
                return
            self._turn(client)
            _receive(sock)

    def _turn(self, client: Client) -> None:
        while (event := self._mux.mux(0)) is not None and not _is_timeout(event):
            self._io(client, event)

    def _io(self, client: Client, event: Event | None) -> None:
        with contextlib.suppress(RPCError):  # of a call whose callback takes no error
            client.io(event)


def print_nothing(text: object = None, /, **more: object) -> None:
    """Be a function that a server may call."""


class Streams(Buffers):
    """A stream of a mux, with a discipline: it ends in Closed, and nothing comes out but events."""

    def begin(self) -> None:
        """Make a mux for all streams."""
        self._mux = EventMux()

    def close(self) -> None:
        """Close everything."""
        self._mux.__exit__()

    def run(self, data: bytes) -> str:
        """Send it to a stream that echoes."""
        source = drawn_from(data)
        make = self.kinds[data[0] % len(self.kinds)] if data else self.kinds[0]
        ours, hostile = socket.socketpair()
        hostile.setblocking(False)
        self._mux.add(ours, buffered=make())
        events = []
        for piece in cut(source, data[1:]):
            while piece:
                try:
                    piece = piece[hostile.send(piece) :]
                except BlockingIOError:
                    pass
                except OSError:
                    break
                events += self._turn()
                _receive(hostile)
        hostile.close()
        end = time.monotonic() + _PATIENCE
        while ours in self._mux.handles() or self._mux.has_events():
            check(time.monotonic() < end, "the end is not noticed", events[-5:])
            events += self._turn()
        check(bool(events) and events[-1] == "closed", "not closed at the end", events[-5:])
        check(events.count("closed") == 1, "closed twice", events)
        return " ".join(dict.fromkeys(events))

    def _turn(self) -> list[str]:
        kinds: list[str] = []
        while (event := self._mux.mux(0)) is not None and not _is_timeout(event):
            if isinstance(event, Read) and event.fh is not None:
                self._mux.send(event.fh, event.data)
                with contextlib.suppress(TypeError, ValueError):  # it gave no head
                    self._mux.recvdata(event.fh, 3)
            kinds.append(event.type)
        return kinds


def _is_timeout(event: Event | None) -> bool:
    return event is None or event.type == "timeout"


def _receive(sock: socket.socket) -> int:
    """Read all that is there; return how much."""
    heard = 0
    with contextlib.suppress(OSError):
        while size := sock.recv_into(_ROOM):
            heard += size
    return heard


ENDPOINTS: dict[str, Callable[[], Target]] = {
    "server": WholeServer,
    "client": WholeClient,
    "streams": Streams,
}
"""What makes the targets of this file, by name."""
