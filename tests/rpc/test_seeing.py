"""What can be seen of a server: how its calls ended, who is there, and how it does."""

from __future__ import annotations

import gc
import math
import os
import socket
import time
from contextlib import contextmanager

import pytest
from support.fakes import ClockedSelector, FakeClock
from support.peers import Bench, turn
from support.procedures import Procedures
from support.records import warnings_of

from eventmux import EventMux
from rpcasync import Client, Server
from rpcasync.serving import counting
from rpcasync.serving.histogram import BOUNDS, quantile
from rpcasync.serving.records import OUTCOMES
from rpcasync.wire.codecs import StorableCodec
from rpcasync.wire.messages import CallbackRef


@pytest.fixture
def timed_bench():
    """A server on a fake clock, and its procedures."""
    clock = FakeClock()
    with EventMux(selector=ClockedSelector(clock), clock=clock) as mux:
        procedures = Procedures()
        bench = procedures.bench = Bench(mux, procedures)
        yield bench, procedures
        bench.close()


def ends(bench):
    """Return a list that is told of each call."""
    told = []
    bench.rpc.on_call = told.append
    return told


def brief(told):
    return [(record.procedure, record.id, record.outcome) for record in told]


# Each ending


def test_each_ending_is_told_once_and_counted_once(timed_bench):
    bench, _ = timed_bench
    bench.rpc.on_exception = "answer"
    bench.rpc.set_options("park", timeout=5)
    told = ends(bench)
    bench.rpc.stats()
    with bench.rpc.listen("tcp://127.0.0.1:0") as listener:
        peer = bench.knock(listener)
        going = bench.knock(listener)
        bench.turn()
        bench.ask(peer, 1, "add", "n1", 1, "n2", 2)
        bench.ask(peer, 2, "fault")
        bench.ask(peer, 3, "error")
        bench.ask(peer, 4, "explode")
        bench.ask(peer, 5, "unsendable")
        bench.ask(peer, 6, "forget")
        gc.collect()
        bench.turn()
        bench.ask(peer, 7, "nothing_like_it")
        bench.ask(peer, 8, "add", "n1", 1)
        bench.ask(peer, 9, "park", 0)
        bench.mux.clock.advance(6)
        bench.turn()
        bench.ask(going, 10, "park", 1)
        going.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
        going.sock.close()
        bench.turn()
        stats = bench.rpc.stats()
        bench.rpc.close_listeners()
    assert brief(told) == [
        ("add", 1, "answered"),
        ("fault", 2, "fault"),
        ("error", 3, "fault"),
        ("explode", 4, "exception"),
        ("unsendable", 5, "exception"),
        ("forget", 6, "dropped"),
        ("nothing_like_it", 7, "refused"),
        ("add", 8, "refused"),
        ("park", 9, "timeout"),
        ("park", 10, "gone"),
    ]
    expected = {"answered": 1, "fault": 2, "exception": 2, "dropped": 1}
    expected |= {"timeout": 1, "gone": 1, "refused": 2}
    assert stats["calls"] == expected
    found = stats["procedures"]
    assert set(found) == {"add", "fault", "error", "explode", "unsendable", "forget", "park"}
    assert sum(each["calls"] for each in found.values()) == 9  # all but the one that is none
    assert (found["add"]["calls"], found["add"]["errors"]) == (2, 1)
    assert found["add"]["outcomes"] == {"answered": 1, "refused": 1}
    assert (found["park"]["calls"], found["park"]["errors"]) == (2, 1)  # who left is no error
    assert (stats["accepted"], stats["clients"], stats["running"], stats["waiting"]) == (2, 1, 0, 0)


def test_a_call_of_which_a_client_dies_in_its_procedure_is_gone_once(bench, procedures):
    told = ends(bench)
    peer = bench.peer()

    def rpc_lose(caller, answers: int):
        peer.sock.close()
        bench.rpc.return_(caller) if answers else procedures.parked.append(caller)
        bench.mux.kill(caller.fh)
        bench.turn()

    procedures.rpc_lose = rpc_lose
    peer.send(1, "lose", "answers", 0)
    bench.turn()
    assert brief(told) == [("lose", 1, "gone")]
    assert bench.rpc.return_(procedures.parked.pop()) is False
    assert len(told) == 1


def test_calls_that_wait_when_a_client_goes_are_gone(bench, procedures):
    bench.rpc.set_limits(outstanding=1)
    told = ends(bench)
    peer = bench.peer()
    peer.send_calls(("park",), ("note", 1), ("note", 2))
    bench.turn()
    peer.sock.close()
    bench.turn()
    assert sorted(brief(told)) == [("note", 1, "gone"), ("note", 2, "gone"), ("park", 0, "gone")]
    assert [record.seconds for record in told if record.procedure == "note"] == [0, 0]
    assert bench.rpc.return_(procedures.parked.pop()) is False
    assert len(told) == 3
    assert procedures.ran == [None]


def test_a_refused_callback_is_refused(serve):
    bench = serve(max_callbacks=1)
    told = ends(bench)
    bench.ask(bench.peer(), 0, "keep", CallbackRef(10), CallbackRef(11))
    assert brief(told) == [("keep", 0, "refused")]


# Records


def test_a_record_tells_all(bench, procedures):
    before = time.time()
    bench.rpc.set_limits(outstanding=1)
    told = ends(bench)
    peer = bench.peer()
    peer.send_calls(("park",), ("add", "n1", 1, "n2", 2))
    bench.turn()
    parked = procedures.parked.pop()
    identity = parked.peer
    bench.rpc.return_(parked)
    bench.turn()
    first, second = told
    assert (first.wait, second.outcome) == (0, "answered")
    assert 0 < second.wait < 60
    assert 0 <= second.seconds < 60
    assert first.peer is identity
    assert second.received == len(peer.packet(1, "add", "n1", 1, "n2", 2)) - 4
    assert second.sent == len(bench.rpc._peers.by_fh[parked.fh].protocol.result(1, ["sum", 3]))
    assert before <= second.started <= time.time()


def test_what_on_call_raises_is_logged_and_harms_nobody(serve, caplog):
    def on_call(record):
        raise RuntimeError("not today")

    bench = serve(on_call=on_call)
    peer = bench.peer()
    assert bench.ask(peer, 1, "add", "n1", 1, "n2", 2) == [[1, "sum", 3]]
    assert bench.ask(peer, 2, "add", "n1", 1, "n2", 2) == [[2, "sum", 3]]
    assert warnings_of(caplog) == ["on_call() of procedure add failed"] * 2


def test_on_call_has_to_be_a_function(bench):
    with pytest.raises(TypeError, match="on_call is 5, must be a function of a CallRecord, "):
        Server(bench.mux, {}, on_call=5)
    told = ends(bench)
    bench.rpc.on_call = None
    bench.ask(bench.peer(), 1, "note", 1)
    assert told == []
    assert bench.rpc.on_call is None


def test_built_in_procedures_are_not_told(bench):
    told = ends(bench)
    bench.rpc.stats()
    peer = bench.peer()
    for id_, name in enumerate(("methods", "health", "stats")):
        bench.ask(peer, id_, name)
    assert told == []
    assert sum(bench.rpc.stats()["calls"].values()) == 0


# What is counted, and from when


def test_nothing_is_counted_until_somebody_looks(bench):
    peer = bench.peer()
    bench.ask(peer, 1, "note", 1)
    assert bench.rpc._peers.counting is None
    assert bench.rpc.stats()["procedures"] == {}
    bench.ask(peer, 2, "note", 2)
    found = bench.rpc.stats()["procedures"]["note"]
    assert (found["calls"], found["errors"], sum(found["counts"])) == (1, 0, 1)
    assert 0 < found["p50"] <= found["p99"]


def test_a_call_that_began_before_somebody_looked_is_not_counted(bench, procedures):
    peer = bench.peer()
    bench.ask(peer, 1, "park")
    bench.rpc.stats()
    told = ends(bench)
    bench.rpc.return_(procedures.parked.pop())
    bench.turn()
    assert told == []
    assert bench.rpc.stats()["calls"] == dict.fromkeys(OUTCOMES, 0)


def test_names_that_a_stranger_makes_up_take_no_room(bench):
    bench.rpc.stats()
    peer = bench.peer()
    for id_ in range(20):
        bench.ask(peer, id_, f"no_{id_}")
    stats = bench.rpc.stats()
    assert stats["procedures"] == {}
    assert stats["calls"]["refused"] == 20


def test_beyond_so_many_procedures_all_are_one(serve, monkeypatch):
    monkeypatch.setattr(counting, "_MOST_ROWS", 2)
    bench = serve({f"rpc_p{n}": lambda caller: bench.rpc.return_(caller) for n in range(5)})
    bench.rpc.stats()
    peer = bench.peer()
    for n in range(5):
        bench.ask(peer, n, f"p{n}")
    found = bench.rpc.stats()["procedures"]
    assert {name: each["calls"] for name, each in found.items()} == {
        "p0": 1,
        "p1": 1,
        "(others)": 3,
    }


def test_what_is_kept_is_little(bench, monkeypatch):
    monkeypatch.setattr(counting, "_MOST_KEPT", 10)
    bench.rpc.stats()
    peer = bench.peer()
    for _ in range(25):
        bench.ask(peer, 0, "note", 1)
    (row,) = bench.rpc._peers.counting.rows.values()
    assert (len(row.times), sum(row.counts)) == (5, 20)
    found = bench.rpc.stats()["procedures"]["note"]
    assert found["calls"] == sum(found["counts"]) == 25
    assert found["seconds"] > 0


def test_what_waits_and_what_is_queued(bench, procedures):
    bench.rpc.set_limits(outstanding=1)
    peer = bench.peer()
    peer.send_calls(("park",), ("note", 1), ("note", 2))
    bench.turn()
    stats = bench.rpc.stats()
    assert (stats["running"], stats["waiting"], stats["status"]) == (1, 2, "overloaded")
    bench.rpc.return_(procedures.parked.pop(), "x" * 2_000_000)
    stats = bench.rpc.stats()
    assert stats["queued"] > 1_000_000
    (one,) = bench.rpc.connections()
    assert one.queued == stats["queued"]
    assert (one.running, one.waiting) == (0, 2)


def test_who_is_refused_is_counted(serve):
    bench = serve(authorize=lambda peer: False)
    with bench.rpc.listen("tcp://127.0.0.1:0") as listener:
        bench.knock(listener)
        bench.turn()
        stats = bench.rpc.stats()
        assert (stats["accepted"], stats["refused"], stats["listeners"]) == (0, 1, 1)
        bench.rpc.close_listeners()


def test_connections(bench, procedures):
    old = bench.peer()
    bench.turn()
    assert [one.since for one in bench.rpc.connections()] == [None]
    before = time.time()
    new = bench.peer("json")
    new.send_calls(("note", 1), ("park", 2))
    bench.turn()
    first, second = bench.rpc.connections()
    assert (first.calls, first.idle, first.running) == (0, None, 0)
    assert before <= second.since <= time.time()
    assert (second.calls, second.running, second.waiting, second.codec) == (2, 1, 0, "json")
    assert 0 <= second.idle < 60
    assert second.peer is procedures.parked[0].peer
    old.sock.close()
    bench.turn()
    assert len(bench.rpc.connections()) == 1


def test_the_loop_is_late_by_what_a_procedure_blocks(timed_bench):
    bench, procedures = timed_bench
    assert bench.rpc.stats()["lag"] is None
    peer = bench.peer()
    procedures.rpc_block = lambda caller: bench.mux.clock.advance(3)
    bench.ask(peer, 1, "block")
    bench.turn()
    assert bench.rpc.stats()["lag"] == pytest.approx(2)
    bench.mux.clock.advance(1)
    bench.turn()
    assert bench.rpc.stats()["lag"] == pytest.approx(0)
    assert bench.rpc.stats()["most_lag"] == pytest.approx(2)


def test_without_clients_no_timer_keeps_a_mux_waiting(bench):
    peer = bench.peer()
    bench.rpc.stats()
    peer.sock.close()
    bench.turn()
    assert bench.mux.mux() is None


# Percentiles


def test_a_quantile_lies_in_the_step_of_the_call():
    counts = [0] * (len(BOUNDS) + 1)
    assert quantile(counts, 0.5) is None
    counts[7] = 99
    counts[10] = 1
    assert BOUNDS[6] < quantile(counts, 0.5) < BOUNDS[7]
    assert quantile(counts, 0.99) == pytest.approx(BOUNDS[7])
    assert quantile(counts, 1.0) == BOUNDS[10]
    counts[-1] = 1000
    assert quantile(counts, 0.5) == BOUNDS[-1]
    assert math.isclose(BOUNDS[-1], 83.88608)


# Built-in procedures


def test_health_and_stats_over_the_wire(bench, codec):
    peer = bench.peer(codec)
    assert bench.ask(peer, 1, "health") == [[1, "status", "ok"]]
    ((id_, *pairs),) = bench.ask(peer, 2, "stats")
    told = dict(zip(pairs[::2], pairs[1::2], strict=True))
    assert id_ == 2
    assert told.keys() == bench.rpc.stats().keys()
    assert (told["status"], told["pid"], told["clients"]) == ("ok", os.getpid(), 1)


def test_they_give_way_to_the_program(serve):
    def rpc_health(caller):
        bench.rpc.return_(caller, "mine")

    def rpc_stats(caller):
        bench.rpc.return_(caller, "mine, too")

    bench = serve({"rpc_health": rpc_health, "rpc_stats": rpc_stats})
    told = ends(bench)
    peer = bench.peer()
    assert bench.ask(peer, 1, "health") == [[1, "mine"]]
    assert bench.ask(peer, 2, "stats") == [[2, "mine, too"]]
    assert brief(told) == [("health", 1, "answered"), ("stats", 2, "answered")]


def test_they_are_not_held_up_by_calls_that_wait(bench):
    bench.rpc.set_limits(outstanding=1)
    peer = bench.peer()
    bench.ask(peer, 1, "park")
    bench.ask(peer, 2, "note", 1)
    assert bench.ask(bench.peer(), 3, "health") == [[3, "status", "overloaded"]]


def test_health_of_a_server_that_is_full(bench):
    peer = bench.peer()
    bench.rpc.set_limits(max_clients=1)
    assert bench.ask(peer, 1, "health") == [[1, "status", "overloaded"]]


@pytest.mark.parametrize(("draining", "status"), [(True, "draining"), (False, "ok")])
def test_a_server_that_drains_says_so(mux, draining, status):
    class Draining(Server):
        @property
        def draining(self):
            return draining

    rpc = Draining(mux, {})
    stats = rpc.stats()
    assert (stats["draining"], stats["status"]) == (draining, status)


@contextmanager
def behind(serve, procedures, **options):
    """Give a server in front of another one, and a function that asks it."""
    with EventMux() as mux:
        rear = Server(mux, procedures(lambda caller, *values: rear.return_(caller, *values)))
        ours, theirs = socket.socketpair()
        rear.add_client(theirs)
        bench = serve({}, mux=mux, **options)
        bench.rpc.fallback = Client(mux, ours)
        peer = bench.peer()

        def ask(*values):
            peer.send(*values)
            turn(mux, bench.rpc, rear)
            return peer.read()

        yield bench, ask


def test_a_server_behind_keeps_its_own_health(serve):
    """Its clients call it, whatever it is; stats, which it has not, are those of the front."""
    told = []
    own = lambda answer: {"rpc_health": lambda caller: answer(caller, "theirs")}  # noqa: E731
    with behind(serve, own, on_call=told.append) as (bench, ask):
        assert ask(1, "health") == [[1, "theirs"]]
        ((_, *pairs),) = ask(2, "stats")
        assert pairs[:2] == ["status", "ok"]
        bench.rpc.drain(600)
        assert ask(3, "health") == [[3, "theirs"]]
        ((_, *pairs),) = ask(4, "stats")
        assert pairs[:2] == ["status", "draining"]
        assert told == []


def test_of_a_server_behind_without_its_own_the_front_answers(serve):
    """It is the one that is asked: what it passes on to is as well as ever."""
    with behind(serve, lambda _: {}) as (bench, ask):
        bench.rpc.drain(600)
        assert ask(1, "health") == [[1, "status", "draining"]]
        ((_, _, text, *_),) = ask(2, "health", 5)
        assert "1 value was given" in text or "takes no" in text
        assert ask(3, "health") == [[3, "status", "draining"]]


def test_a_server_behind_that_answers_nothing(serve, clock, timed):
    silent, ours = socket.socketpair()
    bench = serve({}, mux=timed, fallback=Client(timed, ours))
    peer = bench.peer()
    assert bench.ask(peer, 1, "health") == []
    clock.advance(0.6)
    bench.turn()
    assert peer.read() == [[1, "status", "ok"]]
    silent.close()
    bench.turn()
    assert bench.ask(peer, 2, "health") == [[2, "status", "ok"]]


def test_there_is_no_server_behind(serve, tmp_path):
    bench = serve({}, fallback=f"unix://{tmp_path}/nobody")
    assert bench.ask(bench.peer(), 1, "health") == [[1, "status", "ok"]]


def test_with_a_server_behind_they_are_not_held_up_either(serve):
    own = lambda answer: {"rpc_park": lambda caller: parked.append(caller)}  # noqa: E731
    parked = []
    with behind(serve, own) as (bench, ask):
        bench.rpc.set_limits(outstanding=1)
        assert ask(1, "park") == []
        assert ask(2, "park") == []
        assert ask(3, "health") == [[3, "status", "overloaded"]]
        parked.clear()


def test_an_error_of_the_server_behind_is_a_fault(serve):
    with EventMux() as mux:
        behind = Server(mux, {"rpc_no": lambda caller: behind.error(caller, "no")})
        ours, theirs = socket.socketpair()
        behind.add_client(theirs)
        bench = serve({}, mux=mux)
        bench.rpc.fallback = Client(mux, ours)
        told = ends(bench)
        peer = bench.peer()
        peer.send(1, "no")
        turn(mux, bench.rpc, behind)
        assert brief(told) == [("no", 1, "fault")]


def test_shadow_peers_are_no_clients(bench):
    bench.rpc.stats()
    peer = bench.peer()
    bench.ask(peer, 1, "note", 1)
    inner = bench.rpc._arrivals.connect_inside(next(iter(bench.rpc._peers.by_fh.values())))
    bench.turn()
    stats = bench.rpc.stats()
    assert (stats["clients"], stats["accepted"]) == (1, 1)
    assert len(bench.rpc.connections()) == 1
    inner.close()
    bench.turn()
    assert bench.rpc.stats()["accepted"] == 1


def test_whoever_asks_again_and_again_gets_the_same_answer_again():
    """Many procedures are much to tell: it is made once in a while, for clients of all kinds."""
    clock = FakeClock()
    names = [f"name{number}" for number in range(60)]
    with EventMux(selector=ClockedSelector(clock), clock=clock) as mux:
        bench = Bench(mux, {f"rpc_{name}": lambda caller: rpc.return_(caller) for name in names})
        rpc = bench.rpc
        perl = StorableCodec(typed=False)
        first, *others = peers = [bench.peer(), bench.peer(), bench.peer(perl), bench.peer("json")]

        def told(peer, id_):
            ((answered, *pairs),) = bench.ask(peer, id_, "stats")
            assert int(answered) == id_
            return dict(zip(pairs[::2], pairs[1::2], strict=True))

        assert told(first, 1)["uptime"] < told(first, 2)["uptime"]  # there is little to tell
        for name in names:
            bench.ask(first, 3, name)
        answer = told(first, 4)
        assert answer["procedures"].keys() == {*names}
        for id_ in (5, 6):
            for peer in peers:
                assert float(told(peer, id_)["uptime"]) == answer["uptime"]
        assert {len(told(peer, 7)["procedures"]) for peer in others} == {60}
        clock.advance(0.1)
        assert told(first, 8)["uptime"] > answer["uptime"]
        bench.close()
