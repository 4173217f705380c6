"""Turning a mux by hand: take what is there, or wait for one thing with a limit.

`PATIENCE` is only ever used up by a test that fails: events of the kernel that a test waits for
are on their way already.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Iterable

import pytest

from eventmux import Event, EventMux, Timeout

PATIENCE = 10
# What a mux can wait with: the best one that the platform has, then those that are everywhere.
SELECTORS = [
    getattr(selectors, name)
    for name in ("DefaultSelector", "PollSelector", "SelectSelector")
    if hasattr(selectors, name)
]
# For tests that have another subject: the first shows it, and .ci/run repeats it with the others.
SELECTORS_IN_TURN = [
    SELECTORS[0],
    *(pytest.param(kind, marks=pytest.mark.slow) for kind in SELECTORS[1:]),
]


def kinds(events: Iterable[Event | None]) -> list[str | None]:
    """Return the types of events, in order."""
    return [None if event is None else event.type for event in events]


def drain(mux: EventMux) -> list[Event]:
    """Return all events that come without waiting.

    A turn may read half a record, which is no event, so one timeout is not yet the end.
    """
    events: list[Event] = []
    idle = 0
    while idle < 3:
        event = mux.mux(0)
        if isinstance(event, Timeout):
            idle += 1
            continue
        assert event is not None
        idle = 0
        events.append(event)
        assert len(events) < 10_000, "events without end"
    return events


def until(mux: EventMux, kind: str, fh: object = None) -> list[Event]:
    """Return the events up to the first of this type (and handle), waiting for it."""
    events: list[Event] = []
    while True:
        event = mux.mux(PATIENCE if mux.handles() else 0)
        assert not isinstance(event, Timeout), f"no {kind}, only {kinds(events)}"
        assert event is not None, f"no {kind}, only {kinds(events)}"
        events.append(event)
        if event.type == kind and fh in (None, event.fh):
            return events


def take(mux: EventMux, count: int) -> list[Event]:
    """Return this many events, waiting for them."""
    events: list[Event] = []
    for _ in range(count):
        event = mux.mux(PATIENCE)
        assert not isinstance(event, Timeout), f"only {kinds(events)}"
        assert event is not None, f"only {kinds(events)}"
        events.append(event)
    return events


def receive(sock: socket.socket) -> bytes:
    """Read all that is there now, or until the end."""
    sock.setblocking(False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while chunk := sock.recv(1_000_000):
            data += chunk
    return data
