"""A state machine over socketpairs: whatever is done in whatever order, each handle has one life.

The model of a handle is its events so far, what its peer has sent and read, and what was sent to
the peer. Each event is checked when it is handed out, and the balance of bytes at the end.
"""

import contextlib
import socket

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)

from eventmux import EventMux, Timeout
from eventmux.buffers import Size, Split

# One byte of text, so that Split and Size have whole and half records; and more than a socket takes
PAYLOADS = st.one_of(
    st.sampled_from([b"", b"\n", b"\x01", b"abc", b"\x03abc", b"one\ntwo\n", b"\x00\x00"]),
    st.integers(1, 30).map(lambda number: bytes([number]) * number * 997),
)
BUFFERS = {
    "plain": (None, lambda record: record),
    "split": (Split(), lambda record: record + b"\n"),
    "size": (Size("B"), lambda record: bytes([len(record)]) + record),
}


class Life:
    """What is known about one handle."""

    def __init__(self, fh, peer, kind):
        self.fh = fh
        self.peer = peer
        self.frame = BUFFERS[kind][1]
        self.kind = kind
        self.kinds = []
        self.received = b""  # by the mux, with what the buffer has taken away put back
        self.sent = b""  # by the peer
        self.taken = b""  # by the peer, of what the mux sent
        self.given = b""  # to mux.send(), while the mux took it
        self.missing = 0
        self.watched = True
        self.closing = False  # by our side
        self.killed = False
        self.failed = False
        self.peer_writes = True
        self.peer_open = True

    def happened(self, event):
        """Check an event against what came before it."""
        kind = event.type
        assert self.watched, f"{kind} for a handle that is not watched"
        assert "closed" not in self.kinds, f"{kind} after closed"
        if kind == "ready":
            assert self.kinds == []
        if kind in ("read", "read_last", "sent"):
            assert self.kinds[:1] == ["ready"]
            assert "closing" not in self.kinds
        if kind == "read":
            assert "read_last" not in self.kinds
            self.received += self.frame(event.data)
        if kind == "read_last":
            assert "read_last" not in self.kinds
            self.received += event.data
        if kind == "error":
            self.failed = True
            assert "closing" not in self.kinds
        if kind == "closing":
            assert "closing" not in self.kinds
            assert event.reason is None or self.failed
        if kind == "closed":
            assert self.killed or self.kinds[-1:] == ["closing"]
            self.missing = event.missing
            self.failed |= event.reason is not None
            self.watched = False
            assert self.fh.fileno() == -1
        if self.killed:
            assert kind == "closed"
        self.kinds.append(kind)

    def check_balance(self):
        """What arrived is what was sent, or the beginning of it."""
        tail = self.frame(b"")
        if self.kind == "split" and not self.sent.startswith(self.received):
            # The remainder of a Split has no separator: it was put back once too often.
            self.received = self.received.removesuffix(tail)
        assert self.sent.startswith(self.received)
        assert self.given.startswith(self.taken)
        if self.failed or self.killed or not self.kinds or self.kinds[-1] != "closed":
            return
        if not self.closing:
            assert self.received == self.sent
        if self.peer_open:
            assert self.missing == 0
            assert self.taken == self.given


class Lifecycle(RuleBasedStateMachine):
    """Things that a program and its peers do."""

    handles = Bundle("handles")

    @initialize()
    def start(self):
        self.stack = contextlib.ExitStack()
        self.mux = self.stack.enter_context(EventMux(read_size=4096, reads_per_turn=3))
        self.lives = {}

    @rule(target=handles, kind=st.sampled_from(sorted(BUFFERS)), water=st.sampled_from([None, 500]))
    def add(self, kind, water):
        if len(self.lives) == 8:
            return multiple()
        fh, peer = socket.socketpair()
        for sock in (fh, peer):
            self.stack.enter_context(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        peer.setblocking(False)
        self.mux.add(fh, buffered=BUFFERS[kind][0], high_water=water, meta=fh.fileno())
        self.lives[fh] = Life(fh, peer, kind)
        return fh

    # The peer

    @rule(fh=handles, data=PAYLOADS)
    def peer_sends(self, fh, data):
        life = self.lives[fh]
        if life.peer_writes:
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                life.sent += data[: life.peer.send(data)]

    @rule(fh=handles, size=st.sampled_from([1, 1000, 100_000]))
    def peer_reads(self, fh, size):
        life = self.lives[fh]
        if life.peer_open:
            with contextlib.suppress(BlockingIOError, ConnectionResetError):
                life.taken += life.peer.recv(size)

    @rule(fh=handles)
    def peer_finishes(self, fh):
        life = self.lives[fh]
        if life.peer_writes:
            life.peer_writes = False
            with contextlib.suppress(OSError):
                life.peer.shutdown(socket.SHUT_WR)

    @rule(fh=handles)
    def peer_goes(self, fh):
        life = self.lives[fh]
        life.peer_writes = life.peer_open = False
        life.peer.close()

    # The program

    @rule(fh=handles, data=st.lists(PAYLOADS, max_size=3), later=st.booleans())
    def send(self, fh, data, later):
        life = self.lives[fh]
        if fh not in self.mux.handles():
            return
        before = self.mux.buflen(fh)
        unsent = self.mux.send(fh, *data, later=later)
        assert unsent == self.mux.buflen(fh) <= before + sum(map(len, data))
        if not life.closing:
            life.given += b"".join(data)

    @rule(fh=handles)
    def close(self, fh):
        if fh in self.mux.handles():
            self.lives[fh].closing = True
            self.mux.close(fh)

    @rule(fh=handles)
    def kill(self, fh):
        if fh in self.mux.handles():
            self.lives[fh].killed = True
            self.mux.kill(fh, "killed")
            assert fh.fileno() == -1

    @rule(fh=handles)
    def remove(self, fh):
        if fh in self.mux.handles():
            self.lives[fh].watched = False
            self.mux.remove(fh)
            assert fh.gettimeout() is None

    @rule(fh=handles)
    def add_again(self, fh):
        """A removed handle starts another life; what was in its buffers is gone."""
        life = self.lives[fh]
        if not life.watched and fh.fileno() >= 0 and life.peer_open and life.peer_writes:
            with contextlib.suppress(BlockingIOError):
                while fh.setblocking(False) or fh.recv(100_000):
                    pass
            with contextlib.suppress(BlockingIOError):
                while life.peer.recv(100_000):
                    pass
            fh.setblocking(True)
            self.mux.add(fh, buffered=BUFFERS[life.kind][0], meta=fh.fileno())
            self.lives[fh] = Life(fh, life.peer, life.kind)

    # The loop

    def turn(self, only=None):
        expected = self.mux.has_events() if only is None else None
        event = self.mux.mux(0, only=only)
        if event is None:
            assert only not in self.mux.handles()
            return False
        if isinstance(event, Timeout):
            assert not expected, "events were promised"
            return False
        assert event.fh is only or only is None
        self.lives[event.fh].happened(event)
        return True

    @rule()
    def one_event(self):
        self.turn()

    @rule(fh=handles)
    def one_event_of(self, fh):
        self.turn(only=fh)

    @rule()
    def all_events(self):
        while self.turn():
            pass

    @invariant()
    def each_watched_handle_is_there(self):
        for fh in self.mux.handles():
            life = self.lives[fh]
            assert life.watched
            assert self.mux.meta(fh) == fh.fileno() >= 0

    def teardown(self):
        if not hasattr(self, "stack"):
            return
        with self.stack:
            idle = 0
            while idle < 3:  # a turn that reads half a record has no event
                idle = 0 if self.turn() else idle + 1
                for life in self.lives.values():
                    if life.peer_open:
                        with contextlib.suppress(BlockingIOError, ConnectionResetError):
                            while data := life.peer.recv(100_000):
                                life.taken += data
                                idle = 0
            assert self.mux.has_events() == 0
            for life in self.lives.values():
                life.check_balance()
            for fh in self.mux.handles():
                life = self.lives[fh]
                assert life.peer_writes, "a peer went and nobody noticed"
                assert not life.closing
                assert self.mux.buflen(fh) == 0


TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(stateful_step_count=40)
