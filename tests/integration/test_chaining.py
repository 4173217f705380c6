"""Several servers and clients on one mux, with handles of the program's own; and gateways."""

import os
import re
import shutil
import socket
import sys
from contextlib import ExitStack, contextmanager

import pytest
from support.meeting import leave_by_reset
from support.programs import PERL, PROGRAMS, ROOT, Program, listening, run

from eventmux import EventMux
from eventmux.buffers import Split
from rpcasync import Client, Coderef, RemoteError, Server, inbox
from rpcasync.arguments import known
from rpcasync.storable import ScalarRef

needs_perl = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")

WAIT = 30
ANY_PORT = "tcp://127.0.0.1:0"
CALLBACKS = PROGRAMS / "callbacks_server.py"


class Public:
    def __init__(self, mux):
        self.rpc = Server(mux, self)

    def rpc_name(self, caller):
        self.rpc.return_(caller, name="public")

    def rpc_add(self, caller, n1: int, n2: int):
        self.rpc.return_(caller, sum=n1 + n2)


class Admin(Public):
    rpc_add = None

    def rpc_name(self, caller):
        self.rpc.return_(caller, name="admin")


class Everything:
    """Two servers, a client of each, lines from whoever connects, and lines from a pipe.

    A line names the server that is to be asked for its name; what it says is written back. A
    line in the pipe is two numbers, whose sum is noted.
    """

    def __init__(self, mux):
        self.mux = mux
        self.servers = [Public(mux).rpc, Admin(mux).rpc]
        self.clients = {}
        for name, server in zip(("public", "admin"), self.servers, strict=True):
            port = server.listen(ANY_PORT).getsockname()[1]
            self.clients[name] = Client(mux, f"tcp://127.0.0.1:{port}")
        self.filters = [*self.servers, *self.clients.values()]
        self.listener = mux.listen(ANY_PORT, buffered=Split(b"\n"))
        self.pipe, self.writer = os.pipe()
        mux.add(self.pipe, buffered=Split(b"\n"))
        self.own = {self.listener, self.pipe}
        self.sums = []
        self.written = 0

    def turn(self, order, is_strict):
        """Hand the next event round: from one to the next, or to each of them."""
        event = rest = self.mux.mux(WAIT)
        assert event.type != "timeout"
        for position in order:
            rest = self.filters[position].io(rest if is_strict else event)
        if is_strict:
            assert rest is None or self._is_own(rest), rest
        if self._is_own(event):
            assert not is_strict or rest is event
            self._handle(event)

    def _is_own(self, event):
        return event.fh in self.own or getattr(event, "parent_fh", None) is self.listener

    def _handle(self, event):
        if event.type == "connect":
            self.own.add(event.fh)
        elif event.type == "read" and event.fh == self.pipe:
            n1, n2 = event.data.split()
            self.clients["public"].add(lambda sum: self.sums.append(sum), n1=n1, n2=n2)
        elif event.type == "read":
            self.clients[event.data.decode()].name(lambda name: self._write(event.fh, name))
        else:
            assert event.type in ("listening", "sent", "closing", "closed"), event

    def _write(self, fh, name):
        self.mux.send(fh, f"{name}\n".encode())
        self.written += 1


@pytest.fixture
def everything():
    with EventMux() as mux:
        everything = Everything(mux)
        yield everything
        os.close(everything.writer)


@pytest.mark.parametrize("is_strict", [True, False], ids=["chain", "each"])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_two_servers_two_clients_lines_and_a_pipe(everything, order, is_strict):
    address = everything.listener.getsockname()
    answers = []
    public, admin = everything.clients.values()
    for number in range(10):
        public.add(lambda sum: answers.append(sum), n1=number, n2=1)
        admin.name(lambda name: answers.append(name))
    with socket.create_connection(address, timeout=WAIT) as sock:
        sock.sendall(b"admin\npublic\nadmin\n")
        os.write(everything.writer, b"1 2\n30 4\n500 6\n")
        while len(everything.sums) < 3 or len(answers) < 20 or everything.written < 3:
            everything.turn(order, is_strict)
        with sock.makefile("r") as lines:
            assert sorted(next(lines) for _ in range(3)) == ["admin\n", "admin\n", "public\n"]
    assert everything.sums == [3, 34, 506]
    assert [answer for answer in answers if answer != "admin"] == list(range(1, 11))


def test_each_server_has_its_own_procedures_and_clients(everything):
    errors = []
    public, admin = everything.clients.values()
    admin.add(lambda error: errors.append(str(error)), n1=1, n2=2)
    public.methods(lambda methods: errors.append(sorted(methods)))
    admin.methods(lambda methods: errors.append(sorted(methods)))
    while len(errors) < 3:
        everything.turn(range(4), True)
    assert sorted(map(str, errors)) == [
        "No sub 'add' in package 'Admin'",
        "['add', 'name']",
        "['name']",
    ]
    assert [len(server.clients) for server in everything.servers] == [1, 1]


def test_one_server_ends_and_the_others_go_on(everything):
    public, admin = everything.clients.values()
    names = []
    admin.name(lambda name: names.append(name))
    while not names:
        everything.turn(range(4), True)
    admin.disconnect()
    everything.servers[1].close_listeners()
    while everything.servers[1].has_clients():
        everything.turn(range(4), True)
    public.name(lambda name: names.append(name))
    while len(names) < 2:
        everything.turn(range(4), True)
    assert names == ["admin", "public"]
    assert everything.servers[0].has_clients()


# Gateways


@contextmanager
def relay(behind):
    """Run the gateway; give the URLs of its two servers, and the program."""
    command = [sys.executable, ROOT / "examples" / "relay.py", behind, ANY_PORT, ANY_PORT]
    program = Program(command)
    try:
        lines = [program.process.stdout.readline() for _ in range(2)]
        ports = [re.search(r", (\d+)\)", line)[1] for line in lines]
        yield *[f"tcp://127.0.0.1:{port}" for port in ports], program
    finally:
        program.stop()


@contextmanager
def perl_callbacks():
    server = Program(["perl", PERL / "callbacks_server.pl", ANY_PORT])
    try:
        yield server.process.stdout.readline().strip(), server
    finally:
        server.stop()


@pytest.fixture(params=[pytest.param("perl", marks=needs_perl), "python"])
def gateway(request):
    """A gateway to a server that keeps functions: the URLs of the gateway, and the program."""
    behind = perl_callbacks() if request.param == "perl" else listening(CALLBACKS)
    with behind as (address, server), relay(address) as relayed:
        yield relayed
        assert [line for line in server.log if "listening on" not in line] == []


@pytest.fixture
def mux():
    with EventMux() as mux:
        yield mux


def alive(client):
    """Return how many functions the server behind has kept, and how many it could call."""
    reply = client.alive().result(WAIT)
    return int(reply["kept"]), int(reply["alive"])


def turn_until(mux, clients, is_so):
    while not is_so():
        event = mux.mux(WAIT)
        assert event.type != "timeout"
        for client in clients:
            event = client.io(event)


def test_functions_go_through_a_gateway(gateway, mux):
    front, status, program = gateway
    one, two, asker = (Client(mux, url) for url in (front, front, status))
    got = []
    for number in range(100):
        for name, client in (("one", one), ("two", two)):
            client.keep(lambda value, /, n=(name, number): got.append((*n, value)), print_nothing)
    assert one.wait(WAIT)
    assert two.wait(WAIT)
    assert (one.has_coderefs(), two.has_coderefs(), alive(one)) == (100, 100, (200, 200))
    assert asker.status().result(WAIT).pairs() == {"clients": 2, "calls": 0, "functions": 200}
    assert one.fire("x").result(WAIT) == ("fired", 200)
    turn_until(mux, [one, two], lambda: len(got) == 200)
    for name in ("one", "two"):
        assert [item for item in got if item[0] == name] == [(name, n, "x") for n in range(100)]

    two.drop(count=200).result(WAIT)
    turn_until(mux, [one, two], lambda: not one.has_coderefs() and not two.has_coderefs())
    assert alive(one) == (0, 0)
    assert asker.status().result(WAIT)["functions"] == 0
    assert asker.stop().result(WAIT) == ()
    for client in (one, two, asker):
        client.disconnect()
    assert program.process.wait(WAIT) == 0
    assert program.log == []


def print_nothing(count):
    pass


@pytest.mark.slow
@needs_perl
def test_a_perl_client_of_a_gateway(gateway):
    front, _, program = gateway
    result = run("perl", PERL / "callbacks_client.pl", front, "100", "gateway")
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert [line for line in lines if not line.startswith("ok ")] == ["done"]
    assert program.log == []


PERL_CLIENT = ["perl", PERL / "gateway_client.pl"]
PYTHON_CLIENT = [sys.executable, PROGRAMS / "gateway_client.py"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [pytest.param(PERL_CLIENT, marks=needs_perl, id="perl"), PYTHON_CLIENT]
)
def test_a_client_is_killed_and_the_gateway_lives(gateway, mux, command):
    front, status, program = gateway
    client, asker = Client(mux, front), Client(mux, status)
    killed, other = (Program([*command, front]) for _ in range(2))
    try:
        for each in (killed, other):
            assert each.process.stdout.readline() == "kept 1\n"
        assert client.fire(1, "x").result(WAIT) == ("fired", 2)
        for each in (killed, other):
            assert each.process.stdout.readline() == "called with 1 x\n"
        killed.process.kill()
        killed.process.wait(WAIT)
        for number in range(20):  # the gateway may not have heard yet, and then has
            assert client.fire(number).result(WAIT) == ("fired", 2)
            assert other.process.stdout.readline() == f"called with {number}\n"
        assert asker.status().result(WAIT).pairs() == {"clients": 2, "calls": 0, "functions": 2}
        assert int(client.drop(count=2).result(WAIT)["left"]) == 0
        assert other.process.stdout.readline() == "let go of\n"
        assert other.process.wait(WAIT) == 0
        assert alive(client) == (0, 0)
        assert asker.status().result(WAIT)["functions"] == 0
    finally:
        killed.stop()
        other.stop()
    assert program.log == []


def test_a_client_goes_before_its_answer(mux):
    with ExitStack() as stack:
        server = ROOT / "examples" / "conformance_server.py"
        behind, _ = stack.enter_context(listening(server))
        front, status, program = stack.enter_context(relay(behind))
        client, other, asker = (Client(mux, url) for url in (front, front, status))
        client.sleep(lambda error: None, count=1)
        with pytest.raises(RemoteError, match="^No sub 'nothing' in package 'main'$"):
            client.nothing().result(WAIT)
        leave_by_reset(client)  # a server takes the end of sending for no more than that
        while asker.status().result(WAIT)["calls"]:  # nobody waits for it any more
            pass
        calls = [other.sleep(count=number) for number in range(100)]
        assert calls[-1].result(WAIT)["count"] == 99  # the last had to wait, and woke all others
        assert asker.status().result(WAIT).pairs() == {"clients": 1, "calls": 0, "functions": 0}
        assert program.log == []


class References:
    def __init__(self, mux):
        self.rpc = Server(mux, self)

    def rpc_reference(self, caller):
        self.rpc.return_(caller, ScalarRef(1))


def test_an_answer_that_does_not_fit_into_the_codec_of_the_client(mux):
    behind = References(mux).rpc
    port = behind.listen(ANY_PORT).getsockname()[1]
    with relay(f"tcp://127.0.0.1:{port}") as (front, _, _):
        client = Client(mux, front, codec="json")
        call = client.reference()
        while not call.done:
            event = mux.mux(WAIT)
            assert event.type != "timeout"
            client.io(behind.io(event))
        with pytest.raises(RemoteError, match="^reference: a value cannot be sent$"):
            call.result()


def test_the_server_behind_is_killed(mux):
    with listening(CALLBACKS) as (behind, server), relay(behind) as (front, status, program):
        client, asker = Client(mux, front), Client(mux, status)
        client.keep(print, print_nothing)
        assert client.wait(WAIT)
        server.process.kill()
        server.process.wait(WAIT)
        with pytest.raises(RemoteError, match="^alive: the server behind has gone; "):
            client.alive().result(WAIT)
        turn_until(mux, [client], lambda: not client.has_coderefs())
        assert asker.status().result(WAIT).pairs() == {"clients": 0, "calls": 0, "functions": 0}
        program.wait_for_log("procedure alive cannot be passed on to")


# The example


def progress(*arguments):
    result = run(sys.executable, "examples/progress_client.py", *arguments)
    return result.stdout, result.stderr, result.returncode


SHOWN = " 20 %\n 40 %\n 60 %\n 80 %\n100 %\nthere are 5133 primes below 50000\n"


@pytest.mark.slow
def test_progress():
    assert progress() == (SHOWN, "", 0)
    with listening(ROOT / "examples" / "progress_server.py") as (address, _):
        assert progress(address) == (SHOWN, "", 0)
        with relay(address) as (front, _, _):
            assert progress(front) == (SHOWN, "", 0)


def test_who_asks_for_progress_goes_in_the_middle(mux):
    with listening(ROOT / "examples" / "progress_server.py") as (address, server):
        client, other = Client(mux, address), Client(mux, address)
        told = []

        def show(done, total):
            told.append(done)
            client.disconnect()

        client.count_primes(lambda error: None, upto=10**9, progress=show)
        turn_until(mux, [client], lambda: told and not client.has_requests())
        assert told[0] == 10_000
        assert other.count_primes(upto=10, progress=print_progress).result(WAIT)["found"] == 4
        assert not any("failed" in line for line in server.log)


def print_progress(done, total):
    assert (done, total) == (10, 10)


class Back:
    def rpc_report(self, caller, report: Coderef):
        report(ScalarRef(1))
        report("text")
        kept.append(caller)


class Front:
    def rpc_report(self, caller, report: Coderef):
        self.behind.report(lambda: None, report=report)
        kept.append(caller)


kept = []


def passing_on(mux):
    """Return a server, one in front of it that passes callbacks on, and the URL of that one."""
    back, front = Server(mux, Back()), Front()
    url = f"tcp://127.0.0.1:{back.listen(ANY_PORT).getsockname()[1]}"
    front.behind = Client(mux, url)
    front.rpc = Server(mux, front)
    url = f"tcp://127.0.0.1:{front.rpc.listen(ANY_PORT).getsockname()[1]}"
    return back, front, url


def test_a_callback_whose_values_the_client_cannot_take(mux, caplog):
    back, front, url = passing_on(mux)
    got = []
    client = Client(mux, url, codec="json")
    client.report(lambda: None, report=got.append)
    while not got:
        event = mux.mux(WAIT)
        for party in (back, front.rpc, front.behind, client):
            event = party.io(event)
        assert event is None
    assert got == ["text"]
    assert "a callback that was passed on: cannot send as JSON" in caplog.text
    assert len(front.rpc.clients) == 1
    kept.clear()


def test_a_callback_that_is_passed_on_takes_no_look_at_its_signature(mux, monkeypatch):
    def signature_of(function):
        assert not isinstance(function, Coderef)
        return known.signature_of(function)

    monkeypatch.setattr(inbox, "signature_of", signature_of)
    back, front, url = passing_on(mux)
    got = []
    client = Client(mux, url)
    client.report(lambda: None, report=got.append)
    while len(got) < 2:
        event = mux.mux(WAIT)
        for party in (back, front.rpc, front.behind, client):
            event = party.io(event)
        assert event is None
    assert got == [ScalarRef(1), "text"]
    kept.clear()
