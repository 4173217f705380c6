"""Connections over TCP for tests of the mux: how both ends meet, and how one goes."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
from support.pump import kinds, receive, take

from eventmux import Event, EventMux
from rpcasync import Client


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()
    return f"tcp://{host}:{port}"


def unused_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return url_of(server)


def meet(mux: EventMux, **options: Any) -> tuple[socket.socket, socket.socket, socket.socket]:
    """Connect over TCP; return the listener, the connection and what was accepted."""
    listener = mux.listen("tcp://127.0.0.1:0", **options)
    fh = mux.connect(url_of(listener))
    events = take(mux, 2)
    accepted: Any = next(event.fh for event in events if event.type == "connect")
    return listener, fh, accepted


def reset(sock: socket.socket) -> None:
    """Close a TCP socket so that the peer gets a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def leave_by_reset(client: Client) -> None:
    """Have a client go as one does whose process ends with unread input: all is lost."""
    client.fh.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.disconnect()


def exchange(mux: EventMux, fh: socket.socket, peer: socket.socket) -> tuple[list[Event], bytes]:
    """Let a peer read while a handle drains; return the events up to `Closed`, and the data."""
    events: list[Event] = []
    data = b""
    for _ in range(10_000):
        event = mux.mux(0)
        assert event is not None
        if event.fh is fh:
            events.append(event)
        data += receive(peer)
        if event.type == "closed":
            return events, data
    pytest.fail(f"no closed, only {kinds(events)}")
