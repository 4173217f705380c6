"""Which known name somebody has most likely meant.

Only a suggestion: nothing is ever done under the name that is found. The work is bounded, as the
names may be a stranger's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from itertools import islice
from typing import TypeVar, cast

__all__ = ["did_you_mean", "nearest", "no_option", "tells_options"]

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


def no_option(called: str, unknown: Iterable[str], known: Iterable[str]) -> str:
    """Return the message for options that there are not: what was called, and what is meant."""
    name = min(unknown)
    return f"{called}() has no option {name!r}{did_you_mean(name, known)}"


_Init = TypeVar("_Init", bound=Callable[..., None])


def tells_options(init: _Init) -> _Init:
    """Have the `__init__` of a class, or a method, say so when it is given an option it has not.

    Python's own message has no class that is derived, and names the nearest since 3.13 only. A
    class that stands for another, whose name programs know, has that as its `_called`.
    """
    code = init.__code__
    first = max(1, code.co_posonlyargcount)
    known = code.co_varnames[first : code.co_argcount + code.co_kwonlyargcount]

    @wraps(init)
    def checked(self: object, *args: object, **options: object) -> None:
        unknown = options.keys() - known
        if unknown:
            name = init.__name__
            kind = type(self)
            called = getattr(kind, "_called", kind.__name__) if name == "__init__" else name
            raise TypeError(no_option(called, unknown, known))
        init(self, *args, **options)

    return cast("_Init", checked)
