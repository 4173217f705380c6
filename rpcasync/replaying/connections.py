"""The connections of a replay: one for each client that was recorded.

So what a server keeps for a client is as it was. Only a program that is started has one connection
for all of them: it serves no more.

This file does not decide which call is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from eventmux import EventMux
from eventmux.buffers import Split
from eventmux.events import Event, Handle, Read
from rpcasync.client import Client
from rpcasync.recording.lines import Codec
from rpcasync.replaying.codecs import codec_for
from rpcasync.urls import is_stream_url

__all__ = ["Connections", "Place"]


class Place:
    """A client that was recorded, or all of them where the server is a program.

    `awaited` counts its calls that are to be answered, and `listening` has those whose functions
    are yet to be called. `since` says when the last one ended.
    """

    __slots__ = (
        *("awaited", "client", "codec", "has_answered", "is_known", "is_leaving", "key"),
        *("listening", "since"),
    )

    def __init__(self, key: tuple[int, int], codec: Codec) -> None:
        self.key = key
        self.codec = codec
        self.client: Client | None = None  # None: not connected
        self.has_answered = False  # the server has, on this connection
        self.is_known = False  # it had a connection
        self.is_leaving = False
        self.awaited = 0
        self.listening: dict[object, None] = {}
        self.since = 0.0


class Connections:
    """All connections to one server.

    Args:
        mux: what all of them are watched by.
        url: of the server.
        timeout: seconds for a call.
        say: gets the lines that a program prints on its pipes.
        options: what each `Client` is given besides.
    """

    def __init__(
        self,
        mux: EventMux[Event],
        url: str,
        timeout: float,
        say: Callable[[bytes], None],
        options: Mapping[str, Any],
    ) -> None:
        self._mux = mux
        self._url = url
        self._timeout = timeout
        self._say = say
        self._options = options
        self.is_shared = not is_stream_url(url)
        """All recorded clients are one."""
        self._places: dict[tuple[int, int], Place] = {}
        self._by_fh: dict[Handle, tuple[Client, Place]] = {}
        self._pipes: set[Handle] = set()
        self.count = 0
        """How many places had a connection."""
        self.fruitless = 0
        """How many connections have ended with nothing answered, one after the other."""

    @property
    def places(self) -> list[Place]:
        """The clients that make calls."""
        return [*self._places.values()]

    @property
    def are_closed(self) -> bool:
        """True once all have ended, and the programs that were started."""
        return not self._by_fh

    def place(self, session: int, client: int, codec: Codec) -> Place:
        """Return the place of a recorded client."""
        key = (0, 0) if self.is_shared else (session, client)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = Place(key, codec)
        return place

    def client_of(self, place: Place) -> Client:
        """Return the client that makes the calls, connected anew if its connection has ended.

        Raises:
            OSError: the program cannot be started, or no descriptor is free.
        """
        if place.client is None:
            codec = codec_for(place.codec)
            given = {"codec": codec, "timeout": self._timeout, **self._options}
            client = Client(self._mux, self._url, **given)
            self.count += not place.is_known
            place.client, place.has_answered, place.is_known = client, False, True
            self._by_fh[client.fh] = client, place
            for pipe in (client.stdout, client.stderr):
                if pipe is not None:
                    self._mux.add(pipe, buffered=Split())
                    self._pipes.add(pipe)
        return place.client

    def note_answer(self, place: Place) -> None:
        """Note that the server answers."""
        place.has_answered, self.fruitless = True, 0

    def leave(self, place: Place) -> None:
        """Have a recorded client disconnect."""
        self._places.pop(place.key, None)
        place.is_leaving = True
        if place.client is not None:
            place.client.disconnect()

    def io(self, event: Event) -> None:
        """Take an event."""
        if event.fh in self._pipes:
            if isinstance(event, Read):
                self._say(event.data)
            return
        client, place = self._by_fh.get(cast("Handle", event.fh), (None, None))
        if client is None or place is None:
            return
        if event.type == "closed" and place.client is client:
            place.client = None  # the next call connects again
            self.fruitless += not (place.has_answered or place.is_leaving)
        client.io(event)
        if event.type == ("closed" if client.process is None else "child"):
            self._by_fh.pop(client.fh, None)
