"""One flat list of values to the parameters of a function: the signature decides how.

Positional-only parameters and `*args` take the list as it comes; any other parameter, or
`**args`, takes the rest of it as pairs of name and value. The data never decides.

    def f(*parts)                  any list
    def f(x, y, /)                 two values
    def f(n1, n2=0, **more)        pairs
    def f(level, /, **fields)      one value, then pairs
    def f(first, *rest)            one value or more: before *rest a name has no use

A `Signature` is read once and used for each call. Values are converted as annotations say.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence, Set
from inspect import Parameter
from types import FunctionType, MethodType
from typing import Any, cast

from rpcasync._log import log, shorten
from rpcasync.arguments.conversions import conversion_for, converted
from rpcasync.arguments.shortcuts import Arguments, Bind, Conversions, any_names, names_in_order
from rpcasync.errors import ArgumentError
from rpcasync.wire.messages import as_text

__all__ = ["Signature"]

_LISTED = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_VARIABLE = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


class Signature:
    """How a function takes its values.

    `listed` are the parameters that take them in order and `named` those that take pairs, each
    with its annotation; `rest` is the `*args` or `**args` for what is left, None if there is
    neither. Defaults are not kept: a callback's may be what its program wants to let go of.

    Args:
        function: any callable. One that has no signature to read, as some written in C, takes
            the list as it comes.
        leading: how many parameters at the front are not for values, such as the caller.

    Raises:
        ArgumentError: the function cannot be called with any list.
    """

    def __init__(self, function: Callable[..., object], leading: int = 0) -> None:
        parameters = _parameters(function)
        taken = _leading_names(parameters, leading)
        # If `*args` takes what leads, it takes the values too.
        values = parameters[leading:] if len(taken) == leading else parameters
        listed, named, variable = _by_what_they_take(values)

        self.rest = next(iter(variable), None)  # *args comes first
        self.takes_rest = any(p.kind is Parameter.VAR_POSITIONAL for p in variable)
        self.takes_any_name = any(p.kind is Parameter.VAR_KEYWORD for p in variable)
        self.takes_pairs = not self.takes_rest and (bool(named) or self.takes_any_name)
        self._convert_any = None if self.rest is None else conversion_for(self.rest)

        self.listed = {parameter.name: parameter.annotation for parameter in listed}
        self._positional = tuple(self.listed)
        self._positional_converters = tuple(map(conversion_for, listed))
        self._least = len(_without_default(listed))

        self.named = {parameter.name: parameter.annotation for parameter in named}
        self.names = frozenset(self.named)
        self._conversions = _conversions(named)
        self._required = frozenset(_without_default(named))
        self._blocked = frozenset(filter(None, taken))  # pairs of these names would clash
        self._needs_error = "error" in self._required
        if self.takes_rest and self._required:
            raise ArgumentError(f"takes a list, but requires {_sorted(self._required)} by name")

        self._by_place, can_be_placed = _placing(function, parameters)
        self._can_all_be_placed = can_be_placed and all(
            parameter.kind is Parameter.POSITIONAL_OR_KEYWORD for parameter in named
        )

    def with_short_cuts(self) -> Signature:
        """Be quick with the lists that come most often; return the signature itself.

        It pays for a signature that is kept. One that is not would need the garbage collector,
        because its short cut refers to it.
        """
        short_cut = self._short_cut()
        if short_cut is not None:
            self.bind = short_cut  # type: ignore[method-assign, assignment]
        if not self._needs_error:
            self.bind_result = self.bind  # type: ignore[method-assign]
        return self

    def _short_cut(self) -> Bind | None:
        if self.listed or not self.takes_pairs:
            return None
        if not self.takes_any_name:
            if not self._can_all_be_placed:
                return None
            return names_in_order(tuple(self.named), self._conversions, self.bind)
        is_plain = not (self.named or self._convert_any or self._blocked)
        return any_names(self.bind) if is_plain else None

    def bind(self, values: Sequence[object]) -> Arguments:
        """Return the positional and the named arguments for a list of values.

        Raises:
            ArgumentError: the list does not fit; the message names the parameter.
        """
        if not self.takes_pairs:
            return self._bind_list(values), {}
        count = len(self._positional)
        args = self._bind_list(values[:count]) if count else ()
        pairs = self._bind_pairs(values[count:])
        return self._put_in_place(args, pairs) if self._by_place else (args, pairs)

    def _put_in_place(self, args: Sequence[object], pairs: dict[str, Any]) -> Arguments:
        """Pass by position what can be: a wrapper of `*args` alone takes no names."""
        placed = list(args)
        for name in self.named:
            if name not in pairs:
                break
            placed.append(pairs.pop(name))
        return placed, pairs

    def _bind_list(self, values: Sequence[object]) -> Sequence[object]:
        names = self._positional
        if len(values) < self._least:
            raise ArgumentError(f"{names[len(values)]} is missing")
        if len(values) > len(names) and not self.takes_rest:
            raise ArgumentError(f"too many values: {len(values)}, at most {len(names)}")
        if not self._convert_any and not any(self._positional_converters):
            return values
        bound = list(values)
        for index, convert in enumerate(self._positional_converters[: len(bound)]):
            if convert is not None:
                bound[index] = converted(convert, names[index], bound[index])
        if self._convert_any is not None and self.takes_rest:
            for index in range(len(names), len(bound)):
                bound[index] = converted(self._convert_any, f"value {index + 1}", bound[index])
        return bound

    def _bind_pairs(self, values: Sequence[object]) -> dict[str, Any]:
        if len(values) & 1:
            raise ArgumentError(f"takes names and values, got an odd number of them: {len(values)}")
        pairs = dict(zip(_as_names(values[::2]), values[1::2], strict=True))
        if pairs.keys() != self.names:
            self._check_names(pairs)
        for name, (kind, convert) in self._conversions.items():
            if name in pairs:
                value = pairs[name]
                if type(value) is not kind:
                    pairs[name] = converted(convert, name, value)
        if self._convert_any is not None:
            for name in pairs.keys() - self.names:
                pairs[name] = converted(self._convert_any, name, pairs[name])
        return pairs

    def _check_names(self, pairs: dict[str, Any]) -> None:
        """Accept pairs that do not name each parameter, and no other.

        Raises:
            ArgumentError: they may not.
        """
        if not self.takes_any_name and not pairs.keys() <= self.names:
            raise ArgumentError(f"unknown name {shorten(min(pairs.keys() - self.names))}")
        missing = self._required - pairs.keys()
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            raise ArgumentError(f"{_sorted(missing)} {verb} missing")
        if not self._blocked.isdisjoint(pairs):
            raise ArgumentError(f"{_sorted(self._blocked & pairs.keys())} cannot be given by name")

    # What must be given, for messages

    @property
    def least(self) -> int:
        """How many of `listed` are required: the first ones."""
        return self._least

    @property
    def required(self) -> frozenset[str]:
        """Which of `named` are required."""
        return self._required

    def fits_names(self, names: Set[str]) -> bool:
        """True if these are all that is required, and nothing is unknown."""
        return self._required <= names and (self.takes_any_name or names <= self.names)

    # For reply callbacks, which may have a parameter `error` beside those for the values

    @property
    def takes_error(self) -> bool:
        """True if an error can be given to the function by the name `error`."""
        return self.takes_any_name or "error" in self.names

    def bind_result(self, values: Sequence[object]) -> Arguments:
        """Bind as `bind()` does, with None for an `error` parameter that has no default.

        Raises:
            ArgumentError: the list does not fit; the message names the parameter.
        """
        if not self._needs_error:
            return self.bind(values)
        names = values[len(self._positional) :: 2]
        return self.bind(values if "error" in names else [*values, "error", None])

    def bind_error(self, error: Exception) -> Arguments:
        """Return the arguments that hand an error over; None where a value is required."""
        named: dict[str, Any] = dict.fromkeys(self._required)
        named["error"] = error
        return (None,) * self._least, named


def _parameters(function: Callable[..., object]) -> list[Parameter]:
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # builtins without a text signature
        return [Parameter("values", Parameter.VAR_POSITIONAL)]
    try:
        signature = inspect.signature(function, eval_str=True)
    except Exception as error:  # noqa: BLE001  # an annotation may be any expression
        log.warning("annotations of %r are not used: %s", function, error)
    return list(signature.parameters.values())


def _leading_names(parameters: list[Parameter], leading: int) -> list[str]:
    """Return the names that the leading arguments take, "" for positional-only ones.

    Raises:
        ArgumentError: there are too few parameters.
    """
    names: list[str] = []
    for parameter in parameters[:leading]:
        if parameter.kind is Parameter.VAR_POSITIONAL:
            return names
        if parameter.kind not in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD):
            break
        named = parameter.kind is Parameter.POSITIONAL_OR_KEYWORD
        names.append(parameter.name if named else "")
    if len(names) < leading:
        raise ArgumentError("takes no caller as its first parameter")
    return names


def _by_what_they_take(
    parameters: list[Parameter],
) -> tuple[list[Parameter], list[Parameter], list[Parameter]]:
    """Return the parameters for values in order, for pairs, and for all that is left."""
    variable = [p for p in parameters if p.kind in _VARIABLE]
    has_rest = any(p.kind is Parameter.VAR_POSITIONAL for p in variable)
    listed_kinds = _LISTED if has_rest else (Parameter.POSITIONAL_ONLY,)
    listed = [p for p in parameters if p.kind in listed_kinds]
    named = [p for p in parameters if p.kind in _NAMED and p.kind not in listed_kinds]
    return listed, named, variable


def _without_default(parameters: list[Parameter]) -> list[str]:
    return [parameter.name for parameter in parameters if parameter.default is Parameter.empty]


def _conversions(parameters: list[Parameter]) -> Conversions:
    return {
        parameter.name: (parameter.annotation, convert)
        for parameter in parameters
        if (convert := conversion_for(parameter)) is not None
    }


def _placing(function: Callable[..., object], parameters: list[Parameter]) -> tuple[bool, bool]:
    """Return whether what has a name must be passed by position, and whether it can be.

    It is a question only of a function that a decorator has made: it has the parameters of
    another, and takes them as `*args`, as `**args`, or as both.
    """
    own = _own_kinds(function, parameters)
    if own is None:
        return False, True
    must = own.intersection(_VARIABLE) == {Parameter.VAR_POSITIONAL}
    return must, must


def _own_kinds(function: Callable[..., object], parameters: list[Parameter]) -> set[object] | None:
    """Return the kinds of parameters that a decorated function really has; None for others."""
    if hasattr(function, "__signature__"):
        return set()  # it need not be like the parameters of the function in any way
    if type(function) in (FunctionType, MethodType) and not hasattr(function, "__wrapped__"):
        return None
    try:
        own = inspect.signature(function, follow_wrapped=False).parameters.values()
    except (ValueError, TypeError):  # builtins without a text signature
        return None
    is_same = [p.name for p in own] == [p.name for p in parameters]
    return None if is_same else {parameter.kind for parameter in own}


def _as_names(names: Sequence[object]) -> Sequence[str]:
    """Perl's keys are text: a number that stands for one becomes text.

    A name comes from a stranger, so nothing is ever keyed by one that is not text. The hash of a
    number is known: a few thousand that are chosen to collide would take seconds to put in a dict.

    Raises:
        ArgumentError: something else stands for a name.
    """
    texts: Any = names
    try:
        "".join(texts)
    except TypeError:
        texts = [_as_name(name) for name in names]
    return cast("Sequence[str]", texts)


def _as_name(name: object) -> str:
    text = as_text(name)
    if not isinstance(text, (str, int)):
        raise ArgumentError(f"takes names and values, got {type(name).__name__} for a name")
    return str(text)


def _sorted(names: frozenset[str] | set[str]) -> str:
    return ", ".join(sorted(names))
