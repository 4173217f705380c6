"""Python values to a Storable image, in the forms that every Perl takes without surprises.

The image is a list of pieces, joined at the end. Small numbers, heads of containers and
short strings are ready-made pieces; the last come from bounded caches, because method names
and hash keys repeat.

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
from collections.abc import Callable, Iterable
from functools import lru_cache

from rpcasync.errors import EncodeError
from rpcasync.storable import _opcodes as ops
from rpcasync.storable._values import Blessed, ScalarRef

__all__ = ["freeze"]

_u32 = struct.Struct(">I").pack
_netint = struct.Struct(">Bi").pack

_HEADER = ops.HEADER
_MORE_AT_ROOT = len(_HEADER) - 1  # bytes; the root has no REF
_REF = bytes([ops.REF])
_UNDEF = bytes([ops.UNDEF])
_BYTES = {n: bytes([ops.BYTE, n + 128]) for n in range(-128, 128)}
_ARRAY = bytes([ops.REF, ops.ARRAY])
_HASH = bytes([ops.REF, ops.HASH])
_FLAG_HASH = bytes([ops.REF, ops.FLAG_HASH, 0])
_ARRAYS = [_ARRAY + _u32(size) for size in range(256)]
_MANY = 10_000
_SHORT = 32  # longest str, in characters, whose encoding is kept for the next time

_LARGEST = 2**31 - 1  # bytes; Perl reads no longer string, and a frame ends at twice that
_WHOLE = 2.0**53  # from here on a float need not mean the whole number it holds
_INT_BITS = 14_000  # about the 4300 digits from which Python refuses to print an int
_PERL_NAMES = {"inf": "Inf", "-inf": "-Inf", "nan": "NaN"}
_Default = Callable[[object], object] | None
_SENDABLE = "None, bool, int, float, str, bytes, list, tuple, dict and ScalarRef can be sent"


class _TooDeep(Exception):
    """No levels are left."""


class _TooLarge(Exception):
    """No room is left."""


def freeze(
    value: object,
    *,
    max_depth: int = 256,
    max_size: int = 16 * 1024 * 1024,
    default: Callable[[object], object] | None = None,
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
            class.

    Raises:
        EncodeError: the value, or something in it, cannot be sent or exceeds a limit.
        ValueError: a limit is below 1.

    Source: what Storable 3.26, as run by Perl 5.36, writes for the like and accepts back.
    """
    if max_depth < 1 or max_size < 1:
        raise ValueError(f"limits start at 1: max_depth={max_depth}, max_size={max_size}")
    if type(value) is not list and not isinstance(value, (list, tuple, dict, ScalarRef)):
        raise EncodeError(
            f"the root must be a list, tuple, dict or ScalarRef, not {type(value).__name__}"
        )
    if max_size > _LARGEST:
        max_size = _LARGEST
    pieces: list[bytes] = []
    room = max_size - _MORE_AT_ROOT
    try:
        if type(value) is list:
            _container(value, pieces, max_depth, room, default)
        else:
            _unusual(value, pieces, max_depth, room, default)
    except (_TooDeep, RecursionError):
        raise EncodeError(f"nested deeper than {max_depth} levels") from None
    except _TooLarge:
        raise EncodeError(f"image of more than {max_size} bytes") from None
    except ValueError as error:  # a released memoryview, an int that Python refuses to print
        raise EncodeError(str(error)) from error
    pieces[0] = _HEADER + pieces[0][1:]  # the root stands there without a reference to it
    if len(pieces) <= _MANY:
        return b"".join(pieces)
    # While bytes are joined each piece takes 80 more: let it not be all of a million at a time.
    starts = range(0, len(pieces), _MANY)
    return b"".join(b"".join(pieces[start : start + _MANY]) for start in starts)


def _container(
    value: list[object] | tuple[object, ...] | dict[str, object],
    pieces: list[bytes],
    levels: int,
    room: int,
    default: _Default,
) -> int:
    """Append a reference to a container; return how many bytes of room are left.

    The hot loop of the writer: frequent types are handled in place.
    """
    if not levels:
        raise _TooDeep
    items: Iterable[object] = value
    if type(value) is dict:
        head, names = _hash_head(value, room)
        items = value.values()
        keys = iter(names)
        # The keys are counted before any value is written. Else a long key in each level of a
        # deep tree would be encoded 256 times before the limit is looked at.
        room -= sum(map(len, names))
    else:
        size = len(value)
        head = _ARRAYS[size] if size < 256 else _ARRAY + _u32(size)
        keys = None
    append = pieces.append
    append(head)
    room -= len(head)
    if room < len(value):  # every item takes a byte or more: do not even start
        raise _TooLarge
    for item in items:
        if type(item) is str:
            piece = _short_text(item) if len(item) <= _SHORT else _text(item, room)
        elif type(item) is int:
            piece = _BYTES.get(item) or _integer(item, room)
        elif type(item) is list or type(item) is dict or type(item) is tuple:
            room = _container(item, pieces, levels - 1, room, default)
            piece = b""  # the call has appended it
        elif item is None:
            piece = _UNDEF
        else:
            room = _unusual(item, pieces, levels - 1, room, default)
            piece = b""
        append(piece)
        if keys is not None:
            append(next(keys))
        room -= len(piece)
        if room < 0:
            raise _TooLarge
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
        raise _TooLarge
    count = _u32(len(table))
    if names.isascii() or _is_latin1(names):
        keys = [_short_key(key) if len(key) <= _SHORT else _key(key) for key in table]
        return _HASH + count, keys
    return _FLAG_HASH + count, [_flagged_key(key) for key in table]


def _is_latin1(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def _key(key: str) -> bytes:
    raw = str.encode(key, "latin-1")
    return _u32(len(raw)) + raw


@lru_cache(maxsize=1024)
def _short_key(key: str) -> bytes:
    return _key(key)


def _flagged_key(key: str) -> bytes:
    if _is_latin1(key):
        return b"\0" + _key(key)
    raw = _utf8(key)
    return bytes([ops.KEY_UTF8]) + _u32(len(raw)) + raw


def _unusual(value: object, pieces: list[bytes], levels: int, room: int, default: _Default) -> int:
    """Append any value at all; return how many bytes of room are left."""
    while isinstance(value, ScalarRef):
        if not levels:
            raise _TooDeep
        pieces.append(_REF)
        levels -= 1
        room -= 1
        value = value.value
    if isinstance(value, (list, tuple, dict)):
        if type(value) not in (list, tuple, dict):
            # A subclass may count one thing and iterate another; a copy agrees with itself.
            value = dict(value) if isinstance(value, dict) else list(value)
        return _container(value, pieces, levels, room, default)
    piece = _scalar(value, room)
    if piece is None:
        return _replacement(value, pieces, levels, room, default)
    pieces.append(piece)
    room -= len(piece)
    if room < 0:  # `_container` checks this for its items, but nobody for the root
        raise _TooLarge
    return room


def _replacement(
    value: object, pieces: list[bytes], levels: int, room: int, default: _Default
) -> int:
    """Append what the program gives for a value that cannot be sent; return the room left."""
    replacement = value if default is None else default(value)
    if replacement is value:
        raise EncodeError(f"cannot send {type(value).__name__}: only {_SENDABLE}")
    if not levels:
        raise _TooDeep
    if not isinstance(replacement, Blessed):
        return _unusual(replacement, pieces, levels - 1, room, default)
    head = bytes([ops.REF, ops.BLESS]) + _class_name(replacement.class_name, room)
    first = len(pieces)
    room -= len(head) - 1  # one reference is enough for both
    room = _unusual(replacement.value, pieces, levels - 1, room, default)
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
        raise _TooLarge
    name = str.encode(text, "latin-1") if _is_latin1(text) else _utf8(text)
    size = len(name)
    return (bytes([size]) if size < ops.LONG_CLASS else bytes([ops.LONG_CLASS]) + _u32(size)) + name


def _scalar(value: object, room: int) -> bytes | None:
    """Encode what holds no other value; None for what cannot be sent.

    Subclasses must not have their say in it.
    """
    if value is None:
        return _UNDEF
    if isinstance(value, float):
        return _float(float.__float__(value), room)
    if isinstance(value, int):  # bool as well: Storable before 3.27 dies of BOOLEAN_TRUE
        number = int.__int__(value)
        return _BYTES.get(number) or _integer(number, room)
    if isinstance(value, str):
        return _text(str.__str__(value), room)
    if isinstance(value, memoryview):
        if value.nbytes > room:
            raise _TooLarge
        return _octets(value.tobytes(), room)
    if isinstance(value, (bytes, bytearray)):
        return _octets(value, room)
    return None


def _integer(number: int, room: int) -> bytes:
    if -(2**31) <= number < 2**31:
        return _netint(ops.NETINT, number)
    if number.bit_length() > _INT_BITS:
        raise EncodeError(f"int of {number.bit_length()} bits, limit is {_INT_BITS}")
    return _octets(str(number).encode(), room)


def _float(number: float, room: int) -> bytes:
    if -_WHOLE < number < _WHOLE and number == int(number):
        whole = int(number)
        return _BYTES.get(whole) or _integer(whole, room)
    text = repr(number).removesuffix(".0")  # 17 digits where it takes them: Perl sends 15
    return _octets(_PERL_NAMES.get(text, text).encode(), room)


def _text(text: str, room: int) -> bytes:
    if len(text) > room:  # before a copy of it is made
        raise _TooLarge
    raw = _utf8(text)
    size = len(raw)
    if size == len(text):  # ASCII
        return _octets(raw, room)
    if size < 256:
        return bytes([ops.UTF8STR, size]) + raw
    return bytes([ops.LUTF8STR]) + _u32(size) + raw


@lru_cache(maxsize=1024)
def _short_text(text: str) -> bytes:
    return _text(text, _LARGEST)


def _octets(raw: bytes | bytearray, room: int) -> bytes:
    size = len(raw)
    if size < 256:
        return bytes([ops.SCALAR, size]) + raw
    if size > room:
        raise _TooLarge
    return bytes([ops.LSCALAR]) + _u32(size) + raw


def _utf8(text: str) -> bytes:
    try:
        return str.encode(text)
    except UnicodeEncodeError as error:
        raise EncodeError(
            f"str with lone surrogate {text[error.start]!r} at index {error.start} has no UTF-8"
        ) from None
