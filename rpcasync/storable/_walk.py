"""Where things stand in an image: a walk over its items, which makes no values.

For whoever changes an item of an image and leaves the others as they are, bit for bit. It finds
back references, and what stands under one key in the hashes of one class, as far as these are what
a program meets that goes through lists, hashes and references, but not into objects.

The one rule: it is for images that were decoded before, and never judges. What it does not expect
is a ValueError, and whoever asked does without. It takes no Python frame for a level.

This file does not know what is to be changed, and why.
"""

from __future__ import annotations

import struct
from array import array
from typing import NamedTuple

from rpcasync.storable._opcodes import (
    ARRAY,
    BLESS,
    BYTE,
    CONTAINERS,
    FLAG_HASH,
    IX_BLESS,
    KEY_PLACEHOLDER,
    LONG_CLASS,
    LSCALAR,
    LUTF8STR,
    LVSTRING,
    NETINT,
    OBJECT,
    REFERENCES,
    REGEXP,
    REGEXP_LONG,
    SCALAR,
    STRINGS,
    UTF8STR,
    VSTRING,
)
from rpcasync.storable._scalars import SCALARS

__all__ = ["NO_CLASS", "Item", "Places", "scalar_end", "tag_at", "walk"]

_u32 = struct.Struct(">I").unpack_from

NO_CLASS = -1


class Item(NamedTuple):
    """A scalar or a back reference."""

    start: int
    """Where its opcode is."""
    end: int
    tag: int
    """Its own; a back reference has none, and this is the tag that the next thing takes."""
    class_number: int
    """Of the class that stands in front of it, or NO_CLASS."""


class Places(NamedTuple):
    """What was found, in the order of the image."""

    starts: array[int]
    """Where the thing with each tag has its opcode."""
    again: list[Item]
    """The back references."""
    fields: list[Item]
    """What stands under the key, if that is a scalar or a back reference."""


def walk(image: bytes, class_name: bytes, key: bytes) -> Places:
    """Find the back references of an image, and the values under a key in the hashes of a class.

    A hash of the class that stands in an object of another class is left alone. No class has an
    empty name: with that, nothing is found but back references.

    Raises:
        ValueError: it is no image, or one such hash may be met outside of that object, too.
    """
    try:
        return _walk(image, class_name, key)
    except (IndexError, struct.error):
        raise ValueError(f"the image ends at offset {len(image)}, within an item") from None


def _walk(data: bytes, class_name: bytes, key: bytes) -> Places:
    """Go from item to item.

    A length that leads beyond the end is found by the next look at `data`, or at the end.
    """
    starts, again, fields = array("I"), list[Item](), list[Item]()
    classes: list[bytes] = []
    is_hidden = False  # a hash of the class, by an object around it
    # The containers around the one that is read, which has `left` elements to come. `is_wanted` is
    # said of a hash of the class, and `around` is how many objects it stands in.
    frames: list[tuple[int, int, bool, int]] = []
    kind, left, is_wanted, around = ARRAY, 1, False, 0
    # The element that is read: whether a reference is in front, the class that is, and objects.
    is_behind, number, objects = True, NO_CLASS, 0
    pos = 2
    while True:
        start = pos
        op = data[pos]
        pos += 1
        if op in REFERENCES:
            starts.append(start)
            is_behind, number = True, NO_CLASS
            continue
        if op in (BLESS, IX_BLESS):
            number, pos = _class_number(data, pos, op, classes)
            objects += is_behind  # else it is a scalar that has a class, and what it holds has not
            continue
        if op in CONTAINERS:
            starts.append(start)
            pos += 1 if op == FLAG_HASH else 0
            (count,) = _u32(data, pos)
            pos += 4
            if count:
                frames.append((kind, left, is_wanted, around))
                kind, left, around = op, count, objects
                is_wanted = op != ARRAY and number != NO_CLASS and classes[number] == class_name
                if is_wanted and objects > 1:
                    is_wanted, is_hidden = False, True
                is_behind, number = False, NO_CLASS
                continue
        elif op == OBJECT:
            if is_hidden and not objects:
                raise ValueError(f"back reference at offset {start}, and an object within another")
            pos += 4
            again.append(Item(start, pos, len(starts), number))
        else:
            pos = scalar_end(data, start)
            starts.append(start)
        is_plain = not is_behind and op not in CONTAINERS
        while True:  # an element ends here, and with it perhaps its container, an element, too
            if kind != ARRAY:
                flags = 0
                if kind == FLAG_HASH:
                    flags = data[pos]
                    pos += 1
                (size,) = _u32(data, pos)
                pos += 4
                if is_wanted and is_plain and _is_key(data, pos, size, flags, key):
                    end = pos - 4 - (kind == FLAG_HASH)
                    fields.append(Item(start, end, len(starts) - (op != OBJECT), number))
                pos += size
            left -= 1
            if left:
                break
            if not frames:
                if pos != len(data):
                    raise ValueError(f"the root ends at offset {pos} of {len(data)} bytes")
                return Places(starts, again, fields)
            kind, left, is_wanted, around = frames.pop()
            is_plain = False
        is_behind, number, objects = False, NO_CLASS, around


def _is_key(data: bytes, start: int, size: int, flags: int, key: bytes) -> bool:
    return size == len(key) and not flags & KEY_PLACEHOLDER and data.startswith(key, start)


def _class_number(data: bytes, pos: int, op: int, classes: list[bytes]) -> tuple[int, int]:
    """Read a class from behind its opcode; return its number and where it ends."""
    number = data[pos]
    pos += 1
    if number & LONG_CLASS:
        (number,) = _u32(data, pos)
        pos += 4
    if op == IX_BLESS:
        if number >= len(classes):
            raise ValueError(f"class {number} at offset {pos - 1}, {len(classes)} were named")
        return number, pos
    classes.append(data[pos : pos + number])
    return len(classes) - 1, pos + number


def scalar_end(data: bytes, start: int) -> int:
    """Return where an item ends that holds no other.

    Raises:
        ValueError: it is none of those.
        IndexError, struct.error: the image ends within it.
    """
    op = data[start]
    pos = start + 1
    if op in (SCALAR, UTF8STR):
        return pos + 1 + data[pos]
    if op == BYTE:
        return pos + 1
    if op == NETINT:
        return pos + 4
    if op in (LSCALAR, LUTF8STR):
        return pos + 4 + int(_u32(data, pos)[0])
    if op in (VSTRING, LVSTRING):
        # The literal is as long as a string of the other opcodes would be.
        pos += 1 + data[pos] if op == VSTRING else 4 + int(_u32(data, pos)[0])
        if data[pos] not in STRINGS:
            raise ValueError(f"opcode {data[pos]:#04x} at offset {pos} is no string")
        return scalar_end(data, pos)
    if op == REGEXP:
        is_long = data[pos] & REGEXP_LONG
        pos += 1
        pos += 4 + int(_u32(data, pos)[0]) if is_long else 1 + data[pos]
        return pos + 1 + data[pos]
    if op in SCALARS:
        return pos
    raise ValueError(f"opcode {op:#04x} at offset {start} is no scalar")


def tag_at(data: bytes, again: Item) -> int:
    """Return the tag that a back reference has."""
    tag: int = _u32(data, again.start + 1)[0]
    return tag
