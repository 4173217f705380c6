"""Typed images: their bytes, the round trip of each type, what is refused, and what others read."""

from __future__ import annotations

import enum
import math
import struct
import time
from collections import namedtuple
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import common_images, damaged, odd_images, roots, u32

from rpcasync.errors import DecodeError
from rpcasync.storable import Blessed, ScalarRef, freeze, thaw
from rpcasync.storable._decoder import Decoder
from rpcasync.wire.codecs import JSONCodec, StorableCodec, get_codec
from rpcasync.wire.framing import LengthPrefix
from rpcasync.wire.protocol import ServerProtocol

HEADER = b"\x05\x01"
Point = namedtuple("Point", "x y")


class Colour(enum.IntEnum):
    RED = 1
    FAR = 2**40


class Half(float):
    def __repr__(self):
        return "half"


def item(value: object) -> bytes:
    image = freeze([value], typed=True)
    head = HEADER + b"\x02" + u32(1)
    assert image.startswith(head)
    assert freeze({"k": value}, typed=True) == (
        HEADER + b"\x03" + u32(1) + image[len(head) :] + u32(1) + b"k"
    )
    return image[len(head) :]


def image_of(*items: bytes) -> bytes:
    return HEADER + b"\x02" + u32(len(items)) + b"".join(items)


def as_perl_has_it(image: bytes) -> bytes:
    return b"\x05\x0b" + image[2:]


def complete(image: bytes) -> object:
    return Decoder(image, 256, "latin-1").root()


DIGITS = b"1" + b"0" * 255
SAMPLES = [
    (None, b"\x05"),
    (True, b"\x17\x011"),
    (False, b"\x17\x010"),
    (0, b"\x08\x80"),
    (1, b"\x08\x81"),
    (-128, b"\x08\x00"),
    (128, b"\x09\x00\x00\x00\x80"),
    (2**31 - 1, b"\x09\x7f\xff\xff\xff"),
    (-(2**31), b"\x09\x80\x00\x00\x00"),
    (2**31, b"\x17\x0a2147483648"),
    (-(2**31) - 1, b"\x17\x0b-2147483649"),
    (2**32, b"\x17\x0a4294967296"),
    (2**63, b"\x17\x139223372036854775808"),
    (2**64, b"\x17\x1418446744073709551616"),
    (10**254, b"\x17\xff" + DIGITS[:255]),
    (-(10**253), b"\x17\xff-" + DIGITS[:254]),
    (10**255, b"\x1e" + u32(256) + DIGITS + b"\x01" + u32(256) + DIGITS),
    (
        -(10**254),
        b"\x1e" + u32(256) + b"-" + DIGITS[:255] + b"\x01" + u32(256) + b"-" + DIGITS[:255],
    ),
    (0.0, b"\x18" + u32(1) + b"0"),
    (-0.0, b"\x1d\x02-0\x0a\x010"),
    (1.0, b"\x18" + u32(1) + b"1"),
    (-3.0, b"\x18" + u32(2) + b"-3"),
    (1.5, b"\x18" + u32(3) + b"1.5"),
    (1e15, b"\x18" + u32(16) + b"1000000000000000"),
    (2.0**53, b"\x18" + u32(16) + b"9007199254740992"),
    (1e16, b"\x18" + u32(5) + b"1e+16"),
    (1 / 3, b"\x18" + u32(18) + b"0.3333333333333333"),
    (5e-324, b"\x18" + u32(6) + b"5e-324"),
    (-1.7976931348623157e308, b"\x18" + u32(24) + b"-1.7976931348623157e+308"),
    (math.inf, b"\x18" + u32(3) + b"Inf"),
    (-math.inf, b"\x18" + u32(4) + b"-Inf"),
    (math.nan, b"\x18" + u32(3) + b"NaN"),
    ("", b"\x0a\x00"),
    ("1", b"\x0a\x011"),
    ("1.5", b"\x0a\x031.5"),
    ("a" * 255, b"\x0a\xff" + b"a" * 255),
    ("a" * 256, b"\x18" + u32(256) + b"a" * 256),
    ("1" * 256, b"\x18" + u32(256) + b"1" * 256),
    ("\xe9", b"\x17\x02\xc3\xa9"),
    ("\x80" * 127, b"\x17\xfe" + b"\xc2\x80" * 127),
    ("\xe9" * 127 + "a", b"\x17\xff" + b"\xc3\xa9" * 127 + b"a"),
    ("\xe9" * 128, b"\x18" + u32(256) + b"\xc3\xa9" * 128),
    ("\xe9" * 200, b"\x18" + u32(400) + b"\xc3\xa9" * 200),
    ("\u263a" * 85, b"\x17\xff" + b"\xe2\x98\xba" * 85),
    ("\u263a" * 86, b"\x18" + u32(258) + b"\xe2\x98\xba" * 86),
    ("x" * 5000, b"\x18" + u32(5000) + b"x" * 5000),
    (b"", b"\x01" + u32(0)),
    (b"1", b"\x01" + u32(1) + b"1"),
    (b"\xff\x00", b"\x01" + u32(2) + b"\xff\x00"),
    (b"x" * 256, b"\x01" + u32(256) + b"x" * 256),
    (b"\x80" * 5000, b"\x01" + u32(5000) + b"\x80" * 5000),
    ([], b"\x04\x02" + u32(0)),
    ({}, b"\x04\x03" + u32(0)),
    ({"\xe9": True}, b"\x04\x03" + u32(1) + b"\x17\x011" + u32(1) + b"\xe9"),
    (
        {"\u263a": 1.0},
        b"\x04\x19\0" + u32(1) + b"\x18" + u32(1) + b"1\x01" + u32(3) + b"\xe2\x98\xba",
    ),
    (ScalarRef(b"x"), b"\x04\x01" + u32(1) + b"x"),
]


@pytest.mark.parametrize(("value", "expected"), SAMPLES, ids=lambda value: f"{value!r:.20}")
def test_bytes_of_a_value_and_back(value, expected):
    assert item(value) == expected
    for bytes_are in ("latin-1", "bytes", "utf-8"):
        assert repr(thaw(image_of(expected), byte_strings=bytes_are)) == repr([value])
    assert repr(complete(image_of(expected))) == repr([value])
    if not isinstance(value, (list, dict)):
        assert repr(thaw(image_of(b"\x04" + expected))) == repr([ScalarRef(value)])


@pytest.mark.parametrize(
    ("value", "arrived"),
    [
        ((1.0, (True,)), [1.0, [True]]),
        (Colour.RED, 1),
        (Colour.FAR, 2**40),
        (Half(0.5), 0.5),
        (Half(-0.0), -0.0),
        (bytearray(b"\xe9"), b"\xe9"),
        (memoryview(b"a.b.c")[::2], b"abc"),
        (Point(1.0, b"y"), [1.0, b"y"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_goes_as_its_base(value, arrived):
    found = thaw(freeze([value], typed=True))[0]
    assert repr(found) == repr(arrived)
    assert type(found) is type(arrived)


def arrival(value: object) -> object:
    if isinstance(value, ScalarRef):
        return ScalarRef(arrival(value.value))
    if isinstance(value, (list, tuple)):
        return [arrival(each) for each in value]
    if isinstance(value, dict):
        return {key: arrival(each) for key, each in value.items()}
    return value


@given(roots)
def test_round_trip(value):
    image = freeze(value, typed=True)
    assert repr(thaw(image)) == repr(arrival(value))  # == cannot tell 1 from True
    assert repr(complete(image)) == repr(arrival(value))
    assert freeze(thaw(image), typed=True) == image


@given(st.integers(8, 4000).map(lambda bits: 2**bits) | st.integers(0, 1200).map(lambda n: 10**n))
def test_integers_of_any_size(number):
    values = [number - 1, number, number + 1, -number, -number - 1, -number + 1]
    assert thaw(freeze(values, typed=True)) == values


@given(st.characters(exclude_categories=["Cs"]), st.integers(80, 260), st.sampled_from(["", "a"]))
def test_texts_around_the_limit(character, count, more):
    text = character * count + more
    assert thaw(freeze([text, {text: text}], typed=True)) == [text, {text: text}]


def text_of(value: object) -> object:
    """What Perl has for a value by `eq`: numbers are their text."""
    if isinstance(value, (list, dict)):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: text_of(each) for key, each in parts}
    if isinstance(value, ScalarRef):
        return ScalarRef(text_of(value.value))
    return value if value is None else str(value)


@given(roots)
def test_who_does_not_look_at_the_minor_reads_what_is_sent_untyped(value):
    """As Perl does, and this package did before it had typed images."""
    found = thaw(as_perl_has_it(freeze(value, typed=True)))
    assert text_of(found) == text_of(thaw(freeze(value)))


@pytest.mark.parametrize("minor", [0, 2, 4, 10, 11, 12, 255])
def test_other_minors_are_untyped(minor):
    image = (
        bytes([5, minor])
        + image_of(b"\x17\x011", b"\x01" + u32(1) + b"x", b"\x18" + u32(1) + b"2")[2:]
    )
    assert thaw(image) == ["1", "x", "2"]
    assert thaw(image, byte_strings="bytes") == ["1", b"x", "2"]


def test_untyped_images_are_what_they_were():
    assert freeze([True, 2.0, b"x"], typed=False) == freeze([True, 2.0, b"x"])
    assert freeze([True, 2.0, b"x"]).hex() == "050b02000000030881" + "0882" + "0a0178"


# What no writer writes


@pytest.mark.parametrize(
    "text",
    [
        *("x", "1 ", " 1", "1_0", "0x10", "Infinity", "inf", "nan", "-NaN", "", " ", "\n1"),
        *("1e999", "-1e400", "1e", "e1", "--1", "1-1", "1.5.5", "\u0663", "\xe9", "\0", "1\0"),
    ],
    ids=repr,
)
def test_what_is_no_float(text):
    raw = text.encode()
    image = image_of(b"\x18" + u32(len(raw)) + raw)
    for read in (thaw, complete):
        with pytest.raises(DecodeError, match="^bad-number: .* at offset 12 is no float$"):
            read(image)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1.", 1.0), ("+1", 1.0), (".5", 0.5), ("1e05", 1e5), ("9" * 255, 1e255), ("-0", -0.0)],
)
def test_how_others_may_write_a_float(text, number):
    image = image_of(b"\x18" + u32(len(text)) + text.encode())
    assert repr(thaw(image)) == repr(complete(image)) == repr([number])


@pytest.mark.parametrize(
    "text",
    [
        *("2", "-1", "01", "00", "x", "+12345678901", "012345678901", "-0", "-", "1e10", " 1"),
        *("2147483647", "-2147483648", "1" * 254 + "x", "True", "12345678901.0", "-012345678901"),
    ],
    ids=repr,
)
def test_what_is_no_bool_and_no_long_integer(text):
    raw = text.encode()
    image = image_of(b"\x17" + bytes([len(raw)]) + raw)
    for read in (thaw, complete):
        with pytest.raises(DecodeError, match="^bad-number: .* is no bool or int beyond 32 bits$"):
            read(image)


def test_an_empty_text_is_false_as_well():
    image = image_of(b"\x17\x00")
    assert repr(thaw(image)) == repr(complete(image)) == "[False]"


@pytest.mark.parametrize(
    "vstring",
    [
        b"\x1d\x02v1\x0a\x01\x01",
        b"\x1d\x010\x0a\x010",
        b"\x1d\x02-0\x0a\x02-0",
        b"\x1d\x00\x0a\x00",
        b"\x1e" + u32(11) + b"12345678901" + b"\x0a\x0b12345678901",
        b"\x1e" + u32(256) + DIGITS + b"\x01" + u32(256) + DIGITS[:-1] + b"1",
        b"\x1e" + u32(256) + b"x" * 256 + b"\x01" + u32(256) + b"x" * 256,
        b"\x1e" + u32(256) + b"0" * 256 + b"\x01" + u32(256) + b"0" * 256,
        b"\x1e" + u32(256) + b"\xb2" * 256 + b"\x01" + u32(256) + b"\xb2" * 256,
    ],
    ids=repr,
)
def test_what_is_no_number_with_a_text(vstring):
    with pytest.raises(DecodeError, match="^bad-number: "):
        thaw(image_of(vstring))


def test_bad_utf8_is_refused():
    for raw in (b"\x17\x01\xff", b"\x18" + u32(256) + b"\xff" * 256, b"\x18" + u32(1) + b"\xff"):
        with pytest.raises(DecodeError):
            thaw(image_of(raw))


def test_what_is_read_can_be_written():
    most = 2**14_000 - 1
    assert thaw(freeze([most, -most], typed=True)) == [most, -most]
    digits = str(most + 1).encode()
    with pytest.raises(DecodeError, match="bad-number"):
        thaw(image_of(b"\x1e" + u32(len(digits)) + digits + b"\x01" + u32(len(digits)) + digits))


def test_long_digits_cost_no_more_than_their_bytes():
    long = b"9" * 5000
    image = image_of(b"\x1e" + u32(5000) + long + b"\x01" + u32(5000) + long)
    with pytest.raises(DecodeError, match="^bad-number: '9{40}'... at offset"):
        thaw(image)
    huge = b"9" * 2_000_000  # to convert it would take minutes
    image = image_of(b"\x1e" + u32(len(huge)) + huge + b"\x01" + u32(len(huge)) + huge)
    start = time.process_time()
    with pytest.raises(DecodeError, match="bad-number"):
        thaw(image)
    assert time.process_time() - start < 1


def outcome(read, image: bytes) -> str:
    try:
        return repr(read(image))
    except DecodeError as error:
        return str(error)


@given(common_images | damaged(common_images) | odd_images | damaged(odd_images))
def test_both_decoders_agree(image):
    """The fast one never judges, so whatever it takes is what the complete one makes of it."""
    image = HEADER + image[2:]
    if len(image) > 2:
        assert outcome(thaw, image) == outcome(complete, image)
    for bytes_are in ("bytes", "utf-8"):
        assert outcome(partial(thaw, byte_strings=bytes_are), image) == outcome(thaw, image)


# Codecs, and who writes typed images


def test_the_codec_of_a_client_is_typed():
    for codec in (get_codec("storable"), StorableCodec(), StorableCodec(byte_strings="bytes")):
        assert codec.encode([1.5, b"x"]) == freeze([1.5, b"x"], typed=True)
        assert codec.decode(codec.encode([1.5, b"x", "y"])) == [1.5, b"x", "y"]
    plain = StorableCodec(typed=False)
    assert plain.encode([1.5, b"x"]) == freeze([1.5, b"x"])
    assert plain.decode(StorableCodec().encode([1.5, b"x"])) == [1.5, b"x"]


def payload_of(packet: bytes) -> bytes:
    framing = LengthPrefix()
    framing.feed(packet)
    (payload,) = framing.cut()
    return payload


@pytest.mark.parametrize("of_server", [True, False])
@pytest.mark.parametrize("of_client", [True, False])
def test_a_server_writes_as_its_client_does(of_server, of_client):
    codec = StorableCodec(typed=of_server, byte_strings="bytes", max_depth=9)
    server = ServerProtocol([codec, JSONCodec()])
    client = LengthPrefix()
    server.feed(client.frame(freeze([7, "f", 1.5], typed=of_client)))
    request = server.next_message()
    assert request.args == [1.5 if of_client else b"1.5"]
    values = [True, 2.0, b"\x80", 2**40, "x" * 300]
    written = payload_of(server.result(7, values))
    assert written == freeze([7, *values], typed=of_client)
    assert payload_of(server.invoke(8, values)) == freeze([8, "call", *values], typed=of_client)
    assert payload_of(server.failure(7, "no")) == freeze(
        [7, "error", "no", "errors", ["no"]], typed=of_client
    )
    assert codec.encode(values) == freeze(values, typed=of_server)  # others are not concerned


def test_a_server_with_a_codec_of_its_own_kind_keeps_it():
    class Loud(StorableCodec):
        def encode(self, values):
            return super().encode([*values, "!"])

    server = ServerProtocol([Loud(typed=False)])
    server.feed(LengthPrefix().frame(freeze([7, "f"], typed=True)))
    server.next_message()
    assert thaw(payload_of(server.result(7, [1.5]))) == [7, 1.5, "!"]


def test_objects_in_typed_images():
    found = thaw(freeze([1j], typed=True, default=lambda _: Blessed("A", {"k": 1.5, "b": b"x"})))
    assert found == [Blessed("A", {"k": 1.5, "b": b"x"})]
    image = HEADER + b"\x02" + u32(2) + b"\x17\x011" + b"\x00" + struct.pack(">I", 1)
    assert repr(thaw(image)) == "[True, True]"  # once more, as in any image
