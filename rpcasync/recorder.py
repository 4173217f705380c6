"""Watches the calls of a server and writes them to a recording.

A line is made when its call has ended, out of what was noted when it came, and leaves with the next
`flush()`. Whoever turns the loop flushes before it waits: then all that a client may have seen is
in the file, but for what a turn of many answers has sent before its end.

It never harms a call: what cannot be written is left out, and said to be so.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from rpcasync.coderefs import Coderef
from rpcasync.errors import DecodeError
from rpcasync.recording.lines import LONGEST_PART, Codec, Ending, Parts
from rpcasync.recording.redaction import Redaction
from rpcasync.recording.tagged import to_text
from rpcasync.recording.writer import Writer
from rpcasync.serving.callers import Caller, Dropped
from rpcasync.serving.peer import Peer
from rpcasync.storable._typed import MINOR
from rpcasync.wire.codecs import JSONCodec, StorableCodec
from rpcasync.wire.leaves import map_leaves
from rpcasync.wire.messages import Id, failure_text

__all__ = ["Recorder"]

_LONGEST_NAME = 1000  # characters of a procedure's name
_MOST_KEPT = 64 * 1024 * 1024  # characters of calls that have not ended
_STORABLE, _JSON = StorableCodec(), JSONCodec()


@dataclass(slots=True)
class _Part:
    """Values as they are to stand in a line: JSON, or why not."""

    text: str | None = None
    size: int = 0  # of what is left out, -1 for what cannot be written
    is_redacted: bool = False


@dataclass(slots=True)
class _Open:
    """A call that has come, and not ended."""

    client: int
    number: int
    procedure: str
    at: float
    codec: Codec
    arguments: _Part
    has_ended: bool = False
    callbacks: list[str] = field(default_factory=list)
    callbacks_size: int = 0
    callbacks_redacted: bool = False


@dataclass(slots=True)
class _Client:
    number: int
    calls: dict[Id, _Open] = field(default_factory=dict)
    functions: dict[Id, _Open] = field(default_factory=dict)  # with which call each was passed


class Recorder:
    """Watches a server: `server._forwarding.watch(recorder)`.

    Args:
        writer: where the lines go.
        redaction: what must not be in them.
        is_lost: says of a call whether it is answered by us, since the server behind has not.
        clock: seconds that only grow.
        now: seconds since 1970.
    """

    def __init__(
        self,
        writer: Writer,
        redaction: Redaction,
        *,
        is_lost: Callable[[object], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.counts: Counter[str] = Counter()
        """How many `calls` and `clients` came, and calls were `written`, also `late` ones of
        callbacks; how many of them were `redacted`, `skipped` in part, or `unanswered`."""
        self._writer = writer
        self._redaction = redaction
        self._is_lost = is_lost
        self._clock = clock
        self._start, self._wall = clock(), now()
        self._clients: dict[Peer, _Client] = {}
        self._kept = 0  # characters of calls that have not ended

    @property
    def under_way(self) -> int:
        """How many calls have come and not ended."""
        return sum(len(client.calls) for client in self._clients.values())

    def flush(self) -> None:
        """Have what is known so far in the file."""
        self._writer.flush()

    def close(self) -> None:
        """Write the calls that have not ended, and close the file."""
        for peer in list(self._clients):
            self._leave(peer, "open")
        self._writer.close()

    # As `CallWatcher`

    def began(self, caller: Caller, values: list[object], payload: bytes) -> None:
        """Note a call."""
        if not self._writer.is_open:
            return
        peer, at = caller._peer, self._clock() - self._start
        client = self._clients.get(peer) or self._add(peer)
        former = client.calls.get(caller.id)
        if former is not None:  # a client has two of one id: the answers cannot be told apart
            self._end(client, caller.id, "open", _Part())
        self.counts["calls"] += 1
        size, name = len(payload) or caller.size, caller.procedure
        is_short = size <= LONGEST_PART and len(name) <= _LONGEST_NAME and self._kept < _MOST_KEPT
        arguments = self._part(name, values, size) if is_short else _Part(size=size)
        call = client.calls[caller.id] = _Open(
            client.number,
            self.counts["calls"],
            name[:_LONGEST_NAME],
            at,
            _format_of(payload),
            arguments,
        )
        self._kept += len(arguments.text or "")
        if caller.has_callbacks:
            for each in _ids_in(values):
                client.functions[each] = call

    def ended(self, caller: Caller | Dropped, payload: bytes) -> None:
        """Write a call with its answer."""
        client = self._clients.get(caller._peer)
        call = client.calls.get(caller.id) if client is not None else None
        if client is None or call is None:
            return
        if not payload:
            self._end(client, caller.id, "gone", _Part())
            return
        if len(payload) > LONGEST_PART:
            self._end(client, caller.id, "answer", _Part(size=len(payload)))
            return
        try:
            values = cast("list[object]", _codec(payload).decode(payload))[1:]
        except DecodeError:
            self._end(client, caller.id, "answer", _Part(size=-1))
            return
        failure = failure_text(values)
        ended: Ending = "answer"
        if failure is not None:
            ended = "lost" if self._is_lost(caller) else "error"
        self._end(client, caller.id, ended, self._part(call.procedure, values, len(payload)))

    # Clients, and their functions

    def _add(self, peer: Peer) -> _Client:
        client = self._clients[peer] = _Client(self.counts["clients"] + 1)
        self.counts["clients"] += 1
        peer.with_extras().on_invoke = partial(self._invoked, client)
        peer.call_when_gone(lambda: self._leave(peer, "gone"))
        return client

    def _leave(self, peer: Peer, ended: Ending) -> None:
        client = self._clients.pop(peer, None)
        if client is not None:
            for each in list(client.calls):
                self._end(client, each, ended, _Part())

    def _invoked(self, client: _Client, id: Id, values: list[object] | None) -> None:  # noqa: A002
        """Note what a function is called with, with its call or on a line of its own."""
        call = client.functions.get(id)
        if call is None or not self._writer.is_open:
            return
        part = _Part("null")
        if values is None:
            del client.functions[id]
        else:
            part = self._part(call.procedure, values, 0)
        text = f"[{to_text(id)}, {part.text}]"
        if call.has_ended:
            if part.text is not None:
                self._write_late(call, text)
            return
        call.callbacks_size += len(text)
        call.callbacks_redacted |= part.is_redacted
        is_long = part.text is None or call.callbacks_size > LONGEST_PART
        if is_long or self._kept >= _MOST_KEPT:
            call.callbacks_size = max(call.callbacks_size, LONGEST_PART + 1)  # no more of them
            self._drop_callbacks(call)
        else:
            call.callbacks.append(text)
            self._kept += len(text)

    def _drop_callbacks(self, call: _Open) -> None:
        self._kept -= sum(map(len, call.callbacks))
        call.callbacks.clear()

    # Lines

    def _part(self, procedure: str, values: list[object], size: int) -> _Part:
        """Return values as they may be written."""
        try:
            text = to_text(values)
            without = values
            if self._redaction.has_procedure(procedure) or self._redaction.may_hit(text):
                without = self._redaction.apply(procedure, values)
            if without is not values:
                text = to_text(without)
        except (TypeError, ValueError):
            return _Part(size=-1)
        if len(text) > LONGEST_PART:
            return _Part(size=size or len(text))
        return _Part(text, is_redacted=without is not values)

    def _end(self, client: _Client, id: Id, ended: Ending, answer: _Part) -> None:  # noqa: A002
        """Write a call that is over."""
        call = client.calls.pop(id)
        call.has_ended = True
        parts = Parts()
        parts.add_moment(self._wall + call.at, call.at)
        parts.add("took", round(self._clock() - self._start - call.at, 6))
        parts.add("client", call.client)
        parts.add("call", call.number)
        parts.add("codec", call.codec)
        parts.add_text("procedure", to_text(call.procedure))
        skipped: dict[str, int] = {}
        redacted = []
        for name, part in (("arguments", call.arguments), ("answer", answer)):
            if name == "answer":
                parts.add("ended", ended)
            if part.text is not None:
                parts.add_text(name, part.text)
            elif part.size:
                skipped[name] = part.size
            if part.is_redacted:
                redacted.append(name)
        if call.callbacks_size > LONGEST_PART:
            skipped["callbacks"] = call.callbacks_size
        elif call.callbacks:
            parts.add_text("callbacks", f"[{', '.join(call.callbacks)}]")
        self._drop_callbacks(call)
        self._kept -= len(call.arguments.text or "")
        call.arguments = _Part()  # as long as the server keeps a function, the call is known
        if call.callbacks_redacted:
            redacted.append("callbacks")
        if skipped:
            parts.add("skipped", skipped)
        if redacted:
            parts.add("redacted", redacted)
        self._write(parts.line(), "written")
        self.counts["unanswered"] += ended not in ("answer", "error")
        self.counts["skipped"] += bool(skipped)
        self.counts["redacted"] += bool(redacted)

    def _write_late(self, call: _Open, text: str) -> None:
        now = self._clock() - self._start
        parts = Parts()
        parts.add_moment(self._wall + now, now)
        parts.add("client", call.client)
        parts.add("call", call.number)
        parts.add_text("late", text)
        self._write(parts.line(), "late")

    def _write(self, line: str, kind: str) -> None:
        if self._writer.is_open:
            self._writer.add(line)
            self.counts[kind] += 1


def _ids_in(values: list[object]) -> set[Id]:
    """Return the ids of the functions among the arguments of a call."""
    found: set[Id] = set()

    def note(value: object) -> object:
        if isinstance(value, Coderef):
            found.add(value.id)
        return value

    map_leaves(values, note)
    return found


def _format_of(payload: bytes) -> Codec:
    """Return in which of the formats a packet is."""
    if payload[:1] == b"[":
        return "json"
    return "typed" if payload[1:2] == bytes([MINOR]) else "perl"


def _codec(payload: bytes) -> StorableCodec | JSONCodec:
    return _JSON if payload[:1] == b"[" else _STORABLE
