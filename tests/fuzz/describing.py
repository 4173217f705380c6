"""What a server tells of its procedures, and the programs that are made of it: nothing gets in."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from random import Random
from types import ModuleType

from fuzz.mutators import some_size
from fuzz.targets import Target, check
from fuzz.words import FORGED, WORDS
from rpcasync import Fault
from rpcasync.describing.procedures import read_procedures
from rpcasync.describing.schema import schema
from rpcasync.describing.skeleton import skeleton
from rpcasync.describing.stub import stub
from rpcasync.errors import RPCError

__all__ = ["DESCRIBING"]

_BREAK = ['"""', '"', "'", "\\", '\\"""', "\n", "\r", "\x0c", "\0", "\u2028", "\x1b[31m", "#", "{}"]
_CODE = [
    "boom()",
    "\nboom()\n",
    '"""\nboom()\n"""',
    "x=boom()",
    "*boom()",
    ")\nboom(",
    "]=boom();[",
]
_NAMES = ["self", "rpc", "fields", "reply", "builtins", "str", "object", "list", "Client", "mux"]
_NAMES += ["class", "None", "print", "match", "__class__", "_given", "_given_values", "itertools"]
_NAMES += ["TypedDict", "Callable", "Fault", "Server", "caller", "globals", "annotations", "values"]
_NAMES += [
    "\ufb01nd",
    "\xaa",
    "\u0661",
    "a\u0301",
    "\ud800",
    "1st",
    "foo-bar",
    "x_1",
    "*",
    "a|b",
    "*x",
]
_TYPES = ["int", "integer32", "utf8string", "binary", "boolean", "sub", "float64", "any", "int:pos"]
_STATEMENTS = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.AnnAssign, ast.Assign)


class Describing(Target):
    """`skeleton()` and `stub()`: their programs run, and do nothing. An input is a seed."""

    def make(self, source: Random) -> bytes:
        """Return the seed of what a server tells."""
        return source.randbytes(8)

    def generate(self, source: Random) -> bytes:
        """Return the seed: to change one makes no sense."""
        return self.make(source)

    def run(self, data: bytes) -> str:
        """Make both programs, and run them."""
        source = Random(data)
        count = some_size(source, 5, 60) if data else 0
        try:
            found = read_procedures({_name(source): _about(source) for _ in range(count)})
        except RPCError as error:
            return str(error)[:20]
        schema(found)
        program = skeleton(found)
        _check_text(program)
        head, _, _ = program.rpartition("mux = EventMux()\n")
        for name, function in vars(_module(head)).items():
            if name.startswith("rpc_"):
                _check_refuses(function)
        for has_undef in (False, True):
            made = stub(found, has_undef=has_undef)
            _check_text(made)
            _module(made)
        return f"{bool(found)} {'TypedDict(' in made} {'globals()' in program}"

    def size(self, data: bytes) -> int:
        """Return how much a seed may stand for, at least."""
        return 65_536


def _check_text(text: str) -> None:
    """See that it can be shown, and that it consists of what is wanted."""
    check(text.replace("\n", "").isprintable(), "a control character", text)
    text.encode()
    calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    names = {func.id for func in calls if isinstance(func, ast.Name)}
    check("boom" not in names, "code of the server's", text)


def _module(text: str) -> ModuleType:
    """Run a program."""
    for node in ast.parse(text).body:
        is_doc = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        check(is_doc or isinstance(node, _STATEMENTS), "a statement", ast.unparse(node))
    module = sys.modules["made"] = ModuleType("made")
    try:
        exec(compile(text, "made", "exec"), vars(module))
    finally:
        del sys.modules["made"]
    return module


def _check_refuses(function: Callable[..., object]) -> None:
    code = function.__code__
    named = dict.fromkeys(code.co_varnames[code.co_argcount :][: code.co_kwonlyargcount])
    try:
        function(*[None] * code.co_argcount, **named)
    except Fault as error:
        check(str(error) == "not ported", "another error", error)
    else:
        check(False, "a procedure that does something", code.co_name)


def _name(source: Random) -> str:
    dice = source.random()
    if dice < 0.3:
        return source.choice(WORDS)
    if dice < 0.6:
        return source.choice(_NAMES)
    if dice < 0.8:
        return source.choice(_NAMES) + source.choice((*_BREAK, *_CODE, *_NAMES))
    return "".join(source.choices((*_BREAK, *_CODE, *_NAMES, FORGED), k=source.randrange(4)))


def _kind(source: Random, level: int = 0) -> object:
    dice = source.random()
    if level < 5 and dice < 0.2:
        return {_name(source): _kind(source, level + 1) for _ in range(source.randrange(4))}
    if level < 5 and dice < 0.35:
        return [_kind(source, level + 1) for _ in range(source.randrange(3))]
    if dice < 0.9:
        return source.choice(_TYPES)
    return source.choice((None, 5, 1.5, b"int", _name(source), "x" * 300, ["int"] * 3))


def _about(source: Random) -> dict[object, object]:
    """Return what is told of one procedure."""
    takes = {_name(source): _kind(source) for _ in range(source.randrange(6))}
    names = [source.choice(("", "", "*")) + name for name in takes]
    about: dict[object, object] = {"in": takes if source.random() < 0.9 else _kind(source)}
    if source.random() < 0.7:
        about["out"] = _kind(source)
    if source.random() < 0.7:
        about["doc"] = "".join(source.choices((*_BREAK, *_CODE, "text ", "  "), k=8))
    if source.random() < 0.5:
        about["positional"] = source.sample(names, source.randrange(len(names) + 1))
    if source.random() < 0.5:
        about["defaults"] = {name: _default(source) for name in takes if source.random() < 0.6}
    if source.random() < 0.3:
        about["order"] = {"in": source.sample(names, len(names)), "out": 7}
    if source.random() < 0.1:
        about[source.choice([*about])] = source.choice((None, [], {}, 7, "x", [[]]))
    return about


def _default(source: Random) -> object:
    literals = ("1", "-1", "'x'", '"a\\n"', "b'\\0'", "None", "True", "1e999", "9" * 99, "[]", "()")
    return source.choice((*literals, *_CODE, repr(_name(source)), None, 5, b"1", "'\\ud800'"))


DESCRIBING: dict[str, Callable[[], Target]] = {"describing": Describing}
"""What makes the targets of this file, by name."""
