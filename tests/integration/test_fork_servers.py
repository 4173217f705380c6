"""Fork without exec: each child serves one client, and hears at once when the parent lets go."""

import os
import re
import signal
import socket
import sys
import traceback
import warnings
from functools import partial

import pytest
from support.processes import open_descriptors
from support.programs import LIMIT, ROOT, run

from eventmux import Child, EventMux
from rpcasync import CallTimeout, Client, Disconnected, Server

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")

WAIT = 30


class Device:
    """What a child serves."""

    def __init__(self, name, mux, sock):
        self.name = name
        self.rpc = Server(mux, self)
        self.calls = 0
        self.rpc.add_client(sock)

    def serve(self):
        while self.rpc.has_clients():
            self.rpc.io(self.rpc._mux.mux())

    def rpc_name(self, caller):
        self.calls += 1
        self.rpc.return_(caller, name=self.name, calls=self.calls)

    def rpc_call_wrapper(self, caller, device, procedure, /, *args):
        """Answer a list, as snmpit's children do."""
        self.rpc.return_(caller, device, procedure, getattr(self, procedure)(*args))

    def rpc_sockets(self, caller):
        self.rpc.return_(caller, sockets=sorted(sockets()))

    def rpc_die(self, caller):
        os._exit(7)

    def join(self, *parts):
        return "".join(map(str, parts))


def sockets():
    return {link for link in open_descriptors().values() if link.startswith("socket:")}


def fork(serve):
    """Run something in a child, and return its number."""
    with warnings.catch_warnings():  # newer Pythons warn of forks while there are threads
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        status = 99
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # without the test's limit
            signal.alarm(int(LIMIT))  # ends it should it hang
            serve()
            status = 0
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


class Parent:
    """Forks children, and holds a client for each on one mux."""

    def __init__(self, mux):
        self.mux = mux
        self.clients = {}
        self.filters = []  # the clients, and those that were let go of and are to hear of it
        self.pids = {}

    def start(self, name):
        ours, theirs = socket.socketpair()
        pid = fork(lambda: self._be_child(name, ours, theirs))
        theirs.close()
        self.mux.child(pid)
        self.pids[pid] = name
        client = self.clients[name] = Client(self.mux, ours)
        self.filters.append(client)
        return client

    def _be_child(self, name, ours, theirs):
        self.mux.after_fork()
        ours.close()
        Device(name, self.mux, theirs).serve()

    def turn(self):
        """Hand the next event round; return it if it is of no client."""
        event = self.mux.mux(WAIT)
        for client in list(self.filters):
            event = client.io(event)
        assert event is None or isinstance(event, Child), event
        return event

    def wait_for_end(self):
        """Return the name of the child that ends next, and its status."""
        while True:
            event = self.turn()
            if event is not None:
                return self.pids.pop(event.pid), event.returncode

    def ask_all(self):
        """Start a call on each child at once; return who has answered."""
        names = []
        for client in self.clients.values():
            client.name(lambda name, calls: names.append(name))
        while len(names) < len(self.clients):
            assert self.turn() is None
        return sorted(names)

    def end(self):
        for client in self.clients.values():
            client.disconnect()
        while self.pids:
            self.wait_for_end()


@pytest.fixture
def parent():
    with EventMux() as mux:
        parent = Parent(mux)
        yield parent
        parent.end()


def let_go(parent, name):
    """Disconnect from a child; it has to be the one that ends."""
    parent.clients.pop(name).disconnect()
    assert parent.wait_for_end() == (name, 0)


@pytest.mark.parametrize("order", ["bac", "abc", "cba", "bca"])
def test_each_child_ends_when_the_parent_lets_go_of_it(parent, order):
    for name in "abc":
        parent.start(name)
    assert parent.ask_all() == ["a", "b", "c"]
    left = ["a", "b", "c"]
    for name in order:
        let_go(parent, name)
        left.remove(name)
        assert parent.ask_all() == left


def test_a_child_has_no_socket_of_the_parent():
    of_others = sockets()
    with EventMux() as mux:
        parent = Parent(mux)
        for name in "abc":
            parent.start(name)
        held = sockets() - of_others
        assert len(held) >= 3  # to each child, and those of the mux itself
        for client in parent.clients.values():
            assert held.isdisjoint(client.sockets().result(WAIT)["sockets"])
        parent.end()


def test_a_positional_answer_as_snmpit_has_it(parent):
    answers = []

    def reap(device, procedure, result, /):
        answers.append((device, procedure, result))

    for name in "abc":
        parent.start(name).call_wrapper(name, "join", 1, None, "x", reap)
    while len(answers) < 3:
        parent.turn()
    assert sorted(answers) == [(name, "join", "1Nonex") for name in "abc"]


def test_what_is_queued_when_a_sibling_is_forked_is_sent_once(parent):
    first = parent.start("first")
    calls = [first.name() for _ in range(3)]  # they leave when the loop turns
    parent.start("second")
    assert [call.result(WAIT)["calls"] for call in calls] == [1, 2, 3]
    assert parent.ask_all() == ["first", "second"]
    assert first.name().result(WAIT)["calls"] == 5


def test_a_child_that_is_started_while_others_work(parent):
    names = []
    clients = [parent.start("a"), parent.start("b")]
    clients[0].name(lambda name, calls: parent.start(name * 2))  # forks in a callback
    clients[1].name(lambda name, calls: names.append(name))
    while not names or len(parent.clients) < 3:
        parent.turn()
    assert parent.ask_all() == ["a", "aa", "b"]
    let_go(parent, "a")
    let_go(parent, "aa")
    assert parent.ask_all() == ["b"]


def test_a_child_that_dies_fails_its_calls_and_no_others(parent):
    errors = []
    parent.start("a").die(lambda error: errors.append(error))
    parent.start("b")
    assert parent.wait_for_end() == ("a", 7)
    while not errors:
        parent.turn()
    assert [type(error) for error in errors] == [Disconnected]
    del parent.clients["a"]
    assert parent.ask_all() == ["b"]


def test_many_children(parent):
    names = [f"device{number}" for number in range(20)]
    for name in names:
        parent.start(name)
    assert parent.ask_all() == sorted(names)
    for name in (*names[10:], *names[:10]):
        let_go(parent, name)


def test_without_after_fork_a_child_keeps_those_before_it_from_ending():
    """What comes of it in RPC::Async, and why a child calls after_fork()."""
    with EventMux() as mux:
        clients, pids = {}, {}
        for name in "ab":
            ours, theirs = socket.socketpair()
            pid = fork(partial(serve_without_after_fork, ours, theirs))
            theirs.close()
            clients[name] = Client(mux, ours)
            pids[pid] = name
            mux.child(pid)
        clients["a"].name().result(WAIT)
        clients["b"].name().result(WAIT)  # both are there
        clients["a"].disconnect()

        def turn(seconds):
            event = mux.mux(seconds)
            for client in clients.values():
                event = client.io(event)
            return event

        while (event := turn(0.05)) is None or event.type != "timeout":
            assert event is None  # "a" has not ended: "b" has the other end of its connection
        clients["b"].disconnect()
        ended = set()
        while len(ended) < 2:
            event = turn(WAIT)
            if event is not None:
                ended.add(pids[event.pid])
        assert ended == {"a", "b"}


def serve_without_after_fork(ours, theirs):
    ours.close()
    Device("x", EventMux(), theirs).serve()


@pytest.fixture
def worker():
    """A client of a child that hangs, and the number of the child."""
    with EventMux() as mux:
        ours, theirs = socket.socketpair()

        def serve():
            mux.after_fork()
            ours.close()
            device = Device("x", mux, theirs)
            device.rpc_hang = rpc_hang
            device.rpc_hang_with_an_alarm = rpc_hang_with_an_alarm
            device.serve()

        pid = fork(serve)
        theirs.close()
        mux.child(pid)
        yield Client(mux, ours), pid


def rpc_hang(caller):
    while True:
        signal.pause()


def rpc_hang_with_an_alarm(caller):
    signal.setitimer(signal.ITIMER_REAL, 0.01)  # as signal.alarm(), but sooner
    rpc_hang(caller)


def test_a_worker_that_hangs_is_told_by_a_timeout_and_killed(worker):
    client, pid = worker
    call = client.hang().set_timeout(0.01)
    with pytest.raises(CallTimeout):
        call.result()
    other = client.name()
    client.disconnect()  # says that it is over, to one that does not listen
    os.kill(pid, signal.SIGKILL)
    ended = turn_until_it_ends(client)
    assert (ended.pid, ended.returncode) == (pid, -signal.SIGKILL)
    with pytest.raises(Disconnected):
        other.result()


def test_a_worker_that_hangs_ends_by_its_own_alarm(worker):
    client, pid = worker
    call = client.hang_with_an_alarm()
    with pytest.raises(Disconnected):
        call.result(WAIT)
    ended = turn_until_it_ends(client)
    assert (ended.pid, ended.returncode) == (pid, -signal.SIGALRM)


def turn_until_it_ends(client):
    while True:
        event = client.io(client._mux.mux(WAIT))
        if isinstance(event, Child):
            return event
        assert event is None, event


def test_the_example():
    result = run(sys.executable, "examples/fork_workers.py", "x", "yy")
    *answers, one, two = result.stdout.splitlines()
    found = [re.fullmatch(r"(\w+): (\d+), says process (\d+)", line) for line in answers]
    assert {match[1]: int(match[2]) for match in found} == {"x": 4999950000, "yy": 9999900000}
    assert len({match[3] for match in found}) == 2
    assert [one, two] == ["a process ended: 0"] * 2
    assert (result.stderr, result.returncode) == ("", 0)


def test_the_example_with_a_device_that_hangs(tmp_path):
    text = (ROOT / "examples" / "fork_workers.py").read_text()
    file = tmp_path / "impatient.py"
    file.write_text(text.replace("PATIENCE = 10.0", "PATIENCE = 0.1"))
    result = run(sys.executable, file, "stuck")
    assert result.stdout.splitlines() == [
        "stuck: measure: no answer within 0.1 seconds",
        "a process ended: -9",
    ]
    assert (result.stderr, result.returncode) == ("", 0)
