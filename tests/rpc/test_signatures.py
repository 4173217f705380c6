import collections
import functools
import gc
import inspect
import io
import os
import types
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpcasync.arguments import known
from rpcasync.arguments.known import signature_of
from rpcasync.arguments.signatures import Signature
from rpcasync.errors import ArgumentError


def call(function, *values, leading=0):
    """Bind the values and call, as a server or client does."""
    args, named = Signature(function, leading).with_short_cuts().bind(list(values))
    return function(*(["caller"] * leading), *args, **named)


def refusal(function, *values, leading=0):
    with pytest.raises(ArgumentError) as caught:
        call(function, *values, leading=leading)
    return str(caught.value)


def test_a_list():
    assert call(lambda *parts: parts, 1, "a", None) == (1, "a", None)
    assert call(lambda *parts: parts) == ()


def test_exactly_so_many_values():
    def move(x, y, /):
        return x, y

    assert call(move, 1, 2) == (1, 2)
    assert refusal(move, 1) == "y is missing"
    assert refusal(move, 1, 2, 3) == "too many values: 3, at most 2"
    assert call(lambda x=7, /: x) == 7


def test_pairs():
    def add(n1, n2=10, *, n3=100):
        return n1 + n2 + n3

    assert call(add, "n1", 1) == 111
    assert call(add, "n3", 3, "n2", 2, "n1", 1) == 6
    assert call(add, "n1", 1, "n1", 2) == 112  # Perl: the last one counts
    assert refusal(add, "n2", 2) == "n1 is missing"
    assert refusal(add, "n1", 1, "n9", 2) == "unknown name n9"
    assert refusal(add, "n1") == "takes names and values, got an odd number of them: 1"
    assert refusal(add, None, 1) == "takes names and values, got NoneType for a name"
    assert refusal(add, [], 1) == "takes names and values, got list for a name"
    assert refusal(add, "n1", 1, "x" * 1000, 1) == f"unknown name {'x' * 57}..."


def test_any_names():
    assert call(lambda **pairs: pairs, "a", 1, "not a name", 2) == {"a": 1, "not a name": 2}
    assert call(lambda **pairs: pairs, 1, "one") == {"1": "one"}  # a Perl key is text


def test_a_value_then_pairs():
    def log(level, /, **fields):
        return level, fields

    assert call(log, "info", "user", "x", "level", 3) == ("info", {"user": "x", "level": 3})
    assert refusal(log) == "level is missing"
    assert refusal(log, "info", "user").startswith("takes names and values")


def test_values_then_a_rest():
    def wrap(device, procedure, *args):
        return device, procedure, args

    assert call(wrap, "d", "p", 1, 2) == ("d", "p", (1, 2))
    assert refusal(wrap, "d") == "procedure is missing"
    assert call(lambda *args, **named: (args, named), "a", 1) == (("a", 1), {})
    with pytest.raises(ArgumentError, match="takes a list, but requires depth by name"):
        Signature(lambda *args, depth: None)


def test_the_caller_is_not_a_value():
    def procedure(caller, n):
        return caller, n

    assert call(procedure, "n", 1, leading=1) == ("caller", 1)
    assert refusal(procedure, "n", 1, "caller", 2, leading=1) == "unknown name caller"
    open_ended = lambda caller, **pairs: pairs  # noqa: E731
    assert refusal(open_ended, "caller", 2, leading=1) == "caller cannot be given by name"
    assert call(lambda caller, /, **pairs: pairs, "caller", 2, leading=1) == {"caller": 2}
    assert call(lambda caller, /, **pairs: pairs, "", 2, leading=1) == {"": 2}
    assert call(lambda *everything: everything, 1, leading=1) == ("caller", 1)
    for no_caller in (lambda: None, lambda **pairs: None, lambda *, n: None):
        with pytest.raises(ArgumentError, match="takes no caller"):
            Signature(no_caller, 1)


def test_conversion_by_annotation():
    def typed(n: int, words: list[str] = [], limit: float = None):  # noqa: B006, RUF013
        return n, words, limit

    assert call(typed, "n", "3") == (3, [], None)
    assert call(typed, "n", "3", "words", [1], "limit", None) == (3, ["1"], None)
    assert refusal(typed, "n", "x") == "n: cannot convert str 'x' to int"

    def listed(first: int, /, *rest: float):
        return first, rest

    assert call(listed, "1", "2", "0.5") == (1, (2.0, 0.5))
    assert refusal(listed, "1", "2", "x") == "value 3: cannot convert str 'x' to float"
    assert refusal(listed, "x") == "first: cannot convert str 'x' to int"

    def others(n: int, **more: int):
        return n, more

    assert call(others, "n", "1", "m", "2") == (1, {"m": 2})
    assert refusal(others, "n", "1", "m" * 99, "x").startswith(
        "m" * 57 + "...: cannot convert str 'x'"
    )

    def rest_and_names(*rest: int, **more: str):
        return rest, more

    assert call(rest_and_names, "1", 2) == ((1, 2), {})


@pytest.mark.parametrize(
    ("function", "listed", "named", "rest"),
    [
        (lambda: None, [], [], None),
        (lambda x, y, /, z: None, ["x", "y"], ["z"], None),
        (lambda a, *, b: None, [], ["a", "b"], None),
        (lambda x, /, **more: None, ["x"], [], "more"),
        (lambda first, *rest: None, ["first"], [], "rest"),
        (lambda *rest, b=1, **more: None, [], ["b"], "rest"),
    ],
)
def test_what_each_parameter_takes(function, listed, named, rest):
    signature = Signature(function)
    assert list(signature.listed) == listed
    assert list(signature.named) == named
    assert (signature.rest and signature.rest.name) == rest


def test_annotations_as_text(caplog):
    def postponed(n: "int"):
        return n

    assert call(postponed, "n", "3") == 3

    def unknown(n: "NoSuchType"):  # noqa: F821
        return n

    assert call(unknown, "n", "3") == "3"
    assert "annotations of" in caplog.text

    def nonsense(n: "int['x']"):  # noqa: F821
        return n

    assert call(nonsense, "n", "3") == "3"


def test_functions_written_in_c():
    values = []
    assert call(values.append, 1) is None
    assert values == [1]
    assert refusal(values.append, 1, 2) == "too many values: 2, at most 1"
    assert call(max, 1, 3, 2) == 3  # it tells no signature: any list


def test_methods_partials_and_objects():
    class Thing:
        def method(self, n):
            return n

        __call__ = method

    assert call(Thing().method, "n", 1) == 1
    assert call(Thing(), "n", 1) == 1
    assert call(functools.partial(lambda a, b: (a, b), 1), "b", 2) == (1, 2)


def test_errors_go_to_a_parameter_of_that_name():
    problem = ValueError("x")

    def fail(function):
        signature = Signature(function)
        if not signature.takes_error:
            return "raised"
        args, named = signature.bind_error(problem)
        return function(*args, **named)

    assert fail(lambda sum=None, error=None: (sum, error)) == (None, problem)
    assert fail(lambda sum, error: (sum, error)) == (None, problem)
    assert fail(lambda **named: named) == {"error": problem}
    assert fail(lambda a, b=2, /, *, error: (a, b, error)) == (None, 2, problem)
    assert fail(lambda *values, error=None: (values, error)) == ((), problem)
    assert fail(lambda sum: None) == "raised"
    assert fail(lambda *values: None) == "raised"


def test_an_error_parameter_is_none_when_there_is_none():
    def done(sum, error):
        return sum, error

    args, named = Signature(done).bind_result(["sum", 5])
    assert done(*args, **named) == (5, None)
    args, named = Signature(done).bind_result(["sum", 5, "error", "mine"])
    assert done(*args, **named) == (5, "mine")


def test_a_signature_holds_no_defaults():
    class Thing:
        pass

    def make(thing):
        return lambda first=thing, *rest, by_name=thing: None

    thing = Thing()
    seen = weakref.ref(thing)
    signature = signature_of(make(thing))
    del thing
    gc.collect()
    assert seen() is None
    assert list(signature.named) == ["by_name"]


def test_signatures_are_kept_by_code_and_no_longer_than_needed(monkeypatch):
    monkeypatch.setattr(known, "_by_code", {})
    monkeypatch.setattr(known, "_MAX_KNOWN", 2)

    def make():
        return lambda sum: sum

    assert signature_of(make()) is signature_of(make())

    class Thing:
        def method(self, n):
            return n

    bound, plain = signature_of(Thing().method), signature_of(Thing.method)
    assert (bound.names, plain.names) == ({"n"}, {"self", "n"})
    assert len(known._by_code) <= 2

    def annotated(kind):
        def done(n: kind):
            return n

        return done

    typed = annotated(int)
    assert signature_of(typed) is signature_of(typed)
    assert signature_of(typed).bind(["n", "1"]) == ((1,), {})
    assert signature_of(annotated(float)).bind(["n", "1"]) == ((1.0,), {})
    assert signature_of(io.open).names != signature_of(os.open).names  # written in C, both
    wrapped = functools.wraps(lambda a, b: None)(lambda *args: None)
    assert signature_of(wrapped).names == {"a", "b"}


def test_annotations_are_those_of_the_place_where_they_stand():
    source = "def done(n: 'Kind'):\n    return n"
    code = compile(source, "here", "exec")
    kept = []
    for kind in (int, float, int):
        names = {"Kind": kind}
        exec(code, names)
        kept.append(names["done"])
        assert type(signature_of(names["done"]).bind(["n", "1"])[0][0]) is kind
    kept[0].__annotations__["n"] = str
    assert signature_of(kept[0]).bind(["n", 1]) == (("1",), {})


@pytest.mark.parametrize("annotation", [{}, {"n": int}])
def test_defaults_are_those_of_the_function(annotation):
    code = (lambda n, m: (n, m)).__code__

    def make(*defaults, **by_name):
        function = types.FunctionType(code, {}, "done", defaults)
        function.__annotations__ = annotation
        return function

    with pytest.raises(ArgumentError, match="m is missing"):
        call_kept(make(), "n", 1)
    assert call_kept(make(5), "n", 1) == (1, 5)
    assert call_kept(make(None, 5)) == (None, 5)
    with pytest.raises(ArgumentError, match="m is missing"):
        call_kept(make(), "n", 1)


def test_a_default_of_none_is_the_function_s_own():
    def make(default):
        def done(*, n: int = default):
            return n

        return done

    with pytest.raises(ArgumentError, match="cannot convert NoneType to int"):
        call_kept(make(5), "n", None)
    assert call_kept(make(None), "n", None) is None
    assert call_kept(make(5)) == 5


def call_kept(function, *values):
    """Bind the values by the signature that is kept, and call."""
    args, named = signature_of(function).bind(list(values))
    return function(*args, **named)


def plain(a, b=0):
    return a, b


@functools.wraps(plain)
def by_name(**named):
    return plain(**named)


@functools.wraps(plain)
def by_place(*args):
    return plain(*args)


@functools.wraps(plain)
def by_both(*args, **named):
    return plain(*args, **named)


class Decorated:
    @functools.wraps(lambda self, a, b=0: None)
    def __call__(self, **named):
        return plain(**named)

    @functools.wraps(lambda self, a, b=0: None)
    def method(self, *args):
        return plain(*args)


@pytest.mark.parametrize("values", [["a", 1, "b", 2], ["b", 2, "a", 1]])
@pytest.mark.parametrize(
    "function",
    [
        *(by_name, by_place, by_both, functools.partial(by_name), functools.partial(by_place)),
        *(Decorated(), Decorated().method),
    ],
)
def test_what_is_decorated_gets_its_values_in_its_own_way(function, values):
    for signature in (Signature(function), Signature(function).with_short_cuts()):
        args, named = signature.bind(values)
        assert function(*args, **named) == (1, 2)
        args, named = signature.bind(["a", 1])
        assert function(*args, **named) == (1, 0)


def test_what_says_its_own_signature_gets_its_values_by_name():
    def function(**named):
        return plain(**named)

    function.__signature__ = inspect.signature(plain)
    assert call(function, "a", 1, "b", 2) == (1, 2)


def test_signatures_that_are_not_kept_need_no_collector():
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for number in range(1000):
            signature_of(functools.partial(plain, number)).bind_result(["b", 2])
        assert len(gc.get_objects()) - before < 100
    finally:
        gc.enable()


def test_a_signature_keeps_no_module_alive():
    class Kept:
        pass

    names = {"kept": Kept(), "int": int}
    exec("def done(n: int): return n", names)
    kept = weakref.ref(names["kept"])
    assert signature_of(names["done"]).bind(["n", "1"]) == ((1,), {})
    del names
    gc.collect()
    assert kept() is None


def test_annotations_that_cannot_be_compared():
    class Shy:
        def __eq__(self, other):
            raise RuntimeError("not with me")

        __hash__ = None

    def make():
        def done(n: Shy()):
            return n

        return done

    for _ in range(3):
        assert signature_of(make()).bind(["n", 1]) == ((1,), {})


def test_class_methods_in_c_are_not_taken_for_one_another():
    for kind in (collections.OrderedDict, dict, str, bytes):
        function = getattr(kind, "fromkeys", None) or kind.maketrans
        kept, own = signature_of(function), Signature(function)
        assert (kept.listed, kept.names) == (own.listed, own.names)


def test_long_signatures_are_bound_as_short_ones():
    names = [f"name_{number}" for number in range(300)]
    function = eval(f"lambda {', '.join(names)}: [{', '.join(names)}]")
    values = [part for pair in zip(names, range(300), strict=True) for part in pair]
    args, named = Signature(function).with_short_cuts().bind(values)
    assert (len(args), named) == (300, {})
    assert function(*args, **named) == list(range(300))


NAMES = st.sampled_from(["a", "b", "c", "d", b"a", 1, None]) | st.lists(st.none(), max_size=1)
VALUES = st.integers() | st.text() | st.none()


def outcome(function, bind, values):
    try:
        args, named = bind(list(values))
    except ArgumentError as error:
        return str(error)
    return function(*args, **named)


@pytest.mark.parametrize(
    "source",
    [
        *("a", "a: int", "a: int = 0", "a: int | None"),
        *("a, b", "a: int, b", "a, b: int", "a: int, b: str", "a, b=None"),
        *("a, b, c", "a, b: int, c", "a, b: int, c='default'", "a: str, b: int, c: int"),
        *("**more", "**more: int", "a, **more", "a, /, b", "a, *, b", "*rest"),
    ],
)
def test_a_short_cut_gives_what_the_rule_gives(source):
    names = {}
    exec(f"def function({source}): return locals()", names)
    function = names["function"]
    rule, kept = Signature(function), Signature(function).with_short_cuts()

    @settings(max_examples=30)
    @given(st.lists(st.tuples(NAMES, VALUES), max_size=4), st.booleans())
    def check(pairs, is_odd):
        values = [part for pair in pairs for part in pair][: -1 if is_odd else None]
        assert outcome(function, kept.bind, values) == outcome(function, rule.bind, values)

    check()
    in_order = [part for name in rule.named for part in (name, "1")]
    for values in (in_order, [*in_order, "x"], in_order[:-1], [*in_order, *in_order[:2]]):
        assert outcome(function, kept.bind, values) == outcome(function, rule.bind, values)
