"""Who may connect: `Server(authorize=)`, `listen(uids=)`, and `caller.peer` in a procedure."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct

import pytest
from support.peers import Bench, Peer, turn
from support.pump import until
from support.records import warnings_of
from support.server_interrupts import Interrupter

from eventmux import Connect, Credentials, EventMux, ProxyHeader, TLSSession
from eventmux import Peer as Identity
from rpcasync import Client, Disconnected, Fault, RemoteError, Server
from rpcasync.serving.identity import described

OURS = Credentials(os.getpid(), os.getuid(), os.getgid())
TCP = "tcp://127.0.0.1:0"


class Guard:
    """Notes who asks, and says what it is told to."""

    def __init__(self, answer=True):
        self.answer = answer
        self.asked = []

    def __call__(self, peer):
        self.asked.append(peer)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.fixture
def guard():
    return Guard()


@pytest.fixture
def guarded(serve, guard):
    return serve(authorize=guard)


@pytest.fixture
def path(tmp_path):
    return f"unix://{tmp_path}/socket"


# Who is asked, and when


def test_each_connection_is_asked_once(guarded, guard):
    listener = guarded.rpc.listen(TCP)
    peers = [guarded.knock(listener) for _ in range(3)]
    guarded.turn()
    for number, peer in enumerate(peers):
        assert guarded.ask(peer, 0, "note", number) == [[0, number]]
        assert guarded.ask(peer, 1, "note", number) == [[1, number]]
    assert [each.address for each in guard.asked] == [peer.sock.getsockname() for peer in peers]


def test_it_is_asked_before_anything_is_decoded(guarded, guard, procedures, caplog):
    listener = guarded.rpc.listen(TCP)
    guard.answer = False
    peer = guarded.knock(listener)
    peer.send(0, "note", 1)
    garbage = guarded.knock(listener)
    garbage.sock.sendall(b"\xff" * 100)
    guarded.turn()
    assert procedures.ran == []
    assert peer.read() == []
    assert peer.ended
    assert not guarded.rpc.clients
    lines = warnings_of(caplog)
    assert [line.partition(" refused: ")[2] for line in lines] == ["authorize() returned False"] * 2
    host, port = peer.sock.getsockname()
    assert lines[0].startswith(f"client {host}:{port} refused: ")


@pytest.mark.parametrize("answer", [False, None, 1, "no", 0, [True]], ids=repr)
def test_only_true_is_yes(guarded, guard, caplog, answer):
    guard.answer = answer
    peer = guarded.knock(guarded.rpc.listen(TCP))
    peer.send(0, "list")
    guarded.turn()
    assert peer.read() == []
    assert peer.ended
    (line,) = warnings_of(caplog)
    kind = type(answer).__name__
    said = "False" if answer is False else f"{kind}, must be True or False"
    assert line.endswith(f" refused: authorize() returned {said}")


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
def test_a_coroutine_lets_in_nobody(guarded, caplog):
    async def authorize(peer):
        return True

    guarded.rpc.authorize = authorize
    peer = guarded.knock(guarded.rpc.listen(TCP))
    guarded.turn()
    assert peer.read() == []
    assert peer.ended
    assert "returned coroutine, must be True or False" in warnings_of(caplog)[0]


@pytest.mark.parametrize("error", [KeyError("x"), Fault("you?"), MemoryError(), Disconnected("x")])
def test_what_fails_is_no(guarded, guard, caplog, error):
    listener = guarded.rpc.listen(TCP)
    before = guarded.knock(listener)
    guarded.turn()
    guard.answer = error
    peer = guarded.knock(listener)
    guarded.turn()
    assert peer.read() == []
    assert peer.ended
    failure, refusal = caplog.records
    assert failure.levelno == logging.ERROR
    assert failure.exc_info[1] is error
    assert failure.message.startswith("authorize() of client 127.0.0.1:")
    assert refusal.message.endswith(" refused: authorize() failed")
    assert guarded.ask(before, 0, "note", 1) == [[0, 1]]


def test_a_flood_does_not_fill_the_log(guarded, guard, caplog):
    guard.answer = False
    listener = guarded.rpc.listen(TCP)
    for _ in range(30):
        with socket.create_connection(listener.getsockname()):
            guarded.turn()
    assert len(guard.asked) == 30
    assert len(warnings_of(caplog)) == 10


def test_it_may_change(guarded, guard):
    listener = guarded.rpc.listen(TCP)
    assert guarded.rpc.authorize is guard
    guarded.rpc.authorize = None
    peer = guarded.knock(listener)
    guarded.turn()
    guarded.rpc.authorize = guard
    guard.answer = False
    other = guarded.knock(listener)
    guarded.turn()
    assert guarded.ask(peer, 0, "note", 1) == [[0, 1]]
    assert other.read() == []
    assert other.ended
    assert len(guard.asked) == 1


@pytest.mark.parametrize("wrong", [True, "root", {0}])
def test_what_cannot_be_asked(mux, bench, wrong):
    with pytest.raises(TypeError, match="authorize is .*, must be a function of a peer, or None"):
        Server(mux, {}, authorize=wrong)
    with pytest.raises(TypeError, match="authorize is "):
        bench.rpc.authorize = wrong
    assert bench.rpc.authorize is None


# A socket that the program has accepted itself


def test_add_client_asks_at_once(guarded, guard):
    ours, theirs = socket.socketpair()
    with theirs:
        assert guarded.rpc.add_client(ours) is True
        (asked,) = guard.asked
        assert asked.credentials == OURS
        assert guarded.ask(Peer(theirs), 0, "note", 1) == [[0, 1]]


def test_add_client_that_is_refused(guarded, guard, caplog):
    guard.answer = False
    ours, theirs = socket.socketpair()
    with theirs:
        assert guarded.rpc.add_client(ours, meta={}) is False
        guarded.turn()
        assert theirs.recv(1) == b""
    assert ours.fileno() == -1
    assert guarded.foreign == []
    assert not guarded.rpc.has_clients()
    pid, uid, gid = OURS
    assert f"(process {pid}, uid {uid}, gid {gid}) refused: " in warnings_of(caplog)[0]


def test_add_client_that_is_interrupted(guarded, guard):
    guard.answer = KeyboardInterrupt()
    ours, theirs = socket.socketpair()
    with theirs:
        with pytest.raises(KeyboardInterrupt):
            guarded.rpc.add_client(ours)
        guarded.turn()
        assert theirs.recv(1) == b""
    assert guarded.foreign == []


def test_a_socket_of_another_is_left_alone(guarded, guard):
    guard.answer = False
    ours, theirs = socket.socketpair()
    with ours, theirs:
        guarded.mux.add(ours)
        with pytest.raises(ValueError, match="is watched already"):
            guarded.rpc.add_client(ours)
        assert guard.asked == []
        guarded.mux.remove(ours)


# Users


def test_users_that_may_connect(bench, path):
    listener = bench.rpc.listen(path, uids={os.getuid()})
    peer = bench.knock(listener)
    bench.turn()
    assert bench.ask(peer, 0, "note", 1) == [[0, 1]]


def test_users_that_may_not(bench, path, caplog):
    listener = bench.rpc.listen(path, uids=[os.getuid() + 1])
    peer = bench.knock(listener)
    peer.send(0, "note", 1)
    bench.turn()
    assert peer.read() == []
    assert peer.ended
    assert warnings_of(caplog)[0].endswith(
        f"user {os.getuid()} is not among those that are allowed"
    )


def test_nobody_may(bench, path):
    peer = bench.knock(bench.rpc.listen(path, uids=()))
    bench.turn()
    assert peer.read() == []
    assert peer.ended


def test_both_have_to_let_in(guarded, guard, path):
    listener = guarded.rpc.listen(path, uids={os.getuid()})
    guard.answer = False
    peer = guarded.knock(listener)
    guarded.turn()
    assert peer.read() == []
    assert peer.ended
    assert len(guard.asked) == 1


def test_users_are_of_one_listener(bench, tmp_path):
    closed = bench.rpc.listen(f"unix://{tmp_path}/closed", uids=())
    opened = bench.rpc.listen(f"unix://{tmp_path}/opened")
    out, in_ = bench.knock(closed), bench.knock(opened)
    bench.turn()
    assert out.read() == []
    assert out.ended
    assert bench.ask(in_, 0, "note", 1) == [[0, 1]]


def test_users_of_a_listener_that_was_just_closed(bench, path):
    """What it has accepted before is in the queue still."""
    listener = bench.rpc.listen(path, uids=())
    peers = [bench.knock(listener) for _ in range(3)]
    event = bench.mux.mux(1)
    assert event.type == "connect"
    bench.rpc.close_listeners()
    bench.rpc.io(event)
    bench.turn()
    assert not bench.rpc.clients
    for peer in peers:
        with contextlib.suppress(ConnectionResetError):
            assert peer.read() == []
            assert peer.ended


def test_users_of_a_listener_that_was_made_elsewhere(bench, tmp_path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{tmp_path}/socket")
        sock.listen()
        bench.rpc.add_listener(sock, uids={os.getuid()})
        peer = bench.knock(sock)
        bench.turn()
        assert bench.ask(peer, 0, "note", 1) == [[0, 1]]
        bench.rpc.close_listeners()
        bench.turn()


def test_where_the_system_does_not_tell_users(bench, path, monkeypatch, caplog):
    monkeypatch.setattr("eventmux.sockets._SO_PEERCRED", None)
    peer = bench.knock(bench.rpc.listen(path, uids={os.getuid()}))
    bench.turn()
    assert peer.read() == []
    assert peer.ended
    assert "the system does not tell its user" in warnings_of(caplog)[0]


@pytest.mark.parametrize(
    ("uids", "error", "message"),
    [
        ("root", TypeError, "uids is 'root', must be a collection of user ids"),
        (0, TypeError, "uids is 0, must be a collection"),
        ({"root"}, TypeError, r"uids has 'root', must be user ids such as \{0, 1000\}"),
        ({True}, TypeError, "uids has True"),
    ],
)
def test_users_that_are_none(bench, path, uids, error, message):
    with pytest.raises(error, match=message):
        bench.rpc.listen(path, uids=uids)
    assert not bench.rpc.has_clients()


def test_tcp_tells_no_users(bench):
    with pytest.raises(ValueError, match=r"uids is \{0\}, but only UNIX sockets tell who connects"):
        bench.rpc.listen(TCP, uids={0})
    sock = socket.create_server(("127.0.0.1", 0))
    with sock, pytest.raises(ValueError, match="uids is "):
        bench.rpc.add_listener(sock, uids={0})
    assert not bench.rpc.has_clients()


# In a procedure


@pytest.mark.parametrize("url", [TCP, "tcp://[::1]:0", "unix://{}/socket"])
def test_who_has_called(bench, procedures, tmp_path, url):
    seen = []

    def rpc_who(caller):
        seen.append(caller.peer)
        bench.rpc.return_(caller)

    procedures.rpc_who = rpc_who
    peer = bench.knock(bench.rpc.listen(url.format(tmp_path)))
    bench.turn()
    for number in range(2):
        assert bench.ask(peer, number, "who") == [[number]]
    first, second = seen
    assert first is second
    assert first == Identity(peer.sock.getsockname(), OURS if url.startswith("unix") else None)


def test_who_it_was_is_known_when_he_has_gone(bench, procedures):
    peer = bench.knock(bench.rpc.listen(TCP))
    peer.send(0, "park", 1)
    bench.turn()
    (caller,) = procedures.parked
    address = peer.sock.getsockname()
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.sock.close()  # by a reset: then not even the socket tells any more
    bench.turn()
    assert not caller.alive
    assert caller.peer == Identity(address)
    assert bench.rpc.return_(caller) is False


def test_a_procedure_for_some(bench, procedures, path):
    admins = {os.getuid() + 1}

    def rpc_stop(caller):
        if caller.peer.credentials.uid not in admins:
            raise Fault("only administrators may do that")
        bench.rpc.return_(caller, "stopped")

    procedures.rpc_stop = rpc_stop
    bench.rpc.listen(path)
    client = Client(bench.mux, path)
    call = client.stop()
    while not call.done:
        client.io(bench.rpc.io(bench.mux.mux()))
    with pytest.raises(RemoteError, match="only administrators may do that"):
        call.result()
    admins.add(os.getuid())
    call = client.stop()
    while not call.done:
        client.io(bench.rpc.io(bench.mux.mux()))
    assert call.result() == ("stopped",)


# Another mux than ours


class SmallMux:
    """Has nothing but what a mux needs."""

    def __init__(self, mux):
        self.add, self.send, self.kill = mux.add, mux.send, mux.kill


def test_a_mux_that_tells_nothing_of_a_peer(mux, procedures, guard):
    rpc = Server(SmallMux(mux), procedures, authorize=guard)
    ours, theirs = socket.socketpair()
    with theirs:
        rpc.add_client(ours)
        other = rpc.listen(TCP)
        with socket.create_connection(other.getsockname()) as sock:
            event = until(mux, "connect")[-1]
            event.peer = None  # as of a class of another's
            rpc.io(event)
            assert guard.asked == [Identity("", OURS), Identity(sock.getsockname())]
        guard.answer = False
        with socket.create_connection(other.getsockname()) as sock:
            turn(mux, rpc)
            assert sock.recv(1) == b""
        rpc.close_listeners()
        turn(mux, rpc)


def test_one_that_has_gone_already_is_a_stranger(bench, guard):
    """Its reset came before the server looked: nobody can tell who it was."""
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        bench.rpc.authorize = guard
        event = Connect(ours, bench.rpc.listen(TCP))
        bench.rpc.io(event)
        assert guard.asked == [Identity(None)]


# Copies of calls inside of the program


def test_nobody_is_asked_of_connections_inside(guarded, guard):
    peer = guarded.peer()
    guarded.ask(peer, 0, "keep", "x")
    (own,) = guarded.rpc._peers.by_fh.values()
    guard.asked.clear()
    guard.answer = False
    with guarded.rpc._arrivals.connect_inside(own) as sock:
        guarded.turn()
        assert guarded.ask(Peer(sock), 0, "note", 1) == [[0, 1]]
    assert guard.asked == []


# Ctrl-C


def play(at):
    """Connect twice with an interrupt at a line: who is in, and what was answered."""
    interrupter = Interrupter(at)
    with EventMux() as mux:
        refused = []

        def authorize(peer):
            is_first = peer.address == first
            if not is_first:
                refused.append(peer.address)
            return is_first

        bench = Bench(mux, {"rpc_hello": lambda caller: bench.rpc.return_(caller, 1)})
        bench.rpc.authorize = authorize
        listener = bench.rpc.listen(TCP)
        good, bad = bench.knock(listener), bench.knock(listener)
        first = good.sock.getsockname()
        good.send(0, "hello")
        bad.send(0, "hello")
        interrupts = 0
        while (event := mux.mux(0)).type != "timeout":
            try:
                with interrupter:
                    event = bench.rpc.io(event)
            except KeyboardInterrupt:
                interrupts += 1
                event = None
            assert event is None
        good.send(1, "hello")
        bench.turn()
        assert interrupts == interrupter.has_fired
        assert [1, 1] in good.read()
        assert bad.read() == []
        assert bad.ended, interrupter.place
        assert len(bench.rpc.clients) == 1
        assert 1 <= len(refused) <= 1 + interrupts
        bench.close()
        bench.rpc.close_listeners()
        bench.turn()
    return interrupter


@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_ctrl_c_lets_in_nobody_and_forgets_nobody(step):
    at = 1
    while play(at).has_fired:
        at += step
    assert at > 100


# What the log says


@pytest.mark.parametrize(
    ("identity", "text"),
    [
        (Identity(("10.0.0.1", 5)), "X"),
        (Identity("", Credentials(1, 2, 3)), "X (process 1, uid 2, gid 3)"),
        (Identity(("h", 1), tls=TLSSession("TLSv1.3", "AES")), "X (no certificate)"),
        (
            Identity(
                ("h", 1),
                None,
                {"subject": ((("organizationName", "c"),), (("commonName", "a\nb"),))},
            ),
            r"X (certificate CN=a\nb, O=c)",
        ),
        (
            Identity(("h", 1), None, {"subjectAltName": (("DNS", "x.example"),)}),
            "X (certificate DNS=x.example)",
        ),
        (Identity(("h", 1), None, {"version": 3}), "X (certificate without a name)"),
        (
            Identity(("h", 1), proxy=ProxyHeader(2, address=("10.0.0.9", 99))),
            "X (by proxy 10.0.0.9:99)",
        ),
    ],
)
def test_who_is_described(identity, text):
    assert described("X", identity) == text
