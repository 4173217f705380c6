"""Ctrl-C at any place in `Server.io()`, for a program that goes on."""

from __future__ import annotations

import functools
import gc
import logging
import socket

import pytest
from support.line_interrupts import NEVER, at_each_line
from support.peers import Bench, set_clock
from support.procedures import Procedures
from support.server_interrupts import Interrupter

from eventmux import EventMux, Timeout
from rpcasync.wire.messages import CallbackRef


class Scene:
    """A server with three clients, and calls that wait, are kept, are dropped, or take turns."""

    def __init__(self, mux, interrupter):
        self.interrupter = interrupter
        self.procedures = Procedures()
        self.bench = self.procedures.bench = Bench(mux, self.procedures)
        self.bench.rpc.set_limits(outstanding=2, max_waiting=3)
        self.interrupts = 0

    def turn(self):
        mux, io = self.bench.mux, self.bench.rpc.io
        while not isinstance(event := mux.mux(0), Timeout):
            try:
                with self.interrupter:
                    event = io(event)
            except KeyboardInterrupt:
                self.interrupts += 1
                event = None
            assert event is None

    def answer_parked(self):
        parked, self.procedures.parked[:] = [*self.procedures.parked], []
        for caller in parked:
            if not caller.answered:
                self.bench.rpc.return_(caller)

    def play(self):
        """Return how many calls were not answered."""
        bench = self.bench
        listener = bench.rpc.listen("tcp://127.0.0.1:0")
        peers = [bench.peer(codec) for codec in ("storable", "json", "json")]
        peers[0].send_calls(
            *(("park", 0), ("add", "n1", 1, "n2", 2), ("park", 1), ("forget",), ("nothing",)),
            *(("note", n) for n in range(5, 9)),
        )
        peers[1].send_calls(("keep", CallbackRef(90)), ("park", 2), ("unsendable",), ("big", 99))
        half = peers[2].packet(0, "note", "x" * 100)
        peers[2].sock.send(half[:50])
        self.turn()
        peers[2].sock.send(half[50:] + b"".join(peers[2].packet(n, "list") for n in range(1, 30)))
        self.turn()
        self.procedures.kept.clear()  # lets go of the callback
        going = bench.peer()
        going.send_calls(("park", 3), ("park", 4))
        self.turn()
        going.sock.close()
        ending = bench.peer()
        ending.send_calls(("park", 5), ("note", 9))
        ending.sock.shutdown(socket.SHUT_WR)
        peers.append(ending)
        missing = [{*range(9)}, {*range(4)}, {*range(30)}, {*range(2)}]
        for number in range(20):
            self.turn()
            self.answer_parked()
            if number % 5 == 4:
                gc.collect()  # what the interrupt held
            for peer, left in zip(peers, missing, strict=True):
                left -= {packet[0] for packet in peer.read()}
        with listener:
            bench.rpc.close_listeners()
            self.turn()
        self.check_the_rest()
        return [id for left in missing for id in left]

    def check_the_rest(self):
        bench, procedures = self.bench, self.procedures
        assert bench.rpc.has_queued() == 0
        assert not procedures.parked
        assert len(bench.rpc.clients) == 3  # the one that has finished was let go of
        peer = bench.peer()
        peer.send_calls(*[("park", n) for n in range(4)])
        bench.turn()
        assert len(procedures.parked) == 2  # no more, no less: the count is right
        bench.close()
        bench.turn()
        assert not bench.rpc.has_clients()
        procedures.parked.clear()


def play(at, seconds=0.001):
    """Play the scene with an interrupt, where each look at the clock takes some seconds."""
    interrupter = Interrupter(at)
    with EventMux() as mux:
        scene = Scene(mux, interrupter)
        set_clock(scene.bench.rpc, seconds)
        missing = scene.play()
        assert scene.interrupts == interrupter.has_fired
        # Of the call that was interrupted, and no other, the answer may be missing.
        assert len(missing) <= scene.interrupts, missing
    return interrupter


@pytest.fixture(autouse=True)
def _quiet(caplog):
    """Keep no traceback: it would hold what is dropped."""
    caplog.set_level(logging.CRITICAL, "rpcasync")


def test_nothing_is_lost_without_an_interrupt():
    assert play(NEVER).lines > 1000


@pytest.mark.parametrize("at", [20, 333, 1000, 1777])
def test_an_interrupt_costs_one_call_at_most(at):
    play(at)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.001, 0.0], ids=["short turns", "long turns"])
def test_an_interrupt_at_every_line(seconds):
    assert at_each_line(functools.partial(play, seconds=seconds), first=False) > 500
