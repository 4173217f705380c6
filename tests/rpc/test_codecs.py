import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcasync.codecs import JSONCodec, StorableCodec, get_codec
from rpcasync.errors import DecodeError, EncodeError

JSON = JSONCodec()
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.lists(VALUES))
def test_json_gives_values_back(values):
    payload = JSON.encode(values)
    assert payload[0] == JSON.first_byte
    assert JSON.decode(payload) == values


@given(st.binary())
def test_json_decodes_or_says_why(data):
    for payload in (data, b"[" + data):
        try:
            JSON.decode(payload)
        except DecodeError as error:
            assert error.code in {"bad-utf8", "bad-json", "trailing", "limit-depth"}


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "bad-json"),
        (b"[1", "bad-json"),
        (b"[1,]", "bad-json"),
        (b"[NaN]", "bad-json"),
        (b"[-Infinity]", "bad-json"),
        (b"[" + b"9" * 5000 + b"]", "bad-json"),
        (b"[1] [2]", "trailing"),
        (b'["\xff"]', "bad-utf8"),
        (b"[" * 100_000, "limit-depth"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_what_json_refuses(payload, code):
    with pytest.raises(DecodeError) as caught:
        JSON.decode(payload)
    assert caught.value.code == code
    assert len(str(caught.value)) < 200


def test_a_newline_behind_json_is_fine():
    assert JSON.decode(b'[1,"x"]\n') == [1, "x"]


@pytest.mark.parametrize("value", [b"bytes", object(), {1, 2}, float("nan"), float("inf")])
def test_what_cannot_be_json(value):
    with pytest.raises(EncodeError, match="cannot send as JSON"):
        JSON.encode([1, value])


def test_a_circle_cannot_be_json():
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(EncodeError):
        JSON.encode(circle)


def test_lone_surrogates_are_escaped():
    assert JSON.decode(JSON.encode(["\ud800"])) == ["\ud800"]


def test_storable_options():
    image = StorableCodec().encode(["caf\xe9".encode()])
    assert StorableCodec().decode(image) == ["caf\xc3\xa9"]
    assert StorableCodec(byte_strings="bytes").decode(image) == [b"caf\xc3\xa9"]
    assert StorableCodec(byte_strings="utf-8").decode(image) == ["caf\xe9"]
    with pytest.raises(ValueError, match="byte_strings"):
        StorableCodec(byte_strings="ascii")
    with pytest.raises(DecodeError):
        StorableCodec(max_depth=2).decode(StorableCodec().encode([[[[1]]]]))
    with pytest.raises(EncodeError):
        StorableCodec(max_depth=2).encode([[[[1]]]])


def test_lookup_by_name():
    assert isinstance(get_codec("json"), JSONCodec)
    assert isinstance(get_codec("storable"), StorableCodec)
    assert get_codec(JSON) is JSON
    with pytest.raises(ValueError, match="codec is 'xml'"):
        get_codec("xml")
