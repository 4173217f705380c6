"""What an image may cost: how many values it holds; memory and time for each kind of them."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import HEADER, common_images, odd_images, u32

from rpcasync.errors import DecodeError
from rpcasync.storable import Blessed, Regexp, ScalarRef, _thaw, thaw
from rpcasync.storable._decoder import Decoder
from rpcasync.wire.codecs import StorableCodec


def values_in(value: object, known: set[int]) -> int:
    """Count what stands in containers and references, what is shared once."""
    if not isinstance(value, (list, dict, ScalarRef, Blessed)) or id(value) in known:
        return 0
    known.add(id(value))
    if isinstance(value, (ScalarRef, Blessed)):
        inside = [] if isinstance(value.value, Regexp) else [value.value]
    else:
        inside = list(value.values()) if isinstance(value, dict) else value
    return len(inside) + sum(values_in(item, known) for item in inside)


def refusal(data: bytes, **options: object) -> str:
    try:
        thaw(data, **options)
    except DecodeError as error:
        return error.code
    return ""


# One element of a list, and the values that it counts as.
KINDS = {
    "nothing": (b"\x05", 1),
    "hole": (b"\x0e", 1),
    "true": (b"\x0f", 1),
    "number": (b"\x08\x81", 1),
    "string": (b"\x0a\x01x", 1),
    "long string": (b"\x01" + u32(1) + b"x", 1),
    "text": (b"\x17\x02\xc3\xa9", 1),
    "v-string": (b"\x1d\x01v\x0a\x01x", 1),
    "empty list": (b"\x04\x02" + u32(0), 1),
    "empty dict": (b"\x04\x03" + u32(0), 1),
    "list of two": (b"\x04\x02" + u32(2) + b"\x05\x05", 3),
    "dict of one": (b"\x04\x03" + u32(1) + b"\x05" + u32(1) + b"k", 2),
    "flagged dict of one": (b"\x04\x19\0" + u32(1) + b"\x05\0" + u32(1) + b"k", 2),
    "reference": (b"\x04\x05", 2),
    "reference to text": (b"\x04\x17\x02\xc3\xa9", 2),
    "weak reference": (b"\x1b\x05", 2),
    "chain": (b"\x04\x04\x04\x05", 4),
    "chain to a list": (b"\x04\x04\x04\x02" + u32(1) + b"\x05", 4),
    "weak list": (b"\x1b\x02" + u32(1) + b"\x05", 2),
    "object": (b"\x04\x11\x01A\x02" + u32(0), 3),
    "object of a scalar": (b"\x04\x11\x01A\x05", 4),
    "overloaded object": (b"\x14\x11\x01A\x03" + u32(0), 3),
    "regexp": (b"\x20\0\x01x\0", 3),
    "reference to a regexp": (b"\x04\x20\0\x01x\0", 4),
    "again": (b"\x00" + u32(0), 1),
}


def image_of(kind: str, count: int) -> tuple[bytes, int]:
    item, values = KINDS[kind]
    if kind == "again":
        return HEADER + b"\x02" + u32(count) + b"\x05" + (b"\0" + u32(1)) * (count - 1), count
    return HEADER + b"\x02" + u32(count) + item * count, values * count


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_counts(kind):
    data, values = image_of(kind, 7)
    assert refusal(data, max_items=values) == ""
    assert refusal(data, max_items=values - 1) == "limit-items"
    # The same behind something that the fast path leaves alone.
    data = data[:3] + u32(8) + b"\x0e" + data[7:] if kind != "again" else data
    values += kind != "again"
    assert refusal(data, max_items=values) == ""
    assert refusal(data, max_items=values - 1) == "limit-items"


@pytest.mark.parametrize("head", [b"\x02", b"\x03", b"\x19\0", b"\x04\x02"])
def test_a_count_is_compared_before_anything_is_read(head):
    data = HEADER + head + u32(1000) + b"\x05" * 6000
    tracemalloc.start()
    with pytest.raises(DecodeError, match=r"limit-items: 1000 values or more, limit is 999"):
        thaw(data, max_items=999)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24_000


def test_what_is_shared_counts_in_each_place_if_its_bytes_do():
    shared = b"\x04\x02" + u32(4) + b"\x05" * 4
    data = HEADER + b"\x02" + u32(3) + shared + (b"\x04\0" + u32(2)) * 2
    assert refusal(data, max_items=9) == ""
    with pytest.raises(DecodeError, match="limit-items: 15 values or more with all that is shared"):
        thaw(data, max_items=14, max_expanded=1000)
    assert thaw(data, max_items=15, max_expanded=1000) == [[None] * 4] * 3


def test_laughs_within_the_depth_that_a_conversion_walks():
    """Three levels of 200 each: a hundred bytes that stand for eight million values."""
    levels = b"\x02" + u32(200) + b"\x04"
    data = HEADER + levels * 3 + b"\x02" + u32(0)
    for tag in (6, 4, 2):
        data += (b"\x04\0" + u32(tag)) * 199
    thaw(data)
    with pytest.raises(DecodeError, match="limit-items: 1[0-9]{6} values or more"):
        StorableCodec().decode(data)


@given(st.one_of(common_images, odd_images), st.integers(1, 12))
def test_no_more_values_come_than_may(data, most):
    try:
        value = thaw(data, max_items=most)
    except DecodeError as error:
        if error.code == "limit-items":
            assert refusal(data, max_items=10**6) != "limit-items"
        return
    assert values_in(value, set()) - (not isinstance(value, (list, dict))) <= most


@given(common_images, st.integers(1, 12))
def test_both_decoders_count_alike(data, most):
    def by(decode):
        try:
            return repr(decode())
        except DecodeError as error:
            return error.code

    complete = by(lambda: Decoder(data, 256, "latin-1", most).root())
    try:
        assert repr(_thaw._ordinary(data, 256, most)) == complete
    except _thaw._Unusual:
        assert complete in ("limit-items", "duplicate-key")
    assert by(lambda: thaw(data, max_items=most)) == complete


@pytest.mark.parametrize("kind", KINDS)
def test_memory_that_is_not_the_values(kind):
    """What the decoder needs for itself, which it has lists and arrays for, no object per value."""
    data, _ = image_of(kind, 6_000 // len(KINDS[kind][0]))
    data = data[:3] + u32(int.from_bytes(data[3:7], "big") + 1) + data[7:] + b"\x0e"
    thaw(data)
    tracemalloc.start()
    value = thaw(data)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert value
    assert peak - kept < 16 * len(data) + 10_000
    assert kept < 60 * len(data)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_time_of_a_megabyte(kind):
    """All kinds are decoded at about the same speed: as measured, in 0.05 to 0.5 seconds."""
    data, values = image_of(kind, 2**20 // len(KINDS[kind][0]))
    before = time.process_time()
    thaw(data, max_items=values)
    assert time.process_time() - before < 3
