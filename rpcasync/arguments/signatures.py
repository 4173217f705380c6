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
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from inspect import Parameter
from types import BuiltinMethodType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

from rpcasync._log import log, shorten
from rpcasync.arguments.conversions import Conversion, conversion
from rpcasync.errors import ArgumentError
from rpcasync.wire.messages import as_text

__all__ = ["Signature", "signature_of"]

Arguments = tuple[Sequence[object], dict[str, Any]]
Bind = Callable[[Sequence[object]], Arguments]

_LISTED = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_NO_NAMES: dict[str, Any] = {}
_MAX_KNOWN = 1024
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
        values = parameters[leading:] if len(taken) == leading else parameters
        kinds = [parameter.kind for parameter in values]
        self.takes_rest = Parameter.VAR_POSITIONAL in kinds
        self.takes_any_name = Parameter.VAR_KEYWORD in kinds
        listed_kinds = _LISTED if self.takes_rest else (Parameter.POSITIONAL_ONLY,)
        listed = [p for p in values if p.kind in listed_kinds]
        named = [p for p in values if p.kind in _NAMED and p.kind not in listed_kinds]
        self.listed = {parameter.name: parameter.annotation for parameter in listed}
        self.named = {parameter.name: parameter.annotation for parameter in named}
        self.rest = next((p for p in values if p.kind in _VARIABLE), None)  # *args comes first
        self.takes_pairs = not self.takes_rest and (bool(named) or self.takes_any_name)

        self.names = frozenset(self.named)
        self._required = frozenset(p.name for p in named if p.default is Parameter.empty)
        self._positional = tuple(self.listed)
        self._least = sum(p.default is Parameter.empty for p in listed)
        # A pair of such a name would clash with the caller.
        self._blocked = frozenset(filter(None, taken))
        self._positional_converters = tuple(map(_converter, listed))
        self._convert_any = None if self.rest is None else _converter(self.rest)
        # With the type whose values may stay as they are: most of them do.
        self._conversions = [
            (parameter.name, parameter.annotation, convert)
            for parameter in named
            if (convert := _converter(parameter)) is not None
        ]
        self._takes_names_alone = self.takes_any_name and not (
            self.takes_rest or named or listed or self._convert_any or self._blocked
        )
        self._needs_error = "error" in self._required
        if self.takes_rest and self._required:
            raise ArgumentError(f"takes a list, but requires {_sorted(self._required)} by name")

        # What a decorator has made of it takes these in its own way: by name, if it can.
        own = _own_kinds(function, parameters)
        variable = () if own is None else own.intersection(_VARIABLE)
        self._by_place = variable == {Parameter.VAR_POSITIONAL}
        self._is_plain = (
            self.takes_pairs
            and not (listed or self.takes_any_name)
            and all(p.kind is Parameter.POSITIONAL_OR_KEYWORD for p in named)
            and (own is None or self._by_place)
        )

    def compile(self) -> Signature:
        """Make code for what comes in the usual order; return the signature itself.

        It pays for a signature that is kept.
        """
        if self._is_plain:
            short_cut = _short_cut(tuple(self.named), self._conversions, self._bind)
            self.bind = short_cut  # type: ignore[method-assign, assignment]
        if not self._needs_error:
            self.bind_result = self.bind  # type: ignore[method-assign]
        return self

    def bind(self, values: Sequence[object]) -> Arguments:
        """Return the positional and the named arguments for a list of values.

        Raises:
            ArgumentError: the list does not fit; the message names the parameter.
        """
        return self._bind(values)

    def _bind(self, values: Sequence[object]) -> Arguments:
        if self._takes_names_alone and len(values) % 2 == 0:
            each: Any = iter(values)
            try:
                pairs = dict(zip(each, each, strict=False))
                "".join(pairs)
            except TypeError:
                pass  # a name that is no text, or cannot be one: see below
            else:
                return (), pairs
        if self.takes_pairs:
            count = len(self._positional)
            args = self._bind_list(values[:count]) if count else ()
            pairs = self._bind_pairs(values[count:])
            return self._put_in_place(args, pairs) if self._by_place else (args, pairs)
        return self._bind_list(values), {}

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
                bound[index] = _convert(convert, names[index], bound[index])
        if self._convert_any is not None and self.takes_rest:
            for index in range(len(names), len(bound)):
                bound[index] = _convert(self._convert_any, f"value {index + 1}", bound[index])
        return bound

    def _bind_pairs(self, values: Sequence[object]) -> dict[str, Any]:
        if len(values) & 1:
            raise ArgumentError(f"takes names and values, got an odd number of them: {len(values)}")
        try:
            pairs: dict[Any, Any] = dict(zip(values[::2], values[1::2], strict=True))
        except TypeError:  # a list or dict stands for a name
            pairs = {}
        if pairs.keys() != self.names:
            pairs = self._check_names(values)
        for name, kind, convert in self._conversions:
            if name in pairs:
                value = pairs[name]
                if type(value) is not kind:
                    pairs[name] = _convert(convert, name, value)
        if self._convert_any is not None:
            for name in pairs.keys() - self.names:
                pairs[name] = _convert(self._convert_any, name, pairs[name])
        return pairs

    def _check_names(self, values: Sequence[object]) -> dict[str, Any]:
        """Return the pairs, which are not just those of all parameters, if they fit all the same.

        Raises:
            ArgumentError: they do not.
        """
        pairs = dict(zip(_as_names(values[::2]), values[1::2], strict=True))
        if not self.takes_any_name and not pairs.keys() <= self.names:
            raise ArgumentError(f"unknown name {shorten(min(pairs.keys() - self.names))}")
        if not self._required <= pairs.keys():
            raise ArgumentError(f"{_sorted(self._required - pairs.keys())} is missing")
        if not self._blocked.isdisjoint(pairs):
            raise ArgumentError(f"{_sorted(self._blocked & pairs.keys())} cannot be given by name")
        return pairs

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


# Most peers give all names in the order of the parameters. Then there is nothing to look up, and
# the comparisons are written out once for a signature, as `dataclasses` does with its methods.


def _short_cut(
    names: tuple[str, ...],
    conversions: Iterable[tuple[str, object, Conversion]],
    otherwise: Bind,
) -> Bind:
    """Return a `bind()` for plain names, which leaves all that is out of the ordinary to another.

    For `n: int` and `text` it is

        def bind(values):
            if len(values) == 4:
                n0, v0, n1, v1 = values
                if n0 == "n" and n1 == "text":
                    if type(v0) is not k0:
                        v0 = convert(c0, "n", v0)
                    return (v0, v1), no_names
            return otherwise(values)
    """
    places: dict[str, Any] = {
        "__name__": __name__,
        "convert": _convert,
        "no_names": _NO_NAMES,
        "otherwise": otherwise,
    }
    converted = []
    for name, kind, convert in conversions:
        index = names.index(name)
        converted.append(index)
        places[f"k{index}"], places[f"c{index}"] = kind, convert
    exec(_code_of_bind(names, tuple(converted)), places)  # noqa: S102  # all of it is ours
    bind: Bind = places["bind"]
    return bind


@lru_cache(maxsize=_MAX_KNOWN)
def _code_of_bind(names: tuple[str, ...], converted: tuple[int, ...]) -> CodeType:
    order = range(len(names))
    lines = [
        "def bind(values):",
        f"    if len(values) == {2 * len(names)}:",
        f"        {', '.join(f'n{index}, v{index}' for index in order)} = values",
        f"        if {' and '.join(f'n{index} == {names[index]!r}' for index in order)}:",
    ]
    for index in converted:
        lines.append(f"            if type(v{index}) is not k{index}:")
        lines.append(f"                v{index} = convert(c{index}, {names[index]!r}, v{index})")
    lines.append(f"            return ({''.join(f'v{index}, ' for index in order)}), no_names")
    lines.append("    return otherwise(values)")
    return compile("\n".join(lines), f"<bind {', '.join(names)}>", "exec")


# Programs make callbacks by the thousand from one lambda, `def` or method, and to read a signature
# takes longer than a call does. So they are known by the code that they share; with what has to
# live on for the key to be its own, and with what else a signature depends on.


_Known = dict[int, tuple[object, Signature]]  # by id of the code, with the code itself
_by_code: _Known = {}  # of plain functions
_by_method: _Known = {}  # of methods
_by_kind: dict[tuple[type, str], Signature] = {}  # of functions in C, as list.append of some list
# Of those with annotations or defaults; with the annotations, and the globals of those in text.
_special: dict[tuple[object, ...], tuple[object, Signature, dict[str, object], object]] = {}


def signature_of(function: Callable[..., object]) -> Signature:
    """Return the signature of a callback, and keep it."""
    known, plain = _by_code, function
    if type(function) is MethodType:
        known, plain = _by_method, function.__func__
    if type(plain) is FunctionType and not plain.__dict__:  # else a decorator may have had its say
        if plain.__annotations__ or plain.__defaults__ or plain.__kwdefaults__:
            return _of_special(function, plain)
        code = plain.__code__
        found = known.get(id(code))
        if found is None:
            found = code, Signature(function).compile()
            _keep(known, id(code), found)
        return found[1]
    return _of_method_in_c(function) if type(function) is BuiltinMethodType else Signature(function)


def _of_special(function: Callable[..., object], plain: FunctionType) -> Signature:
    """Of defaults it matters whether they are None, as `n: int = None` is `n: int | None`."""
    annotations, code = plain.__annotations__, plain.__code__
    by_name = plain.__kwdefaults__ or {}
    key = (
        id(code),
        plain is function,
        *[default is None for default in plain.__defaults__ or ()],
        *[(name, default is None) for name, default in by_name.items()],
    )
    # Text means the same each time, in one place: a signature is read once.
    is_text = any(type(annotation) is str for annotation in annotations.values())
    names = plain.__globals__ if is_text else None
    if key in _special:
        _, signature, noted, known_names = _special[key]
        try:
            is_known = annotations == noted and names is known_names
        except Exception:  # noqa: BLE001  # an annotation may be anything, as an array
            is_known = False
        if is_known:
            return signature
    signature = Signature(function).compile()
    _keep(_special, key, (code, signature, dict(annotations), names))
    return signature


def _of_method_in_c(function: BuiltinMethodType) -> Signature:
    owner = function.__self__
    if owner is None or isinstance(owner, (ModuleType, type)):  # it belongs to that one alone
        return Signature(function)
    key = type(owner), function.__name__
    if key not in _by_kind:
        _keep(_by_kind, key, Signature(function).compile())
    return _by_kind[key]


K = TypeVar("K")
V = TypeVar("V")


def _keep(known: dict[K, V], key: K, entry: V) -> None:
    if len(known) >= _MAX_KNOWN:
        known.clear()
    known[key] = entry


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


def _own_kinds(function: Callable[..., object], parameters: list[Parameter]) -> set[object] | None:
    """Return the kinds of parameters that a decorated function really has; None for others."""
    if hasattr(function, "__signature__"):
        return set()  # it says what it likes
    if type(function) in (FunctionType, MethodType) and not hasattr(function, "__wrapped__"):
        return None
    try:
        own = inspect.signature(function, follow_wrapped=False).parameters.values()
    except (ValueError, TypeError):  # builtins without a text signature
        return None
    is_same = [p.name for p in own] == [p.name for p in parameters]
    return None if is_same else {parameter.kind for parameter in own}


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


def _converter(parameter: Parameter) -> Conversion | None:
    """Return what converts the values of a parameter, None if they stay as they are."""
    if parameter.annotation is Parameter.empty:
        return None
    convert = conversion(parameter.annotation)
    if convert is not None and parameter.default is None:
        return _or_none(convert)  # `n: int = None` has always meant int | None
    return convert


def _or_none(convert: Conversion) -> Conversion:
    return lambda value: None if value is None else convert(value)


def _convert(convert: Conversion, name: str, value: object) -> object:
    try:
        return convert(value)
    except ValueError as error:
        raise ArgumentError(f"{shorten(name)}: {error}") from None


def _as_names(names: Sequence[object]) -> list[str]:
    """Perl's keys are text: a number that stands for one becomes text.

    Raises:
        ArgumentError: something else stands for a name.
    """
    converted = []
    for name in names:
        text = as_text(name)
        if not isinstance(text, (str, int)):
            raise ArgumentError(f"takes names and values, got {type(name).__name__} for a name")
        converted.append(str(text))
    return converted


def _sorted(names: frozenset[str] | set[str]) -> str:
    return ", ".join(sorted(names))
