"""The numbers of a server in words and columns, for people: what `stats` and `top` have in common.

Names come from a server: each is on its line, cut, and does nothing to a terminal. This file prints
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rpcasync.cli.figures import Figures
from rpcasync.cli.output import on_one_line
from rpcasync.cli.screen import cut, width

__all__ = ["column_lines", "rate", "seconds", "short", "status_line", "summary_lines"]

_LONGEST = 40  # columns of what a server may name as it likes
_NAME = 12  # columns that names have at least, if there are others to be left out


def status_line(found: Figures) -> str:
    """Return how the server is, by its own account."""
    pid = f", process {found.numbers['pid']:.0f}" if "pid" in found.numbers else ""
    return f"{short(found.status)}, up {seconds(found.numbers.get('uptime'))}{pid}"


def summary_lines(found: Figures) -> Iterator[str]:
    """Give the lines about its clients, its queues and its loop."""
    numbers = found.numbers
    yield (
        f"clients {_whole(numbers, 'clients')}, accepted {_whole(numbers, 'accepted')},"
        f" refused {_whole(numbers, 'refused')}"
    )
    yield (
        f"calls running {_whole(numbers, 'running')}, waiting {_whole(numbers, 'waiting')};"
        f" bytes queued {_whole(numbers, 'queued')}"
    )
    yield f"loop late {seconds(numbers.get('lag'))}, at most {seconds(numbers.get('most_lag'))}"


def column_lines(rows: Iterable[tuple[str, ...]], columns: int | None = None) -> Iterator[str]:
    """Give a line for each row: the first column is flush left, the others are flush right.

    Args:
        rows: of equal length, the first of which has the headings.
        columns: what a line may take. Columns are left out from the right until the names have some
            room, and then names are cut. None is any.
    """
    rows = list(rows)
    wide = [max(map(width, column)) for column in zip(*rows, strict=True)]
    if columns is not None:
        while len(wide) > 2 and min(wide[0], _NAME) + _taken(wide) > columns:
            wide.pop()
        wide[0] = max(min(wide[0], columns - _taken(wide)), 1)
    for name, *cells in rows:
        shown = cut(name, wide[0])
        padded = [cell.rjust(size) for cell, size in zip(cells, wide[1:], strict=False)]
        yield "  ".join([shown + " " * (wide[0] - width(shown)), *padded])


def _taken(wide: list[int]) -> int:
    """Return how many columns stand behind the names."""
    return sum(wide[1:]) + 2 * (len(wide) - 1)


def short(text: str) -> str:
    """Return a name that can be printed beside others."""
    return cut(on_one_line(text), _LONGEST)


def seconds(value: float | None) -> str:
    """Return a time as people read it; a dash if it is not known."""
    if value is None:
        return "-"
    if value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.0f} s" if 100 <= value < 1e9 else f"{value:.3g} s"


def rate(value: float | None) -> str:
    """Return how many in a second; a dash if it is not known."""
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 1e9 else f"{value:.3g}"


def _whole(numbers: dict[str, float], name: str) -> str:
    return f"{numbers[name]:.20g}" if name in numbers else "-"
