"""A state machine over handles of all kinds: whatever is done in whatever order, each has one life.

The model of a handle is its events so far, what its peer has sent and read, and what was sent to
the peer: bytes for streams, whole packets for those that have packets. Each event is checked when
it is handed out, and the balance at the end. Timers run on a clock that only the machine moves.
It is run with each selector.
"""

import contextlib
import errno
import fcntl
import io
import os
import selectors
import socket
from dataclasses import dataclass

import pytest
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
from support.fakes import FakeClock

from eventmux import Event, EventMux, Timeout, Timer
from eventmux.buffers import Size, Split

READ_SIZE = 4096
MOST_BETWEEN = 64  # events that are handed out before a timer that is due
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
PACKETS = {"dgram": socket.SOCK_DGRAM, "seqpacket": socket.SOCK_SEQPACKET}
PIPES = ("pipe in", "pipe out")
KINDS = [*BUFFERS, *PACKETS, *PIPES]


@dataclass(slots=True)
class Posted(Event):
    """An event of the machine's own; they come in order."""

    type = "posted"
    number: int = 0


class End:
    """The peer's end of a stream, a pipe or a pair of packet sockets."""

    def __init__(self, end, kind):
        self.end = end
        self.has_packets = kind in PACKETS
        self.writes = kind != "pipe out"  # it has not finished
        self.is_open = True
        os.set_blocking(end.fileno(), False)

    def send(self, data):
        """Return what was sent of it."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionError):
            try:
                return data[: os.write(self.end.fileno(), data)]
            except OSError as error:
                if error.errno not in (errno.EMSGSIZE, errno.ENOTCONN):
                    raise
        return None

    def receive(self, size=100_000):
        """Return what there is to read, None if there is nothing."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            return os.read(self.end.fileno(), size)
        return None

    def finish(self):
        self.writes = False
        if isinstance(self.end, socket.socket):
            with contextlib.suppress(OSError):
                self.end.shutdown(socket.SHUT_WR)
        else:
            self.close()

    def close(self):
        self.writes = self.is_open = False
        self.end.close()


class Life:
    """What is known about one handle."""

    def __init__(self, fh, peer, kind, limit=None, half_close=False):
        self.fh = fh
        self.peer = peer
        self.kind = kind
        self.has_packets = kind in PACKETS
        self.frame = BUFFERS.get(kind, BUFFERS["plain"])[1]
        self.limit = limit
        self.half_close = half_close
        self.ending = False  # by our side: shutdown()
        self.kinds = []
        # Lists of packets, or of pieces; `bytes_of()` makes one of the pieces.
        self.received = []  # by the mux, with what the buffer has taken away put back
        self.sent = []  # by the peer
        self.taken = []  # by the peer, of what the mux sent
        self.given = []  # to mux.send(), while the mux took it
        self.missing = 0
        self.watched = True
        self.closing = False  # by our side
        self.killed = False
        self.failed = False
        self.lost = False  # closed behind the mux's back
        self.deaf = False  # it is not to be read from, and nothing of it was queued then

    @property
    def has_ready(self):
        return self.kind not in ("dgram", "pipe in")

    def happened(self, event):
        """Check an event against what came before it."""
        kind = event.type
        assert self.watched, f"{kind} for a handle that is not watched"
        assert "closed" not in self.kinds, f"{kind} after closed"
        if self.killed:
            assert kind == "closed"
        getattr(self, f"on_{kind}")(event)
        self.kinds.append(kind)

    def on_ready(self, event):
        assert self.has_ready
        assert self.kinds == []

    def is_up(self):
        return self.kinds[:1] == ["ready"] or not self.has_ready

    def on_read(self, event):
        assert self.is_up()
        assert not self.deaf
        assert not {"closing", "half_closed", "read_last"} & set(self.kinds)
        self.received.append(event.data if self.has_packets else self.frame(event.data))

    def on_read_last(self, event):
        assert self.is_up()
        assert not {"closing", "half_closed", "read_last"} & set(self.kinds)
        assert self.kind in BUFFERS
        self.received.append(event.data)

    def on_sent(self, event):
        assert self.is_up()
        assert not self.closing or "closing" not in self.kinds

    def on_error(self, event):
        if self.has_packets and event.errno == errno.EMSGSIZE:
            if event.exception is None:  # longer than read_size
                self.received.append(event.data)
            else:
                self.given.remove(event.data)
            return
        if self.kind == "dgram" and event.errno != errno.EBADF:
            if event.data in self.given and not self.peer.is_open:
                self.given.remove(event.data)
            return
        assert "error" not in self.kinds or self.has_packets
        assert "closing" not in self.kinds
        self.failed = True

    def on_half_closed(self, event):
        assert self.half_close
        assert self.is_up()
        assert not {"closing", "half_closed"} & set(self.kinds)
        assert not self.peer.writes

    def on_closing(self, event):
        assert "closing" not in self.kinds
        assert event.reason is None or self.failed

    def on_closed(self, event):
        assert self.killed or "closing" in self.kinds
        self.missing = event.missing
        self.failed |= event.reason is not None
        self.watched = False
        assert number_of(self.fh) == -1

    def bytes_of(self, pieces):
        return pieces if self.has_packets else b"".join(pieces)

    def check_balance(self):
        """What arrived is what was sent, or the beginning of it."""
        received, sent = self.bytes_of(self.received), self.bytes_of(self.sent)
        taken, given = self.bytes_of(self.taken), self.bytes_of(self.given)
        if self.kind in BUFFERS and not sent.startswith(received):
            # The remainder of a Split has no separator: it was put back once too often.
            received = received.removesuffix(self.frame(b""))
        assert sent[: len(received)] == received
        if self.has_packets:  # that one was refused may be an event that kill() dropped
            rest = iter(given)
            assert all(packet in rest for packet in taken)
        else:
            assert given.startswith(taken)
        if self.failed or self.killed or not self.kinds or self.kinds[-1] != "closed":
            return
        if not self.closing:
            assert received == sent
        if self.peer.is_open:
            assert self.missing == 0
            assert taken == given


def number_of(fh):
    try:
        return fh.fileno()
    except ValueError:  # a closed file
        return -1


class Clockwork:
    """The timers that the machine has made, and what they should do."""

    def __init__(self, now):
        self.now = now
        # By name: when it is due, its order, and the interval if it repeats. When the mux comes to
        # look at one that repeats decides which beats are left out: then it is due at the soonest.
        self.running = {}
        self.count = 0

    def add(self, name, due, interval):
        self.count += 1  # of those that are due at one time, the first that was set comes first
        self.running[name] = (due, self.count, interval)

    def once(self):
        """Return when each one is due, and its order, of those that do not repeat."""
        return [(due, order) for due, order, interval in self.running.values() if not interval]

    def is_due(self):
        return any(due <= self.now for due, _ in self.once())

    def ring(self, name):
        """Check an event of a timer."""
        due, order, interval = self.running[name]
        assert due <= self.now
        if interval:
            self.running[name] = (due + interval, order, interval)
        else:
            assert (due, order) == min(self.once())
            del self.running[name]


class Lifecycle(RuleBasedStateMachine):
    """Things that a program and its peers do."""

    handles = Bundle("handles")
    make_selector = selectors.DefaultSelector

    @initialize()
    def start(self):
        self.stack = contextlib.ExitStack()
        self.clock = FakeClock(1000)
        mux = EventMux(
            selector=self.make_selector(), read_size=READ_SIZE, reads_per_turn=3, clock=self.clock
        )
        self.mux = self.stack.enter_context(mux)
        self.lives = {}
        self.timers = Clockwork(self.clock.now)
        self.watches = {}
        self.posted = []
        self.put_off = 0  # events since a timer was due
        self.count = 0

    @rule(
        target=handles,
        kind=st.sampled_from(KINDS),
        water=st.sampled_from([None, 500]),
        limit=st.sampled_from([None, None, 20_000]),
        half=st.booleans(),
    )
    def add(self, kind, water, limit, half):
        if len(self.lives) == 10:
            return multiple()
        fh, end = self.pair(kind)
        peer = End(end, kind)
        buffered = BUFFERS.get(kind, BUFFERS["plain"])[0]
        meta = fh.fileno()
        half = half and kind not in ("dgram", *PIPES)
        options = {"buffered": buffered, "high_water": water, "max_outbuffer": limit}
        self.mux.add(fh, meta=meta, half_close=half, **options)
        self.lives[fh] = Life(fh, peer, kind, limit, half)
        return fh

    def pair(self, kind):
        if kind in PIPES:
            reader, writer = os.pipe()
            if hasattr(fcntl, "F_SETPIPE_SZ"):
                fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
            ends = io.FileIO(reader, "rb"), io.FileIO(writer, "wb")
            pair = ends if kind == "pipe in" else ends[::-1]
        else:
            pair = socket.socketpair(socket.AF_UNIX, PACKETS.get(kind, socket.SOCK_STREAM))
            for sock in pair:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for end in pair:
            self.stack.enter_context(end)
        return pair

    # The peer

    @rule(fh=handles, data=PAYLOADS)
    def peer_sends(self, fh, data):
        life = self.lives[fh]
        if life.peer.writes and (data or life.kind == "dgram"):
            sent = life.peer.send(data)
            if sent is not None:
                life.sent.append(sent[:READ_SIZE] if life.has_packets else sent)

    @rule(fh=handles, size=st.sampled_from([1, 1000, 100_000]))
    def peer_reads(self, fh, size):
        life = self.lives[fh]
        if life.peer.is_open and life.kind != "pipe in":
            data = life.peer.receive(100_000 if life.has_packets else size)
            if data or (data is not None and life.kind == "dgram"):
                life.taken.append(data)

    @rule(fh=handles)
    def peer_finishes(self, fh):
        if self.lives[fh].peer.writes and self.lives[fh].kind != "dgram":
            self.lives[fh].peer.finish()

    @rule(fh=handles)
    def peer_goes(self, fh):
        self.lives[fh].peer.close()

    # The program

    @rule(fh=handles, data=st.lists(PAYLOADS, max_size=3), later=st.booleans())
    def send(self, fh, data, later):
        life = self.lives[fh]
        if fh not in self.mux.handles():
            return
        if life.kind == "pipe in":
            with pytest.raises(TypeError):
                self.mux.send(fh, *data)
            return
        if life.kind == "seqpacket" and b"" in data and not life.ending:
            before = self.mux.buflen(fh)
            if not (life.closing or life.lost) and life.peer.writes:
                with pytest.raises(ValueError, match="empty packet"):
                    self.mux.send(fh, *data)
                assert self.mux.buflen(fh) == before
            return
        before = self.mux.buflen(fh)
        if life.ending and not life.closing and any(data):
            with pytest.raises(ValueError, match="has ended our side"):
                self.mux.send(fh, *data, later=later)
            return
        unsent = self.mux.send(fh, *data, later=later)
        more = len(data) if life.has_packets else sum(map(len, data))
        assert unsent == self.mux.buflen(fh) <= before + more
        if life.limit is not None and life.peer.writes and not later:
            assert unsent <= life.limit or life.closing
        if not life.closing:
            life.given += data

    @rule(fh=handles)
    def close(self, fh):
        if fh in self.mux.handles():
            self.lives[fh].closing = True
            self.mux.close(fh)

    @rule(fh=handles)
    def shutdown(self, fh):
        life = self.lives[fh]
        if fh not in self.mux.handles():
            return
        if life.kind in ("dgram", "pipe in"):
            with pytest.raises(TypeError):
                self.mux.shutdown(fh)
        elif life.kind == "pipe out":
            self.close(fh)
        else:
            before = self.mux.buflen(fh)
            self.mux.shutdown(fh)
            life.ending |= self.ends_by_this(life) and not life.closing
            assert self.mux.buflen(fh) <= before

    def ends_by_this(self, life):
        """False if the mux has found out before that nothing more can be sent."""
        return self.mux._channels[life.fh]._extras.is_ending

    @rule(fh=handles)
    def kill(self, fh):
        if fh in self.mux.handles():
            self.lives[fh].killed = True
            self.mux.kill(fh, "killed")
            assert number_of(fh) == -1

    @rule(fh=handles)
    def remove(self, fh):
        life = self.lives[fh]
        if fh in self.mux.handles():
            life.watched = False
            self.mux.remove(fh)
            assert life.lost or os.get_blocking(fh.fileno())

    @rule(fh=handles)
    def lose(self, fh):
        """The program closes a handle and does not tell; its number is used again soon."""
        life = self.lives[fh]
        if fh in self.mux.handles():
            life.lost = True
            fh.close()

    @rule(fh=handles)
    def add_again(self, fh):
        """A removed handle starts another life; what was in its buffers is gone."""
        life = self.lives[fh]
        peer = life.peer
        if (
            life.kind in BUFFERS
            and not life.watched
            and number_of(fh) >= 0
            and peer.is_open
            and peer.writes
        ):
            with contextlib.suppress(BlockingIOError):
                while fh.setblocking(False) or fh.recv(100_000):
                    pass
            while peer.receive():
                pass
            fh.setblocking(True)
            self.mux.add(fh, buffered=BUFFERS[life.kind][0], meta=fh.fileno())
            self.lives[fh] = Life(fh, peer, life.kind)

    @rule(fh=handles, wanted=st.booleans())
    def want_read(self, fh, wanted):
        if fh in self.mux.handles():
            self.mux.want_read(fh, wanted)
            self.lives[fh].deaf = not wanted and not self.mux.has_events()

    @rule(fh=handles, kind=st.sampled_from(sorted(BUFFERS)))
    def set_buffer(self, fh, kind):
        """Cut what comes in another way; only when nothing is queued that was cut before."""
        life = self.lives[fh]
        if fh in self.mux.handles() and life.kind in BUFFERS and not self.mux.has_events():
            if life.kind == "split":
                life.received = [b"".join(life.received)]
            if "half_closed" not in life.kinds:  # else nothing is cut any more
                life.kind, life.deaf = kind, False
                life.frame = BUFFERS[kind][1]
            self.mux.set(fh, buffered=BUFFERS[kind][0])

    # Timers, and events of the program's own

    @rule(seconds=st.integers(0, 5), repeat=st.booleans())
    def set_timer(self, seconds, repeat):
        if len(self.watches) < 5:
            self.count += 1
            seconds = max(seconds, repeat)
            watch = self.mux.timer(seconds, self.count, repeat=repeat)
            self.watches[self.count] = watch
            self.timers.add(self.count, self.clock.now + seconds, seconds if repeat else 0)

    @rule(seconds=st.integers(1, 12))
    def time_passes(self, seconds):
        self.clock.advance(seconds)
        self.timers.now = self.clock.now

    @rule(choice=st.integers(0, 4))
    def cancel_timer(self, choice):
        if choice < len(self.watches):
            name = sorted(self.watches)[choice]
            self.watches.pop(name).cancel()
            self.timers.running.pop(name, None)

    @rule(way=st.sampled_from(["post", "push_event"]))
    def post(self, way):
        self.count += 1
        self.posted.append((way, self.count))
        getattr(self.mux, way)(Posted(number=self.count))

    # The loop

    def turn(self, only=None):
        expected = self.mux.has_events() if only is None else None
        event = self.mux.mux(0, only=only)
        if event is None:
            assert only not in self.mux.handles()
            return False
        if isinstance(event, Timeout):
            assert not expected or self.is_hearing_out(), "events were promised"
            assert only is not None or not self.timers.is_due(), "a timer is due"
            return False
        assert only is None or event.fh is only
        if only is None and self.timers.is_due():
            # What waits has its turn between two rounds of timers, but no more of it.
            self.put_off = 0 if isinstance(event, Timer) else self.put_off + 1
            assert self.put_off <= MOST_BETWEEN, "traffic put a timer off"
        if isinstance(event, Timer):
            self.timers.ring(event.data)
        elif isinstance(event, Posted):
            of_this_way = [entry for entry in self.posted if entry[1] == event.number]
            ((way, _),) = of_this_way
            assert event.number == next(number for how, number in self.posted if how == way)
            self.posted.remove((way, event.number))
        else:
            self.lives[event.fh].happened(event)
        return True

    def is_hearing_out(self):
        """True if a `Closed` that was queued waits for a peer to read the last words."""
        channels = self.mux._channels.values()
        return any(
            getattr(channel, "_extras", None) and channel._extras.lingering for channel in channels
        )

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
            assert self.mux.meta(fh) == number_of(fh) >= 0 or life.lost

    def teardown(self):
        if not hasattr(self, "stack"):
            return
        with self.stack:
            self.settle()
            assert self.mux.has_events() == 0
            assert self.posted == []
            for life in self.lives.values():
                life.check_balance()
            for fh in self.mux.handles():
                self.check_watched(self.lives[fh])

    def settle(self):
        """Let everything happen that is under way."""
        for watch in self.watches.values():
            watch.cancel()
        self.timers = Clockwork(self.clock.now)
        for fh in self.mux.handles():
            self.mux.want_read(fh, True)
            self.lives[fh].deaf = False
        idle = 0
        # A turn that reads half a record has no event, nor has one that looks after one handle.
        while idle < 5 + len(self.mux.handles()):
            idle = 0 if self.turn() else idle + 1
            self.clock.advance(1)  # for datagrams whose receiver was full
            for life in self.lives.values():
                if life.peer.is_open and life.kind != "pipe in":
                    while data := life.peer.receive():
                        life.taken.append(data)
                        idle = 0
                    if data is not None and life.kind == "dgram":
                        life.taken.append(data)
                        idle = 0

    def check_watched(self, life):
        """Check one that is still there when nothing happens any more."""
        assert not life.lost, "it was closed and nobody noticed"
        assert not life.closing
        assert self.mux.buflen(life.fh) == 0
        if life.kind == "pipe out":
            assert life.peer.is_open, "the reader went and nobody noticed"
        elif life.half_close and not life.peer.writes:
            assert "half_closed" in life.kinds
            assert life.peer.is_open, "a peer went altogether and nobody noticed"
            assert not life.ending, "both sides have ended and nobody noticed"
        elif life.kind != "dgram":
            assert life.peer.writes, "a peer went and nobody noticed"
        if not life.lost and life.kind not in ("split", "size"):
            assert life.bytes_of(life.received) == life.bytes_of(life.sent)


def machine(kind):
    """Return the test case of the machine with one selector."""

    class WithSelector(Lifecycle):
        make_selector = kind

    WithSelector.__qualname__ = WithSelector.__name__ = f"Lifecycle{kind.__name__}"
    case = WithSelector.TestCase
    case.settings = settings(stateful_step_count=40)
    return case


for _name in ("EpollSelector", "PollSelector", "SelectSelector"):
    if hasattr(selectors, _name):
        globals()[f"TestLifecycle{_name}"] = machine(getattr(selectors, _name))
