"""Where two answers differ: the walk through both of them.

An answer is the list of values behind the id of its call. Perl programs often write it as
`return($caller, %result)`: pairs, whose order is another at each call. The wire does not tell such
a list from one whose order matters, so the two answers say it together: they are pairs if each has
an even number of values, the first of every two is a text that is no number, none of these names
comes twice, and at least one of them is in both. So `("b", 2, "a", 1)` is the same as
`("a", 1, "b", 2)`, and `(3, 4, 1, 2)` is not the same as `(1, 2, 3, 4)`. Lists within an answer
have an order.

An answer that is nothing but `error` or `errors`, as any release of the Perl modules writes it, is
a failure: of two, the texts are compared, without the ` at FILE line N.` by which Perl tells where
it died. The same holds for the values of these names in an answer that has others, too.

What is shared, or stands in itself, is compared once; and only so many values are, as whoever
compares has other things to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from rpcasync.comparing.differences import BEHIND, Difference, Step, render, show
from rpcasync.comparing.scalars import PLAIN, is_number, scalar_kind
from rpcasync.storable import Blessed, ScalarRef
from rpcasync.wire.messages import FAILURE_KEYS, as_text, failure_text

__all__ = ["MOST_DIFFERENCES", "MOST_VALUES", "compare"]

MOST_DIFFERENCES = 10
MOST_VALUES = 20_000
"""What is compared in some 20 ms."""

_TAIL = 400  # characters at the end of a text, in which Perl tells where it died
_DIED = re.compile(r" at [^\n]+ line [0-9]+(?:, <[^<>\n]*> (?:line|chunk) [0-9]+)?\.?\s*\Z")
_QUICK = frozenset({str, int})
_NOTHING = object()  # stands where one of the answers has no value

_Children = Iterator[tuple[int | str, object, object]]
"""What stands in two containers: where in them, and the old and the new value."""


def compare(
    old: Sequence[object],
    new: Sequence[object],
    *,
    most: int = MOST_DIFFERENCES,
    most_values: int = MOST_VALUES,
) -> list[Difference]:
    """Return where two answers differ for a Perl program; an empty list if they are equal.

    Args:
        old: the values of one answer.
        new: those of the other.
        most: differences to look for.
        most_values: values to look at. If there are more, the last difference is "unfinished".
    """
    if len(old) == len(new) <= most_values and all(map(_is_same, old, new)):
        return []  # as most answers are, and quickly seen
    one, other = failure_text([*old]), failure_text([*new])
    if one is None and other is None:
        walk = _Walk(most, most_values)
        walk.go(_of_answers(old, new, most_values))
        return walk.found[:most]
    if one is None or other is None:
        return [Difference("", "error", _outcome(old, one), _outcome(new, other))]
    if _undied(one) == _undied(other):
        return []
    return [Difference("", "text", show(one), show(other))]


def _is_same(old: object, new: object) -> bool:
    return type(old) is type(new) and type(old) in _QUICK and old == new


def _outcome(values: Sequence[object], failure: str | None) -> str:
    return show([*values]) if failure is None else f"error {show(failure)}"


def _undied(text: object) -> object:
    """Return a text without the place where Perl died: no port can have the same."""
    if not isinstance(text, str):
        return text
    return text[:-_TAIL] + _DIED.sub("", text[-_TAIL:])


class _Walk:
    """Goes through two answers and notes in `found` where they differ.

    What is under way stands on a list, not on Python's stack: a peer says how deep it goes.
    """

    def __init__(self, most: int, most_values: int) -> None:
        self.found: list[Difference] = []
        self._most = most
        self._left = most_values
        self._seen: set[tuple[int, int]] = set()  # pairs of containers

    def go(self, children: _Children) -> None:
        """Compare what stands in two answers."""
        under_way: list[tuple[Step | None, _Children]] = [(None, children)]
        while under_way and len(self.found) < self._most:
            step, children = under_way[-1]
            for part, old, new in children:
                self._left -= 1
                if self._left < 0:
                    self._tell((step, part), "unfinished", old, new)
                    return
                if type(old) is type(new) and type(old) in _QUICK and old == new:
                    continue  # most are; as `_is_same()`, without the call
                inner = self._children_of((step, part), old, new)
                if inner is not None:
                    under_way.append(((step, part), inner))
                    break
                if len(self.found) >= self._most:
                    break
            else:
                under_way.pop()

    def _tell(self, step: Step | None, kind: str, old: object, new: object) -> None:
        one, other = ("" if each is _NOTHING else show(each) for each in (old, new))
        self.found.append(Difference(render(step), kind, one, other))

    def _children_of(self, step: Step, old: object, new: object) -> _Children | None:
        """Compare two values; return what stands in them, if that is to be compared."""
        kind: str | None
        if isinstance(old, PLAIN) and isinstance(new, PLAIN):
            kind = scalar_kind(old, new)
        elif old is _NOTHING or new is _NOTHING:
            kind = "extra" if old is _NOTHING else "missing"
        elif old is None or new is None:
            kind = "undef"
        elif (id(old), id(new)) in self._seen:
            return None
        else:
            self._seen.add((id(old), id(new)))
            return self._inside(step, old, new)
        if kind is not None:
            self._tell(step, kind, old, new)
        return None

    def _inside(self, step: Step, old: object, new: object) -> _Children | None:
        """The same, of which one is a container at least; no two of them are seen twice."""
        is_told = _class_of(old) != _class_of(new)
        if is_told:
            self._tell(step, "class", old, new)  # and what is in them is compared all the same
        old = old.value if isinstance(old, Blessed) else old
        new = new.value if isinstance(new, Blessed) else new
        if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
            if len(old) == len(new):
                return _of_lists(old, new)
            self._tell(step, "length", old, new)
        elif isinstance(old, dict) and isinstance(new, dict):
            if max(len(old), len(new)) <= self._left:
                return _of_hashes(_with_texts(old), _with_texts(new))
            self._tell(step, "unfinished", old, new)
        elif isinstance(old, ScalarRef) and isinstance(new, ScalarRef):
            return iter([(BEHIND, old.value, new.value)])
        elif type(old) is not type(new):
            if not is_told:
                self._tell(step, "type", old, new)
        elif old != new:  # patterns, and what codecs of the program's own may give
            self._tell(step, "value", old, new)
        return None


def _class_of(value: object) -> str | None:
    return value.class_name if isinstance(value, Blessed) else None


# What stands in two containers


def _of_answers(old: Sequence[object], new: Sequence[object], most: int) -> _Children:
    """Yield the values of two answers, as pairs or by their order."""
    one, other = _pairs(old, most), _pairs(new, most)
    if not one.keys().isdisjoint(other):
        for name, value, its in _of_hashes(one, other):
            is_error = name in FAILURE_KEYS
            yield name, *((_undied(value), _undied(its)) if is_error else (value, its))
    elif len(old) == len(new):
        yield from _of_lists(old, new)
    else:
        yield "", [*old], [*new]


def _pairs(values: Sequence[object], most: int) -> Mapping[str, object]:
    """Return a list as names and values; nothing if it cannot be that."""
    if len(values) % 2 or len(values) > most:
        return {}
    names = [as_text(name) for name in values[::2]]
    if not all(isinstance(name, str) and not is_number(name) for name in names):
        return {}
    pairs = dict(zip(map(str, names), values[1::2], strict=True))
    return pairs if len(pairs) == len(names) else {}


def _of_lists(old: Sequence[object], new: Sequence[object]) -> _Children:
    return zip(range(len(old)), old, new)  # noqa: B905  # of one length


def _of_hashes(old: Mapping[str, object], new: Mapping[str, object]) -> _Children:
    for key, value in old.items():
        yield key, value, new.get(key, _NOTHING)
    for key, value in new.items():
        if key not in old:
            yield key, _NOTHING, value


def _with_texts(values: Mapping[object, object]) -> Mapping[str, object]:
    """Return a hash whose keys are text, as all of Perl's are."""
    return {str(as_text(key)): value for key, value in values.items()}
