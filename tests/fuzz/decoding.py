"""One payload: a value or a DecodeError, and the value is the same when it is sent again."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Literal, cast

from fuzz import images, packets, texts
from fuzz.mutators import LENGTHS, some_size
from fuzz.targets import VALUES, Target, check, drawn_from
from rpcasync.errors import DecodeError, EncodeError
from rpcasync.storable import Blessed, Regexp, ScalarRef, freeze, thaw
from rpcasync.wire.codecs import Codec, JSONCodec, StorableCodec
from rpcasync.wire.messages import CallbackRef

__all__ = ["DECODING"]

_DATA = Path(__file__).parents[1] / "data" / "storable"
_MOST_EXPANDED = 65536  # bytes: what stands for more is not walked through
_MOST_THINGS = 50_000  # in a value that is sent again


def _vectors() -> list[bytes]:
    images = []
    for name in ("vectors.json", "bad-vectors.json"):
        table = json.loads((_DATA / name).read_text())
        images += [bytes.fromhex(vector["hex"]) for vector in table["vectors"] if "hex" in vector]
    return images


class Thaw(Target):
    """`thaw`: a value or a DecodeError; what byte strings become changes nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = [*_vectors(), *map(freeze, VALUES)]
        self.seeds += [freeze(values, typed=True) for values in VALUES]

    def make(self, source: Random) -> bytes:
        """Return an image."""
        return images.image(source)

    def run(self, data: bytes) -> str:
        """Decode it, as text and as bytes."""
        source = drawn_from(data)
        depth = source.choice((1, 5, 256, 256, 256, 1000))
        limits: dict[str, Any] = {"max_depth": depth, "max_expanded": _MOST_EXPANDED}
        _thawed(data, "utf-8", limits)
        texts = _thawed(data, "latin-1", limits)
        raw = _thawed(data, "bytes", limits)
        if isinstance(texts, DecodeError) or isinstance(raw, DecodeError):
            # What is not UTF-8, or a limit, may be met in one and not be reached in the other.
            check(type(texts) is type(raw), "read as text or as bytes only", texts, raw)
            return str(cast("DecodeError", texts).code)
        if len(data) < _MOST_EXPANDED and depth <= 256:
            # The fast path gives up on an image that refers to a thing twice: it has no limit
            # to what that stands for, but the complete decoder has.
            typed = data[1] == 1  # there it is no question what is bytes
            text = raw if typed else _as_text(raw)
            check(repr(text) == repr(texts), "differs when read as bytes", texts, raw)
        return type(texts).__name__

    def read(self, data: bytes) -> None:
        """Decode it once."""
        with suppress(DecodeError):
            thaw(data)


def _thawed(
    data: bytes, byte_strings: Literal["latin-1", "bytes", "utf-8"], limits: dict[str, Any]
) -> object:
    try:
        return thaw(data, byte_strings=byte_strings, **limits)
    except DecodeError as error:
        return error


def _as_text(value: object) -> object:
    """Return a value with its bytes as text."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_text(item) for key, item in value.items()}
    if isinstance(value, ScalarRef):
        return ScalarRef(_as_text(value.value))
    if isinstance(value, Blessed):
        return Blessed(value.class_name, _as_text(value.value))
    return value


class Codecs(Target):
    """A codec: a value or a DecodeError; what decodes can be sent, and is the same again."""

    def __init__(self, codec: Codec, make: Callable[[Random], bytes]) -> None:
        super().__init__()
        self._codec = codec
        self._make = make
        self.seeds = [codec.encode(values) for values in VALUES]
        if codec.name == "storable":
            self.seeds += _vectors()

    def make(self, source: Random) -> bytes:
        """Return a payload: of a call, of an answer, or anything."""
        dice = source.random()
        if dice < 0.5:
            return self._make(source)
        kind = packets.request if dice < 0.8 else packets.reply
        return kind(source, self._codec.name == "json")

    def run(self, data: bytes) -> str:
        """Decode it, encode that, and decode it again."""
        try:
            value = self._codec.decode(data)
        except DecodeError as error:
            return str(error.code)
        if type(value) is not list or not _is_sendable(value):
            return type(value).__name__
        try:
            again = self._codec.encode(value)
        except EncodeError as error:
            # What Python's stack allows differs by some levels between reading and writing.
            check("nested" in str(error), "decodes, and cannot be sent", value, error)
            return "too deep"
        found = self._codec.decode(again)
        # By what they are when written: Python compares deep values in its stack.
        check(self._codec.encode(cast("list[object]", found)) == again, "not the same", data, again)
        return "list"

    def read(self, data: bytes) -> None:
        """Decode it once."""
        with suppress(DecodeError):
            self._codec.decode(data)


def _is_sendable(value: object) -> bool:
    """False for what only Perl could have sent, and for what stands for very much."""
    left, count = [value], 0
    while left:
        each = left.pop()
        count += 1
        if isinstance(each, list):
            left += each
        elif isinstance(each, dict):
            left += each.values()
        elif isinstance(each, ScalarRef):
            left.append(each.value)
        elif isinstance(each, (Blessed, Regexp, CallbackRef)):
            return False
        if count > _MOST_THINGS:
            return False
    return True


class RoundTrip(Target):
    """Both codecs: what can be sent arrives. An input is the seed of a value."""

    def __init__(self) -> None:
        super().__init__()
        self._storable, self._json = StorableCodec(), JSONCodec()
        self._perl = StorableCodec(typed=False)
        self._size = 0

    def make(self, source: Random) -> bytes:
        """Return the seed of a value."""
        return source.randbytes(8)

    def generate(self, source: Random) -> bytes:
        """Return the seed of a value: to change one makes no sense."""
        return self.make(source)

    def run(self, data: bytes) -> str:
        """Make the value of the seed, and send it."""
        source = Random(data)
        if not data:  # what an input costs at least is the cost of this one
            return "nothing"
        values = [_value(source, 0) for _ in range(some_size(source, 6, 100))]
        packet = self._json.encode(values)
        self._size = len(packet)
        found = self._json.decode(packet)
        check(found == values, "JSON is not the same", values, found)
        found = self._storable.decode(self._storable.encode(values))
        check(repr(found) == repr(values), "typed Storable is not the same", values, found)
        found = self._perl.decode(self._perl.encode(values))
        expected = _arrival(values)
        check(found == expected, "Storable is not the same", expected, found)
        return type(values[0]).__name__ if values else "empty"

    def size(self, data: bytes) -> int:
        """Return how long the value was as JSON."""
        return self._size


def _value(source: Random, level: int) -> object:
    dice = source.random()
    if level < 8 and dice < 0.2:
        return [_value(source, level + 1) for _ in range(source.randrange(5))]
    if level < 8 and dice < 0.4:
        return {_text(source): _value(source, level + 1) for _ in range(source.randrange(5))}
    if dice < 0.7:
        return _text(source)
    return source.choice(
        (
            None,
            True,
            False,
            source.randrange(-200, 200),
            source.choice(LENGTHS),
            -(2**63),
            0.5,
            -1e300,
        )
    )


def _text(source: Random) -> str:
    alphabet = source.choice(("abc", "a\xe9\xff", "a\u263a\U0001f600", '\0\n"\\\x7f/'))
    text = "".join(source.choices(alphabet, k=3)) * source.choice((0, 1, 1, 1, 1, 42, 85, 86))
    return text[source.randrange(3) :]


def _arrival(value: object) -> object:
    """Tell what a value is at the other end: what is not typed has no large integers."""
    if isinstance(value, list):
        return [_arrival(item) for item in value]
    if isinstance(value, dict):
        return {key: _arrival(item) for key, item in value.items()}
    if type(value) is float or (type(value) is int and not -(2**31) <= value < 2**31):
        return str(value)
    return value


DECODING: dict[str, Callable[[], Target]] = {
    "thaw": Thaw,
    "storable": lambda: Codecs(StorableCodec(), images.image),
    "json": lambda: Codecs(JSONCodec(), texts.json_text),
    "roundtrip": RoundTrip,
}
"""What makes the targets of this file, by name."""
