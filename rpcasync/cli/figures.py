"""What `stats` of a server answers with, as far as it is what it should be.

It comes from somebody else, and may be anything: what is no number where one should be is left out,
and so is a procedure whose counts do not go with the bounds. This file prints nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from rpcasync.calls import Reply
from rpcasync.errors import RPCError
from rpcasync.wire.messages import as_text

__all__ = ["Figures", "OfProcedure", "figures"]

_MOST_PROCEDURES = 1001
_MOST_BOUNDS = 100
_MOST_OUTCOMES = 20
_MOST = 2**64  # of anything: so much is nowhere, and what is more may be no float when added up


@dataclass(slots=True)
class OfProcedure:
    """Those of one procedure."""

    calls: int
    errors: int
    p50: float | None
    p99: float | None
    seconds: float
    outcomes: dict[str, int]
    counts: list[int]
    """By how long calls ran; empty if they do not go with the bounds."""


@dataclass(slots=True)
class Figures:
    """Those of a server."""

    status: str
    numbers: dict[str, float]
    """By name, as `Server.stats()` has them."""
    calls: dict[str, int]
    """By outcome."""
    bounds: list[float]
    procedures: dict[str, OfProcedure] = field(default_factory=dict)


def figures(reply: Reply) -> Figures:
    """Read an answer.

    Raises:
        RPCError: it is the answer to something else.
    """
    values = [as_text(value) for value in reply]
    if len(values) % 2 or not all(isinstance(name, str) for name in values[::2]):
        raise RPCError("stats: the server answered something else than its stats")
    told = _texts(dict(zip(values[::2], values[1::2], strict=True)))
    status, procedures = told.get("status"), told.get("procedures")
    if not isinstance(status, str) or not isinstance(procedures, dict):
        raise RPCError("stats: the server answered something else than its stats")
    numbers = {name: found for name in told if (found := _number(told[name])) is not None}
    bounds = _bounds(told.get("bounds"))
    shown = Figures(status, numbers, _counts(told.get("calls")), bounds)
    for name, about in list(_texts(procedures).items())[:_MOST_PROCEDURES]:
        if isinstance(about, dict):
            shown.procedures[name] = _of_procedure(_texts(about), len(bounds))
    return shown


def _of_procedure(about: Mapping[str, object], bounds: int) -> OfProcedure:
    counts = about.get("counts")
    numbers = [_whole(count) for count in counts] if isinstance(counts, list) else []
    if not bounds or len(numbers) != bounds + 1 or None in numbers:
        numbers = []
    return OfProcedure(
        calls=_whole(about.get("calls")) or 0,
        errors=_whole(about.get("errors")) or 0,
        p50=_number(about.get("p50")),
        p99=_number(about.get("p99")),
        seconds=_number(about.get("seconds")) or 0.0,
        outcomes=_counts(about.get("outcomes")),
        counts=[number for number in numbers if number is not None],
    )


def _counts(value: object) -> dict[str, int]:
    found = _texts(value).items()
    counts = ((name, _whole(count)) for name, count in list(found)[:_MOST_OUTCOMES])
    return {name: count for name, count in counts if count is not None}


def _bounds(value: object) -> list[float]:
    found = [_number(each) for each in value[:_MOST_BOUNDS]] if isinstance(value, list) else []
    bounds = [each for each in found if each is not None]
    rises = all(low < high for low, high in pairwise(bounds))
    return bounds if rises and len(bounds) == len(found) else []


def _texts(value: object) -> dict[str, object]:
    """Return a hash with its names as text; an empty one for anything else."""
    items = value.items() if isinstance(value, dict) else ()
    named = ((as_text(name), as_text(part)) for name, part in items)
    return {name: part for name, part in named if isinstance(name, str)}


def _number(value: object) -> float | None:
    """Return a number that is at least 0, and can be added up; None for anything else."""
    if type(value) is not int and type(value) is not float:
        return None
    return value if 0 <= value < _MOST else None


def _whole(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number == int(number) else None
