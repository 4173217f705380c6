"""How many values a JSON text holds, against a count of those that come out of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcasync.errors import DecodeError
from rpcasync.wire.codecs import JSONCodec
from rpcasync.wire.counting import count_values

TEXTS = st.text(st.sampled_from('a"\\,[]{}: \n\u20ac'), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def values_in(value: object) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return len(value) + sum(map(values_in, value)) if isinstance(value, list) else 0


@given(st.lists(VALUES), st.booleans(), st.sampled_from([None, 1, "\t \r"]))
def test_as_many_as_come_out(values, ensure_ascii, indent):
    text = json.dumps(values, ensure_ascii=ensure_ascii, indent=indent, allow_nan=False).encode()
    count = values_in(values)
    assert count_values(text, 0) == count
    assert count_values(text, 10**6) >= count


@given(st.lists(VALUES, min_size=1), st.integers(1, 20))
def test_the_limit_of_the_codec(values, most):
    text = json.dumps(values, separators=(",", ":")).encode()
    try:
        assert JSONCodec(max_items=most).decode(text) == values
        assert values_in(values) <= most
    except DecodeError as error:
        assert error.code == "limit-items"
        assert values_in(values) > most


@given(st.binary())
def test_any_bytes_have_a_count(data):
    assert count_values(data, 0) <= count_values(data, 10**6) or b"\\" in data


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (b"[]", 0),
        (b"[[],{},[ ],{\n}]", 4),
        (b'["]","[,","\\"[,","\\\\",[1]]', 6),
        (b'[{"a,b":{"c[":1}}]', 3),
    ],
)
def test_what_counts(text, count):
    assert count_values(text, 0) == count
    assert JSONCodec(max_items=max(count, 1)).decode(text) == json.loads(text)


def test_the_message_names_the_value_and_the_limit():
    with pytest.raises(DecodeError, match="limit-items: 9 values, limit is 4"):
        JSONCodec(max_items=4).decode(b"[1,2,3,4,5,6,7,8,9]")


@pytest.mark.parametrize(
    "piece", [b"[],", b"{},", b'"",', b'"\\"",', b"0,", b"[0],", b'"[",', b"\\,", b'"']
)
def test_no_text_takes_long_to_count(piece):
    """It takes what the text has in bytes, a few times over; no regular expression goes back."""
    text = b"[" + piece * (20_000 // len(piece))
    assert count_values(text, 0) <= 2 * len(text)
