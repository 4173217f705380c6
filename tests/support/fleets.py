"""Servers in a thread of their own, which come and go at addresses that stay."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from support.pump import PATIENCE

from eventmux import Event, EventMux, URLError
from rpcasync import Caller, Server

# What connect() refuses: its server, its options beside a good `reconnect`, and how it says so.
WRONG_OPTIONS: list[tuple[str | list[str], dict[str, Any], type[Exception], str]] = [
    (["tcp://x:1"], {"reconnect": None}, TypeError, "several URLs are for reconnect=$"),
    ("tcp://x:1", {"reconnect": None, "retry": "unsent"}, TypeError, "is for reconnect=$"),
    ("tcp://x:1", {"reconnect": 3}, TypeError, "^reconnect is 3, must be a Backoff"),
    ("tcp://x:1", {"retry": "all"}, ValueError, "^retry is 'all'"),
    ([], {}, ValueError, "^server is an empty list"),
    (["tcp://x:1", "python://x.py"], {}, URLError, "python"),
]


class Order(Event):
    """Something for the thread of the servers to do."""

    type: ClassVar[Literal["order"]] = "order"

    def __init__(self, function: Callable[[], object]) -> None:
        super().__init__()
        self.function = function


class Procedures:
    """What each server does. `ran` and `parked` are of all of them."""

    def __init__(self, fleet: Fleet, index: int) -> None:
        self.fleet = fleet
        self.index = index
        self.server: Server

    def note(self, *values: object) -> None:
        with self.fleet.has_changed:
            self.fleet.ran.append((self.index, *values))
            self.fleet.has_changed.notify_all()

    def rpc_add(self, caller: Caller, n1: int, n2: int) -> None:
        self.note("add", n1, n2)
        self.server.return_(caller, sum=n1 + n2)

    def rpc_park(self, caller: Caller, *values: object) -> None:
        self.fleet.parked.append((self.server, caller))
        self.note("park", *values)

    def rpc_count(self, caller: Caller, upto: int, tell: Callable[..., object]) -> None:
        for number in range(upto):
            tell(number)
        self.server.return_(caller, upto=upto)

    def rpc_ask(self, caller: Caller, tell: Callable[..., object]) -> None:
        tell("no", "number", "is")
        self.rpc_park(caller, "ask")


class Fleet(threading.Thread):
    """Several servers; those that are not up have an address where nobody listens."""

    def __init__(self, count: int = 1, up: tuple[int, ...] = ()) -> None:
        super().__init__(daemon=True)
        self.mux: EventMux[Any] = EventMux()
        self.has_changed = threading.Condition()
        self.ran: list[tuple[object, ...]] = []
        self.parked: list[tuple[Server, Caller]] = []
        self.servers: dict[int, Server] = {}
        self.places = [socket.socket() for _ in range(count)]
        for place in self.places:
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # keeps the port for us
            place.bind(("127.0.0.1", 0))
        self.urls = [f"tcp://127.0.0.1:{place.getsockname()[1]}" for place in self.places]
        self._all: list[Server] = []
        self._is_over = False
        self.start()
        for index in up:
            self.up(index)

    def run(self) -> None:
        with self.mux:
            while not self._is_over:
                event = self.mux.mux(PATIENCE)
                for server in self._all:
                    event = server.io(event)
                if isinstance(event, Order):
                    event.function()

    def do(self, function: Callable[[], object]) -> None:
        """Have the thread do something, and wait until it has."""
        done = threading.Event()

        def act() -> None:
            function()
            done.set()

        self.mux.post(Order(act))
        assert done.wait(PATIENCE)

    def up(self, index: int = 0, **options: Any) -> None:
        """Start a server, in the place of what the test has had listen there."""
        place = self.places[index]
        if place.fileno() >= 0 and place.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            place.close()

        def act() -> None:
            procedures = Procedures(self, index)
            server = procedures.server = Server(self.mux, procedures, slow=None)
            server.listen(self.urls[index], reuse_port=True, **options)
            self.servers[index] = server
            self._all.append(server)

        self.do(act)

    def hang_up(self, index: int = 0) -> None:
        """Drop the clients of a server."""
        self.do(lambda: self._drop(index))

    def _drop(self, index: int) -> None:
        for fh in [*self.servers[index].clients]:
            self.mux.kill(fh)

    def down(self, index: int = 0) -> None:
        """End a server, as a crash does."""

        def act() -> None:
            self.servers[index].close_listeners()
            self._drop(index)

        self.do(act)

    def drain(self, index: int = 0) -> None:
        """Have a server leave in good order; its clients have been told."""
        server, queued = self.servers[index], [1]
        self.do(lambda: server.drain(PATIENCE))
        while any(queued):
            self.do(lambda: queued.__setitem__(slice(None), map(self.mux.buflen, server.clients)))

    def count_clients(self, index: int = 0) -> int:
        return len(self.servers[index].clients)

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so that calls have brought about."""
        with self.has_changed:
            assert self.has_changed.wait_for(is_so, PATIENCE), self.ran

    def answer(self, **values: object) -> None:
        """Answer the oldest call of `park()`."""
        server, caller = self.parked.pop(0)
        self.do(lambda: server.return_(caller, **values))

    def _end(self) -> None:
        self._is_over = True

    def stop(self) -> None:
        self.mux.post(Order(self._end))
        self.join()
        for place in self.places:
            place.close()
