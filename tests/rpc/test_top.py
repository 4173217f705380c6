"""What `rpcasync top` makes of two answers, and what of it fits on a screen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcasync.calls import Reply
from rpcasync.cli.dashboard import ORDERS, Dashboard
from rpcasync.cli.figures import Figures, OfProcedure, figures
from rpcasync.cli.intervals import Pace, interval
from rpcasync.cli.prometheus import prometheus_lines
from rpcasync.cli.screen import Colours, width
from rpcasync.cli.summary import column_lines, rate, seconds

BOUNDS = [0.1, 0.2, 0.4]
UNKNOWN = Pace()


def of(*counts, errors=0, calls=None):
    calls = sum(counts) if calls is None else calls
    return OfProcedure(calls, errors, None, None, 0.0, {}, list(counts))


def told(counted, procedures, calls=None, **numbers):
    outcomes = {"answered": sum(each.calls for each in procedures.values())}
    numbers = {"pid": 7, "uptime": counted + 100, "counted": counted, **numbers}
    return Figures("ok", numbers, calls or outcomes, BOUNDS, procedures)


# Two answers


def test_what_was_between():
    before = told(10, {"a": of(5, 5, 0, 0, errors=1)}, {"answered": 9, "fault": 1, "gone": 0})
    after = told(12, {"a": of(5, 9, 4, 0, errors=3)}, {"answered": 14, "fault": 3, "gone": 1})
    found = interval(before, after)
    assert (found.of_all.calls, found.of_all.errors) == (4.0, 1.0)
    pace = found.procedures["a"]
    assert (pace.calls, pace.errors) == (4.0, 1.0)
    assert pace.p50 == pytest.approx(0.2)  # of the eight that came, four took at most that
    assert 0.39 < pace.p99 <= 0.4


def test_nothing_happened():
    figures = told(10, {"a": of(5, 5, 0, 0)})
    found = interval(figures, replace(figures, numbers={**figures.numbers, "counted": 11}))
    assert found.procedures["a"] == Pace(0.0, 0.0, None, None)
    assert (found.of_all.calls, found.of_all.errors) == (0.0, 0.0)


def test_a_procedure_that_is_new():
    found = interval(told(10, {}), told(12, {"a": of(0, 4, 0, 0)}))
    assert found.procedures["a"].calls == 2.0


@pytest.mark.parametrize(
    "before",
    [
        None,
        told(10, {"a": of(1, 0, 0, 0)}, pid=8),
        told(13, {"a": of(1, 0, 0, 0)}),
        told(10, {"a": of(1, 0, 0, 0)}, uptime=500),
        told(10, {"a": of(9, 9, 9, 9)}),
        told(12, {"a": of(1, 0, 0, 0)}),
        replace(told(10, {"a": of(1, 0, 0, 0)}), bounds=[0.1, 0.2, 0.3]),
    ],
)
def test_a_new_beginning(before):
    """Another process, or numbers that have fallen: nothing is known, and nothing is negative."""
    found = interval(before, told(12, {"a": of(5, 0, 0, 0)}))
    assert found.of_all == UNKNOWN
    assert found.procedures == {"a": UNKNOWN}


def test_one_procedure_that_counts_backwards():
    procedures = {"a": of(0, 3, 0, 0), "b": of(5, 0, 0, 0)}
    before = told(10, {"a": of(2, 0, 0, 0), "b": of(1, 0, 0, 0)}, {"answered": 1})
    found = interval(before, told(12, procedures, {"answered": 9}))
    assert found.procedures["a"] == UNKNOWN
    assert found.procedures["b"].calls == 2.0


def test_counts_that_do_not_go_with_the_bounds():
    found = interval(told(10, {"a": of(calls=1)}), told(12, {"a": of(calls=5)}))
    assert found.procedures["a"] == Pace(2.0, 0.0, None, None)


@pytest.mark.parametrize("most", [1.7e308, 1e300, 2.0**64, 2**64, 10**400, 2**64 - 1, -1.0, True])
def test_numbers_that_are_too_large_to_be_added_up(most):
    """A server may say anything; what cannot be is left out."""
    outcomes = {f"outcome{n}": most for n in range(20)}
    about = {"calls": most, "errors": most, "outcomes": outcomes, "counts": [most] * 4}

    def answer(counted):
        told = {"status": "ok", "counted": counted, "pid": most, "calls": outcomes}
        told |= {"bounds": BOUNDS, "procedures": {"a": {**about, "seconds": most}}}
        return figures(Reply(value for pair in told.items() for value in pair))

    before, after = answer(1.0), answer(1.001)
    before.calls.clear()
    before.procedures.clear()
    board = Dashboard("tcp://x", after, interval(before, after))
    assert all(len(line) < 100 for line in [*board.lines(), *board.screen(99, 20)])
    assert [*prometheus_lines(after)]


# On a screen


def board(count=3, **options):
    names = [f"procedure_{number}" for number in range(count)]
    before = told(10, {name: of(0, 0, 0, 0) for name in names})
    procedures = {
        name: of(number, number, count - number, 0, errors=count - number)
        for number, name in enumerate(names)
    }
    after = told(12, procedures)
    return Dashboard("tcp://127.0.0.1:7007", after, interval(before, after), **options)


@pytest.mark.parametrize("count", [0, 3, 40])
@pytest.mark.parametrize("trouble", ["", "not connected: Connection refused"])
def test_it_fits(count, trouble):
    shown = board(count, trouble=trouble)
    for columns in (1, 5, 12, 20, 33, 50, 79, 200):
        for rows in (1, 2, 6, 7, 8, 9, 24, 100):
            lines = shown.screen(columns, rows)
            assert len(lines) == rows
            assert max(map(width, lines)) <= columns


def test_a_thousand_procedures():
    lines = board(1000).screen(100, 24)
    assert lines[6].split()[0] == "procedure"
    assert lines[7].split()[0] == "procedure_999"  # the busiest first
    assert lines[-2] == "... and 985 more"
    assert len(board(1000).screen(100, 2000)) == 2000
    assert len(list(board(1000).lines())) == 1007  # on paper, all of them


@pytest.mark.parametrize(
    ("order", "first"),
    [("c", "procedure_2"), ("e", "procedure_0"), ("p", "procedure_0"), ("n", "procedure_0")],
)
def test_the_order(order, first):
    lines = board(order=order).screen(100, 24)
    assert lines[7].split()[0] == first
    assert lines[-1].endswith(f"now {ORDERS[order][0]}")


def test_what_is_wrong_stands_first_above_what_was_known():
    lines = board(trouble="not connected: gone").screen(100, 24)
    assert lines[0] == "tcp://127.0.0.1:7007: not connected: gone"
    assert lines[1].startswith("clients")
    assert list(board(trouble="gone").lines()) == ["tcp://127.0.0.1:7007: gone"]
    assert board(trouble="not connected: gone").screen(30, 24)[0] == "not connected: gone"
    assert Dashboard("tcp://x:1").screen(30, 3)[0] == "tcp://x:1: ..."


def test_a_narrow_screen_leaves_out_columns_from_the_right():
    def head(columns):
        return board().screen(columns, 24)[6].split()

    assert len(head(100)) == 7
    assert head(50) == ["procedure", "calls/s", "p50", "p99", "errors/s"]
    assert head(22) == ["procedure", "calls/s"]


def test_colours_take_no_room():
    plain = board(trouble="x").screen(60, 24)
    coloured = board(trouble="x").screen(60, 24, Colours(True))
    assert coloured[0] == f"\x1b[31m{plain[0]}\x1b[0m"
    assert [line for line in coloured if "\x1b" not in line] == [*plain[1:6], *plain[7:]]


@given(st.text(max_size=60), st.text(max_size=60), st.integers(1, 60))
def test_names_write_nothing_on_the_terminal(name, reason, columns):
    names = {name: of(0, 1, 0, 0)}
    shown = Dashboard("tcp://x:1", told(1, names), interval(None, told(1, names)))
    lines = shown.screen(columns, 24, note=reason)
    shown.trouble = reason
    lines += [*shown.screen(columns, 24), *shown.lines()]
    assert all(line.isprintable() for line in lines)


def test_wide_names_are_lined_up():
    rows = [("name", "x"), ("日本語日本語日本語", "1"), ("a", "22")]
    assert [width(line) for line in column_lines(rows, 20)] == [20, 20, 20]
    first, second, third = column_lines(rows, 10)
    assert (first, third) == ("name     x", "a       22")
    assert width(second) == 10


def test_numbers():
    assert [seconds(each) for each in (None, 0.00012, 3.14159, 250.4, 1e300)] == [
        *("-", "0.12 ms", "3.14 s", "250 s", "1e+300 s")
    ]
    assert [rate(each) for each in (None, 0.0, 1234.56, 1e300)] == ["-", "0.0", "1234.6", "1e+300"]
