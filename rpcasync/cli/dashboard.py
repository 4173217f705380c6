"""What `rpcasync top` shows: the lines of one screen, or of one table on paper.

    tcp://127.0.0.1:7007: ok, up 312 s, process 4711
    clients 20, accepted 31, refused 0
    calls running 2, waiting 0; bytes queued 0
    loop late 0.2 ms, at most 4.1 ms
    1204.5 calls/s, 0.5 errors/s

    procedure  calls/s      p50      p99  errors/s    calls  errors
    add         1100.0  0.02 ms  0.09 ms       0.0   345120       0
    find         104.5  1.30 ms  9.80 ms       0.5    31987      12

This file asks nobody, and prints nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rpcasync.cli.figures import Figures
from rpcasync.cli.intervals import Interval, Pace
from rpcasync.cli.output import harmless
from rpcasync.cli.screen import PLAIN, Colours, cut, width
from rpcasync.cli.summary import column_lines, rate, seconds, short, status_line, summary_lines

__all__ = ["ORDERS", "Dashboard"]

_HEAD = ("procedure", "calls/s", "p50", "p99", "errors/s", "calls", "errors")

ORDERS: dict[str, tuple[str, Callable[[Pace], float | None]]] = {
    "c": ("calls/s", lambda pace: pace.calls),
    "e": ("errors/s", lambda pace: pace.errors),
    "p": ("p99", lambda pace: pace.p99),
    "n": ("name", lambda _: None),
}
"""What procedures are sorted by, the greatest first, for each key."""
_KEYS = ", ".join(f"{key} {about}" for key, (about, _) in ORDERS.items())


@dataclass(slots=True)
class Dashboard:
    """What is known of a server."""

    url: str
    found: Figures | None = None
    """What it has told of last."""
    latest: Interval | None = None
    trouble: str = ""
    """Why it does not tell; empty if it does."""
    order: str = "c"
    """One of `ORDERS`."""

    def lines(self) -> Iterator[str]:
        """Give all that there is to say."""
        if self.trouble or self.found is None or self.latest is None:
            yield self._first()
            return
        yield from self._above()
        yield from column_lines([_HEAD, *self._rows()])

    def screen(
        self, columns: int, rows: int, colours: Colours = PLAIN, note: str = ""
    ) -> list[str]:
        """Return what fits on a screen. What was known last is shown with what is wrong.

        Args:
            columns: that a line may take.
            rows: lines that there may be.
            colours: for headings, and for what is wrong.
            note: shown in the place of the keys.
        """
        above = [cut(line, columns) for line in self._above()]
        if self.trouble and width(self._first()) > columns:
            above[0] = cut(harmless(self.trouble), columns)
        if self.trouble or (self.found is not None and self.found.status != "ok"):
            above[0] = colours.error(above[0])
        below = f"q quit; sort by {_KEYS}: now {ORDERS[self.order][0]}"
        shown = self._table(columns, rows - len(above) - 1, colours)
        return [*above, *shown, cut(harmless(note) or below, columns)][-rows:]

    def _table(self, columns: int, rows: int, colours: Colours) -> list[str]:
        """Return the lines of the procedures, and blank ones up to the end of the screen."""
        if rows < 1:
            return []
        procedures = list(self._rows())
        left = len(procedures) + 1 - rows
        cells = procedures[: rows - 2] if left > 0 else procedures
        heading, *lines = column_lines([_HEAD, *cells], columns)
        lines = [cut(line, columns) for line in lines]
        if left > 0:
            lines.append(cut(f"... and {len(procedures) - len(cells)} more", columns))
        shown = [colours.heading(cut(heading, columns)), *lines][:rows]
        return shown + [""] * (rows - len(shown))

    def _first(self) -> str:
        about = self.trouble or ("..." if self.found is None else status_line(self.found))
        return harmless(f"{self.url}: {about}")

    def _above(self) -> Iterator[str]:
        yield self._first()
        if self.found is not None and self.latest is not None:
            yield from summary_lines(self.found)
            of_all = self.latest.of_all
            yield f"{rate(of_all.calls)} calls/s, {rate(of_all.errors)} errors/s"
            yield ""

    def _rows(self) -> Iterator[tuple[str, ...]]:
        if self.found is None or self.latest is None:
            return
        paces, key = self.latest.procedures, ORDERS[self.order][1]

        def place(name: str) -> tuple[float, str]:
            value = key(paces[name])
            return (-value if value is not None else 1.0), name

        for name in sorted(paces, key=place):
            pace, about = paces[name], self.found.procedures[name]
            times = seconds(pace.p50), seconds(pace.p99)
            rates = rate(pace.calls), *times, rate(pace.errors)
            yield (short(name), *rates, str(about.calls), str(about.errors))
