"""Keepalive and TCP_NODELAY: which sockets have them, and what becomes of a peer that vanishes."""

import errno
import os
import shutil
import socket
import subprocess
import sys

import pytest
from support.meeting import meet, url_of
from support.pump import PATIENCE, kinds, take, until

import rpcasync.aio
from eventmux import EventMux, tcp
from rpcasync import Client, Server

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="names of Linux")

NODELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY)
KEEPALIVE = (socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def options(sock):
    """Return what `tune()` sets, as it is."""
    numbers = [NODELAY, KEEPALIVE, *(one[:2] for one in tcp._PACE)]
    return [sock.getsockopt(*number) for number in numbers]


def is_tuned(sock):
    return (
        bool(sock.getsockopt(*NODELAY)),
        bool(sock.getsockopt(*KEEPALIVE))
        and all(sock.getsockopt(level, option) == value for level, option, value in tcp._PACE),
    )


def is_plain(sock):
    return not sock.getsockopt(*NODELAY) and not sock.getsockopt(*KEEPALIVE)


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


# The values


@linux_only
def test_the_times_agree():
    """Where TCP_USER_TIMEOUT is set, it decides in the place of the number of questions."""
    pace = {option: value for _, option, value in tcp._PACE}
    asked = pace[socket.TCP_KEEPINTVL] * pace[socket.TCP_KEEPCNT]
    assert pace[socket.TCP_KEEPIDLE] + asked == tcp.GIVE_UP_AFTER
    assert pace[socket.TCP_USER_TIMEOUT] == 1000 * tcp.GIVE_UP_AFTER


# Which sockets


def test_all_connections_have_them(mux):
    listener, fh, accepted = meet(mux)
    assert is_tuned(listener) == is_tuned(fh) == is_tuned(accepted) == (True, True)


def test_a_name(mux, server):
    fh = mux.connect(f"tcp://localhost:{server.getsockname()[1]}")
    until(mux, "ready")
    assert is_tuned(fh) == (True, True)


@pytest.mark.parametrize("nodelay", [False, True])
@pytest.mark.parametrize("keepalive", [False, True])
def test_the_program_may_not_want_them(mux, server, nodelay, keepalive):
    wanted = {"nodelay": nodelay, "keepalive": keepalive}
    listener = mux.listen("tcp://127.0.0.1:0", **wanted)
    fh = mux.connect(url_of(listener), **wanted)
    accepted = next(event.fh for event in take(mux, 2) if event.type == "connect")
    with socket.create_connection(server.getsockname()) as own:
        mux.add(own, **wanted)
        for sock in (listener, fh, accepted, own):
            assert is_tuned(sock) == (nodelay, keepalive)
        mux.remove(own)


def test_a_listener_of_the_program(mux, server):
    with socket.create_connection(server.getsockname()):  # it came before anything was set
        mux.add(server)
        early = take(mux, 1)[0].fh
        with socket.create_connection(server.getsockname()):
            late = take(mux, 1)[0].fh
            assert is_tuned(early) == is_tuned(late) == (True, True)


def test_a_listener_that_another_process_has_set_back(mux, server):
    mux.add(server)
    tcp.restore(server, mux._channels[server]._changes)
    with socket.create_connection(server.getsockname()):
        assert is_tuned(take(mux, 1)[0].fh) == (True, True)


def test_what_the_program_accepts_has_them_where_they_are_inherited(mux):
    listener = mux.listen("tcp://127.0.0.1:0", manual_accept=True)
    with socket.create_connection(listener.getsockname()):
        take(mux, 1)
        sock, _ = listener.accept()
        with sock:
            assert sys.platform != "linux" or is_tuned(sock) == (True, True)


@pytest.mark.parametrize("kind", ["unix", "unix_dgram", "unix_seqpacket", "udp"])
def test_no_others_are_touched(mux, tmp_path, kind, monkeypatch):
    monkeypatch.setattr(tcp, "_set_pace", None)
    host = "127.0.0.1:0" if kind == "udp" else str(tmp_path / "socket")
    listener = mux.listen(f"{kind}://{host}")
    assert not listener.getsockopt(*KEEPALIVE)
    fh = mux.connect(url_of(listener).replace("tcp", kind) if kind == "udp" else f"{kind}://{host}")
    assert not fh.getsockopt(*KEEPALIVE)


# What the program has set stays


@linux_only
def test_keepalive_of_the_programs_own(mux, server):
    with socket.create_connection(server.getsockname()) as fh:
        fh.setsockopt(*KEEPALIVE, 1)
        fh.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 7)
        before = options(fh)[1:]
        mux.add(fh)
        assert options(fh)[1:] == before
        mux.remove(fh)
        assert options(fh)[1:] == before


@linux_only
def test_a_user_timeout_of_the_programs_own(mux, server):
    with socket.create_connection(server.getsockname()) as fh:
        fh.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1234)
        mux.add(fh)
        assert fh.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1234
        assert fh.getsockopt(*KEEPALIVE)
        mux.remove(fh)
        assert fh.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1234
        assert is_plain(fh)


@pytest.mark.parametrize("as_number", [False, True])
def test_remove_gives_a_connection_back_as_it_was(mux, server, as_number):
    with socket.create_connection(server.getsockname()) as sock:
        before = options(sock)
        fh = sock.fileno() if as_number else sock
        mux.add(fh)
        assert is_tuned(sock) == (True, True)
        mux.remove(fh)
        assert options(sock) == before


def test_remove_gives_a_listener_back_as_it_was(mux, server):
    before = options(server)
    mux.add(server)
    assert is_tuned(server) == (True, True)
    mux.remove(server)
    assert options(server) == before


def test_a_connection_by_name_is_given_back_as_it_was(mux, server):
    fh = mux.connect(f"tcp://localhost:{server.getsockname()[1]}")
    until(mux, "ready")
    mux.remove(fh)
    with fh:
        assert is_plain(fh)


def test_a_mux_that_is_dropped_gives_back_what_it_set(server):
    with socket.create_connection(server.getsockname()) as fh:
        before = options(fh)
        mux = EventMux()
        mux.add(fh)
        del mux
        assert options(fh) == before


# Never an error


def test_a_closed_socket():
    sock = socket.socket()
    sock.close()
    assert tcp.tune(sock, nodelay=True, keepalive=True) == ()
    tcp.restore(sock, ((*NODELAY, 0),))


def test_a_system_that_refuses(mux, server):
    class Refusing(socket.socket):
        def setsockopt(self, *args):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    with socket.create_connection(server.getsockname()) as plain:
        fh = Refusing(plain.family, plain.type, fileno=plain.detach())
        with fh:
            mux.add(fh)
            assert kinds(take(mux, 1)) == ["ready"]
            mux.remove(fh)


@linux_only
def test_a_system_without_a_user_timeout(monkeypatch, closing):
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT")
    monkeypatch.setattr(tcp, "_PACE", tcp._pace())
    monkeypatch.setattr(tcp, "_USER_TIMEOUT", None)
    sock = closing(socket.socket())
    before = options(sock)
    changes = tcp.tune(sock, nodelay=True, keepalive=True)
    assert len(changes) == 5
    tcp.restore(sock, changes)
    assert options(sock) == before


# The cost


@linux_only
def test_what_is_accepted_costs_no_system_call(mux, monkeypatch):
    listener = mux.listen("tcp://127.0.0.1:0")
    monkeypatch.setattr(tcp, "_is_tcp", None)  # what comes first, wherever there is anything to do
    with socket.create_connection(listener.getsockname()):
        accepted = take(mux, 1)[0].fh
        monkeypatch.undo()
        assert is_tuned(accepted) == (True, True)


# rpcasync


def test_a_server_and_its_client():
    with EventMux() as mux:
        server = Server(mux, {})
        listener = server.listen("tcp://127.0.0.1:0")
        client = Client(mux, url_of(listener))
        while client.fh not in mux.handles() or not server.clients:
            server.io(client.io(mux.mux(PATIENCE)))
        [accepted] = [fh for fh in mux.handles() if fh not in (listener, client.fh)]
        assert is_tuned(client.fh) == is_tuned(accepted) == (True, True)


@pytest.mark.parametrize("given", ["url", "socket"])
def test_a_client_of_asyncio(server, given):
    import asyncio

    async def connect():
        sock = url_of(server) if given == "url" else socket.create_connection(server.getsockname())
        client = await rpcasync.aio.connect(sock)
        try:
            transport = client._connection._transport
            return is_tuned(transport.get_extra_info("socket"))
        finally:
            await client.close()

    assert asyncio.run(connect()) == (True, True)


# A peer that vanishes

SILENT = """
import fcntl, os, select, socket, struct, sys
from eventmux import EventMux, tcp

tcp._PACE[:] = [(level, option, value) for (level, option, _), value in zip(
    tcp._PACE, (1, 1, 1, 1500))]
sock = socket.socket()
DOWN, UP = 0, 1

def loopback(flags):
    request = struct.pack("16sH14x", b"lo", flags)
    fcntl.ioctl(sock, 0x8914, request)  # SIOCSIFFLAGS

loopback(UP)
mux = EventMux()
listener = mux.listen("tcp://127.0.0.1:0")
fh = mux.connect("tcp://%s:%s" % listener.getsockname())
while mux.mux(5).type != "ready":
    pass
mux.remove(listener)
loopback(DOWN)
if sys.argv[1] == "sends":
    mux.send(fh, b"is anybody there?")
while True:
    event = mux.mux(20)
    if event.type in ("error", "timeout"):
        print(event.type, getattr(event, "errno", None))
        break
os._exit(0)
"""


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize("what", ["sends", "is silent"])
def test_a_peer_that_vanishes_ends_the_connection(what, tmp_path):
    """In a network of its own, whose only link goes down; the times are shortened to a second."""
    unshare = shutil.which("unshare")
    alone = [unshare, "-rn", sys.executable]
    if unshare is None or subprocess.run([*alone, "-c", ""], capture_output=True).returncode:
        pytest.skip("there is no unshare(1), or no network namespace may be made")
    program = tmp_path / "silent.py"
    program.write_text(SILENT)
    done = subprocess.run(
        [*alone, str(program), what], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == f"error {errno.ETIMEDOUT}\n", done.stderr
