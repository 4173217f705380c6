"""What a procedure wants to do later, on a clock that only the tests move."""

from __future__ import annotations

import gc
import logging
import weakref

import pytest
from support.fakes import WouldWaitForEver
from support.records import warnings_of

from rpcasync import Disconnected, Fault, Server
from rpcasync.wire.messages import CallbackRef


@pytest.fixture
def bench(serve, timed):
    return serve(mux=timed)


@pytest.fixture
def poll(bench, procedures, clock):
    """Have a procedure ask for a function after a second; let that pass; return what comes."""

    def run(function, peer=None, seconds=1):
        def rpc_poll(caller):
            bench.rpc.retry(caller, seconds, function)

        procedures.rpc_poll = rpc_poll
        peer = peer or bench.peer()
        assert bench.ask(peer, 0, "poll") == []
        clock.advance(seconds)
        bench.turn()
        return peer.read()

    return run


def parked(bench, procedures):
    peer = bench.peer()
    bench.ask(peer, 0, "park")
    return peer, procedures.parked[-1]


# When it is called


def test_it_is_called_with_the_call_when_its_time_has_come(bench, procedures, clock):
    peer, caller = parked(bench, procedures)
    called = []
    bench.rpc.retry(caller, 3, lambda caller: called.append((caller, clock.now)))
    due = clock.now + 3
    bench.rpc.io(bench.mux.mux())
    assert called == [(caller, due)]
    with pytest.raises(WouldWaitForEver):  # it is called once
        bench.mux.mux()
    assert peer.read() == []


def test_it_may_answer(bench, poll):
    assert poll(lambda caller: bench.rpc.return_(caller, "later")) == [[0, "later"]]


def test_it_may_ask_for_another(bench, procedures, clock):
    def look(caller):
        tries.append(clock.now)
        if len(tries) == 4:
            bench.rpc.return_(caller, len(tries))
        else:
            bench.rpc.retry(caller, 2, look)

    tries = []
    procedures.rpc_look = look
    peer = bench.peer()
    bench.ask(peer, 0, "look")
    for _ in range(3):
        bench.rpc.io(bench.mux.mux())
    bench.turn()
    assert [moment - tries[0] for moment in tries] == [0, 2, 4, 6]
    assert peer.read() == [[0, 4]]


def test_zero_seconds_are_the_next_turn(bench, procedures):
    peer, caller = parked(bench, procedures)
    bench.rpc.retry(caller, 0, lambda caller: bench.rpc.return_(caller))
    assert not caller.answered
    bench.turn()
    assert peer.read() == [[0]]


def test_several_of_one_call_each_have_their_time(bench, procedures, clock):
    _peer, caller = parked(bench, procedures)
    called = []
    for seconds in (3, 1, 2, 1):
        bench.rpc.retry(caller, seconds, lambda _, seconds=seconds: called.append(seconds))
    for _ in range(3):
        bench.rpc.io(bench.mux.mux())
    assert called == [1, 1, 2, 3]


def test_it_runs_beside_a_full_house(bench, procedures, clock):
    bench.rpc.set_limits(outstanding=1)
    peer = bench.peer()
    peer.send_calls(("park", 0), ("note", 1))
    bench.turn()
    bench.rpc.retry(procedures.parked.pop(), 1, lambda caller: bench.rpc.return_(caller))
    assert procedures.ran == [0]
    clock.advance(1)
    bench.turn()
    assert procedures.ran == [0, 1]
    assert peer.read() == [[0], [1, 1]]


# When it is not called


@pytest.mark.parametrize("answer", ["return_", "error"])
def test_not_for_a_call_that_is_answered(bench, procedures, clock, answer):
    _peer, caller = parked(bench, procedures)
    called = []
    bench.rpc.retry(caller, 1, called.append)
    getattr(bench.rpc, answer)(caller, "text")
    clock.advance(1)
    bench.turn()
    assert called == []


def test_not_for_a_client_that_has_gone(bench, procedures, clock):
    peer, caller = parked(bench, procedures)
    called = []
    bench.rpc.retry(caller, 1, called.append)
    peer.sock.close()
    bench.turn()
    clock.advance(1)
    bench.turn()
    assert called == []
    bench.rpc.retry(caller, 0, called.append)  # nobody is there: no error, nothing to do
    bench.turn()
    assert called == []


def test_not_when_the_time_of_the_call_is_over(bench, procedures, clock):
    bench.rpc.set_options("park", timeout=2)
    peer, caller = parked(bench, procedures)
    called = []
    bench.rpc.retry(caller, 1, called.append)
    bench.rpc.retry(caller, 3, called.append)
    clock.advance(2)
    bench.turn()
    assert called == [caller]
    assert [packet[2] for packet in peer.read()] == ["timeout-server"]
    bench.rpc.retry(caller, 0, called.append)  # a procedure cannot know: no error
    clock.advance(10)
    bench.turn()
    assert called == [caller]


def test_not_one_that_is_cancelled(bench, procedures, clock):
    peer, caller = parked(bench, procedures)
    called = []
    first = bench.rpc.retry(caller, 1, lambda _: called.append(1))
    second = bench.rpc.retry(caller, 1, lambda _: called.append(2))
    for _ in range(2):
        first.cancel()
    clock.advance(1)
    bench.turn()
    assert called == [2]
    second.cancel()
    bench.rpc.return_(caller)
    bench.turn()
    assert peer.read() == [[0]]


def test_one_may_cancel_another_of_the_same_time(bench, procedures, clock):
    _peer, caller = parked(bench, procedures)
    called = []

    def first(caller):
        called.append(1)
        second.cancel()

    bench.rpc.retry(caller, 1, first)
    second = bench.rpc.retry(caller, 1, called.append)
    clock.advance(1)
    bench.turn()
    assert called == [1]


# What is raised, and what is wrong


def test_a_fault_is_the_answer(poll):
    def fail(caller):
        raise Fault("not today")

    assert poll(fail) == [[0, "error", "not today", "errors", ["not today"]]]


@pytest.mark.parametrize("kept", [False, True])
def test_an_exception_is_that_of_the_procedure(bench, poll, caplog, kept):
    def explode(caller):
        raise RuntimeError("secret")

    bench.rpc.on_exception = "answer" if kept else "disconnect"
    peer = bench.peer()
    ((id, _, text, *_),) = poll(explode, peer)
    assert (id, text) == (0, "poll: failed; see the server's log")
    bench.turn()
    peer.read()
    assert peer.ended is not kept
    assert warnings_of(caplog)[0] == "procedure poll failed"
    assert "RuntimeError: secret" in caplog.text


def test_an_exception_behind_the_answer(bench, poll, caplog):
    def late(caller):
        bench.rpc.return_(caller, 1)
        raise Fault("too late")

    assert poll(late) == [[0, 1]]
    assert warnings_of(caplog) == ["procedure poll failed after its answer: too late"]


def test_a_value_that_cannot_be_sent(bench, poll, caplog):
    answer = poll(lambda caller: bench.rpc.return_(caller, object()))
    assert answer[0][2] == "poll: a value cannot be sent"


def test_a_callback_of_a_client_that_has_gone(bench, procedures, poll):
    other = bench.peer()
    bench.ask(other, 0, "keep", CallbackRef(7))
    callback = procedures.last()
    other.sock.close()
    bench.turn()
    assert poll(lambda caller: callback())[0][2] == "poll: a connection has ended"
    with pytest.raises(Disconnected):
        callback()


def test_one_that_forgets_the_call(poll, caplog):
    ((_, _, text, *_),) = poll(lambda caller: None)
    assert text.startswith("poll: did not answer")


def test_one_that_blocks_is_named(bench, poll, caplog, monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(bench.rpc._dispatcher._turns, "clock", lambda: next(ticks) * 0.6)
    bench.rpc.slow = 0.5
    poll(bench.rpc.return_)
    assert warnings_of(caplog)[-1].startswith("procedure poll blocked the loop for 0.60 s")


def test_a_coroutine_function_is_told(bench, poll, caplog):
    async def look(caller):
        pass

    poll(look)
    assert "procedure poll returned coroutine, which is ignored" in warnings_of(caplog)[0]


def test_a_value_is_no_mistake(bench, procedures, clock, caplog):
    _peer, caller = parked(bench, procedures)
    bench.rpc.retry(caller, 1, lambda _: 7)
    clock.advance(1)
    bench.turn()
    assert warnings_of(caplog) == []


def test_wrong_calls(bench, procedures, mux):
    _peer, caller = parked(bench, procedures)
    retry = bench.rpc.retry
    with pytest.raises(TypeError, match="caller is 7, must be what the procedure was given"):
        retry(7, 1, print)
    with pytest.raises(TypeError, match="function is None, must be a function of the caller"):
        retry(caller, 1, None)
    with pytest.raises(TypeError, match="seconds is '1', must be a number of seconds"):
        retry(caller, "1", print)
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"seconds is .*, must be 0 seconds or more"):
            retry(caller, seconds, print)
    bench.rpc.return_(caller)
    with pytest.raises(ValueError, match="is answered already"):
        retry(caller, 1, print)
    assert not len(bench.rpc._alarms)


def test_a_mux_without_timers_says_so(mux, bench, procedures):
    class Timeless:
        add, send, kill = mux.add, mux.send, mux.kill

    server = Server(Timeless(), procedures)
    _peer, caller = parked(bench, procedures)
    with pytest.raises(TypeError, match=r"retry\(\) needs a mux with timer"):
        server.retry(caller, 1, print)


# What is kept


@pytest.mark.parametrize("end", ["answer", "leave", "cancel", "time", "error"])
def test_nothing_is_kept_behind_its_end(bench, procedures, clock, end):
    logging.getLogger("rpcasync").setLevel(logging.CRITICAL)

    class Function:
        def __call__(self, caller):
            raise Fault("no")

    bench.rpc.set_options("park", timeout=500)
    bench.peer()  # stays, and so does what is kept for all
    peer, caller = parked(bench, procedures)
    function = Function()
    retry = bench.rpc.retry(caller, 1000 if end != "error" else 1, function)
    things = [weakref.ref(caller), weakref.ref(function)]
    del function
    if end == "answer":
        bench.rpc.return_(caller)
    elif end == "leave":
        peer.sock.close()
    elif end == "cancel":
        retry.cancel()
    else:
        clock.advance(500)
    procedures.parked.clear()
    del caller, retry
    bench.turn()
    gc.collect()
    assert [thing() for thing in things] == [None, None]
    logging.getLogger("rpcasync").setLevel(logging.NOTSET)


def test_the_call_is_kept_until_then(bench, procedures, poll):
    answered = poll(lambda caller: bench.rpc.return_(caller, caller.procedure), seconds=100)
    assert answered == [[0, "poll"]]  # nobody else has kept it


def test_the_timers_of_those_that_have_gone_do_not_ring(bench, procedures, clock):
    peers = []
    for _ in range(20):
        peer, caller = parked(bench, procedures)
        bench.rpc.retry(caller, 1000, print)
        peers.append(peer)
    procedures.parked.clear()
    for peer in peers:
        peer.sock.close()
    while (event := bench.mux.mux()) is not None:  # would wait for a timer, on this clock
        assert bench.rpc.io(event) is None
    assert clock.now == 1000
