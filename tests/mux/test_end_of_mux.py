"""The end of the `with` block, and a mux beside another one."""

import gc
import selectors
import signal

import pytest
from support.meeting import url_of
from support.pump import SELECTORS, drain, until

from eventmux import (
    Event,
    EventMux,
    Read,
    Ready,
    Sent,
)


@pytest.mark.parametrize("kind", SELECTORS, ids=lambda kind: kind.__name__)
def test_the_end_closes_everything(pair, kind):
    fh, peer = pair()
    with EventMux(selector=kind()) as mux:
        listener = mux.listen("tcp://127.0.0.1:0")
        outgoing = mux.connect(url_of(listener))
        until(mux, "connect")
        mux.add(fh)
        handles = mux.handles()
        assert len(handles) == 4
        mux.close(outgoing)
        mux.push_event(Event())
    assert [handle.fileno() for handle in handles] == [-1] * 4
    assert peer.recv(10) == b""
    assert mux.handles() == []
    assert mux.has_events() == 0
    assert mux.mux() is None
    del mux, handles, outgoing, listener
    gc.collect()  # no ResourceWarning


@pytest.mark.parametrize("ready", [True, False])
def test_the_end_sends_what_was_put_off(pair, ready):
    fh, peer = pair()
    with EventMux() as mux:
        mux.add(fh)
        if ready:
            mux.mux()
        mux.send(fh, b"last words", later=True)
    assert peer.recv(100) == b"last words"


def test_the_end_closes_a_selector_of_the_programs_own():
    selector = selectors.DefaultSelector()
    with EventMux(selector=selector):
        pass
    assert selector.get_map() is None


def test_an_exception_passes_through(pair):
    fh, _ = pair()
    mux = EventMux()
    mux.add(fh)
    with pytest.raises(ZeroDivisionError), mux:
        raise ZeroDivisionError
    assert fh.fileno() == -1


def test_two_muxes_know_nothing_of_each_other(mux, pair):
    fh, peer = pair()
    with EventMux() as other:
        mux.add(fh)
        other.add(peer)
        assert drain(mux) == [Ready(fh)]
        other.send(peer, b"hello")
        assert drain(mux) == [Read(fh, b"hello")]
        assert drain(other) == [Ready(peer), Sent(peer)]


@pytest.mark.parametrize("watch", ["timer", "signal", "child"])
def test_a_mux_that_has_ended_watches_nothing_more(mux, watch):
    argument = {"timer": 1, "signal": signal.SIGUSR1, "child": 1}[watch]
    with mux:
        pass
    with pytest.raises(RuntimeError, match="this mux is closed"):
        getattr(mux, watch)(argument)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_a_mux_that_has_ended_does_not_wait(mux):
    with mux:
        pass
    with pytest.raises(RuntimeError, match="this mux is closed"):
        mux.mux(0)
