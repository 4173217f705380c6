"""Ctrl-C at any line while calls are counted and told of: no call is lost, none is told twice."""

from __future__ import annotations

import gc
import logging
from collections import Counter

import pytest
from support.line_interrupts import NEVER, at_each_line
from support.peers import Bench, set_clock
from support.procedures import Procedures
from support.server_interrupts import Interrupter

from eventmux import EventMux, Timeout
from rpcasync.serving.records import OUTCOMES

CALLS = 9


class Scene:
    """A server that is looked at, with a call of each ending."""

    def __init__(self, mux, interrupter):
        self.mux = mux
        self.interrupter = interrupter
        self.procedures = Procedures()
        self.told = []
        bench = Bench(mux, self.procedures, on_exception="answer", on_call=self.told.append)
        self.bench = self.procedures.bench = bench
        bench.rpc.set_limits(outstanding=3)
        bench.rpc.stats()
        set_clock(bench.rpc, 0.0001)
        self.interrupts = 0

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
        """Return the ids of the calls that were not answered."""
        staying, going = self.bench.peer(), self.bench.peer()
        staying.send_calls(
            *(("add", "n1", 1, "n2", 2), ("fault",), ("explode",), ("unsendable",), ("forget",)),
            *(("nothing",), ("park", 1), ("park", 2), ("note", 3)),
        )
        left = {*range(CALLS)}
        going.send(100, "park", 3)
        going.send(101, "park", 4)
        for number in range(6):
            self.turn()
            gc.collect()
            if number == 2:
                going.sock.close()
            if number == 4:
                self.answer_parked()
            left -= {packet[0] for packet in staying.read()}
        return left

    def answer_parked(self):
        while self.procedures.parked:
            caller = self.procedures.parked.pop()
            if not caller.answered:
                self.bench.rpc.return_(caller)
            self.turn()


def play(at):
    interrupter = Interrupter(at)
    with EventMux() as mux:
        scene = Scene(mux, interrupter)
        left = scene.play()
        assert len(left) <= scene.interrupts, left  # of the call that was interrupted
        told = Counter(record.id for record in scene.told)
        assert max(told.values()) == 1, told
        assert CALLS + 2 - len(told) <= scene.interrupts, scene.told
        stats = scene.bench.rpc.stats()
        assert abs(sum(stats["calls"].values()) - len(told)) <= scene.interrupts
        assert stats["running"] == stats["waiting"] == 0
        if not scene.interrupts and at == NEVER:
            ends = Counter(record.outcome for record in scene.told)
            assert ends == {outcome: stats["calls"][outcome] for outcome in ends}
            assert {*ends} == {*OUTCOMES} - {"timeout"}
        scene.bench.close()
        scene.turn()
    return interrupter


@pytest.fixture(autouse=True)
def _quiet(caplog):
    """Keep no traceback: it would hold what is dropped."""
    caplog.set_level(logging.CRITICAL, "rpcasync")


def test_without_an_interrupt_all_is_told():
    assert play(NEVER).lines > 500


@pytest.mark.parametrize("at", [200, 400, 600])
def test_an_interrupt_costs_one_record_at_most(at):
    play(at)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_interrupt_at_any_line_costs_one_record_at_most():
    assert at_each_line(play, first=False) > 100
