"""A server and a client of it on one mux."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eventmux import EventMux
from rpcasync import Client, Server


class Ends:
    """A server and a client of it on one mux, with the procedures of a test."""

    def __init__(self, **procedures: Callable[..., object]) -> None:
        self.mux = EventMux()
        self.server = Server(self.mux, {f"rpc_{name}": f for name, f in procedures.items()})
        self.ours, theirs = socket.socketpair()
        self.server.add_client(theirs)
        self.client = Client(self.mux, self.ours)

    def turn(self) -> None:
        """Do what is to be done, without waiting."""
        while (event := self.mux.mux(0)).type != "timeout":
            self.client.io(self.server.io(event))


@contextmanager
def making_ends() -> Iterator[Callable[..., Ends]]:
    """Give what makes them; they are closed at the end."""
    made: list[Ends] = []

    def make(**procedures: Callable[..., object]) -> Ends:
        made.append(Ends(**procedures))
        return made[-1]

    yield make
    for each in made:
        each.mux.__exit__()
