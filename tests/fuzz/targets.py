"""What is given bytes, and what has to be true of it whatever they are.

A target makes inputs and runs them. `run()` returns in a word what became of the input: an input
with a new outcome is worth to be changed further. It raises what escaped: an exception that the
thing under test may not raise, or `Broken` if a property does not hold.

Nothing but the input decides what `run()` does: how a stream is cut, or which limit is set, is
drawn from its checksum.

This file opens no sockets: `endpoints` does.
"""

from __future__ import annotations

import json
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Literal, cast

from eventmux.buffers import HTTP, Buffer, FixedSize, Last, Regexp, Size, Split
from eventmux.errors import EventMuxError
from fuzz import grammar
from fuzz.mutators import LENGTHS, cut, mutate, some_size
from rpcasync.errors import DecodeError, EncodeError, ProtocolError
from rpcasync.storable import Blessed, ScalarRef, freeze, thaw
from rpcasync.storable import Regexp as PerlRegexp
from rpcasync.wire.codecs import Codec, JSONCodec, StorableCodec
from rpcasync.wire.protocol import ClientProtocol, ServerProtocol

__all__ = ["PURE", "Broken", "Target", "check", "drawn_from", "framed"]

_DATA = Path(__file__).parents[1] / "data" / "storable"
_MOST_EXPANDED = 65536  # bytes: what stands for more is not walked through


class Broken(AssertionError):
    """A property does not hold."""


class Target(ABC):
    """Something that reads bytes from strangers."""

    def __init__(self) -> None:
        self.seeds: list[bytes] = [b""]
        """Inputs to change: at first those that are known, then those with new outcomes."""

    @abstractmethod
    def make(self, source: Random) -> bytes:
        """Return an input with a structure."""

    @abstractmethod
    def run(self, data: bytes) -> str:
        """Give it the input; return the outcome. What is raised has escaped."""

    def read(self, data: bytes) -> None:
        """Do with it what a program would, and no more: this is what is measured."""
        self.run(data)

    def size(self, data: bytes) -> int:
        """Return how many bytes an input is, or stands for, that was run just now."""
        return len(data)

    def generate(self, source: Random) -> bytes:
        """Return the next input: made, or changed."""
        dice = source.random()
        if dice < 0.6:
            return self.make(source)
        if dice < 0.8:
            return mutate(source, self.make(source), self.seeds)
        return mutate(source, source.choice(self.seeds), self.seeds)

    def close(self) -> None:  # noqa: B027
        """Give back what it holds."""


def drawn_from(data: bytes) -> Random:
    """Return a source of what an input does not say."""
    return Random(zlib.crc32(data))


def check(holds: bool, what: str, *found: object) -> None:
    """Raise Broken if something does not hold."""
    if not holds:
        raise Broken(f"{what}: {', '.join(f'{each!r:.200}' for each in found)}")


def _vectors() -> list[bytes]:
    images = []
    for name in ("vectors.json", "bad-vectors.json"):
        table = json.loads((_DATA / name).read_text())
        images += [bytes.fromhex(vector["hex"]) for vector in table["vectors"] if "hex" in vector]
    return images


_VALUES: tuple[list[object], ...] = (
    [0, "add", "n1", 2, "n2", 3],
    [2**31 - 1, "echo", -1, 2**40, 1.5, None, True, "caf\xe9", "\u263a", "", "x" * 300],
    [1, "fields", {"a": [1, {"b": []}], "c": {"d": {}}}, [[[[]]]]],
    [7, "error", "text", "errors", ["text"]],
    [3, "call", 1, 2],
    [3, "destroy"],
)


# ---- codecs ------------------------------------------------------------------------------


class Thaw(Target):
    """`thaw`: a value or a DecodeError; what byte strings become changes nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = [*_vectors(), *map(freeze, _VALUES)]

    def make(self, source: Random) -> bytes:
        """Return an image."""
        return grammar.image(source)

    def run(self, data: bytes) -> str:
        """Decode it, as text and as bytes."""
        source = drawn_from(data)
        depth = source.choice((1, 5, 256, 256, 256, 1000))
        limits: dict[str, Any] = {"max_depth": depth, "max_expanded": _MOST_EXPANDED}
        texts = _thawed(data, "latin-1", limits)
        raw = _thawed(data, "bytes", limits)
        if isinstance(texts, DecodeError) or isinstance(raw, DecodeError):
            # What is not UTF-8, or a limit, may be met in one and not be reached in the other.
            check(type(texts) is type(raw), "read as text or as bytes only", texts, raw)
            return str(cast("DecodeError", texts).code)
        if len(data) < _MOST_EXPANDED and depth <= 256:
            # The fast path gives up on an image that refers to a thing twice: it has no limit
            # to what that stands for, but the complete decoder has.
            check(_as_text(raw) == texts, "differs when read as bytes", texts, raw)
        return type(texts).__name__

    def read(self, data: bytes) -> None:
        """Decode it once."""
        with suppress(DecodeError):
            thaw(data)


def _thawed(
    data: bytes, byte_strings: Literal["latin-1", "bytes"], limits: dict[str, Any]
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
        self.seeds = [codec.encode(values) for values in _VALUES]
        if codec.name == "storable":
            self.seeds += _vectors()

    def make(self, source: Random) -> bytes:
        """Return a payload: of a call, of an answer, or anything."""
        dice = source.random()
        if dice < 0.5:
            return self._make(source)
        kind = grammar.request if dice < 0.8 else grammar.reply
        return kind(source, self._codec.name == "json")

    def run(self, data: bytes) -> str:
        """Decode it, encode that, and decode it again."""
        try:
            value = self._codec.decode(data)
        except DecodeError as error:
            return str(error.code)
        if type(value) is not list or _has_perl_only(value):
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


def _has_perl_only(value: object) -> bool:
    """True if there is something that only Perl could have sent; not walked to the last leaf."""
    left = [value]
    seen: set[int] = set()
    while left:
        each = left.pop()
        if isinstance(each, (Blessed, PerlRegexp)):
            return True
        if isinstance(each, (list, dict, ScalarRef)):
            if id(each) in seen:
                continue
            seen.add(id(each))
        if isinstance(each, list):
            left += each
        elif isinstance(each, dict):
            left += each.values()
        elif isinstance(each, ScalarRef):
            left.append(each.value)
        elif type(each).__name__ == "CallbackRef":
            return True
    return False


class RoundTrip(Target):
    """Both codecs: what can be sent arrives. An input is the seed of a value."""

    def __init__(self) -> None:
        super().__init__()
        self._storable, self._json = StorableCodec(), JSONCodec()
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
        values = [_value(source, 0) for _ in range(some_size(source, 6, 300))]
        packet = self._json.encode(values)
        self._size = len(packet)
        found = self._json.decode(packet)
        check(found == values, "JSON is not the same", values, found)
        found = self._storable.decode(self._storable.encode(values))
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
        (None, True, False, source.randrange(-200, 200), source.choice(LENGTHS), -(2**63), 10**30)
    )


def _text(source: Random) -> str:
    alphabet = source.choice(("abc", "a\xe9\xff", "a\u263a\U0001f600", '\0\n"\\\x7f/'))
    return "".join(source.choices(alphabet, k=source.choice((0, 1, 3, 85, 127, 255, 256))))


def _arrival(value: object) -> object:
    """Tell what a value is at the other end: Storable has no large integers."""
    if isinstance(value, list):
        return [_arrival(item) for item in value]
    if isinstance(value, dict):
        return {key: _arrival(item) for key, item in value.items()}
    if type(value) is int and not -(2**31) <= value < 2**31:
        return str(value)
    return value


# ---- protocols ---------------------------------------------------------------------------


class ServerCore(Target):
    """`ServerProtocol`: requests, then perhaps one ProtocolError for ever; cuts change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = framed()

    def make(self, source: Random) -> bytes:
        """Return a stream of calls."""
        return grammar.packets(source, grammar.request)

    def run(self, data: bytes) -> str:
        """Feed it whole and in pieces; answer all that is asked."""
        source = drawn_from(data)
        max_packet = source.choice((100, 10_000, 2**24, 2**32 - 1))
        whole = _pull(ServerProtocol(None, max_packet), [data], answered=True)
        if len(data) < 10_000:
            pieces = _pull(ServerProtocol(None, max_packet), cut(source, data), answered=False)
            check(whole == pieces, "differs when cut", whole, pieces)
        return f"{min(len(whole), 4)} {_kind(whole[-1])}"

    def read(self, data: bytes) -> None:
        """Feed it whole, and take the calls."""
        _pull_all(ServerProtocol(), data)


class ClientCore(Target):
    """`ClientProtocol`: answers, then perhaps one ProtocolError for ever; cuts change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = framed()

    def make(self, source: Random) -> bytes:
        """Return a stream of answers."""
        return grammar.packets(source, grammar.reply)

    def run(self, data: bytes) -> str:
        """Feed it whole and in pieces, to a client with calls and callbacks."""
        source = drawn_from(data)
        whole = _pull(_asking(data), [data], answered=False)
        if len(data) < 10_000:
            pieces = _pull(_asking(data), cut(source, data), answered=False)
            check(whole == pieces, "differs when cut", whole, pieces)
        return f"{min(len(whole), 4)} {_kind(whole[-1])}"

    def read(self, data: bytes) -> None:
        """Feed it whole, and take the answers."""
        _pull_all(_asking(data), data)


def framed() -> list[bytes]:
    codecs: tuple[Codec, ...] = (StorableCodec(), JSONCodec())
    return [
        b"".join(grammar.frame(codec.encode(values)) for values in _VALUES[start:])
        for codec in codecs
        for start in range(len(_VALUES))
    ]


def _asking(data: bytes) -> ClientProtocol:
    """Return a client that waits for five answers, and has passed functions."""
    codec: Codec = JSONCodec() if data[4:5] in (b"[", b"{") else StorableCodec()
    client = ClientProtocol(codec, 100_000)
    for number in range(4):
        client.call("add", ["n1", number], token=number)
    client.call("follow", [len, print], token="follow")
    return client


def _pull(
    protocol: ServerProtocol | ClientProtocol, pieces: Sequence[bytes], answered: bool
) -> list[str]:
    """Return what comes out, as text: it is compared, and may be nested very deeply."""
    found = []
    failure = ""
    for piece in pieces:
        protocol.feed(piece)
        while True:
            try:
                message = protocol.next_message()
            except ProtocolError as error:
                check(failure in ("", str(error)), "another failure", failure, error)
                failure = str(error)
                break
            if message is None:
                break
            check(not failure, "a message behind the failure", message)
            found.append(_shown(message))
            if answered and isinstance(protocol, ServerProtocol):
                with suppress(EncodeError):  # over the limit
                    protocol.result(cast("Any", message).id, ["sum", 5])
                    protocol.failure(cast("Any", message).id, cast("Any", message).procedure)
    return [*found, f"failed: {failure}" if failure else "waits"]


def _pull_all(protocol: ServerProtocol | ClientProtocol, data: bytes) -> None:
    protocol.feed(data)
    with suppress(ProtocolError):
        while protocol.next_message() is not None:
            pass


def _shown(message: object) -> str:
    """Name a message by what is short in it."""
    fields = [getattr(message, name, None) for name in ("id", "procedure", "token", "text")]
    values = getattr(message, "args", getattr(message, "values", ()))
    return f"{type(message).__name__} {fields} {[type(value).__name__ for value in values]}"


def _kind(text: str) -> str:
    """Return what a failure is, without its figures."""
    return re.sub(r"[0-9]+", "N", text)[:60]


# ---- buffers -----------------------------------------------------------------------------


class Buffers(Target):
    """The disciplines: records or an EventMuxError; cuts change nothing.

    The first byte of an input says which discipline, the rest is the stream.
    """

    kinds: tuple[Callable[[], Buffer], ...] = (
        lambda: Split(b"\n", max_size=1000),
        lambda: Split(b"\r\n", max_size=100_000),
        lambda: Split(b"--", max_size=50),
        lambda: Regexp(rb"([^\n]*)\n", max_size=1000),
        lambda: Regexp(rb"(?s)(.*?),", max_size=1000),
        lambda: Size("!I", -4, min_size=3, max_size=5000),
        lambda: Size("!H", max_size=5000),
        lambda: Size("b", 1, max_size=50),
        lambda: FixedSize(7),
        Last,
        lambda: HTTP(max_size=10_000, max_header=500),
        lambda: HTTP(max_size=100_000),
        lambda: HTTP(header_only=True, max_header=500),
    )

    def make(self, source: Random) -> bytes:
        """Return a discipline and a stream for it."""
        kind = source.randrange(len(self.kinds))
        if kind >= 10:
            return bytes([kind]) + grammar.http_stream(source)
        if kind == 5 and source.random() < 0.5:
            return bytes([kind]) + grammar.packets(source, grammar.request)
        return bytes([kind]) + grammar.lines(source)

    def run(self, data: bytes) -> str:
        """Write the stream whole and in pieces."""
        make = self.kinds[data[0] % len(self.kinds)] if data else self.kinds[0]
        stream = data[1:]
        whole = _records(make(), [stream])
        if len(stream) < 10_000:
            pieces = _records(make(), cut(drawn_from(data), stream))
            check(whole == pieces, "differs when cut", stream, whole, pieces)
        kind = type(make()).__name__
        return f"{kind} {min(len(whole), 3)} {whole[-1]!r:.30}"

    def read(self, data: bytes) -> None:
        """Write the stream whole."""
        _records(self.kinds[data[0] % len(self.kinds)]() if data else Last(), [data[1:]])


def _records(buffer: Buffer, pieces: Sequence[bytes]) -> list[object]:
    """Return the records of a stream, then what was left; for a failure, its kind."""
    records: list[object] = []
    for piece in pieces:
        try:
            buffer.write(piece)
            records += buffer.read()
            while isinstance(buffer, HTTP) and buffer.waiting:
                buffer.expect(3)
                records += buffer.read()
        except EventMuxError as error:
            return [*records, *buffer.read(), type(error).__name__]
    check(buffer.pending >= 0, "pending", buffer.pending)
    return [*records, *buffer.read_last(), "end"]


PURE: dict[str, Callable[[], Target]] = {
    "thaw": Thaw,
    "storable": lambda: Codecs(StorableCodec(), grammar.image),
    "json": lambda: Codecs(JSONCodec(), grammar.json_text),
    "roundtrip": RoundTrip,
    "server-protocol": ServerCore,
    "client-protocol": ClientCore,
    "buffers": Buffers,
}
"""What makes the targets of this file, by name."""
