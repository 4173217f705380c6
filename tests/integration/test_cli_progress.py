"""What `rpcasync call` shows while it runs, and how answers look: in files, and at a terminal."""

import json
import re
import shutil
import signal
import subprocess
import sys

import pytest
from support.programs import LIMIT, PERL, PROGRAMS, ROOT, Program, listening, run
from support.terminals import PROMPT, Terminal

from rpcasync import connect

SERVER = PROGRAMS / "calling_server.py"
CHILD = f"python://{SERVER}"
COMMAND = ["-m", "rpcasync"]
CTRL_C = "\x03"


def rpcasync(*arguments, env=None):
    return run(sys.executable, *COMMAND, *arguments, env=env)


def told(result):
    return result.returncode, result.stdout, result.stderr


@pytest.fixture(scope="module")
def address():
    with listening(SERVER) as (address, _):
        yield address


def test_what_a_callback_is_called_with_is_a_line(address):
    result = rpcasync("call", address, "count", "to=2", "progress=@")
    lines = "progress: done=1 total=2\nprogress: done=2 total=2\ncounted=2\n"
    assert told(result) == (0, lines, "")


@pytest.mark.slow
def test_with_json_it_is_a_line_of_it(address):
    result = rpcasync("call", address, "count", "to=1", "progress=@", "--json")
    assert told(result) == (0, '{"progress": {"done": 1, "total": 1}}\n{"counted": 1}\n', "")


@pytest.mark.slow
def test_a_callback_without_a_name(address):
    result = rpcasync("call", address, "tell", "@", "1", "two words", '"\\u001b[31m"')
    assert told(result) == (0, '@: 1 "two words" "\\u001b[31m"\n', "")


@pytest.mark.slow
def test_an_at_that_is_text(address):
    assert rpcasync("call", address, "fetch", 'body="@"', "--key", "body").stdout == "@\n"


@pytest.mark.slow
def test_a_callback_in_the_shell(address):
    lines = 'tell @ 1 2\ncount to=1 progress=@\nfetch body="@"\n'
    result = subprocess.run(
        [sys.executable, *COMMAND, "shell", address],
        input=lines,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        cwd=ROOT,
        check=False,
    )
    shown = "@: 1 2\nprogress: done=1 total=1\ncounted=1\ntype=text/plain\nbody=@\n"
    assert told(result) == (0, shown, "")


def go(address):
    """Answer the calls that wait."""
    with connect(address) as rpc:
        rpc.go()


def subscribed(address, *options):
    program = Program(
        [sys.executable, *COMMAND, "call", address, "subscribe", "update=@", *options]
    )
    assert program.stdout.readline().startswith("subscribed=")
    return program


def test_a_subscription_goes_on_until_it_is_released():
    with listening(SERVER) as (address, _), connect(address) as rpc:
        program = subscribed(address)
        try:
            for text in ("a", "two words"):
                rpc.publish(text=text)
            assert program.stdout.readline() == "update: text=a\n"
            assert program.stdout.readline() == 'update: text="two words"\n'
            rpc.release()
            assert program.process.wait(LIMIT) == 0
            assert program.log == []
        finally:
            program.stop()


@pytest.mark.slow
def test_ctrl_c_ends_a_subscription(address):
    program = subscribed(address)
    try:
        program.process.send_signal(signal.SIGINT)
        assert program.process.wait(LIMIT) == 0
        program._reader.join()
        assert program.log == ["rpcasync: interrupted"]
    finally:
        program.stop()


@pytest.mark.slow
def test_a_subscription_ends_with_its_server():
    with listening(SERVER) as (address, server):
        program = subscribed(address)
        try:
            server.process.kill()
            assert program.process.wait(LIMIT) == 1
            program._reader.join()
            assert re.fullmatch(r"rpcasync: tcp://127\.0\.0\.1:\d+: .+", "\n".join(program.log))
        finally:
            program.stop()


@pytest.mark.slow
def test_nobody_reads_what_a_callback_is_called_with():
    with listening(SERVER) as (address, _), connect(address) as rpc:
        program = subscribed(address)
        try:
            program.stdout.close()
            rpc.publish(text="a")
            assert program.process.wait(LIMIT) == 1
            program._reader.join()
            text = "rpcasync: cannot print the answer: [Errno 32] Broken pipe"
            assert program.log == [text]
        finally:
            program.stop()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")
def test_a_perl_server_calls_it():
    server = Program(["perl", PERL / "callbacks_server.pl", "tcp://127.0.0.1:0"])
    try:
        address = server.stdout.readline().strip()
        result = rpcasync("call", address, "late", "0", '""', "@")
        assert told(result) == (0, '@: 0 ""\ncount=2\n', "")
        arguments = [*COMMAND, "call", address, "late", "done", "1.5", "total", "3", "@"]
        with Terminal(*arguments, columns=60) as terminal:
            status, shown = terminal.end()
            assert status == 0
            assert re.search(r"^\r@ \[=+> +\]  50 %  1\.5 of 3\r +\rcount=4\n$", shown)
    finally:
        server.stop()


# One value


@pytest.mark.slow
def test_one_value_as_it_is(address):
    body = 'body="caf\\u00e9\\n\\u0000"'
    for options, data in (
        (["--raw"], "caf\xe9\n\0".encode()),
        (["--bytes"], b"caf\xe9\n\0"),
    ):
        command = [sys.executable, *COMMAND, "call", address, "fetch", body, "--key=body", *options]
        result = subprocess.run(command, capture_output=True, timeout=LIMIT, cwd=ROOT, check=False)
        assert (result.returncode, result.stdout, result.stderr) == (0, data, b"")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--raw"], 1, "the answer has 2 values, and --raw prints one: add --value NAME, one of"),
        (["--raw", "--key", "bdy"], 1, "the answer has no 'bdy'; did you mean 'body'?\n"),
        (["--raw", "--json"], 2, "not allowed with argument"),
    ],
)
def test_no_value_as_it_is(address, options, status, message):
    result = rpcasync("call", address, "fetch", "body=x", *options)
    assert (result.returncode, result.stdout) == (status, "")
    assert message in result.stderr


@pytest.mark.slow
def test_calls_go_to_stderr_where_stdout_has_a_value(address):
    result = rpcasync("call", address, "count", "to=1", "progress=@", "--raw")
    assert told(result) == (0, "1", "progress: done=1 total=1\n")


@pytest.mark.slow
def test_a_key(address):
    assert rpcasync("call", address, "people", "--key", "count").stdout == "2\n"
    assert rpcasync("call", address, "people", "--key", "count", "--json").stdout == "2\n"


@pytest.mark.slow
def test_a_table_in_a_file_is_whole(address):
    result = rpcasync("call", address, "people", env={"TERM": "xterm"})
    people = f"people:\n  id  name  home\n   1  Ann   {'x' * 100}\n  22  Bob\ncount=2\n"
    assert told(result) == (0, people, "")


# What there is


def test_signatures(address):
    result = rpcasync("methods", address)
    assert "\nscale(n: int, by: float = 1.5)  # Multiply a number.\n" in result.stdout
    assert "\ntell(callback: Callable, *values)\n" in result.stdout


@pytest.mark.slow
def test_names(address):
    lines = rpcasync("methods", address, "--names").stdout.splitlines()
    assert lines[:2] == ["count", "count_and_wait"]


@pytest.mark.slow
def test_some_procedures_in_full(address):
    shown = """\
scale(n: int, by: float = 1.5)
    Multiply a number.

    By one and a half, unless told.
go()
"""
    assert told(rpcasync("methods", address, "scale", "go")) == (0, shown, "")
    assert told(rpcasync("methods", address, "--timeout", "30", "scale", "go")) == (0, shown, "")
    result = rpcasync("methods", address, "scal")
    text = "rpcasync: the server has no procedure 'scal'; did you mean 'scale'?\n"
    assert told(result) == (1, "", text)
    assert json.loads(rpcasync("methods", address, "go", "--json").stdout) == {"go": {}}


# At a terminal


def test_a_bar_is_drawn_and_erased(address):
    with Terminal(*COMMAND, "call", address, "count_and_wait", "to=4", "progress=@") as terminal:
        terminal.expect(f"\rprogress [{'=' * 10}>{' ' * 29}]  25 %  1 of 4")
        go(address)
        status, shown = terminal.end()
        assert status == 0
        assert re.fullmatch(r"\r +\rgone=1\n", shown)


@pytest.mark.slow
def test_a_bar_does_not_mix_with_a_file(address, tmp_path):
    with open(tmp_path / "out", "w") as file:
        arguments = [*COMMAND, "call", address, "count", "to=3", "progress=@"]
        with Terminal(*arguments, stdout=file, columns=40) as terminal:
            status, shown = terminal.end()
    assert status == 0
    assert "progress [====>" in shown
    assert (tmp_path / "out").read_text() == "counted=3\n"


@pytest.mark.slow
def test_ctrl_c_erases_a_bar(address):
    with Terminal(*COMMAND, "call", address, "count_and_wait", "to=4", "progress=@") as terminal:
        terminal.expect("1 of 4")
        terminal.type(CTRL_C)
        status, shown = terminal.end()
        assert status == 1
        assert re.fullmatch(r"(\^C)?\r +\rrpcasync: interrupted\n", shown)


@pytest.mark.slow
def test_a_long_call_shows_that_it_waits(address):
    with Terminal(*COMMAND, "call", address, "wait") as terminal:
        assert terminal.expect("\rrpcasync: waiting for wait ... 1 s") == ""
        assert terminal.expect("\rrpcasync: waiting for wait ... 2 s") == ""
        go(address)
        status, shown = terminal.end()
        assert status == 0
        assert shown.endswith(f"\r{' ' * 34}\rgone=1\n")


@pytest.mark.slow
def test_a_name_that_a_terminal_would_obey_is_waited_for(tmp_path, address):
    with Terminal(*COMMAND, "call", address, "wait\x1b[31m", "--timeout", "3") as terminal:
        assert "\x1b" not in terminal.end()[1]
    with Terminal(*COMMAND, "call", address, "subscribe", "update=@", columns=30) as terminal:
        terminal.expect("subscribed=")
        terminal.expect("\rrpcasync: waiting for what...")
        terminal.type(CTRL_C)
        assert terminal.end()[0] == 0


def test_colours_at_a_terminal(address):
    with Terminal(*COMMAND, "call", address, "people", columns=30, TERM="xterm") as terminal:
        status, shown = terminal.end()
    assert status == 0
    assert shown == (
        "\x1b[36mpeople\x1b[0m:\n"
        "  \x1b[1mid\x1b[0m  \x1b[1mname\x1b[0m  \x1b[1mhome\x1b[0m\n"
        "   \x1b[33m1\x1b[0m  Ann   xxxxxxxxxxxxxxx...\n"
        "  \x1b[33m22\x1b[0m  Bob\n"
        "\x1b[36mcount\x1b[0m=\x1b[33m2\x1b[0m\n"
    )


@pytest.mark.slow
def test_no_colours_where_nobody_wants_them(address):
    options = {"columns": 30, "TERM": "xterm", "NO_COLOR": "1"}
    with Terminal(*COMMAND, "call", address, "people", **options) as terminal:
        assert "\x1b" not in terminal.end()[1]
    with Terminal(*COMMAND, "call", address, "nothing", TERM="xterm", columns=200) as terminal:
        status, shown = terminal.end()
    assert status == 1
    assert shown.startswith("\x1b[31mrpcasync: \x1b[0mNo sub 'nothing' in package 'main'")
    assert shown.count("\x1b") == 2


@pytest.mark.slow
def test_a_terminal_obeys_no_value_as_it_is(address):
    body = 'body="\\u001b[31m\\r\\nx"'
    for option in ("--raw", "--bytes"):
        arguments = ["call", address, "fetch", body, "--key", "body", option]
        with Terminal(*COMMAND, *arguments, TERM="xterm") as terminal:
            assert terminal.end() == (0, "\\x1b[31m\nx\n")


@pytest.mark.slow
def test_a_bar_in_the_shell(address):
    with Terminal(*COMMAND, "shell", address, columns=60, RPCASYNC_HISTORY="") as terminal:
        terminal.expect(PROMPT)
        shown = terminal.enter("count to=2 progress=@")
        assert re.search(r"progress \[.+2 of 2\r +\rcounted=2\n$", shown)
        terminal.type("quit\n")
        assert terminal.end()[0] == 0
