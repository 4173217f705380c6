"""The programs that `bench_rpc.py` measures: a server and a client of each kind.

Each runs in a process of its own and serves or makes calls of `add_numbers(n1, n2)`:

    storable, json    rpcasync with that codec, by its public API alone
    asyncio           by hand: `asyncio.Protocol`, JSON with its length in front, a write for each
                      message and a future for each call, as one writes it who needs no more

A server takes one client, announces its port on stdout, and ends when that client has gone. A
client prints its calls per second. It exits at the first sum that is wrong, so a rate that is
printed is one of right answers. This file knows nothing of rounds, ratios and tables.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import random
import signal
import struct
import sys
from time import perf_counter
from typing import Any, Protocol, cast

from eventmux import EventMux
from rpcasync import Caller, Client, Server

ASYNCIO = "asyncio"
CODECS = ("storable", "json")

_HOST = "127.0.0.1"
_PATIENCE = 10.0  # seconds for what should be there at once
_HEADER = struct.Struct("!I")


class Tally:
    """What a client asks for, and how many right answers it got."""

    def __init__(self) -> None:
        source = random.Random(1)
        pairs = [(source.randrange(1000), source.randrange(1000)) for _ in range(1000)]
        self.pairs = itertools.cycle(pairs)
        self.calls = 0

    def count(self, expected: int, found: object) -> None:
        """Count an answer; end the process if it is wrong."""
        if found != expected:
            print(f"wrong sum: {found!r}, expected {expected}", file=sys.stderr, flush=True)
            os._exit(1)  # an exception would have to find its way out of callbacks and tasks
        self.calls += 1


class Load(Protocol):
    """A client that keeps its server busy."""

    def run(self, seconds: float) -> None:
        """Make calls for that long."""
        ...

    def finish(self) -> None:
        """Wait for the answers that are still to come, and disconnect."""
        ...


# rpcasync


def serve_rpcasync() -> None:
    """Serve one client."""
    mux = EventMux()

    def rpc_add_numbers(caller: Caller, n1: int, n2: int) -> None:
        rpc.return_(caller, sum=n1 + n2)

    rpc = Server(mux, {"rpc_add_numbers": rpc_add_numbers})
    _announce(rpc.listen(f"tcp://{_HOST}:0").getsockname()[1])
    rpc.io(mux.mux())  # the client connects
    rpc.close_listeners()
    while rpc.has_clients():
        rpc.io(mux.mux())


class Sequence:
    """One call after the other, with `Call.result()`."""

    def __init__(self, tally: Tally, port: int, codec: str) -> None:
        self._tally = tally
        self._rpc = Client(EventMux(), f"tcp://{_HOST}:{port}", codec=codec)

    def run(self, seconds: float) -> None:
        """Make calls for that long."""
        end = perf_counter() + seconds
        while perf_counter() < end:
            n1, n2 = next(self._tally.pairs)
            reply = self._rpc.add_numbers(n1=n1, n2=n2).result()
            self._tally.count(n1 + n2, reply["sum"])

    def finish(self) -> None:
        """Disconnect."""
        self._rpc.disconnect()


class Window:
    """A number of calls in flight, with callbacks: each answer makes the next call."""

    def __init__(self, tally: Tally, port: int, codec: str, in_flight: int) -> None:
        self._tally = tally
        self._mux = EventMux()
        self._rpc = Client(self._mux, f"tcp://{_HOST}:{port}", codec=codec)
        self._ending = False
        for _ in range(in_flight):
            self._call()

    def _call(self) -> None:
        n1, n2 = next(self._tally.pairs)
        self._rpc.add_numbers(lambda sum: self._done(n1 + n2, sum), n1=n1, n2=n2)

    def _done(self, expected: int, found: object) -> None:
        self._tally.count(expected, found)
        if not self._ending:
            self._call()

    def run(self, seconds: float) -> None:
        """Make calls for that long."""
        end = perf_counter() + seconds
        while perf_counter() < end:
            self._rpc.io(self._mux.mux())

    def finish(self) -> None:
        """Wait for the answers that are still to come, and disconnect."""
        self._ending = True
        if not self._rpc.wait(_PATIENCE):
            sys.exit(f"{len(self._rpc.dump_requests())} calls were not answered")
        self._rpc.disconnect()


# asyncio, by hand


class JSONStream(asyncio.Protocol):
    """JSON messages with their length in front; what they mean is the subclass's affair."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, message: object) -> None:
        body = json.dumps(message).encode()
        self._transport.write(_HEADER.pack(len(body)) + body)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _HEADER.size:
            body = start + _HEADER.size
            end = body + _HEADER.unpack_from(buffer, start)[0]
            if end > len(buffer):
                break
            self.receive(json.loads(buffer[body:end]))
            start = end
        del buffer[:start]

    def receive(self, message: Any) -> None:
        raise NotImplementedError


class AsyncioServer(JSONStream):
    def __init__(self, done: asyncio.Future[None]) -> None:
        super().__init__()
        self._done = done
        self._procedures = {"add_numbers": self._add_numbers}

    def receive(self, message: Any) -> None:
        id, name, args = message
        self.send([id, self._procedures[name](**args)])

    def _add_numbers(self, n1: int, n2: int) -> dict[str, int]:
        return {"sum": n1 + n2}

    def connection_lost(self, _error: Exception | None) -> None:
        self._done.set_result(None)


class AsyncioClient(JSONStream):
    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count()
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}

    def call(self, procedure: str, **args: object) -> asyncio.Future[dict[str, Any]]:
        id = next(self._ids)
        future = self._pending[id] = self._loop.create_future()
        self.send([id, procedure, args])
        return future

    def receive(self, message: Any) -> None:
        id, answer = message
        self._pending.pop(id).set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        for future in self._pending.values():
            future.set_exception(error or ConnectionError("the server closed the connection"))

    def close(self) -> None:
        self._transport.close()


async def serve_asyncio() -> None:
    """Serve one client."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    server = await loop.create_server(lambda: AsyncioServer(done), _HOST, 0)
    _announce(server.sockets[0].getsockname()[1])
    await done
    server.close()


class Workers:
    """A number of calls in flight: as many tasks, each with one call after the other."""

    def __init__(self, tally: Tally, port: int, in_flight: int) -> None:
        self._tally = tally
        self._loop = asyncio.new_event_loop()
        connecting = self._loop.create_connection(AsyncioClient, _HOST, port)
        _, self._rpc = self._loop.run_until_complete(connecting)
        self._ending = False
        self._tasks = [self._loop.create_task(self._work()) for _ in range(in_flight)]

    async def _work(self) -> None:
        while not self._ending:
            n1, n2 = next(self._tally.pairs)
            answer = await self._rpc.call("add_numbers", n1=n1, n2=n2)
            self._tally.count(n1 + n2, answer["sum"])

    def run(self, seconds: float) -> None:
        """Make calls for that long."""
        self._loop.run_until_complete(asyncio.sleep(seconds))

    def finish(self) -> None:
        """Wait for the answers that are still to come, and disconnect."""
        self._ending = True
        self._loop.run_until_complete(self._join())
        self._loop.close()

    async def _join(self) -> None:
        await asyncio.wait_for(asyncio.gather(*self._tasks), _PATIENCE)
        self._rpc.close()
        await asyncio.sleep(0)  # the transport closes its socket in the next turn


# The process


def _announce(port: int) -> None:
    print(port, flush=True)


def _load(tally: Tally, peer: str, port: int, in_flight: int) -> Load:
    if peer == ASYNCIO:
        return Workers(tally, port, in_flight)
    return Sequence(tally, port, peer) if in_flight == 1 else Window(tally, port, peer, in_flight)


def _measure(peer: str, port: int, in_flight: int, warmup: float, seconds: float) -> float:
    """Return calls per second."""
    tally = Tally()
    load = _load(tally, peer, port, in_flight)
    load.run(warmup)
    calls, start = tally.calls, perf_counter()
    load.run(seconds)
    rate = (tally.calls - calls) / (perf_counter() - start)
    load.finish()
    return rate


def main(role: str, peer: str, *args: str) -> None:
    """Be a server, or a client: `serve PEER` or `call PEER PORT IN_FLIGHT WARMUP SECONDS`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is bench_rpc.py's to report
    if role == "call":
        port, in_flight, warmup, seconds = map(float, args)
        signal.alarm(math.ceil(warmup + seconds + 2 * _PATIENCE))  # the end, if an answer is lost
        print(_measure(peer, int(port), int(in_flight), warmup, seconds))
    elif peer == ASYNCIO:
        asyncio.run(serve_asyncio())
    else:
        serve_rpcasync()


if __name__ == "__main__":
    main(*sys.argv[1:])
