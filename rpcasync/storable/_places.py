"""Where in a value that cannot be sent the fault is: `deep[0]["a"]: set`.

Writers look for it only when they have failed, by a second walk, so that what can be sent does not
pay. The one rule: it must not make things worse. The walk and the text are bounded, whatever the
value is, and where nothing is found the first error stands.

This file does not know what can be sent: it asks for each value by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from rpcasync.errors import EncodeError
from rpcasync.storable._opcodes import LEAST_INT, MOST_INT
from rpcasync.storable._values import ScalarRef

__all__ = ["located", "located_in_list"]

_MOST_WORK = 10_000  # values to look at, or that many times as many bytes:
_BYTES = 256
_MOST_LEVELS = 300
_MOST_STEPS = 20  # to show; what is between is left out
_LONGEST_KEY = 40

_KINDS = (list, tuple, dict, ScalarRef)

_Refuse: TypeAlias = Callable[[object], object]
_Steps: TypeAlias = list[str]


def located(error: EncodeError, value: object, refuse: _Refuse) -> EncodeError:
    """Return an error that says where in a value the fault is; the same one if that is not found.

    Args:
        error: what the writer said.
        value: what it was to write.
        refuse: writes a single value; raises EncodeError if it cannot be sent.
    """
    return _retold(error, _Search(refuse).look_for(value))


def located_in_list(
    error: EncodeError, values: list[object], name: str, refuse: _Refuse
) -> EncodeError:
    """Return the same for the arguments of a call, or the values of an answer.

    Args:
        error: what the writer said.
        values: what it was to write. If they are names and values in turn, a value is known by its
            name.
        name: what else they are called.
        refuse: as for `located()`.
    """
    search = _Search(refuse)
    is_named = len(values) % 2 == 0 and all(isinstance(each, str) for each in values[::2])
    for index, value in enumerate(values):
        found = search.look_for(value)
        if found is not None:
            root = f"{name}[{index}]"
            if is_named and index % 2:
                root = _cut(str(values[index - 1]))
            found[0].insert(0, root)
            return _retold(error, found)
    return error


def _retold(error: EncodeError, found: tuple[_Steps, str] | None) -> EncodeError:
    if found is None or not found[0]:
        return error
    steps, reason = found
    if len(steps) > _MOST_STEPS:
        half = _MOST_STEPS // 2
        steps = [*steps[:half], "...", *steps[-half:]]
    reason = reason.removeprefix("cannot send ").removeprefix("as JSON: ")
    return EncodeError(f"cannot send {''.join(steps)}: {reason}")


class _Enough(Exception):
    """The fault is not where it could be found with little work."""


class _Search:
    """Looks at values, until it has done all the work that it may.

    A value may be refused for its size alone, so it must not be copied once more to find that out.
    """

    def __init__(self, refuse: _Refuse) -> None:
        self._refuse = refuse
        self._left = _MOST_WORK

    def look_for(self, value: object) -> tuple[_Steps, str] | None:
        """Return the steps to the first value that is refused, and why it is; None if not found."""
        try:
            return self._find(value)
        except Exception:  # noqa: BLE001  # `_Enough`, or a type of the program's own failed in it
            return None  # the first error is told, and is what matters

    def _find(self, value: object) -> tuple[_Steps, str] | None:
        if not isinstance(value, _KINDS):
            reason = self._refused(value)
            return None if reason is None else ([], reason)
        steps: _Steps = []
        above = [value]
        walks = [self._parts(value)]
        while walks:
            part = next(walks[-1], None)
            if part is None:
                walks.pop()
                above.pop()
                del steps[-1:]
                continue
            step, item, reason = part
            self._spend(1)
            if reason is None and isinstance(item, _KINDS):
                if any(item is each for each in above):
                    reason = f"{type(item).__name__} stands inside itself"
                elif len(walks) < _MOST_LEVELS:
                    steps.append(step)
                    above.append(item)
                    walks.append(self._parts(item))
                    continue
                else:
                    return None
            if reason is None:
                reason = self._refused(item)
            if reason is not None:
                return [*steps, *([step] if step else [])], reason
        return None

    def _parts(self, value: Any) -> Iterator[tuple[str, object, str | None]]:
        """Yield what stands in a container: the step to it, it, and what is wrong with its key."""
        if isinstance(value, dict):
            for key, item in value.items():
                if type(key) is not str or not key.isascii():
                    self._spend(_size(key) // _BYTES)
                    reason = self._refused({key: None})
                    if reason is not None:
                        yield "", item, reason
                        continue
                yield f"[{_quoted(str(key))}]", item, None
        elif isinstance(value, ScalarRef):
            yield ".value", value.value, None
        else:
            for index, item in enumerate(value):
                yield f"[{index}]", item, None

    def _refused(self, value: Any) -> str | None:
        """Return why a value that holds no other cannot be sent, if it cannot."""
        kind = type(value)
        if value is None or kind is bool or (kind is str and value.isascii()):
            return None
        if kind is int and LEAST_INT <= value <= MOST_INT:
            return None
        self._spend(_size(value) // _BYTES)
        try:
            self._refuse(value)
        except EncodeError as error:
            return str(error)
        return None

    def _spend(self, work: int) -> None:
        self._left -= work
        if self._left < 0:
            raise _Enough


def _size(value: object) -> int:
    """Return about how many bytes a value takes."""
    if isinstance(value, memoryview):
        return value.nbytes
    if isinstance(value, int):
        return value.bit_length() // 8
    return len(value) if isinstance(value, (str, bytes, bytearray)) else 0


def _quoted(key: str) -> str:
    text = repr(_cut(key))[1:-1].replace('"', '\\"')
    return f'"{text}"'


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_KEY else f"{text[: _LONGEST_KEY - 3]}..."
