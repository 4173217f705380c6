"""What a server did between two looks at its numbers.

Its own clock says how long that was, so that an answer which came late changes nothing. Numbers
that have fallen are a new beginning, as is another process: a server was restarted, or another one
answers at the same address. Then nothing is known of the time between. This file prints nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rpcasync.cli.figures import Figures, OfProcedure
from rpcasync.serving.histogram import quantile

__all__ = ["Interval", "Pace", "interval"]

_SHORTEST = 0.001  # seconds: less says nothing
_NO_ERRORS = ("answered", "gone")


@dataclass(slots=True)
class Pace:
    """How one procedure did, or all of them; None is not known."""

    calls: float | None = None
    """Ended in a second."""
    errors: float | None = None
    """Of these, those that were not answered with values, but for clients that left."""
    p50: float | None = None
    """Seconds."""
    p99: float | None = None


@dataclass(slots=True)
class Interval:
    """How the server did."""

    of_all: Pace = field(default_factory=Pace)
    """Of calls that no procedure was called for, too."""
    procedures: dict[str, Pace] = field(default_factory=dict)
    """All that the server has told of last."""


def interval(before: Figures | None, after: Figures) -> Interval:
    """Return what happened between two answers; of what is not known, nothing."""
    if before is None or _has_begun_anew(before, after):
        return Interval(procedures={name: Pace() for name in after.procedures})
    seconds = after.numbers.get("counted", 0.0) - before.numbers.get("counted", 0.0)
    if seconds < _SHORTEST:
        return Interval(procedures={name: Pace() for name in after.procedures})
    calls = _ended(after.calls) - _ended(before.calls)
    errors = _failed(after.calls) - _failed(before.calls)
    found = Interval(Pace(calls / seconds, errors / seconds))
    for name, about in after.procedures.items():
        old = before.procedures.get(name)
        found.procedures[name] = _pace(old or _nothing(about), about, seconds, after.bounds)
    return found


def _has_begun_anew(before: Figures, after: Figures) -> bool:
    if before.numbers.get("pid") != after.numbers.get("pid") or before.bounds != after.bounds:
        return True
    for name in ("uptime", "counted"):
        if after.numbers.get(name, 0.0) < before.numbers.get(name, 0.0):
            return True
    return _has_fallen(before.calls, after.calls)


def _has_fallen(before: Mapping[str, int], after: Mapping[str, int]) -> bool:
    return any(after.get(name, 0) < count for name, count in before.items())


def _pace(before: OfProcedure, after: OfProcedure, seconds: float, bounds: list[float]) -> Pace:
    calls, errors = after.calls - before.calls, after.errors - before.errors
    counts: list[int] = []
    if len(before.counts) == len(after.counts):
        counts = [new - old for old, new in zip(before.counts, after.counts, strict=True)]
    if min([calls, errors, *counts]) < 0:  # it is no server of ours that counts so
        return Pace()
    return Pace(
        calls / seconds,
        errors / seconds,
        quantile(counts, 0.5, bounds),
        quantile(counts, 0.99, bounds),
    )


def _nothing(about: OfProcedure) -> OfProcedure:
    """Return what a procedure had done that the server did not tell of."""
    return OfProcedure(0, 0, None, None, 0.0, {}, [0] * len(about.counts))


def _ended(calls: Mapping[str, int]) -> int:
    return sum(calls.values())


def _failed(calls: Mapping[str, int]) -> int:
    return sum(count for name, count in calls.items() if name not in _NO_ERRORS)
