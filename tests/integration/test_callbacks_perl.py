"""Functions as arguments between Perl and Python, in both directions, until none is left."""

import shutil
from contextlib import contextmanager

import pytest
from support.programs import PERL, PROGRAMS, Program, listening, run
from support.quick import quick_first

from eventmux import EventMux
from rpcasync import Client
from rpcasync.storable import ScalarRef

pytestmark = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")

SERVER = PROGRAMS / "callbacks_server.py"
COUNT = 1000
WAIT = 30


@pytest.fixture(params=quick_first(["tcp", "unix"]))
def url(request, tmp_path):
    return "tcp://127.0.0.1:0" if request.param == "tcp" else f"unix://{tmp_path}/socket"


def test_a_perl_client_of_a_python_server(url):
    with listening(SERVER, url) as (address, server):
        result = run("perl", PERL / "callbacks_client.pl", address, str(COUNT))
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert [line for line in lines if not line.startswith("ok ")] == ["done"]
    assert len(lines) == 23  # 22 checks and "done"
    assert server.log[1:] == []  # but for where it listens


@contextmanager
def perl_callbacks(url):
    server = Program(["perl", PERL / "callbacks_server.pl", url])
    try:
        yield server.process.stdout.readline().strip()
        assert server.log == []
    finally:
        server.stop()


@contextmanager
def python_callbacks(url):
    with listening(SERVER, url) as (address, server):
        yield address
        assert server.log[1:] == []


@pytest.fixture(params=[perl_callbacks, python_callbacks], ids=["perl", "python"])
def client(request, url):
    """A client of the Perl server; and of the Python one, which is to behave like it."""
    with request.param(url) as address, EventMux() as mux:
        client = Client(mux, address)
        yield client
        client.disconnect()


def alive(client):
    """Return how many callbacks the server has kept, and how many it could call at all."""
    reply = client.alive().result(WAIT)
    return int(reply["kept"]), int(reply["alive"])


def turn_until(client, left):
    """Turn the loop until the server has no more of our functions than that."""
    while client.has_coderefs() > left:
        event = client._mux.mux(WAIT)
        assert event.type != "timeout"
        client.io(event)


def test_a_nested_callback_is_called_after_the_answer(client):
    order = []
    client.callback(
        lambda *values: order.append(("answer", values)),
        calls=3,
        callback={"key": [ScalarRef(lambda *values: order.append(values))]},
    )
    assert client.has_coderefs() == 1
    turn_until(client, 0)
    assert order == [("answer", ()), (1,), (2,), (3,)]
    assert alive(client) == (0, 0)


def test_a_callback_behind_what_is_false(client):
    got = []
    reply = client.call("late", 0, "", None, "0", [1], lambda *values: got.append(values), print)
    assert reply.result(WAIT) == ("count", 5)
    turn_until(client, 0)
    assert got == [(0, "", None, "0", [1])]


@pytest.mark.slow
def test_a_thousand_come_and_go(client):
    numbers = []
    for number in range(COUNT):
        client.keep(lambda value, /, n=number: numbers.append((n, value)), lambda count: None)
    assert client.wait(WAIT)
    assert (client.has_coderefs(), alive(client)) == (COUNT, (COUNT, COUNT))
    assert client.fire("x").result(WAIT) == ("fired", COUNT)
    assert numbers == [(number, "x") for number in range(COUNT)]

    half = COUNT // 2
    assert client.drop(count=half).result(WAIT) == ("left", half)
    turn_until(client, half)
    assert alive(client) == (half, half)
    assert client.fire("y").result(WAIT) == ("fired", half)
    assert numbers[COUNT:] == [(number, "y") for number in range(half, COUNT)]

    client.drop(count=COUNT).result(WAIT)
    turn_until(client, 0)
    assert alive(client) == (0, 0)


@pytest.mark.slow
def test_a_thousand_at_once_that_nobody_keeps(client):
    called = []
    for number in range(COUNT):
        client.callback(
            lambda: None,
            calls=1,
            callback={"key": [ScalarRef(lambda value, /, n=number: called.append(n))]},
        )
    turn_until(client, 0)
    assert called == list(range(COUNT))
    assert not client.has_requests()
    assert alive(client) == (0, 0)


def test_a_client_that_goes_takes_its_functions_with_it(client):
    other = Client(client._mux, client._name)
    other.call("keep", *[print] * 10, lambda count: None)
    assert other.wait(WAIT)
    got = []
    assert client.keep(got.append, lambda count: None).result(WAIT) == ("count", 1)
    assert alive(client) == (11, 11)
    other.disconnect()
    tries = iter(range(10_000))
    while alive(client) != (1, 1):
        next(tries)  # the server may not have heard yet
    assert client.fire(5).result(WAIT) == ("fired", 1)
    assert got == [5]


def test_what_a_function_raises_comes_out_of_io_and_the_others_run(client):
    got = []

    def fail(value, /):
        raise LookupError(value)

    client.call("keep", got.append, fail, got.append, lambda count: None)
    assert client.wait(WAIT)
    call = client.fire(7)
    with pytest.raises(LookupError, match="7"):
        call.result(WAIT)
    assert call.result(WAIT) == ("fired", 3)
    assert got == [7, 7]
