"""Options of single procedures, in each kind of client."""

from __future__ import annotations

import asyncio
import socket

import pytest
from support.peers import Peer, turn

import rpcasync
from rpcasync import BlockingClient, CallTimeout, RemoteError
from rpcasync.aio import connect as aio_connect


def test_a_procedure_has_a_time_of_its_own(timed, clock, timed_connect, got):
    client, _ = timed_connect(timeout=10)
    before = client.slow(got.error_taker("before"))
    client.set_options("slow", timeout=2)
    slow = client.slow(got.error_taker("slow"))
    other = client.other(got.error_taker("other"))
    assert (before.timeout, slow.timeout, other.timeout) == (10, 2, 10)
    turn(timed, client)
    clock.advance(2)
    turn(timed, client)
    assert got == [("slow", CallTimeout)]
    clock.advance(8)
    turn(timed, client)
    assert [name for name, _ in got] == ["slow", "before", "other"]


@pytest.mark.parametrize("default", [None, 1])
def test_none_is_never(timed, clock, timed_connect, got, default):
    client, peer = timed_connect(timeout=default)
    client.set_options("slow", timeout=None)
    client.slow(got.error_taker("slow"))
    turn(timed, client)
    clock.advance(10_000)
    turn(timed, client)
    assert got == []
    peer.send(0)
    turn(timed, client)


def test_a_single_call_goes_before_it(timed, clock, timed_connect, got):
    client, _ = timed_connect()
    client.set_options("slow", timeout=2)
    client.slow(got.error_taker("slow")).set_timeout(7)
    turn(timed, client)
    clock.advance(6.9)
    turn(timed, client)
    assert got == []
    clock.advance(0.1)
    turn(timed, client)
    assert got == [("slow", CallTimeout)]


def test_it_is_no_call(timed, timed_connect):
    client, peer = timed_connect()
    client.set_options("x", timeout=1)
    turn(timed, client)
    assert peer.read() == []
    client.call("set_options", "x", 1)
    turn(timed, client)
    assert peer.read() == [[0, "set_options", "x", 1]]


def wrong_options(client):
    """Check what every client says of options that are wrong."""
    with pytest.raises(TypeError, match="set_options.. has no option 'timout'; did you mean 'time"):
        client.set_options("x", timout=1)
    with pytest.raises(TypeError, match="has no option 'Timeout'; did you mean 'timeout'"):
        client.set_options("x", Timeout=1)
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'timeout'"):
        client.set_options("x")
    with pytest.raises(ValueError, match="timeout is -1, must be 0 seconds or more"):
        client.set_options("x", timeout=-1)
    with pytest.raises(TypeError, match="timeout is '1', must be a number"):
        client.set_options("x", timeout="1")
    with pytest.raises(TypeError, match="procedure is 1, must be a str"):
        client.set_options(1, timeout=1)


def test_options_that_are_wrong(timed_connect):
    client, _ = timed_connect(timeout=3)
    wrong_options(client)
    assert client.x().timeout == 3


def test_a_client_that_waits():
    ours, theirs = socket.socketpair()
    with BlockingClient(ours, timeout=None) as rpc:
        wrong_options(rpc)
        rpc.set_options("hang", timeout=0.01)
        with pytest.raises(CallTimeout, match="hang: no answer within 0.01 seconds"):
            rpc.hang()
        theirs.close()


def test_a_client_that_waits_longer_for_some():
    ours, theirs = socket.socketpair()
    peer = Peer(theirs)
    with BlockingClient(ours, timeout=0) as rpc:
        rpc.set_options("slow", timeout=30)
        peer.send(0, 5)
        assert rpc.slow() == (5,)
        with pytest.raises(CallTimeout):
            rpc.other()
        theirs.close()


def test_a_client_in_asyncio():
    ours, theirs = socket.socketpair()
    peer = Peer(theirs)

    async def ask():
        async with aio_connect(ours) as rpc:
            wrong_options(rpc)
            rpc.set_options("hang", timeout=0.01)
            rpc.set_options("slow", timeout=30)
            slow = asyncio.ensure_future(rpc.slow())
            await asyncio.sleep(0)
            with pytest.raises(CallTimeout, match="hang: no answer within 0.01 seconds"):
                await rpc.hang()
            rpc.set_options("hang", timeout=None)
            hanging = asyncio.ensure_future(rpc.hang())
            await asyncio.sleep(0)
            peer.send(0, 5)
            peer.send(2, 6)
            assert [await slow, await hanging] == [(5,), (6,)]
            theirs.close()

    asyncio.run(ask())


def test_a_client_in_asyncio_with_a_time_for_all():
    ours, theirs = socket.socketpair()
    peer = Peer(theirs)

    async def ask():
        async with aio_connect(ours, timeout=0.01) as rpc:
            rpc.set_options("slow", timeout=None)
            slow = asyncio.ensure_future(rpc.slow())
            await asyncio.sleep(0)
            with pytest.raises(CallTimeout):
                await rpc.other()
            peer.send(0, 5)
            assert await slow == (5,)
            theirs.close()

    asyncio.run(ask())


@pytest.mark.parametrize("name", ["set_option", "has_works", "set_optoins"])
def test_a_name_that_is_nearly_one(timed, timed_connect, name):
    client, peer = timed_connect()
    call = client.__getattr__(name)()
    peer.send(0, "error", f"No sub '{name}' in package 'main'")
    meant = "has_work" if name == "has_works" else "set_options"
    with pytest.raises(RemoteError, match=f"Client itself has {meant}"):
        call.result(5)
    assert rpcasync.Client.has_work
