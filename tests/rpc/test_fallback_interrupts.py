"""Ctrl-C at any line while calls are passed on, for a program that goes on."""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
from pathlib import Path

import pytest
from support import line_interrupts
from support.line_interrupts import at_each_line
from support.peers import Bench, set_clock, turn
from support.procedures import Procedures
from support.server_interrupts import is_before

import rpcasync
from eventmux import Event, EventMux, Timeout
from rpcasync import Client
from rpcasync.wire.messages import CallbackRef

_PACKAGE = Path(rpcasync.__file__).parent
_PLACES = ("server.py", "serving", "forwarding", "client.py", "inbox.py", "outbox.py", "limited.py")


class Interrupter(line_interrupts.Interrupter):
    def __init__(self, at):
        super().__init__(at, places=tuple(str(_PACKAGE / each) for each in _PLACES))

    def counts(self, frame):
        return super().counts(frame) and not is_before(frame)


class Scene:
    """A server with clients, and the one behind it, each on a mux of its own."""

    def __init__(self, interrupter, kind, url):
        self.interrupter = interrupter
        self.interrupts = 0
        self.procedures = Procedures()
        self.behind = self.procedures.bench = Bench(EventMux(), self.procedures)
        self.listener = self.behind.rpc.listen(url)
        self.mux = EventMux()
        self.client = None
        if kind != "url":
            self.client = Client(self.mux, url, limit=2 if kind == "limit" else None)
        self.front = Bench(self.mux, {}, fallback=self.client or url)
        set_clock(self.front.rpc, 0.002)

    def turn(self):
        for _ in range(5):
            while not isinstance(event := self.mux.mux(0), Timeout):
                try:
                    with self.interrupter:
                        event = self.front.rpc.io(event)
                except KeyboardInterrupt:
                    self.interrupts += 1
                    event = None
                assert event is None or type(event) is Event  # that woke one which has ended
            turn(self.behind.mux, self.behind.rpc)

    def play(self):
        """Return how many answers each client has got, by id."""
        peers = [self.front.peer(), self.front.peer("json")]
        going = self.front.peer()
        going.send_calls(("park", 1), ("park", 2), ("park", 3))
        self.turn()
        going.sock.close()
        for peer in peers:
            peer.send_calls(
                *(("list", 0), ("keep", CallbackRef(90)), ("nope",), ("list", 3), ("list", 4))
            )
        self.turn()
        for caller in self.procedures.parked:
            self.behind.rpc.return_(caller)
        self.procedures.parked.clear()
        for values in self.procedures.kept:
            values[0]("called")
        self.procedures.kept.clear()
        got = [[], []]
        for _ in range(4):
            gc.collect()  # what the interrupt held
            self.turn()
            for peer, packets in zip(peers, got, strict=True):
                packets += peer.read()
        self.check_the_rest()
        return got

    def check_the_rest(self):
        assert self.front.rpc.has_queued() == 0
        assert len(self.front.rpc.clients) == 2
        assert len(self.behind.rpc.clients) == (1 if self.client else 2)
        assert not self.client or not self.client.has_requests()
        self.interrupter = contextlib.nullcontext()
        peer = self.front.peer()
        peer.send(0, "list", "later")
        self.turn()
        assert (got := peer.read()) == [[0, "later"]], got

    def close(self):
        for bench in (self.front, self.behind):
            bench.close()
            bench.rpc.close_listeners()
        self.mux.__exit__(None, None, None)
        self.behind.mux.__exit__(None, None, None)


def play(at, kind, url):
    interrupter = Interrupter(at)
    scene = Scene(interrupter, kind, url)
    try:
        got = scene.play()
        assert scene.interrupts == interrupter.has_fired
        for packets in got:
            ids = [packet[0] for packet in packets]
            assert len(set(range(5)) - set(ids)) <= scene.interrupts, "an answer is missing"
            assert len([each for each in ids if each < 5]) <= 5 + scene.interrupts
            wrong = [each for each in packets if each[0] in (0, 3, 4) and each[1:] != [each[0]]]
            assert len(wrong) <= scene.interrupts, wrong
            called = [each for each in packets if each[0] == 90 and each[1] == "call"]
            assert len(called) <= 1, called
            assert called or scene.interrupts
    except BaseException as error:
        raise AssertionError(f"Ctrl-C at line {at}, {interrupter.place}") from error
    finally:
        scene.close()
    return interrupter


@pytest.fixture(autouse=True)
def _quiet(caplog):
    """Keep no traceback: it would hold what is dropped."""
    caplog.set_level(logging.CRITICAL + 1, "rpcasync")


@pytest.fixture(params=["client", "limit", "url"])
def play_once(tmp_path, request):
    """Plays a scene of one kind, each time at an address of its own."""
    numbers = itertools.count()
    return lambda at: play(at, request.param, f"unix://{tmp_path}/{next(numbers)}")


def test_ctrl_c_at_many_lines(play_once):
    at = 47
    while play_once(at).has_fired:
        at += 47
    assert at > 1000


@pytest.mark.slow
def test_ctrl_c_at_any_line(play_once):
    assert at_each_line(play_once, first=False) > 300
