"""What clients make a server keep: answers, packets that do not end, and what all have together."""

from __future__ import annotations

import contextlib
import re
import struct

import pytest
from support.fakes import FakeClock
from support.peers import Bench
from support.records import warnings_of

from rpcasync import JSONCodec
from rpcasync.wire.framing import LengthPrefix
from rpcasync.wire.messages import CallbackRef

MB = 1_000_000


def send(bench, peer, data):
    """Send as long as the server reads; return how many bytes were taken."""
    rest = memoryview(data)
    idle = 0
    while rest and idle < 3:
        idle += 1
        with contextlib.suppress(BlockingIOError, ConnectionError):
            rest = rest[peer.sock.send(rest[:200_000]) :]
            idle = 0
        bench.turn()
    return len(data) - len(rest)


def begin(bench, size):
    """Connect, and send so many bytes of a packet that does not end."""
    peer = bench.peer()
    send(bench, peer, struct.pack("!I", 2 * size) + bytes(size - 4))
    return peer


# What is queued for one client


@pytest.mark.parametrize("how", ["return_", "error", "callback"])
def test_what_is_queued_for_a_client_has_a_ceiling(serve, procedures, caplog, how):
    bench = serve(max_outbuffer=300_000)
    peer, other = bench.peer(), bench.peer()
    bench.ask(peer, 0, "keep", CallbackRef(7))
    callback = procedures.last()
    peer.send_calls(*[("park",)] * 250)
    bench.turn()
    text, fh, most = "x" * 4000, procedures.parked[0].fh, 0
    while procedures.parked:
        caller = procedures.parked.pop()
        if how == "return_":
            assert bench.rpc.return_(caller, text) is caller.alive
        elif how == "error":
            assert bench.rpc.error(caller, text) is caller.alive
        elif callback.alive:
            callback(text)
        with contextlib.suppress(KeyError):
            most = max(most, bench.mux.buflen(fh))
    bench.turn()
    assert 290_000 < most < 310_000
    assert re.search("does not read: 3.* bytes queued, limit is 300000$", warnings_of(caplog)[0])
    assert len(bench.rpc.clients) == 1
    assert bench.ask(other, 1, "note", 1) == [[1, 1]]
    procedures.parked.clear()


def test_calls_in_one_packet_after_the_other_are_held_back_and_not_punished(serve, procedures):
    bench = serve(max_outbuffer=100_000)
    peer = bench.peer()
    peer.send_calls(*[("big", 80_000)] * 30)
    answers = []
    while len(answers) < 30:
        bench.turn()
        answers += peer.read()
    assert [answer[0] for answer in answers] == list(range(30))


def test_an_answer_may_be_larger_than_the_ceiling(serve):
    bench = serve(max_outbuffer=1000)
    assert len(bench.ask(bench.peer(), 0, "big", 150_000)[0][1]) == 150_000


@pytest.mark.slow
def test_the_ceiling_is_the_servers_and_not_the_muxs(serve):
    bench = serve(max_packet=100 * MB)
    peer = bench.peer()
    peer.send(0, "big", 80 * MB)
    answers = []
    while not answers:
        bench.turn()
        answers += peer.read()
    assert len(answers[0][1]) == 80 * MB


def test_a_subscriber_that_does_not_read_is_not_the_publishers_affair(serve, procedures):
    bench = serve(max_outbuffer=200_000)
    subscribers = []

    def rpc_subscribe(caller, notify, /):
        subscribers.append(notify)
        bench.rpc.return_(caller)

    def rpc_publish(caller, text, /):
        for notify in [each for each in subscribers if each.alive]:
            notify(text)
        bench.rpc.return_(caller, "done")

    procedures.rpc_subscribe, procedures.rpc_publish = rpc_subscribe, rpc_publish
    publisher, reads, slow, slower = (bench.peer() for _ in range(4))
    for peer in (publisher, reads, slow, slower):
        bench.ask(peer, 0, "subscribe", CallbackRef(3))
    for number in range(60):
        answer = bench.ask(publisher, number, "publish", "x" * 20_000)
        assert answer == [[3, "call", "x" * 20_000], [number, "done"]]
        assert reads.read() == [[3, "call", "x" * 20_000]]
    assert len(bench.rpc.clients) == 2
    assert [each.alive for each in subscribers] == [True, True, False, False]
    subscribers.clear()


def test_a_dead_callback_of_another_costs_its_caller_an_error_and_no_more(bench, procedures):
    kept, asking = bench.peer(), bench.peer()
    bench.ask(kept, 0, "keep", CallbackRef(3))
    callback = procedures.last()
    procedures.rpc_tell = lambda caller: callback("x")
    kept.sock.close()
    bench.turn()
    text = "tell: a connection has ended"
    assert bench.ask(asking, 1, "tell") == [[1, "error", text, "errors", [text]]]
    assert bench.ask(asking, 2, "note", 1) == [[2, 1]]


# What is kept for all of them


def test_those_that_hold_most_go_and_others_do_not_notice(serve, caplog):
    bench = serve(max_buffered=MB)
    small = begin(bench, 50_000)
    peers = [begin(bench, 200_000) for _ in range(3)]
    assert len(bench.rpc.clients) == 4
    assert warnings_of(caplog) == []
    largest = begin(bench, 400_000)
    (line,) = warnings_of(caplog)
    assert re.search(r"holds 3\d+ bytes of 1\d{6} of all clients, limit is 1000000$", line)
    assert len(bench.rpc.clients) == 4
    largest.read()
    assert largest.ended
    for peer in (small, *peers):
        peer.read()
        assert not peer.ended
    assert bench.ask(bench.peer(), 0, "note", 1) == [[0, 1]]


def test_calls_that_wait_are_kept_too(serve, procedures, caplog):
    bench = serve(max_buffered=MB)
    bench.rpc.set_limits(outstanding=1)
    bench.ask(bench.peer(), 0, "park")
    for size in (200_000, 250_000, 600_000):
        peer = bench.peer()
        send(bench, peer, peer.packet(0, "note", "x" * size))
    assert bench.rpc.has_queued() == 2
    (line,) = warnings_of(caplog)
    assert "holds 5" in line


def test_calls_that_wait_are_kept_too_if_each_came_in_one_piece(serve, procedures, caplog):
    bench = serve(max_buffered=300_000)
    bench.rpc.set_limits(outstanding=1)
    bench.ask(bench.peer(), 0, "park")
    peers = [bench.peer() for _ in range(2)]
    for number in range(3):
        for peer in peers:
            peer.send(number, "note", "x" * 50_000)
            bench.turn()
    (line,) = warnings_of(caplog)
    assert "holds 15" in line
    assert bench.rpc.has_queued() == 3


def test_calls_of_those_in_line_are_kept_too(serve, procedures, caplog, monkeypatch):
    bench = serve(max_buffered=110_000)
    clock = FakeClock()
    monkeypatch.setattr(bench.rpc._dispatcher._turns, "clock", clock)  # it has no public face

    def rpc_slow(caller, text, /):
        clock.advance(1)
        bench.rpc.return_(caller)

    procedures.rpc_slow = rpc_slow
    peers = [bench.peer() for _ in range(3)]
    for peer in peers:
        peer.sock.sendall(peer.packet(0, "slow", "x" * 10_000) * 6)
    bench.turn()
    (line,) = warnings_of(caplog)
    assert line.endswith("of all clients, limit is 110000")
    assert [len(peer.read()) for peer in peers].count(6) == 2


def test_answers_that_are_not_read_are_kept_too(serve, procedures, caplog):
    bench = serve(max_buffered=3 * MB)
    for size in (2 * MB, MB, 2 * MB):
        peer = bench.peer()
        peer.send(0, "big", size)
        bench.turn()
    assert len(bench.rpc.clients) == 2
    assert len(warnings_of(caplog)) == 1


def test_a_client_that_we_let_go_counts_until_it_is_closed(serve, procedures, caplog):
    bench = serve(max_buffered=MB)
    going, staying = bench.peer(), bench.peer()

    def rpc_burst(caller):
        bench.rpc.return_(caller, "x" * 900_000)
        raise ValueError

    procedures.rpc_burst = rpc_burst
    going.send(0, "burst")
    bench.turn()
    assert len(bench.rpc.clients) == 1  # the other is closed when it has read its answer
    assert len(bench.mux.handles()) == 2
    staying.send(0, "big", 700_000)
    bench.turn()
    assert "holds " in warnings_of(caplog)[-1]
    assert bench.mux.handles() == list(bench.rpc.clients)


def test_what_is_read_or_complete_does_not_count_any_more(serve, caplog):
    bench = serve(max_buffered=MB)
    for _ in range(5):
        peer = bench.peer()
        packet = peer.packet(0, "note", "x" * 600_000)
        assert send(bench, peer, packet[:-1]) == len(packet) - 1
        peer.sock.send(packet[-1:])
        answers = []
        while not answers:
            bench.turn()
            answers = peer.read()
        assert answers[0][0] == 0
    assert warnings_of(caplog) == []
    bench.rpc.set_limits(max_buffered=2 * MB)
    begin(bench, 1_500_000)
    assert warnings_of(caplog) == []


# How long a packet may take


@pytest.fixture
def patient(serve, timed):
    return serve(mux=timed, packet_timeout=60)


@pytest.mark.parametrize("first", [1, 3, 4, 20])
def test_a_packet_has_so_many_seconds_however_it_dribbles(patient, clock, caplog, first):
    slow, idle = patient.peer(), patient.peer()
    packet = slow.packet(0, "note", "x" * 100)
    slow.sock.send(packet[:first])
    patient.turn()
    for at in range(first, first + 59):
        clock.advance(1)
        slow.sock.send(packet[at : at + 1])
        patient.turn()
    assert len(patient.rpc.clients) == 2
    clock.advance(1)
    patient.turn()
    (line,) = warnings_of(caplog)
    assert line.endswith(f"{first + 59} bytes of a packet in 60.0 s, limit is 60 s")
    assert len(patient.rpc.clients) == 1
    assert patient.ask(idle, 0, "note", 1) == [[0, 1]]


def test_the_time_begins_anew_with_each_packet(patient, clock):
    peer = patient.peer()
    for number in range(5):
        packet = peer.packet(number, "note", number)
        peer.sock.send(packet[:5])
        patient.turn()
        clock.advance(45)
        patient.turn()
        peer.sock.send(packet[5:])
        patient.turn()
        assert peer.read() == [[number, number]]
    clock.advance(1000)
    patient.turn()
    assert len(patient.rpc.clients) == 1


def test_the_time_begins_anew_in_the_middle_of_a_read(patient, clock):
    peer = patient.peer()
    stream = b"".join(peer.packet(number, "note", number) for number in range(5))
    size = len(stream) // 5
    for end in range(size - 1, len(stream), size):
        peer.sock.send(stream[max(0, end - size) : end])
        patient.turn()
        clock.advance(45)
        patient.turn()
    assert len(peer.read()) == 4
    clock.advance(45)
    patient.turn()
    assert len(patient.rpc.clients) == 0


def test_what_is_still_with_the_kernel_is_read_first(patient, clock):
    peer = patient.peer()
    packet = peer.packet(0, "note", 1)
    peer.sock.send(packet[:5])
    patient.turn()
    peer.sock.send(packet[5:])
    clock.advance(100)  # a procedure took that long, say
    patient.turn()
    assert peer.read() == [[0, 1]]


def test_who_is_not_read_from_is_not_late(patient, procedures, clock):
    patient.rpc.set_limits(outstanding=1, max_waiting=1)
    peer = patient.peer()
    peer.send_calls(("park", 0), ("park", 1))
    peer.sock.send(peer.packet(2, "note", 2)[:5])
    patient.turn()
    clock.advance(100)
    patient.turn()
    assert len(patient.rpc.clients) == 1
    for _ in range(2):
        patient.rpc.return_(procedures.parked.pop())
        patient.turn()
    clock.advance(50)
    patient.turn()
    assert len(patient.rpc.clients) == 1
    clock.advance(100)
    patient.turn()
    assert len(patient.rpc.clients) == 0


def test_the_time_may_change_and_end(patient, clock):
    peer = patient.peer()
    peer.sock.send(b"\0\0")
    patient.turn()
    patient.rpc.set_limits(packet_timeout=None)
    clock.advance(1000)
    patient.turn()
    assert len(patient.rpc.clients) == 1
    patient.rpc.set_limits(packet_timeout=5)
    peer.sock.send(b"\0")
    patient.turn()
    patient.rpc.set_limits(packet_timeout=1.5)
    clock.advance(1.5)
    patient.turn()
    assert len(patient.rpc.clients) == 0


# When there is none left


class Hungry(JSONCodec):
    """Runs out of memory on one word."""

    name = "hungry"

    def encode(self, value):
        if "much" in value:
            raise MemoryError
        return super().encode(value)

    def decode(self, payload):
        if b"too much" in payload:
            raise MemoryError
        return super().decode(payload)


@pytest.fixture
def hungry(serve):
    return serve(codecs=[Hungry()])


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("note", "too much"), []),
        (("note", "much"), []),
        (("eat",), ["eat: failed; see the server's log"]),
    ],
)
def test_no_memory_for_a_call_ends_one_connection(hungry, procedures, caplog, call, told):
    def rpc_eat(caller):
        raise MemoryError

    procedures.rpc_eat = rpc_eat
    peer, other = hungry.peer("json"), hungry.peer("json")
    answers = hungry.ask(peer, 0, *call)
    assert [answer[2] for answer in answers] == told
    assert peer.ended
    assert "disconnected: " in warnings_of(caplog)[-1]
    assert hungry.ask(other, 0, "note", 1) == [[0, 1]]


def test_no_memory_for_an_answer_that_comes_later_is_not_raised(hungry, procedures, caplog):
    peer = hungry.peer("json")
    hungry.ask(peer, 0, "park")
    (caller,) = procedures.parked
    assert hungry.rpc.return_(caller, "much") is False
    assert not caller.alive
    assert "out of memory" in warnings_of(caplog)[0]


@pytest.mark.parametrize("is_in_line", [False, True])
def test_no_memory_to_join_a_packet(bench, monkeypatch, caplog, is_in_line):
    peer, other = bench.peer(), bench.peer()

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(LengthPrefix, "_complete", fail)
    packet = peer.packet(300, "note", "x" * 100)
    if is_in_line:  # then it is not the event of a read in which memory runs out
        peer.sock.send(b"".join(peer.packet(n, "note", n) for n in range(300)))
    peer.sock.send(packet[:50])
    bench.turn()
    peer.sock.send(packet[50:])
    bench.turn()
    assert "out of memory" in warnings_of(caplog)[-1]
    peer.read()
    assert peer.ended
    assert len(bench.rpc.clients) == 1
    assert bench.ask(other, 0, "note", 1) == [[0, 1]]


def test_what_was_kept_is_freed_though_a_caller_stays(bench, procedures):
    peer = bench.peer()
    bench.ask(peer, 0, "park")
    send(bench, peer, struct.pack("!I", 2 * MB) + bytes(MB))
    (caller,) = procedures.parked
    assert caller._peer.protocol.framing.held == MB + 4
    bench.mux.kill(caller.fh)
    assert bench.rpc.return_(caller) is False
    assert caller._peer.protocol.framing.held == 0


@pytest.mark.parametrize("limit", [0, -1, True, "5", float("inf"), float("nan")])
def test_times_that_are_none(bench, limit):
    with pytest.raises(ValueError, match="packet_timeout is .*, must be a number of seconds"):
        bench.rpc.set_limits(packet_timeout=limit)
    with pytest.raises(ValueError, match="packet_timeout is "):
        Bench(bench.mux, {}, packet_timeout=limit)
