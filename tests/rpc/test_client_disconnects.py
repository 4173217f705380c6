"""The end of a client's connection, by the server, the program, or the client itself."""

from __future__ import annotations

import sys

import pytest
from support.peers import turn

from rpcasync import Disconnected

# The server goes


def test_losing_the_server_fails_every_pending_call(mux, pair, caplog):
    client, peer = pair
    errors = []
    call = client.x()
    client.x(lambda error=None: errors.append(error))
    client.x(lambda **named: errors.append(named["error"]))
    client.x(lambda sum: None)
    client.x(lambda sum: None)
    turn(mux, client)
    peer.sock.close()
    with pytest.raises(Disconnected, match="^x: <socket.*: "):
        turn(mux, client)
    assert [type(error) for error in errors] == [Disconnected, Disconnected]
    with pytest.raises(ConnectionError):
        call.result()
    assert not client.has_requests()
    assert [record.message for record in caplog.records] == ["callback of x failed"]
    turn(mux, client)


def test_a_callback_may_ask_for_the_result_of_another_lost_call(mux, pair):
    client, peer = pair
    seen = []

    def done(error=None):
        with pytest.raises(Disconnected):
            second.result()
        seen.append(type(error))

    client.x(done)
    second = client.y()
    turn(mux, client)
    peer.sock.close()
    turn(mux, client)
    assert seen == [Disconnected]


def test_a_lost_call_is_done_although_a_callback_ends_the_program(mux, pair):
    client, peer = pair
    client.x(lambda error=None: sys.exit(1))
    second = client.y()
    turn(mux, client)
    peer.sock.close()
    with pytest.raises(SystemExit):
        turn(mux, client)
    with pytest.raises(Disconnected):
        second.result()


def test_a_call_after_the_end_fails_like_one_before(mux, pair):
    client, peer = pair
    name = repr(client.fh)
    peer.sock.close()
    turn(mux, client)
    errors = []
    client.x(lambda error=None: errors.append(str(error)))
    client.x(lambda error=None: errors.append(str(error)))
    assert errors == []  # nothing runs outside io()
    assert turn(mux, client) == []
    assert errors == [f"x: {name}: the server closed the connection"] * 2
    assert not client.has_requests()


def test_answers_before_the_end_are_handed_over(mux, pair):
    client, peer = pair
    got = []
    client.x(got.append)
    client.x(lambda value=None, error=None: got.append(type(error)))
    turn(mux, client)
    peer.send(0, "in time")
    peer.sock.close()
    turn(mux, client)
    assert got == ["in time", Disconnected]


def test_an_idle_client_that_loses_its_server_is_quiet(mux, pair):
    client, peer = pair
    turn(mux, client)
    peer.sock.close()
    assert turn(mux, client) == []


# The client goes


def test_disconnect_sends_what_was_called_and_fails_what_is_pending(mux, pair):
    client, peer = pair
    name = repr(client.fh)
    errors = []
    call = client.note(lambda error=None: errors.append(str(error)))
    client.disconnect()
    assert peer.read() == [[0, "note"]]
    assert peer.ended
    assert errors == []  # nothing runs outside io()
    assert client.has_requests()
    assert turn(mux, client) == []
    assert errors == [f"note: {name}: disconnected"]
    with pytest.raises(Disconnected):
        call.result()
    with pytest.raises(Disconnected, match="disconnected"):
        client.x().result(5)
    client.disconnect()


def test_result_after_disconnect_does_not_wait(mux, pair):
    client, _ = pair
    call = client.x()
    client.disconnect()
    with pytest.raises(Disconnected, match="disconnected"):
        call.result()


def test_the_end_of_a_block_disconnects(mux, pair):
    client, peer = pair
    with client as same:
        assert same is client
        client.note()
        assert repr(client).endswith("1 calls pending>")
    assert peer.read() == [[0, "note"]]
    assert peer.ended


def test_what_does_not_leave_at_once_leaves_as_the_loop_turns(mux, pair):
    client, peer = pair
    client.note("x" * 5_000_000)
    client.disconnect()
    packets = []
    while not peer.ended:
        packets += peer.read()
        turn(mux, client)
    assert [packet[:2] for packet in packets] == [[0, "note"]]
    assert not client.has_requests()


# The program takes the socket


def test_a_socket_that_the_program_removed_itself(mux, pair):
    client, _ = pair
    call = client.x()
    mux.remove(client.fh)
    with pytest.raises(Disconnected, match="not watched any more"):
        call.result(5)
    client.fh.close()


def test_calling_on_a_socket_that_the_program_killed(mux, pair):
    client, _ = pair
    mux.kill(client.fh)
    call = client.x()
    with pytest.raises(Disconnected, match="the socket was closed"):
        call.result(5)
