"""What is read of what a server tells: no more than there is room for; and how names are made."""

import ast

import pytest
from hypothesis import given
from support.telling import anything, texts

from rpcasync.describing.kinds import ANY, Field, Fields, Listed, Plain, Room, copied, kind_of
from rpcasync.describing.names import Names, is_name
from rpcasync.describing.procedures import read_procedures
from rpcasync.describing.schema import schema
from rpcasync.describing.skeleton import skeleton
from rpcasync.describing.source import assignment, bracketed, docstring, literal
from rpcasync.describing.stub import stub
from rpcasync.errors import RPCError


def read(value, **options):
    return kind_of(copied(value, Room()), **{"is_in": True, **options})


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("int", Plain("integer32")),
        (b"int:pos", Plain("integer32", "pos")),
        ("", ANY),
        (None, ANY),
        (5, ANY),
        ("\ud800", ANY),
        ("x" * 1000, ANY),
        (["str", "utf8"], Listed((Plain("utf8string"),))),
        (("int", "str"), Listed((Plain("integer32"), Plain("utf8string")))),
        ({"*": "int"}, Fields((), Plain("integer32"))),
        ({b"x": "int"}, Fields((Field("x", Plain("integer32")),))),
        ({"2a|b": "any"}, Fields((Field("a", ANY), Field("b", ANY)))),
        ({"|": "any"}, Fields((Field("|", ANY),))),
        ({"00": "any"}, Fields((Field("00", ANY),))),
    ],
)
def test_kinds(value, kind):
    assert read(value) == kind


def test_numbers_are_an_order_in_what_is_taken_and_names_in_what_is_answered():
    table = {"10b": "any", "9a": "any", "c": "any", "1x": "any", "2x": "any"}
    assert [field.name for field in read(table).fields] == ["x", "a", "b", "c"]
    answered = read(table, is_in=False)
    assert [field.name for field in answered.fields] == sorted(table)


def test_the_order_that_a_server_tells():
    found = read({"a": "any", "b": "any", "c": "any"}, order={"c": 0, "a": 1})
    assert [field.name for field in found.fields] == ["c", "a", "b"]


@given(anything)
def test_anything_can_be_read(value):
    kind = read(value)
    assert copied(copied(value, Room()), Room()) == copied(value, Room())
    assert isinstance(kind, (Plain, Listed, Fields))


def nested(depth, wrap):
    value = "int"
    for _ in range(depth):
        value = wrap(value)
    return value


WRAPS = [lambda inner: [inner], lambda inner: {"x": inner}, lambda inner: {"a-b": [inner]}]


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("depth", [49, 10_000])
def test_what_is_nested_is_cut(wrap, depth):
    found = read_procedures({"f": {"in": {"x": nested(depth, wrap)}, "out": nested(depth, wrap)}})
    for text in (skeleton(found), stub(found)):
        compile(text, "made.py", "exec")
        assert len(text) < 100_000
    assert schema(found)


def test_one_part_many_times_is_too_much():
    value = ["int"]
    for _ in range(40):
        value = [value, value]
    with pytest.raises(RPCError, match="tells more than 100000 names and types"):
        read_procedures({"f": {"in": {"x": value}}})


def test_many_names_in_one_key_are_too_much():
    with pytest.raises(RPCError, match="tells more than 100000 names and types"):
        read({"|".join(f"a{number}" for number in range(100_001)): "int"})
    assert len(read({"a|b|c": "int"}).fields) == 3


def test_a_list_in_itself_is_cut():
    value = []
    value.append(value)
    assert skeleton(read_procedures({"f": {"out": {"x": value}}}))


def test_a_long_docstring_is_cut():
    about = {"in": {}, "doc": "word " * 200_000}
    found = read_procedures({"f": about, "g": {"in": {}, "doc": "line\n" * 200_000}})
    assert len(skeleton(found)) < 15_000


@pytest.mark.slow
def test_many_names_that_look_alike_take_linear_time():
    signs = str.maketrans("01", "-+")
    found = read_procedures({f"{n:b}".translate(signs): {} for n in range(30_000)})
    assert skeleton(found).count("raise Fault") == len(found)


# Source


@given(texts)
def test_literals_are_read_back(text):
    shown = literal(text)
    assert eval(shown) == text
    assert shown.isprintable()


@given(texts)
def test_docstrings_are_read_back(text):
    lines = docstring(text, "    ")
    scope = {}
    exec("\n".join(["def f():", *lines, "    return 5"]), scope)
    assert scope["f"]() == 5
    doc = scope["f"].__doc__ or ""
    text = text.encode("utf-8", "backslashreplace").decode()
    assert [line.strip() for line in doc.strip().split("\n")] == [
        line.strip() for line in text.strip().split("\n")
    ]


@pytest.mark.parametrize("text", ['"', '""', '"""', "\\", '\\"', 'x"', '"x', 'a"""b', "a\\"])
def test_docstrings_with_quotes(text):
    test_docstrings_are_read_back.hypothesis.inner_test(text)


def test_a_lone_surrogate_is_shown():
    # Python 3.13 and later compile no docstring that has one.
    assert docstring("a \ud800", "") == ['"""a \\\\ud800"""']


def test_lines_are_as_long_as_they_may_be():
    assert bracketed("f(", ["a" * 42, "b" * 41], ")", "") == [f"f({'a' * 42}, {'b' * 41})"]
    assert bracketed("f(", ["a" * 42, "b" * 42], ")", "") == [
        *("f(", f"    {'a' * 42},", f"    {'b' * 42},", ")"),
    ]
    assert bracketed("f(", ["a" * 41, "b" * 41], ") -> None:", "") == [
        *("f(", f"    {'a' * 41}, {'b' * 41}"[:88], ") -> None:"),
    ]


def test_data_is_on_one_line_if_there_is_room():
    for length in (73, 74):
        value = {"a": ["b" * length]}
        lines = assignment("x = ", value)
        assert (len(lines) == 1) == (length == 73)
        assert max(map(len, lines)) <= 88
        assert ast.literal_eval("".join(lines).removeprefix("x = ")) == value


# Names


@pytest.mark.parametrize("text", ["a", "_", "_a", "rpc_x", "\xe9t\xe9", "match", "a1"])
def test_names(text):
    assert is_name(text)
    assert not is_name(text, {text})


@pytest.mark.parametrize(
    "text", ["", "1a", "a-b", "class", "None", "__x", "a b", "a\n", "\ufb01nd", "x" * 101, "a.b"]
)
def test_no_names(text):
    assert not is_name(text)


def test_new_names_are_no_keywords():
    names = Names(())
    assert names.new("class") == "class_"
    assert [names.new_class(word, "") for word in ("false", "none", "x")] == [
        "False_",
        "None_",
        "X",
    ]


@given(texts, texts)
def test_new_names_are_names_and_no_two_are_the_same(one, other):
    names = Names({"value", "X"})
    made = [
        names.new(one),
        names.new(other),
        names.new(one, prefix="p_"),
        names.new_class(one, "X"),
    ]
    assert len({*made, "value", "X"}) == 6
    assert all(each.isidentifier() for each in made)
