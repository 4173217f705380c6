"""A client in a loop of asyncio, against a peer in our hands, and against servers."""

import asyncio
import contextlib
import contextvars
import errno
import functools
import gc
import itertools
import socket
import threading
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.peers import Peer
from support.pump import PATIENCE

import rpcasync.aio
from eventmux import EventMux
from eventmux.aio import events
from rpcasync import (
    ArgumentError,
    CallTimeout,
    Coderef,
    Disconnected,
    EncodeError,
    RemoteError,
    Reply,
    RPCError,
    Server,
)


def awaited(test):
    """Run a test in a loop of its own; what it leaves behind is an error."""

    @functools.wraps(test)
    def run(*args, **named):
        async def main():
            await asyncio.wait_for(test(*args, **named), PATIENCE)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            assert not others, f"still running: {others}"

        asyncio.run(main())

    return run


@contextlib.asynccontextmanager
async def connected(codec="storable", **options):
    """Give a client, and the server's end of its socket in our hands."""
    ours, theirs = socket.socketpair()
    with theirs:
        async with rpcasync.aio.connect(ours, codec=codec, **options) as rpc:
            yield rpc, Peer(theirs, codec)


async def received(peer, count=1):
    packets = []
    while len(packets) < count:
        packets += peer.read()
        await asyncio.sleep(0)
    return packets


async def begin(rpc, peer, *args, procedure="work", **named):
    """Begin a call; return its task, and the packet that has come of it."""
    task = asyncio.create_task(rpc.call(procedure, *args, **named))
    [packet] = await received(peer)
    return task, packet


async def turns(count=10):
    for _ in range(count):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def serving(namespace, **options):
    """Run a server in this loop; give a client of it, and the server."""
    mux = EventMux()
    with mux:
        server = Server(mux, namespace, **options)
        listener = server.listen("tcp://127.0.0.1:0")
        address = "tcp://{}:{}".format(*listener.getsockname())

        async def serve():
            async for event in events(mux):
                server.io(event)

        task = asyncio.create_task(serve())
        try:
            yield address, server
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


# Calls and answers


@awaited
async def test_a_call_is_awaited(codec):
    async with connected(codec) as (rpc, peer):
        task, packet = await begin(rpc, peer, procedure="add_numbers", n1=2, n2=3)
        assert packet == [0, "add_numbers", "n1", 2, "n2", 3]
        assert repr(rpc).endswith(", 1 calls pending>")
        peer.send(0, "sum", 5)
        reply = await task
        assert type(reply) is Reply
        assert reply["sum"] == 5
    assert repr(rpc).endswith(", closed>")


@awaited
async def test_names_are_procedures_and_call_is_for_the_others():
    async with connected() as (rpc, peer):
        tasks = [
            asyncio.create_task(coroutine)
            for coroutine in (rpc.add(1, 2), rpc.call("close", "x"), rpc.call("call", self=1))
        ]
        packets = await received(peer, 3)
        assert packets == [[0, "add", 1, 2], [1, "close", "x"], [2, "call", "self", 1]]
        for number in range(3):
            peer.send(number)
        assert await asyncio.gather(*tasks) == [(), (), ()]
        with pytest.raises(AttributeError, match="no attribute '_private'"):
            _ = rpc._private
        with pytest.raises(TypeError, match="procedure is 3, must be a str"):
            await rpc.call(3)


@awaited
async def test_answers_find_their_calls_in_any_order():
    async with connected() as (rpc, peer):
        tasks = [asyncio.create_task(rpc.get(n)) for n in range(3)]
        await received(peer, 3)
        for number in (2, 0, 1):
            peer.send(number, "n", number)
        assert [reply["n"] for reply in await asyncio.gather(*tasks)] == [0, 1, 2]


@awaited
async def test_an_error_is_raised():
    async with connected() as (rpc, peer):
        task, _ = await begin(rpc, peer)
        peer.send(0, "error", "no such thing")
        with pytest.raises(RemoteError, match="^no such thing$"):
            await task


@awaited
async def test_a_method_that_is_misspelt_is_named():
    async with serving({}) as (url, _), rpcasync.aio.connect(url) as rpc:
        with pytest.raises(RemoteError, match=r"; AsyncClient itself has close\(\)$"):
            await rpc.closee()


@awaited
async def test_the_procedure_that_ended_the_connection_is_named():
    def rpc_boom(caller):
        raise KeyError("on purpose")

    def rpc_wait(caller):
        parked.append(caller)

    parked = []
    procedures = {"rpc_boom": rpc_boom, "rpc_wait": rpc_wait}
    async with serving(procedures) as (url, _), rpcasync.aio.connect(url) as rpc:
        waiting = asyncio.create_task(rpc.wait())
        await asyncio.sleep(0)
        with pytest.raises(RemoteError, match="^boom: failed; see the server's log$"):
            await rpc.boom()
        why = "the server closed the connection after boom failed; see its log$"
        with pytest.raises(Disconnected, match=why):
            await waiting
        with pytest.raises(Disconnected, match=why):
            await rpc.boom()


@awaited
async def test_what_cannot_be_sent_is_raised_and_nothing_has_changed():
    async with connected() as (rpc, peer):
        with pytest.raises(EncodeError):
            await rpc.work({1, 2})
        text = "^work: callback <function .*> takes a list, but requires name by name$"
        with pytest.raises(ArgumentError, match=text):
            await rpc.work(lambda *values, name: None)
        assert "0 calls pending" in repr(rpc)
        task, packet = await begin(rpc, peer)
        assert packet == [0, "work"]
        peer.send(0)
        await task


@awaited
async def test_a_thousand_tasks_at_once(codec):
    def rpc_double(caller, n: int):
        server.return_(caller, n=2 * n)

    async with (
        serving({"rpc_double": rpc_double}) as (url, server),
        rpcasync.aio.connect(url, codec=codec) as rpc,
    ):
        replies = await asyncio.gather(*[rpc.double(n=n) for n in range(1000)])
    assert [reply["n"] for reply in replies] == [2 * n for n in range(1000)]


@awaited
async def test_calls_of_one_turn_leave_together(monkeypatch):
    async with connected() as (rpc, peer):
        writes = []
        transport = rpc._connection._transport
        monkeypatch.setattr(rpc._connection, "_transport", writer := _Transport(transport, writes))
        tasks = [asyncio.create_task(rpc.get(n)) for n in range(70)]
        await received(peer, 70)
        assert writer
        assert len(writes) == 4  # the first, which had nobody to wait for, and 32, 32 and 5
        for number in range(70):
            peer.send(number)
        await asyncio.gather(*tasks)


class _Transport:
    """A transport that notes what is written."""

    def __init__(self, transport, writes):
        self._transport = transport
        self._writes = writes

    def write(self, data):
        self._writes.append(data)
        self._transport.write(data)

    def __getattr__(self, name):
        return getattr(self._transport, name)


# Cancelling, and time


@awaited
async def test_a_cancelled_task_cancels_its_call():
    async with connected() as (rpc, peer):
        task, _ = await begin(rpc, peer)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "0 calls pending" in repr(rpc)
        task, packet = await begin(rpc, peer)
        assert packet[0] == 1  # the id of the other one is still in use
        peer.send(0, "late", 1)
        peer.send(1, "right", 1)
        assert (await task)["right"] == 1


@awaited
async def test_cancelled_before_it_begins():
    async with connected() as (rpc, peer):
        task = asyncio.create_task(rpc.work())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert peer.read() == []


@awaited
async def test_cancelled_when_the_answer_has_come():
    """Between the answer and the task's next step: the task is cancelled, nothing is left."""
    async with connected() as (rpc, peer):
        task, _ = await begin(rpc, peer)
        peer.send(0, "n", 1)
        while rpc._connection.pending:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.result()["n"] == 1
        task, packet = await begin(rpc, peer)
        peer.send(packet[0])
        await task


@awaited
async def test_the_timeout_of_the_client():
    async with connected(timeout=0.02) as (rpc, peer):
        quick, slow = (asyncio.create_task(rpc.work(n)) for n in range(2))
        await received(peer, 2)
        peer.send(0, "n", 0)
        assert (await quick)["n"] == 0
        with pytest.raises(CallTimeout, match=r"^work: no answer within 0\.02 seconds$"):
            await slow
        peer.send(1, "late", 1)  # ignored
        task, packet = await begin(rpc, peer)
        assert packet[0] == 2
        peer.send(2)
        await task


@awaited
async def test_a_timeout_around_a_call():
    async with connected() as (rpc, peer):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(rpc.work(), 0.01)
        assert await received(peer) == [[0, "work"]]
        assert "0 calls pending" in repr(rpc)


# Callbacks


@awaited
async def test_a_function_is_called_in_order_and_before_the_answer(codec):
    seen = []
    async with connected(codec) as (rpc, peer):
        task = asyncio.create_task(rpc.work(progress=lambda done: seen.append(done)))
        await received(peer)
        for done in range(3):
            peer.send(0, "call", "done", done)
        peer.send(1, "ok", 1)
        await task
        assert seen == [0, 1, 2]


@awaited
async def test_a_coroutine_function_runs_one_after_the_other_and_ends_before_the_call():
    seen = []

    async def progress(done):
        seen.append(("begin", done))
        await turns(3 - done)
        seen.append(("end", done))

    async with connected() as (rpc, peer):
        task = asyncio.create_task(rpc.work(progress=progress))
        await received(peer)
        for done in range(3):
            peer.send(0, "call", "done", done)
        peer.send(1, "ok", 1)
        peer.send(0, "call", "done", 3)  # behind the answer: nobody waits for that
        await task
        assert seen[:6] == [(what, n) for n in range(3) for what in ("begin", "end")]
        while len(seen) < 8:
            await asyncio.sleep(0)


@awaited
async def test_different_callbacks_do_not_wait_for_each_other():
    may_end = asyncio.Event()
    seen = []

    async def waits():
        await may_end.wait()
        seen.append("waited")

    async def ends_it():
        may_end.set()

    async with connected() as (rpc, peer):
        task = asyncio.create_task(rpc.work(waits, ends_it))
        await received(peer)
        peer.send(0, "call")
        peer.send(1, "call")
        peer.send(2)
        await task
        assert seen == ["waited"]


@awaited
@pytest.mark.parametrize("is_coroutine", [False, True])
async def test_what_a_callback_raises_fails_its_call(is_coroutine):
    calls = 0

    def fail(done):
        nonlocal calls
        calls += 1
        raise KeyError(done)

    async def fail_later(done):
        await asyncio.sleep(0)
        fail(done)

    async with connected() as (rpc, peer):
        task = asyncio.create_task(rpc.work(progress=fail_later if is_coroutine else fail))
        other = asyncio.create_task(rpc.other())
        await received(peer, 2)
        peer.send(0, "call", "done", 1)
        peer.send(0, "call", "done", 1)  # both are there at once
        with pytest.raises(KeyError, match="1"):
            await task
        peer.send(0, "call", "done", 2)  # the call is over, and so are its callbacks
        peer.send(1, "too", "late")
        peer.send(2, "n", 1)
        assert (await other)["n"] == 1  # and nothing else is
        assert calls == 1


@awaited
async def test_what_the_last_run_raises_behind_the_answer_fails_the_call():
    async def fail(done):
        await turns()
        raise KeyError(done)

    async with connected() as (rpc, peer):
        task = asyncio.create_task(rpc.work(progress=fail))
        await received(peer)
        peer.send(0, "call", "done", 1)
        peer.send(1, "ok", 1)
        with pytest.raises(KeyError):
            await task


@awaited
@pytest.mark.parametrize("is_coroutine", [False, True])
async def test_what_is_raised_when_the_call_has_ended_goes_to_the_loop(is_coroutine):
    reports = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reports.append(context))

    def fail():
        raise KeyError("late")

    async def fail_later():
        fail()

    async with connected() as (rpc, peer):
        task = asyncio.create_task(rpc.follow(callback=fail_later if is_coroutine else fail))
        await received(peer)
        peer.send(1, "ok", 1)
        await task
        for count in (1, 2):  # it is called again
            peer.send(0, "call")
            while len(reports) < count:
                await asyncio.sleep(0)
    assert [type(report["exception"]) for report in reports] == [KeyError, KeyError]
    assert "fail" in reports[0]["message"]


@pytest.mark.parametrize("is_coroutine", [True, False])
@pytest.mark.parametrize("is_answered", [True, False])
@awaited
async def test_what_a_callback_waits_for_is_cancelled(is_coroutine, is_answered):
    """That is raised like anything else; neither the connection nor another call is concerned."""
    seen = []
    given_up = asyncio.get_running_loop().create_future()

    async def wait(n, /):
        seen.append(n)
        await given_up

    def ask(n, /):
        seen.append(n)
        given_up.result()

    async with connected() as (rpc, peer):
        if not is_coroutine:
            given_up.cancel()
        task, _ = await begin(rpc, peer, wait if is_coroutine else ask)
        peer.send(0, "call", 1)
        peer.send(0, "call", 2)
        if is_answered:
            peer.send(1, "late", 1)
        while not seen:
            await asyncio.sleep(0)
        await turns()
        given_up.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert seen == [1]
        task, _ = await begin(rpc, peer)
        peer.send(2, "n", 1)
        assert await task == ("n", 1)


@awaited
async def test_values_that_do_not_fit_a_callback_fail_the_call():
    async with connected() as (rpc, peer):
        task = asyncio.create_task(rpc.work(progress=lambda done: None))
        await received(peer)
        peer.send(0, "call", 1, 2)
        text = "values of the server, to argument progress of work: .*write lambda"
        with pytest.raises(ArgumentError, match=text):
            await task


@awaited
async def test_a_server_cannot_flood_the_loop_with_values_that_do_not_fit(caplog):
    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    async with connected() as (rpc, peer):
        task = asyncio.create_task(rpc.follow(callback=lambda done: None))
        await received(peer)
        peer.send(1, "ok", 1)
        await task
        for _ in range(50):
            peer.send(0, "call", 1, 2)
        task, _ = await begin(rpc, peer)
        peer.send(2, "ok", 1)
        await task
    assert not reports
    assert len(caplog.records) <= 10
    assert "argument callback of follow: unknown name 1" in caplog.text


@awaited
async def test_a_cancelled_call_stops_its_callbacks():
    ended = []

    async def progress(done):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(done)

    async with connected() as (rpc, peer):
        task = asyncio.create_task(rpc.work(progress=progress))
        await received(peer)
        peer.send(0, "call", "done", 1)
        peer.send(0, "call", "done", 2)
        while not rpc._connection.workers:
            await asyncio.sleep(0)
        await turns()
        task.cancel()
        await asyncio.wait([task])
        while rpc._connection.workers:
            await asyncio.sleep(0)
        peer.send(0, "call", "done", 3)
        peer.send(0, "destroy")
        await turns()
        assert ended == [1]


@awaited
async def test_a_callback_may_call_the_server():
    async def progress(done):
        return await rpc.log(done)

    async with connected() as (rpc, peer):
        task = asyncio.create_task(rpc.work(progress=progress))
        await received(peer)
        peer.send(0, "call", "done", 1)
        assert await received(peer) == [[2, "log", 1]]
        peer.send(1, "ok", 1)
        await turns()
        assert not task.done()
        peer.send(2)
        assert (await task)["ok"] == 1


@awaited
async def test_a_callback_runs_in_the_context_of_its_call():
    who = contextvars.ContextVar("who", default="nobody")
    seen = []

    async def later():
        seen.append(who.get())

    async with connected() as (rpc, peer):
        who.set("the caller")
        task = asyncio.create_task(rpc.work(lambda: seen.append(who.get()), later))
        who.set("another")
        await received(peer)
        for number in (0, 1):
            peer.send(number, "call")
        peer.send(2)
        await task
    assert seen == ["the caller", "the caller"]


@awaited
async def test_a_coderef_is_passed_on(caplog):
    """A gateway: what a client of ours has passed goes to the server behind."""
    caplog.set_level("INFO", "rpcasync")
    coderefs = []

    def rpc_give(caller, callback: Coderef):
        coderefs.append(callback)
        server.return_(caller)

    seen = []
    async with serving({"rpc_give": rpc_give}) as (url, server), connected() as (rpc, peer):
        async with rpcasync.aio.connect(url) as front:
            await front.give(callback=lambda *values: seen.append(values))
            task = asyncio.create_task(rpc.work(coderefs[0]))
            await received(peer)
            peer.send(0, "call", 7)
            while not seen:
                await asyncio.sleep(0)
        while coderefs[0].alive:
            await asyncio.sleep(0)
        peer.send(0, "call", 8)  # its client has gone
        peer.send(1)
        await task
    assert seen == [(7,)]
    assert "a callback that was passed on: " in caplog.text


# What may wait


@awaited
async def test_calls_wait_for_a_server_that_does_not_read():
    async with connected() as (rpc, peer):
        tasks = [asyncio.create_task(rpc.put("x" * 100_000)) for _ in range(40)]
        await turns(50)
        connection = rpc._connection
        assert connection.is_full
        assert len(connection.crowd) + len(connection.pending) == 40
        assert connection._transport.get_write_buffer_size() < 1_000_000
        tasks.pop().cancel()  # one that waits for room
        await turns()
        assert len(await received(peer, 39)) == 39
        for number in range(39):
            peer.send(number)
        await asyncio.gather(*tasks)


@awaited
async def test_calls_that_wait_for_room_time_out():
    async with connected(timeout=0.02) as (rpc, _):
        tasks = [asyncio.create_task(rpc.put("x" * 200_000)) for _ in range(10)]
        await asyncio.wait(tasks)
        texts = {str(task.exception()) for task in tasks}
        assert {type(task.exception()) for task in tasks} == {CallTimeout}
        assert texts == {
            "put: no answer within 0.02 seconds",
            "put: not sent within 0.02 seconds: the server does not read",
        }
        await rpc.close(grace=0)


@awaited
async def test_calls_that_waited_for_room_and_were_cancelled_leave_nothing_behind():
    async with connected() as (rpc, _):
        first = [asyncio.create_task(rpc.put("x" * 200_000)) for _ in range(10)]
        await turns(50)
        crowd, count = rpc._connection.crowd, len(rpc._connection.crowd)
        for _ in range(3):
            tasks = [asyncio.create_task(rpc.put()) for _ in range(20)]
            await turns()
            assert len(crowd) == count + 20
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert len(crowd) == count
        for task in first:
            task.cancel()
        await asyncio.wait(first)
        assert not crowd
        await rpc.close(grace=0)


@awaited
async def test_calls_that_wait_for_room_fail_with_the_connection():
    async with connected() as (rpc, peer):
        tasks = [asyncio.create_task(rpc.put("x" * 200_000)) for _ in range(10)]
        await turns(50)
        assert rpc._connection.crowd
        peer.sock.close()
        await asyncio.wait(tasks)
        assert {type(task.exception()) for task in tasks} == {Disconnected}


@awaited
async def test_a_slow_callback_stops_the_reading():
    may_go_on = asyncio.Event()
    seen = []

    async def row(n):
        await may_go_on.wait()
        seen.append(n)

    async with connected() as (rpc, peer):
        task = asyncio.create_task(rpc.rows(callback=row))
        await received(peer)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 100_000:
                peer.sock.send(peer.packet(0, "call", "n", sent))
                sent += 1
                if not sent % 100:
                    await asyncio.sleep(0)
        assert sent < 100_000
        assert rpc._connection._held < 3_000_000
        may_go_on.set()
        peer.sock.setblocking(True)
        while len(seen) < sent - 1:  # the last one was perhaps sent in part
            await asyncio.sleep(0)
        assert seen == list(range(len(seen)))
        task.cancel()
        await asyncio.wait([task])


@awaited
async def test_a_slow_callback_that_waits_for_an_answer_gets_it(monkeypatch):
    monkeypatch.setattr("rpcasync.awaiting.connection._MOST_HELD", 10_000)
    count = 0

    async def row(n):
        nonlocal count
        await rpc.log(n)
        count += 1

    async with connected() as (rpc, peer):
        task = asyncio.create_task(rpc.rows(callback=row))
        await received(peer)
        for n in range(100):
            peer.send(0, "call", "n", n)
        peer.send(1, "ok", 1)
        for _ in range(100):
            [[number, *call]] = await received(peer)
            assert call[0] == "log"
            peer.send(number)
        assert (await task)["ok"] == 1
        assert count == 100


@awaited
async def test_an_answer_while_a_slow_callback_runs_does_not_have_all_read(monkeypatch):
    monkeypatch.setattr("rpcasync.awaiting.connection._MOST_HELD", 10_000)
    may_go_on = asyncio.Event()

    async def row(n):
        await may_go_on.wait()

    async with connected() as (rpc, peer):
        other, _ = await begin(rpc, peer)  # when nothing runs yet
        task, _ = await begin(rpc, peer, callback=row)
        peer.send(1, "call", "n", 0)
        peer.send(0, "ok", 1)
        await other
        for n in range(100):
            peer.send(1, "call", "n", n)
        await turns(20)
        assert rpc._connection._is_paused
        may_go_on.set()
        peer.send(2, "ok", 1)
        assert (await task)["ok"] == 1


@awaited
async def test_what_waits_for_callbacks_has_a_limit(monkeypatch, caplog):
    monkeypatch.setattr("rpcasync.awaiting.connection._MOST_HELD", 10_000)
    monkeypatch.setattr("rpcasync.awaiting.connection._MOST_EVER_HELD", 20_000)

    async def row(n):
        await rpc.log(n)

    async with connected() as (rpc, peer):
        task = asyncio.create_task(rpc.rows(callback=row))
        await received(peer)
        peer.send(0, "call", "n", 0)
        await received(peer)
        for n in range(100):
            peer.send(0, "call", "n", n)
        with pytest.raises(Disconnected, match=r"bytes wait for callbacks, limit is 20000$"):
            await task
    assert "bytes wait for callbacks" in caplog.text


@awaited
async def test_other_tasks_have_their_turn_while_a_server_sends_without_end():
    count = 0

    def row(n):
        nonlocal count
        count += 1

    async with connected() as (rpc, peer):
        task = asyncio.create_task(rpc.rows(callback=row))
        await received(peer)
        packet = peer.packet(0, "call", "n", 1)
        peer.sock.sendall(packet * 1500 + peer.packet(1, "ok", 1))
        await turns(3)
        assert 0 < count <= 1024
        await task
        assert count == 1500


# The end


@awaited
async def test_a_lost_connection_fails_all_calls():
    async with connected() as (rpc, peer):
        tasks = [asyncio.create_task(rpc.work()) for _ in range(3)]
        await received(peer, 3)
        peer.send(1, "n", 1)
        peer.sock.close()
        await asyncio.wait(tasks)
        assert tasks[1].result()["n"] == 1
        for task in (tasks[0], tasks[2]):
            with pytest.raises(Disconnected, match=r"^work: <socket.*closed the connection$"):
                task.result()
        with pytest.raises(Disconnected, match="^work: .* the server closed the connection$"):
            await rpc.work()


@awaited
async def test_close_sends_what_was_called_and_fails_it():
    async with connected() as (rpc, peer):
        task = asyncio.create_task(rpc.work())
        await asyncio.sleep(0)
        await rpc.close()
        await rpc.close()
        with pytest.raises(Disconnected, match="disconnected$"):
            await task
        assert peer.read() == [[0, "work"]]
        assert peer.ended
        with pytest.raises(Disconnected, match="disconnected$"):
            await rpc.work()


@awaited
async def test_close_when_the_server_has_ended_it_and_has_read_all():
    async with connected() as (rpc, peer):
        task = asyncio.create_task(rpc.put("x" * 2_000_000))
        await turns()
        peer.sock.shutdown(socket.SHUT_WR)
        await turns()
        assert len(await received(peer)) == 1
        with pytest.raises(Disconnected):
            await task
        await rpc.close()


@awaited
async def test_close_does_not_wait_for_a_server_that_does_not_read():
    async with connected() as (rpc, _):
        task = asyncio.create_task(rpc.put("x" * 2_000_000))
        await turns()
        await rpc.close(grace=0.01)
        with pytest.raises(Disconnected):
            await task


@awaited
async def test_close_ends_callbacks():
    async def row():
        await asyncio.Event().wait()

    async with connected() as (rpc, peer):
        task = asyncio.create_task(rpc.rows(row))
        await received(peer)
        peer.send(0, "call")
        peer.send(1)
        while not rpc._connection.workers:
            await asyncio.sleep(0)
        await rpc.close()
        assert not rpc._connection.workers
        assert await task == ()  # the answer had come


@awaited
async def test_a_run_that_is_cancelled_before_it_begins():
    async def row():
        raise AssertionError

    async with connected() as (rpc, peer):
        task = asyncio.create_task(rpc.rows(row))
        await received(peer)
        peer.send(0, "call")
        peer.send(1)
        [connection] = [rpc._connection]
        while not connection.workers:
            await asyncio.sleep(0)
        for worker in connection.workers:
            worker.cancel()
        assert await task == ()
        assert not connection.workers


@awaited
async def test_a_callback_may_close_the_client():
    async def row():
        await rpc.close()

    async with connected() as (rpc, peer):
        task = asyncio.create_task(rpc.rows(row))
        await received(peer)
        peer.send(0, "call")
        with pytest.raises(Disconnected):
            await task
        while rpc._connection.workers:
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\0\0\0\1", "packet too short"),
        (b"\xff\0\0\0", "packet of 4278190080 bytes, limit is 16777216"),
        (b"\0\0\0\x08abcd", "cannot|bad"),
        (b"", "not a reply"),
    ],
)
@awaited
async def test_a_server_that_breaks_the_rules_is_left(caplog, data, why):
    async with connected() as (rpc, peer):
        task, _ = await begin(rpc, peer)
        peer.sock.send(data or peer.framing.frame(peer.codec.encode({"id": 0})))
        with pytest.raises(Disconnected, match=why):
            await task
        with pytest.raises(Disconnected, match=why):
            await rpc.work()
    assert caplog.records[0].levelname == "ERROR"


@awaited
async def test_answers_byte_by_byte(codec):
    async with connected(codec) as (rpc, peer):
        task, _ = await begin(rpc, peer)
        for number in peer.packet(0, "sum", 5):
            peer.sock.send(bytes([number]))
            await turns(2)
        assert (await task)["sum"] == 5


@given(order=st.permutations(range(6)), sizes=st.lists(st.integers(1, 40), min_size=1))
def test_answers_in_any_order_and_in_any_pieces(order, sizes):
    @awaited
    async def test():
        async with connected() as (rpc, peer):
            tasks = [asyncio.create_task(rpc.get(n, progress=seen.append)) for n in range(6)]
            packets = await received(peer, 6)
            data = b""
            for number in order:
                packet = packets[number]
                data += peer.packet(packet[0] - 1, "call", number)
                data += peer.packet(packet[0], "n", number)
            for size in itertools.cycle(sizes):
                peer.sock.send(data[:size])
                data = data[size:]
                await asyncio.sleep(0)
                if not data:
                    break
            replies = await asyncio.gather(*tasks)
            assert [reply["n"] for reply in replies] == list(range(6))

    seen = []
    test()
    assert seen == list(order)


@given(data=st.binary(min_size=1, max_size=60), is_framed=st.booleans())
def test_whatever_a_server_sends_ends_in_an_answer_or_an_error(data, is_framed):
    @awaited
    async def test():
        async with connected("json" if data[0] & 1 else "storable") as (rpc, peer):
            task, _ = await begin(rpc, peer, progress=lambda *values: None)
            peer.sock.send(peer.framing.frame(data + bytes(3)) if is_framed else data)
            await turns(3)
            peer.sock.close()
            await asyncio.wait([task])
            assert isinstance(task.exception(), (RPCError, type(None)))

    test()


# Connecting


@awaited
async def test_connecting_to_nobody_names_the_url(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
    with pytest.raises(
        ConnectionRefusedError, match=rf"{url}: Connection refused: is the server running\?$"
    ):
        await rpcasync.aio.connect(url)
    path = tmp_path / "socket"
    with pytest.raises(FileNotFoundError, match=f"unix://{path}: No such file"):
        await rpcasync.aio.connect(f"unix://{path}")
    with pytest.raises(FileNotFoundError, match="python://nobody.py: No such file"):
        await rpcasync.aio.connect("python://nobody.py")


@awaited
async def test_wrong_urls_and_options():
    with pytest.raises(ValueError, match="cannot send calls to 'udp://h:1'"):
        await rpcasync.aio.connect("udp://h:1")
    with pytest.raises(ValueError, match="codec is 'xml'"):
        rpcasync.aio.connect("tcp://h:1", codec="xml")
    with pytest.raises(ValueError, match="max_packet is 3"):
        rpcasync.aio.connect("tcp://h:1", max_packet=3)
    with pytest.raises(ValueError, match="timeout is -1"):
        rpcasync.aio.connect("tcp://h:1", timeout=-1)


@awaited
async def test_connect_has_a_timeout():
    """A UNIX socket connects at once, so it is a name that takes too long to look up."""
    loop = asyncio.get_running_loop()

    async def never(*_, **__):
        await asyncio.Event().wait()

    loop.getaddrinfo = never
    with pytest.raises(TimeoutError, match=r"^tcp://h:1: no connection within 0\.01 seconds$"):
        await rpcasync.aio.connect("tcp://h:1", timeout=0.01)


@awaited
async def test_connecting_that_is_given_up_at_any_turn_leaves_no_socket():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        for turns in itertools.count(1):
            opening = asyncio.get_running_loop().create_task(rpcasync.aio.connect(url)._connect())
            for _ in range(turns):
                await asyncio.sleep(0)
            if not opening.cancel():
                break
            with pytest.raises(asyncio.CancelledError):
                await opening
            gc.collect()
        async with opening.result():
            pass


@awaited
async def test_connect_is_awaited_once():
    with pytest.warns(RuntimeWarning, match=r"connect\(\) to tcp://h:1 was never awaited"):
        rpcasync.aio.connect("tcp://h:1")
    ours, theirs = socket.socketpair()
    with theirs:
        connecting = rpcasync.aio.connect(ours)
        rpc = await connecting
        with pytest.raises(RuntimeError, match="is used already"):
            await connecting
        await rpc.close()


@awaited
async def test_unix_sockets_and_names(tmp_path):
    def rpc_hello(caller):
        server.return_(caller, hello=1)

    async with serving({"rpc_hello": rpc_hello}) as (url, server):
        path = f"unix://{tmp_path / 'socket'}"
        server.listen(path)
        for each in (path, url.replace("127.0.0.1", "localhost")):
            async with rpcasync.aio.connect(each) as rpc:
                assert (await rpc.hello())["hello"] == 1


# Other loops, and what is forgotten


def test_in_another_loop():
    ours, theirs = socket.socketpair()

    async def make():
        return await rpcasync.aio.connect(ours)

    with theirs, asyncio.Runner() if hasattr(asyncio, "Runner") else _Runner() as runner:
        rpc = runner.run(make())
        text = "belongs to another event loop: .*run_coroutine_threadsafe"

        def elsewhere(coroutine):
            failures = []

            def run():
                try:
                    asyncio.run(coroutine)
                except RuntimeError as error:
                    failures.append(str(error))

            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
            return failures[0]

        for coroutine in (rpc.work(), rpc.close()):
            assert "run_coroutine_threadsafe" in elsewhere(coroutine), text
        runner.run(rpc.close())


class _Runner:
    """What Python 3.11 has."""

    def __enter__(self):
        self._loop = asyncio.new_event_loop()
        return self

    def run(self, coroutine):
        return self._loop.run_until_complete(coroutine)

    def __exit__(self, *_):
        self._loop.close()


def test_a_client_that_is_not_closed():
    ours, theirs = socket.socketpair()

    async def main():
        clients = [await rpcasync.aio.connect(ours)]
        with pytest.warns(ResourceWarning, match="unclosed <AsyncClient of <socket"):
            clients.clear()
        peer = Peer(theirs)
        while not peer.ended:
            peer.read()
            await asyncio.sleep(0)

    with theirs:
        asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_a_client_that_is_not_closed_and_whose_server_does_not_read():
    ours, theirs = socket.socketpair()

    async def main():
        clients = [await rpcasync.aio.connect(ours)]
        task = asyncio.create_task(clients[0].put("x" * 5_000_000))
        await turns()
        task.cancel()
        await asyncio.wait({task})
        del task
        with pytest.warns(ResourceWarning, match="unclosed <AsyncClient of <socket"):
            clients.clear()
        while ours.fileno() >= 0:
            await asyncio.sleep(0)

    with theirs:
        asyncio.run(asyncio.wait_for(main(), PATIENCE))


class Argument(str):
    """What a weak reference can tell of."""


@pytest.mark.parametrize("act", ["answer", "error", "lost", "cancel"])
@awaited
async def test_a_call_that_has_ended_leaves_nothing(act):
    """What was passed does not stay in memory until garbage is collected."""
    async with connected() as (rpc, peer):
        argument = Argument("x")
        known = weakref.ref(argument)
        gc.collect()
        gc.disable()
        try:
            task, _ = await begin(rpc, peer, argument)
            del argument
            if act == "answer":
                peer.send(0, "sum", 5)
            elif act == "error":
                peer.send(0, "error", "boom")
            elif act == "lost":
                peer.sock.close()
            else:
                task.cancel()
            await asyncio.wait({task})
            assert task.cancelled() or task.exception() or task.result()
            del task
            assert known() is None
        finally:
            gc.enable()


@awaited
async def test_a_process_that_cannot_be_waited_for(monkeypatch, caplog):
    """The process runs out of descriptors just then: calls fail, and it can be closed."""

    def refuse(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    class Process:
        pid = 7
        returncode = None

        def poll(self):
            return None

    monkeypatch.setattr("rpcasync.awaiting.connection.ProcessEnd", refuse)
    monkeypatch.setattr("rpcasync.awaiting.connection.Connection.process", Process())
    async with connected() as (rpc, peer):
        task, _ = await begin(rpc, peer)
        peer.sock.close()
        with pytest.raises(Disconnected, match="^work: "):
            await task
    assert "process 7 is not waited for: [Errno 24] Too many open files" in caplog.text


def test_a_client_that_outlives_its_loop():
    ours, theirs = socket.socketpair()

    async def main():
        clients.append(await rpcasync.aio.connect(ours))

    clients = []
    with ours, theirs:
        asyncio.run(main())
        with pytest.warns(ResourceWarning, match="unclosed <AsyncClient"):
            clients.clear()
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            gc.collect()


def test_on_uvloop():
    uvloop = pytest.importorskip("uvloop")

    async def main():
        async with connected() as (rpc, peer):
            tasks = [asyncio.ensure_future(rpc.work(lambda *values: None)) for _ in range(3)]
            for packet in await received(peer, 3):
                peer.send(packet[0], "n", 1)
            assert [reply["n"] for reply in await asyncio.gather(*tasks)] == [1, 1, 1]

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(main(), PATIENCE))
    finally:
        loop.close()


@awaited
async def test_the_next_address_of_a_name_is_tried_as_well():
    """Of the first it is known at once, of the second only after a while, that nobody is there."""
    with socket.create_server(("127.0.0.1", 0)) as full, socket.create_server(("", 0)) as open_:
        full.listen(0)
        port = open_.getsockname()[1]
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, at))
            for host, at in (("127.0.0.1", 1), full.getsockname(), ("127.0.0.1", port))
        ]
        with socket.create_connection(full.getsockname()):  # nobody else has a place

            async def look_up(*_, **__):
                return found

            asyncio.get_running_loop().getaddrinfo = look_up
            async with rpcasync.aio.connect("tcp://h:1"):
                peer, _ = open_.accept()
                peer.close()
        found[2:] = []
        found[1] = found[0]
        with pytest.raises(ConnectionRefusedError, match="tcp://h:1: .*running"):
            await rpcasync.aio.connect("tcp://h:1")


@pytest.mark.parametrize("turns", range(1, 12))
def test_who_is_cancelled_while_connecting_leaves_no_socket(turns):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = "tcp://{}:{}".format(*listener.getsockname())
            connecting = asyncio.ensure_future(rpcasync.aio.connect(url)._connect())
            for _ in range(turns):
                await asyncio.sleep(0)
            connecting.cancel()
            await asyncio.wait({connecting})
            if not connecting.cancelled():  # it was too late
                await connecting.result().close()

    asyncio.run(main())
    gc.collect()  # has a ResourceWarning come, which is an error
