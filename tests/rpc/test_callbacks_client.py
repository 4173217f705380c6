"""Functions that a client passes to a server: the client's end, with the server's in our hands."""

from __future__ import annotations

import functools
import gc
import weakref

import pytest
from support.peers import turn
from support.records import warnings_of

from rpcasync import ArgumentError, Disconnected, EncodeError
from rpcasync.storable import ScalarRef
from rpcasync.wire.messages import CallbackRef


class Function:
    """Can be called, and pointed to by a weakref."""

    def __call__(self, *values):
        pass


def test_what_is_sent(mux, pair):
    client, peer = pair
    called = []
    client.x(0, None, "", called.append, [called.append], (called.append,), k={"n": called.append})
    client.x([called.append] * 2, lambda *values: called.append(values))
    turn(mux, client)
    first, second = peer.read()
    refs = [CallbackRef(id) for id in range(4)]
    assert first == [4, "x", 0, None, "", refs[0], [refs[1]], [refs[2]], "k", {"n": refs[3]}]
    assert second == [7, "x", [CallbackRef(5), CallbackRef(6)]]  # one function, two callbacks
    assert client.has_coderefs() == 6
    for id in (3, 0, 6):
        peer.send(id, "call", f"to {id}")
    peer.send(7, "answer")
    assert turn(mux, client) == []
    assert called == ["to 3", "to 0", "to 6", ("answer",)]


def test_callbacks_in_scalar_references(mux, connect):
    client, peer = connect()
    shared = [ScalarRef(print)]
    client.x(ScalarRef(print), shared, shared)
    turn(mux, client)
    ref = [ScalarRef(CallbackRef(1))]
    assert peer.read() == [[2, "x", ScalarRef(CallbackRef(0)), ref, ref]]


def test_all_kinds_of_callables(mux, pair):
    client, peer = pair
    got = []

    class Made:
        def __init__(self, a, /):
            got.append(("made", a))

        def method(self, *values):
            got.append(values)

        def __call__(self, *, b):
            got.append(b)

    thing = Made(0)
    kinds = [Made, thing.method, thing, functools.partial(thing.method, "p"), got.append]
    client.x(*kinds, None)
    turn(mux, client)
    assert peer.read() == [[5, "x", *map(CallbackRef, range(5)), None]]
    for id, args in enumerate([[1], [2, 3], ["b", 4], [5], [6]]):
        peer.send(id, "call", *args)
    turn(mux, client)
    assert got == [("made", 0), ("made", 1), (2, 3), 4, ("p", 5), 6]


def test_the_server_lets_go(mux, pair):
    client, peer = pair
    got = []
    client.x([got.append])
    turn(mux, client)
    peer.send(1, "answer")  # which is no reason to forget the callback
    peer.send("0", "call", 1)  # as an old Perl would send the id
    turn(mux, client)
    assert (got, client.has_coderefs(), client.has_requests()) == ([1], 1, False)
    peer.send(0, "destroy")
    turn(mux, client)
    assert client.has_coderefs() == 0
    assert client.x().id == 2


def test_a_released_function_is_not_kept(mux, pair):
    client, peer = pair
    function = Function()
    gone = weakref.ref(function)
    client.x([function])
    del function
    turn(mux, client)
    peer.send(1, "answer")
    turn(mux, client)
    assert gone() is not None
    peer.send(0, "destroy")
    turn(mux, client)
    assert gone() is None


@pytest.mark.parametrize(
    "packet", [(7, "call", 1), (7, "destroy"), (7, "sum", 5), (-1, "call"), ("x", "call"), (7,)]
)
def test_what_nobody_waits_for(mux, pair, caplog, packet):
    client, peer = pair
    got = []
    client.x([got.append])
    turn(mux, client)
    peer.send(*packet)
    peer.send(0, "call", "fine")
    turn(mux, client)
    assert warnings_of(caplog) == [f"< reply to a call that is not pending, id {packet[0]!r}"]
    assert (got, client.has_coderefs(), client.has_requests()) == (["fine"], 1, True)


def test_a_call_after_destroy_is_skipped(mux, pair):
    client, peer = pair
    got = []
    client.x([got.append])
    turn(mux, client)
    peer.send(0, "destroy")
    peer.send(0, "call", 1)
    peer.send(0, "destroy")
    peer.send(1, "answer")
    turn(mux, client)
    assert (got, client.has_coderefs(), client.has_requests()) == ([], 0, False)


@pytest.mark.parametrize("values", [["garbage"], [], ["sum", 5], ["Call"], [["call"]], [None]])
def test_garbage_for_a_callback_ends_the_connection(mux, pair, values):
    client, peer = pair
    got = []
    call = client.x([got.append])
    turn(mux, client)
    peer.send(0, "call", "good")
    peer.send(0, *values)
    peer.send(0, "call", "too late")
    turn(mux, client)
    assert got == ["good"]
    assert client.has_coderefs() == 0
    with pytest.raises(Disconnected, match="not for a callback: expected"):
        call.result()
    peer.read()
    assert peer.ended


def test_a_callback_that_raises(mux, pair, caplog):
    client, peer = pair
    got = []

    def first(*values):
        raise KeyError("first")

    def second(*values):
        raise ValueError("second")

    client.x(first, second, got.append, None)
    turn(mux, client)
    for id in (0, 1, 2):
        peer.send(id, "call", 1)
    peer.send(3, "answer")
    with pytest.raises(KeyError, match="first"):
        turn(mux, client)
    assert got == [1]
    assert not client.has_requests()
    assert client.has_coderefs() == 3
    assert warnings_of(caplog) == ["callback of the server failed"]
    peer.send(2, "call", 2)
    turn(mux, client)
    assert got == [1, 2]


def test_a_callback_that_does_not_take_the_values(mux, pair):
    client, peer = pair
    got = []

    def progress(done: int, *, total: int):
        got.append((done, total))

    def impossible(*values, needed):
        got.append(values)

    client.x(progress, impossible, None)
    turn(mux, client)
    peer.send(0, "call", "done", 1)
    peer.send(0, "call", "done", "2", "total", "3")
    with pytest.raises(ArgumentError) as caught:
        turn(mux, client)
    assert str(caught.value) == (
        "values of the server, to argument 1 of x: total is missing; got ['done', 1]:"
        " write def progress(done): or def progress(done, total, /):"
    )
    assert got == [(2, 3)]
    peer.send(1, "call", 1)
    with pytest.raises(ArgumentError, match="needed"):
        turn(mux, client)
    assert got == [(2, 3)]


def test_a_callback_that_calls_and_waits(mux, pair):
    client, peer = pair
    got = []

    def ask(*values):
        inner = client.y(values[0])
        turn(mux)  # what was sent later has to be there
        peer.send(inner.id, "inner")
        peer.send(0, "call", 0) if values[0] else None
        got.append((values[0], inner.result(1)[0]))

    client.x(ask, None)
    turn(mux, client)
    peer.send(0, "call", 1)
    peer.send(1, "outer")
    turn(mux, client)
    assert got == [(1, "inner"), (0, "inner")] or got == [(0, "inner"), (1, "inner")]
    assert not client.has_requests()


def test_a_callback_that_disconnects(mux, pair):
    client, peer = pair
    errors = []
    client.x(lambda *values: client.disconnect(), None)
    client.y(lambda error: errors.append(error))
    turn(mux, client)
    peer.send(0, "call")
    turn(mux, client)
    assert [type(error) for error in errors] == [Disconnected]
    assert client.has_coderefs() == 0
    peer.read()
    assert peer.ended


@pytest.mark.parametrize("bad", [object(), {1, 2}, {"k": {3: 4, object(): 1}}])
def test_nothing_is_left_of_a_call_that_cannot_be_sent(mux, pair, bad):
    client, peer = pair
    with pytest.raises(EncodeError):
        client.x(print, [print], bad, None)
    with pytest.raises(EncodeError):
        client.x(print, "x" * 20_000_000, None)
    assert (client.has_coderefs(), client.has_requests()) == (0, False)
    client.x(print, None)
    turn(mux, client)
    assert peer.read() == [[1, "x", CallbackRef(0), None]]


def test_knots_cannot_be_sent(mux, pair):
    client, _peer = pair
    knot = [print]
    knot.append(knot)
    with pytest.raises(EncodeError, match="stands inside itself"):
        client.x(knot, None)
    assert (client.has_coderefs(), client.has_requests()) == (0, False)


def test_a_lost_connection_forgets_callbacks(mux, pair):
    client, peer = pair
    function = Function()
    gone = weakref.ref(function)
    client.x(function, None).cancel()
    del function
    turn(mux, client)
    peer.sock.close()
    turn(mux, client)
    assert client.has_coderefs() == 0
    gc.collect()
    assert gone() is None


def test_values_that_only_mention_the_name(mux, pair):
    client, peer = pair
    values = ["RPC::Async::Coderef", {"RPC::Async::Coderef": 3}, ["RPC::Async::Coderef"]]
    client.x(*values)
    turn(mux, client)
    assert peer.read() == [[0, "x", *values]]
    assert client.has_coderefs() == 0


def test_a_callback_in_an_answer_stays_a_value(mux, pair):
    client, peer = pair
    got = []
    client.x([got.append])
    call = client.y()
    turn(mux, client)
    peer.read()
    peer.send(call.id, CallbackRef(0))
    peer.send(0, "call", [CallbackRef(7)])
    turn(mux, client)
    ((value,), ((inner,),)) = call.result(), got
    assert not callable(value)
    assert not callable(inner)
    assert client.has_coderefs() == 1
    peer.send(CallbackRef(0), "call")
    with pytest.raises(Disconnected, match="the id is CallbackRef, expected an integer"):
        client.z().result()


@pytest.mark.parametrize(
    ("function", "values", "expected"),
    [
        (lambda x: None, [7], "got 7: write lambda x, /:"),
        (lambda x: None, ["sum", 7], "got ['sum', 7]: write lambda sum: or lambda *values:"),
        (lambda: None, [7], "got 7: write lambda *values:"),
    ],
)
def test_a_callback_that_does_not_fit_is_named(mux, pair, function, values, expected):
    client, peer = pair
    client.work(1, [function], progress=function)
    turn(mux, client)
    peer.send(1, "call", *values)
    with pytest.raises(ArgumentError) as caught:
        turn(mux, client)
    message = str(caught.value)
    assert message.startswith("values of the server, to argument progress of work: ")
    assert message.endswith(f"; {expected}")
    peer.send(0, "call", *values)
    with pytest.raises(ArgumentError, match="to a callback in the arguments of work: "):
        turn(mux, client)


def test_what_is_noted_of_callbacks_does_not_outlive_them_for_long(mux, pair):
    client, peer = pair
    for _ in range(300):
        call = client.x(f=print)
        turn(mux, client)
        peer.read()
        peer.send(call.id)
        peer.send(call.id - 1, "destroy")
        turn(mux, client)
    assert client.has_coderefs() == 0
    assert len(client._protocol._origins) < 100
