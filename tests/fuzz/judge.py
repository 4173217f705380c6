"""One input at a time: what escaped, how long it took, and how much memory.

Time is processor time, so that a machine that is busy with other things shows no ghosts. What is
measured is one `read()`, without a look at properties; one that looks like the slowest yet is
repeated three times, and the least counts. It is given for each KB of the input, an input below
one KB counting as one: what every input costs says nothing about any.

Memory is the peak of tracemalloc for each byte of the input, over the peak of an empty one; below
one KB as above. That is measured for each fiftieth input, for the slow ones, and for those from
64 KB on: it takes several times as long.
"""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
import time
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from fuzz.targets import Target

__all__ = ["Escape", "Figures", "Hang", "Judge", "shortened"]

_ROOT = Path(__file__).parents[2]
_OURS = (str(_ROOT / "eventmux"), str(_ROOT / "rpcasync"))
_KB = 1024
_EACH = 50
_LARGE = 64 * _KB
_MOST_SEEDS = 2000


class Hang(BaseException):
    """An input took too long. Not an Exception: whoever deals with those must not take it."""


@dataclass(slots=True)
class Escape:
    """Something that must not happen."""

    what: str
    """The exception, and where it came from: the same for all inputs that show the same fault."""
    data: bytes
    text: str


@dataclass(slots=True)
class Worst:
    """The largest figure, and the input that had it."""

    value: float = 0.0
    data: bytes = b""

    def take(self, value: float, data: bytes) -> None:
        """Keep the larger one."""
        if value > self.value:
            self.value, self.data = value, data


@dataclass(slots=True)
class Figures:
    """What was seen of a target."""

    inputs: int = 0
    size: int = 0
    seconds: float = 0.0
    time: Worst = field(default_factory=Worst)  # seconds for each KB
    memory: Worst = field(default_factory=Worst)  # bytes for each byte
    outcomes: Counter[str] = field(default_factory=Counter)
    escapes: Counter[str] = field(default_factory=Counter)
    shown: list[Escape] = field(default_factory=list)  # the first one of each kind

    def add(self, other: Figures) -> None:
        """Add what was seen elsewhere of the same target."""
        self.inputs += other.inputs
        self.size += other.size
        self.seconds += other.seconds
        self.time.take(other.time.value, other.time.data)
        self.memory.take(other.memory.value, other.memory.data)
        self.outcomes += other.outcomes
        self.shown += [each for each in other.shown if each.what not in self.escapes]
        self.escapes += other.escapes


class Judge:
    """Gives inputs to a target, and keeps the figures.

    Args:
        target: what to give them to.
        patience: seconds of processor time that an input may take.
    """

    def __init__(self, target: Target, patience: float = 10.0) -> None:
        self.target = target
        self.figures = Figures()
        self._patience = patience
        self._reads = type(target).read is not Target.read  # else it is the same as run()
        self._unraisable: list[Any] = []
        self._least_peak = 0
        self._least_peak = self._peak(b"")

    def __enter__(self) -> Judge:
        """Look at what happens in finalizers, too, and at the time."""
        self._old_hook, sys.unraisablehook = sys.unraisablehook, self._unraisable.append
        self._old_handler = signal.signal(signal.SIGPROF, _out_of_time)
        return self

    def __exit__(self, *exception: object) -> None:
        """Put everything back."""
        signal.signal(signal.SIGPROF, self._old_handler)
        sys.unraisablehook = self._old_hook

    def look(self, data: bytes) -> Escape | None:
        """Run an input; return what escaped."""
        figures = self.figures
        outcome, seconds, escape = self._timed(self.target.run, data)
        figures.inputs += 1
        figures.size += self.target.size(data)
        figures.seconds += seconds
        if escape is None:
            escape = self._measure(data, seconds)
        if escape is not None:
            figures.escapes[escape.what] += 1
            if figures.escapes[escape.what] == 1:
                figures.shown.append(escape)
            return escape
        if outcome not in figures.outcomes and len(self.target.seeds) < _MOST_SEEDS:
            self.target.seeds.append(data)
        figures.outcomes[str(outcome)] += 1
        return None

    def _measure(self, data: bytes, seconds: float) -> Escape | None:
        figures, size = self.figures, max(self.target.size(data), _KB)
        runs: list[tuple[object, float, Escape | None]] = [("", seconds, None)]
        if self._reads:
            runs = [self._timed(self.target.read, data)]
        is_slow = runs[0][1] * _KB / size > figures.time.value
        if is_slow:
            runs += [self._timed(self.target.read, data) for _ in range(3)]
        for _, _, escape in runs:
            if escape is not None:
                return escape
        figures.time.take(min(seconds for _, seconds, _ in runs) * _KB / size, data)
        if is_slow or size >= _LARGE or figures.inputs % _EACH == 0:
            figures.memory.take((self._peak(data) - self._least_peak) / size, data)
        return None

    def _timed(
        self, run: Callable[[bytes], object], data: bytes
    ) -> tuple[object, float, Escape | None]:
        """Return what it returned, the seconds, and what escaped."""
        outcome: object = ""
        found: BaseException | None = None
        escape = None
        # Of the thread: while the timer runs, the clock of the process goes on by whole ticks.
        start = time.thread_time()
        signal.setitimer(signal.ITIMER_PROF, self._patience)
        try:
            outcome = run(data)
        except (Exception, Hang) as error:  # noqa: BLE001  # that is what we look for
            found = error
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        seconds = time.thread_time() - start
        if found is not None:
            with contextlib.suppress(Exception):
                self.target.close()
            self.target.begin()  # what the next inputs meet is not what this one left
            escape = Escape(_where(found), data, "".join(traceback.format_exception(found)))
        if self._unraisable:
            first = self._unraisable[0]
            lines = traceback.format_exception(first.exc_type, first.exc_value, first.exc_traceback)
            escape = Escape(f"in a finalizer: {_where(first.exc_value)}", data, "".join(lines))
            self._unraisable.clear()
        return outcome, seconds, escape

    def _peak(self, data: bytes) -> int:
        """Return how much memory an input takes at most."""
        gc.collect()
        tracemalloc.start()
        try:
            self.target.read(data)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def shrink(self, escape: Escape, tries: int = 300) -> None:
        """Leave parts of the input out as long as it shows the same."""
        width = max(1, len(escape.data) // 2)
        while width and tries > 0:
            at = 0
            while at < len(escape.data) and tries > 0:
                tries -= 1
                shorter = escape.data[:at] + escape.data[at + width :]
                found = self._timed(self.target.run, shorter)[2]
                if found is not None and found.what == escape.what:
                    escape.data, escape.text = shorter, found.text
                else:
                    at += width
            width //= 2


def _out_of_time(_number: int, _frame: FrameType | None) -> None:
    raise Hang("an input took too long")


def _where(error: BaseException) -> str:
    """Name a fault by the exception and the innermost line of the packages."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(_OURS)]
    place = ""
    for frame in (ours or frames)[-1:]:
        place = f" at {frame.filename.rpartition('/')[2]}:{frame.lineno}"
    what = str(error).split(":")[0][:60] if isinstance(error, AssertionError) else ""
    return f"{type(error).__name__}{place}" + (f", {what}" if what else "")


def shortened(data: bytes, most: int = 120) -> str:
    """Return an input as text that fits in a line."""
    text = repr(data[:most])
    return text if len(data) <= most else f"{text}... ({len(data):,} bytes)"
