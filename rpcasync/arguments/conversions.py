"""Annotations to conversions: `n: int` turns the text "3" into the number 3.

Perl has one kind of scalar: what its program thinks of as a number may arrive as text, and the
other way round. A conversion takes a value of either form to the annotated type, and raises
ValueError for what has no such form. Text is read by Python's rules for ASCII digits, so
"0x10", "1_000" and "" are no numbers.

An annotation that is not listed below (Any, a class of the program's, ...) converts nothing.

    int  float  bool  str  bytes  None  X | Y  Optional[X]
    list  list[X]  dict  dict[str, X]
    TypedDict                              a dict with its names, and maybe others
    Coderef  Callable  Callable[[X], Y]    a callback that can be called; nothing becomes one
"""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Callable
from inspect import Parameter

from rpcasync._log import shorten
from rpcasync.coderefs import Coderef
from rpcasync.errors import ArgumentError

__all__ = ["Conversion", "conversion", "conversion_for", "converted"]

Conversion = Callable[[object], object]

_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,4000}\s*", re.ASCII)  # int() refuses more digits
_KEY_BITS = 64
_NUMBER = re.compile(  # unambiguous, so that no text takes more than linear time
    r"\s*[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf(?:inity)?|nan)\s*",
    re.ASCII | re.IGNORECASE,
)


def conversion(annotation: object) -> Conversion | None:
    """Return what converts a value to the annotated type, None if nothing is to be done."""
    plain = _PLAIN.get(annotation) if isinstance(annotation, (type, type(None))) else None
    if plain is not None:
        return plain
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _union(args)
    if origin is Callable or annotation is typing.Callable:
        return _to_callback
    if typing.is_typeddict(annotation):
        return _typed_dict(annotation)
    if origin is list:
        return _list_of(conversion(args[0]) if args else None)
    if origin is dict:
        key, item = args or (None, None)  # typing.Dict has none
        return _dict_of(*(None if part is None else conversion(part) for part in (key, item)))
    return None


def conversion_for(parameter: Parameter) -> Conversion | None:
    """Return what converts the values of a parameter, None if they stay as they are."""
    if parameter.annotation is Parameter.empty:
        return None
    convert = conversion(parameter.annotation)
    if convert is not None and parameter.default is None:
        return _or_none(convert)  # `n: int = None` has always meant int | None
    return convert


def _or_none(convert: Conversion) -> Conversion:
    return lambda value: None if value is None else convert(value)


def converted(convert: Conversion, name: str, value: object) -> object:
    """Return a value of the parameter `name`, converted.

    Raises:
        ArgumentError: it cannot be; the message names the parameter.
    """
    try:
        return convert(value)
    except ValueError as error:
        raise ArgumentError(f"{shorten(name)}: {error}") from None


def _refusal(value: object, wanted: str) -> ValueError:
    shown = f" {value[:40]!r}" if isinstance(value, (str, bytes)) else ""
    if isinstance(value, (int, float)):
        shown = f" {value!r:.40}"
    return ValueError(f"cannot convert {type(value).__name__}{shown} to {wanted}")


def _to_int(value: object) -> object:
    if isinstance(value, int):
        return int(value)
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    # Perl writes large whole numbers with an exponent, JSON writers write 3.0.
    number = value
    if isinstance(value, str) and len(value) < 400 and _NUMBER.fullmatch(value):
        number = float(value)
    if isinstance(number, float) and math.isfinite(number) and number == int(number):
        return int(number)
    raise _refusal(value, "int")


def _to_float(value: object) -> object:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, (int, float)) or (isinstance(value, str) and _NUMBER.fullmatch(value)):
        try:
            return float(value)
        except OverflowError:
            pass  # an int beyond what a float can hold
    raise _refusal(value, "float")


def _to_bool(value: object) -> object:
    """By Perl's rule: undef, 0, "" and "0" are false."""
    if value is None or isinstance(value, (bool, int, float)):
        return bool(value)
    if isinstance(value, (str, bytes)):
        return value not in ("", "0", b"", b"0")
    raise _refusal(value, "bool")


def _to_str(value: object) -> object:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, bool):
        return "1" if value else ""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    raise _refusal(value, "str")


def _to_bytes(value: object) -> object:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return value.encode("latin-1")
        except UnicodeEncodeError:
            raise ValueError("cannot convert str with characters beyond U+00FF to bytes") from None
    raise _refusal(value, "bytes")


def _to_list(value: object) -> object:
    if isinstance(value, list):
        return value
    raise _refusal(value, "list")


def _to_dict(value: object) -> object:
    if isinstance(value, dict):
        return value
    raise _refusal(value, "dict")


def _to_callback(value: object) -> object:
    if callable(value):
        return value
    raise _refusal(value, "a callback")


def _to_none(value: object) -> object:
    if value is None:
        return None
    raise _refusal(value, "None")


def _list_of(item: Conversion | None) -> Conversion:
    def convert(value: object) -> object:
        if not isinstance(value, list):
            raise _refusal(value, "list")
        return value if item is None else [item(part) for part in value]

    return convert


def _dict_of(key: Conversion | None, item: Conversion | None) -> Conversion:
    def convert(value: object) -> object:
        if not isinstance(value, dict):
            raise _refusal(value, "dict")
        return {
            (name if key is None else _as_key(key(name))): (part if item is None else item(part))
            for name, part in value.items()
        }

    return convert


def _typed_dict(kind: typing.Any) -> Conversion | None:
    """Return what converts a dict to a TypedDict, None if its annotations cannot be read."""
    try:
        hints = typing.get_type_hints(kind)
    except Exception:  # noqa: BLE001  # an annotation may be any expression
        return None
    required: frozenset[str] = kind.__required_keys__
    conversions: dict[str, Conversion | None] = {}

    def convert(value: object) -> object:
        if not isinstance(value, dict):
            raise _refusal(value, "dict")
        missing = min(required - value.keys(), default=None)
        if missing is not None:
            raise ValueError(f"{missing} is missing")
        if not conversions:  # only now: one may hold itself
            conversions.update({name: conversion(hint) for name, hint in hints.items()})
        return {name: _item(conversions.get(name), name, part) for name, part in value.items()}

    return convert


def _item(convert: Conversion | None, name: object, value: object) -> object:
    try:
        return value if convert is None else convert(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _as_key(name: object) -> object:
    """Return a key that a name was converted to.

    Of longer numbers a peer could choose as many as it likes that collide in a dict.
    """
    if isinstance(name, int) and name.bit_length() > _KEY_BITS:
        raise ValueError(f"key is an int of {name.bit_length()} bits, limit is {_KEY_BITS}")
    return name


def _union(choices: tuple[object, ...]) -> Conversion | None:
    """A value that is of one of the types stays; else the first type that it converts to."""
    conversions = [conversion(choice) for choice in choices]
    kinds = tuple(choice for choice in choices if isinstance(choice, type))

    def convert(value: object) -> object:
        if type(value) in kinds:
            return value
        problems = []
        for attempt in conversions:
            try:
                return value if attempt is None else attempt(value)
            except ValueError as error:
                problems.append(str(error))
        raise ValueError(", ".join(problems))

    return None if all(attempt is None for attempt in conversions) else convert


_PLAIN: dict[object, Conversion] = {
    int: _to_int,
    float: _to_float,
    bool: _to_bool,
    str: _to_str,
    bytes: _to_bytes,
    list: _to_list,
    dict: _to_dict,
    type(None): _to_none,
    None: _to_none,
    Coderef: _to_callback,
    Callable: _to_callback,
}
