import collections.abc
import copy
import functools
import json
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcasync.arguments.reflection import describe, detail, expand, is_sendable, stated
from rpcasync.coderefs import Coderef
from rpcasync.storable import freeze, thaw

# Each row of what the original makes of a name, wherever its result is right.
ROWS = {
    "latin1string": ["latin1"],
    "utf8string": ["str", "string", "utf8"],
    "integer8": ["int8", "byte", "char"],
    "integer16": ["int16", "short"],
    "integer32": ["int", "integer", "int32", "long"],
    "integer64": ["int64", "longlong"],
    "uinteger8": ["uint8", "ubyte", "uchar"],
    "uinteger16": ["uint16", "ushort"],
    "uinteger32": ["uint", "uinteger", "uint32", "ulong"],
    "uinteger64": ["uint64", "ulonglong"],
    "float32": ["float"],
    "float64": ["double"],
    "boolean": ["bool"],
    "binary": ["bin", "data"],
    "any": [""],
}
PAIRS = [(short, full) for full, shorts in ROWS.items() for short in [full, *shorts]]
# What the original spoils, because it looks for parts of words; and what it does not know.
KEPT = ["bytes", "charset", "metadata", "longitude", "intern", "floating", "booleans", "sub"]
KEPT += ["Int", " int", "int ", "uint128", "string|int", "x_1", "caf\xe9", "\u263a", "any"]
KEY_ROWS = [
    ("x", ["x"], ["x"]),
    ("x_1", ["1x"], ["x_1"]),
    ("x_01", ["01x"], ["x_01"]),
    ("x_y_2", ["2x_y"], ["x_y_2"]),
    ("x_1_2", ["2x_1"], ["x_1_2"]),
    ("x_", ["x_"], ["x_"]),
    ("_1", ["_1"], ["_1"]),
    ("x_1y", ["x_1y"], ["x_1y"]),
    ("x_\u0661", ["x_\u0661"], ["x_\u0661"]),
    ("line\nfeed_1", ["1line\nfeed"], ["line\nfeed_1"]),
    ("a|b|c", ["00a", "01b", "02c"], ["a", "b", "c"]),
    ("a_1|b", ["00a_1", "01b"], ["a_1", "b"]),
    ("a|b_2", ["2a|b"], ["a", "b_2"]),
    ("2x", ["2x"], ["2x"]),
    ("2x_1", ["2x_1"], ["2x_1"]),
    ("2x|y", ["2x|y"], ["2x", "y"]),
    ("", [""], [""]),
]

texts = st.sampled_from([short for short, _ in PAIRS] + KEPT) | st.text(max_size=8)
types = st.builds("".join, st.tuples(texts, st.sampled_from(["", ":pos", ":", ":a:b"])))
keys = st.sampled_from([key for key, _, _ in KEY_ROWS]) | st.text("ab1_|\u263a", max_size=6)
definitions = st.recursive(
    types,
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(keys, parts, max_size=4),
    max_leaves=12,
)


def sent(value):
    """What arrives, by each codec; the same, by whichever."""
    (back,) = thaw(freeze([value]))
    assert json.loads(json.dumps(value)) == back
    return back


# Names of types


@pytest.mark.parametrize(("short", "full"), PAIRS)
@pytest.mark.parametrize("rest", ["", ":", ":pos", ":a:b", ":int"])
def test_every_row_of_the_table(short, full, rest):
    for is_in in (True, False):
        assert expand(short + rest, is_in) == full + rest
        assert expand({"x": [short + rest]}, is_in) == {"x": [full + rest]}


@pytest.mark.parametrize("name", KEPT)
def test_other_names_stay(name):
    assert expand(name) == name
    assert expand(f"{name}:pos") == f"{name}:pos"


# Keys


@pytest.mark.parametrize(("key", "names_in", "names_out"), KEY_ROWS)
def test_keys(key, names_in, names_out):
    assert expand({key: "int"}) == dict.fromkeys(names_in, "integer32")
    assert expand({key: "int"}, is_in=False) == dict.fromkeys(names_out, "integer32")
    assert list(expand({key: "int"})) == names_in


def test_numbers_start_again_for_each_key():
    found = expand({"a|b": "int", "c|d": "str", "e": "bool"})
    expected = {"00a": "integer32", "01b": "integer32", "00c": "utf8string", "01d": "utf8string"}
    assert found == {**expected, "e": "boolean"}


def test_at_every_depth():
    definition = {"a|b": [{"x_1": ["int", {"y_2": "str"}]}, "bool"], "c": ("int", [])}
    inner = [{"1x": ["integer32", {"2y": "utf8string"}]}, "boolean"]
    assert expand(definition) == {"00a": inner, "01b": inner, "c": ["integer32", []]}
    inner = [{"x_1": ["integer32", {"y_2": "utf8string"}]}, "boolean"]
    assert expand(definition, False) == {"a": inner, "b": inner, "c": ["integer32", []]}


def test_names_of_one_type_get_a_copy_each():
    found = expand({"a|b": {"x": ["int"]}})
    found["00a"]["x"].append("more")
    assert found["01b"] == {"x": ["integer32"]}


@given(definitions, st.booleans())
def test_twice_is_the_same_as_once_and_nothing_is_changed(definition, is_in):
    before = copy.deepcopy(definition)
    try:
        once = expand(definition, is_in)
    except ValueError as error:  # a name twice, or an empty one
        assert "definition has" in str(error) or "empty name" in str(error)
    else:
        assert expand(once, is_in) == once
        sent(once)
    assert definition == before


@given(definitions, st.booleans())
def test_nothing_of_the_result_is_the_callers(definition, is_in):
    try:
        found = expand(definition, is_in)
    except ValueError:
        return

    def containers(value):
        if isinstance(value, (list, dict)):
            yield id(value)
            for part in value.values() if isinstance(value, dict) else value:
                yield from containers(part)

    assert set(containers(found)).isdisjoint(containers(definition))
    assert len(set(containers(found))) == len(list(containers(found)))


# What cannot be expanded


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (None, "^type in a definition is a NoneType, must be a str, list or dict$"),
        ({"x": 1}, "^type in a definition is a int, "),
        ({"x": [int]}, "^type in a definition is a type, "),
        (["int", {"y": b"int"}], "^type in a definition is a bytes, "),
        ({"x": {"int"}}, "^type in a definition is a set, "),
        ({1: "int"}, "^key in a definition is a int, must be a str$"),
        ({b"x": "int"}, "^key in a definition is a bytes, must be a str$"),
        ({None: "int"}, "^key in a definition is a NoneType, must be a str$"),
    ],
)
def test_wrong_types(bad, message):
    with pytest.raises(TypeError, match=message):
        expand(bad)


@pytest.mark.parametrize(
    ("bad", "is_in", "message"),
    [
        ({"a|": "int"}, True, r"^key 'a\|' in a definition has an empty name beside a \|$"),
        ({"|": "int"}, False, "has an empty name"),
        ({"a||b": "int"}, False, "has an empty name"),
        ({"a|a": "int"}, False, "^definition has 'a' twice$"),
        ({"a|b": "int", "b": "str"}, False, "^definition has 'b' twice$"),
        ({"x_1": "int", "1x": "str"}, True, "^definition has '1x' twice$"),
        ("\ud800", True, r"^'\\ud800' in a definition is no text that can be sent$"),
        ({"\udfff": "int"}, True, "is no text that can be sent"),
        ("x" * 100_000, True, "^definition of more than 100000 characters$"),
        ({"x" * 100_000: "int"}, True, "^definition of more than 100000 characters$"),
        ([[]] * 100_000, True, "^definition of more than 100000 characters$"),
    ],
)
def test_wrong_values(bad, is_in, message):
    with pytest.raises(ValueError, match=message):
        expand(bad, is_in)


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: {"a|b": x}, lambda x: (x,)])
def test_depth(wrap):
    def nested(levels):
        return wrap(nested(levels - 1)) if levels else "int"

    with pytest.raises(
        ValueError, match=r"^definition nested deeper than 64 levels, or in itself$"
    ):
        expand(nested(65))
    if wrap("x") != {"a|b": "x"}:
        sent({"name": {"in": expand(nested(64))}})
        return
    with pytest.raises(ValueError, match="more than 100000 characters"):  # and not 2**64
        expand(nested(64))


def test_what_holds_itself():
    in_itself, table = [], {}
    in_itself += [in_itself, in_itself]
    table["a"] = [table]
    for definition in (in_itself, table):
        with pytest.raises(ValueError, match="in itself"):
            expand(definition)


# What a program says about its procedures

DEFAULT = {"in": {"n": "integer32"}, "out": {}, "doc": "Only for what has no definition."}


def test_a_function_is_asked_for_both():
    asked = []

    def definition(*args):
        asked.append(args)
        return {"a|b": "int"}

    found = stated(definition, "caller", DEFAULT)
    assert found == {
        "in": {"00a": "integer32", "01b": "integer32"},
        "out": {"a": "integer32", "b": "integer32"},
    }
    assert asked == [("caller", True), ("caller", False)]


def test_one_dict_for_all_answers():
    shared = {"utf8|bin": "str", "x_1_2": "data"}
    first = stated(lambda caller, is_in: shared, None, DEFAULT)
    assert stated(lambda caller, is_in: shared, None, DEFAULT) == first
    assert shared == {"utf8|bin": "str", "x_1_2": "data"}
    assert first["out"] == {"utf8": "utf8string", "bin": "utf8string", "x_1_2": "binary"}

    def changes_it(caller, is_in):
        shared.clear()
        shared["x" if is_in else "y"] = "int"
        return shared

    assert stated(changes_it, None, DEFAULT) == {
        "in": {"x": "integer32"},
        "out": {"y": "integer32"},
    }


def test_a_dict():
    both = {"in": {"x_1": "int"}, "out": {"x_1": "int"}}
    expected = {"in": {"1x": "integer32"}, "out": {"x_1": "integer32"}}
    assert stated(both, None, DEFAULT) == expected
    assert stated({}, None, DEFAULT) == {"in": {"n": "integer32"}, "out": {}}
    assert stated({"out": {"y": ""}}, None, DEFAULT)["in"] == {"n": "integer32"}
    assert stated({"in": ["int"]}, None, DEFAULT) == {"in": ["integer32"], "out": {}}


def test_a_function_that_tells_only_what_is_taken():
    def definition(caller, is_in):
        if is_in:
            return {}
        return None

    assert stated(definition, None, DEFAULT) == {"in": {}, "out": {}}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (5, "^definition is a int, must be a function or a dict$"),
        ("int", "^definition is a str, must be a function or a dict$"),
        (lambda caller, is_in: "int", '^"in" of a definition is a str, must be a dict$'),
        (lambda caller, is_in: {} if is_in else 1, '^"out" of a definition is a int, '),
        ({"in": {"x": 1}}, "^type in a definition is a int"),
        (lambda one: {}, "takes 1 positional argument but 2 were given"),
    ],
)
def test_what_is_no_definition(bad, message):
    with pytest.raises(TypeError, match=message):
        stated(bad, None, DEFAULT)


def test_other_errors_of_definitions():
    with pytest.raises(ValueError, match='^definition has other keys than "in" and "out"$'):
        stated({"in": {}, "input": {}}, None, DEFAULT)
    with pytest.raises(ZeroDivisionError):
        stated(lambda caller, is_in: 1 / 0, None, DEFAULT)


# What signatures tell


class CanBeCalled:
    def __call__(self):
        pass


class Plain:
    pass


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (int, "integer32"),
        (float, "float64"),
        (bool, "boolean"),
        (str, "utf8string"),
        (bytes, "binary"),
        (list, ["any"]),
        (list[int], ["integer32"]),
        (typing.List, ["any"]),  # noqa: UP006
        (list[list[str]], [["utf8string"]]),
        (dict, {"*": "any"}),
        (dict[str, float], {"*": "float64"}),
        (typing.Dict, {"*": "any"}),  # noqa: UP006
        (dict[str, list[bytes]], {"*": ["binary"]}),
        (int | None, "integer32"),
        (typing.Optional[list[int]], ["integer32"]),  # noqa: UP045
        (int | str, "any"),
        (int | str | None, "any"),
        (list[int] | list[str], "any"),
        (None, "any"),
        (typing.Any, "any"),
        (object, "any"),
        (Plain, "any"),
        (tuple[int, str], "any"),
        (typing.Literal["a"], "any"),
        (CanBeCalled, "sub"),
        (CanBeCalled | None, "sub"),
        (Coderef, "sub"),
        (typing.Callable, "sub"),
        (collections.abc.Callable, "sub"),
        (collections.abc.Callable[..., None], "sub"),
        ("int", "integer32"),
        ("no such name", "any"),
        ([1], "any"),
    ],
    ids=str,
)
def test_annotations(annotation, expected):
    def procedure(caller, x, /):
        pass

    procedure.__annotations__["x"] = annotation
    assert describe(procedure) == {"in": {"x": expected}, "out": {}}
    sent(describe(procedure))


def test_an_annotation_that_cannot_be_read_spoils_no_other():
    def procedure(caller, a, b: int):
        pass

    procedure.__annotations__["a"] = "no such name"
    assert describe(procedure)["in"] == {"a": "any", "b": "integer32"}


class Methods:
    def rpc(self, caller, n: int):
        """Of an object."""


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda caller: None, {}),
        (lambda caller, n1, n2=0: None, {"n1": "any", "n2": "any"}),
        (lambda caller, *, x_1: None, {"x_1": "any"}),
        (lambda caller, **more: None, {"*": "any"}),
        (lambda caller, a, **more: None, {"a": "any", "*": "any"}),
        (lambda caller, x, /: None, {"x": "any"}),
        (lambda caller, x, y, /: None, {"00x": "any", "01y": "any"}),
        (lambda caller, x, y, /, z: None, {"00x": "any", "01y": "any", "z": "any"}),
        (lambda caller, x, /, **more: None, {"x": "any", "*": "any"}),
        (lambda caller, *parts: None, {"parts": ["any"]}),
        (lambda caller, first, *rest: None, {"00first": "any", "01rest": ["any"]}),
        (lambda caller, x, /, *rest: None, {"00x": "any", "01rest": ["any"]}),
        (lambda caller, *parts, by_name=1, **more: None, {"parts": ["any"]}),
        (lambda *everything: None, {"everything": ["any"]}),
        (lambda: None, {}),
        (lambda *, n: None, {}),
        (lambda caller, *parts, n: None, {}),
        (Methods().rpc, {"n": "integer32"}),
        (functools.partial(lambda caller, a, b: None, b=1), {"a": "any", "b": "any"}),
        (iter, {"values": ["any"]}),  # has no signature to read
        (5, {"values": ["any"]}),
    ],
)
def test_parameters(function, expected):
    definition = describe(function)
    assert definition["in"] == expected
    assert list(definition["in"]) == list(expected)
    assert definition["out"] == {}


def documented(doc):
    def procedure(caller):
        pass

    procedure.__doc__ = doc
    return describe(procedure).get("doc")


def test_docstrings():
    assert documented("Add two numbers.") == "Add two numbers."
    assert documented("\n    Add two numbers.  \n\n    They are added.") == "Add two numbers."
    assert documented("x" * 1000) == "x" * 200
    assert documented("\ud800") == "?"
    assert documented(5) is None
    assert documented("   ") is None
    assert documented(None) is None
    assert describe(Methods().rpc)["doc"] == "Of an object."
    assert "doc" not in describe(functools.partial(Methods().rpc))  # it is about partial()


def test_text_that_can_be_sent():
    assert is_sendable("caf\xe9 \u263a \U0001f600")
    assert not is_sendable("a\ud800")


# What a Perl server sent


def test_a_reply_of_a_perl_server():
    data = Path(__file__).parent.parent / "data" / "storable" / "vectors.json"
    vectors = {vector["name"]: vector for vector in json.loads(data.read_text())["vectors"]}
    _, word, methods = thaw(bytes.fromhex(vectors["pkt_methods_defs_reply"]["hex"])[4:])
    assert word == "methods"
    out = methods["notes"]["out"]
    assert out["items"] is out["list"]  # a back reference

    def definition(caller, is_in):
        if is_in:
            return {"text_01": "str", "raw_02": "bin", "ok_03": "bool"}
        return {"items|list": [{"size": "int64", "ratio": "double", "name": "string"}]}

    assert stated(definition, None, DEFAULT) == methods["notes"]
    get_id = {"in": {}, "out": {"uid|gid|euid|egid": "int:pos"}}
    assert stated(get_id, None, DEFAULT) == methods["get_id"]
    for definition in methods.values():
        if definition:  # is expanded already
            assert stated(definition, None, DEFAULT) == definition
            sent(stated(definition, None, DEFAULT))

    def rpc_sum(caller, *numbers: int):
        pass

    def rpc_add_numbers(caller, n1: int, n2: int):
        pass

    assert describe(rpc_sum)["in"] == methods["sum"]["in"]
    assert describe(rpc_add_numbers)["in"] == methods["add_numbers"]["in"]


# What Perl's definitions have no place for


def detailed(function, **stated_parts):
    return detail(function, {**describe(function), **stated_parts})


class Ours(list):
    def __repr__(self):
        raise RuntimeError("not to be called")


@pytest.mark.parametrize(
    ("default", "text"),
    [
        (None, "None"),
        (1.0, "1.0"),
        (float("inf"), "inf"),
        (True, "True"),
        (-5, "-5"),
        (2**128, "..."),
        ("it's", '"it\'s"'),
        ("x" * 61, "..."),
        (b"\x80", "b'\\x80'"),
        ("\ud800", "'\\ud800'"),
        ([], "[]"),
        ({}, "{}"),
        ((), "()"),
        (["secret"], "..."),
        (Ours(), "..."),
        (object(), "..."),
        (print, "..."),
    ],
)
def test_a_default_is_told_where_it_is_a_short_literal(default, text):
    def procedure(caller, a, b=default):
        pass

    assert detailed(procedure)["defaults"] == {"b": text}
    sent(detailed(procedure))


def test_a_default_that_python_does_not_write_with_digits():
    def procedure(caller, a=1 << 20_000):
        pass

    assert detailed(procedure)["defaults"] == {"a": "..."}


def test_the_order_of_names():
    def procedure(caller, z, a, *, m=0):
        """First.

        More
            of it.
        """

    assert detailed(procedure) == {
        "order": {"in": ["z", "a", "m"]},
        "defaults": {"m": "0"},
        "doc": "First.\n\nMore\n    of it.",
    }
    out = {"uid": "integer32", "gid": "integer32"}
    order = {"in": ["z", "a", "m"], "out": ["uid", "gid"]}
    assert detailed(procedure, out=out)["order"] == order
    assert "order" not in detail(procedure, {"in": ["any"], "out": {"one": "any"}})


def test_what_is_taken_by_position():
    def some(caller, x, y=2, /, **more):
        pass

    def rest(caller, first, *others):
        pass

    def names(caller, x, **more):
        pass

    assert detailed(some)["positional"] == ["x", "y"]
    assert detailed(some)["defaults"] == {"y": "2"}
    assert detailed(rest)["positional"] == ["first", "*others"]
    assert "positional" not in detailed(names)


def test_details_of_what_tells_none():
    assert detailed(lambda: None) == {}
    assert detailed(functools.partial(lambda caller, n=1: None)) == {"defaults": {"n": "1"}}


def test_a_long_docstring_is_cut():
    def procedure(caller):
        pass

    procedure.__doc__ = "\ud800" + "x" * 20_000
    assert detailed(procedure)["doc"] == "?" + "x" * 9_999
