"""Storable image to Python values: the way in, and the fast path for ordinary images.

There are two decoders. The one here reads what nearly every call and answer is made of:
plain lists, dicts, strings and numbers, and functions, which come as objects. It keeps no tag
table, which makes it several times faster. The other one, in `_decoder`, reads everything.

The one rule: the fast path never judges. Whatever it does not expect, be it a rare opcode or
a broken image, it gives up, and the complete decoder starts again from the first byte. So
there is one place that knows what is wrong with an image, and an image is scanned twice at
worst. This file does not know about tags, what classes mean, or error codes of items.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import islice, repeat
from typing import Literal

from rpcasync.errors import DecodeError
from rpcasync.storable._decoder import Decoder
from rpcasync.storable._opcodes import (
    ARRAY,
    BLESS,
    BOOLEAN_FALSE,
    BOOLEAN_TRUE,
    BYTE,
    HASH,
    LONG_CLASS,
    LSCALAR,
    LUTF8STR,
    NATIVE_ORDER,
    NETINT,
    NETWORK_ORDER,
    REF,
    SCALAR,
    UNDEF,
    UTF8STR,
)
from rpcasync.storable._typed import FLOAT_CHARACTERS, LIMIT, MINOR, ascii_value, float_value
from rpcasync.storable._values import blessed

__all__ = ["read", "thaw"]

_u32 = struct.Struct(">I").unpack_from
_i32 = struct.Struct(">i").unpack_from

_Rounds = Iterator[None] | None
_Other = Callable[[int, bytes, str, int], tuple[object, int]]

_BYTE_STRINGS = ("latin-1", "bytes", "utf-8")
_TYPED = bytes([MINOR])
_PROBE = 64  # characters
_BOOLS = {ord("1"): True, ord("0"): False}


class _Unusual(Exception):
    """The fast path met something it leaves to the complete decoder."""


def thaw(
    data: bytes | bytearray | memoryview,
    *,
    max_depth: int = 256,
    max_size: int = 16 * 1024 * 1024,
    max_items: int = 1_000_000,
    max_expanded: int | None = None,
    byte_strings: Literal["latin-1", "bytes", "utf-8"] = "latin-1",
) -> object:
    r"""Decode one Storable image, as Perl's `nfreeze` writes it, without the `pst0` of a file.

    An array comes back as a list, a hash as a dict, undef as None, a string as str with one
    character for each Perl character. Floats and integers beyond 32 bits are text in this
    format and stay str. References to anything but an array or hash become ScalarRef,
    objects Blessed. One container met in two places is one object here, too. The result is
    what `nfreeze` was given a reference to: a list or dict, or a ScalarRef around the rest.

    A typed image, which `freeze(value, typed=True)` writes, says so itself. There floats, bools,
    bytes and integers of any size come back as what they were.

    Args:
        data: the image.
        max_depth: how many lists, dicts, ScalarRefs and Blesseds may stand in each other.
            A shared container counts in every place where it stands.
        max_size: largest image, in bytes.
        max_items: how many values it may hold. Each element of a list or dict is one, and so is
            what a ScalarRef or Blessed holds, and the name of a class; a Regexp has two. A value
            that is one byte here can take fifty in Python: this bounds the memory, and the time.
        max_expanded: largest image, in bytes, if everything that is shared stood in full in each
            of its places, which then counts for `max_items`, too; None for no limit. Whoever walks,
            prints or copies the value as a tree pays for that size, which a few hundred bytes can
            make astronomic.
        byte_strings: what becomes of strings that Perl does not hold as Unicode. They may be
            Latin-1 text, binary data, or UTF-8 that the program never decoded; nothing in an
            image tells which. "latin-1": str, one character per byte. "bytes": bytes, but
            hash keys as with "latin-1". "utf-8": str; strings and keys must be valid UTF-8. For a
            typed image it says nothing: that one tells bytes from str.

    Raises:
        DecodeError: the image is malformed, exceeds a limit, or holds what is refused (hooks,
            code, tied variables, cycles, native byte order). `code` tells which.
        TypeError: `data` is not bytes-like.
        ValueError: a limit is below 1, or `byte_strings` is none of the three.

    Source: Storable 3.26 as run by Perl 5.36; the opcodes are listed in `_opcodes`.
    """
    if max_depth < 1 or max_size < 1 or max_items < 1:
        raise ValueError(
            f"limits start at 1: max_depth={max_depth}, max_size={max_size}, max_items={max_items}"
        )
    if type(data) is not bytes:
        data = _as_bytes(data, max_size)
    if len(data) > max_size:
        raise _too_large(len(data), max_size)
    if byte_strings not in _BYTE_STRINGS:
        raise ValueError(f"byte_strings={byte_strings!r} is none of {', '.join(_BYTE_STRINGS)}")
    return read(data, max_depth, max_items, max_expanded, byte_strings)


def read(
    data: bytes,
    max_depth: int,
    max_items: int,
    max_expanded: int | None,
    byte_strings: Literal["latin-1", "bytes", "utf-8"],
) -> object:
    """Decode an image as `thaw` does, with limits that were checked before, and none of its size.

    Raises:
        DecodeError: as `thaw`.
    """
    if byte_strings == "latin-1" or data[1:2] == _TYPED:
        try:
            return _ordinary(data, max_depth, max_items)
        except (_Unusual, IndexError, struct.error, ValueError, RecursionError):
            pass  # the complete decoder tells what is wrong, if anything is
    _check_header(data)
    try:
        return Decoder(data, max_depth, byte_strings, max_items, max_expanded).root()
    except RecursionError:  # the caller stands deep in the stack, or raised max_depth
        raise DecodeError(
            "limit-depth", f"nested deeper than Python's stack allows, limit is {max_depth} levels"
        ) from None


def _as_bytes(data: object, max_size: int) -> bytes:
    """Copy what is bytes-like, but nothing over the limit."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data must be bytes, bytearray or memoryview, not {type(data).__name__}")
    size = data.nbytes if isinstance(data, memoryview) else len(data)
    if size > max_size:
        raise _too_large(size, max_size)
    return bytes(data)


def _too_large(size: int, max_size: int) -> DecodeError:
    return DecodeError("limit-size", f"image of {size} bytes, limit is {max_size}")


def _check_header(data: bytes) -> None:
    """Refuse what does not start with the two bytes of network order; any minor number will do.

    But for typed images the minor tells nothing: Storable 3.27 writes new opcodes under the old
    number.
    """
    if not data:
        raise DecodeError("truncated", "no bytes at all")
    if data[0] == NATIVE_ORDER:
        raise DecodeError(
            "native-order", "written by freeze in its machine's byte order: nfreeze is wanted"
        )
    if data[0] != NETWORK_ORDER:
        raise DecodeError("bad-header", f"first byte is {data[0]:#04x}, not {NETWORK_ORDER:#04x}")
    if len(data) < 3:
        raise DecodeError("truncated", f"image of {len(data)} bytes, the header alone has 2")


def _ordinary(data: bytes, max_depth: int, max_items: int) -> object:
    """Decode an ordinary image, or raise one of the exceptions that `thaw` expects.

    If there may be too many values, all loops take their rounds from one iterator. It has one round
    more than there may be, which has to be left at the end.

    Nothing below compares a length with what is left. A slice beyond the end comes back
    short, but the position it leaves behind is beyond the end as well and never returns:
    the next opcode raises IndexError, or this last comparison fails.
    """
    if data[0] != NETWORK_ORDER:
        raise _Unusual
    text = data.decode("latin-1")  # once: then every byte string is a slice of it
    rounds = None if len(data) <= max_items else repeat(None, max_items + 1)
    other = _other_typed if data[1] == MINOR else _other_scalar
    value: list[object] | dict[str, object]
    if data[2] == ARRAY:
        value, end = _array(data, text, 3, max_depth, rounds, other)
    elif data[2] == HASH:
        value, end = _hash(data, text, 3, max_depth, rounds, other)
    else:
        raise _Unusual
    if end != len(data) or (rounds is not None and next(rounds, rounds) is rounds):
        raise _Unusual
    return value


# Below is the hot loop of the package, twice: as one function for both kinds of container,
# or with the scalars in a function of their own, it took 15 to 40 per cent longer. The most
# frequent opcodes come first. Counts are not trusted, only counted down from: every round
# takes at least a byte or ends in an IndexError.


def _array(
    data: bytes, text: str, pos: int, levels: int, rounds: _Rounds, other: _Other
) -> tuple[list[object], int]:
    """Read an array from its count on; return it and the position behind it."""
    if not levels:
        raise _Unusual
    items: list[object] = []
    value: object
    (count,) = _u32(data, pos)
    pos += 4
    for _ in repeat(None, count) if rounds is None else islice(rounds, count):
        op = data[pos]
        if op == SCALAR:
            start = pos + 2
            pos = start + data[pos + 1]
            items.append(text[start:pos])
        elif op == BYTE:
            items.append(data[pos + 1] - 128)
            pos += 2
        elif op == NETINT:
            items.append(_i32(data, pos + 1)[0])
            pos += 5
        elif op == REF:
            op = data[pos + 1]
            if op == HASH:
                value, pos = _hash(data, text, pos + 2, levels - 1, rounds, other)
            elif op == ARRAY:
                value, pos = _array(data, text, pos + 2, levels - 1, rounds, other)
            elif op == BLESS:
                value, pos = _object(data, text, pos + 2, levels - 2, rounds, other)
            else:
                raise _Unusual
            items.append(value)
        else:
            value, pos = other(op, data, text, pos + 1)
            items.append(value)
    return items, pos


def _hash(
    data: bytes, text: str, pos: int, levels: int, rounds: _Rounds, other: _Other
) -> tuple[dict[str, object], int]:
    """Read a hash from its count on; return it and the position behind it."""
    if not levels:
        raise _Unusual
    table: dict[str, object] = {}
    value: object
    (count,) = _u32(data, pos)
    pos += 4
    for _ in repeat(None, count) if rounds is None else islice(rounds, count):
        op = data[pos]
        if op == SCALAR:
            start = pos + 2
            pos = start + data[pos + 1]
            value = text[start:pos]
        elif op == BYTE:
            value = data[pos + 1] - 128
            pos += 2
        elif op == NETINT:
            (value,) = _i32(data, pos + 1)
            pos += 5
        elif op == REF:
            op = data[pos + 1]
            if op == HASH:
                value, pos = _hash(data, text, pos + 2, levels - 1, rounds, other)
            elif op == ARRAY:
                value, pos = _array(data, text, pos + 2, levels - 1, rounds, other)
            else:
                raise _Unusual
        else:
            value, pos = other(op, data, text, pos + 1)
        start = pos + 4
        pos = start + _u32(data, pos)[0]
        table[text[start:pos]] = value
    if len(table) != count:  # a key came twice
        raise _Unusual
    return table, pos


def _object(
    data: bytes, text: str, pos: int, levels: int, rounds: _Rounds, other: _Other
) -> tuple[object, int]:
    """Read an object that is a hash from its class on, as functions that a client passes are."""
    size = data[pos]
    start = pos + 1
    pos = start + size
    if levels < 1 or rounds is not None or not 0 < size < LONG_CLASS or data[pos] != HASH:
        raise _Unusual
    table, end = _hash(data, text, pos + 1, levels, rounds, other)
    return blessed(text[start:pos], table), end


def _other_scalar(op: int, data: bytes, text: str, pos: int) -> tuple[object, int]:
    """Read what comes after a less frequent opcode; return the value and the position behind it."""
    if op == UNDEF:
        return None, pos
    if op == UTF8STR:
        end = pos + 1 + data[pos]
        return data[pos + 1 : end].decode(), end
    if op == LSCALAR:
        end = pos + 4 + _u32(data, pos)[0]
        return text[pos + 4 : end], end
    if op == LUTF8STR:
        end = pos + 4 + _u32(data, pos)[0]
        return data[pos + 4 : end].decode(), end
    if op == BOOLEAN_TRUE:
        return True, pos
    if op == BOOLEAN_FALSE:
        return False, pos
    raise _Unusual


def _other_typed(op: int, data: bytes, text: str, pos: int) -> tuple[object, int]:
    """Do the same in a typed image."""
    if op == LUTF8STR:
        start = pos + 4
        end = start + _u32(data, pos)[0]
        if end - start <= LIMIT:
            raw = data[start:end]
            if not raw.translate(None, FLOAT_CHARACTERS):  # as in `float_value`, without the call
                number = float(raw)
                if number - number == 0:
                    return number, end
            return float_value(raw, start), end
        # What is ASCII needs no decoding. Other text mostly shows soon, before all of it is copied.
        if text[start : start + _PROBE].isascii() and (value := text[start:end]).isascii():
            return value, end
        return data[start:end].decode(), end
    if op == UNDEF:
        return None, pos
    if op == UTF8STR:
        start = pos + 1
        if data[pos] == 1 and data[start] in _BOOLS:
            return _BOOLS[data[start]], start + 1
        end = start + data[pos]
        value = data[start:end].decode()
        return ascii_value(value, start) if value.isascii() else value, end
    if op == LSCALAR:
        start = pos + 4
        end = start + _u32(data, pos)[0]
        return data[start:end], end
    raise _Unusual
