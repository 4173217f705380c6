"""`drain()` and `goaway`: a server stops, and no call is lost."""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import socket
import ssl
import threading
import time

import pytest
from support import certificates
from support.fakes import ClockedSelector, FakeClock
from support.line_interrupts import at_each_line
from support.peers import Bench, set_clock
from support.procedures import Procedures
from support.records import warnings_of
from support.server_interrupts import Interrupter

from eventmux import EventMux, Timeout
from rpcasync import Client, Server
from rpcasync.serving import draining
from rpcasync.shadowing.shadow import Shadow
from rpcasync.wire.messages import CallbackRef

GONE = [7, "call"]  # what a client gets whose callback is 7


@pytest.fixture
def timed_bench(serve, timed, selector):
    """A server on a fake clock."""
    selector.most_calls = 10**6
    return serve(mux=timed)


def messages_of(caplog, level=logging.INFO):
    return [record.message for record in caplog.records if record.levelno >= level]


def ask(bench, peer, callback=7):
    return bench.ask(peer, 1000 + callback, "goaway", CallbackRef(callback))


def settle(bench, clock, seconds):
    """Let time go by, a tenth of a second at a time."""
    for _ in range(round(seconds * 10)):
        clock.advance(0.1)
        bench.turn()


# The procedure


@pytest.mark.parametrize("codec", ["storable", "json"])
def test_who_asks_is_told(bench, codec):
    peer, other = bench.peer(codec), bench.peer(codec)
    assert ask(bench, peer) == [[1007]]  # no values
    bench.ask(other, 0, "list")
    assert not bench.rpc.draining
    bench.rpc.drain()
    assert bench.rpc.draining
    bench.turn()
    told, *rest = peer.read()
    assert told == GONE
    assert len(rest) == 1  # it need not keep it
    assert rest[0][0] == 7
    assert other.read() == []
    assert not peer.ended
    assert bench.ask(peer, 1, "note", 5) == [[1, 5]]
    assert bench.ask(other, 1, "note", 6) == [[1, 6]]
    assert bench.rpc.has_clients()
    peer.sock.close()
    other.sock.close()
    bench.turn()
    assert not bench.rpc.has_clients()


def test_who_asks_later_is_answered_first(bench):
    bench.rpc.drain()
    peer = bench.peer()
    answer, told, *rest = ask(bench, peer)
    assert (answer, told) == ([1007], GONE)
    bench.turn()
    rest += peer.read()
    assert [id for id, *_ in rest] == [7]  # it is told once that it need not keep it


def test_once(bench):
    peer = bench.peer()
    ask(bench, peer)
    bench.rpc.drain()
    bench.rpc.drain(10)
    bench.turn()
    bench.rpc.drain(5)
    bench.turn()
    assert peer.read().count(GONE) == 1


def test_who_asks_twice(bench):
    """Two parts of a program may ask over one connection."""
    peer = bench.peer()
    ask(bench, peer, 7)
    ask(bench, peer, 7)
    ask(bench, peer, 8)
    bench.rpc.drain()
    bench.turn()
    packets = peer.read()
    assert packets.count(GONE) == 1
    assert packets.count([8, "call"]) == 1


def test_who_asks_too_often(bench):
    peer = bench.peer()
    for number in range(16):
        assert ask(bench, peer, number) == [[1000 + number]]
    error, release = ask(bench, peer, 99)
    assert "16 callbacks wait already, which is the limit" in error[2]
    assert release[0] == 99
    bench.rpc.drain()
    bench.turn()
    assert [packet[0] for packet in peer.read() if packet[1] == "call"] == [*range(16)]


@pytest.mark.parametrize("values", [(), (5,), (CallbackRef(1), CallbackRef(2)), ("x", 5)])
def test_no_callback(bench, values):
    peer = bench.peer()
    ((id, kind, text, *_), *_) = bench.ask(peer, 3, "goaway", *values)
    assert (id, kind) == (3, "error")
    assert text == "goaway: takes one callback, and nothing else"
    bench.rpc.drain()
    bench.turn()
    assert not [packet for packet in peer.read() if packet[1:] == ["call"]]
    assert not peer.ended


def test_by_name(bench):
    peer = bench.peer()
    assert bench.ask(peer, 1, "goaway", "callback", CallbackRef(7)) == [[1]]
    bench.rpc.drain()
    bench.turn()
    assert peer.read()[0] == GONE


def test_a_procedure_of_the_program(bench, procedures):
    procedures.rpc_goaway = lambda caller, *values: bench.rpc.return_(caller, "mine")
    peer = bench.peer()
    assert ask(bench, peer)[0] == [1007, "mine"]
    bench.rpc.drain()
    bench.turn()
    assert GONE not in peer.read()


# What the callback is not


def test_garbage_collection_does_not_lose_it(bench):
    peer = bench.peer()
    ask(bench, peer)
    gc.collect()
    bench.turn()
    assert peer.read() == []  # it was not told that the function is of no use any more
    bench.rpc.drain()
    bench.turn()
    assert peer.read()[0] == GONE


def test_it_keeps_nobody_from_being_idle(timed_bench, clock):
    timed_bench.rpc.set_limits(idle_timeout=60)
    peer = timed_bench.peer()
    ask(timed_bench, peer)
    for _ in range(75):
        clock.advance(1)
        timed_bench.turn()
    peer.read()
    assert peer.ended


def test_it_keeps_nobody_who_has_finished_sending(bench):
    peer = bench.peer()
    peer.send(1, "goaway", CallbackRef(7))
    peer.sock.shutdown(socket.SHUT_WR)
    bench.turn()
    assert peer.read() == [[1]]
    assert peer.ended


def test_a_function_that_the_program_has_too(bench, procedures):
    """It is the client who gives ids to its functions, and one may have two uses."""
    peer = bench.peer()
    bench.ask(peer, 1, "keep", CallbackRef(7))
    ask(bench, peer)
    bench.rpc.drain()
    bench.turn()
    assert peer.read() == [GONE]  # it is still to be kept
    ((function,),) = procedures.kept
    function("news")
    bench.turn()
    assert peer.read() == [[7, "call", "news"]]
    del function
    procedures.kept.clear()
    gc.collect()
    bench.turn()
    ((id, *_),) = peer.read()
    assert id == 7


def test_a_function_that_the_program_had(bench, procedures):
    peer = bench.peer()
    bench.ask(peer, 1, "keep", CallbackRef(7))
    ask(bench, peer)
    procedures.kept.clear()
    gc.collect()
    bench.turn()
    assert peer.read() == []
    bench.rpc.drain()
    bench.turn()
    told, release = peer.read()
    assert (told, release[0]) == (GONE, 7)


# The end


def test_calls_under_way_are_answered(bench, procedures):
    peer = bench.peer()
    ask(bench, peer)
    bench.ask(peer, 0, "park", 1)
    bench.rpc.drain()
    bench.turn()
    peer.read()
    bench.rpc.return_(procedures.parked.pop(), 5)
    bench.turn()
    assert peer.read() == [[0, 5]]
    assert not peer.ended


def test_nobody_is_there(bench):
    bench.rpc.listen("tcp://127.0.0.1:0")
    bench.rpc.drain()
    while (event := bench.mux.mux()) is not None:  # no timer keeps it
        assert bench.rpc.io(event) is None
    assert not bench.rpc.has_clients()


def test_the_mux_has_nothing_to_wait_for_behind_the_last_client(bench):
    peer = bench.peer()
    bench.rpc.drain(1000)
    bench.turn()
    peer.sock.close()
    while (event := bench.mux.mux()) is not None:
        assert bench.rpc.io(event) is None
    assert not bench.rpc.has_clients()


def test_the_deadline(timed_bench, clock, caplog, procedures):
    caplog.set_level(logging.INFO)
    bench = timed_bench
    idle, busy, leaving = bench.peer(), bench.peer(), bench.peer()
    bench.ask(busy, 0, "park", 1)
    bench.ask(busy, 1, "park", 2)
    bench.rpc.drain(deadline=3)
    settle(bench, clock, 2.8)
    leaving.sock.close()
    bench.turn()
    assert len(bench.rpc.clients) == 2
    assert messages_of(caplog) == []
    settle(bench, clock, 0.3)
    assert not bench.rpc.clients
    for peer in (idle, busy):
        peer.read()
        assert peer.ended
    (line,) = messages_of(caplog, logging.WARNING)
    assert line == (
        "drained until the deadline: 2 clients are disconnected, 2 calls have no answer"
    )
    assert sum("it stayed until the deadline" in each for each in messages_of(caplog)) == 2
    assert not bench.rpc.has_clients()
    procedures.parked.clear()


def test_calls_that_wait_count(timed_bench, clock, caplog, procedures):
    timed_bench.rpc.set_limits(outstanding=1)
    peer = timed_bench.peer()
    peer.send_calls(*[("park", n) for n in range(4)])
    timed_bench.turn()
    timed_bench.rpc.drain(0)
    timed_bench.turn()
    (line,) = warnings_of(caplog)
    assert line.endswith(": 1 clients are disconnected, 4 calls have no answer")
    procedures.parked.clear()


def test_the_deadline_only_comes_nearer(timed_bench, clock):
    bench = timed_bench
    peer = bench.peer()
    bench.rpc.drain(10)
    bench.turn()
    bench.rpc.drain(50)
    bench.rpc.drain(5)
    settle(bench, clock, 4.9)
    assert bench.rpc.clients
    settle(bench, clock, 0.2)
    assert not bench.rpc.clients
    peer.sock.close()


def test_now(bench):
    """What is answered already, and that it is to go, still reaches a client."""
    bench.rpc.listen("tcp://127.0.0.1:0")
    peer = bench.peer()
    ask(bench, peer)
    peer.send(5, "note", 1)
    bench.rpc.drain(0)
    while bench.rpc.has_clients():
        bench.rpc.io(bench.mux.mux())
    assert GONE in peer.read()
    assert peer.ended


def test_one_that_does_not_read(timed_bench, clock):
    """It does not keep the server for longer than a second behind the deadline."""
    bench = timed_bench
    peer = bench.peer()
    peer.send(0, "big", 900_000)
    peer.send(1, "big", 900_000)
    bench.turn()
    bench.rpc.drain(2)
    settle(bench, clock, 2.1)
    assert not bench.rpc.clients
    assert bench.rpc.has_clients()
    settle(bench, clock, 1)
    assert not bench.rpc.has_clients()


def test_one_that_is_added_later(bench):
    bench.rpc.drain(0)
    bench.turn()
    peer = bench.peer()
    bench.turn()
    peer.read()
    assert peer.ended
    assert not bench.rpc.has_clients()


# The listeners


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:0", "unix://{}/socket"])
def test_who_is_in_the_queue_is_accepted(bench, tmp_path, url):
    """When a listener of TCP is closed, they are reset."""
    listener = bench.rpc.listen(url.format(tmp_path))
    peers = [bench.knock(listener) for _ in range(30)]
    for number, peer in enumerate(peers):
        peer.send(number, "note", number)
    bench.rpc.drain()
    while listener in bench.rpc._arrivals.listeners:
        bench.rpc.io(bench.mux.mux())
    bench.turn()
    assert [peer.read() for peer in peers] == [[[n, n]] for n in range(30)]
    assert not any(peer.ended for peer in peers)
    assert listener.fileno() == -1


def test_the_delay(timed_bench, clock):
    bench = timed_bench
    listener = bench.rpc.listen("tcp://127.0.0.1:0")
    bench.rpc.drain(30, delay=2)
    settle(bench, clock, 1.9)
    peer = bench.knock(listener)
    bench.turn()
    assert bench.ask(peer, 0, "note", 1) == [[0, 1]]
    settle(bench, clock, 0.2)
    assert listener.fileno() == -1
    assert bench.ask(peer, 1, "note", 1) == [[1, 1]]


def test_the_delay_is_over_with_the_deadline(timed_bench, clock):
    listener = timed_bench.rpc.listen("tcp://127.0.0.1:0")
    timed_bench.rpc.drain(1, delay=2)
    settle(timed_bench, clock, 1.1)
    assert listener.fileno() == -1
    assert not timed_bench.rpc.has_clients()


@contextlib.contextmanager
def flood(address):
    """Have others connect, one after the other, and all at once."""
    is_over, count = threading.Event(), itertools.count()

    def connect():
        while not is_over.is_set():
            with contextlib.suppress(OSError), socket.create_connection(address):
                next(count)

    threads = [threading.Thread(target=connect) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: int(repr(count)[6:-1])
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def test_a_flood_does_not_keep_a_listener_open(serve, monkeypatch):
    monkeypatch.setattr(draining, "_QUEUE", 0.5)
    bench = serve(authorize=lambda _: time.sleep(0.001) is None)  # they come faster than that
    listener = bench.rpc.listen("tcp://127.0.0.1:0")
    peer = bench.knock(listener)
    with flood(listener.getsockname()) as came:
        while came() < 100:
            bench.rpc.io(bench.mux.mux(0))
        bench.rpc.drain(deadline=600)
        begun = time.monotonic()
        while bench.rpc._arrivals.listeners:
            bench.rpc.io(bench.mux.mux(0))
        assert time.monotonic() - begun < 20
    assert bench.ask(peer, 0, "note", 1) == [[0, 1]]


def test_a_queue_that_is_never_empty(timed_bench, clock, monkeypatch, caplog):
    """Until it is too late, whoever comes is accepted."""
    monkeypatch.setattr(draining, "is_readable", lambda sock: True)
    listener = timed_bench.rpc.listen("tcp://127.0.0.1:0")
    timed_bench.rpc.drain(deadline=60, delay=1)
    settle(timed_bench, clock, 2.8)
    peer = timed_bench.knock(listener)
    timed_bench.turn()
    assert timed_bench.ask(peer, 0, "note", 1) == [[0, 1]]
    settle(timed_bench, clock, 0.4)
    assert listener.fileno() == -1
    assert warnings_of(caplog) == [
        "clients keep coming: those in the queue of a listener are reset"
    ]
    assert timed_bench.ask(peer, 1, "note", 1) == [[1, 1]]


def test_a_handshake_has_its_time_though_clients_keep_coming(timed_bench, clock, monkeypatch):
    """Who was accepted is not dropped; nobody else is accepted meanwhile."""
    bench = timed_bench
    monkeypatch.setattr(draining, "is_readable", lambda sock: True)
    context = certificates.server_context()
    listener = bench.rpc.listen("tls://127.0.0.1:0", tls=context, handshake_timeout=20)
    silent = bench.knock(listener)
    bench.turn()
    bench.rpc.drain(deadline=60)
    settle(bench, clock, 4)
    assert listener.fileno() != -1
    late = bench.knock(listener)
    settle(bench, clock, 1)
    assert not silent.ended
    silent.sock.close()
    settle(bench, clock, 1)
    assert listener.fileno() == -1
    with contextlib.suppress(ConnectionResetError):
        assert late.sock.recv(1) == b""
    assert not bench.rpc.has_clients()


def test_one_that_another_process_shares(bench):
    """Who waits there is accepted by the other one."""
    sock = socket.create_server(("127.0.0.1", 0))
    other = sock.dup()
    bench.rpc.add_listener(sock, shared=True)
    client = socket.create_connection(other.getsockname())
    bench.rpc.drain()
    bench.rpc.io(None)  # before the mux has looked at it
    assert sock.fileno() == -1
    other.settimeout(10)
    accepted, _ = other.accept()
    for each in (client, accepted, other):
        each.close()


def test_with_all_places_taken(bench):
    """Who waits for a place gets it when another one leaves."""
    listener = bench.rpc.listen("tcp://127.0.0.1:0")
    bench.rpc.set_limits(max_clients=1)
    first, second = bench.knock(listener), bench.knock(listener)
    second.send(0, "note", 2)
    bench.turn()
    bench.rpc.drain()
    bench.turn()
    assert listener.fileno() != -1 or bench.rpc._arrivals.entrance.waiting
    first.sock.close()
    while not (packets := second.read()):
        bench.rpc.io(bench.mux.mux(0.05))
    assert packets == [[0, 2]]


def test_one_that_is_opened_later(bench):
    bench.rpc.drain()
    bench.turn()
    sock = bench.rpc.listen("tcp://127.0.0.1:0")
    bench.turn()
    assert sock.fileno() == -1
    assert not bench.rpc.has_clients()


# Errors


@pytest.mark.parametrize("name", ["deadline", "delay"])
@pytest.mark.parametrize("value", [-1, float("inf"), float("nan")])
def test_times_that_cannot_be(bench, name, value):
    with pytest.raises(ValueError, match=rf"{name} is {value}, must be 0 seconds or more"):
        bench.rpc.drain(**{name: value})
    assert not bench.rpc.draining
    with pytest.raises(TypeError, match=f"{name} is '1', must be a number of seconds"):
        bench.rpc.drain(**{name: "1"})


class NoTimer:
    def __init__(self, mux):
        self.add, self.send, self.kill = mux.add, mux.send, mux.kill


def test_a_mux_without_timer(mux):
    rpc = Server(NoTimer(mux), {})
    with pytest.raises(TypeError, match="needs a mux with timer"):
        rpc.drain()
    assert not rpc.draining


# Other servers behind, or beside


def test_it_is_not_passed_on(serve, procedures):
    behind = serve()
    ours, theirs = socket.socketpair()
    behind.rpc.add_client(theirs)
    bench = serve({}, mux=behind.mux, fallback=Client(behind.mux, ours))
    peer = bench.peer()

    def turn():
        while (event := bench.mux.mux(0)).type != "timeout":
            behind.rpc.io(bench.rpc.io(event))

    peer.send(1, "goaway", CallbackRef(7))
    peer.send(2, "note", 5)
    turn()
    assert sorted(peer.read()) == [[1], [2, 5]]
    behind.rpc.drain()
    turn()
    assert peer.read() == []
    bench.rpc.drain()
    turn()
    assert peer.read()[0] == GONE


def test_a_shadow(serve, nobody, procedures):
    bench = serve()
    shadow = Shadow(bench.mux, bench.rpc, nobody, answer="new")
    peer = bench.peer()
    assert ask(bench, peer) == [[1007]]
    bench.rpc.drain()
    bench.turn()
    assert peer.read()[0] == GONE
    peer.sock.close()
    bench.turn()
    assert not bench.rpc.has_clients()
    del shadow


def test_many_are_told_in_several_turns(bench):
    peers = [bench.peer() for _ in range(300)]
    for peer in peers:
        peer.send(1, "goaway", CallbackRef(7))
    bench.turn()
    bench.rpc.drain()
    bench.turn()
    for peer in peers:
        answer, told, *_ = peer.read()
        assert (answer, told) == ([1], GONE)


def test_who_is_in_a_handshake(serve, tmp_path):
    """He was accepted, and the listener would drop him."""
    bench = serve()
    listener = bench.rpc.listen("tls://127.0.0.1:0", tls=certificates.server_context())
    sock = socket.create_connection(listener.getsockname())
    bench.turn()  # accepted, and nothing was said
    context = certificates.client_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    bench.rpc.drain()
    bench.turn()
    sock.setblocking(False)
    for _ in range(1000):
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            sock.send(outgoing.read())
        bench.rpc.io(bench.mux.mux(0.01))
        with contextlib.suppress(BlockingIOError):
            incoming.write(sock.recv(65536))
    sock.send(outgoing.read())
    while not bench.rpc.clients:
        bench.rpc.io(bench.mux.mux(1))
    while bench.rpc._arrivals.listeners:
        bench.rpc.io(bench.mux.mux(1))
    assert len(bench.rpc.clients) == 1
    sock.close()


# Ctrl-C


def play(at):
    """Drain two clients, one of which leaves, with an interrupt at some line; and go on."""
    interrupter, clock, interrupts = Interrupter(at), FakeClock(), 0
    with EventMux(selector=ClockedSelector(clock, most_calls=10**9), clock=clock, spin=0) as mux:
        procedures = Procedures()
        bench = procedures.bench = Bench(mux, procedures)
        set_clock(bench.rpc, 0)
        listener = bench.rpc.listen("tcp://127.0.0.1:0")
        staying, leaving, late = bench.peer(), bench.peer("json"), bench.knock(listener)
        packets = {staying: [], leaving: [], late: []}

        def turn():
            nonlocal interrupts
            while not isinstance(event := mux.mux(0), Timeout):
                try:
                    with interrupter:
                        bench.rpc.io(event)
                except KeyboardInterrupt:
                    interrupts += 1
            for peer, got in packets.items():
                with contextlib.suppress(OSError):  # it has left
                    got += peer.read()

        for peer in (staying, leaving):
            peer.send_calls(("goaway", CallbackRef(7)), ("note", 1))
        turn()
        bench.rpc.drain(2)
        late.send_calls(("note", 2), ("goaway", CallbackRef(8)))
        turn()
        leaving.sock.close()
        for _ in range(32):
            clock.advance(0.1)
            turn()
        assert not bench.rpc.has_clients()
        assert listener.fileno() == -1
        told = [
            sum(got.count([callback, "call"]) for callback in (7, 8)) for got in packets.values()
        ]
        answers = sum(packet[0] in (0, 1) for got in packets.values() for packet in got)
        assert sum(told) >= 3 - interrupts, (told, packets)
        assert sum(told) <= 3 + interrupts, (told, packets)
        assert answers >= 6 - interrupts
        assert interrupts == interrupter.has_fired
        bench.close()
    return interrupter


@pytest.mark.slow
def test_ctrl_c_at_any_line(monkeypatch):
    monkeypatch.setattr("rpcasync.serving.draining._TURN", 60)  # however busy this machine is
    assert at_each_line(play) > 100
