"""The encoder: the bytes it chooses, what it refuses, its limits, and the round trip."""

from __future__ import annotations

import enum
import inspect
import math
import shutil
import subprocess
import sys
import tracemalloc
from collections import OrderedDict, UserList, defaultdict, namedtuple
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import HEADER, arrival, roots, texts, u32

from rpcasync.errors import EncodeError
from rpcasync.storable import Blessed, Regexp, ScalarRef, _leaves, freeze, thaw

Point = namedtuple("Point", "x y")


class Colour(enum.IntEnum):
    RED = 1
    FAR = 70000


class Word(str, enum.Enum):
    YES = "yes"

    def __str__(self):
        return "something else"


class Ratio(float):
    def __repr__(self):
        return "half"


class Text(str):
    def encode(self, *_args):
        return b"other"


def item(value: object) -> bytes:
    """The bytes of one value, as an element of a list."""
    head = HEADER + b"\x02" + u32(1)
    image = freeze([value])
    assert image.startswith(head)
    assert freeze({"k": value}) == HEADER + b"\x03" + u32(1) + image[len(head) :] + u32(1) + b"k"
    assert freeze(ScalarRef(value)) == HEADER + image[len(head) :]
    return image[len(head) :]


def refusal(value: object, **options: object) -> str:
    with pytest.raises(EncodeError) as caught:
        freeze(value, **options)
    return str(caught.value)


# ---- the bytes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, b"\x05"),
        (True, b"\x08\x81"),
        (False, b"\x08\x80"),
        (0, b"\x08\x80"),
        (-128, b"\x08\x00"),
        (127, b"\x08\xff"),
        (128, b"\x09\x00\x00\x00\x80"),
        (-129, b"\x09\xff\xff\xff\x7f"),
        (2**31 - 1, b"\x09\x7f\xff\xff\xff"),
        (-(2**31), b"\x09\x80\x00\x00\x00"),
        (2**31, b"\x0a\x0a2147483648"),
        (-(2**31) - 1, b"\x0a\x0b-2147483649"),
        (10**300, b"\x01" + u32(301) + b"1" + b"0" * 300),
        (3.0, b"\x08\x83"),
        (-0.0, b"\x08\x80"),
        (1e3, b"\x09\x00\x00\x03\xe8"),
        (1e10, b"\x0a\x0b10000000000"),
        (2.0**53 - 1, b"\x0a\x109007199254740991"),
        (2.0**53, b"\x0a\x109007199254740992"),
        (-(2.0**53), b"\x0a\x11-9007199254740992"),
        (1e16, b"\x0a\x051e+16"),
        (0.1, b"\x0a\x030.1"),
        (1 / 3, b"\x0a\x120.3333333333333333"),
        (5e-324, b"\x0a\x065e-324"),
        (math.inf, b"\x0a\x03Inf"),
        (-math.inf, b"\x0a\x04-Inf"),
        (math.nan, b"\x0a\x03NaN"),
        ("", b"\x0a\x00"),
        ("abc", b"\x0a\x03abc"),
        ("a" * 255, b"\x0a\xff" + b"a" * 255),
        ("a" * 256, b"\x01" + u32(256) + b"a" * 256),
        ("é", b"\x17\x02\xc3\xa9"),
        ("\u263a" * 85, b"\x17\xff" + b"\xe2\x98\xba" * 85),
        ("é" * 128, b"\x18" + u32(256) + b"\xc3\xa9" * 128),
        (b"\xff\x00", b"\x0a\x02\xff\x00"),
        (bytearray(b"\xe9"), b"\x0a\x01\xe9"),
        (memoryview(b"a.b.c")[::2], b"\x0a\x03abc"),
        (b"x" * 255, b"\x0a\xff" + b"x" * 255),
        (b"x" * 256, b"\x01" + u32(256) + b"x" * 256),
        ([], b"\x04\x02" + u32(0)),
        ((), b"\x04\x02" + u32(0)),
        ({}, b"\x04\x03" + u32(0)),
        ([1, []], b"\x04\x02" + u32(2) + b"\x08\x81\x04\x02" + u32(0)),
        ({"é": None}, b"\x04\x03" + u32(1) + b"\x05" + u32(1) + b"\xe9"),
        (ScalarRef("x"), b"\x04\x0a\x01x"),
        (ScalarRef(ScalarRef([])), b"\x04\x04\x04\x02" + u32(0)),
    ],
)
def test_bytes_of_a_value(value, expected):
    assert item(value) == expected


def test_one_wide_key_changes_the_whole_hash():
    assert item({"a": 1, "\u263a": 2, "é": 3}) == b"".join(
        [
            b"\x04\x19\x00" + u32(3),
            b"\x08\x81\x00" + u32(1) + b"a",
            b"\x08\x82\x01" + u32(3) + b"\xe2\x98\xba",
            b"\x08\x83\x00" + u32(1) + b"\xe9",
        ]
    )


def test_pairs_keep_their_order():
    assert list(thaw(freeze(dict.fromkeys("zebra")))) == list("zebra")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, 1),
        (Colour.FAR, 70000),
        (Word.YES, "yes"),
        (Point(1, 2), [1, 2]),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (Ratio(0.5), 0.5),
        (Text("é"), "é"),
        ({Word.YES: 1}, {"yes": 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_subclasses_go_as_their_base(value, plain):
    assert item(value) == item(plain)
    assert freeze([value] * 2) == freeze([plain] * 2)


def test_a_subclass_that_cannot_count():
    """The count must match what follows, or the image is broken."""

    class Liar(list):
        def __len__(self):
            return 7

    assert thaw(freeze(Liar([1, 2]))) == [1, 2]


def test_subclasses_at_the_root():
    assert freeze(Point(1, 2)) == freeze([1, 2]) == freeze((1, 2))
    assert freeze(OrderedDict(a=1)) == freeze({"a": 1})


def test_cached_strings_and_keys_are_kept_apart():
    """One text as value and as key, short and long, more texts than a cache holds, twice."""
    for _ in range(2):
        names = [f"name {n}" for n in range(3000)] + ["k" * 32, "k" * 33, "é" * 32, "é" * 33]
        value = {name: name for name in names}
        assert thaw(freeze(value)) == value


def test_caches_are_bounded():
    freeze(["x" * n for n in range(100)])
    freeze({"x" * n: n for n in range(100)})
    for count in range(3000):
        freeze([f"text {count}", {f"key {count}": None}])
        assert len(_leaves.TEXTS) <= 1024
        assert len(_leaves.KEYS) <= 1024
    assert "text 2999" in _leaves.TEXTS
    assert "key 2999" in _leaves.KEYS
    freeze(["y" * 1000, {"z" * 1000: 1, "\u263a": 2}])
    assert not {"y" * 1000, "z" * 1000, "\u263a"} & {*_leaves.TEXTS, *_leaves.KEYS}


# ---- what cannot be sent -----------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        *({1, 2}, frozenset(), object(), 1j, Decimal(1), range(3), UserList(), int, ...),
        *(print, lambda: None, iter([]), Blessed("Foo", {}), Regexp("x", "")),
        *(Blessed("RPC::Async::Coderef", {"id": 1}),),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_sent(value):
    for holder, place in (
        ([value], "[0]"),
        ({"k": (value,)}, '["k"][0]'),
        (ScalarRef(value), ".value"),
        ([1, ScalarRef(value)], "[1].value"),
    ):
        text = refusal(holder)
        assert text.startswith(f"cannot send {place}: {type(value).__name__}: only ")
        assert "None, bool, int, float, str, bytes, list, tuple, dict and ScalarRef" in text


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "text", b"bytes", {1}, Blessed("A", [])])
def test_roots_that_are_no_reference(value):
    text = refusal(value)
    assert text.startswith("the root must be a list, tuple, dict or ScalarRef")
    assert text.endswith(type(value).__name__)


@pytest.mark.parametrize("key", [1, None, b"k", ("a",), 2.5])
def test_keys_that_are_no_str(key):
    text = refusal([{"fine": 1, key: 2}])
    assert repr(key) in text
    assert type(key).__name__ in text
    assert len(refusal({("x" * 10**6,): 1})) < 200


@pytest.mark.parametrize("value", [["a\ud800"], {"\udcff": 1}, {"\u263a": 1, "\ud800": 2}])
def test_lone_surrogates(value):
    assert "surrogate" in refusal(value)


def test_numbers_too_long_to_print():
    assert refusal([10**5000]) == "cannot send [0]: int of 16610 bits, limit is 14000"
    assert refusal([-(2**14000)]) == "cannot send [0]: int of 14001 bits, limit is 14000"
    assert thaw(freeze([2**14000 - 1])) == [str(2**14000 - 1)]


def test_what_python_itself_refuses():
    view = memoryview(b"abc")
    view.release()
    assert "released" in refusal([view])
    if hasattr(sys, "set_int_max_str_digits"):
        assert "4300" in refusal([{10**5000: 1}])


def test_a_refusal_leaves_nothing_behind():
    for _ in range(2):
        refusal(["new text", {"new key": object()}])
        assert thaw(freeze(["new text", {"new key": 1}])) == ["new text", {"new key": 1}]


# ---- what the program puts in the place of what cannot be sent ----------------------------


class Strange:
    """What cannot be sent."""


def coderef(number: int) -> Blessed:
    fields = {"id": number, "alive": 1, "call": None, "destroy": None}
    return Blessed("RPC::Async::Coderef", fields)


def putting(replacement: object):
    """A `default` that gives this for a Strange, and knows nothing else."""
    return lambda value: replacement if isinstance(value, Strange) else value


CODEREF = (
    b"\x04\x11\x13RPC::Async::Coderef\x03"
    + u32(4)
    + (b"\x08\x8f" + u32(2) + b"id" + b"\x08\x81" + u32(5) + b"alive")
    + (b"\x05" + u32(4) + b"call" + b"\x05" + u32(7) + b"destroy")
)


def test_the_packet_of_a_callback():
    call = [16, "callback", "calls", 2, "callback", {"key": [ScalarRef(Strange())]}]
    image = freeze(call, default=putting(coderef(15)))
    expected = HEADER + b"\x02" + u32(6) + b"\x08\x90\x0a\x08callback\x0a\x05calls\x08\x82"
    expected += b"\x0a\x08callback\x04\x03" + u32(1) + b"\x04\x02" + u32(1)
    expected += b"\x04" + CODEREF + u32(3) + b"key"
    assert image == expected
    assert len(image) == 0x81 - 4  # what Perl writes, but for the order of keys
    assert thaw(image) == [*call[:5], {"key": [ScalarRef(coderef(15))]}]


@pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")
def test_what_perl_makes_of_callbacks():
    program = """
        binmode STDIN; local $/; my $call = Storable::thaw(<STDIN>);
        for my $object (@$call[2, 3], ${$call->[4]}) {
            print join(",", ref $object, map { "$_=" . ($object->{$_} // "undef") }
                sort keys %$object), "\\n";
        }
        print Storable::thaw(Storable::nfreeze($call))->[5];
    """
    value = [1, "x", Strange(), Strange(), ScalarRef(Strange()), "end"]
    image = freeze(value, default=putting(coderef(15)))
    command = ["perl", "-MStorable", "-e", program]
    result = subprocess.run(command, input=image, capture_output=True, timeout=60)
    line = b"RPC::Async::Coderef,alive=1,call=undef,destroy=undef,id=15\n"
    assert result.stdout == line * 3 + b"end", result.stderr


@pytest.mark.parametrize(
    "inner", [[1, [2]], {"k": "v"}, ScalarRef(5), ScalarRef([1]), [], {}, (1, 2)]
)
def test_what_can_be_blessed(inner):
    image = freeze([Strange(), 1], default=putting(Blessed("A::B", inner)))
    arrived = list(inner) if isinstance(inner, tuple) else inner
    assert thaw(image) == [Blessed("A::B", arrived), 1]
    as_root = freeze([inner])[len(HEADER) + 5 :]
    assert image == HEADER + b"\x02" + u32(2) + b"\x04\x11\x04A::B" + as_root[1:] + b"\x08\x81"


@pytest.mark.parametrize("inner", [1, "x", None, b"", 0.5])
def test_what_cannot_be_blessed(inner):
    text = refusal([Strange()], default=putting(Blessed("A", inner)))
    assert text == f"cannot send [0]: {type(inner).__name__} cannot be blessed"


def test_objects_of_peers_are_not_written():
    stranger = Blessed("IO::File", {})
    for options in ({}, {"default": lambda value: value}, {"default": putting(1)}):
        for value in ([stranger], {"k": stranger}, ScalarRef(stranger), [[stranger]]):
            assert ": Blessed: only None, bool" in refusal(value, **options)
    inside = putting(Blessed("Fine", [stranger]))
    assert refusal([Strange()], default=inside).startswith("cannot send [0]: Blessed")


@pytest.mark.parametrize("name", ["A", "A" * 127, "A" * 128, "\xe9", "\xe9" * 127, "\xe9" * 300])
def test_names_of_classes(name):
    thing = Blessed(name, [])
    image = freeze([Strange()], default=putting(thing))
    length = bytes([len(name)]) if len(name) < 128 else b"\x80" + u32(len(name))
    assert image[len(HEADER) + 5 :].startswith(b"\x04\x11" + length + name.encode("latin-1"))
    assert thaw(image) == [thing]


def test_a_name_of_a_class_beyond_latin1():
    """Perl writes the bytes of its UTF-8, and reads these as the name."""
    image = freeze([Strange()], default=putting(Blessed("\xe9\u4e2d", {})))
    assert image.hex() == "050b0200000001041105c3a9e4b8ad0300000000"


def test_names_of_classes_that_cannot_be():
    assert (
        refusal([Strange()], default=putting(Blessed("", {})))
        == "cannot send [0]: class name is empty"
    )
    long = putting(Blessed("A" * 1000, {}))
    assert refusal([Strange()], default=long, max_size=1000) == "image of more than 1000 bytes"


@pytest.mark.parametrize("replacement", [None, 5, "text", [1], {"k": [2]}, ScalarRef(3)])
def test_what_is_put_in_its_place(replacement):
    value = [Strange(), {"k": Strange()}, ScalarRef(Strange())]
    expected = [replacement, {"k": replacement}, ScalarRef(replacement)]
    assert freeze(value, default=putting(replacement)) == freeze(expected)


def test_what_has_a_form_is_not_asked_for():
    asked: list[object] = []
    value = [None, True, 1, 0.5, "x", b"x", (1,), {"k": Colour.RED}, ScalarRef(1), Point(1, 2)]
    freeze(value, default=asked.append)
    assert asked == []


def test_replacements_without_end():
    assert refusal([1, Strange()], default=lambda value: Strange()).startswith(
        "cannot send [1]: nested deeper"
    )
    text = refusal([Strange()], default=lambda value: Blessed("A", [Strange()]))
    assert text == "cannot send [0]: nested deeper than 256 levels"


@pytest.mark.parametrize(("steps", "fits"), [(100, True), (300, False)])
def test_replacements_of_replacements_count_as_levels(steps, fits):
    left = [Strange() for _ in range(steps)]
    default = lambda value: left.pop() if left else 5  # noqa: E731
    if fits:
        assert freeze([Strange()], default=default) == freeze([5])
    else:
        assert refusal([Strange()], default=default) == "nested deeper than 256 levels"


def test_a_replacement_that_fails():
    def fail(value):
        raise EncodeError("not this one")

    assert refusal([Strange()], default=fail) == "cannot send [0]: not this one"


def test_the_size_of_objects_counts():
    default = putting(coderef(1))
    size = len(freeze([Strange(), Strange()], default=default))
    assert freeze([Strange(), Strange()], default=default, max_size=size)
    for smaller in range(1, size):
        text = refusal([Strange(), Strange()], default=default, max_size=smaller)
        assert text == f"image of more than {smaller} bytes"


# ---- limits ------------------------------------------------------------------------------


def nested_lists(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"k": v}, ScalarRef, lambda v: (v,)])
def test_depth(wrap):
    value = wrap(1)
    for _ in range(255):
        value = wrap(value)
    thaw(freeze(value))  # what fits the one fits the other
    assert refusal(wrap(value)) == "nested deeper than 256 levels"


def test_depth_of_one():
    assert freeze([1], max_depth=1)
    assert refusal([[]], max_depth=1) == "nested deeper than 1 levels"
    assert freeze(ScalarRef(1), max_depth=1)
    assert refusal(ScalarRef([]), max_depth=1) == "nested deeper than 1 levels"
    assert refusal([ScalarRef(1)], max_depth=1) == "nested deeper than 1 levels"


def test_cycles():
    value: list[object] = []
    value.append({"again": value})
    assert refusal(value) == 'cannot send [0]["again"]: list stands inside itself'


def test_depth_of_the_stack_itself():
    levels = sys.getrecursionlimit() * 2
    text = refusal(nested_lists(levels), max_depth=levels * 2)
    assert text == f"nested deeper than {levels * 2} levels"


def test_room_on_the_stack_for_256_levels():
    def call(frames):
        return call(frames - 1) if frames else freeze(nested_lists(256))

    used = len(inspect.stack(0))
    assert call(sys.getrecursionlimit() - used - 300)


@pytest.mark.parametrize(
    "value",
    [[], {}, ScalarRef(5), [1, "x", None, [{"k": "v" * 300}]], {"\u263a": b"z" * 400}, ["é" * 300]],
)
def test_size_to_the_byte(value):
    image = freeze(value)
    assert freeze(value, max_size=len(image)) == image
    text = refusal(value, max_size=len(image) - 1)
    assert text == f"image of more than {len(image) - 1} bytes"


@given(roots, st.integers(1, 200))
def test_no_image_is_over_the_limit(value, max_size):
    try:
        image = freeze(value, max_size=max_size)
    except EncodeError:
        assert len(freeze(value)) > max_size
    else:
        assert image == freeze(value)
        assert len(image) <= max_size


def shared_lists(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels):
        value = [value, value]
    return value


MB = 2**20


BOMBS = {
    "shared lists": lambda: shared_lists(40),
    "long ASCII": lambda: ["x" * MB] * 100_000,
    "long text": lambda: ["é" * MB] * 100_000,
    "long bytes": lambda: [b"x" * MB] * 100_000,
    "long view": lambda: [memoryview(b"x" * MB)] * 100_000,
    "long key": lambda: [{"k" * MB: None}] * 100_000,
    "long wide key": lambda: [{"\u263a" * MB: None}] * 100_000,
    "long list": lambda: [[None] * MB] * 100_000,
    "many strings": lambda: ["x" * 200] * MB,
    "many short strings": lambda: ["x"] * MB,
    "many long numbers": lambda: [2**13000] * MB,
    "many floats": lambda: [0.1] * MB,
    "many dicts": lambda: [{"a": 1, "b": 2}] * MB,
    "one string": lambda: ["x" * (50 * MB)],
    "one bytes": lambda: [b"x" * (50 * MB)],
    "one view": lambda: [memoryview(b"x" * (50 * MB))],
    "one key": lambda: {"\u263a" * (25 * MB): None},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_stops_near_the_limit(name):
    """Small values that would be gigabytes as a tree; the limit here is one megabyte."""
    value = BOMBS[name]()
    tracemalloc.start()
    try:
        assert refusal(value, max_size=MB) == f"image of more than {MB} bytes"
        assert tracemalloc.get_traced_memory()[1] < 12 * MB
    finally:
        tracemalloc.stop()


def test_long_key_in_every_level():
    key = "k" * MB
    value: dict[str, object] = {}
    for _ in range(200):
        value = {key: value}
    tracemalloc.start()
    try:
        assert refusal(value, max_size=4 * MB) == f"image of more than {4 * MB} bytes"
        assert tracemalloc.get_traced_memory()[1] < 12 * MB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("options", [{"max_depth": 0}, {"max_size": 0}, {"max_size": -7}])
def test_limits_start_at_one(options):
    with pytest.raises(ValueError, match=r"limits start at 1: .*=(0|-7)"):
        freeze([], **options)


def test_the_smallest_limit():
    assert refusal([], max_size=1) == "image of more than 1 bytes"


def test_no_limit_at_all():
    assert freeze([1], max_size=2**70, max_depth=2**70) == freeze([1])


def test_the_documented_defaults():
    defaults = {name: p.default for name, p in inspect.signature(freeze).parameters.items()}
    del defaults["value"]
    assert defaults == {"max_depth": 256, "max_size": 16 * MB, "default": None, "typed": False}


# ---- there and back ----------------------------------------------------------------------


@given(roots)
def test_round_trip(value):
    assert repr(thaw(freeze(value))) == repr(arrival(value))  # == cannot tell 1 from True


@given(roots)
def test_what_arrives_can_be_sent_on(value):
    arrived = thaw(freeze(value))
    assert thaw(freeze(arrived)) == arrived


@given(st.lists(st.one_of(texts, st.binary())))
def test_bytes_and_text_come_back_as_sent_with_byte_strings(values):
    """In the mode "bytes" ASCII text is bytes as well: nothing in the image tells."""
    ascii_is_bytes = [v.encode() if isinstance(v, str) and v.isascii() else v for v in values]
    assert thaw(freeze(values), byte_strings="bytes") == ascii_is_bytes


@given(st.lists(texts))
def test_text_comes_back_in_mode_utf8(values):
    assert thaw(freeze(values), byte_strings="utf-8") == values


@given(st.floats(allow_nan=False))
def test_floats_arrive_exactly(number):
    [text] = thaw(freeze([number]))
    assert float(text) == number


def test_an_image_of_many_pieces_is_joined_in_little_memory():
    value = [[[]] * 100 for _ in range(300)]
    tracemalloc.start()
    image = freeze(value)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert thaw(image) == value
    assert peak < 10 * len(image)
