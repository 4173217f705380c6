"""The three things a Perl value can be that Python has no type for.

The one rule: they are inert. No class is looked up or made by its name, no pattern is
compiled, nothing is called. They compare by content, like the list or dict they may hold.

This file does not know about bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Blessed", "Regexp", "ScalarRef", "blessed", "scalar_ref"]


@dataclass(frozen=True, slots=True)
class ScalarRef:
    r"""A reference to a scalar or to another reference: Perl's `\"x"` or `\\@array`.

    Two references to one Perl variable arrive as one ScalarRef object.
    """

    value: object


@dataclass(frozen=True, slots=True)
class Regexp:
    """A compiled regular expression as text: `pattern` in Perl's syntax, and `modifiers`.

    It came from a stranger and may be slow or malformed: think before compiling it.
    """

    pattern: str
    modifiers: str


@dataclass(frozen=True, slots=True)
class Blessed:
    """An object of a Perl class: the name of the class, and what was blessed into it.

    `value` is a list, a dict, a ScalarRef or a Regexp. `class_name` is any text but the empty
    one, bytes read as Latin-1; nothing vouches for it.
    """

    class_name: str
    value: object


# The decoder makes them by the million. By these two it takes a third of the time: what freezes
# the classes has each attribute set through a method of `object`.

_new = object.__new__
_set_value: Any = vars(ScalarRef)["value"].__set__
_set_class: Any = vars(Blessed)["class_name"].__set__
_set_content: Any = vars(Blessed)["value"].__set__


def scalar_ref(value: object) -> ScalarRef:
    """Return a ScalarRef."""
    made = _new(ScalarRef)
    _set_value(made, value)
    return made


def blessed(class_name: str, value: object) -> Blessed:
    """Return a Blessed."""
    made = _new(Blessed)
    _set_class(made, class_name)
    _set_content(made, value)
    return made
