"""What a decoder remembers of the things that it has met, for references to them.

Storable numbers all it stores from 0, in the order of appearance: the *tag*. A later item may say
"the thing with tag 7 again". What that means depends on the thing. A scalar stands for its value;
an array or hash may only be meant behind a reference. `things` tells of each tag:

    a scalar                its value
    a reference             what it is in Python: a list, a dict, a ScalarRef, a Blessed
    an array or hash        its weight; the thing itself is what the reference in front of it is,
                            which has the tag before
    what is being read      UNFINISHED

The one rule: a million small things must cost little more than they are. So only this list has an
element for each thing. All else is noted of those few for which it is not plain from the list, as
numbers in arrays, in ascending order.

This file does not know about bytes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import TypeAlias

from rpcasync.storable._values import Blessed, Regexp, ScalarRef, blessed, scalar_ref

__all__ = ["EMPTY", "UNFINISHED", "Tags", "Weight", "object_of", "referent_of"]

Weight: TypeAlias = tuple[int, int, int]
"""Of a container: levels below its own, values in it, and its bytes."""

UNFINISHED = object()
EMPTY: Weight = (0, 0, 6)

_REFERENCES = frozenset({list, dict, ScalarRef, Blessed})  # types of what a reference can be

_SMALL = 6  # bytes that a scalar counts as, beside its text, where it stands once more

_JSON_BOOLEAN = "JSON::PP::Boolean"  # what Perl's JSON modules make of true and false


class Tags:
    """The things of one image, by their tags, and the names of classes."""

    __slots__ = (
        "_again_of",
        "_again_tags",
        "_class_numbers",
        "_class_tags",
        "_levels",
        "_targets",
        "classes",
        "things",
    )

    def __init__(self) -> None:
        self.things: list[object] = []
        self.classes: list[str] = []  # by number
        # References to what was there before, and what they refer to.
        self._again_tags = array("I")
        self._again_of = array("I")
        # Scalars and references that have a class, and the number of it.
        self._class_tags = array("I")
        self._class_numbers = array("I")
        # By tag, as far as any was noted: levels of references to references, or to what was there.
        self._levels = array("I")
        # What a reference to a scalar is, if none stands right in front of it.
        self._targets: dict[int, object] = {}

    def note_class(self, number: int) -> None:
        """Note the class of the scalar or reference that comes next."""
        self._class_tags.append(len(self.things))
        self._class_numbers.append(number)

    def note_again(self, of: int) -> None:
        """Note that the reference that came last refers to something that was there before."""
        self._again_tags.append(len(self.things) - 1)
        self._again_of.append(of)

    def noted_levels(self) -> array[int]:
        """Return the levels by tag, to note those of references to anything but a plain thing."""
        missing = len(self.things) - len(self._levels)
        self._levels.frombytes(bytes(missing * self._levels.itemsize))
        return self._levels

    def levels(self, tag: int) -> int:
        """Return how many levels a thing adds; of an array or hash, how many are below its own."""
        thing = self.things[tag]
        if type(thing) is tuple:
            levels: int = thing[0]
            return levels
        if tag < len(self._levels) and self._levels[tag]:
            return self._levels[tag]
        own = 0 if self._class_of(tag) is None else 1
        return own + 1 + self.levels(tag + 1) if type(thing) in _REFERENCES else own

    def weight(self, tag: int) -> tuple[int, int]:
        """Return how many values and bytes a thing adds where it stands once more.

        For a chain of references it takes as long as the chain has values.
        """
        count = 0
        while True:
            thing = self.things[tag]
            if type(thing) is tuple:
                _, values, size = thing
                return values + max(count - 1, 0), size + count
            if self._class_of(tag) is not None:
                count += 1
            if type(thing) not in _REFERENCES:
                size = len(thing) if isinstance(thing, (str, bytes)) else 0
                return count, size + count + _SMALL
            count += 1
            again = self._again(tag)
            tag = tag + 1 if again is None else again

    def target(self, tag: int) -> object:
        """Tell what a reference to a thing is: for one scalar always the same ScalarRef."""
        thing = self.things[tag]
        if type(thing) is tuple:
            return self.things[tag - 1]
        if tag and type(self.things[tag - 1]) in _REFERENCES and self._again(tag - 1) is None:
            return self.things[tag - 1]
        if tag not in self._targets:
            name = self._class_of(tag)
            made = referent_of(thing) if name is None else object_of(name, thing, None)
            self._targets[tag] = made
        return self._targets[tag]

    def _again(self, tag: int) -> int | None:
        """Return what a reference refers to that was there before; None if it stands behind it."""
        return _find(self._again_tags, self._again_of, tag)

    def _class_of(self, tag: int) -> str | None:
        if not self._class_tags:
            return None
        number = _find(self._class_tags, self._class_numbers, tag)
        return None if number is None else self.classes[number]


def referent_of(value: object) -> object:
    """Return what a reference to a scalar is. Perl has a class of its own for regexps."""
    return blessed("Regexp", value) if type(value) is Regexp else scalar_ref(value)


def object_of(class_name: str, value: object, container: object) -> object:
    """Return what a reference to an object is: of a container, or else of a scalar."""
    if type(value) is Regexp:
        return blessed(class_name, value)
    if container is not None:
        return blessed(class_name, container)
    if class_name == _JSON_BOOLEAN and type(value) is int and value in (0, 1):
        return value == 1
    return blessed(class_name, scalar_ref(value))


def _find(keys: array[int], found: array[int], key: int) -> int | None:
    """Look a number up in what is sorted by it; None if it is not there."""
    index = bisect_left(keys, key)
    return found[index] if index < len(keys) and keys[index] == key else None
