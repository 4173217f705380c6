"""The pure class against a naive model: what runs, and whose calls wait in which order."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rpcasync.serving.admission import Admission


class Client:
    """What admission knows of a connection."""

    def __init__(self):
        self.gone = False
        self.running = 0
        self.calls = None
        self.waiting = 0
        self.waiting_size = 0
        self.stalled = False


class Call:
    """What admission knows of a call."""

    def __init__(self, peer, number=0):
        self._peer = peer
        self.number = self.size = number
        self.answered = None


class Model(RuleBasedStateMachine):
    """A server that takes calls as they come and runs what it may."""

    def __init__(self):
        super().__init__()
        self.admission = Admission()
        self.clients = [Client() for _ in range(3)]
        self.limit = None
        self.waiting = {client: [] for client in self.clients}
        self.line = []  # clients, in the order of their turns
        self.running = []
        self.number = 0

    def may_run(self):
        return self.limit is None or len(self.running) < self.limit

    @rule(client=st.integers(0, 2))
    def call_comes(self, client):
        client = self.clients[client]
        self.number += 1
        call = Call(client, self.number)
        may_run = self.may_run() and not self.line and not self.waiting[client]
        assert self.admission.admit(client, call) == may_run
        if may_run:
            self.running.append(call)
            return
        self.admission.put(client, call)
        self.waiting[client].append(call)
        if not client.stalled and client not in self.line:
            self.line.append(client)

    @rule(client=st.integers(0, 2))
    def unknown_procedure(self, client):
        """It is answered at once, whatever waits, and counts meanwhile."""
        call = Call(self.clients[client])
        self.admission.start(call._peer, call)
        self.admission.finish(call)

    @rule()
    def run_next(self):
        client = self.admission.next_peer()
        if not self.line or not self.may_run():
            assert client is None
            return
        assert client is self.line.pop(0)
        call = self.admission.take(client)
        assert call is self.waiting[client].pop(0)
        if self.waiting[client]:
            self.line.append(client)
        self.admission.start(client, call)
        self.running.append(call)

    @precondition(lambda self: self.line)
    @rule()
    def set_next_aside(self):
        """It does not read."""
        client = self.line.pop(0)
        self.admission.stall(client)

    @rule(index=st.integers(0, 2))
    def client_reads(self, index):
        client = self.clients[index]
        self.admission.resume(client)
        if self.waiting[client] and client not in self.line:
            self.line.append(client)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), times=st.integers(1, 2))
    def answer(self, data, times):
        call = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        for _ in range(times):
            self.admission.finish(call)
            assert call.answered

    @rule()
    def something_is_interrupted(self):
        self.admission._round.clear()
        self.admission._waiting = 7
        self.admission.recount(self.clients)
        self.line = [client for client in self.clients if self.waiting[client]]

    @rule(index=st.integers(0, 2), answered=st.booleans())
    def client_goes(self, index, answered):
        client = self.clients[index]
        for _ in "ab":
            self.admission.forget(client)
        assert client.gone
        assert (client.running, client.waiting, client.calls) == (0, 0, None)
        late = [call for call in self.running if call._peer is client]
        self.running = [call for call in self.running if call._peer is not client]
        self.line = [each for each in self.line if each is not client]
        del self.waiting[client]
        if answered:  # by a program that does not know
            for call in late:
                self.admission.finish(call)
        self.clients[index] = Client()
        self.waiting[self.clients[index]] = []

    @rule(limit=st.none() | st.integers(1, 4))
    def change_limit(self, limit):
        self.limit = self.admission.outstanding = limit

    @invariant()
    def counts_agree(self):
        assert len(self.admission) == sum(map(len, self.waiting.values()))
        assert self.admission.has_next() == (bool(self.line) and self.may_run())
        assert self.admission._running == len(self.running)
        for client in self.clients:
            assert client.running == sum(call._peer is client for call in self.running)
            assert client.waiting == len(self.waiting[client])
            assert client.waiting_size == sum(call.size for call in self.waiting[client])


TestModel = Model.TestCase


@pytest.fixture
def full():
    """One call runs, and no other may."""
    admission = Admission()
    admission.outstanding = 1
    client = Client()
    admission.start(client, Call(client))
    return admission


def test_clients_that_have_gone_take_no_memory(full):
    staying = Client()
    full.put(staying, Call(staying))
    for _ in range(1000):
        client = Client()
        for number in range(10):
            full.put(client, Call(client, number))
        full.forget(client)
        assert len(full) == len(full._round) == 1


def test_one_client_with_many_calls_has_every_second_turn(full):
    greedy, modest = Client(), Client()
    for number in range(4):
        full.put(greedy, Call(greedy, number))
    for number in (10, 11):
        full.put(modest, Call(modest, number))
    full.outstanding = None
    taken = []
    while (peer := full.next_peer()) is not None:
        taken.append(full.take(peer).number)
    assert taken == [0, 10, 1, 11, 2, 3]


def test_what_waits_goes_first_when_there_is_no_limit_any_more(full):
    waiting, other = Client(), Client()
    full.put(waiting, Call(waiting))
    full.outstanding = None
    assert not full.admit(other, Call(other))
    full.take(waiting)
    assert full.admit(other, Call(other))


def test_a_call_that_never_ran_gives_nothing_back(full):
    client = Client()
    call = Call(client)
    full.finish(call)
    assert call.answered
    assert full._running == 1
