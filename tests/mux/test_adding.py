"""What can be added, with which options, and who is a stranger."""

import errno
import gc
import selectors
import socket

import pytest
from support.fakes import RefusingSelector
from support.meeting import unused_url
from support.pump import PATIENCE, drain, receive, take

from eventmux import (
    EventMux,
    Read,
    Ready,
)
from eventmux.buffers import Split

HUGE = b"x" * 3_000_000  # more than a kernel buffers


def test_adding_twice_is_refused(mux, watched):
    with pytest.raises(ValueError, match="is watched already"):
        mux.add(watched[0])
    watched[1].send(b"hello")
    assert mux.mux() == Read(watched[0], b"hello")


def test_adding_a_descriptor_twice_is_refused(mux, watched):
    fh, peer = watched
    twin = socket.socket(fileno=fh.fileno())
    try:
        with pytest.raises(ValueError, match="watched already"):
            mux.add(twin)
        assert mux.handles() == [fh]
    finally:
        twin.detach()
    peer.send(b"hello")
    assert mux.mux() == Read(fh, b"hello")


@pytest.mark.parametrize("wrong", [None, "socket", True, 5.0, object(), b""])
def test_only_handles_can_be_added(mux, wrong):
    with pytest.raises(TypeError, match="cannot watch"):
        mux.add(wrong)
    assert mux.handles() == []


def test_a_closed_socket_is_not_one(mux):
    sock = socket.socket()
    sock.close()
    for listen in (None, False, True):
        with pytest.raises((OSError, ValueError)):
            mux.add(sock, listen=listen)
    assert mux.handles() == []


@pytest.mark.parametrize("option", ["read_size", "high_water"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "10", True])
def test_sizes_are_positive(mux, pair, option, value):
    fh, _ = pair()
    with pytest.raises(ValueError, match=f"{option} is {value!r}, must be a positive int"):
        mux.add(fh, **{option: value})
    assert_untouched(mux, fh)


def assert_untouched(mux, fh):
    assert mux.handles() == []
    assert fh.gettimeout() is None
    assert mux.mux() is None
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)


@pytest.mark.parametrize("option", ["buffer", "time", "typ"])
def test_an_unknown_option_is_refused(mux, pair, option):
    fh, _ = pair()
    with pytest.raises(TypeError, match=option):
        mux.add(fh, **{option: 1})
    assert_untouched(mux, fh)
    with pytest.raises(TypeError, match=option):
        EventMux(**{option: 1})
    for url in (unused_url(), "unix:///no/such/dir/x"):
        with pytest.raises(TypeError, match=option):
            mux.connect(url, **{option: 1})
    with pytest.raises(TypeError, match=option):
        mux.listen("tcp://127.0.0.1:0", **{option: 1})
    assert mux.handles() == [fh]


@pytest.mark.parametrize("wrong", [Split, "\n", b"\n", object()], ids=lambda wrong: repr(wrong)[:9])
def test_what_is_no_buffer_is_refused_at_once(mux, pair, wrong):
    fh, _ = pair()
    with pytest.raises(TypeError, match="buffer"):
        mux.add(fh, buffered=wrong)
    assert_untouched(mux, fh)


@pytest.mark.parametrize("wrong", [Split, "\n", b"\n", object()], ids=lambda wrong: repr(wrong)[:9])
def test_what_is_no_buffer_is_refused_before_anybody_connects(mux, wrong):
    with pytest.raises(TypeError, match="buffer"):
        mux.listen("tcp://127.0.0.1:0", buffered=wrong)
    assert mux.handles() == []


def test_what_the_selector_refuses_is_not_added(pair):
    selector = RefusingSelector()
    with EventMux(selector=selector) as mux:
        selector.refuse = OSError(errno.ENOSPC, "No space left on device")
        fh, _ = pair()
        with pytest.raises(OSError, match="No space left"):
            mux.add(fh)
        with pytest.raises(OSError, match="No space left"):
            mux.listen("tcp://127.0.0.1:0")
        with pytest.raises(OSError, match="No space left"):
            mux.connect(unused_url())
        gc.collect()  # a socket that was made and dropped would warn
        selector.refuse = None
        assert_untouched(mux, fh)


@pytest.mark.parametrize("option", ["read_size", "reads_per_turn"])
@pytest.mark.parametrize("value", [0, -1, 1.5, None])
def test_options_of_the_mux_are_positive(option, value):
    with pytest.raises(ValueError, match=f"{option} is {value!r}, must be a positive int"):
        EventMux(**{option: value})


def test_options_are_keywords_only(mux, pair):
    with pytest.raises(TypeError):
        EventMux(selectors.DefaultSelector())
    with pytest.raises(TypeError):
        mux.add(pair()[0], True)


def test_read_size_of_the_mux_and_of_the_handle(pair):
    with EventMux(read_size=4) as mux:
        fh, peer = pair()
        other, remote = pair()
        mux.add(fh)
        mux.add(other, read_size=2)
        take(mux, 2)
        peer.send(b"abcdef")
        remote.send(b"abcdef")
        events = drain(mux)
    assert [event.data for event in events if event.fh is fh] == [b"abcd", b"ef"]
    assert [event.data for event in events if event.fh is other] == [b"ab", b"cd", b"ef"]


def test_whether_it_listens_can_be_told(mux, pair):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for listen in (None, True):
            mux.add(listener, listen=listen)
            with socket.create_connection(listener.getsockname()):
                event = mux.mux(PATIENCE)
            assert event.type == "connect"
            mux.kill(event.fh)
            mux.remove(listener)
            drain(mux)
    fh, _ = pair()
    mux.add(fh, listen=False)
    assert mux.mux(PATIENCE) == Ready(fh)


def test_a_handle_is_read_from_in_turn_with_the_others(mux, pair):
    loud, talker = pair()
    quiet, whisperer = pair()
    mux.add(loud, read_size=10)
    mux.add(quiet, read_size=10)
    take(mux, 2)
    talker.send(b"x" * 1000)
    whisperer.send(b"y")
    assert Read(quiet, b"y") in take(mux, 2)


def test_writing_comes_before_reading(mux, watched):
    fh, peer = watched
    mux.send(fh, HUGE)
    unsent = mux.buflen(fh)
    receive(peer)
    peer.send(b"hello")
    assert mux.mux() == Read(fh, b"hello")
    assert mux.buflen(fh) < unsent


class HalfABuffer:
    def fresh(self):
        return self


def test_half_a_buffer_is_refused_at_once(mux, pair):
    fh, _ = pair()
    with pytest.raises(TypeError, match="must be a buffer"):
        mux.add(fh, buffered=HalfABuffer())
    assert_untouched(mux, fh)


CLOSE = EventMux.close


@pytest.mark.parametrize(
    "call",
    [
        lambda mux, fh: mux.send(fh, b"x"),
        lambda mux, fh: mux.send(fh, b"x", later=True),
        CLOSE,
        lambda mux, fh: mux.kill(fh),
        lambda mux, fh: mux.remove(fh),
        lambda mux, fh: mux.buflen(fh),
        lambda mux, fh: mux.meta(fh),
        lambda mux, fh: mux.meta(fh, 1),
    ],
    ids=["send", "later", "close", "kill", "remove", "buflen", "meta", "set meta"],
)
@pytest.mark.parametrize("how", ["stranger", "removed", "closed"])
def test_a_stranger_is_a_key_error(mux, pair, call, how):
    fh, _ = pair()
    if how != "stranger":
        mux.add(fh)
        getattr(mux, "remove" if how == "removed" else "kill")(fh)
        drain(mux)
    if how == "closed" and call is CLOSE:
        call(mux, fh)  # closing twice is once
        return
    with pytest.raises(KeyError, match="is not watched"):
        call(mux, fh)
    assert mux.handles() == []
    assert mux.mux() is None
