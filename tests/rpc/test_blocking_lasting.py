"""A client that waits, over several connections: real servers that go and come back."""

import contextlib
import socket
import threading

import pytest
from support.fleets import WRONG_OPTIONS, Fleet
from support.handled import forgetting
from support.line_interrupts import Interrupter
from support.pump import PATIENCE

import rpcasync
from rpcasync import ArgumentError, Backoff, CallTimeout, Disconnected, EncodeError, RemoteError

QUICK = Backoff(0.001, 0.01)


@pytest.fixture
def fleets():
    with contextlib.ExitStack() as stack:

        def make(*args, **options):
            fleet = Fleet(*args, **options)
            stack.callback(fleet.stop)
            return fleet

        yield make


def connect(fleet, **options):
    return rpcasync.connect(fleet.urls, **{"reconnect": QUICK, "timeout": PATIENCE, **options})


@contextlib.contextmanager
def in_thread(function, *args, **named):
    """Call something in another thread; give what comes of it, which is there at the end."""
    outcome = []

    def act():
        try:
            outcome.append(function(*args, **named))
        except Exception as error:  # noqa: BLE001  # the test looks at it
            outcome.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield outcome
    finally:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_it_is_a_client_like_others(fleets):
    fleet = fleets(1, up=(0,))
    with connect(fleet) as rpc:
        assert rpc.add(n1=1, n2=2)["sum"] == 3
        assert not rpc.closed
        assert repr(rpc) == f"<BlockingClient of {fleet.urls[0]}>"
        with pytest.raises(RemoteError, match="BlockingClient itself has close"):
            rpc.disconnect()
        with pytest.raises(EncodeError):
            rpc.add(object())
        rpc.set_options("park", timeout=0.001)
        with pytest.raises(CallTimeout, match=r"^park: no answer within 0.001 seconds$"):
            rpc.park()
        numbers = []
        assert rpc.count(upto=3, tell=lambda n, /: numbers.append(n))["upto"] == 3
        assert numbers == [0, 1, 2]
    assert rpc.closed
    with pytest.raises(Disconnected, match="closed") as caught:
        rpc.add(n1=1, n2=2)
    assert not caught.value.may_have_run
    rpc.close()


def test_a_server_that_was_started_anew_between_two_calls_fails_none(fleets):
    """What came while nobody called is seen to before the next call leaves."""
    fleet = fleets(1, up=(0,))
    with connect(fleet) as rpc:
        for n in range(3):
            assert rpc.add(n1=n, n2=1)["sum"] == n + 1
            fleet.down()
            fleet.up()
        assert fleet.ran == [(0, "add", n, 1) for n in range(3)]


def test_a_server_that_left_between_two_calls(fleets):
    fleet = fleets(2, up=(0, 1))
    with connect(fleet) as rpc:
        assert rpc.add(n1=1, n2=1)["sum"] == 2
        fleet.drain(0)
        assert rpc.add(n1=2, n2=1)["sum"] == 3
        assert fleet.ran == [(0, "add", 1, 1), (1, "add", 2, 1)]


def test_what_is_under_way_ends_where_it_is_when_the_server_leaves(fleets):
    fleet = fleets(2, up=(0, 1))
    with connect(fleet) as rpc, in_thread(rpc.park, 1) as outcome:
        fleet.wait_for(lambda: len(fleet.ran) == 1)
        fleet.drain(0)
        while rpc.add(n1=1, n2=1)["sum"] and fleet.ran[-1][0] == 0:
            pass  # its thread has not heard of it yet
        fleet.answer(value=7)
    assert outcome[0]["value"] == 7


@pytest.mark.parametrize("retry", [None, "idempotent"])
def test_a_lost_connection(fleets, retry):
    fleet = fleets(2, up=(0, 1))
    with connect(fleet, retry=retry) as rpc, in_thread(rpc.park, 1) as outcome:
        fleet.wait_for(lambda: len(fleet.ran) == 1)
        fleet.hang_up(0)
        if retry is not None:
            fleet.wait_for(lambda: len(fleet.ran) == 2)
            fleet.parked.pop(0)
            fleet.answer(value=7)
    if retry is not None:
        assert fleet.ran == [(0, "park", 1), (1, "park", 1)]
        assert outcome[0]["value"] == 7
    else:
        assert isinstance(outcome[0], Disconnected)
        assert outcome[0].may_have_run


def test_connect_waits_for_the_first_server(fleets):
    fleet = fleets(2)
    with in_thread(connect, fleet) as outcome:
        fleet.up(1)
    with outcome[0] as rpc:
        assert rpc.add(n1=1, n2=2)["sum"] == 3


def test_connect_gives_up_in_time(fleets):
    fleet = fleets(1)
    text = (
        rf"cannot connect to {fleet.urls[0]}: no answer within 0.3 seconds;"
        rf" there is no connection: {fleet.urls[0]}: Connection refused$"
    )
    with pytest.raises(TimeoutError, match=text):
        connect(fleet, timeout=0.3)
    fleet.places[0].listen()
    with pytest.raises(TimeoutError, match="there is no connection: .* has not answered yet$"):
        connect(fleet, timeout=0.3)


def test_a_call_that_times_out_without_a_connection_tells_why(fleets):
    fleet = fleets(1, up=(0,))
    with connect(fleet) as rpc:
        fleet.down()
        rpc.set_options("add", timeout=0.05)
        with pytest.raises(CallTimeout) as caught:
            rpc.add(n1=1, n2=2)
        text = "add: no answer within 0.05 seconds; there is no connection: "
        assert str(caught.value).startswith(text + fleet.urls[0])
        rpc.set_options("add", timeout=PATIENCE)
        fleet.up()
        assert rpc.add(n1=2, n2=2)["sum"] == 4
        assert fleet.ran == [(0, "add", 2, 2)]  # what nobody waits for is never sent


def test_what_a_function_raises_comes_out_of_its_call(fleets):
    fleet = fleets(1, up=(0,))
    with connect(fleet) as rpc:
        fleet.hang_up()

        def tell(n, /):
            if n == 1:
                raise LookupError(n)

        with pytest.raises(LookupError):
            rpc.count(upto=3, tell=tell)
        with pytest.raises(ArgumentError, match="values of the server, to argument tell of ask"):
            rpc.ask(tell=lambda number, /: None)


def test_functions_go_with_the_calls_that_are_sent_again(fleets):
    fleet = fleets(1, up=(0,))
    got = []
    with (
        connect(fleet, retry="idempotent") as rpc,
        in_thread(rpc.ask, "tell", lambda *values: got.append(values)) as outcome,
    ):
        fleet.wait_for(lambda: len(fleet.ran) == 1)
        fleet.hang_up()
        fleet.wait_for(lambda: len(fleet.ran) == 2)
        fleet.parked.pop(0)
        fleet.answer(value=7)
    assert outcome[0]["value"] == 7
    assert got == [("no", "number", "is")] * 2


def test_many_threads_and_servers_that_crash(fleets):
    fleet = fleets(2, up=(0, 1))
    threads, each = 4, 50
    sums = []
    with connect(fleet, retry="idempotent") as rpc, contextlib.ExitStack() as stack:

        def work(n):
            for m in range(each):
                sums.append(rpc.add(n1=n, n2=m)["sum"])

        outcomes = [stack.enter_context(in_thread(work, n)) for n in range(threads)]
        for round_ in range(4):
            fleet.wait_for(lambda most=40 * (round_ + 1): len(fleet.ran) >= most)
            fleet.down(round_ % 2)
            fleet.up(round_ % 2)
    assert [outcome[0] for outcome in outcomes] == [None] * threads
    assert sorted(sums) == sorted(n + m for n in range(threads) for m in range(each))


def test_close_ends_the_calls_that_wait_for_a_connection(fleets):
    fleet = fleets(1, up=(0,))
    rpc = connect(fleet, timeout=None)
    fleet.down()
    with in_thread(rpc.add, n1=1, n2=2) as outcome:
        while rpc._lead.leader is None:
            pass
        rpc.close()
    assert isinstance(outcome[0], Disconnected)
    assert not outcome[0].may_have_run


def test_one_that_is_dropped_is_closed(fleets):
    fleet = fleets(1, up=(0,))
    rpc = connect(fleet)
    with pytest.warns(ResourceWarning, match="unclosed <BlockingClient"):
        del rpc
    while fleet.count_clients():
        fleet.do(lambda: None)


@pytest.mark.parametrize(("server", "options", "error", "why"), WRONG_OPTIONS)
def test_wrong_options(server, options, error, why):
    with pytest.raises(error, match=why):
        rpcasync.connect(server, **{"reconnect": QUICK, **options})


def test_a_socket_cannot_be_connected_again():
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TypeError, match="must be a URL or a list of URLs"):
        rpcasync.connect(ours, reconnect=QUICK)


# Ctrl-C


def scene(fleet, at):
    """Have Ctrl-C come where a call finds that its connection is lost; then call again."""
    interrupter = Interrupter(at)
    with connect(fleet, retry="idempotent") as rpc:
        rpc.add(n1=1, n2=1)
        fleet.hang_up()
        try:
            with interrupter:
                rpc.add(n1=2, n2=2)
        except KeyboardInterrupt:
            pass
        try:
            assert rpc.add(n1=3, n2=3)["sum"] == 6
            assert not rpc._connection.has_requests()
            assert rpc._lead.leader is None
        except Exception as error:
            raise AssertionError(f"Ctrl-C at {interrupter.place}") from error
    return interrupter


@pytest.mark.parametrize("sample", [53, pytest.param(7, marks=pytest.mark.slow)])
@pytest.mark.timeout(300)
def test_ctrl_c_at_any_line(fleets, sample):
    fleet = fleets(1, up=(0,))
    at = sample
    while forgetting(scene, fleet, at).has_fired:
        at += sample
    assert at > sample
