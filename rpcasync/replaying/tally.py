"""What came of the calls that were played: counted, and one difference of each kind.

This file knows nothing of connections, and does not say how it is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rpcasync.comparing.answers import compare
from rpcasync.comparing.differences import Difference
from rpcasync.recording.lines import CallLine, Invoked
from rpcasync.recording.redaction import Redaction
from rpcasync.wire.messages import failure_text

__all__ = ["Found", "Tally"]

_MOST_VALUES = 1_000_000  # of an answer: nobody else waits meanwhile


@dataclass(slots=True)
class Found:
    """Differences of one kind, of one procedure: how many calls have it, and the first."""

    count: int
    call: int
    example: Difference


@dataclass(slots=True)
class Tally:
    """What came of the calls.

    Args:
        compares: the values of answers count, and not only whether they are errors.

    `names` has all procedures that are in the recording. `failed` and `not_played` say why.
    `unanswered` are those that were never answered in the recording either. `gone` says why the
    server could not be asked for the rest.
    """

    compares: bool
    names: Counter[str] = field(default_factory=Counter)
    clients: int = 0
    played: int = 0
    answered: int = 0
    unanswered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    not_played: Counter[str] = field(default_factory=Counter)
    differences: dict[tuple[str, str], Found] = field(default_factory=dict)
    gone: str | None = None
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """True if every call that was played was answered as it had been."""
        return not self.failed and not self.differences and self.gone is None

    def answer(self, line: CallLine, values: list[object], redaction: Redaction) -> None:
        """Count the answer of a call, beside the one that was recorded."""
        self.answered += 1
        if line.ended not in ("answer", "error"):
            return
        if self.compares and line.answer is not None:
            found = self._compared(line.answer, redaction.apply(line.procedure, values))
        else:
            found = []
            is_error = failure_text(values) is not None
            if is_error != (line.ended == "error"):
                old, new = ("error" if each else "answer" for each in (not is_error, is_error))
                found = [Difference("", "error", old, new)]
        self._add(line, found)

    def callbacks(self, line: CallLine, heard: Sequence[Invoked], redaction: Redaction) -> None:
        """Count what the functions of a call were called with, beside what was recorded."""
        if not self.compares or "callbacks" in line.skipped:
            return
        old = [each for each in line.callbacks if each[1] is not None]
        found = []
        for number, (one, other) in enumerate(zip(old, heard, strict=False), 1):
            where = f"callback {number}"
            if one[0] != other[0]:
                which = (f"function {each[0]}" for each in (one, other))
                found.append(Difference(where, "value", *which))
                break
            values = redaction.apply(line.procedure, other[1] or [])
            for each in self._compared(one[1] or [], values):
                path = f"{where}: {each.path}" if each.path else where
                found.append(Difference(path, each.kind, each.old, each.new))
        if len(old) != len(heard):
            counts = (_called(len(each)) for each in (old, heard))
            found.append(Difference("callbacks", "length", *counts))
        self._add(line, found)

    @staticmethod
    def _compared(old: Sequence[object], new: Sequence[object]) -> list[Difference]:
        return compare(old, new, most_values=_MOST_VALUES)

    def one_more_callback(self, line: CallLine) -> None:
        """Count that a function was called once more, when `callbacks()` has been told of all."""
        if self.compares and "callbacks" not in line.skipped:
            count = sum(values is not None for _, values in line.callbacks)
            old, new = _called(count), "called more often"
            self._add(line, [Difference("callbacks", "length", old, new)])

    def _add(self, line: CallLine, differences: Sequence[Difference]) -> None:
        seen = set()
        for each in differences:
            if each.kind not in seen:
                seen.add(each.kind)
                key = line.procedure, each.kind
                found = self.differences.setdefault(key, Found(0, line.call, each))
                found.count += 1


def _called(count: int) -> str:
    return "called once" if count == 1 else f"called {count} times"
