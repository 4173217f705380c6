"""Whether two plain values are the same to a Perl program: `eq`, or `==` where both are numbers.

What is a number here is what programs print as one. Perl's `==` takes more: `"007" == 7` and
`"3\\n" == 3` are true. But a text like these was written as text, whoever prints it sees the
difference, and it is what a port loses first. So such a text is only equal to itself.

    3, "3", 3.0, "3.50" and 3.5     as numbers, to the 15 digits that Perl prints
    True and 1, False and 0 or ""   as what Perl has for true and false
    undef                           is equal to nothing else
    b"caf\\xe9" and "caf\\xe9"        bytes are the characters below 256

This file knows no containers.
"""

from __future__ import annotations

import math
import re

from rpcasync.wire.messages import as_text

__all__ = ["PLAIN", "is_number", "scalar_kind"]

PLAIN = (str, int, float, bytes, type(None))
"""The types of plain values; bool is an int."""

_LONGEST = 400  # characters of a number: a longer text is text
_NUMBER = re.compile(
    r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]{1,5})?"
    r"|-?(?:inf(?:inity)?|nan)",
    re.IGNORECASE | re.ASCII,
)
_WHOLE = re.compile("-?[0-9]+", re.ASCII)
_TOLERANCE = 1e-15  # of what differs by less, some digit beyond the 15th is another


def scalar_kind(old: object, new: object) -> str | None:
    """Return in which way two plain values differ, None if they are equal.

    Returns:
        "undef" if one of them is None; "false" for Perl's two forms of it, `""` and 0, which print
        differently; else "value".
    """
    old, new = as_text(old), as_text(new)
    if type(old) is type(new) and old == new:
        return None
    if old is None or new is None:
        return "undef"
    if old is False or new is False:
        other = new if old is False else old
        return None if other == "" or _number(other) == 0 else "value"
    one, other = _number(old), _number(new)
    if one is not None and other is not None:
        return None if _same_number(one, other) else "value"
    return "false" if (one == 0 and new == "") or (other == 0 and old == "") else "value"


def is_number(text: str) -> bool:
    """Return whether a text is a number."""
    return len(text) <= _LONGEST and _NUMBER.fullmatch(text) is not None


def _number(value: object) -> int | float | None:
    """Return a number, or the one that a text is; None for all other text."""
    if isinstance(value, (int, float)):
        return value + 0  # a bool is one, too
    if not isinstance(value, str) or not is_number(value):
        return None
    return int(value) if _WHOLE.fullmatch(value) else float(value)


def _same_number(one: int | float, other: int | float) -> bool:
    if type(one) is type(other) is int or one == other:
        return one == other
    one, other = _as_float(one), _as_float(other)
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return f"{one:.15g}" == f"{other:.15g}" or math.isclose(one, other, rel_tol=_TOLERANCE)


def _as_float(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:  # as Perl has it
        return math.inf if number > 0 else -math.inf
