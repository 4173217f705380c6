import inspect
import sys
import types
from collections import defaultdict

import pytest

from rpcasync.errors import ArgumentError
from rpcasync.serving.namespace import Namespace


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
    with pytest.raises(ArgumentError, match="^unknown name a$"):
        namespace.find("f").bind(["a", 1])
    del functions["rpc_f"]
    assert namespace.find("f") is None


def test_a_function_that_cannot_be_a_procedure():
    procedure = Namespace({"rpc_f": lambda: None}).find("f")
    with pytest.raises(ArgumentError, match="^it has no parameter for the caller"):
        procedure.bind([])


# Reflection


def rpc_plain(caller, n: int):
    """Do something."""


PLAIN = {"in": {"n": "integer32"}, "out": {}, "doc": "Do something."}


def test_methods_by_name():
    namespace = Namespace({"rpc_b": rpc_plain, "rpc_a": rpc_plain, "def_a": {"in": {}}})
    assert namespace.methods() == {"a": {}, "b": {}}
    assert list(namespace.methods()) == ["a", "b"]


def test_definitions(caplog):
    asked = []

    def def_said(caller, is_in):
        asked.append((caller, is_in))
        return {"a|b": "int"} if is_in else {"sum": "int"}

    namespace = Namespace(
        {
            "rpc_said": rpc_plain,
            "def_said": def_said,
            "rpc_table": rpc_plain,
            "def_table": {"out": {"x": "double"}},
            "rpc_plain": rpc_plain,
            "def_nobody": def_said,
        }
    )
    expected = {
        "said": {"in": {"00a": "integer32", "01b": "integer32"}, "out": {"sum": "integer32"}},
        "table": {"in": {"n": "integer32"}, "out": {"x": "float64"}},
        "plain": PLAIN,
    }
    caller = object()
    assert namespace.methods(True, caller) == expected
    assert asked == [(caller, True), (caller, False)]
    assert namespace.methods(True, caller) == expected
    assert not caplog.records


def test_a_signature_is_read_once(monkeypatch, caplog):
    def rpc_odd(caller, n: "NoSuchType"):  # noqa: F821
        pass

    namespace = Namespace({"rpc_odd": rpc_odd})
    expected = {"odd": {"in": {"n": "any"}, "out": {}}}
    assert namespace.methods(True) == expected
    monkeypatch.setattr(inspect, "signature", None)
    assert namespace.methods(True) == expected
    assert namespace.find("odd").bind(["n", 1]) == ((1,), {})
    assert len(caplog.records) == 1


def test_a_function_that_cannot_be_a_procedure_takes_nothing():
    assert Namespace({"rpc_f": lambda: None}).methods(True) == {"f": {"in": {}, "out": {}}}


def test_definitions_of_an_object():
    class Service:
        rpc_add = Calculator.rpc_add

        def __init__(self):
            self.unit = "double"
            self.def_sum = {"in": {"numbers": ["int"]}, "out": {"sum": "int"}}

        def def_add(self, caller, is_in):
            return {"n": self.unit}

        def rpc_sum(self, caller, *numbers):
            pass

    assert Namespace(Service()).methods(True) == {
        "add": {"in": {"n": "float64"}, "out": {"n": "float64"}},
        "sum": {"in": {"numbers": ["integer32"]}, "out": {"sum": "integer32"}},
    }


@pytest.mark.parametrize(
    "bad",
    [
        lambda caller, is_in: 1 / 0,
        lambda caller, is_in: {} if is_in else {"x": 1},
        lambda caller, is_in: object(),
        lambda one: {},
        {"input": {}},
        {"in": {"\ud800": "int"}},
        5,
    ],
)
def test_a_bad_definition_spoils_no_other(bad, caplog):
    functions = {"rpc_bad": rpc_plain, "def_bad": bad, "rpc_good": rpc_plain}
    functions["def_good"] = {"in": {}, "out": {}}
    found = Namespace(functions).methods(True)
    assert found == {"bad": PLAIN, "good": {"in": {}, "out": {}}}
    (record,) = caplog.records
    assert record.getMessage() == "def_bad is not used"
    assert record.exc_info[0] in (ZeroDivisionError, TypeError, ValueError)


def test_an_object_that_cannot_be_asked_for_definitions(caplog):
    class Moody:
        rpc_plain = staticmethod(rpc_plain)

        @property
        def def_plain(self):
            raise RuntimeError("not now")

    assert Namespace(Moody()).methods(True) == {"plain": PLAIN}
    assert "RuntimeError: not now" in caplog.text


def test_a_definition_that_takes_procedures_away():
    functions = {"rpc_a": rpc_plain, "rpc_b": rpc_plain}
    functions["def_a"] = lambda caller, is_in: functions.pop("rpc_b", None) and {}
    assert list(Namespace(functions).methods(True)) == ["a", "b"]


def test_names_that_cannot_be_sent():
    functions = {"rpc_\ud800": rpc_plain, "rpc_caf\xe9": rpc_plain}
    assert Namespace(functions).methods() == {"caf\xe9": {}}
    assert Namespace(functions).methods(True) == {"caf\xe9": PLAIN}


def test_no_long_name_is_kept():
    """An object that has any name would keep a thousand of 16 MB."""

    class Anything:
        def __getattr__(self, name):
            return lambda caller: name

    namespace = Namespace(Anything())
    for name in ("x" * 257, "x" * 256, "y" * 100_000):
        assert namespace.find(name).function(None) == f"rpc_{name}"
    assert list(namespace._known) == ["x" * 256]


def test_definitions_in_detail():
    def rpc_scale(caller, n: int, scale: float = 1.0):
        """Scale it.

        By 1, unless told.
        """

    namespace = Namespace({"rpc_scale": rpc_scale, "def_scale": {"out": {"n": "int", "by": "int"}}})
    plain = {
        "in": {"n": "integer32", "scale": "float64"},
        "out": {"n": "integer32", "by": "integer32"},
    }
    assert namespace.methods(1) == {"scale": plain}
    assert namespace.methods(3) == {"scale": plain}
    more = {
        "order": {"in": ["n", "scale"], "out": ["n", "by"]},
        "defaults": {"scale": "1.0"},
        "doc": "Scale it.\n\nBy 1, unless told.",
    }
    assert namespace.methods(2) == {"scale": plain | more}


class Counted(dict):
    """Names, and how often they are all looked at."""

    looks = 0

    def __iter__(self):
        self.looks += 1
        return super().__iter__()


def test_names_that_there_are_not_cost_no_look_at_all_the_others():
    names = Counted(rpc_one=lambda caller: None)
    namespace = Namespace(names)
    assert [namespace.is_empty() for _ in range(10)] == [False] * 10
    assert names.looks == 1


def test_a_namespace_that_is_empty_may_be_filled():
    names = {}
    namespace = Namespace(names)
    assert namespace.is_empty()
    names["rpc_one"] = lambda caller: None
    assert not namespace.is_empty()
