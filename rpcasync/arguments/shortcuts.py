"""Quicker ways to bind the lists that come most often, for signatures that are kept.

Most peers send all names in the order of the parameters, so their values can be passed by
position, and there is nothing to look up. A short cut tests whether it is so, and leaves any
other list to the rule. It gives what the rule gives, except that values go by position.

Code that is generated for each signature, as `dataclasses` does it, would save less than 1 % of
a call with up to two names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rpcasync.arguments.conversions import Conversion, converted

__all__ = ["Arguments", "Bind", "Conversions", "any_names", "names_in_order"]

Arguments = tuple[Sequence[object], dict[str, Any]]
Bind = Callable[[Sequence[object]], Arguments]
Conversions = dict[str, tuple[object, Conversion]]
"""By name of the parameter: what converts a value, and the type that a value may have to stay."""

_NO_NAMES: dict[str, Any] = {}
_STAYS = (None, None)


def names_in_order(names: Sequence[str], conversions: Conversions, otherwise: Bind) -> Bind:
    """Return a `bind()` for just these names in this order; any other list is for `otherwise`.

    One name and two have code of their own: by the way for many, a call takes 5 % longer.
    """
    if len(names) == 1:
        return _one_name(names[0], conversions, otherwise)
    if len(names) == 2:
        return _two_names(names[0], names[1], conversions, otherwise)
    return _many_names(list(names), conversions, otherwise)


def _one_name(name: str, conversions: Conversions, otherwise: Bind) -> Bind:
    def bind(values: Sequence[object]) -> Arguments:
        if len(values) == 2 and values[0] == name:
            return (values[1],), _NO_NAMES
        return otherwise(values)

    if name not in conversions:
        return bind
    kind, convert = conversions[name]

    def bind_converted(values: Sequence[object]) -> Arguments:
        if len(values) == 2 and values[0] == name:
            value = values[1]
            if type(value) is not kind:
                value = converted(convert, name, value)
            return (value,), _NO_NAMES
        return otherwise(values)

    return bind_converted


def _two_names(name1: str, name2: str, conversions: Conversions, otherwise: Bind) -> Bind:
    kind1, convert1 = conversions.get(name1, _STAYS)
    kind2, convert2 = conversions.get(name2, _STAYS)

    def bind(values: Sequence[object]) -> Arguments:
        if len(values) == 4:
            given1, value1, given2, value2 = values
            if given1 == name1 and given2 == name2:
                if type(value1) is not kind1 and convert1 is not None:
                    value1 = converted(convert1, name1, value1)
                if type(value2) is not kind2 and convert2 is not None:
                    value2 = converted(convert2, name2, value2)
                return (value1, value2), _NO_NAMES
        return otherwise(values)

    return bind


def _many_names(names: list[str], conversions: Conversions, otherwise: Bind) -> Bind:
    size = 2 * len(names)
    steps = [(names.index(name), name, *step) for name, step in conversions.items()]

    def bind(values: Sequence[object]) -> Arguments:
        if len(values) == size and values[::2] == names:
            args: Any = values[1::2]
            for index, name, kind, convert in steps:
                if type(args[index]) is not kind:
                    args[index] = converted(convert, name, args[index])
            return args, _NO_NAMES
        return otherwise(values)

    return bind


def any_names(otherwise: Bind) -> Bind:
    """Return a `bind()` for a function that takes `**args` alone and converts nothing."""

    def bind(values: Sequence[object]) -> Arguments:
        if len(values) % 2 == 0:
            names: Any = values[::2]
            try:
                "".join(names)  # fails if one is no text
            except TypeError:
                return otherwise(values)
            return (), dict(zip(names, values[1::2], strict=False))
        return otherwise(values)

    return bind
