"""Functions that a client passes to a server: both ends together, and a gateway."""

from __future__ import annotations

import functools
import gc
import socket

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.peers import Bench, Peer, turn
from support.procedures import Procedures

from eventmux import EventMux
from rpcasync import Client, Coderef, Disconnected, RemoteError
from rpcasync.wire.messages import CallbackRef

# Both ends


@pytest.fixture
def ends(bench, codec):
    ours, theirs = socket.socketpair()
    bench.rpc.add_client(ours)
    return Client(bench.mux, theirs, codec=codec)


def test_there_and_back(bench, procedures, ends):
    got = []
    ends.count(lambda *values: got.append(values), upto=3, progress=lambda *v: got.append(v))
    turn(bench.mux, bench.rpc, ends)
    assert got == [(0, "name", "x"), (1, "name", "x"), (2, "name", "x"), ("done",)]
    assert ends.has_coderefs() == 0


def test_has_coderefs_counts_down(bench, procedures, ends):
    ends.keep(print, [print, print], None)
    turn(bench.mux, bench.rpc, ends)
    first, (second, third), _none = procedures.kept.pop()
    counts = [ends.has_coderefs()]
    first.release()
    turn(bench.mux, bench.rpc, ends)
    counts.append(ends.has_coderefs())
    del second
    turn(bench.mux, bench.rpc, ends)
    counts.append(ends.has_coderefs())
    del third
    turn(bench.mux, bench.rpc, ends)
    counts.append(ends.has_coderefs())
    assert counts == [3, 2, 1, 0]


@pytest.mark.slow
def test_a_thousand_in_one_call(bench, procedures, ends):
    got = []
    functions = [functools.partial(got.append, n) for n in range(1000)]
    ends.keep(functions)
    turn(bench.mux, bench.rpc, ends)
    assert ends.has_coderefs() == len(procedures.connection.coderefs) == 1000
    for callback in procedures.kept[0][0]:
        callback()
    del callback
    procedures.kept.clear()
    turn(bench.mux, bench.rpc, ends)
    assert got == list(range(1000))
    assert ends.has_coderefs() == len(procedures.connection.coderefs) == 0
    assert not any(isinstance(thing, Coderef) for thing in gc.get_objects())


def test_a_thousand_calls(bench, procedures, ends):
    answers = []
    for _ in range(1000):
        ends.ignore(print, [print], lambda *values: answers.append(values))
    ends.nothing(print, lambda error: answers.append(type(error)))
    turn(bench.mux, bench.rpc, ends)
    assert answers == [()] * 1000 + [RemoteError]
    assert ends.has_coderefs() == len(procedures.connection.coderefs) == 0
    assert not any(isinstance(thing, Coderef) for thing in gc.get_objects())


class Ends(RuleBasedStateMachine):
    """A client passes functions; a server calls them, and lets go of them in all its ways."""

    def __init__(self):
        super().__init__()
        self.mux = EventMux()
        self.procedures = Procedures()
        self.bench = self.procedures.bench = Bench(self.mux, self.procedures)
        self.connect()

    def connect(self):
        ours, theirs = socket.socketpair()
        self.bench.rpc.add_client(ours)
        self.client = Client(self.mux, theirs, codec="json")
        self.count = 0
        self.got = []
        self.expected = []

    @property
    def kept(self):
        return self.procedures.kept

    def turn(self):
        assert turn(self.mux, self.bench.rpc, self.client) == []

    @rule(count=st.integers(1, 4))
    def passes(self, count):
        names = range(self.count, self.count + count)
        self.count += count
        self.client.keep(*(functools.partial(self.got.append, name) for name in names), None)
        self.turn()
        *callbacks, _none = self.kept.pop()
        self.kept.extend(zip(names, callbacks, strict=True))
        del callbacks

    @precondition(lambda self: self.kept)
    @rule(data=st.data(), turns=st.booleans())
    def calls(self, data, turns):
        name, callback = self.kept[data.draw(st.integers(0, len(self.kept) - 1))]
        callback()
        self.expected.append(name)
        if turns:
            self.turn()

    @precondition(lambda self: self.kept)
    @rule(data=st.data(), how=st.sampled_from(["release", "drop", "circle"]))
    def lets_go(self, data, how):
        _name, callback = self.kept.pop(data.draw(st.integers(0, len(self.kept) - 1)))
        if how == "release":
            callback.release()
        elif how == "circle":
            circle = [callback]
            circle.append(circle)
            del circle, callback
            gc.collect()

    @rule()
    def ends(self):
        self.client.disconnect()
        self.turn()
        assert not any(callback.alive for _name, callback in self.kept)
        assert self.client.has_coderefs() == 0
        self.kept.clear()
        self.connect()

    @invariant()
    def agree(self):
        self.turn()
        assert self.client.has_coderefs() == len(self.kept)
        assert self.got == self.expected
        if self.procedures.connection is not None and not self.procedures.connection.gone:
            assert len(self.procedures.connection.coderefs) == len(self.kept)

    def teardown(self):
        self.client.disconnect()
        self.kept.clear()
        self.bench.close()
        self.mux.__exit__(None, None, None)


TestEnds = Ends.TestCase


TestEnds.settings = settings(max_examples=settings.default.max_examples, stateful_step_count=20)


# A gateway passes a callback of its client to another server


class Gateway:
    def __init__(self, mux):
        self.mux = mux
        self.bench = Bench(mux, self)
        ours, theirs = socket.socketpair()
        self.back = Client(mux, ours)
        self.server = Peer(theirs)
        self.front = self.bench.peer()

    def rpc_pass(self, caller, callback: Coderef, flag=0):
        self.back.watch(callback=callback)
        self.bench.rpc.return_(caller)

    def turn(self):
        assert turn(self.mux, self.bench.rpc, self.back) == []

    def close(self):
        self.bench.close()
        self.server.sock.close()


@pytest.fixture
def gateway(mux):
    gateway = Gateway(mux)
    yield gateway
    gateway.close()


def test_a_gateway(gateway):
    gateway.front.send(8, "pass", "callback", CallbackRef(7))
    gateway.turn()
    assert gateway.front.read() == [[8]]
    assert gateway.server.read() == [[1, "watch", "callback", CallbackRef(0)]]
    gateway.server.send(0, "call", 1, "k", [2])
    gateway.turn()
    assert gateway.front.read() == [[7, "call", 1, "k", [2]]]
    gateway.server.send(1, "answer")
    gateway.server.send(0, "destroy")
    gateway.turn()
    assert gateway.front.read() == [[7, "destroy"]]
    assert gateway.back.has_coderefs() == 0


def test_the_client_of_a_gateway_goes(gateway):
    gateway.front.send(8, "pass", "callback", CallbackRef(7))
    gateway.turn()
    gateway.front.sock.close()
    gateway.server.send(0, "call", "before it is known")
    gateway.turn()
    gateway.server.send(0, "call", "after")
    gateway.turn()  # and nothing is raised
    assert gateway.back.has_coderefs() == 1  # it is the other server that says when it is done
    gateway.server.send(0, "destroy")
    gateway.turn()
    assert gateway.back.has_coderefs() == 0


def test_another_lost_connection_in_a_callback_is_raised(gateway):
    def fail(*values):
        raise Disconnected("the program's own")

    gateway.back.watch(fail, None)
    gateway.turn()
    gateway.server.send(0, "call")
    with pytest.raises(Disconnected, match="the program's own"):
        gateway.turn()
