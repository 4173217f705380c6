"""A stream: what is found in it does not depend on how it was cut. Protocols, and buffers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Any, cast

from eventmux.buffers import (
    HTTP,
    AtLeast,
    Batch,
    Buffer,
    FixedSize,
    Frames,
    Last,
    Regexp,
    Size,
    Split,
)
from eventmux.errors import EventMuxError
from fuzz import packets, texts
from fuzz.mutators import cut
from fuzz.targets import VALUES, Target, check, drawn_from
from rpcasync.errors import EncodeError, ProtocolError
from rpcasync.wire.codecs import Codec, JSONCodec, StorableCodec
from rpcasync.wire.protocol import ClientProtocol, ServerProtocol

__all__ = ["CUTTING", "Buffers", "framed"]


class ServerCore(Target):
    """`ServerProtocol`: requests, then perhaps one ProtocolError for ever; cuts change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = framed()

    def make(self, source: Random) -> bytes:
        """Return a stream of calls."""
        return packets.packets(source, packets.request)

    def run(self, data: bytes) -> str:
        """Feed it whole and in pieces; answer all that is asked."""
        source = drawn_from(data)
        max_packet = source.choice((100, 2**16, 2**24, 2**24, 2**24, 2**32 - 1))
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
        return packets.packets(source, packets.reply)

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
    """Return streams of packets as there are every day."""
    codecs: tuple[Codec, ...] = (StorableCodec(), JSONCodec())
    return [
        b"".join(packets.frame(codec.encode(values)) for values in VALUES[start:])
        for codec in codecs
        for start in range(len(VALUES))
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


def _netstring(data: bytes, at: int) -> int | None:
    colon = data.find(b":", at, at + 9)
    return None if colon < 0 else colon - at + int(data[at:colon]) + 2


def _counted(data: bytes, at: int) -> int | AtLeast | None:
    """Tell the length of so many lines, as the first of them says."""
    end = data.find(b"\n", at, at + 4) + 1
    if not end:
        return None
    for left in range(int(data[at:end]), 0, -1):
        start, end = end, data.find(b"\n", end) + 1
        if not end:
            return AtLeast(start - at + left)
    return end - at


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
        lambda: Frames(_netstring, max_size=500, max_header=9),
        lambda: Batch(Frames(_counted, max_header=1000)),
        lambda: HTTP(max_size=10_000, max_header=500),
        lambda: HTTP(max_size=100_000),
        lambda: HTTP(header_only=True, max_header=500),
        lambda: HTTP(max_size=100_000, max_header=500, piece_size=100),
    )

    def make(self, source: Random) -> bytes:
        """Return a discipline and a stream for it."""
        kind = source.randrange(len(self.kinds))
        if kind >= 12:
            return bytes([kind]) + texts.http_stream(source)
        if kind == 5 and source.random() < 0.5:
            return bytes([kind]) + packets.packets(source, packets.request)
        return bytes([kind]) + texts.lines(source)

    def run(self, data: bytes) -> str:
        """Write the stream whole and in pieces."""
        make = self.kinds[data[0] % len(self.kinds)] if data else self.kinds[0]
        stream = data[1:]
        join = _joined if make is self.kinds[-1] else list[object]
        whole = join(_records(make(), [stream]))
        if len(stream) < 10_000:
            pieces = join(_records(make(), cut(drawn_from(data), stream)))
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


def _joined(records: list[object]) -> list[object]:
    """Put the pieces of each message together: how it is cut into them depends on the writes."""
    messages: list[object] = [b""]
    for record in records:
        if not isinstance(record, bytes) or not record:
            messages += [record, b""]
        else:
            messages[-1] = cast("bytes", messages[-1]) + record
    return messages


CUTTING: dict[str, Callable[[], Target]] = {
    "server-protocol": ServerCore,
    "client-protocol": ClientCore,
    "buffers": Buffers,
}
"""What makes the targets of this file, by name."""
