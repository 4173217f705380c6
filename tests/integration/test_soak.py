"""Thousands of connections through one mux, opened, used and ended at random.

Each byte is accounted for: what arrives is what was sent, in order; what does not is `missing`.
When all have ended, no descriptor is left and the memory is what it was.

SOAK_SECONDS=30 SOAK_SEED=1 python -m pytest -s tests/integration/test_soak.py
"""

import contextlib
import gc
import os
import random
import socket
import sys
import time
from pathlib import Path

import pytest

from eventmux import EventMux
from eventmux.buffers import Size

resource = pytest.importorskip("resource")

SECONDS = float(os.environ.get("SOAK_SECONDS", "2"))
SEED = int(os.environ.get("SOAK_SEED") or random.randrange(1_000_000))
CONNECTIONS = 2000
STEPS = 30_000  # of one round, in which all connections come and go
GROWTH = 16 * 1024 * 1024  # bytes that the process may grow by, once all has been in use
GROWTH_BLOCKS = 2000  # of Python objects: less than one for each connection of a round
SPARE = 1000  # descriptors for other things, and for peers of what has ended
PATTERN = random.Random(0).randbytes(65521)  # a prime: no page repeats


def pattern(offset, size):
    """Return what a stream has at some place."""
    offset %= len(PATTERN)
    copies = (offset + size) // len(PATTERN) + 1
    return (PATTERN * copies)[offset : offset + size]


def make_small(sock):
    """Let the kernel take little at once, so that output has to wait."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


class Flow:
    """One direction of a connection: how much was put in, and how much came out."""

    def __init__(self):
        self.put = 0
        self.got = 0

    def next(self, size):
        """Return the next bytes to send; `put` is counted when they are taken."""
        return pattern(self.put, size)

    def arrive(self, data):
        assert data == pattern(self.got, len(data)), f"wrong bytes at {self.got}"
        self.got += len(data)
        assert self.got <= self.put


class Connection:
    """A handle of the mux and the peer, a plain socket."""

    def __init__(self, fh, peer, *, framed, is_tcp):
        self.fh = fh  # None until it is accepted
        self.peer = peer
        self.framed = framed
        self.is_tcp = is_tcp
        self.rest = b""  # of a frame that the peer has begun to send
        self.up = Flow()  # from the peer to the mux: of the payload, if it is framed
        self.down = Flow()
        self.peer_writes = True
        self.peer_reads = True
        self.incomplete = 0  # bytes of the frame that it had begun when it finished
        self.went = False  # the peer closed, whatever was on the way to it
        self.how = None  # it was ended, if not by the peer
        self.failed = False
        self.is_closing = False
        self.closed = False
        self.missing = 0
        peer.setblocking(False)

    def __repr__(self):
        shown = ("framed", "is_tcp", "went", "how", "failed", "is_closing", "missing")
        state = ", ".join(f"{name}={getattr(self, name)}" for name in shown)
        return f"<{state}, up={vars(self.up)}, down={vars(self.down)}, rest={len(self.rest)}>"

    # The peer

    def peer_sends(self, size):
        if not self.peer_writes:
            return
        if not self.rest:
            data = self.up.next(size)
            self.up.put += len(data)
            self.rest = len(data).to_bytes(2, "big") + data if self.framed else data
        with contextlib.suppress(BlockingIOError):
            try:
                self.rest = self.rest[self.peer.send(self.rest) :]
            except ConnectionError:
                self.peer_writes = False

    def peer_reads_some(self, size):
        """Read; False if there is nothing."""
        if not self.peer_reads:
            return False
        try:
            data = self.peer.recv(size)
        except BlockingIOError:
            return False
        except ConnectionError:  # reported once; there may be data behind it
            return True
        if not data:
            self.peer_reads = False
            return False
        self.down.arrive(data)
        return True

    def peer_finishes(self):
        if self.peer_writes:
            self.peer_writes = False
            with contextlib.suppress(OSError):
                self.peer.shutdown(socket.SHUT_WR)

    def peer_goes(self):
        self.peer_writes = self.peer_reads = False
        self.went = True
        self.peer.close()

    # The account

    def check(self):
        """Check what has become of each byte, now that the connection has ended."""
        assert self.closed
        assert self.up.got <= self.up.put
        if self.how is None and not self.failed and not self.went:  # all it sent was read
            begun = self.up.put - self.up.got + (2 if self.framed and self.rest else 0)
            assert self.incomplete == begun - len(self.rest), self
        arrived = self.down.got + self.missing
        assert arrived <= self.down.put, self
        is_sure = not self.went and (not self.failed or self.how == "lose")
        if is_sure and (self.how is None or not self.is_tcp):  # else TCP may have been reset
            assert arrived == self.down.put, self


class Soak:
    """One mux, its connections, and what is done to them."""

    def __init__(self, mux, source, most):
        self.mux = mux
        self.source = source
        self.most = most
        self.live = []
        self.by_fh = {}
        self.by_address = {}
        self.totals = {"connections": 0, "bytes up": 0, "bytes down": 0, "missing": 0}
        self.ways = {}
        self.peak = 0
        self.size = Size("!H")
        self.plain = mux.listen("tcp://127.0.0.1:0")
        self.framed = mux.listen("tcp://127.0.0.1:0", buffered=self.size)
        self.server = socket.create_server(("127.0.0.1", 0))
        for listener in (self.plain, self.framed, self.server):
            make_small(listener)  # and what is accepted, by that

    # What is done

    def open(self):
        framed = self.source.random() < 0.3
        buffered = self.size if framed else None
        way = self.source.choice(["pair", "accept", "connect"])
        fh = None
        if way == "pair":
            fh, peer = socket.socketpair()
            make_small(fh)
            make_small(peer)
            self.mux.add(fh, buffered=buffered)
        elif way == "accept":
            listener = self.framed if framed else self.plain
            peer = socket.create_connection(listener.getsockname())
        else:
            url = "tcp://127.0.0.1:{}".format(*self.server.getsockname()[1:])
            fh = self.mux.connect(url, buffered=buffered)
            make_small(fh)
            peer, _ = self.server.accept()
        connection = Connection(fh, peer, framed=framed, is_tcp=way != "pair")
        if fh is None:
            self.by_address[listener, peer.getsockname()] = connection
        else:
            self.by_fh[fh] = connection
        self.live.append(connection)
        self.totals["connections"] += 1

    def end(self, connection, how):
        fh = connection.fh
        if fh is None or connection.how is not None or connection.closed:
            return
        if connection.is_closing and how != "kill":
            return  # the peer's end came first, and is accounted for as such
        connection.how = how
        self.ways[how] = self.ways.get(how, 0) + 1
        if how == "remove":
            connection.missing = self.mux.buflen(fh)
            self.mux.remove(fh)
            fh.close()
            self.ended(connection)
        elif how == "lose":
            fh.close()  # and the mux is not told
        else:
            getattr(self.mux, how)(fh)

    def step(self):
        if len(self.by_fh) + len(self.by_address) < self.most and self.source.random() < 0.5:
            self.open()
        if not self.live:
            return
        connection = self.source.choice(self.live)
        choice = self.source.random()
        size = self.source.choice([1, 10, 100, 1000, 10_000])
        if choice < 0.30:
            connection.peer_sends(size)
        elif choice < 0.60:
            self.send(connection, size)
        elif choice < 0.90:
            connection.peer_reads_some(size * 10)
        elif choice < 0.92:
            connection.peer_finishes()
        elif choice < 0.93 and connection.fh is not None:
            connection.peer_goes()
        elif choice < 0.96:
            self.end(connection, self.source.choice(["close", "kill", "remove", "lose"]))

    def send(self, connection, size):
        fh = connection.fh
        if fh is None or connection.closed or connection.how is not None or connection.failed:
            return
        data = connection.down.next(size)
        self.mux.send(fh, data[: size // 2], data[size // 2 :], later=self.source.random() < 0.5)
        connection.down.put += len(data)

    # What happens

    def turn(self):
        """Take one event; False if there was none."""
        event = self.mux.mux(0)
        if event.type == "timeout":
            return False
        if event.type == "connect":
            connection = self.by_address.pop((event.parent_fh, event.address))
            connection.fh = event.fh
            self.by_fh[event.fh] = connection
            return True
        connection = self.by_fh[event.fh]
        assert not connection.closed, f"{event.type} after closed"
        if event.type == "read":
            assert not connection.is_closing
            connection.up.arrive(event.data)
        elif event.type == "read_last":
            size, data = event.data[:2], event.data[2:]
            assert connection.framed
            assert data == pattern(connection.up.got, len(data)), "wrong bytes in half a frame"
            assert len(data) < int.from_bytes(size, "big") or len(size) < 2
            connection.incomplete = len(event.data)
        elif event.type == "error":
            connection.failed = True
        elif event.type == "closing":
            connection.is_closing = True
        elif event.type == "closed":
            connection.missing = event.missing
            connection.failed |= event.reason is not None
            self.ended(connection)
        return True

    def ended(self, connection):
        connection.closed = True
        del self.by_fh[connection.fh]

    def forget_ended(self):
        """Let the peers of what has ended read to the end, and check the account."""
        still = []
        for connection in self.live:
            if not connection.closed:
                still.append(connection)
                continue
            while connection.peer_reads_some(1_000_000):
                pass
            if connection.peer_reads:  # the last of it is still on its way
                still.append(connection)
                continue
            connection.peer.close()
            connection.check()
            self.totals["bytes up"] += connection.up.got
            self.totals["bytes down"] += connection.down.got
            self.totals["missing"] += connection.missing
        self.live = still

    def round(self):
        """Let connections come up to the most there may be, and go again."""
        for step in range(STEPS):
            self.step()
            if step % 3 == 0:
                self.turn()
            if step % 200 == 0:
                self.peak = max(self.peak, len(self.by_fh))
                self.forget_ended()
        for connection in self.live:
            connection.peer_finishes()
        limit = time.monotonic() + 60
        while self.live:
            assert time.monotonic() < limit, f"{len(self.live)} connections do not end"
            for connection in self.live:
                while connection.peer_reads_some(1_000_000):
                    pass
            while self.turn():
                pass
            self.forget_ended()
        assert self.by_fh == self.by_address == {}
        assert self.mux.has_events() == 0
        assert set(self.mux.handles()) == {self.plain, self.framed}


def descriptors():
    gc.collect()  # what tests before this one left to be collected
    with EventMux():  # as well as what a mux left that ended in another thread
        pass
    return len(list(Path("/proc/self/fd").iterdir()))


def memory():
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return sys.getallocatedblocks(), pages * resource.getpagesize()


@pytest.fixture
def most():
    """How many connections can be open at once: both ends are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * CONNECTIONS + SPARE
    if soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield min(CONNECTIONS, (limit - SPARE) // 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@pytest.mark.timeout(4 * SECONDS + 120)  # a round that has begun is gone through to its end
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc")
def test_each_byte_of_thousands_of_connections_is_accounted_for(most):
    print(f"\nseed {SEED}, {most} connections at once")
    if most < CONNECTIONS:
        print(f"RLIMIT_NOFILE does not allow {CONNECTIONS}")
    before = descriptors()
    until = time.monotonic() + SECONDS
    figures = []
    with EventMux() as mux:
        soak = Soak(mux, random.Random(SEED), most)
        with soak.server:
            while len(figures) < 2 or time.monotonic() < until:
                soak.round()
                # Selector, bell and rope, two for signals, three listeners.
                assert descriptors() == before + 8
                figures.append(memory())
    assert descriptors() == before
    blocks, resident = zip(*figures, strict=True)
    print(
        f"{len(figures)} rounds, {soak.peak} at once at most",
        soak.totals,
        soak.ways,
        f"{resident[0] >> 20} to {resident[-1] >> 20} MB",
    )
    assert min(soak.ways.values()) > 0
    assert blocks[-1] <= blocks[0] + GROWTH_BLOCKS, blocks
    assert resident[-1] <= resident[0] + GROWTH, resident
