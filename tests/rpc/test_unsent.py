"""What a client tells that ends with calls that were never sent."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref

import pytest
from support.peers import turn
from support.programs import ROOT
from support.records import warnings_of

from eventmux import EventMux
from rpcasync import Client

LEAVE = (
    "they leave when the connection is up and the loop turns: rpc.io(mux.mux()), or ask for"
    " call.result()"
)


@pytest.fixture
def url(mux):
    """Return the URL of a server that accepts, and does not answer."""
    return f"tcp://127.0.0.1:{mux.listen('tcp://127.0.0.1:0').getsockname()[1]}"


@pytest.fixture
def other():
    """Have a mux for clients."""
    with EventMux() as mux:
        yield mux


def test_a_client_that_is_dropped_tells(other, url, caplog):
    client = Client(other, url)
    client.add(print, n1=2)
    client.call("sub")
    name = client._name
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None
    assert warnings_of(caplog) == [f"{name}: calls that were never sent: add, sub; {LEAVE}"]


def test_a_client_and_its_mux_are_no_more_kept_than_before(url, caplog):
    mux = EventMux()
    client = Client(mux, url, timeout=3)
    client.add(print)
    gone = weakref.ref(client), weakref.ref(mux)
    sock = client.fh
    del client, mux
    gc.collect()
    assert [each() for each in gone] == [None, None]
    assert warnings_of(caplog) == [f"{url}: calls that were never sent: add; {LEAVE}"]
    sock.close()


@pytest.mark.parametrize("count", [3, 4, 1000])
def test_not_all_names_are_told(other, url, caplog, count):
    client = Client(other, url)
    for number in range(count):
        client.call(f"call{number}" if number else "x" * 1000)
    client._unsent.tell()
    client._unsent.tell()
    (line,) = warnings_of(caplog)
    rest = f" and {count - 3} more" if count > 3 else ""
    assert f": {'x' * 57}..., call1, call2{rest}; " in line


def test_what_was_sent_is_no_news(mux, pair, caplog):
    client, peer = pair
    client.add()
    turn(mux, client)
    assert peer.read() == [[0, "add"]]
    client._unsent.tell()
    assert warnings_of(caplog) == []


def test_the_last_call_of_a_loop_that_has_ended(mux, pair, caplog):
    client, _ = pair
    client.first()
    turn(mux, client)
    client.goodbye()
    client._unsent.tell()
    (line,) = warnings_of(caplog)
    assert f": calls that were never sent: goodbye, and perhaps some before it; {LEAVE}" in line


def test_what_was_cancelled_is_no_news(pair, caplog):
    client, _ = pair
    client.x().cancel()
    client._unsent.tell()
    assert warnings_of(caplog) == []


def test_a_connection_that_failed_has_told(other, nobody, caplog):
    client = Client(other, nobody)
    errors = []
    client.x(lambda error=None: errors.append(error))
    while client.has_requests():
        client.io(other.mux())
    client._unsent.tell()
    assert len(errors) == 1
    assert warnings_of(caplog) == []


def test_disconnecting_sends(mux, pair, caplog):
    client, peer = pair
    client.note()
    client.disconnect()
    client._unsent.tell()
    assert peer.read() == [[0, "note"]]
    assert warnings_of(caplog) == []


def test_what_disconnecting_leaves_to_the_loop(mux, connect, caplog):
    client, _ = connect()
    client.note("x" * 2_000_000)
    client.disconnect()
    client._unsent.tell()
    (line,) = warnings_of(caplog)
    assert line.endswith(
        ": calls that were never sent: note; disconnect() leaves them to the loop: turn it until"
        " mux.mux() returns None"
    )


@pytest.mark.parametrize("turns", [0, 1])
def test_what_disconnecting_leaves_to_a_loop_that_ends(connect, mux, caplog, turns):
    client, peer = connect()
    client.note("x" * 2_000_000)
    client.disconnect()
    if turns:
        peer.sock.close()
        client.io(mux.mux())
    mux.__exit__()
    client._unsent.tell()
    assert len(warnings_of(caplog)) == 1 - turns


def test_events_that_the_client_does_not_get(mux, pair, caplog):
    client, peer = pair
    client.add()
    turn(mux)
    assert peer.read() == [[0, "add"]]
    client._unsent.tell()
    (line,) = warnings_of(caplog)
    assert line.endswith(
        ": rpc.io() was given no event, so nobody hears what comes of add; turn the loop with"
        " rpc.io(mux.mux()), or ask for call.result()"
    )


def test_a_forked_child_tells_nothing_of_its_parents_clients(mux, pair, caplog):
    client, _ = pair
    client.add()
    client._unsent._pid = os.getppid()
    client._unsent.tell()
    assert warnings_of(caplog) == []
    client._unsent._pid = os.getpid()
    client._unsent.tell()
    assert len(warnings_of(caplog)) == 1


def test_a_client_that_could_not_be_made_tells_nothing(other, caplog):
    with pytest.raises(ValueError, match="nonsense"):
        Client(other, "nonsense")
    gc.collect()
    assert warnings_of(caplog) == []


# At the end of a program


BEGIN = """
import os, sys
from eventmux import EventMux
from rpcasync import Client
mux = EventMux()
listener = mux.listen("tcp://127.0.0.1:0")
url = "tcp://127.0.0.1:%d" % listener.getsockname()[1]
rpc = Client(mux, url)
rpc.add(print, n1=2, n2=3)
"""
UNSENT = "calls that were never sent: add; they leave when"
NO_EVENT = "rpc.io() was given no event, so nobody hears what comes of add; turn the loop"


def lines_of(program):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program],
        capture_output=True,
        text=True,
        timeout=40,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    return done.stderr.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("", UNSENT),
        ("sys.exit(1)", UNSENT),
        ("raise KeyboardInterrupt", UNSENT),
        ("rpc.__self = rpc\ndel rpc", UNSENT),
        ("with mux: pass", NO_EVENT),
        ("while mux.buflen(rpc.fh): mux.mux()", NO_EVENT),
        ("if os.fork(): os.wait(); rpc.fh.detach(); os._exit(0)", None),
        ("rpc.disconnect()", None),
        ("while mux.buflen(rpc.fh): rpc.io(mux.mux())", None),
        ("raise ValueError", None),
    ],
)
def test_at_the_end_of_a_program(program, expected):
    told = [line for line in lines_of(program) if "rpcasync: " in line]
    if expected is None:
        assert told == []
    else:
        (line,) = told
        assert line.startswith("WARNING rpcasync: tcp://127.0.0.1:")
        assert f": {expected}" in line
