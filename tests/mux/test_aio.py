"""The events of a mux in a loop of asyncio, whatever is done to the mux in between."""

import asyncio
import contextlib
import io
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import ClassVar

import pytest
from support.processes import waiting_child
from support.pump import PATIENCE, kinds
from support.quick import quick_first

import eventmux.aio
from eventmux import Event, EventMux

pytestmark = pytest.mark.skipif(
    not hasattr(selectors.DefaultSelector, "fileno"), reason="its selector has no descriptor"
)


@dataclass
class Own(Event):
    type: ClassVar[str] = "own"


def run(main):
    return asyncio.run(asyncio.wait_for(main, PATIENCE))


@pytest.fixture
def mux():
    with EventMux() as mux:
        yield mux


@pytest.fixture
def pair(mux):
    """A socket on the mux, whose `Ready` was taken, and the other end of it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        mux.add(ours)
        assert mux.mux(0).type == "ready"
        yield ours, theirs


async def until_it_waits(iterator):
    while iterator._waiter is None:
        await asyncio.sleep(0)


async def all_of(iterator):
    return [event async for event in iterator]


def test_it_gives_the_events_and_ends_when_nothing_is_left(mux, pair):
    _, theirs = pair
    mux.timer(0, "data")

    async def main():
        seen = []
        async for event in eventmux.aio.events(mux):
            seen.append(event)
            if event.type == "timer":
                theirs.sendall(b"hello")
            elif event.type == "read":
                assert event.data == b"hello"
                theirs.close()
        return seen

    assert kinds(run(main())) == ["timer", "read", "closing", "closed"]


def test_nothing_to_wait_for_ends_at_once(mux):
    assert run(all_of_new(mux)) == []


async def all_of_new(mux):
    return await all_of(eventmux.aio.events(mux))


def post_from_a_thread(mux, _):
    thread = threading.Thread(target=mux.post, args=(Own(),))
    thread.start()
    thread.join()


def close_behind_its_back(_, fh):
    fh.close()


def listen(mux, _):
    listener = mux.listen("tcp://127.0.0.1:0")
    with socket.create_connection(listener.getsockname()):
        pass


def connect_to_nobody(mux, _):
    mux.connect("unix:///nobody/is/here")


def put_off(mux, fh):
    """What is put off leaves when the mux turns, which nothing else would have it do."""
    mux.send(fh, b"x", later=True)
    mux.timer(0)


ASKED_OUTSIDE = {
    "send": (lambda mux, fh: mux.send(fh, b"x"), "sent"),
    "send later": (put_off, "timer"),
    "push_event": (lambda mux, _: mux.push_event(Own()), "own"),
    "post": (post_from_a_thread, "own"),
    "timer": (lambda mux, _: mux.timer(0), "timer"),
    "close": (lambda mux, fh: mux.close(fh), "closing"),
    "kill": (lambda mux, fh: mux.kill(fh), "closed"),
    "listen": (listen, "connect"),
    "connect": (connect_to_nobody, "error"),
    "closed without telling": (close_behind_its_back, "error"),
}


@pytest.mark.parametrize(
    ("do", "kind"),
    [
        pytest.param(*each, id=name, marks=[pytest.mark.slow] if "telling" in name else [])
        for name, each in ASKED_OUTSIDE.items()
    ],
)
def test_what_another_task_does_is_noticed(mux, pair, do, kind):
    async def main():
        iterator = eventmux.aio.events(mux)
        waiting = asyncio.create_task(iterator.__anext__())
        await until_it_waits(iterator)
        do(mux, pair[0])
        return await waiting

    assert run(main()).type == kind


def test_what_was_put_off_leaves(mux, pair):
    ours, theirs = pair
    theirs.setblocking(False)

    async def main():
        iterator = eventmux.aio.events(mux)
        waiting = asyncio.create_task(iterator.__anext__())
        await until_it_waits(iterator)
        mux.send(ours, b"x", later=True)
        assert await asyncio.get_running_loop().sock_recv(theirs, 9) == b"x"
        waiting.cancel()

    run(main())


def remove(mux, fh, timer):
    timer.cancel()
    mux.remove(fh)


def cancel(mux, fh, timer):
    mux.remove(fh)
    timer.cancel()


@pytest.mark.parametrize("do", [remove, cancel])
def test_it_ends_when_another_task_takes_the_last_thing_away(mux, pair, do):
    timer = mux.timer(3600)

    async def main():
        iterator = eventmux.aio.events(mux)
        ended = asyncio.create_task(all_of(iterator))
        await until_it_waits(iterator)
        do(mux, pair[0], timer)
        return await ended

    assert run(main()) == []


def test_other_tasks_have_their_turn(mux):
    """A mux that always has something does not keep the loop to itself."""
    count = 0

    async def main():
        nonlocal count
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        mux.push_event(Own())
        async for _ in eventmux.aio.events(mux):
            count += 1
            if turns >= 3:
                task.cancel()
                return
            mux.push_event(Own())

    run(main())
    assert 100 <= count <= 500


def test_slow_work_gives_others_a_turn_behind_each_event(clock):
    with EventMux(clock=clock) as mux:
        mux.push_event(Own(), Own(), Own())

        async def main():
            turns = []
            asyncio.get_running_loop().call_soon(turns.append, 1)
            async for _ in eventmux.aio.events(mux):
                clock.now += 1
                if turns:
                    return mux.has_events()
            return None

        assert run(main()) == 1


def is_watched(mux):
    """Whether the loop watches the mux; it does not any more behind this."""
    return asyncio.get_running_loop().remove_reader(mux.fileno())


def test_a_cancelled_wait_leaves_nothing_behind(mux, pair):
    async def main():
        iterator = eventmux.aio.events(mux)
        waiting = asyncio.create_task(iterator.__anext__())
        await until_it_waits(iterator)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not is_watched(mux)
        pair[1].send(b"x")
        assert (await iterator.__anext__()).type == "read"

    run(main())


def test_no_event_is_lost_with_a_wait_that_is_cancelled_as_it_comes(mux, pair):
    async def main():
        iterator = eventmux.aio.events(mux)
        waiting = asyncio.create_task(iterator.__anext__())
        await until_it_waits(iterator)
        mux.push_event(Own())  # it has been woken, and does not run yet
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return (await iterator.__anext__()).type

    assert run(main()) == "own"


def test_break_leaves_the_next_event_to_the_next_iterator(mux, pair):
    mux.push_event(Own(), Event())

    async def main():
        async for event in eventmux.aio.events(mux):
            assert event.type == "own"
            break
        assert not is_watched(mux)
        return await eventmux.aio.events(mux).__anext__()

    assert type(run(main())) is Event


def test_aclose_ends_who_waits(mux, pair):
    async def main():
        iterator = eventmux.aio.events(mux)
        ended = asyncio.create_task(all_of(iterator))
        await until_it_waits(iterator)
        await iterator.aclose()
        assert await ended == []
        assert not is_watched(mux)
        assert await all_of(iterator) == []
        eventmux.aio.events(mux)  # may be another one

    run(main())


def test_one_iterator_at_a_time(mux, pair):
    async def main():
        first = eventmux.aio.events(mux)
        with pytest.raises(RuntimeError, match=r"another iterator has the events of .*aclose\(\)"):
            eventmux.aio.events(mux)
        waiting = asyncio.create_task(first.__anext__())
        await until_it_waits(first)
        with pytest.raises(RuntimeError, match="another task waits"):
            await first.__anext__()
        waiting.cancel()
        with EventMux() as other:
            assert await all_of_new(other) == []

    run(main())


def test_a_mux_that_is_closed_meanwhile(pair, mux):
    async def main():
        iterator = eventmux.aio.events(mux)
        waiting = asyncio.create_task(iterator.__anext__())
        await until_it_waits(iterator)
        number = mux.fileno()
        mux.__exit__()
        # The number is free, and may be that of another one before the task runs.
        assert not asyncio.get_running_loop().remove_reader(number)
        with pytest.raises(RuntimeError, match="this mux is closed"):
            await waiting

    run(main())


def test_without_a_loop(mux):
    with pytest.raises(RuntimeError, match="no running event loop"):
        eventmux.aio.events(mux)


def test_in_another_loop(mux, pair):
    async def make():
        return eventmux.aio.events(mux)

    async def use(iterator):
        await iterator.__anext__()

    with pytest.raises(RuntimeError, match="belongs to another loop"):
        run(use(run(make())))


def test_a_selector_without_a_descriptor():
    async def main(mux):
        eventmux.aio.events(mux)

    with (
        EventMux(selector=selectors.SelectSelector()) as mux,
        pytest.raises(io.UnsupportedOperation, match="SelectSelector has no descriptor"),
    ):
        run(main(mux))


def test_what_reading_raises_comes_out(mux, pair):
    ours, theirs = pair

    def fail(*_):
        raise KeyError("no such session")

    mux.remove(ours)
    mux.add(ours, meta_handler=fail)
    theirs.send(b"x")

    async def main():
        async for event in eventmux.aio.events(mux):
            assert event.type == "ready"

    with pytest.raises(KeyError, match="no such session"):
        run(main())


def test_a_signal_is_an_event(mux):
    async def main():
        watch = mux.signal(signal.SIGUSR1)
        iterator = eventmux.aio.events(mux)
        waiting = asyncio.create_task(iterator.__anext__())
        await until_it_waits(iterator)
        os.kill(os.getpid(), signal.SIGUSR1)
        event = await waiting
        watch.cancel()
        return event.signum

    assert run(main()) == signal.SIGUSR1


def test_a_signal_of_the_mux_beside_one_of_the_loop(mux):
    async def main():
        of_loop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR2, of_loop.set)
        mux.signal(signal.SIGUSR1)
        iterator = eventmux.aio.events(mux)
        waiting = asyncio.create_task(iterator.__anext__())
        await until_it_waits(iterator)
        os.kill(os.getpid(), signal.SIGUSR2)
        await of_loop.wait()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert (await waiting).signum == signal.SIGUSR1
        loop.remove_signal_handler(signal.SIGUSR2)

    run(main())


def test_a_child_of_the_mux_beside_one_of_the_loop(mux):
    async def main():
        process = waiting_child("3")
        mux.child(process)
        iterator = eventmux.aio.events(mux)
        waiting = asyncio.create_task(iterator.__anext__())
        await until_it_waits(iterator)
        of_loop = await asyncio.create_subprocess_exec("false")
        assert await of_loop.wait() == 1
        process.stdin.close()
        event = await waiting
        return event.pid == process.pid, event.returncode

    assert run(main()) == (True, 3)


@pytest.mark.slow
def test_waiting_does_not_look_again_and_again(mux, pair, monkeypatch):
    looks = 0
    mux_mux = mux.mux

    def count(*timeouts):
        nonlocal looks
        looks += 1
        return mux_mux(*timeouts)

    monkeypatch.setattr(mux, "mux", count)
    mux.timer(0.5)

    async def main():
        return (await eventmux.aio.events(mux).__anext__()).type

    assert run(main()) == "timer"
    assert looks <= 6  # at first, after a tenth of a second, and when the timer is due


@pytest.mark.parametrize("count", quick_first([3, 300]))
def test_an_echo_server_with_clients_of_asyncio(mux, count):
    listener = mux.listen("tcp://127.0.0.1:0")

    async def serve():
        async for event in eventmux.aio.events(mux):
            if event.type == "read":
                mux.send(event.fh, event.data)

    async def ask(number):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        for line in (b"%d one\n" % number, b"%d two\n" % number):
            writer.write(line)
            assert await reader.readline() == line
        writer.close()
        await writer.wait_closed()

    async def main():
        server = asyncio.create_task(serve())
        await asyncio.gather(*map(ask, range(count)))
        server.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await server

    run(main())


def test_on_uvloop(mux, pair):
    uvloop = pytest.importorskip("uvloop")
    ours, theirs = pair

    async def main():
        iterator = eventmux.aio.events(mux)
        for do in (lambda: theirs.send(b"x"), lambda: mux.send(ours, b"x"), lambda: mux.timer(0)):
            waiting = asyncio.ensure_future(iterator.__anext__())
            await until_it_waits(iterator)
            do()
            seen.append((await waiting).type)

    seen = []
    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(main(), PATIENCE))
    finally:
        loop.close()
    assert seen == ["read", "sent", "timer"]


@pytest.mark.slow
def test_neither_package_loads_asyncio():
    code = "import sys, eventmux, rpcasync; print('asyncio' in sys.modules)"
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == "False\n"
