"""Answers that are errors, or none, and callbacks that fail: who gets to know."""

from __future__ import annotations

import logging

import pytest
from support.peers import turn

from eventmux import Error
from rpcasync import ArgumentError, BlockingClient, Client, Disconnected, RemoteError
from rpcasync.calls import remote_error


def test_a_remote_error(mux, pair):
    client, peer = pair
    errors = []
    call = client.x(lambda answer=None, error=None: errors.append(error))
    turn(mux, client)
    peer.send(0, "error", "no luck")
    turn(mux, client)
    (error,) = errors
    assert isinstance(error, RemoteError)
    assert str(error) == "no luck"
    assert repr(call) == "<Call 0 x failed>"
    with pytest.raises(RemoteError, match="no luck"):
        call.result()


def test_an_error_without_a_parameter_for_it_is_raised_out_of_io(mux, pair):
    client, peer = pair
    client.x(lambda sum: None)
    turn(mux, client)
    peer.send(0, "error", "no luck")
    with pytest.raises(RemoteError, match="^no luck$"):
        turn(mux, client)


def test_an_error_without_a_callback_waits_for_result(mux, pair):
    client, peer = pair
    call, other = client.x(), client.y()
    turn(mux, client)
    peer.send(0, "error", "no luck")
    peer.send(1, "fine")
    assert other.result(5) == ("fine",)
    with pytest.raises(RemoteError):
        call.result()


def test_an_answer_that_does_not_fit_its_callback(mux, pair):
    client, peer = pair
    client.x(lambda sum: None)
    turn(mux, client)
    peer.send(0, "product", 5)
    with pytest.raises(ArgumentError) as caught:
        turn(mux, client)
    assert str(caught.value) == (
        "answer of x, to its callback: unknown name product; got ['product', 5]:"
        " write lambda product: or lambda *values:"
    )


def test_an_answer_that_does_not_fit_goes_to_the_error_parameter(mux, pair):
    client, peer = pair
    errors = []
    client.x(lambda sum=None, error=None: errors.append(error))
    turn(mux, client)
    peer.send(0, "odd")
    turn(mux, client)
    assert isinstance(errors[0], ArgumentError)


def test_a_callback_that_raises_harms_no_other(mux, pair, caplog):
    client, peer = pair
    got = []

    def fail(*values):
        raise LookupError(values[0])

    for callback in (fail, got.append, fail, got.append):
        client.x(callback)
    turn(mux, client)
    peer.sock.sendall(b"".join(peer.packet(id, f"answer {id}") for id in range(4)))
    with pytest.raises(LookupError, match="answer 0"):
        turn(mux, client)
    assert got == ["answer 1", "answer 3"]
    assert not client.has_requests()
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.message == "callback of x failed"
    assert str(record.exc_info[1]) == "answer 2"


def test_garbage_from_the_server(mux, pair, caplog):
    client, peer = pair
    good, bad = client.x(), client.y()
    turn(mux, client)
    peer.sock.sendall(peer.packet(0, "fine") + b"\0\0\0\0")
    assert good.result(5) == ("fine",)
    with pytest.raises(Disconnected, match="y: .*: packet too short: header announces -4"):
        bad.result(5)
    with pytest.raises(Disconnected, match="packet too short"):
        client.z().result(5)
    assert sum(record.levelno == logging.ERROR for record in caplog.records) == 1


def test_garbage_after_a_failed_write_ends_the_connection(mux, pair):
    client, peer = pair
    call = client.x()
    turn(mux, client)
    assert client.io(Error(client.fh, "Broken pipe")) is None
    peer.sock.sendall(b"\0\0\0\0")
    with pytest.raises(Disconnected, match="packet too short"):
        call.result(5)


# What is no procedure, but a method that was misspelt


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("disconect", "; Client itself has disconnect()"),
        ("has_request", "; Client itself has has_requests()"),
        ("wiat", "; Client itself has wait()"),
        ("proces", ""),  # an attribute
        ("calculate", ""),
        ("add_numbers", ""),
        ("x" * 1000, ""),
    ],
)
def test_a_method_that_was_misspelt(mux, pair, name, told):
    client, peer = pair
    call = getattr(client, name)()
    turn(mux, client)
    text = f"No sub '{name}' in package 'main'"
    peer.send(0, "error", text)
    turn(mux, client)
    with pytest.raises(RemoteError) as caught:
        call.result()
    assert str(caught.value) == text + told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("No sub 'other' in package 'main'", ""),
        ("disconect: failed", ""),
        ("No sub 'disconect' in package 'main'\n", "; Client itself has disconnect()"),
    ],
)
def test_only_that_the_name_is_unknown_says_so(mux, pair, text, told):
    client, peer = pair
    call = client.disconect()
    turn(mux, client)
    peer.send(0, "error", text)
    turn(mux, client)
    with pytest.raises(RemoteError) as caught:
        call.result()
    assert str(caught.value).rstrip() == text.rstrip() + told


@pytest.mark.parametrize(
    ("client", "called", "told"),
    [
        (Client, "close", "; Client itself has disconnect()"),
        (BlockingClient, "disconnect", "; BlockingClient itself has close()"),
        (Client, "cloze", ""),
    ],
)
def test_what_the_other_clients_call_the_end(client, called, told):
    text = f"No sub '{called}' in package 'main'"
    assert str(remote_error(text, called, client)) == text + told


def test_who_calls_by_name_means_the_procedure(mux, pair):
    client, peer = pair
    call = client.call("disconnect")
    turn(mux, client)
    peer.send(0, "error", "No sub 'disconnect' in package 'main'")
    turn(mux, client)
    with pytest.raises(RemoteError, match="^No sub 'disconnect' in package 'main'$"):
        call.result()
