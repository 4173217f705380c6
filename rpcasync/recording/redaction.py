"""What must not stand in a recording: the values of some names, or all of some procedures.

A value belongs to a name if the name is its key in a dict, or stands before it in a list, where
Perl has a hash as a list. More is taken out than may be needed, and never less: in a list of
values that are no pairs, what follows such a text goes, too.

This file knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rpcasync.recording.tagged import to_text
from rpcasync.storable import Blessed, ScalarRef
from rpcasync.wire.messages import as_text

__all__ = ["REDACTED", "Redaction"]

REDACTED = "[redacted]"


class Redaction:
    """Takes values out by name.

    Args:
        names: whose values go, anywhere in arguments and answers.
        procedures: whose arguments and answers go as a whole.
    """

    def __init__(self, names: Collection[str] = (), procedures: Collection[str] = ()) -> None:
        self.names = frozenset(names)
        self.procedures = frozenset(procedures)
        self._names = _with_octets(self.names)
        self._procedures = _with_octets(self.procedures)
        self._quoted = [to_text(name) for name in sorted(self._names)]

    def apply(self, procedure: str, values: list[object]) -> list[object]:
        """Return the values without what has to go; the same list if there is nothing.

        Raises:
            ValueError: they are nested too deeply to look through.
        """
        if self.has_procedure(procedure):
            return [REDACTED] if values else values
        if not self.names:
            return values
        try:
            found: Any = self._without(values)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        return [*found] if found is not values else values

    def has_procedure(self, name: str) -> bool:
        """True if all values of a procedure go."""
        return name in self._procedures

    def may_hit(self, text: str) -> bool:
        """False if values that are this JSON cannot have anything in them that has to go.

        A text of JSON is found much sooner than a value in a tree.
        """
        return '"$' in text or any(quoted in text for quoted in self._quoted)

    def _without(self, value: Any) -> Any:
        """Return the value with others in the place of what goes; the same object if none does."""
        kind = type(value)
        if kind is list or kind is tuple:
            parts = [*self._of_list(value)]
            return value if _are_same(parts, value) else parts
        if kind is dict:
            pairs = {
                key: REDACTED if self._is_secret(key) else self._without(part)
                for key, part in value.items()
            }
            return value if _are_same(pairs.values(), value.values()) else pairs
        if kind is ScalarRef:
            inner = self._without(value.value)
            return value if inner is value.value else ScalarRef(inner)
        if kind is Blessed:
            inner = self._without(value.value)
            return value if inner is value.value else Blessed(value.class_name, inner)
        return value

    def _of_list(self, values: list[object]) -> list[object]:
        found: list[object] = []
        is_next = False
        for value in values:
            found.append(REDACTED if is_next else self._without(value))
            is_next = self._is_secret(value)
        return found

    def _is_secret(self, name: object) -> bool:
        text = as_text(name)
        return type(text) is str and text in self._names


def _with_octets(names: Collection[str]) -> frozenset[str]:
    """Return names, and what comes of them where a Perl program has no `use utf8`."""
    octets = (name.encode("utf-8", "surrogatepass").decode("latin-1") for name in names)
    return frozenset(names).union(octets)


def _are_same(parts: Any, others: Any) -> bool:
    return all(part is other for part, other in zip(parts, others, strict=True))
