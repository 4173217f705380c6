"""Which known name somebody has most likely meant.

Only a suggestion: nothing is ever done under the name that is found. The work is bounded, as the
names may be a stranger's.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

__all__ = ["did_you_mean", "nearest"]

_LONGEST = 64  # characters of a name; no mistyped one is longer
_MOST = 1000  # names that are looked at


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of some names that is most like this one; None if none is like it.

    Of the names the first 1000 count, and none that is longer than 64 characters.
    """
    if len(name) > _LONGEST:
        return None
    from difflib import get_close_matches  # only here: a program that is right never needs it

    known = [other for other in islice(names, _MOST) if len(other) <= _LONGEST]
    return next(iter(get_close_matches(name, known, n=1)), None)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return the question to put behind a message, with its semicolon; "" if none is like it."""
    found = nearest(name, names)
    return "" if found is None else f"; did you mean {found!r}?"
