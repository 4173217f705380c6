"""`Server.agent()`: what a balancer is told, and that it costs nobody anything."""

from __future__ import annotations

import logging
import socket
import struct

import pytest
from support.line_interrupts import at_each_line
from support.peers import Bench, turn
from support.procedures import Procedures
from support.pump import PATIENCE
from support.server_interrupts import Interrupter

from eventmux import EventMux, URLError
from rpcasync import Server

RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def bench(serve, timed, selector):
    """A server on a fake clock, whose loop is late only where the test says so."""
    selector.most_calls = 10**6
    return serve(mux=timed)


@pytest.fixture
def agent(bench):
    bench.rpc.listen("tcp://127.0.0.1:0")
    return bench.rpc.agent("tcp://127.0.0.1:0")


def dial(agent):
    sock = socket.socket(agent.family)
    sock.settimeout(PATIENCE)
    sock.connect(agent.getsockname())
    return sock


def answer(bench, agent):
    """Return all that somebody is told who connects, and that it was all."""
    with dial(agent) as sock:
        bench.turn()
        with sock.makefile("rb") as file:
            return file.read().decode()


def hear(bench, lag):
    """Have the loop be late by some seconds when it is looked at."""
    bench.mux.clock.advance(1 + lag)
    bench.turn()


# What is said


@pytest.mark.parametrize("place", ["tcp://127.0.0.1:0", "unix://{}/agent"])
def test_a_server_that_has_nothing_to_do(bench, tmp_path, place):
    agent = bench.rpc.agent(place.format(tmp_path))
    assert answer(bench, agent) == "up ready 100%\n"
    assert answer(bench, agent) == "up ready 100%\n"
    assert bench.rpc.clients == set()
    assert bench.rpc.stats()["accepted"] == 0
    assert bench.foreign == []


def test_calls_that_run_and_wait_make_it_less(bench, agent, procedures):
    bench.rpc.set_limits(outstanding=10)
    peer, said = bench.peer(), []
    for count in (0, 5, 5, 10, 180, 1000):
        peer.sock.sendall(b"".join(peer.packet(n, "park", n) for n in range(count)))
        bench.turn()
        said.append(answer(bench, agent))
    assert said == [f"up ready {n}%\n" for n in (100, 67, 50, 33, 5, 1)]
    procedures.parked.clear()


def test_without_a_limit_calls_that_run_say_nothing(bench, agent, procedures):
    bench.ask(bench.peer(), 0, "park", 1)
    assert answer(bench, agent) == "up ready 100%\n"
    procedures.parked.clear()


def test_a_loop_that_is_late_makes_it_less(bench):
    bench.rpc.listen("tcp://127.0.0.1:0")
    agent = bench.rpc.agent("tcp://127.0.0.1:0")
    peer = bench.peer()
    bench.turn()
    assert answer(bench, agent) == "up ready 100%\n"
    for lag, percent in ((0.1, 50), (0.9, 10), (50, 1), (0.0, 100)):
        hear(bench, lag)
        assert answer(bench, agent) == f"up ready {percent}%\n"
    hear(bench, 5)
    peer.sock.close()
    bench.turn()
    assert answer(bench, agent) == "up ready 100%\n"  # nobody is there who could wait


def test_a_server_whose_places_are_taken(bench, agent):
    bench.rpc.set_limits(max_clients=1)
    assert answer(bench, agent) == "up ready 100%\n"
    bench.peer()
    assert answer(bench, agent) == "up ready 1%\n"


def test_drain_and_down(bench, clock, procedures):
    bench = bench
    bench.rpc.listen("tcp://127.0.0.1:0")
    agent = bench.rpc.agent("tcp://127.0.0.1:0")
    peer = bench.peer()
    peer.send_calls(("big", 900_000), ("big", 900_000))  # it reads nothing: it stays for a while
    bench.turn()
    bench.rpc.drain(5)
    bench.turn()
    assert not bench.rpc._arrivals.listeners
    assert answer(bench, agent) == "drain\n"
    clock.advance(5.1)
    assert answer(bench, agent) == "down\n"


# Who asks


def test_who_says_something_is_told_as_well(bench, agent):
    """`agent-send` of HAProxy, say."""
    with dial(agent) as sock:
        sock.sendall(b"name\n")
        bench.turn()
        assert sock.recv(100) == b"up ready 100%\n"


def test_those_who_stay_are_sent_off(bench, agent):
    socks = []
    for _ in range(10):
        for _ in range(20):
            socks.append(dial(agent))
            socks[-1].sendall(b"x" * 1000)
        bench.turn()  # for each of them there is something to be read yet
    assert len(bench.mux.handles()) < 50
    assert answer(bench, agent) == "up ready 100%\n"
    for sock in socks:
        sock.close()
    bench.turn()


def test_those_who_hang_up_at_once(bench, agent, caplog):
    caplog.set_level(logging.INFO)
    for _ in range(50):
        with dial(agent) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    bench.turn()
    assert answer(bench, agent) == "up ready 100%\n"
    assert agent in bench.mux.handles()
    assert len(bench.mux.handles()) == 2
    assert caplog.records == []
    assert bench.foreign == []


# The end


def test_it_ends_with_the_server(bench, agent):
    address = agent.getsockname()
    bench.rpc.close_listeners()
    while (event := bench.mux.mux()) is not None:
        assert bench.rpc.io(event) is None
    assert not bench.rpc.has_clients()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_it_keeps_no_loop(bench, agent):
    """`while rpc.has_clients()` ends, whoever is being told something."""
    with dial(agent):
        bench.rpc.drain()
        while bench.rpc.has_clients():
            bench.rpc.io(bench.mux.mux())
    assert not bench.rpc.has_clients()


def test_a_stranger_does_not_keep_the_mux(bench, agent):
    with dial(agent) as sock:
        sock.sendall(b"x" * 100_000)
        bench.turn()
        bench.rpc.drain()
        while (event := bench.mux.mux(0)) is not None and event.type != "timeout":
            bench.rpc.io(event)
        assert bench.mux.handles() == []


def test_two_agents(bench, tmp_path):
    agents = [bench.rpc.agent(f"unix://{tmp_path}/{name}") for name in ("one", "two")]
    assert {answer(bench, agent) for agent in agents} == {"up ready 100%\n"}


@pytest.mark.parametrize("url", ["udp://127.0.0.1:0", "http://127.0.0.1", "tls://127.0.0.1:0"])
def test_urls_that_are_of_no_use(bench, url):
    with pytest.raises(URLError, match=url):
        bench.rpc.agent(url)
    assert bench.mux.handles() == []


def test_an_address_that_is_in_use(bench):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = "tcp://127.0.0.1:{1}".format(*sock.getsockname())
        with pytest.raises(OSError, match="in use") as caught:
            bench.rpc.agent(url)
    assert caught.value.filename == url
    assert bench.mux.handles() == []


def test_a_server_that_nobody_asks_looks_at_no_lag(bench, timed):
    bench.peer()
    bench.turn()
    assert timed.mux(5).type == "timeout"


def test_events_of_others_are_theirs(bench):
    bench.rpc.agent("tcp://127.0.0.1:0")
    with socket.create_server(("127.0.0.1", 0)) as other:
        bench.mux.add(other, listen=True)
        with dial(other):
            bench.turn()
            assert [event.type for event in bench.foreign] == ["connect"]
            bench.mux.kill(bench.foreign[0].fh)
        bench.mux.remove(other)


@pytest.mark.slow
def test_ctrl_c_at_any_line():
    """Whoever asks then is told, and the server ends."""

    def play(at):
        with EventMux() as mux:
            bench = Bench(mux, Procedures())
            interrupter = Interrupter(at)
            bench.rpc.listen("tcp://127.0.0.1:0")
            agent = bench.rpc.agent("tcp://127.0.0.1:0")

            def go_on(action):
                try:
                    with interrupter:
                        action()
                except KeyboardInterrupt:
                    action()

            with dial(agent) as sock:
                go_on(bench.turn)
                assert sock.recv(100).startswith(b"up ready 100%\n"), interrupter.place
            assert answer(bench, agent) == "up ready 100%\n", interrupter.place
            bench.rpc.drain()
            go_on(bench.turn)
            while (event := mux.mux(0)) is not None and event.type != "timeout":
                bench.rpc.io(event)
            assert mux.handles() == [], interrupter.place
            bench.close()
        return interrupter

    assert at_each_line(play) > 20


def test_other_muxes(mux):
    """One that only adds, sends and kills is enough."""

    class Plain:
        add, send, kill = mux.add, mux.send, mux.kill

    rpc = Server(Plain(), {})
    agent = rpc.agent("tcp://127.0.0.1:0")
    with dial(agent) as sock:
        turn(mux, rpc)
        assert sock.recv(100) == b"up ready 100%\n"
    mux.kill(agent)
