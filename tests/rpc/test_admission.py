"""The pure class against a naive model: a list of what waits and one of what runs."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rpcasync.serving.admission import Admission
from rpcasync.wire.messages import Request


class Client:
    """What admission knows of a connection."""

    def __init__(self):
        self.gone = False
        self.running = 0
        self.waiting = 0
        self.waiting_size = 0
        self.stalled = []


class Model(RuleBasedStateMachine):
    """A server that takes calls as they come and runs what it may."""

    def __init__(self):
        super().__init__()
        self.admission = Admission()
        self.clients = [Client() for _ in range(3)]
        self.limit = None
        self.waiting = []
        self.running = []
        self.stalled = []
        self.number = 0

    def may_run(self):
        return self.limit is None or len(self.running) < self.limit

    @rule(client=st.integers(0, 2))
    def call_comes(self, client):
        client = self.clients[client]
        self.number += 1
        may_run = self.may_run() and not self.waiting
        assert self.admission.admit(client) == may_run
        if may_run:
            self.running.append((client, self.number))
        else:
            self.admission.put(client, Request(self.number, "x", [], size=self.number))
            self.waiting.append((client, self.number))

    @rule(client=st.integers(0, 2))
    def unknown_procedure(self, client):
        """It is answered at once, whatever waits, and counts meanwhile."""
        self.admission.start(self.clients[client])
        self.admission.finish(self.clients[client])

    @rule()
    def run_next(self):
        taken = self.admission.take()
        if not self.waiting or not self.may_run():
            assert taken is None
            return
        client, number = self.waiting.pop(0)
        assert taken is not None
        assert taken[0] is client
        assert taken[1].id == number
        self.admission.start(client)
        self.running.append((client, number))

    @precondition(lambda self: self.waiting)
    @rule()
    def set_next_aside(self):
        """Its client does not read."""
        taken = self.admission.take()
        if not self.may_run():
            assert taken is None
            return
        self.admission.stall(*taken)
        self.stalled.append(self.waiting.pop(0))

    @rule(index=st.integers(0, 2))
    def client_reads(self, index):
        client = self.clients[index]
        self.admission.resume(client)
        self.waiting[:0] = [entry for entry in self.stalled if entry[0] is client]
        self.stalled = [entry for entry in self.stalled if entry[0] is not client]

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def answer(self, data):
        index = data.draw(st.integers(0, len(self.running) - 1))
        self.admission.finish(self.running.pop(index)[0])

    @rule(index=st.integers(0, 2), answered=st.booleans())
    def client_goes(self, index, answered):
        client = self.clients[index]
        client.gone = True
        self.admission.forget(client)
        late = [entry for entry in self.running if entry[0] is client]
        self.running = [entry for entry in self.running if entry[0] is not client]
        self.waiting = [entry for entry in self.waiting if entry[0] is not client]
        self.stalled = [entry for entry in self.stalled if entry[0] is not client]
        if answered:  # by a program that does not know
            for entry in late:
                self.admission.finish(entry[0])
        assert (client.running, client.waiting) == (0, 0)
        self.clients[index] = Client()

    @rule(limit=st.none() | st.integers(1, 4))
    def change_limit(self, limit):
        self.limit = self.admission.outstanding = limit

    @invariant()
    def counts_agree(self):
        assert len(self.admission) == len(self.waiting) + len(self.stalled)
        assert self.admission.has_next() == (bool(self.waiting) and self.may_run())
        assert self.admission._running == len(self.running)
        for client in self.clients:
            assert client.running == sum(entry[0] is client for entry in self.running)
            waiting = [*self.waiting, *self.stalled]
            assert client.waiting == sum(entry[0] is client for entry in waiting)
            assert client.waiting_size == sum(n for other, n in waiting if other is client)


TestModel = Model.TestCase


@pytest.fixture
def full():
    """One call runs, and no other may."""
    admission = Admission()
    admission.outstanding = 1
    admission.start(Client())
    return admission


def leave(admission, client):
    client.gone = True
    admission.forget(client)


def test_clients_that_have_gone_take_no_memory(full):
    staying = Client()
    full.put(staying, Request(0, "x", []))
    for _ in range(1000):
        client = Client()
        for number in range(10):
            full.put(client, Request(number, "x", []))
        leave(full, client)
        assert len(full) == 1
        assert len(full.queue) < 200


def test_they_do_not_hold_up_those_behind_them(full):
    gone, staying = Client(), Client()
    for client in (gone, staying, gone, staying):
        full.put(client, Request(id(client), "x", []))
    leave(full, gone)
    assert not full.has_next()
    full.outstanding = 2
    assert full.has_next()
    assert full.take() == (staying, Request(id(staying), "x", []))
    full.start(staying)
    assert full.take() is None
    full.outstanding = None
    assert full.take() is not None
    assert full.take() is None
    assert len(full.queue) == len(full) == 0
    assert full.admit(Client())


def test_what_waits_goes_first_when_there_is_no_limit_any_more(full):
    full.put(Client(), Request(0, "x", []))
    full.outstanding = None
    assert not full.admit(Client())
    full.take()
    assert full.admit(Client())
