"""Batch: all records of one read in one event."""

import logging
import socket
from itertools import chain

import pytest
from hypothesis import given
from support.chunks import chunkings
from support.framings import NETSTRINGS
from support.meeting import meet
from support.pump import PATIENCE, drain, kinds, until

from eventmux import BufferOverflow, Error, EventMux, FramingError, ReadLast, Ready, Records
from eventmux.buffers import HTTP, Batch, FixedSize, Frames, Last, Regexp, Size, Split

GET = b"GET / HTTP/1.1\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab"

# A discipline, three records of it on the wire, and the records.
DISCIPLINES = {
    "split": (Split(), b"one\n\nthree\n", [b"one", b"", b"three"]),
    "regexp": (Regexp(rb"(\w+);"), b"a;b;c;", [b"a", b"b", b"c"]),
    "size": (Size("B"), b"\1a\0\2bc", [b"a", b"", b"bc"]),
    "fixed": (FixedSize(2), b"aabbcc", [b"aa", b"bb", b"cc"]),
    "http": (HTTP(), GET + POST + GET, [GET, POST, GET]),
    "frames": (NETSTRINGS, b"1:a,0:,2:bc,", [b"1:a,", b"0:,", b"2:bc,"]),
}
every_discipline = pytest.mark.parametrize(
    ("buffer", "stream", "records"), DISCIPLINES.values(), ids=DISCIPLINES
)


class Tagged(Split):
    """A discipline of the program's own."""

    __slots__ = ()

    def fresh(self):
        return Tagged()

    def read(self):
        return [b"<" + record + b">" for record in super().read()]


@pytest.fixture
def watch(mux, pair):
    """Watch a handle with a batch; give it when it is up, and the peer's end."""

    def watch(buffer, **options):
        fh, peer = pair()
        mux.add(fh, buffered=Batch(buffer), **options)
        assert mux.mux(PATIENCE) == Ready(fh)
        return fh, peer

    return watch


@every_discipline
def test_what_one_read_completes_comes_together(mux, watch, buffer, stream, records):
    fh, peer = watch(buffer)
    peer.sendall(stream)
    assert mux.mux(PATIENCE) == Records(fh, records)
    assert mux.has_events() == 0


@every_discipline
def test_byte_by_byte_they_come_alone(mux, watch, buffer, stream, records):
    _, peer = watch(buffer)
    events = []
    for byte in stream:
        peer.sendall(bytes([byte]))
        events += drain(mux)
    assert [event.records for event in events] == [[record] for record in records]


@given(pieces=chunkings(b"one\ntwo\n\nthree\nfour\nrest"))
def test_however_they_arrive_they_are_the_same(pieces):
    here, there = socket.socketpair()
    with EventMux() as mux, here, there:
        mux.add(here, buffered=Batch(Split()))
        found = []
        for piece in pieces:
            there.sendall(piece)
            found += drain(mux)
        there.close()
        found += until(mux, "closed")
    batches = [event.records for event in found if event.type == "records"]
    assert all(batches)
    records = [*chain.from_iterable(batches)]
    assert records == [b"one", b"two", b"", b"three", b"four", b"rest"]


def test_each_connection_of_a_listener_has_its_own(mux):
    _, fh, accepted = meet(mux, buffered=Batch(Split()))
    mux.send(fh, b"a\nb\nc")
    [*_, event] = until(mux, "records")
    assert event == Records(accepted, [b"a", b"b"])


def test_a_discipline_of_the_programs_own(mux, watch):
    fh, peer = watch(Tagged())
    peer.sendall(b"a\nb\n")
    assert mux.mux(PATIENCE) == Records(fh, [b"<a>", b"<b>"])


# The end


def test_a_record_that_the_end_completes_is_a_record(mux, watch):
    fh, peer = watch(Split())
    peer.sendall(b"a\nb")
    peer.close()
    events = until(mux, "closed")
    assert events[:2] == [Records(fh, [b"a"]), Records(fh, [b"b"])]
    assert kinds(events[2:]) == ["closing", "closed"]


def test_all_until_the_end_is_one_record(mux, watch):
    fh, peer = watch(Last())
    peer.sendall(b"a\nb")
    peer.close()
    assert until(mux, "closed")[0] == Records(fh, [b"a\nb"])


def test_what_is_left_is_a_read_last(mux, watch):
    fh, peer = watch(NETSTRINGS)
    peer.sendall(b"1:a,1:b,5:x")
    peer.close()
    events = until(mux, "closed")
    assert events[:2] == [Records(fh, [b"1:a,", b"1:b,"]), ReadLast(fh, b"5:x")]


def test_without_a_record_there_is_no_event(mux, watch):
    _, peer = watch(Split())
    peer.close()
    assert kinds(until(mux, "closed")) == ["closing", "closed"]


def test_the_good_ones_come_before_the_failure(mux, watch):
    fh, peer = watch(Split(max_size=5))
    peer.sendall(b"a\nb\ntoo long\n")
    events = until(mux, "error")
    assert events[0] == Records(fh, [b"a", b"b"])
    assert isinstance(events[1], Error)
    assert isinstance(events[1].exception, BufferOverflow)
    assert events[1].data == b"too long\n"


def test_the_fault_of_a_function_comes_behind_the_good_ones(mux, watch):
    fh, peer = watch(Frames(lambda data, at: 1 if data[at] == 97 else "x"))
    peer.sendall(b"aab")
    with pytest.raises(TypeError, match="must be a number of bytes"):
        until(mux, "closed")
    events = until(mux, "closed")
    assert events[0] == Records(fh, [b"a", b"a"])
    assert isinstance(events[1].exception, FramingError)


@pytest.mark.parametrize("end", ["kill", "remove"])
def test_who_is_gone_brings_none(mux, watch, end):
    fh, peer = watch(Split())
    other, another = watch(Split())
    for sock in (peer, another):
        sock.sendall(b"a\nb\n")
    first = mux.mux(PATIENCE)
    assert first.records == [b"a", b"b"]
    gone = other if first.fh is fh else fh
    getattr(mux, end)(gone)
    assert kinds(drain(mux)) == (["closed"] if end == "kill" else [])


# The meta of records


def test_a_meta_handler_is_asked_about_each(mux, watch):
    seen = []

    def handler(fh, data, sender):
        seen.append((fh, data, sender))
        return data.upper()

    fh, peer = watch(Split(), meta_handler=handler)
    peer.sendall(b"a\nb\n")
    event = mux.mux(PATIENCE)
    assert event == Records(fh, [b"a", b"b"], [b"A", b"B"])
    assert seen == [(fh, b"a", None), (fh, b"b", None)]
    peer.sendall(b"c")
    peer.close()
    assert until(mux, "records") == [Records(fh, [b"c"], [b"C"])]


def test_a_meta_handler_that_raises_keeps_no_record_back(mux, watch):
    def handler(fh, data, sender):
        return 1 // (data != b"b")

    fh, peer = watch(Split(), meta_handler=handler)
    peer.sendall(b"a\nb\nc\n")
    with pytest.raises(ZeroDivisionError):
        mux.mux(PATIENCE)
    assert mux.mux(0) == Records(fh, [b"a", b"b", b"c"], [1, None, 1])


# Another buffer


def test_what_was_not_handed_out_is_cut_again(mux, watch):
    peers = dict([watch(Split()), watch(Split())])
    for peer in peers.values():
        peer.sendall(b"a\nb\n")
        peer.close()
    first = mux.mux(PATIENCE).fh
    [fh] = peers.keys() - {first}  # its records are queued
    assert mux.has_events() == 1
    mux.set(fh, buffered=Batch(FixedSize(3)))
    found = [event for event in until(mux, "closed", fh) if event.fh is fh]
    assert found[:2] == [Records(fh, [b"a\nb"]), ReadLast(fh, b"\n")]


@pytest.mark.parametrize(
    "old", [Split(), Tagged(), Split(b"\n", max_size=100)], ids=["own", "programs", "limit"]
)
def test_the_buffer_changes_behind_the_records_that_were_handed_out(mux, watch, old):
    fh, peer = watch(old)
    peer.sendall(b"a\nb\nccc")
    assert len(mux.mux(PATIENCE).records) == 2
    mux.set(fh, buffered=FixedSize(3))
    assert mux.mux(PATIENCE).data == b"ccc"


def test_a_batch_may_come_and_go(mux, pair):
    fh, peer = pair()
    mux.add(fh, buffered=Split())
    peer.sendall(b"plain\n1:a,1:b,raw")
    assert until(mux, "read")[-1].data == b"plain"
    mux.set(fh, buffered=Batch(NETSTRINGS))
    assert until(mux, "records")[-1] == Records(fh, [b"1:a,", b"1:b,"])
    mux.set(fh, buffered=None)
    assert mux.mux(PATIENCE).data == b"raw"


def test_a_head_waits_for_the_length_of_its_body(mux, watch):
    fh, peer = watch(HTTP(header_only=True))
    peer.sendall(b"PUT / HTTP/1.1\r\n\r\nbody" + GET)
    assert mux.mux(PATIENCE) == Records(fh, [b"PUT / HTTP/1.1\r\n\r\n"])
    mux.recvdata(fh, 4)
    assert mux.mux(PATIENCE) == Records(fh, [b"body", GET])


# Without a mux


def test_without_a_mux_it_is_the_buffer():
    batch = Batch(Split())
    batch.write(b"a\nb\nc")
    fresh = batch.fresh()
    assert type(fresh) is Batch
    assert (batch.pending, batch.read(), batch.read_last()) == (1, [b"a", b"b"], [b"c"])
    assert (fresh.pending, fresh.read_last(), fresh.returns_last) == (0, [], False)
    assert Batch(NETSTRINGS).returns_last is True


@pytest.mark.parametrize("buffer", [None, Split, b"\n", Batch(Split()), 5])
def test_it_takes_a_buffer(buffer):
    with pytest.raises(TypeError, match="must be a buffer such as Split"):
        Batch(buffer)


def test_a_log_of_all_events_shows_some_records(mux, watch, caplog):
    _, peer = watch(Split())
    mux.trace(logging.getLogger("eventmux"))
    with caplog.at_level("DEBUG", "eventmux"):
        for stream in (b"a\nb\nc\nd\ne\n", b"f\n"):
            peer.sendall(stream)
            until(mux, "records")
    assert "records b'a', b'b', b'c', and 2 more" in caplog.text
    assert caplog.messages[-1].endswith("< records b'f'")
