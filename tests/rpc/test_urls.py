import os
import socket
import sys
import sysconfig

import pytest
from support.programs import PROGRAMS

from eventmux import EventMux, URLError
from rpcasync import ChildSocket, Client, init_clients, url_connect, url_disconnect, url_listen
from rpcasync.urls import _import_path

CALC = PROGRAMS / "calc_server.py"
CHILD = f"python://{CALC}"


@pytest.mark.parametrize("url", ["tcp://localhost:0", "tcp://:0", "unix://{}/socket"])
def test_listen_and_connect(tmp_path, url):
    with url_listen(url.format(tmp_path)) as listener:
        assert not listener.getblocking()
        name = listener.getsockname()
        address = f"unix://{name}" if isinstance(name, str) else f"tcp://localhost:{name[1]}"
        with url_connect(address, timeout=10) as sock:
            assert sock.gettimeout() is None
            accepted, _ = listener.accept()
            with accepted:
                sock.sendall(b"x")
                accepted.settimeout(10)
                assert accepted.recv(1) == b"x"


def test_nobody_is_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        url_connect(f"unix://{tmp_path}/nothing")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            url_connect(f"tcp://127.0.0.1:{unused.getsockname()[1]}")


def test_an_inherited_descriptor():
    ours, theirs = socket.socketpair()
    with ours, url_connect(f"cfd://{theirs.detach()}") as sock:
        ours.sendall(b"x")
        assert sock.recv(1) == b"x"


@pytest.mark.parametrize(
    "url", ["cfd://", "cfd://x", "cfd://-1", "cfd://\u0663", "python://", "perl", "http://x", "://"]
)
def test_urls_that_are_none(url):
    with pytest.raises(URLError, match="cannot parse"):
        url_connect(url)


def test_a_program_that_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"no_such\.py"):
        url_connect("python://no_such.py")


def test_a_child_serves_one_client_and_ends_with_it():
    with EventMux() as mux:
        client = Client(mux, CHILD, "one", "two")
        assert isinstance(client.fh, ChildSocket)
        assert (client.fh.stdout, client.fh.stderr) == (None, None)
        reply = client.whoami().result(30)
        assert reply["pid"] == client.fh.process.pid
        assert reply["argv"] == ["one", "two"]
        client.disconnect()
        assert client.fh.process.returncode == 0


def test_a_child_inherits_no_other_socket():
    with EventMux() as mux:
        first, second = Client(mux, CHILD), Client(mux, CHILD)
        second.whoami().result(30)
        first.disconnect()  # the second child would keep the connection open
        assert first.fh.process.returncode == 0
        second.disconnect()
        assert second.fh.process.returncode == 0


def test_a_child_that_dies_fails_what_is_pending():
    with EventMux() as mux:
        client = Client(mux, CHILD)
        call = client.park()
        client.whoami().result(30)
        client.fh.process.kill()
        with pytest.raises(ConnectionError):
            call.result(30)
        client.disconnect()
        assert client.fh.process.returncode == -9


def test_a_child_that_does_not_end_by_itself(tmp_path):
    stubborn = tmp_path / "stubborn.py"
    stubborn.write_text("import signal\nprint('up', flush=True)\nsignal.pause()\n")
    sock = url_connect(f"python://{stubborn}")
    assert url_disconnect(sock, grace=0.01) < 0  # the signal that ended it


def test_no_child_no_status():
    assert url_disconnect(socket.socket()) is None


def test_the_import_path_of_a_child(monkeypatch):
    root = str(PROGRAMS.parents[2])
    assert _import_path(None) == root
    assert _import_path("a") == f"a{os.pathsep}{root}"
    monkeypatch.setattr(sysconfig, "get_path", lambda name: root)
    assert _import_path("a") is None


# Start-up


class Recorder:
    """Stands for a server: notes what it is given."""

    def __init__(self):
        self.got = []

    def __getattr__(self, name):
        return lambda thing: self.got.append((name, thing))


def test_sockets_in_the_environment(monkeypatch):
    ours, theirs = socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0))
    numbers = [theirs.detach(), listener.detach()]
    monkeypatch.setenv("RPCASYNC_FDS", ",".join(map(str, numbers)))
    rpc = Recorder()
    assert init_clients(rpc, ["-u", "x"]) == ["-u", "x"]
    assert [name for name, _ in rpc.got] == ["add_client", "add_listener"]
    assert "RPCASYNC_FDS" not in os.environ
    for (_, sock), number in zip(rpc.got, numbers, strict=True):
        assert sock.fileno() == number
        assert not sock.get_inheritable()
        sock.close()
    ours.close()


def test_urls_in_the_arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["program", "-u", "a", "file", "-u", "b", "--flag"])
    rpc = Recorder()
    assert init_clients(rpc) == ["file", "--flag"]
    assert rpc.got == [("listen", "a"), ("listen", "b")]
    assert sys.argv[1:3] == ["-u", "a"]
