"""Rounds, ratios and their spread.

On a machine that is shared with others, figures change by the minute: by much more than what is
to be seen. So all take turns, in rounds, each of which has an order of its own; there is a run of
the base before and after every few; and each run counts as its ratio to the mean of the two.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import mean, median

AGAIN = "again"
"""Stands for the base's last run in a round, over its first: both measure the same."""

_GROUP = 4  # runs between two of the base
_SEED = 1  # of the order, so that runs can be compared


@dataclass(slots=True)
class Spread:
    """Figures of several rounds."""

    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median."""
        return median(self.values)

    def __str__(self) -> str:
        """Show the median, and from where to where they go."""
        low, high = min(self.values), max(self.values)
        return f"{self.median:.2f} ({low:.2f}-{high:.2f})"


@dataclass(slots=True)
class Figures:
    """The runs of one peer: what was measured, and its ratio to the base, for each round."""

    values: dict[int, float] = field(default_factory=dict)
    ratios: dict[int, float] = field(default_factory=dict)

    def over(self, other: Figures) -> Spread:
        """Return how many times the other one it is, in each round that both have."""
        rounds = self.ratios.keys() & other.ratios.keys()
        return Spread([self.ratios[each] / other.ratios[each] for each in sorted(rounds)])

    @property
    def rate(self) -> float:
        """The median of what was measured."""
        return median(self.values.values())


Results = dict[tuple[str, str], Figures]
"""By peer and column."""

Measure = Callable[[str, str], float | None]
"""Measures a peer in a column; None if it failed."""


def run_rounds(
    rounds: int, columns: Sequence[str], peers: Sequence[str], base: str, measure: Measure
) -> Results:
    """Measure each peer in each column, in each round. A peer that fails is left out from then."""
    results: Results = {}
    failed: set[tuple[str, str]] = set()
    source = random.Random(_SEED)
    others = [peer for peer in peers if peer != base]
    for number in range(1, rounds + 1):
        for column in source.sample(columns, len(columns)):
            print(f"round {number} of {rounds}: {column}", file=sys.stderr)
            order = [
                peer for peer in source.sample(others, len(others)) if (peer, column) not in failed
            ]
            values, bases, last_over_first = _run(order, base, column, measure)
            _note(results, AGAIN, column, number, last_over_first, 1.0)
            for place, peer in enumerate(order):
                value = values[place]
                if value is None:
                    failed.add((peer, column))
                else:
                    _note(results, peer, column, number, value, bases[place])
            _note(results, base, column, number, mean(bases), mean(bases))
    return results


def _run(
    order: Sequence[str], base: str, column: str, measure: Measure
) -> tuple[list[float | None], list[float], float]:
    """Return what was measured, for each the base at that time, and how far that has moved."""
    values: list[float | None] = []
    bases: list[float] = []
    first = before = _sure(measure(base, column), base)
    for start in range(0, len(order), _GROUP):
        group = [measure(peer, column) for peer in order[start : start + _GROUP]]
        after = _sure(measure(base, column), base)
        values += group
        bases += [mean((before, after))] * len(group)
        before = after
    return values, bases or [first], before / first


def _sure(value: float | None, base: str) -> float:
    if value is None:
        sys.exit(f"the base {base} failed: there is nothing to compare with")
    return value


def _note(results: Results, peer: str, column: str, number: int, value: float, base: float) -> None:
    figures = results.setdefault((peer, column), Figures())
    figures.values[number] = value
    figures.ratios[number] = value / base
