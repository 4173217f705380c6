"""`rpcasync shell` as a user meets it: lines through a pipe, and typed at a terminal."""

import contextlib
import os
import re
import shlex
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.programs import LIMIT, PROGRAMS, ROOT, Program, listening, run
from support.quick import quick_first
from support.terminals import PROMPT, Terminal

from rpcasync.cli.terminal import completions

CALC = PROGRAMS / "calc_server.py"
CHILD = f"python://{CALC}"
SHELL = [sys.executable, "-m", "rpcasync", "shell"]


@pytest.fixture(autouse=True)
def _no_history(monkeypatch):
    monkeypatch.setenv("RPCASYNC_HISTORY", "")


def shell(text, url=CHILD, *options):
    """Run a shell with text on its stdin; return its exit status, stdout and stderr."""
    result = subprocess.run(
        [*SHELL, *options, url],
        input=text if isinstance(text, bytes) else text.encode(),
        capture_output=True,
        timeout=LIMIT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    return result.returncode, result.stdout.decode(), result.stderr.decode()


def other(tmp_path, old, new):
    """Make a server that differs a bit from the usual one; return its URL."""
    program = tmp_path / "other.py"
    source = CALC.read_text()
    assert old in source
    program.write_text(source.replace(old, new))
    return f"python://{program}"


# Lines through a pipe


def test_lines_are_calls():
    lines = """\
# a comment

add_numbers n1=2 n2=40
  sum 1 2.5
echo text="hello world" list=[1, 2] obj='{"a": 1}' x=[a-z]"""
    answers = 'sum=42\n3.5\ntext=hello world\nlist=[1, 2]\nobj={"a": 1}\nx=[a-z]\n'
    assert shell(lines) == (0, answers, "")


def test_nothing_on_stdin():
    assert shell("") == (0, "", "")


@pytest.mark.parametrize(
    ("line", "message"),
    quick_first(
        [
            ("refuse why=because", "because"),
            ("nothing", "No sub 'nothing' in package 'main'; `methods` lists what it has"),
            ("echo it's", "no closing quotation"),
            ('echo a={"b": 1', '{"b": 1 is not JSON: put quotes around text'),
            (
                b"echo \xff",
                "'utf-8' codec can't decode byte 0xff in position 5: invalid start byte",
            ),
            ('echo a="\\ud800"', "has no UTF-8"),
            ("refuse why=\\\x1b[31m", "\\x1b[31m"),
        ],
        2,
    ),
)
def test_a_line_that_fails_is_named_and_the_others_run(line, message):
    text = line if isinstance(line, bytes) else line.encode()
    status, stdout, stderr = shell(b"\n%s\nsum 7\n" % text)
    assert (status, stdout) == (1, "7\n")
    assert stderr.startswith("rpcasync: line 2: ")
    assert message in stderr
    assert stderr.count("\n") == 1
    assert "\x1b" not in stderr


@pytest.mark.slow
def test_a_line_that_is_too_long():
    status, stdout, stderr = shell(b"sum 1\n" + b"x" * (16 * 1024 * 1024 + 1) + b"\nsum 2\n")
    assert (status, stdout) == (1, "1\n")
    assert stderr.startswith("rpcasync: line 2: record of ")


def test_answers_come_while_lines_are_read():
    with listening() as (address, _):
        program = Program([*SHELL, address], stdin=subprocess.PIPE)
        try:
            for number in range(3):
                program.process.stdin.write(f"sum {number}\n")
                program.process.stdin.flush()
                assert program.process.stdout.readline() == f"{number}\n"
            program.process.stdin.close()
            assert program.process.wait(LIMIT) == 0
        finally:
            program.stop()


def test_no_line_waits_for_the_answer_of_the_one_before():
    status, stdout, stderr = shell("park\npark\nrelease\n")
    assert (status, stderr) == (0, "")
    assert [re.sub(r"\d+", "N", line) for line in stdout.splitlines()] == [
        "released=N",
        "released=N",
        "released=all",
    ]


@pytest.mark.slow
def test_the_end_waits_for_what_is_pending():
    with listening() as (address, _):
        program = Program([*SHELL, address], stdin=subprocess.PIPE)
        try:
            program.process.stdin.write("park")
            program.process.stdin.close()
            wait_until_parked(address)
            assert run(*SHELL[:-1], "call", address, "release").returncode == 0
            assert program.process.wait(LIMIT) == 0
            assert program.process.stdout.read() == "released=0\n"
        finally:
            program.stop()


def wait_until_parked(address):
    """Return when a call is parked at the server."""
    while run(*SHELL[:-1], "call", address, "parked").stdout != "count=1\n":
        pass


@pytest.mark.slow
def test_many_lines():
    count = 5000
    status, stdout, stderr = shell("".join(f"sum {n}\n" for n in range(count)))
    assert (status, stderr) == (0, "")
    assert stdout.splitlines() == [str(n) for n in range(count)]


def test_no_more_is_read_while_many_calls_are_not_answered():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        program = Program([*SHELL, "--codec", "json", address], stdin=subprocess.PIPE)
        try:
            sock, _ = listener.accept()
            with sock, sock.makefile("rb") as packets:
                program.process.stdin.write("x\n" * 2000)
                program.process.stdin.flush()
                for _ in range(2000):
                    (size,) = struct.unpack("!I", packets.read(4))
                    packets.read(size - 4)
                program.process.stdin.write("x\n")
                program.process.stdin.flush()
                sock.sendall(struct.pack("!I", 9) + b"[0,1]")
                assert program.process.stdout.readline() == "1\n"  # and the line was there before
            assert program.wait_for_log("without an answer").endswith(": 1999")
            assert program.process.wait(LIMIT) == 1
        finally:
            program.process.stdin.close()
            program.stop()


@pytest.mark.parametrize("word", quick_first(["quit", "exit"]))
def test_quit_leaves_the_lines_behind_it(word):
    assert shell(f"sum 1\n{word}\nsum 2\n") == (0, "1\n", "")


def test_help():
    status, stdout, stderr = shell("help")
    assert (status, stderr) == (0, "")
    assert stdout.startswith("procedure key=value value ...")


@pytest.mark.slow
def test_methods_with_definitions():
    status, stdout, stderr = shell("methods")
    assert (status, stderr) == (0, "")
    assert "add_numbers(n1: int, n2: int)\n" in stdout
    assert shell("methods", "python://examples/add_server.py")[1].count("\n") == 1


def test_methods_of_a_server_without_definitions(tmp_path):
    answer = "def rpc_methods(caller):\n    rpc.return_(caller, methods={'b': {}, 'a': {}})"
    url = other(tmp_path, "def rpc_whoami(caller):", f"{answer}\n\n\ndef rpc_whoami(caller):")
    assert shell("methods", url) == (0, "a\nb\n", "")


@pytest.mark.slow
def test_methods_of_a_server_that_refuses(tmp_path):
    refusal = "def rpc_methods(caller, **_):\n    raise Fault('no')"
    url = other(tmp_path, "def rpc_whoami(caller):", f"{refusal}\n\n\ndef rpc_whoami(caller):")
    assert shell("methods\n\nsum 1\n", url) == (1, "1\n", "rpcasync: line 1: no\n")


@pytest.mark.slow
def test_methods_of_something_else(tmp_path):
    url = other(tmp_path, "def rpc_whoami(caller)", "def rpc_methods(caller, defs=0)")
    status, stdout, stderr = shell("methods\nsum 1", url)
    assert (status, stdout) == (1, "1\n")
    text = "rpcasync: line 1: methods: the server answered something else than its procedures\n"
    assert stderr == text


@pytest.mark.parametrize("line", quick_first(["'quit'", '"quit"', "\\quit", "quit 0"]))
def test_a_procedure_that_is_called_like_a_built_in(tmp_path, line):
    url = other(tmp_path, "def rpc_sum(", "def rpc_quit(")
    assert shell(f"{line}\nadd_numbers n1=1 n2=1", url) == (0, "0\nsum=2\n", "")


def test_timeout():
    status, _, stderr = shell("park\nsum 1", CHILD, "--timeout", "0.01")
    assert status == 1
    assert stderr.startswith("rpcasync: line 1: park: no answer")


def test_json_as_the_codec():
    assert shell("sum 1", CHILD, "--codec", "json") == (0, "1\n", "")


def test_the_server_goes_while_nobody_types():
    with listening() as (address, server):
        program = Program([*SHELL, address], stdin=subprocess.PIPE)
        try:
            program.process.stdin.write("park\n")
            program.process.stdin.flush()
            wait_until_parked(address)
            server.process.kill()
            assert program.process.wait(LIMIT) == 1  # although stdin is still open
            program._reader.join()
            text = r"rpcasync: tcp://127\.0\.0\.1:\d+: .+; calls without an answer: 1"
            assert re.fullmatch(text, "\n".join(program.log))
        finally:
            program.process.stdin.close()
            program.stop()


CLOSES_AND_STAYS = """\
import os, socket, sys
with socket.socket(fileno=int(os.environ["RPCASYNC_FDS"])) as sock:
    sock.recv(65536)
with open(sys.argv[1]) as fifo:
    fifo.read()
"""


def test_a_server_that_was_started_goes_before_its_process_does(tmp_path):
    server, fifo = tmp_path / "server.py", tmp_path / "fifo"
    server.write_text(CLOSES_AND_STAYS)
    os.mkfifo(fifo)
    program = Program([*SHELL, f"python://{server}", fifo], stdin=subprocess.PIPE)
    try:
        program.process.stdin.write("park\npark\n")
        program.process.stdin.flush()
        assert program.wait_for_log("server.py").endswith("; calls without an answer: 2")
        fifo.write_text("")
        assert program.process.wait(LIMIT) == 1
    finally:
        with contextlib.suppress(OSError):  # else it has read it, and ended
            os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        program.process.stdin.close()
        program.stop()


def test_nobody_is_there():
    status, stdout, stderr = shell("sum 1", "unix:///no/such/socket")
    assert (status, stdout) == (1, "")
    assert "No such file or directory" in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize("url", quick_first(["nonsense", "http://x", "udp://127.0.0.1:9"]))
def test_a_wrong_url(url):
    status, stdout, stderr = shell("sum 1", url)
    assert (status, stdout) == (2, "")
    assert stderr.startswith("rpcasync: ")


def test_ctrl_c_ends_it():
    with listening() as (address, _):
        program = Program([*SHELL, address], stdin=subprocess.PIPE)
        try:
            program.process.stdin.write("sum 1\n")
            program.process.stdin.flush()
            assert program.process.stdout.readline() == "1\n"
            program.process.send_signal(signal.SIGINT)
            assert program.process.wait(LIMIT) == 1
            program._reader.join()
            assert program.log == ["rpcasync: interrupted"]
        finally:
            program.process.stdin.close()
            program.stop()


@pytest.mark.parametrize(
    ("redirection", "expected"),
    quick_first(
        [
            ("<&-", (1, "", "rpcasync: stdin is closed\n")),
            ("</dev/null", (0, "", "")),
            ("<{file}", (0, "1\n2\n", "")),
            (
                "<{file} >/dev/full",
                (1, "", "rpcasync: cannot print the answer: [Errno 28] No space left on device\n"),
            ),
        ]
    ),
)
def test_stdin_and_stdout_elsewhere(tmp_path, redirection, expected):
    file = tmp_path / "calls"
    file.write_text("sum 1\nsum 2\n")
    command = shlex.join([*SHELL, CHILD])
    result = run("sh", "-c", f"exec {command} {redirection.format(file=file)}")
    assert (result.returncode, result.stdout, result.stderr) == expected


def test_what_a_server_prints_to_its_pipes_goes_to_stderr(tmp_path):
    line = 'print("so"); print("much", file=sys.stderr)'
    url = other(
        tmp_path, "    rpc.return_(caller, sum(", f"    {line}\n    rpc.return_(caller, sum("
    )
    status, stdout, stderr = shell("sum 1", url.replace("python", "python2"))
    assert (status, stdout) == (0, "1\n")
    assert sorted(stderr.splitlines()) == ["much", "so"]


@pytest.mark.slow
def test_arguments_for_a_server_that_is_started():
    result = run("sh", "-c", f"echo whoami | {shlex.join([*SHELL, CHILD, 'one', 'two'])}")
    assert result.stdout.endswith('argv=["one", "two"]\n')
    result = run(*SHELL, "tcp://127.0.0.1:9", "one")
    assert result.returncode == 2
    assert "cannot pass arguments" in result.stderr


# At a terminal

CTRL_C, CTRL_D, UP = "\x03", "\x04", "\x1b[A"


@pytest.fixture
def terminal():
    with Terminal(*SHELL[1:], CHILD) as terminal:
        terminal.expect(PROMPT)
        yield terminal


NO_QUIT = "rpcasync: No sub 'quit' in package 'main'; `methods` lists what it has\n"


def test_calls_are_typed(terminal):
    assert terminal.enter("add_numbers n1=2 n2=40") == "sum=42\n"
    assert terminal.enter("") == ""
    assert terminal.enter("# nothing") == ""
    assert terminal.enter("refuse why=because") == "rpcasync: because\n"
    assert terminal.enter("echo it's") == "rpcasync: no closing quotation\n"
    assert "has no UTF-8" in terminal.enter('echo a="\\ud800"')
    assert terminal.enter("'quit'") == NO_QUIT
    assert "\nadd_numbers(n1: int, n2: int)\n" in terminal.enter("methods")
    assert terminal.enter("help").startswith("procedure key=value value ...")
    assert terminal.enter("echo a=\\\x16\x1b[31m") == 'a="\\u001b[31m"\n'
    terminal.type("quit\n")
    assert terminal.end()[0] == 0


def test_ctrl_d_leaves(terminal):
    terminal.type(CTRL_D)
    assert terminal.end() == (0, "\n")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_ctrl_c_clears_the_line(terminal):
    terminal.type("explode")
    terminal.expect("explode")
    terminal.wait_until_it_waits()  # input() notices no signal between the echo and its select()
    terminal.type(CTRL_C)
    terminal.expect(PROMPT)
    assert terminal.enter("sum 1 2") == "3\n"


def test_ctrl_c_cancels_a_call():
    with listening() as (address, _), Terminal(*SHELL[1:], address) as terminal:
        terminal.expect(PROMPT)
        terminal.type("park\n")
        wait_until_parked(address)
        terminal.type(CTRL_C)
        assert "rpcasync: park: cancelled" in terminal.expect(PROMPT)
        assert terminal.enter("release") == "released=all\n"  # the late answer is nobody's
        terminal.type("exit\n")
        assert terminal.end()[0] == 0


def test_tab_completes_procedures_and_names(terminal):
    terminal.type("add_n\t")
    terminal.expect("add_numbers ")
    terminal.type("n1\t")
    terminal.expect("n1=")
    terminal.type("2 \t")  # only one is left
    terminal.expect("n2=")
    assert terminal.enter("5") == "sum=7\n"
    terminal.type("add_\t\t")
    choices = terminal.expect("add_numbers")
    assert "add_floats" in choices


@pytest.mark.slow
def test_only_what_can_be_seen_and_typed_is_completed(tmp_path):
    bad = ["x\x1b[31m", "x y", "x\ny", "x\ty", "x\u00a0y", "x\u202ey"]
    known = {"xgood": ["xname", *bad], **dict.fromkeys(bad, ())}
    assert completions("", "x", known) == ["xgood "]
    assert completions("xgood ", "x", known) == ["xname="]
    methods = r"{'x\x1b[31m': {}, 'xok': {}}"
    answer = f"def rpc_methods(caller):\n    rpc.return_(caller, methods={methods})"
    url = other(tmp_path, "def rpc_whoami(caller):", f"{answer}\n\n\ndef rpc_whoami(caller):")
    with Terminal(*SHELL[1:], url) as terminal:
        terminal.expect(PROMPT)
        terminal.type("x\t")
        assert "\x1b" not in terminal.expect("xok ")
        terminal.type(CTRL_C)


@pytest.mark.slow
def test_completion_of_a_server_without_definitions(tmp_path):
    answer = "def rpc_methods(caller):\n    rpc.return_(caller, methods={'add_numbers': {}})"
    url = other(tmp_path, "def rpc_whoami(caller):", f"{answer}\n\n\ndef rpc_whoami(caller):")
    with Terminal(*SHELL[1:], url) as terminal:
        terminal.expect(PROMPT)
        terminal.type("add\t")
        terminal.expect("add_numbers ")
        assert terminal.enter("n1=1 n2=1") == "sum=2\n"


@pytest.mark.slow
def test_no_completion_where_methods_is_something_else(tmp_path):
    url = other(tmp_path, "def rpc_whoami(caller)", "def rpc_methods(caller, defs=0)")
    with Terminal(*SHELL[1:], url) as terminal:
        terminal.expect(PROMPT)
        assert "something else" in terminal.enter("methods")
        assert terminal.enter("sum 1") == "1\n"


@pytest.mark.slow
def test_the_history_is_kept(tmp_path):
    path = tmp_path / "below" / "history"
    env = {"RPCASYNC_HISTORY": str(path)}
    with Terminal(*SHELL[1:], CHILD, **env) as terminal:
        terminal.expect(PROMPT)
        assert terminal.enter("sum 1 2") == "3\n"
        terminal.type(CTRL_D)
        assert terminal.end()[0] == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "sum 1 2\n" in path.read_text()
    with Terminal(*SHELL[1:], CHILD, **env) as terminal:
        terminal.expect(PROMPT)
        terminal.type(UP)
        terminal.expect("sum 1 2")
        assert terminal.enter(" 4") == "7\n"
        terminal.type(CTRL_D)
        assert terminal.end()[0] == 0
    assert path.read_text().endswith("sum 1 2\nsum 1 2 4\n")


@pytest.mark.slow
def test_the_history_has_an_end(tmp_path):
    path = tmp_path / "history"
    path.write_text("".join(f"sum {n}\n" for n in range(1500)))
    with Terminal(*SHELL[1:], CHILD, RPCASYNC_HISTORY=str(path)) as terminal:
        terminal.expect(PROMPT)
        assert terminal.enter("sum 7 7") == "14\n"
        terminal.type(CTRL_D)
        assert terminal.end()[0] == 0
    lines = path.read_text().splitlines()
    assert lines[-2:] == ["sum 1499", "sum 7 7"]
    assert len(lines) == 1000


@pytest.mark.parametrize("place", quick_first(["", "/dev/null/history", "/"]))
def test_a_history_that_cannot_be_kept(place):
    with Terminal(*SHELL[1:], CHILD, RPCASYNC_HISTORY=place) as terminal:
        terminal.expect(PROMPT)
        assert terminal.enter("sum 1") == "1\n"
        terminal.type(CTRL_D)
        assert terminal.end() == (0, "\n")


def test_without_readline():
    program = (
        "import sys; sys.modules['readline'] = None; import rpcasync.cli;"
        " sys.exit(rpcasync.cli.main())"
    )
    with Terminal("-c", program, "shell", CHILD) as terminal:
        terminal.expect(PROMPT)
        assert terminal.enter("sum 1 2") == "3\n"
        terminal.type(CTRL_D)
        assert terminal.end() == (0, "\n")


@pytest.mark.slow
def test_a_hung_server_is_not_waited_for_long(tmp_path):
    sleep = "def rpc_park(caller):\n    __import__('time').sleep(1000)"
    url = other(tmp_path, "def rpc_park(caller):", sleep)
    start = time.monotonic()
    status, _, stderr = shell("park", url, "--timeout", "1")
    assert status == 1
    assert stderr.startswith("rpcasync: line 1: park: no answer within 1.0 seconds\n")
    assert time.monotonic() - start < 5


@pytest.mark.slow
def test_a_timeout_at_a_terminal():
    with Terminal(*SHELL[1:], CHILD, "--timeout", "0.2") as terminal:
        terminal.expect(PROMPT)
        assert terminal.enter("park").startswith("rpcasync: park: no answer")


def test_the_server_goes_during_a_call(terminal):
    assert "rpcasync: explode: failed; see the server's log" in terminal.enter("explode")
    terminal.type("sum 1\n")  # which waits for the end of the connection, where it is not seen yet
    status, shown = terminal.end()
    assert status == 1
    assert "the server closed the connection" in shown


@pytest.mark.slow
def test_the_server_goes_at_the_prompt():
    with listening() as (address, server), Terminal(*SHELL[1:], address) as terminal:
        terminal.expect(PROMPT)
        server.process.kill()
        server.process.wait()
        terminal.type("\n")
        status, shown = terminal.end()
        assert status == 1
        assert f"rpcasync: {address}: " in shown


@pytest.mark.slow
def test_nobody_is_there_for_a_terminal():
    with Terminal(*SHELL[1:], "unix:///no/such/socket") as terminal:
        status, shown = terminal.end()
        assert status == 1
        assert PROMPT not in shown
        assert "No such file or directory" in shown


def test_stdin_alone_is_a_terminal():
    ours, theirs = os.openpty()
    program = subprocess.Popen(
        [*SHELL, CHILD],
        stdin=theirs,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    os.close(theirs)
    with program:
        os.write(ours, b"sum 1\n")
        assert program.stdout.readline() == b"1\n"  # and no prompt in front of it
        os.write(ours, b"\x04")
        assert program.wait(LIMIT) == 0
    os.close(ours)


# The document

HOWTO = (ROOT / "docs" / "howto" / "command-line.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", HOWTO, re.MULTILINE | re.DOTALL)


def test_the_session_in_the_document_is_a_real_one():
    (block,) = blocks("text")
    command, _, session = block.partition("\n")
    words = shlex.split(command.removeprefix("$ rpcasync "))
    with Terminal("-m", "rpcasync", *words, cwd=ROOT, COLUMNS="200") as terminal:
        terminal.expect(PROMPT)
        for part in session.split(PROMPT)[1:]:
            line, _, shown = part.partition("\n")
            if line == "quit":
                terminal.type("quit\n")
                assert terminal.end()[0] == 0
            else:
                assert terminal.enter(line) == shown


def test_the_commands_in_the_document_that_need_a_shell():
    function = f'rpcasync() {{ {shlex.quote(sys.executable)} -m rpcasync "$@"; }}'
    for block in blocks("shell-session"):
        command, _, shown = block.removeprefix("$ ").partition("\n")
        result = run("sh", "-c", f"{function}; {command}")
        assert result.stdout + result.stderr == shown
