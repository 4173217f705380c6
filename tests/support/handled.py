"""Exceptions that stay behind as being handled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def forgetting(function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Call a function; what it leaves as being handled is forgotten when it returns.

    What a trace function raises in the first line of an `except` block leaves the block in a way
    that Python does not see: to the thread the exception of the block is then being handled for
    ever. It would come with each later one as its context, and keep alive all that its traceback
    refers to. A generator has its own note of what is being handled, which goes with it.
    """
    return next(_generator(function, *args, **named))


def _generator(function: Callable[P, T], *args: P.args, **named: P.kwargs) -> Iterator[T]:
    yield function(*args, **named)
