"""How many calls run at a time, and in which order the rest runs, by the server's own loop."""

from __future__ import annotations

from support.procedures import Procedures

from rpcasync import Server


def test_at_most_so_many_run_and_the_rest_client_by_client(bench, procedures):
    bench.rpc.set_limits(outstanding=2)
    first, second = bench.peer(), bench.peer()
    first.send_calls(*(("park", n) for n in (0, 1, 2)))
    bench.turn()
    second.send_calls(*(("park", n) for n in (3, 4)))
    bench.turn()
    first.send_calls(("park", 5))
    bench.turn()
    for ran in range(2, 7):
        assert procedures.ran == [0, 1, 2, 3, 5, 4][:ran]
        assert bench.rpc.has_queued() == max(0, 6 - ran)
        assert bench.rpc.return_(procedures.parked.pop(0)) is True
        assert len(procedures.ran) == min(ran, 6)  # not from within return_()
        bench.turn()
    assert procedures.most_parked == 2
    bench.rpc.return_(procedures.parked.pop(0))
    bench.turn()
    assert (len(first.read()), len(second.read())) == (4, 2)


def test_the_queue_moves_by_an_event_of_its_own(bench, procedures):
    bench.rpc.set_limits(outstanding=1)
    peer = bench.peer()
    peer.send_calls(("park", 0), ("park", 1))
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
    peer.send_calls(*calls)
    bench.turn()
    assert procedures.ran == [0, 1, 2]
    assert bench.rpc.has_queued() == 1
    assert peer.read() == [[0], [1]]


def test_asking_changes_nothing(bench, procedures):
    assert bench.rpc.has_queued() == 0
    bench.rpc.set_limits(outstanding=1)
    bench.peer().send_calls(("park", 0), ("park", 1), ("park", 2))
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
    answers = peer.read()[1:]
    while len(answers) < count:  # the kernel does not take all of them at once
        bench.turn()
        more = peer.read()
        assert more
        answers += more
    assert [answer[0] for answer in answers] == list(range(count))
    assert bench.rpc.has_queued() == 0


def test_procedures_that_turn_the_loop_do_not_recurse(bench, procedures):
    bench.rpc.set_limits(outstanding=1)
    bench.peer().send_calls(("park",), *[("turn", n) for n in range(500)])
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
