"""A client over several connections: real servers that go and come back, in one loop with it."""

import contextlib
import gc
import logging
import random
import socket

import pytest
from support.handled import forgetting
from support.line_interrupts import NEVER, Interrupter, at_each_line
from support.peers import Peer
from support.pump import PATIENCE

from eventmux import EventMux
from eventmux.errors import URLError
from rpcasync import (
    Backoff,
    CallCancelled,
    CallTimeout,
    Client,
    Disconnected,
    EncodeError,
    QueueFull,
    RemoteError,
    Server,
)

QUICK = Backoff(0.001, 0.01)


class Procedures:
    """What a server does; `parked` are the calls that wait for an answer."""

    def __init__(self, fleet):
        self.fleet = fleet
        self.ran = []
        self.parked = []
        self.kept = []

    def rpc_add(self, caller, n1: int, n2: int):
        self.ran.append((n1, n2))
        self.fleet.server_of(self).return_(caller, sum=n1 + n2)

    def rpc_park(self, caller, *values):
        self.ran.append(values)
        self.parked.append(caller)

    def rpc_tell(self, caller, function, _, /):
        function(1)
        self.parked.append(caller)

    def rpc_keep(self, caller, function, _, /):
        self.kept.append(function)
        self.fleet.server_of(self).return_(caller)


class Leaving(Procedures):
    """A server that tells its clients before it leaves."""

    def __init__(self, fleet):
        super().__init__(fleet)
        self.asked = []

    def rpc_goaway(self, caller, callback, /):
        self.asked.append(callback)
        self.fleet.server_of(self).return_(caller)


class Fleet:
    """Servers that come and go at addresses that stay, and a client in the same loop."""

    def __init__(self, kind=Procedures, count=1):
        self.mux = EventMux()
        self.kind = kind
        self.places = [socket.socket() for _ in range(count)]
        for place in self.places:
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # keeps the port for us
            place.bind(("127.0.0.1", 0))
        self.urls = [f"tcp://127.0.0.1:{place.getsockname()[1]}" for place in self.places]
        self.up = {}
        self.all = []  # servers, those that were stopped included
        self.rpc = None
        self.foreign = []

    def start(self, *indexes):
        for index in indexes or range(len(self.urls)):
            if self.places[index].getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                self.places[index].close()
            procedures = self.kind(self)
            server = Server(self.mux, procedures, slow=None)
            server.listen(self.urls[index], reuse_port=True)
            self.up[index] = server, procedures
            self.all.append(server)

    def server_of(self, procedures):
        return next(server for server, own in self.up.values() if own is procedures)

    def procedures(self, index=0):
        return self.up[index][1]

    def hang_up(self, index=0):
        """Have the server drop its clients."""
        for fh in list(self.up[index][0].clients):
            self.mux.kill(fh)

    def stop(self, index=0):
        self.up[index][0].close_listeners()
        self.hang_up(index)
        del self.up[index]

    def client(self, **options):
        self.rpc = Client(self.mux, self.urls, **{"reconnect": QUICK, **options})
        return self.rpc

    def take(self, event):
        event = self.rpc.io(event)
        for server in self.all:
            event = server.io(event)
        if event is not None:
            self.foreign.append(event)

    def until(self, is_so):
        while not is_so():
            event = self.mux.mux(PATIENCE)
            assert event is not None
            assert event.type != "timeout", self.rpc
            self.take(event)

    def settle(self):
        while (event := self.mux.mux(0)) is not None and event.type != "timeout":
            self.take(event)

    def answer(self, call):
        self.until(lambda: call.done)
        return call.result()

    def failure(self, call, kind=Disconnected):
        self.until(lambda: call.done)
        with pytest.raises(kind) as caught:
            call.result()
        return caught.value

    def close(self):
        for place in self.places:
            place.close()
        self.mux.__exit__(None, None, None)


@pytest.fixture
def fleets():
    made = []

    def make(*args, **options):
        made.append(Fleet(*args, **options))
        return made[-1]

    yield make
    for fleet in made:
        fleet.close()


@pytest.fixture
def fleet(fleets):
    fleet = fleets()
    fleet.start()
    return fleet


# One connection after the other


def test_it_is_a_client(fleet):
    rpc = fleet.client()
    assert isinstance(rpc, Client)
    assert repr(rpc) == f"<Client of {fleet.urls[0]}, 0 calls pending>"
    assert (rpc.process, rpc.stdout, rpc.stderr) == (None, None, None)
    call = rpc.add(n1=1, n2=2)
    assert repr(rpc) == f"<Client of {fleet.urls[0]}, 1 calls pending>"
    assert rpc.has_requests()
    assert rpc.has_work()
    assert dict(rpc.dump_requests()) == {call.id: call}
    assert fleet.answer(call)["sum"] == 3
    fleet.settle()
    assert not rpc.has_requests()
    assert not rpc.has_work()
    assert rpc.has_coderefs() == 0
    assert rpc.fh in fleet.mux.handles()
    assert fleet.foreign == []


def test_a_lost_connection_fails_what_was_under_way_and_comes_back(fleet):
    rpc = fleet.client()
    call = rpc.park(1)
    fleet.until(lambda: fleet.procedures().parked)
    fleet.hang_up()
    error = fleet.failure(call)
    assert error.may_have_run
    assert str(error) == f"park: {fleet.urls[0]}: the server closed the connection"
    assert fleet.answer(rpc.add(n1=1, n2=2))["sum"] == 3
    fleet.settle()
    assert len(rpc._links) == 1
    assert fleet.foreign == []


def test_calls_wait_in_order_while_nobody_listens(fleets):
    fleet = fleets()
    rpc = fleet.client()
    calls = [rpc.add(n1=n, n2=0) for n in range(5)]
    fleet.until(lambda: rpc._route.failures >= 3)
    calls += [rpc.add(n1=n, n2=0) for n in range(5, 9)]
    fleet.start()
    assert [fleet.answer(call)["sum"] for call in calls] == list(range(9))
    assert fleet.procedures().ran == [(n, 0) for n in range(9)]
    fleet.settle()
    assert len(rpc._links) == 1


def test_the_next_endpoint_is_tried_first(fleets):
    fleet = fleets(count=3)
    fleet.start(2)
    rpc = fleet.client()
    assert fleet.answer(rpc.add(n1=1, n2=2))["sum"] == 3
    assert fleet.procedures(2).ran == [(1, 2)]
    fleet.start(0)
    fleet.stop(2)
    fleet.until(lambda: not rpc._link.was_up)
    assert fleet.answer(rpc.add(n1=2, n2=2))["sum"] == 4
    assert fleet.procedures(0).ran == [(2, 2)]


def test_the_waits_are_drawn_with_full_jitter(fleets, caplog):
    caplog.set_level(logging.INFO, "rpcasync")
    fleet = fleets(count=2)
    backoff = Backoff(0.001, 0.004)
    drawn = []

    def uniform(least, most):
        drawn.append((least, most))
        return random.Random(1).uniform(least, most)

    backoff.uniform = uniform
    rpc = fleet.client(reconnect=backoff)
    fleet.until(lambda: len(drawn) == 8)
    mosts = [0.001, 0.001, 0.002, 0.002, 0.004, 0.004, 0.004, 0.004]  # a round of both endpoints
    assert drawn == [(0.0, most) for most in mosts]
    first, other = fleet.urls
    text = f"{first}: Connection refused; connecting to {other} in 0.00 seconds"
    assert caplog.messages[0] == text
    assert not rpc.has_work()


def test_result_waits_over_several_connections(fleets):
    """Without a loop of the program's: the servers run in it by a timer of the mux."""
    fleet = fleets()
    rpc = fleet.client()
    call = rpc.add(n1=1, n2=2)
    with pytest.raises(CallTimeout, match=r"no answer within 0\.05 seconds"):
        call.result(0.05)
    assert not call.done
    assert rpc._route.failures > 1
    assert not rpc.wait(0)
    assert not rpc.wait(0, call)
    fleet.start()
    assert fleet.answer(call)["sum"] == 3
    assert rpc.wait(0)


def test_timeouts_go_on_counting(fleets):
    fleet = fleets()
    rpc = fleet.client(timeout=0.02, limit=1)
    rpc.set_options("slow", timeout=60)
    first, second, slow = rpc.add(n1=1, n2=2), rpc.add(n1=2, n2=2), rpc.slow()
    third = rpc.slow().set_timeout(0.01)
    for call in (first, second, third):
        fleet.failure(call, CallTimeout)
    assert not slow.done
    assert slow.timeout == 60
    assert list(rpc.dump_requests().values()) == [slow]


def test_a_timeout_that_waits_for_the_limit_begins_when_the_connection_is_lost(fleet):
    rpc = fleet.client(limit=1)
    first = rpc.park(1)
    second = rpc.park(2).set_timeout(None)
    fleet.until(lambda: fleet.procedures().parked)
    rpc.set_options("park", timeout=0.01)
    third = rpc.park(3)
    fleet.stop()
    assert fleet.failure(first).may_have_run
    fleet.failure(third, CallTimeout)
    assert not second.done


@pytest.mark.parametrize("how", ["kill", "remove"])
def test_a_socket_that_the_program_takes_away(fleet, how):
    rpc = fleet.client()
    fleet.answer(rpc.add(n1=1, n2=2))
    lost = rpc.park(1)
    fleet.until(lambda: fleet.procedures().parked)
    sock = rpc.fh
    getattr(fleet.mux, how)(sock)
    call = rpc.add(n1=2, n2=2)
    assert fleet.answer(call)["sum"] == 4
    assert lost.done
    sock.close()
    fleet.settle()
    assert len(rpc._links) == 1
    assert fleet.foreign == []


def test_a_process_that_is_out_of_descriptors(fleets, caplog, monkeypatch):
    fleet = fleets()
    rpc = fleet.client()
    call = rpc.add(n1=1, n2=2)
    connect = EventMux.connect
    failures = [OSError(24, "Too many open files")] * 2

    def failing(mux, *args, **options):
        if failures:
            raise failures.pop()
        return connect(mux, *args, **options)

    monkeypatch.setattr(EventMux, "connect", failing)
    fleet.until(lambda: not failures)
    fleet.start()
    assert fleet.answer(call)["sum"] == 3
    assert len([text for text in caplog.messages if "Too many open files; connecting" in text]) == 2
    fleet.settle()
    assert len(rpc._links) == 1


def test_nothing_leaves_before_the_server_has_answered(fleets):
    """Behind a balancer, whoever accepts may be no server: no call fails because of it."""
    fleet = fleets(count=2)
    fleet.places[0].listen()
    fleet.start(1)
    rpc = fleet.client()
    call = rpc.add(n1=1, n2=2)
    fleet.until(lambda: rpc._link.was_up)
    fleet.settle()
    sock, _ = fleet.places[0].accept()
    assert [packet[1] for packet in Peer(sock).read()] == ["goaway"]
    sock.close()
    assert fleet.answer(call)["sum"] == 3


def test_an_endpoint_that_accepts_and_closes_is_left_alone_ever_longer(fleets):
    fleet = fleets()
    fleet.places[0].listen()
    drawn = []
    backoff = Backoff(0.001, 0.008)
    backoff.uniform = lambda least, most: drawn.append(most) or least
    rpc = fleet.client(reconnect=backoff)
    while len(drawn) < 5:
        fleet.until(lambda: rpc._link.was_up)
        fleet.places[0].accept()[0].close()
        fleet.until(lambda: not rpc._link.was_up)
    assert drawn == [0.001, 0.002, 0.004, 0.008, 0.008]
    text = str(fleet.failure(rpc.add(n1=1, n2=2).set_timeout(0.01), CallTimeout))
    why = f"there is no connection: {fleet.urls[0]}: the server closed the connection"
    assert text == f"add: no answer within 0.01 seconds; {why}"


def test_an_endpoint_that_accepts_and_never_answers(fleets, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "rpcasync")
    monkeypatch.setattr("rpcasync.reconnecting.route._PATIENCE", 0.03)
    fleet = fleets(count=2)
    fleet.places[0].listen()
    fleet.start(1)
    rpc = fleet.client()
    late = rpc.add(n1=1, n2=2).set_timeout(0)
    text = str(fleet.failure(late, CallTimeout))
    assert text.startswith("add: no answer within 0 seconds; there is no connection: ")
    assert text.endswith((" has not answered yet", " is being connected to"))
    assert fleet.answer(rpc.add(n1=1, n2=2))["sum"] == 3
    assert f"{fleet.urls[0]}: it has not answered within 0.03 seconds" in caplog.text


def test_what_speaks_another_protocol(fleets):
    fleet = fleets(count=2)
    fleet.places[0].listen()
    fleet.start(1)
    rpc = fleet.client()
    call = rpc.add(n1=1, n2=2)
    fleet.until(lambda: rpc._link.was_up)
    sock, _ = fleet.places[0].accept()
    sock.sendall(b"220 mail.example ESMTP\r\n")
    assert fleet.answer(call)["sum"] == 3
    sock.close()


def test_an_endpoint_that_does_not_accept(fleets, monkeypatch):
    monkeypatch.setattr("rpcasync.reconnecting.route._PATIENCE", 0.01)
    fleet = fleets(count=2)
    fleet.start(1)
    with socket.socket() as full:  # the kernel drops what comes when its queue is full
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fleet.urls[0] = f"tcp://127.0.0.1:{full.getsockname()[1]}"
        crowd = [socket.socket() for _ in range(3)]
        for one in crowd:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        rpc = fleet.client()
        assert fleet.answer(rpc.add(n1=1, n2=2))["sum"] == 3
        assert fleet.procedures(1).ran == [(1, 2)]
        for one in crowd:
            one.close()


def test_a_name_that_is_unknown(fleets):
    fleet = fleets()
    fleet.start()
    fleet.urls.insert(0, "tcp://nobody.invalid:7007")
    rpc = fleet.client()
    assert fleet.answer(rpc.add(n1=1, n2=2))["sum"] == 3


def test_names_are_looked_up_anew(fleets, monkeypatch):
    fleet = fleets()
    fleet.start()
    asked = []
    look_up = socket.getaddrinfo

    def noting(host, *args, **options):
        asked.append(host)
        return look_up("127.0.0.1" if len(asked) > 1 else "127.0.0.2", *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", noting)
    port = fleet.urls[0].rpartition(":")[2]
    fleet.urls[0] = f"tcp://moving.invalid:{port}"
    rpc = fleet.client()
    assert fleet.answer(rpc.add(n1=1, n2=2))["sum"] == 3
    assert asked == ["moving.invalid"] * 2


def test_too_much_that_waits_is_refused(fleets):
    fleet = fleets()
    rpc = fleet.client(max_outbuffer=100)
    calls = [rpc.add(text="x" * 99)]
    with pytest.raises(QueueFull, match=r"^add: \d+ bytes wait for a connection, limit is 100$"):
        rpc.add(n1=1, n2=2)
    assert list(rpc.dump_requests().values()) == calls
    fleet.until(lambda: rpc._route.failures >= 2)
    with pytest.raises(QueueFull):
        rpc.add(n1=1, n2=2)
    assert calls[0].cancel()
    assert rpc.add(n1=1, n2=2).id >= 0


def test_what_cannot_be_sent_is_an_error_at_once(fleets):
    rpc = fleets().client()
    with pytest.raises(EncodeError):
        rpc.add(object())
    assert not rpc.has_requests()


def test_a_call_that_is_cancelled_while_it_waits_is_never_sent(fleets):
    fleet = fleets()
    rpc = fleet.client()
    first, second = rpc.add(n1=1, n2=1), rpc.add(n1=2, n2=2)
    fleet.until(lambda: rpc._route.failures >= 2)
    assert first.cancel()
    assert not first.cancel()
    fleet.start()
    assert fleet.answer(second)["sum"] == 4
    fleet.failure(first, CallCancelled)
    assert fleet.procedures().ran == [(2, 2)]


def test_the_limit_holds_on_each_connection(fleet):
    rpc = fleet.client(limit=2, retry="idempotent")
    calls = [rpc.park(n) for n in range(5)]
    fleet.until(lambda: len(fleet.procedures().parked) == 2)
    fleet.settle()
    assert fleet.procedures().ran == [(0,), (1,)]
    fleet.hang_up()
    fleet.until(lambda: len(fleet.procedures().ran) == 4)
    fleet.settle()
    assert fleet.procedures().ran == [(0,), (1,)] * 2
    fleet.procedures().fleet.server_of(fleet.procedures()).return_(fleet.procedures().parked[2])
    fleet.answer(calls[0])
    fleet.until(lambda: len(fleet.procedures().ran) == 5)
    assert fleet.procedures().ran[-1] == (2,)


def test_what_is_sent_is_what_was_given(fleets):
    fleet = fleets()
    rpc = fleet.client()
    values = [1, 2]
    call = rpc.park(values)
    values.append(3)
    fleet.until(lambda: rpc._route.failures >= 1)
    fleet.start()
    fleet.until(lambda: fleet.procedures().parked)
    assert fleet.procedures().ran == [([1, 2],)]
    call.cancel()


# What is sent again


def test_all_that_may_run_twice_is_sent_again_in_order(fleet):
    rpc = fleet.client(retry="idempotent")
    calls = [rpc.park(n) for n in range(3)]
    fleet.until(lambda: len(fleet.procedures().parked) == 3)
    fleet.hang_up()
    fleet.until(lambda: len(fleet.procedures().parked) == 6)
    assert fleet.procedures().ran == [(0,), (1,), (2,)] * 2
    for caller in fleet.procedures().parked[3:]:
        fleet.server_of(fleet.procedures()).return_(caller, 1)
    assert [fleet.answer(call) for call in calls] == [(1,)] * 3


def test_what_has_left_is_not_sent_again_if_only_the_unsent_may_be(fleet):
    rpc = fleet.client(retry="unsent")
    call = rpc.park(1)
    fleet.until(lambda: fleet.procedures().parked)
    fleet.hang_up()
    assert fleet.failure(call).may_have_run
    assert fleet.procedures().ran == [(1,)]


BIG = "x" * 8_000_000  # more than sockets hold


@pytest.mark.parametrize("retry", [None, "unsent"])
def test_what_has_not_left(fleets, retry):
    fleet = fleets()
    fleet.places[0].listen()
    rpc = fleet.client(retry=retry)
    first, big, last = rpc.park(1), rpc.park(BIG), rpc.park(3)
    fleet.until(lambda: rpc._link.was_up)
    fleet.settle()
    sock, _ = fleet.places[0].accept()
    peer = Peer(sock)
    [(id, *_)] = peer.read()
    peer.send(id)
    fleet.until(lambda: rpc._link.has_heard)
    fleet.settle()
    assert fleet.mux.buflen(rpc.fh)
    sock.close()
    fleet.start()
    assert fleet.failure(first).may_have_run
    if retry is None:
        assert not fleet.failure(big).may_have_run
        assert not fleet.failure(last).may_have_run
    else:
        fleet.until(lambda: len(fleet.procedures().ran) == 2)
        assert fleet.procedures().ran == [(BIG,), (3,)]
        assert not big.done
        assert not last.done


def test_functions_go_with_the_calls_that_are_sent_again(fleet):
    rpc = fleet.client(retry="idempotent")
    got = []
    kept = rpc.keep(got.append, None).id  # the last value is no callback
    assert kept >= 0
    fleet.until(lambda: fleet.procedures().kept)
    assert rpc.has_coderefs() == 1
    parked = rpc.park(lambda value, /: got.append(value), None)
    fleet.until(lambda: fleet.procedures().parked)
    assert rpc.has_coderefs() == 2
    fleet.hang_up()
    fleet.until(lambda: len(fleet.procedures().ran) == 2)
    assert rpc.has_coderefs() == 1  # what was passed to the lost connection has ended with it
    assert not fleet.procedures().kept[0].alive
    function = fleet.procedures().ran[1][0]
    function(7)
    fleet.until(lambda: got)
    assert got == [7]
    parked.cancel()


def test_a_function_goes_with_its_call_though_the_first_server_has_let_go_of_it(fleet):
    rpc = fleet.client(retry="idempotent")
    got = []
    call = rpc.tell(got.append, None)
    fleet.until(lambda: got)
    fleet.until(lambda: not rpc.has_coderefs())
    fleet.hang_up()
    fleet.until(lambda: len(got) == 2)
    assert got == [1, 1]
    assert not call.done


# The end


def test_a_client_that_disconnects_does_not_come_back(fleet):
    rpc = fleet.client()
    call = rpc.park(1)
    fleet.until(lambda: fleet.procedures().parked)
    rpc.disconnect()
    assert "disconnected" in str(fleet.failure(call))
    later = rpc.add(n1=1, n2=2)
    assert not fleet.failure(later).may_have_run
    fleet.server_of(fleet.procedures()).return_(fleet.procedures().parked[0])
    fleet.settle()
    assert len(fleet.up[0][0].clients) == 0
    assert fleet.foreign == []


def test_a_client_that_disconnects_while_it_waits(fleets):
    fleet = fleets()
    rpc = fleet.client()
    call = rpc.add(n1=1, n2=2)
    fleet.until(lambda: rpc._route.failures >= 1 and rpc._link._delay is not None)
    assert rpc.fh.fileno() == -1
    assert repr(rpc.fh) == "<no connection>"
    rpc.fh.close()
    rpc.disconnect()
    assert not fleet.failure(call).may_have_run
    fleet.take(fleet.mux.mux())
    assert fleet.mux.mux() is None  # nothing is left to wait for
    assert not fleet.failure(rpc.add(n1=1, n2=2)).may_have_run


def test_calls_leave_before_a_client_that_disconnects_at_once(fleet):
    with fleet.client() as rpc:
        call = rpc.add(n1=1, n2=2)
    fleet.failure(call)
    fleet.until(lambda: fleet.procedures().ran)


def test_close_on_idle(fleet):
    rpc = fleet.client(close_on_idle=True)
    fleet.until(lambda: rpc._link.has_heard)
    assert rpc.fh in fleet.mux.handles()  # it has made no calls
    fleet.answer(rpc.add(n1=1, n2=2))
    fleet.until(lambda: not fleet.up[0][0].clients)
    assert not rpc.has_work()


# Servers that leave


def test_it_moves_when_the_server_says_so(fleets, monkeypatch):
    monkeypatch.setattr("rpcasync.reconnecting.route.SETTLED", 0)
    fleet = fleets(Leaving, 2)
    fleet.start()
    rpc = fleet.client()
    parked = rpc.park(1)
    fleet.until(lambda: fleet.procedures(0).parked)
    old = rpc.fh
    assert rpc.has_coderefs() == 0
    fleet.procedures(0).asked[0]()
    fleet.until(lambda: rpc.fh is not old)
    assert rpc._route.failures == 0
    assert rpc.fh in fleet.mux.handles()
    assert old in fleet.mux.handles()
    assert fleet.answer(rpc.add(n1=1, n2=2))["sum"] == 3
    assert fleet.procedures(1).ran == [(1, 2)]
    assert not parked.done
    fleet.server_of(fleet.procedures(0)).return_(fleet.procedures(0).parked[0], 5)
    assert fleet.answer(parked) == (5,)
    fleet.until(lambda: not fleet.up[0][0].clients)
    fleet.settle()
    assert len(rpc._links) == 1
    assert fleet.foreign == []


def test_result_waits_for_two_connections(fleets):
    fleet = fleets(Leaving, 2)
    fleet.start()
    rpc = fleet.client()
    parked = rpc.park(1)
    fleet.until(lambda: fleet.procedures(0).parked)
    fleet.procedures(0).asked[0]()
    fleet.until(lambda: len(rpc._links) == 2)
    other = rpc.park(2)
    fleet.until(lambda: fleet.procedures(1).parked)
    fleet.server_of(fleet.procedures(0)).return_(fleet.procedures(0).parked[0], 5)
    fleet.server_of(fleet.procedures(1)).return_(fleet.procedures(1).parked[0], 6)
    assert parked.result(PATIENCE) == (5,)
    assert other.result(PATIENCE) == (6,)


def test_calls_that_wait_for_the_limit_move_at_once(fleets):
    fleet = fleets(Leaving, 2)
    fleet.start()
    rpc = fleet.client(limit=1)
    parked, waiting = rpc.park(1), rpc.add(n1=1, n2=2)
    fleet.until(lambda: fleet.procedures(0).parked)
    fleet.procedures(0).asked[0]()
    assert fleet.answer(waiting)["sum"] == 3
    assert fleet.procedures(1).ran == [(1, 2)]
    assert not parked.done


def test_a_server_that_leaves_and_dies(fleets):
    fleet = fleets(Leaving, 2)
    fleet.start()
    rpc = fleet.client(retry="idempotent")
    parked = rpc.park(1)
    fleet.until(lambda: fleet.procedures(0).parked)
    fleet.procedures(0).asked[0]()
    fleet.until(lambda: len(rpc._links) == 2)
    fleet.stop(0)
    fleet.until(lambda: fleet.procedures(1).parked)
    assert not parked.done


def test_a_server_that_sends_away_whoever_comes(fleets):
    """It is the only one, and listens still: the client comes back ever more slowly."""
    fleet = fleets(Leaving)
    fleet.start()
    drawn = []
    backoff = Backoff(0.001, 0.008)
    backoff.uniform = lambda least, most: drawn.append(most) or most
    procedures = fleet.procedures()
    rpc = fleet.client(reconnect=backoff)
    for _ in range(5):
        fleet.until(lambda: procedures.asked)
        procedures.asked.pop()()
    fleet.until(lambda: len(drawn) == 5)
    assert drawn == [0.001, 0.002, 0.004, 0.008, 0.008]
    assert fleet.answer(rpc.add(n1=1, n2=2))["sum"] == 3
    fleet.until(lambda: len(fleet.up[0][0].clients) == 1)


@pytest.mark.parametrize("settled", [0, 1])
def test_no_call_fails_while_servers_roll(fleets, settled, monkeypatch):
    monkeypatch.setattr("rpcasync.reconnecting.route.SETTLED", settled)
    fleet = fleets(Leaving, 2)
    fleet.start()
    rpc = fleet.client()
    answered = []

    def go_on(sum, error=None):
        assert error is None
        answered.append(sum)
        if len(answered) < 400:
            rpc.add(go_on, n1=len(answered), n2=0)

    for _ in range(4):
        rpc.add(go_on, n1=0, n2=0)
    for round_ in range(4):
        index = round_ % 2
        at = len(answered)
        fleet.until(lambda at=at: len(answered) > at + 50)
        server, procedures = fleet.up[index]
        for callback in procedures.asked:
            callback()
        fleet.until(lambda server=server: not server.clients)
        fleet.stop(index)
        fleet.start(index)
    fleet.until(lambda: not rpc.has_requests())
    assert len(answered) == 403
    assert fleet.foreign == []


def test_nobody_hears_that_a_server_has_no_goaway(fleet, caplog):
    caplog.set_level(logging.INFO, "rpcasync")
    rpc = fleet.client()
    fleet.answer(rpc.add(n1=1, n2=2))
    fleet.until(lambda: rpc._link.has_heard)
    gc.collect()
    assert not [text for text in caplog.messages if fleet.urls[0] in text]
    assert fleet.answer(rpc.add(n1=1, n2=2))["sum"] == 3


def test_an_error_of_the_server_is_an_error_of_the_call(fleet):
    rpc = fleet.client()
    assert "No sub 'nothing'" in str(fleet.failure(rpc.nothing(), RemoteError))
    text = str(fleet.failure(rpc.disconect(), RemoteError))
    assert text.endswith("; Client itself has disconnect()")


def test_a_plain_client_asks_nothing(mux):
    ours, theirs = socket.socketpair()
    with theirs:
        client = Client(mux, ours, codec="json")
        client.one()
        client.io(mux.mux(PATIENCE))
        assert mux.mux(0).type == "timeout"
        assert Peer(theirs, "json").read() == [[0, "one"]]


def test_what_is_no_event(fleets):
    rpc = fleets().client()
    assert rpc.io(None) is None
    with pytest.raises(TypeError, match="^event is 3, must be an event or None"):
        rpc.io(3)


# Wrong options


@pytest.mark.parametrize(
    ("server", "options", "error", "why"),
    [
        ([], {}, ValueError, "^server is an empty list"),
        (["tcp://x:1", "tcp://y:1", "tcp://x:1"], {}, ValueError, "^server has 'tcp://x:1' twice"),
        (7, {}, TypeError, "^server is 7, must be a URL or a list of URLs"),
        (["tcp://x:1", "python://x.py"], {}, URLError, "python"),
        ("tcp://x:1", {"retry": "all"}, ValueError, "^retry is 'all', must be None, 'unsent' or"),
        ("tcp://x:1", {"reconnect": 3}, TypeError, "^reconnect is 3, must be a Backoff"),
        ("tcp://x:1", {"process": 1}, TypeError, "^reconnect= is for servers that others start"),
        ("tcp://x:1", {"timeout": -1}, ValueError, "^timeout is -1"),
        ("tcp://x:1", {"limit": 0}, ValueError, "limit"),
        ("tcp://x:1", {"max_outbuffer": 0}, ValueError, "max_outbuffer"),
        ("tcp://x:1", {"retries": 0}, TypeError, "^Client.. has no option 'retries'"),
    ],
)
def test_wrong_options(mux, server, options, error, why):
    with pytest.raises(error, match=why):
        Client(mux, server, **{"reconnect": QUICK, **options})
    assert mux.handles() == []


@pytest.mark.parametrize("wrong", [{"retry": "unsent"}, {}])
def test_one_connection_cannot_do_it(mux, wrong):
    with pytest.raises(TypeError, match=r"reconnect=$"):
        Client(mux, "tcp://x:1" if wrong else ["tcp://x:1"], **wrong)


def test_another_thread_is_told(fleets):
    import threading

    rpc = fleets().client()
    errors = []

    def use():
        for act in (rpc.one, rpc.disconnect, lambda: rpc.io(None), rpc.wait):
            try:
                act()
            except (RuntimeError, TypeError) as error:
                errors.append(type(error))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert errors[:3] == [RuntimeError] * 3


# Ctrl-C


def taker(got, n):
    return lambda *values, error=None: got.append((n, error))


def scene(at, kind):
    """Lose a connection with calls under way and waiting; let them be answered by the next."""
    fleet = Fleet(Leaving, 2)
    interrupter = Interrupter(at)
    try:
        fleet.start()
        rpc = fleet.client(retry="idempotent", limit=3)
        got = []
        calls = [rpc.park(n, taker(got, n)) for n in range(4)]
        fleet.until(lambda: len(fleet.procedures(0).parked) == 3)
        if kind == "goaway":
            fleet.procedures(0).asked[0]()
        else:
            fleet.hang_up(0)

        def serve():
            for index in (0, 1):
                server, procedures = fleet.up[index]
                while procedures.parked:
                    server.return_(procedures.parked.pop(0), 1)

        while rpc.has_requests():
            event = fleet.mux.mux(PATIENCE)
            assert event.type != "timeout", rpc.dump_requests()
            for server, _ in fleet.up.values():
                event = server.io(event)
            if event is None:
                serve()
                continue
            try:
                with interrupter:
                    event = rpc.io(event)
            except KeyboardInterrupt:
                if rpc.io.__func__.__code__.co_name in interrupter.place:
                    rpc.io(event)  # as if it had come before
                continue
            serve()
        fleet.settle()
        missed = [call.procedure for call in calls if not call.done]
        assert not missed, interrupter.place
        errors = [error for _, error in got if error is not None]
        assert all(isinstance(error, CallCancelled) for error in errors), errors
        assert len(got) >= 3, (got, interrupter.place)
        assert len({n for n, _ in got}) == len(got), (got, interrupter.place)
    except BaseException as error:
        raise AssertionError(f"Ctrl-C at {interrupter.place}") from error
    finally:
        fleet.close()
    return interrupter


@pytest.mark.parametrize("kind", ["lost", "goaway"])
@pytest.mark.parametrize("sample", [53, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.timeout(300)
def test_ctrl_c_at_any_line(kind, sample):
    at = sample
    while forgetting(scene, at, kind).has_fired:
        at += sample
    assert at > sample


def calling(at, is_up):
    """Make calls, one of which Ctrl-C interrupts: nobody has that, and it is not pending."""
    fleet = Fleet()
    interrupter = Interrupter(at)
    try:
        if is_up:
            fleet.start()
        rpc = fleet.client(limit=2, timeout=60)
        if is_up:
            fleet.until(lambda: rpc._link.was_up)
        calls = []
        for n in range(4):
            with contextlib.suppress(KeyboardInterrupt), interrupter:
                calls.append(rpc.add(n1=n, n2=0))
        assert len(calls) == 4 - interrupter.has_fired, interrupter.place
        assert list(rpc.dump_requests().values()) == calls, interrupter.place
        if not is_up:
            fleet.start()
        for call in calls:
            fleet.answer(call)
        fleet.settle()
        assert not rpc.has_requests()
    finally:
        fleet.close()
    return interrupter


@pytest.mark.parametrize("is_up", [True, False])
def test_ctrl_c_while_a_call_is_made(is_up):
    forgetting(calling, NEVER, is_up)  # what is kept for the next time is kept now
    assert at_each_line(lambda at: calling(at, is_up)) > 30
