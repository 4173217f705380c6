"""Values in lists, dicts and references: what goes through such a tree.

This file knows nothing of what is in the leaves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from rpcasync.storable import Blessed, ScalarRef

__all__ = ["map_leaves", "memory_of"]

_UNFINISHED = object()


def map_leaves(values: list[object], function: Callable[[object], object]) -> list[object]:
    """Return lists, dicts and ScalarRefs in each other, with what is in them mapped.

    What has a leaf in it that the function returns another for is copied, once for all places where
    it stands, and all else stays the same object: of a million values from a peer, few may matter.

    Raises:
        ValueError: something stands inside itself, or is nested too deeply for Python.
    """
    try:
        mapped: Any = _map(values, function, {})
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return [*mapped] if mapped is values else mapped


def _map(value: Any, function: Callable[[object], object], done: dict[int, object]) -> object:
    """Map what is in a container. `done` has what became of others, by id: all live as long."""
    found = done.get(id(value))
    if found is not None:
        if found is _UNFINISHED:
            raise ValueError(f"{type(value).__name__} stands inside itself")
        return found
    done[id(value)] = _UNFINISHED
    pairs: Iterable[tuple[Any, object]] = ()
    if isinstance(value, dict):
        pairs = value.items()
    else:
        pairs = enumerate((value.value,) if isinstance(value, ScalarRef) else value)
    changed = {}
    for key, item in pairs:
        if not isinstance(item, (list, tuple, dict, ScalarRef)):
            mapped = function(item)
        elif item or type(item) is tuple:
            mapped = _map(item, function, done)
        else:
            mapped = item
        if mapped is not item:
            changed[key] = mapped
    done[id(value)] = mapped = _with(value, changed) if changed or type(value) is tuple else value
    return mapped


def _with(value: Any, changed: dict[Any, object]) -> object:
    """Return a copy in which some values are others."""
    if isinstance(value, ScalarRef):
        return ScalarRef(changed[0])
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    for key, item in changed.items():
        copy[key] = item
    return copy


_CONTAINERS = frozenset({list, dict, ScalarRef, Blessed})
_FREE = frozenset({int, bool, type(None)})  # most ints are small, and kept once by Python


def memory_of(values: list[object]) -> int:
    """Return about how many bytes of memory values from a peer take, and what is in them.

    What is shared counts in each of its places, as it does for the limits of a codec.
    """
    size_of = sys.getsizeof
    total = 0
    todo: list[Any] = [values]
    while todo:
        container = todo.pop()
        total += size_of(container)
        items: Iterable[object] = container
        if type(container) is dict:
            total += sum(map(size_of, container))
            items = container.values()
        elif type(container) is not list:
            items = (container.value,)
        for item in items:
            kind = type(item)
            if kind in _CONTAINERS:
                todo.append(item)
            elif kind not in _FREE:
                total += size_of(item)
    return total
