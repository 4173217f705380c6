"""What goes wrong in a call: who is told, who is logged, and who survives it."""

from __future__ import annotations

import gc
import re
import sys

import pytest
from support.procedures import Procedures
from support.records import warnings_of

from eventmux import Connect
from rpcasync import Fault

DROPPED = "without an answer: call return_(caller, ...), or keep the caller and do so later"
NO_ANSWER = "{}: did not answer: in the server, it has to call return_(caller, ...)"


def failure(id, procedure):
    """The answer to a call whose procedure raised an exception."""
    text = f"{procedure}: failed; see the server's log"
    return [id, "error", text, "errors", [text]]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (["nothing"], "No sub 'nothing' in package 'Procedures'"),
        (["__init__"], "No sub '__init__' in package 'Procedures'"),
        (["../x"], "No sub '../x' in package 'Procedures'"),
        ([""], "No sub '' in package 'Procedures'"),
        (["x" * 10_000_000], f"No sub '{'x' * 57}...' in package 'Procedures'"),
        (["add", "n1", 1], "add: n2 is missing"),
        (["add"], "add: n1, n2 are missing"),
        (["add", 1, 2], "add takes n1=, n2=; got values without names"),
        (["add", "n1", 1, "n2"], "add takes n1=, n2=; got an odd number of names and values: 3"),
        (["note", "n", 1], "note takes 1 value: n; got n="),
        (["methods", 1], "methods takes [defs=]; got values without names"),
        (["add", "n1", 1, "n2", []], "add: n2: cannot convert list to int"),
        (["add", "n1", 1, "n2", 2, "n3", 3], "add: unknown name n3; it takes n1=, n2="),
        (["fault"], "not for you"),
        (["forget"], NO_ANSWER.format("forget")),
        (["unsendable"], "unsendable: a value cannot be sent"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_errors_that_the_client_survives(bench, call, text):
    peer = bench.peer()
    assert bench.ask(peer, 0, *call) == [[0, "error", text, "errors", [text]]]
    assert bench.ask(peer, 1, "add", "n1", 1, "n2", 1) == [[1, "sum", 2]]


def test_a_failure_ends_its_client_but_no_packet_is_lost(bench, procedures, caplog):
    peer, other = bench.peer(), bench.peer()
    packets = [("note", 1), ("explode",), ("note", 2)]
    peer.sock.sendall(b"".join(peer.packet(id, *call) for id, call in enumerate(packets)))
    other.send(0, "note", 3)
    bench.turn()
    assert sorted(procedures.ran) == [1, 2, 3]
    assert peer.read() == [[0, 1], failure(1, "explode"), [2, 2]]
    assert peer.ended
    assert other.read() == [[0, 3]]
    assert not other.ended
    assert len(bench.rpc.clients) == 1
    logged, disconnect = caplog.records[-2:]
    assert logged.message == "procedure explode failed"
    assert str(logged.exc_info[1]) == "secret"
    assert "disconnected: procedure explode failed" in disconnect.message


def test_a_call_that_is_forgotten_later(bench, procedures, caplog):
    peer = bench.peer()
    bench.ask(peer, 0, "park")
    procedures.parked.clear()
    gc.collect()
    assert bench.rpc.io(None) is None
    bench.turn()
    text = NO_ANSWER.format("park")
    assert peer.read() == [[0, "error", text, "errors", [text]]]
    assert warnings_of(caplog) == [f"procedure park dropped call 0 {DROPPED}"]


def test_a_call_dropped_between_two_turns_wakes_the_loop(bench, procedures):
    peer = bench.peer()
    bench.ask(peer, 0, "park")
    procedures.parked.clear()
    bench.rpc.io(bench.mux.mux())  # does not wait for anything else
    bench.turn()
    assert peer.read()[0][2] == NO_ANSWER.format("park")


def test_a_forgotten_call_of_a_client_that_has_gone(bench, procedures, caplog):
    peer = bench.peer()
    bench.ask(peer, 0, "park")
    peer.sock.close()
    bench.turn()
    procedures.parked.clear()
    gc.collect()
    bench.rpc.io(None)
    assert warnings_of(caplog) == []


def test_an_error_that_cannot_be_sent_ends_the_connection(serve, caplog):
    bench = serve({"rpc_forget": lambda caller: None}, max_packet=50)
    for procedure in ("nothing", "forget"):
        peer, other = bench.peer(), bench.peer()
        assert bench.ask(peer, 0, procedure) == []
        assert peer.ended
        assert not other.ended
        assert "an error cannot be sent to it: packet of" in warnings_of(caplog)[-1]


def test_errors_that_storable_cannot_carry_are_made_to_fit(bench, procedures):
    procedures.rpc_long = lambda caller: bench.rpc.error(caller, "x" * 20_000_000)
    procedures.rpc_odd = lambda caller: bench.rpc.error(caller, "caf\udce9")

    def rpc_empty(caller):
        raise Fault

    procedures.rpc_empty = rpc_empty
    peer = bench.peer()
    assert bench.ask(peer, 0, "long")[0][2] == "x" * 4093 + "..."
    assert bench.ask(peer, 1, "odd")[0][2] == "caf\\udce9"
    assert bench.ask(peer, 2, "empty")[0][2] == "failed"


def test_a_property_that_fails_harms_only_its_client(bench, monkeypatch):
    monkeypatch.setattr(Procedures, "rpc_bad", property(lambda self: 1 / 0), raising=False)
    peer, other = bench.peer(), bench.peer()
    assert bench.ask(peer, 0, "bad") == [failure(0, "bad")]
    assert peer.ended
    assert bench.ask(other, 0, "list") == [[0]]


def test_a_value_that_a_procedure_returns_is_no_answer(bench, caplog, monkeypatch):
    monkeypatch.setattr(Procedures, "rpc_value", lambda self, caller: {"sum": 5}, raising=False)
    assert bench.ask(bench.peer(), 0, "value")[0][2] == NO_ANSWER.format("value")
    assert (
        warnings_of(caplog)[0]
        == "procedure value returned dict, which is ignored: answer with return_()"
    )
    assert repr(bench.rpc) == "<Server 1 clients, 0 listeners>"


def test_two_answers_are_the_programs_mistake(bench):
    peer = bench.peer()
    assert bench.ask(peer, 0, "twice") == [[0, 1]]
    assert peer.ended


def test_a_fault_after_the_answer_is_logged(bench, caplog):
    peer = bench.peer()
    assert bench.ask(peer, 0, "late_fault") == [[0, 1]]
    assert warnings_of(caplog) == ["procedure late_fault failed after its answer: too late"]
    assert not peer.ended


def test_a_procedure_may_kill_its_client_and_fail(bench, procedures, caplog):
    def rpc_bye(caller):
        bench.mux.kill(caller.fh)
        raise ValueError("then this")

    procedures.rpc_bye = rpc_bye
    peer, other = bench.peer(), bench.peer()
    peer.sock.sendall(peer.packet(0, "bye") + peer.packet(1, "list"))
    bench.turn()
    assert peer.read() == []
    assert bench.ask(other, 0, "list") == [[0]]
    assert len(bench.rpc.clients) == 1


def test_a_procedure_may_kill_its_client_and_answer(bench, procedures):
    def rpc_bye(caller):
        bench.mux.kill(caller.fh)
        assert bench.rpc.return_(caller) is False

    procedures.rpc_bye = rpc_bye
    bench.ask(bench.peer(), 0, "bye")
    assert [event.type for event in bench.foreign] == ["closed"]  # the program did it
    assert not bench.rpc.has_clients()


def test_procedures_may_end_the_program(bench, procedures):
    procedures.rpc_exit = lambda caller: sys.exit(3)
    peer = bench.peer()
    peer.send(0, "exit")
    with pytest.raises(SystemExit):
        bench.turn()


def test_an_interrupt_leaves_the_other_packets_for_later(bench, procedures):
    def interrupt(caller):
        raise KeyboardInterrupt

    procedures.rpc_interrupt = interrupt
    peer = bench.peer()
    peer.send_calls(("note", 0), ("interrupt",), ("note", 2), ("note", 3))
    with pytest.raises(KeyboardInterrupt):
        bench.turn()
    assert procedures.ran == [0]
    bench.turn()  # the program goes on
    assert procedures.ran == [0, 2, 3]


def test_a_value_that_cannot_be_sent_is_logged_with_its_place(bench, caplog):
    bench.ask(bench.peer(), 0, "unsendable")
    (record,) = caplog.records
    assert record.exc_info is None  # the codec's own files would be in a traceback
    start, _, place = record.message.rpartition(", in ")
    assert start.startswith("procedure unsendable has a value that cannot be sent: cannot send")
    assert re.fullmatch(r".*procedures\.py, line \d+", place)


# Functions that are no procedures


LATER = ", and answer when its work is done"


class Thing:
    def rpc_x(self, caller):
        """Wait for an object: `Server(mux, Thing)` has none."""


ORDINARY = "procedures are ordinary ones: write"


def without_parameter():
    pass


def with_names_alone(*, n1, n2=2):
    pass


async def coroutine(caller, n: int):
    pass


def generator(caller, n, /):
    yield n


async def asynchronous_generator(caller):
    yield 1


def list_and_name(caller, *parts, depth):
    pass


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (without_parameter, "it has no parameter for the caller: write def rpc_x(caller)"),
        (
            with_names_alone,
            "it has no parameter for the caller: write def rpc_x(caller, *, n1, n2=...)",
        ),
        (
            coroutine,
            f"it is a coroutine function, {ORDINARY} def rpc_x(caller, n){LATER}",
        ),
        (
            generator,
            f"it is a generator function, {ORDINARY} def rpc_x(caller, n, /) without yield",
        ),
        (
            asynchronous_generator,
            f"it is a generator function, {ORDINARY} def rpc_x(caller) without yield",
        ),
        (list_and_name, "takes a list, but requires depth by name"),
        (Thing.rpc_x, "it is a method, and there is no object: write Server(mux, Thing())"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_function_that_is_no_procedure(serve, caplog, function, problem):
    bench = serve({"rpc_x": function})
    peer = bench.peer()
    for id in range(2):
        answer = bench.ask(peer, id, "x")
        assert answer[0][2] == "x: cannot be called; see the server's log"
    assert warnings_of(caplog) == [f"procedure x cannot be called: {problem}"] * 2
    assert bench.ask(peer, 2, "methods", "defs", 1)[0][1] == "methods"


@pytest.mark.parametrize(
    ("function", "values", "head"),
    [
        (lambda n1, n2: None, ["n1", 1, "n2", 2], "def rpc_add(caller, n1, n2)"),
        (lambda n1, n2=0: None, ["n1", 1], "def rpc_add(caller, n1, n2=...)"),
        (lambda n1: None, ["n1", 1], "def rpc_add(caller, n1)"),
        (lambda n1, **more: None, ["n1", 1, "x", 2], "def rpc_add(caller, n1, **more)"),
    ],
)
def test_a_procedure_that_takes_a_value_for_its_caller(serve, caplog, function, values, head):
    bench = serve({"rpc_add": function})
    answer = bench.ask(bench.peer(), 0, "add", *values)
    assert answer[0][2] == "add: cannot be called; see the server's log"
    assert warnings_of(caplog) == [
        "procedure add may lack a parameter for the caller: if n1 is meant for a value, write "
        + head
    ]


@pytest.mark.parametrize(
    ("function", "values", "text", "head"),
    [
        (lambda n, x, /: None, [1, 2], "1 value: x; got 2", "def rpc_add(caller, n, x, /)"),
        (lambda n, /: None, [1], "no values; got 1", "def rpc_add(caller, n, /)"),
    ],
)
def test_one_value_too_many_may_be_the_fault_of_either(serve, caplog, function, values, text, head):
    bench = serve({"rpc_add": function})
    assert bench.ask(bench.peer(), 0, "add", *values)[0][2] == f"add takes {text}"
    assert warnings_of(caplog) == [
        "procedure add may lack a parameter for the caller: if n is meant for a value, write "
        + head
    ]


@pytest.mark.parametrize(
    ("function", "values", "text"),
    [
        (lambda caller, n: None, ["caller", 1, "n", 2], "unknown name caller; it takes n="),
        (lambda _c, n: None, ["_c", 1, "n", 2], "unknown name _c; it takes n="),
        (lambda n1, n2: None, ["n1", 1, "n3", 2], "unknown name n1; it takes n2="),
        (lambda n1, n2, n3: None, ["n1", 1, "n3", 2], "unknown name n1; it takes n2=, n3="),
    ],
)
def test_a_client_has_no_procedure_accused(serve, caplog, function, values, text):
    bench = serve({"rpc_add": function})
    assert bench.ask(bench.peer(), 0, "add", *values)[0][2] == f"add: {text}"
    assert warnings_of(caplog) == []


def test_a_coroutine_that_a_decorator_returns(serve, caplog):
    async def work(caller):
        pass

    bench = serve({"rpc_work": lambda caller: work(caller)})
    assert bench.ask(bench.peer(), 0, "work")[0][2] == NO_ANSWER.format("work")
    assert warnings_of(caplog)[0] == (
        "procedure work returned coroutine, which is ignored: answer with return_()"
    )
    gc.collect()  # Python would warn of a coroutine that was never awaited: an error here


def test_a_namespace_without_procedures_is_told_of(serve, caplog):
    bench = serve({"rpc": 1})
    assert bench.ask(bench.peer(), 0, "x")[0][2] == "No sub 'x' in package 'main'"
    assert warnings_of(caplog) == [
        "package main has no rpc_* functions: define them at the top of the file, before the loop"
    ]


def test_a_connection_of_somebody_else_with_a_strange_parent(bench):
    class Unhashable:
        __hash__ = None

    event = Connect(fh=object(), parent_fh=Unhashable())
    assert bench.rpc.io(event) is event
