"""Any order of answers, timeouts, retries and ends of connections, beside a model of them."""

from __future__ import annotations

import gc
import logging
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fakes import ClockedSelector, FakeClock
from support.peers import Bench, Peer
from support.procedures import Procedures

from eventmux import EventMux
from rpcasync import Caller

SECONDS = 10  # that a procedure has


@dataclass
class Model:
    """One call, and what should have become of it."""

    peer: Peer
    id: int
    due: float
    caller: Caller | None  # None: forgotten
    is_over: bool = False
    retries: list[float] = field(default_factory=list)  # when they are due
    rung: list[float] = field(default_factory=list)  # when they should have been called
    heard: list[float] = field(default_factory=list)  # when they were
    expected: str = ""
    is_told: bool = False


class World:
    def __init__(self, mux, clock):
        self.mux, self.clock = mux, clock
        self.procedures = Procedures()
        self.bench = self.procedures.bench = Bench(mux, self.procedures, timeout=SECONDS)
        self.calls: list[Model] = []
        self.peers: dict[Peer, set[int]] = {}  # which functions wait for its end
        self.gone: list[int] = []
        self.expected_gone: set[int] = set()

    # Steps

    def call(self, number):
        if len(self.peers) < 3:
            self.peers[self.bench.peer()] = set()
        peer = list(self.peers)[number % len(self.peers)]
        call = Model(peer, len(self.calls), self.clock.now + SECONDS, None)
        peer.send(call.id, "park")
        self.bench.turn()
        call.caller = self.procedures.parked.pop()
        self.calls.append(call)

    def answer(self, number):
        call = self.kept(number)
        if call is None:
            return
        if call.expected == "answered":
            with pytest.raises(ValueError, match="answered already"):
                self.bench.rpc.return_(call.caller)
            return
        is_sent = self.bench.rpc.return_(call.caller, "answered")
        assert is_sent is (not call.is_over)
        self.end(call, "answered")
        if call.expected == "gone":
            call.expected = "answered"  # to nobody, but once

    def forget(self, number):
        call = self.kept(number)
        if call is None:
            return
        call.caller = None
        if not call.is_over and not call.retries:  # a retry keeps it
            self.end(call, "dropped")

    def retry(self, number):
        call = self.kept(number)
        if call is None or call.expected == "answered":
            return
        seconds = 1 + number % 7

        self.bench.rpc.retry(
            call.caller, seconds, lambda _, heard=call.heard: heard.append(self.clock.now)
        )
        if not call.is_over:
            call.retries.append(self.clock.now + seconds)

    def watch(self, number):
        call = self.kept(number)
        if call is None:
            return
        name = len(self.expected_gone) + sum(map(len, self.peers.values()))
        self.bench.rpc.on_close(call.caller, lambda _: self.gone.append(name))
        self.peers.get(call.peer, self.expected_gone).add(name)

    def leave(self, number):
        if not self.peers:
            return
        peer = list(self.peers)[number % len(self.peers)]
        self.bench.turn()
        self.check_answers(peer)
        peer.sock.close()
        self.expected_gone |= self.peers.pop(peer)
        for call in self.calls:
            if call.peer is peer:
                self.end(call, "gone")

    def wait(self, number):
        """Let time pass, second by second."""
        for _ in range(1 + number % 12):
            self.clock.advance(1)
            now = self.clock.now
            for call in self.calls:
                if call.is_over:
                    continue
                # One that is due with the end of the time was set later, and comes behind it.
                call.rung += [due for due in call.retries if due == now < call.due]
                call.retries = [due for due in call.retries if due > now]
                if now >= call.due:
                    self.end(call, "timeout-server")
                elif call.caller is None and not call.retries:
                    self.end(call, "dropped")  # the last one had kept it
            self.bench.turn()

    # What they share

    def kept(self, number):
        kept = [call for call in self.calls if call.caller is not None]
        return kept[number % len(kept)] if kept else None

    @staticmethod
    def end(call, how):
        if not call.is_over:
            call.is_over, call.expected, call.retries = True, how, []

    def check(self):
        self.bench.turn()
        for peer in self.peers:
            self.check_answers(peer)
        assert [call.heard for call in self.calls] == [call.rung for call in self.calls]
        assert sorted(self.gone) == sorted(self.expected_gone)
        assert self.bench.rpc.has_clients() is bool(self.peers)

    def check_answers(self, peer):
        for id, *values in peer.read():
            call = self.calls[id]
            assert (call.peer, call.is_told) == (peer, False)
            text = values[0] if values[0] == "answered" else values[1]
            text = "dropped" if text.startswith("park: did not answer") else text
            assert text == call.expected
            call.is_told = True
        for call in self.calls:
            assert call.peer is not peer or call.is_over is call.is_told


STEPS = st.tuples(
    st.sampled_from(["call", "call", "answer", "forget", "retry", "watch", "leave", "wait"]),
    st.integers(0, 1000),
)


@given(st.lists(STEPS, max_size=40))
def test_each_call_has_one_end(steps):
    logging.getLogger("rpcasync").setLevel(logging.CRITICAL)
    clock = FakeClock()
    with EventMux(selector=ClockedSelector(clock, most_calls=10**9), clock=clock, spin=0) as mux:
        world = World(mux, clock)
        for name, number in steps:
            getattr(world, name)(number)
            world.check()
        for _ in range(len(world.peers)):
            world.leave(0)
        world.check()
        assert not len(world.bench.rpc._alarms)
        assert mux.mux() is None  # nothing is left to wait for
        world.bench.close()
    gc.collect()
    logging.getLogger("rpcasync").setLevel(logging.NOTSET)
