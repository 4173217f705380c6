"""The file of a UNIX socket: who may use it, whose it is, and when it goes."""

import contextlib
import gc
import os
import signal
import socket
import stat
import subprocess
import sys
import warnings

import pytest
from support.network import linux_only
from support.processes import forked
from support.pump import drain

from eventmux import EventMux, URLError, _socketfiles, sockets
from eventmux.urls import parse_url
from rpcasync import Server, url_listen

UNIX = ["unix", "unix_dgram", "unix_seqpacket"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listen(url, **options):
    return sockets.listen(parse_url(url), **options)


# Who may use it


@pytest.fixture
def umask():
    before = os.umask(0)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
@pytest.mark.parametrize("mode", [0o600, 0o666, 0o770, 0])
@pytest.mark.parametrize("scheme", UNIX)
def test_the_mode_is_that_of_the_file(umask, scheme, mode, mask):
    umask(mask)
    with listen(f"{scheme}://x", mode=mode):
        assert stat.S_IMODE(os.stat("x").st_mode) == mode


def test_the_mode_is_there_from_the_beginning(umask, monkeypatch):
    monkeypatch.setattr(os, "chmod", None)  # which would be too late for a datagram
    with listen("unix_dgram://x", mode=0o600):
        assert stat.S_IMODE(os.stat("x").st_mode) == 0o600


def test_without_a_mode_it_is_the_umask(umask):
    umask(0o027)
    with listen("unix://x"):
        assert stat.S_IMODE(os.stat("x").st_mode) == 0o750


def test_who_takes_a_mode(mux):
    with (
        url_listen("unix://a", mode=0o600),
        mux.listen("unix://b", mode=0o600),
        Server(mux, {}).listen("unix://c", mode=0o600),
    ):
        assert {stat.S_IMODE(os.stat(name).st_mode) for name in os.listdir()} == {0o600}


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:0", "udp://127.0.0.1:0", "unix://@name"])
def test_only_a_file_has_a_mode(url):
    with pytest.raises(ValueError, match="mode is 0o600, but .* has no file"):
        listen(url, mode=0o600)


@pytest.mark.parametrize(
    ("mode", "error"),
    [(-1, ValueError), (0o1000, ValueError), ("600", TypeError), (True, TypeError)],
)
def test_what_is_no_mode(mode, error):
    with pytest.raises(error, match="mode is"):
        listen("unix://x", mode=mode)
    assert os.listdir() == []


# Whose it is


@linux_only
@pytest.mark.parametrize("name", ["x", "./x", "{}/x"])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_socket_that_does_not_listen_yet_is_left_alone(folder, kind, name):
    with socket.socket(socket.AF_UNIX, kind) as other:
        other.bind(name.format(folder))
        for scheme in UNIX:
            with pytest.raises(OSError, match="in use"):
                listen(f"{scheme}://x")
        other.listen()
    assert os.listdir() == ["x"]


@linux_only
def test_what_was_accepted_does_not_keep_the_file():
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as client:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("x")
            listener.listen()
            client.connect("x")
            accepted, _ = listener.accept()
        with accepted, listen("unix://x"):  # its server has gone, though not what it forked
            other.connect("x")


@linux_only
def test_the_same_name_in_another_folder_is_another(folder):
    os.mkdir("other")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind("x")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"{folder}/other/x")
        listen("unix://x").close()


def test_a_file_is_replaced_where_there_is_no_list(monkeypatch):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind("x")
    monkeypatch.setattr(_socketfiles, "open", lambda *_: os.stat("nowhere"), raising=False)
    listen("unix://x").close()


def test_of_two_that_start_at_once_one_waits(monkeypatch):
    import fcntl

    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind("x")
    number = os.open(".", os.O_RDONLY)
    fcntl.flock(number, fcntl.LOCK_EX)
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        os.close(number)

    monkeypatch.setattr(_socketfiles.time, "sleep", pause)
    listen("unix://x").close()
    assert len(pauses) == 1


def test_a_folder_that_is_locked_for_long(monkeypatch):
    import fcntl

    monkeypatch.setattr(_socketfiles, "_PATIENCE", 0)
    number = os.open(".", os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        listen("unix://y").close()  # there is nothing to be replaced
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind("x")
        with pytest.raises(OSError, match="in use"):
            listen("unix://x")
    finally:
        os.close(number)


RACE = """
import sys
from eventmux import sockets
from eventmux.urls import parse_url
print("ready", flush=True)
sys.stdin.readline()
try:
    listener = sockets.listen(parse_url("unix://x"))
    print("listens", flush=True)
except OSError as error:
    print(error.strerror, flush=True)
sys.stdin.readline()
"""


@pytest.mark.slow
def test_of_many_that_start_at_once_one_listens():
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind("x")
    with contextlib.ExitStack() as stack:
        racers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", RACE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
                )
            )
            for _ in range(8)
        ]
        for racer in racers:
            assert racer.stdout.readline() == b"ready\n"
        for racer in racers:
            racer.stdin.write(b"go\n")
            racer.stdin.flush()
        said = [racer.stdout.readline().strip() for racer in racers]
        for racer in racers:
            racer.stdin.close()
    assert said.count(b"listens") == 1
    assert os.listdir() == []


# When it goes


@pytest.mark.parametrize("how", ["close", "kill", "end", "program"])
@pytest.mark.parametrize("scheme", UNIX)
def test_the_file_goes_with_the_listener(scheme, how):
    with EventMux() as mux:
        listener = mux.listen(f"{scheme}://x")
        assert os.listdir() == ["x"]
        if how == "program":
            listener.close()
        elif how != "end":
            getattr(mux, how)(listener)
        drain(mux)
        assert os.listdir() == (["x"] if how == "end" else [])
    assert os.listdir() == []


def test_the_file_stays_with_a_listener_that_is_removed(mux):
    listener = mux.listen("unix://x")
    mux.remove(listener)
    assert os.listdir() == ["x"]
    listener.close()
    assert os.listdir() == []


def test_a_server_that_closes_its_listeners(mux):
    rpc = Server(mux, {})
    rpc.listen("unix://x")
    rpc.close_listeners()
    drain(mux)
    assert os.listdir() == []


def test_a_listener_that_is_dropped():
    listener = listen("unix://x")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del listener
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert os.listdir() == []


def test_a_file_that_is_another_socket_by_now_is_left_alone():
    listener = listen("unix://x")
    os.unlink("x")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind("x")
        listener.close()
        assert os.listdir() == ["x"]


def test_a_file_that_is_gone_already():
    with listen("unix://x"):
        os.unlink("x")


def test_the_folder_of_a_relative_path_is_that_of_then(folder):
    listener = listen("unix://x")
    os.mkdir("other")
    os.chdir("other")
    with open("x", "w"):
        listener.close()
    assert os.listdir() == ["x"]
    assert os.listdir(folder) == ["other"]


def test_a_descriptor_that_is_given_away_keeps_the_file():
    number = listen("unix://x").detach()
    gc.collect()
    assert os.listdir() == ["x"]
    with sockets.inherited(number):
        assert os.listdir() == ["x"]
    assert os.listdir() == []


def test_a_descriptor_that_was_given_away_and_is_another_by_now():
    number = listen("unix://x").detach()
    os.close(number)
    with socket.socket() as other:
        if other.fileno() != number:
            os.dup2(other.fileno(), number)
            sockets.inherited(number).close()
        else:
            sockets.inherited(other.detach()).close()
    assert os.listdir() == ["x"]
    _socketfiles._remove_all()
    assert os.listdir() == []


def test_a_duplicate_has_no_file():
    with listen("unix://x") as listener:
        listener.dup().close()
        assert os.listdir() == ["x"]


def test_a_failure_leaves_no_file():
    with pytest.raises(OverflowError):
        listen("unix://x", backlog=2**40)
    assert os.listdir() == []
    with EventMux() as mux, pytest.raises(TypeError):
        mux.listen("unix://x", nonsense=1)
    assert os.listdir() == []


def test_a_forked_child_removes_nothing():
    with listen("unix://x") as listener:
        forked(lambda: (listener.close(), _socketfiles._remove_all()))
        assert os.listdir() == ["x"]
    assert os.listdir() == []  # the child has ended


@linux_only
def test_a_forked_child_that_serves_on_keeps_the_file():
    listener = listen("unix://x")
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    _socketfiles._remove_all()
    listener.close()
    assert os.listdir() == ["x"]
    os.close(writer)
    os.waitpid(pid, 0)


ENDS = {"end": "", "exit": "sys.exit()", "exception": "raise KeyboardInterrupt"}


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
def test_the_file_goes_when_the_program_ends(end):
    program = f"""
import sys
from eventmux import EventMux
mux = EventMux()
mux.listen("unix://x")
{ENDS[end]}
"""
    subprocess.run([sys.executable, "-c", program], stderr=subprocess.DEVNULL, check=False)
    assert os.listdir() == []


@pytest.mark.slow
def test_the_file_goes_when_a_program_of_the_command_ends(folder):
    (folder / "p.py").write_text(
        "from eventmux import EventMux\nfrom rpcasync import *\n"
        "rpc = Server(EventMux(), {}); init_clients(rpc)\n"
        "import os; print(oct(os.stat('x').st_mode & 0o777))\n"
    )
    command = [sys.executable, "-m", "rpcasync", "listen", "--mode", "640", "-u"]
    told = subprocess.run(
        [*command, "unix://x", "p.py"], capture_output=True, text=True, check=True
    )
    assert told.stdout == "0o640\n"
    assert os.listdir() == ["p.py"]
    told = subprocess.run(
        [*command, "tcp://127.0.0.1:0", "p.py"], capture_output=True, text=True, check=False
    )
    assert "--mode is for unix://path, and there is none\n" in told.stderr
    assert told.returncode == 2


def test_what_is_no_url_leaves_nothing():
    with pytest.raises(URLError):
        url_listen("unix://", mode=0o600)
    assert os.listdir() == []


@pytest.mark.slow
def test_a_program_that_is_killed_leaves_its_file_to_the_next():
    program = "import os\nfrom rpcasync import url_listen\n"
    program += f"sock = url_listen('unix://x'); os.kill(os.getpid(), {int(signal.SIGKILL)})"
    subprocess.run([sys.executable, "-c", program], check=False)
    assert os.listdir() == ["x"]
    url_listen("unix://x").close()
    assert os.listdir() == []
