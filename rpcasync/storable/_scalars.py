"""The items of an image that hold no other, and what else stands behind an opcode.

The one rule: every length is compared with the bytes left before a slice is taken. An index
beyond the end is an IndexError, which the decoder expects.

This file does not know about tags, or what stands in what.
"""

from __future__ import annotations

import struct
from typing import Literal

from rpcasync.errors import DecodeError
from rpcasync.storable import _opcodes as ops
from rpcasync.storable._opcodes import BYTE, NETINT
from rpcasync.storable._typed import LIMIT, MINOR, ascii_value, behind_literal, float_value
from rpcasync.storable._values import Regexp

__all__ = ["SCALARS", "Reader", "in_utf8", "short"]

_u32 = struct.Struct(">I").unpack_from
_i32 = struct.Struct(">i").unpack_from

_CONSTANTS: dict[int, object] = {
    ops.UNDEF: None,
    ops.SV_UNDEF: None,
    ops.SVUNDEF_ELEM: None,
    ops.SV_YES: True,
    ops.SV_NO: False,
    ops.BOOLEAN_TRUE: True,
    ops.BOOLEAN_FALSE: False,
}
_NONE_OF_THEM = object()

SCALARS = frozenset({*_CONSTANTS, BYTE, NETINT, *ops.STRINGS, ops.VSTRING, ops.LVSTRING})
"""What a reference becomes a ScalarRef of. A regexp has a class, if only Perl's own."""


class Reader:
    """Reads bytes, from `pos` on; nothing but a decoder is one.

    `text` is the image as Latin-1, None if keys are not always slices of it. `sliced` is what byte
    strings are slices of, None if each is decoded by itself. In a `typed` image the forms of
    strings tell what they are, whatever `byte_strings` says.
    """

    __slots__ = ("byte_strings", "data", "pos", "sliced", "text", "typed")

    def __init__(self, data: bytes, byte_strings: Literal["latin-1", "bytes", "utf-8"]) -> None:
        self.data = data
        self.pos = 2  # behind the header
        self.typed = data[1] == MINOR
        if self.typed:
            byte_strings = "latin-1"
        self.byte_strings = byte_strings
        self.text = data.decode("latin-1") if byte_strings == "latin-1" else None
        self.sliced: str | bytes | None = data if byte_strings == "bytes" else self.text

    def scalar(self, op: int) -> object:
        """Read something that holds no other item from behind its opcode."""
        value = _CONSTANTS.get(op, _NONE_OF_THEM)
        if value is not _NONE_OF_THEM:
            return value
        if op == BYTE:
            self.pos += 1
            return self.data[self.pos - 1] - 128
        if op == NETINT:
            (value,) = _i32(self.take(4, "integer"))
            return value
        if op == ops.VSTRING or op == ops.LVSTRING:
            start = self.pos
            literal, op = self._behind_vstring(op)
            if self.typed:
                text = self._raw(op)[0]
                return behind_literal(literal, text, start)
        if op in ops.STRINGS:
            return self._typed_string(op) if self.typed else self._string(op)
        if op == ops.REGEXP:
            return self._regexp()
        at = self.pos - 1
        if op in ops.REFUSED:
            raise DecodeError(
                "unsupported-opcode", f"{ops.REFUSED[op]} ({op:#04x}) at offset {at} is not read"
            )
        raise DecodeError("bad-opcode", f"no opcode {op:#04x}, at offset {at}")

    def _string(self, op: int) -> str | bytes:
        size = self._string_size(op)
        start = self.pos
        if op == ops.UTF8STR or op == ops.LUTF8STR or self.sliced is None:
            return in_utf8(self.take(size, "string"), start)
        self.skip(size, "string")
        return self.sliced[start : self.pos]

    def _string_size(self, op: int) -> int:
        long = op == ops.LSCALAR or op == ops.LUTF8STR
        return self.u32("string length") if long else self.byte("a string length")

    def _raw(self, op: int) -> tuple[bytes, int]:
        """Read a string as bytes; return where it stands, too."""
        size = self._string_size(op)
        start = self.pos
        return self.take(size, "string"), start

    def _typed_string(self, op: int) -> object:
        """Read a string of a typed image, or what has the form of one there."""
        raw, start = self._raw(op)
        if op == ops.LSCALAR:
            return raw
        if op == ops.SCALAR:
            return raw.decode("latin-1")
        if op == ops.LUTF8STR and len(raw) <= LIMIT:
            return float_value(raw, start)
        text = in_utf8(raw, start)
        return ascii_value(text, start) if op == ops.UTF8STR and text.isascii() else text

    def _behind_vstring(self, op: int) -> tuple[bytes, int]:
        """Read the literal of a v-string; return it and the opcode of its value, a string."""
        size = self.u32("literal length") if op == ops.LVSTRING else self.byte("a literal length")
        literal = self.take(size, "v-string literal")
        at = self.pos
        op = self.byte("the string of a v-string")
        if op not in ops.STRINGS:
            raise DecodeError("bad-vstring", f"opcode {op:#04x} at offset {at} is no string")
        return literal, op

    def _regexp(self) -> Regexp:
        long = self.byte("the flags of a regexp") & ops.REGEXP_LONG
        size = self.u32("pattern length") if long else self.byte("a pattern length")
        pattern = self.take(size, "pattern")
        size = self.byte("a modifiers length")
        modifiers = self.take(size, "modifiers").decode("latin-1")
        # Perl sends no mark of the encoding. Wide characters come as UTF-8 and always with
        # the modifier u, but u alone does not prove it.
        if "u" in modifiers:
            try:
                return Regexp(pattern.decode(), modifiers)
            except UnicodeDecodeError:
                pass
        return Regexp(pattern.decode("latin-1"), modifiers)

    def key(self, *, flagged: bool) -> tuple[str | None, int]:
        """Read the key that follows its value, and return where it stands; None if it is unused.

        A restricted hash has names for keys that are not there.
        """
        at = self.pos
        flags = self.byte("the flags of a key") if flagged else 0
        if flags & ~ops.KEY_FLAGS:
            raise DecodeError("bad-key-flags", f"key flags {flags:#04x} at offset {at}")
        size = self.u32("key length")
        start = self.pos
        if flags & ops.KEY_PLACEHOLDER:
            self.skip(size, "key")
            return None, start
        raw = self.take(size, "key")
        if flags & ops.KEY_UTF8 or (self.byte_strings == "utf-8" and not flags & ops.KEY_WAS_UTF8):
            return in_utf8(raw, start), start
        return raw.decode("latin-1"), start

    def byte(self, what: str) -> int:
        """Read one byte."""
        try:
            byte = self.data[self.pos]
        except IndexError:
            raise DecodeError(
                "truncated", f"the image ends at offset {self.pos}, where {what} should be"
            ) from None
        self.pos += 1
        return byte

    def u32(self, what: str) -> int:
        """Read four bytes as a number."""
        start = self.pos
        self.skip(4, what)
        number: int = _u32(self.data, start)[0]
        return number

    def take(self, size: int, what: str) -> bytes:
        """Read so many bytes."""
        start = self.pos
        self.skip(size, what)
        return self.data[start : self.pos]

    def skip(self, size: int, what: str) -> None:
        """Go over so many bytes."""
        end = self.pos + size
        if end > len(self.data):
            raise short(what, size, self.pos, self.data)
        self.pos = end


def short(what: str, size: int, start: int, data: bytes) -> DecodeError:
    """Return the error for what does not end within the image."""
    left = max(len(data) - start, 0)
    return DecodeError(
        "truncated", f"{what} of {size} bytes at offset {start}, {left} bytes are left"
    )


def in_utf8(raw: bytes, start: int) -> str:
    """Decode strictly: no surrogates, nothing above 10FFFF, though Perl can send both."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(
            "bad-utf8", f"{error.reason} at offset {start + error.start}, in {len(raw)} bytes"
        ) from None
