"""Calls that are asked of two servers: the old one is another server of ours on the same mux.

What Perl makes of it is in tests/integration/test_shadow_perl.py.
"""

from __future__ import annotations

import gc
import logging
import socket
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.peers import Bench, Peer, turn
from support.procedures import Procedures
from support.records import warnings_of

from eventmux import EventMux, URLError
from rpcasync import Client, Server, Shadow
from rpcasync.shadowing.book import MOST_PLACES, MOST_PROCEDURES
from rpcasync.storable import ScalarRef
from rpcasync.wire.messages import CallbackRef


class Both:
    """A server, and the old one, on one mux; `turn()` runs both until nothing happens."""

    def __init__(self, mux, path):
        self.mux = mux
        self.new, self.old = Procedures(), Procedures()
        self.front = self.new.bench = Bench(mux, self.new)
        self.behind = self.old.bench = Bench(mux, self.old)
        self.rpc, self.old_rpc = self.front.rpc, self.behind.rpc
        self.url = f"unix://{path}/old"
        self.listener = self.old_rpc.listen(self.url)
        self.shadow = None

    def begin(self, **options):
        self.shadow = Shadow(self.mux, self.rpc, options.pop("old", self.url), **options)
        return self.front.peer(options.get("codec", "storable"))

    def turn(self):
        assert turn(self.mux, self.rpc, self.old_rpc) == []

    def ask(self, peer, *values):
        """Send one call and return what comes back."""
        peer.send(*values)
        self.turn()
        return peer.read()

    def tally(self, name):
        return self.shadow.report()["procedures"][name]

    def counts(self, name):
        """Return how many calls were equal, different, skipped and unanswered."""
        return tuple(
            self.tally(name)[key] for key in ("equal", "different", "skipped", "unanswered")
        )

    def kinds(self, name):
        return [(each["place"], each["kind"]) for each in self.tally(name)["differences"]]


@pytest.fixture
def both(mux, tmp_path):
    both = Both(mux, tmp_path)
    yield both
    both.front.close()
    both.behind.close()
    both.old_rpc.close_listeners()


@pytest.fixture(params=["new", "old"])
def answer(request):
    return request.param


def answering(rpc, *values):
    """Return a procedure that answers with these values."""

    def procedure(caller, *args):
        rpc.return_(caller, *values)

    return procedure


# What the caller gets, and what is found


def test_equal_answers(both, answer, codec):
    both.begin(answer=answer)
    peer = both.front.peer(codec)
    for number in range(3):
        assert both.ask(peer, number, "add", "n1", number, "n2", 2) == [[number, "sum", number + 2]]
    assert both.counts("add") == (3, 0, 0, 0)
    assert both.tally("add")["calls"] == 3


def test_different_answers(both, answer, codec, caplog):
    both.begin(answer=answer)
    both.new.rpc_user = answering(both.rpc, "name", "Ann", "id", "7", "tags", ["a", None])
    both.old.rpc_user = answering(both.old_rpc, "id", 7, "name", "Bob", "tags", ["a", ""])
    peer = both.front.peer(codec)
    for number in range(2):
        ((_, *values),) = both.ask(peer, number, "user")
        assert values[values.index("name") + 1] == ("Ann" if answer == "new" else "Bob")
    assert both.counts("user") == (0, 2, 0, 0)
    assert both.tally("user")["differences"] == [
        {
            "kind": "value",
            "place": "name",
            "calls": 2,
            "path": "name",
            "old": '"Bob"',
            "new": '"Ann"',
        },
        {
            "kind": "undef",
            "place": "tags[]",
            "calls": 2,
            "path": "tags[1]",
            "old": '""',
            "new": "undef",
        },
    ]
    assert warnings_of(caplog) == [
        'procedure user differs from the old one: name: value: old "Bob", new "Ann"',
        'procedure user differs from the old one: tags[1]: undef: old "", new undef',
    ]


def test_errors(both, answer):
    both.begin(answer=answer)
    both.old.rpc_error = lambda caller: both.old_rpc.error(caller, "no at old.pl line 3.\n")
    both.old.rpc_fault = lambda caller: both.old_rpc.error(caller, "another text")
    both.old.rpc_list = lambda caller: both.old_rpc.error(caller, "an error")
    peer = both.front.peer()
    for number, name in enumerate(["error", "fault", "list"]):
        both.ask(peer, number, name)
    assert both.counts("error") == (1, 0, 0, 0)
    assert both.kinds("fault") == [("", "text")]
    assert both.kinds("list") == [("", "error")]


def test_times_are_medians_of_both(both, answer):
    both.begin(answer=answer)
    both.ask(both.front.peer(), 0, "list", 1)
    tally = both.tally("list")
    assert 0 < tally["new_ms"] < 10_000
    assert 0 < tally["old_ms"] < 10_000


def test_each_has_its_own_times(both, answer):
    both.old.rpc_list = both.old.rpc_park
    both.begin(answer=answer)
    both.ask(both.front.peer(), 0, "list", 1)
    both.old_rpc.return_(both.old.parked.pop(), 1)
    both.turn()
    assert both.tally("list")["new_ms"] < both.tally("list")["old_ms"]


def test_each_kind_is_logged_once(both, caplog):
    for rpc, procedures in ((both.rpc, both.new), (both.old_rpc, both.old)):

        def answer(caller, first, /, rpc=rpc):
            values = {f"{first}{number}": rpc is both.rpc for number in range(8)}
            rpc.return_(caller, values | {"list": [rpc is both.rpc] * 2})

        procedures.rpc_hash = answer
    peer = both.begin()
    for number, first in enumerate("abab"):
        both.ask(peer, number, "hash", first)
    found = both.tally("hash")["differences"]
    assert [each["calls"] for each in found] == [2] * 8 + [4] + [2] * 8
    assert len(warnings_of(caplog)) == 17


def test_answers_in_any_order(both, answer):
    both.begin(answer=answer)
    one, other = both.front.peer(), both.front.peer()
    for peer in (one, other):
        peer.send(5, "park", 1)
    both.turn()
    assert len(both.new.parked) == len(both.old.parked) == 2
    for rpc, parked in ((both.rpc, both.new.parked), (both.old_rpc, both.old.parked[::-1])):
        for caller in parked:
            rpc.return_(caller, "late")
        both.turn()
    assert one.read() == other.read() == [[5, "late"]]
    assert both.counts("park") == (2, 0, 0, 0)


def test_the_caller_does_not_wait(both, answer):
    peer = both.begin(answer=answer)
    now, later = (both.new, both.old) if answer == "new" else (both.old, both.new)
    peer.send(0, "park", 1)
    both.turn()
    now.bench.rpc.return_(now.parked.pop(), 1)
    both.turn()
    assert peer.read() == [[0, 1]]
    assert both.counts("park") == (0, 0, 0, 0)
    later.bench.rpc.return_(later.parked.pop(), 1)
    both.turn()
    assert both.counts("park") == (1, 0, 0, 0)


def test_the_copy_has_the_arguments_as_they_came(both):
    peer = both.begin()

    def rpc_change(caller, numbers, /):
        numbers.append(4)
        both.rpc.return_(caller, len(numbers))

    both.new.rpc_change = rpc_change
    both.old.rpc_change = lambda caller, numbers, /: both.old_rpc.return_(caller, len(numbers))
    assert both.ask(peer, 0, "change", [1, 2, 3]) == [[0, 4]]
    assert both.tally("change")["differences"][0]["old"] == "3"


def test_a_client_that_goes_with_its_answer_is_compared_all_the_same(both):
    peer = both.begin()
    both.new.rpc_quick = answering(both.rpc, 1)
    both.old.rpc_quick = both.old.rpc_park
    assert both.ask(peer, 0, "quick", 0) == [[0, 1]]
    peer.sock.close()
    both.turn()
    assert len(both.old_rpc.clients) == 1
    both.old_rpc.return_(both.old.parked.pop(), 1)
    both.turn()
    assert both.counts("quick") == (1, 0, 0, 0)
    assert both.old_rpc.clients == set()


def test_a_client_that_goes_without_it_is_not(both, answer, caplog):
    peer = both.begin(answer=answer)
    both.ask(peer, 0, "park", 1)
    peer.sock.close()
    both.turn()
    assert both.counts("park") == (0, 0, 1, 0)
    for rpc, procedures in ((both.rpc, both.new), (both.old_rpc, both.old)):
        for caller in procedures.parked:
            rpc.return_(caller, 1)
        procedures.parked.clear()
    both.turn()
    assert both.counts("park") == (0, 0, 1, 0)
    assert warnings_of(caplog) == []


def test_an_id_that_is_used_twice(both):
    peer = both.begin()
    both.ask(peer, 0, "park", 1)
    both.ask(peer, 0, "park", 2)
    for rpc, procedures in ((both.rpc, both.new), (both.old_rpc, both.old)):
        for number, caller in enumerate(procedures.parked):
            rpc.return_(caller, number)
    both.turn()
    assert sum(both.counts("park")) == 2


def test_calls_that_waited(both, answer):
    peer = both.begin(answer=answer)
    both.rpc.set_limits(outstanding=1)
    for number in range(5):
        peer.send(number, "list", number)
    both.turn()
    assert [values[0] for values in peer.read()] == [0, 1, 2, 3, 4]
    assert both.counts("list") == (5, 0, 0, 0)


def test_clients_do_not_wait_for_copies(both):
    peer = both.begin(answer="old")
    both.rpc.set_limits(outstanding=1)
    both.new.rpc_list = both.new.rpc_park
    for number in range(3):
        assert both.ask(peer, number, "list", number) == [[number, number]]
    assert len(both.new.parked) == 1  # those of its own kind wait
    assert both.rpc.has_queued() == 0
    while both.new.parked:
        both.rpc.return_(both.new.parked.pop(), 0)
        both.turn()
    assert both.counts("list") == (1, 2, 0, 0)


# Callbacks


def test_callbacks_of_the_copy_are_swallowed(both, answer):
    peer = both.begin(answer=answer)
    read = both.ask(peer, 0, "count", "upto", 2, "progress", CallbackRef(40))
    calls = [values for values in read if values[:2] == [40, "call"]]
    assert calls == [[40, "call", 0, "name", "x"], [40, "call", 1, "name", "x"]]
    gc.collect()
    both.turn()
    read += peer.read()
    assert [0, "done"] in read
    assert [40, "destroy"] in read
    assert both.counts("count") == (1, 0, 0, 0)


def test_callbacks_that_the_old_server_keeps(both, monkeypatch):
    monkeypatch.setattr("rpcasync.shadowing.copies._MOST_FUNCTIONS", 3)
    peer = both.begin()
    for number in range(5):
        both.ask(peer, number, "keep", [CallbackRef(100 + number)])
    assert both.counts("keep") == (3, 0, 2, 0)
    for (callbacks,) in both.old.kept:
        callbacks[0]("late", 1)
    both.old.kept.clear()
    both.turn()
    both.new.kept.clear()
    both.turn()
    assert {tuple(values[1:]) for values in peer.read()} == {("destroy",)}
    both.ask(peer, 9, "keep", [CallbackRef(200)])
    assert both.counts("keep") == (4, 0, 2, 0)
    both.old.kept.clear()


# Which calls


def test_procedures_by_name(both):
    peer = both.begin(procedures=["add", "li*"])
    for number, name in enumerate(["add", "list", "note", "methods", "nope"]):
        both.ask(peer, number, name, "n1", 1, "n2", 2)
    assert sorted(both.shadow.report()["procedures"]) == ["add", "list"]


@pytest.mark.parametrize("answer", ["new", "old"])
def test_what_is_left_out_is_asked_of_one_alone(both, answer):
    peer = both.begin(answer=answer, leave_out=["no?e", "park"])
    assert both.ask(peer, 0, "note", 1) == [[0, 1]]
    assert [both.new.ran, both.old.ran] == ([[1], []] if answer == "new" else [[], [1]])
    assert both.shadow.report()["procedures"] == {}
    assert both.shadow.report()["left_out"] == ["no?e", "park"]


def test_names_that_nothing_has_are_told(both, caplog):
    peer = both.begin(procedures=["add", "ad"], leave_out=["set_*"])
    both.ask(peer, 0, "list")
    both.ask(peer, 1, "list")
    assert warnings_of(caplog) == [
        "shadow: no procedure is named ad",
        "shadow: no procedure is named set_*",
    ]


def test_a_sample(both):
    numbers = iter([0.0, 0.29, 0.3, 0.99])
    peer = both.begin(sample=0.3, random=lambda: next(numbers))
    for number in range(4):
        both.ask(peer, number, "list")
    assert both.tally("list")["calls"] == 4
    assert both.counts("list") == (2, 0, 0, 0)


@pytest.mark.parametrize(("sample", "expected"), [(0, 0), (1, 20), (1.0, 20)])
def test_all_and_none(both, sample, expected):
    peer = both.begin(sample=sample)
    for number in range(20):
        both.ask(peer, number, "list")
    assert both.counts("list") == (expected, 0, 0, 0)


def test_other_calls_go_to_a_fallback(both):
    both.rpc.fallback = both.url
    peer = both.begin(answer="old")
    both.old.rpc_other = answering(both.old_rpc, "other")
    assert both.ask(peer, 0, "other") == [[0, "other"]]
    assert both.ask(peer, 1, "add", "n1", 1, "n2", 2) == [[1, "sum", 3]]
    assert list(both.shadow.report()["procedures"]) == ["add"]
    assert len(both.old_rpc.clients) == 1  # what it keeps for a client is the same for both


def test_a_fallback_that_is_taken_away_leaves_the_shadow(both):
    both.rpc.fallback = both.url
    peer = both.begin(answer="old")
    assert both.ask(peer, 0, "list", 1) == [[0, 1]]
    both.rpc.fallback = None
    assert both.ask(peer, 1, "list", 2) == [[1, 2]]
    both.turn()
    assert both.ask(peer, 2, "list", 3) == [[2, 3]]
    assert len(both.old_rpc.clients) == 1
    assert both.counts("list") == (3, 0, 0, 0)


def test_a_client_of_the_programs_is_one_for_both(both):
    client = Client(both.mux, both.url)
    both.rpc.fallback = client
    peer = both.begin(old=client, answer="old")
    both.old.rpc_other = answering(both.old_rpc, "other")
    assert both.ask(peer, 0, "other") == [[0, "other"]]
    assert both.ask(peer, 1, "list", 1) == [[1, 1]]
    assert len(both.old_rpc.clients) == 1
    both.rpc.fallback = None
    assert both.ask(peer, 2, "list", 2) == [[2, 2]]
    client.disconnect()


# Bounds


def test_so_many_are_compared_at_a_time(both, answer):
    peer = both.begin(answer=answer, max_pending=2)
    for number in range(5):
        peer.send(number, "park", number)
    both.turn()
    assert both.counts("park") == (0, 0, 3, 0)
    for rpc, procedures in ((both.rpc, both.new), (both.old_rpc, both.old)):
        for caller in procedures.parked:
            rpc.return_(caller, 1)
        procedures.parked.clear()
    both.turn()
    assert len(peer.read()) == 5
    assert both.counts("park") == (2, 0, 3, 0)
    both.ask(peer, 9, "list")
    assert both.counts("list") == (1, 0, 0, 0)


def test_so_much_is_kept_of_answers_that_wait(both, monkeypatch):
    monkeypatch.setattr("rpcasync.shadowing.pairs._MOST_BYTES", 25_000)
    peer = both.begin()
    both.old.rpc_big = both.old.rpc_park
    for number in range(4):
        both.ask(peer, number, "big", 10_000)
    assert both.counts("big") == (0, 0, 2, 0)
    for caller in both.old.parked:
        both.old_rpc.return_(caller, "x" * 10_000)
    both.turn()
    assert both.counts("big") == (2, 0, 2, 0)


def test_an_old_server_that_does_not_read(both, tmp_path):
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(f"{tmp_path}/deaf")
        deaf.listen()
        peer = both.begin(old=f"unix://{tmp_path}/deaf")
        for number in range(30):
            assert both.ask(peer, number, "list", "x" * 100_000) == [[number, "x" * 100_000]]
        assert both.counts("list")[2] > 10
        (sock,) = both.rpc._forwarding.connections
        assert 1_000_000 < both.mux.buflen(sock) < 1_300_000


def test_copies_of_clients_that_left_are_bounded(both, answer, monkeypatch):
    monkeypatch.setattr("rpcasync.shadowing.copies._MOST_LEFT", 3)
    both.begin(answer=answer)
    second = both.old if answer == "new" else both.new
    second.rpc_list = second.rpc_park
    for number in range(10):
        peer = both.front.peer()
        assert both.ask(peer, number, "list", 1) == [[number, 1]]
        peer.sock.close()
        both.turn()
        assert len(second.parked) <= 3
    assert both.counts("list") == (0, 0, 7, 0)
    for caller in second.parked:
        second.bench.rpc.return_(caller, 1)
    both.turn()
    assert both.counts("list") == (3, 0, 7, 0)
    assert both.ask(both.front.peer(), 0, "list", 1) == [[0, 1]]


def test_bytes_of_all_copies_are_bounded(both, tmp_path, monkeypatch):
    monkeypatch.setattr("rpcasync.shadowing.copies._MOST_BYTES_OF_ALL", 1_000_000)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(f"{tmp_path}/deaf")
        deaf.listen()
        both.begin(old=f"unix://{tmp_path}/deaf")
        for peer in [both.front.peer() for _ in range(5)]:
            for number in range(10):
                assert both.ask(peer, number, "list", "x" * 90_000) == [[number, "x" * 90_000]]
        assert all(
            not each.extras or not each.extras.behind for each in both.rpc._peers.by_fh.values()
        )
        queued = [both.mux.buflen(sock) for sock in both.rpc._forwarding.connections]
        assert 900_000 < sum(queued) < 1_200_000


def test_a_copy_is_not_waited_for_without_end(both, answer):
    peer = both.begin(answer=answer, timeout=0)
    slow = both.old if answer == "new" else both.new
    slow.rpc_list = slow.rpc_park
    assert both.ask(peer, 0, "list", 1) == [[0, 1]]
    assert both.counts("list") == (0, 0, 0, 1)


def test_places_are_bounded(both):
    peer = both.begin()
    both.new.rpc_hash = lambda caller, n, /: both.rpc.return_(caller, "h", {f"k{n}": 1, "x": 1})
    both.old.rpc_hash = lambda caller, n, /: both.old_rpc.return_(caller, "h", {f"k{n}": 2, "x": 1})
    for number in range(MOST_PLACES + 5):
        both.ask(peer, number, "hash", number)
    kinds = both.kinds("hash")
    assert len(kinds) == MOST_PLACES + 1
    assert kinds[-1] == ("...", "value")
    assert both.tally("hash")["differences"][-1]["calls"] == 5


def test_procedures_are_bounded(both, monkeypatch):
    monkeypatch.setattr("rpcasync.shadowing.book.MOST_PROCEDURES", 3)

    class Any(Procedures):
        def __getattr__(self, name):
            if not name.startswith("rpc_"):
                raise AttributeError(name)
            return lambda caller, *values: both.rpc.return_(caller)

    front = Bench(both.mux, Any())
    both.rpc = front.rpc
    shadow = Shadow(both.mux, front.rpc, both.url)
    peer = front.peer()
    for number in range(6):
        both.ask(peer, number, f"any{number}")
    names = list(shadow.report()["procedures"])
    assert names == ["...", "any0", "any1", "any2"]
    assert MOST_PROCEDURES > 3
    front.close()


# An old server that is of no use


def settle(both, is_over):
    """Run both servers until something is so: a connection takes a moment to fail."""
    for _ in range(10_000):
        both.turn()
        if is_over():
            return
    raise AssertionError("it is not so")


def test_nobody_is_there(both, nobody, caplog):
    peer = both.begin(old=nobody)
    assert both.ask(peer, 0, "list", 1) == [[0, 1]]
    settle(both, lambda: both.counts("list") == (0, 0, 0, 1))
    for number in range(1, 20):
        assert both.ask(peer, number, "list", 1) == [[number, 1]]
    assert both.counts("list")[0] == 0
    assert both.counts("list")[2] > 15  # it is tried again after a pause
    assert both.shadow.report()["is_there"] is False
    (line,) = warnings_of(caplog)
    assert line.startswith(f"shadow {nobody} has gone: ")
    assert "refused" in line


def test_it_is_used_again_when_it_is_back(both, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("rpcasync.shadowing.pairs._PAUSE", 0)
    caplog.set_level(logging.INFO)
    peer = both.begin(old=f"unix://{tmp_path}/later")
    assert both.ask(peer, 0, "list", 1) == [[0, 1]]
    settle(both, lambda: sum(both.counts("list")) == 1)
    both.old_rpc.listen(f"unix://{tmp_path}/later")
    assert both.ask(peer, 1, "list", 1) == [[1, 1]]
    settle(both, lambda: both.counts("list")[0] == 1)
    told = [each.message for each in caplog.records if each.message.startswith("shadow")]
    assert len(told) == 2
    assert told[1] == f"shadow unix://{tmp_path}/later is back"
    assert both.shadow.report()["is_there"] is True


def test_it_ends_a_connection_in_a_call(both, caplog):
    peer, other = both.begin(), both.front.peer()
    both.ask(other, 0, "park", 1)
    assert both.ask(peer, 0, "list") == [[0]]
    both.old.rpc_list = both.old.rpc_explode
    both.new.rpc_list = answering(both.rpc, 1)
    caplog.clear()
    assert both.ask(peer, 1, "list") == [[1, 1]]
    assert both.kinds("list") == [("", "error")]
    assert both.ask(peer, 2, "add", "n1", 1, "n2", 1) == [[2, "sum", 2]]  # it is there again
    assert both.counts("add") == (1, 0, 0, 0)
    assert both.counts("park") == (0, 0, 0, 0)  # the other's connection is another


def test_a_client_that_was_given_is_not_connected_again(both, caplog):
    client = Client(both.mux, both.url)
    peer = both.begin(old=client)
    assert both.ask(peer, 0, "list") == [[0]]
    both.ask(peer, 1, "park", 1)
    (sock,) = both.old_rpc.clients
    both.mux.kill(sock)
    both.turn()
    assert both.counts("park") == (0, 0, 0, 1)
    for number in range(3):
        assert both.ask(peer, number, "list") == [[number]]
    assert both.counts("list") == (1, 0, 3, 0)
    assert [each.startswith("shadow unix://") for each in warnings_of(caplog)] == [True]


GARBAGE = [
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\0\0\0\x0aGARBAG",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_it_answers_garbage(both, garbage, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/garbage")
        listener.listen()
        peer = both.begin(old=f"unix://{tmp_path}/garbage")
        for number in range(3):
            assert both.ask(peer, number, "list", 1) == [[number, 1]]
            with listener.accept()[0] as sock:
                sock.sendall(garbage)
                settle(both, lambda number=number: both.counts("list")[3] == number + 1)
    assert both.counts("list") == (0, 0, 0, 3)


def test_it_answers_what_nobody_has_asked(both, tmp_path, caplog):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/odd")
        listener.listen()
        peer = both.begin(old=f"unix://{tmp_path}/odd")
        assert both.ask(peer, 0, "list", 1) == [[0, 1]]
        odd = Peer(listener.accept()[0])
        assert odd.read() == [[0, "list", 1]]
        odd.send(7, "spurious")
        odd.send(0, 1)
        odd.send(0, 2)
        both.turn()
        odd.sock.close()
    assert both.counts("list") == (1, 0, 0, 0)


def test_the_old_one_answers_and_has_gone(both, nobody, caplog):
    peer = both.begin(old=nobody, answer="old")
    peer.send(0, "list", 1)
    settle(both, lambda: sum(both.counts("list")))
    ((_, key, text, *_),) = peer.read()
    assert (key, text) == ("error", "list: the server behind has gone; see the server's log")
    assert both.counts("list") == (0, 0, 0, 1)


# The new one, where the old one answers


def test_what_the_copies_do_is_nobodys_affair(both, caplog):
    peer = both.begin(answer="old")
    both.new.rpc_list = both.new.rpc_explode
    for number in range(2):
        assert both.ask(peer, number, "list", 1) == [[number, 1]]
    assert both.kinds("list") == [("", "error")]
    assert both.ask(peer, 2, "add", "n1", 1, "n2", 1) == [[2, "sum", 2]]
    assert both.counts("add") == (1, 0, 0, 0)


def test_they_come_by_connections_that_are_no_clients(both):
    assert not both.rpc.has_clients()
    peer = both.begin(answer="old")
    assert both.ask(peer, 0, "list", 1) == [[0, 1]]
    assert len(both.rpc.clients) == 1
    peer.sock.close()
    both.turn()
    assert both.rpc.clients == set()
    assert not both.rpc.has_clients()


def test_each_client_has_one(both):
    seen = []
    both.new.rpc_who = lambda caller: (seen.append(caller.fh), both.rpc.return_(caller))
    both.old.rpc_who = answering(both.old_rpc)
    one = both.begin(answer="old")
    other = both.front.peer()
    for number, peer in enumerate([one, other, one]):
        both.ask(peer, number, "who")
    assert seen[0] is seen[2]
    assert seen[0] is not seen[1]
    assert both.counts("who") == (3, 0, 0, 0)


def test_copies_have_what_the_program_knows_of_the_client(both):
    seen = []

    def whoami(caller):
        seen.append(caller.meta)
        both.rpc.return_(caller, caller.meta.get("user"))

    both.new.rpc_whoami = whoami
    both.old.rpc_whoami = answering(both.old_rpc, "bob")
    both.new.rpc_login = lambda caller: caller.meta.update(user="bob") or both.rpc.return_(caller)
    peer = both.begin(answer="old", procedures=["whoami"])
    both.ask(peer, 0, "login")
    assert both.ask(peer, 1, "whoami") == [[1, "bob"]]
    assert both.counts("whoami") == (1, 0, 0, 0)
    other = both.front.peer()
    both.ask(other, 0, "whoami")
    assert seen == [{"user": "bob"}, {}]


def test_a_client_that_was_told_that_it_takes_too_long(both):
    peer = both.begin(answer="old")
    both.old.rpc_list = both.old.rpc_park
    both.rpc.set_options("list", timeout=1e-9)
    both.ask(peer, 0, "list", 1)
    assert both.counts("list") == (0, 0, 0, 1)


def test_an_answer_that_cannot_be_passed_on(both):
    both.begin(answer="old")
    both.old.rpc_list = answering(both.old_rpc, ScalarRef(1))
    peer = both.front.peer("json")
    assert both.ask(peer, 0, "list", 1)[0][:3] == [0, "error", "list: a value cannot be sent"]
    assert both.counts("list") == (0, 0, 0, 1)


# Any order of all that can happen

STEPS = st.one_of(
    st.tuples(st.just("call"), st.integers(0, 2)),
    st.tuples(st.sampled_from(["new", "old"]), st.integers(0, 9)),  # which of them answers what
    st.tuples(st.sampled_from(["close", "cut"]), st.integers(0, 2)),
)


@given(st.lists(STEPS, max_size=25), st.sampled_from(["new", "old"]), st.integers(1, 4))
def test_no_pair_is_left_over(steps, answer, most):
    with tempfile.TemporaryDirectory() as path, EventMux() as mux:
        both = Both(mux, path)
        both.begin(answer=answer, max_pending=most)
        pairs = both.rpc._peers.watchers.all[0]
        peers = [both.front.peer() for _ in range(3)]
        calls = 0
        for action, number in steps:
            if action == "call" and not peers[number].ended:
                calls += 1
                peers[number].send(calls, "park", calls)
            elif action == "close":
                peers[number].sock.close()
                peers[number].ended = True
            elif action == "cut" and both.old_rpc.clients:
                mux.kill(sorted(both.old_rpc.clients, key=id)[0])
            elif action in ("new", "old"):
                procedures = getattr(both, action)
                if procedures.parked:
                    caller = procedures.parked.pop(number % len(procedures.parked))
                    procedures.bench.rpc.return_(caller, number)
            both.turn()
            assert pairs._pending <= most
            for peer in peers:
                if not peer.ended:
                    peer.read()
        for procedures in (both.new, both.old):
            for caller in procedures.parked:
                procedures.bench.rpc.return_(caller, 1)
            procedures.parked.clear()
        both.turn()
        assert pairs._pending == pairs._bytes == 0
        assert not any(pairs._pairs.values())
        if both.shadow.report()["procedures"]:
            assert sum(both.counts("park")) == both.tally("park")["calls"] <= calls
        both.front.close()
        both.behind.close()
        both.old_rpc.close_listeners()


# What cannot be compared


def test_a_codec_that_fails_is_no_affair_of_the_callers(both, caplog, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("broken")

    monkeypatch.setattr("rpcasync.shadowing.pairs.compare", broken)
    peer = both.begin()
    assert both.ask(peer, 0, "list", 1) == [[0, 1]]
    assert both.counts("list") == (0, 0, 1, 0)
    assert "procedure list: its answers cannot be compared" in caplog.text


# Wrong calls


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"old": 1}, TypeError, "old is 1, must be a Client or a URL"),
        ({"old": "tcp:/nowhere"}, URLError, "tcp:/nowhere"),
        ({"old": "perl:///missing.pl"}, OSError, "missing"),
        ({"sample": 1.5}, ValueError, "sample is 1.5, must be a number from 0 to 1"),
        ({"sample": -0.1}, ValueError, "sample is -0.1"),
        ({"sample": float("nan")}, ValueError, "sample is nan"),
        ({"sample": True}, ValueError, "sample is True"),
        ({"answer": "both"}, ValueError, "answer is 'both', must be 'new' or 'old'"),
        ({"procedures": "add"}, TypeError, "procedures is 'add', must be a collection of names"),
        ({"leave_out": "add"}, TypeError, "leave_out is 'add', must be a collection of names"),
        ({"leave_out": [1]}, TypeError, "leave_out is"),
        ({"timeout": -1}, ValueError, "timeout is -1"),
        ({"max_pending": 0}, ValueError, "max_pending is 0"),
        ({"leaveout": ["add"]}, TypeError, "did you mean 'leave_out'"),
    ],
)
def test_wrong_options(both, options, error, text):
    with pytest.raises(error, match=text.replace("(", r"\(")):
        both.begin(**options)


def test_another_mux(both):
    with EventMux() as other, pytest.raises(ValueError, match="must be that of the server"):
        Shadow(other, both.rpc, both.url)


def test_a_client_on_another_mux(both, answer):
    with EventMux() as other, pytest.raises(ValueError, match="is on another mux"):
        both.begin(old=Client(other, both.url), answer=answer)


def test_the_server_in_the_place_of_the_mux(both):
    with pytest.raises(TypeError, match="server is <.*EventMux.*, must be a Server"):
        Shadow(both.rpc, both.mux, both.url)


def test_it_needs_a_whole_mux():
    class Part:
        clock = None

        def add(self, fh, **options): ...
        def send(self, fh, *data, later=False): ...
        def kill(self, fh, reason=None): ...

    mux = Part()
    with pytest.raises(TypeError, match="must be an EventMux"):
        Shadow(mux, Server(mux, {}), "unix:///nowhere")
