"""Procedures that block the loop: which of them the log names, and for how long."""

from __future__ import annotations

import time

import pytest
from support.fakes import FakeClock
from support.records import warnings_of

from rpcasync import JSONCodec, Server

MEND = "wait with a timer, have a thread or a process do what takes long, and answer later"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def blocking(serve, procedures, monkeypatch, clock):
    """Make servers of a procedure whose calls take as many seconds as they say."""

    def make(**options):
        bench = serve(**{"slow": 0.1, **options})
        monkeypatch.setattr(bench.rpc._dispatcher._turns, "clock", clock)  # it has no public face

        def rpc_block(caller, seconds: float, /):
            clock.advance(seconds)
            bench.rpc.return_(caller)

        procedures.rpc_block = rpc_block
        return bench

    return make


def test_a_procedure_that_blocks_is_named(blocking, caplog):
    bench = blocking()
    peer = bench.peer()
    bench.ask(peer, 0, "block", 0.35)
    assert warnings_of(caplog) == [f"procedure block blocked the loop for 0.35 s: {MEND}"]
    bench.ask(peer, 1, "block", 0.09)
    bench.ask(peer, 2, "list")
    assert len(warnings_of(caplog)) == 1


def test_a_procedure_that_sleeps(serve, caplog):
    """By the clock of the system."""
    bench = serve({"rpc_nap": lambda caller: time.sleep(0.011)}, slow=0.01)
    bench.ask(bench.peer(), 0, "nap")
    lines = [line for line in warnings_of(caplog) if "blocked" in line]
    assert len(lines) == 1
    assert lines[0].startswith("procedure nap blocked the loop for 0.")


def test_among_others_the_right_one_is_named(blocking, caplog):
    bench = blocking()
    calls = [("note", 1)] * 5 + [("block", 0.2)] + [("list",)] * 5 + [("block", 7)] + [("list",)]
    bench.peer().send_calls(*calls)
    bench.turn()
    assert warnings_of(caplog) == [
        f"procedure block blocked the loop for {seconds} s: {MEND}" for seconds in ("0.20", "7.00")
    ]


def test_one_that_fails_blocks_as_well(blocking, procedures, clock, caplog):
    bench = blocking()

    def rpc_late(caller):
        clock.advance(1)
        raise RuntimeError

    procedures.rpc_late = rpc_late
    bench.ask(bench.peer(), 0, "late")
    assert warnings_of(caplog)[:2] == [
        "procedure late failed",
        f"procedure late blocked the loop for 1.00 s: {MEND}",
    ]


def test_a_call_that_waited(blocking, procedures, caplog):
    bench = blocking()
    bench.rpc.set_limits(outstanding=1)
    peer = bench.peer()
    peer.send_calls(("park",), ("block", 0.5), ("note", 1))
    bench.turn()
    bench.rpc.return_(procedures.parked.pop())
    bench.turn()
    assert procedures.ran[-1] == 1
    assert warnings_of(caplog) == [f"procedure block blocked the loop for 0.50 s: {MEND}"]


class SlowToRead(JSONCodec):
    """Takes long for what is long."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def decode(self, payload):
        self.clock.advance(len(payload) / 50_000)
        return super().decode(payload)


def test_to_read_a_large_packet_is_not_blamed_on_the_procedure(blocking, clock, caplog):
    bench = blocking(codecs=[SlowToRead(clock)])
    peer = bench.peer("json")
    bench.ask(peer, 0, "list", "x" * 20_000)
    bench.ask(peer, 1, "list", "x" * 3_000)
    assert warnings_of(caplog) == []


def test_what_is_done_between_calls_is_not_blamed_on_the_next(
    blocking, procedures, clock, caplog, monkeypatch
):
    bench = blocking()
    fail = bench.rpc._peers.fail

    def slowly(*args):
        clock.advance(1)
        fail(*args)

    monkeypatch.setattr(bench.rpc._peers, "fail", slowly)
    bench.peer().send_calls(("forget",), ("note", 1))
    bench.turn()
    assert procedures.ran == [1]
    assert [line for line in warnings_of(caplog) if "blocked" in line] == []


def test_a_procedure_that_turns_the_loop_does_not_block_it(blocking, procedures, clock, caplog):
    bench = blocking()
    other = bench.peer()

    def rpc_turn(caller):
        other.send(0, "note", 1)
        clock.advance(1)
        bench.turn()
        clock.advance(1)
        bench.rpc.return_(caller)

    procedures.rpc_turn = rpc_turn
    bench.ask(bench.peer(), 0, "turn")
    assert procedures.ran == [1]
    assert warnings_of(caplog) == []


def test_it_can_be_switched_off_and_on(blocking, caplog):
    bench = blocking(slow=None)
    assert bench.rpc.slow is None
    peer = bench.peer()
    bench.ask(peer, 0, "block", 100)
    assert warnings_of(caplog) == []
    bench.rpc.slow = 3
    bench.ask(peer, 1, "block", 3)
    bench.ask(peer, 2, "block", 4)
    assert len(warnings_of(caplog)) == 1


def test_the_default(mux):
    assert Server(mux, {}).slow == 0.1


@pytest.mark.parametrize("value", [0, -1, "1", True, float("nan"), float("inf")])
def test_what_is_no_number_of_seconds(mux, value):
    with pytest.raises(ValueError, match=r"^slow is .*, must be a number of seconds above 0"):
        Server(mux, {}, slow=value)
