"""Ctrl-C while calls run out of time, go on later, or their clients go: a program that goes on."""

from __future__ import annotations

import contextlib
import gc
import logging

import pytest
from support import line_interrupts
from support.fakes import ClockedSelector, FakeClock
from support.line_interrupts import NEVER, at_each_line
from support.peers import Bench, set_clock
from support.procedures import Procedures
from support.server_interrupts import Interrupter

from eventmux import EventMux, Timeout
from rpcasync.serving import alarms


class Scene:
    """A server of calls that are not answered, that poll, and whose client goes."""

    def __init__(self, mux, interrupter):
        self.mux = mux
        self.interrupter = interrupter
        self.procedures = Procedures()
        self.bench = self.procedures.bench = Bench(mux, self.procedures, timeout=5)
        self.bench.rpc.set_options("poll", timeout=8)
        self.bench.rpc.set_limits(outstanding=7)
        self.procedures.rpc_poll = self.poll
        self.procedures.rpc_watch = self.watch
        self.tries = {}
        self.is_watched = False  # the next two are to come
        self.gone = []
        self.interrupts = 0

    def poll(self, caller):
        self.tries[caller.id] = self.tries.get(caller.id, 0) + 1
        if self.tries[caller.id] < 3:
            self.bench.rpc.retry(caller, 2, self.poll)
        else:
            self.bench.rpc.return_(caller, "polled")

    def watch(self, caller):
        rpc = self.bench.rpc
        rpc.on_close(caller, lambda _: self.gone.append(1))
        rpc.on_close(caller, lambda _: self.gone.append(2))
        rpc.retry(caller, 3, print)
        rpc.retry(caller, 1000, print)
        self.is_watched = True

    def turn(self):
        while not isinstance(event := self.mux.mux(0), Timeout):
            try:
                with self.interrupter:
                    event = self.bench.rpc.io(event)
            except KeyboardInterrupt:
                self.interrupts += 1
                event = None
            assert event is None

    def play(self):
        """Return how many calls were not answered."""
        bench = self.bench
        first, second, going = bench.peer(), bench.peer("json"), bench.peer()
        first.send_calls(("park", 0), ("poll",), ("note", 2), ("park", 3), ("poll",))
        going.send_calls(("watch",), ("park", 9))
        self.turn()
        second.send_calls(("poll",), ("add", "n1", 1, "n2", 2), ("park", 1))
        self.turn()
        going.sock.close()
        missing = [{*range(5)}, {*range(3)}]
        for number in range(30):
            self.turn()
            self.mux.clock.advance(1)
            if number % 5 == 4:
                gc.collect()  # what the interrupt held
            for peer, left in zip((first, second), missing, strict=True):
                left -= {packet[0] for packet in peer.read()}
        self.check_the_rest()
        return [id for left in missing for id in left]

    def check_the_rest(self):
        bench, procedures = self.bench, self.procedures
        assert bench.rpc.has_queued() == 0
        assert all(caller.answered or not caller.alive for caller in procedures.parked)
        assert len(bench.rpc.clients) == 2
        procedures.parked.clear()
        peer = bench.peer()
        peer.send_calls(*[("park", n) for n in range(9)])
        bench.turn()
        assert len(procedures.parked) == 7  # no more, no less: the count is right
        self.mux.clock.advance(5)
        bench.turn()
        assert [packet[2] for packet in peer.read()] == ["timeout-server"] * 7
        bench.close()
        bench.turn()
        assert not bench.rpc.has_clients()
        assert not len(bench.rpc._alarms)
        procedures.parked.clear()


def play(at):
    """Play the scene with an interrupt; return the interrupter."""
    interrupter = Interrupter(at)
    clock = FakeClock()
    with EventMux(selector=ClockedSelector(clock, most_calls=10**9), clock=clock, spin=0) as mux:
        scene = Scene(mux, interrupter)
        set_clock(scene.bench.rpc, 0.002)
        missing = scene.play()
        assert scene.interrupts == interrupter.has_fired
        # Of the call that was interrupted, and no other, the answer may be missing.
        assert len(missing) <= scene.interrupts, missing
        assert scene.is_watched or scene.interrupts
        if scene.is_watched:  # one that is interrupted is called again
            assert set(scene.gone) == {1, 2}
            assert len(scene.gone) <= 2 + scene.interrupts
    return interrupter


@pytest.fixture(autouse=True)
def _quiet(caplog, monkeypatch):
    """Keep no traceback: it would hold what is dropped. Ring all alarms in one turn."""
    caplog.set_level(logging.CRITICAL, "rpcasync")
    monkeypatch.setattr(alarms, "_SECONDS", 60)


def test_nothing_is_lost_without_an_interrupt():
    assert play(NEVER).lines > 1000


@pytest.mark.parametrize("at", [150, 600, 1100, 1700])
def test_an_interrupt_costs_one_call_at_most(at):
    play(at)


def test_an_interrupt_where_the_timer_is_set_does_not_harm_others():
    at, has_fired = 0, True
    while has_fired:
        at += 1
        interrupter = line_interrupts.Interrupter(at, places=(alarms.__file__,))
        clock = FakeClock()
        with EventMux(selector=ClockedSelector(clock), clock=clock, spin=0) as mux:
            procedures = Procedures()
            bench = procedures.bench = Bench(mux, procedures, timeout=5)
            first, second = bench.peer(), bench.peer()
            bench.ask(first, 0, "park")
            bench.rpc.timeout = 1  # the timer that runs is too late now
            second.send(0, "park")
            event = mux.mux()
            with contextlib.suppress(KeyboardInterrupt), interrupter:
                bench.rpc.io(event)
            gc.collect()  # what the interrupt held
            for _ in range(5):
                bench.turn()
                clock.advance(1)
            bench.turn()
            assert first.read()[0][2] == "timeout-server", interrupter.place
            assert second.read() or has_fired
            bench.close()
        has_fired = interrupter.has_fired
    assert at > 10


@pytest.mark.slow
def test_an_interrupt_at_every_line():
    assert at_each_line(play, first=False) > 300
