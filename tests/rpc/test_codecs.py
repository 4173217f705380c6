import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcasync import errors
from rpcasync.calls import Reply
from rpcasync.errors import DecodeError, EncodeError
from rpcasync.storable import Blessed, Regexp, ScalarRef, freeze, thaw
from rpcasync.wire import codecs
from rpcasync.wire.codecs import JSONCodec, StorableCodec, get_codec
from rpcasync.wire.messages import CallbackRef

JSON = JSONCodec()


def pickled(protocol):
    def again(value):
        return pickle.loads(pickle.dumps(value, protocol))

    return again


COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy} | {
    f"pickle {protocol}": pickled(protocol) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
}
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


@given(st.binary() | st.text('[]{}:,"\\eE+-.0123456789 ', max_size=30).map(str.encode))
def test_what_json_takes_it_can_send_back(data):
    try:
        value = JSON.decode(b"[" + data)
    except DecodeError:
        return
    assert JSON.decode(JSON.encode(value)) == value


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "bad-json"),
        (b"[1", "bad-json"),
        (b"[1,]", "bad-json"),
        (b"[NaN]", "bad-json"),
        (b"[-Infinity]", "bad-json"),
        (b"[" + b"9" * 5000 + b"]", "bad-json"),
        (b"[1e999]", "bad-json"),
        (b'[{"a":[-1E400]}]', "bad-json"),
        (b"[" + b"9" * 400 + b".0]", "bad-json"),
        (b'[{"RPC::Async::Coderef":{"id":1e309}}]', "bad-json"),
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


def test_the_largest_float_is_no_infinity():
    assert JSON.decode(b"[1.7976931348623157e308,-1e308,1e-999]") == [
        1.7976931348623157e308,
        -1e308,
        0,
    ]


def test_lone_surrogates_are_escaped():
    assert JSON.decode(JSON.encode(["\ud800"])) == ["\ud800"]


def test_storable_options():
    image = StorableCodec(typed=False).encode(["caf\xe9".encode()])
    assert StorableCodec().decode(image) == ["caf\xc3\xa9"]
    assert StorableCodec(byte_strings="bytes").decode(image) == [b"caf\xc3\xa9"]
    assert StorableCodec(byte_strings="utf-8").decode(image) == ["caf\xe9"]
    with pytest.raises(ValueError, match="byte_strings"):
        StorableCodec(byte_strings="ascii")
    with pytest.raises(DecodeError):
        StorableCodec(max_depth=2).decode(StorableCodec().encode([[[[1]]]]))
    with pytest.raises(EncodeError):
        StorableCodec(max_depth=2).encode([[[[1]]]])


@pytest.mark.parametrize("codec", [JSONCodec, StorableCodec])
def test_a_packet_holds_so_many_values(codec):
    payload = codec().encode([[None] * 3, {"k": 1}])
    assert codec(max_items=6).decode(payload) == [[None] * 3, {"k": 1}]
    with pytest.raises(DecodeError, match="limit-items: 6 values.*limit is 5"):
        codec(max_items=5).decode(payload)
    with pytest.raises(ValueError, match="max_items is 0, must be 1 or more"):
        codec(max_items=0)


@pytest.mark.parametrize(
    ("codec", "payload"),
    [
        (JSON, b"[" + b"1," * 1_000_000 + b"1]"),
        (StorableCodec(), b"\x05\x0b\x02\0\x0f\x42\x41" + b"\5" * 1_000_001),
    ],
    ids=["json", "storable"],
)
def test_a_million_values_unless_told_otherwise(codec, payload):
    with pytest.raises(DecodeError, match="limit-items: 1000001 values.*limit is 1000000"):
        codec.decode(payload)


@pytest.mark.parametrize("again", COPIES.values(), ids=COPIES)
def test_codecs_can_be_copied(again):
    used = JSONCodec(max_items=9)
    used.encode(["x" * 5000])
    for codec in (JSON, used, StorableCodec(), StorableCodec(byte_strings="bytes", max_depth=9)):
        other = again(codec)
        assert vars(other) == vars(codec)
        assert other.decode(codec.encode([1, [CallbackRef(2)]])) == [1, [CallbackRef(2)]]
        assert other.encode([1, [CallbackRef(2)]]) == codec.encode([1, [CallbackRef(2)]])


@pytest.mark.parametrize("again", COPIES.values(), ids=COPIES)
def test_values_and_errors_can_be_copied(again):
    kept = [ScalarRef([1]), Blessed("A", {}), Regexp("a", "i"), Reply((1, 2)), CallbackRef(3)]
    assert again(kept) == kept
    assert again(kept[3]).__class__ is Reply
    for name in errors.__all__:
        make = getattr(errors, name)
        error = make("limit-x", "7: 8") if make is DecodeError else make("text: 1")
        other = again(error)
        assert (type(other), str(other), vars(other)) == (type(error), str(error), vars(error))


def test_lookup_by_name():
    assert isinstance(get_codec("json"), JSONCodec)
    assert isinstance(get_codec("storable"), StorableCodec)
    assert get_codec(JSON) is JSON
    with pytest.raises(ValueError, match="codec is 'xml'"):
        get_codec("xml")


# Functions

CODECS = [JSON, StorableCodec(), StorableCodec(byte_strings="bytes")]
NAME = "RPC::Async::Coderef"
by_codec = pytest.mark.parametrize("codec", CODECS, ids=["json", "storable", "storable-bytes"])


@by_codec
@pytest.mark.parametrize("id", [0, 3, 2**31 - 1, -1, 2**64 - 1, "7", "", "x" * 20])
def test_callbacks_arrive(codec, id):
    if codec is not JSON and id == 2**64 - 1:
        id = str(id)  # which is what Perl would make of it
    ref = CallbackRef(id)
    table = {"a": [[ref]], "b": ref}
    assert codec.decode(codec.encode([1, 2, ref, table, ref])) == [1, 2, ref, table, ref]


def test_callbacks_in_scalar_references():
    values = [1, 2, ScalarRef([CallbackRef(5)])]
    assert StorableCodec().decode(StorableCodec().encode(values)) == values


def test_callbacks_on_the_wire():
    assert JSON.encode([1, CallbackRef(3)]) == b'[1,{"RPC::Async::Coderef":{"id":3}}]'
    fields = {"id": 3, "alive": 1, "call": None, "destroy": None}
    assert thaw(StorableCodec().encode([1, CallbackRef(3)])) == [1, Blessed(NAME, fields)]


WRONG_IDS = [None, True, 1.5, [3], {"id": 3}, 2**64, "x" * 21]


@pytest.mark.parametrize("wrong", WRONG_IDS, ids=repr)
def test_json_callbacks_without_a_proper_id(wrong):
    for values in ([{NAME: {"id": wrong}}], [{"k": [{NAME: {"id": wrong}}]}]):
        assert JSON.decode(JSON.encode(values)) == values


@pytest.mark.parametrize(
    "value",
    [
        *({NAME: 3}, {NAME: [3]}, {NAME: None}, {NAME: {}}, {NAME: {"Id": 3}}, {NAME: {"i": 3}}),
        *({NAME: {"id": 3}, "more": 1}, {"x": NAME}, NAME, [NAME], {f"{NAME}2": {"id": 3}}),
    ],
    ids=repr,
)
def test_json_that_only_mentions_the_name(value):
    assert JSON.decode(JSON.encode([1, "x", value])) == [1, "x", value]


def test_json_callbacks_in_each_other():
    inner = {NAME: {"id": {NAME: {"id": 3}}}}
    assert JSON.decode(JSON.encode([inner])) == [{NAME: {"id": CallbackRef(3)}}]
    more = {NAME: {"id": 3, "call": [{NAME: {"id": 4}}]}}
    assert JSON.decode(JSON.encode([more])) == [CallbackRef(3)]


def test_json_with_the_name_in_escapes_is_no_callback():
    payload = b'[1,{"RPC\\u003a:Async::Coderef":{"id":3}}]'
    assert JSON.decode(payload) == [1, {NAME: {"id": 3}}]


def image_of(value):
    """The image of [1, an object], as a peer could write it."""
    return freeze([1, object()], default=lambda _: value)


@pytest.mark.parametrize("wrong", [*WRONG_IDS[:1], 1.5, [3], {"id": 3}, "x" * 21], ids=repr)
def test_storable_callbacks_without_a_proper_id(wrong):
    (_one, value) = StorableCodec().decode(image_of(Blessed(NAME, {"id": wrong})))
    assert type(value) is Blessed or (wrong == 1.5 and value == CallbackRef("1.5"))


@pytest.mark.parametrize(
    "value",
    [
        *(Blessed(NAME, {}), Blessed(NAME, [3]), Blessed(NAME, ScalarRef(3))),
        *(Blessed(NAME, {"Id": 3}), Blessed(f"{NAME}2", {"id": 3}), Blessed("X", {"id": NAME})),
    ],
    ids=repr,
)
def test_storable_objects_that_are_no_callbacks(value):
    assert StorableCodec().decode(image_of(value)) == [1, value]


@by_codec
def test_values_that_only_mention_the_name(codec):
    values = [1, NAME, {NAME: 3}, [NAME], {"k": NAME}]
    arrived = codec.decode(codec.encode(values))
    assert arrived[2] in ({NAME: 3}, {NAME.encode(): 3})
    assert CallbackRef not in map(type, arrived)


def test_storable_callbacks_are_not_the_root():
    image = image_of(Blessed(NAME, {"id": 3}))
    root = image[:2] + image[10:]  # the object alone
    assert StorableCodec().decode(root) == Blessed(NAME, {"id": 3})


@pytest.mark.parametrize("depth", [100, 1000, 3000])
def test_callbacks_deep_down(depth):
    codec = StorableCodec(max_depth=10_000)
    value = CallbackRef(1)
    for _ in range(depth):
        value = [value]
    try:
        payload = codec.encode([1, value])
    except EncodeError:
        payload = b"\x05\x0b" + b"\x02\0\0\0\x01\x04" * depth + b"\x0a\x13" + NAME.encode()
    try:
        assert codec.decode(payload)
    except DecodeError as error:
        assert depth > 100
        assert error.code == "limit-depth"


@given(st.binary(max_size=40))
def test_storable_with_the_name_decodes_or_says_why(data):
    image = image_of(Blessed(NAME, {"id": 3}))
    for cut in range(2, len(image), 3):
        for payload in (image[:cut] + data + image[cut:], image[:cut] + data):
            try:
                StorableCodec().decode(payload)
            except DecodeError as error:
                assert error.code


def test_json_is_utf8_and_has_escapes_only_where_nothing_else_will_do():
    assert JSON.encode(["é\u263a", 'a"\n']) == '["é\u263a","a\\"\\n"]'.encode()
    assert JSON.encode(["é\ud800"]) == b'["\\u00e9\\ud800"]'
    assert JSON.decode(JSON.encode(["é\ud800"])) == ["é\ud800"]


def test_json_without_the_part_in_c(monkeypatch):
    monkeypatch.setattr("json.encoder.c_make_encoder", None)
    encode = codecs._prepared_encoder(ensure_ascii=False)
    values = [1, "é", {"k": [None, True, 2.5]}, CallbackRef(3)]
    assert "".join(encode(values, 0)).encode() == JSON.encode(values)


LONG_TEXTS = st.tuples(
    st.text(max_size=3), st.sampled_from(["x", "é", "\u263a", "\x7f"]), st.text(max_size=3)
).map(lambda parts: parts[0] + parts[1] * 5000 + parts[2])


@pytest.mark.slow
@given(st.lists(st.lists(LONG_TEXTS | VALUES)))
def test_what_json_makes_of_long_texts_does_not_depend_on_what_was_before(lists):
    codec = JSONCodec()
    for values in [["x" * 5000], *lists]:
        assert codec.encode(values) == JSONCodec().encode(values)


@pytest.mark.parametrize("character", [chr(code) for code in range(32)] + ['"', "\\", "\ud800"])
def test_long_texts_are_escaped(character):
    codec = JSONCodec()
    text = "x" * 5000
    for values in ([text], [1, text + character], [{"k": character + text}, text], []):
        assert codec.decode(codec.encode(values)) == values
    codec.encode([text])
    with pytest.raises(EncodeError, match="cannot send as JSON"):
        codec.encode([text, float("nan")])
