"""`rpcasync listen --log-file`: what is in the file, and what becomes of it."""

import contextlib
import os
import re
import shutil
import sys
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from support.programs import LIMIT, PROGRAMS, Program, run

from eventmux import EventMux
from rpcasync import Client, RemoteError

CALC = PROGRAMS / "calc_server.py"
LISTEN = [sys.executable, "-m", "rpcasync", "listen"]
FULL = Path("/dev/full")
full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
FAILED = "ERROR rpcasync: procedure explode failed"


@contextmanager
def serving(tmp_path, file, *options, program=CALC, prefix=()):
    """Run a server that keeps the client whose procedure fails, which is logged."""
    url = f"unix://{tmp_path}/socket"
    given = ["-u", url, "--on-exception", "answer", "--log-file", file, *options]
    server = Program([*prefix, *LISTEN, *given, program])
    try:
        server.wait_for_log("listening on")
        with EventMux() as mux, Client(mux, url) as client:
            yield server, client
    finally:
        server.stop()


def fail(client):
    """Have a line in the log; it is there when the answer is."""
    with pytest.raises(RemoteError):
        client.explode().result(LIMIT)


def messages(path):
    """Return the lines without their time, and without those of tracebacks."""
    return [line[30:] for line in path.read_text().splitlines() if re.match(r"\d{4}-", line)]


def test_time_level_and_message(tmp_path):
    log = tmp_path / "log"
    with serving(tmp_path, log) as (server, client):
        fail(client)
        lines = log.read_text().splitlines()
        pid = server.process.pid
        assert server.log == [f"rpcasync: listening on unix://{tmp_path}/socket"]
    assert messages(log) == [f"INFO rpcasync: {CALC} begins: process {pid}", FAILED]
    time = datetime.fromisoformat(lines[1][:29])
    assert time.utcoffset() is not None
    assert abs((datetime.now().astimezone() - time).total_seconds()) < LIMIT
    assert lines[2] == "Traceback (most recent call last):"
    assert lines[-1] == "RuntimeError: on purpose"


def test_the_level(tmp_path):
    log = tmp_path / "log"
    with serving(tmp_path, log, "--log-level", "debug") as (_, client):
        client.whoami().result(LIMIT)
    assert any("DEBUG rpcasync: < call" in line for line in messages(log))
    with serving(tmp_path, log, "--log-level", "critical") as (_, client):
        fail(client)
    assert FAILED not in messages(log)


def test_what_is_there_stays(tmp_path):
    log = tmp_path / "log"
    log.write_text("2026-01-01 before\n")
    with serving(tmp_path, log) as (_, client):
        fail(client)
    assert log.read_text().startswith("2026-01-01 before\n20")


def test_a_file_that_is_put_aside(tmp_path):
    log = tmp_path / "log"
    with serving(tmp_path, log) as (_, client):
        fail(client)
        log.rename(tmp_path / "log.1")
        fail(client)
        assert messages(log) == [FAILED]
        assert messages(tmp_path / "log.1")[1:] == [FAILED]
        log.unlink()
        fail(client)
        assert messages(log) == [FAILED]
        os.truncate(log, 0)  # as copytruncate of logrotate does
        fail(client)
        assert messages(log) == [FAILED]


def test_a_relative_path_means_where_it_was_started(tmp_path, monkeypatch):
    (tmp_path / "server.py").write_text(
        f"import os; os.chdir('/')\n{CALC.read_text()}", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path, "log", program=tmp_path / "server.py") as (_, client):
        (tmp_path / "log").unlink()
        fail(client)
    assert messages(tmp_path / "log") == [FAILED]


# What can go wrong


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("no/such/folder", "No such file or directory"),
        (".", "Is a directory"),
        pytest.param("/dev/full", "No space left on device", marks=full),
    ],
)
def test_a_file_that_cannot_be_written(tmp_path, file, why):
    path, url = tmp_path / file, f"unix://{tmp_path}/socket"
    result = run(*LISTEN, "-u", url, "--log-file", path, CALC)
    assert result.returncode == 1
    assert result.stderr == f"rpcasync: cannot write the log to {path}: {why}\n"
    assert not os.path.exists(f"{tmp_path}/socket")


@full
def test_a_disk_that_fills_later(tmp_path):
    log, link = tmp_path / "real", tmp_path / "log"
    link.symlink_to(log)
    with serving(tmp_path, link) as (server, client):
        fail(client)
        link.unlink()
        link.symlink_to(FULL)
        for _ in range(3):
            fail(client)
        line = server.wait_for_log("cannot write the log to ")
        why = "No space left on device; lines are lost"
        assert line == f"rpcasync: cannot write the log to {link}: {why}"
        link.unlink()
        link.symlink_to(log)
        fail(client)
        assert messages(log)[1:] == [FAILED] * 2
        link.unlink()
        link.symlink_to(FULL)
        fail(client)
        server.wait_for_lines(3)
        assert server.log[1:] == [line, line]  # one for each time that it was full


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder).returncode:
        pytest.skip("only some may mount a disk")
    yield folder
    assert run("umount", folder).returncode == 0


def fill(path):
    """Write to a file until the disk is full."""
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(256))


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount command")
def test_a_real_disk_that_is_full_and_is_cleared(tmp_path, disk):
    log = disk / "log"
    log.write_bytes(b"\n" * 3000)  # a disk is full by pages
    with serving(tmp_path, log) as (server, client):
        fail(client)
        fill(disk / "rest")
        while not any("cannot write" in line for line in server.log):
            fail(client)
        why = "No space left on device; lines are lost"
        assert server.log[1:] == [f"rpcasync: cannot write the log to {log}: {why}"]
        (disk / "rest").unlink()
        fail(client)
        *_, last = messages(log)
        assert last == FAILED  # on a line of its own, wherever the one before was cut
        client.whoami().result(LIMIT)


def test_a_folder_that_goes(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    with serving(tmp_path, folder / "log") as (server, client):
        (folder / "log").unlink()
        folder.rmdir()
        fail(client)
        server.wait_for_log(f"cannot write the log to {folder}/log: No such file or directory")
        folder.mkdir()
        fail(client)
        assert messages(folder / "log") == [FAILED]


def test_a_line_that_is_cut_has_an_end(tmp_path):
    """The file may have so many bytes, and no more: the last line does not fit."""
    log = tmp_path / "log"
    prefix = ["prlimit", "--fsize=1000", "--"]
    if run("prlimit", "--version").returncode:
        pytest.skip("no prlimit command")
    with serving(tmp_path, log, prefix=prefix) as (server, client):
        while not any("cannot write" in line for line in server.log):
            fail(client)
        assert log.stat().st_size == 1000
        os.truncate(log, 500)
        fail(client)
        assert log.read_bytes()[500:].startswith(b"\n20")


def test_logging_can_be_silent(tmp_path):
    (tmp_path / "server.py").write_text(
        f"import logging; logging.raiseExceptions = False\n{CALC.read_text()}", encoding="utf-8"
    )
    log = tmp_path / "logs" / "log"
    log.parent.mkdir()
    with serving(tmp_path, log, program=tmp_path / "server.py") as (server, client):
        log.unlink()
        log.parent.rmdir()
        fail(client)
        client.whoami().result(LIMIT)
        assert server.log == [f"rpcasync: listening on unix://{tmp_path}/socket"]
