"""Clients that do nothing: who counts as idle, and when `idle_timeout` ends them."""

from __future__ import annotations

import gc
import logging

import pytest
from support.peers import turn
from support.server_interrupts import Interrupter

from rpcasync import Server
from rpcasync.wire.messages import CallbackRef


@pytest.fixture
def idle(serve, timed, selector):
    """A server that ends clients which are idle for a minute, on a fake clock."""
    selector.most_calls = 10**6
    return serve(mux=timed, idle_timeout=60)


@pytest.fixture
def wait(idle, clock):
    """Let time go by, a second at a time."""

    def go_on(seconds):
        for _ in range(seconds):
            clock.advance(1)
            idle.turn()

    return go_on


def is_there(idle, peer):
    idle.turn()
    peer.read()
    return not peer.ended


def test_one_that_never_says_anything(idle, wait, caplog):
    caplog.set_level(logging.INFO)
    peer = idle.peer()
    wait(60)
    assert is_there(idle, peer)
    wait(12)
    assert not is_there(idle, peer)
    (record,) = caplog.records
    assert record.levelno == logging.INFO  # it is nothing to be warned of
    assert record.message.endswith(" s, limit is 60 s")
    assert " disconnected: idle for 6" in record.message
    assert not idle.rpc.clients


def test_one_that_says_something_now_and_then(idle, wait):
    peer = idle.peer()
    for number in range(10):
        wait(50)
        assert idle.ask(peer, number, "list") == [[number]]
    wait(75)
    assert not is_there(idle, peer)


def test_never_too_early(idle, wait):
    """Whenever the last call came, between two looks at the clock."""
    for start in range(16):
        peer = idle.peer()
        wait(start)
        idle.ask(peer, 0, "list")
        wait(59)
        assert is_there(idle, peer), start
        wait(20)
        assert not is_there(idle, peer), start


def test_others_keep_nobody(idle, wait):
    busy, quiet = idle.peer(), idle.peer()
    for number in range(80):
        wait(1)
        idle.ask(busy, number, "list")
    assert is_there(idle, busy)
    assert not is_there(idle, quiet)


def test_one_that_waits_for_an_answer(idle, wait, procedures):
    peer = idle.peer()
    idle.ask(peer, 0, "park", 1)
    wait(500)
    idle.rpc.return_(procedures.parked.pop())
    idle.turn()
    assert peer.read() == [[0]]
    wait(59)
    assert is_there(idle, peer)  # the time begins behind the answer
    wait(20)
    assert not is_there(idle, peer)


def test_one_whose_call_waits_for_others(idle, wait, procedures):
    idle.rpc.set_limits(outstanding=1)
    first, second = idle.peer(), idle.peer()
    idle.ask(first, 0, "park", 1)
    idle.ask(second, 0, "park", 2)
    wait(200)
    assert is_there(idle, first)
    assert is_there(idle, second)


def test_one_that_has_subscribed(idle, wait, procedures):
    peer = idle.peer()
    idle.ask(peer, 0, "keep", CallbackRef(7))
    wait(500)
    ((function,),) = procedures.kept
    function("news")
    idle.turn()
    assert peer.read() == [[7, "call", "news"]]
    del function
    procedures.kept.clear()
    gc.collect()
    wait(59)
    assert is_there(idle, peer)
    wait(20)
    assert not is_there(idle, peer)


def test_one_whose_function_was_let_go_of(idle, wait, procedures):
    peer = idle.peer()
    idle.ask(peer, 0, "keep", CallbackRef(7))
    procedures.kept[0][0].release()  # the program keeps what is left of it
    wait(80)
    assert not is_there(idle, peer)


def test_one_that_does_not_read_its_answers(idle, wait):
    peer = idle.peer()
    peer.send(0, "big", 900_000)
    wait(80)
    assert idle.rpc.clients == set()


def test_one_that_reads_slowly(idle, wait):
    peer = idle.peer()
    peer.send(0, "big", 900_000)
    got = 0
    while got < 700_000:
        wait(50)
        got += len(peer.sock.recv(100_000))
        assert len(idle.rpc.clients) == 1
    while got < 900_000:
        wait(1)
        got += len(peer.sock.recv(100_000))
    assert len(idle.rpc.clients) == 1


def test_one_that_dribbles_is_not_idle_but_slow(idle, wait):
    """Any byte counts: for those that take too long there is `packet_timeout`."""
    idle.rpc.set_limits(packet_timeout=None)
    peer = idle.peer()
    for byte in peer.packet(0, "list"):
        wait(50)
        peer.sock.send(bytes([byte]))
    idle.turn()
    assert peer.read() == [[0]]


def test_half_a_packet_does_not_keep_it(idle, wait):
    idle.rpc.set_limits(packet_timeout=None)
    peer = idle.peer()
    peer.sock.send(b"\0\0")
    wait(80)
    assert not is_there(idle, peer)


def test_what_is_still_with_the_kernel_is_read_first(idle, clock):
    peer = idle.peer()
    for _ in range(8):
        clock.advance(7.5)
        idle.turn()
    peer.send(0, "list")
    clock.advance(60)  # a procedure took that long, say
    idle.turn()
    assert peer.read() == [[0]]


def test_a_client_that_comes_late_has_its_time(idle, wait):
    first = idle.peer()
    wait(50)
    second = idle.peer()
    wait(25)
    assert not is_there(idle, first)
    wait(34)
    assert is_there(idle, second)
    wait(20)
    assert not is_there(idle, second)


def test_the_timer_ends_with_the_last_client(idle, timed):
    peer = idle.peer()
    idle.turn()
    peer.sock.close()
    idle.turn()
    assert timed.mux() is None  # a loop that waits for it would never end
    idle.peer()
    idle.turn()
    assert timed.mux(8).type == "timer"


def test_the_limit_may_change_and_end(idle, wait):
    peer = idle.peer()
    wait(50)
    idle.rpc.set_limits(idle_timeout=None)
    wait(500)
    assert is_there(idle, peer)
    idle.rpc.set_limits(max_clients=9)  # it stays so
    wait(500)
    idle.rpc.set_limits(idle_timeout=8)
    wait(8)
    assert is_there(idle, peer)
    wait(2)
    assert not is_there(idle, peer)


def test_no_limit_is_the_default(serve, timed, clock):
    bench = serve(mux=timed)
    peer = bench.peer()
    clock.advance(10**7)
    bench.turn()
    assert bench.ask(peer, 0, "list") == [[0]]


@pytest.mark.parametrize("limit", [0, -1, True, "5", float("inf"), float("nan")])
def test_limits_that_are_none(bench, limit):
    with pytest.raises(ValueError, match="idle_timeout is .*, must be a number of seconds"):
        bench.rpc.set_limits(max_waiting=1, idle_timeout=limit)
    with pytest.raises(ValueError, match="idle_timeout is "):
        Server(bench.mux, {}, idle_timeout=limit)


def test_a_mux_without_timers_says_so(mux, procedures):
    class Timeless:
        add, send, kill = mux.add, mux.send, mux.kill

    with pytest.raises(TypeError, match=r"idle_timeout needs a mux with timer\(\)"):
        Server(Timeless(), procedures, idle_timeout=5)
    rpc = Server(Timeless(), procedures)
    with pytest.raises(TypeError, match="idle_timeout needs"):
        rpc.set_limits(idle_timeout=5)
    rpc.set_limits(idle_timeout=None)


def test_connections_inside_of_the_program_are_no_clients(idle, wait, procedures):
    peer = idle.peer()
    idle.ask(peer, 0, "park", 1)
    (own,) = idle.rpc._peers.by_fh.values()
    idle.rpc.return_(procedures.parked.pop())
    with idle.rpc._arrivals.connect_inside(own):
        wait(200)
        assert not idle.rpc.clients
        assert len(idle.rpc._peers.by_fh) == 1
    idle.turn()


def test_traffic_sets_no_timers(idle, clock, monkeypatch):
    timers = []
    timer = idle.mux.timer
    monkeypatch.setattr(idle.rpc._peers.idling, "_timer", lambda *a: timers.append(a) or timer(*a))
    peers = [idle.peer() for _ in range(50)]
    for number in range(60):
        clock.advance(1)
        for peer in peers:
            idle.ask(peer, number, "list")
    assert len(timers) == 8


def test_ctrl_c_does_not_end_the_looks(timed, serve, clock):
    at, has_fired = 0, True
    while has_fired:
        at += 1
        interrupter = Interrupter(at)
        bench = serve(mux=timed, idle_timeout=8)
        peer = bench.peer()
        clock.advance(1)
        event = timed.mux()
        while event.type != "timer":
            bench.rpc.io(event)
            event = timed.mux()
        try:
            with interrupter:
                bench.rpc.io(event)
        except KeyboardInterrupt:
            pass
        for _ in range(12):
            turn(timed, bench.rpc)
            clock.advance(1)
        turn(timed, bench.rpc)
        peer.read()
        assert peer.ended, interrupter.place
        has_fired = interrupter.has_fired
    assert at > 10
