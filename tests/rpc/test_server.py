"""A server, by its own loop: answers, listeners, and the events of others."""

from __future__ import annotations

import socket
import struct
import types

import pytest
from support.fakes import CountedSocket
from support.peers import Peer, set_clock, turn
from support.procedures import Procedures

from eventmux import Connect, Event, Read
from rpcasync import EncodeError, Server, url_connect

# Answers


def test_names_and_lists(bench):
    peer = bench.peer()
    assert bench.ask(peer, 0, "add", "n1", "2", "n2", 3) == [[0, "sum", 5]]
    assert bench.ask(peer, 1, "list", 1, None, "x") == [[1, 1, None, "x"]]
    assert bench.ask(peer, 2, "both") == [[2, 1, "two", 2]]


def test_ids_go_back_as_they_came(bench):
    peer = bench.peer()
    assert bench.ask(peer, "7", "list") == [["7"]]
    assert bench.ask(peer, -1, "list") == [[-1]]


def test_each_client_in_its_own_codec(bench):
    perl, json = bench.peer("storable"), bench.peer("json")
    perl.send(0, "list", "caf\xe9")
    json.send(0, "list", "caf\xe9")
    bench.turn()
    assert perl.read() == json.read() == [[0, "caf\xe9"]]


@pytest.mark.parametrize(("calls", "writes"), [(1, 1), (31, 1), (100, 4)])
def test_answers_of_a_turn_leave_in_few_writes(bench, calls, writes):
    ours, theirs = socket.socketpair()
    with CountedSocket(ours) as ours, theirs:
        bench.rpc.add_client(ours)
        set_clock(bench.rpc, 0.0)  # a turn that takes 5 ms is over, and its answers leave
        peer = Peer(theirs)
        peer.send_calls(*[("list",)] * calls)
        bench.turn()
        assert len(peer.read()) == calls
        assert len(ours.writes) == writes


def test_a_parked_call_is_answered_later_and_once(bench, procedures):
    peer = bench.peer()
    assert bench.ask(peer, 0, "park") == []
    (caller,) = procedures.parked
    assert (caller.id, caller.procedure, caller.alive) == (0, "park", True)
    assert bench.rpc.return_(caller, "late") is True
    with pytest.raises(ValueError, match=r"<Caller 0 park of fd \d+> is answered already"):
        bench.rpc.return_(caller, "again")
    with pytest.raises(ValueError, match="answered already"):
        bench.rpc.error(caller, "again")
    bench.turn()
    assert peer.read() == [[0, "late"]]


def test_a_client_that_has_gone_is_a_no_op(bench, procedures):
    peer = bench.peer()
    bench.ask(peer, 0, "park")
    bench.ask(peer, 1, "park")
    peer.sock.close()
    bench.turn()
    first, second = procedures.parked
    assert not first.alive
    assert bench.rpc.return_(first, 1) is False
    assert bench.rpc.error(second, "x") is False
    with pytest.raises(ValueError, match="answered already"):
        bench.rpc.return_(first, 1)


def test_a_socket_that_the_program_killed_itself(bench, procedures):
    peer = bench.peer()
    bench.ask(peer, 0, "park")
    (caller,) = procedures.parked
    bench.mux.kill(caller.fh)
    assert bench.rpc.return_(caller, 1) is False
    assert bench.rpc.clients == set()


def test_wrong_calls_raise_at_the_call(bench, procedures):
    bench.ask(bench.peer(), 0, "park")
    with pytest.raises(TypeError, match="caller is 'x', must be what the procedure was given"):
        bench.rpc.return_("x", 1)
    with pytest.raises(TypeError, match="error text is 5, must be a str"):
        bench.rpc.error(procedures.parked[0], 5)
    with pytest.raises(EncodeError):
        bench.rpc.return_(procedures.parked[0], object())
    assert bench.rpc.return_(procedures.parked[0], "fine") is True
    with pytest.raises(ValueError, match="max_packet is 3"):
        Server(bench.mux, max_packet=3)
    with pytest.raises(ValueError, match="codecs is empty"):
        Server(bench.mux, codecs=[])


def test_methods(bench):
    (answer,) = bench.ask(bench.peer(), 0, "methods")
    names = [name.removeprefix("rpc_") for name in dir(Procedures) if name.startswith("rpc_")]
    assert answer == [0, "methods", {name: {} for name in names}]


# Listeners


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:0", "unix://{}/socket"])
def test_a_listener_brings_clients(bench, tmp_path, url):
    assert not bench.rpc.has_clients()
    listener = bench.rpc.listen(url.format(tmp_path))
    assert bench.rpc.has_clients()
    name = listener.getsockname()
    address = f"tcp://127.0.0.1:{name[1]}" if isinstance(name, tuple) else f"unix://{name}"
    with url_connect(address) as sock:
        peer = Peer(sock)
        assert bench.ask(peer, 0, "list", 1) == [[0, 1]]
        assert len(bench.rpc.clients) == 1
        bench.rpc.close_listeners()
        assert bench.rpc.has_clients()
        assert bench.ask(peer, 1, "list", 2) == [[1, 2]]
    bench.turn()
    assert not bench.rpc.has_clients()
    assert bench.foreign == []


def test_a_listener_that_cannot_be(bench):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="in use"):
            bench.rpc.listen(url)
    assert not bench.rpc.has_clients()


def test_a_connection_accepted_before_the_listener_closed_is_served(bench):
    listener = bench.rpc.listen("tcp://127.0.0.1:0")
    with url_connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}") as sock:
        while not bench.mux.has_events():
            bench.mux.mux(0, only=listener)
        bench.rpc.close_listeners()
        assert bench.ask(Peer(sock), 0, "list", 1) == [[0, 1]]
    bench.turn()
    assert bench.foreign == []


def test_a_listener_that_the_program_killed_is_no_obstacle(bench):
    first, second, third = (bench.rpc.listen("tcp://127.0.0.1:0") for _ in range(3))
    bench.mux.kill(second)
    bench.rpc.close_listeners()
    bench.turn()
    assert not bench.rpc.has_clients()
    assert [sock.fileno() for sock in (first, second, third)] == [-1, -1, -1]


# Where it runs, and what is not its own


def test_the_loop_does_not_end_before_ready_answers_are_sent(bench):
    peer = bench.peer()
    peer.sock.sendall(peer.packet(0, "list", 1) + b"\0\0\0\1")
    while bench.rpc.has_clients():
        bench.rpc.io(bench.mux.mux())
    assert peer.read() == [[0, 1]]
    assert peer.ended


def test_foreign_events_come_back(bench):
    class Mine(Event):
        type = "mine"

    with socket.socket() as stranger:
        for event in (Mine(), Event(), Read(stranger, b"x"), Connect(stranger, stranger)):
            assert bench.rpc.io(event) is event
    assert bench.rpc.io(None) is None


def test_events_whose_fh_is_no_handle(bench):
    event = Event([])
    assert bench.rpc.io(event) is event


def test_two_servers_on_one_mux(mux, serve):
    first = serve({"rpc_who": lambda caller: first.rpc.return_(caller, "first")}, mux=mux)
    second = serve({"rpc_who": lambda caller: second.rpc.return_(caller, "second")}, mux=mux)
    one, two = first.peer(), second.peer()
    one.send(0, "who")
    two.send(0, "who")
    assert turn(mux, first.rpc, second.rpc) == []
    assert one.read() == [[0, "first"]]
    assert two.read() == [[0, "second"]]


def test_an_option_that_there_is_not(mux):
    match = r"^Server\(\) has no option 'on_exceptin'; did you mean 'on_exception'\?$"
    with pytest.raises(TypeError, match=match):
        Server(mux, {}, on_exceptin="answer")


@pytest.mark.parametrize(
    ("method", "arguments", "option", "nearest"),
    [
        ("set_limits", (), "outstandin", "outstanding"),
        ("set_options", ("add",), "timout", "timeout"),
    ],
)
def test_a_wrong_option_of_a_method_is_named(mux, method, arguments, option, nearest):
    match = rf"^{method}\(\) has no option '{option}'; did you mean '{nearest}'\?$"
    with pytest.raises(TypeError, match=match):
        getattr(Server(mux, {}), method)(*arguments, **{option: 1})


def test_the_default_namespace_is_the_module_of_the_caller(mux):
    module = types.ModuleType("program")
    code = "def make(Server, mux): return Server(mux)\ndef rpc_mine(caller): pass"
    exec(code, vars(module))
    rpc = module.make(Server, mux)
    ours, theirs = socket.socketpair()
    with theirs:
        rpc.add_client(ours)
        peer = Peer(theirs)
        peer.send_calls(("methods",), ("nothing",))
        turn(mux, rpc)
        methods, error = peer.read()
    assert methods == [0, "methods", {"mine": {}}]
    assert error[:3] == [1, "error", "No sub 'nothing' in package 'program'"]


def test_a_mux_that_is_only_like_one(caplog):
    class Small:
        def __init__(self):
            self.calls = []

        def add(self, fh, **options):
            self.calls.append("add")

        def send(self, fh, *data, later=False):
            self.calls.append(b"".join(data))
            return 0

        def kill(self, fh, reason=None):
            self.calls.append(f"kill: {reason}")

    mux = Small()
    rpc = Server(mux, {"rpc_x": lambda caller: rpc.return_(caller)})
    ours, theirs = socket.socketpair()
    with ours, theirs:
        rpc.add_client(ours)
        peer = Peer(theirs)
        assert rpc.io(Read(ours, peer.packet(0, "x") + struct.pack("!I", 1))) is None
        assert mux.calls[:3] == ["add", peer.packet(0), b""]
        assert mux.calls[3].startswith("kill: packet too short")
        assert rpc.clients == set()


def test_answers_leave_when_a_procedure_turns_the_loop(bench, procedures):
    """What was answered before it is not held back until it is done."""
    seen = []

    def wait(caller):
        bench.turn()
        seen.extend(peer.read())
        bench.rpc.return_(caller)

    procedures.rpc_wait = wait
    peer = bench.peer()
    peer.send_calls(("list", 1), ("wait",))
    bench.turn()
    assert seen == [[0, 1]]
    assert peer.read() == [[1]]
