"""JSON Schema that is made of what a server tells: it is valid, and allows what it should."""

import json

import pytest
from hypothesis import given
from support.telling import perl_servers, servers

from rpcasync.describing.procedures import read_procedures
from rpcasync.describing.schema import schema

jsonschema = pytest.importorskip("jsonschema", reason="the extra dev has it")
Validator = jsonschema.Draft202012Validator


def made(found):
    return json.loads(json.dumps(schema(read_procedures(found))))


def schema_of(part, about):
    return made({"f": about})["procedures"]["f"][part]


@given(servers)
def test_whatever_a_server_tells_makes_valid_schemas(found):
    document = made(found)
    assert document["$schema"] == Validator.META_SCHEMA["$id"]
    assert document["procedures"].keys() == {json.loads(json.dumps(name)) for name in found}
    for about in document["procedures"].values():
        for part in ("in", "out"):
            Validator.check_schema(about.get(part, {}))


@given(perl_servers)
def test_a_perl_servers_definitions_name_what_is_in_them(found):
    for name, about in made(found)["procedures"].items():
        names = {key.lstrip("0123456789") for key in found[name]["in"]}
        assert set(about["in"].get("properties", ())) == names
        assert set(about.get("out", {}).get("required", ())) == set(found[name]["out"])


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("byte", [-128, 127], [128, -129, 1.5, "1", None]),
        ("ubyte", [0, 255], [256, -1]),
        ("ushort", [65535], [65536]),
        ("int", [2**31 - 1, -(2**31)], [2**31]),
        ("uint", [2**32 - 1], [2**32, -1]),
        ("int64", [2**63 - 1, -(2**63)], [2**63]),
        ("uint64", [2**64 - 1], [2**64]),
        ("int:pos", [5], ["5", 2**31]),
        ("double", [1, 1.5], ["1.5"]),
        ("bool", [True], [1, ""]),
        ("str", ["", "\u263a"], [1]),
        ("latin1", ["\xff"], ["\u0100"]),
        ("bin", ["\0\n\xff"], ["\u0100", 1]),
        ("", [None, 1, "x", [], {}], []),
        ("date", ["2000-01-01", 5], []),
        (["int"], [[], [1, 2]], [["x"], {}, 1]),
        (["int", "str"], [[1, "x"]], [[None]]),
        ([], [[None, 1]], [1]),
        ({"x": "int", "y": ["str"]}, [{"x": 1, "y": [], "z": 0}], [{"x": 1}, {"x": "", "y": []}]),
        ([{"x": "int"}], [[], [{"x": 1}]], [[{}]]),
        ({"*": "int"}, [{}, {"a": 1}], [{"a": "b"}]),
        ({}, [{}, {"a": 1}], [1]),
    ],
)
def test_types(kind, good, bad):
    found = Validator(schema_of("out", {"out": {"value": kind}}))
    for value in good:
        found.validate({"value": value})
    for value in bad:
        assert not found.is_valid({"value": value}), value
    assert not found.is_valid({})


@pytest.mark.parametrize(
    ("about", "good", "bad"),
    [
        ({"in": {"1x": "int", "0y": "int"}}, [{"x": 1, "y": 2}], [{"x": 1}, [1, 2]]),
        ({"in": {"x": "int"}, "defaults": {"x": "5"}}, [{}, {"x": 1}], [{"x": "a"}]),
        ({"in": {}}, [{}], [{"x": 1}, []]),
        ({"in": {"x": "int", "*": "str"}}, [{"x": 1, "y": "z"}], [{"x": 1, "y": 2}]),
        ({"in": ["int"]}, [[], [1, 2]], [["x"], {}]),
        (
            {"in": {"00x": "int", "01y": "str"}, "positional": ["x", "y"]},
            [[1, "a"]],
            [[1], [1, 2], [1, "a", 3]],
        ),
        (
            {"in": {"00x": "int", "01more": ["str"]}, "positional": ["x", "*more"]},
            [[1], [1, "a", "b"]],
            [[], [1, 2]],
        ),
        (
            {"in": {"level": "int", "*": "any"}, "positional": ["level"]},
            [[1], [1, "name", "value"]],
            [[], ["x"]],
        ),
    ],
)
def test_what_is_taken(about, good, bad):
    found = Validator(schema_of("in", about))
    for value in good:
        found.validate(value)
    for value in bad:
        assert not found.is_valid(value), value


def test_what_is_not_told_has_no_schema():
    assert made({"f": {}})["procedures"] == {"f": {}}
    about = {"in": {"x": "int"}, "out": {}, "doc": "Do it.\n\nNow."}
    found = made({"f": about})["procedures"]["f"]
    assert found.keys() == {"in", "description"}
    assert found["description"] == "Do it.\n\nNow."


def test_defaults_and_notes():
    about = {
        "in": {"x": "int:pos", "y": "bin", "z": ""},
        "defaults": {"x": "5", "y": "b'a'", "z": "None"},
    }
    found = schema_of("in", about)["properties"]
    assert found["x"]["default"] == 5
    assert found["x"]["$comment"] == "integer32:pos"
    assert "default" not in found["y"]
    assert found["z"] == {"default": None}
