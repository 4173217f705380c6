"""What is done when a client has gone, and what a program knows of each client."""

from __future__ import annotations

import gc
import socket
import weakref

import pytest
from support.peers import turn
from support.records import warnings_of

from rpcasync import Server
from rpcasync.wire.messages import CallbackRef


def parked(bench, procedures, peer=None):
    peer = peer or bench.peer()
    bench.ask(peer, 0, "park")
    return peer, procedures.parked[-1]


# on_close


def test_it_is_called_once_with_the_call(bench, procedures):
    peer, caller = parked(bench, procedures)
    called = []
    bench.rpc.on_close(caller, lambda gone: called.append((gone, gone.alive)))
    bench.turn()
    assert called == []
    peer.sock.close()
    bench.turn()
    assert called == [(caller, False)]


def test_a_call_that_is_over_is_not_kept_for_it(bench, procedures):
    peer, caller = parked(bench, procedures)
    caller.meta["user"] = "ann"
    called = []
    bench.rpc.on_close(caller, called.append)
    bench.rpc.return_(caller)
    is_there, fh = weakref.ref(caller), caller.fh
    procedures.parked.clear()
    del caller
    assert is_there() is None
    bench.turn()
    peer.sock.close()
    bench.turn()
    (gone,) = called  # another one like it
    assert (gone.id, gone.procedure, gone.meta) == (0, "park", {"user": "ann"})
    assert (gone.fh, gone.alive, gone.answered) == (fh, False, True)
    assert gone.args == []


def test_a_call_that_is_forgotten_is_told_all_the_same(bench, procedures, caplog):
    peer, caller = parked(bench, procedures)
    bench.rpc.on_close(caller, print)
    procedures.parked.clear()
    del caller
    bench.turn()
    assert "did not answer" in peer.read()[0][2]


def by_the_client(bench, peer):
    peer.sock.close()


def by_what_it_sends(bench, peer):
    peer.sock.send(b"\0\0\0\0")


def by_an_exception(bench, peer):
    peer.send(1, "explode")


def by_the_program(bench, peer):
    (fh,) = bench.rpc.clients
    bench.mux.kill(fh)


def by_the_program_unseen(bench, peer):
    (fh,) = bench.rpc.clients
    bench.mux.remove(fh)
    fh.close()
    bench.rpc.return_(bench.procedures.parked[0])


ENDS = [
    *(by_the_client, by_what_it_sends, by_an_exception, by_the_program, by_the_program_unseen),
]


@pytest.mark.parametrize("end", ENDS)
def test_whatever_the_reason(bench, procedures, caplog, end):
    bench.procedures = procedures
    peer, caller = parked(bench, procedures)
    called = []
    bench.rpc.on_close(caller, called.append)
    end(bench, peer)
    while bench.rpc.has_clients():  # the usual loop does not end before it was called
        bench.rpc.io(bench.mux.mux())
    assert called == [caller]


def test_only_from_io(bench, procedures):
    _peer, caller = parked(bench, procedures)
    called = []
    bench.rpc.on_close(caller, called.append)
    by_the_program(bench, None)
    bench.mux.mux(0)  # its `Closed` is on the way, and lost
    bench.rpc.return_(caller)  # finds out
    assert (caller.alive, called, bench.rpc.has_clients()) == (False, [], True)
    bench.turn()
    assert (called, bench.rpc.has_clients()) == ([caller], False)


def test_several_in_order_and_of_several_calls(bench, procedures):
    peer, first = parked(bench, procedures)
    _, second = parked(bench, procedures, peer)
    other, _ = parked(bench, procedures)
    called = []
    for number in range(5):
        caller = second if number % 2 else first
        bench.rpc.on_close(caller, lambda caller, number=number: called.append((number, caller)))
    peer.sock.close()
    bench.turn()
    assert called == [(number, second if number % 2 else first) for number in range(5)]
    other.sock.close()
    bench.turn()
    assert len(called) == 5


def test_one_that_fails_does_not_keep_the_others(bench, procedures, caplog):
    peer, caller = parked(bench, procedures)
    called = []
    bench.rpc.on_close(caller, lambda _: called.append(1))
    bench.rpc.on_close(caller, lambda _: 1 / 0)
    bench.rpc.on_close(caller, lambda _: called.append(2))
    peer.sock.close()
    bench.turn()
    assert called == [1, 2]
    assert warnings_of(caplog) == ["on_close() of procedure park failed"]
    assert "ZeroDivisionError" in caplog.text
    other = bench.peer()
    assert bench.ask(other, 0, "note", 1) == [[0, 1]]


def test_one_that_is_cancelled_is_not_called(bench, procedures):
    peer, caller = parked(bench, procedures)
    called = []

    def second(_):
        called.append(2)
        third.cancel()

    first = bench.rpc.on_close(caller, lambda _: called.append(1))
    last = bench.rpc.on_close(caller, second)
    third = bench.rpc.on_close(caller, lambda _: called.append(3))
    for _ in range(2):
        first.cancel()
    peer.sock.close()
    bench.turn()
    last.cancel()
    assert called == [2]


def test_a_client_that_has_gone_already(bench, procedures):
    peer, caller = parked(bench, procedures)
    peer.sock.close()
    bench.turn()
    called = []
    bench.rpc.on_close(caller, called.append)
    assert called == []
    assert bench.rpc.has_clients()
    bench.turn()
    assert called == [caller]
    assert not bench.rpc.has_clients()


def test_one_may_ask_for_another(bench, procedures):
    peer, caller = parked(bench, procedures)
    called = []
    bench.rpc.on_close(caller, lambda caller: bench.rpc.on_close(caller, called.append))
    peer.sock.close()
    bench.turn()
    assert called == [caller]
    assert not bench.rpc.has_clients()


def test_one_may_turn_the_loop(bench, procedures):
    peer, caller = parked(bench, procedures)
    other = bench.peer()
    called = []

    def answer(caller):
        other.send(0, "note", 1)
        bench.turn()
        called.append(other.read())

    bench.rpc.on_close(caller, answer)
    peer.sock.close()
    bench.turn()
    assert called == [[[0, 1]]]


def test_others_are_not_called_twice_by_one_that_turns_the_loop(bench, procedures):
    peer, caller = parked(bench, procedures)
    peer.sock.close()
    bench.turn()
    other, called = bench.peer(), []

    def first(_):
        called.append(1)
        other.send(0, "note", 1)
        bench.turn()

    bench.rpc.on_close(caller, first)
    bench.rpc.on_close(caller, lambda _: called.append(2))
    bench.turn()
    assert called == [1, 2]


def test_a_mux_that_cannot_be_woken(timed, procedures):
    class Plain:
        add, send, kill = timed.add, timed.send, timed.kill

    server = Server(Plain(), procedures)
    ours, theirs = socket.socketpair()
    mine, others = socket.socketpair()
    server.add_client(theirs)
    timed.add(mine)  # so that the loop would wait
    assert [event.type for event in turn(timed, server)] == ["ready"]
    called = []

    def rpc_watch(caller):
        server.on_close(caller, called.append)
        procedures.parked.append(caller)

    procedures.rpc_watch = rpc_watch
    ours.sendall(b'\0\0\0\x10[0,"watch"]\n')
    ours.close()
    while server.has_clients():
        server.io(timed.mux())
    assert called == procedures.parked
    others.close()


def test_wrong_calls(bench, procedures):
    _peer, caller = parked(bench, procedures)
    with pytest.raises(TypeError, match="caller is None, must be what the procedure was given"):
        bench.rpc.on_close(None, print)
    with pytest.raises(TypeError, match="function is 'x', must be a function of the caller"):
        bench.rpc.on_close(caller, "x")


def test_nothing_is_kept_of_a_client_that_has_gone(bench, procedures):
    class Thing:
        pass

    peer, caller = parked(bench, procedures)
    function, value = Thing(), Thing()
    bench.rpc.on_close(caller, lambda _, kept=function: None)
    caller.meta["value"] = value
    things = [weakref.ref(each) for each in (function, value)]
    del function, value, caller
    procedures.parked.clear()
    peer.sock.close()
    bench.turn()
    gc.collect()
    assert [thing() for thing in things] == [None, None]


# meta


def test_meta_is_one_dict_for_all_calls_of_a_connection(bench, procedures):
    def rpc_log_in(caller, user):
        caller.meta["user"] = user
        bench.rpc.return_(caller)

    def rpc_who_am_i(caller):
        bench.rpc.return_(caller, caller.meta.get("user"))

    procedures.rpc_log_in, procedures.rpc_who_am_i = rpc_log_in, rpc_who_am_i
    ann, bob, nobody = bench.peer(), bench.peer(), bench.peer()
    bench.ask(ann, 0, "log_in", "user", "ann")
    bench.ask(bob, 0, "log_in", "user", "bob")
    answers = [bench.ask(peer, 1, "who_am_i")[0][1] for peer in (bob, ann, nobody)]
    assert answers == ["bob", "ann", None]
    ann.sock.close()
    bench.turn()
    again = bench.peer()
    assert bench.ask(again, 1, "who_am_i") == [[1, None]]


def test_meta_may_be_given_with_the_socket(bench, procedures):
    ours, theirs = socket.socketpair()
    known = {"uid": 7}
    bench.rpc.add_client(theirs, meta=known)
    ours.sendall(b'\0\0\0\x0f[0,"park"]\n')
    bench.turn()
    assert procedures.parked[0].meta is known
    ours.close()
    with pytest.raises(TypeError, match="meta is 7, must be a dict"):
        bench.rpc.add_client(theirs, meta=7)


def test_a_call_of_a_client_that_has_gone_still_has_it(bench, procedures):
    peer, caller = parked(bench, procedures)
    caller.meta["user"] = "ann"
    peer.sock.close()
    bench.turn()
    assert caller.meta == {"user": "ann"}


def test_a_client_without_any_has_no_dict(bench, procedures):
    _peer, caller = parked(bench, procedures)
    assert caller._peer.extras is None


def test_calls_and_callbacks_may_be_kept_in_it(bench, procedures):
    def rpc_follow(caller, callback):
        caller.meta.update(callback=callback, caller=caller)
        bench.rpc.on_close(caller, lambda caller: gone.append(caller.meta["callback"].alive))

    gone = []
    procedures.rpc_follow = rpc_follow
    peer = bench.peer()
    assert bench.ask(peer, 0, "follow", "callback", CallbackRef(1)) == []
    gc.collect()
    bench.turn()
    assert peer.read() == []
    peer.sock.close()
    bench.turn()
    assert gone == [False]
