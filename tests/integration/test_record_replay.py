"""`rpcasync record` and `replay`: between real Perl programs, and where something goes wrong."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.programs import LIMIT, PERL, PROGRAMS, Program, run
from support.recordings import call_line, write_recording

from eventmux import EventMux
from rpcasync import Client, Disconnected, RemoteError
from rpcasync.recording.lines import CallLine
from rpcasync.recording.reader import Recording

with_perl = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")


@contextmanager
def program(*command: str | Path, **options: object) -> Iterator[Program]:
    started = Program([*command], **options)
    try:
        yield started
    finally:
        started.stop()


@contextmanager
def perl_server(name: str, path: Path) -> Iterator[str]:
    with program("perl", PERL / name, f"unix://{path}") as server:
        yield server.stdout.readline().strip()


@contextmanager
def python_server(name: str, path: Path) -> Iterator[str]:
    command = (sys.executable, "-m", "rpcasync", "listen", "-u", f"unix://{path}")
    with program(*command, PROGRAMS / name) as server:
        server.wait_for_log("listening on")
        yield f"unix://{path}"


class Recorder:
    """A recorder that runs, and what it has recorded."""

    def __init__(self, program: Program, url: str, file: Path) -> None:
        self.program = program
        self.url = url
        self.file = file

    def end(self, signum: int = signal.SIGTERM) -> str:
        """End it in good order; return what it says."""
        self.program.process.send_signal(signum)
        said = self.program.stdout.read()
        self.status = self.program.process.wait(LIMIT)
        return said

    def lines(self) -> list[CallLine]:
        with Recording(str(self.file)) as recording:
            assert recording.problems == []
            return [each.line for each in recording]


@contextmanager
def recording(tmp_path: Path, target: str, *options: str, **others: object) -> Iterator[Recorder]:
    url, file = f"unix://{tmp_path}/front", tmp_path / "calls"
    command = [sys.executable, "-m", "rpcasync", "record", "-u", url, "--to", target]
    with program(*command, *options, file, **others) as recorder:
        recorder.wait_for_log("are recorded in")
        yield Recorder(recorder, url, file)


def replay(file: Path, url: str, *options: str) -> tuple[int, str, str]:
    done = run(sys.executable, "-m", "rpcasync", "replay", file, url, *options)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def old(tmp_path):
    with perl_server("rpc_server.pl", tmp_path / "old") as url:
        yield url


@contextmanager
def connected(url: str) -> Iterator[Client]:
    with EventMux() as mux:
        client = Client(mux, url, timeout=LIMIT)
        yield client
        client.disconnect()


# ---- between Perl and Perl -------------------------------------------------------------------


@with_perl
def test_a_perl_client_sees_the_perl_server(tmp_path, old):
    with recording(tmp_path, old) as recorder:
        through = run("perl", PERL / "rpc_client.pl", recorder.url).stdout
        said = recorder.end()
    # What this server does otherwise than ours, for which the client was written.
    others = ["floats", "missing argument", "bad argument", "methods", "a procedure that raises"]
    others += ["unknown procedure, CPAN release"]
    failed = [line for line in through.splitlines() if not line.startswith("ok ")]
    assert sorted(failed) == sorted([*(f"not ok {each}" for each in others), "done"])
    lines = recorder.lines()
    assert len(lines) > 1000
    assert {line.codec for line in lines} == {"perl"}
    exploded = next(line for line in lines if line.procedure == "explode")
    assert exploded.ended == "lost"
    assert said.startswith(f"recorded in {tmp_path}/calls: {len(lines)} calls of ")
    assert recorder.status == 0
    assert stat.S_IMODE(recorder.file.stat().st_mode) == 0o600

    status, shown, problems = replay(recorder.file, old, "--compare")
    assert "no answers differ" in shown
    assert (status, problems) == (0, "")


@with_perl
def test_callbacks_go_through_and_are_played(tmp_path):
    with perl_server("callbacks_server.pl", tmp_path / "old") as old:
        direct = run("perl", PERL / "callbacks_client.pl", old, "20").stdout
    with (
        perl_server("callbacks_server.pl", tmp_path / "old2") as old,
        recording(tmp_path, old) as recorder,
    ):
        through = run("perl", PERL / "callbacks_client.pl", recorder.url, "20").stdout
        recorder.end()
    assert through == direct
    first = recorder.lines()[0]
    assert [values for _, values in first.callbacks] == [[1], [2], [3], None]
    # What is alive at a moment depends on when releases came.
    options = ("--compare", "--except", "alive", "--timeout", "5")
    with perl_server("callbacks_server.pl", tmp_path / "old3") as old:
        status, shown, _ = replay(recorder.file, old, *options)
    assert (status, "no answers differ" in shown) == (0, True), shown
    with python_server("callbacks_server.py", tmp_path / "new") as new:
        status, shown, _ = replay(recorder.file, new, *options)
    assert (status, "no answers differ" in shown) == (0, True), shown


@with_perl
def test_each_client_has_its_own_state_as_with_the_old_server(tmp_path, old):
    """`hold` is answered by `release` of the same connection alone."""
    with recording(tmp_path, old) as recorder:
        with connected(recorder.url) as one, connected(recorder.url) as other:
            held = one.hold()
            one.sum(1, 2).result()
            other.release().result()
            assert not held.done
            assert one.release().result() == ("all",)
            assert held.result()[0] == "released"
        recorder.end()
    status, shown, _ = replay(recorder.file, old, "--compare")
    assert status == 0, shown
    assert "4 calls on 2 connections" in shown


@with_perl
def test_a_new_server_that_differs(tmp_path, old):
    with recording(tmp_path, old) as recorder:
        with connected(recorder.url) as client:
            for number in range(3):
                client.add_numbers(n1=number, n2=1).result()
            client.echo("a", 1).result()
            with pytest.raises(RemoteError):
                client.nosuch().result()
        recorder.end()
    new = tmp_path / "new.py"
    new.write_text(
        "from eventmux import EventMux\n"
        "from rpcasync import Server, init_clients\n"
        "def rpc_add_numbers(caller, n1: int, n2: int):\n"
        "    rpc.return_(caller, sum=n1 - n2)\n"
        "def rpc_echo(caller, *values):\n"
        "    rpc.return_(caller, *values)\n"
        "mux = EventMux()\n"
        "rpc = Server(mux)\n"
        "init_clients(rpc)\n"
        "while rpc.has_clients():\n"
        "    rpc.io(mux.mux())\n"
    )
    status, shown, _ = replay(recorder.file, f"python://{new}", "--compare")
    assert status == 1
    lines = shown.splitlines()
    assert lines[2] == "answers that differ, and the first of each kind:"
    assert "  3 add_numbers: sum: value: old 1, new -1 (call 1)" in lines
    status, shown, _ = replay(recorder.file, f"python://{new}", "--json", "--compare")
    found = json.loads(shown)
    assert (status, found["played"], found["answered"]) == (1, 5, 5)
    assert found["differences"][0] == {
        "procedure": "add_numbers",
        "kind": "value",
        "count": 3,
        "call": 1,
        "path": "sum",
        "old": "1",
        "new": "-1",
    }
    status, shown, _ = replay(recorder.file, f"python://{new}", "--compare", "--procedure", "echo")
    assert (status, shown.splitlines()[0][:15]) == (0, "played 1 of 5 c")


@with_perl
def test_a_program_that_is_started_for_it(tmp_path):
    target = f"perl://{PERL}/child_server.pl"
    env = {**os.environ, "PYTHONPATH": str(PROGRAMS.parents[2]), "PERL5LIB": str(PERL / "standin")}
    url, file = f"unix://{tmp_path}/front", tmp_path / "calls"
    command = [sys.executable, "-m", "rpcasync", "record", "-u", url, "--to", target, file]
    recorder = Program(
        [os.fspath(part) for part in ("env", f"PERL5LIB={env['PERL5LIB']}")] + command
    )
    try:
        recorder.wait_for_log("are recorded in")
        with connected(url) as client:
            assert client.add_numbers(n1=2, n2=3).result() == ("sum", 5)
        recorder.process.send_signal(signal.SIGINT)
        assert "1 call of 1 client" in recorder.stdout.read()
        assert recorder.process.wait(LIMIT) == 0
    finally:
        recorder.stop()


# ---- its end, and that of others -------------------------------------------------------------


@with_perl
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_calls_under_way_are_answered(tmp_path, old, signum):
    with recording(tmp_path, old) as recorder, connected(recorder.url) as client:
        held = client.hold()
        client.sum(1).result()
        recorder.program.process.send_signal(signum)
        while not _is_refused(f"{tmp_path}/front"):
            pass
        client.release().result()
        assert held.result()[0] == "released"
        said = recorder.program.stdout.read()
    assert "3 calls of 1 client" in said
    assert {line.ended for line in recorder.lines()} == {"answer"}


def _is_refused(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(path) != 0


@with_perl
def test_a_second_signal_ends_it_at_once(tmp_path, old):
    with recording(tmp_path, old) as recorder, connected(recorder.url) as client:
        held = client.hold()
        client.sum(1).result()
        recorder.program.process.send_signal(signal.SIGTERM)
        recorder.program.wait_for_log("waits 5 seconds for 1 call; a second Ctrl-C ends it at once")
        said = recorder.end()
        with pytest.raises(Disconnected):
            held.result()
    assert said.endswith("2 calls of 1 client, 1 without an answer\n")
    assert [line.ended for line in recorder.lines()] == ["open", "answer"]


@with_perl
def test_what_was_answered_is_there_after_kill_9(tmp_path, old):
    with recording(tmp_path, old) as recorder, connected(recorder.url) as client:
        for number in range(50):
            client.sum(number).result()
        recorder.program.process.kill()
        recorder.program.process.wait()
    assert [line.arguments for line in recorder.lines()] == [[number] for number in range(50)]


@pytest.mark.slow
@with_perl
def test_kill_9_under_load_loses_the_last_turn_at_most(tmp_path, old):
    with recording(tmp_path, old) as recorder, EventMux() as mux:
        answered: list[int] = []

        def ask(number: int) -> None:
            def done(*values: object, error: Exception | None = None) -> None:
                if error is None:
                    answered.append(number)
                    ask(number + 1)

            clients[number % 4].sum(number, done)

        clients = [Client(mux, recorder.url) for _ in range(4)]
        for number in range(0, 1_000_000, 10_000):  # a hundred calls are always under way
            ask(number)
        while any(client.has_requests() for client in clients):
            event = mux.mux()
            for client in clients:
                client.io(event)
            if len(answered) > 3000:
                recorder.program.process.kill()
    with Recording(str(recorder.file)) as found:
        assert all(problem.is_cut for problem in found.problems)
        recorded = {each.line.arguments[0] for each in found}
    # A hundred calls are under way; of a turn's answers, each 32 leave before it is over.
    assert set(answered[:-1000]) <= recorded


@with_perl
def test_a_server_behind_that_goes_and_comes_back(tmp_path):
    with perl_server("rpc_server.pl", tmp_path / "old") as old:
        context = recording(tmp_path, old)
        recorder = context.__enter__()
        with connected(recorder.url) as client:
            assert client.sum(1).result() == (1,)
    with connected(recorder.url) as client, pytest.raises(RemoteError, match="server behind has"):
        client.sum(2).result()
    (tmp_path / "old").unlink(missing_ok=True)
    with perl_server("rpc_server.pl", tmp_path / "old"):
        with connected(recorder.url) as client:
            assert client.sum(3).result() == (3,)
        recorder.end()
    context.__exit__(None, None, None)
    assert [line.ended for line in recorder.lines()] == ["answer", "lost", "answer"]
    recorder.program.wait_for_log("procedure sum cannot be passed on to")


def test_a_server_that_is_not_there_at_the_start(tmp_path):
    command = (sys.executable, "-m", "rpcasync", "record", "-u", f"unix://{tmp_path}/front")
    done = run(*command, "--to", f"unix://{tmp_path}/old", tmp_path / "calls")
    assert done.returncode == 1
    assert done.stderr == f"rpcasync: unix://{tmp_path}/old: No such file or directory\n"
    assert list(tmp_path.iterdir()) == []


# ---- the file --------------------------------------------------------------------------------


@with_perl
def test_rotation_under_load(tmp_path, old):
    clients, count = 4, 500
    with recording(tmp_path, old, "--max-size", "20000", "--keep", "500") as recorder:
        with EventMux() as mux:
            found = [Client(mux, recorder.url) for _ in range(clients)]
            calls = [client.sum(number) for number in range(count) for client in found]
            while any(client.has_requests() for client in found):
                event = mux.mux()
                for client in found:
                    client.io(event)
            assert [call.result()[0] for call in calls[::clients]] == list(range(count))
        recorder.end()
    files = [each for each in tmp_path.iterdir() if each.name.startswith("calls")]
    assert len(files) > 10
    assert all(each.stat().st_size <= 20_000 for each in files)
    lines = recorder.lines()
    assert [line.call for line in lines] == list(range(1, clients * count + 1))
    for client in range(1, clients + 1):
        own = [line.arguments for line in lines if line.client == client]
        assert own == [[number] for number in range(count)]


@with_perl
def test_redaction_leaves_no_trace(tmp_path, old):
    secret = "hunter2-\u263a"
    with recording(
        tmp_path, old, "--redact", "password", "--redact-procedure", "sum", "--max-size", "2000"
    ) as recorder:
        with connected(recorder.url) as client:
            for _ in range(20):
                client.echo(user="ann", password=secret, deep=[{"password": [secret]}]).result()
                client.echo("password", "hunter2").result()
                client.sum("hunter2").result()
        recorder.end()
    files = [each for each in tmp_path.iterdir() if each.name.startswith("calls")]
    assert len(files) > 2
    for each in files:
        data = each.read_bytes()
        assert b"hunter2" not in data
        assert b"ann" in data or b'"sum"' in data or data.count(b"\n") <= 1
    status, shown, _ = replay(recorder.file, old, "--compare")
    assert status == 1  # nothing was played
    assert re.search(r"\d+ not played: redacted", shown)


@with_perl
def test_a_full_disk_ends_the_recording_and_not_the_traffic(tmp_path, old):
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, resource.RLIM_INFINITY))

    with recording(tmp_path, old, preexec_fn=limit) as recorder:
        with connected(recorder.url) as client:
            for number in range(100):
                assert client.sum(number).result() == (number,)
        said = recorder.end()
    assert recorder.status == 1
    lines = recorder.lines()
    assert 10 < len(lines) < 60
    assert recorder.file.stat().st_size <= 8000
    errors = [line for line in recorder.program.log if "ERROR" in line]
    assert errors == [
        f"ERROR rpcasync: recording to {recorder.file} has ended, calls go on: File too large"
    ]
    assert said.splitlines()[1].endswith("and all after: File too large")


@with_perl
def test_two_runs_are_two_sessions(tmp_path, old):
    for number in range(2):
        with recording(tmp_path, old) as recorder:
            with connected(recorder.url) as client:
                client.sum(number).result()
            recorder.end()
    with Recording(str(recorder.file)) as found:
        assert [(each.session, each.line.arguments) for each in found] == [(0, [0]), (1, [1])]
    assert replay(recorder.file, old, "--compare")[0] == 0


# ---- the command line ------------------------------------------------------------------------


def record_words(*words: str | Path) -> tuple[int, str]:
    done = run(sys.executable, "-m", "rpcasync", "record", *words)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "-u URL, --to URL and a file are required"),
        (["-u", "tcp://127.0.0.1:0", "calls"], "--to URL is required"),
        (["-u", "tcp://127.0.0.1:0", "--to", "http://x", "calls"], "--to http://x: "),
        (["-u", "http://x", "--to", "unix://x", "calls"], "cannot listen on http://x"),
        (["-u", "unix://x", "--to", "unix://y", "--max-size", "0", "calls"], "'0' is not a number"),
        (["-u", "unix://x", "--to", "unix://y", "calls", "more"], "'more' is one word too many"),
        (["-u", "tcp://1:2", "--mode", "660", "--to", "unix://y", "c"], "--mode is for unix://"),
    ],
)
def test_a_wrong_record_command(tmp_path, monkeypatch, words, says):
    status, said = record_words(*words)
    assert status == 2
    assert says in said


@with_perl
def test_a_file_that_is_something_else(tmp_path, old):
    file = tmp_path / "notes"
    file.write_text("mine\n")
    words = ("-u", f"unix://{tmp_path}/front", "--to", old)
    status, said = record_words(*words, file)
    assert status == 1
    assert said.startswith(f"rpcasync: {file}: not a recording, so nothing is added to it")
    assert file.read_text() == "mine\n"
    status, said = record_words(*words, tmp_path / "no" / "calls")
    assert (status, said) == (
        1, f"rpcasync: {tmp_path}/no/calls: No such file or directory\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "a file and a URL are required"),
        (["calls"], "a URL is required"),
        (["none", "unix://x"], "none: No such file or directory"),
        (["calls", "unix://x", "--speed", "0"], "'0' is not a number above 0"),
        (["calls", "unix://x", "--in-flight", "0"], "'0' is not a number of calls"),
        (["calls", "http://x"], "http"),
    ],
)
def test_a_wrong_replay_command(tmp_path, words, says):
    write_recording(tmp_path / "calls", call_line(1))
    done = run(sys.executable, "-m", "rpcasync", "replay", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""


CALC = f"python://{PROGRAMS}/calc_server.py"


def sums(count: int) -> list[str]:
    return [
        call_line(n + 1, "add_numbers", ["n1", n, "n2", 1], ["sum", n + 1]) for n in range(count)
    ]


def test_a_recording_that_was_cut_is_played_to_there(tmp_path):
    file = write_recording(tmp_path / "calls", *sums(3))
    file.write_bytes(file.read_bytes()[:-20])
    status, shown, said = replay(file, CALC, "--compare")
    assert f"rpcasync: {file}, line 4: cut in the middle, left out" in said
    assert "played 2 calls on 1 connection" in shown
    assert status == 0


def test_a_broken_line_is_told_and_counts(tmp_path):
    first, *others = sums(3)
    file = write_recording(tmp_path / "calls", first, '{"call": 7\n', *others)
    status, shown, said = replay(file, CALC, "--compare")
    assert f"rpcasync: {file}, line 3: Expecting ',' delimiter" in said
    assert "3 answered" in shown
    assert "1 broken: lines of the recording that cannot be read" in shown
    assert status == 1


def test_what_is_no_file_cannot_be_played(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    status, _, said = replay(tmp_path / "pipe", CALC)
    assert (status, said) == (2, f"rpcasync: {tmp_path}/pipe: not a regular file\n")
    status, _, said = replay(tmp_path, CALC)
    assert (status, said) == (2, f"rpcasync: {tmp_path}: not a regular file\n")


def test_another_version_is_a_clear_error(tmp_path):
    file = tmp_path / "calls"
    file.write_text('{"format": "rpcasync recording", "version": 7}\n')
    status, shown, said = replay(file, CALC)
    assert (status, shown) == (2, "")
    assert said == f"rpcasync: {file}: line 1: of version 7; this program reads 1\n"


def test_names_that_are_not_in_it_are_told(tmp_path):
    file = write_recording(tmp_path / "calls", *sums(1))
    status, _, said = replay(file, CALC, "--procedure", "add_number")
    assert f"no call of 'add_number' in {file}; did you mean 'add_numbers'?" in said
    assert status == 1  # nothing was asked
    status, shown, said = replay(file, CALC, "--procedure", "add_numbers", "--procedure", "sub")
    assert f"no call of 'sub' in {file}" in said
    assert "1 answered" in shown
    assert status == 0


def test_a_program_that_is_not_there_is_told(tmp_path):
    file = write_recording(tmp_path / "calls", *sums(1))
    status, _, said = replay(file, "python://none.py")
    assert said == "rpcasync: the server has gone: none.py: No such file or directory\n"
    assert status == 1


def test_a_server_that_is_gone_is_told(tmp_path):
    file = write_recording(tmp_path / "calls", *sums(4))
    status, shown, said = replay(file, f"unix://{tmp_path}/none")
    assert "rpcasync: the server has gone: add_numbers: unix://" in said
    assert "3 not played: the server has gone" in shown
    assert status == 1


def test_ctrl_c_shows_what_there_is(tmp_path):
    lines = [*sums(2), call_line(9, "add_numbers", ["n1", 1, "n2", 1], ["sum", 2], at=9e5)]
    file = write_recording(tmp_path / "calls", *lines)
    url = f"unix://{tmp_path}/new"
    command = (sys.executable, "-m", "rpcasync", "listen", "-u", url, "--log-level", "debug")
    with program(*command, PROGRAMS / "calc_server.py") as server:
        server.wait_for_log("listening on")
        command = (sys.executable, "-m", "rpcasync", "replay", file, url, "--speed", "1")
        with program(*command) as playing:
            server.wait_for_log("< call 1 of")
            playing.process.send_signal(signal.SIGINT)
            shown = playing.stdout.read()
            assert playing.process.wait(LIMIT) == 1
    assert "played 2 of 3 calls" in shown
