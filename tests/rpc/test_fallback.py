"""Calls that are passed on: to another server of ours, which stands for the old one.

What Perl makes of it is in tests/integration/test_fallback_perl.py.
"""

import contextlib
import gc
import logging
import socket

import pytest
from support.peers import Bench, turn
from support.procedures import Procedures
from support.records import warnings_of

from eventmux import EventMux, URLError
from rpcasync import Client, RPCError, Server, StorableCodec
from rpcasync.wire.messages import CallbackRef


class Passing:
    """A server, and the one behind it, on one mux."""

    def __init__(self, mux, server, **options):
        self.mux = mux
        self.front = Bench(mux, Ours(self), fallback=server, **options)
        self.rpc = self.front.rpc

    def turn(self, *others):
        return turn(self.mux, self.rpc, *others)


class Ours:
    def __init__(self, passing):
        self._passing = passing

    def rpc_ours(self, caller, *values):
        self._passing.rpc.return_(caller, "ours", *values)


@pytest.fixture
def behind(mux, tmp_path):
    """The other server, where clients can connect to it."""
    procedures = Procedures()
    bench = procedures.bench = Bench(mux, procedures)
    bench.procedures = procedures
    bench.url = f"unix://{tmp_path}/behind"
    bench.listener = bench.rpc.listen(bench.url)
    yield bench
    bench.rpc.close_listeners()


@pytest.fixture
def pass_on(mux, behind):
    """Make servers with a fallback."""
    with contextlib.ExitStack() as stack:

        def make(server, **options):
            passing = Passing(mux, server, **options)
            passing.behind = behind
            stack.callback(passing.front.close)
            return passing

        yield make


@pytest.fixture(params=["client", "url"])
def passing(request, mux, behind, pass_on):
    passing = pass_on(behind.url if request.param == "url" else Client(mux, behind.url))
    passing.is_url = request.param == "url"

    def ask(peer, *values):
        peer.send(*values)
        settle(passing)
        return peer.read()

    passing.ask = ask
    return passing


def settle(passing):
    """Run both servers until nothing happens: names that are looked up take a moment."""
    while passing.turn(passing.behind.rpc):
        pass


def test_what_the_server_has_not_is_answered_by_the_other(passing, codec):
    peer = passing.front.peer(codec)
    assert passing.ask(peer, 0, "ours", 1) == [[0, "ours", 1]]
    assert passing.ask(peer, 1, "add", "n1", 2, "n2", 3) == [[1, "sum", 5]]
    assert passing.ask(peer, 2, "list", None, "", 0, [1, {"a": "b"}]) == [
        [2, None, "", 0, [1, {"a": "b"}]]
    ]


def test_errors_come_back_as_they_are(passing, codec):
    peer = passing.front.peer(codec)
    text = "No sub 'nope' in package 'Procedures'"
    assert passing.ask(peer, 7, "nope") == [[7, "error", text, "errors", [text]]]
    passing.behind.procedures.rpc_other = lambda caller: passing.behind.rpc.return_(
        caller, "error", "bad", "code", 3
    )
    assert passing.ask(peer, 8, "other") == [[8, "error", "bad", "code", 3]]


def test_answers_find_their_clients_in_any_order(passing):
    peers = [passing.front.peer() for _ in range(3)]
    for at, peer in enumerate(peers):
        peer.send(5, "park", at)
    settle(passing)
    parked = passing.behind.procedures.parked
    assert len(parked) == 3
    for caller in reversed(parked):
        passing.behind.rpc.return_(caller, "late")
    settle(passing)
    assert [peer.read() for peer in peers] == [[[5, "late"]]] * 3


def test_methods_lists_both(passing, codec):
    peer = passing.front.peer(codec)
    ((_, key, methods),) = passing.ask(peer, 0, "methods")
    assert key == "methods"
    assert {"ours", "add", "list"} <= methods.keys()
    ((_, key, methods),) = passing.ask(peer, 0, "methods", "defs", 1)
    assert methods["add"]["in"].keys() == {"n1", "n2"}


def test_of_a_name_that_both_have_methods_tells_ours(passing):
    passing.behind.procedures.rpc_ours = lambda caller, /, *, theirs: None
    ((_, _, methods),) = passing.ask(passing.front.peer(), 0, "methods", "defs", 1)
    assert "theirs" not in methods["ours"]["in"]


def test_callbacks_go_through_and_are_released(passing, codec):
    peer = passing.front.peer(codec)
    assert passing.ask(peer, 0, "keep", {"deep": [CallbackRef(40)]}, CallbackRef(41)) == [[0, 2]]
    deep, plain = passing.behind.procedures.kept[0]
    deep["deep"][0]("a", 1)
    plain(None)
    settle(passing)
    assert peer.read() == [[40, "call", "a", 1], [41, "call", None]]
    plain.release()
    settle(passing)
    assert peer.read() == [[41, "destroy"]]
    del deep
    passing.behind.procedures.kept.clear()
    gc.collect()
    settle(passing)
    assert peer.read() == [[40, "destroy"]]


def test_a_callback_of_a_client_that_has_gone_harms_nobody(passing, caplog):
    peer, other = passing.front.peer(), passing.front.peer()
    passing.ask(peer, 0, "keep", CallbackRef(1))
    peer.sock.close()
    settle(passing)
    callback = passing.behind.procedures.last()
    with contextlib.suppress(ConnectionError):  # a connection of its own has gone with it
        callback(1)
    settle(passing)
    assert passing.ask(other, 0, "add", "n1", 1, "n2", 1) == [[0, "sum", 2]]
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


def test_a_call_whose_client_goes_is_answered_to_nobody(passing, caplog):
    peer = passing.front.peer()
    passing.ask(peer, 0, "park", 1)
    (caller,) = passing.behind.procedures.parked
    peer.sock.close()
    settle(passing)
    passing.behind.rpc.return_(caller, 1)
    settle(passing)
    assert not caplog.records


def test_each_client_has_a_connection_of_its_own_at_a_url(passing):
    one, two = passing.front.peer(), passing.front.peer()
    for peer in (one, two, one):
        passing.ask(peer, 0, "list")
    assert len(passing.behind.rpc.clients) == (2 if passing.is_url else 1)
    one.sock.close()
    settle(passing)
    assert len(passing.behind.rpc.clients) == 1


def test_a_connection_that_ends_takes_its_clients_with_it(passing, caplog):
    peer, idle = passing.front.peer(), passing.front.peer()
    passing.ask(peer, 3, "park", 1)
    (sock,) = passing.behind.rpc.clients
    passing.mux.kill(sock)
    settle(passing)
    ((id_, key, text, *_),) = peer.read()
    assert (id_, key) == (3, "error")
    assert text == "park: the server behind has gone; see the server's log"
    assert peer.ended
    assert passing.ask(idle, 0, "ours") == [[0, "ours"]]
    assert "park cannot be passed on to" in caplog.text


def test_they_stay_if_the_server_says_so(pass_on, mux, behind):
    passing = pass_on(behind.url, on_exception="answer")
    peer = passing.front.peer()
    peer.send(3, "park", 1)
    settle(passing)
    (sock,) = behind.rpc.clients
    mux.kill(sock)
    settle(passing)
    assert [values[1] for values in peer.read()] == ["error"]
    peer.send(4, "list", 9)
    settle(passing)
    assert peer.read() == [[4, 9]]


def test_nobody_is_there(pass_on, mux, nobody, caplog):
    passing = pass_on(nobody)
    peer = passing.front.peer()
    peer.send(0, "ours")
    peer.send(1, "other")
    while passing.rpc.has_clients():
        passing.rpc.io(mux.mux(0.01))
    assert [values[:2] for values in peer.read()] == [[0, "ours"], [1, "error"]]
    assert "Connection refused" in caplog.text


def test_flags_and_objects_are_not_touched(passing):
    image = (
        b"\x05\x0b\x02\0\0\0\3\x08\x85\x0a\4list"  # [5, "list",
        b"\x04\x11\4Some\x03\0\0\0\1\x17\3caf\0\0\0\1x"  # bless { x => flagged "caf" }, "Some"]
    )
    sent = []
    passing.behind.procedures.rpc_list = lambda caller, *values: (
        sent.append(values),
        passing.behind.rpc.return_(caller, 1),
    )
    peer = passing.front.peer()
    peer.sock.sendall(peer.framing.frame(image))
    settle(passing)
    assert peer.read() == [[5, 1]]
    assert sent[0] == (StorableCodec().decode(image)[2],)


def test_calls_that_are_passed_on_count_as_outstanding(passing):
    passing.rpc.set_limits(outstanding=1)
    peer = passing.front.peer()
    peer.send(0, "park", 1)
    peer.send(1, "list", 2)
    settle(passing)
    assert passing.rpc.has_queued() == 1
    passing.behind.rpc.return_(passing.behind.procedures.parked.pop(), 1)
    settle(passing)
    assert peer.read() == [[0, 1], [1, 2]]


@pytest.mark.parametrize("fallback", [1, socket.socket, b"tcp://x:1"])
def test_what_is_no_server_is_refused(mux, fallback):
    with pytest.raises(TypeError, match="must be a Client or a URL"):
        Server(mux, {}, fallback=fallback)


def test_a_client_on_another_mux_is_refused(mux):
    rpc = Server(mux, {})
    with EventMux() as other, pytest.raises(ValueError, match="is on another mux"):
        rpc.fallback = Client(other, "tcp://127.0.0.1:1")


def test_a_url_that_is_none_is_refused(mux):
    with pytest.raises(URLError):
        Server(mux, {}, fallback="tcp:/nowhere")
    with pytest.raises(OSError, match="missing"):
        Server(mux, {}, fallback="perl:///missing.pl")


def test_it_needs_a_whole_mux():
    class Part:
        def add(self, fh, **options): ...
        def send(self, fh, *data, later=False): ...
        def kill(self, fh, reason=None): ...

    with pytest.raises(TypeError, match="must be an EventMux"):
        Server(Part(), {}, fallback="unix:///nowhere")


def test_it_can_be_changed_and_taken_away(pass_on, behind):
    passing = pass_on(None)
    assert passing.rpc.fallback is None
    peer = passing.front.peer()
    peer.send(0, "list", 1)
    settle(passing)
    assert peer.read()[0][1] == "error"
    passing.rpc.fallback = behind.url
    peer.send(1, "list", 1)
    settle(passing)
    assert peer.read() == [[1, 1]]
    passing.rpc.fallback = None
    settle(passing)
    assert behind.rpc.clients == set()
    peer.send(2, "list", 1)
    settle(passing)
    assert peer.read()[0][1] == "error"


MORTAL = """
import os
from eventmux import EventMux
from rpcasync import Server, init_clients
def rpc_process(caller):
    rpc.return_(caller, os.getpid())
def rpc_end(caller):
    os._exit(3)
mux = EventMux()
rpc = Server(mux)
init_clients(rpc)
while rpc.has_clients():
    rpc.io(mux.mux())
"""


def test_a_program_that_has_ended_is_started_again(pass_on, mux, tmp_path):
    (tmp_path / "mortal.py").write_text(MORTAL)
    passing = pass_on(f"python://{tmp_path}/mortal.py")

    def ask(*values):
        peer = passing.front.peer()
        peer.send(0, *values)
        while not (answers := peer.read()):
            passing.rpc.io(mux.mux(0.01))
        return answers[0][1:]

    first, again = ask("process"), ask("process")
    assert first == again  # all clients have the same
    assert ask("end")[0] == "error"
    while (second := ask("process"))[0] == "error":  # not more often than once a second
        assert "gone" in second[1]
    assert second != first
    passing.rpc.fallback = None
    while passing.rpc._forwarding.connections:
        passing.rpc.io(mux.mux(0.01))


def test_a_program_that_ends_while_nobody_calls_is_told(pass_on, mux, tmp_path, caplog):
    (tmp_path / "empty.py").write_text("raise SystemExit(7)")
    passing = pass_on(f"python://{tmp_path}/empty.py")
    while passing.rpc._forwarding.connections:
        passing.rpc.io(mux.mux(0.01))
    text = f"python://{tmp_path}/empty.py has ended with status 7: it is started again for the next"
    assert warnings_of(caplog)[-1].startswith(text)


def test_one_that_is_to_end_is_not(pass_on, mux, tmp_path, caplog):
    (tmp_path / "mortal.py").write_text(MORTAL)
    passing = pass_on(f"python://{tmp_path}/mortal.py")
    passing.rpc.fallback = None
    while passing.rpc._forwarding.connections:
        passing.rpc.io(mux.mux(0.01))
    assert "has ended with status" not in caplog.text


def test_a_program_that_cannot_be_started_again(pass_on, mux, tmp_path, caplog):
    program = tmp_path / "mortal.py"
    program.write_text(MORTAL)
    passing = pass_on(f"python://{program}", on_exception="answer")
    peer = passing.front.peer()
    peer.send(0, "process")
    while not peer.read():
        passing.rpc.io(mux.mux(0.01))
    program.unlink()
    peer.send(0, "end")
    while not (answers := peer.read()):
        passing.rpc.io(mux.mux(0.01))
    assert answers[0][:2] == [0, "error"]
    assert "has ended with status 3" in caplog.text
    passing.rpc._forwarding.fallback._due = mux.clock() + 100  # it was started a moment ago
    peer.send(1, "process")
    while not peer.read():
        passing.rpc.io(mux.mux(0.01))
    assert f"cannot be passed on to python://{program}: python://{program} has ended" in caplog.text
    passing.rpc._forwarding.fallback._due = 0
    peer.send(1, "process")
    while not (answers := peer.read()):
        passing.rpc.io(mux.mux(0.01))
    assert answers[0][1:3] == ["error", "process: the server behind has gone; see the server's log"]
    assert "No such file" in caplog.text


@pytest.mark.parametrize("passing", ["url"], indirect=True)  # a client is connected once
def test_a_connection_that_was_idle_is_made_again(passing):
    peer = passing.front.peer()
    for number in range(3):
        assert passing.ask(peer, number, "list", number) == [[number, number]]
        (sock,) = passing.behind.rpc.clients
        passing.mux.kill(sock)
        settle(passing)
    assert not peer.ended
    peer.sock.close()
    settle(passing)
    assert passing.rpc._forwarding.connections == {}


def test_what_takes_too_long_is_an_error_and_the_client_stays(pass_on, mux, behind, caplog):
    passing = pass_on(Client(mux, behind.url, timeout=0.01))
    peer = passing.front.peer()
    peer.send(0, "park", 1)
    while not (answers := peer.read()):
        behind.rpc.io(passing.rpc.io(mux.mux(0.01)))
    text = "park: was not answered by the server behind; see the server's log"
    assert answers == [[0, "error", text, "errors", [text]]]
    assert "no answer within 0.01 seconds" in caplog.text
    behind.rpc.return_(behind.procedures.parked.pop(), "late")
    peer.send(1, "list", 2)
    settle(passing)
    assert peer.read() == [[1, 2]]


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_server_that_is_its_own_fallback(mux, pass_on, behind, tmp_path, caplog, kind):
    """Each connection would open the next one, until no descriptor is left."""
    passing = pass_on(None)
    if kind == "unix":
        url = f"unix://{tmp_path}/front"
        listener = passing.rpc.listen(url)
    else:
        listener = passing.rpc.listen("tcp://127.0.0.1:0")
        url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    passing.rpc.fallback = url
    for _ in range(2):
        client = Client(mux, url)
        call = client.call("nope", lambda error: None)
        other = client.call("ours", lambda *values, error=None: None)
        while not call.done or not other.done:
            client.io(passing.rpc.io(mux.mux()))
        with pytest.raises(RPCError):
            call.result()
        client.disconnect()
        settle(passing)
    assert f"nope cannot be passed on to {url}: {url} is this server itself" in caplog.text
    assert caplog.text.count("cannot be passed on") == 2
    passing.rpc.close_listeners()


def test_what_the_server_gives_up_is_never_sent_if_it_waits(pass_on, mux, behind):
    client = Client(mux, behind.url, limit=1)
    passing = pass_on(client)
    passing.rpc.set_options("note", timeout=0.01)
    peer = passing.front.peer()
    peer.send_calls(("park", 1), ("note", 2))
    answers = []
    while not answers or not behind.procedures.parked:
        behind.rpc.io(passing.rpc.io(mux.mux(0.01)))
        answers += peer.read()
    assert answers == [[1, "error", "timeout-server", "errors", ["timeout-server"]]]
    assert len(client.dump_requests()) == 1
    behind.rpc.return_(behind.procedures.parked.pop())
    settle(passing)
    assert peer.read() == [[0]]
    assert behind.procedures.ran == [1]


def test_what_is_given_up_at_a_url(pass_on, mux, behind):
    passing = pass_on(behind.url, timeout=0.01)
    peer = passing.front.peer()
    peer.send(0, "park", 1)
    while not peer.read():
        behind.rpc.io(passing.rpc.io(mux.mux(0.01)))
    (fallback,) = passing.rpc._forwarding.connections.values()
    (client,) = fallback._clients.values()
    assert not client.has_requests()


def test_the_packet_of_a_call_that_waits_counts(pass_on, mux, behind):
    passing = pass_on(Client(mux, behind.url))
    passing.rpc.set_limits(outstanding=1)
    peer = passing.front.peer()
    peer.send_calls(("park", 1), ("list", "x" * 10_000))
    settle(passing)
    (sock,) = passing.rpc.clients
    assert passing.rpc._peers.by_fh[sock].waiting_size > 20_000


def test_a_client_of_the_program_stays_when_it_is_no_fallback_any_more(pass_on, mux, behind):
    client = Client(mux, behind.url)
    passing = pass_on(client)
    passing.rpc.fallback = None
    call = client.call("note", 1)
    turn(mux, passing.rpc, behind.rpc, client)
    assert call.result(0) == (1,)


# ---- strangers, and a server behind that does not read -----------------------------------


def test_a_callback_that_is_passed_again_and_again_is_bounded(passing, behind):
    passing.rpc.set_limits(max_callbacks=3)
    peer, other = passing.front.peer(), passing.front.peer()
    kept = [[number, 1] for number in range(3)]
    assert [passing.ask(peer, number, "keep", CallbackRef(7))[0] for number in range(3)] == kept
    text = "keep: too many callbacks are kept"
    assert passing.ask(peer, 3, "keep", CallbackRef(7)) == [[3, "error", text, "errors", [text]]]
    assert passing.ask(other, 0, "keep", CallbackRef(7)) == [[0, 1]]  # another has its own
    behind.procedures.kept.clear()
    gc.collect()
    settle(passing)
    peer.read()
    assert passing.ask(peer, 4, "keep", CallbackRef(8)) == [[4, 1]]


def test_callbacks_of_clients_that_have_gone_are_bounded(pass_on, mux, behind):
    passing = pass_on(Client(mux, behind.url), max_callbacks=3)
    answers = []
    for number in range(12):
        for each in range(3):
            peer = passing.front.peer()
            peer.send(number, "keep", CallbackRef(each))
            settle(passing)
            answers += [values[1] for values in peer.read() if values[1] != "destroy"]
            peer.sock.close()
            settle(passing)
    assert answers == [1] * 30 + ["error"] * 6
    behind.procedures.kept.clear()


@pytest.fixture
def deaf(tmp_path):
    """A server that accepts nobody."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{tmp_path}/deaf")
        sock.listen(1000)
        yield f"unix://{tmp_path}/deaf"


def send_much(passing, peer, count):
    """Send so many calls of 50 KB, or until it is disconnected."""
    with contextlib.suppress(ConnectionError):
        for number in range(count):
            peer.send(number, "list", "x" * 50_000)
            passing.turn()


def test_what_the_server_behind_does_not_read_is_its_clients(pass_on, deaf, caplog):
    passing = pass_on(deaf, max_buffered=2_000_000)
    peers = [passing.front.peer() for _ in range(4)]
    for count, peer in enumerate(peers):
        send_much(passing, peer, 5 * count)
    assert len(passing.rpc.clients) == 4
    send_much(passing, peers[2], 40)
    assert len(passing.rpc.clients) == 3
    assert "bytes of" in caplog.text
    assert "of all clients, limit is 2000000" in caplog.text


def test_connections_of_clients_that_left_are_bounded(pass_on, deaf, monkeypatch, caplog):
    monkeypatch.setattr("rpcasync.forwarding.fallback._MOST_LEAVING", 3)
    passing = pass_on(deaf)
    for _ in range(10):
        peer = passing.front.peer()
        send_much(passing, peer, 6)
        peer.sock.close()
        passing.turn()
        assert len(passing.rpc._forwarding.connections) <= 4
    assert f"fallback {deaf} does not read: calls of clients that left are lost" in caplog.text


def test_bytes_of_clients_that_left_are_bounded(pass_on, deaf, monkeypatch):
    monkeypatch.setattr("rpcasync.forwarding.fallback._MOST_BYTES_LEAVING", 500_000)
    passing = pass_on(deaf)
    for _ in range(5):
        peer = passing.front.peer()
        send_much(passing, peer, 10)
        peer.sock.close()
        passing.turn()
        passing.turn()
        sockets = list(passing.rpc._forwarding.connections)
        assert sum(map(passing.mux.buflen, sockets)) < 500_000
