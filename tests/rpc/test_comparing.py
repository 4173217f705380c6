"""When two answers are the same to a Perl program, and what is said where they differ."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from support.strategies import scalars, texts, trees

from rpcasync.comparing.answers import MOST_DIFFERENCES, compare
from rpcasync.comparing.differences import KINDS, Difference
from rpcasync.storable import Blessed, Regexp, ScalarRef


def kinds(old: list[object], new: list[object]) -> list[tuple[str, str]]:
    return [(found.path, found.kind) for found in compare(old, new)]


class Odd:
    """What a codec of the program's own may give."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Odd) and other.number == self.number

    __hash__ = None  # type: ignore[assignment]


# Plain values


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3", 3),
        (3, 3.0),
        ("3", 3.0),
        ("3.50", 3.5),
        ("3.50", "3.5"),
        ("0.1", 0.1),
        ("0.3", 0.1 + 0.2),
        ("0.30000000000000004", "0.3"),
        ("1e+300", "1e300"),
        ("1E300", 1e300),
        (".5", 0.5),
        ("5.", 5),
        (0.0, -0.0),
        ("-0", 0),
        ("9.00719925474099e+15", 2**53 - 1),
        (976.0962444912575, 976.0962444912576),  # ...257 and ...258, and one bit apart
        ("1.23456789012346e+24", 1234567890123456789012345),
        ("12345678901234567890", 12345678901234567890),
        (math.nan, math.nan),
        ("NaN", math.nan),
        ("Inf", math.inf),
        ("-Infinity", -math.inf),
        ("1e400", math.inf),
        (10**400, "1e400"),
        (True, 1),
        (True, "1"),
        (True, "1.0"),
        (False, ""),
        (False, 0),
        (False, "0"),
        (False, "0.0"),
        (b"caf\xe9", "caf\xe9"),
        (b"3", 3),
        (None, None),
    ],
)
def test_equal(one, other):
    assert compare([one], [other]) == []
    assert compare([other], [one]) == []


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("3", 4, "value"),
        ("3", "three", "value"),
        ("a", "A", "value"),
        ("007", 7, "value"),
        ("+49", 49, "value"),
        (" 3", 3, "value"),
        ("3\n", 3, "value"),
        ("0x1f", 31, "value"),
        ("0 but true", 0, "value"),
        ("1_000", 1000, "value"),
        ("\u0663", 3, "value"),  # a digit, but not Perl's
        (1.0, 1.00000000000001, "value"),
        (2**63, 2**63 + 1, "value"),
        (math.nan, 0, "value"),
        (math.inf, -math.inf, "value"),
        (math.inf, "1e300", "value"),
        (True, "yes", "value"),
        (True, 2, "value"),
        (False, 1, "value"),
        (False, "no", "value"),
        (True, False, "value"),
        ("", 0, "false"),
        ("", "0", "false"),
        (None, "", "undef"),
        (None, 0, "undef"),
        (None, False, "undef"),
        (None, [], "undef"),
        ("caf\u00e9", "cafe\u0301", "value"),
        ("caf\xc3\xa9", "caf\xe9", "value"),  # encoded twice
        ("5" * 500, "5" * 500 + ".0", "value"),  # too long for a number
        (10**4000, 10**4000 + 1, "value"),
    ],
)
def test_different(one, other, kind):
    assert kinds([one], [other]) == [("[0]", kind)]
    assert kinds([other], [one]) == [("[0]", kind)]


@given(scalars, scalars)
@example("", False)
def test_the_order_of_two_scalars_does_not_matter(one, other):
    assert kinds([one], [other]) == kinds([other], [one])


@given(st.floats())
def test_a_float_is_the_text_that_either_language_prints(number):
    assume(not 1.79769313486231e308 < abs(number) < math.inf)  # 15 digits of it are too many
    for text in (repr(number), f"{number:.15g}", f"{number:.17g}"):
        assert compare([number], [text]) == []


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(2, 1000))
def test_floats_that_print_differently_differ(number, steps):
    other = number + steps * 1e-14 * abs(number)
    if f"{other:.15g}" != f"{number:.15g}" and not math.isclose(number, other, rel_tol=2e-15):
        assert kinds([number], [other]) == [("[0]", "value")]


# Containers


@given(trees)
def test_a_value_is_equal_to_itself(tree):
    assert compare([tree], [tree]) == []


@given(trees, trees)
def test_what_python_finds_equal_is_equal(one, other):
    if one == other:
        assert compare([one], [other]) == []


@given(st.dictionaries(texts, trees, min_size=1, max_size=5), st.randoms())
def test_the_order_of_keys_does_not_matter(values, random):
    items = list(values.items())
    random.shuffle(items)
    assert compare([values], [dict(items)]) == []


@given(trees, st.sampled_from(["list", "hash", "reference", "object"]))
def test_a_value_inside_of_something_differs_as_it_does_alone(tree, holder):
    def held(value: object) -> object:
        if holder == "list":
            return [0, value]
        if holder == "hash":
            return {"key": value}
        return ScalarRef(value) if holder == "reference" else Blessed("A", [value])

    place = {"list": "[1]", "hash": "{key}", "reference": "", "object": "[0]"}[holder]
    alone = kinds([tree], ["something else"])
    inside = kinds([held(tree)], [held("something else")])
    assert inside == [(f"[0]{place}{path[3:]}", kind) for path, kind in alone]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1, 2], [1, 2, 3], [("[0]", "length")]),
        ([1, 2], [2, 1], [("[0][0]", "value"), ("[0][1]", "value")]),
        ([1], {"a": 1}, [("[0]", "type")]),
        ([1], "1", [("[0]", "type")]),
        (ScalarRef(1), 1, [("[0]", "type")]),
        ({"a": 1, "b": 2}, {"b": 2, "c": 3}, [("[0]{a}", "missing"), ("[0]{c}", "extra")]),
        ({"a": None}, {}, [("[0]{a}", "missing")]),
        ({b"a": 1}, {"a": 1}, []),
        ({3: 1}, {"3": 1}, []),
        ((1, 2), [1, "2"], []),
        ({"a": {"b": [0, {"c": 1}]}}, {"a": {"b": [0, {"c": 2}]}}, [("[0]{a}{b}[1]{c}", "value")]),
        (Blessed("A", [1]), Blessed("A", ["1"]), []),
        (Blessed("A", [1]), Blessed("B", [1]), [("[0]", "class")]),
        (Blessed("A", [1]), [2], [("[0]", "class"), ("[0][0]", "value")]),
        (Regexp("a", "i"), Regexp("a", "i"), []),
        (Regexp("a", "i"), Regexp("a", ""), [("[0]", "value")]),
        (Odd(1), Odd(1), []),
        (Odd(1), Odd(2), [("[0]", "value")]),
    ],
)
def test_containers(one, other, expected):
    assert kinds([one], [other]) == expected


# Answers as a whole


def test_an_answer_of_names_and_values_has_no_order():
    assert compare(["sum", 5, "n", 2], ["n", "2", "sum", "5"]) == []
    assert compare([b"sum", 5, b"n", 2], ["n", "2", "sum", "5"]) == []
    assert kinds(["sum", 5, "n", 2], ["n", 3, "sum", 5]) == [("n", "value")]


def test_names_that_only_one_answer_has_are_named():
    assert kinds(["sum", 5, "n", 2], ["sum", 5]) == [("n", "missing")]
    assert kinds(["sum", 5], ["sum", 5, "n", 2]) == [("n", "extra")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([1, 2, 3, 4], [3, 4, 1, 2]),  # no names, but numbers
        (["1", 2, "3", 4], ["3", 4, "1", 2]),
        (["a", 1, "a", 2], ["a", 2, "a", 1]),  # a name twice
        (["a", 1, "a", 2], ["a", 3, "a", 2]),
        (["a", 1, "b"], ["b", 1, "a"]),  # odd
        (["a", "b"], ["b", "a"]),  # no name in both
        ([["a"], 1, "b", 2], ["b", 2, ["a"], 1]),
    ],
)
def test_other_answers_have_one(old, new):
    assert compare(old, new) != []


def test_lists_in_an_answer_have_one():
    assert compare(["pairs", ["a", 1, "b", 2]], ["pairs", ["b", 2, "a", 1]]) != []


def test_answers_of_different_lengths():
    (found,) = compare([1, 2], [1])
    assert found == Difference("", "length", "list of 2", "list of 1")
    assert compare([], []) == []
    assert kinds([], ["sum", 5]) == [("", "length")]


@given(st.dictionaries(st.text("abc", min_size=1), scalars, min_size=1, max_size=6), st.randoms())
def test_the_order_of_pairs_does_not_matter(values, random):
    shuffled = list(values.items())
    random.shuffle(shuffled)
    old = [each for pair in values.items() for each in pair]
    assert compare(old, [each for pair in shuffled for each in pair]) == []


# Errors


@pytest.mark.parametrize(
    "other",
    [
        ["error", "no such host"],
        ["errors", ["no such host"]],
        ["errors", ["no such host"], "error", "no such host"],
        [b"error", b"no such host"],
        ["error", "no such host at /srv/old.pl line 7.\n"],
        ["error", "no such host at (eval 3) line 12, <STDIN> line 4.\n"],
    ],
)
def test_errors_are_compared_by_their_texts(other):
    ours = ["error", "no such host", "errors", ["no such host"]]
    if other != ["errors", ["no such host"], "error", "no such host"]:
        assert compare(other, ours) == []
        assert compare(ours, other) == []
    found = compare(other, ["error", "no such port"])
    assert [each.kind for each in found] == ["text"]


def test_an_error_against_an_answer():
    (found,) = compare(["sum", 5], ["error", "division by zero"])
    assert found == Difference("", "error", "list of 2", 'error "division by zero"')
    (found,) = compare(["error", "x"], ["sum", 5])
    assert found == Difference("", "error", 'error "x"', "list of 2")


def test_where_perl_died_is_not_compared_in_an_error_among_other_names():
    old = ["code", 5, "error", "no disk at /srv/old.pl line 7.\n"]
    assert compare(old, ["error", "no disk", "code", 5]) == []
    assert kinds(old, ["error", "no space", "code", 5]) == [("error", "value")]


def test_it_is_compared_in_other_texts():
    assert kinds(["log", "no at x line 7."], ["log", "no"]) == [("log", "value")]


def test_the_end_of_a_long_error_takes_no_time():
    began = time.process_time()
    compare(["error", " at " * 200_000], ["error", " at x line " * 200_000])
    assert time.process_time() - began < 1


# Bounds


def test_differences_are_bounded():
    found = compare([1] * 1000, [2] * 1000)
    assert len(found) == MOST_DIFFERENCES
    assert len(compare([1] * 1000, [2] * 1000, most=3)) == 3
    hashes = [{str(number): 1 for number in range(1000)}], [{}]
    assert len(compare(*hashes)) == MOST_DIFFERENCES


@pytest.mark.parametrize(
    "values",
    [
        [0] * 1_000_000,
        [[0] * 1_000_000],
        [dict.fromkeys(map(str, range(300_000)), 0)],
        ["a", [[number] for number in range(100_000)]],
        [str(number) if number % 2 else f"n{number}" for number in range(200_000)],
    ],
)
def test_work_is_bounded_and_what_was_not_looked_at_is_told(values):
    other = [str(value) if type(value) is int else value for value in values]
    began = time.process_time()
    found = compare(values, other)
    assert time.process_time() - began < 0.5
    assert found[-1].kind == "unfinished"


def test_shared_values_are_compared_once():
    one: list[object] = ["1"]
    other: list[object] = [1]
    for _ in range(100):
        one, other = [one, one], [other, other]
    assert compare([one], [other]) == []


def test_values_that_stand_in_themselves():
    one: list[object] = [1]
    other: list[object] = [1]
    one.append({"again": one})
    other.append({"again": other})
    assert compare([one], [other]) == []
    other[0] = 2
    assert kinds([one], [other]) == [("[0][0]", "value")]


def test_deep_values():
    one: object = 1
    other: object = 2
    for _ in range(15_000):
        one, other = [one], [other]
    (found,) = compare([one], [other])
    assert found.kind == "value"
    assert len(found.path) < 250
    one, other = 1, 2
    for _ in range(15_000):
        one, other = ScalarRef(one), ScalarRef(other)
    assert kinds([one], [other]) == [("[0]", "value")]


@given(st.lists(trees, max_size=4), st.lists(trees, max_size=4))
def test_whatever_differs_is_told_on_short_lines(old, new):
    found = compare(old, new)
    assert len(found) <= MOST_DIFFERENCES
    for each in found:
        assert each.kind in KINDS
        assert str(each).isprintable()
        assert len(str(each)) < 2000


def test_how_values_are_shown():
    old = ["a", "x\n\x1b[2J" + "y" * 100, "b", None, "c", 10**100, "d", {"k": 1}, "e", 1.5]
    (a, b, c, d, e) = compare(
        old, ["a", 1, "b", 1, "c", 1, "d", 1, "e", Blessed("Some::Class", [])]
    )
    assert a.old == '"x\\n\\x1b[2J' + "y" * 51 + '..."'
    assert [b.old, c.old, d.old, e.old] == ["undef", "a number of 333 bits", "hash of 1", "1.5"]
    assert [a.new, e.new] == ["1", "object of Some::Class"]
    assert str(b) == "b: undef: old undef, new 1"


def test_the_place_of_what_stands_in_lists():
    (one, other) = compare(
        ["hosts", [{"name": 1}, {"name": 2}]], ["hosts", [{"name": 3}, {"name": 4}]]
    )
    assert [one.path, other.path] == ["hosts[0]{name}", "hosts[1]{name}"]
    assert one.place == other.place == "hosts[]{name}"
