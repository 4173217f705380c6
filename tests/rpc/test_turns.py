"""Whose turn it is: many calls of one client, and what others and the loop have of it meanwhile."""

from __future__ import annotations

import socket

import pytest
from support.fakes import FakeClock
from support.peers import Peer
from support.records import warnings_of

from rpcasync import Server
from rpcasync.serving.turns import MOST_CALLS


@pytest.fixture
def slow(bench, procedures, monkeypatch):
    """A procedure whose calls take one second each, of a clock of the test's."""
    clock = FakeClock()
    monkeypatch.setattr(bench.rpc._dispatcher._turns, "clock", clock)  # it has no public face

    def rpc_slow(caller, n, /):
        clock.advance(1)
        procedures.ran.append(n)
        bench.rpc.return_(caller, n)

    procedures.rpc_slow = rpc_slow


@pytest.fixture
def step(bench, procedures):
    """Hand the server one event that has something run; return how many calls did."""

    def run():
        before = len(procedures.ran)
        while len(procedures.ran) == before:
            event = bench.mux.mux(0)
            assert event.type != "timeout"
            assert bench.rpc.io(event) is None
        return len(procedures.ran) - before

    return run


@pytest.mark.usefixtures("slow")
def test_a_turn_is_so_many_calls(bench, procedures, step):
    peer = bench.peer()
    peer.send_calls(*[("note", n) for n in range(2 * MOST_CALLS + 10)])
    assert [step() for _ in range(3)] == [MOST_CALLS, MOST_CALLS, 10]
    bench.turn()
    assert [answer[0] for answer in peer.read()] == list(range(2 * MOST_CALLS + 10))


@pytest.mark.usefixtures("slow")
def test_a_turn_is_so_much_time(bench, step):
    bench.peer().send_calls(*[("slow", n) for n in range(5)])
    assert [step() for _ in range(5)] == [1] * 5


@pytest.mark.usefixtures("slow")
def test_those_in_line_have_their_turns_one_after_the_other(bench, procedures):
    peers = [bench.peer() for _ in range(3)]
    for number, peer in enumerate(peers):
        peer.send_calls(*[("slow", (number, n)) for n in range(3 + number)])
    bench.turn()
    once = [(number, n) for n in range(5) for number in range(3) if n < 3 + number]
    assert [tuple(each) for each in procedures.ran] == once


@pytest.mark.usefixtures("slow")
def test_a_single_call_comes_between_those_of_another(bench, procedures, step):
    greedy, modest = bench.peer(), bench.peer()
    greedy.send_calls(*[("slow", n) for n in range(50)])
    step()
    modest.send(0, "note", "modest")
    bench.turn()
    assert procedures.ran.index("modest") <= 3


@pytest.mark.usefixtures("slow")
def test_an_answer_does_not_wait_for_the_calls_of_those_in_line(bench, procedures, step):
    greedy, modest = bench.peer(), bench.peer()
    slow, answers = procedures.rpc_slow, []

    def rpc_slow(caller, n, /):
        answers.append(modest.read())
        slow(caller, n)

    procedures.rpc_slow = rpc_slow
    greedy.send_calls(*[("slow", n) for n in range(5)])
    step()
    modest.send(0, "note", "modest")
    bench.turn()
    behind = procedures.ran.index("modest")
    assert answers[behind] == [[0, "modest"]]


@pytest.mark.usefixtures("slow")
def test_calls_that_wait_are_taken_client_by_client_and_in_turns(bench, procedures, step):
    bench.rpc.set_limits(outstanding=1)
    greedy, modest = bench.peer(), bench.peer()
    bench.ask(greedy, 0, "park", "parked")
    greedy.send_calls(*[("slow", n) for n in range(50)])
    modest.send(0, "slow", "modest")
    bench.turn()
    assert bench.rpc.has_queued() == 51
    bench.rpc.return_(procedures.parked.pop())
    assert [step() for _ in range(51)] == [1] * 51
    assert procedures.ran[:3] == ["parked", 0, "modest"]
    assert procedures.ran[3:] == list(range(1, 50))


@pytest.mark.usefixtures("slow")
def test_who_is_in_line_is_not_read_from(bench, procedures, step):
    peer = bench.peer()
    peer.send_calls(*[("slow", n) for n in range(3)])
    step()
    (fh,) = bench.rpc.clients
    peer.send(3, "slow", 3)
    for _ in range(2):
        step()
    assert fh.recv(1, socket.MSG_PEEK)
    bench.turn()
    assert procedures.ran == [0, 1, 2, 3]


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("outstanding", [None, 1])
def test_nothing_runs_for_a_client_that_has_gone(bench, procedures, outstanding, step):
    bench.rpc.set_limits(outstanding=outstanding)
    going, staying = bench.peer(), bench.peer()
    going.send_calls(*[("slow", n) for n in range(50)])
    step()
    step()
    going.sock.close()
    bench.turn()
    assert procedures.ran == [0, 1]
    assert len(bench.rpc.clients) == 1
    assert bench.ask(staying, 0, "note", 1) == [[0, 1]]


def test_nothing_runs_for_a_client_that_went_while_it_did_not_read(bench, procedures, caplog):
    peer = bench.peer()
    peer.send_calls(*[("big", 500_000)] * 100)
    bench.turn()
    ran = len(procedures.ran)
    peer.sock.close()
    bench.turn()
    assert len(procedures.ran) == ran < 10
    assert not bench.rpc.has_clients()
    assert warnings_of(caplog) == []


def test_nothing_that_waits_runs_for_a_client_that_has_gone(bench, procedures):
    bench.rpc.set_limits(outstanding=1, max_waiting=5)
    other, peer = bench.peer(), bench.peer()
    bench.ask(other, 0, "park")
    peer.send_calls(*[("note", n) for n in range(20)])  # so it is not read from any more
    bench.turn()
    peer.sock.close()
    bench.rpc.return_(procedures.parked.pop())
    bench.turn()
    assert procedures.ran == [None]
    assert bench.rpc.has_queued() == 0
    assert len(bench.rpc.clients) == 1


@pytest.mark.usefixtures("slow")
def test_a_client_that_only_sends_no_more_is_served_to_its_end(bench, procedures):
    peer = bench.peer()
    peer.send_calls(*[("slow", n) for n in range(20)])
    peer.sock.shutdown(socket.SHUT_WR)
    bench.turn()
    assert procedures.ran == list(range(20))
    assert [answer[0] for answer in peer.read()] == list(range(20))
    bench.turn()
    assert not bench.rpc.has_clients()


@pytest.mark.usefixtures("slow")
def test_its_end_that_is_read_early_costs_no_call(bench, procedures):
    """As when a procedure waits for one handle alone: the events of others are kept."""
    peer = bench.peer()
    peer.send_calls(*[("slow", n) for n in range(20)])
    other, theirs = socket.socketpair()
    bench.mux.add(other)
    with theirs:
        bench.mux.mux(0, only=other)  # reads the calls
        peer.sock.shutdown(socket.SHUT_WR)
        bench.mux.mux(0, only=other)  # reads the end
        bench.turn()
        assert procedures.ran == list(range(20))
        assert [answer[0] for answer in peer.read()] == list(range(20))
        assert not bench.rpc.has_clients()
        bench.mux.kill(other)


@pytest.mark.usefixtures("slow")
def test_a_broken_client_in_line_is_served_to_the_end_of_what_it_sent(bench, procedures):
    peer = bench.peer()
    calls = [peer.packet(n, "slow", n) for n in range(3)]
    peer.sock.sendall(b"".join([peer.packet(9, "explode"), *calls, b"\0\0\0\0"]))
    bench.turn()
    assert procedures.ran == [0, 1, 2]
    assert [answer[0] for answer in peer.read()] == [9, 0, 1, 2]
    assert peer.ended


class SmallMux:
    """The least that a server needs."""

    def __init__(self, mux):
        self.add, self.send, self.kill = mux.add, mux.send, mux.kill


@pytest.mark.usefixtures("slow")
def test_a_server_that_cannot_be_woken_serves_all_at_once(mux, procedures):
    ours, theirs = socket.socketpair()
    rpc = Server(SmallMux(mux), {"rpc_note": lambda caller, n, /: rpc.return_(caller, n)})
    rpc.add_client(ours)
    with theirs:
        peer = Peer(theirs)
        peer.send_calls(*[("note", n) for n in range(3 * MOST_CALLS)])
        while (event := mux.mux(0)).type != "timeout":
            assert rpc.io(event) is None
        assert len(peer.read()) == 3 * MOST_CALLS
        mux.kill(ours)
