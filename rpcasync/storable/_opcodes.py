"""The opcodes of a Storable image, one byte each, and what follows them.

Source: Storable.xs of Perl's core module Storable 3.26, network order (`nfreeze`). Lengths,
counts and tags are `u32`: four bytes, most significant first. An `item` is an opcode and
all that belongs to it. Every item takes the next tag, from 0, except those marked "no tag".

The one rule: numbers and their names only; how they are read is told in `_thaw` and
`_decoder`, what is written in `_freeze`.
"""

from __future__ import annotations

HEADER = b"\x05\x0b"  # major 2 and the network-order bit, then minor 11
NETWORK_ORDER = 0x05
NATIVE_ORDER = 0x04

OBJECT = 0x00  # u32 tag: the thing that has this tag, once more; no tag of its own
LSCALAR = 0x01  # u32 length, bytes
ARRAY = 0x02  # u32 count, items
HASH = 0x03  # u32 count, then count times: item, u32 key length, key
REF = 0x04  # item: a reference to it
UNDEF = 0x05
INTEGER = 0x06  # eight bytes in the sender's order: refused
DOUBLE = 0x07  # likewise
BYTE = 0x08  # one byte: the value + 128
NETINT = 0x09  # four bytes, two's complement
SCALAR = 0x0A  # length byte, bytes
TIED_ARRAY = 0x0B
TIED_HASH = 0x0C
TIED_SCALAR = 0x0D
SV_UNDEF = 0x0E  # a hole in an array, or the one immortal undef
SV_YES = 0x0F
SV_NO = 0x10
BLESS = 0x11  # class name, item; no tag
IX_BLESS = 0x12  # index of a class name met before, item; no tag
HOOK = 0x13
OVERLOAD = 0x14  # as REF, to an object whose class overloads operators
TIED_KEY = 0x15
TIED_IDX = 0x16
UTF8STR = 0x17  # length byte, UTF-8
LUTF8STR = 0x18  # u32 length, UTF-8
FLAG_HASH = 0x19  # flags byte, u32 count, then: item, key flags byte, u32 key length, key
CODE = 0x1A
WEAKREF = 0x1B  # as REF
WEAKOVERLOAD = 0x1C  # as OVERLOAD
VSTRING = 0x1D  # length byte, literal, string item; no tag of its own
LVSTRING = 0x1E  # u32 length, literal, string item; no tag of its own
SVUNDEF_ELEM = 0x1F
REGEXP = 0x20  # flags byte, pattern length (byte or u32), pattern, length byte, modifiers
LOBJECT = 0x21  # things over 2 GiB: refused
BOOLEAN_TRUE = 0x22  # Storable 3.27 and later; older ones die of it
BOOLEAN_FALSE = 0x23

# Bits of a key's flags byte in a FLAG_HASH.
KEY_UTF8 = 0x01
KEY_WAS_UTF8 = 0x02  # the text fits Latin-1, and Latin-1 it is here
KEY_LOCKED = 0x04
KEY_PLACEHOLDER = 0x10  # the key is allowed in a restricted hash, but it is not there
KEY_FLAGS = KEY_UTF8 | KEY_WAS_UTF8 | KEY_LOCKED | KEY_PLACEHOLDER

REGEXP_LONG = 0x01  # bit of a REGEXP's flags byte: the pattern length is a u32
LEAST_INT, MOST_INT = -(2**31), 2**31 - 1  # of a NETINT
LONG_CLASS = 0x80  # bit of a class's length or index byte: a u32 follows instead

REFERENCES = frozenset({REF, OVERLOAD, WEAKREF, WEAKOVERLOAD})
OVERLOADED = frozenset({OVERLOAD, WEAKOVERLOAD})
CONTAINERS = frozenset({ARRAY, HASH, FLAG_HASH})
STRINGS = frozenset({SCALAR, LSCALAR, UTF8STR, LUTF8STR})

# Known, but never accepted: they need the sender's machine, run code, or load modules.
REFUSED = {
    INTEGER: "SX_INTEGER",
    DOUBLE: "SX_DOUBLE",
    TIED_ARRAY: "SX_TIED_ARRAY",
    TIED_HASH: "SX_TIED_HASH",
    TIED_SCALAR: "SX_TIED_SCALAR",
    HOOK: "SX_HOOK",
    TIED_KEY: "SX_TIED_KEY",
    TIED_IDX: "SX_TIED_IDX",
    CODE: "SX_CODE",
    LOBJECT: "SX_LOBJECT",
}
