"""What the command line makes of what is typed, and how it shows answers: without a server."""

import itertools
import json
import math
import re
from pathlib import Path

import pytest

from rpcasync import Reply, RPCError
from rpcasync.cli.definitions import definition_line, parameters, procedures
from rpcasync.cli.lines import BUILT_IN, Line, parse_line, parse_word
from rpcasync.cli.output import to_json
from rpcasync.cli.rendering import answer_lines
from rpcasync.cli.terminal import completions, history_path
from rpcasync.storable import ScalarRef


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("n=1", ["n", 1]),
        ("n=-1.5e3", ["n", -1500.0]),
        ("a=x=y", ["a", "x=y"]),
        ("a=", ["a", ""]),
        ("a=null", ["a", None]),
        ("a=true", ["a", True]),
        ("a=NaN", ["a", "NaN"]),
        ("a=01", ["a", "01"]),
        ('a="2"', ["a", "2"]),
        ("a=[1, {}]", ["a", [1, {}]]),
        ("a=[1, ", ["a", "[1, "]),
        ("5", [5]),
        ("text", ["text"]),
        ("", [""]),
        ('{"a": "x=y"}', [{"a": "x=y"}]),
        ('"x=y"', ["x=y"]),
        ("[" * 100_000, ["[" * 100_000]),
        ("9" * 5000, ["9" * 5000]),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_word(word, values):
    assert parse_word(word) == values


def test_a_word_without_a_name():
    with pytest.raises(ValueError, match="'=1' has no name in front of the ="):
        parse_word("=1")


@pytest.mark.parametrize(
    ("line", "procedure", "values"),
    [
        ("add_numbers n1=2 n2=3", "add_numbers", ["n1", 2, "n2", 3]),
        ("  sum\t1 2.5   -3 \r", "sum", [1, 2.5, -3]),
        ("sum", "sum", []),
        ('echo text="hello world"', "echo", ["text", "hello world"]),
        ("echo text='hello world'", "echo", ["text", "hello world"]),
        (r"echo text=hello\ world", "echo", ["text", "hello world"]),
        ("echo 'a text' b", "echo", ["a text", "b"]),
        ("echo list=[1,2,3]", "echo", ["list", [1, 2, 3]]),
        ("echo list=[1, 2, 3] x", "echo", ["list", [1, 2, 3], "x"]),
        ("""echo obj='{"a": 1}'""", "echo", ["obj", {"a": 1}]),
        ('echo {"a": 1, "b": [1, 2]}', "echo", [{"a": 1, "b": [1, 2]}]),
        ('echo obj={"a": "x y"} n=1', "echo", ["obj", {"a": "x y"}, "n", 1]),
        ("echo a=\"2\" b=2 c='2'", "echo", ["a", "2", "b", 2, "c", 2]),
        ("""echo a='"2"'""", "echo", ["a", "2"]),
        ("echo \"x=y\" 'x=y'", "echo", ["x=y", "x", "y"]),
        ('echo "two words"=1', "echo", ["two words", 1]),
        ('echo a="b"c', "echo", ["a", "bc"]),
        (r'echo a="\u263a\n"', "echo", ["a", "\u263a\n"]),
        (r'echo a="C:\dir"', "echo", ["a", r"C:\dir"]),
        ("echo '' a='' b=", "echo", ["", "a", "", "b", ""]),
        ("echo a=[a-z]+ b={x}", "echo", ["a", "[a-z]+", "b", "{x}"]),
        ("echo a='[a, b'", "echo", ["a", "[a, b"]),
        ("echo a=1 # no comment", "echo", ["a", 1, "#", "no", "comment"]),
        ("echo a = 1", None, "'=' has no name"),
        ("echo url=http://x/?a=b&c", "echo", ["url", "http://x/?a=b&c"]),
        ("echo it's", None, "no closing quotation"),
        ("echo x\\", None, "no escaped character"),
        ('echo a={"b": 1', None, '{"b": 1 is not JSON: put quotes around text'),
        ("echo {'b': 1} 2", None, "{'b': 1} 2 is not JSON"),
        ("echo a=[1, 2,]", None, "[1, 2,] is not JSON"),
        ("echo a=[" + "[" * 100_000, None, "is not JSON"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_line(line, procedure, values):
    if procedure is None:
        with pytest.raises(ValueError, match=re.escape(values)):
            parse_line(line)
    else:
        assert parse_line(line) == Line(procedure, values)


@pytest.mark.parametrize("line", ["", "  \t", "# a comment", "  #x=1"])
def test_nothing_to_do(line):
    assert parse_line(line) is None


def test_what_is_built_in():
    for word in BUILT_IN:
        assert parse_line(f" {word} ").is_built_in
        for line in (f"{word} 1", f"'{word}'", f'"{word}"', f"\\{word}", f'{word}""'):
            parsed = parse_line(line)
            assert parsed.procedure == word
            assert not parsed.is_built_in
    assert not parse_line("sum").is_built_in


@pytest.mark.slow
def test_a_line_of_many_values_takes_linear_time():
    words = [f"k{n}=v{n}" for n in range(50_000)]
    assert len(parse_line("x " + " ".join(words)).values) == 100_000


KNOWN = {"add_numbers": ["n1", "n2"], "add_floats": ["n1", "n2"], "hang": []}


@pytest.mark.parametrize(
    ("before", "start", "expected"),
    [
        ("", "add_n", ["add_numbers "]),
        ("  ", "add", ["add_floats ", "add_numbers "]),
        ("", "h", ["hang ", "help "]),
        ("", "nothing", []),
        ("add_numbers ", "", ["n1=", "n2="]),
        ("add_numbers n1=5 ", "n", ["n2="]),
        ("'add_numbers' ", "n1", ["n1="]),
        ("add_numbers ", "n1=4", []),
        ("unknown ", "", []),
        ("hang ", "", []),
    ],
)
def test_completions(before, start, expected):
    assert completions(before, start, KNOWN) == expected


# Answers


def lines(*values, **options):
    return list(answer_lines(Reply(values), **options))


def test_an_answer():
    assert lines("a", 1, "b", "two words", "c", [None, True]) == [
        "a=1",
        "b=two words",
        "c=[null, true]",
    ]
    assert lines(1, "x", 2.5) == ["1", "x", "2.5"]
    assert lines() == []


def test_an_answer_as_json():
    assert lines("a", 1, "b", {"c": "\u263a"}, as_json=True) == ['{"a": 1, "b": {"c": "\u263a"}}']
    assert lines(1, "x", None, as_json=True) == ['[1, "x", null]']
    assert lines(as_json=True) == ["{}"]


@pytest.mark.parametrize("text", ["\x1b[31m", "\x7f", "\x9b31m", "\u202e", "\r", "\x00", "\ud800"])
def test_what_a_terminal_would_obey_has_escapes_wherever_it_stands(text):
    shown = [
        *lines("a", text, text, 1),
        *lines("a", [text], "b", {text: text}),
        *lines(text, as_json=True),
        definition_line(text, {"in": {text: text}, "out": {"x": {text: [text]}}, "doc": text}),
        definition_line("x", {"in": {}, "out": [text], "doc": text}),
    ]
    assert all(line.isprintable() for line in shown)
    assert json.loads(lines("a", [text])[0][2:]) == [text]


def test_what_json_does_not_have():
    assert json.loads(to_json({"nan": math.nan, "inf": -math.inf, "bytes": b"x"})) == {
        "nan": "nan",
        "inf": "-inf",
        "bytes": "b'x'",
    }
    assert to_json(ScalarRef(5)) == '"ScalarRef(value=5)"'
    assert to_json({b"key": 1}) == '{"key": 1}'
    ring = []
    ring.append(ring)
    assert to_json(ring) == '"<list that cannot be shown>"'


# Procedures


def test_a_definition():
    about = {"in": {"n1": "integer32", "n2": "integer32"}, "out": {"sum": "integer32"}}
    line = "add(n1: integer32, n2: integer32) -> sum: integer32"
    assert definition_line("add", about) == line
    assert definition_line("add", {**about, "doc": "Adds."}) == f"{line}  # Adds."
    assert parameters(about) == ["n1", "n2"]


def test_a_definition_of_little():
    assert definition_line("x", {}) == "x"
    assert definition_line("x", {"in": {}, "out": {}}) == "x()"
    assert definition_line("x", {"in": "any"}) == "x(any)"
    assert parameters({}) == parameters({"in": ["any"]}) == []


def test_numbers_in_a_definition_say_the_order():
    about = {"in": {"z": "any", "10c": "any", "2b": "any", "00a": "any", "*": "any"}}
    assert definition_line("x", about) == "x(a: any, b: any, c: any, z: any, *: any)"
    assert parameters(about) == ["a", "b", "c", "z"]
    assert definition_line("x", {"in": {"7": "any"}}) == "x(7: any)"


def test_a_definition_with_parts_and_in_bytes():
    about = {b"in": 1, "in": {b"p": {"x": ["float64"], "key": b"sub"}}, "out": {}}
    assert definition_line("x", about) == "x(p: {key: sub, x: [float64]})"


@pytest.mark.slow
@pytest.mark.parametrize("names", list(itertools.permutations(["n2", "*", "n1", "1z", "01y"])))
def test_the_order_of_names_does_not_depend_on_the_server(names):
    about = {"in": dict.fromkeys(names, "any"), "out": dict.fromkeys(names[::-1], "any")}
    fields = "y: any, z: any, n1: any, n2: any, *: any"
    assert definition_line("x", about) == f"x({fields}) -> {fields}"


def test_a_number_that_is_too_long_for_an_int():
    about = {"in": {"z": "any", "9" * 5000 + "a": "any", "1b": "any"}}
    assert definition_line("x", about) == "x(b: any, a: any, z: any)"


def test_procedures():
    assert procedures(Reply([b"methods", {b"a": {}, "b": "odd"}])) == {"a": {}, "b": {}}
    for values in ([], ["methods"], ["methods", []], ["other", {}], [["methods"], {}]):
        with pytest.raises(RPCError, match="answered something else than its procedures"):
            procedures(Reply(values))


# The history


def test_where_the_history_is_kept():
    assert history_path({"RPCASYNC_HISTORY": "/x", "HOME": "/h"}) == Path("/x")
    assert history_path({"RPCASYNC_HISTORY": "", "HOME": "/h"}) is None
    assert history_path({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == Path("/s/rpcasync/history")
    kept = Path("/h/.local/state/rpcasync/history")
    assert history_path({"HOME": "/h"}) == kept
    assert history_path({"HOME": "/h", "XDG_STATE_HOME": "relative"}) == kept
    assert history_path({}) is None
