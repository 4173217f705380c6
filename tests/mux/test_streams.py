"""What a stream has besides its bytes: a limit to its output, an id, and buffers that change."""

import contextlib
import re

import pytest
from support.pump import PATIENCE, drain, kinds, receive, take

from eventmux import (
    BufferOverflow,
    Closed,
    Closing,
    EventMux,
    OutputOverflow,
    Read,
    ReadLast,
    Ready,
    Sent,
)
from eventmux.buffers import HTTP, FixedSize, Size, Split

HUGE = b"x" * 3_000_000  # more than a kernel buffers
HEAD = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"
NEXT = b"GET / HTTP/1.1\r\n\r\n"


def up(mux, pair, **options):
    """Return a handle that is up, and the peer's end."""
    fh, peer = pair()
    mux.add(fh, **options)
    assert mux.mux(PATIENCE) == Ready(fh)
    return fh, peer


# A limit to the output


def test_too_much_output_is_the_end(mux, pair):
    fh, _ = up(mux, pair, max_outbuffer=1000)
    unsent = mux.send(fh, HUGE)
    error, closing, closed = drain(mux)
    assert isinstance(error.exception, OutputOverflow)
    assert (error.fh, error.errno, error.data) == (fh, None, b"")
    assert "limit is 1000" in error.error
    assert closing == Closing(fh, error.error)
    assert closed.reason == error.error
    assert (unsent, 0 < closed.missing < len(HUGE)) == (0, True)


def test_too_much_output_tells_what_is_missing(mux, pair):
    fh, peer = up(mux, pair, max_outbuffer=1000)
    mux.send(fh, HUGE)
    closed = drain(mux)[-1]
    assert closed.missing + len(receive(peer)) == len(HUGE)


def test_what_the_kernel_takes_at_once_does_not_count(mux, pair):
    fh, peer = up(mux, pair, max_outbuffer=1)
    assert mux.send(fh, b"hello") == 0
    assert drain(mux) == [Sent(fh)]
    assert peer.recv(100) == b"hello"


def test_output_up_to_the_limit_is_fine(mux, pair):
    fh, _ = up(mux, pair, max_outbuffer=len(HUGE))
    mux.send(fh, HUGE)
    mux.send(fh, b"x" * (len(HUGE) - mux.buflen(fh)))
    assert mux.buflen(fh) <= len(HUGE)
    assert drain(mux) == []


def test_output_that_is_put_off_counts(mux, pair):
    fh, _ = up(mux, pair, max_outbuffer=1000)
    mux.send(fh, HUGE, later=True)
    assert kinds(drain(mux)) == ["error", "closing", "closed"]


def test_too_much_output_of_one_does_not_harm_others(mux, pair):
    fh, _ = up(mux, pair, max_outbuffer=1000)
    other, peer = up(mux, pair)
    mux.send(other, b"hello")
    mux.send(fh, HUGE)
    assert kinds(drain(mux)) == ["sent", "error", "closing", "closed"]
    peer.send(b"world")
    assert drain(mux) == [Read(other, b"world")]
    assert mux.handles() == [other]


def test_too_much_output_gives_what_was_incomplete(mux, pair):
    fh, peer = up(mux, pair, max_outbuffer=1000, buffered=Split())
    peer.send(b"incompl")
    assert drain(mux) == []
    mux.send(fh, HUGE)
    events = drain(mux)
    assert kinds(events) == ["error", "read_last", "closing", "closed"]
    assert events[1] == ReadLast(fh, b"incompl")


@pytest.mark.parametrize("option", ["max_outbuffer", "high_water", "read_size"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "1", True])
def test_sizes_are_positive(mux, pair, option, value):
    with pytest.raises(ValueError, match=f"{option} is {value!r}, must be a positive int"):
        mux.add(pair()[0], **{option: value})


# Ids


def test_the_handler_says_which_session_it_is(mux, pair):
    seen = []

    def handler(fh, data, sender):
        seen.append((fh, data, sender))
        return data[:1]

    fh, peer = up(mux, pair, meta_handler=handler)
    peer.send(b"a hello")
    assert drain(mux) == [Read(fh, b"a hello", None, b"a")]
    assert seen == [(fh, b"a hello", None)]


def test_each_record_has_an_id(mux, pair):
    _, peer = up(mux, pair, buffered=Split(), meta_handler=lambda *read: read[1][:1])
    peer.send(b"a1\nb2\na3")
    peer.close()
    assert [event.id for event in drain(mux) if event.type == "read"] == [b"a", b"b", b"a"]


def test_what_is_left_at_the_end_has_no_id(mux, pair):
    calls = []
    fh, peer = up(mux, pair, buffered=Size("B"), meta_handler=lambda *read: calls.append(read))
    peer.send(b"\5abc")
    peer.close()
    assert drain(mux) == [ReadLast(fh, b"\5abc"), Closing(fh), Closed(fh)]
    assert calls == []


def test_an_id_of_a_datagram_may_be_its_sender(mux):
    server = mux.listen("udp://127.0.0.1:0", meta_handler=lambda fh, data, sender: sender)
    client = mux.connect(f"udp://127.0.0.1:{server.getsockname()[1]}")
    mux.send(client, b"hello")
    event = take(mux, 2)[1]
    assert event.id == client.getsockname()


def test_what_is_accepted_has_the_handler_of_its_listener(mux):
    listener = mux.listen("tcp://127.0.0.1:0", meta_handler=lambda *read: "id")
    client = mux.connect("tcp://{}:{}".format(*listener.getsockname()))
    mux.send(client, b"hello")
    events = take(mux, 4)
    assert [event.id for event in events if event.type == "read"] == ["id"]


def test_meta_by_id_is_the_programs_store(mux):
    assert mux.meta(("session", 1)) is None
    assert mux.meta(("session", 1), "one") == "one"
    assert mux.meta("session 2", "two") == "two"
    assert (mux.meta(("session", 1)), mux.meta("session 2")) == ("one", "two")
    assert mux.meta("session 2", None) is None
    assert mux.meta("session 2") is None


def test_meta_by_id_is_no_handle(mux):
    mux.meta("session", "one")
    assert mux.handles() == []
    assert mux.mux() is None


def fail_on(wrong):
    def handler(fh, data, sender):
        if data == wrong:
            raise ZeroDivisionError
        return data

    return handler


@pytest.mark.parametrize("buffered", [None, Split()], ids=["plain", "split"])
def test_what_a_handler_raises_comes_out_and_loses_no_data(mux, pair, buffered):
    fh, peer = up(mux, pair, buffered=buffered, meta_handler=fail_on(b"a"), read_size=2)
    peer.send(b"a\n" if buffered else b"a")
    with pytest.raises(ZeroDivisionError):
        mux.mux(PATIENCE)
    assert drain(mux) == [Read(fh, b"a", None, None)]


def test_a_handler_that_fails_for_one_record_does_not_lose_the_others(mux, pair):
    fh, peer = up(mux, pair, buffered=Split(), meta_handler=fail_on(b"b"))
    peer.send(b"a\nb\nc\n")
    with pytest.raises(ZeroDivisionError):
        mux.mux(PATIENCE)
    assert [(event.data, event.id) for event in drain(mux)] == [
        (b"a", b"a"),
        (b"b", None),
        (b"c", b"c"),
    ]
    assert mux.handles() == [fh]


# Buffers that change


def test_from_now_on_another_buffer(mux, pair):
    fh, peer = up(mux, pair, buffered=Split())
    peer.send(b"one\n")
    assert drain(mux) == [Read(fh, b"one")]
    mux.set(fh, buffered=FixedSize(3))
    peer.send(b"abcdef")
    assert drain(mux) == [Read(fh, b"abc"), Read(fh, b"def")]


def test_what_was_carried_over_is_cut_at_once(mux, pair):
    fh, peer = up(mux, pair, buffered=Split())
    peer.send(b"abcdefgh")
    assert drain(mux) == []
    mux.set(fh, buffered=FixedSize(3))
    assert drain(mux) == [Read(fh, b"abc"), Read(fh, b"def")]
    peer.send(b"i")
    assert drain(mux) == [Read(fh, b"ghi")]


def test_size_headers_are_carried_over(mux, pair):
    fh, peer = up(mux, pair, buffered=Size("B"))
    peer.send(b"\5ab")
    assert drain(mux) == []
    mux.set(fh, buffered=None)
    assert drain(mux) == [Read(fh, b"\5ab")]


def test_without_a_buffer_the_rest_is_read(mux, pair):
    fh, peer = up(mux, pair, buffered=Split())
    peer.send(b"one\ntw")
    assert drain(mux) == [Read(fh, b"one")]
    mux.set(fh, buffered=None)
    assert drain(mux) == [Read(fh, b"tw")]
    peer.send(b"o\n")
    assert drain(mux) == [Read(fh, b"o\n")]


def test_without_a_rest_there_is_no_event(mux, pair):
    fh, _ = up(mux, pair, buffered=Split())
    mux.set(fh, buffered=None)
    mux.set(fh, buffered=Split())
    assert drain(mux) == []


def test_the_end_is_that_of_the_new_buffer(mux, pair):
    fh, peer = up(mux, pair, buffered=Split())
    peer.send(b"\5ab")
    drain(mux)
    mux.set(fh, buffered=Size("B"))
    peer.close()
    assert drain(mux) == [ReadLast(fh, b"\5ab"), Closing(fh), Closed(fh)]


def test_the_new_buffer_is_a_pattern(mux, pair):
    pattern = Split()
    pattern.write(b"left over")
    fh, peer = up(mux, pair)
    mux.set(fh, buffered=pattern)
    peer.send(b"one\n")
    assert drain(mux) == [Read(fh, b"one")]


def test_what_was_carried_over_may_be_too_long(mux, pair):
    fh, peer = up(mux, pair, buffered=Split())
    peer.send(b"a\nlong")
    drain(mux)
    mux.set(fh, buffered=Split(max_size=2))
    error, closing, closed = drain(mux)
    assert isinstance(error.exception, BufferOverflow)
    assert error.data == b"long"
    assert (closing, closed) == (Closing(fh, error.error), Closed(fh, 0, error.error))


def test_a_buffer_is_not_changed_after_close(mux, pair):
    fh, peer = up(mux, pair, buffered=Split())
    peer.send(b"rest")
    drain(mux)
    mux.close(fh)
    mux.set(fh, buffered=None)
    assert drain(mux) == [Closing(fh), Closed(fh)]


@pytest.mark.parametrize("wrong", [b"\n", Split, 5])
def test_only_buffers_can_be_set(mux, pair, wrong):
    fh, peer = up(mux, pair, buffered=Split())
    with pytest.raises(TypeError, match="must be a buffer"):
        mux.set(fh, buffered=wrong)
    peer.send(b"a\n")
    assert drain(mux) == [Read(fh, b"a")]


def test_a_listener_is_no_stream_of_bytes(mux):
    listener = mux.listen("tcp://127.0.0.1:0")
    with pytest.raises(TypeError, match="is no stream of bytes"):
        mux.set(listener, buffered=Split())
    with pytest.raises(TypeError, match="is no stream of bytes"):
        mux.recvdata(listener, 5)


@pytest.mark.parametrize("buffered", [None, Split(), Split(re.compile(b"x"))])
def test_only_some_buffers_wait_for_a_size(mux, pair, buffered):
    fh, peer = up(mux, pair, buffered=buffered)
    peer.send(b"axbx\n")
    drain(mux)
    with pytest.raises(TypeError, match="has no buffer that waits for a size"):
        mux.recvdata(fh, 5)


# A head, and then the body


def test_a_body_is_read_when_its_size_is_known(mux, pair):
    fh, peer = up(mux, pair, buffered=HTTP(header_only=True))
    peer.send(HEAD + b"hello" + NEXT)
    assert drain(mux) == [Read(fh, HEAD)]
    mux.recvdata(fh, 5)
    assert mux.mux(0) == Read(fh, b"hello")
    assert mux.mux(PATIENCE) == Read(fh, NEXT)


def test_a_body_that_comes_later(mux, pair):
    fh, peer = up(mux, pair, buffered=HTTP(header_only=True))
    peer.send(HEAD)
    assert drain(mux) == [Read(fh, HEAD)]
    mux.recvdata(fh, 5)
    peer.send(b"he")
    assert drain(mux) == []
    peer.send(b"llo")
    assert drain(mux) == [Read(fh, b"hello")]


def test_no_body(mux, pair):
    fh, peer = up(mux, pair, buffered=HTTP(header_only=True))
    peer.send(NEXT + HEAD)
    assert drain(mux) == [Read(fh, NEXT)]
    mux.recvdata(fh, 0)
    assert drain(mux) == [Read(fh, HEAD)]


def test_nothing_is_read_while_a_size_is_waited_for(mux, pair):
    fh, peer = up(mux, pair, buffered=HTTP(header_only=True))
    peer.send(HEAD)
    assert drain(mux) == [Read(fh, HEAD)]
    peer.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        for _ in range(1000):
            peer.send(b"x" * 100_000)
            assert mux.mux(0).type == "timeout"
        pytest.fail("all of it was read")
    peer.close()
    assert drain(mux) == []  # not even the end


def test_the_end_behind_a_head_waits(mux, pair):
    fh, peer = up(mux, pair, buffered=HTTP(header_only=True))
    peer.send(HEAD + b"hello")
    peer.close()
    assert drain(mux) == [Read(fh, HEAD)]
    mux.recvdata(fh, 5)
    assert drain(mux) == [Read(fh, b"hello"), Closing(fh), Closed(fh)]


def test_what_waits_can_be_answered_and_closed(mux, pair):
    fh, peer = up(mux, pair, buffered=HTTP(header_only=True))
    peer.send(HEAD + b"hello")
    drain(mux)
    mux.send(fh, b"no")
    mux.close(fh)
    mux.recvdata(fh, 5)  # too late: nothing is given out behind `Closing`
    assert drain(mux) == [Sent(fh), Closing(fh), Closed(fh)]
    assert peer.recv(100) == b"no"


def test_another_buffer_ends_the_wait(mux, pair):
    fh, peer = up(mux, pair, buffered=HTTP(header_only=True))
    peer.send(HEAD + b"hello")
    drain(mux)
    mux.set(fh, buffered=None)
    peer.send(b" world")
    assert drain(mux) == [Read(fh, b"hello"), Read(fh, b" world")]


@pytest.mark.parametrize("size", [-1, 1.5, "5", None, True])
def test_a_size_that_is_none(mux, pair, size):
    fh, peer = up(mux, pair, buffered=HTTP(header_only=True))
    peer.send(HEAD + b"hello")
    drain(mux)
    with pytest.raises(ValueError, match="size"):
        mux.recvdata(fh, size)
    assert drain(mux) == []  # it waits on
    mux.recvdata(fh, 5)
    assert drain(mux) == [Read(fh, b"hello")]


def test_a_size_that_nothing_waits_for(mux, pair):
    fh, _ = up(mux, pair, buffered=HTTP(header_only=True))
    with pytest.raises(ValueError, match="no head waits"):
        mux.recvdata(fh, 5)


@pytest.mark.parametrize("buffered", [None, Split()], ids=["plain", "split"])
def test_a_size_for_a_buffer_that_takes_none(mux, pair, buffered):
    fh, _ = up(mux, pair, buffered=buffered)
    with pytest.raises(TypeError, match="no buffer that waits for a size"):
        mux.recvdata(fh, 5)


def test_a_size_for_a_stranger(mux, pair):
    with pytest.raises(KeyError, match="is not watched"):
        mux.recvdata(pair()[0], 5)


def test_a_body_over_the_limit_is_an_error(mux, pair):
    fh, peer = up(mux, pair, buffered=HTTP(header_only=True, max_size=100))
    peer.send(HEAD)
    drain(mux)
    mux.recvdata(fh, 101)
    events = drain(mux)
    assert kinds(events) == ["error", "closing", "closed"]
    assert isinstance(events[0].exception, BufferOverflow)


def test_a_reads_per_turn_of_one_still_gets_large_records(pair):
    with EventMux(reads_per_turn=1, read_size=2) as mux:
        fh, peer = up(mux, pair, buffered=Split())
        peer.send(b"a long record\n")
        assert mux.mux(PATIENCE) == Read(fh, b"a long record")


def test_an_error_in_the_middle_of_a_body(mux, pair):
    fh, peer = up(mux, pair, buffered=HTTP(header_only=True))
    peer.send(HEAD)
    drain(mux)
    mux.recvdata(fh, 5)
    peer.send(b"he")
    peer.close()
    assert drain(mux) == [ReadLast(fh, b"he"), Closing(fh), Closed(fh)]


def test_a_buffer_that_cannot_be_made_loses_nothing(mux, pair):
    class Broken(Split):
        def fresh(self):
            raise MemoryError

    fh, peer = pair()
    mux.add(fh, buffered=Split())
    peer.send(b"half")
    drain(mux)
    with pytest.raises(MemoryError):
        mux.set(fh, buffered=Broken())
    peer.send(b"\n")
    assert drain(mux) == [Read(fh, b"half")]
