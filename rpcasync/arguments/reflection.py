"""What procedures take and answer, in the words of Perl's reflection.

A definition is a dict of names and types, and a type is a name such as `"integer32"`, a list of
types, or a dict again:

    {"n1": "integer32", "tags": ["utf8string"], "point": {"x": "float64", "y": "float64"}}

`stated()` reads one that the program wrote for a procedure, in short forms that `expand()`
writes out; `describe()` makes one from the signature of a procedure that has none. `detail()` has
what Perl's definitions have no place for.

This file knows nothing of namespaces, and sends nothing. What it returns, each codec can send.
"""

from __future__ import annotations

import contextlib
import inspect
import types
import typing
from collections.abc import Callable, Iterable
from inspect import Parameter
from types import NoneType
from typing import Any

from rpcasync.arguments.signatures import Signature
from rpcasync.errors import ArgumentError

__all__ = ["describe", "detail", "expand", "is_sendable", "stated"]

_ANY = "any"
_ANY_NAME = "*"  # for a key that may be any other name
_MAX_DEPTH = 64  # levels; the codecs end at 256
_MAX_SIZE = 100_000  # characters: one definition leaves room for the others in a packet
_DOC_LENGTH = 200
_WHOLE_DOC_LENGTH = 10_000
_DEFAULT_LENGTH = 60
_MOST_BITS = 128  # of an int that is written with digits: more take long


def _spellings() -> Iterable[tuple[str, str]]:
    """Give each short type name with the full one. Full names are not among the short ones."""
    yield "", _ANY
    yield from dict.fromkeys(("str", "string", "utf8"), "utf8string").items()
    yield "latin1", "latin1string"
    for bits, words in {
        "8": ("int8", "byte", "char"),
        "16": ("int16", "short"),
        "32": ("int", "integer", "int32", "long"),
        "64": ("int64", "longlong"),
    }.items():
        for word in words:
            yield word, f"integer{bits}"
            yield f"u{word}", f"uinteger{bits}"
    yield "float", "float32"
    yield "double", "float64"
    yield "bool", "boolean"
    yield from dict.fromkeys(("bin", "data"), "binary").items()


_TYPES = dict(_spellings())


def expand(definition: object, is_in: bool = True) -> object:
    """Write the short forms of a definition out; return a new one.

    Type names, in any depth. What follows a colon stays: `int:pos` is `integer32:pos`. Any
    other name stays as it is, so to expand twice is the same as once.

        int integer int32 long     integer32       float               float32
        int8 byte char             integer8        double              float64
        int16 short                integer16       str string utf8     utf8string
        int64 longlong             integer64       latin1              latin1string
        uint uint8 ushort ...      uinteger32 ...  bin data            binary
        (empty)                    any             bool                boolean

    Keys:

        x_1      1x            in only: the number that sorts it. Digits stay as written
        a|b|c    00a 01b 02c   in: several names of one type, in order
        a|b|c    a b c         out
        a|b_2    2a|b          in only: the number goes first, and is all
        2x       2x            in: what starts with a digit has its number already

    Several names get a copy each of what they share.

    Args:
        definition: a str, list, tuple or dict; it is not changed.
        is_in: True for what a procedure takes, False for what it answers.

    Raises:
        TypeError: something in it is none of these, or a key is no str.
        ValueError: a name stands there twice, is empty beside a `|` or cannot be sent; the
            definition is nested deeper than 64 levels, or holds itself; or it is longer than
            100,000 characters.
    """
    return _Expansion(is_in).value(definition, _MAX_DEPTH)


class _Expansion:
    """One definition that is being written out, and how long it may still get."""

    def __init__(self, is_in: bool) -> None:
        self._is_in = is_in
        self._room = _MAX_SIZE

    def value(self, value: object, levels: int) -> object:
        if isinstance(value, str):
            name, colon, rest = str.partition(value, ":")
            return self._take(_TYPES.get(name, name) + colon + rest)
        if not isinstance(value, (list, tuple, dict)):
            kind = type(value).__name__
            raise TypeError(f"type in a definition is a {kind}, must be a str, list or dict")
        if not levels:
            raise ValueError(f"definition nested deeper than {_MAX_DEPTH} levels, or in itself")
        self._take("")
        if isinstance(value, dict):
            return self._table(value, levels - 1)
        return [self.value(item, levels - 1) for item in value]

    def _table(self, table: dict[object, object], levels: int) -> dict[str, object]:
        expanded: dict[str, object] = {}
        for key, value in table.items():
            for name in _keys(key, self._is_in):
                if name in expanded:
                    raise ValueError(f"definition has {name[:60]!r} twice")
                expanded[self._take(name)] = self.value(value, levels)
        return expanded

    def _take(self, text: str) -> str:
        self._room -= 1 + len(text)
        if self._room < 0:
            raise ValueError(f"definition of more than {_MAX_SIZE} characters")
        if not is_sendable(text):
            raise ValueError(f"{text[:60]!r} in a definition is no text that can be sent")
        return text


def _keys(key: object, is_in: bool) -> list[str]:
    """Return the names that a key stands for."""
    if not isinstance(key, str):
        raise TypeError(f"key in a definition is a {type(key).__name__}, must be a str")
    if is_in:
        name, _, number = key.rpartition("_")
        if _is_number(key[:1]):
            return [key]
        if name and _is_number(number):
            return [number + name]
    names = key.split("|")
    if len(names) == 1:
        return [key]
    if "" in names:
        raise ValueError(f"key {key[:60]!r} in a definition has an empty name beside a |")
    return [f"{count:02}{name}" for count, name in enumerate(names)] if is_in else names


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def is_sendable(text: str) -> bool:
    """Return False for text with half of a surrogate pair, which has no UTF-8."""
    try:
        str.encode(text)
    except UnicodeEncodeError:
        return False
    return True


def stated(source: object, caller: object, default: dict[str, object]) -> dict[str, object]:
    """Return the definition that a program wrote for a procedure, expanded.

    Args:
        source: a function, which is called as `source(caller, True)` for what the procedure
            takes and `source(caller, False)` for what it answers; or a dict of the two,
            `{"in": ..., "out": ...}`.
        caller: what the function is given.
        default: stands in for a part that is missing, or None.

    Raises:
        TypeError: `source`, or a part, is not of the right kind.
        ValueError: a part cannot be expanded, or the dict has another key.
        Exception: whatever the function raises.
    """
    if isinstance(source, dict):
        if not source.keys() <= {"in", "out"}:
            raise ValueError('definition has other keys than "in" and "out"')
        return {name: _part(name, source.get(name), default) for name in ("in", "out")}
    if not callable(source):
        raise TypeError(f"definition is a {type(source).__name__}, must be a function or a dict")
    # One after the other: both may be the same object, that the function changes.
    return {
        name: _part(name, source(caller, is_in), default)
        for name, is_in in (("in", True), ("out", False))
    }


def _part(name: str, part: object, default: dict[str, object]) -> object:
    if part is None:
        return default[name]
    if not isinstance(part, (dict, list, tuple)):
        raise TypeError(f'"{name}" of a definition is a {type(part).__name__}, must be a dict')
    return expand(part, is_in=name == "in")


def describe(
    function: Callable[..., object], signature: Signature | None = None
) -> dict[str, object]:
    """Return the definition of a procedure, from its signature and the start of its docstring.

        n: int, x: float            integer32 (what `int` is in Perl's definitions), float64
        s: str, b: bytes, t: bool   utf8string, binary, boolean
        v: list[X], v: list         [X], ["any"]
        v: dict[str, X], v: dict    {"*": X}, {"*": "any"}: any names
        v: X | None                 X
        v: Callable, Coderef        sub
        anything else               any

    Parameters that are taken by name keep their names as they are, `x_1` too. `**args` is `"*"`,
    any other name. Those that are taken by position are what `a|b` would be: one alone is plain,
    several are numbered from 00. `*args` is a list, and the last of them.

        (caller, n1: int, n2: int)       {"n1": "integer32", "n2": "integer32"}
        (caller, *numbers: int)          {"numbers": ["integer32"]}
        (caller, x: int, y: int, /)      {"00x": "integer32", "01y": "integer32"}
        (caller, level: int, /, **more)  {"level": "integer32", "*": "any"}

    Args:
        function: the procedure. One that cannot be called with any values takes nothing.
        signature: how it takes them, where that has been read already.

    Returns:
        `in`; `out`, which is empty, because a signature does not tell what will be answered;
        and `doc`, the first line of the docstring, if there is one.
    """
    definition: dict[str, object] = {"in": {}, "out": {}}
    with contextlib.suppress(ArgumentError):
        definition["in"] = _fields(signature or Signature(function, leading=1))
    doc = _first_line(function)
    return {**definition, "doc": doc} if doc else definition


def _fields(signature: Signature) -> dict[str, object]:
    fields = [(name, _type_of(annotation)) for name, annotation in signature.listed.items()]
    rest = signature.rest
    if rest is not None and signature.takes_rest:
        fields.append((rest.name, [_type_of(rest.annotation)]))
    if len(fields) > 1:
        fields = [(f"{count:02}{name}", kind) for count, (name, kind) in enumerate(fields)]
    if signature.takes_pairs:
        fields += [(name, _type_of(annotation)) for name, annotation in signature.named.items()]
        if rest is not None:
            fields.append((_ANY_NAME, _type_of(rest.annotation)))
    return dict(fields)


_PLAIN: dict[object, str] = {
    int: "integer32",
    float: "float64",
    bool: "boolean",
    str: "utf8string",
    bytes: "binary",
}


def _type_of(annotation: object) -> object:
    """Return the type for an annotation, as far as the conversions know it."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        kinds = [_type_of(choice) for choice in args if choice is not type(None)]
        return kinds[0] if all(kind == kinds[0] for kind in kinds) else _ANY
    if annotation is list or origin is list:
        return [_type_of(args[0]) if args else _ANY]
    if annotation is dict or origin is dict:
        return {_ANY_NAME: _type_of(args[1]) if args else _ANY}
    if origin is not None:
        return "sub" if origin is Callable else _ANY
    if not isinstance(annotation, type) or annotation is Parameter.empty:
        return _ANY
    can_be_called = any("__call__" in vars(base) for base in annotation.__mro__)
    return _PLAIN.get(annotation) or ("sub" if can_be_called else _ANY)


def _first_line(function: Callable[..., object]) -> str:
    line, _, _ = _docstring(function).partition("\n")
    return _as_sendable(line.rstrip()[:_DOC_LENGTH])


def _docstring(function: Callable[..., object]) -> str:
    """Return the docstring. That of an object would be about its class."""
    doc = function.__doc__ if inspect.isroutine(function) else None
    return doc.strip() if isinstance(doc, str) else ""


def _as_sendable(text: str) -> str:
    return text.encode(errors="replace").decode()


def detail(
    function: Callable[..., object],
    definition: dict[str, object],
    signature: Signature | None = None,
) -> dict[str, object]:
    """Return what a definition does not tell of a procedure, as far as it is known.

        order        {"in": names, "out": names}: in order, where it is two or more. A hash has none
        defaults     {name: text}: of parameters that need not be given, as Python writes them
        positional   names, with their numbers left out: what is taken by position, `*args` with
                     its star
        doc          the docstring, as a whole

        (caller, word: str, /, scale: float = 1.0)
        {"order": {"in": ["word", "scale"]}, "defaults": {"scale": "1.0"}, "positional": ["word"]}

    A default that is no short literal is `...`: it might be long, or be told to nobody.

    Args:
        function: the procedure.
        definition: its definition, expanded.
        signature: how it takes values, where that has been read already.
    """
    found: dict[str, object] = {}
    order = {
        name: list(part)
        for name, part in definition.items()
        if isinstance(part, dict) and len(part) > 1
    }
    if order:
        found["order"] = order
    with contextlib.suppress(ArgumentError):
        signature = signature or Signature(function, leading=1)
        rest = signature.rest
        positional = list(signature.listed)
        if rest is not None and signature.takes_rest:
            positional.append(f"*{rest.name}")
        if positional:
            found["positional"] = positional
        defaults = _defaults(function, {*signature.listed, *signature.named})
        if defaults:
            found["defaults"] = defaults
    doc = _docstring(function)
    if doc:
        found["doc"] = _as_sendable(inspect.cleandoc(doc)[:_WHOLE_DOC_LENGTH])
    return found


def _defaults(function: Callable[..., object], names: set[str]) -> dict[str, str]:
    """Return the defaults of parameters of some names."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):  # builtins without a text signature
        return {}
    return {
        parameter.name: _literal(parameter.default)
        for parameter in parameters
        if parameter.name in names and parameter.default is not Parameter.empty
    }


def _literal(value: Any) -> str:
    """Return a value as Python writes it, if that is short, and says no more than the value."""
    kind = type(value)
    if kind in (list, tuple, dict):
        text = "..." if value else repr(value)
    elif kind is int:
        text = "..." if value.bit_length() > _MOST_BITS else repr(value)
    else:
        text = repr(value) if kind in (str, bytes, float, bool, NoneType) else "..."
    return _as_sendable(text) if len(text) <= _DEFAULT_LENGTH else "..."
