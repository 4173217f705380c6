"""How the command line shows answers, signatures and progress: without a server and a terminal."""

import io
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventmux import EventMux
from eventmux.events import Timer
from rpcasync import Reply
from rpcasync._log import log
from rpcasync.cli import screen
from rpcasync.cli.definitions import description_lines, parameters, signature_line
from rpcasync.cli.lines import Callback, Line, parse_line, parse_word
from rpcasync.cli.output import CommandFailed, StatusLine, say, status
from rpcasync.cli.progress import Callbacks, Waiting, bar, done_of_total, waiting
from rpcasync.cli.rendering import answer_lines, as_bytes, call_line, only_value, value_lines
from rpcasync.cli.screen import Colours, columns_of, cut, is_terminal, width

BAD = ["\x1b[31m", "\x7f", "\x9b31m", "\u202e", "\r", "\x00", "\ud800", "\n", "\t"]


def shown(*values, **options):
    return "\n".join(answer_lines(Reply(values), **options))


# Answers


def test_what_is_short_and_flat_stands_behind_its_name():
    assert shown("sum", 5, "list", [1, "a", None], "point", {"x": 1}, "none", [], "no", {}) == (
        'sum=5\nlist=[1, "a", null]\npoint={"x": 1}\nnone=[]\nno={}'
    )


def test_what_is_nested_is_indented():
    person = {"name": "Ann", "home": {"city": "Oslo", "at": {"x": 1.5, "tags": ["a", ["b"]]}}}
    assert shown("person", person, "n", 1) == (
        """\
person:
  name=Ann
  home:
    city=Oslo
    at:
      x=1.5
      tags:
        - a
        - ["b"]
n=1"""
    )


def test_items_of_a_list_have_a_dash():
    assert shown("list", [[1, [2, [3]]], {"a": {"b": [1, {}]}, "c": 2}, "two\nlines"]) == (
        """\
list:
  - - 1
    - - 2
      - [3]
  - a:
      b=
    c=2
  - "two\\nlines\""""
    ).replace("      b=\n", "      b:\n        - 1\n        - {}\n")


def test_a_long_list_has_one_item_on_a_line():
    assert shown("n", list(range(30))).splitlines()[:3] == ["n:", "  - 0", "  - 1"]
    assert shown("n", ["x" * 71]) == f"n:\n  - {'x' * 71}"


def test_dicts_with_the_same_keys_are_a_table():
    rows = [
        {"id": 1, "name": "Ann", "cost": "1.5", "odd": None},
        {"odd": [], "name": "two\nlines", "id": 22, "cost": "-10.25"},
        {"id": 333, "name": "", "cost": "7", "odd": True},
    ]
    assert shown("rows", rows) == (
        "rows:\n"
        "   id  name            cost  odd\n"
        "    1  Ann              1.5  null\n"
        '   22  "two\\nlines"  -10.25  []\n'
        "  333                     7  true"
    )
    assert shown(rows[:1]) == "id  name  cost  odd\n 1  Ann    1.5  null"


@pytest.mark.parametrize(
    "rows",
    [
        [{"a": 1}, {"b": 1}],
        [{"a": 1}, {"a": 1, "b": 2}],
        [{"a": 1}, 2],
        [{"a": [1]}, {"a": [2]}],
        [{}, {}],
    ],
)
def test_other_lists_are_no_table(rows):
    assert all(line.startswith("- ") for line in shown(rows).splitlines())


def test_wide_characters_and_accents_keep_columns_aligned():
    rows = [{"a": "張三", "b": "x"}, {"a": "e\u0301", "b": "y"}, {"a": "abcd", "b": "z"}]
    lines = shown(rows).splitlines()
    assert lines == ["a     b", "張三  x", "e\u0301     y", "abcd  z"]


def test_a_long_cell_does_not_make_all_rows_long():
    rows = [{"a": "x" * 100_000, "b": 1}, *({"a": "", "b": 2} for _ in range(100))]
    text = shown(rows)
    assert "x" * 100_000 + "  1" in text
    assert len(text) < 110_000


def test_a_table_is_cut_to_a_terminal_alone():
    rows = [{"id": 1, "text": "x" * 50, "n": 5}, {"id": 2, "text": "張" * 30, "n": 6}]
    assert shown(rows, columns=20).splitlines() == [
        "id  text",
        " 1  xxxxxxxxxxxxx...",
        " 2  \u5f35\u5f35\u5f35\u5f35\u5f35\u5f35...",
    ]
    assert all(width(line) <= 20 for line in shown(rows, columns=20).splitlines())
    assert "xxx..." in shown(rows, columns=20)
    assert "..." not in shown(rows)


def test_bytes_are_shown_as_python_writes_them_and_in_json_as_text():
    assert shown("data", b"\x80", "list", [b"a"]) == "data=\"b'\\\\x80'\"\nlist=[\"b'a'\"]"
    assert shown("data", b"\xe9A", as_json=True) == '{"data": "\xe9A"}'


def test_deep_values_end_in_json():
    value = [1]
    for _ in range(200):
        value = [value, 2]
    text = shown("deep", value)
    assert len(text.splitlines()) < 50
    assert "[" * 150 in text


def test_only_the_wanted_colours():
    colours = Colours(True)
    text = shown("n", 5, "t", "text", "rows", [{"a": 1, "b": "x"}], colours=colours)
    assert text == (
        "\x1b[36mn\x1b[0m=\x1b[33m5\x1b[0m\n"
        "\x1b[36mt\x1b[0m=text\n"
        "\x1b[36mrows\x1b[0m:\n"
        "  \x1b[1ma\x1b[0m  \x1b[1mb\x1b[0m\n"
        "  \x1b[33m1\x1b[0m  x"
    )
    rows = [{"a": 12345, "b": "x" * 30}]
    lines = list(answer_lines(Reply([rows]), colours=colours, columns=20))
    assert "\x1b[33m12345\x1b[0m  xxxxxxxxxx..." in lines


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary(max_size=5)
    | st.text(max_size=8)
    | st.sampled_from(BAD)
)
names = st.text(max_size=4) | st.sampled_from(BAD)
values = st.recursive(
    scalars,
    lambda part: (
        st.lists(part, max_size=4)
        | st.dictionaries(names, part, max_size=3)
        | st.tuples(names, names).flatmap(
            lambda keys: st.lists(st.fixed_dictionaries(dict.fromkeys(keys, scalars)), max_size=4)
        )
    ),
    max_leaves=20,
)


@given(values, st.none() | st.integers(20, 40))
def test_nothing_in_a_value_moves_the_cursor(value, columns):
    lines = list(answer_lines(Reply(["name", [value, [[]]]]), columns=columns))
    assert all(line.isprintable() for line in lines)
    assert all(line.isprintable() for line in value_lines({"name": [value, [[]]]}, as_json=True))
    assert call_line("\x1b", [value]).isprintable()


@given(values)
def test_nothing_of_a_value_is_left_out(value):
    text = shown("name", [value, [[]]])

    def look(part):
        if isinstance(part, dict):
            for name, inner in part.items():
                assert any(form in text for form in forms_of(name))
                look(inner)
        elif isinstance(part, list):
            for inner in part:
                look(inner)
        elif isinstance(part, str) and part.isprintable():
            assert any(form in text for form in forms_of(part))
        elif type(part) is int:
            assert str(part) in text

    look(value)


def forms_of(text):
    """Return how a text may be shown: beside lone surrogates, others are escaped, too."""
    return text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]


# One value


def test_the_only_value():
    assert only_value(Reply([5])) == 5
    assert only_value(Reply(["sum", 5])) == 5
    assert only_value(Reply(["a", 1, "b", 2]), "b") == 2


@pytest.mark.parametrize(
    ("values", "name", "message"),
    [
        (["a", 1, "b", 2], None, "the answer has 2 values, and --raw prints one: add --value NAME"),
        ([1, 2], None, "the answer has 2 values, and --raw prints one"),
        ([], None, "the answer has 0 values, and --raw prints one"),
        (["body", 1, "type", 2], "bdy", "the answer has no 'bdy'; did you mean 'body'?"),
        (["\x1b", 1], "b", "the answer has no 'b': it has \\x1b"),
        ([1], "b", "the answer has no names, so not 'b'"),
    ],
)
def test_no_only_value(values, name, message):
    with pytest.raises(CommandFailed) as caught:
        only_value(Reply(values), name)
    assert str(caught.value).startswith(message)


def test_an_answer_of_many_names_names_some():
    pairs = [part for number in range(1000) for part in (f"n{number}" * 1000, number)]
    with pytest.raises(CommandFailed) as caught:
        only_value(Reply(pairs))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (b"\x00\x80\n", b"\x00\x80\n"),
        ("caf\xe9\n", b"caf\xc3\xa9\n"),
        ("", b""),
        ("\ud800", b"\\ud800"),
        (5, b"5"),
        (2.5, b"2.5"),
        (None, b"null"),
        (True, b"true"),
    ],
)
def test_a_value_as_it_is(value, data):
    assert as_bytes(value) == data


def test_bytes_that_came_as_text():
    assert as_bytes("\x00\x80\xff", is_binary=True) == b"\x00\x80\xff"
    with pytest.raises(CommandFailed, match="'\u263a' in the value is no byte"):
        as_bytes("a\u263a", is_binary=True)


@pytest.mark.parametrize("value", [[1], {}, {"a": 1}])
def test_a_value_that_is_no_text(value):
    with pytest.raises(CommandFailed, match=f"the value is a {type(value).__name__}"):
        as_bytes(value)


# Callbacks


def test_a_callback_is_an_at():
    assert parse_word("progress=@") == ["progress", Callback("progress")]
    assert parse_word("@") == [Callback("@")]
    assert parse_word('progress="@"') == ["progress", "@"]
    assert parse_word('"@"') == ["@"]
    assert parse_word("a=@b") == ["a", "@b"]
    assert parse_word("a=b=@") == ["a", "b=@"]
    given_values = ["to", 9, "progress", Callback("progress"), Callback(), "@"]
    assert parse_line('count to=9 progress=@ @ "@"') == Line("count", given_values)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (["done", 1, "of", "two words"], 'p: done=1 of="two words"'),
        ([1, 2.5, "x"], "p: 1 2.5 x"),
        ([], "p:"),
        (["a=b", '"', "", "\n"], 'p: a=b="\\"" ="\\n"'),
        ([[1, {"a": None}]], 'p: [1, {"a": null}]'),
    ],
)
def test_the_call_of_a_callback_is_a_line(values, line):
    assert call_line("p", values) == line


def test_the_call_of_a_callback_as_json():
    assert call_line("p", ["done", 1], as_json=True) == '{"p": {"done": 1}}'
    assert call_line("p", [1, "x", b"\xff"], as_json=True) == '{"p": [1, "x", "\xff"]}'


# Progress


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["done", 1, "total", 10], (1, 10)),
        (["total", "10", "done", "2.5"], (2.5, 10)),
        ([3, 4], (3, 4)),
        ([0, 4.5], (0, 4.5)),
        (["done", 1], None),
        (["done", 1, "total", 10, "file", "x"], None),
        (["done", 11, "total", 10], None),
        (["done", 0, "total", 0], None),
        (["done", -1, "total", 10], None),
        (["done", True, "total", 10], None),
        (["done", None, "total", 10], None),
        (["done", 1, "total", float("inf")], None),
        (["done", 1, "total", float("nan")], None),
        ([1, 2**70], None),
        ([1, "9" * 5000], None),
        ([1, 2, 3], None),
        ([1], None),
        ([], None),
        ([[1], 2], None),
    ],
)
def test_what_tells_how_much_is_done(values, expected):
    assert done_of_total(values) == expected


def test_a_bar():
    assert bar("p", 52_000, 100_000, 80) == (
        "p [====================>                   ]  52 %  52000 of 100000"
    )
    assert bar("p", 0, 10, 80) == f"p [>{' ' * 39}]   0 %  0 of 10"
    assert bar("p", 10, 10, 80) == f"p [{'=' * 40}] 100 %  10 of 10"
    assert bar("p", 1, 3, 20) == "p  33 %  1 of 3"


@given(st.text(max_size=100), st.floats(0, 1), st.floats(1e-9, 1e14), st.integers(20, 300))
def test_a_bar_is_one_line_that_fits(name, part, total, columns):
    line = bar(name, part * total, total, columns)
    assert line.isprintable()
    assert width(cut(line, columns - 1)) < columns


# What a stream can show


@given(st.text(alphabet=st.characters(categories=["L", "M", "N", "S"])), st.integers(0, 30))
def test_text_is_cut_to_what_fits(text, columns):
    short = cut(text, columns)
    assert width(short) <= columns
    assert len(short) <= max(4 * columns, columns)
    assert short == text or short.endswith("..."[:columns])


def test_marks_without_end_take_no_room():
    assert width("e" + "\u0301" * 1000) == 1
    assert len(cut("e" + "\u0301" * 1_000_000, 20)) <= 80


class FakeTerminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True

    def fileno(self):
        raise OSError


@pytest.mark.parametrize(
    ("env", "is_on"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_when_there_are_colours(monkeypatch, env, is_on):
    monkeypatch.setattr(os, "environ", env)
    assert screen.colours_of(FakeTerminal()).is_on is is_on
    assert not screen.colours_of(io.StringIO()).is_on
    assert not screen.colours_of(None).is_on


def test_streams():
    closed = io.StringIO()
    closed.close()
    assert not is_terminal(closed)
    assert not is_terminal(None)
    assert columns_of(io.StringIO()) is None
    assert columns_of(FakeTerminal()) == 80


def test_the_status_line_is_erased_in_full(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stderr = at_terminal(monkeypatch)
    line = StatusLine()
    line.show("waiting \x1b[31m")
    line.show("張")
    line.clear()
    line.clear()
    blanks = " " * len("waiting \\x1b[31m")
    assert stderr.getvalue() == f"\rwaiting \\x1b[31m\r{blanks}\r\r張\r  \r"
    assert not line.text


def test_there_is_no_status_line_elsewhere(monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    line = StatusLine()
    line.show("waiting")
    line.clear()
    assert not stderr.getvalue()


def test_an_error_has_its_colour_in_front(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stderr = at_terminal(monkeypatch)
    CommandFailed("no \x1b[0m").tell()
    say("told")
    assert stderr.getvalue() == "\x1b[31mrpcasync: \x1b[0mno \\x1b[0m\nrpcasync: told\n"


# Signatures

ABOUT = {
    "in": {"scale": "float64", "n1": "integer32", "n2": "uinteger8:pos", "label": "utf8string"},
    "out": {"sum": "integer32", "a": "any"},
    "order": {"in": ["n1", "n2", "scale", "label"], "out": ["sum", "a"]},
    "defaults": {"scale": "1.0", "label": "None"},
    "doc": "Add them.\n\n\x1bMore.",
}


def test_a_signature():
    line = "add(n1: int, n2: int, scale: float = 1.0, label: str | None = None) -> sum: int, a"
    assert signature_line("add", ABOUT) == f"{line}  # Add them."
    assert list(description_lines("add", ABOUT)) == [
        line,
        "    Add them.",
        "",
        "    \\x1bMore.",
    ]
    assert parameters(ABOUT) == ["n1", "n2", "scale", "label"]


def test_a_long_signature_alone_has_a_parameter_on_each_line():
    about = {"in": {"a" * 50: "any", "b" * 50: "binary"}, "out": {"c": "boolean"}}
    assert list(description_lines("f", about)) == [
        "f(",
        f"    {'a' * 50},",
        f"    {'b' * 50}: bytes,",
        ") -> c: bool",
    ]


@pytest.mark.parametrize(
    ("about", "line"),
    [
        ({}, "f"),
        ({"in": {}}, "f()"),
        ({"in": {"*": "any"}}, "f(**names)"),
        ({"in": {"*": "integer32", "a": "any"}}, "f(a, **names: int)"),
        ({"in": {"a": "any"}, "defaults": {"a": "0"}}, "f(a=0)"),
        ({"in": {"a": "any"}, "defaults": {"a": "\n"}}, 'f(a="\\n")'),
        ({"in": {"n": ["float64"]}, "positional": ["*n"]}, "f(*n: float)"),
        ({"in": {"n": ["any"]}, "positional": ["*n"]}, "f(*n)"),
        ({"in": {"00x": "any", "01y": "sub"}, "positional": ["x", "y"]}, "f(x, y: Callable, /)"),
        (
            {"in": {"x": "any", "n": "any"}, "positional": ["x"], "order": {"in": ["x", "n"]}},
            "f(x, /, n)",
        ),
        ({"in": {"00x": "any", "01n": ["any"]}, "positional": ["x", "*n"]}, "f(x, *n)"),
        ({"in": {"a": [], "b": {}, "c": {"*": "int"}}}, "f(a: list, b: dict, c: dict[str, int])"),
        ({"in": {"a": ["int8", "binary", "int8"]}}, "f(a: list[int | bytes])"),
        ({"in": {"a": {"y": "latin1string", "x": "any"}}}, "f(a: {x, y: str})"),
        ({"in": {"a": "own:word", "b": 5, "c": None}}, "f(a: own, b: 5, c: null)"),
        ({"in": "any", "out": ["any"]}, "f() -> list"),
        ({"in": ["int32"]}, "f(list[int])"),
        ({"in": {"00x": "any", "a": "any", "b": "any"}, "order": {"in": ["b", "a"]}}, "f(x, b, a)"),
        ({"in": {"b": "any", "a": "any"}, "order": {"in": "ba"}}, "f(a, b)"),
        (
            {"in": {"b": "any", "a": "any"}, "order": ["b"], "defaults": [], "positional": {}},
            "f(a, b)",
        ),
        ({"in": {"a": "any"}, "doc": 5}, "f(a)"),
    ],
)
def test_signatures(about, line):
    assert signature_line("f", about) == line


@given(
    st.dictionaries(
        st.sampled_from(["in", "out", "order", "defaults", "positional", "doc"]), values
    ),
    names,
)
def test_whatever_a_server_tells_is_one_line(about, name):
    assert signature_line(name, about).replace("\t", "").isprintable()
    assert all(line.replace("\t", "").isprintable() for line in description_lines(name, about))
    parameters(about)


def test_types_that_are_nested_beyond_reason():
    kind = "any"
    for _ in range(900):
        kind = [kind]
    assert len(signature_line("f", {"in": {"a": kind}, "out": kind})) < 1000


# What is waited for


def at_terminal(monkeypatch):
    """Put a terminal in the place of stderr, which pytest sets when a test begins."""
    stderr = FakeTerminal()
    monkeypatch.setattr("sys.stderr", stderr)
    return stderr


def test_waiting_is_shown_with_each_beat_and_erased(monkeypatch):
    stderr = at_terminal(monkeypatch)
    with EventMux() as mux:
        with waiting(mux, "waiting for park") as shown:
            assert not stderr.getvalue()
            shown.take(Timer(None, data=object()))
            assert not stderr.getvalue()
            shown.take(Timer(None, data=shown))
            assert stderr.getvalue() == "\rrpcasync: waiting for park ... 0 s"
        assert stderr.getvalue().endswith("\r" + " " * 34 + "\r")
        assert mux.mux() is None  # it waits for no timer


def test_nothing_waits_for_the_clock_alone(monkeypatch):
    at_terminal(monkeypatch)
    with EventMux() as mux:
        shown = Waiting(mux, "waiting")
        shown.stop()
        shown.stop()
        assert mux.mux() is None


def test_there_is_no_clock_where_nobody_looks(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with EventMux() as mux, waiting(mux, "waiting"):
        assert mux.mux() is None


def test_a_bar_is_not_replaced_by_waiting(monkeypatch):
    stderr = at_terminal(monkeypatch)
    callbacks = Callbacks()
    with EventMux() as mux, waiting(mux, "waiting") as shown:
        callbacks.show("p", ["done", 1, "total", 4])
        shown.take(Timer(None, data=shown))
        assert stderr.getvalue() == "\r" + bar("p", 1, 4, 80)


def test_a_bar_is_drawn_no_more_often_than_anybody_sees(monkeypatch):
    stderr = at_terminal(monkeypatch)
    callbacks = Callbacks()
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    for done in range(1000):
        callbacks.show("p", [done, 1000])
    assert stderr.getvalue() == "\r" + bar("p", 0, 1000, 80)
    callbacks.show("p", [1000, 1000])
    assert stderr.getvalue().endswith("\r" + bar("p", 1000, 1000, 80))
    now[0] = 1.0
    callbacks.show("p", [1, 1000])
    assert stderr.getvalue().endswith("\r" + bar("p", 1, 1000, 80))
    status.clear()


def test_a_line_erases_the_status_line(monkeypatch, capsys):
    stderr = at_terminal(monkeypatch)
    callbacks = Callbacks()
    callbacks.show("p", [1, 4])
    callbacks.show("p", ["text"])
    erased = stderr.getvalue()
    assert erased.endswith(" \r")
    assert not status.text
    assert capsys.readouterr().out == "p: text\n"
    callbacks.show("p", [1, 4])
    say("told")
    assert stderr.getvalue().endswith(" \rrpcasync: told\n")


def test_a_line_of_the_log_erases_the_status_line(monkeypatch):
    stderr = at_terminal(monkeypatch)
    with EventMux() as mux, waiting(mux, "waiting"):
        status.show("so far")
        log.warning("told")
        assert stderr.getvalue() == "\rso far\r      \r"
        status.show("more")
    log.warning("told")
    assert stderr.getvalue().count("so far") == 1


def test_programs_get_lines_in_place_of_bars(monkeypatch, capsys):
    stderr = at_terminal(monkeypatch)
    Callbacks(as_json=True).show("p", ["done", 1, "total", 4])
    assert capsys.readouterr().out == '{"p": {"done": 1, "total": 4}}\n'
    Callbacks(on_stderr=True).show("p", ["x"])
    assert capsys.readouterr().out == ""
    assert stderr.getvalue() == "p: x\n"


def test_names_that_differ_in_their_numbers_alone_take_no_time():
    about = {"in": {f"{number}x": "any" for number in range(20_000)}, "positional": ["x"]}
    assert signature_line("f", about) == f"f({'x, ' * 20_000}/)"
