"""Python values to a Storable image, in the forms that every Perl takes without surprises.

The image is a list of pieces, joined at the end. Small numbers, heads of containers and
short strings are ready-made pieces; the last come from bounded caches, because method names
and hash keys repeat.

A typed image differs in the forms of a few types; `_typed` tells which. What differs is in a
`Form`, and the rest is the same.

The one rule: trees are written, never back references. Two places that share a string or
number would become one Perl variable. A value that holds itself is therefore endless, and
shared lists can make a small value an enormous tree: the two limits stop both while they
are being written.

This file does not know about callbacks. It writes an object of a class only where the program's
own `default` has made it: one that came from a peer might run code where it comes alive.
"""

from __future__ import annotations

import reprlib
import struct
from collections.abc import Callable
from typing import Any

from rpcasync.errors import EncodeError
from rpcasync.storable import _opcodes as ops
from rpcasync.storable._leaves import (
    BYTES,
    KEYS,
    LARGEST,
    SHORT,
    TEXTS,
    UNDEF,
    Form,
    TooLarge,
    flagged_key,
    in_utf8,
    is_latin1,
    key_piece,
    scalar,
    short_text,
)
from rpcasync.storable._opcodes import LEAST_INT, MOST_INT
from rpcasync.storable._places import located
from rpcasync.storable._values import Blessed, ScalarRef

__all__ = ["freeze", "write"]

_u32 = struct.Struct(">I").pack
_netint = struct.Struct(">Bi").pack

_MORE_AT_ROOT = len(ops.HEADER) - 1  # bytes; the root has no REF
_REF = bytes([ops.REF])
_ARRAY = bytes([ops.REF, ops.ARRAY])
_HASH = bytes([ops.REF, ops.HASH])
_FLAG_HASH = bytes([ops.REF, ops.FLAG_HASH, 0])
_ARRAYS = [_ARRAY + _u32(size) for size in range(256)]
_HASHES = [_HASH + _u32(size) for size in range(256)]
_MANY = 10_000
_SENDABLE = "None, bool, int, float, str, bytes, list, tuple, dict and ScalarRef can be sent"

# Looked up here once, for the hot loops.
_NETINT = ops.NETINT
_byte, _known_text, _known_key = BYTES.get, TEXTS.get, KEYS.get


class _TooDeep(Exception):
    """No levels are left."""


def freeze(
    value: object,
    *,
    max_depth: int = 256,
    max_size: int = 16 * 1024 * 1024,
    default: Callable[[object], object] | None = None,
    typed: bool = False,
) -> bytes:
    r"""Encode a value as a Storable image that Perl's `thaw` reads.

    Lists and tuples become arrays, dicts hashes, a ScalarRef a reference to its value. True
    and False become 1 and 0. Integers beyond 32 bits and floats become decimal text, a whole
    float below 2**53 the integer. Text that is ASCII, and bytes, become byte strings, other
    text Unicode strings. Subclasses (IntEnum, namedtuple, OrderedDict) go as their base.

    Args:
        value: a list, tuple, dict or ScalarRef: `thaw` in Perl gives a reference to it.
        max_depth: how many containers and ScalarRefs may stand in each other. Perl's own
            `nfreeze` ends at 256 hashes, and its `thaw` has no limit but the C stack.
        max_size: largest image, in bytes; more than 2**31 - 1 is the same as that.
        default: called with what cannot be sent; returns what to write in its place, or the same
            object if it knows no better. Only here a `Blessed` is written, as an object of its
            class. Where the value cannot be sent, it may be called again, to find the place.
        typed: True writes an image that gives `thaw` here floats, bools, bytes and integers back
            as what they are. Perl reads it, and finds the same by `eq`, `==` and truth.

    Raises:
        EncodeError: the value, or something in it, cannot be sent or exceeds a limit. The text says
            where in the value it stands.
        ValueError: a limit is below 1.

    Source: what Storable 3.26, as run by Perl 5.36, writes for the like and accepts back.
    """
    if max_depth < 1 or max_size < 1:
        raise ValueError(f"limits start at 1: max_depth={max_depth}, max_size={max_size}")
    form = Form(default, typed)
    try:
        return write(value, max_depth, max_size, form)
    except EncodeError as error:
        raise located(error, value, _refusal_by(form)) from None


def _refusal_by(form: Form) -> Callable[[object], object]:
    """Return what raises EncodeError for a single value that cannot be sent."""
    return lambda value: write([value], 256, LARGEST, form)


def write(value: object, max_depth: int, max_size: int, form: Form) -> bytes:
    """Encode a value as `freeze` does, with limits that were checked before.

    Raises:
        EncodeError: as `freeze`, but that the text does not say where.
    """
    if type(value) is not list and not isinstance(value, (list, tuple, dict, ScalarRef)):
        raise EncodeError(
            f"the root must be a list, tuple, dict or ScalarRef, not {type(value).__name__}"
        )
    if max_size > LARGEST:
        max_size = LARGEST
    pieces: list[bytes] = []
    room = max_size - _MORE_AT_ROOT
    try:
        if type(value) is list:
            _array(value, pieces, max_depth, room, form)
        else:
            _unusual(value, pieces, max_depth, room, form)
    except (_TooDeep, RecursionError):
        raise EncodeError(f"nested deeper than {max_depth} levels") from None
    except TooLarge:
        raise EncodeError(f"image of more than {max_size} bytes") from None
    except ValueError as error:  # a released memoryview, an int that Python refuses to print
        raise EncodeError(str(error)) from error
    pieces[0] = form.header + pieces[0][1:]  # the root stands there without a reference to it
    if len(pieces) <= _MANY:
        image = b"".join(pieces)
    else:
        # While bytes are joined each piece takes 80 more: let it not be all of a million at a time.
        starts = range(0, len(pieces), _MANY)
        image = b"".join(b"".join(pieces[start : start + _MANY]) for start in starts)
    if len(image) > max_size:  # the heads of large strings were not counted
        raise EncodeError(f"image of more than {max_size} bytes")
    return image


# Below is the hot loop of the writer, twice, as that of the reader: the most frequent types are
# handled in place, and come first.


def _array(
    value: list[object] | tuple[object, ...],
    pieces: list[bytes],
    levels: int,
    room: int,
    form: Form,
) -> int:
    """Append a reference to an array; return how many bytes of room are left."""
    if not levels:
        raise _TooDeep
    size = len(value)
    head = _ARRAYS[size] if size < 256 else _ARRAY + _u32(size)
    append = pieces.append
    append(head)
    room -= len(head)
    if room < size:  # every item takes a byte or more: do not even start
        raise TooLarge
    item: Any
    for item in value:
        kind = type(item)
        if kind is str:
            piece = (
                (_known_text(item) or short_text(item))
                if len(item) <= SHORT
                else form.text(item, room, pieces)
            )
        elif kind is int:
            piece = _byte(item) or (
                _netint(_NETINT, item)
                if LEAST_INT <= item <= MOST_INT
                else form.large(item, room, pieces)
            )
        elif kind is dict:
            room = _hash(item, pieces, levels - 1, room, form)
            continue
        elif kind is list or kind is tuple:
            room = _array(item, pieces, levels - 1, room, form)
            continue
        elif item is None:
            piece = UNDEF
        elif (leaf := form.leaves.get(kind)) is not None:
            piece = leaf(item, room, pieces)
        else:
            room = _unusual(item, pieces, levels - 1, room, form)
            continue
        append(piece)
        room -= len(piece)
        if room < 0:
            raise TooLarge
    return room


def _hash(value: dict[str, object], pieces: list[bytes], levels: int, room: int, form: Form) -> int:
    """Append a reference to a hash; return how many bytes of room are left."""
    if not levels:
        raise _TooDeep
    keys: list[Any] = list(map(_known_key, value))
    size = len(keys)
    if None in keys or size > 255:
        head, keys = _hash_head(value, room)
    else:
        head = _HASHES[size]
    append = pieces.append
    append(head)
    # The keys are counted before any value is written. Else a long key in each level of a deep
    # tree would be encoded 256 times before the limit is looked at.
    room -= len(head) + sum(map(len, keys))
    if room < size:  # every item takes a byte or more: do not even start
        raise TooLarge
    item: Any
    for item, key in zip(value.values(), keys):  # noqa: B905
        kind = type(item)
        if kind is str:
            piece = (
                (_known_text(item) or short_text(item))
                if len(item) <= SHORT
                else form.text(item, room, pieces)
            )
        elif kind is int:
            piece = _byte(item) or (
                _netint(_NETINT, item)
                if LEAST_INT <= item <= MOST_INT
                else form.large(item, room, pieces)
            )
        elif kind is dict:
            room = _hash(item, pieces, levels - 1, room, form)
            append(key)
            continue
        elif kind is list or kind is tuple:
            room = _array(item, pieces, levels - 1, room, form)
            append(key)
            continue
        elif item is None:
            piece = UNDEF
        elif (leaf := form.leaves.get(kind)) is not None:
            piece = leaf(item, room, pieces)
        else:
            room = _unusual(item, pieces, levels - 1, room, form)
            append(key)
            continue
        append(piece)
        append(key)
        room -= len(piece)
        if room < 0:
            raise TooLarge
    return room


def _hash_head(table: dict[str, object], room: int) -> tuple[bytes, list[bytes]]:
    """Encode what stands before the first value, and the keys, which follow their values.

    One key beyond Latin-1 makes it a FLAG_HASH: only there a key can be UTF-8.
    """
    try:
        names = "".join(table)
    except TypeError:
        wrong = next(key for key in table if not isinstance(key, str))
        raise EncodeError(
            f"dict keys must be str: {reprlib.repr(wrong)} is {type(wrong).__name__}"
        ) from None
    if len(names) > room:
        raise TooLarge
    count = _u32(len(table))
    if names.isascii() or is_latin1(names):
        keys = [key_piece(key) for key in table]
        return _HASH + count, keys
    return _FLAG_HASH + count, [flagged_key(key) for key in table]


def _unusual(value: object, pieces: list[bytes], levels: int, room: int, form: Form) -> int:
    """Append any value at all; return how many bytes of room are left."""
    while isinstance(value, ScalarRef):
        if not levels:
            raise _TooDeep
        pieces.append(_REF)
        levels -= 1
        room -= 1
        value = value.value
    if isinstance(value, (list, tuple, dict)):
        # A subclass may count one thing and iterate another; a copy agrees with itself.
        if isinstance(value, dict):
            table = value if type(value) is dict else dict(value)
            return _hash(table, pieces, levels, room, form)
        items = value if type(value) in (list, tuple) else list(value)
        return _array(items, pieces, levels, room, form)
    piece = scalar(value, room, form, pieces)
    if piece is None:
        return _replacement(value, pieces, levels, room, form)
    pieces.append(piece)
    room -= len(piece)
    if room < 0:  # the hot loops check this for their items, but nobody for the root
        raise TooLarge
    return room


def _replacement(value: object, pieces: list[bytes], levels: int, room: int, form: Form) -> int:
    """Append what the program gives for a value that cannot be sent; return the room left."""
    replacement = value if form.default is None else form.default(value)
    if replacement is value:
        raise EncodeError(f"cannot send {type(value).__name__}: only {_SENDABLE}")
    if not levels:
        raise _TooDeep
    if not isinstance(replacement, Blessed):
        return _unusual(replacement, pieces, levels - 1, room, form)
    head = bytes([ops.REF, ops.BLESS]) + _class_name(replacement.class_name, room)
    first = len(pieces)
    room -= len(head) - 1  # one reference is enough for both
    room = _unusual(replacement.value, pieces, levels - 1, room, form)
    if pieces[first][:1] != _REF:
        raise EncodeError(f"{type(replacement.value).__name__} cannot be blessed")
    pieces[first] = head + pieces[first][1:]  # the reference is to the object, not to what it has
    return room


def _class_name(text: str, room: int) -> bytes:
    """Encode a class name as Perl writes it, and reads it: as Latin-1.

    Of one that does not fit, Perl writes the bytes of its UTF-8, which is another class for whoever
    reads it, Perl included.
    """
    if not text:
        raise EncodeError("class name is empty")
    if len(text) > room:
        raise TooLarge
    name = str.encode(text, "latin-1") if is_latin1(text) else in_utf8(text)
    size = len(name)
    return (bytes([size]) if size < ops.LONG_CLASS else bytes([ops.LONG_CLASS]) + _u32(size)) + name
