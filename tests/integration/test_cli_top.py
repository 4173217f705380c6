"""`rpcasync top`: on a screen, on paper, and how it ends."""

import os
import re
import shutil
import signal
import socket
import sys
from contextlib import contextmanager

import pytest
from support.programs import LIMIT, PROGRAMS, Program, listening, perl_listening, run
from support.screens import Screen
from support.terminals import Terminal

from rpcasync import RemoteError, connect
from rpcasync.cli import main

CALC = PROGRAMS / "calc_server.py"
COMMAND = ["-m", "rpcasync"]
NARROW = ["procedure    calls/s  p50", "q quit; sort by c calls/s,..."]
FAST = ["--interval", "0.05"]


def rpcasync(*words):
    return run(sys.executable, *COMMAND, *words)


@contextmanager
def watching(url, *words, columns=80, rows=24, **options):
    """Look at a server on a screen."""
    env = {"TERM": "xterm", **options}
    with Terminal(*COMMAND, "top", url, *words, columns=columns, rows=rows, **env) as terminal:
        yield terminal, Screen(columns, rows)


def is_given_back(terminal, screen):
    return screen.modes == {7, 25} and terminal.has_echo()


def has_line(start):
    return lambda screen: any(line.startswith(start) for line in screen.lines)


def pid_on(screen):
    match = re.search(r"process (\d+)", screen.lines[0])
    return match and int(match[1])


@pytest.fixture(scope="module")
def address():
    with listening() as (address, _):
        rpcasync("stats", address)
        with connect(address) as client:
            for _ in range(5):
                client.add_numbers(n1=1, n2=2)
            with pytest.raises(RemoteError):
                client.refuse(why="no")
        yield address


# On a screen


def test_a_screen_and_its_keys(address):
    with watching(address, *FAST) as (terminal, screen):
        terminal.show(screen, has_line("refuse"))
        assert screen.modes == {1049}
        assert not terminal.has_echo()
        assert screen.lines[0].startswith(f"{address}: ok, up ")
        assert screen.lines[1].startswith("clients 1, ")
        head, *rows = screen.lines[6:9]
        assert head.split() == [
            *("procedure", "calls/s", "p50", "p99"),
            "errors/s",
            "calls",
            "errors",
        ]
        assert [(row.split()[0], row.split()[-2:]) for row in rows] == [
            ("add_numbers", ["5", "0"]),
            ("refuse", ["1", "1"]),
        ]
        assert screen.lines[-1].endswith(": now calls/s")
        assert {"1m", "0m"} <= screen.colours
        terminal.type("n")
        terminal.show(screen, lambda screen: screen.lines[-1].endswith(": now name"))
        terminal.type("q")
        status, rest = terminal.end()
        screen.feed(rest.encode())
        assert status == 0
        assert screen.modes == {7, 25}


def test_rates_and_times_are_those_of_the_interval(address):
    with watching(address, "--interval", "0.3") as (terminal, screen), connect(address) as client:
        idle = has_line("0.0 calls/s, 0.0 errors/s")
        terminal.show(screen, idle)
        assert screen.lines[7].split()[:5] == ["add_numbers", "0.0", "-", "-", "0.0"]
        client.add_numbers(n1=1, n2=2)
        busy = re.compile(r"add_numbers +[1-9][0-9.]* +[0-9.e-]+ m?s +[0-9.e-]+ m?s +0\.0 ")
        terminal.show(screen, lambda screen: busy.match(screen.lines[7]))
        terminal.show(screen, idle)


def test_another_size_and_no_colours(address):
    with watching(address, *FAST, NO_COLOR="1") as (terminal, screen):
        terminal.show(screen, has_line("refuse"))
        screen.grow(200, 50)
        terminal.resize(30, 8)
        terminal.show(screen, lambda screen: screen.lines[6:8] == NARROW)
        assert screen.lines[8:] == [""] * 42
        terminal.resize(200, 50)
        terminal.show(screen, lambda screen: screen.lines[49].startswith("q quit"))
        assert not screen.colours
        terminal.type("\x03")
        assert terminal.end()[0] == 0  # it is how one stops to watch


def test_a_server_that_goes_and_comes_back(tmp_path):
    url = f"unix://{tmp_path}/socket"
    command = [sys.executable, *COMMAND, "listen", "-u", url, CALC]
    server = Program(command)
    try:
        server.wait_for_log("listening on")
        with watching(url, *FAST, columns=250) as (terminal, screen):
            terminal.show(screen, lambda screen: pid_on(screen) == server.process.pid)
            server.stop()
            terminal.show(screen, has_line(f"{url}: not connected: "))
            assert screen.lines[1].startswith("clients 1")  # as it was
            server = Program(command)
            terminal.show(screen, lambda screen: pid_on(screen) == server.process.pid)
            assert not any(re.search(r"-\d", line) for line in screen.lines[1:-1])
            terminal.type("q")
            assert terminal.end()[0] == 0
    finally:
        server.stop()


def test_ctrl_z_and_back(address):
    with watching(address, *FAST) as (terminal, screen):
        terminal.show(screen, has_line("refuse"))
        os.kill(terminal.process.pid, signal.SIGTSTP)
        _, status = os.waitpid(terminal.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        terminal.show(screen, lambda screen: is_given_back(terminal, screen))
        os.kill(terminal.process.pid, signal.SIGCONT)
        terminal.show(screen, lambda screen: screen.modes == {1049} and has_line("refuse")(screen))
        assert not terminal.has_echo()
        terminal.type("q")
        assert terminal.end()[0] == 0


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)]
)
def test_a_signal_gives_the_terminal_back(address, number):
    with watching(address, *FAST) as (terminal, screen):
        terminal.show(screen, has_line("refuse"))
        os.kill(terminal.process.pid, number)
        terminal.show(screen, lambda screen: is_given_back(terminal, screen))
        assert terminal.process.wait(LIMIT) == -number


def test_a_crash_gives_the_terminal_back(address):
    source = (
        "import sys\n"
        "from rpcasync.cli import dashboard, main\n"
        "dashboard.summary_lines = lambda *_: 1 / 0\n"
        f"main(['top', {address!r}])\n"
    )
    with Terminal("-c", source, columns=80, TERM="xterm") as terminal:
        status, shown = terminal.end()
    assert status == 1
    *_, after = shown.partition("\x1b[?1049l")
    assert after.startswith("Traceback")
    assert after.endswith("ZeroDivisionError: division by zero\n")
    assert "\x1b" not in after


def test_what_a_hostile_server_sends_stays_in_its_place():
    """The screen takes nothing that a terminal would obey."""
    with (
        listening(PROGRAMS / "evil_stats.py") as (address, _),
        watching(address, *FAST) as (terminal, screen),
    ):
        terminal.show(screen, has_line(r'"\u001b[31m\nrpcasync_up'))
        terminal.type("q")
        status, rest = terminal.end()
        screen.feed(rest.encode())
        assert status == 0


@pytest.mark.slow
def test_a_terminal_that_can_do_nothing(address):
    with Terminal(*COMMAND, "top", address, *FAST, columns=80) as terminal:
        terminal.expect("refuse")
        terminal.expect("refuse")
        terminal.type("\x03")
        status, rest = terminal.end()
    assert status == 0
    assert "\x1b" not in rest


# On paper


def test_tables_until_there_are_enough(address):
    result = rpcasync("top", address, *FAST, "-n", "2")
    assert (result.returncode, result.stderr) == (0, "")
    tables = result.stdout.split("\n\ntcp://")
    assert len(tables) == 2
    assert all("calls/s" in table for table in tables)
    assert "\x1b" not in result.stdout


@pytest.mark.slow
def test_tables_until_ctrl_c(address):
    looking = Program([sys.executable, *COMMAND, "top", address, *FAST])
    try:
        seen = 0
        while seen < 3:
            seen += looking.stdout.readline().startswith(address)
        looking.process.send_signal(signal.SIGINT)
        looking.stdout.read()
        assert looking.process.wait(LIMIT) == 0
        assert looking.log == []
    finally:
        looking.stop()


def test_nobody_is_there():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        result = rpcasync("top", url)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"rpcasync: {url}: Connection refused\n"


@pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")
def test_a_server_without_numbers():
    with perl_listening() as address:
        result = rpcasync("top", address)
    line = "rpcasync: the server has no procedure stats: it is in Perl, or old\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", line)


@pytest.mark.slow
def test_a_server_that_goes_while_tables_are_printed():
    with listening() as (address, server):
        looking = Program([sys.executable, *COMMAND, "top", address, *FAST])
        try:
            assert looking.stdout.readline().startswith(f"{address}: ok")
            server.process.kill()
            for _ in range(2):  # it is told again and again
                while not looking.stdout.readline().startswith(f"{address}: not connected: "):
                    pass
            looking.process.send_signal(signal.SIGTERM)
            looking.stdout.read()
            assert looking.process.wait(LIMIT) == -signal.SIGTERM
        finally:
            looking.stop()


@pytest.mark.parametrize(
    "words",
    [
        ["python://server.py"],
        ["tcp://127.0.0.1:1", "--interval", "0"],
        ["tcp://127.0.0.1:1", "-n", "0"],
    ],
)
def test_what_is_no_command(words, capsys):
    try:
        status = main(["top", *words])
    except SystemExit as end:
        status = end.code
    assert status == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("rpcasync")


@pytest.mark.parametrize("count", [["-n", "1"], pytest.param([], marks=pytest.mark.slow)])
def test_a_server_that_does_not_answer(count):
    """On paper, that is told once its time is over; on a screen, after a second."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        if count:
            result = rpcasync("top", url, *FAST, *count, "--timeout", "0.3")
            assert (result.returncode, result.stderr) == (1, "")
            why = (
                f"no answer within 0.3 seconds; there is no connection: {url} has not answered yet"
            )
            assert result.stdout == f"{url}: stats: {why}\n\n"
            return
        with watching(url, *FAST) as (terminal, screen):
            terminal.show(screen, has_line(f"{url}: no answer for 1 s"))
            terminal.type("q")
            assert terminal.end()[0] == 0
