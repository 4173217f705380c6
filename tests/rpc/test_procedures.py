import sys
import types
from collections import defaultdict

import pytest

from rpcasync.errors import ArgumentError
from rpcasync.procedures import Namespace


def rpc_here(caller, n):
    pass


class Calculator:
    rpc_constant = 5

    def __init__(self):
        self.total = 0

    def rpc_add(self, caller, n: int):
        self.total += n


def test_a_module():
    module = types.ModuleType("some.module")
    module.rpc_one = lambda caller: None
    module.rpc_not_callable = 1
    module.other = lambda caller: None
    namespace = Namespace(module)
    assert namespace.name == "some.module"
    assert namespace.names() == ["one"]
    assert namespace.find("one").function is module.rpc_one
    assert namespace.find("not_callable") is None
    assert namespace.find("other") is None


def test_a_mapping():
    functions = {"rpc_one": lambda caller: None, "__name__": "__main__", 5: None}
    assert Namespace(functions).name == "main"
    assert Namespace(functions).names() == ["one"]
    assert Namespace({}).name == "main"
    grows = defaultdict(lambda: print)
    assert Namespace(grows).find("anything") is None
    assert not grows


def test_an_object():
    calculator = Calculator()
    namespace = Namespace(calculator)
    assert namespace.name == "Calculator"
    assert namespace.names() == ["add"]
    found = namespace.find("add")
    assert found is namespace.find("add")
    args, named = found.bind(["n", "5"])
    found.function(None, *args, **named)
    assert calculator.total == 5


@pytest.mark.parametrize("name", [__name__, f"{__name__}::", __name__.replace(".", "::")])
def test_a_dotted_name(name, monkeypatch):
    monkeypatch.setitem(sys.modules, __name__, types.SimpleNamespace(rpc_here=rpc_here))
    assert Namespace(name).find("here").function is rpc_here


def test_main_and_a_name_that_is_none():
    assert Namespace("main").name == "main"
    with pytest.raises(ImportError):
        Namespace("no::such::module")


@pytest.mark.parametrize("name", ["", "__init__", "../x", "here.__globals__", "x" * 10_000_000])
def test_names_from_strangers(name):
    assert Namespace({"rpc_here": rpc_here}).find(name) is None
    assert Namespace(Calculator()).find(name) is None


def test_what_is_replaced_counts_from_then_on():
    functions = {"rpc_f": lambda caller, a: None}
    namespace = Namespace(functions)
    before = namespace.find("f")
    assert namespace.find("f") is before
    functions["rpc_f"] = lambda caller, b: None
    with pytest.raises(ArgumentError, match="^f: unknown name a$"):
        namespace.find("f").bind(["a", 1])
    del functions["rpc_f"]
    assert namespace.find("f") is None


def test_a_function_that_cannot_be_a_procedure():
    procedure = Namespace({"rpc_f": lambda: None}).find("f")
    with pytest.raises(ArgumentError, match="^f: takes no caller as its first parameter$"):
        procedure.bind([])
