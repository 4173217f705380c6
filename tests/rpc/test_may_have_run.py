"""What a call that failed with its connection tells: whether it may have run."""

import asyncio
import pickle
import socket
import threading

import pytest
from support.pump import PATIENCE, until

import rpcasync
import rpcasync.aio
from rpcasync import Client, Disconnected

BIG = 8_000_000  # bytes: more than sockets hold


def failure_of(call):
    with pytest.raises(Disconnected) as caught:
        call.result(PATIENCE)
    return caught.value


def test_a_call_that_was_sent_may_have_run(connect):
    client, peer = connect()
    first, second = client.one(), client.two()
    client.io(until(client._mux, "ready")[0])
    while len(peer.read()) < 2:
        client.io(client._mux.mux(0))
    peer.sock.close()
    assert failure_of(first).may_have_run
    assert failure_of(second).may_have_run


def test_nothing_runs_where_nobody_listens(mux, nobody):
    client = Client(mux, nobody)
    calls = [client.one(), client.two()]
    assert [failure_of(call).may_have_run for call in calls] == [False, False]


def test_a_call_on_a_connection_that_has_ended_does_not_run(connect):
    client, peer = connect()
    peer.sock.close()
    assert not failure_of(client.one()).may_have_run  # the kernel took none of it
    assert not failure_of(client.two()).may_have_run
    assert not client._outbox.refused


def test_calls_that_wait_for_others_do_not_run(connect):
    client, peer = connect(limit=1)
    calls = [client.one(), client.two(), client.three()]
    client.io(until(client._mux, "ready")[0])
    peer.sock.close()
    assert [failure_of(call).may_have_run for call in calls] == [True, False, False]


def test_the_last_call_does_not_run_if_its_end_is_missing(connect):
    client, peer = connect()
    client.io(until(client._mux, "ready")[0])
    calls = [client.small(), client.large("x" * BIG)]
    assert client._mux.mux(0).type == "timeout"
    assert client._mux.buflen(client.fh)
    peer.sock.close()
    assert [failure_of(call).may_have_run for call in calls] == [True, False]


def test_a_program_that_disconnects_before_the_loop_turns(connect):
    client, _ = connect()
    call = client.one()
    client.disconnect()
    assert failure_of(call).may_have_run


def test_the_blocking_client():
    ours, theirs = socket.socketpair()
    rpc = rpcasync.connect(ours, timeout=PATIENCE)

    def hang_up():
        theirs.recv(1)
        theirs.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    with pytest.raises(Disconnected) as caught:
        rpc.call("one")
    thread.join()
    assert caught.value.may_have_run
    rpc.close()
    with pytest.raises(Disconnected) as caught:
        rpc.call("two")
    assert not caught.value.may_have_run


def test_the_client_in_asyncio():
    async def main():
        ours, theirs = socket.socketpair()
        async with rpcasync.aio.connect(ours) as rpc:
            call = asyncio.ensure_future(rpc.call("one"))
            await asyncio.sleep(0)
            theirs.close()
            with pytest.raises(Disconnected) as caught:
                await call
            assert caught.value.may_have_run
            with pytest.raises(Disconnected) as caught:
                await rpc.call("two")
            assert not caught.value.may_have_run

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_it_stays_when_the_error_is_pickled():
    error = Disconnected("gone")
    assert pickle.loads(pickle.dumps(error)).may_have_run
    error.may_have_run = False
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.may_have_run) == ("gone", False)
