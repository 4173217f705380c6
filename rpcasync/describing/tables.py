"""Hashes whose names are known, as classes of Python (`TypedDict`), in the order that they need.

Those of one shape in one answer are one class. What a procedure answers has all its names; of what
it takes, any may be left out, because a definition does not tell which.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from rpcasync.describing.hints import BUILTINS, hint
from rpcasync.describing.kinds import Field, Fields, Kind, Listed, Plain
from rpcasync.describing.names import Names, is_name
from rpcasync.describing.procedures import Parameter, Procedure
from rpcasync.describing.source import literal

__all__ = ["Tables"]

_CALLABLE = "Callable[..., object]"


class Tables:
    """The classes of a module; `texts` are their definitions, and `uses` what these need.

    Args:
        procedures: all that there are: no class is named as a field is.
        taken: what else is a name already.
        has_undef: any text, number or boolean in an answer may be None.
    """

    def __init__(
        self, procedures: Iterable[Procedure], taken: Iterable[str], *, has_undef: bool = False
    ) -> None:
        self._names = Names({*taken, *_field_names(procedures)})
        self._has_undef = has_undef
        self._known: dict[tuple[Fields, str, str], str] = {}
        self.texts: list[str] = []
        self.uses: set[str] = set()

    def taken(self, procedure: str, parameter: Parameter, hidden: Iterable[str]) -> str:
        """Return the annotation for what a procedure takes.

        Args:
            procedure: its name.
            parameter: one that it has.
            hidden: names of builtins that are something else where the annotation stands.
        """
        classes = _Classes(self, procedure, "", (procedure, parameter.name))
        return hint(parameter.kind, sub=_CALLABLE, classes=classes, hidden=[*hidden]).text

    def answered(self, procedure: str, kind: Kind, hidden: Iterable[str]) -> str:
        """Return the annotation for what a procedure answers; for `hidden`, see above."""
        classes = _Classes(self, procedure, "Answer", (procedure,))
        undef = self._has_undef and not isinstance(kind, Plain)
        return hint(kind, sub="object", classes=classes, hidden=[*hidden], has_undef=undef).text

    def _class(self, fields: Fields, place: _Classes) -> str:
        """Return the name of the class for a hash, which is defined now if it is new."""
        key = (fields, place.procedure, place.ending)
        known = self._known.get(key)
        if known is not None:
            return known
        is_whole = bool(place.ending)
        hints = {each.name: self._field(each, place) for each in fields.fields}
        name = self._names.new_class("_".join(place.words), place.ending)
        self._known[key] = name
        can_be_class = all(is_name(each, BUILTINS | {"Callable"}) for each in hints)
        write = _as_class if can_be_class else _as_call
        self.texts.append(write(name, hints, is_whole=is_whole))
        self.uses.add("TypedDict")
        if any(_CALLABLE in text for text in hints.values()):
            self.uses.add("Callable")
        return name

    def _field(self, field: Field, place: _Classes) -> str:
        """Return the annotation of a value in a class."""
        place = replace(place, words=(*place.words, field.name))
        if not place.ending:
            return hint(field.kind, sub=_CALLABLE, classes=place).text
        return hint(field.kind, sub="object", classes=place, has_undef=self._has_undef).text


@dataclass(frozen=True, slots=True)
class _Classes:
    """Gives the name of the class for a hash that stands in a place."""

    tables: Tables
    procedure: str
    ending: str  # of the name
    words: tuple[str, ...]  # the place: what the name is made of

    def __call__(self, fields: Fields) -> str:
        return self.tables._class(fields, self)


def _as_class(name: str, hints: dict[str, str], *, is_whole: bool) -> str:
    options = "" if is_whole else ", total=False"
    lines = [f"class {name}(TypedDict{options}):"]
    lines += [f"    {field}: {text}" for field, text in hints.items()]
    return "".join(f"{line}\n" for line in lines)


def _as_call(name: str, hints: dict[str, str], *, is_whole: bool) -> str:
    """Return the definition for names that no attribute can have."""
    lines = [f"{name} = TypedDict(", f'    "{name}",', "    {"]
    lines += [f"        {literal(field)}: {text}," for field, text in hints.items()]
    lines += ["    },", *([] if is_whole else ["    total=False,"]), ")"]
    return "".join(f"{line}\n" for line in lines)


def _field_names(procedures: Iterable[Procedure]) -> set[str]:
    """Return all names in hashes."""
    found: set[str] = set()
    waiting: list[Kind | None] = []
    for each in procedures:
        parameters = (*each.listed, each.rest, *each.named)
        waiting += [each.answer, each.any_name]
        waiting += [parameter.kind for parameter in parameters if parameter is not None]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, Listed):
            waiting += kind.kinds
        elif isinstance(kind, Fields):
            found.update(field.name for field in kind.fields)
            waiting += [kind.rest, *(field.kind for field in kind.fields)]
    return found
