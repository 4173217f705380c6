"""What is sent to a peer last, it gets: behind a bad record, and behind input that nobody reads."""

import contextlib
import select
import socket
import threading

import pytest
from support.meeting import meet
from support.pump import PATIENCE, drain, kinds, receive, until

from eventmux import Closed, Closing, Error, EventMux, MalformedRecord, Read, Ready
from eventmux._channels import streams
from eventmux._channels.lingering import discard
from eventmux.buffers import HTTP, Regexp, Size, Split

GET = b"GET / HTTP/1.1\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n"
HUGE = b"x" * 3_000_000  # more than a kernel buffers
LONG = b"x" * 400_000  # more than it buffers of a UNIX socket


class Shouting(Split):
    """A discipline of the program's: it takes no capitals."""

    __slots__ = ()

    def fresh(self):
        return Shouting()

    def write(self, data):
        good, _, bad = data.partition(b"A")
        super().write(good)
        if bad:
            raise MalformedRecord("a capital")


# Two good records, and what is wrong behind them.
BAD = {
    "split": (Split(max_size=20), b"one\ntwo\n" + b"x" * 99),
    "regexp": (Regexp(rb"(.*)\n", max_size=20), b"one\ntwo\n" + b"x" * 99),
    "size": (Size("B", max_size=20), b"\3one\3two\xff"),
    "too small": (Size("B", -4), b"\x07one\x07two\0"),
    "400": (HTTP(), GET + GET + b"nonsense\r\n\r\n"),
    "413": (HTTP(max_size=100), GET + GET + POST % 101),
    "431": (HTTP(max_header=50), GET + GET + b"GET / HTTP/1.1\r\na: " + b"b" * 99),
    "own": (Shouting(), b"one\ntwo\nAbc"),
}


@pytest.fixture(params=BAD.values(), ids=BAD)
def bad(request, mux, pair):
    """A handle that is up, and a peer that has sent what is bad behind two good records."""
    buffered, stream = request.param
    fh, peer = pair()
    mux.add(fh, buffered=buffered)
    assert mux.mux(PATIENCE) == Ready(fh)
    peer.send(stream)
    return fh, peer


@pytest.mark.parametrize("later", [False, True])
def test_the_answers_to_the_good_ones_and_to_the_error_leave(mux, bad, later):
    fh, peer = bad
    seen = []
    for event in mux:
        seen.append(event.type)
        if event.type in ("read", "error", "closing"):
            mux.send(fh, event.type.encode() + b"\n", later=later)
    assert seen == ["read", "read", "error", "closing", "closed"]
    assert receive(peer) == b"read\nread\nerror\nclosing\n"


def test_long_answers_leave_too(mux, bad):
    fh, peer = bad
    data = b""
    events = []
    while not events or events[-1].type != "closed":
        event = mux.mux(0)
        if event.type in ("read", "error", "closing"):
            mux.send(fh, LONG)
        if event.fh is fh:
            events.append(event)
        data += receive(peer)
    assert data == 4 * LONG
    assert events[-1] == Closed(fh, 0, events[2].error)
    assert [type(event) for event in events[2:4]] == [Error, Closing]


def test_nothing_is_read_behind_a_bad_record(mux, bad):
    _, peer = bad
    events = [mux.mux(0) for _ in range(4)]
    peer.send(b"one\n" + GET)
    events += drain(mux)
    assert kinds(events) == ["read", "read", "error", "closing", "closed"]


def test_close_at_the_error_sends_first(mux, bad):
    fh, peer = bad
    for event in mux:
        if event.type == "error":
            mux.send(fh, b"no", later=True)
            mux.close(fh)
    assert receive(peer) == b"no"


def test_kill_at_the_error_does_not(mux, bad):
    fh, _ = bad
    until(mux, "error")
    mux.send(fh, HUGE)
    mux.kill(fh)
    assert kinds(drain(mux)) == ["closed"]


# Unread input


class Talker:
    """A client that sends first, and then reads all there is, in a thread."""

    def __init__(self, address, request):
        self.answer = b""
        self.error = None
        if isinstance(address, str):
            self._sock = socket.socket(socket.AF_UNIX)
            self._sock.connect(address)
        else:
            self._sock = socket.create_connection(address)
        self._thread = threading.Thread(target=self._run, args=(request,), daemon=True)
        self._thread.start()

    def _run(self, request):
        try:
            with self._sock as sock:
                sock.sendall(request)
                while data := sock.recv(100_000):
                    self.answer += data
        except OSError as error:
            self.error = error

    def join(self):
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.answer, self.error


@pytest.mark.parametrize("end", ["closed", "nothing left"])
@pytest.mark.parametrize(
    ("buffered", "request_"),
    [
        (None, HUGE),
        (Split(max_size=1000), b"one\n" + HUGE),
        (HTTP(max_size=1000), POST % len(HUGE) + HUGE),
        (HTTP(header_only=True), POST % len(HUGE) + HUGE),
    ],
    ids=["plain", "split", "413", "header"],
)
def test_a_peer_that_is_still_sending_reads_the_last_words(mux, buffered, request_, end):
    listener = mux.listen("tcp://127.0.0.1:0", buffered=buffered)
    talker = Talker(listener.getsockname(), request_)
    for event in mux:
        if event.type in ("read", "error") and listener in mux.handles():
            if buffered is None:  # only what has arrived tells that there is more
                select.select([event.fh], [], [], PATIENCE)
            mux.send(event.fh, b"no, thanks")
            mux.close(event.fh)
            mux.kill(listener)
        if event.type == end and event.fh is not listener:
            break
    assert talker.join() == (b"no, thanks", None)


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_long_last_words_to_a_peer_that_sends_first(mux, family, tmp_path):
    # More than the kernel takes both ways: each would wait for the other.
    url = "tcp://127.0.0.1:0" if family == "tcp" else f"unix://{tmp_path}/socket"
    listener = mux.listen(url)
    talker = Talker(listener.getsockname(), 2 * HUGE)
    for event in mux:
        if event.type == "read" and listener in mux.handles():
            mux.send(event.fh, HUGE)
            mux.close(event.fh)
            mux.kill(listener)
        if event.type == "closed" and event.fh is not listener:
            assert event.missing == 0
    assert talker.join() == (HUGE, None)


def test_a_peer_that_has_ended_is_not_asked_again(mux, monkeypatch):
    asked = []
    monkeypatch.setattr(streams, "discard", lambda sock: asked.append(sock) or discard(sock))
    fh, peer = accepted(mux)
    with peer:
        mux.send(fh, 2 * HUGE)
        mux.close(fh)
        peer.shutdown(socket.SHUT_WR)
        assert kinds(drain(mux)) == ["closing"]
        assert mux.mux(0.01).type == "timeout"  # it waits for the peer to read
        assert asked == [fh]
        while mux.mux(0).type != "closed":
            receive(peer)


def accepted(mux, **options):
    """Return a connection over TCP, and the peer's end, which is not watched."""
    _, fh, sock = meet(mux, **options)
    mux.remove(fh)
    drain(mux)
    return sock, fh


def test_a_peer_that_never_ends_is_heard_for_two_seconds(timed, clock):
    fh, peer = accepted(timed)
    with peer:
        peer.send(b"unread")
        timed.send(fh, b"bye")
        timed.close(fh)
        assert kinds(drain(timed)) == ["sent", "closing"]
        start = clock.now
        assert until(timed, "closed", fh)[-1] == Closed(fh)
        assert clock.now - start == pytest.approx(2)
        assert fh.fileno() == -1
        assert receive(peer) == b"bye"


def test_the_time_of_close_counts_for_that_too(timed, clock):
    fh, peer = accepted(timed)
    with peer:
        peer.send(b"unread")
        timed.close(fh, timeout=0.5)
        assert kinds(drain(timed)) == ["closing"]
        start = clock.now
        until(timed, "closed", fh)
        assert clock.now - start == pytest.approx(0.5)


def test_more_may_be_on_its_way_behind_a_bad_record(timed):
    # All that has come was read: it is the rest of it that would make the kernel reset.
    fh, peer = accepted(timed, buffered=Split(max_size=5))
    peer.send(b"too long")
    for kind in ("error", "closing"):
        assert timed.mux().type == kind
        timed.send(fh, kind.encode())
        timed.close(fh)
    assert timed.mux(1).type == "timeout"
    peer.send(b"the rest")
    assert receive(peer) == b"error"
    peer.close()
    assert until(timed, "closed", fh)


def test_a_peer_that_ends_is_not_waited_for(timed, clock):
    fh, peer = accepted(timed)
    peer.send(b"unread")
    timed.close(fh)
    assert kinds(drain(timed)) == ["closing"]
    assert peer.recv(10) == b""
    peer.send(b"more")
    peer.close()
    start = clock.now
    until(timed, "closed", fh)
    assert clock.now == start


def test_a_peer_that_never_stops_is_not_heard_for_ever(timed, monkeypatch):
    monkeypatch.setattr("eventmux._channels.lingering._MOST", 1_000_000)
    fh, peer = accepted(timed)
    with peer:
        peer.setblocking(False)
        peer.send(b"unread")
        timed.close(fh)
        sent = 0
        while timed.mux(0).type != "closed":
            with contextlib.suppress(OSError):
                sent += peer.send(b"x" * 100_000)
        assert 1_000_000 <= sent < 10_000_000


def test_close_with_nothing_unread_is_immediate(mux):
    fh, peer = accepted(mux)
    with peer:
        mux.close(fh)
        assert kinds(drain(mux)) == ["closing", "closed"]


def test_close_behind_the_end_of_the_peer_is_immediate(mux):
    fh, peer = accepted(mux)
    with peer:
        peer.shutdown(socket.SHUT_WR)
        assert kinds(until(mux, "closed", fh)) == ["closing", "closed"]


def test_kill_never_lingers(mux):
    fh, peer = accepted(mux)
    with peer:
        peer.send(b"unread")
        mux.kill(fh)
        assert drain(mux) == [Closed(fh)]


def test_kill_of_what_lingers(mux):
    fh, peer = accepted(mux)
    with peer:
        peer.send(b"unread")
        mux.close(fh)
        assert kinds(drain(mux)) == ["closing"]
        mux.send(fh, b"too late")
        mux.kill(fh)
        assert drain(mux) == [Closed(fh)]
        assert receive(peer) == b""


def test_a_mux_that_ends_lets_the_last_words_be_read():
    with EventMux() as mux:
        fh, peer = accepted(mux)
        peer.sendall(b"unread")
        mux.send(fh, HUGE)
    with peer:
        data = b""
        while chunk := peer.recv(1_000_000):
            data += chunk
    assert HUGE.startswith(data)
    assert data


def test_a_handle_that_lingers_while_another_alone_is_waited_for(timed):
    fh, peer = accepted(timed)
    with peer:
        peer.send(b"unread")
        timed.close(fh)
        assert kinds(drain(timed)) == ["closing"]
        one, two = socket.socketpair()
        with two:
            timed.add(one)
            assert timed.mux(0, only=one) == Ready(one)
            timed.push_event(*[Error(fh)] * 300)  # so many that no other handle is read from
            peer.send(b"more")
            assert timed.mux(1, only=one).type == "timeout"  # and no busy loop, says the selector


def test_a_unix_peer_gets_an_end_and_no_reset(mux, pair):
    fh, peer = pair()
    mux.add(fh)
    mux.mux()
    peer.send(b"unread")
    mux.want_read(fh, False)
    mux.close(fh)
    assert kinds(drain(mux)) == ["closing", "closed"]  # it has read all there was
    assert receive(peer) == b""


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_unix_peer_that_has_not_read_yet(mux, pair, kind):
    fh, peer = pair(kind)
    mux.add(fh)
    mux.mux()
    peer.send(b"unread")
    mux.send(fh, b"bye")
    mux.close(fh)
    assert kinds(drain(mux)) == ["sent", "closing"]
    peer.send(b"more")
    assert peer.recv(10) == b"bye"
    assert peer.recv(10) == b""
    peer.close()
    assert kinds(until(mux, "closed")) == ["closed"]


def test_manual_handles_linger_as_well(mux):
    fh, peer = accepted(mux, manual_read=True)
    with peer:
        peer.send(b"unread")
        assert until(mux, "can_read")
        mux.send(fh, b"bye")
        mux.close(fh)
        peer.send(b"more")
        assert "closed" not in kinds(drain(mux))
        peer.close()
        until(mux, "closed", fh)


@pytest.mark.parametrize("unread", [b"", b"unread"])
def test_the_timeout_of_a_socket_object_is_not_waited_for(mux, pair, unread):
    """The program reads and writes itself, so its timeout was left alone."""
    fh, peer = pair()
    fh.settimeout(600)
    mux.add(fh, manual_read=True, manual_write=True)
    peer.send(unread)
    mux.close(fh)
    assert until(mux, "closed") == [Closing(fh), Closed(fh)]


def test_what_was_read_is_no_reason_to_wait(mux, pair):
    fh, peer = pair()
    mux.add(fh, buffered=Split())
    peer.send(b"one\n")
    assert until(mux, "read")[-1] == Read(fh, b"one")
    mux.close(fh)
    assert drain(mux) == [Closing(fh), Closed(fh)]
