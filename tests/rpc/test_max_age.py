"""`max_age`: connections that are old are made anew, by clients that have asked for it."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
from support.fakes import ClockedSelector, FakeClock
from support.line_interrupts import at_each_line
from support.peers import Bench, turn
from support.procedures import Procedures
from support.server_interrupts import Interrupter

from eventmux import EventMux
from rpcasync import Backoff, Client, Server
from rpcasync.wire.messages import CallbackRef

GONE = [7, "call"]  # what a client gets whose callback is 7


@pytest.fixture
def old(serve, timed, selector):
    """A server that asks connections to go that are 100 seconds old, on a fake clock."""
    selector.most_calls = 10**6
    bench = serve(mux=timed)
    bench.rpc.set_limits(max_age=100)
    return bench


@pytest.fixture
def wait(old, clock):
    """Let time go by, a second at a time."""

    def go_on(seconds):
        for _ in range(seconds):
            clock.advance(1)
            old.turn()

    return go_on


def asking(bench):
    peer = bench.peer()
    assert bench.ask(peer, 1, "goaway", CallbackRef(7)) == [[1]]
    return peer


def test_who_has_asked_is_told_once(old, wait):
    peer = asking(old)
    wait(89)
    assert peer.read() == []
    wait(22)
    told, release = peer.read()
    assert told == GONE
    assert release[0] == 7  # it need not be kept
    wait(500)
    assert peer.read() == []
    assert not peer.ended
    assert old.ask(peer, 2, "note", 5) == [[2, 5]]


def test_who_has_not_asked_is_left_alone(old, wait, caplog):
    caplog.set_level(logging.INFO)
    peer = old.peer()
    wait(500)
    assert old.ask(peer, 2, "note", 5) == [[2, 5]]
    assert caplog.records == []


def test_who_asks_again_is_told_again(old, wait):
    peer = asking(old)
    wait(111)
    assert peer.read()[0] == GONE
    assert old.ask(peer, 2, "goaway", CallbackRef(7)) == [[2]]
    wait(78)  # it was told 1 to 21 seconds ago
    told = peer.read()
    wait(33)
    assert (told + peer.read()).count(GONE) == 1


def test_who_asks_when_it_is_old_is_told_soon(old, wait):
    peer = old.peer()
    wait(300)
    assert old.ask(peer, 1, "goaway", CallbackRef(7)) == [[1]]
    wait(1)
    assert peer.read()[0] == GONE


def test_all_its_functions_are_called(old, wait):
    peer = asking(old)
    old.ask(peer, 2, "goaway", CallbackRef(8))
    wait(111)
    assert [packet for packet in peer.read() if packet[1] == "call"] == [GONE, [8, "call"]]


def test_those_who_came_together_do_not_go_together(old, wait):
    peers = [asking(old) for _ in range(210)]
    times = Counter()
    for second in range(111):
        wait(1)
        times[second] += sum(GONE in peer.read() for peer in peers)
    assert sum(times.values()) == 210
    when = [second for second, count in times.items() if count]
    assert when[0] < 96  # by chance, one in 10**30 times not
    assert when[-1] > 102
    assert max(times.values()) < 60
    assert len(when) > 12


def test_calls_under_way_are_answered(old, wait, procedures):
    peer = asking(old)
    old.ask(peer, 3, "park", 1)
    wait(111)
    assert peer.read()[0] == GONE
    old.rpc.return_(procedures.parked.pop(), 5)
    old.turn()
    assert peer.read() == [[3, 5]]


def test_the_timer_ends_with_the_last_client(old, timed):
    peer = asking(old)
    peer.sock.close()
    old.turn()
    assert timed.mux() is None  # a loop that waits for it would never end
    old.peer()
    old.turn()
    assert timed.mux(2).type == "timer"


def test_off_it_costs_no_timer(serve, timed, selector):
    bench = serve(mux=timed)
    bench.peer()
    bench.turn()
    assert timed.mux(5).type == "timeout"


def test_the_limit_may_change_and_end(old, wait):
    peer = asking(old)
    wait(50)
    old.rpc.set_limits(max_age=None)
    wait(500)
    old.rpc.set_limits(max_clients=9)  # it stays so
    wait(100)
    assert peer.read() == []
    old.rpc.set_limits(max_age=200)  # half of its time is over
    wait(79)
    assert peer.read() == []
    wait(43)
    assert peer.read()[0] == GONE


def test_who_comes_late_has_its_time(old, wait):
    asking(old)
    wait(80)
    peer = asking(old)
    wait(85)
    assert peer.read() == []


@pytest.mark.parametrize("limit", [0, -1, True, "5", float("inf"), float("nan")])
def test_limits_that_are_none(bench, limit):
    with pytest.raises(ValueError, match="max_age is .*, must be a number of seconds above 0"):
        bench.rpc.set_limits(max_waiting=1, max_age=limit)


def test_a_mux_without_timers_says_so(mux, procedures):
    class Timeless:
        add, send, kill = mux.add, mux.send, mux.kill

    rpc = Server(Timeless(), procedures)
    with pytest.raises(TypeError, match=r"max_age needs a mux with timer\(\)"):
        rpc.set_limits(max_age=5)
    rpc.set_limits(max_age=None)


def test_drain_tells_those_that_are_left(old, wait):
    peer = asking(old)
    wait(50)
    old.rpc.drain()
    old.turn()
    assert peer.read()[0] == GONE
    wait(200)
    assert GONE not in peer.read()


def test_a_client_of_ours_comes_again_at_once(old, timed, procedures):
    """To the same server, if it knows no other; what was called meanwhile is answered."""
    listener = old.rpc.listen("tcp://127.0.0.1:0")
    url = "tcp://127.0.0.1:{1}".format(*listener.getsockname())
    client = Client(timed, url, reconnect=Backoff(30, 30))

    def go_on():
        turn(timed, old.rpc, client)

    call = client.call("park", 1)
    go_on()
    (first,) = old.rpc.clients
    for _ in range(111):
        timed.clock.advance(1)
        go_on()
    assert len(old.rpc.clients) == 2  # it keeps the old one for the call, and waits for nothing
    other = client.call("note", 6)
    go_on()
    assert other.result(0) == (6,)
    old.rpc.return_(procedures.parked.pop(), 5)
    go_on()
    assert call.result(0) == (5,)
    go_on()
    assert first not in old.rpc.clients
    assert len(old.rpc.clients) == 1
    client.disconnect()
    go_on()


@pytest.mark.slow
def test_ctrl_c_at_any_line():
    """The functions are called all the same, and not too soon; the looks go on."""

    def play(at):
        clock = FakeClock()
        selector = ClockedSelector(clock, most_calls=10**6)
        with EventMux(selector=selector, clock=clock, spin=0) as mux:
            bench = Bench(mux, Procedures())
            interrupter = Interrupter(at)
            bench.rpc.set_limits(max_age=100)
            peer, other = asking(bench), asking(bench)
            told = []
            for second in range(121):  # what was interrupted may be a look later
                clock.advance(1)
                try:
                    with interrupter:
                        bench.turn()
                except KeyboardInterrupt:
                    bench.turn()
                told += [second for each in (peer, other) if GONE in each.read()]
            assert len(told) >= 2, interrupter.place
            assert min(told) >= 87, interrupter.place
            for each in (peer, other):
                each.sock.close()
            bench.turn()
            clock.advance(1)
            bench.turn()
            assert mux.mux() is None, interrupter.place  # no timer goes on
            bench.close()
        return interrupter

    assert at_each_line(play) > 20
