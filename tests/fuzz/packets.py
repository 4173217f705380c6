"""Packets of calls and of answers, in both codecs, and streams of packets.

Most streams are right as packets, and what is in them is nearly right: so that procedures and
callbacks are reached.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random

from fuzz.images import LEAVES, Image, image
from fuzz.mutators import LENGTHS, mutate, some_size
from fuzz.texts import NUMBERS, json_callback, json_string, json_text, json_value
from fuzz.words import KEYS, PROCEDURES, WORDS

__all__ = ["frame", "packets", "reply", "request"]

_u32 = struct.Struct(">I").pack


def frame(payload: bytes) -> bytes:
    """Return the packet of a payload."""
    return _u32(4 + len(payload)) + payload


def request(source: Random, is_json: bool) -> bytes:
    """Return the payload of a call."""
    if source.random() < 0.1:
        return (json_text if is_json else image)(source)
    if is_json:
        number = str(source.randrange(10)) if source.random() < 0.9 else source.choice(NUMBERS)
        return _json_list(source, [number, _json_name(source)], _args(source))
    number_image = b"\x08" + bytes([128 + source.randrange(100)])
    name = source.choice(WORDS if source.random() < 0.3 else PROCEDURES).encode()[:255]
    return _image_list(source, [number_image, b"\x0a" + bytes([len(name)]) + name], _args(source))


def reply(source: Random, is_json: bool) -> bytes:
    """Return the payload of an answer, or of a call of a callback."""
    if source.random() < 0.1:
        return (json_text if is_json else image)(source)
    number = source.randrange(10)
    word = source.choice(("call", "destroy", "error", "errors", "sum", ""))
    if is_json:
        return _json_list(source, [str(number), f'"{word}"'], _args(source))
    first = [b"\x08" + bytes([128 + number]), b"\x0a" + bytes([len(word)]) + word.encode()]
    return _image_list(source, first, _args(source))


def _args(source: Random) -> Sequence[str]:
    """Return what arguments are to be: names of keys, "" for a value, "&" for a callback."""
    if source.random() < 0.5:
        return [part for _ in range(source.randrange(4)) for part in (source.choice(KEYS), "")]
    if source.random() < 0.3:
        return ["callback", "&"] * source.choice((1, 1, 2, some_size(source, 30, 500)))
    return [""] * some_size(source, 6, 2000)


def _json_name(source: Random) -> str:
    return f'"{source.choice(PROCEDURES)}"' if source.random() < 0.7 else json_string(source)


def _json_list(source: Random, parts: list[str], args: Sequence[str]) -> bytes:
    for arg in args:
        if arg == "&":
            parts.append(json_callback(source))
        elif arg:
            parts.append(f'"{arg}"' if source.random() < 0.97 else str(source.randrange(10)))
        else:
            parts.append(json_value(source, 10))
    return f"[{','.join(parts)}]".encode("utf-8", "surrogatepass")


def _image_list(source: Random, parts: list[bytes], args: Sequence[str]) -> bytes:
    made = Image(source, some_size(source, 30))
    made.out += b"\x02" + _u32(len(parts) + len(args)) + b"".join(parts)
    made.tags = 1 + len(parts)
    made.done = [1]
    for arg in args:
        if arg == "&":
            made.out += _callback_image(source)
            made.tags += 5
        elif arg and source.random() < 0.95:
            made.out += b"\x0a" + bytes([len(arg)]) + arg.encode()
            made.tags += 1
        else:
            made.item(1)
    return bytes(made.out)


def packets(
    source: Random, payload: Callable[[Random, bool], bytes], seeds: Sequence[bytes] = ()
) -> bytes:
    """Return a stream of packets of one codec, most often right; `payload` makes what is in one."""
    is_json = source.random() < 0.5
    parts = []
    for _ in range(source.choice((1, 1, 2, 3, some_size(source, 8, 300)))):
        made = payload(source, is_json)
        if source.random() < 0.07:
            made = mutate(source, made, seeds or (made,))
        packet = frame(made)
        if source.random() < 0.03:
            wrong = source.choice((*LENGTHS, len(made) + 3, len(made) + 5, len(made)))
            packet = _u32(wrong) + made
        parts.append(packet)
    stream = b"".join(parts)
    return stream[: source.randrange(len(stream) + 1)] if source.random() < 0.1 else stream


def _callback_image(source: Random) -> bytes:
    fields = [(b"id", b"\x08" + bytes([128 + source.randrange(100)])), (b"alive", b"\x08\x81")]
    if source.random() < 0.2:
        fields = [(b"id", source.choice(LEAVES)(source)), (b"call", b"\x05")]
    table = b"".join(value + _u32(len(key)) + key for key, value in fields)
    return b"\x04\x11\x13RPC::Async::Coderef\x03" + _u32(len(fields)) + table
