"""Server programs that are made of what a server tells: they hold that, and tell it again."""

import ast

import pytest
from hypothesis import given
from support.telling import NASTY, inert, is_annotation, perl_servers, servers

from rpcasync.describing.procedures import read_procedures
from rpcasync.describing.skeleton import skeleton
from rpcasync.serving.namespace import Namespace

IMPORTED = {"EventMux", "Caller", "Coderef", "Fault", "Server", "init_clients"}
WORDS = {"bool", "bytes", "dict", "float", "int", "list", "object", "str", "Coderef"}
TAIL = """\
mux = EventMux()
rpc = Server(mux)
init_clients(rpc)
while rpc.has_clients():
    rpc.io(mux.mux())"""


def made(found):
    return skeleton(read_procedures(found))


def checked(text):
    """Return the program without its loop, if it holds nothing but what was meant."""
    tree = ast.parse(text)
    first, *imports = tree.body[:3]
    assert isinstance(first.value.value, str)
    for node in imports:
        assert node.module in ("eventmux", "rpcasync")
        assert {alias.name for alias in node.names} <= IMPORTED
        assert not any(alias.asname for alias in node.names)
    assert [ast.unparse(node) for node in tree.body[-4:]] == TAIL.split("\n", 3)
    for node in tree.body[3:-4]:
        if isinstance(node, ast.FunctionDef):
            check_function(node)
        else:
            check_assignment(node)
    return ast.Module(tree.body[:-4], [])


def check_function(node):
    assert node.name.startswith(("rpc_", "procedure_"))
    assert not node.decorator_list
    *doc, last = node.body
    assert ast.unparse(last) == "raise Fault('not ported')"
    assert len(doc) <= 1
    assert all(isinstance(each.value.value, str) for each in doc)
    assert ast.unparse(node.returns) == "None"
    given = node.args
    caller, *others = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    assert (caller.arg, ast.unparse(caller.annotation)) == ("caller", "Caller")
    others += [each for each in (given.vararg, given.kwarg) if each]
    for each in others:
        assert is_annotation(each.annotation, WORDS)
    assert all(map(inert, [*given.defaults, *filter(None, given.kw_defaults)]))
    assert not {"rpc", "Fault"} & {each.arg for each in others}


def check_assignment(node):
    if isinstance(node, ast.AnnAssign):
        assert node.target.id.startswith("def_")
        assert ast.unparse(node.annotation) == "dict[str, object]"
    else:
        (target,) = node.targets
        assert ast.unparse(target.value) == "globals()"
        assert target.slice.value.startswith(("rpc_", "def_"))
        if isinstance(node.value, ast.Name):
            assert node.value.id.startswith("procedure_")
            return
    assert inert(node.value)


def serving(text):
    """Return the procedures of the program, as a server finds them."""
    names = {}
    exec(compile(checked(text), "server.py", "exec"), names)
    return Namespace(names)


@given(servers)
def test_whatever_a_server_tells_is_only_text(found):
    namespace = serving(made(found))
    assert set(namespace.names()) == set(found) - {"methods"}
    namespace.methods(1)


@pytest.mark.parametrize("place", ["name", "in", "type", "out", "doc", "default", "positional"])
def test_what_is_nasty_in_each_place(place):
    for word in NASTY:
        about = {
            "name": {},
            "in": {"in": {word: "int"}},
            "type": {"in": {"x": word}, "out": {"y": [word]}},
            "out": {"out": {word: {word: "int"}}},
            "doc": {"in": {}, "doc": word},
            "default": {"in": {"x": "any"}, "defaults": {"x": word}},
            "positional": {"in": {word: "int", "x": "int"}, "positional": [word, f"*{word}"]},
        }[place]
        name = word if place == "name" else "procedure"
        assert serving(made({name: about})).names() == ([name] if name != "methods" else [])


@given(perl_servers)
def test_a_perl_servers_definitions_are_told_again(found):
    told = serving(made(found)).methods(1)
    for name, about in found.items():
        assert told[name]["in"] == about["in"]
        assert told[name]["out"] == about["out"]


def function(about, name="procedure"):
    """Return the lines of the one function, and of what stands around it."""
    text = made({name: about}).rpartition("mux = EventMux()")[0]
    return text.partition("init_clients\n")[2].strip().splitlines()


@pytest.mark.parametrize(
    ("about", "head"),
    [
        ({"in": {"n1": "int", "n2": "int"}}, "caller: Caller, n1: int, n2: int"),
        ({"in": {"y": "bool", "x": "str"}}, "caller: Caller, x: str, y: bool"),
        (
            {"in": {"y": "bool", "x": "str"}, "order": {"in": ["y", "x"]}},
            "caller: Caller, y: bool, x: str",
        ),
        (
            {"in": {"00x": "any", "01y": "any"}, "positional": ["x", "y"]},
            "caller: Caller, x: object, y: object, /",
        ),
        ({"in": {"numbers": ["int"]}, "positional": ["*numbers"]}, "caller: Caller, *numbers: int"),
        ({"in": {"*": "bin"}}, "caller: Caller, **fields: bytes"),
        ({"in": {}}, "caller: Caller"),
        ({}, "caller: Caller, *values: object"),
        ({"in": None}, "caller: Caller, *values: object"),
        ({"in": ["int"]}, "caller: Caller, *values: int"),
        ({"in": {"x": "int"}, "defaults": {"x": "-5"}}, "caller: Caller, x: int = -5"),
        ({"in": {"x": "int"}, "defaults": {"x": "..."}}, "caller: Caller, x: int | None = None"),
        ({"in": {"x": "int"}, "defaults": {"x": "exit()"}}, "caller: Caller, x: int | None = None"),
        ({"in": {"x": "int"}, "defaults": {"x": "'5'"}}, "caller: Caller, x: int | None = None"),
        (
            {"in": {"x": "double"}, "defaults": {"x": "1e999"}},
            "caller: Caller, x: float | None = None",
        ),
        ({"in": {"x": ""}, "defaults": {"x": "'a'"}}, 'caller: Caller, x: object = "a"'),
        (
            {"in": {"00x": "any", "01y": "any"}, "defaults": {"x": "1"}},
            "caller: Caller, *, x: object = 1, y: object",
        ),
        (
            {
                "in": {"00x": "any", "01y": "any", "02z": "any"},
                "positional": ["x", "y", "z"],
                "defaults": {"x": "1", "z": "2"},
            },
            "caller: Caller, x: object, y: object, z: object = 2, /",
        ),
        (
            {
                "in": {"00x": "any", "01y": "any"},
                "positional": ["x", "y"],
                "defaults": {"x": "1", "y": "2"},
            },
            "caller: Caller, x: object = 1, y: object = 2, /",
        ),
        (
            {"in": {"x": ["int", "str"], "y": {"a": "int", "b": "byte"}}},
            "caller: Caller, x: list[int | str], y: dict[str, int]",
        ),
    ],
)
def test_what_a_function_takes(about, head):
    assert f"def rpc_procedure({head}) -> None:" in function(about)


def test_a_definition_has_what_annotations_do_not_tell():
    assert function({"in": {"n": "integer32"}, "out": {}}) == [
        "def rpc_procedure(caller: Caller, n: int) -> None:",
        '    raise Fault("not ported")',
    ]
    lines = function({"in": {"1n": "int:pos"}, "out": {"sum": "int"}})
    assert lines[:4] == [
        "def_procedure: dict[str, object] = {",
        '    "in": {"1n": "integer32:pos"},',
        '    "out": {"sum": "integer32"},',
        "}",
    ]


def test_names_that_python_does_not_have():
    lines = function({"in": {"foo-bar": "int", "caller": "int", "n": "int"}}, name="foo-bar")
    assert lines == [
        "def procedure_foo_bar(caller: Caller, /, n: int, **fields: object) -> None:",
        '    # Given by name in fields: "caller", "foo-bar"',
        '    raise Fault("not ported")',
        "",
        "",
        'globals()["rpc_foo-bar"] = procedure_foo_bar',
        'globals()["def_foo-bar"] = {',
        '    "in": {"caller": "integer32", "foo-bar": "integer32", "n": "integer32"},',
        "}",
    ]


def test_a_name_that_seems_to_end_in_a_number_is_told_as_it_is():
    """Where a program writes it, it would be `x`, with a number."""
    about = {"in": {"x_1": "integer8"}, "out": {"x_1": "integer8"}}
    told = serving(made({"f": about})).methods(1)["f"]
    assert told == {"in": {"00x_1": "integer8"}, "out": {"x_1": "integer8"}}


def test_docstrings_stay():
    doc = 'Add up.\n\n    It "is" \\ so.'
    assert function({"in": {}, "doc": doc})[1:-1] == [
        '    """Add up.',
        "",
        '    It "is" \\\\ so.',
        '    """',
    ]
    namespace = serving(made({"f": {"in": {}, "doc": doc}}))
    assert namespace.methods(2)["f"]["doc"] == 'Add up.\n\nIt "is" \\ so.'


def test_what_perl_writes_out_wrongly_is_written_as_it_was_meant():
    kinds = {"a": "utf8stringstring", "b": "binaryary", "c": "booleanean:x", "d": "integer32long"}
    told = serving(made({"f": {"in": kinds}})).methods(1)["f"]["in"]
    assert told == {"a": "utf8string", "b": "binary", "c": "boolean:x", "d": "integer64"}


def test_the_order_of_hashes_does_not_show():
    out = {"b": "int", "a": {"d": "int", "c": "int"}}
    other = {"a": {"c": "int", "d": "int"}, "b": "int"}
    assert made({"f": {"in": out, "out": out}}) == made({"f": {"in": other, "out": other}})
