"""Each call that runs takes one slot, and gives it back once, whatever becomes of it."""

from __future__ import annotations

import gc
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.peers import Bench
from support.procedures import Procedures

from eventmux import EventMux
from rpcasync import Disconnected
from rpcasync.wire.messages import CallbackRef

ENDINGS = [
    *("error", "fault", "late_fault", "explode", "unsendable", "forget", "twice", "add"),
    *("nothing", "methods"),
]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_end_gives_one_slot_back(bench, procedures, caplog, ending):
    caplog.set_level(logging.CRITICAL, "rpcasync")  # tracebacks would hold what is forgotten
    bench.rpc.set_limits(outstanding=2)
    peer = bench.peer()
    for _ in range(3):
        bench.ask(bench.peer(), 0, ending)
    peer.send_calls(*[("park", n) for n in range(4)])
    bench.turn()
    assert procedures.ran == [0, 1]


@given(
    st.lists(st.sampled_from([*ENDINGS, "park", "park", "leave", "answer", "drop"]), max_size=40),
    st.integers(1, 3),
)
def test_after_any_mixture_so_many_run(mixture, limit):
    logging.getLogger("rpcasync").setLevel(logging.CRITICAL)
    procedures = Procedures()
    with EventMux() as mux:
        bench = procedures.bench = Bench(mux, procedures)
        bench.rpc.set_limits(outstanding=limit)
        peer = bench.peer()
        for step in mixture:
            if step == "leave":
                peer.sock.close()
            elif step == "answer":
                bench.rpc.return_(procedures.parked.pop()) if procedures.parked else None
            elif step == "drop":
                procedures.parked.pop() if procedures.parked else None
            else:
                peer.send(0, step)
            bench.turn()
            if step != "leave":
                peer.read()
            if step == "leave" or peer.ended:
                peer = bench.peer()
            assert sum(caller.alive for caller in procedures.parked) <= limit
        while procedures.parked:
            bench.rpc.return_(procedures.parked.pop())
            bench.turn()
        assert bench.rpc.has_queued() == 0
        bench.peer().send_calls(*[("park", n) for n in range(limit + 2)])
        bench.turn()
        assert len(procedures.parked) == limit
        assert bench.rpc.has_queued() == 2
        bench.close()
    logging.getLogger("rpcasync").setLevel(logging.NOTSET)


def test_a_second_answer_gives_nothing_back(bench, procedures):
    bench.rpc.set_limits(outstanding=1)
    peer = bench.peer()
    peer.send_calls(*[("park", n) for n in range(5)])
    bench.turn()
    caller = procedures.parked[0]
    bench.rpc.return_(caller)
    for answer in (bench.rpc.return_, bench.rpc.error):
        with pytest.raises(ValueError, match="answered already"):
            answer(caller, "again")
    bench.turn()
    assert procedures.ran == [0, 1]


def test_an_answer_that_cannot_be_sent_gives_nothing_back(bench, procedures):
    bench.rpc.set_limits(outstanding=1)
    bench.peer().send_calls(("park", 0), ("park", 1))
    bench.turn()
    with pytest.raises(TypeError):
        bench.rpc.return_(procedures.parked[0], object())
    bench.turn()
    assert procedures.ran == [0]
    bench.rpc.return_(procedures.parked[0], 1)
    bench.turn()
    assert procedures.ran == [0, 1]


def test_a_client_that_goes_gives_back_what_it_had(bench, procedures):
    bench.rpc.set_limits(outstanding=2)
    going, staying = bench.peer(), bench.peer()
    going.send_calls(*[("park", f"going {n}") for n in range(4)])
    bench.turn()
    staying.send_calls(*[("park", n) for n in range(3)])
    bench.turn()
    assert bench.rpc.has_queued() == 5
    going.sock.close()
    bench.turn()
    assert procedures.ran == ["going 0", "going 1", 0, 1]
    assert bench.rpc.has_queued() == 1
    assert [bench.rpc.return_(caller) for caller in procedures.parked[:2]] == [False, False]
    bench.turn()
    assert procedures.ran[4:] == []  # they had been given back
    procedures.parked.clear()
    gc.collect()
    bench.turn()
    assert procedures.ran[4:] == [2]


def test_a_client_that_the_program_killed_gives_back_what_it_had(bench, procedures):
    bench.rpc.set_limits(outstanding=1)
    going, staying = bench.peer(), bench.peer()
    bench.ask(going, 0, "park", "going")
    bench.ask(going, 1, "park", "never")
    bench.ask(staying, 0, "park", "staying")
    bench.mux.kill(procedures.parked[0].fh)
    bench.turn()
    assert procedures.ran == ["going", "staying"]


def test_callers_that_are_forgotten_give_their_slots_back(bench, procedures):
    bench.rpc.set_limits(outstanding=2)
    peer = bench.peer()
    peer.send_calls(*[("park", n) for n in range(6)])
    bench.turn()
    procedures.parked.clear()
    bench.turn()
    assert procedures.ran == [0, 1, 2, 3]
    assert [packet[1] for packet in peer.read()] == ["error", "error"]


def test_a_broken_client_is_served_to_the_end_of_what_waits(bench, procedures):
    bench.rpc.set_limits(outstanding=1)
    other, peer = bench.peer(), bench.peer()
    bench.ask(other, 0, "park", "other")
    peer.send_calls(("note", 0), ("explode",), ("note", 2))
    bench.turn()
    peer.sock.sendall(b"\0\0\0\0")
    bench.turn()
    assert procedures.ran == ["other"]
    assert not peer.ended
    bench.rpc.return_(procedures.parked.pop())
    bench.turn()
    assert procedures.ran == ["other", 0, 2]
    assert [answer[:2] for answer in peer.read()] == [[0, 0], [1, "error"], [2, 2]]
    assert peer.ended
    assert len(bench.rpc.clients) == 1


def test_a_broken_client_is_served_to_the_end_of_what_was_read(bench, procedures):
    peer = bench.peer()
    peer.send_calls(("explode",), *[("big", 500_000)] * 6, ("note", "last"))
    answers = []
    while not peer.ended:
        bench.turn()
        answers += peer.read()
    assert procedures.ran == [500_000] * 6 + ["last"]
    assert [answer[0] for answer in answers] == list(range(8))


def test_a_client_that_is_found_to_be_gone_by_a_callback(bench, procedures):
    bench.rpc.set_limits(outstanding=2)
    going, staying = bench.peer(), bench.peer()
    bench.ask(going, 1, "keep", CallbackRef(0))
    callback = procedures.last()
    going.send_calls(("park", 0), ("park", 1))
    bench.turn()
    bench.ask(staying, 0, "note", "waits")
    bench.mux.kill(procedures.parked[0].fh)
    while bench.mux.mux(0).type != "timeout":
        pass  # the server is not told
    assert procedures.ran == [0, 1]
    with pytest.raises(Disconnected):
        callback()
    bench.turn()
    assert procedures.ran == [0, 1, "waits"]


@pytest.mark.parametrize("calls", [2, 6])
def test_a_client_that_is_removed_while_it_does_not_read_leaves_nothing(bench, procedures, calls):
    bench.rpc.set_limits(outstanding=1)
    peer = bench.peer()
    peer.send_calls(("park",), *[("big", 3_000_000)] * calls)
    bench.turn()
    (caller,) = procedures.parked
    bench.rpc.return_(caller)
    bench.turn()
    assert bench.rpc.has_queued() == calls - 1
    with caller.fh as fh:
        bench.mux.remove(fh)
    bench.rpc.set_limits(outstanding=None)
    bench.turn()
    assert bench.rpc.has_queued() == 0
    assert not bench.rpc.has_clients()


def test_a_client_that_its_own_procedure_removes_leaves_nothing(bench, procedures):
    def rpc_leave(caller):
        with caller.fh as fh:
            bench.rpc.return_(caller, "x" * 3_000_000)
            bench.mux.remove(fh)

    procedures.rpc_leave = rpc_leave
    bench.rpc.set_limits(outstanding=1)
    peer = bench.peer()
    peer.send_calls(("park",), ("leave",), ("note", 1), ("note", 2))
    bench.turn()
    bench.rpc.return_(procedures.parked.pop())
    bench.turn()
    assert bench.rpc.has_queued() == 0
    assert not bench.rpc.has_clients()
    assert 1 not in procedures.ran
