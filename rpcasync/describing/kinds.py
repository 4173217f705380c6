"""Types as servers tell them, in a form that is the same for all servers.

    "integer32", "date", "int:pos"     Plain: its name written out, and what follows the colon
    ["utf8string"]                     Listed: what each value may be
    {"x": "float64", "*": "any"}       Fields: names with their types; `rest` for any other name

A server may send anything, and one part of it any number of times: `copied()` takes what can be a
type, and no more than a `Room` has. What is not as it should be is `any`.

This file knows nothing of Python's types, and nothing of procedures.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from rpcasync.arguments.reflection import expand, is_sendable
from rpcasync.errors import RPCError
from rpcasync.wire.messages import as_text

__all__ = [
    "ANY",
    "Field",
    "Fields",
    "Kind",
    "Listed",
    "Plain",
    "Room",
    "copied",
    "in_order",
    "kind_of",
    "marks_in",
    "without_marks",
]

_DEEPEST = 50  # types in each other; Python reads 200 brackets, and `expand()` 64 levels
_MOST = 100_000  # names and types of one server
_LONGEST = 200  # characters of a type's name

# What RPC::Async 1.05 makes of names that were full already, or that it cut in the wrong place.
_MISSPELT = {
    "utf8stringstring": "utf8string",
    "latin1stringstring": "latin1string",
    "binaryary": "binary",
    "booleanean": "boolean",
    "integer32long": "integer64",
    "integer8s": "binary",
    "": "any",
}


@dataclass(frozen=True, slots=True)
class Plain:
    """A type that has a name: `integer32`; `note` is what follows a colon: `pos`."""

    name: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Listed:
    """A list, and what each of its values may be; nothing is said if there are no `kinds`."""

    kinds: tuple[Kind, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """A name and the type of its value."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Fields:
    """Names and types, in order; `rest` is the type of any other name, None if there is none."""

    fields: tuple[Field, ...]
    rest: Kind | None = None


Kind: TypeAlias = Plain | Listed | Fields

ANY = Plain("any")


class Room:
    """How much a server may still tell."""

    def __init__(self) -> None:
        self._left = _MOST

    def take(self, count: int = 1) -> None:
        """Take the room of one name or type, or of so many.

        Raises:
            RPCError: there is none left.
        """
        self._left -= count
        if self._left < 0:
            raise RPCError(f"the server tells more than {_MOST} names and types")


def copied(value: object, room: Room, levels: int = _DEEPEST) -> object:
    """Return a part of a definition in new dicts, lists and texts, with types written out.

    What is no type is "any".

    Raises:
        RPCError: the room is not enough.
    """
    room.take()
    value = as_text(value)
    if isinstance(value, str):
        is_good = is_sendable(value) and len(value) <= _LONGEST
        return _written_out(value) if is_good else ANY.name
    if isinstance(value, (list, tuple)) and levels:
        return [copied(each, room, levels - 1) for each in value]
    if isinstance(value, dict) and levels:
        keys = {key: str(as_text(key)) for key in value if isinstance(key, (str, bytes, int))}
        room.take(sum(key.count("|") for key in keys.values()))  # a key may have many names
        return {name: copied(value[key], room, levels - 1) for key, name in keys.items()}
    return ANY.name


def kind_of(value: object, *, is_in: bool, order: Mapping[str, int] | None = None) -> Kind:
    """Return the type for a part of a definition that was `copied()`.

    Args:
        value: the part.
        is_in: numbers in front of names are their order: so Perl has it for what a procedure
            takes. What it answers has its names as they are.
        order: where each name stands, with its number, for those that have no other order.
    """
    if isinstance(value, dict):
        return _fields(value, is_in, order or {})
    if isinstance(value, list):
        return Listed(tuple(dict.fromkeys(kind_of(each, is_in=is_in) for each in value)))
    return _plain(str(value))


def _written_out(text: str) -> str:
    """Return the name of a type as it was meant; what follows the colon stays."""
    name, colon, note = text.partition(":")
    return f"{expand(_MISSPELT.get(name, name))}{colon}{note}"


def _plain(text: str) -> Plain:
    name, _, note = text.partition(":")
    return Plain(name, note)


def _fields(table: dict[str, object], is_in: bool, order: Mapping[str, int]) -> Fields:
    kinds: dict[str, Kind] = {}
    rest = None
    for key in sorted(table, key=lambda key: _rank(key, is_in, order)):
        kind = kind_of(table[key], is_in=is_in)
        if key == "*":
            rest = kind
            continue
        for name in _alternatives(_name(key, is_in)):
            kinds.setdefault(name, kind)
    return Fields(tuple(Field(name, kind) for name, kind in kinds.items()), rest)


def in_order(value: object, *, is_in: bool, order: Mapping[str, int] | None = None) -> object:
    """Return a part of a definition with its names in the order that `kind_of()` has."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: _rank(key, is_in, order or {}))
        return {key: in_order(value[key], is_in=is_in) for key in keys}
    if isinstance(value, list):
        return [in_order(each, is_in=is_in) for each in value]
    return value


def marks_in(value: object) -> dict[str, str]:
    """Return the names in what a procedure takes, in order, by what they are where it answers.

    A program may use one definition for both: there, `x_1` of it is `1x` in what is taken, and what
    is answered has it as it is written. It is `x` all the same.
    """
    found: dict[str, str] = {}
    if isinstance(value, dict):
        for key, part in value.items():
            number, name = _cut(key)
            if number and name:
                found[f"{name}_{number}"] = name
            found |= marks_in(part)
    elif isinstance(value, list):
        for part in value:
            found |= marks_in(part)
    return found


def without_marks(value: object, marks: Mapping[str, str]) -> object:
    """Return what is answered with its true names, by `marks_in()` what is taken."""
    if isinstance(value, dict):
        names = {key: marks.get(key, key) for key in value}
        return {
            key if names[key] in value else names[key]: without_marks(part, marks)
            for key, part in value.items()
        }
    if isinstance(value, list):
        return [without_marks(each, marks) for each in value]
    return value


def _rank(key: str, is_in: bool, order: Mapping[str, int]) -> tuple[float, bool, int, str]:
    """Return where a name stands: by number, as the server says, by name; and any name last.

    Names without a number have no order: Perl gives them in another one each time.
    """
    number, name = _cut(key) if is_in else ("", key)
    return float(number or "inf"), name == "*", order.get(key, len(order)), key


def _name(key: str, is_in: bool) -> str:
    """Return the name in a key: a number alone is one."""
    number, name = _cut(key) if is_in else ("", key)
    return name or number


def _cut(key: str) -> tuple[str, str]:
    """Return the number in front of a key, and the rest."""
    name = key.lstrip(string.digits)
    return key[: len(key) - len(name)], name


def _alternatives(text: str) -> list[str]:
    """Return the names in `a|b`, which share a type; Perl leaves them together in `a|b_2`."""
    return [name for name in text.split("|") if name] or [text]
