"""What is passed on: a packet with other ids in it means what it did; and first packets of 2.0."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from typing import cast

from fuzz import images, packets
from fuzz.targets import VALUES, Target, check, drawn_from
from rpcasync.errors import DecodeError, ProtocolError
from rpcasync.storable import Blessed, ScalarRef, freeze, thaw
from rpcasync.wire.codecs import StorableCodec
from rpcasync.wire.dialect import OtherDialect
from rpcasync.wire.messages import CallbackRef, Id, check_request
from rpcasync.wire.protocol import ClientProtocol, ServerProtocol
from rpcasync.wire.splicing import with_id, with_ids

__all__ = ["PASSING"]

_MOST_THINGS = 20_000  # in a value that is looked through
_IDS: tuple[Id, ...] = (0, 127, 128, 255, 256, 2**31 - 1, "12", "x" * 20)
_CODEC = StorableCodec()

_u32 = struct.Struct(">I").pack


class Splicing(Target):
    """`with_id` and `with_ids`: what can be read means the same, but for its ids."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = [freeze(values, typed=typed) for values in VALUES for typed in (False, True)]

    def make(self, source: Random) -> bytes:
        """Return a call, most often one that refers to its id, or has callbacks."""
        payload = packets.request(source, False)
        if source.random() < 0.5 or payload[2] != 2:
            return payload
        parts = [source.choice((_again, _again, _callback, images.image_item))(source)]
        parts += [_callback(source) for _ in range(source.randrange(3))]
        count = int.from_bytes(payload[3:7], "big") + len(parts)
        return payload[:3] + _u32(count & 0xFFFFFFFF) + payload[7:] + b"".join(parts)

    def run(self, data: bytes) -> str:
        """Give it another id, and its callbacks others."""
        try:
            value = _CODEC.decode(data)
            check_request(value)
        except (DecodeError, ProtocolError):
            for splice in (_with_id, _with_ids):  # and nothing else is raised
                splice(data, 9)
            return "refused"
        shape = _shape(cast("list[object]", thaw(data))[1:])
        new = drawn_from(data).choice(_IDS)
        outcome = []
        for splice in (_with_id, _with_ids):
            spliced = splice(data, new)
            outcome.append(spliced is not None)
            if spliced is None or shape is None:
                continue
            found = cast("list[object]", _CODEC.decode(spliced))
            check(found[0] == new, "another id", found[0], new)
            again = _shape(cast("list[object]", thaw(spliced))[1:])
            check(again == shape, "another value", again, shape)
            ids = _callbacks(value)
            if splice is _with_ids:
                ids = [_other(each) for each in ids]
            check(_callbacks(found) == ids, "other callbacks", _callbacks(found), ids)
        return f"{outcome} {bool(_callbacks(value))} {shape is None}"

    def read(self, data: bytes) -> None:
        """Give it other ids, once it was read."""
        _with_ids(data, 9)


def _with_id(data: bytes, id: Id) -> bytes | None:
    try:
        return with_id(data, id)
    except ValueError:
        return None


def _with_ids(data: bytes, id: Id) -> bytes | None:
    try:
        return with_ids(data, id, _other)
    except ValueError:
        return None


def _other(id: Id) -> Id:
    return id + 1000 if type(id) is int else f"<{id}>"[:20]


def _again(source: Random) -> bytes:
    through = b"\x04" if source.random() < 0.5 else b""
    return through + b"\0" + _u32(source.choice((1, 1, 2, source.randrange(30))))


def _callback(source: Random) -> bytes:
    id = source.choice((_again, *images.LEAVES))(source)
    fields = [(id, b"id"), (b"\x08\x81", b"alive")]
    source.shuffle(fields)
    table = b"".join(value + _u32(len(key)) + key for value, key in fields)
    box = source.choice((b"", b"", b"\x04\x02" + _u32(1), b"\x04\x11\x01A\x02" + _u32(1)))
    return box + b"\x04\x11\x13RPC::Async::Coderef\x03" + _u32(len(fields)) + table


def _shape(value: object) -> object:
    """Return a value by its parts, those that stand there again as such; None for very much.

    The ids of callbacks are left out.
    """
    seen: dict[int, int] = {}
    parts: list[object] = []
    left: list[tuple[object, bool]] = [(value, False)]
    while left:
        each, is_callback = left.pop()
        if not isinstance(each, (list, dict, ScalarRef, Blessed)) or each in ([], {}):
            parts.append((type(each).__name__, repr(each)))
            continue
        if id(each) in seen:
            parts.append(seen[id(each)])
            continue
        seen[id(each)] = len(seen)
        parts.append(type(each).__name__)
        if isinstance(each, list):
            left += [(item, False) for item in each]
            parts.append(len(each))
        elif isinstance(each, dict):
            parts.append(list(each))
            left += [
                (None if key == "id" and is_callback else item, False) for key, item in each.items()
            ]
        elif isinstance(each, Blessed):
            parts.append(each.class_name)
            left.append((each.value, each.class_name == "RPC::Async::Coderef"))
        else:
            left.append((each.value, False))
        if len(parts) > _MOST_THINGS:
            return None
    return parts


def _callbacks(value: object) -> list[Id]:
    """Return the ids of the callbacks in a value, as often as they stand there."""
    found: list[Id] = []
    left = [value]
    count = 0
    while left and count < _MOST_THINGS:
        each = left.pop()
        count += 1
        if isinstance(each, CallbackRef):
            found.append(each.id)
        elif isinstance(each, list):
            left += each
        elif isinstance(each, dict):
            left += each.values()
        elif isinstance(each, ScalarRef):
            left.append(each.value)
    return found


class Dialect(Target):
    """The first packet of a connection: it is of 1.05, of 2.0, or nothing, and of one alone."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = [_u32(len(image)) + image for image in map(freeze, VALUES)]

    def make(self, source: Random) -> bytes:
        """Return a stream as a peer of 2.0 begins one, or nearly so."""
        kind = packets.request if source.random() < 0.7 else packets.reply
        payload = kind(source, source.random() < 0.1)
        if source.random() < 0.4:
            word = source.choice(("result", "die", "call", "destroy", "other"))
            payload = freeze([source.randrange(5), word, [1, 2][: source.randrange(3)]])
        size = len(payload) + source.choice((0, 0, 0, 0, 1, 2, 3, 4, 5, -4))
        return _u32(max(size, 0)) + payload + source.choice((b"", _u32(len(payload)) + payload))

    def run(self, data: bytes) -> str:
        """Feed it to both ends."""
        return f"{self._fed(ServerProtocol(), data)} {self._fed(_client(), data)}"

    def _fed(self, protocol: ServerProtocol | ClientProtocol, data: bytes) -> str:
        is_server = isinstance(protocol, ServerProtocol)
        protocol.feed(data)
        count = 0
        try:
            while protocol.next_message() is not None:
                count += 1
        except OtherDialect as error:
            size = int.from_bytes(data[:4], "big")
            value = _CODEC.decode(data[4 : 4 + size])  # a packet of 2.0, whole
            check(count == 0, "packets before", count)
            if is_server:
                check_request(value)
                answer = cast("list[object]", thaw(error.answer[4:]))
                check(answer[1] == "die", "the answer", answer)
                check(len(error.answer) < 200, "a long answer", error.answer)
            return "2.0"
        except ProtocolError:
            return "error"
        return "messages" if count else "nothing"

    def read(self, data: bytes) -> None:
        """Feed it to a server's end."""
        self._fed(ServerProtocol(), data)


def _client() -> ClientProtocol:
    protocol = ClientProtocol(_CODEC)
    for number in range(3):
        protocol.call("add", [number], number)
    return protocol


PASSING: dict[str, Callable[[], Target]] = {"splicing": Splicing, "dialect": Dialect}
"""What makes the targets of this file, by name."""
