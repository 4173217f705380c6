"""A port beside a real Perl server: who is answered what, and what is found."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import sys
from contextlib import contextmanager

import pytest
from support.programs import LIMIT, PERL, PROGRAMS, Program, perl_listening, run
from support.quick import quick_first

from eventmux import EventMux
from rpcasync import Client, RemoteError, Server, Shadow

pytestmark = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")

PORTED = PROGRAMS / "ported_server.py"


@pytest.fixture
def old():
    with perl_listening() as url:
        yield url


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shadow.json"


@contextmanager
def shadowing(old, path, *options, program=PORTED):
    """Run a port beside the old server; give its URL. It ends as by Ctrl-C, at once."""
    options = ("--drain", "0", "--shadow", old, "--shadow-report", path, *options)
    options = ("-u", "tcp://127.0.0.1:0", *options)
    server = Program([sys.executable, "-m", "rpcasync", "listen", *options, program])
    try:
        yield server.wait_for_log("listening on").rpartition(" ")[2], server
        server.process.send_signal(signal.SIGINT)
        server.process.wait(LIMIT)
    finally:
        server.stop()


def report(path):
    """Return what `shadow-report` says, its status and the counts and kinds of each procedure."""
    result = run(sys.executable, "-m", "rpcasync", "shadow-report", path, "--json")
    assert result.stderr == ""
    found = json.loads(result.stdout)["procedures"]
    kinds = {
        name: [(each["place"], each["kind"]) for each in about["differences"]]
        for name, about in found.items()
    }
    return result.returncode, found, kinds


@pytest.fixture
def client():
    """Make clients that wait."""
    with EventMux() as mux:
        yield lambda url: Client(mux, url, timeout=LIMIT)


@pytest.mark.parametrize("answer", quick_first(["new", "old"]))
def test_what_perl_finds_equal_and_what_not(old, path, client, answer):
    with shadowing(old, path, "--answer", answer) as (url, server):
        rpc = client(url)
        assert float(rpc.add_numbers(n1="0.1", n2="0.2").result()["sum"]) == pytest.approx(0.3)
        assert int(rpc.call("sum", 1, "2", 3.0).result()[0]) == 6
        values = [None, "", 0, 1e300, 2**40, "caf\xe9", b"\xff", ["a", {"b": None}], True]
        assert rpc.echo(*values).result()[7] == ["a", {"b": None}]
        with pytest.raises(RemoteError, match="not today"):
            rpc.refuse(why="not today").result()
        numbers = rpc.call("values").result()["list"]
        assert numbers == [1, ["3"] if answer == "new" else [2]]
        server.wait_for_log("procedure values differs from the old one: hash{a}{b}")
        for _ in range(20):  # behind what is to be compared
            rpc.echo(1).result()
    status, found, kinds = report(path)
    assert status == 1
    assert kinds["add_numbers"] == kinds["sum"] == kinds["echo"] == kinds["refuse"] == []
    assert found["echo"]["equal"] > 10  # the last ones may be under way
    assert sorted(kinds["values"]) == [
        ("hash{a}{b}", "missing"),
        ("hash{a}{c}", "extra"),
        ("list[][]", "value"),
        ("object", "class"),
        ("pattern", "class"),
        ("scalar_refs", "undef"),
    ]


def test_a_perl_client_notices_nothing(old, path):
    """Of what it calls, the old server answers some otherwise, some never, and dies of some."""
    with shadowing(old, path, program=PROGRAMS / "calc_server.py") as (url, server):
        result = run("perl", PERL / "rpc_client.pl", url)
        assert result.stderr == ""
        assert result.stdout.count("ok ") == 37
        assert result.stdout.endswith("done\n")
        assert "RuntimeError: on purpose" in server.log
    status, found, _ = report(path)
    assert status == 1
    assert found["add_numbers"]["equal"] > 0


@pytest.mark.slow
def test_it_dies_in_a_call_and_answers_garbage(old, path, client):
    with shadowing(old, path, "--shadow-except", "sum") as (url, server):
        rpc = client(url)
        for name in ("explode", "garbage", "explode"):
            assert rpc.call(name).result() == ("fine",)
            assert rpc.echo("a", 1).result() == ("a", 1)
        rpc.call("sum", 1).result()
        server.wait_for_log("shadow tcp://")
        for number in range(50):
            rpc.echo(number).result()
    _, found, _ = report(path)
    assert found["explode"]["unanswered"] == 2
    assert found["garbage"]["unanswered"] == 1
    assert found["echo"]["equal"] > 0
    assert found["echo"]["different"] == 0
    assert "sum" not in found


def test_one_that_is_started_for_it(monkeypatch):
    monkeypatch.setenv("PERL5LIB", str(PERL / "standin"))

    def rpc_add_numbers(caller, n1: int, n2: int):
        rpc.return_(caller, sum=n1 + n2)

    with EventMux() as mux:
        rpc = Server(mux, {"rpc_add_numbers": rpc_add_numbers})
        shadow = Shadow(mux, rpc, f"perl://{PERL}/child_server.pl")
        ours, theirs = socket.socketpair()
        rpc.add_client(theirs)
        client = Client(mux, ours)
        calls = [client.add_numbers(n1=number, n2="2") for number in range(5)]
        while not all(call.done for call in calls):
            client.io(rpc.io(mux.mux(LIMIT)))
        assert calls[4].result() == ("sum", 6)
        tally = {}
        while tally.get("equal") != 5:
            client.io(rpc.io(mux.mux(LIMIT)))
            tally = shadow.report()["procedures"]["add_numbers"]
            assert tally["unanswered"] == tally["different"] == 0


@pytest.mark.slow
def test_a_sample(old, path, client):
    with shadowing(old, path, "--shadow-sample", "0") as (url, _):
        rpc = client(url)
        for number in range(5):
            rpc.echo(number).result()
    status, found, _ = report(path)
    assert status == 0
    assert (found["echo"]["calls"], found["echo"]["equal"]) == (5, 0)
