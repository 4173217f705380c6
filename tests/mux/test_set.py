"""Another buffer for a stream: it counts from the record that was handed out last."""

import re
import socket
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chunks import chunkings
from support.pump import PATIENCE, drain, kinds, receive, take, until

from eventmux import BufferOverflow, Closed, Closing, EventMux, MalformedRecord, Read, ReadLast
from eventmux.buffers import HTTP, FixedSize, Last, Regexp, Size, Split

GET = b"GET / HTTP/1.1\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


class Netstrings:
    """A discipline of the program's, with no more than the mux asks for."""

    returns_last = True

    def __init__(self):
        self.rest, self.records = b"", []

    def fresh(self):
        return Netstrings()

    def write(self, data):
        self.rest += data
        while b":" in self.rest[:6]:
            length, _, rest = self.rest.partition(b":")
            if not length.isdigit():
                raise MalformedRecord(f"length is {length!r}")
            if len(rest) <= int(length):
                return
            self.records.append(rest[: int(length)])
            self.rest = rest[int(length) + 1 :]

    def read(self):
        records, self.records = self.records, []
        return records

    def read_last(self):
        rest, self.rest = self.rest, b""
        return [*self.read(), rest] if rest else self.read()


class Behind(Regexp):
    """Lines that are given out when the next one begins."""

    __slots__ = ()

    def __init__(self):
        super().__init__(rb"([^\n]*)\n(?=.)")

    def fresh(self):
        return Behind()


def _in_brackets(payload):
    return b"<" + payload + b">"


def chunked(payload):
    middle = len(payload) // 2
    parts = [part for part in (payload[:middle], payload[middle:]) if part]
    body = b"".join(b"%x;a=b\r\n%s\r\n" % (len(part), part) for part in parts)
    return CHUNKED + body + b"0\r\nx: y\r\n\r\n"


# How a payload is sent, and what a record has of it.
FRAMES = {
    "split": (lambda size: Split(b"\r\n"), lambda p: p + b"\r\n", bytes),
    "lines": (lambda size: Split(re.compile(rb"\r?\n")), lambda p: p + b"\n", bytes),
    "regexp": (lambda size: Regexp(rb"<([^>]*)>"), lambda p: b"<" + p + b">", bytes),
    "match": (
        lambda size: Regexp(rb"<[^>]*>"),
        lambda p: b"<" + p + b">",
        lambda p: b"<" + p + b">",
    ),
    "size": (lambda size: Size("!H"), lambda p: struct.pack("!H", len(p)) + p, bytes),
    "offset": (lambda size: Size("<i", -4), lambda p: struct.pack("<i", len(p) + 4) + p, bytes),
    "padded": (lambda size: Size("!H2x"), lambda p: struct.pack("!H", len(p)) + b"ab" + p, bytes),
    "fixed": (lambda size: FixedSize(max(size, 1)), lambda p: p or b"x", lambda p: p or b"x"),
    "http": (lambda size: HTTP(), lambda p: POST % len(p) + p, lambda p: POST % len(p) + p),
    "chunked": (lambda size: HTTP(), chunked, lambda p: CHUNKED + p),
    "own": (lambda size: Netstrings(), lambda p: b"%d:%s," % (len(p), p), bytes),
}
payloads = st.lists(st.sampled_from([b"a", b"b", b"3", b"0", b" "]), max_size=8).map(b"".join)
frames = st.lists(st.tuples(st.sampled_from(sorted(FRAMES)), payloads), min_size=1, max_size=9)


def play(sent, chunks, read_size, at_once):
    """Send frames, and change to the buffer of the next one at each record; return the records."""
    here, there = socket.socketpair()
    buffers = [FRAMES[name][0](len(payload)) for name, payload in sent]
    got = []
    with there, EventMux(read_size=read_size) as mux:
        mux.add(here, buffered=buffers[0])

        def step():
            while (event := mux.mux(0)) is not None and event.type != "timeout":
                if event.type == "read":
                    got.append(event.data)
                    if len(got) < len(sent) and (
                        sent[len(got)][0] != sent[len(got) - 1][0] or "fixed" in sent[len(got)]
                    ):
                        mux.set(here, buffered=buffers[len(got)])
                elif event.type not in ("ready", "closing", "closed"):
                    pytest.fail(f"unexpected {event}")

        for chunk in chunks:
            there.sendall(chunk)
            if not at_once:
                step()
        there.close()
        while mux.handles():
            step()
        assert mux.handles() == []
    return got


@given(st.data())
def test_records_do_not_depend_on_how_they_arrive(data):
    sent = data.draw(frames)
    stream = b"".join(FRAMES[name][1](payload) for name, payload in sent)
    chunks = data.draw(chunkings(stream))
    read_size = data.draw(st.sampled_from([1, 3, 7, 64, 65536]))
    expected = [FRAMES[name][2](payload) for name, payload in sent]
    assert play(sent, chunks, read_size, data.draw(st.booleans())) == expected


@pytest.fixture
def up(mux, pair):
    """Make a stream with a buffer that gets bytes in one read."""

    def make(buffered, data, **options):
        fh, peer = pair()
        mux.add(fh, buffered=buffered, **options)
        assert mux.mux(PATIENCE).type == "ready"
        peer.sendall(data)
        return fh, peer

    return make


def test_a_length_that_a_line_tells(mux, up):
    fh, peer = up(Split(), b"5\nab\ncd3\nxyz")
    peer.close()
    got, is_line = [], True
    for event in mux:
        if event.type == "read":
            got.append(event.data)
            mux.set(fh, buffered=FixedSize(int(event.data)) if is_line else Split())
            is_line = not is_line
    assert got == [b"5", b"ab\ncd", b"3", b"xyz"]


def test_no_buffer_any_more(mux, up):
    fh, peer = up(Split(), b"CONNECT\nraw\nbytes\n")
    assert mux.mux(PATIENCE) == Read(fh, b"CONNECT")
    mux.set(fh, buffered=None)
    assert drain(mux) == [Read(fh, b"raw\nbytes\n")]
    peer.send(b"a\nb")
    assert drain(mux) == [Read(fh, b"a\nb")]


def test_a_buffer_for_what_was_read_without_one(mux, up, pair):
    fh, peer = up(None, b"a\nb")
    other, talker = pair()
    mux.add(other)
    talker.send(b"go")
    take(mux, 1)  # whichever comes first: the other one stays in the queue
    mux.set(fh, buffered=Split())
    peer.send(b"\n")
    reads = [event for event in drain(mux) if event.fh is fh and event.type == "read"]
    assert reads[-1] == Read(fh, b"b") or b"".join(event.data for event in reads) == b"a\nb\n"


def test_from_the_first_record_if_none_was_handed_out(mux, up):
    fh, _ = up(Split(), b"one\ntwo\nthr")
    other, talker = socket.socketpair()
    with talker:
        mux.add(other)
        talker.send(b"x")
        assert until(mux, "read", other)
        mux.set(fh, buffered=FixedSize(5))
        events = [event for event in drain(mux) if event.fh is fh]
    assert [event.data for event in events] in ([b"one\nt", b"wo\nth"], [b"two\nt"], [])


@pytest.mark.parametrize("end", ["close", "shutdown"])
def test_the_end_behind_it_comes_behind_what_is_cut_anew(mux, up, end):
    fh, peer = up(Split(), b"BODY\na\nb\nrest")
    peer.close() if end == "close" else peer.shutdown(socket.SHUT_WR)
    assert mux.mux(PATIENCE) == Read(fh, b"BODY")
    mux.set(fh, buffered=Size("B"))
    assert drain(mux) == [ReadLast(fh, b"a\nb\nrest"), Closing(fh), Closed(fh)]


def end_is_queued(mux, fh, peer):
    """Have the end of a stream read while its records are in the queue."""
    peer.close()
    other, talker = socket.socketpair()
    with talker:
        mux.add(other)
        assert until(mux, "ready", other)
        for _ in range(5):
            mux.mux(0, only=other)
        mux.remove(other)
        other.close()


@pytest.mark.parametrize(
    ("buffered", "events"),
    [
        (FixedSize(4), [Read(None, b"two\n"), ReadLast(None, b"thr")]),
        (Split(b"w"), [Read(None, b"t"), Read(None, b"o\nthr")]),
        (None, [Read(None, b"two\nthr")]),
        (Last(), [Read(None, b"two\nthr")]),
    ],
)
def test_an_end_that_is_in_the_queue_is_taken_back(mux, up, buffered, events):
    fh, peer = up(Split(), b"one\ntwo\nthr")
    end_is_queued(mux, fh, peer)
    assert mux.mux(0) == Read(fh, b"one")
    mux.set(fh, buffered=buffered)
    for event in events:
        event.fh = fh
    assert drain(mux) == [*events, Closing(fh), Closed(fh)]


def test_what_is_sent_at_the_end_that_was_taken_back(mux, up):
    fh, peer = up(Split(), b"one\ntwo\n")
    peer.shutdown(socket.SHUT_WR)
    assert mux.mux(PATIENCE) == Read(fh, b"one")
    mux.set(fh, buffered=Split(b"w"))
    mux.send(fh, b"answer")
    for event in mux:
        if event.type == "closing":
            mux.send(fh, b" and more")
    assert receive(peer) == b"answer and more"


@pytest.mark.parametrize("way", [Split(), None, Size("B"), Regexp(rb"(?s)(.*);")])
def test_what_was_too_long_is_not_for_another_buffer(mux, up, way):
    fh, peer = up(Split(max_size=5), b"DATA\n\x09long line;")
    assert mux.mux(PATIENCE) == Read(fh, b"DATA")
    mux.set(fh, buffered=way)
    peer.send(b"\n")
    events = drain(mux)
    assert set(kinds(events)) == {"read"}
    assert mux.handles() == [fh]
    mux.send(fh, b"fine")
    assert receive(peer) == b"fine"


def test_what_is_too_long_for_the_other_one(mux, up):
    fh, _ = up(Split(), b"a\nb\nlonger\nc\n")
    assert mux.mux(PATIENCE) == Read(fh, b"a")
    mux.set(fh, buffered=Split(max_size=3))
    read, error, closing, closed = drain(mux)
    assert read == Read(fh, b"b")
    assert isinstance(error.exception, BufferOverflow)
    assert error.data == b"longer\nc\n"
    assert (closing.reason, closed.reason) == (error.error, error.error)


def test_an_error_that_was_told_is_the_end(mux, up):
    fh, _ = up(Split(max_size=5), b"longer\n")
    assert mux.mux(PATIENCE).type == "error"
    mux.set(fh, buffered=None)
    assert kinds(drain(mux)) == ["closing", "closed"]


def test_closing_that_was_told_is_the_end(mux, up):
    fh, peer = up(Split(), b"")
    peer.close()
    assert mux.mux(PATIENCE) == Closing(fh)
    mux.set(fh, buffered=None)
    assert drain(mux) == [Closed(fh)]


def test_a_stream_that_the_program_has_closed_stays_so(mux, up):
    fh, peer = up(Split(), b"one\ntwo\n")
    peer.close()
    assert mux.mux(PATIENCE) == Read(fh, b"one")
    mux.close(fh)
    mux.set(fh, buffered=None)
    assert drain(mux)[-2:] == [Closing(fh), Closed(fh)]
    assert mux.handles() == []


def test_other_events_of_the_handle_stay(mux, up):
    fh, _ = up(Split(), b"one\ntwo\n")
    assert mux.mux(PATIENCE) == Read(fh, b"one")
    mux.send(fh, b"answer")
    mux.set(fh, buffered=Split(b"w"))
    assert sorted(kinds(drain(mux))) == ["read", "sent"]


def test_a_body_and_what_is_behind_it(mux, up):
    fh, _ = up(HTTP(header_only=True), POST % 4 + b"body" + b"\r\n" + GET + b"more")
    assert mux.mux(PATIENCE) == Read(fh, POST % 4)
    mux.recvdata(fh, 4)
    assert mux.mux(0) == Read(fh, b"body")
    mux.set(fh, buffered=None)
    assert drain(mux) == [Read(fh, b"\r\n" + GET + b"more")]


def test_a_head_that_upgrades(mux, up):
    fh, _ = up(HTTP(header_only=True), GET + b"\x05frame\x01!")
    assert mux.mux(PATIENCE) == Read(fh, GET)
    mux.set(fh, buffered=Size("B"))
    assert drain(mux) == [Read(fh, b"frame"), Read(fh, b"!")]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_size_and_then_another_buffer_in_pieces(mux, up, cut):
    fh, peer = up(Split(), b"x\n" + POST % 3)
    assert mux.mux(PATIENCE) == Read(fh, b"x")
    mux.set(fh, buffered=HTTP(header_only=True))
    rest = b"abc" + GET + b"z" * 9
    peer.send(rest[:cut])
    assert mux.mux(PATIENCE) == Read(fh, POST % 3)
    mux.recvdata(fh, 3)
    got = drain(mux)
    peer.send(rest[cut:])
    got += [mux.mux(PATIENCE)] if not got else []
    assert got[0] == Read(fh, b"abc")
    if len(got) == 1:
        mux.set(fh, buffered=None)
        assert b"".join(event.data for event in drain(mux)) == GET + b"z" * 9


def test_a_record_that_needs_what_is_behind_it(mux, up):
    fh, _ = up(Behind(), b"one\ntwo\n\x01a")
    assert mux.mux(PATIENCE) == Read(fh, b"one")
    mux.set(fh, buffered=None)
    assert drain(mux) == [Read(fh, b"two\n\x01a")]


def test_a_discipline_that_gives_out_something_else(mux, up):
    class Stripped(Split):
        def fresh(self):
            return Stripped()

        def read(self):
            return [record.strip().upper() for record in super().read()]

    fh, _ = up(Stripped(), b" one \n two \nrest")
    assert mux.mux(PATIENCE) == Read(fh, b"ONE")
    mux.set(fh, buffered=None)
    assert drain(mux) == [Read(fh, b" two \nrest")]


def test_a_discipline_that_says_how_its_records_came(mux, up):
    class Told(Split):
        can_unread = True

        def fresh(self):
            return Told()

        def unread(self, records):
            return b"told: " + super().unread(records)

    fh, _ = up(Told(), b"one\ntwo\nrest")
    assert mux.mux(PATIENCE) == Read(fh, b"one")
    mux.set(fh, buffered=None)
    assert drain(mux) == [Read(fh, b"told: two\nrest")]


def test_a_record_in_many_reads(pair):
    with EventMux(read_size=100) as mux:
        fh, peer = pair()
        mux.add(fh, buffered=HTTP())
        message = chunked(b"x" * 5000)
        peer.sendall(message + message + b"raw")
        assert until(mux, "read")[-1] == Read(fh, CHUNKED + b"x" * 5000)
        mux.set(fh, buffered=None)
        assert b"".join(event.data for event in drain(mux)) == message + b"raw"


def test_events_that_the_program_has_put_back(mux, up):
    # As a client does that waits for its answer: what else came is for later.
    for buffered in (Split(), Split(re.compile(b"\n"))):
        fh, _ = up(buffered, b"one\ntwo\nthree\n")
        events = [event for event in drain(mux) if event.type == "read"]
        mux.push_event(*events[1:])
        mux.set(fh, buffered=FixedSize(2))
        assert b"".join(event.data for event in drain(mux)).startswith(b"two")
        mux.kill(fh)
        drain(mux)


@pytest.mark.parametrize("buffered", [Split(), None])
def test_a_handler_is_no_place_for_it(mux, pair, buffered):
    fh, peer = pair()
    seen = []

    def handler(fh, data, sender):
        with pytest.raises(RuntimeError, match="is being read from"):
            mux.set(fh, buffered=None)
        seen.append(data)
        return len(seen)

    mux.add(fh, buffered=buffered, meta_handler=handler)
    peer.send(b"a\nb")
    peer.close()
    ids = [event.id for event in drain(mux) if event.type == "read"]
    assert ids == [1, 2] if buffered else [1]


def test_ids_of_what_is_cut_again(mux, up):
    fh, _ = up(Split(), b"a\nb\nc", meta_handler=lambda fh, data, sender: data[:1])
    assert mux.mux(PATIENCE) == Read(fh, b"a", None, b"a")
    mux.set(fh, buffered=FixedSize(3))
    assert drain(mux) == [Read(fh, b"b\nc", None, b"b")]


def test_a_handle_that_alone_is_waited_for(mux, up):
    fh, _ = up(Split(), b"1\na\nb\nc\n" * 100)
    got = []
    while len(got) < 300:
        event = mux.mux(PATIENCE, only=fh)
        got.append(event.data)
        mux.set(fh, buffered=FixedSize(2) if event.data == b"1" else Split())
    assert got[:6] == [b"1", b"a\n", b"b", b"c", b"1", b"a\n"]


def test_another_loop_is_told_that_more_is_to_come(mux, up):
    fh, _ = up(Split(), b"1\n" + b"x\n" * 100)
    assert mux.mux(PATIENCE).data == b"1"
    mux.set(fh, buffered=Split(b"\n"))
    while mux.has_events():
        mux.mux(0)
    assert mux.timeout() == 0
    drain(mux)
    assert mux.timeout() != 0


def test_what_is_left_waits_for_a_size(mux, up):
    fh, _ = up(Split(), b"x\n" + POST % 100 + b"y" * 100 + GET)
    assert mux.mux(PATIENCE).data == b"x"
    mux.set(fh, buffered=HTTP(header_only=True))
    assert drain(mux) == [Read(fh, POST % 100)]
    assert mux.timeout() != 0  # there is nothing to do until the program says more
    mux.recvdata(fh, 100)
    assert drain(mux) == [Read(fh, b"y" * 100), Read(fh, GET)]


def test_the_end_waits_for_a_size(mux, up):
    fh, peer = up(Split(), b"x\n" + POST % 3 + b"abc" + GET)
    end_is_queued(mux, fh, peer)
    assert mux.mux(0) == Read(fh, b"x")
    mux.set(fh, buffered=HTTP(header_only=True))
    assert drain(mux) == [Read(fh, POST % 3)]
    mux.recvdata(fh, 3)
    assert drain(mux) == [Read(fh, b"abc"), Read(fh, GET)]
    mux.recvdata(fh, 0)
    assert drain(mux) == [Closing(fh), Closed(fh)]


def test_a_handler_that_raises_in_what_is_left(mux, up):
    def handler(fh, data, sender):
        if data == b"bad":
            raise ZeroDivisionError
        return data

    fh, _ = up(Split(), b"x\n" + b"bad\ngood\n" * 20, meta_handler=handler)
    got, raised = [], 0
    with pytest.raises(ZeroDivisionError):
        mux.mux(PATIENCE)
    assert mux.mux(PATIENCE).data == b"x"
    with pytest.raises(ZeroDivisionError):
        mux.set(fh, buffered=Split())
    for _ in range(200):
        try:
            event = mux.mux(0)
        except ZeroDivisionError:
            raised += 1
            continue
        if event.type == "read":
            got.append(event.data)
    assert got == [b"bad", b"good"] * 20
    assert raised


def test_others_have_a_look_between_two_rounds(mux, up, pair):
    fh, _ = up(Split(), b"1\n" + b"x\n" * 5000)
    other, talker = pair()
    mux.add(other)
    assert {event.fh for event in take(mux, 2)} == {fh, other}
    assert until(mux, "read", fh)
    mux.set(fh, buffered=Split(b"\n"))
    talker.send(b"hello")
    seen = 0
    while mux.mux(PATIENCE) != Read(other, b"hello"):
        seen += 1
    assert seen < 100


def test_a_handle_that_goes_with_something_left(mux, up):
    for method in ("kill", "remove", "close"):
        fh, _ = up(Split(), b"1\n" + b"x\n" * 100)
        assert mux.mux(PATIENCE).data == b"1"
        mux.set(fh, buffered=Split(b"\n"))
        getattr(mux, method)(fh)
        assert [event.type for event in drain(mux) if event.type != "read"] == {
            "kill": ["closed"],
            "remove": [],
            "close": ["closing", "closed"],
        }[method]


class Counting(FixedSize):
    """Counts the bytes that all of its kind were given."""

    __slots__ = ()
    written = 0

    def fresh(self):
        return Counting(self._size)

    def write(self, data):
        Counting.written += len(data)
        super().write(data)


@pytest.mark.parametrize("buffered", [Counting(1), Counting(7)])
def test_a_change_at_each_record_is_linear(mux, up, buffered):
    Counting.written = 0
    fh, _ = up(buffered, b"x" * 7000)
    for _ in range(7000 // buffered._size):
        assert mux.mux(PATIENCE).type == "read"
        mux.set(fh, buffered=buffered)
    assert Counting.written <= 100 * 7000


def test_what_was_handed_out_is_not_kept(mux, up):
    # A discipline whose records do not say how they came.
    fh, _ = up(Regexp(rb"<([^>]*)>", max_size=None), b"<" + b"x" * 5000 + b">ab")
    assert mux.mux(PATIENCE).type == "read"
    drain(mux)
    assert mux._channels[fh]._buffer._bytes() == b"ab"


@pytest.mark.slow
def test_a_long_stream_of_changes_takes_no_time(mux, up):
    fh, _ = up(Split(), b"1\nx" * 30_000)
    start = time.monotonic()
    for number in range(60_000):
        assert mux.mux(PATIENCE).data == (b"x" if number % 2 else b"1")
        mux.set(fh, buffered=Split() if number % 2 else FixedSize(1))
    assert time.monotonic() - start < 20
