"""What became of the calls that were asked of two servers, counted by procedure.

All of it is bounded: a peer says what differs, and how often. What is kept of a difference is one
example, shortened.

This file knows no server and no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from rpcasync.comparing.differences import Difference

__all__ = ["MOST_PLACES", "MOST_PROCEDURES", "Book", "Tally"]

MOST_PROCEDURES = 1000
"""Those beyond are counted together."""
MOST_PLACES = 20
"""Differences of one procedure of which an example is kept; others are counted by kind alone."""
_MOST_TIMES = 256  # of the last calls of a procedure
_ELSEWHERE = "..."  # the place of all others


class Tally:
    """What is known of one procedure."""

    __slots__ = (
        *("_differences", "_new_times", "_old_times"),
        *("calls", "different", "equal", "skipped", "unanswered"),
    )

    def __init__(self) -> None:
        self.calls = 0  # all that came
        self.equal = 0
        self.different = 0
        self.skipped = 0  # of those to be compared, those that were not asked of both
        self.unanswered = 0  # and those that one of the two did not answer
        self._differences: dict[tuple[str, str], tuple[int, Difference]] = {}
        self._old_times: deque[float] = deque(maxlen=_MOST_TIMES)
        self._new_times: deque[float] = deque(maxlen=_MOST_TIMES)

    def note(
        self, found: Iterable[Difference], old_time: float, new_time: float
    ) -> list[Difference]:
        """Count a call that both have answered.

        Args:
            found: where the answers differ.
            old_time: seconds that the old server took.
            new_time: those of the new one.

        Returns:
            The differences of which there were none of that kind at that place before.
        """
        self._old_times.append(old_time)
        self._new_times.append(new_time)
        news, seen = [], set()
        for difference in found:
            key = difference.kind, difference.place
            if key not in self._differences and len(self._differences) >= MOST_PLACES:
                key = difference.kind, _ELSEWHERE
            if key in seen:  # of a list, all elements may differ
                continue
            seen.add(key)
            count, first = self._differences.get(key, (0, difference))
            self._differences[key] = count + 1, first
            if not count:
                news.append(difference)
        if seen:
            self.different += 1
        else:
            self.equal += 1
        return news

    def report(self) -> dict[str, object]:
        """Return all of it, in the types that JSON has."""
        return {
            "calls": self.calls,
            "equal": self.equal,
            "different": self.different,
            "skipped": self.skipped,
            "unanswered": self.unanswered,
            "old_ms": _in_ms(self._old_times),
            "new_ms": _in_ms(self._new_times),
            "differences": [
                {
                    "kind": kind,
                    "place": place,
                    "calls": count,
                    "path": first.path,
                    "old": first.old,
                    "new": first.new,
                }
                for (kind, place), (count, first) in self._differences.items()
            ],
        }


def _in_ms(times: Iterable[float]) -> float | None:
    """Return the median, in milliseconds; None if there are none."""
    found = sorted(times)
    return round(found[len(found) // 2] * 1000, 3) if found else None


class Book:
    """What is known of all procedures.

    Args:
        old: the name of the old server.
        answer: which of the two answers the clients, "old" or "new".
        sample: which part of the calls is compared, 0 to 1.
        left_out: names of procedures that are not.
    """

    def __init__(self, old: str, answer: str, sample: float, left_out: list[str]) -> None:
        self.old = old
        self.answer = answer
        self.sample = sample
        self.left_out = left_out
        self.is_there = True  # the old server, as far as is known
        self.tallies: dict[str, Tally] = {}

    def tally(self, procedure: str) -> Tally:
        """Return what is known of a procedure: one that the server has, which may have any."""
        tally = self.tallies.get(procedure)
        if tally is None:
            if len(self.tallies) >= MOST_PROCEDURES:
                procedure = _ELSEWHERE
            tally = self.tallies.setdefault(procedure, Tally())
        return tally

    def report(self) -> dict[str, object]:
        """Return all of it, in the types that JSON has."""
        return {
            "old": self.old,
            "answer": self.answer,
            "sample": self.sample,
            "left_out": self.left_out,
            "is_there": self.is_there,
            "procedures": {name: self.tallies[name].report() for name in sorted(self.tallies)},
        }
