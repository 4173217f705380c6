"""The complete decoder: every opcode, shared things, objects, and every error.

The one rule: nothing is taken on trust. Counts and lengths are compared with the bytes left, and
counts with the limit, before a loop or a slice, and nothing but DecodeError comes out, or
RecursionError, which the caller expects. A container costs one Python frame, a chain of
references none.

This file does not know about the header, the size limit, or the fast path.
"""

from __future__ import annotations

import struct
import sys
from array import array
from functools import lru_cache
from typing import Any, Literal

from rpcasync.errors import DecodeError
from rpcasync.storable import _opcodes as ops
from rpcasync.storable._opcodes import (
    ARRAY,
    BLESS,
    BYTE,
    CONTAINERS,
    FLAG_HASH,
    HASH,
    IX_BLESS,
    NETINT,
    OBJECT,
    REF,
    REFERENCES,
    SCALAR,
    UNDEF,
    UTF8STR,
)
from rpcasync.storable._scalars import SCALARS, Reader, in_utf8, short
from rpcasync.storable._tags import EMPTY, UNFINISHED, Tags, Weight, object_of, referent_of
from rpcasync.storable._values import Blessed, Regexp, scalar_ref

__all__ = ["Decoder"]

_u32 = struct.Struct(">I").unpack_from
_i32 = struct.Struct(">i").unpack_from

# The least an element of a container takes: an opcode; with a key length; with key flags.
_LEAST = {ARRAY: 1, HASH: 5, FLAG_HASH: 6}
_NAMES = {ARRAY: "array", HASH: "hash", FLAG_HASH: "hash"}

_REF = bytes([REF])
_PLAIN = -1  # references among prefixes, where a class is its number
_OVERLOADED = -2


class Decoder(Reader):
    """Reads one image. Make one, call `root`, throw it away."""

    __slots__ = (
        "_max_depth",
        "_max_expanded",
        "_max_items",
        "_tags",
        "_things",
        "_values",
        "_virtual",
        "_weights",
    )

    def __init__(
        self,
        data: bytes,
        max_depth: int,
        byte_strings: Literal["latin-1", "bytes", "utf-8"],
        max_items: int = sys.maxsize,
        max_expanded: int | None = None,
    ) -> None:
        super().__init__(data, byte_strings)
        self._max_depth = max_depth
        self._max_items = max_items
        self._max_expanded = max_expanded
        self._tags = Tags()
        self._things = self._tags.things
        # Values so far, and the bytes that back references stand for. If those have a limit,
        # so have their values, which are counted with the others.
        self._values = 0
        self._virtual = 0
        self._weights: dict[Weight, Weight] = {}  # most are alike, and each is kept once

    def root(self) -> object:
        """Read the whole image; return what a reference to its root is in Python."""
        try:
            value, target, _ = self._item(1, is_root=True)
        except (IndexError, struct.error):
            raise DecodeError(
                "truncated", f"the image ends at offset {len(self.data)}, within an item"
            ) from None
        left = len(self.data) - self.pos
        if left:
            raise DecodeError("trailing", f"{left} bytes follow the root, from offset {self.pos}")
        return referent_of(value) if target is None else target

    # Containers

    def _container(self, op: int, level: int) -> tuple[object, int]:
        """Read an array or hash from behind its opcode; return it and the levels below its own.

        The hot loop: what is most frequent is read in place. Within it, `pos` is where it reads,
        and not `self.pos`.
        """
        data, sliced, text, things = self.data, self.sliced, self.text, self._things
        keep, tag, pos, size = things.append, len(things), self.pos, len(data)
        is_text = -1 if self.typed else UTF8STR  # there it may be something else
        items: list[object] = []
        table: dict[str, object] = {}
        start = pos + 1 if op == FLAG_HASH else pos  # a restricted hash is a dict, too
        (count,) = _u32(data, start)
        if not count:
            keep(EMPTY)
            self.pos = start + 4
            return (items if op == ARRAY else table), 0
        keep(UNFINISHED)
        begin, values = pos - 1 + self._virtual, self._values
        pos = start + 4
        if count * _LEAST[op] > size - pos or values + count > self._max_items:
            raise self._too_many(count, op, pos)
        self._values = values + count
        height = 0
        value: object
        for _ in range(count):
            code = data[pos]
            if code == SCALAR and sliced is not None:
                start = pos + 2
                pos = start + data[pos + 1]
                if pos > size:
                    raise short("string", pos - start, start, data)
                value = sliced[start:pos]
                keep(value)
            elif code == BYTE:
                value = data[pos + 1] - 128
                pos += 2
                keep(value)
            elif code == UNDEF:
                value = None
                pos += 1
                keep(value)
            elif code == NETINT:
                (value,) = _i32(data, pos + 1)
                pos += 5
                keep(value)
            elif code == is_text:
                start = pos + 2
                pos = start + data[pos + 1]
                if pos > size:
                    raise short("string", pos - start, start, data)
                value = in_utf8(data[start:pos], start)
                keep(value)
            elif code in SCALARS:
                self.pos = pos + 1
                value = self.scalar(code)
                keep(value)
                pos = self.pos
            else:
                self.pos = pos
                inner = data[pos + 1] if code == REF else OBJECT
                if inner in CONTAINERS and level < self._max_depth:
                    # Here, so that a level takes one frame: the stack has to have room for all.
                    self.pos = pos + 2
                    at = len(things)
                    keep(UNFINISHED)
                    value, below = self._container(inner, level + 1)
                    things[at] = value
                    below += 1
                elif inner in SCALARS and level < self._max_depth:
                    self.pos = pos + 2
                    at = len(things)
                    keep(UNFINISHED)
                    value = self.scalar(inner)
                    keep(value)
                    value = things[at] = scalar_ref(value)
                    below = 1
                    self._values += 1
                    if self._values > self._max_items:
                        raise self._over_limit(self._values)
                else:
                    value, _, below = self._item(level)
                pos = self.pos
                if below > height:
                    height = below
            if op == ARRAY:
                items.append(value)
            elif op == HASH and text is not None:
                start = pos + 4
                pos = start + _u32(data, pos)[0]
                if pos > size:
                    raise short("key", pos - start, start, data)
                name = text[start:pos]
                if name in table:
                    raise _came_before(pos - start, start)
                table[name] = value
            else:
                self.pos = pos
                key, start = self.key(flagged=op == FLAG_HASH)
                pos = self.pos
                if key is not None:
                    if key in table:
                        raise _came_before(pos - start, start)
                    table[key] = value
        self.pos = pos
        weight = height, self._values - values, pos + self._virtual - begin
        things[tag] = self._weights.setdefault(weight, weight)
        return (items if op == ARRAY else table), height

    def _too_many(self, count: int, op: int, pos: int) -> DecodeError:
        left = len(self.data) - pos
        if count * _LEAST[op] > left:
            return DecodeError(
                "truncated",
                f"{_NAMES[op]} of {count} items at offset {pos - 4}, {left} bytes are left",
            )
        return self._over_limit(self._values + count)

    def _over_limit(self, values: int) -> DecodeError:
        return DecodeError("limit-items", f"{values} values or more, limit is {self._max_items}")

    # References, objects, and what stands behind them

    def _item(self, level: int, *, is_root: bool = False) -> tuple[object, object, int]:
        """Read an item with the references and classes in front of it.

        `level` is that of the container around. Every reference and class adds one; a container
        behind a reference shares the reference's.

        Return the item as an element is in Python, what a reference to it is if that is known,
        and the levels that it adds.
        """
        tags, things, first = self._tags, self._things, len(self._things)
        op = self.data[self.pos]
        if op == OBJECT:
            return self._again(level)
        if op == REF and not is_root:  # quick ways for what may come by the million
            inner = self.data[self.pos + 1]
            if inner == OBJECT and level < self._max_depth:
                return self._reference_again(level)
            if inner == REF and (chain := self._chain(self._max_depth - level)):
                return chain
        prefixes, op = self._prefixes(self._max_depth - level)
        tag, count = len(things), len(prefixes)
        target: object = None
        value: Any = None
        below = 0
        if op in CONTAINERS:
            if tag == first and not is_root:
                raise DecodeError(
                    "bare-container",
                    f"{_NAMES[op]} without a reference in front at offset {self.pos - 1}",
                )
            target, below = self._container(op, level + count)
            self._values -= 1  # it is itself what the reference is
            if count and prefixes[-1] >= 0:  # for its reference, the class belongs to it
                weight: Any = things[tag]
                things[tag] = below + 1, weight[1] + 2, weight[2]
        elif op == OBJECT:
            again, below = self._met_before(level + count)
            value = things[again]
            target = tags.target(again)
            tags.note_again(again)
            self._values -= type(value) is tuple
        else:
            value = self.scalar(op)
            things.append(value)
            if type(value) is Regexp:
                target = referent_of(value)
                self._values += 2  # it holds two texts
        self._values += count
        if self._values > self._max_items:
            raise self._over_limit(self._values)
        if not count:
            return value, target, below
        levels = tags.noted_levels() if op == OBJECT or tag - first > 1 else None
        class_name = None
        for code in reversed(prefixes):
            below += 1
            if code >= 0:
                class_name = tags.classes[code]
                if levels is not None:
                    levels[tag] = below
                continue
            if class_name is not None:
                target, class_name = object_of(class_name, value, target), None
            elif target is None:
                target = scalar_ref(value)
            # Only objects overload. A bool is one in Perl, and has just become True or False.
            if code == _OVERLOADED and type(target) is not Blessed and type(target) is not bool:
                raise DecodeError("corrupt", f"tag {tag - 1} overloads something that is no object")
            tag -= 1
            if levels is not None:
                levels[tag] = below
            things[tag] = value = target
            target = None
        if class_name is not None and is_root:
            target = object_of(class_name, value, target)
        return value, target, below

    def _chain(self, most: int) -> tuple[object, object, int] | None:
        """Read references and a scalar behind them, as `_item()` does; None for anything else."""
        run = self.data[self.pos : self.pos + most + 1]
        length = len(run) - len(run.lstrip(_REF))
        if length == len(run) or run[length] not in SCALARS:
            return None
        things, first = self._things, len(self._things)
        self._values += length
        if self._values > self._max_items:
            raise self._over_limit(self._values)
        things.extend([UNFINISHED] * length)
        self.pos += length + 1
        value = self.scalar(run[length])
        things.append(value)
        for tag in range(first + length - 1, first - 1, -1):
            things[tag] = value = scalar_ref(value)
        self._tags.noted_levels()[first : first + length] = _levels_of(length)
        return value, None, length

    def _again(self, level: int) -> tuple[object, object, int]:
        """Read a back reference that is an element, as `_item()` does."""
        self.pos += 1
        again, below = self._met_before(level)
        value = self._things[again]
        if type(value) is tuple:
            raise DecodeError(
                "bare-container", f"back reference to a container at offset {self.pos - 5}"
            )
        return value, None, below

    def _reference_again(self, level: int) -> tuple[object, object, int]:
        """Read a reference to what was there before, as `_item()` does."""
        tags, things = self._tags, self._things
        things.append(UNFINISHED)
        self.pos += 2
        again, below = self._met_before(level + 1)
        tags.note_again(again)
        value = things[-1] = tags.target(again)
        tags.noted_levels()[-1] = below + 1
        self._values += type(things[again]) is not tuple  # a ScalarRef holds one
        if self._values > self._max_items:
            raise self._over_limit(self._values)
        return value, None, below + 1

    def _prefixes(self, most: int) -> tuple[list[int], int]:
        """Read references and classes up to the first opcode of another kind, and that.

        A class is its number, which is not negative.
        """
        data, pos, things = self.data, self.pos, self._things
        prefixes: list[int] = []
        number = -1  # of the class just before
        while True:
            if len(prefixes) > most:
                self.pos = pos
                raise DecodeError(
                    "limit-depth", f"nested deeper than {self._max_depth} levels at offset {pos}"
                )
            op = data[pos]
            pos += 1
            if op == REF and number < 0:
                prefixes.append(_PLAIN)
                things.append(UNFINISHED)
                continue
            if op in (BLESS, IX_BLESS):
                if number >= 0:
                    raise DecodeError(
                        "nested-bless", f"two class names in a row at offset {pos - 1}"
                    )
                self.pos = pos
                number = self._class_number(op)
                prefixes.append(number)
                pos = self.pos
                continue
            if number >= 0 and op not in CONTAINERS:
                if op == OBJECT:
                    raise DecodeError(
                        "bless-of-backref", f"class for a back reference at offset {pos - 1}"
                    )
                self._tags.note_class(number)
            if op not in REFERENCES:
                self.pos = pos
                return prefixes, op
            prefixes.append(_OVERLOADED if op in ops.OVERLOADED else _PLAIN)
            things.append(UNFINISHED)
            number = -1

    def _class_number(self, op: int) -> int:
        """Read a class name, or the number of one met before; return its number."""
        at, classes = self.pos, self._tags.classes
        self._values += 1  # `_item()` counts the object and compares
        number = self.data[at]
        self.pos += 1
        if number & ops.LONG_CLASS:
            number = self.u32("class")
        if op == IX_BLESS:
            if number >= len(classes):
                raise DecodeError(
                    "bad-class-index",
                    f"class {number} at offset {at}, {len(classes)} were named",
                )
            return number
        if not number:
            raise DecodeError("bad-class", f"empty class name at offset {at}")
        classes.append(self.take(number, "class name").decode("latin-1"))
        return len(classes) - 1

    def _met_before(self, level: int) -> tuple[int, int]:
        """Read a tag that was given; return it and the levels that the thing adds.

        What the thing stands for counts once more. Else a short image could build a deep or vast
        structure from small pieces, and whoever walks it would pay.
        """
        at = self.pos
        tag = self.u32("tag")
        if tag >= len(self._things):
            raise DecodeError(
                "bad-tag", f"back reference to tag {tag} at offset {at}, {len(self._things)} given"
            )
        if self._things[tag] is UNFINISHED:
            raise DecodeError("cycle", f"tag {tag} at offset {at} stands inside itself")
        below = self._tags.levels(tag)
        if level + below > self._max_depth:
            raise DecodeError(
                "limit-depth", f"nested deeper than {self._max_depth} levels at offset {at}"
            )
        if self._max_expanded is not None:
            values, size = self._tags.weight(tag)
            self._values += values
            self._virtual += size
            size = self.pos + self._virtual
            if size > self._max_expanded:
                raise _too_much_shared("limit-size", f"{size} bytes", self._max_expanded)
            if self._values > self._max_items:
                raise _too_much_shared("limit-items", f"{self._values} values", self._max_items)
        return tag, below


def _too_much_shared(code: str, size: str, limit: int) -> DecodeError:
    return DecodeError(code, f"{size} or more with all that is shared, limit is {limit}")


@lru_cache(maxsize=256)
def _levels_of(length: int) -> array[int]:
    """Return the levels of the references of a chain."""
    return array("I", range(length, 0, -1))


def _came_before(size: int, start: int) -> DecodeError:
    return DecodeError("duplicate-key", f"key of {size} bytes at offset {start} came before")
