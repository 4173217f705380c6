"""Values in lists, dicts and references: one function for all that goes through such a tree.

This file knows nothing of what is in the leaves.
"""

from __future__ import annotations

from collections.abc import Callable

from rpcasync.storable import ScalarRef

__all__ = ["map_leaves"]


def map_leaves(values: list[object], function: Callable[[object], object]) -> list[object]:
    """Return a copy of lists, dicts and ScalarRefs in each other, with what is in them mapped.

    What stands in two places is copied once.

    Raises:
        ValueError: something stands inside itself, or is nested too deeply for Python.
    """
    done: dict[int, tuple[object, object]] = {id(values): (values, None)}
    try:
        return [_map(value, function, done) for value in values]
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _map(
    value: object,
    function: Callable[[object], object],
    done: dict[int, tuple[object, object]],
) -> object:
    """Map one value. `done` has what was met, by id, and keeps it alive so that ids stay unique."""
    if not isinstance(value, (list, tuple, dict, ScalarRef)):
        return function(value)
    if id(value) in done:
        mapped = done[id(value)][1]
        if mapped is None:
            raise ValueError(f"{type(value).__name__} stands inside itself")
        return mapped
    done[id(value)] = value, None
    if isinstance(value, dict):
        mapped = {key: _map(item, function, done) for key, item in value.items()}
    elif isinstance(value, ScalarRef):
        mapped = ScalarRef(_map(value.value, function, done))
    else:
        mapped = [_map(item, function, done) for item in value]
    done[id(value)] = value, mapped
    return mapped
