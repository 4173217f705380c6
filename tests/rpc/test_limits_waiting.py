"""How many calls of a client may wait; then it is not read from."""

from __future__ import annotations

import pytest


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


def go_on(bench, peer, rest, count):
    """Send the rest of the last call, and yield the answers until there are so many."""
    while count > 0:
        bench.turn()
        rest = rest[peer.sock.send(rest) :] if rest else rest
        answers = peer.read()
        count -= len(answers)
        yield from answers


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
    for answer in go_on(bench, peer, rest, count):
        answers.append(answer)
        assert bench.rpc.has_queued() <= max_waiting
    assert [answer[0] for answer in answers] == list(range(count))
    assert [str(ran).rstrip("x") for ran in procedures.ran[1:]] == list(map(str, range(1, count)))
    assert bench.ask(peer, count, "note", "last") == [[count, "last"]]


def test_one_client_that_waits_takes_no_turn_of_another(bench, procedures):
    bench.rpc.set_limits(outstanding=1, max_waiting=2)
    greedy, modest = bench.peer(), bench.peer()
    greedy.send_calls(*[("park", n) for n in range(8)])
    bench.turn()
    bench.ask(modest, 0, "park", "modest")
    for _ in range(4):
        bench.rpc.return_(procedures.parked.pop())
        bench.turn()
    assert procedures.ran == [0, 1, "modest", 2, 3]


def test_a_broken_client_that_had_to_wait(bench, procedures):
    bench.rpc.set_limits(outstanding=1, max_waiting=2)
    peer = bench.peer()
    peer.send_calls(("park", 0), *[("note", n) for n in range(1, 6)], ("explode",), ("note", 7))
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
    peer.send_calls(*[("park", n) for n in range(5)])
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
    peer.send_calls(*[("park", n) for n in range(5)])
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


def test_a_client_that_hangs_up_while_it_is_not_read_from(serve, procedures, timed, clock):
    bench = serve(mux=timed)
    bench.rpc.set_limits(outstanding=1, max_waiting=2)
    peer, other = bench.peer(), bench.peer()
    peer.send_calls(*[("park", n) for n in range(5)])
    bench.turn()
    bench.ask(other, 0, "note", "other")
    peer.sock.close()
    bench.turn()
    assert procedures.ran == [0]  # nothing tells of it yet
    clock.advance(1)
    bench.turn()
    assert procedures.ran == [0, "other"]
    assert len(bench.rpc.clients) == 1
    assert not procedures.parked[0].alive
    clock.advance(1)
    bench.turn()
    timed.mux(0)
    assert timed.timeout() is None  # nobody is looked after any more


def test_one_that_is_only_slow_is_looked_after_for_as_long_as_it_takes(
    serve, procedures, timed, clock
):
    bench = serve(mux=timed)
    bench.rpc.set_limits(outstanding=1, max_waiting=2)
    peer = bench.peer()
    peer.send_calls(*[("park", n) for n in range(5)])
    for _ in range(5):
        clock.advance(1)
        bench.turn()
    assert (procedures.ran, bench.rpc.has_queued()) == ([0], 2)
    for n in range(5):
        assert procedures.ran == list(range(n + 1))
        bench.rpc.return_(procedures.parked.pop())
        bench.turn()


def test_what_waits_is_limited_in_bytes_too(serve, procedures):
    bench = serve(max_packet=100_000)
    bench.rpc.set_limits(outstanding=1)
    peer = bench.peer()
    bench.ask(peer, 0, "park")
    count, rest = fill(bench, peer, 1, size=30_000)
    assert bench.rpc.has_queued() == 4  # with the one that passes the limit
    bench.rpc.return_(procedures.parked.pop())
    assert [answer[0] for answer in go_on(bench, peer, rest, count)] == list(range(count))


def test_a_higher_limit_goes_on_at_once(bench, procedures):
    bench.rpc.set_limits(outstanding=1, max_waiting=2)
    peer = bench.peer()
    peer.send_calls(*[("park", n) for n in range(10)])
    bench.turn()
    assert bench.rpc.has_queued() == 2
    bench.rpc.set_limits(max_waiting=100)
    bench.turn()
    assert bench.rpc.has_queued() == 9


def test_what_was_set_aside_is_not_overtaken(bench, procedures):
    """A client reads between two looks: later calls of it must not run before those set aside."""
    bench.rpc.set_limits(outstanding=1)
    peer, other = bench.peer(), bench.peer()
    bench.ask(other, 0, "park", "held")
    peer.send_calls(*[("big", 400_000 + n) for n in range(20)])
    bench.turn()

    def read_and_call(caller):
        peer.read()  # so it is not slow any more
        bench.rpc.return_(caller)

    procedures.rpc_read = read_and_call
    other.send(1, "read")
    bench.turn()
    peer.send(20, "note", "last")
    bench.turn()
    bench.rpc.return_(procedures.parked.pop())
    answers = 0
    while procedures.ran[-1] != "last":
        bench.turn()
        answers += len(peer.read())
    assert procedures.ran == ["held", *range(400_000, 400_020), "last"]


def test_a_call_that_waits_counts_as_what_it_takes_in_memory(serve, procedures):
    bench = serve(procedures, max_buffered=1_000_000)
    bench.rpc.set_limits(outstanding=1)
    first = bench.peer()
    bench.ask(first, 0, "park", "parked")
    for _ in range(4):
        peer = bench.peer()
        peer.send(1, "park", [[] for _ in range(8_000)])  # half a megabyte in memory
        bench.turn()
    assert len(bench.rpc.clients) == 2
    assert bench.ask(first, 1, "nothing")[0][0] == 1
