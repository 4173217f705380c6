"""Clients that have finished sending: they get their answers, and then they are let go of."""

from __future__ import annotations

import contextlib
import logging
import socket

import pytest
from support.meeting import reset
from support.peers import Peer, turn
from support.records import warnings_of
from support.server_interrupts import Interrupter

from rpcasync import Disconnected
from rpcasync.wire.messages import CallbackRef


def finish(peer):
    peer.sock.shutdown(socket.SHUT_WR)


def parked(bench, procedures, count=1, peer=None):
    """Return a client that has made calls and finished, and the calls."""
    peer = peer or bench.peer()
    peer.send_calls(*[("park", n) for n in range(count)])
    finish(peer)
    bench.turn()
    return peer, procedures.parked


def over_tcp(bench, **options):
    listener = bench.rpc.listen("tcp://127.0.0.1:0", **options)
    sock = socket.create_connection(listener.getsockname())
    while not bench.rpc.clients:
        bench.rpc.io(bench.mux.mux(1))
    bench.rpc.close_listeners()
    bench.turn()
    return Peer(sock)


def until_gone(bench):
    """Run the usual loop, which ends with the last client."""
    while bench.rpc.has_clients():
        bench.rpc.io(bench.mux.mux())


# What it gets


def test_an_answer_that_comes_later(bench, procedures):
    peer, (caller,) = parked(bench, procedures)
    assert caller.alive
    assert bench.rpc.has_clients()
    assert bench.rpc.return_(caller, 5)
    assert not peer.ended
    bench.turn()
    assert (peer.read(), peer.ended) == ([[0, 5]], True)
    assert not caller.alive
    assert not bench.rpc.has_clients()


@pytest.mark.parametrize("connect", [lambda bench: bench.peer(), over_tcp], ids=["unix", "tcp"])
def test_all_its_answers_in_any_order(bench, procedures, connect):
    peer, callers = parked(bench, procedures, 5, connect(bench))
    for caller in callers[::-1]:
        assert bench.rpc.clients
        bench.rpc.return_(caller, "x")
        bench.turn()
    assert [id for id, _ in peer.read()] == [4, 3, 2, 1, 0]
    assert peer.ended
    assert not bench.rpc.has_clients()
    peer.sock.close()


def test_an_answer_that_came_before(bench, procedures):
    peer = bench.peer()
    peer.send(0, "note", 1)
    finish(peer)
    bench.turn()
    assert (peer.read(), peer.ended) == ([[0, 1]], True)
    assert not bench.rpc.has_clients()


def test_one_that_has_asked_for_nothing(bench):
    peer = bench.peer()
    finish(peer)
    bench.turn()
    assert (peer.read(), peer.ended) == ([], True)
    assert not bench.rpc.has_clients()


@pytest.mark.parametrize("how", ["error", "dropped", "timeout", "exception"])
def test_whatever_the_answer_is(serve, procedures, timed, clock, how, caplog):
    bench = serve(mux=timed, timeout=5 if how == "timeout" else None)
    peer = bench.peer()
    peer.send_calls(("park", 0), ("explode",) if how == "exception" else ("note", 1))
    finish(peer)
    bench.turn()
    if how == "error":
        bench.rpc.error(procedures.parked.pop(), "no")
    elif how == "dropped":
        procedures.parked.clear()
    elif how == "timeout":
        clock.advance(5)
    bench.turn()
    answers = {answer[0]: answer[1:] for answer in peer.read()}
    assert set(answers) == ({1} if how == "exception" else {0, 1})
    assert peer.ended
    assert not bench.rpc.has_clients()


def test_more_than_it_reads_at_once(bench, procedures):
    peer = bench.peer()
    peer.send_calls(*[("big", 500_000) for _ in range(20)])
    finish(peer)
    answers = []
    while not peer.ended:
        bench.turn()
        answers += peer.read()
    assert [len(text) for _, text in answers] == [500_000] * 20
    assert not bench.rpc.has_clients()


def test_its_functions_can_be_called_until_then(bench, procedures):
    peer = bench.peer()
    peer.send(0, "keep", CallbackRef(7))
    peer.send(1, "park")
    finish(peer)
    bench.turn()
    callback = procedures.last()
    callback(1)
    bench.turn()
    assert peer.read() == [[0, 1], [7, "call", 1]]
    bench.rpc.return_(procedures.parked.pop())
    bench.turn()
    assert not callback.alive
    with pytest.raises(Disconnected):
        callback(2)
    assert (peer.read(), peer.ended) == ([[1]], True)


# When it counts as gone


def test_on_close_comes_when_all_is_answered(bench, procedures):
    _peer, (first, second) = parked(bench, procedures, 2)
    gone = []
    bench.rpc.on_close(first, gone.append)
    bench.rpc.return_(first)
    bench.turn()
    assert gone == []
    bench.rpc.return_(second)
    bench.turn()
    assert gone == [first]


def test_a_unix_client_that_goes_altogether(bench, procedures):
    peer, (caller,) = parked(bench, procedures)
    gone = []
    bench.rpc.on_close(caller, gone.append)
    peer.sock.close()
    until_gone(bench)
    assert gone == [caller]
    assert bench.rpc.return_(caller) is False


def test_a_reset(bench, procedures, caplog):
    caplog.set_level(logging.INFO, "rpcasync")
    peer, (caller,) = parked(bench, procedures, 1, over_tcp(bench))
    gone = []
    bench.rpc.on_close(caller, gone.append)
    reset(peer.sock)
    until_gone(bench)
    assert gone == [caller]
    assert warnings_of(caplog) == []


def test_a_tcp_client_that_closes_is_found_by_its_first_answer(bench, procedures, caplog):
    """Nothing tells it from one that waits; what else waits of it is not run for nobody."""
    bench.rpc.set_limits(outstanding=1)
    peer = over_tcp(bench)
    peer.send_calls(*[("park", n) for n in range(1000)])
    bench.turn()
    peer.sock.close()
    bench.turn()
    assert bench.rpc.has_queued() == 999
    gone = []
    bench.rpc.on_close(procedures.parked[0], gone.append)
    bench.rpc.return_(procedures.parked[0])
    until_gone(bench)
    assert len(procedures.ran) <= 3
    assert len(gone) == 1
    assert bench.rpc.has_queued() == 0
    assert warnings_of(caplog) == []


def test_a_client_of_ours_that_ends(bench, procedures, mux, caplog):
    """It closes its socket, with nothing to wait for: no connection is left, and no line."""
    peer = over_tcp(bench)
    assert bench.ask(peer, 0, "note", 1) == [[0, 1]] or peer.read() == [[0, 1]]
    peer.sock.close()
    until_gone(bench)
    assert warnings_of(caplog) == []


def test_the_program_may_take_the_end_of_sending_for_the_end(bench, procedures):
    peer = over_tcp(bench, half_close=False)
    peer.send(0, "park")
    bench.turn()
    gone = []
    bench.rpc.on_close(procedures.parked[0], gone.append)
    peer.sock.close()
    until_gone(bench)  # nothing had to be sent
    assert gone == procedures.parked


# Limits


def test_calls_that_wait_are_run(serve, procedures, timed, clock):
    bench = serve(mux=timed)
    bench.rpc.set_limits(outstanding=1, max_waiting=2)
    peer = bench.peer()
    peer.send_calls(*[("park", n) for n in range(20)])
    finish(peer)
    bench.turn()
    assert bench.rpc.has_queued() <= 3
    for n in range(20):
        clock.advance(1)
        bench.turn()
        assert procedures.ran[-1] == n
        bench.rpc.return_(procedures.parked.pop(), n)
    bench.turn()
    assert (peer.read(), peer.ended) == ([[n, n] for n in range(20)], True)
    assert not bench.rpc.has_clients()


def test_more_calls_than_fit_in_a_turn(bench, procedures):
    peer = bench.peer()
    peer.send_calls(*[("note", n) for n in range(3000)])
    finish(peer)
    answers = []
    while not peer.ended:
        bench.turn()
        answers += peer.read()
    assert answers == [[n, n] for n in range(3000)]


def test_one_that_does_not_read_is_bounded(serve, procedures, caplog):
    bench = serve(max_outbuffer=100_000)
    _peer, callers = parked(bench, procedures, 4)
    for caller in callers:
        bench.rpc.return_(caller, "x" * 500_000)
    bench.turn()
    assert "does not read" in caplog.text
    assert not bench.rpc.clients


def test_a_packet_that_is_cut_off_is_forgotten(serve, procedures, timed, clock, caplog):
    bench = serve(mux=timed, packet_timeout=5)
    peer = bench.peer()
    peer.send(0, "park")
    peer.sock.sendall(peer.packet(1, "park")[:-3])
    finish(peer)
    bench.turn()
    clock.advance(100)
    bench.turn()
    assert bench.rpc.return_(procedures.parked.pop(), 5)
    bench.turn()
    assert (peer.read(), peer.ended) == ([[0, 5]], True)
    assert warnings_of(caplog) == []


def test_garbage_in_front_of_the_end(bench, procedures, caplog):
    peer = bench.peer()
    peer.send(0, "note", 1)
    peer.sock.sendall(b"\0\0\0\0")
    finish(peer)
    bench.turn()
    assert (peer.read(), peer.ended) == ([[0, 1]], True)
    assert "packet too short" in caplog.text
    assert not bench.rpc.has_clients()


def test_a_mux_without_close(timed, procedures, serve):
    class Plain:
        add, send, kill = timed.add, timed.send, timed.kill

    bench = serve(mux=Plain())
    bench.mux = timed
    peer = bench.peer()
    peer.send(0, "park")
    finish(peer)
    bench.turn()
    bench.rpc.return_(procedures.parked.pop(), 5)
    other = bench.peer()
    turn(timed, bench.rpc)
    other.send(0, "note", 1)  # what is noted is done with the next event
    bench.turn()
    assert (peer.read(), peer.ended) == ([[0, 5]], True)


def test_the_program_kills_it(bench, procedures):
    peer, (caller,) = parked(bench, procedures)
    (fh,) = bench.rpc.clients
    bench.mux.kill(fh)
    bench.turn()
    assert bench.rpc.return_(caller) is False
    assert (peer.read(), peer.ended) == ([], True)
    assert not bench.rpc.has_clients()


def test_ctrl_c_does_not_forget_its_end(serve):
    at, has_fired = 0, True
    while has_fired:
        at += 1
        interrupter = Interrupter(at)
        bench = serve()
        peer = bench.knock(bench.rpc.listen("tcp://127.0.0.1:0"))
        peer.send(0, "list", "x")
        bench.turn()
        peer.sock.shutdown(socket.SHUT_WR)
        event = bench.mux.mux(1)
        assert event.type == "half_closed"
        with contextlib.suppress(KeyboardInterrupt), interrupter:
            bench.rpc.io(event)
        bench.turn()
        assert peer.read() == [[0, "x"]]
        assert peer.ended, interrupter.place
        assert not bench.rpc.clients
        has_fired = interrupter.has_fired
        bench.rpc.close_listeners()
        bench.turn()
    assert at > 10
