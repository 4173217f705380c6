"""Servers behind the sockets of systemd, with its own tool: `rpcasync listen` without `-u`."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
from contextlib import contextmanager

import pytest
from support import certificates
from support.programs import LIMIT, PROGRAMS, ROOT, Program, run

from eventmux import EventMux
from rpcasync import Client, RemoteError

CALC = PROGRAMS / "calc_server.py"
LISTEN = [sys.executable, "-m", "rpcasync", "listen"]
# The number of a process is known only in it; it stays the same when another program runs in it.
HAND_OVER = """
import os, sys
count, *command = sys.argv[1:]
os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), count
os.execvp(command[0], command)
"""

EXAMPLES = ROOT / "examples" / "systemd"
UNITS = sorted(path.name for path in EXAMPLES.glob("*.s*"))
PAGE = (ROOT / "docs" / "howto" / "systemd.md").read_text()


def needs(command):
    """Skip a test where there is no such command."""
    return pytest.mark.skipif(shutil.which(command) is None, reason=f"no {command} command")


@pytest.fixture
def activate():
    """Start programs with systemd's own tool; they end with the test."""
    if shutil.which("systemd-socket-activate") is None:
        pytest.skip("no systemd-socket-activate command")
    running = []

    def start(*command, **options):
        tool = ["systemd-socket-activate", "-E", "PYTHONPATH", *command]
        running.append(Program([os.fspath(word) for word in tool], **options))
        return running[-1]

    yield start
    for program in running:
        program.stop()


@contextmanager
def asking(url, **options):
    with EventMux() as mux, Client(mux, url, **options) as client:
        yield lambda procedure, **values: client.call(procedure, **values).result(LIMIT)


def ask(url, procedure, **options):
    with asking(url, **options) as call:
        return call(procedure)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def test_listen_without_urls(tmp_path, activate):
    path = f"{tmp_path}/socket"
    program = activate("-l", path, *LISTEN, CALC, "one")
    program.wait_for_log("Listening on")
    assert ask(f"unix://{path}", "whoami")["argv"] == ["one"]
    program.wait_for_log(f"rpcasync: listening on unix://{path}, from systemd")
    assert ask(f"unix://{path}", "stop")["stopping"] == 1
    assert program.process.wait(LIMIT) == 0


def test_the_same_program_without_systemd(tmp_path):
    path = f"unix://{tmp_path}/socket"
    program = Program([*LISTEN, "-u", path, CALC])
    try:
        program.wait_for_log(f"listening on {path}")
        assert ask(path, "stop")["stopping"] == 1
        assert program.process.wait(LIMIT) == 0
    finally:
        program.stop()


def test_urls_and_sockets_are_served_both(tmp_path, activate):
    ours, theirs = f"unix://{tmp_path}/ours", f"{tmp_path}/theirs"
    program = activate("-l", theirs, *LISTEN, "-u", ours, "--mode", "600", CALC)
    program.wait_for_log("Listening on")
    with asking(f"unix://{theirs}") as call:
        pid = call("whoami")["pid"]
        assert ask(ours, "whoami")["pid"] == pid
    assert os.stat(f"{tmp_path}/ours").st_mode & 0o777 == 0o600


def test_options_hold_for_each_server_of_a_program(tmp_path, activate):
    public, admin = f"{tmp_path}/public", f"{tmp_path}/admin"
    names = "--fdname=admin:public"
    command = [*LISTEN, "--allow-uid", str(os.getuid() + 1), PROGRAMS / "two_servers.py"]
    program = activate("-l", admin, "-l", public, names, *command)
    program.wait_for_log(f"Listening on {public}")
    for path in (public, admin):  # the option is for the second server, too
        refused = run(*LISTEN[:3], "call", f"unix://{path}", "name")
        assert refused.returncode == 1
    program.wait_for_log("refused: ")
    assert len([line for line in program.log if "refused: " in line]) == 2


def test_servers_by_name(tmp_path, activate):
    public, admin = f"{tmp_path}/public", f"{tmp_path}/admin"
    command = [*LISTEN, PROGRAMS / "two_servers.py"]
    program = activate("-l", admin, "-l", public, "--fdname=admin:public", *command)
    program.wait_for_log(f"Listening on {public}")
    assert ask(f"unix://{public}", "name")["name"] == "public"
    assert ask(f"unix://{admin}", "name")["name"] == "admin"
    assert ask(f"unix://{admin}", "stop")["stopping"] == 1
    assert program.process.wait(LIMIT) == 0


def test_options_hold_for_the_sockets_of_systemd(tmp_path, activate):
    path = f"{tmp_path}/socket"
    program = activate("-l", path, *LISTEN, "--max-packet", "200", CALC)
    program.wait_for_log("Listening on")
    with asking(f"unix://{path}") as call, pytest.raises(RemoteError, match="cannot be sent"):
        call("fill", size=1000)


def test_sockets_of_tcp_are_encrypted_with_a_certificate(tmp_path, activate):
    port, path = free_port(), f"{tmp_path}/socket"
    given = ["--cert", certificates.pem_file("server")]
    program = activate("-l", f"127.0.0.1:{port}", "-l", path, *LISTEN, *given, CALC)
    program.wait_for_log(f"Listening on {path}")
    tls = certificates.client_context()
    assert ask(f"tls://localhost:{port}", "whoami", tls=tls)["argv"] == []
    assert ask(f"unix://{path}", "whoami")["argv"] == []  # it has no need of it
    result = run(*LISTEN[:3], "call", f"tcp://127.0.0.1:{port}", "whoami")
    assert result.returncode == 1


# What cannot be


def handed_over(kind, *options):
    """Return what `rpcasync listen` says of a socket of systemd's and options."""
    first, other = socket.socketpair() if kind == "connection" else (socket.socket(), None)
    if kind == "tcp":
        first.bind(("127.0.0.1", 0))
        first.listen()
    program = [*LISTEN, *options, str(CALC)]
    code = "import os, sys; os.dup2(int(sys.argv.pop(1)), 3)" + HAND_OVER
    start = [sys.executable, "-c", code, str(first.fileno()), "1", *program]
    result = subprocess.run(
        start,
        pass_fds=[first.fileno()],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    first.close()
    if other is not None:
        other.close()
    return result.returncode, result.stderr.splitlines()[0]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (
            "tcp",
            ["--mode", "660"],
            (
                "--mode is for unix://path, and there is none;"
                " SocketMode= in its unit is for a socket from systemd"
            ),
        ),
        ("tcp", ["--allow-uid", "1"], "--allow-uid is for unix://path, and there is none"),
        (
            "connection",
            ["--allow-uid", "1"],
            (
                "--allow-uid is for listeners, and descriptor 3 from systemd is none;"
                " say Accept=no there"
            ),
        ),
        (
            "connection",
            ["--cert", "x.pem"],
            "--cert is for listeners, and descriptor 3 from systemd is none; say Accept=no there",
        ),
        (
            "connection",
            ["--proxy", "require", "--trusted", "unix:"],
            "--proxy is for listeners, and descriptor 3 from systemd is none; say Accept=no there",
        ),
        (
            "tcp",
            ["--proxy", "require", "--trusted", "unix:"],
            ("at tcp:// nobody could connect: --trusted a network such as 127.0.0.0/8 is missing"),
        ),
        ("tcp", ["--cert", "/no/such"], "/no/such: No such file or directory"),
    ],
)
def test_options_that_do_not_fit(kind, options, message):
    status, line = handed_over(kind, *options)
    assert (status, line.partition(": ")[2]) == (2, message)


def test_a_program_that_takes_nothing(tmp_path, activate):
    (tmp_path / "idle.py").write_text("")
    path = f"{tmp_path}/socket"
    program = activate("-l", path, *LISTEN, tmp_path / "idle.py")
    program.wait_for_log("Listening on")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        program.wait_for_log("idle.py ended and never called init_clients(rpc)")
        assert program.process.wait(LIMIT) == 1


def test_a_program_without_its_loop(tmp_path, activate):
    code = "from eventmux import EventMux\nfrom rpcasync import *\n"
    code += "rpc = Server(EventMux())\ninit_clients(rpc)\n"
    (tmp_path / "short.py").write_text(code)
    path = f"{tmp_path}/socket"
    program = activate("-l", path, *LISTEN, tmp_path / "short.py")
    program.wait_for_log("Listening on")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        program.wait_for_log("short.py ended while it listened")
        assert program.process.wait(LIMIT) == 0


def test_sockets_of_another_process(tmp_path):
    result = run(*LISTEN, CALC, env={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
    assert result.returncode == 2
    head = "  the sockets of LISTEN_FDS are for process 1, this is "
    assert any(line.startswith(head) for line in result.stderr.splitlines())


# What it is for


@needs("systemd-socket-activate")
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_nobody_is_refused_while_the_server_restarts(tmp_path, kind):
    if kind == "tcp":
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{tmp_path}/socket")
        listener.listen()
        url = f"unix://{tmp_path}/socket"
    command = ["systemd-socket-activate", "-E", "PYTHONPATH", *LISTEN, str(CALC)]
    code = "import os, sys; os.dup2(int(sys.argv.pop(1)), 3)" + HAND_OVER
    start = [sys.executable, "-c", code, str(listener.fileno()), "1", *command]
    pids = []
    with listener:
        for _ in range(3):
            with EventMux() as mux:
                client = Client(mux, url)  # nobody is there, and it is not refused
                call = client.whoami()
                mux.mux(0)
                program = Program(start, pass_fds=[listener.fileno()])
                try:
                    pids.append(call.result(LIMIT)["pid"])
                    client.stop().result(LIMIT)
                    client.disconnect()
                    assert program.process.wait(LIMIT) == 0
                finally:
                    program.stop()
    assert len({*pids}) == 3


# The page


@pytest.mark.parametrize("name", [*UNITS, "Containerfile"])
def test_the_page_shows_the_files(name):
    assert f"\n\n{textwrap.indent((EXAMPLES / name).read_text(), '    ')}\n" in PAGE


@needs("systemd-analyze")
def test_the_units_are_right(tmp_path):
    assert len(UNITS) == 6
    command = tmp_path / "rpcasync"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    for name in UNITS:
        text = (EXAMPLES / name).read_text()
        (tmp_path / name).write_text(text.replace("/srv/adder/.venv/bin/rpcasync", str(command)))
    result = run("systemd-analyze", "verify", *(tmp_path / name for name in UNITS))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", ["adder.service", "adders.service", "worker@.service"])
def test_the_command_of_a_service(tmp_path, unit):
    lines = (EXAMPLES / unit).read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("ExecStart="))
    text = line.partition("=")[2].replace("/srv/adder/.venv/bin/rpcasync", " ".join(LISTEN[:3]))
    text = text.replace("%L/workers/%i", str(tmp_path))
    words = text.replace("/srv/adder", str(ROOT / "examples")).split()
    told = f"{tmp_path}/told"
    with socket.create_server(("127.0.0.1", 0)) as listener, notified(told) as systemd:
        code = "import os, sys; os.dup2(int(sys.argv.pop(1)), 3)" + HAND_OVER
        start = ["env", f"NOTIFY_SOCKET={told}", sys.executable, "-c", code]
        command = [*start, str(listener.fileno()), "1", *words]
        program = Program(command, pass_fds=[listener.fileno()])
        try:
            assert systemd.recv(100) == b"READY=1"
            url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
            with EventMux() as mux, Client(mux, url) as client:
                assert client.add_numbers(n1=2, n2=3).result(LIMIT)["sum"] == 5
        finally:
            program.stop()
    assert os.path.exists(f"{tmp_path}/log") == ("worker" in unit)


@contextmanager
def notified(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.settimeout(LIMIT)
        yield sock


@needs("systemd-socket-activate")
def test_sigterm_says_that_it_stops_and_refuses_nobody(tmp_path):
    told = f"{tmp_path}/told"
    code = "import os, sys; os.dup2(int(sys.argv.pop(1)), 3)" + HAND_OVER
    with socket.create_server(("127.0.0.1", 0)) as listener, notified(told) as systemd:
        url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        start = [sys.executable, "-c", code, str(listener.fileno()), "1"]
        tool = ["systemd-socket-activate", "-E", "PYTHONPATH", "-E", "NOTIFY_SOCKET"]
        command = ["env", f"NOTIFY_SOCKET={told}", *start, *tool, *LISTEN, str(CALC)]
        old = Program(command, pass_fds=[listener.fileno()])
        try:
            with EventMux() as mux:
                client = Client(mux, url)
                client.whoami().result(LIMIT)
                assert systemd.recv(100) == b"READY=1"
                old.process.terminate()
                assert systemd.recv(100) == b"STOPPING=1"
                assert client.add_numbers(n1=2, n2=3).result(LIMIT)["sum"] == 5
                client.disconnect()
                assert old.process.wait(LIMIT) == 0
                call = Client(mux, url).whoami()  # it waits for who comes next
                mux.mux(0)
                new = Program(command, pass_fds=[listener.fileno()])
                try:
                    assert call.result(LIMIT)["pid"] == new.process.pid
                    assert systemd.recv(100) == b"READY=1"
                finally:
                    new.stop()
        finally:
            old.stop()


def test_several_servers_stop_at_sigterm(tmp_path, activate):
    public, admin = f"{tmp_path}/public", f"{tmp_path}/admin"
    told = f"{tmp_path}/told"
    with notified(told) as systemd:
        names = ["--fdname=admin:public", f"--setenv=NOTIFY_SOCKET={told}"]
        command = ["-l", admin, "-l", public, *names, *LISTEN, PROGRAMS / "two_servers.py"]
        program = activate(*command)
        program.wait_for_log(f"Listening on {public}")
        with asking(f"unix://{public}") as call:
            assert call("name")["name"] == "public"
            assert [systemd.recv(100), systemd.recv(100)] == [b"READY=1"] * 2
            program.process.terminate()
            assert systemd.recv(100) == b"STOPPING=1"
        assert program.process.wait(LIMIT) == 0


@needs("socat")
def test_what_socat_shows(tmp_path):
    told = f"{tmp_path}/told"
    with contextlib.ExitStack() as running:
        socat = Program(["socat", "-u", f"UNIX-RECV:{told}", "-"])
        running.callback(socat.stop)
        url = f"unix://{tmp_path}/socket"
        ready = ["sh", "-c", 'until [ -S "$0" ]; do :; done; exec "$@"', told]
        given = ["env", f"NOTIFY_SOCKET={told}", "WATCHDOG_USEC=100000"]
        server = Program([*ready, *given, *LISTEN, "-u", url, CALC])
        running.callback(server.stop)
        shown = "READY=1WATCHDOG=1WATCHDOG=1"
        assert shown in PAGE
        assert socat.stdout.read(len(shown)) == shown


def test_the_command_of_the_container():
    text = (EXAMPLES / "Containerfile").read_text()
    entry, words = (
        json.loads(line.partition(" ")[2])
        for line in text.splitlines()
        if line.startswith(("ENTRYPOINT", "CMD"))
    )
    assert entry[:4] == ["rpcasync", "listen", "-u", "tcp://:7007"]
    here = [*LISTEN[:3], *entry[1:3], "tcp://127.0.0.1:0", *words]
    server = Program(here, cwd=ROOT / "examples")
    try:
        url = server.wait_for_log("listening on").rpartition(" ")[2]
        with EventMux() as mux, Client(mux, url) as client:
            assert client.add_numbers(n1=2, n2=3).result(LIMIT)["sum"] == 5
    finally:
        server.stop()
