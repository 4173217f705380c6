"""A client in asyncio, over several connections: real servers that go and come back."""

import asyncio
import functools
import gc
import logging
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fleets import WRONG_OPTIONS, Fleet
from support.peers import Peer
from support.pump import PATIENCE

import rpcasync.aio
from rpcasync import (
    ArgumentError,
    Backoff,
    CallTimeout,
    Disconnected,
    EncodeError,
    RemoteError,
)

QUICK = Backoff(0.001, 0.01)


def with_fleet(count=1, up=()):
    """Run a test in a loop of its own, with servers; what it leaves behind is an error."""

    def wrap(test):
        @functools.wraps(test)
        def run(**named):
            fleet = Fleet(count, up)

            async def main():
                await asyncio.wait_for(test(fleet, **named), PATIENCE)
                others = asyncio.all_tasks() - {asyncio.current_task()}
                assert not others, f"still running: {others}"

            try:
                asyncio.run(main())
            finally:
                fleet.stop()

        del run.__wrapped__  # pytest asks for what the test itself takes
        run.__signature__ = named_only(test)
        return run

    return wrap


def named_only(test):
    import inspect

    signature = inspect.signature(test)
    return signature.replace(parameters=[*signature.parameters.values()][1:])


def connect(fleet, **options):
    return rpcasync.aio.connect(fleet.urls, **{"reconnect": QUICK, **options})


async def until(is_so):
    while not is_so():
        await asyncio.sleep(0.001)


def begin(coroutine):
    return asyncio.get_running_loop().create_task(coroutine)


@with_fleet(1, up=(0,))
async def test_it_is_a_client_like_others(fleet):
    async with connect(fleet) as rpc:
        assert (await rpc.add(n1=1, n2=2))["sum"] == 3
        assert repr(rpc) == f"<AsyncClient of {fleet.urls[0]}, 0 calls pending>"
        assert (rpc.process, rpc.stdout, rpc.stderr) == (None, None, None)
        with pytest.raises(RemoteError, match="AsyncClient itself has close"):
            await rpc.disconnect()
        with pytest.raises(EncodeError):
            await rpc.add(object())
        rpc.set_options("park", timeout=0.001)
        with pytest.raises(CallTimeout, match=r"^park: no answer within 0.001 seconds$"):
            await rpc.park()
        numbers = []

        async def tell(n, /):
            await asyncio.sleep(0)
            numbers.append(n)

        assert (await rpc.count(upto=3, tell=tell))["upto"] == 3
        assert numbers == [0, 1, 2]
        replies = await asyncio.gather(*(rpc.add(n1=n, n2=n) for n in range(100)))
        assert [reply["sum"] for reply in replies] == [*range(0, 200, 2)]
    with pytest.raises(Disconnected, match="disconnected") as caught:
        await rpc.add(n1=1, n2=2)
    assert not caught.value.may_have_run
    await rpc.close()


@with_fleet(1, up=(0,))
async def test_a_server_that_was_started_anew(fleet):
    async with connect(fleet) as rpc:
        for n in range(3):
            assert (await rpc.add(n1=n, n2=1))["sum"] == n + 1
            link = rpc._connection._link
            fleet.down()
            await until(lambda link=link: link.is_lost)
            fleet.up()
    assert fleet.ran == [(0, "add", n, 1) for n in range(3)]


@with_fleet(2)
async def test_calls_wait_in_order_while_nobody_listens(fleet):
    fleet.up(0)
    async with connect(fleet) as rpc:
        fleet.down(0)
        await until(lambda: rpc._connection._route.failures >= 4)
        tasks = [begin(rpc.add(n1=n, n2=0)) for n in range(9)]
        await until(lambda: rpc._connection._route.failures >= 6)
        tasks[4].cancel()
        fleet.up(1)
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done.pop(4), asyncio.CancelledError)
        numbers = [0, 1, 2, 3, 5, 6, 7, 8]
        assert [reply["sum"] for reply in done] == numbers
        assert fleet.ran == [(1, "add", n, 0) for n in numbers]


@pytest.mark.parametrize("retry", [None, "unsent", "idempotent"])
@with_fleet(2, up=(0, 1))
async def test_a_lost_connection(fleet, retry):
    async with connect(fleet, retry=retry) as rpc:
        tasks = [begin(rpc.park(n)) for n in range(3)]
        await until(lambda: len(fleet.ran) == 3)
        fleet.hang_up(0)
        if retry == "idempotent":
            await until(lambda: len(fleet.ran) == 6)
            assert fleet.ran == [(at, "park", n) for at in range(2) for n in range(3)]
            del fleet.parked[:3]
            for n in range(3):
                fleet.answer(value=n)
            assert [(await task)["value"] for task in tasks] == [0, 1, 2]
        else:
            for task in tasks:
                with pytest.raises(Disconnected, match="park: .*: the server closed") as caught:
                    await task
                assert caught.value.may_have_run
        assert (await rpc.add(n1=1, n2=2))["sum"] == 3


BIG = "x" * 8_000_000  # more than sockets hold


@pytest.mark.parametrize("retry", [None, "unsent"])
@with_fleet(1)
async def test_what_has_not_left(fleet, retry):
    fleet.places[0].listen()
    opening = begin(connect(fleet, retry=retry)._connect())
    fleet.places[0].setblocking(False)
    sock, _ = await asyncio.get_running_loop().sock_accept(fleet.places[0])
    with sock:
        peer = Peer(sock)
        packets = []
        while not packets:
            packets = peer.read()
            await asyncio.sleep(0)
        peer.send(packets[0][0])
        rpc = await opening
        first = begin(rpc.park(1))
        await until(peer.read)
        tasks = [first, begin(rpc.park(BIG)), begin(rpc.park(3))]
        await until(lambda: rpc._connection._link.is_full)
    fleet.up(0)
    with pytest.raises(Disconnected) as caught:
        await first
    assert caught.value.may_have_run
    if retry is None:
        with pytest.raises(Disconnected) as caught:
            await tasks.pop(1)
        assert not caught.value.may_have_run
    expected = [(0, "park", BIG), (0, "park", 3)][-len(tasks) + 1 :]
    await until(lambda: len(fleet.ran) == len(expected))
    assert fleet.ran == expected
    for task in tasks[1:]:
        fleet.answer()
        await task
    await rpc.close()


@with_fleet(2, up=(0, 1))
async def test_it_moves_when_the_server_says_so(fleet):
    async with connect(fleet) as rpc:
        first = rpc._connection._link
        first.began -= 2  # it has been there for longer
        parked = begin(rpc.park(1))
        await until(lambda: fleet.ran)
        fleet.drain(0)
        await until(lambda: rpc._connection._link is not first)
        assert (await rpc.add(n1=1, n2=2))["sum"] == 3
        assert fleet.ran == [(0, "park", 1), (1, "add", 1, 2)]
        assert not first.is_lost
        fleet.answer(value=5)
        assert (await parked)["value"] == 5
        await until(lambda: first.is_lost)
        assert rpc._connection._links == [rpc._connection._link]
        assert rpc._connection._route.failures == 0


@with_fleet(2, up=(0, 1))
async def test_a_call_that_is_cancelled_on_a_connection_that_is_left(fleet):
    async with connect(fleet) as rpc:
        first = rpc._connection._link
        parked = begin(rpc.park(1))
        await until(lambda: fleet.ran)
        fleet.drain(0)
        await until(lambda: rpc._connection._link is not first)
        parked.cancel()
        await until(lambda: first.is_lost)


@with_fleet(2, up=(1,))
async def test_nothing_leaves_before_the_server_has_answered(fleet):
    fleet.places[0].listen()
    fleet.places[0].setblocking(False)
    opening = begin(connect(fleet)._connect())
    sock, _ = await asyncio.get_running_loop().sock_accept(fleet.places[0])
    peer = Peer(sock)
    packets = []
    while not packets:
        packets = peer.read()
        await asyncio.sleep(0)
    assert [packet[1] for packet in packets] == ["goaway"]
    sock.close()
    async with await opening as rpc:
        assert (await rpc.add(n1=1, n2=2))["sum"] == 3
    assert fleet.ran == [(1, "add", 1, 2)]


@with_fleet(3, up=(2,))
async def test_endpoints_that_are_none(fleet, monkeypatch, caplog):
    """One never answers, and one speaks something else."""
    caplog.set_level(logging.INFO, "rpcasync")
    monkeypatch.setattr("rpcasync.reconnecting.route._PATIENCE", 0.2)
    for place in fleet.places[:2]:
        place.listen()
        place.setblocking(False)
    opening = begin(connect(fleet)._connect())
    sock, _ = await asyncio.get_running_loop().sock_accept(fleet.places[1])
    sock.sendall(b"220 mail.example ESMTP\r\n")
    async with await opening as rpc:
        assert (await rpc.add(n1=1, n2=2))["sum"] == 3
    sock.close()
    assert f"{fleet.urls[0]}: it has not answered within 0.2 seconds; connecting" in caplog.text
    assert f"{fleet.urls[1]}: " in caplog.text


@with_fleet(1)
async def test_connect_waits_for_the_first_server(fleet):
    opening = begin(connect(fleet)._connect())
    await asyncio.sleep(0)
    fleet.up()
    async with await opening as rpc:
        assert (await rpc.add(n1=1, n2=2))["sum"] == 3


@with_fleet(1)
async def test_connect_gives_up_in_time_or_when_it_is_cancelled(fleet):
    text = (
        rf"^cannot connect to {fleet.urls[0]}: no answer within 0.3 seconds;"
        rf" there is no connection: {fleet.urls[0]}: Connection refused: is the server running\?$"
    )
    with pytest.raises(TimeoutError, match=text):
        await connect(fleet, timeout=0.3)
    opening = begin(connect(fleet)._connect())
    await asyncio.sleep(0.01)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening


@with_fleet(1, up=(0,))
async def test_a_call_that_times_out_without_a_connection_tells_why(fleet):
    async with connect(fleet) as rpc:
        fleet.down()
        await until(lambda: rpc._connection._route.failures)
        rpc.set_options("add", timeout=0.05)
        with pytest.raises(CallTimeout) as caught:
            await rpc.add(n1=1, n2=2)
        text = "add: no answer within 0.05 seconds; there is no connection: "
        assert str(caught.value).startswith(text + fleet.urls[0])
        rpc.set_options("add", timeout=None)
        fleet.up()
        assert (await rpc.add(n1=2, n2=2))["sum"] == 4
        assert fleet.ran == [(0, "add", 2, 2)]  # what nobody waits for is never sent


@with_fleet(1, up=(0,))
async def test_close_while_there_is_no_connection(fleet):
    rpc = await connect(fleet)
    fleet.down()
    await until(lambda: rpc._connection._route.failures)
    call = begin(rpc.add(n1=1, n2=2))
    await asyncio.sleep(0)
    await rpc.close()
    with pytest.raises(Disconnected) as caught:
        await call
    assert not caught.value.may_have_run


@with_fleet(1)
async def test_somebody_cancels_all_tasks_and_calls_again(fleet):
    fleet.up(0)
    rpc = await connect(fleet)
    fleet.down()
    await until(lambda: rpc._connection._route.failures)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if task.get_coro().__name__ == "_connect":
            task.cancel()
    await until(lambda: rpc._connection._link.is_lost)
    with pytest.raises(Disconnected):
        await rpc.add(n1=1, n2=2)
    await rpc.close()


@with_fleet(1, up=(0,))
async def test_calls_leave_before_a_client_that_closes_at_once(fleet):
    rpc = await connect(fleet)
    calls = [begin(rpc.park(n)) for n in range(3)]
    await asyncio.sleep(0)
    await rpc.close()
    assert all(isinstance(call.exception(), Disconnected) for call in calls)
    await until(lambda: len(fleet.ran) == 3)


@with_fleet(1, up=(0,))
async def test_functions_go_with_the_calls_that_are_sent_again(fleet):
    got = []
    async with connect(fleet, retry="idempotent") as rpc:

        async def tell(*values):
            await asyncio.sleep(0)
            got.append(values)

        call = begin(rpc.ask("tell", tell))
        await until(lambda: len(got) == 1)
        fleet.hang_up()
        await until(lambda: len(got) == 2)
        fleet.parked.pop(0)
        fleet.answer(value=7)
        assert (await call)["value"] == 7
        with pytest.raises(ArgumentError, match="values of the server, to argument tell of ask"):
            await rpc.ask(tell=lambda number, /: None)


@with_fleet(2, up=(0, 1))
async def test_many_tasks_and_servers_that_crash(fleet):
    sums = []
    async with connect(fleet, retry="idempotent") as rpc:

        async def work(n):
            for m in range(50):
                sums.append((await rpc.add(n1=n, n2=m))["sum"])

        tasks = [begin(work(n)) for n in range(4)]
        for round_ in range(4):
            await until(lambda most=40 * (round_ + 1): len(fleet.ran) >= most)
            fleet.down(round_ % 2)
            fleet.up(round_ % 2)
        await asyncio.gather(*tasks)
    assert sorted(sums) == sorted(n + m for n in range(4) for m in range(50))


STEPS = st.lists(st.sampled_from(["call", "call", "hang up", "drain", "turn"]), max_size=30)


@settings(max_examples=15)
@given(STEPS)
def test_whatever_happens_each_call_is_answered_and_first_runs_in_order(steps):
    fleet = Fleet(2, (0, 1))

    async def main():
        async with connect(fleet, retry="idempotent") as rpc:
            calls = []
            for step in steps:
                index = rpc._connection._route.at
                if step == "call":
                    calls.append(begin(rpc.add(n1=len(calls), n2=0)))
                elif step == "hang up":
                    fleet.hang_up(index)
                elif step == "drain":
                    fleet.drain(index)
                    fleet.up(index)
                else:
                    await asyncio.sleep(0)
            assert [(await call)["sum"] for call in calls] == [*range(len(calls))]

    try:
        asyncio.run(main())
    finally:
        fleet.stop()
    for at in (0, 1):
        numbers = [n1 for index, _, n1, _ in fleet.ran if index == at]
        assert [*dict.fromkeys(numbers)] == sorted({*numbers})


@with_fleet(1, up=(0,))
async def test_one_that_is_dropped_is_closed(fleet):
    rpc = await connect(fleet)
    with pytest.warns(ResourceWarning, match="unclosed <AsyncClient"):
        del rpc
    await until(lambda: not fleet.count_clients())
    gc.collect()


def test_the_end_of_the_loop():
    """Nobody has closed it, with a connection and without: nothing hangs."""
    for up in ((), (0,)):
        fleet = Fleet(1, up)

        async def main(fleet=fleet, up=up):
            opening = begin(connect(fleet)._connect())
            if up:
                rpc = await opening
                fleet.down()
                await until(lambda: rpc._connection._route.failures)
                rpc._is_closed = True  # else it is told
                begin(rpc.add(n1=1, n2=2))
            await asyncio.sleep(0)

        asyncio.run(main())
        fleet.stop()


@pytest.mark.parametrize(("server", "options", "error", "why"), WRONG_OPTIONS)
def test_wrong_options(server, options, error, why):
    with pytest.raises(error, match=why):
        rpcasync.aio.connect(server, **{"reconnect": QUICK, **options})


def test_neither_a_socket_nor_a_program_can_be_connected_again():
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TypeError, match="must be a URL or a list of URLs"):
        rpcasync.aio.connect(ours, reconnect=QUICK)
    with pytest.raises(TypeError, match="no args$"):
        rpcasync.aio.connect("tcp://x:1", "-v", reconnect=QUICK)
