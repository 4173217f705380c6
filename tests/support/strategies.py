"""Hypothesis strategies for Storable: values to send, images to read, ways to damage them.

Values come with `arrival`, the mapping rule of a round trip written down once more and on
its own: what `freeze` accepts, and what `thaw` then makes of it.

This file knows the format well enough to write odd images, but does not use our encoder.
"""

from __future__ import annotations

import math
import struct
from collections import OrderedDict

from hypothesis import strategies as st

from rpcasync.storable import ScalarRef

HEADER = b"\x05\x0b"


def u32(number: int) -> bytes:
    return struct.pack(">I", number)


# ---- values ------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-200, 200),
    st.integers(-(2**33), 2**33),
    st.integers(),
    st.floats(),
    texts,
    st.sampled_from(["", "\xff", "\u0100", "x" * 255, "x" * 256, "\xe9" * 127, "\xe9" * 128]),
    st.binary(max_size=40),
    st.binary(min_size=255, max_size=257),
)


def _holders(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    lists = st.lists(values, max_size=5)
    dicts = st.dictionaries(texts, values, max_size=5)
    return st.one_of(lists, lists.map(tuple), dicts, dicts.map(OrderedDict), values.map(ScalarRef))


trees = st.recursive(scalars, _holders, max_leaves=20)

# What freeze takes at the root.
roots = _holders(trees)


def arrival(value: object) -> object:
    """Tell what a sent value is after a round trip, by the default mapping."""
    if isinstance(value, ScalarRef):
        return ScalarRef(arrival(value.value))
    if isinstance(value, (list, tuple)):
        return [arrival(item) for item in value]
    if isinstance(value, dict):
        return {key: arrival(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return "".join(map(chr, value))
    if isinstance(value, float):
        return _float_arrival(value)
    if isinstance(value, int):  # a bool is a number from here on
        return int(value) if -(2**31) <= value <= 2**31 - 1 else str(int(value))
    return value


def _float_arrival(value: float) -> object:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    if value.is_integer() and abs(value) < 2**53:
        return arrival(int(value))
    text = repr(value)
    return text[:-2] if text.endswith(".0") else text


# ---- images ------------------------------------------------------------------------------

keys = st.sampled_from([b"", b"a", b"b", b"key", b"\xe9", b"\xc3\xa9"]).map(
    lambda key: u32(len(key)) + key
)
flagged_keys = st.tuples(st.sampled_from([0, 0, 0, 1, 2, 4, 0x10, 0x14, 8]), keys).map(
    lambda pair: bytes([pair[0]]) + pair[1]
)

# What nearly every image is made of.
common_leaves = st.sampled_from(
    [
        b"\x05",
        b"\x08\x00",
        b"\x08\x81",
        b"\x09\xff\xff\xff\x7f",
        b"\x0a\x00",
        b"\x0a\x01\xe9",
        b"\x17\x02\xc3\xa9",
        b"\x01\x00\x00\x00\x02ab",
        b"\x18\x00\x00\x00\x03\xe2\x98\xba",
        b"\x22",
        b"\x23",
    ]
)
rare_leaves = st.sampled_from(
    [
        b"\x0e",
        b"\x0f",
        b"\x10",
        b"\x1f",
        b"\x1d\x02v1\x0a\x01\x01",
        b"\x1e\x00\x00\x00\x02v1\x17\x03\xe2\x98\xba",
        b"\x20\x00\x01x\x01u",
        b"\x17\x01\xff",
        b"\x13\x02\x01A\x00",
    ]
)
back_references = st.integers(1, 8).map(lambda tag: b"\x00" + u32(tag))
references = st.sampled_from([b"\x04"] * 12 + [b"\x1b", b"\x14", b"\x1c"])
classes = st.sampled_from(
    [b""] * 12 + [b"\x11\x01A"] * 4 + [b"\x11\x11JSON::PP::Boolean", b"\x12\x00"]
)


def _array(items: list[bytes]) -> bytes:
    return b"\x02" + u32(len(items)) + b"".join(items)


def _hash(pairs: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x03" + u32(len(pairs)) + b"".join(map(b"".join, pairs))


def _flag_hash(pairs: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x19\x00" + u32(len(pairs)) + b"".join(map(b"".join, pairs))


def _common_containers(items: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    containers = st.one_of(
        st.lists(items, max_size=4).map(_array),
        st.lists(st.tuples(items, keys), max_size=4).map(_hash),
    )
    return containers.map(b"\x04".__add__)


def _all_items(items: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    things = st.one_of(
        items,
        st.lists(items, max_size=4).map(_array),
        st.lists(st.tuples(items, keys), max_size=4).map(_hash),
        st.lists(st.tuples(items, flagged_keys), max_size=4).map(_flag_hash),
    )
    return st.tuples(references, classes, things).map(b"".join)


common_items = st.recursive(common_leaves, _common_containers, max_leaves=12)
odd_items = st.recursive(
    st.one_of(common_leaves, rare_leaves, back_references, back_references.map(b"\x04".__add__)),
    _all_items,
    max_leaves=12,
)

# Well-formed by far the most, and within what the fast path reads.
common_images = st.lists(common_items, max_size=5).map(lambda items: HEADER + _array(items))

# Well-formed more often than not, and full of sharing, classes and rare opcodes.
odd_images = st.one_of(
    st.lists(odd_items, max_size=5).map(_array),
    st.lists(st.tuples(odd_items, keys), max_size=4).map(_hash),
    odd_items,
).map(HEADER.__add__)


# ---- damage ------------------------------------------------------------------------------

_bytes = st.one_of(st.integers(0, 0x24), st.integers(0, 255)).map(lambda byte: bytes([byte]))
_edits = st.tuples(
    st.sampled_from(["change", "insert", "delete", "cut"]), st.integers(0, 2**16), _bytes
)


def _damage(image: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
    for kind, where, byte in edits:
        at = where % (len(image) + 1)
        if kind == "cut":
            image = image[:at]
        elif kind == "insert":
            image = image[:at] + byte + image[at:]
        elif kind == "delete":
            image = image[:at] + image[at + 1 :]
        else:
            image = image[:at] + byte + image[at + 1 :]
    return image


def damaged(images: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Take good images and change, insert, delete or cut off one to three bytes."""
    return st.builds(_damage, images, st.lists(_edits, min_size=1, max_size=3))
