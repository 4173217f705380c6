"""How long calls take: how many of them took how long, in steps that double.

The steps are fixed, so that counts of several servers, and of one at several times, can be added
up, as Prometheus does. A time is known to its step: what is read out of it is at most twice as
long as it was, and mostly much nearer. This file knows no calls, and no clock.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["BOUNDS", "quantile"]

BOUNDS = tuple(1e-5 * float(1 << step) for step in range(24))
"""Upper ends of the steps, in seconds: 10 us to 84 s. Behind the last is one more step."""


def quantile(counts: Sequence[int], part: float, bounds: Sequence[float] = BOUNDS) -> float | None:
    """Return how many seconds a part of the calls took at most; None if there are none.

    Args:
        counts: calls in each step, and behind the last.
        part: 0.5 for the median.
        bounds: the upper ends of the steps.
    """
    total = sum(counts)
    if not total:
        return None
    rank, before = part * total, 0
    for step, count in enumerate(counts[: len(bounds)]):
        if count and before + count >= rank:
            lower = bounds[step - 1] if step else 0.0
            return lower + (bounds[step] - lower) * (rank - before) / count
        before += count
    return bounds[-1]  # and more: how much is not known
