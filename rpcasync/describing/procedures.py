"""What a server tells of each procedure, read: how values are given to it, and what it answers.

How they are given is what a signature in Python says, as `arguments/signatures.py` has it: some in
order, then the rest of the list, or names and values. Perl's servers tell of names alone; those of
this package also which values have none, and what may be left out.

Nothing here is trusted: a default is read as a literal, and anything else is one that is unknown.
"""

from __future__ import annotations

import ast
import inspect
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from rpcasync.describing.kinds import (
    ANY,
    Fields,
    Kind,
    Listed,
    Room,
    copied,
    in_order,
    kind_of,
    marks_in,
    without_marks,
)
from rpcasync.wire.messages import as_text

__all__ = ["UNKNOWN", "Parameter", "Procedure", "Told", "read_procedures"]

_LONGEST_DOC = 10_000  # characters
_LONGEST_DEFAULT = 100

Told: TypeAlias = Mapping[object, object]
"""What a server tells of one procedure."""


class _Unknown:
    """A default that is not told."""


UNKNOWN = _Unknown()


@dataclass(frozen=True, slots=True)
class Parameter:
    """What is given to a procedure: a name, its type, and whether it may be left out.

    `default` is what stands for it then, if that is told, else UNKNOWN.
    """

    name: str
    kind: Kind
    is_optional: bool = False
    default: object = UNKNOWN


@dataclass(frozen=True, slots=True)
class Procedure:
    """A procedure, as its server tells of it.

    `listed` are values in order, `rest` is for more of them; `named` are given with their names,
    `any_name` is the type of any other name. With `is_known` False nothing is told of all that.
    `answer` is None if nothing is told of it. `definition` is what was told, as far as it can be.
    """

    name: str
    listed: tuple[Parameter, ...] = ()
    rest: Parameter | None = None
    named: tuple[Parameter, ...] = ()
    any_name: Kind | None = None
    is_known: bool = False
    answer: Kind | None = None
    doc: str = ""
    definition: dict[str, object] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of all parameters."""
        rest = () if self.rest is None else (self.rest,)
        return [each.name for each in (*self.listed, *rest, *self.named)]


def read_procedures(found: Mapping[str, Told]) -> list[Procedure]:
    """Return the procedures of a server, sorted by name.

    Args:
        found: what is told of each.

    Raises:
        RPCError: it is too much.
    """
    room = Room()
    return [_read(name, about, room) for name, about in sorted(found.items())]


def _read(name: str, about: Told, room: Room) -> Procedure:
    room.take()
    definition = {
        part: in_order(copied(about[part], room), is_in=part == "in", order=_order(about, part))
        for part in ("in", "out")
        if part in about
    }
    doc = as_text(about.get("doc"))
    procedure = Procedure(
        name,
        is_known="in" in definition,
        answer=_answer(definition, about),
        doc=inspect.cleandoc(doc[:_LONGEST_DOC]).strip() if isinstance(doc, str) else "",
        definition=definition,
    )
    return _with_parameters(procedure, about) if procedure.is_known else procedure


def _answer(definition: dict[str, object], about: Told) -> Kind | None:
    """Return the type of what a procedure answers, None if nothing is told of it."""
    if "out" not in definition:
        return None
    marks = marks_in(definition.get("in"))
    told = {marks.get(name, name): place for name, place in _order(about, "out").items()}
    order = told or {name: place for place, name in enumerate(marks.values())}
    kind = kind_of(without_marks(definition["out"], marks), is_in=False, order=order)
    return None if kind in (Fields(()), ANY) else kind


def _with_parameters(procedure: Procedure, about: Told) -> Procedure:
    """Return the procedure with what it takes."""
    takes = kind_of(procedure.definition["in"], is_in=True, order=_order(about, "in"))
    if takes == ANY:  # which undef is, too: not even whether it has names is known
        return replace(procedure, is_known=False)
    if not isinstance(takes, Fields):
        return replace(procedure, rest=Parameter("values", _each_of(takes)))
    defaults = about.get("defaults")
    defaults = defaults if isinstance(defaults, dict) else {}
    by_place = set(_texts(about.get("positional")))
    listed: list[Parameter] = []
    named: list[Parameter] = []
    rest = None
    for each in takes.fields:
        if f"*{each.name}" in by_place and rest is None:
            rest = Parameter(each.name, _each_of(each.kind))
        else:
            parameter = _parameter(each.name, each.kind, defaults)
            (listed if each.name in by_place else named).append(parameter)
    if rest is not None:  # behind it, nothing can be given by name
        return replace(procedure, listed=_in_order(listed), rest=rest)
    return replace(procedure, listed=_in_order(listed), named=tuple(named), any_name=takes.rest)


def _each_of(kind: Kind) -> Kind:
    """Return the type of the values in a list; a type that is no list is that of each."""
    if not isinstance(kind, Listed):
        return kind
    return kind.kinds[0] if len(kind.kinds) == 1 else ANY


def _parameter(name: str, kind: Kind, defaults: dict[object, object]) -> Parameter:
    text = as_text(defaults.get(name))
    if not isinstance(text, str):
        return Parameter(name, kind)
    return Parameter(name, kind, is_optional=True, default=_literal(text))


def _in_order(listed: list[Parameter]) -> tuple[Parameter, ...]:
    """Return them with none that may be left out in front of one that may not."""
    last = max((place for place, each in enumerate(listed) if not each.is_optional), default=-1)
    return tuple(
        Parameter(each.name, each.kind) if place < last else each
        for place, each in enumerate(listed)
    )


def _literal(text: str) -> object:
    """Return the value of a short literal, UNKNOWN for anything else."""
    if len(text) > _LONGEST_DEFAULT:
        return UNKNOWN
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what Python thinks of its escapes
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return UNKNOWN
    is_plain = value is None or type(value) in (bool, int, str, bytes)
    is_number = type(value) is float and math.isfinite(value)
    return value if is_plain or is_number else UNKNOWN


def _order(about: Told, part: str) -> dict[str, int]:
    """Return where each name of a part stands, if the server says so."""
    order = about.get("order")
    names = order.get(part) if isinstance(order, dict) else None
    return {name: place for place, name in enumerate(_texts(names))}


def _texts(value: object) -> list[str]:
    """Return what is text in a list."""
    items = value if isinstance(value, list) else []
    return [text for text in map(as_text, items) if isinstance(text, str)]
