"""The values of an answer as a type of Python: converted as those of a call are.

`conversions.py` has the rule for values; here is how a list of them becomes one.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from rpcasync.arguments.conversions import Conversion, conversion
from rpcasync.errors import ArgumentError

__all__ = ["answer_as"]


def answer_as(
    kind: object, values: Sequence[object], pairs: Callable[[], Mapping[str, object]]
) -> object:
    """Return the values of an answer, converted.

    Args:
        kind: a TypedDict, or `dict[str, X]`, for names and values; `list[X]` for all values in
            order; anything else is the type of the one value that there is.
        values: of the answer.
        pairs: gives them as names and values, or raises ValueError.

    Raises:
        ArgumentError: they are something else.
        TypeError: nothing is converted to that type.
    """
    convert = _conversion(kind)
    try:
        if typing.is_typeddict(kind) or kind is dict or typing.get_origin(kind) is dict:
            return convert(dict(pairs()))
        if kind is list or typing.get_origin(kind) is list:
            return convert(list(values))
        if len(values) != 1:
            raise ValueError(f"{len(values)} values, expected one")
        return convert(values[0])
    except ValueError as error:
        raise ArgumentError(f"the answer is not as expected: {error}") from None


@lru_cache(256)
def _conversion(kind: object) -> Conversion:
    found = conversion(kind)
    if found is None:
        raise TypeError(f"an answer cannot be converted to {kind!r}")
    return found
