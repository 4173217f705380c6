"""JSON with its length in front, on bare selectors: the floor.

It has what pays and nothing else: reads of 64 KB, the C halves of `json` called directly, one send
for all that a read brought. It is no library: there are no callbacks, no checks of arguments, no
limits, and it knows of no errors.
"""

from __future__ import annotations

import itertools
import json
import selectors
import socket
import struct
from collections.abc import Callable
from json import encoder
from typing import Any

from benchmarks.meter import PAYLOAD, Meter

_READ_SIZE = 65536
_HEADER = struct.Struct("!I")
_pack, _unpack_from = _HEADER.pack, _HEADER.unpack_from
_scan: Any = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
_make: Any = encoder.c_make_encoder  # type: ignore[attr-defined]
_encode = _make(None, None, encoder.encode_basestring_ascii, None, ":", ",", False, False, True)


class _Connection:
    """Messages of one socket. What does not leave at once waits until it can."""

    def __init__(
        self,
        sock: socket.socket,
        selector: selectors.BaseSelector,
        receive: Callable[[Any, list[bytes]], None],
    ) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._selector = selector
        self._receive = receive  # takes a message, and adds what it sends to a list
        self._rest = b""
        self._unsent = b""
        selector.register(sock, selectors.EVENT_READ, self._ready)

    def _ready(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self.send([])
        if mask & selectors.EVENT_READ:
            self._read()

    def _read(self) -> None:
        try:
            data = self._sock.recv(_READ_SIZE)
        except ConnectionResetError:
            data = b""
        if not data:
            self._selector.unregister(self._sock)
            self._sock.close()
            return
        if self._rest:
            data = self._rest + data
        out: list[bytes] = []
        start, size, receive = 0, len(data), self._receive
        while size - start >= 4:
            end = start + 4 + _unpack_from(data, start)[0]
            if end > size:
                break
            receive(_scan(data[start + 4 : end].decode(), 0)[0], out)
            start = end
        self._rest = data[start:]
        if out:
            self.send(out)

    def send(self, out: list[bytes]) -> None:
        waited = bool(self._unsent)
        data = self._unsent + b"".join(out)
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        self._unsent = data[sent:]
        if bool(self._unsent) != waited:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
            self._selector.modify(self._sock, events, self._ready)


def _append(out: list[bytes], message: tuple[object, ...]) -> None:
    body = "".join(_encode(message, 0)).encode()
    out.append(_pack(len(body)))
    out.append(body)


def _add_numbers(n1: int, n2: int) -> dict[str, int]:
    return {"sum": n1 + n2}


def _echo(s: str) -> dict[str, str]:
    return {"s": s}


_PROCEDURES: dict[str, Any] = {"add_numbers": _add_numbers, "echo": _echo}


class SelectorsJSON:
    """The floor, both ends."""

    def serve(self, port: int) -> None:
        """Serve until the process is ended."""
        selector = selectors.DefaultSelector()
        listener = socket.create_server(("127.0.0.1", port), backlog=1024)

        def receive(message: Any, out: list[bytes]) -> None:
            id, name, args = message
            _append(out, (id, _PROCEDURES[name](**args)))

        def accept(_mask: int) -> None:
            _Connection(listener.accept()[0], selector, receive)

        selector.register(listener, selectors.EVENT_READ, accept)
        _loop(selector)

    def drive(self, port: int, meter: Meter) -> None:
        """Ask for ever: each answer makes the next call."""
        selector = selectors.DefaultSelector()
        shape = meter.shape
        for _ in range(shape.connections):
            sock = socket.create_connection(("127.0.0.1", port))
            receive = _echoing(meter) if shape.echo else _adding(meter)
            connection = _Connection(sock, selector, receive)
            out: list[bytes] = []
            for _ in range(shape.in_flight):
                receive(None, out)
            connection.send(out)
        meter.start()
        _loop(selector)


def _adding(meter: Meter) -> Callable[[Any, list[bytes]], None]:
    pairs, ids, tally = meter.pairs, itertools.count(), meter.tally()
    pending: dict[int, int] = {}

    def receive(message: Any, out: list[bytes]) -> None:
        """Take an answer, None for the first calls; make the next call."""
        if message is not None:
            tally.check(pending.pop(message[0]), message[1]["sum"])
        n1, n2 = next(pairs)
        id = next(ids)
        pending[id] = n1 + n2
        _append(out, (id, "add_numbers", {"n1": n1, "n2": n2}))

    return receive


def _echoing(meter: Meter) -> Callable[[Any, list[bytes]], None]:
    tally = meter.tally()

    def receive(message: Any, out: list[bytes]) -> None:
        if message is not None:
            tally.check(PAYLOAD, message[1]["s"])
        _append(out, (1, "echo", {"s": PAYLOAD}))

    return receive


def _loop(selector: selectors.BaseSelector) -> None:
    while True:
        for key, mask in selector.select():
            key.data(mask)
