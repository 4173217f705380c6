"""What holds no other value, and keys, as pieces of an image; and the two ways to write them.

A `Form` has what differs between a typed image and Perl's; `_typed` tells what that is. Each way
to write a type gets the value, the room that is left, and the pieces so far: a large string is not
copied to put its length in front, but is a piece of its own.

Short texts and keys are kept for the next time, because names come again and again.

This file does not know what stands in what.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, TypeAlias

from rpcasync.errors import EncodeError
from rpcasync.storable import _opcodes as ops
from rpcasync.storable import _typed
from rpcasync.storable._opcodes import LEAST_INT, MOST_INT

__all__ = [
    "BYTES",
    "KEYS",
    "LARGEST",
    "SHORT",
    "TEXTS",
    "UNDEF",
    "Form",
    "TooLarge",
    "flagged_key",
    "in_utf8",
    "is_latin1",
    "key_piece",
    "scalar",
    "short_text",
]

Leaf: TypeAlias = Callable[[Any, int, list[bytes]], bytes]
Default: TypeAlias = Callable[[object], object] | None

_u32 = struct.Struct(">I").pack
_long_head = struct.Struct(">BI").pack
_netint = struct.Struct(">Bi").pack

UNDEF = bytes([ops.UNDEF])
BYTES = {n: bytes([ops.BYTE, n + 128]) for n in range(-128, 128)}
_SCALARS = [bytes([ops.SCALAR, size]) for size in range(256)]
_UTF8STRS = [bytes([ops.UTF8STR, size]) for size in range(256)]

SHORT = 32  # longest str, in characters, whose encoding is kept
_MOST_KEPT = 1024  # then they begin anew
TEXTS: dict[str, bytes] = {}
KEYS: dict[str, bytes] = {}  # only of those that are Latin-1

LARGEST = 2**31 - 1  # bytes; Perl reads no longer string, and a frame ends at twice that
_COPIED = 4096  # bytes: a longer string is a piece of its own
_WHOLE = 2.0**53  # from here on a float need not mean the whole number it holds
_PERL_NAMES = {"inf": "Inf", "-inf": "-Inf", "nan": "NaN"}


class TooLarge(Exception):
    """No room is left."""


class Form:
    """How values are written: what to do with those that cannot be sent, and whether it is typed.

    `leaves` has what writes a value of just that type, for the types that are not the most
    frequent; it gets the room as well. The others are a long `text`, and an integer of more than 32
    bits, which is `large`.
    """

    __slots__ = ("default", "header", "large", "leaves", "text")

    def __init__(self, default: Default, typed: bool) -> None:
        self.default = default
        self.header = _typed.HEADER if typed else ops.HEADER
        self.text: Leaf = _typed_text if typed else _text
        self.large: Leaf = _typed_large if typed else _large
        self.leaves: dict[type, Leaf] = _TYPED_LEAVES if typed else _LEAVES


def is_latin1(text: str) -> bool:
    """True if all characters are below U+0100."""
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def key_piece(key: str) -> bytes:
    """Return a key of a HASH, which is Latin-1."""
    raw = str.encode(key, "latin-1")
    piece = _u32(len(raw)) + raw
    if len(key) <= SHORT:
        if len(KEYS) >= _MOST_KEPT:
            KEYS.clear()
        KEYS[str.__str__(key)] = piece
    return piece


def flagged_key(key: str) -> bytes:
    """Return a key of a FLAG_HASH."""
    if is_latin1(key):
        return b"\0" + key_piece(key)
    raw = in_utf8(key)
    return bytes([ops.KEY_UTF8]) + _u32(len(raw)) + raw


def scalar(value: object, room: int, form: Form, pieces: list[bytes]) -> bytes | None:
    """Encode what holds no other value; None for what cannot be sent.

    Subclasses must not have their say in it.
    """
    if value is None:
        return UNDEF
    leaves = form.leaves
    if isinstance(value, bool):
        return leaves[bool](value, room, pieces)
    if isinstance(value, float):
        return leaves[float](float.__float__(value), room, pieces)
    if isinstance(value, int):
        number = int.__int__(value)
        if LEAST_INT <= number <= MOST_INT:
            return BYTES.get(number) or _netint(ops.NETINT, number)
        return form.large(number, room, pieces)
    if isinstance(value, str):
        return form.text(str.__str__(value), room, pieces)
    if isinstance(value, memoryview):
        if value.nbytes > room:
            raise TooLarge
        return leaves[bytes](value.tobytes(), room, pieces)
    if isinstance(value, (bytes, bytearray)):
        return leaves[bytes](value, room, pieces)
    return None


def _decimal(number: int) -> bytes:
    """Return a large integer as text."""
    if number.bit_length() > _typed.MOST_BITS:
        raise EncodeError(f"int of {number.bit_length()} bits, limit is {_typed.MOST_BITS}")
    return str(number).encode()


def _large(number: int, room: int, pieces: list[bytes]) -> bytes:
    """Encode an integer of more than 32 bits."""
    return _octets(_decimal(number), room, pieces)


def _bool(value: bool, _room: int, _pieces: list[bytes]) -> bytes:
    """Encode a bool as an integer: Storable before 3.27 dies of BOOLEAN_TRUE."""
    return BYTES[value]


def _float(number: float, room: int, pieces: list[bytes]) -> bytes:
    if -_WHOLE < number < _WHOLE and number == int(number):
        whole = int(number)
        if LEAST_INT <= whole <= MOST_INT:
            return BYTES.get(whole) or _netint(ops.NETINT, whole)
        return _large(whole, room, pieces)
    text = repr(number).removesuffix(".0")  # 17 digits where it takes them: Perl sends 15
    return _octets(_PERL_NAMES.get(text, text).encode(), room, pieces)


def _text(text: str, room: int, pieces: list[bytes]) -> bytes:
    if len(text) > room:  # before a copy of it is made
        raise TooLarge
    raw = in_utf8(text)
    size = len(raw)
    if size == len(text):  # ASCII
        return _octets(raw, room, pieces)
    if size < 256:
        return _UTF8STRS[size] + raw
    return _long(ops.LUTF8STR, raw, room, pieces)


def short_text(text: str) -> bytes:
    """Encode a short text, and keep that: names and words come again and again."""
    if len(TEXTS) >= _MOST_KEPT:
        TEXTS.clear()
    piece = TEXTS[text] = _text(text, LARGEST, [])
    return piece


def _octets(raw: bytes | bytearray, room: int, pieces: list[bytes]) -> bytes:
    size = len(raw)
    if size < 256:
        return _SCALARS[size] + raw
    return _long(ops.LSCALAR, raw, room, pieces)


def _long(op: int, raw: bytes | bytearray, room: int, pieces: list[bytes]) -> bytes:
    """Return a string, or its last piece: a large one is not copied to put the length in front."""
    size = len(raw)
    if size > room:
        raise TooLarge
    if size < _COPIED:
        return _long_head(op, size) + raw
    pieces.append(_long_head(op, size))
    return bytes(raw)


def in_utf8(text: str) -> bytes:
    """Encode a text; lone surrogates have no UTF-8."""
    try:
        return str.encode(text)
    except UnicodeEncodeError as error:
        raise EncodeError(
            f"str with lone surrogate {text[error.start]!r} at index {error.start} has no UTF-8"
        ) from None


_LEAVES: dict[type, Leaf] = {float: _float, bool: _bool, bytes: _octets}


# What differs in a typed image


def _typed_text(text: str, room: int, pieces: list[bytes]) -> bytes:
    if len(text) > room:
        raise TooLarge
    raw = in_utf8(text)
    size = len(raw)
    if size <= _typed.LIMIT:
        return (_SCALARS if size == len(text) else _UTF8STRS)[size] + raw
    return _long(ops.LUTF8STR, raw, room, pieces)


def _typed_octets(raw: bytes | bytearray, room: int, pieces: list[bytes]) -> bytes:
    if len(raw) < _COPIED:
        return _long_head(ops.LSCALAR, len(raw)) + raw
    return _long(ops.LSCALAR, raw, room, pieces)


def _typed_large(number: int, _room: int, _pieces: list[bytes]) -> bytes:
    text = _decimal(number)
    size = len(text)
    if size <= _typed.LIMIT:
        return _UTF8STRS[size] + text
    return _long_head(ops.LVSTRING, size) + text + _long_head(ops.LSCALAR, size) + text


def _typed_bool(value: bool, _room: int, _pieces: list[bytes]) -> bytes:
    return _typed.TRUE if value else _typed.FALSE


_TYPED_LEAVES: dict[type, Leaf] = {
    float: _typed.write_float,
    bool: _typed_bool,
    bytes: _typed_octets,
}
