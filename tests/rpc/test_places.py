"""Where a value stands that cannot be sent: by its names, in bounded time and text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcasync.errors import EncodeError
from rpcasync.storable import ScalarRef, freeze
from rpcasync.storable._places import located, located_in_list
from rpcasync.wire.codecs import JSONCodec, StorableCodec
from rpcasync.wire.protocol import ClientProtocol, ServerProtocol

CODECS = [StorableCodec(), StorableCodec(typed=False), JSONCodec()]
by_codec = pytest.mark.parametrize("codec", CODECS, ids=["typed", "perl", "json"])


def text_of(function, *args) -> str:
    with pytest.raises(EncodeError) as caught:
        function(*args)
    return str(caught.value)


def in_call(codec, *args) -> str:
    client = ClientProtocol(codec)
    text = text_of(client.call, "f", args, None)
    assert not client.pending
    return text


@by_codec
def test_in_a_call_by_the_name_of_the_argument(codec):
    why = "set has no form in JSON" if codec.name == "json" else "set: only None, bool, int"
    assert in_call(codec, "n1", [{"a": {1}}], "n2", 3).startswith(f'cannot send n1[0]["a"]: {why}')
    assert in_call(codec, "n1", {1}).startswith(f"cannot send n1: {why}")
    assert in_call(codec, "n1", print, "n2", [{1}]).startswith(f"cannot send n2[0]: {why}")
    assert in_call(codec, 1, [2, {3}], 4).startswith(f"cannot send args[1][1]: {why}")
    assert in_call(codec, {1}, 2).startswith(f"cannot send args[0]: {why}")


@by_codec
def test_in_an_answer_and_in_the_call_of_a_callback(codec):
    server = ServerProtocol([codec])
    assert text_of(server.result, 1, ["deep", [{"a": {1}}]]).startswith(
        'cannot send deep[0]["a"]: set'
    )
    assert text_of(server.result, 1, [1, {2}, 3]).startswith("cannot send values[1]: set")
    assert text_of(server.invoke, 1, ["x", [{1}]]).startswith("cannot send x[0]: set")
    assert text_of(server.invoke, 1, [[{1}]]).startswith("cannot send args[0][0]: set")


@by_codec
def test_the_first_of_several(codec):
    assert in_call(codec, "a", [1, "x", None, {2}, object()]).startswith("cannot send a[3]: set")


def test_what_else_is_wrong():
    storable, json = StorableCodec(), JSONCodec()
    assert in_call(storable, "a", [{"k": {1: 2}}]) == (
        'cannot send a[0]["k"]: dict keys must be str: 1 is int'
    )
    assert "cannot send a[1]: str with lone surrogate" in in_call(storable, "a", ["x", "\ud800"])
    assert in_call(storable, "a", {"k": 10**5000}).startswith(
        'cannot send a["k"]: int of 16610 bits'
    )
    assert in_call(json, "a", [float("nan")]).startswith("cannot send a[0]: Out of range float")
    assert in_call(json, "a", [b"x"]) == "cannot send a[0]: bytes has no form in JSON"
    assert in_call(json, "a", {"k": [{(1,): 2}]}).startswith(
        'cannot send a["k"][0]: keys must be str'
    )
    assert in_call(storable, "a", [ScalarRef({1})]).startswith("cannot send a[0].value: set")


@by_codec
def test_what_stands_in_itself(codec):
    circle: list[object] = [1]
    circle.append({"k": circle})
    assert in_call(codec, "a", circle) == 'cannot send a[1]["k"]: list stands inside itself'


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ('a"b', r'["a\"b"]'),
        ("it's", '["it\'s"]'),
        ("\x1b[31m\n", r'["\x1b[31m\n"]'),
        ("\u2028", r'["\u2028"]'),
        ("\xe9", '["\xe9"]'),
        ("k" * 1000, '["' + "k" * 37 + '..."]'),
    ],
    ids=["quote", "apostrophe", "control", "separator", "letter", "long"],
)
def test_keys_are_shown_on_one_line(key, shown):
    assert text_of(freeze, {key: {1}}).startswith(f"cannot send {shown}: set")


def nested(value: object, levels: int) -> list[object]:
    for _ in range(levels):
        value = [value]
    return [value]


def test_the_text_is_short_however_deep_it_is():
    text = text_of(freeze, nested({1}, 200))
    assert text.startswith("cannot send " + "[0]" * 10 + "..." + "[0]" * 10 + ": set: only")
    name = "n" * 5000
    assert len(in_call(StorableCodec(), name, {1})) < 200


@by_codec
def test_a_function_is_no_fault_in_a_call(codec):
    circle: list[object] = [print]
    circle.append(circle)
    assert in_call(codec, "f", print, "a", [print, circle]) == (
        "cannot send a[1][1]: list stands inside itself"
    )


def test_what_is_too_deep_is_not_looked_for():
    assert text_of(freeze, nested(1, 300)) == "nested deeper than 256 levels"
    assert text_of(freeze, nested({1}, 2000)) == "nested deeper than 256 levels"


def test_a_large_value_is_not_looked_through_to_its_end():
    asked = []
    error = EncodeError("no")
    values: list[object] = [[2**40] * 15_000, [2**40] * 15_000, {1}]
    assert located(error, values, asked.append) is error
    assert located_in_list(error, values, "args", asked.append) is error
    assert len(asked) < 2 * 20_000


@pytest.mark.parametrize("text", ["\xe9" * 100_000, b"x" * 100_000, memoryview(b"x" * 100_000)])
def test_large_values_are_not_all_written_once_more(text):
    asked = []
    error = EncodeError("image of more than 1048576 bytes")
    assert located(error, [text] * 1000, asked.append) is error
    assert 0 < len(asked) * 100_000 < 4_000_000
    assert located(error, [text, {"a": {1}}], refuse_sets).args == ('cannot send [1]["a"]: set',)


def refuse_sets(value):
    if isinstance(value, set):
        raise EncodeError("cannot send set")


def test_a_value_that_stands_for_very_much_is_not_either():
    value: list[object] = [1]
    for _ in range(100):
        value = [value, value]
    with pytest.raises(EncodeError, match="^image of more than 9999 bytes$"):
        freeze(value, max_size=9999)


def test_types_of_the_program_that_fail_change_nothing():
    class Odd(list):
        looks = 0

        def __iter__(self):
            Odd.looks += 1
            if Odd.looks > 1:
                raise KeyError("not again")
            return iter([{1}])

    assert text_of(freeze, Odd([0])).startswith("cannot send set: only")
    assert Odd.looks > 1


@given(st.lists(st.sampled_from([0, 1, "a", "\xe9"]), min_size=1, max_size=8))
def test_the_place_leads_to_the_value(steps):
    value: object = {1, 2}
    wrong = value
    for step in reversed(steps):
        value = {step: value, "z": 1} if isinstance(step, str) else [*[None] * step, value, 3.5]
    place = text_of(freeze, value).removeprefix("cannot send ").partition(": ")[0]
    assert eval(f"value{place}", {"value": value}) is wrong
