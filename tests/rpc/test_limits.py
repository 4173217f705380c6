"""`set_limits`, `has_queued`, `set_codecs` and the other measures of a server, by its own loop."""

from __future__ import annotations

import gc
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.peers import Bench

from eventmux import EventMux
from rpcasync import Disconnected, Fault, JSONCodec, Server, StorableCodec
from rpcasync.messages import CallbackRef


class Procedures:
    """What the tests call: each notes that it ran."""

    def __init__(self):
        self.ran = []
        self.parked = []
        self.most = 0

    def rpc_park(self, caller, n=None, /):
        self.ran.append(n)
        self.parked.append(caller)
        self.most = max(self.most, len(self.parked))

    def rpc_note(self, caller, n, /):
        self.ran.append(n)
        self.bench.rpc.return_(caller, n)

    def rpc_error(self, caller):
        self.bench.rpc.error(caller, "no")

    def rpc_fault(self, caller):
        raise Fault("no")

    def rpc_late_fault(self, caller):
        self.bench.rpc.return_(caller)
        raise Fault("no")

    def rpc_explode(self, caller):
        raise RuntimeError("secret")

    def rpc_unsendable(self, caller):
        self.bench.rpc.return_(caller, object())

    def rpc_forget(self, caller):
        pass

    def rpc_twice(self, caller):
        self.bench.rpc.return_(caller)
        self.bench.rpc.return_(caller)

    def rpc_wrong(self, caller, needed: int):
        self.ran.append(needed)

    def rpc_answer_first(self, caller):
        self.bench.rpc.return_(self.parked.pop(0))
        self.bench.rpc.return_(caller)

    def rpc_big(self, caller, size: int, /):
        self.ran.append(size)
        self.bench.rpc.return_(caller, "x" * size)

    def rpc_turn(self, caller, n, /):
        self.ran.append(n)
        self.bench.rpc.return_(caller)
        self.bench.turn()
        self.ran.append(n)

    def rpc_keep(self, caller, *callbacks):
        self.parked.append(callbacks)
        self.bench.rpc.return_(caller)


@pytest.fixture
def procedures():
    return Procedures()


@pytest.fixture
def bench(procedures):
    with EventMux() as mux:
        bench = procedures.bench = Bench(mux, procedures)
        yield bench
        bench.close()


def send_all(peer, *calls):
    peer.sock.sendall(b"".join(peer.packet(id, *call) for id, call in enumerate(calls)))


# Order


def test_at_most_so_many_run_and_the_rest_in_order(bench, procedures):
    bench.rpc.set_limits(outstanding=2)
    first, second = bench.peer(), bench.peer()
    send_all(first, *(("park", n) for n in (0, 1, 2)))
    bench.turn()
    send_all(second, *(("park", n) for n in (3, 4)))
    bench.turn()
    send_all(first, ("park", 5))
    bench.turn()
    for ran in range(2, 7):
        assert procedures.ran == list(range(min(ran, 6)))
        assert bench.rpc.has_queued() == max(0, 6 - ran)
        assert bench.rpc.return_(procedures.parked.pop(0)) is True
        assert len(procedures.ran) == min(ran, 6)  # not from within return_()
        bench.turn()
    assert procedures.most == 2
    bench.rpc.return_(procedures.parked.pop(0))
    bench.turn()
    assert (len(first.read()), len(second.read())) == (4, 2)


def test_the_queue_moves_by_an_event_of_its_own(bench, procedures):
    bench.rpc.set_limits(outstanding=1)
    peer = bench.peer()
    send_all(peer, ("park", 0), ("park", 1))
    bench.turn()
    bench.rpc.return_(procedures.parked.pop())
    event = bench.mux.mux(0)
    assert (event.type, event.fh) == ("", None)
    assert Server(bench.mux, {}).io(event) is event  # another server leaves it alone
    assert bench.rpc.io(event) is None
    assert procedures.ran == [0, 1]
    bench.turn()
    assert bench.foreign == []


def test_the_queue_moves_when_the_answer_is_given_in_a_procedure(bench, procedures):
    bench.rpc.set_limits(outstanding=2)
    peer = bench.peer()
    calls = [("park", 0), ("answer_first",), ("park", 1), ("park", 2), ("park", 3)]
    send_all(peer, *calls)
    bench.turn()
    assert procedures.ran == [0, 1, 2]
    assert bench.rpc.has_queued() == 1
    assert peer.read() == [[0], [1]]


def test_asking_changes_nothing(bench, procedures):
    assert bench.rpc.has_queued() == 0
    bench.rpc.set_limits(outstanding=1)
    send_all(bench.peer(), ("park", 0), ("park", 1), ("park", 2))
    bench.turn()
    assert [bench.rpc.has_queued() for _ in range(3)] == [2, 2, 2]
    bench.rpc.return_(procedures.parked.pop())
    assert [bench.rpc.has_queued() for _ in range(3)] == [2, 2, 2]
    assert procedures.ran == [0]


def test_calls_that_answer_at_once_do_not_recurse(bench, procedures):
    bench.rpc.set_limits(outstanding=1, max_waiting=20_000)
    peer = bench.peer()
    count = 10_000
    stream = peer.packet(0, "park", -1)
    stream += b"".join(peer.packet(n, "note", n) for n in range(count))
    while stream:
        stream = stream[peer.sock.send(stream) :]
        bench.turn()
    assert bench.rpc.has_queued() == count
    bench.rpc.return_(procedures.parked.pop())
    bench.turn()
    assert procedures.ran == list(range(-1, count))
    assert [answer[0] for answer in peer.read()[1:]] == list(range(count))
    assert bench.rpc.has_queued() == 0


def test_procedures_that_turn_the_loop_do_not_recurse(bench, procedures):
    bench.rpc.set_limits(outstanding=1)
    send_all(bench.peer(), ("park",), *[("turn", n) for n in range(500)])
    bench.turn()
    bench.rpc.return_(procedures.parked.pop())
    bench.turn()
    assert procedures.ran[1:] == [n for n in range(500) for _ in "ab"]


def test_what_no_procedure_answers_does_not_wait(bench, procedures):
    bench.rpc.set_limits(outstanding=1)
    peer = bench.peer()
    bench.ask(peer, 0, "park")
    assert bench.ask(peer, 1, "nothing")[0][1] == "error"
    assert "note" in bench.ask(peer, 2, "methods")[0][2]
    assert bench.ask(peer, 3, "park") == []
    assert bench.ask(peer, 4, "nothing")[0][0] == 4
    assert bench.rpc.has_queued() == 1
    assert len(procedures.parked) == 1


def test_a_procedure_that_replaces_methods_waits(bench, monkeypatch):
    monkeypatch.setattr(Procedures, "rpc_methods", Procedures.rpc_park, raising=False)
    bench.rpc.set_limits(outstanding=1)
    peer = bench.peer()
    bench.ask(peer, 0, "park")
    bench.ask(peer, 1, "methods", 1)
    assert bench.rpc.has_queued() == 1


# Each slot is given back once

ENDINGS = [
    *("error", "fault", "late_fault", "explode", "unsendable", "forget", "twice", "wrong"),
    *("nothing", "methods"),
]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_end_gives_one_slot_back(bench, procedures, caplog, ending):
    caplog.set_level(logging.CRITICAL, "rpcasync")  # tracebacks would hold what is forgotten
    bench.rpc.set_limits(outstanding=2)
    peer = bench.peer()
    for _ in range(3):
        bench.ask(bench.peer(), 0, ending)
    send_all(peer, *[("park", n) for n in range(4)])
    bench.turn()
    assert procedures.ran == [0, 1]


@given(
    st.lists(st.sampled_from([*ENDINGS, "park", "park", "leave", "answer", "drop"]), max_size=40),
    st.integers(1, 3),
)
def test_after_any_mixture_so_many_run(mixture, limit):
    logging.getLogger("rpcasync").setLevel(logging.CRITICAL)
    procedures = Procedures()
    with EventMux() as mux:
        bench = procedures.bench = Bench(mux, procedures)
        bench.rpc.set_limits(outstanding=limit)
        peer = bench.peer()
        for step in mixture:
            if step == "leave":
                peer.sock.close()
            elif step == "answer":
                bench.rpc.return_(procedures.parked.pop()) if procedures.parked else None
            elif step == "drop":
                procedures.parked.pop() if procedures.parked else None
            else:
                peer.send(0, step)
            bench.turn()
            if step != "leave":
                peer.read()
            if step == "leave" or peer.ended:
                peer = bench.peer()
            assert sum(caller.alive for caller in procedures.parked) <= limit
        while procedures.parked:
            bench.rpc.return_(procedures.parked.pop())
            bench.turn()
        assert bench.rpc.has_queued() == 0
        send_all(bench.peer(), *[("park", n) for n in range(limit + 2)])
        bench.turn()
        assert len(procedures.parked) == limit
        assert bench.rpc.has_queued() == 2
        bench.close()
    logging.getLogger("rpcasync").setLevel(logging.NOTSET)


def test_a_second_answer_gives_nothing_back(bench, procedures):
    bench.rpc.set_limits(outstanding=1)
    peer = bench.peer()
    send_all(peer, *[("park", n) for n in range(5)])
    bench.turn()
    caller = procedures.parked[0]
    bench.rpc.return_(caller)
    for answer in (bench.rpc.return_, bench.rpc.error):
        with pytest.raises(ValueError, match="answered already"):
            answer(caller, "again")
    bench.turn()
    assert procedures.ran == [0, 1]


def test_an_answer_that_cannot_be_sent_gives_nothing_back(bench, procedures):
    bench.rpc.set_limits(outstanding=1)
    send_all(bench.peer(), ("park", 0), ("park", 1))
    bench.turn()
    with pytest.raises(TypeError):
        bench.rpc.return_(procedures.parked[0], object())
    bench.turn()
    assert procedures.ran == [0]
    bench.rpc.return_(procedures.parked[0], 1)
    bench.turn()
    assert procedures.ran == [0, 1]


def test_a_client_that_goes_gives_back_what_it_had(bench, procedures):
    bench.rpc.set_limits(outstanding=2)
    going, staying = bench.peer(), bench.peer()
    send_all(going, *[("park", f"going {n}") for n in range(4)])
    bench.turn()
    send_all(staying, *[("park", n) for n in range(3)])
    bench.turn()
    assert bench.rpc.has_queued() == 5
    going.sock.close()
    bench.turn()
    assert procedures.ran == ["going 0", "going 1", 0, 1]
    assert bench.rpc.has_queued() == 1
    assert [bench.rpc.return_(caller) for caller in procedures.parked[:2]] == [False, False]
    bench.turn()
    assert procedures.ran[4:] == []  # they had been given back
    procedures.parked.clear()
    gc.collect()
    bench.turn()
    assert procedures.ran[4:] == [2]


def test_a_client_that_the_program_killed_gives_back_what_it_had(bench, procedures):
    bench.rpc.set_limits(outstanding=1)
    going, staying = bench.peer(), bench.peer()
    bench.ask(going, 0, "park", "going")
    bench.ask(going, 1, "park", "never")
    bench.ask(staying, 0, "park", "staying")
    bench.mux.kill(procedures.parked[0].fh)
    bench.turn()
    assert procedures.ran == ["going", "staying"]


def test_callers_that_are_forgotten_give_their_slots_back(bench, procedures):
    bench.rpc.set_limits(outstanding=2)
    peer = bench.peer()
    send_all(peer, *[("park", n) for n in range(6)])
    bench.turn()
    procedures.parked.clear()
    bench.turn()
    assert procedures.ran == [0, 1, 2, 3]
    assert [packet[1] for packet in peer.read()] == ["error", "error"]


def test_a_broken_client_is_served_to_the_end_of_what_waits(bench, procedures):
    bench.rpc.set_limits(outstanding=1)
    other, peer = bench.peer(), bench.peer()
    bench.ask(other, 0, "park", "other")
    send_all(peer, ("note", 0), ("explode",), ("note", 2))
    bench.turn()
    peer.sock.sendall(b"\0\0\0\0")
    bench.turn()
    assert procedures.ran == ["other"]
    assert not peer.ended
    bench.rpc.return_(procedures.parked.pop())
    bench.turn()
    assert procedures.ran == ["other", 0, 2]
    assert peer.read() == [[0, 0], [2, 2]]
    assert peer.ended
    assert len(bench.rpc.clients) == 1


def test_a_broken_client_is_served_to_the_end_of_what_was_read(bench, procedures):
    peer = bench.peer()
    send_all(peer, ("explode",), *[("big", 500_000)] * 6, ("note", "last"))
    answers = []
    while not peer.ended:
        bench.turn()
        answers += peer.read()
    assert procedures.ran == [500_000] * 6 + ["last"]
    assert [answer[0] for answer in answers] == list(range(1, 8))


def test_a_client_that_is_found_to_be_gone_by_a_callback(bench, procedures):
    bench.rpc.set_limits(outstanding=2)
    going, staying = bench.peer(), bench.peer()
    bench.ask(going, 1, "keep", CallbackRef(0))
    ((callback,),) = procedures.parked
    procedures.parked.clear()
    send_all(going, ("park", 0), ("park", 1))
    bench.turn()
    bench.ask(staying, 0, "note", "waits")
    bench.mux.kill(procedures.parked[0].fh)
    while bench.mux.mux(0).type != "timeout":
        pass  # the server is not told
    assert procedures.ran == [0, 1]
    with pytest.raises(Disconnected):
        callback()
    bench.turn()
    assert procedures.ran == [0, 1, "waits"]


# Changes


def test_the_limit_may_change_at_any_time(bench, procedures):
    peer = bench.peer()
    send_all(peer, *[("park", n) for n in range(3)])
    bench.turn()
    bench.rpc.set_limits(outstanding=2)  # below what runs: nothing is stopped
    send_all(peer, *[("park", n) for n in range(3, 9)])
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
    assert bench.ask(bench.peer(), 0, "keep", *refs) == [[0]]
    send_all(bench.peer(), ("park", 0), ("park", 1))
    bench.turn()
    assert bench.rpc.has_queued() == 1


@pytest.mark.parametrize("name", ["max_outbuffer", "max_waiting", "max_callbacks", "max_packet"])
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
    old = bench.peer(StorableCodec())
    bench.rpc.set_codecs("json")
    new, wrong = bench.peer(JSONCodec()), bench.peer(StorableCodec())
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
    assert bench.ask(bench.peer(StorableCodec()), 0, "note", 1) == [[0, 1]]


# How many may wait


def fill(bench, peer, start, size=10_000, most=10_000):
    """Send calls until the socket takes no more; return how many were sent, and the rest."""
    for id in range(start, start + most):
        packet = peer.packet(id, "note", f"{id}{'x' * size}")
        try:
            sent = peer.sock.send(packet)
        except BlockingIOError:
            sent = 0
        bench.turn()
        if sent < len(packet):
            return id + 1, packet[sent:]
    raise AssertionError("everything is read")


@pytest.mark.parametrize("max_waiting", [1, 2, 7])
def test_reading_stops_and_goes_on(bench, procedures, max_waiting):
    bench.rpc.set_limits(outstanding=1, max_waiting=max_waiting)
    peer, other = bench.peer(), bench.peer()
    bench.ask(peer, 0, "park", "parked")
    count, rest = fill(bench, peer, 1)
    assert bench.rpc.has_queued() == max_waiting
    assert bench.ask(other, 0, "nothing")[0][0] == 0  # only that client has to wait
    assert bench.rpc.has_queued() == max_waiting
    bench.rpc.return_(procedures.parked.pop())
    answers = []
    while len(answers) < count:
        bench.turn()
        rest = rest[peer.sock.send(rest) :] if rest else rest
        answers += peer.read()
        assert bench.rpc.has_queued() <= max_waiting
    assert [answer[0] for answer in answers] == list(range(count))
    assert [str(ran).rstrip("x") for ran in procedures.ran[1:]] == list(map(str, range(1, count)))
    assert bench.ask(peer, count, "note", "last") == [[count, "last"]]


def test_one_client_that_waits_takes_no_turn_of_another(bench, procedures):
    bench.rpc.set_limits(outstanding=1, max_waiting=2)
    greedy, modest = bench.peer(), bench.peer()
    send_all(greedy, *[("park", n) for n in range(8)])
    bench.turn()
    bench.ask(modest, 0, "park", "modest")
    for _ in range(4):
        bench.rpc.return_(procedures.parked.pop())
        bench.turn()
    assert procedures.ran == [0, 1, 2, "modest", 3]


def test_a_broken_client_that_had_to_wait(bench, procedures):
    bench.rpc.set_limits(outstanding=1, max_waiting=2)
    peer = bench.peer()
    send_all(peer, ("park", 0), *[("note", n) for n in range(1, 6)], ("explode",), ("note", 7))
    peer.sock.sendall(b"\0\0\0\0")
    bench.turn()
    bench.rpc.return_(procedures.parked.pop())
    bench.turn()
    assert procedures.ran == [0, 1, 2, 3, 4, 5, 7]
    peer.read()
    assert peer.ended


def test_a_client_that_goes_while_it_has_to_wait(bench, procedures):
    bench.rpc.set_limits(outstanding=1, max_waiting=2)
    peer, other = bench.peer(), bench.peer()
    send_all(peer, *[("park", n) for n in range(5)])
    bench.turn()
    bench.ask(other, 0, "park", "other")
    peer.sock.close()
    while procedures.ran[-1] != "other":
        bench.rpc.return_(procedures.parked.pop(0))
        bench.turn()
    bench.rpc.return_(procedures.parked.pop(0))
    bench.turn()
    assert len(bench.rpc.clients) == 1


def test_a_client_that_goes_while_it_has_to_wait_is_noticed_when_it_is_answered(bench, procedures):
    bench.rpc.set_limits(outstanding=1, max_waiting=2)
    peer, other = bench.peer(), bench.peer()
    send_all(peer, *[("park", n) for n in range(5)])
    bench.turn()
    bench.ask(other, 0, "note", "other")
    peer.sock.close()  # it is not read from, so its end is not seen yet
    bench.turn()
    assert procedures.ran == [0]
    bench.rpc.return_(procedures.parked.pop())
    bench.turn()
    assert procedures.ran[-1] == "other"
    assert len(bench.rpc.clients) == 1
    assert bench.rpc.has_queued() == 0


def test_a_client_that_does_not_read_is_not_served_when_its_turn_comes(bench, procedures):
    bench.rpc.set_limits(outstanding=1)
    peer, other = bench.peer(), bench.peer()
    send_all(peer, ("park", 0), *[("big", 500_000)] * 200)
    bench.turn()
    bench.rpc.return_(procedures.parked.pop())
    bench.turn()
    assert bench.ask(other, 0, "note", 1) == [[0, 1]]
    assert procedures.ran.count(500_000) < 10
    answers = []
    while len(answers) < 201:
        bench.turn()
        answers += peer.read()
    assert [answer[0] for answer in answers] == list(range(201))
