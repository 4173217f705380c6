"""The decoders: their arguments, their limits, their agreement, and what must not escape."""

from __future__ import annotations

import inspect
import itertools
import sys
import tracemalloc
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.strategies import HEADER, common_images, damaged, odd_images, u32

from rpcasync.errors import DecodeError
from rpcasync.storable import Blessed, Regexp, ScalarRef, _thaw, thaw
from rpcasync.storable._decoder import Decoder

CODES = {
    *("truncated", "trailing", "bad-header", "native-order", "bad-opcode", "unsupported-opcode"),
    *("bad-tag", "cycle", "bare-container", "bad-class-index", "bad-class", "nested-bless"),
    *("bless-of-backref", "bad-utf8", "bad-key-flags", "duplicate-key", "bad-vstring", "corrupt"),
    *("limit-depth", "limit-size"),
}
MODES = ["latin-1", "bytes", "utf-8"]


def image(*items: bytes) -> bytes:
    """The image of an array."""
    return HEADER + b"\x02" + u32(len(items)) + b"".join(items)


def hash_image(*pairs: bytes) -> bytes:
    return HEADER + b"\x03" + u32(len(pairs)) + b"".join(pairs)


def nested(levels: int, innermost: bytes = b"\x02" + u32(0)) -> bytes:
    """`levels` arrays around one more."""
    return HEADER + (b"\x02" + u32(1) + b"\x04") * levels + innermost


def code_of(data: bytes, **options: object) -> str:
    with pytest.raises(DecodeError) as caught:
        thaw(data, **options)
    return caught.value.code


def depth_of(value: object, known: dict[int, int] | None = None) -> int:
    """How many containers, references and objects stand in each other, at most."""
    known = {} if known is None else known
    if id(value) not in known:
        children: list[object] = []
        if isinstance(value, (ScalarRef, Blessed)):
            children = [value.value]
        elif isinstance(value, list):
            children = value
        elif isinstance(value, dict):
            children = list(value.values())
        else:
            return 0
        known[id(value)] = 1 + max((depth_of(child, known) for child in children), default=0)
    return known[id(value)]


@contextmanager
def peak_below(limit: int):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


# ---- arguments ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_like_object(kind):
    assert thaw(kind(image(b"\x08\x85"))) == [5]


def test_a_view_counts_in_bytes_not_in_its_own_items():
    view = memoryview(bytes(24)).cast("Q")
    assert code_of(view, max_size=23) == "limit-size"
    assert code_of(view, max_size=24) == "bad-header"


@pytest.mark.parametrize("data", ["\x05\x0b\x05", None, 5, [5, 11, 5]])
def test_what_is_not_bytes(data):
    with pytest.raises(TypeError, match=type(data).__name__):
        thaw(data)


@pytest.mark.parametrize(
    "options", [{"max_depth": 0}, {"max_size": 0}, {"max_items": 0}, {"max_depth": -7}]
)
def test_limits_start_at_one(options):
    with pytest.raises(ValueError, match=r"limits start at 1: .*=(0|-7)") as caught:
        thaw(image(), **options)
    assert not isinstance(caught.value, DecodeError)


def test_unknown_byte_strings():
    with pytest.raises(ValueError, match="'ascii' is none of latin-1, bytes, utf-8"):
        thaw(image(), byte_strings="ascii")


def test_the_documented_defaults():
    defaults = {name: p.default for name, p in inspect.signature(thaw).parameters.items()}
    del defaults["data"]
    assert defaults == {
        "max_depth": 256,
        "max_size": 16 * 2**20,
        "max_items": 1_000_000,
        "max_expanded": None,
        "byte_strings": "latin-1",
    }


def test_what_is_shared_may_count_in_full():
    shared = b"\x05\x0b" + b"\x02" + u32(3)
    shared += b"\x04\x02" + u32(1) + b"\x0a\x64" + b"x" * 100  # [0]: tags 1, 2 and 3
    shared += (b"\x04\x00" + u32(2)) * 2
    assert thaw(shared) == [["x" * 100]] * 3
    full = 2 + 5 + 3 * (1 + 5 + 102)
    assert thaw(shared, max_expanded=full + 12) == [["x" * 100]] * 3
    with pytest.raises(DecodeError, match=r"limit-size: \d+ bytes or more with all that is shared"):
        thaw(shared, max_expanded=full - 100)


def test_a_laugh_is_short_when_it_counts_in_full():
    levels = b"\x02" + u32(2) + b"\x04"
    image = b"\x05\x0b" + levels * 60 + b"\x02" + u32(0)
    for tag in range(60, 0, -1):  # the second item of each level is the first again
        image += b"\x04\x00" + u32(2 * tag)
    assert thaw(image) is not None
    with pytest.raises(DecodeError, match=r"limit-size: \d+ bytes or more with all"):
        thaw(image, max_expanded=2**20)
    with pytest.raises(DecodeError, match=r"limit-items: \d+ values or more with all"):
        thaw(image, max_expanded=2**24)


# ---- strings -----------------------------------------------------------------------------

OCTETS = b"\x0a\x05caf\xc3\xa9"
TEXT = b"\x17\x05caf\xc3\xa9"


@pytest.mark.parametrize(
    ("mode", "expected"), [("latin-1", "caf\xc3\xa9"), ("bytes", b"caf\xc3\xa9"), ("utf-8", "café")]
)
def test_byte_strings(mode, expected):
    long = b"\x01" + u32(5) + OCTETS[2:]
    assert thaw(image(OCTETS, long, TEXT), byte_strings=mode) == [expected, expected, "café"]


@pytest.mark.parametrize(
    ("mode", "expected"), [("latin-1", "\xc3\xa9"), ("bytes", "\xc3\xa9"), ("utf-8", "é")]
)
def test_keys_are_str_in_every_mode(mode, expected):
    assert thaw(hash_image(b"\x05" + u32(2) + b"\xc3\xa9"), byte_strings=mode) == {expected: None}


@pytest.mark.parametrize("mode", MODES)
def test_flagged_keys_tell_their_encoding(mode):
    pairs = b"\x05\x02" + u32(1) + b"\xe9" + b"\x05\x01" + u32(3) + b"\xe2\x98\xba"
    data = HEADER + b"\x19\x00" + u32(2) + pairs
    assert thaw(data, byte_strings=mode) == {"é": None, "\u263a": None}


def test_octets_that_are_not_utf8():
    assert code_of(image(b"\x0a\x01\xe9"), byte_strings="utf-8") == "bad-utf8"
    assert code_of(hash_image(b"\x05" + u32(1) + b"\xe9"), byte_strings="utf-8") == "bad-utf8"


def test_class_names_and_patterns_are_str_in_every_mode():
    item = b"\x04\x11\x01\xe9\x20\x00\x02\xc3\xa9\x00"
    for mode in MODES:
        assert thaw(image(item), byte_strings=mode) == [Blessed("é", Regexp("\xc3\xa9", ""))]


def test_patterns_with_the_modifier_u_are_utf8_if_they_can_be():
    patterns = [b"\x04\x11\x01R\x20\x00\x02\xc3\xa9\x01u", b"\x04\x12\x00\x20\x00\x01\xe9\x01u"]
    assert thaw(image(*patterns)) == [Blessed("R", Regexp("é", "u"))] * 2


# ---- shapes the vectors do not have ------------------------------------------------------


def test_regexp_without_a_class():
    """An element can be the regexp itself, not a reference to it; then Perl names no class."""
    regexp = b"\x20\x00\x01x\x00"
    assert thaw(image(regexp)) == [Regexp("x", "")]
    assert thaw(image(b"\x04" + regexp)) == [Blessed("Regexp", Regexp("x", ""))]
    assert thaw(HEADER + regexp) == Blessed("Regexp", Regexp("x", ""))


def test_blessed_element_is_its_value():
    """`bless \\$a[0]` blesses the variable: the element itself reads as a plain "s"."""
    assert thaw(image(b"\x11\x03Foo\x0a\x01s", b"\x04\x00" + u32(1))) == [
        "s",
        Blessed("Foo", ScalarRef("s")),
    ]


def test_booleans_of_every_age():
    assert repr(thaw(image(b"\x0f", b"\x10", b"\x22", b"\x23", b"\x0e"))) == (
        "[True, False, True, False, None]"
    )


def test_json_booleans_only_when_they_are_one():
    blessed = b"\x11\x11JSON::PP::Boolean"
    assert thaw(HEADER + blessed + b"\x08\x81") is True
    assert thaw(image(b"\x14" + blessed + b"\x08\x80", b"\x14\x00" + u32(2))) == [False, False]
    two = thaw(image(b"\x04" + blessed + b"\x08\x82"))
    assert two == [Blessed("JSON::PP::Boolean", ScalarRef(2))]
    text = thaw(image(b"\x04" + blessed + b"\x0a\x011"))
    assert text == [Blessed("JSON::PP::Boolean", ScalarRef("1"))]


def test_shared_things_are_one_object():
    shared = b"\x04\x00" + u32(2)
    a, b = thaw(image(b"\x04\x0a\x01s", shared))
    assert a is b
    a, b = thaw(image(b"\x04\x03" + u32(0), shared))
    assert a is b
    a, b = thaw(image(b"\x04\x11\x01A\x02" + u32(0), shared))
    assert a is b
    a, b = thaw(image(b"\x04\x20\x00\x01x\x00", shared))
    assert a is b


def test_placeholder_hides_no_key():
    placeholder = b"\x0e\x14" + u32(1) + b"a"
    pair = b"\x08\x81\x00" + u32(1) + b"a"
    assert thaw(HEADER + b"\x19\x01" + u32(2) + placeholder + pair) == {"a": 1}


def test_overload_needs_an_object_behind_a_back_reference_too():
    assert code_of(image(b"\x04\x02" + u32(0), b"\x14\x00" + u32(2))) == "corrupt"
    assert code_of(image(b"\x1c\x05")) == "corrupt"


# ---- messages ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            HEADER + b"\x02" + u32(1) + b"\x01\xff\xff\xff\xffabc",
            "truncated: string of 4294967295 bytes at offset 12, 3 bytes are left",
        ),
        (
            HEADER + b"\x02\xff\xff\xff\xff\x08\x81",
            "truncated: array of 4294967295 items at offset 3, 2 bytes are left",
        ),
        (
            HEADER + b"\x03" + u32(2) + bytes(9),
            "truncated: hash of 2 items at offset 3, 9 bytes are left",
        ),
        (
            HEADER + b"\x19\x00" + u32(2) + bytes(11),
            "truncated: hash of 2 items at offset 4, 11 bytes are left",
        ),
        (image(b"\x08"), "truncated: the image ends at offset 8, within an item"),
        (image(b"\x05") + b"xyz", "trailing: 3 bytes follow the root, from offset 8"),
        (image(b"\x05", b"\x24"), "bad-opcode: no opcode 0x24, at offset 8"),
        (image(b"\x04\x13"), "unsupported-opcode: SX_HOOK (0x13) at offset 8 is not read"),
        (image(b"\x00" + u32(9)), "bad-tag: back reference to tag 9 at offset 8, 1 given"),
        (image(b"\x17\x03ab\xff"), "bad-utf8: invalid start byte at offset 11, in 3 bytes"),
        (
            image(b"\x05", b"\x03" + u32(0)),
            "bare-container: hash without a reference in front at offset 8",
        ),
        (
            image(b"\x04\x02" + u32(0), b"\x00" + u32(2)),
            "bare-container: back reference to a container at offset 13",
        ),
        (b"\x05", "truncated: image of 1 bytes, the header alone has 2"),
        (b"\x07\x0b\x05", "bad-header: first byte is 0x07, not 0x05"),
    ],
)
def test_messages_name_offset_value_and_limit(data, message):
    with pytest.raises(DecodeError) as caught:
        thaw(data)
    assert str(caught.value) == message


def test_the_least_a_pair_takes():
    """Five bytes do for a pair of a hash, six for one with flags; one less does not."""
    assert thaw(hash_image(b"\x05" + u32(0))) == {"": None}
    assert thaw(HEADER + b"\x19\x00" + u32(1) + b"\x05\x00" + u32(0)) == {"": None}


# ---- depth -------------------------------------------------------------------------------


def test_depth_of_arrays():
    assert depth_of(thaw(nested(255))) == 256
    assert code_of(nested(256)) == "limit-depth"
    assert thaw(nested(0), max_depth=1) == []
    assert code_of(nested(1), max_depth=1) == "limit-depth"


def test_depth_of_arrays_in_the_complete_decoder():
    """A hole is enough to leave the fast path."""
    hole = b"\x02" + u32(1) + b"\x0e"
    assert depth_of(thaw(nested(255, hole))) == 256
    assert code_of(nested(256, hole)) == "limit-depth"


def test_depth_of_references():
    """The root's own reference is not in the image but is a level."""
    assert depth_of(thaw(HEADER + b"\x04" * 255 + b"\x05")) == 256
    assert code_of(HEADER + b"\x04" * 256 + b"\x05") == "limit-depth"
    assert thaw(HEADER + b"\x04" * 2 + b"\x02" + u32(0), max_depth=3) == ScalarRef(ScalarRef([]))
    assert code_of(HEADER + b"\x04" * 2 + b"\x02" + u32(0), max_depth=2) == "limit-depth"


def test_a_class_is_a_level():
    item = image(b"\x04\x11\x01A\x02" + u32(0))
    assert thaw(item, max_depth=3) == [Blessed("A", [])]
    assert code_of(item, max_depth=2) == "limit-depth"


@pytest.mark.parametrize(
    ("first", "link"),
    [
        (b"\x04\x02" + u32(0), b"\x04\x02" + u32(1) + b"\x04\x00"),
        (b"\x04\x03" + u32(0), b"\x04\x02" + u32(1) + b"\x1b\x00"),
        (b"\x04\x05", b"\x04\x04\x00"),
    ],
)
def test_depth_built_from_shallow_pieces(first, link):
    """Each piece refers to the one before: two levels in the image, thousands in memory."""
    pieces = [first]
    tags_of_a_link = 3 if link[1] == 2 else 2
    tag = 2
    for _ in range(1000):
        pieces.append(link + u32(tag))
        tag += 2 if len(pieces) == 2 else tags_of_a_link
    assert code_of(image(*pieces)) == "limit-depth"
    few = thaw(image(*pieces[:100]))
    assert depth_of(few) <= 256


EMPTY = b"\x04\x02" + u32(0)
AGAIN = b"\x04\x00"


@pytest.mark.parametrize(
    ("items", "depth"),
    [
        ([EMPTY, AGAIN + u32(2)], 2),
        ([EMPTY, b"\x00" + u32(1)], 2),
        ([b"\x04\x02" + u32(1) + b"\x05", AGAIN + u32(2)], 2),
        ([EMPTY, AGAIN + u32(1)], 3),  # a reference to the first element
        ([EMPTY, b"\x04" + AGAIN + u32(2)], 3),
        ([b"\x05", AGAIN + u32(1)], 2),
        ([b"\x04\x05", AGAIN + u32(2)], 2),
        ([b"\x04\x05", AGAIN + u32(1)], 3),
        ([b"\x04\x02" + u32(1) + EMPTY, AGAIN + u32(2)], 3),
        ([b"\x04\x02" + u32(1) + EMPTY, b"\x04\x02" + u32(1) + AGAIN + u32(2)], 4),
        ([b"\x04\x11\x01A" + EMPTY[1:], AGAIN + u32(2)], 3),
        ([b"\x04\x11\x01A" + EMPTY[1:], b"\x04" + AGAIN + u32(2)], 4),
        ([b"\x04\x11\x01A\x05", b"\x04" + AGAIN + u32(2)], 4),
        ([b"\x04\x11\x01A" + EMPTY, b"\x04\x04\x02" + u32(1) + AGAIN + u32(2)], 6),
        ([b"\x11\x01A" + EMPTY, b"\x04\x04\x02" + u32(1) + AGAIN + u32(1)], 6),
        ([b"\x04\x04\x04\x05", b"\x04\x02" + u32(1) + b"\x00" + u32(1)], 5),
        ([b"\x04\x05", AGAIN + u32(1), b"\x04" + AGAIN + u32(3)], 5),
    ],
)
def test_depth_behind_back_references(items, depth):
    data = image(*items)
    assert depth_of(thaw(data, max_depth=depth)) == depth
    assert code_of(data, max_depth=depth - 1) == "limit-depth"


def test_depth_of_the_stack_itself():
    """Whoever raises the limit gets Python's."""
    levels = sys.getrecursionlimit() * 2
    assert code_of(nested(levels), max_depth=levels * 2) == "limit-depth"
    with pytest.raises(DecodeError, match="Python's stack"):
        thaw(nested(levels), max_depth=levels * 2)


def test_room_on_the_stack_for_256_levels():
    """One frame per level: a caller far down the stack can still decode the deepest image."""
    hole = b"\x02" + u32(1) + b"\x0e"

    def call(frames):
        if frames:
            return call(frames - 1)
        return [thaw(nested(255)), thaw(nested(255, hole))]

    used = len(inspect.stack(0))
    assert len(call(sys.getrecursionlimit() - used - 300)) == 2


# ---- size and bombs ----------------------------------------------------------------------


def test_size():
    data = image(b"\x05")
    assert code_of(data, max_size=1) == "limit-size"
    assert thaw(data, max_size=len(data)) == [None]
    assert code_of(data, max_size=len(data) - 1) == "limit-size"
    assert code_of(bytearray(data), max_size=len(data) - 1) == "limit-size"


def test_the_limit_is_checked_before_anything_is_copied():
    data = bytearray(20_000_000)
    with peak_below(100_000):
        assert code_of(data) == "limit-size"


@pytest.mark.parametrize("head", [b"\x04", b"\x14", b"\x1b", b"\x11\x01A", b"\x04\x11\x01A"])
def test_200_kb_of_prefixes(head):
    with peak_below(2_000_000):
        code_of(HEADER + head * (200_000 // len(head)) + b"\x05")


@pytest.mark.parametrize("count", [2**24, 2**31 - 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("opcode", [b"\x01", b"\x02", b"\x03", b"\x18", b"\x19\x00", b"\x1e"])
def test_giant_counts(opcode, count):
    data = HEADER + b"\x02" + u32(1) + b"\x04" + opcode + u32(count) + bytes(50)
    with peak_below(200_000):
        assert code_of(data) == "truncated"


def test_giant_counts_all_the_way_down():
    data = HEADER + b"\x02\xff\xff\xff\xff\x04" * 200 + b"\x0a" * 5000
    with peak_below(1_000_000):
        assert code_of(data) == "truncated"


@pytest.mark.slow
@pytest.mark.parametrize("tail", [b"\x05", b"\x0e"], ids=["fast", "complete"])
def test_memory_for_the_smallest_items(tail):
    """An undef, one byte, takes eight in the list and eight for its tag, and a list grows."""
    data = HEADER + b"\x02" + u32(100_000) + b"\x05" * 99_999 + tail
    with peak_below(4_500_000):
        assert thaw(data) == [None] * 100_000


def test_shared_structure_is_decoded_once():
    two = b"\x02" + u32(2) + b"\x04"
    inner = b"".join(b"\x04\x00" + u32(tag) for tag in range(80, 0, -2))
    value = thaw(HEADER + two * 40 + b"\x02" + u32(0) + inner)
    seen = 0
    while value:
        left, right = value
        assert left is right
        value = left
        seen += 1
    assert seen == 40


# ---- whatever the bytes ------------------------------------------------------------------


def attempt(data: bytes, **options: object) -> object:
    """Decode; a DecodeError must have one of the codes, anything else fails the test."""
    try:
        return thaw(data, **options)
    except DecodeError as error:
        refusal = error
    assert refusal.code in CODES
    assert str(refusal).startswith(f"{refusal.code}: ")
    return refusal


def assert_inert(value: object, known: set[int]) -> None:
    if id(value) in known:
        return
    known.add(id(value))
    assert type(value) in {
        *(type(None), bool, int, str, bytes, list, dict),
        *(ScalarRef, Blessed, Regexp),
    }
    if isinstance(value, (ScalarRef, Blessed)):
        assert_inert(value.value, known)
    elif isinstance(value, list):
        for item in value:
            assert_inert(item, known)
    elif isinstance(value, dict):
        assert all(type(key) is str for key in value)
        for item in value.values():
            assert_inert(item, known)


@given(st.binary(), st.sampled_from(MODES))
def test_any_bytes(data, mode):
    attempt(data, byte_strings=mode)
    attempt(HEADER + data, byte_strings=mode)


@settings(max_examples=7 * settings.default.max_examples)
@given(
    st.one_of(odd_images, damaged(common_images), damaged(odd_images)),
    st.sampled_from(MODES),
    st.sampled_from([1, 2, 3, 4, 256]),
)
def test_odd_and_damaged_images(data, mode, max_depth):
    value = attempt(data, byte_strings=mode, max_depth=max_depth)
    if not isinstance(value, DecodeError):
        assert_inert(value, set())
        assert depth_of(value) <= max_depth


def test_every_cut_of_a_rich_image():
    data = image(
        b"\x04\x11\x01A\x19\x00" + u32(1) + b"\x1d\x02v1\x0a\x01\x01\x01" + u32(2) + b"\xc3\xa9",
        b"\x14\x12\x80" + u32(0) + b"\x20\x01" + u32(1) + b"x\x01u",
        b"\x04\x00" + u32(2),
        b"\x09" + u32(7),
        b"\x18" + u32(2) + b"\xc3\xa9",
        b"\x1e" + u32(2) + b"v1\x01" + u32(1) + b"z",
    )
    thaw(data)
    assert [code_of(data[:end]) for end in range(len(data))] == ["truncated"] * len(data)


# ---- the two decoders agree --------------------------------------------------------------


def by_fast_path(data: bytes, max_depth: int, max_items: int = 1000) -> object:
    try:
        return _thaw._ordinary(data, max_depth, max_items)
    except (_thaw._Unusual, IndexError, _thaw.struct.error, UnicodeDecodeError):
        return NotImplemented


COMMON = [
    b"\x05",
    b"\x08\x00",
    b"\x09\xff\xff\xff\x7f",
    b"\x0a\x02\xe9a",
    b"\x17\x02\xc3\xa9",
    b"\x01\x00\x00\x00\x02\xe9a",
    b"\x18\x00\x00\x00\x02\xc3\xa9",
    b"\x22",
    b"\x23",
    b"\x04\x02" + u32(1) + b"\x05",
    b"\x04\x03" + u32(1) + b"\x05" + u32(1) + b"k",
]


@pytest.mark.parametrize("first", COMMON)
@pytest.mark.parametrize("second", COMMON)
def test_fast_path_takes_every_common_item(first, second):
    """Each item in both containers, with each other item behind it."""
    for data in (image(first, second), hash_image(first + u32(1) + b"a", second + u32(1) + b"b")):
        fast = by_fast_path(data, 256)
        assert fast is not NotImplemented
        assert repr(fast) == repr(Decoder(data, 256, "latin-1").root())


def object_image(*inner: bytes, name: bytes = b"RPC::Async::Coderef") -> bytes:
    """A list with an object in it, which is a hash."""
    pairs = b"".join(item + u32(1) + bytes([ord("a") + at]) for at, item in enumerate(inner))
    head = b"\x04\x11" + bytes([len(name)]) + name + b"\x03" + u32(len(inner))
    return image(b"\x05", head + pairs, b"\x08\x00")


@pytest.mark.parametrize("inner", [(), *((item, b"\x05") for item in COMMON)])
@pytest.mark.parametrize("name", [b"A", b"caf\xe9", b"x" * 127])
def test_fast_path_takes_objects_in_lists(inner, name):
    """As a function is that a client passes."""
    data = object_image(*inner, name=name)
    fast = by_fast_path(data, 256)
    assert fast is not NotImplemented
    assert repr(fast) == repr(Decoder(data, 256, "latin-1").root())


@pytest.mark.parametrize(
    ("inner", "levels"),
    [((), 3), ((b"\x05",), 3), ((b"\x04\x02" + u32(0),), 4), ((b"\x04\x03" + u32(0),), 4)],
)
def test_fast_path_keeps_the_depth_limit_with_objects(inner, levels):
    data = object_image(*inner)
    assert by_fast_path(data, levels) is not NotImplemented
    Decoder(data, levels, "latin-1").root()
    for fewer in range(1, levels):
        assert by_fast_path(data, fewer) is NotImplemented
        assert code_of(data, max_depth=fewer) == "limit-depth"


@pytest.mark.parametrize(
    "data",
    [
        object_image(name=b""),
        object_image(b"\x05")[:20],
        object_image(b"\x05")[:-5],
        image(b"\x04\x11\x80" + u32(1) + b"A\x03" + u32(0)),
        image(b"\x04\x11\x01A\x11\x01B\x03" + u32(0)),
        image(b"\x04\x11\x01A\x0a\x01x"),
        image(b"\x04\x11\x01A\x03" + u32(0), b"\x04\x12\x00\x03" + u32(0)),
    ],
)
def test_fast_path_leaves_other_objects_to_the_complete_decoder(data):
    assert by_fast_path(data, 256) is NotImplemented


@pytest.mark.parametrize("kinds", list(itertools.product("ah", repeat=3)))
def test_fast_path_keeps_the_depth_limit(kinds):
    """Arrays in hashes, hashes in arrays..."""
    item = b""
    for kind in kinds:
        count = u32(1 if item else 0)
        key = u32(0) if item else b""
        item = b"\x04\x02" + count + item if kind == "a" else b"\x04\x03" + count + item + key
    data = HEADER + item[1:]
    assert depth_of(by_fast_path(data, 3)) == 3
    assert by_fast_path(data, 2) is NotImplemented


@settings(max_examples=5 * settings.default.max_examples)
@given(
    st.one_of(common_images, odd_images, damaged(common_images)), st.sampled_from([1, 2, 3, 256])
)
def test_fast_path_agrees_with_the_complete_decoder(data, max_depth):
    fast = by_fast_path(data, max_depth)
    if fast is NotImplemented:
        return
    complete = Decoder(data, max_depth, "latin-1").root()  # a DecodeError here fails the test
    assert repr(fast) == repr(complete)  # == cannot tell 1 from True


@settings(max_examples=4 * settings.default.max_examples)
@given(common_images)
def test_fast_path_leaves_nothing_ordinary_behind(data):
    value = attempt(data)
    if isinstance(value, DecodeError):
        assert value.code == "duplicate-key"
    else:
        assert by_fast_path(data, 256) is not NotImplemented


@pytest.mark.parametrize("mode", ["bytes", "utf-8"])
@given(data=common_images)
def test_only_latin1_takes_the_fast_path(mode, data):
    value = attempt(data, byte_strings=mode)
    if not isinstance(value, DecodeError):
        assert repr(value) == repr(Decoder(data, 256, mode).root())
