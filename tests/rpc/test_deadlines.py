"""A heap of deadlines against a dict of them."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rpcasync.wire.deadlines import Deadlines

KEYS = st.integers(0, 5)
TIMES = st.integers(0, 20).map(lambda n: n / 4)


def take_due(deadlines, now):
    """Return the keys that are due, in order, and discard them."""
    taken = []
    while (key := deadlines.first(now)) is not None:
        assert deadlines.first(now) == key  # it stays
        deadlines.discard(key)
        taken.append(key)
    return taken


class Model(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.deadlines = Deadlines()
        self.due = {}

    @rule(key=KEYS, due=TIMES)
    def set(self, key, due):
        self.deadlines.set(key, due)
        self.due[key] = due

    @rule(key=KEYS)
    def discard(self, key):
        self.deadlines.discard(key)
        self.due.pop(key, None)

    @rule(now=TIMES)
    def take_due(self, now):
        taken = take_due(self.deadlines, now)
        assert sorted(taken) == sorted(key for key, due in self.due.items() if due <= now)
        times = [self.due.pop(key) for key in taken]
        assert times == sorted(times)

    @rule()
    def clear(self):
        self.deadlines.clear()
        self.due.clear()

    @invariant()
    def agree(self):
        assert bool(self.deadlines.due) == bool(self.due)
        assert self.deadlines.next() == min(self.due.values(), default=None)


TestModel = Model.TestCase


def test_what_is_due_at_the_same_time_comes_in_order_of_keys():
    deadlines = Deadlines()
    for key in (3, 1, 2):
        deadlines.set(key, 5.0)
    assert take_due(deadlines, 4.9) == []
    assert take_due(deadlines, 5.0) == [1, 2, 3]
    assert take_due(deadlines, 5.0) == []


def test_what_is_set_again_is_due_once():
    deadlines = Deadlines()
    for due in (5.0, 3.0, 5.0, 5.0):
        deadlines.set(1, due)
    assert take_due(deadlines, 4.0) == []
    assert take_due(deadlines, 9.0) == [1]
    deadlines.set(1, 5.0)
    assert take_due(deadlines, 9.0) == [1]
    assert deadlines.next() is None


def test_what_is_discarded_takes_no_memory():
    deadlines = Deadlines()
    for key in range(10):
        deadlines.set(key, 1e9)
    for key in range(10, 100_000):
        deadlines.set(key, 60.0 + key)
        deadlines.discard(key)
        assert len(deadlines._heap) < 200
    assert deadlines.next() == 1e9
    assert take_due(deadlines, 1e9) == list(range(10))


def test_what_is_set_again_and_again_takes_no_memory():
    deadlines = Deadlines()
    for now in range(100_000):
        deadlines.set(1, 60.0 + now)
        assert len(deadlines._heap) < 200
    assert take_due(deadlines, 100_058.0) == []
    assert take_due(deadlines, 100_059.0) == [1]
