"""What a difference is, where it is, and how its two values are shown.

The values came from strangers, and may be huge: what is shown of one fits on a line.

This file compares nothing.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass

from rpcasync._log import shorten
from rpcasync.storable import Blessed, ScalarRef
from rpcasync.wire.messages import as_text

__all__ = ["BEHIND", "KINDS", "Difference", "Step", "render", "show"]

KINDS = {
    "value": "two texts or numbers that are not equal",
    "false": "one is 0 and the other an empty text: both are false in Perl, and print differently",
    "undef": "one of them is undef, or None",
    "type": "one is a list, say, and the other a hash or a text",
    "class": "they are of different Perl classes, or one of them is of none",
    "length": "two lists of different lengths",
    "missing": "the new answer has no such name, or key",
    "extra": "the old answer has no such name, or key",
    "error": "one is an answer, the other an error",
    "text": "both are errors, with different texts",
    "unfinished": "too much to compare: what follows was not looked at",
}
"""The kinds of differences, and what they mean. The words stay as they are."""

_LONGEST = 200  # characters of a place
_MOST_BITS = 200  # of a number that is shown

BEHIND = -1
"""A place that is no place: what a reference refers to is where the reference is."""

Step = tuple["Step | None", "int | str"]
"""Where a value stands: in what, and at which place in it. Most are never shown."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between an old and a new answer.

    `path` says where, as a Perl program would write it: `sum`, `hosts[3]{name}`, or nothing for the
    answer itself. `kind` is one of `KINDS`. `old` and `new` show the two values, shortened; empty
    where there is none.
    """

    path: str
    kind: str
    old: str
    new: str

    def __str__(self) -> str:
        """Tell it on one line."""
        where = f"{self.path}: " if self.path else ""
        return f"{where}{self.kind}: old {self.old or 'none'}, new {self.new or 'none'}"

    @property
    def place(self) -> str:
        """The path without the numbers in it: what the elements of a list have in common."""
        head, *rest = self.path.split("[")
        return head + "".join(f"[{part.lstrip('0123456789')}" for part in rest)


def render(step: Step | None) -> str:
    """Return a path as text; the middle of a very long one is left out."""
    parts = []
    while step is not None:
        step, part = step
        if isinstance(part, int):
            parts.append("" if part == BEHIND else f"[{part}]")
        else:  # the names of the answer itself stand in nothing
            parts.append(shorten(part) if step is None else f"{{{shorten(part)}}}")
    text = "".join(reversed(parts))
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}...{text[-half:]}"


def show(value: object) -> str:
    """Return what a value is, on one line: a text in quotes, a number, or what it has how many of.

    It is shortened, and nothing in it moves a cursor.
    """
    value = as_text(value)
    if isinstance(value, str):
        return f'"{shorten(value)}"'
    if value is None:
        return "undef"
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return _counted("list", value)
    if isinstance(value, dict):
        return _counted("hash", value)
    if isinstance(value, ScalarRef):
        return "reference to a scalar"
    if isinstance(value, Blessed):
        return f"object of {shorten(value.class_name)}"
    return type(value).__name__


def _counted(name: str, values: Sized) -> str:
    return f"{name} of {len(values)}"
