"""A trace whose handler uses a mux itself: what it causes is not traced, and nothing is lost."""

import logging
import socket

import pytest
from support.pump import PATIENCE, drain, kinds, receive, take

from eventmux import Event, EventMux, Read, Ready, Sent, Timeout


class Handler(logging.Handler):
    """Does something with each line."""

    def __init__(self, action):
        super().__init__()
        self.action = action
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())
        self.action(self.lines[-1].encode())


@pytest.fixture
def traced():
    """Make a logger whose lines go to a function."""
    made = []

    def make(mux, action):
        logger = logging.Logger(f"traced {len(made)}", logging.DEBUG)
        handler = Handler(action)
        logger.addHandler(handler)
        made.append(logger)
        mux.trace(logger)
        return handler

    return make


@pytest.fixture
def watched(mux, pair):
    """Three handles that are up, with their peers."""
    pairs = [pair() for _ in range(2)] + [pair(socket.SOCK_DGRAM)]
    for fh, _ in pairs:
        mux.add(fh)
    drain(mux)
    return pairs


@pytest.mark.parametrize("which", [1, 2], ids=["stream", "datagrams"])
@pytest.mark.parametrize("later", [False, True])
def test_lines_that_are_sent_by_the_same_mux(mux, watched, traced, which, later):
    (fh, peer), (out, reader) = watched[0], watched[which]
    handler = traced(mux, lambda line: mux.send(out, line, later=later))
    mux.send(fh, b"one")
    assert kinds(drain(mux))[0] == "sent"
    peer.send(b"two")
    assert Read(fh, b"two") in drain(mux)
    number = fh.fileno()
    assert handler.lines == [
        f"fd {number} > b'one'",
        f"fd {number} : sent",
        f"fd {number} < read b'two'",
    ]
    received = receive(reader)
    assert handler.lines[0].encode() in received


def test_what_the_program_sends_on_the_same_handle_is_traced(mux, watched, traced):
    fh, _ = watched[2]
    handler = traced(mux, lambda line: mux.send(fh, line))
    for text in (b"one", b"two"):
        mux.send(fh, text)
        drain(mux)
    assert [line.partition(" > ")[2] for line in handler.lines if ">" in line] == [
        "b'one'",
        "b'two'",
    ]
    assert len(handler.lines) == 4  # with a `sent` for each


def test_lines_that_wait_for_their_reader(mux, watched, traced):
    (fh, _), (out, reader) = watched[0], watched[1]
    mux.send(out, b"x" * 3_000_000)
    handler = traced(mux, lambda line: mux.send(out, line))
    mux.send(fh, b"one")
    for _ in range(200):
        mux.mux(0)
        receive(reader)
    assert mux.buflen(out) == 0
    assert len(handler.lines) == 2


@pytest.mark.parametrize("method", ["push_event", "post"])
def test_lines_that_become_events(mux, watched, traced, method):
    (fh, _) = watched[0]

    class Line(Event):
        pass

    handler = traced(mux, lambda line: getattr(mux, method)(Line()))
    mux.send(fh, b"one")
    events = drain(mux)
    assert [type(event) for event in events].count(Line) == 2
    assert len(handler.lines) == 2
    mux.push_event(Line())  # the program's own
    assert len(drain(mux)) == 2
    assert len(handler.lines) == 3


def test_a_handler_that_closes(mux, watched, traced):
    (fh, _), (out, _) = watched[0], watched[1]
    handler = traced(mux, lambda line: mux.close(out))
    mux.send(fh, b"one")
    assert kinds(drain(mux)) == ["sent", "closing", "closed"]
    assert len(handler.lines) == 2


def test_two_muxes_that_log_by_each_other(mux, watched, traced, pair):
    (fh, _), (out, _) = watched[0], watched[1]
    with EventMux() as other:
        there, _peer = pair()
        other.add(there)
        drain(other)
        handlers = [
            traced(mux, lambda line: other.send(there, line)),
            traced(other, lambda line: mux.send(out, line)),
        ]
        mux.send(fh, b"one")
        for _ in range(20):
            mux.mux(0)
            other.mux(0)
        assert [len(handler.lines) for handler in handlers] == [2, 0]
        other.send(there, b"two")
        for _ in range(20):
            mux.mux(0)
            other.mux(0)
        assert [len(handler.lines) for handler in handlers] == [2, 2]


# A handler that fails


def fail(line):
    raise ZeroDivisionError


def test_a_handler_that_fails_ends_the_trace_and_no_event_is_lost(mux, watched, traced):
    (fh, peer) = watched[0]
    handler = traced(mux, fail)
    peer.send(b"one")
    with pytest.raises(ZeroDivisionError):
        mux.mux(PATIENCE)
    assert mux.mux(PATIENCE) == Read(fh, b"one")
    assert mux.mux(0) == Timeout()
    assert len(handler.lines) == 1


def test_a_handler_that_fails_when_something_is_sent(mux, watched, traced):
    (fh, peer) = watched[0]
    traced(mux, fail)
    with pytest.raises(ZeroDivisionError):
        mux.send(fh, b"one")
    assert mux.send(fh, b"two") == 0
    assert receive(peer) == b"onetwo"
    assert drain(mux) == [Sent(fh), Sent(fh)]


def test_ctrl_c_in_a_handler_does_not_end_the_trace(mux, watched, traced):
    (fh, peer) = watched[0]

    def interrupt(line):
        handler.action = lambda line: None
        raise KeyboardInterrupt

    handler = traced(mux, interrupt)
    peer.send(b"one")
    with pytest.raises(KeyboardInterrupt):
        mux.mux(PATIENCE)
    assert mux.mux(PATIENCE) == Read(fh, b"one")
    assert len(handler.lines) == 2


def test_a_handle_that_ends_while_the_handler_fails(mux, watched, traced):
    (fh, peer) = watched[0]
    peer.close()
    traced(mux, lambda line: fail(line) if b"closed" in line else None)
    assert mux.mux(PATIENCE).type == "closing"
    with pytest.raises(ZeroDivisionError):
        mux.mux(PATIENCE)
    assert fh.fileno() >= 0
    assert kinds(take(mux, 1)) == ["closed"]
    assert fh.fileno() == -1


def test_ready_is_traced_as_ever(mux, traced, pair):
    handler = traced(mux, lambda line: None)
    fh, _ = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    assert handler.lines == [f"fd {fh.fileno()} : ready"]
