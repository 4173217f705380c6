"""Channels over sockets that follow a script: what kernels do rarely, and peers on purpose."""

import errno
import os
import socket
from selectors import EVENT_READ, EVENT_WRITE

import pytest
from support.fakes import ScriptedSocket
from support.outlets import outlet_to
from support.pump import kinds

from eventmux import BufferOverflow, Connect, MalformedRecord
from eventmux._channels.listeners import Listener
from eventmux._channels.options import ChannelOptions
from eventmux._channels.streams import Stream
from eventmux.buffers import Size, Split

BOTH = EVENT_READ | EVENT_WRITE


def reset():
    return ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


def broken_pipe():
    return BrokenPipeError(errno.EPIPE, "Broken pipe")


def make(sock, *, ready=True, read_size=100, reads_per_turn=10, **options):
    """Return a stream over the socket, and the list that its events go to."""
    events = []
    options = ChannelOptions(read_size, reads_per_turn, **options)
    return Stream(sock, sock, outlet_to(events), options, None, ready=ready), events


def data_of(events, kind="read"):
    return [event.data for event in events if event.type == kind]


# The fake itself, against the real thing


@pytest.fixture(params=["real", "scripted"])
def ends(request):
    """A socket, and functions to let it see data and the end of the stream."""
    if request.param == "scripted":
        fake = ScriptedSocket()
        fake.setblocking(False)
        yield fake, fake.incoming.append, lambda: fake.incoming.append(b"")
        return
    one, two = socket.socketpair()
    with one, two:
        one.setblocking(False)
        yield one, two.send, lambda: two.shutdown(socket.SHUT_WR)


def test_a_fake_reads_like_a_socket(ends):
    sock, give, finish = ends
    assert sock.gettimeout() == 0.0
    with pytest.raises(BlockingIOError):
        sock.recv(10)
    give(b"hello")
    assert sock.recv(2) == b"he"
    assert sock.recv(10) == b"llo"
    with pytest.raises(BlockingIOError):
        sock.recv(10)
    finish()
    assert sock.recv(10) == b""
    assert sock.recv(10) == b""


def test_a_fake_writes_like_a_socket(ends):
    sock, _, _ = ends
    assert sock.send(b"hello") == 5
    assert sock.send(memoryview(b"hello")[3:]) == 2
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert sock.fileno() >= 0
    sock.close()
    assert sock.fileno() == -1


# Reading


def test_read_gives_what_there_is():
    stream, events = make(ScriptedSocket(recv=[b"one", b"two"]))
    stream.readable()
    assert data_of(events) == [b"one"]  # once a turn, so that all handles have theirs
    stream.readable()
    assert data_of(events) == [b"one", b"two"]


def test_read_size_is_the_most():
    sock = ScriptedSocket(recv=[b"abcdefg"])
    stream, events = make(sock, read_size=3)
    for _ in range(3):
        stream.readable()
    assert data_of(events) == [b"abc", b"def", b"g"]


@pytest.mark.parametrize("buffered", [None, Split()])
def test_nothing_to_read_is_no_event(buffered):
    sock = ScriptedSocket(recv=[BlockingIOError(), b"a\n"])
    stream, events = make(sock, buffered=buffered)
    stream.readable()
    assert events == []
    assert stream.wanted == EVENT_READ
    stream.readable()
    assert kinds(events) == ["read"]


def test_one_byte_at_a_time():
    sock = ScriptedSocket(recv=[bytes([byte]) for byte in b"one\ntwo\n"])
    stream, events = make(sock, buffered=Split(), read_size=1)
    while sock.incoming:
        stream.readable()
    assert data_of(events) == [b"one", b"two"]


def test_a_turn_reads_on_until_a_record_is_complete():
    sock = ScriptedSocket(recv=[b"aaaa", b"bbbb", b"c\ndd", b"eeee"])
    stream, events = make(sock, buffered=Split(), read_size=4)
    stream.readable()
    assert data_of(events) == [b"aaaabbbbc"]
    assert sock.calls == ["recv"] * 3


def test_a_turn_reads_no_more_than_its_share():
    sock = ScriptedSocket(recv=[b"aaaa"] * 100)
    stream, events = make(sock, buffered=Split(), read_size=4, reads_per_turn=7)
    stream.readable()
    assert events == []
    assert sock.calls == ["recv"] * 7


def test_a_short_read_ends_the_turn():
    sock = ScriptedSocket(recv=[b"aaa"])
    stream, _ = make(sock, buffered=Split(), read_size=4)
    stream.readable()
    assert sock.calls == ["recv"]


@pytest.mark.parametrize(
    ("buffered", "kind"), [(Split(), "read"), (Size("B"), "read_last")], ids=["split", "size"]
)
def test_the_rest_at_the_end(buffered, kind):
    stream, events = make(ScriptedSocket(recv=[b"\5abc", b""]), buffered=buffered)
    stream.readable()
    stream.readable()
    assert kinds(events) == [kind, "closing", "closed"]
    assert events[0].data == b"\5abc"
    assert events[1].reason is None
    assert stream.wanted == 0


def test_nothing_is_read_after_the_end():
    sock = ScriptedSocket(recv=[b""])
    stream, events = make(sock)
    stream.readable()
    stream.readable()
    assert sock.calls == ["recv"]
    assert kinds(events) == ["closing", "closed"]


@pytest.mark.parametrize("buffered", [Split(), Size("B")], ids=["split", "size"])
def test_a_reset_says_why_and_gives_the_rest(buffered):
    failure = reset()
    stream, events = make(ScriptedSocket(recv=[b"\5abc", failure]), buffered=buffered)
    stream.readable()
    stream.readable()
    assert kinds(events) == ["error", "read_last", "closing", "closed"]
    error, last, closing, _ = events  # and closed
    assert error.error == closing.reason == "Connection reset by peer"
    assert error.errno == errno.ECONNRESET
    assert error.exception is failure
    assert (error.data, last.data) == (b"", b"\5abc")
    assert all(event.fh is stream.fh for event in events)
    assert stream.wanted == 0
    assert events[3].reason == "Connection reset by peer"


def test_an_overflow_gives_the_good_records_first():
    stream, events = make(ScriptedSocket(recv=[b"a\nlong\nb\n"]), buffered=Split(max_size=2))
    stream.readable()
    assert kinds(events) == ["read", "error", "closing", "closed"]
    assert events[0].data == b"a"
    assert "4 bytes" in events[1].error
    assert "limit is 2" in events[1].error
    assert events[1].errno is None
    assert isinstance(events[1].exception, BufferOverflow)
    assert events[1].data == b"long\nb\n"
    assert events[2].reason == events[1].error


def test_a_malformed_record_is_an_error():
    stream, events = make(ScriptedSocket(recv=[b"\0"]), buffered=Size("B", -1))
    stream.readable()
    assert kinds(events) == ["error", "closing", "closed"]
    assert isinstance(events[0].exception, MalformedRecord)
    assert events[0].data == b"\0"


def test_an_overflow_ends_the_turn():
    sock = ScriptedSocket(recv=[b"long", b"more", b"more"])
    stream, _ = make(sock, buffered=Split(max_size=2), read_size=4)
    stream.readable()
    stream.readable()
    assert sock.calls == ["recv"]


# Writing


def test_everything_is_sent_at_once():
    sock = ScriptedSocket()
    stream, events = make(sock)
    stream.queue((b"one", b"two"))
    assert stream.unsent == 6
    stream.flush()
    assert sock.sent == b"onetwo"
    assert sock.calls == ["send"]  # joined
    assert kinds(events) == ["sent"]
    assert stream.unsent == stream.missing == 0


def test_one_byte_at_a_time_is_written():
    sock = ScriptedSocket(send=[1] * 9)
    stream, events = make(sock)
    stream.queue((b"abc", b"def", b"ghij"))
    for expected in range(9, 0, -1):
        assert stream.wanted == EVENT_READ | (EVENT_WRITE if expected < 10 else 0)
        stream.writable()
        assert stream.unsent == expected
        assert events == []
    stream.writable()
    assert sock.sent == b"abcdefghij"
    assert kinds(events) == ["sent"]
    assert stream.wanted == EVENT_READ


def test_a_short_write_is_not_tried_again_at_once():
    sock = ScriptedSocket(send=[1, 1])
    stream, _ = make(sock)
    stream.queue((b"abc",))
    stream.flush()
    assert sock.calls == ["send"]


def test_a_full_socket_is_waited_for():
    sock = ScriptedSocket(send=[BlockingIOError(), 2, BlockingIOError()])
    stream, events = make(sock)
    stream.queue((b"abc",))
    for unsent in (3, 1, 1, 0):
        assert stream.wanted == BOTH
        stream.writable()
        assert stream.unsent == unsent
    assert sock.sent == b"abc"
    assert kinds(events) == ["sent"]


def test_what_is_queued_between_short_writes_keeps_its_order():
    sock = ScriptedSocket(send=[2, 3, 1, 4])
    stream, _ = make(sock)
    expected = b""
    for number in range(5):
        piece = f"<piece {number}>".encode()
        expected += piece
        stream.queue((piece,))
        stream.flush()
    assert sock.sent == expected


def test_large_output_is_not_copied_into_one_piece():
    sock = ScriptedSocket()
    stream, events = make(sock)
    chunks = tuple(bytes([number]) * 100_000 for number in range(10))
    stream.queue(chunks)
    stream.flush()
    assert sock.sent == b"".join(chunks)
    assert 1 < len(sock.calls) <= 10
    assert kinds(events) == ["sent"]


def test_one_stream_does_not_keep_the_turn():
    sock = ScriptedSocket()
    stream, events = make(sock)
    stream.queue(tuple(bytes(200_000) for _ in range(40)))
    stream.flush()
    assert len(sock.calls) < 40
    assert events == []
    assert stream.wanted == BOTH
    for _ in range(3):
        stream.writable()
    assert kinds(events) == ["sent"]
    assert len(sock.sent) == 8_000_000


def test_nothing_queued_is_nothing_sent():
    sock = ScriptedSocket()
    stream, events = make(sock)
    stream.queue((b"", b""))
    stream.flush()
    stream.writable()
    assert sock.calls == []
    assert events == []
    stream.queue((bytes(200_000), b""))
    stream.flush()
    assert sock.calls == ["send"]
    assert kinds(events) == ["sent"]


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_a_copy_is_queued(kind):
    mine = bytearray(b"abc")
    sock = ScriptedSocket()
    stream, _ = make(sock)
    stream.queue((kind(mine),))
    mine[:] = b"xyz"
    stream.flush()
    assert sock.sent == b"abc"


def test_a_memoryview_counts_in_bytes():
    sock = ScriptedSocket()
    stream, _ = make(sock)
    stream.queue((memoryview(b"abcdefgh").cast("I"),))
    assert stream.unsent == 8
    stream.flush()
    assert sock.sent == b"abcdefgh"


@pytest.mark.parametrize("wrong", ["text", 5, None, [b"a"]])
def test_only_bytes_can_be_queued_and_all_or_nothing(wrong):
    stream, _ = make(ScriptedSocket())
    with pytest.raises(TypeError, match=f"cannot send {type(wrong).__name__}"):
        stream.queue((b"abc", wrong))
    assert stream.unsent == 0


@pytest.mark.parametrize("failure", [reset(), broken_pipe()], ids=["reset", "pipe"])
def test_a_write_that_fails_closes(failure):
    stream, events = make(ScriptedSocket(send=[2, failure], recv=[b""]))
    stream.queue((b"abc", b"def"))
    stream.writable()
    stream.writable()
    assert kinds(events) == ["error"]
    assert events[0].errno == failure.errno
    assert events[0].exception is failure
    assert stream.unsent == 0
    assert stream.wanted == EVENT_READ  # until the end, which cannot be far
    stream.readable()
    assert kinds(events) == ["error", "closing", "closed"]
    assert events[1].reason == events[2].reason == failure.strerror
    assert events[2].missing == 4
    assert stream.wanted == 0


def test_nothing_is_queued_after_a_failure():
    sock = ScriptedSocket(send=[broken_pipe()])
    stream, _ = make(sock)
    stream.queue((b"abc",))
    stream.flush()
    stream.queue((b"more",))
    stream.flush()
    assert stream.missing == 3
    assert sock.calls.count("send") == 1


@pytest.mark.parametrize("end", [b"", reset()], ids=["end", "reset"])
@pytest.mark.parametrize("buffered", [None, Split()], ids=["plain", "split"])
def test_the_last_words_of_a_peer_are_read_although_a_write_fails(buffered, end):
    # A server says why and hangs up; we find out by writing, which comes before reading.
    sock = ScriptedSocket(recv=[b"no such procedure\n", end], send=[broken_pipe()])
    stream, events = make(sock, buffered=buffered)
    stream.queue((b"request",))
    stream.writable()
    for _ in range(3):
        if stream.wanted & EVENT_READ:
            stream.readable()
    assert [data.strip() for data in data_of(events)] == [b"no such procedure"]
    order = [kind for kind in kinds(events) if kind in ("read", "closing")]
    assert order == ["read", "closing"]
    assert "error" in kinds(events)
    assert stream.missing == 7


def test_the_last_words_of_a_peer_that_went_before_we_were_ready():
    sock = ScriptedSocket(recv=[b"bye", b""], send=[broken_pipe()])
    stream, events = make(sock, ready=False)
    stream.queue((b"request",))
    for _ in range(4):
        if stream.wanted & EVENT_WRITE:
            stream.writable()
        if stream.wanted & EVENT_READ:
            stream.readable()
    assert data_of(events) == [b"bye"]
    assert kinds(events)[-2:] == ["closing", "closed"]
    assert stream.missing == 7


@pytest.mark.parametrize("failure", [reset(), broken_pipe()], ids=["reset", "pipe"])
def test_a_reply_that_fails_after_the_peer_has_finished_is_missing(failure):
    stream, events = make(ScriptedSocket(recv=[b""], send=[failure]))
    stream.readable()
    stream.queue((b"reply",))
    stream.flush()
    assert kinds(events) == ["closing", "closed"]
    assert (events[1].missing, events[1].reason) == (5, failure.strerror)


# Flow control


def test_high_water_stops_reading():
    sock = ScriptedSocket(full=True)
    stream, _ = make(sock, high_water=10)
    stream.queue((b"x" * 10,))
    assert stream.wanted == BOTH
    stream.queue((b"x",))
    assert stream.wanted == EVENT_WRITE
    sock.takes.append(10)  # until all of it has left, not just enough
    stream.writable()
    assert stream.unsent == 1
    assert stream.wanted == EVENT_WRITE
    sock.takes.append(1)
    stream.writable()
    assert stream.wanted == EVENT_READ


# The beginning


def test_a_connection_waits_until_it_can_be_written_to():
    stream, events = make(ScriptedSocket(), ready=False)
    assert stream.wanted == EVENT_WRITE
    stream.writable()
    assert kinds(events) == ["ready"]
    assert stream.wanted == EVENT_READ


def test_ready_comes_once():
    stream, events = make(ScriptedSocket(), ready=False)
    stream.writable()
    stream.writable()
    assert kinds(events) == ["ready"]


def test_ready_comes_before_sent():
    stream, events = make(ScriptedSocket(), ready=False)
    stream.queue((b"abc",))
    stream.flush()
    assert kinds(events) == ["ready", "sent"]


def test_what_is_queued_while_connecting_is_sent_when_it_is_up():
    sock = ScriptedSocket(send=[BlockingIOError()])
    stream, events = make(sock, ready=False)
    stream.queue((b"abc",))
    stream.flush()
    assert events == []
    assert stream.wanted == EVENT_WRITE
    stream.writable()
    assert kinds(events) == ["ready", "sent"]
    assert sock.sent == b"abc"


def test_not_connected_yet_is_no_failure_of_sending():
    # Linux says EAGAIN while a connection is being made, BSD and Windows say ENOTCONN.
    sock = ScriptedSocket(send=[OSError(errno.ENOTCONN, "Not connected")])
    stream, events = make(sock, ready=False)
    stream.queue((b"abc",))
    stream.flush()
    assert events == []
    stream.writable()
    assert kinds(events) == ["ready", "sent"]
    assert sock.sent == b"abc"


def test_a_refused_connection():
    stream, events = make(ScriptedSocket(error=errno.ECONNREFUSED), ready=False)
    stream.queue(())
    stream.writable()
    assert kinds(events) == ["error", "closing", "closed"]
    assert events[0].errno == errno.ECONNREFUSED
    assert events[0].error == os.strerror(errno.ECONNREFUSED)
    assert isinstance(events[0].exception, ConnectionRefusedError)
    assert stream.wanted == 0


# The end


def test_close_without_output_is_the_end():
    stream, events = make(ScriptedSocket())
    stream.close()
    assert kinds(events) == ["closing", "closed"]
    assert events[-1] is stream.closed
    assert stream.wanted == 0


def test_closing_twice_is_once():
    stream, events = make(ScriptedSocket())
    stream.close()
    stream.close()
    assert kinds(events) == ["closing", "closed"]


def test_close_drains_first():
    sock = ScriptedSocket(full=True, send=[1])
    stream, events = make(sock)
    stream.queue((b"abc",))
    stream.close()
    stream.writable()
    assert kinds(events) == ["closing"]
    assert stream.wanted == EVENT_READ | EVENT_WRITE  # what comes is dropped
    sock.full = False
    stream.writable()
    assert kinds(events) == ["closing", "closed"]
    assert (events[1].missing, events[1].reason) == (0, None)
    assert sock.sent == b"abc"
    assert stream.wanted == 0


def test_nothing_is_queued_after_close():
    stream, _ = make(ScriptedSocket())
    stream.close()
    stream.queue((b"abc",))
    assert stream.unsent == 0


def test_nothing_is_read_after_close():
    sock = ScriptedSocket(recv=[b"abc"])
    stream, _ = make(sock)
    stream.close()
    stream.readable()
    assert sock.calls == []


def test_output_may_be_queued_after_the_peer_has_finished():
    sock = ScriptedSocket(recv=[b""])
    stream, events = make(sock)
    stream.readable()
    stream.queue((b"reply",))
    stream.flush()
    assert sock.sent == b"reply"
    assert kinds(events)[0] == "closing"


@pytest.mark.parametrize("failure", [reset(), broken_pipe()], ids=["reset", "pipe"])
def test_an_error_while_draining_is_the_reason(failure):
    sock = ScriptedSocket(send=[1, failure])
    stream, events = make(sock)
    stream.queue((b"abc",))
    stream.flush()
    stream.close()
    stream.writable()
    assert kinds(events) == ["closing", "closed"]
    assert (events[1].missing, events[1].reason) == (2, failure.strerror)
    assert stream.wanted == 0


def test_closing_while_connecting_keeps_quiet():
    stream, events = make(ScriptedSocket(), ready=False)
    stream.close()
    stream.writable()
    assert kinds(events) == ["closing", "closed"]


def test_a_connection_that_is_refused_after_close():
    stream, events = make(ScriptedSocket(error=errno.ECONNREFUSED, full=True), ready=False)
    stream.queue((b"abc",))
    stream.close()
    assert stream.wanted == EVENT_WRITE
    stream.writable()
    assert kinds(events) == ["closing", "closed"]
    assert (events[1].missing, events[1].reason) == (3, os.strerror(errno.ECONNREFUSED))
    assert stream.wanted == 0


def test_release_gives_back_the_timeout():
    sock = ScriptedSocket()
    sock.settimeout(2.5)
    stream, _ = make(sock)
    assert sock.gettimeout() == 0.0
    stream.release()
    assert sock.gettimeout() == 2.5


def test_each_stream_has_a_buffer_of_its_own():
    pattern = Split()
    pattern.write(b"left over")
    first, events = make(ScriptedSocket(recv=[b"a\n"]), buffered=pattern)
    second, others = make(ScriptedSocket(recv=[b"b\n"]), buffered=pattern)
    first.readable()
    second.readable()
    assert data_of(events) == [b"a"]
    assert data_of(others) == [b"b"]


# Listeners


def listening(*accept):
    """Return a listener, its events, what it handed over and the pauses it asked for."""
    events, adopted, pauses = [], [], []
    sock = ScriptedSocket(accept=accept, fd=5)

    def adopt(which, sock, address):
        adopted.append((which, sock))
        events.append(Connect(sock, which.fh, address))

    listener = Listener(
        *(sock, sock, outlet_to(events), ChannelOptions(100, 10), "meta"),
        adopt=adopt,
        defer=lambda which, seconds: pauses.append((which, seconds)),
        adjourn=lambda which, seconds: pauses.append((which, seconds)),
    )
    return listener, events, adopted, pauses


def test_a_listener_accepts_all_that_wait():
    ones = [ScriptedSocket(fd=number, family=socket.AF_INET) for number in range(10, 13)]
    listener, events, adopted, pauses = listening(
        *[(one, ("127.0.0.1", one.fileno())) for one in ones]
    )
    listener.readable()
    assert adopted == [(listener, one) for one in ones]
    assert pauses == []
    assert kinds(events) == ["connect"] * 3
    assert [event.fh for event in events] == ones
    assert [event.address for event in events] == [("127.0.0.1", port) for port in (10, 11, 12)]
    assert {event.parent_fh for event in events} == {listener.fh}
    assert {(event.pid, event.uid, event.gid) for event in events} == {(None, None, None)}


class Turns:
    """Has one wait for some seconds, each time that it asks, and counts who came."""

    def __init__(self, *seconds):
        self.seconds = [*seconds]
        self.taken = 0

    def wait(self):
        return self.seconds.pop(0)

    def took(self):
        self.taken += 1


def test_a_listener_takes_one_at_a_time_where_others_do():
    listener, events, _, pauses = listening(*[(ScriptedSocket(), "")] * 3)
    listener.turns = turns = Turns(0, 0)
    for count in (1, 2):
        listener.readable()
        assert (kinds(events), turns.taken) == (["connect"] * count, count)
    assert pauses == []


def test_a_listener_waits_while_it_is_the_turn_of_others():
    listener, events, _, pauses = listening((ScriptedSocket(), ""))
    listener.turns = turns = Turns(0.5, 0)
    listener.readable()
    assert (events, turns.taken, pauses) == ([], 0, [(listener, 0.5)])
    assert listener.wanted == 0
    listener.resume()
    assert listener.wanted == EVENT_READ
    listener.readable()
    assert (kinds(events), turns.taken) == (["connect"], 1)


def test_a_connection_that_others_have_taken_is_not_counted():
    listener, events, _, pauses = listening()
    listener.turns = turns = Turns(0)
    listener.readable()
    assert (events, turns.taken, pauses) == ([], 0, [])


def test_a_listener_does_not_keep_the_turn():
    listener, events, _, _ = listening(*[(ScriptedSocket(), "")] * 1000)
    listener.readable()
    assert 1 < len(events) < 1000


def test_a_connection_that_was_given_up_is_passed_over():
    sock = ScriptedSocket()
    listener, events, _, pauses = listening(OSError(errno.ECONNABORTED, "gone"), (sock, ""))
    listener.readable()
    assert [event.fh for event in events] == [sock]
    assert pauses == []


@pytest.mark.parametrize(
    "name",
    [
        *("EPROTO", "ENETDOWN", "ENOPROTOOPT", "EHOSTDOWN", "EHOSTUNREACH", "EOPNOTSUPP"),
        *("ENETUNREACH", "EPERM", "ECONNRESET", "ETIMEDOUT", "ENOSR", "EPROTONOSUPPORT"),
        *("ESOCKTNOSUPPORT", "ENONET", "ECONNABORTED", "EACCES", "ENOTCONN", "EPIPE", "EIO"),
    ],
)
def test_the_network_error_of_one_connection_does_not_stop_the_others(name):
    # accept(2): Linux hands out errors that are pending on the new socket, to be treated as EAGAIN.
    sock = ScriptedSocket()
    listener, events, _, pauses = listening(OSError(getattr(errno, name), name), (sock, ""))
    listener.readable()
    assert pauses == []
    assert listener.wanted == EVENT_READ
    listener.readable()
    assert sock in [event.fh for event in events]


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EOPNOTSUPP, errno.EPERM, None])
def test_a_network_error_that_stays_does_not_hang(number):
    failure = OSError(number, "no") if number else OSError("no")
    listener, events, _, pauses = listening(*[failure] * 5000, (ScriptedSocket(), ""))
    listener.readable()
    assert len(listener.fh.calls) < 1000
    assert kinds(events) == ["error"]
    assert events[0].exception is failure
    assert [which for which, _ in pauses] == [listener]
    assert listener.wanted == 0


def test_few_failures_among_connections_are_no_reason_for_a_pause():
    steps = [
        step for _ in range(40) for step in (OSError(errno.EPERM, "no"), (ScriptedSocket(), ""))
    ]
    listener, events, _, pauses = listening(*steps)
    while listener.fh.waiting:
        listener.readable()
    assert kinds(events) == ["connect"] * 40
    assert pauses == []


@pytest.mark.parametrize("number", [errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EFAULT])
def test_a_listener_that_is_broken_ends(number):
    listener, events, _, pauses = listening(OSError(number, os.strerror(number)))
    listener.readable()
    assert kinds(events) == ["error", "closing", "closed"]
    assert pauses == []


def test_a_connection_that_cannot_be_watched_is_closed():
    sock = ScriptedSocket()
    listener, _, _, _ = listening((sock, ""))

    def refuse(which, sock, address):
        raise ZeroDivisionError

    listener._adopt = refuse
    with pytest.raises(ZeroDivisionError):
        listener.readable()
    assert sock.closed


def test_what_is_wrong_with_one_connection_does_not_concern_the_listener():
    one, other = ScriptedSocket(), ScriptedSocket()
    listener, events, _, pauses = listening((one, ""), (other, ""))
    refused = [one]

    def adopt(which, sock, address):
        if sock in refused:
            raise OSError(errno.ENOTCONN, "it has gone")
        events.append(Connect(sock, which.fh, address))

    listener._adopt = adopt
    listener.readable()
    assert one.closed
    assert [event.fh for event in events] == [other]
    assert pauses == []


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_a_listener_without_descriptors_pauses(number):
    failure = OSError(number, os.strerror(number))
    listener, events, adopted, pauses = listening(failure)
    listener.readable()
    assert kinds(events) == ["error"]
    assert events[0].fh is listener.fh
    assert (events[0].errno, events[0].error) == (number, os.strerror(number))
    assert events[0].exception is failure
    assert [which for which, _ in pauses] == [listener]
    assert listener.wanted == 0
    assert adopted == []


def test_a_listener_that_closes_accepts_no_more():
    listener, events, adopted, _ = listening((ScriptedSocket(), ""))
    assert listener.wanted == EVENT_READ
    listener.close()
    listener.close()
    listener.readable()
    assert kinds(events) == ["closing", "closed"]
    assert adopted == []
    assert listener.wanted == 0
    assert listener.unsent == listener.missing == 0


def test_a_listener_has_nothing_to_write():
    listener, events, _, _ = listening()
    listener.writable()
    assert events == []
    assert listener.fh.calls == []
