"""What `rpcasync listen` says when it cannot listen, or when the program fails."""

import os
import re
import socket
from pathlib import Path

import pytest

from eventmux.urls import Endpoint
from rpcasync.cli import main
from rpcasync.cli.holders import holder

proc = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="no /proc/net")


def said(capfd, *words):
    status = main(["listen", *words])
    captured = capfd.readouterr()
    assert captured.out == ""
    return status, captured.err.splitlines()


@proc
def test_a_port_in_use(capfd):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
        problem = "Address already in use by this command itself: choose another port"
        assert said(capfd, "-u", url, __file__) == (
            1,
            [f"rpcasync: cannot listen on {url}: {problem}"],
        )


@proc
def test_a_port_that_another_process_has(capfd, monkeypatch):
    monkeypatch.setattr("rpcasync.cli.holders.os.getpid", lambda: 0)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
        _, (line,) = said(capfd, "-u", url, __file__)
    head = re.escape(f"rpcasync: cannot listen on {url}: Address already in use by process ")
    assert re.fullmatch(head + r"\d+ \(.+\): stop it, or choose another port", line)


@proc
def test_a_path_in_use(capfd, tmp_path):
    path = str(tmp_path / "x.sock")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        _, lines = said(capfd, "-u", f"unix://{path}", __file__)
    assert lines[0].endswith("Address already in use by this command itself: choose another path")


def test_a_path_of_a_file_that_is_no_socket(capfd, tmp_path):
    (tmp_path / "file").write_text("")
    _, (line,) = said(capfd, "-u", f"unix://{tmp_path}/file", __file__)
    problem = (
        "Address already in use by a file that is no socket: remove it, or choose another path"
    )
    assert line == f"rpcasync: cannot listen on unix://{tmp_path}/file: {problem}"


@proc
def test_a_path_that_looks_like_more_of_the_table(tmp_path, monkeypatch):
    """The kernel writes the end of a line in a path as it is."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("x\n0: 2 0 flags 1 1 7 y.sock")
        sock.listen()
        assert holder(Endpoint("unix", path="y.sock")) == ""


@proc
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_another_process(monkeypatch, family):
    with socket.create_server(("", 0), family=family) as sock:
        endpoint = Endpoint("tcp", port=sock.getsockname()[1])
        assert holder(endpoint) == "this command itself"
        monkeypatch.setattr(os, "getpid", lambda: 0)
        found = holder(endpoint)
    assert found.startswith("process ")
    assert len(found) < 120
    assert holder(endpoint) == ""  # nobody does any more


def test_where_nothing_can_be_told(monkeypatch, capfd):
    def refuse(*_):
        raise PermissionError

    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
        monkeypatch.setattr(os, "listdir", refuse)
        _, lines = said(capfd, "-u", url, __file__)
    problem = "Address already in use by another program: stop it, or choose another port"
    assert lines == [f"rpcasync: cannot listen on {url}: {problem}"]


@pytest.mark.parametrize(
    ("source", "first"),
    [
        ("def f():\n    1/0\nf()\n", "Traceback (most recent call last):"),
        ("x = \n", '  File "{path}", line 1'),
    ],
)
def test_the_traceback_of_a_program_is_its_own(capfd, tmp_path, monkeypatch, source, first):
    path = tmp_path / "server.py"
    path.write_text(source)
    monkeypatch.setattr("sys.argv", ["rpcasync"])
    monkeypatch.setattr("sys.path", ["", *os.sys.path])
    for name in ("RPCASYNC_FDS", "RPCASYNC_OPTIONS"):
        monkeypatch.setenv(name, "")
    status, lines = said(capfd, "-u", "tcp://127.0.0.1:0", str(path))
    assert status == 1
    assert lines[0].startswith("rpcasync: listening on tcp://127.0.0.1:")
    assert lines[1] == first.format(path=path)
    assert all("rpcasync" not in line and "runpy" not in line for line in lines[1:])
