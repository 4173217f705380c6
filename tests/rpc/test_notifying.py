"""What systemd is told; its end is a real socket."""

import logging
import os
import socket
import sys
from contextlib import ExitStack

import pytest
from support.programs import LIMIT, PROGRAMS, Program, run

import rpcasync
from eventmux import EventMux
from rpcasync import Client, Server, init_clients, notify, notifying

CALC = PROGRAMS / "calc_server.py"
VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
FAST = {"WATCHDOG_USEC": "20000"}


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for variable in (*VARIABLES, "LISTEN_FDS", "RPCASYNC_FDS", "RPCASYNC_OPTIONS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(notifying, "_address", "")
    monkeypatch.setattr(notifying, "_all", type(notifying._all)())


class Systemd:
    """Systemd's end."""

    def __init__(self, address):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(address)
        self.sock.settimeout(LIMIT)

    def next(self):
        return self.sock.recv(10_000).decode()

    def has_more(self):
        """True if something came; it is taken."""
        self.sock.setblocking(False)
        try:
            return bool(self.sock.recv(10_000))
        except BlockingIOError:
            return False
        finally:
            self.sock.settimeout(LIMIT)


@pytest.fixture
def path(tmp_path):
    return f"{tmp_path}/notify"


@pytest.fixture
def systemd(path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    end = Systemd(path)
    with end.sock:
        yield end


@pytest.fixture
def told(caplog):
    """What is logged at INFO and above."""
    caplog.set_level(logging.INFO, "rpcasync")
    return lambda: [(record.levelname, record.getMessage()) for record in caplog.records]


# notify()


@pytest.mark.parametrize(
    "state", ["READY=1", "STATUS=all is well: ü\nMAINPID=7", "X_OURS=\n", "STATUS=" + "x" * 4089]
)
def test_a_state(systemd, state):
    assert notify(state)
    assert systemd.next() == state


def test_an_abstract_socket(monkeypatch):
    name = f"rpcasync-test-{os.getpid()}"
    with Systemd(f"\0{name}").sock as sock:
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        assert notify("READY=1")
        assert sock.recv(100) == b"READY=1"


def test_nobody_wants_to_know(told):
    assert not notify("READY=1")
    assert told() == []


def test_the_variable_is_removed_and_remembered(systemd):
    assert notify("STATUS=1")
    assert "NOTIFY_SOCKET" not in os.environ
    assert notify("STATUS=2")
    assert [systemd.next(), systemd.next()] == ["STATUS=1", "STATUS=2"]


def test_a_socket_that_is_gone(systemd, path, told):
    os.unlink(path)
    assert not notify("STATUS=a\nSTATUS=b")
    why = r"was not told STATUS=a\nSTATUS=b: No such file or directory"
    assert told() == [("INFO", f"NOTIFY_SOCKET {path} {why}")]


def test_nobody_reads_there_any_more(systemd, path, told):
    systemd.sock.close()
    assert not notify("READY=1")
    assert told() == [("INFO", f"NOTIFY_SOCKET {path} was not told READY=1: Connection refused")]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("relative", "it is no path, and no @name"),
        ("vsock:2:1", "it is no path, and no @name"),
        ("/" + "x" * 200, "AF_UNIX path too long"),
    ],
)
def test_an_address_that_is_none(monkeypatch, told, address, why):
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify("READY=1")
    assert told() == [("INFO", f"NOTIFY_SOCKET {address} was not told READY=1: {why}")]


def test_it_does_not_wait_for_a_systemd_that_does_not_read(systemd, told):
    sent = 0
    while notify(f"STATUS={sent}"):
        sent += 1
    assert sent
    assert [level for level, _ in told()] == ["INFO"]
    assert "Resource temporarily unavailable" in told()[0][1]
    assert systemd.next() == "STATUS=0"
    assert notify("STATUS=again")


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (b"READY=1", TypeError, r"state is b'READY=1', must be a str"),
        (None, TypeError, r"state is None, must be a str"),
        ("", ValueError, r"state has the line '', must be as 'READY=1'"),
        ("ready", ValueError, r"state has the line 'ready', must be as 'READY=1'"),
        ("ready=1", ValueError, r"state has the line 'ready=1', must be as 'READY=1'"),
        ("READY =1", ValueError, r"state has the line 'READY =1'"),
        ("READY=1\n\nSTATUS=", ValueError, r"state has the line '', must be"),
        ("READY=1\nhello", ValueError, r"state has the line 'hello', must be"),
        ("=1", ValueError, r"state has the line '=1', must be"),
        ("STATUS=a\0b", ValueError, r"state is 'STATUS=a\\x00b', must have no NUL character"),
        ("STATUS=" + "ü" * 2045, ValueError, "state of 4097 bytes, limit is 4096"),
        ("STATUS=\udc80", ValueError, r"can't encode character '\\udc80'"),
    ],
)
def test_what_is_no_state(systemd, state, error, message):
    with pytest.raises(error, match=message):
        notify(state)
    assert not systemd.has_more()


# By themselves


@pytest.fixture
def serve(monkeypatch):
    """Make a server that listens, as a program would."""
    muxes = ExitStack()

    def begin(mux=None, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        if mux is None:
            mux = muxes.enter_context(EventMux())
        rpc = Server(mux, {})
        init_clients(rpc, ["-u", "tcp://127.0.0.1:0"])
        return mux, rpc

    with muxes:
        yield begin


def turn_until_told(mux, *servers, systemd):
    """Turn the loop until systemd hears something."""
    while not systemd.has_more():
        event = mux.mux(LIMIT)
        for rpc in servers:
            event = rpc.io(event) if event is not None else None
        assert event is None


def test_ready_once_it_listens(systemd, serve):
    _, rpc = serve()
    assert systemd.next() == "READY=1"
    assert rpc.has_clients()
    assert not systemd.has_more()
    assert "NOTIFY_SOCKET" not in os.environ


def test_not_ready_where_it_cannot_listen(systemd):
    with EventMux() as mux, pytest.raises(SystemExit):
        init_clients(Server(mux, {}), ["-u", "nonsense"])
    assert not systemd.has_more()


def test_nothing_is_told_and_nothing_made_without_the_variable(serve):
    _, rpc = serve(**FAST)
    assert rpc._supervised is None


def test_a_ready_that_is_lost_is_a_warning(systemd, path, serve, told):
    os.unlink(path)
    serve()
    line = f"NOTIFY_SOCKET {path} was not told READY=1: No such file or directory"
    assert told() == [("WARNING", line)]


def test_signs_of_life_come_from_the_loop(systemd, serve):
    mux, rpc = serve(**FAST)
    assert systemd.next() == "READY=1"
    assert not set(VARIABLES) & set(os.environ)
    for _ in range(3):
        turn_until_told(mux, rpc, systemd=systemd)
    assert not systemd.has_more()  # nothing turns it


def test_signs_of_life_go_to_systemd(systemd, serve):
    mux, rpc = serve(WATCHDOG_PID=str(os.getpid()), **FAST)
    assert systemd.next() == "READY=1"
    assert rpc.io(mux.mux(LIMIT)) is None
    assert systemd.next() == "WATCHDOG=1"


def test_signs_of_life_of_another_process(systemd, serve):
    mux, rpc = serve(WATCHDOG_PID="1", **FAST)
    rpc.close_listeners()
    while (event := mux.mux()) is not None:
        rpc.io(event)
    assert systemd.next() == "READY=1"
    assert not systemd.has_more()
    assert not set(VARIABLES) & set(os.environ)


def test_a_mux_ends_with_its_server(systemd, serve):
    mux, rpc = serve(**FAST)
    rpc.close_listeners()
    while (event := mux.mux()) is not None:
        rpc.io(event)
    assert systemd.next() == "READY=1"
    assert not systemd.has_more()


def test_signs_of_life_for_all_servers(systemd, serve):
    mux, first = serve(**FAST)
    _, second = serve(mux)
    assert [systemd.next(), systemd.next()] == ["READY=1", "READY=1"]
    first.close_listeners()
    for _ in range(2):
        turn_until_told(mux, first, second, systemd=systemd)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WATCHDOG_USEC": "0"}, "WATCHDOG_USEC is '0': expected microseconds, 1 or more"),
        ({"WATCHDOG_USEC": "1s"}, "WATCHDOG_USEC is '1s': expected microseconds, 1 or more"),
        (
            {"WATCHDOG_PID": "me", **FAST},
            "WATCHDOG_PID is 'me': expected the number of a process",
        ),
    ],
)
def test_what_systemd_would_not_say(systemd, serve, variables, message):
    with pytest.raises(SystemExit) as caught:
        serve(**variables)
    assert str(caught.value.code).endswith(f": {message}")
    assert not systemd.has_more()


def test_a_mux_without_timers(systemd, monkeypatch):
    class Bare:
        def add(self, *args, **named):
            pass

        send = kill = add

    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    rpc = Server(Bare(), {})
    ours, theirs = socket.socketpair()
    monkeypatch.setenv("RPCASYNC_FDS", str(theirs.detach()))
    with pytest.raises(SystemExit) as caught:
        init_clients(rpc, [])
    for sock in (ours, *rpc.clients):
        sock.close()
    assert "signs of life need a mux with timer()" in str(caught.value.code)


def test_stopping_comes_once_and_with_the_last_server(systemd, serve):
    mux, first = serve()
    _, second = serve(mux)
    assert [systemd.next(), systemd.next()] == ["READY=1", "READY=1"]
    first._tell_stopping()
    first._tell_stopping()
    assert not systemd.has_more()
    second._tell_stopping()
    assert systemd.next() == "STOPPING=1"
    second._tell_stopping()
    first._tell_stopping()
    assert not systemd.has_more()


def test_a_server_without_systemd_stops_silently(serve):
    serve()[1]._tell_stopping()


# Whole programs


def test_a_loop_that_hangs_gives_no_signs_of_life(systemd, path, tmp_path):
    """Run a server with a procedure that reads a fifo, and so waits for us."""
    fifo = f"{tmp_path}/fifo"
    os.mkfifo(fifo)
    (tmp_path / "server.py").write_text(
        "import os, subprocess, sys\n"
        "from eventmux import EventMux\n"
        "from rpcasync import Server, init_clients\n"
        "def rpc_hang(caller):\n"
        f"    open({fifo!r}).read()\n"
        "    rpc.return_(caller)\n"
        "def rpc_child(caller):\n"
        "    said = subprocess.run(['env'], capture_output=True, text=True, check=True)\n"
        "    rpc.return_(caller, said.stdout)\n"
        "rpc = Server(EventMux())\n"
        "init_clients(rpc)\n"
        "while rpc.has_clients():\n"
        "    rpc.io(rpc._mux.mux())\n"
    )
    given = ["env", f"NOTIFY_SOCKET={path}", "WATCHDOG_USEC=100000"]
    url = f"unix://{tmp_path}/socket"
    command = [sys.executable, "-m", "rpcasync", "listen", "-u", url]
    program = Program([*given, *command, str(tmp_path / "server.py")])
    try:
        assert systemd.next() == "READY=1"
        assert systemd.next() == "WATCHDOG=1"
        with EventMux() as mux, Client(mux, url) as client:
            (environment,) = client.child().result(LIMIT)
            assert not [each for each in VARIABLES if f"{each}=" in environment]
            call = client.hang()
            mux.mux(0)
            with open(fifo, "w"):  # from here on, it is in the procedure
                while systemd.has_more():
                    pass
                systemd.sock.settimeout(0.3)  # 6 signs of life
                with pytest.raises(TimeoutError):
                    systemd.next()
                systemd.sock.settimeout(LIMIT)
            call.result(LIMIT)
            assert systemd.next() == "WATCHDOG=1"
    finally:
        program.stop()


def test_children_of_a_client_are_not_told(systemd, path):
    code = (
        "from eventmux import EventMux\n"
        "from rpcasync import Client\n"
        "with EventMux() as mux:\n"
        f"    print(Client(mux, 'python://{CALC}').whoami().result({LIMIT})['argv'])\n"
    )
    result = run(sys.executable, "-c", code, env={"NOTIFY_SOCKET": path})
    assert (result.stdout, result.stderr) == ("[]\n", "")
    assert not systemd.has_more()


def test_it_is_of_the_package():
    assert rpcasync.notify is notify


# A worker tells its parent in its place


@pytest.fixture
def parent(monkeypatch):
    monkeypatch.setattr(notifying, "_parent", None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(LIMIT)
        notifying.tell_parent(theirs)
        yield ours


def test_a_worker_tells_its_parent(parent, path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", path)  # nobody is there
    assert notify("STATUS=all is well")
    assert notify("STATUS=one\nSTATUS=two\n")
    assert notifying.is_supervised()
    assert parent.recv(100) == b"STATUS=all is well\nSTATUS=one\nSTATUS=two\n\n"


def test_a_parent_that_does_not_read(parent, caplog):
    caplog.set_level(logging.INFO, "rpcasync")
    while notify("STATUS=all is well"):
        pass
    assert caplog.messages[0].startswith("the parent was not told STATUS=all is well: ")


def test_a_parent_that_has_gone(parent):
    parent.close()
    assert not notify("READY=1")
