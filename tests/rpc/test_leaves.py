"""`map_leaves` against a naive one."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpcasync.storable import Blessed, ScalarRef, freeze, thaw
from rpcasync.wire.leaves import map_leaves, memory_of

LEAVES = st.none() | st.integers() | st.text() | st.binary()


TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text(), inner)
        | inner.map(ScalarRef)
    ),
    max_leaves=30,
)


def naive(value):
    if isinstance(value, ScalarRef):
        return ScalarRef(naive(value.value))
    if isinstance(value, dict):
        return {key: naive(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [naive(item) for item in value]
    return ("leaf", value)


@given(st.lists(TREES))
def test_leaves_are_mapped_and_the_rest_is_copied(values):
    before = repr(values)
    assert map_leaves(values, lambda leaf: ("leaf", leaf)) == naive(values)
    assert repr(values) == before


@given(TREES, st.integers(1, 5))
def test_what_stands_in_two_places_is_mapped_once(tree, times):
    seen: list[object] = []
    shared = [object(), tree]
    mapped = map_leaves([shared] * times, lambda leaf: seen.append(leaf) or len(seen))
    assert seen.count(shared[0]) == 1
    assert all(item is mapped[0] for item in mapped)


def test_subclasses_are_containers():
    class Table(dict):
        pass

    assert map_leaves([Table(a=1)], str) == [{"a": "1"}]


def in_list(inner):
    return [inner]


def in_dict(inner):
    return {"a": inner}


@pytest.mark.parametrize("wrap", [in_list, in_dict, ScalarRef])
def test_what_stands_inside_itself(wrap):
    knot: list[object] = []
    knot.append(wrap(knot))
    with pytest.raises(ValueError, match="list stands inside itself"):
        map_leaves([knot], str)
    with pytest.raises(ValueError, match="list stands inside itself"):
        map_leaves(knot, str)


def test_what_is_nested_too_deeply():
    tree: list[object] = []
    for _ in range(100_000):
        tree = [tree]
    with pytest.raises(ValueError, match="nested too deeply"):
        map_leaves(tree, str)
    while tree:
        tree = tree[0]


@pytest.mark.parametrize(
    "item", [[], {}, "text", 2.5, ["text"], {"name": "text"}, ScalarRef("text"), None, 1]
)
def test_memory_is_about_what_python_takes(item):
    image = freeze([item] * 1000)
    tracemalloc.start()
    try:
        values = thaw(image)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken / 2 < memory_of(values) < taken * 2


def test_memory_of_objects_and_nested_values():
    text = "x" * 10_000
    for value in (Blessed("Class", [text]), [[[text]]], {"a": {text: 1}}, ScalarRef([text])):
        assert 10_000 < memory_of([value]) < 11_000
