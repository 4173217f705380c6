"""How results are shown: Markdown tables, on the screen and in docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

BEGIN = "<!-- run.py writes from here -->"
END = "<!-- to here -->"


@dataclass(slots=True)
class Table:
    """Rows under a head; the first column is text, the others are figures."""

    title: str
    head: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    note: str = ""

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [f"### {self.title}", ""]
        if self.note:
            lines += [self.note, ""]
        lines.append(_row(self.head))
        lines.append(_row(["---"] + ["---:"] * (len(self.head) - 1)))
        lines += map(_row, self.rows)
        return "\n".join(lines)


@dataclass(slots=True)
class Verdict:
    """A goal, and what became of it."""

    what: str
    column: str
    goal: str
    found: str
    is_met: bool


@dataclass(slots=True)
class Section:
    """What one part of the benchmark gives."""

    tables: list[Table] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)


def goals_table(verdicts: Iterable[Verdict]) -> Table:
    """Return the goals, those that were missed first: for whoever works on the packages."""
    every = sorted(verdicts, key=lambda verdict: verdict.is_met)
    missed = sum(not verdict.is_met for verdict in every)
    table = Table(
        f"Goals: {missed} missed, {len(every) - missed} met",
        ("against", "", "goal", "measured, median (min-max)", ""),
    )
    for verdict in every:
        word = "met" if verdict.is_met else "**missed**"
        row = (verdict.what, verdict.column, verdict.goal, verdict.found, word)
        table.rows.append(row)
    return table


def machine() -> str:
    """Return a line on where it was measured."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}"
    load = f"load {os.getloadavg()[0]:.1f}"
    return f"{date.today()}; {python}; {system}; {_processor()}, {os.cpu_count()} cores, {load}."


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown processor")


def write_between(path: Path, text: str, begin_mark: str = BEGIN) -> None:
    """Put the text between the markers of a file: the first of them, and the next `END`.

    Raises:
        ValueError: the markers are not there.
    """
    before, begin, rest = path.read_text().partition(begin_mark)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} has no markers: {begin_mark} and {END}")
    path.write_text(f"{before}{begin_mark}\n\n{text}\n\n{END}{after}")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
