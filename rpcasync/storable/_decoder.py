"""The complete decoder: every opcode, shared things, objects, and every error.

Storable numbers all it stores from 0, in the order of appearance: the *tag*. A later item
may say "the thing with tag 7 again". What that means depends on the thing. A scalar stands
for its value; an array or hash may only be meant behind a reference. So each tag has a value
(what it is as an element) and, once needed, a target (what a reference to it is in Python).

The one rule: nothing is taken on trust. Counts and lengths are compared with the bytes left
before a loop or a slice, and nothing but DecodeError comes out, or RecursionError, which the
caller expects. A container costs one Python frame, a chain of references none.

This file does not know about the header, the size limit, or the fast path.
"""

from __future__ import annotations

import struct
from typing import Literal, TypeAlias

from rpcasync.errors import DecodeError
from rpcasync.storable import _opcodes as ops
from rpcasync.storable._values import Blessed, Regexp, ScalarRef

_u32 = struct.Struct(">I").unpack_from
_i32 = struct.Struct(">i").unpack_from

# An opened reference (its opcode and its tag) or bless prefix (opcode and class name).
_Prefix: TypeAlias = tuple[int, int | str]

_UNFINISHED = object()  # value of a tag that is still being read
_CONTAINER = object()  # value of an array or hash: it has only a target

_CONSTANTS: dict[int, object] = {
    ops.UNDEF: None,
    ops.SV_UNDEF: None,
    ops.SVUNDEF_ELEM: None,
    ops.SV_YES: True,
    ops.SV_NO: False,
    ops.BOOLEAN_TRUE: True,
    ops.BOOLEAN_FALSE: False,
}

# The least an element of a container takes: an opcode; with a key length; with key flags.
_LEAST = {ops.ARRAY: 1, ops.HASH: 5, ops.FLAG_HASH: 6}
_NAMES = {ops.ARRAY: "array", ops.HASH: "hash", ops.FLAG_HASH: "hash"}

_SMALL = 6  # bytes; what is no larger counts as this much, so that its size need not be kept

_JSON_BOOLEAN = "JSON::PP::Boolean"  # what Perl's JSON modules make of true and false


class Decoder:
    """Reads one image. Make one, call `root`, throw it away."""

    __slots__ = (
        "_byte_strings",
        "_classes",
        "_data",
        "_expanded",
        "_heights",
        "_max_depth",
        "_max_expanded",
        "_pos",
        "_targets",
        "_values",
        "_virtual",
    )

    def __init__(
        self,
        data: bytes,
        max_depth: int,
        byte_strings: Literal["latin-1", "bytes", "utf-8"],
        max_expanded: int | None = None,
    ) -> None:
        self._data = data
        self._pos = 2  # behind the header
        self._max_depth = max_depth
        self._byte_strings = byte_strings
        self._values: list[object] = []  # by tag
        self._targets: dict[int, object] = {}  # by tag
        # By tag, if not 0: levels that a reference to the thing has below its own. A back
        # reference repeats them all, so a short image could build a deep structure from
        # shallow pieces, and whoever walks it would pay.
        self._heights: dict[int, int] = {}
        self._classes: list[str] = []
        # The bytes that back references stand for, so far; and by tag, how many a reference to
        # the thing would add: its own, and those of the references in it.
        self._virtual = 0
        self._max_expanded = max_expanded
        self._expanded: dict[int, int] = {}

    def root(self) -> object:
        """Read the whole image; return what a reference to its root is in Python."""
        prefixes, op = self._prefixes(1, referenced=True)
        level = 1 + len(prefixes)
        tag = self._container(op, level) if op in ops.CONTAINERS else self._leaf(op, level)
        tag = self._wrap(prefixes, tag)
        left = len(self._data) - self._pos
        if left:
            raise DecodeError("trailing", f"{left} bytes follow the root, from offset {self._pos}")
        return self._target(tag)

    def _prefixes(self, level: int, *, referenced: bool = False) -> tuple[list[_Prefix], int]:
        """Read references and bless prefixes up to the first opcode of another kind.

        `level` is that of the container around. Every prefix adds one; a container behind a
        reference shares the reference's.
        """
        prefixes: list[_Prefix] = []
        blessed = False  # by the prefix just before
        while True:
            self._check_level(level + len(prefixes))
            at = self._pos
            op = self._byte("an item")
            if op in ops.REFERENCES:
                prefixes.append((op, len(self._values)))
                self._values.append(_UNFINISHED)
                referenced, blessed = True, False
            elif op == ops.BLESS or op == ops.IX_BLESS:
                if blessed:
                    raise DecodeError("nested-bless", f"two class names in a row at offset {at}")
                prefixes.append((op, self._class_name(op)))
                blessed = True
            else:
                break
        if op == ops.OBJECT and blessed:
            raise DecodeError("bless-of-backref", f"class for a back reference at offset {at}")
        if op in ops.CONTAINERS and not referenced:
            raise DecodeError(
                "bare-container", f"{_NAMES[op]} without a reference in front at offset {at}"
            )
        return prefixes, op

    def _container(self, op: int, level: int) -> int:
        """Read an array or hash from behind its opcode; return its tag."""
        tag = len(self._values)
        self._values.append(_UNFINISHED)
        begin = self._pos + self._virtual - 1
        count = self._count(op)
        items: list[object] = []
        table: dict[str, object] = {}
        height = 0
        for _ in range(count):
            at = self._pos
            prefixes, inner = self._prefixes(level)
            below = level + len(prefixes)
            if inner in ops.CONTAINERS:
                thing = self._container(inner, below)
            else:
                thing = self._leaf(inner, below)
            thing = self._wrap(prefixes, thing)
            value = self._values[thing]
            if value is _CONTAINER:
                raise DecodeError("bare-container", f"back reference to a container at offset {at}")
            height = max(height, self._heights.get(thing, 0))
            if op == ops.ARRAY:
                items.append(value)
            else:
                self._add_pair(table, value, flagged=op == ops.FLAG_HASH)
        self._values[tag] = _CONTAINER
        self._targets[tag] = items if op == ops.ARRAY else table
        if height:
            self._heights[tag] = height
        self._expanded[tag] = self._pos + self._virtual - begin
        return tag

    def _leaf(self, op: int, level: int) -> int:
        """Read something that holds no other item from behind its opcode; return its tag."""
        at = self._pos - 1
        if op == ops.OBJECT:
            return self._back_reference(level)
        if op == ops.VSTRING or op == ops.LVSTRING:
            op = self._behind_vstring(op)
        tag = len(self._values)
        value: object
        if op in _CONSTANTS:
            value = _CONSTANTS[op]
        elif op == ops.BYTE:
            value = self._byte("an integer") - 128
        elif op == ops.NETINT:
            (value,) = _i32(self._take(4, "integer"))
        elif op in ops.STRINGS:
            value = self._string(op)
        elif op == ops.REGEXP:
            value = self._regexp()
            self._targets[tag] = Blessed("Regexp", value)  # Perl's own class, if none is given
        elif op in ops.REFUSED:
            raise DecodeError(
                "unsupported-opcode", f"{ops.REFUSED[op]} ({op:#04x}) at offset {at} is not read"
            )
        else:
            raise DecodeError("bad-opcode", f"no opcode {op:#04x}, at offset {at}")
        self._values.append(value)
        if self._pos - at > _SMALL:
            self._expanded[tag] = self._pos - at
        return tag

    def _wrap(self, prefixes: list[_Prefix], tag: int) -> int:
        """Apply the prefixes in front of a thing, from the inside; return the outermost tag."""
        for op, what in reversed(prefixes):
            height = self._heights.get(tag, 0) + 1
            if isinstance(what, str):
                self._targets[tag] = self._bless(what, tag)
                self._heights[tag] = height
                continue
            target = self._target(tag)
            # Only objects overload. A bool is one in Perl, and has just become True or False.
            if op in ops.OVERLOADED and not isinstance(target, (Blessed, bool)):
                raise DecodeError("corrupt", f"tag {what} overloads something that is no object")
            self._values[what] = target
            self._heights[what] = height
            self._expanded[what] = self._expanded.get(tag, _SMALL) + 1
            tag = what
        return tag

    def _target(self, tag: int) -> object:
        """Tell what a reference to the thing is: for one scalar always the same ScalarRef."""
        if tag not in self._targets:
            self._targets[tag] = ScalarRef(self._values[tag])
        return self._targets[tag]

    def _bless(self, class_name: str, tag: int) -> object:
        value = self._values[tag]
        if isinstance(value, Regexp):
            return Blessed(class_name, value)
        if class_name == _JSON_BOOLEAN and type(value) is int and value in (0, 1):
            return value == 1
        return Blessed(class_name, self._target(tag))

    def _back_reference(self, level: int) -> int:
        at = self._pos
        tag = self._u32("tag")
        if tag >= len(self._values):
            raise DecodeError(
                "bad-tag", f"back reference to tag {tag} at offset {at}, {len(self._values)} given"
            )
        if self._values[tag] is _UNFINISHED:
            raise DecodeError("cycle", f"tag {tag} at offset {at} stands inside itself")
        self._check_level(level + self._heights.get(tag, 0))
        self._virtual += self._expanded.get(tag, _SMALL)
        size = self._pos + self._virtual
        if self._max_expanded is not None and size > self._max_expanded:
            raise DecodeError(
                "limit-size",
                f"{size} bytes or more with all that is shared, limit is {self._max_expanded}",
            )
        return tag

    def _check_level(self, level: int) -> None:
        if level > self._max_depth:
            raise DecodeError(
                "limit-depth",
                f"nested deeper than {self._max_depth} levels at offset {self._pos}",
            )

    def _count(self, op: int) -> int:
        """Read how many items a container has; there must be bytes left for all of them."""
        if op == ops.FLAG_HASH:
            self._byte("the flags of a hash")  # a restricted hash is a dict, too
        at = self._pos
        count = self._u32("count")
        left = len(self._data) - self._pos
        if count * _LEAST[op] > left:
            raise DecodeError(
                "truncated",
                f"{_NAMES[op]} of {count} items at offset {at}, {left} bytes are left",
            )
        return count

    def _add_pair(self, table: dict[str, object], value: object, *, flagged: bool) -> None:
        """Read the key that follows its value."""
        at = self._pos
        flags = self._byte("the flags of a key") if flagged else 0
        if flags & ~ops.KEY_FLAGS:
            raise DecodeError("bad-key-flags", f"key flags {flags:#04x} at offset {at}")
        size = self._u32("key length")
        start = self._pos
        raw = self._take(size, "key")
        if flags & ops.KEY_PLACEHOLDER:
            return
        if flags & ops.KEY_UTF8 or (self._byte_strings == "utf-8" and not flags & ops.KEY_WAS_UTF8):
            key = _utf8(raw, start)
        else:
            key = raw.decode("latin-1")
        if key in table:
            raise DecodeError("duplicate-key", f"key of {size} bytes at offset {start} came before")
        table[key] = value

    def _string(self, op: int) -> str | bytes:
        long = op == ops.LSCALAR or op == ops.LUTF8STR
        size = self._u32("string length") if long else self._byte("a string length")
        start = self._pos
        raw = self._take(size, "string")
        if op == ops.UTF8STR or op == ops.LUTF8STR or self._byte_strings == "utf-8":
            return _utf8(raw, start)
        return raw if self._byte_strings == "bytes" else raw.decode("latin-1")

    def _behind_vstring(self, op: int) -> int:
        """Skip the literal of a v-string; return the opcode of the string that is its value."""
        size = self._u32("literal length") if op == ops.LVSTRING else self._byte("a literal length")
        self._take(size, "v-string literal")
        at = self._pos
        op = self._byte("the string of a v-string")
        if op not in ops.STRINGS:
            raise DecodeError("bad-vstring", f"opcode {op:#04x} at offset {at} is no string")
        return op

    def _regexp(self) -> Regexp:
        long = self._byte("the flags of a regexp") & ops.REGEXP_LONG
        size = self._u32("pattern length") if long else self._byte("a pattern length")
        pattern = self._take(size, "pattern")
        size = self._byte("a modifiers length")
        modifiers = self._take(size, "modifiers").decode("latin-1")
        # Perl sends no mark of the encoding. Wide characters come as UTF-8 and always with
        # the modifier u, but u alone does not prove it.
        if "u" in modifiers:
            try:
                return Regexp(pattern.decode(), modifiers)
            except UnicodeDecodeError:
                pass
        return Regexp(pattern.decode("latin-1"), modifiers)

    def _class_name(self, op: int) -> str:
        """Read a class name, or the index of one met before."""
        at = self._pos
        number = self._byte("a class name")
        if number & ops.LONG_CLASS:
            number = self._u32("class")
        if op == ops.IX_BLESS:
            if number >= len(self._classes):
                raise DecodeError(
                    "bad-class-index",
                    f"class {number} at offset {at}, {len(self._classes)} were named",
                )
            return self._classes[number]
        if not number:
            raise DecodeError("bad-class", f"empty class name at offset {at}")
        name = self._take(number, "class name").decode("latin-1")
        self._classes.append(name)
        return name

    def _byte(self, what: str) -> int:
        try:
            byte = self._data[self._pos]
        except IndexError:
            raise DecodeError(
                "truncated", f"the image ends at offset {self._pos}, where {what} should be"
            ) from None
        self._pos += 1
        return byte

    def _u32(self, what: str) -> int:
        number: int = _u32(self._take(4, what))[0]
        return number

    def _take(self, size: int, what: str) -> bytes:
        start = self._pos
        end = start + size
        left = len(self._data) - start
        if size > left:
            raise DecodeError(
                "truncated", f"{what} of {size} bytes at offset {start}, {left} bytes are left"
            )
        self._pos = end
        return self._data[start:end]


def _utf8(raw: bytes, start: int) -> str:
    """Decode strictly: no surrogates, nothing above 10FFFF, though Perl can send both."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(
            "bad-utf8", f"{error.reason} at offset {start + error.start}, in {len(raw)} bytes"
        ) from None
