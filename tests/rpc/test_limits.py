"""The measures of a server: what they may be, and from when on they count."""

from __future__ import annotations

import pytest

from rpcasync import JSONCodec, Server, StorableCodec
from rpcasync.wire.messages import CallbackRef


def test_the_limit_may_change_at_any_time(bench, procedures):
    peer = bench.peer()
    peer.send_calls(*[("park", n) for n in range(3)])
    bench.turn()
    bench.rpc.set_limits(outstanding=2)  # below what runs: nothing is stopped
    peer.send_calls(*[("park", n) for n in range(3, 9)])
    bench.turn()
    assert procedures.ran == [0, 1, 2]
    bench.rpc.return_(procedures.parked.pop())
    bench.turn()
    assert procedures.ran == [0, 1, 2]
    bench.rpc.return_(procedures.parked.pop())
    bench.turn()
    assert procedures.ran == [0, 1, 2, 3]
    bench.rpc.set_limits(outstanding=4)
    assert procedures.ran == [0, 1, 2, 3]
    bench.turn()
    assert procedures.ran == [0, 1, 2, 3, 4, 5]
    bench.rpc.set_limits()
    bench.turn()
    assert bench.rpc.has_queued() == 3
    bench.rpc.set_limits(outstanding=None)
    bench.turn()
    assert procedures.ran == list(range(9))


def test_what_waits_goes_first_when_the_limit_is_lifted(bench, procedures):
    bench.rpc.set_limits(outstanding=1)
    peers = [bench.peer(), bench.peer()]
    bench.ask(peers[0], 0, "park", 0)
    bench.ask(peers[0], 1, "park", 1)
    peers[0].send(2, "note", "?")
    peers[1].send(0, "note", "?")
    event = bench.mux.mux(0)  # the other is queued now, in front of what the limit brings
    bench.rpc.set_limits(outstanding=None)
    bench.rpc.io(event)
    bench.turn()
    assert procedures.ran == [0, 1, "?", "?"]


@pytest.mark.parametrize(
    "limits",
    [
        {"outstanding": 0},
        {"outstanding": -1},
        {"outstanding": True},
        {"outstanding": 1.5},
        {"max_waiting": 0},
        {"max_waiting": True},
        {"max_callbacks": 0},
        {"max_callbacks": "5"},
        {"max_buffered": 0},
        {"max_buffered": 1.5},
        {"max_packet": 6},
        {"max_packet": 2**32},
        {"max_packet": True},
    ],
)
def test_limits_that_are_none(bench, procedures, limits):
    bench.rpc.set_limits(outstanding=1)
    (name,) = limits
    with pytest.raises(ValueError, match=f"{name} is .*, must be"):
        bench.rpc.set_limits(**{"max_packet": 50, "max_callbacks": 1, **limits})
    assert bench.ask(bench.peer(), 0, "note", "x" * 100) == [[0, "x" * 100]]
    refs = [CallbackRef(1), CallbackRef(2)]
    assert bench.ask(bench.peer(), 0, "keep", *refs) == [[0, 2]]
    bench.peer().send_calls(("park", 0), ("park", 1))
    bench.turn()
    assert bench.rpc.has_queued() == 1


@pytest.mark.parametrize(
    "name", ["max_outbuffer", "max_waiting", "max_callbacks", "max_packet", "max_buffered"]
)
@pytest.mark.parametrize("limit", [0, -1, True, 1.0])
def test_limits_of_a_new_server(bench, name, limit):
    with pytest.raises(ValueError, match=f"{name} is "):
        Server(bench.mux, {}, **{name: limit})


def test_a_smaller_packet_is_for_new_clients(bench):
    old = bench.peer()
    bench.rpc.set_limits(max_packet=60)
    new = bench.peer()
    assert bench.ask(old, 0, "note", "x" * 100) == [[0, "x" * 100]]
    assert bench.ask(new, 0, "note", "x") == [[0, "x"]]
    assert bench.ask(new, 0, "note", "x" * 100) == []
    assert new.ended


def test_fewer_callbacks_are_for_all(bench):
    peer = bench.peer()
    bench.rpc.set_limits(max_callbacks=1)
    packets = bench.ask(peer, 0, "keep", CallbackRef(1), CallbackRef(2))
    assert [0, "error"] in [packet[:2] for packet in packets]


def test_codecs_are_for_new_clients(bench):
    old = bench.peer("storable")
    bench.rpc.set_codecs("json")
    new, wrong = bench.peer("json"), bench.peer("storable")
    assert bench.ask(old, 0, "note", 1) == [[0, 1]]
    assert bench.ask(new, 0, "note", 1) == [[0, 1]]
    assert bench.ask(wrong, 0, "note", 1) == []
    assert wrong.ended
    bench.rpc.set_codecs(StorableCodec(byte_strings="bytes"), "json")
    for codec in (StorableCodec(), JSONCodec()):
        assert bench.ask(bench.peer(codec), 0, "note", 1) == [[0, 1]]


@pytest.mark.parametrize("codecs", [(), ("xml",), ("json", "xml")])
def test_codecs_that_are_none(bench, codecs):
    with pytest.raises(ValueError, match="codec"):
        bench.rpc.set_codecs(*codecs)
    assert bench.ask(bench.peer("storable"), 0, "note", 1) == [[0, 1]]
