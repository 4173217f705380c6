"""Clients that wait, in threads and in a loop of asyncio, with a server that sends an input.

Whatever they hear, each of their calls ends, nothing is left of it, and nobody else is told: not
the loop's handler of exceptions, and not Python, of what a thread has not caught.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import rpcasync.aio
from fuzz import packets
from fuzz.cutting import framed
from fuzz.endpoints import Log
from fuzz.mutators import cut
from fuzz.targets import Target, check, drawn_from
from rpcasync import BlockingClient
from rpcasync.errors import RPCError

__all__ = ["WAITING"]

_PATIENCE = 20.0  # seconds until something has not happened
_PIECE = 65_536  # bytes that are read at a time


class _Waiting(Target):
    """What both have in common."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = framed()

    def make(self, source: Random) -> bytes:
        """Return a stream of answers."""
        return packets.packets(source, packets.reply)


def _codec_of(data: bytes) -> str:
    return "json" if data[4:5] in (b"[", b"{") else "storable"


def _outcome(results: list[object]) -> str:
    return " ".join(sorted({f"{type(each).__name__} {str(each)[:12]}" for each in results}))


class Awaited(_Waiting):
    """An `AsyncClient`: all its tasks end, and the loop hears nothing of it."""

    def begin(self) -> None:
        """Make a loop for all clients."""
        self._loop = asyncio.new_event_loop()
        self._reports: list[Any] = []
        self._loop.set_exception_handler(lambda _, context: self._reports.append(context))
        self._log = Log().start()

    def close(self) -> None:
        """Close everything."""
        self._log.stop()
        self._loop.close()

    def run(self, data: bytes) -> str:
        """Send it as a server."""
        results = self._loop.run_until_complete(self._talk(data))
        check(not asyncio.all_tasks(self._loop), "a task is left", asyncio.all_tasks(self._loop))
        reports, self._reports = self._reports, []
        check(not reports, "the loop is told", reports)
        self._log.check()
        return _outcome(results)

    def read(self, data: bytes) -> None:
        """Do so without what is large for other reasons."""
        self._loop.run_until_complete(self._talk(data, is_measured=True))

    async def _talk(self, data: bytes, *, is_measured: bool = False) -> list[object]:
        source = drawn_from(data)
        ours, hostile = socket.socketpair()
        hostile.setblocking(False)
        codec = _codec_of(data)
        async with rpcasync.aio.connect(ours, codec=codec, max_packet=2**21) as rpc:
            connection = rpc._connection
            tasks = [asyncio.ensure_future(each) for each in _calls_of(rpc)]
            if source.random() < 0.1 and not is_measured:  # more than the socket takes
                tasks.append(asyncio.ensure_future(rpc.put("x" * 500_000)))
            await asyncio.sleep(0)
            for piece in cut(source, data):
                await self._send(hostile, piece)
                if source.random() < 0.05:
                    source.choice(tasks).cancel()
            dice = source.random()
            if dice < 0.7:
                hostile.close()
            elif dice < 0.8:  # it hears us, and says no more
                hostile.shutdown(socket.SHUT_WR)
                while await self._hear(hostile):
                    pass
            else:  # it is we who end it, and it does not listen
                await rpc.close(grace=0)
            _, late = await asyncio.wait(tasks, timeout=_PATIENCE)
            check(not late, "a call does not end", late)
        hostile.close()
        check(not connection.pending, "a call is pending", connection.pending)
        check(not connection.crowd and not connection.workers, "something is left of a call")
        counts = connection._held, connection._inside
        check(counts == (0, 0), "something is still counted", counts)
        return [None if task.cancelled() else task.exception() or task.result() for task in tasks]

    async def _send(self, sock: socket.socket, data: bytes) -> None:
        """Send what is taken, and read what comes."""
        stuck = 0
        while data and stuck < 1000:
            try:
                data = data[sock.send(data) :]
                stuck = 0
            except BlockingIOError:
                stuck += 1  # a client whose callbacks have much to do takes no more
            except OSError:
                return
            await self._hear(sock)

    async def _hear(self, sock: socket.socket) -> bool:
        """Read what there is; return whether more may come."""
        await asyncio.sleep(0)
        try:
            return bool(sock.recv(_PIECE))
        except BlockingIOError:
            return True
        except OSError:
            return False


async def _sleep(*_: object, **__: object) -> None:
    await asyncio.sleep(0)


async def _none() -> None:
    """Be a coroutine function that takes no values."""


def _calls_of(rpc: Any) -> list[Awaitable[object]]:
    """Make the calls, with callbacks of all kinds; none of them raises anything of its own."""

    async def again(*_: object, **__: object) -> None:
        with contextlib.suppress(RPCError):
            await asyncio.wait_for(rpc.add(n1=1), 0.001)

    return [
        rpc.add(n1=1, n2=2),
        rpc.follow(news=print_nothing, ends=_sleep),
        rpc.follow([_none, {"key": lambda x, /: x}]),
        rpc.follow(again=again),
    ]


def print_nothing(text: object = None, /, **more: object) -> None:
    """Be a function that a server may call."""


class Blocked(_Waiting):
    """A `BlockingClient` in two threads: all calls end, and so do both threads."""

    def begin(self) -> None:
        """Look at what is logged, and at what threads do not catch."""
        self._log = Log().start()
        self._uncaught: list[object] = []
        self._old_hook = threading.excepthook
        threading.excepthook = lambda found: self._uncaught.append(found.exc_value)

    def close(self) -> None:
        """Put everything back."""
        self._log.stop()
        threading.excepthook = self._old_hook

    def run(self, data: bytes) -> str:
        """Send it as a server."""
        source = drawn_from(data)
        ours, hostile = socket.socketpair()
        results: list[object] = []
        rpc = BlockingClient(ours, codec=_codec_of(data), max_packet=2**21, timeout=_PATIENCE)
        threads = [
            threading.Thread(target=self._feed, args=(hostile, cut(source, data))),
            threading.Thread(target=self._drain, args=(hostile,)),
            threading.Thread(target=_call, args=(rpc, results)),
        ]
        for thread in threads:
            thread.start()
        _call(rpc, results)
        rpc.close()
        for thread in threads:
            thread.join(_PATIENCE)
            check(not thread.is_alive(), "a thread does not end", thread)
        hostile.close()
        uncaught, self._uncaught = self._uncaught, []
        check(not uncaught, "a thread has not caught", uncaught)
        late = [each for each in results if "no answer within" in str(each)]
        check(not late and len(results) == 4, "a call is not told of the end", results)
        check(rpc._lead.leader is None and not rpc._lead.waiting, "somebody leads, or waits")
        self._log.check()
        return _outcome(results)

    def _feed(self, sock: socket.socket, pieces: list[bytes]) -> None:
        with contextlib.suppress(OSError):
            for piece in pieces:
                sock.sendall(piece)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)

    def _drain(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while sock.recv(_PIECE):
                pass


def _call(rpc: BlockingClient, results: list[object]) -> None:
    for values in ([print_nothing, {"key": [lambda *values: rpc.closed]}], [lambda x, /: x]):
        try:
            results.append(rpc.follow(*values))
        except RPCError as error:
            results.append(error)


WAITING: dict[str, Callable[[], Target]] = {"awaited": Awaited, "blocked": Blocked}
"""What makes the targets of this file, by name."""
