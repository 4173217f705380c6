"""Types of servers as annotations of Python, and what such an annotation tells in turn.

    integer8 ... uinteger64    int        utf8string, latin1string    str
    float32, float64           float      binary                      bytes
    boolean                    bool       sub                         what can be called
    any, and all others        object

A hash whose names are known is a class of its own where there are classes (`TypedDict`), else a
dict. `Hint.told` is what `methods` tells of an annotation: what that lacks, a `def_*` has to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeAlias

from rpcasync.describing.kinds import Fields, Kind, Listed, Plain

__all__ = ["BUILTINS", "Classes", "Hint", "hint"]

BUILTINS = frozenset({"bool", "bytes", "dict", "float", "int", "list", "object", "str"})
"""The names that annotations have without any import."""

Classes: TypeAlias = Callable[[Fields], str]
"""What gives the name of a class for a hash."""

_NUMBER = re.compile(r"u?integer(?:8|16|32|64)")
_PLAIN = {
    "float32": "float",
    "float64": "float",
    "boolean": "bool",
    "utf8string": "str",
    "latin1string": "str",
    "binary": "bytes",
}
_TOLD = {
    "int": "integer32",
    "float": "float64",
    "bool": "boolean",
    "str": "utf8string",
    "bytes": "binary",
}


@dataclass(frozen=True, slots=True)
class Hint:
    """An annotation, and the part of a definition that it becomes."""

    text: str
    told: object


def hint(
    kind: Kind,
    *,
    sub: str,
    classes: Classes | None = None,
    hidden: Collection[str] = (),
    has_undef: bool = False,
) -> Hint:
    """Return the annotation for a type.

    Args:
        kind: the type.
        sub: the annotation for a function; of `BUILTINS` it may have `object`.
        classes: for hashes whose names are known; without it they are dicts.
        hidden: names of `BUILTINS` that are something else where the annotation stands: they are
            written as `builtins.list`.
        has_undef: None may stand for a text, a number or a boolean.
    """
    return _Hints(sub, classes, hidden, has_undef).of(kind)


@dataclass(frozen=True, slots=True)
class _Hints:
    sub: str
    classes: Classes | None
    hidden: Collection[str]
    has_undef: bool

    def of(self, kind: Kind) -> Hint:
        if isinstance(kind, Plain):
            return self._plain(kind)
        if isinstance(kind, Listed):
            inner = self._one_of([self.of(each) for each in kind.kinds])
            return Hint(f"{self._name('list')}[{inner.text}]", [inner.told])
        if kind.fields and self.classes is not None:
            return Hint(self.classes(kind), "any")
        kinds = [field.kind for field in kind.fields]
        if kind.rest is not None or not kinds:
            kinds.append(kind.rest or Plain("any"))
        hints = {each.text: each for each in map(self.of, kinds)}
        inner = next(iter(hints.values())) if len(hints) == 1 else self._any()
        text = f"{self._name('dict')}[{self._name('str')}, {inner.text}]"
        return Hint(text, {"*": inner.told})

    def _plain(self, kind: Plain) -> Hint:
        if kind.name == "sub":
            return Hint(self.sub.replace("object", self._name("object")), "sub")
        name = "int" if _NUMBER.fullmatch(kind.name) else _PLAIN.get(kind.name)
        if name is None:
            return self._any()
        text = f"{self._name(name)} | None" if self.has_undef else self._name(name)
        return Hint(text, _TOLD[name])

    def _one_of(self, hints: list[Hint]) -> Hint:
        """Return an annotation for what may be of several types."""
        texts = {each.text: each.told for each in hints}
        anything = self._any()
        if not hints or anything.text in texts:
            return anything
        told = next(iter(texts.values())) if len(texts) == 1 else "any"
        return Hint(" | ".join(texts), told)

    def _any(self) -> Hint:
        return Hint(self._name("object"), "any")

    def _name(self, name: str) -> str:
        return f"builtins.{name}" if name in self.hidden else name
