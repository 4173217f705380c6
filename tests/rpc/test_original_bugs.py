"""What was wrong in the Perl original, one test for each number in the list of its faults.

Missing here, as they are about starting programs: RA-14, RA-15, RA-16 and RA-19, which
test_programs.py has.
"""

from __future__ import annotations

import functools
import gc
import logging
import re
import socket
import sys
import types

import pytest
from support.peers import set_next_id, turn

from eventmux import EventMux
from rpcasync import Client, Coderef, Disconnected, EncodeError, Server
from rpcasync.storable import Blessed, Regexp, freeze
from rpcasync.wire.messages import CallbackRef

NOTHING = object()


@pytest.fixture
def mux(timed):
    return timed


@pytest.fixture
def pair(connect):
    """A client and the server's end of its socket, as Perl speaks."""
    return connect()


def send_value(peer, value):
    """Send [0, "keep", value] where the value is of a class."""
    payload = freeze([0, "keep", NOTHING], default=lambda _: value)
    peer.sock.sendall(peer.framing.frame(payload))


def test_ra_1_what_arrives_comes_alive_in_no_class(bench, procedures):
    """A packet could name any class, and objects of it came alive, ran code and died again."""
    peer = bench.peer()
    modules = set(sys.modules)
    for name in ("os", "subprocess.Popen", "Procedures", "builtins::eval", "this"):
        send_value(peer, Blessed(name, {"args": ["true"]}))
        bench.turn()
        assert procedures.kept.pop() == (Blessed(name, {"args": ["true"]}),)
    assert set(sys.modules) == modules


def test_ra_2_packets_have_a_limit(bench, caplog):
    """A header that announced four gigabytes was believed, and so much collected."""
    peer, other = bench.peer(), bench.peer()
    peer.sock.sendall(b"\xff\xff\xff\xff" + b"x" * 1000)
    bench.turn()
    assert (peer.read(), peer.ended) == ([], True)
    assert "packet of 4294967295 bytes, limit is 16777216" in caplog.text
    assert bench.ask(other, 0, "add", "n1", 1, "n2", 2) == [[0, "sum", 3]]


def test_ra_3_an_answer_to_a_client_that_has_gone(bench, procedures):
    """Answering it was fatal: one client that did not wait ended the server."""
    peer, other = bench.peer(), bench.peer()
    bench.ask(peer, 0, "park")
    bench.ask(peer, 1, "park")
    peer.sock.close()
    assert bench.rpc.return_(procedures.parked[0], 1) is True  # as far as can be known yet
    bench.turn()
    assert bench.rpc.return_(procedures.parked[1], 1) is False
    assert bench.ask(other, 0, "add", "n1", 1, "n2", 2) == [[0, "sum", 3]]


def test_ra_4_a_failure_loses_no_other_packet(bench, procedures, mux, pair):
    """What had been read together with the call that failed was lost, in servers and clients."""
    peer = bench.peer()
    peer.send_calls(("note", "a"), ("explode",), ("note", "b"), ("note", "c"))
    bench.turn()
    answers = [answer[:2] for answer in peer.read()]
    assert answers == [[0, "a"], [1, "error"], [2, "b"], [3, "c"]]
    assert procedures.ran == ["a", "b", "c"]

    client, server = pair
    got = []
    client.a(lambda *values: 1 // 0)
    client.b(lambda *values: got.append(values))
    turn(mux, client)
    server.sock.sendall(server.packet(0, "a") + server.packet(1, "b"))
    with pytest.raises(ZeroDivisionError):
        turn(mux, client)
    assert got == [("b",)]


def test_ra_5_false_values_in_front_of_a_callback(bench, procedures):
    """The first false value ended the search for callbacks: those behind it were never set up."""
    ours, theirs = socket.socketpair()
    bench.rpc.add_client(ours)
    client = Client(bench.mux, theirs)
    got = []
    client.keep(0, "", None, 0.0, [], {}, [0, got.append], got.append, None)
    while client.has_requests():
        client.io(bench.rpc.io(bench.mux.mux()))
    *falsy, (zero, nested), plain, none = procedures.kept.pop()
    assert [*falsy, zero, none] == [0, "", None, 0, [], {}, 0, None]
    nested("nested")
    plain("plain")
    while len(got) < 2:
        client.io(bench.rpc.io(bench.mux.mux()))
    assert got == ["nested", "plain"]


@pytest.mark.parametrize("name", ["shop", "shop.stock", "shop::stock", "shop::stock::", "main"])
def test_ra_6_procedures_of_any_package(serve, monkeypatch, name):
    """Only in the main package were procedures found, but for one odd spelling of its name."""
    path = "__main__" if name == "main" else name.replace("::", ".").strip(".")
    module = types.ModuleType(path)
    monkeypatch.setitem(sys.modules, path, module)
    module.rpc_hi = lambda caller: bench.rpc.return_(caller, path)
    bench = serve(name)
    assert bench.ask(bench.peer(), 0, "hi") == [[0, path]]


def test_ra_7_whatever_can_be_called_is_a_procedure(serve):
    """Only some of the ways in which Perl keeps a sub were understood."""

    class Thing:
        def __call__(self, caller, *values):
            bench.rpc.return_(caller, *values)

        method = __call__

    namespace = types.SimpleNamespace(
        rpc_object=Thing(),
        rpc_method=Thing().method,
        rpc_lambda=lambda caller, *values: bench.rpc.return_(caller, *values),
        rpc_partial=functools.partial(Thing().method),
        rpc_number=5,
    )
    bench = serve(namespace)
    peer = bench.peer()
    for name in ("object", "method", "lambda", "partial"):
        assert bench.ask(peer, 0, name, 1) == [[0, 1]]
    assert bench.ask(peer, 0, "number")[0][1] == "error"
    assert list(bench.ask(peer, 0, "methods")[0][2]) == ["lambda", "method", "object", "partial"]


def test_ra_8_the_count_of_calls_that_run_does_not_drift(bench, procedures, caplog):
    """Some ends of a call were counted that had no beginning, and some beginnings had no end."""
    caplog.set_level(logging.CRITICAL, "rpcasync")
    bench.rpc.set_limits(outstanding=2)
    peer = bench.peer()
    bench.ask(peer, 0, "park", "held")
    for name in ("nothing", "methods", "add", "nothing"):
        bench.ask(peer, 1, name)  # answered at once: they do not make room for others
    bench.ask(bench.peer(), 1, "explode")
    going = bench.peer()
    bench.ask(going, 0, "park", "going")
    bench.ask(going, 1, "park", "never runs")
    going.sock.close()
    bench.turn()
    bench.rpc.set_limits(outstanding=2)  # forgets nothing
    for n in range(3):
        bench.ask(peer, 2 + n, "park", n)
    assert procedures.ran == ["held", "going", 0]
    assert bench.rpc.return_(procedures.parked[1]) is False  # gives nothing back twice
    bench.turn()
    assert len(procedures.ran) == 3
    bench.rpc.return_(procedures.parked[0])
    bench.turn()
    assert procedures.ran[3:] == [1]


def test_ra_9_what_waits_runs_by_itself(bench, procedures):
    """Calls that waited ran when the program asked how many there were, and not before."""
    bench.rpc.set_limits(outstanding=1)
    peer = bench.peer()
    for n in range(3):
        bench.ask(peer, n, "park", n)
    for n in range(3):
        assert procedures.ran == [*range(n + 1)]
        bench.rpc.return_(procedures.parked[n])
        bench.rpc.io(bench.mux.mux(0))
    bench.turn()
    assert len(peer.read()) == 3


def test_ra_10_the_loss_of_the_server(mux, pair):
    """It ended the client's program, and so did a disconnect of its own; callbacks never ran."""
    client, server = pair
    errors = []
    client.a(lambda error: errors.append(error))
    call = client.b()
    turn(mux, client)
    server.read()
    server.sock.close()
    for event in mux:
        assert client.io(event) is None
    assert [type(error) for error in errors] == [Disconnected]
    with pytest.raises(ConnectionError, match="the server closed the connection"):
        call.result()

    ours, theirs = socket.socketpair()
    with theirs:
        other = Client(mux, ours)
        other.disconnect()
        for event in mux:
            assert other.io(event) is None


def test_ra_11_wait(mux, clock, selector, pair):
    """It gave up too early, never said that all was answered, and left timeouts for the loop."""
    client, server = pair
    calls = [client.x() for _ in range(3)]
    turn(mux, client)
    mine = mux.timer(0.5, "mine")
    for n, seconds in enumerate((0.8, 1.2, 1.2)):
        selector.meanwhile.append((seconds, functools.partial(server.send, n, n)))
    start = clock()
    assert client.wait(4) is True
    assert 3.5 < clock() - start < 4
    assert [call.result() for call in calls] == [(0,), (1,), (2,)]
    assert client.wait(0) is True
    assert client.wait(0.25, *calls) is True
    assert [event.type for event in turn(mux, client)] == ["timer"]  # the program's own
    mine.cancel()
    late = client.y()
    start = clock()
    assert client.wait(1.5, late) is False
    assert clock() == pytest.approx(start + 1.5)


def test_ra_12_the_documented_loop_serves_listeners():
    """A server that had listeners and no client yet was taken for one that is done."""
    with EventMux() as mux:
        rpc = Server(mux, {"rpc_hi": lambda caller: rpc.return_(caller, "hello")})
        listener = rpc.listen("tcp://127.0.0.1:0")
        client = Client(mux, f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        got = []
        client.hi(
            lambda *values: got.append(values) or client.disconnect() or rpc.close_listeners()
        )
        assert rpc.has_clients()
        while rpc.has_clients():
            client.io(rpc.io(mux.mux(10)))
        assert got == [("hello",)]


def test_ra_13_callbacks_that_are_gone_take_no_memory(bench, procedures):
    """For each callback that ever came a place was kept until the client left."""
    peer = bench.peer()
    for id in range(0, 2000, 2):
        peer.send(id + 1, "keep", CallbackRef(id))
        if id % 100 == 0:
            bench.turn()
            procedures.kept.clear()
    bench.turn()
    procedures.kept.clear()
    bench.turn()
    assert len(procedures.connection.coderefs) == 0
    assert not any(isinstance(thing, Coderef) for thing in gc.get_objects())
    assert sum(packet[1:] == ["destroy"] for packet in peer.read()) == 1000


def test_ra_17_patterns(bench, procedures, mux, pair):
    """A pattern lost its flags on the way, and one with a line break did not arrive at all."""
    client, _server = pair
    for pattern in (re.compile("a\nb", re.IGNORECASE), [re.compile("x")]):
        with pytest.raises(EncodeError, match=r"cannot send args\[0\].*: Pattern: "):
            client.x(pattern, None)
    assert not client.has_requests()
    peer = bench.peer()
    image = b"\x05\x0b\x02\0\0\0\x03\x08\x80\x0a\x04keep\x04\x11\x06Regexp\x20\0\x03a\nb\x02im"
    peer.sock.sendall(peer.framing.frame(image))
    bench.turn()
    assert procedures.last() == Blessed("Regexp", Regexp("a\nb", "im"))


def test_ra_18_ids_that_are_in_use(mux, pair):
    """When the counter began anew, it could hit a call or callback that was still alive."""
    client, server = pair
    old = client.old([print])  # the callback is 0, the call 1
    set_next_id(client._protocol, 0x7FFFFFFF)
    last, first = client.last(), client.first([print])
    assert [old.id, last.id, first.id] == [1, 0x7FFFFFFF, 3]
    assert client.has_coderefs() == 2
    turn(mux, client)
    for call in (first, old, last):
        server.send(call.id, call.procedure)
    turn(mux, client)
    assert [call.result() for call in (old, last, first)] == [("old",), ("last",), ("first",)]


@pytest.mark.parametrize("value", [[], [7], {"id": 7}, [[], "add"], [7, ["add"]]])
def test_ra_20_what_is_no_call_or_answer(bench, mux, pair, caplog, value):
    """What could be decoded and made no sense was ignored in silence, and its sender waited."""
    peer = bench.peer()
    peer.sock.sendall(peer.framing.frame(peer.codec.encode(value)))
    bench.turn()
    assert (peer.read(), peer.ended) == ([], True)
    assert "disconnected: not a " in caplog.text

    client, server = pair
    call = client.x()
    turn(mux, client)
    if isinstance(value, dict) or not value or value[0] != 7:
        server.sock.sendall(server.framing.frame(server.codec.encode(value)))
        with pytest.raises(Disconnected, match="not a "):
            call.result()
