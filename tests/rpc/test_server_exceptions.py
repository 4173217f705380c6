"""Exceptions in procedures: what the call is told, who goes, and what the others are told."""

from __future__ import annotations

import pytest
from support.meeting import url_of
from support.peers import turn
from support.records import warnings_of

from rpcasync import Client, Disconnected, RemoteError, Server

TEXT = "boom: failed; see the server's log"
LEFT = "the server closed the connection"


@pytest.fixture
def boom(procedures):
    def rpc_boom(caller, *values):
        raise RuntimeError("secret")

    procedures.rpc_boom = rpc_boom
    return rpc_boom


def failures_of(client, *procedures):
    """Call procedures; return the list to which their errors go, in the order that they come."""
    errors = []
    for procedure in procedures:
        client.call(procedure, lambda *values, error=None: errors.append(error))
    return errors


def close(peer):
    peer.read()  # what is not read when a socket is closed makes it a reset
    peer.sock.close()


@pytest.fixture
def meet(mux, serve):
    """Make a server and a client of it, on one mux; return them and the URL."""

    def make(**options):
        bench = serve(mux=mux, **options)
        url = url_of(bench.rpc.listen("tcp://127.0.0.1:0"))
        return bench, Client(mux, url), url

    return make


def test_the_failing_call_is_answered_and_then_the_client_goes(bench, boom, codec):
    peer = bench.peer(codec)
    assert bench.ask(peer, 7, "boom", 1) == [[7, "error", TEXT, "errors", [TEXT]]]
    assert peer.ended
    assert bench.rpc.on_exception == "disconnect"


def test_a_long_name_is_shortened_in_the_answer(serve):
    name = "x" * 200

    def fail(caller):
        raise RuntimeError("secret")

    bench = serve({f"rpc_{name}": fail})
    answer = bench.ask(bench.peer(), 0, name)
    assert answer[0][2] == f"{'x' * 57}...: failed; see the server's log"


def test_a_call_that_was_answered_is_not_answered_again(bench, procedures, caplog):
    def rpc_late(caller):
        bench.rpc.return_(caller, 1)
        raise RuntimeError("secret")

    procedures.rpc_late = rpc_late
    peer = bench.peer()
    assert bench.ask(peer, 0, "late") == [[0, 1]]
    assert peer.ended
    assert warnings_of(caplog)[0] == "procedure late failed"


def test_a_client_that_does_not_read_holds_nothing_up(bench, boom, procedures):
    peer, other = bench.peer(), bench.peer()
    bench.ask(other, 0, "park")
    peer.send_calls(("big", 900_000), ("boom",))
    bench.turn()
    assert bench.ask(other, 1, "list") == [[1]]
    answers = []
    while not peer.ended:  # it reads at last
        answers += peer.read()
        bench.turn()
    assert [answer[0] for answer in answers] == [0, 1]
    assert answers[1] == [1, "error", TEXT, "errors", [TEXT]]


def test_a_mux_that_can_only_kill_sends_the_answer_first(boom, procedures, mux, serve):
    class Small:
        add, send, kill = mux.add, mux.send, mux.kill

    bench = serve(mux=Small())
    bench.mux = mux
    peer = bench.peer()
    assert bench.ask(peer, 0, "boom")[0][2] == TEXT
    assert peer.ended


def test_the_failing_call_and_the_others_name_it(boom, procedures, meet, mux):
    bench, client, name = meet()
    errors = failures_of(client, "park", "boom", "list", "park")
    turn(mux, client, bench.rpc)
    assert [type(error) for error in errors] == [RemoteError, type(None), *[Disconnected] * 2]
    assert str(errors[0]) == TEXT
    for error in errors[2:]:
        assert str(error) == f"park: {name}: {LEFT} after boom failed; see its log"
    late = failures_of(client, "list")  # a call that is made when the connection has ended
    turn(mux, client, bench.rpc)
    assert str(late[0]) == f"list: {name}: {LEFT} after boom failed; see its log"


# What is not to blame


def test_an_ordinary_fault_is_not_blamed(mux, pair):
    client, peer = pair
    errors = failures_of(client, "fault", "x")
    turn(mux, client)
    peer.send(0, "error", "not for you")
    close(peer)
    turn(mux, client)
    assert str(errors[0]) == "not for you"
    assert str(errors[1]).endswith(f": {LEFT}")


def test_a_failure_of_another_name_is_not_blamed(mux, pair):
    """A server may pass on what another one has told it."""
    client, peer = pair
    errors = failures_of(client, "proxy", "x")
    turn(mux, client)
    peer.send(0, "error", TEXT)
    close(peer)
    turn(mux, client)
    assert str(errors[1]).endswith(f": {LEFT}")


def test_a_failure_whose_client_was_served_on_is_not_blamed(mux, pair):
    client, peer = pair
    errors = failures_of(client, "boom")
    turn(mux, client)
    peer.send(0, "error", TEXT)
    turn(mux, client)
    errors = failures_of(client, "list", "x")
    turn(mux, client)
    peer.send(1, "answer of a call that was made later")
    close(peer)
    turn(mux, client)
    assert errors[0] is None
    assert str(errors[1]).endswith(f": {LEFT}")


def test_calls_that_were_made_before_may_be_answered_behind_it(mux, pair):
    client, peer = pair
    errors = failures_of(client, "boom", "list", "x", "cancelled")
    turn(mux, client)
    peer.send(0, "error", TEXT)
    peer.send(1, "answer of a call that was made before")
    turn(mux, client)
    client.y().cancel()
    later = failures_of(client, "y")
    turn(mux, client)
    close(peer)
    turn(mux, client)
    for error in errors[2:] + later:
        assert str(error).endswith(f": {LEFT} after boom failed; see its log")


def test_a_program_that_disconnects_itself_blames_nobody(mux, pair):
    client, peer = pair
    errors = failures_of(client, "boom", "x")
    turn(mux, client)
    peer.send(0, "error", TEXT)
    turn(mux, client)
    client.disconnect()
    close(peer)
    turn(mux, client)
    assert str(errors[1]).endswith(": disconnected")


# The program may want to keep its clients


def test_with_answer_the_client_stays(serve, boom, caplog):
    bench = serve(on_exception="answer")
    assert bench.rpc.on_exception == "answer"
    peer = bench.peer()
    assert bench.ask(peer, 0, "boom") == [[0, "error", TEXT, "errors", [TEXT]]]
    assert bench.ask(peer, 1, "add", "n1", 1, "n2", 1) == [[1, "sum", 2]]
    (record,) = caplog.records
    assert record.message == "procedure boom failed"
    assert str(record.exc_info[1]) == "secret"


def test_with_answer_a_second_answer_is_logged(serve, caplog):
    bench = serve(on_exception="answer")
    peer = bench.peer()
    assert bench.ask(peer, 0, "twice") == [[0, 1]]
    assert bench.ask(peer, 1, "list") == [[1]]
    (record,) = caplog.records
    assert record.message == "procedure twice failed"
    name = f"fd {next(iter(bench.rpc.clients)).fileno()}"
    assert str(record.exc_info[1]) == (
        f"<Caller 0 twice of {name}> is answered already: return_() and error() answer once"
    )


def test_with_answer_a_call_that_waits_has_its_turn(serve, boom, procedures):
    bench = serve(on_exception="answer")
    bench.rpc.set_limits(outstanding=1)
    peer = bench.peer()
    peer.send_calls(("boom",), ("boom",), ("note", 3))
    bench.turn()
    assert [answer[0] for answer in peer.read()] == [0, 1, 2]
    assert not bench.rpc.has_queued()


def test_with_answer_a_client_goes_for_which_memory_ran_out(serve, procedures):
    def rpc_large(caller):
        raise MemoryError

    procedures.rpc_large = rpc_large
    bench = serve(on_exception="answer")
    peer = bench.peer()
    assert bench.ask(peer, 0, "large")[0][2] == "large: failed; see the server's log"
    assert peer.ended


def test_it_can_be_changed(bench, boom):
    peer = bench.peer()
    bench.rpc.on_exception = "answer"
    bench.ask(peer, 0, "boom")
    assert not peer.ended
    bench.rpc.on_exception = "disconnect"
    bench.ask(peer, 1, "boom")
    assert peer.ended


@pytest.mark.parametrize("value", ["ignore", "", None, True, 1, ["answer"]])
def test_other_words(mux, value):
    with pytest.raises(ValueError, match=r"^on_exception is .*, must be 'disconnect' or 'answer'$"):
        Server(mux, {}, on_exception=value)
