"""Packets with other ids in them: all else stays as it came, whatever refers back to what."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rpc.test_storable_vectors import READ, image_of, named
from support.strategies import odd_items, u32

from rpcasync.errors import DecodeError
from rpcasync.storable import Blessed, ScalarRef, freeze, thaw
from rpcasync.storable._walk import tag_at, walk
from rpcasync.wire.codecs import JSONCodec, StorableCodec
from rpcasync.wire.messages import CALLBACK_MARK, CallbackRef, as_id
from rpcasync.wire.splicing import with_id, with_ids

EXAMPLES = settings(max_examples=10 * settings.default.max_examples)
HEADERS = [b"\x05\x0b", b"\x05\x01", b"\x05\x02"]  # Perl's, a typed one, a very old one
CODEREF = b"\x04\x11\x13" + CALLBACK_MARK  # what the first hash of a callback stands behind
NEXT_CODEREF = b"\x04\x12\x00"
IDS = [0, 127, 128, -1, 2**31 - 1, 2**40, "0", "12", "caf\xe9"]


def packet(*items: bytes, header: bytes = HEADERS[0]) -> bytes:
    return header + b"\x02" + u32(len(items)) + b"".join(items)


def pairs(*named: tuple[bytes, bytes]) -> bytes:
    return b"\x03" + u32(len(named)) + b"".join(v + u32(len(k)) + k for k, v in named)


def array(*items: bytes) -> bytes:
    return b"\x04\x02" + u32(len(items)) + b"".join(items)


def again(tag: int) -> bytes:
    return b"\x00" + u32(tag)


def byte(number: int) -> bytes:
    return bytes([8, number + 128])


def written(id, typed=False):
    return freeze([id], typed=typed)[7:]


def more(id):
    """What the callbacks' ids become in these tests: each another, and known again."""
    return id + 1000 if type(id) is int else f"<{id}>"[:20]


def shape(value):
    """A value with each container that stands in it again told from an equal one.

    The ids of callbacks are left out.
    """
    seen = {}

    def walked(item):
        if not isinstance(item, (list, dict, ScalarRef, Blessed)) or item in ([], {}):
            return type(item).__name__, repr(item)
        if id(item) in seen:
            return "again", seen[id(item)]
        seen[id(item)] = len(seen)
        if isinstance(item, list):
            return "list", [walked(inner) for inner in item]
        if isinstance(item, dict):
            is_callback = "call" in item
            return "dict", [
                (key, walked(None if key == "id" and is_callback else inner))
                for key, inner in item.items()
            ]
        if isinstance(item, Blessed):
            return "object", item.class_name, walked(item.value)
        return "reference", walked(item.value)

    return walked(value)


# ---- the id ------------------------------------------------------------------------------


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("new", IDS)
@pytest.mark.parametrize("old", IDS)
def test_an_id_is_replaced_as_an_encoder_writes_it(old, new, header):
    typed = header == HEADERS[1]
    tail = written("proc") + array(written(5), b"\x05")
    payload = packet(written(old, typed), tail, header=header)[: -len(tail)]
    payload = payload[:3] + u32(3) + payload[7:] + tail
    spliced = with_id(payload, new)
    assert spliced == payload[:7] + written(new, typed) + tail
    assert thaw(spliced)[0] == (new if typed or abs(hash(new)) != 2**40 else str(new))


@pytest.mark.parametrize(
    "old",
    [
        b"\x08\x81",
        b"\x09\x00\x00\x03\xe8",
        b"\x0a\x011",
        b"\x17\x011",
        b"\x01\x00\x00\x00\x011",
        b"\x18\x00\x00\x00\x011",
        b"\x1d\x02v1\x0a\x011",
        b"\x1e\x00\x00\x00\x02v1\x17\x011",
        b"\x11\x01A\x08\x81",
        b"\x11\x80\x00\x00\x00\x01A\x0a\x011",
    ],
)
def test_every_form_of_an_id_is_read(old):
    tail = written("proc")
    prefix = old[: old.index(b"A") + 1] if b"A" in old else b""
    assert with_id(packet(old, tail), 7) == packet(prefix + b"\x08\x87", tail)


def test_an_id_that_is_a_float_in_a_typed_image():
    tail = written("proc")
    for old in (b"\x18\x00\x00\x00\x017", b"\x1d\x02-0\x0a\x010"):
        payload = packet(old, tail, header=HEADERS[1])
        assert as_id(thaw(payload)[0]) in (0, 7)
        assert with_id(payload, 9) == packet(b"\x08\x89", tail, header=HEADERS[1])


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "0 bytes is no list"),
        (b"[1,2]   ", "no list in Storable"),
        (JSONCodec().encode([1, "proc", "a"]), "no list in Storable"),
        (b"\x05\x0b\x03\x00\x00\x00\x01\x08\x81\x00\x00\x00\x01a", "no list in Storable"),
        (b"\x05\x0b\x11\x01A\x02\x00\x00\x00\x01\x08\x81", "no list in Storable"),
        (b"\x05\x0b\x04\x02\x00\x00\x00\x01\x08\x81", "no list in Storable"),
        (b"\x04\x0b\x02\x00\x00\x00\x01\x08\x81", "no list in Storable"),
        (b"\x05\x0b\x02\x00\x00\x00\x00\x08", "empty list"),
        (packet(array(byte(1))), "opcode 0x04 at offset 7 is no id"),
        (packet(b"\x11\x01A" + array(byte(1))), "opcode 0x11 at offset 7 is no id"),
        (packet(b"\x11\x01A" + again(1)), "opcode 0x11 at offset 7 is no id"),
        (packet(b"\x12\x00\x08\x81"), "class 0 at offset 8, 0 were named"),
        (packet(again(0), byte(1)), "opcode 0x00 at offset 7 is no id"),
        (packet(b"\x06" + bytes(8)), "opcode 0x06 at offset 7 is no scalar"),
        (packet(b"\x0a"), "ends within its id"),
        (packet(byte(1), again(1), b"\x02"), "within an item"),
        (packet(byte(1), again(1)) + b"\x05", "the root ends at offset 14 of 15 bytes"),
        (packet(byte(1), again(1), b"\x1d\x01a\x05"), "opcode 0x05 at offset 17 is no string"),
    ],
)
def test_what_cannot_be_done_is_a_value_error(payload, why):
    with pytest.raises(ValueError, match=why):
        with_id(payload, 5)


def test_a_long_call_is_not_walked_through():
    """What stands behind the id may be anything, even if no decoder would take it."""
    payload = packet(byte(1), written("proc"), b"\xff" * 100)
    assert with_id(payload, 2) == packet(byte(2), written("proc"), b"\xff" * 100)


# ---- what refers back to the id -----------------------------------------------------------


def test_an_argument_that_is_the_very_id_keeps_its_value():
    """As Perl freezes `\\@_` when one variable was passed twice; the second argument is tag 3."""
    payload = packet(byte(5), again(1), again(1), b"\x0a\x01x", again(2))
    spliced = with_id(payload, 9)
    #                 tag 1    2        -          3             4 moved on by one
    assert spliced == packet(byte(9), byte(5), again(2), b"\x0a\x01x", again(3))
    assert thaw(spliced) == [9, 5, 5, "x", "x"]


def test_references_to_the_id_stay_references_to_one_scalar():
    payload = packet(byte(5), b"\x04" + again(1), array(b"\x04" + again(1)), b"\x04" + again(4))
    spliced = thaw(with_id(payload, 9))
    assert spliced[0] == 9
    assert spliced[1] == ScalarRef(5)
    assert spliced[1] is spliced[2][0]
    assert spliced[3] is spliced[2]


def test_an_id_with_a_class_that_is_referred_to():
    payload = packet(
        b"\x11\x01A" + byte(5), again(1), b"\x04" + again(1), b"\x04\x12\x00" + byte(6)
    )
    spliced = with_id(payload, 9)
    assert spliced == packet(
        b"\x11\x01A" + byte(9), b"\x12\x00" + byte(5), b"\x04" + again(2), b"\x04\x12\x00" + byte(6)
    )
    assert shape(thaw(spliced)[1:]) == shape(thaw(payload)[1:])


def test_keys_that_look_like_a_reference_to_the_id():
    """A value that ends with a zero, then a key of one byte."""
    payload = packet(byte(5), b"\x04" + pairs((b"a", byte(-128)), (b"b", b"\x17\x01\x00")))
    assert with_id(payload, 6) == packet(byte(6), payload[9:])


@pytest.mark.parametrize("vector", named(READ))
@pytest.mark.parametrize("referred", [False, True])
def test_images_made_by_perl_in_a_packet(vector, referred):
    """Each as an argument; then once more with references to the id around, so that tags move."""
    image = image_of(vector)
    head = [again(1)] if referred else []
    inner = bytearray(image[2:])  # whose root has the tag 3,
    for item in walk(image, b"", b"").again:
        inner[item.start - 1 : item.start + 3] = u32(tag_at(image, item) + 3)
    tail = [b"\x04" + again(1), again(1)] if referred else []
    payload = packet(byte(5), *head, b"\x04" + bytes(inner), *tail)
    value = thaw(payload)
    assert shape(value[len(head) + 1]) == shape(thaw(image))
    spliced = with_id(payload, 77)
    if not referred:
        assert spliced == payload[:7] + byte(77) + payload[9:]
    got = thaw(spliced)
    assert got[0] == 77
    assert shape(got[1:]) == shape(value[1:])


# ---- callbacks ---------------------------------------------------------------------------


def callback(id_item: bytes, head: bytes = CODEREF, *fields: tuple[bytes, bytes]) -> bytes:
    return head + pairs((b"call", b"\x05"), (b"id", id_item), (b"destroy", b"\x05"), *fields)


@pytest.mark.parametrize("typed", [False, True])
def test_callbacks_get_other_ids_in_their_order(typed):
    codec = StorableCodec(typed=typed)
    payload = codec.encode(
        [7, "go", {"b": [CallbackRef(3)]}, CallbackRef("4"), ScalarRef(CallbackRef(5))]
    )
    asked = []
    spliced = with_ids(payload, 8, lambda old: asked.append(old) or 300 + len(asked))
    assert asked == [3, "4", 5]
    assert spliced == codec.encode(
        [8, "go", {"b": [CallbackRef(301)]}, CallbackRef(302), ScalarRef(CallbackRef(303))]
    )


def test_a_packet_without_callbacks():
    payload = packet(byte(1), written("RPC::Async"))
    assert with_ids(payload, 2, more) == with_id(payload, 2)


def test_the_word_alone_is_no_callback():
    payload = packet(byte(1), written("say"), written(CALLBACK_MARK.decode()))
    assert with_ids(payload, 2, more) == with_id(payload, 2)


def test_an_answer_is_not_searched_for_callbacks():
    payload = packet(byte(1), callback(byte(3)))
    assert with_id(payload, 2) == packet(byte(2), callback(byte(3)))


def test_one_object_in_two_places_is_one_callback():
    payload = packet(
        byte(1), callback(byte(3)), b"\x04" + again(3), callback(byte(4), NEXT_CODEREF)
    )
    asked = []
    spliced = with_ids(payload, 1, lambda old: asked.append(old) or old + 50)
    assert asked == [3, 4]
    assert StorableCodec().decode(spliced)[1:] == [
        CallbackRef(53),
        CallbackRef(53),
        CallbackRef(54),
    ]


def test_a_callback_with_the_very_id_of_the_call():
    payload = packet(
        byte(5), callback(again(1)), again(1), callback(again(1), NEXT_CODEREF), again(8)
    )
    spliced = with_ids(payload, 6, more)
    new = written(1005)
    assert spliced == packet(
        byte(6), callback(new), byte(5), callback(new, NEXT_CODEREF), again(10)
    )
    assert StorableCodec().decode(payload) == [5, CallbackRef(5), 5, CallbackRef(5), None]
    assert StorableCodec().decode(spliced) == [6, CallbackRef(1005), 5, CallbackRef(1005), None]


def test_an_argument_that_is_the_very_id_of_a_callback():
    payload = packet(byte(1), callback(byte(5)), again(5), b"\x04" + again(5), again(6))
    assert thaw(payload)[2:] == [5, ScalarRef(5), None]
    spliced = with_ids(payload, 2, more)
    assert StorableCodec().decode(spliced) == [2, CallbackRef(1005), 5, ScalarRef(5), None]


def test_flagged_hashes_and_absent_keys():
    fields = [(b"id", 0x10, b"\x0e"), (b"call", 0, b"\x05"), (b"x", 1, byte(3))]
    for flags in (0, 1, 2, 4):
        wide = [(b"id", flags, byte(3)), (b"\xe2\x98\xba", 1, byte(4))]
        items = [
            head
            + b"\x19\x01"
            + u32(len(named))
            + b"".join(value + bytes([flag]) + u32(len(key)) + key for key, flag, value in named)
            for head, named in ((CODEREF, fields), (NEXT_CODEREF, wide))
        ]
        payload = packet(byte(1), *items)
        assert StorableCodec().decode(payload)[2] == CallbackRef(3)
        spliced = with_ids(payload, 2, more)
        got = thaw(spliced)
        assert got[0] == 2
        assert got[1] == thaw(payload)[1]
        assert got[2].value == {"id": 1003, "\u263a": 4}


@pytest.mark.parametrize(
    "no_id", [b"\x05", b"\x22", b"\x04\x08\x83", array(), b"\x0a\x15" + b"1" * 21]
)
def test_an_object_without_a_proper_id_is_no_callback(no_id):
    payload = packet(byte(1), callback(no_id))
    assert type(StorableCodec().decode(payload)[1]) is Blessed
    assert with_ids(payload, 2, more) == with_id(payload, 2)


def test_an_object_within_another_is_no_callback():
    inner = b"\x04\x11\x03Foo\x02" + u32(1) + callback(byte(3))
    payload = packet(byte(1), inner, callback(byte(4), b"\x04\x12\x01"))
    spliced = with_ids(payload, 2, more)
    got = thaw(spliced)
    assert got[1] == thaw(payload)[1]
    assert got[2].value["id"] == 1004


def test_an_object_that_is_met_within_another_and_alone():
    inner = b"\x04\x11\x03Foo\x02" + u32(1) + callback(byte(3))
    payload = packet(byte(1), inner, b"\x04" + again(5))
    assert StorableCodec().decode(payload)[2] == CallbackRef(3)
    with pytest.raises(ValueError, match="back reference at offset"):
        with_ids(payload, 2, more)


def test_an_id_that_is_not_ascii_is_left_to_values():
    payload = packet(byte(1), callback(byte(3)), callback(b"\x0a\x01\xe9", NEXT_CODEREF))
    asked = []
    with pytest.raises(ValueError, match="is not ASCII"):
        with_ids(payload, 2, asked.append)
    assert not asked  # not even for the one that could be replaced


def test_many_levels_take_no_stack():
    deep = b"\x04\x02\x00\x00\x00\x01" * 200_000
    payload = packet(byte(1), again(1), deep + callback(byte(3)))
    assert with_ids(payload, 2, more) == packet(byte(2), byte(1), deep + callback(written(1003)))


# ---- any packet at all -------------------------------------------------------------------

ids = st.one_of(
    st.sampled_from([byte(5), b"\x09\x00\x01\x00\x00", b"\x0a\x0212", b"\x17\x0213"]),
    st.sampled_from([b"\x11\x01A\x08\x81", b"\x1d\x02v1\x0a\x017"]),
)
id_fields = st.one_of(
    ids, st.integers(1, 8).map(again), st.sampled_from([b"\x05", b"\x04\x08\x81"])
)
callbacks = st.builds(callback, id_fields, st.sampled_from([CODEREF] * 4 + [NEXT_CODEREF]))
boxed = st.one_of(
    callbacks,
    st.lists(callbacks, max_size=3).map(lambda items: array(*items)),
    callbacks.map(lambda item: b"\x04\x11\x01B\x02" + u32(1) + item),
)
references = st.integers(1, 12).map(again)
items = st.one_of(odd_items, boxed, boxed, references, references.map(b"\x04".__add__))
packets = st.builds(
    lambda header, first, rest: packet(first, *rest, header=header),
    st.sampled_from([*HEADERS, HEADERS[0], HEADERS[0]]),
    ids,
    st.lists(items, min_size=1, max_size=8),
)


def callbacks_in(value):
    """Return the ids of the callbacks of a decoded packet, each as often as it stands there."""
    if isinstance(value, CallbackRef):
        return [value.id]
    inner = [value.value] if isinstance(value, ScalarRef) else value
    inner = inner.values() if isinstance(inner, dict) else inner
    return [id for item in inner for id in callbacks_in(item)] if isinstance(inner, HOLDERS) else []


HOLDERS = (list, type({}.values()))


@EXAMPLES
@given(packets)
def test_any_packet_means_the_same_but_for_its_ids(payload):
    codec = StorableCodec()
    try:
        value = codec.decode(payload)
    except DecodeError:
        with suppress(ValueError):
            with_ids(payload, 9, more)  # and nothing else is raised
        return
    rest = shape(thaw(payload)[1:])
    got = codec.decode(with_id(payload, 9))
    assert got[0] == 9
    assert shape(thaw(with_id(payload, 9))[1:]) == rest
    assert callbacks_in(got) == callbacks_in(value)
    try:
        spliced = with_ids(payload, 9, more)
    except ValueError as error:
        assert "back reference at offset" in str(error) or "not ASCII" in str(error)
        return
    got = codec.decode(spliced)
    assert got[0] == 9
    assert shape(thaw(spliced)[1:]) == rest
    assert callbacks_in(got) == [more(id) for id in callbacks_in(value)]
