"""One handle that always has something to do does not keep the loop to itself.

Nothing is timed: what is counted is how much of the one comes between two events of the others.
"""

import contextlib
import os
import socket

import pytest
from support.fakes import ClockedSelector, FakeClock
from support.pump import SELECTORS_IN_TURN, drain, kinds, take

from eventmux import Event, EventMux, Timeout, Timer
from eventmux.buffers import Size, Split

PINGS = 100
READ_SIZE = 4096
READS_PER_TURN = 5
ROUNDS = 20

pytestmark = pytest.mark.skipif(os.name == "nt", reason="socket pairs and selectors as of POSIX")


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(params=SELECTORS_IN_TURN, ids=lambda kind: kind.__name__)
def mux(request, clock):
    selector = ClockedSelector(clock, selector=request.param(), most_calls=100_000)
    mux = EventMux(
        selector=selector,
        read_size=READ_SIZE,
        reads_per_turn=READS_PER_TURN,
        clock=clock,
        spin=0,
    )
    with mux:
        yield mux


class Firehose(socket.socket):
    """A socket that is always ready: as much as is asked for is there, and all is taken."""

    water = b"x"
    calls = 0
    meanwhile = staticmethod(lambda: None)

    def recv(self, size, _flags=0):
        self.calls += 1
        self.meanwhile()
        return (self.water * size)[:size]

    def recvmsg(self, size, *_):
        return self.recv(10), [], 0, None

    def send(self, data, _flags=0):
        self.calls += 1
        self.meanwhile()
        return len(data)


@pytest.fixture
def firehose(stack):
    """Make a firehose; the kernel thinks that there is something to read, and never less."""

    def make(kind=socket.SOCK_STREAM, water=b"x"):
        one, two = socket.socketpair(socket.AF_UNIX, kind)
        stack.enter_context(two).send(b"x")
        hose = stack.enter_context(Firehose(fileno=one.detach()))
        hose.water = water
        return hose

    return make


@pytest.fixture
def pings(mux, stack):
    """A hundred connections, by handle; each has sent one byte."""
    peers = {}
    for _ in range(PINGS):
        fh, peer = socket.socketpair()
        peers[fh] = stack.enter_context(peer)
        mux.add(fh)
    take(mux, PINGS)
    for peer in peers.values():
        peer.send(b"p")
    return peers


def gaps(mux, pings, hose, rounds=ROUNDS):
    """Let all pings come again and again; return what of the hose was between two of them."""
    between = [0]
    counts = dict.fromkeys(pings, 0)
    while min(counts.values()) < rounds:
        event = mux.mux(0)
        if event.fh in pings:
            counts[event.fh] += 1
            assert counts[event.fh] <= min(counts.values()) + 1, "one ping is before the others"
            pings[event.fh].send(b"p")
            between.append(0)
        elif event.fh is hose:
            between[-1] += 1
            assert between[-1] < 100_000, "the others do not get their turn"
    return between


def test_a_plain_stream(mux, pings, firehose):
    hose = firehose()
    mux.add(hose)
    between = gaps(mux, pings, hose)
    assert max(between) <= 2  # one in each turn, and the end of one turn meets the next
    assert hose.calls <= ROUNDS + 2


@pytest.mark.parametrize(
    ("buffered", "water", "size"),
    [(Split(), b"x\n", 2), (Split(), b"\n", 1), (Size("B"), b"\x01x", 2)],
    ids=["split", "empty records", "size"],
)
def test_a_stream_of_tiny_records(mux, pings, firehose, buffered, water, size):
    # What one read brought is handed out, and then it is the turn of the others.
    hose = firehose(water=water)
    mux.add(hose, buffered=buffered)
    between = gaps(mux, pings, hose)
    assert max(between) <= 2 * READ_SIZE // size
    assert sum(between) <= (ROUNDS + 2) * READ_SIZE // size
    assert hose.calls <= ROUNDS + 2


def test_a_stream_of_one_record_without_an_end(mux, pings, firehose):
    hose = firehose()
    mux.add(hose, buffered=Split())
    between = gaps(mux, pings, hose)
    assert sum(between) <= 1  # ready
    assert hose.calls <= (ROUNDS + 2) * READS_PER_TURN


def test_datagrams(mux, pings, firehose):
    hose = firehose(socket.SOCK_DGRAM)
    mux.add(hose)
    between = gaps(mux, pings, hose)
    assert max(between) <= 2 * READS_PER_TURN
    assert sum(between) <= (ROUNDS + 2) * READS_PER_TURN


def test_packets(mux, pings, firehose):
    hose = firehose(socket.SOCK_SEQPACKET)
    mux.add(hose)
    assert max(gaps(mux, pings, hose)) <= 2


def test_a_file(mux, pings):
    file = open("/dev/zero", "rb", buffering=0)  # noqa: SIM115  # the mux closes it
    mux.add(file)
    assert max(gaps(mux, pings, file)) <= 2


def test_a_peer_that_reads_faster_than_we_write(mux, pings, firehose):
    hose = firehose()
    mux.add(hose)
    mux.want_read(hose, False)
    mux.send(hose, *[b"x" * 200_000] * 2000)
    between = gaps(mux, pings, hose)
    assert sum(between) <= 2  # ready, or what was read before
    assert mux.buflen(hose) > 0, "all of it went in a few turns"


def test_connections_that_keep_coming(mux, pings, stack):
    listener = mux.listen("tcp://127.0.0.1:0")
    for _ in range(300):
        stack.enter_context(socket.create_connection(listener.getsockname()))
    between = [0]
    counts = dict.fromkeys(pings, 0)
    while sum(counts.values()) < 5 * PINGS:
        event = mux.mux(0)
        if event.type == "connect":
            between[-1] += 1
        elif event.fh in pings:
            counts[event.fh] += 1
            pings[event.fh].send(b"p")
            between.append(0)
    assert sum(between) > 4 * 3
    assert max(between) <= 2 * 4  # few in each turn, and the end of one turn meets the next
    assert max(counts.values()) <= 6


@pytest.mark.parametrize("water", [None, b"x\n"])
def test_a_timer_does_not_wait_for_what_is_queued(mux, clock, pings, firehose, water):
    hose = firehose(water=water or b"x")
    mux.add(hose, buffered=Split() if water else None)
    mux.timer(1, "beat", repeat=True)
    for _ in range(50):
        for _ in range(7):
            assert mux.mux(0).type in ("read", "ready")
        clock.advance(1)
        assert mux.mux(0) == Timer(data="beat")


def test_events_of_other_threads_do_not_wait_for_a_firehose(mux, pings, firehose):
    hose = firehose(water=b"x\n")
    mux.add(hose, buffered=Split())
    mux.mux(0)
    mux.post(Event())
    assert Event() in take(mux, READ_SIZE + 2 * PINGS)


# A deadline is not put off


def test_a_deadline_although_a_record_goes_on_without_end(mux, clock, firehose):
    hose = firehose()
    mux.add(hose, buffered=Split())
    assert mux.mux(0).type == "ready"
    hose.meanwhile = lambda: clock.advance(0.01)
    start = clock.now
    assert mux.mux(3) == Timeout()
    assert 3 <= clock.now - start <= 3 + 2 * READS_PER_TURN * 0.01


def test_a_deadline_although_output_goes_away_in_pieces(mux, clock, firehose):
    hose = firehose()
    mux.add(hose)
    assert mux.mux(0).type == "ready"
    mux.want_read(hose, False)
    mux.send(hose, *[b"x" * 200_000] * 4000)
    hose.meanwhile = lambda: clock.advance(0.01)
    start = clock.now
    assert mux.mux(3) == Timeout()
    assert 3 <= clock.now - start <= 3 + 2 * 16 * 0.01
    assert mux.buflen(hose) > 0, "it went too fast to see anything"


def test_a_deadline_although_one_byte_comes_at_a_time(mux, clock, stack):
    fh, peer = socket.socketpair()
    stack.enter_context(peer)
    mux.add(fh, buffered=Size("!I"))
    assert kinds(drain(mux)) == ["ready"]
    mux._poller._selector.meanwhile.extend([(0.1, lambda: peer.send(b"\x01"))] * 100)
    start = clock.now
    assert mux.mux(2) == Timeout()
    assert clock.now - start == pytest.approx(2)
