"""What is shown while a call runs: that it is waited for, and what the server calls `@` with.

Each call of such a callback is a line on stdout. One that tells how much is done, of how much,
draws a bar in the status line of the terminal instead, if there is one:

    progress [==========>          ]  52 %  52000 of 100000

The values are names and values, `done` and `total` alone, or two numbers.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from eventmux import EventMux, Watch
from eventmux.events import Event, Timer
from rpcasync._log import log
from rpcasync.calls import Reply
from rpcasync.cli.output import harmless, print_lines, say, status
from rpcasync.cli.rendering import call_line, is_numeric
from rpcasync.cli.screen import columns_of, cut, width

__all__ = ["Callbacks", "Waiting", "bar", "done_of_total", "waiting"]

_BEAT = 1.0  # seconds between two looks at the clock
_REDRAWN = 0.1  # seconds for which a bar stays as it is: a server may tell of each byte
_LONGEST_BAR = 40


class Callbacks:
    """Shows what the server calls the callbacks of the command line with.

    Args:
        as_json: each call is a line of JSON, and there are no bars: for programs.
        on_stderr: lines go there, as stdout is for a value.
    """

    def __init__(self, *, as_json: bool = False, on_stderr: bool = False) -> None:
        self._as_json = as_json
        self._on_stderr = on_stderr
        self._next_bar = 0.0

    def show(self, name: str, values: Sequence[object]) -> None:
        """Show one call.

        Raises:
            CommandFailed: nobody reads stdout.
        """
        found = None if self._as_json or not status.is_possible() else done_of_total(values)
        if found is not None:
            self._draw(name, *found)
        elif self._on_stderr:
            say(call_line(name, values), prefix="")
        else:
            print_lines([call_line(name, values, as_json=self._as_json)])

    def _draw(self, name: str, done: float, total: float) -> None:
        now = time.monotonic()
        if now >= self._next_bar or done >= total or not status.text:
            self._next_bar = now + _REDRAWN
            status.show(bar(name, done, total, columns_of(sys.stderr) or 0))


def done_of_total(values: Sequence[object]) -> tuple[float, float] | None:
    """Return how much is done, and of how much, if that is what the values tell."""
    try:
        pairs = Reply(values).pairs()
    except ValueError:
        found = list(values)
    else:
        found = [pairs["done"], pairs["total"]] if pairs.keys() == {"done", "total"} else []
    numbers = [number for value in found if (number := _number(value)) is not None]
    if len(numbers) != 2 or len(found) != 2:
        return None
    done, total = numbers
    return (done, total) if 0 <= done <= total and total > 0 else None


def _number(value: object) -> float | None:
    """Return a number that is no larger than a float; Perl sends some as text."""
    if isinstance(value, str) and is_numeric(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if abs(value) < 1e15 and math.isfinite(value) else None


def bar(name: str, done: float, total: float, columns: int) -> str:
    """Return a bar that fits into so many columns."""
    end = f"] {int(100 * done / total):3} %  {done:.15g} of {total:.15g}"
    start = f"{cut(harmless(name), max(columns // 4, 10))} ["
    room = min(columns - 1 - width(start) - len(end), _LONGEST_BAR)
    if room < 3:
        return f"{start[:-2]}{end[1:]}"
    filled = int(room * done / total)
    head = ">" if filled < room else ""
    return f"{start}{'=' * filled}{head}{' ' * (room - filled - len(head))}{end}"


class Waiting:
    """Shows in the status line for how long something has been waited for, from a second on.

    A bar stays where there is one. `take()` has the events of the mux meanwhile.
    """

    def __init__(self, mux: EventMux[Event], what: str) -> None:
        self._clock = mux.clock
        self._what = what
        self._started = self._clock()
        self._shown = ""
        self._watch: Watch | None = None
        if status.is_possible():
            self._watch = mux.timer(_BEAT, self, repeat=True)
            log.addFilter(_erase)

    def take(self, event: Event | None) -> None:
        """Take an event if it is ours."""
        if isinstance(event, Timer) and event.data is self and status.text in ("", self._shown):
            seconds = int(self._clock() - self._started)
            self._shown = f"rpcasync: {self._what} ... {seconds} s"
            status.show(self._shown)

    def stop(self) -> None:
        """Look at the clock no more: the mux is not to wait for it alone."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def end(self) -> None:
        """Erase what is shown, a bar as well."""
        self.stop()
        log.removeFilter(_erase)
        status.clear()


def _erase(_: logging.LogRecord) -> bool:
    """Have a line of the log begin at the left."""
    status.clear()
    return True


@contextmanager
def waiting(mux: EventMux[Event], what: str) -> Iterator[Waiting]:
    """Give what shows that something is waited for, until the block ends."""
    shown = Waiting(mux, what)
    try:
        yield shown
    finally:
        shown.end()
