"""Busy clients, for servers that come and go."""

from __future__ import annotations

import time
from collections.abc import Callable

from support.programs import LIMIT

from eventmux import EventMux
from eventmux.events import Event
from rpcasync import Backoff, Client, RPCError


class Load:
    """Clients, each of which calls again as soon as it has its answer."""

    def __init__(self, mux: EventMux, urls: list[str], count: int) -> None:
        self.mux = mux
        self.answers = 0
        self.errors: list[RPCError] = []
        self.is_on = True
        self.clients = [
            Client(mux, urls[at % 2 :] + urls[: at % 2], reconnect=Backoff(0.01, 0.1))
            for at in range(count)
        ]
        for client in self.clients:
            self.call(client)

    def call(self, client: Client) -> None:
        def done(sum: int | None = None, error: RPCError | None = None) -> None:
            if error is not None:
                self.errors.append(error)
            else:
                assert sum == 5
                self.answers += 1
            if self.is_on:
                self.call(client)

        client.add_numbers("n1", 2, "n2", 3, done)

    def turn_until(self, is_over: Callable[[], bool]) -> None:
        limit = time.monotonic() + LIMIT
        while not is_over():
            assert time.monotonic() < limit, (self.answers, self.errors[:3])
            event: Event | None = self.mux.mux(0.05)
            for client in self.clients:
                if event is not None:
                    event = client.io(event)

    def answer_more(self, count: int) -> None:
        goal = self.answers + count
        self.turn_until(lambda: self.answers >= goal)

    def pid(self) -> int:
        """Return the process that the first client talks to."""
        call = self.clients[0].whoami()
        self.turn_until(lambda: call.done)
        return int(call.result()["pid"])

    def end(self) -> None:
        """Wait for the last answers, and disconnect."""
        self.is_on = False
        self.turn_until(lambda: not any(client.has_requests() for client in self.clients))
        print(f"{self.answers} calls, {len(self.errors)} failed")
        for client in self.clients:
            client.disconnect()
