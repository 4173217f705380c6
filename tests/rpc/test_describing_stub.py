"""Typed clients that are made of what a server tells: they are what was meant, and call as told."""

import ast
import asyncio
import sys
import types
import typing

import pytest
from hypothesis import given
from support.telling import NASTY, inert, is_annotation, names_in, perl_servers, servers

import rpcasync
from rpcasync.describing.procedures import read_procedures
from rpcasync.describing.stub import stub

IMPORTED = {
    *("from __future__ import annotations", "import builtins", "import itertools"),
    *("from collections.abc import Callable", "from typing import TypedDict"),
    *("import rpcasync", "import rpcasync.aio"),
}
BUILTINS = ("bool", "bytes", "dict", "float", "int", "list", "object", "str")
WORDS = {*BUILTINS, *(f"builtins.{name}" for name in BUILTINS), "Callable", "rpcasync.Reply"}
CALLED = {"self", ".rpc", ".call", ".to", "_given", "_given_values", "builtins"}
HELPERS = {"_given", "_given_values"}


def made(found, **options):
    return stub(read_procedures(found), **options)


def checked(text):
    """Return the module, if it holds nothing but what was meant."""
    tree = ast.parse(text)
    doc, *nodes = tree.body
    assert isinstance(doc.value.value, str)
    tables = set()
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            assert ast.unparse(node) in IMPORTED
        elif isinstance(node, ast.FunctionDef):
            assert node.name in HELPERS
        elif isinstance(node, ast.Assign):
            tables.add(table_of_call(node, tables))
        elif node.bases:
            tables.add(table_of_class(node, tables))
        else:
            check_client(node, tables)
    return tree


def table_of_call(node, tables):
    (name,) = node.targets
    call = node.value
    assert call.func.id == "TypedDict"
    assert call.args[0].value == name.id
    fields = call.args[1]
    assert all(isinstance(key.value, str) for key in fields.keys)
    assert all(is_annotation(value, WORDS | tables) for value in fields.values)
    assert all(map(inert, [keyword.value for keyword in call.keywords]))
    return name.id


def table_of_class(node, tables):
    assert [base.id for base in node.bases] == ["TypedDict"]
    assert not node.decorator_list
    assert all(inert(keyword.value) for keyword in node.keywords)
    for field in node.body:
        assert isinstance(field, ast.AnnAssign)
        assert field.value is None
        assert is_annotation(field.annotation, WORDS | tables)
    return node.name


def check_client(node, tables):
    assert node.name in ("Client", "AsyncClient")
    _, first, *methods = node.body
    assert ast.unparse(first.body[-1]) == "self.rpc = rpc"
    for method in methods:
        kinds = {"Client": ast.FunctionDef, "AsyncClient": ast.AsyncFunctionDef}
        assert isinstance(method, kinds[node.name])
        assert not method.decorator_list
        body = method.body
        if isinstance(body[0], ast.Expr):
            assert isinstance(body.pop(0).value.value, str)
        assert [type(each) for each in body] in ([ast.Return], [ast.Assign, ast.Return])
        given = method.args
        everything = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        everything += [each for each in (given.vararg, given.kwarg) if each]
        own = {each.arg for each in everything}
        assert len(own) == len(everything)
        for each in everything[1:]:
            assert is_annotation(each.annotation, WORDS | tables)
        assert is_annotation(method.returns, WORDS | tables)
        assert all(map(inert, filter(None, [*given.defaults, *given.kw_defaults])))
        reply = {each.targets[0].id for each in body[:-1]}
        assert set(names_in(*body)) <= CALLED | own | tables | reply | WORDS


class Recorder:
    """A client that remembers what it was called with, and answers with what it is told to."""

    def __init__(self, *answer):
        self.calls = []
        self.answer = rpcasync.Reply(answer)

    def call(self, procedure, /, *values, **named):
        self.calls.append((procedure, values, named))
        return self.answer


class AsyncRecorder(Recorder):
    async def call(self, procedure, /, *values, **named):
        return super().call(procedure, *values, **named)


def module_of(text):
    """Return what the module defines; its classes know where they are defined."""
    module = types.ModuleType("made_of_what_was_told")
    sys.modules[module.__name__] = module  # where the annotations of a class are looked up
    exec(compile(checked(text), "client.py", "exec"), vars(module))
    return module


def methods_of(kind):
    return [each for name, each in vars(kind).items() if name != "__init__" and callable(each)]


@given(servers)
def test_whatever_a_server_tells_is_only_text(found):
    module = module_of(made(found))
    for kind in (module.Client, module.AsyncClient):
        assert len(methods_of(kind)) == len(found)
        for method in methods_of(kind):
            assert "return" in typing.get_type_hints(method)


@given(perl_servers)
def test_each_procedure_is_called_with_what_is_given(found):
    module = module_of(made(found))
    for name, method in zip(sorted(found), methods_of(module.Client), strict=True):
        rpc = Recorder()
        wanted = {key.lstrip("0123456789"): object() for key in found[name]["in"]}
        try:
            method(module.Client(rpc), **wanted)
        except rpcasync.ArgumentError:  # the answer is empty
            assert found[name]["out"]
        assert rpc.calls == [(name, (), wanted)]


@pytest.mark.parametrize(
    "place",
    ["name", "type of an answer", "in", "class", "type", "out", "doc", "default", "positional"],
)
def test_what_is_nasty_in_each_place(place):
    for word in NASTY:
        about = {
            "name": {"in": {"list": ["int"]}, "out": {"int": ["int"]}},
            "type of an answer": {"in": {word: "int", "list": "any"}, "out": [["int"]]},
            "in": {"in": {word: [{word: "int"}]}},
            "class": {"in": {word: {"x": "int"}}},
            "type": {"in": {"x": word}, "out": {"y": [word]}},
            "out": {"in": {"list": "int"}, "out": {word: {word: "int"}}},
            "doc": {"in": {}, "doc": word},
            "default": {"in": {"x": "any"}, "defaults": {"x": word}},
            "positional": {"in": {word: "int", "x": "int"}, "positional": [word, f"*{word}"]},
        }[place]
        name = {"name": word, "class": ""}.get(place, "procedure")
        assert len(methods_of(module_of(made({name: about})).Client)) == 1


def method(about, *, name="procedure", **options):
    """Return the lines of the one method, from its head on."""
    text = made({name: about}, is_async=False, **options)
    return text.rpartition("self.rpc = rpc\n\n")[2].splitlines()


@pytest.mark.parametrize(
    ("about", "lines"),
    [
        (
            {"in": {"00y": "int", "01x": "float"}},
            [
                "    def procedure(self, *, y: int, x: float) -> rpcasync.Reply:",
                '        return self.rpc.call("procedure", y=y, x=x)',
            ],
        ),
        (
            {"in": {"x": "int", "y": "str"}, "positional": ["x"], "defaults": {"y": "'a'"}},
            [
                "    def procedure(self, x: int, /, *, y: str | None = None) -> rpcasync.Reply:",
                '        return self.rpc.call("procedure", x, **_given(y=y))',
            ],
        ),
        (
            {"in": {"00x": "int", "01y": "int"}, "positional": ["x", "y"], "defaults": {"y": "0"}},
            [
                "    def procedure(self, x: int, y: int | None = None, /) -> rpcasync.Reply:",
                '        return self.rpc.call("procedure", x, *_given_values(y))',
            ],
        ),
        (
            {"in": {"numbers": ["int"]}, "positional": ["*numbers"], "out": ["float"]},
            [
                "    def procedure(self, *numbers: int) -> list[float]:",
                '        reply = self.rpc.call("procedure", *numbers)',
                "        return reply.to(list[float])",
            ],
        ),
        (
            {"in": {"*": "bool", "x": "bin"}, "out": {"*": "str"}},
            [
                "    def procedure(self, /, *, x: bytes, **fields: bool) -> dict[str, str]:",
                '        reply = self.rpc.call("procedure", x=x, **fields)',
                "        return reply.to(dict[str, str])",
            ],
        ),
        (
            {"in": None, "out": "any"},
            [
                "    def procedure(self, /, *values: object, **fields: object) -> rpcasync.Reply:",
                '        return self.rpc.call("procedure", *values, **fields)',
            ],
        ),
        (
            {"in": {"list": ["int"]}, "out": ["int"]},
            [
                "    def procedure(self, *, list: list[int]) -> list[int]:",
                '        reply = self.rpc.call("procedure", list=list)',
                "        return reply.to(builtins.list[int])",
            ],
        ),
    ],
)
def test_how_a_method_calls(about, lines):
    assert method(about) == lines


def test_a_method_named_as_a_type_is_none():
    text = made({"list": {"in": {}, "out": ["str"]}, "names": {"in": {}, "out": ["str"]}})
    assert "    def names(self) -> builtins.list[str]:" in text.splitlines()
    assert "import builtins" in text.splitlines()


def test_names_that_python_does_not_have():
    lines = method({"in": {"self": "int", "foo-bar": "int"}, "doc": "Do it."}, name="foo-bar")
    assert lines == [
        "    def foo_bar(self, /, **fields: object) -> rpcasync.Reply:",
        '        """Do it.',
        "",
        '        The procedure is "foo-bar".',
        '        Given by name in fields: "foo-bar", "self".',
        '        """',
        '        return self.rpc.call("foo-bar", **fields)',
    ]


def test_names_that_look_alike_get_numbers():
    found = {name: {} for name in ("a-b", "a_b", "a.b", "rpc", "class")}
    module = module_of(made(found))
    names = [each.__name__ for each in methods_of(module.Client)]
    assert names == ["a_b_2", "a_b_3", "a_b", "class_", "rpc_2"]


PEOPLE = {"in": {}, "out": {"people": [{"name": "str", "size": "float"}], "more": "bool"}}


def test_an_answer_is_converted_to_what_was_told():
    module = module_of(made({"people": PEOPLE}))
    people = [{"name": "Ann", "size": "1.75", "other": 1}]
    values = ("more", "", "people", people)
    wanted = {"more": False, "people": [{"name": "Ann", "size": 1.75, "other": 1}]}
    assert module.Client(Recorder(*values)).people() == wanted
    assert asyncio.run(module.AsyncClient(AsyncRecorder(*values)).people()) == wanted


def test_one_definition_for_both_has_its_numbers_in_the_answer_too():
    row = [{"1z": "str", "y": "str"}], [{"z_1": "str", "y": "str"}]
    about = {"in": {"02a": "int", "01b": row[0]}, "out": {"a_02": "int", "b_01": row[1]}}
    text = made({"f": about})
    assert "class FAnswer(TypedDict):\n    b: list[FBAnswer]\n    a: int\n" in text
    rpc = Recorder("a", "2", "b", [{"z": "s", "y": "t"}])
    assert module_of(text).Client(rpc).f(a=1, b=[]) == {"a": 2, "b": [{"z": "s", "y": "t"}]}


@pytest.mark.parametrize(
    ("out", "names"),
    [
        ({"a_02": "int"}, ["a_02"]),  # it takes none: that may be its name
        ({"a_1": "int", "c_2": "int"}, ["a", "c_2"]),
        ({"a_1": "int", "a": "int"}, ["a", "a_1"]),
    ],
)
def test_a_name_that_ends_in_a_number_and_is_nowhere_taken_is_that(out, names):
    (found,) = read_procedures({"f": {"in": {"1a": "int"}, "out": out}})
    assert [each.name for each in found.answer.fields] == names


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (("more", 1), "people is missing"),
        (("more", 1, "people", [{"name": "Ann"}]), "people: size is missing"),
        (("more", 1, "people", [{"name": None, "size": 1}]), "people: name: cannot convert"),
        (("more", 1, "people"), "a reply of 3 is no names and values"),
    ],
)
def test_an_answer_that_is_something_else(values, told):
    module = module_of(made({"people": PEOPLE}))
    with pytest.raises(rpcasync.ArgumentError, match=told):
        module.Client(Recorder(*values)).people()


def test_undef_is_none_where_that_is_asked_for():
    module = module_of(made({"people": PEOPLE}, has_undef=True))
    values = ("more", None, "people", [{"name": None, "size": "2"}])
    wanted = {"more": None, "people": [{"name": None, "size": 2.0}]}
    assert module.Client(Recorder(*values)).people() == wanted


DEFAULTS = {"x": "1", "y": "2"}


def test_what_may_be_left_out_is():
    about = {"in": {"x": "int", "y": "int"}, "positional": ["x"], "defaults": DEFAULTS}
    module = module_of(made({"f": about}))
    rpc = Recorder()
    client = module.Client(rpc)
    client.f()
    client.f(5, y=6)
    assert rpc.calls == [("f", (), {}), ("f", (5,), {"y": 6})]


def test_one_of_the_classes():
    found = {"f": {}}
    assert "class AsyncClient" not in made(found, is_async=False)
    assert "rpcasync.aio" not in made(found, is_async=False)
    assert "class Client" not in made(found, is_sync=False)


def test_a_class_for_each_shape_in_an_answer():
    person = {"name": "str"}
    about = {"in": {}, "out": {"a": person, "b": [person], "c": {"name": "int"}}}
    text = made({"f": about})
    assert text.count("(TypedDict)") == 3
    assert "    b: list[FAAnswer]" in text


def test_what_is_taken_may_lack_names_that_an_answer_has():
    text = made({"f": {"in": {"p": {"a": "int"}}, "out": {"p": {"a": "int"}}}})
    assert "class FP(TypedDict, total=False):\n    a: int\n" in text
    assert "class FPAnswer(TypedDict):\n    a: int\n" in text


def test_the_order_of_hashes_does_not_show():
    out = {"b": "int", "a": {"d": "int", "c": "int"}}
    other = {"a": {"c": "int", "d": "int"}, "b": "int"}
    assert made({"f": {"in": out, "out": out}}) == made({"f": {"in": other, "out": other}})
