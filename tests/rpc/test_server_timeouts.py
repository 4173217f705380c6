"""Procedures that do not answer in time, on a clock that only the tests move."""

from __future__ import annotations

import gc
import logging
import socket
import time
import weakref

import pytest
from support.fakes import WouldWaitForEver
from support.peers import Bench, Peer, turn
from support.records import warnings_of

from eventmux import EventMux
from rpcasync import Client, Fault, JSONCodec, RemoteError, Server
from rpcasync.serving.alarms import Alarms

LATE = [0, "error", "timeout-server", "errors", ["timeout-server"]]


@pytest.fixture
def bench(serve, timed):
    """A server whose procedures have five seconds."""
    return serve(mux=timed, timeout=5)


def parked(bench, procedures):
    """Have a call wait for its answer; return its client, and the call."""
    peer = bench.peer()
    assert bench.ask(peer, 0, "park") == []
    return peer, procedures.parked[-1]


# When the time is over


def test_a_procedure_that_takes_too_long(bench, procedures, clock, caplog):
    peer, caller = parked(bench, procedures)
    clock.advance(4.9)
    bench.turn()
    assert (peer.read(), caller.answered) == ([], False)
    start = clock.now
    bench.rpc.io(bench.mux.mux())
    bench.turn()
    assert clock.now == pytest.approx(start + 0.1)
    assert peer.read() == [LATE]
    assert caller.answered
    assert warnings_of(caplog) == [
        "procedure park did not answer within 5 s: its client gets the error timeout-server"
    ]
    assert bench.ask(peer, 1, "add", "n1", 1, "n2", 2) == [[1, "sum", 3]]  # it stays


def test_a_client_that_goes_before_is_no_affair_of_the_log(bench, procedures, clock, caplog):
    peer, caller = parked(bench, procedures)
    bench.peer()  # so that the timer stays
    peer.sock.close()
    bench.turn()
    clock.advance(5)
    bench.turn()
    assert not caller.alive
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("answer", ["return_", "error"])
def test_an_answer_that_is_too_late_is_false_and_no_error(bench, procedures, clock, answer):
    peer, caller = parked(bench, procedures)
    clock.advance(5)
    bench.turn()
    assert peer.read() == [LATE]
    for _ in range(2):
        assert getattr(bench.rpc, answer)(caller, "late") is False
    assert bench.rpc.return_(caller, object()) is False  # nobody looks at it
    bench.turn()
    assert peer.read() == []


def test_an_answer_in_time_is_the_only_one(bench, procedures, clock):
    peer, caller = parked(bench, procedures)
    clock.advance(4)
    assert bench.rpc.return_(caller, 1) is True
    clock.advance(10)
    bench.turn()
    assert peer.read() == [[0, 1]]
    with pytest.raises(ValueError, match="answered already"):
        bench.rpc.return_(caller)


def test_a_client_of_ours_gets_the_error(bench, procedures, clock):
    ours, theirs = socket.socketpair()
    bench.rpc.add_client(theirs)
    client = Client(bench.mux, ours)
    call = client.park()
    turn(bench.mux, client, bench.rpc)
    clock.advance(5)
    turn(bench.mux, client, bench.rpc)
    with pytest.raises(RemoteError, match="^timeout-server$"):
        call.result()
    client.disconnect()


def test_the_place_under_outstanding_is_free_again(bench, procedures, clock):
    bench.rpc.set_limits(outstanding=1)
    peer = bench.peer()
    peer.send_calls(("park", 0), ("park", 1), ("park", 2))
    bench.turn()
    for number in range(3):
        assert procedures.ran == list(range(number + 1))
        clock.advance(5)
        bench.turn()
    assert bench.rpc.has_queued() == 0
    assert [packet[:3] for packet in peer.read()] == [[n, *LATE[1:3]] for n in range(3)]


def test_the_time_of_a_call_that_waits_has_not_begun(bench, procedures, clock):
    bench.rpc.set_limits(outstanding=1)
    bench.rpc.set_options("park", timeout=None)
    peer = bench.peer()
    peer.send_calls(("park", 0), ("keep_caller",))
    procedures.rpc_keep_caller = procedures.parked.append
    bench.turn()
    clock.advance(100)
    bench.turn()
    assert peer.read() == []
    bench.rpc.return_(procedures.parked[0])
    clock.advance(4)
    bench.turn()
    assert peer.read() == [[0]]
    clock.advance(4)
    bench.turn()
    assert peer.read() == []
    clock.advance(1)
    bench.turn()
    assert peer.read() == [[1, *LATE[1:]]]


def test_a_procedure_that_turns_the_loop_is_ended_in_it(bench, procedures, clock, caplog):
    def rpc_wait(caller):
        clock.advance(5)
        bench.turn()
        answered.append(caller.answered)
        raise Fault("too late")

    answered = []
    procedures.rpc_wait = rpc_wait
    peer = bench.peer()
    assert bench.ask(peer, 0, "wait") == [LATE]
    assert answered == [True]
    assert warnings_of(caplog)[1:] == ["procedure wait failed after its answer: too late"]


def test_one_that_blocks_the_loop_is_not_interrupted(bench, procedures, clock):
    def rpc_block(caller):
        clock.advance(60)
        bench.rpc.return_(caller, "done")

    procedures.rpc_block = rpc_block
    peer = bench.peer()
    assert bench.ask(peer, 0, "block") == [[0, "done"]]
    bench.turn()
    assert peer.read() == []


def test_a_call_that_is_dropped_is_answered_as_ever(bench, procedures, clock, caplog):
    peer, _ = parked(bench, procedures)
    del _
    procedures.parked.clear()
    bench.turn()
    ((id, key, text, *_),) = peer.read()
    assert (id, key) == (0, "error")
    assert text.startswith("park: did not answer")
    clock.advance(5)
    bench.turn()
    assert peer.read() == []


def test_a_client_that_has_gone_is_told_nothing(bench, procedures, clock, caplog):
    peer, caller = parked(bench, procedures)
    peer.sock.close()
    bench.turn()
    clock.advance(5)
    bench.turn()
    assert not caller.answered
    assert bench.rpc.return_(caller) is False
    assert warnings_of(caplog) == []


def test_an_error_that_does_not_fit_ends_the_connection(serve, timed, procedures, clock, caplog):
    bench = serve(mux=timed, timeout=5, max_packet=40)
    peer, caller = parked(bench, procedures)
    clock.advance(5)
    bench.turn()
    assert (peer.read(), peer.ended, caller.alive) == ([], True, False)
    assert "an error cannot be sent to it" in warnings_of(caplog)[-1]


class ShortOfMemory(JSONCodec):
    """Has no memory for the first error of a call that takes too long."""

    has_failed = False

    def encode(self, value):
        if not self.has_failed and "timeout-server" in value:
            self.has_failed = True
            raise MemoryError
        return super().encode(value)


def test_a_client_without_memory_for_its_error_is_disconnected(serve, timed, clock, caplog):
    bench = serve(mux=timed, timeout=5, codecs=[ShortOfMemory()])
    peer, other = bench.peer("json"), bench.peer("json")
    for each in (peer, other):
        bench.ask(each, 0, "park")
    clock.advance(5)
    bench.turn()
    assert (peer.read(), peer.ended) == ([], True)
    assert (other.read(), other.ended) == ([LATE], False)
    assert "disconnected: out of memory" in warnings_of(caplog)[1]


# Which time


def test_each_procedure_may_have_its_own(bench, procedures, clock):
    bench.rpc.set_options("quick", timeout=1)
    bench.rpc.set_options("patient", timeout=None)
    for name in ("quick", "patient", "usual"):
        setattr(procedures, f"rpc_{name}", procedures.parked.append)
    peer = bench.peer()
    peer.send_calls(("usual",), ("patient",), ("quick",))
    bench.turn()
    told = []
    for _ in range(10):
        clock.advance(1)
        bench.turn()
        told += [packet[0] for packet in peer.read()] or [None]
    assert told == [2, None, None, None, 0, None, None, None, None, None]


def test_only_some_have_one(serve, timed, procedures, clock):
    bench = serve(mux=timed)
    peer, _ = parked(bench, procedures)
    with pytest.raises(WouldWaitForEver):
        bench.mux.mux()
    bench.rpc.set_options("park", timeout=0.5)
    other, _ = parked(bench, procedures)
    clock.advance(1)
    bench.turn()
    assert (peer.read(), other.read()) == ([], [LATE])
    bench.rpc.set_options("park", timeout=None)
    last, _ = parked(bench, procedures)
    with pytest.raises(WouldWaitForEver):
        bench.mux.mux()
    assert last.read() == []


def test_a_time_that_is_changed_counts_for_what_begins(bench, procedures, clock):
    first, _ = parked(bench, procedures)
    bench.rpc.timeout = 1
    second, _ = parked(bench, procedures)
    bench.rpc.timeout = None
    third, _ = parked(bench, procedures)
    assert bench.rpc.timeout is None
    clock.advance(1)
    bench.turn()
    assert (first.read(), second.read(), third.read()) == ([], [LATE], [])
    clock.advance(4)
    bench.turn()
    assert (first.read(), third.read()) == ([LATE], [])


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "5", True])
def test_times_that_are_none(bench, seconds):
    text = "timeout is .*, must be a number of seconds above 0, or None"
    with pytest.raises(ValueError, match=text):
        bench.rpc.timeout = seconds
    with pytest.raises(ValueError, match=text):
        bench.rpc.set_options("park", timeout=seconds)
    with pytest.raises(ValueError, match=text):
        Server(bench.mux, {}, timeout=seconds)
    assert bench.rpc.timeout == 5


def test_a_procedure_is_a_name(bench):
    with pytest.raises(TypeError, match="procedure is <function .*, must be a name"):
        bench.rpc.set_options(parked, timeout=1)


class Timeless:
    """A mux without timers."""

    def __init__(self, mux):
        self.add, self.send, self.kill = mux.add, mux.send, mux.kill


def test_a_mux_without_timers_says_so(mux, procedures):
    text = "timeout needs a mux with timer"
    with pytest.raises(TypeError, match=text):
        Server(Timeless(mux), procedures, timeout=1)
    server = Server(Timeless(mux), procedures)
    server.set_options("park", timeout=None)
    with pytest.raises(TypeError, match=text):
        server.set_options("park", timeout=1)
    assert not server._timeouts.are_used


class Uncancelled(Timeless):
    """A mux with timers that cannot be cancelled, and without a clock of its own."""

    def __init__(self, mux):
        super().__init__(mux)
        self.timer = lambda seconds, data: mux.timer(seconds, data) and None


def test_timers_that_cannot_be_cancelled(procedures):
    with EventMux() as mux:
        server = Server(Uncancelled(mux), procedures, timeout=0.05)
        server.set_options("quick", timeout=0.01)
        procedures.rpc_quick = procedures.parked.append
        ours, theirs = socket.socketpair()
        server.add_client(theirs)
        peer, answers = Peer(ours), []
        peer.send_calls(("park",), ("quick",))
        while len(answers) < 2:
            server.io(mux.mux(0))  # what was put off leaves before it would wait
            answers += peer.read()
        assert [answer[0] for answer in answers] == [1, 0]
        ours.close()


# What it costs


def test_no_timer_outlives_the_last_client(bench, procedures):
    peer, _ = parked(bench, procedures)
    peer.sock.close()
    while (event := bench.mux.mux()) is not None:  # would wait for the timer, on this clock
        assert bench.rpc.io(event) is None
    assert not bench.rpc.has_clients()


def test_what_is_answered_does_not_pile_up(bench, procedures):
    peer = bench.peer()
    for _ in range(50):
        peer.send_calls(*[("note", n) for n in range(20)])
        bench.turn()
        peer.read()
    assert len(procedures.ran) == 1000
    assert len(bench.rpc._alarms) < 200


def test_calls_are_not_kept(bench, procedures):
    _peer, caller = parked(bench, procedures)
    is_there = weakref.ref(caller)
    bench.rpc.return_(caller)
    procedures.parked.clear()
    del caller
    gc.collect()
    assert is_there() is None


def test_others_are_served_while_many_are_told(serve, timed, procedures, clock):
    logging.getLogger("rpcasync").setLevel(logging.CRITICAL)
    bench = serve(mux=timed, timeout=5)
    peer = bench.peer()
    sent = b"".join(peer.packet(n, "park") for n in range(10_000))
    rest = memoryview(sent)
    while rest:
        rest = rest[peer.sock.send(rest[:100_000]) :]
        bench.turn()
    clock.advance(5)
    other = bench.peer()
    other.send(0, "note", 1)
    while not other.read():
        bench.rpc.io(timed.mux(0))
    assert not procedures.parked[-1].answered
    told = 0
    while told < 10_000:
        bench.rpc.io(timed.mux(0))
        told += len(peer.read())
    assert procedures.parked[-1].answered
    logging.getLogger("rpcasync").setLevel(logging.NOTSET)


def seconds_of(count, mux, procedures):
    """Return how long so many calls take, from the first packet to the last error, by the CPU."""
    procedures.parked.clear()
    bench = procedures.bench = Bench(mux, procedures, timeout=3600)
    peer = bench.peer()
    began = time.process_time()
    rest = memoryview(b"".join(peer.packet(n, "park") for n in range(count)))
    while rest:
        rest = rest[peer.sock.send(rest[:100_000]) :]
        bench.turn()
    assert len(procedures.parked) == count
    mux.clock.advance(3600)
    told = 0
    while told < count:
        bench.turn()
        told += len(peer.read())
    bench.close()
    bench.turn()
    return time.process_time() - began


@pytest.mark.slow
def test_a_hundred_thousand_at_once_take_time_in_proportion(timed, selector, procedures):
    selector.most_calls = 10**9
    logging.getLogger("rpcasync").setLevel(logging.CRITICAL)
    few = min(seconds_of(10_000, timed, procedures) for _ in range(3))
    many = seconds_of(100_000, timed, procedures)
    logging.getLogger("rpcasync").setLevel(logging.NOTSET)
    assert many < 20 * few


# Alarms


def test_alarms_of_one_time_ring_in_order(timed, clock):
    class Alarm:
        def __init__(self, name):
            self.name = name

        def is_live(self):
            return self.name not in rung

        def ring(self):
            rung.append(self.name)

    rung, alarms = [], Alarms(timed)
    for name in range(5):
        alarms.set(5 if name else 9, Alarm(name))
    alarms.set(2, Alarm("first"))
    start = clock.now
    while len(alarms):
        assert alarms.io(timed.mux())
    assert rung == ["first", 1, 2, 3, 4, 0]
    assert clock.now == start + 9
    assert timed.mux() is None  # no timer is left


# Calls that are passed on


def test_a_fallback_that_hangs(bench, clock, caplog):
    ours, theirs = socket.socketpair()
    old = Peer(theirs)
    bench.rpc.fallback = Client(bench.mux, ours)
    bench.rpc.set_limits(outstanding=1)
    peer = bench.peer()
    peer.send_calls(("unported",), ("unported",))
    bench.turn()
    ((first, *_),) = old.read()
    clock.advance(5)
    bench.turn()
    assert peer.read() == [LATE]
    old.send(first, "late")
    ((second, *_),) = old.read()
    old.send(second, "in time")
    bench.turn()
    assert peer.read() == [[1, "in time"]]
    assert warnings_of(caplog) == [
        "procedure unported did not answer within 5 s: its client gets the error timeout-server"
    ]
    theirs.close()
    bench.turn()
