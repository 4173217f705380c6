"""Ctrl-C at any line of rpcasync: coarser than `interrupts.py`, and so quick enough for a server.

An exception is raised at the n-th line that runs in the package, or at the n-th run of one line.
The latter needs no other line looked at, which makes it several times as quick.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeAlias

from support.handled import forgetting

import rpcasync

_PACKAGE = str(Path(rpcasync.__file__).parent)
_TRIES = 10  # a line may not run at all in a play where the machine was busy
NEVER = sys.maxsize


@dataclass(frozen=True)
class Run:
    """One of the runs of a line.

    Args:
        code: that of the function.
        line: its number in the file.
        number: the how many of its runs it is, from 1 on.
    """

    code: CodeType
    line: int
    number: int

    def __str__(self) -> str:
        name = Path(self.code.co_filename).name
        return f"{name}:{self.line} {self.code.co_name}"


At: TypeAlias = int | Run
Route: TypeAlias = tuple[tuple[CodeType, int], ...]


class Interrupter:
    """Raises an exception once, at the n-th line that runs in `with` blocks.

    Args:
        at: which line, from 1 on, or which run of one.
        kind: what to raise.
        places: the files and folders whose lines count.
    """

    def __init__(
        self,
        at: At,
        kind: type[BaseException] = KeyboardInterrupt,
        places: tuple[str, ...] = (_PACKAGE,),
    ) -> None:
        self._run = at if isinstance(at, Run) else None
        self._at = at.number if isinstance(at, Run) else at
        self._kind = kind
        self._places = places
        self.lines = 0  # that have run; of one line, how often it has
        self.place = ""  # where it was, for a test that fails
        self.seen: dict[Route, tuple[Run, Run]] = {}
        """If it is never to fire: the first and the last run of each line, by where it is run."""
        self._times: Counter[tuple[CodeType, int]] = Counter()  # how often each line has run

    def counts(self, frame: FrameType) -> bool:
        """True if the line is one where the exception may be raised."""
        return not is_finalizing(frame)

    @property
    def has_fired(self) -> bool:
        return self.lines >= self._at

    def __enter__(self) -> Interrupter:
        if not self.has_fired:
            sys.settrace(self._enter)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        if self._run is not None:
            return self._note if frame.f_code is self._run.code else None
        return self._note if frame.f_code.co_filename.startswith(self._places) else None

    def _note(self, frame: FrameType, event: str, argument: Any) -> Any:
        is_wanted = self._run is None or frame.f_lineno == self._run.line
        if event == "line" and is_wanted and self.counts(frame):
            self.lines += 1
            if self._at == NEVER:
                self._see(frame)
            if self.has_fired:
                sys.settrace(None)
                self.place = str(Run(frame.f_code, frame.f_lineno, 1))
                raise self._kind
        return self._note

    def _see(self, frame: FrameType) -> None:
        code, line = frame.f_code, frame.f_lineno
        self._times[code, line] += 1
        run = Run(code, line, self._times[code, line])
        route = _route_to(frame)
        first, _ = self.seen.get(route, (run, run))
        self.seen[route] = first, run


def _route_to(frame: FrameType) -> Route:
    """Return a line, what has called its function, and so on up to who has called the package."""
    route: list[tuple[CodeType, int]] = []
    caller: FrameType | None = frame
    while caller is not None and caller.f_code.co_filename.startswith(_PACKAGE):
        route.append((caller.f_code, caller.f_lineno))
        caller = caller.f_back
    return tuple(route)


def at_each_line(play: Callable[[At], Interrupter], *, first: bool = True) -> int:
    """Play a scene again and again, with an interrupt where each line runs first and last.

    If a line runs by several routes, by one function and by another, it is where it runs first and
    last by each. Runs between these differ in little: before the first nothing was done, and
    after the last nothing comes that would mend what is amiss.

    Args:
        play: plays the scene with an interrupter of what it is called with, and returns that.
        first: False leaves out where each line runs first.

    Returns:
        the number of interrupts: each has come.
    """
    ends = play(NEVER).seen.values()
    runs = dict.fromkeys(run for pair in ends for run in pair[not first :])
    for run in runs:
        interrupter = forgetting(play, run)
        tries = 1
        while not interrupter.has_fired:  # the line ran less often than in the first play
            assert tries < _TRIES, f"{run} ran only once"
            tries += 1
            interrupter = forgetting(play, Run(run.code, run.line, interrupter.lines or 1))
    return len(runs)


def is_finalizing(frame: FrameType | None) -> bool:
    """Python drops what a finalizer raises: that is no place for Ctrl-C to come out of."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
