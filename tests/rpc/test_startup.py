import contextlib
import json
import os
import socket
import subprocess
import sys

import pytest
from support.processes import open_descriptors
from support.programs import LIMIT, ROOT
from support.pump import PATIENCE

from eventmux import EventMux, URLError
from rpcasync import Client, Disconnected, Server, activation, init_clients

LISTEN = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
OLD = "tcp://127.0.0.1:1"  # an old server, which nobody connects to
OURS = ("RPCASYNC_FDS", "RPCASYNC_OPTIONS")


class Recorder:
    """Stands for a server: notes what it is given."""

    def __init__(self, error=None):
        self.got = []
        self.error = error

    def __getattr__(self, name):
        def note(*args, **named):
            if self.error is not None:
                raise self.error
            self.got.append((name, *args, named) if named else (name, *args))

        return note


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for variable in (*LISTEN, *OURS):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "argv", ["/path/to/program", "-u", "a", "file", "-u", "b", "--flag"])


@pytest.fixture
def handed_over():
    """A listener and one end of a connection, as numbers."""
    ours, theirs = socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0))
    for sock in (theirs, listener):
        sock.set_inheritable(True)
    numbers = [theirs.detach(), listener.detach()]
    yield numbers
    ours.close()
    for number in numbers:
        os.close(number)


def release(rpc):
    """Return the names of what a server was given, and leave the descriptors to the fixture."""
    return [name for name, sock in rpc.got if sock.detach() >= 0]


# RPCASYNC_FDS


def test_sockets_in_the_environment(monkeypatch, handed_over):
    monkeypatch.setenv("RPCASYNC_FDS", ",".join(map(str, handed_over)))
    rpc = Recorder()
    assert init_clients(rpc, ["-u", "x"]) == ["-u", "x"]
    assert "RPCASYNC_FDS" not in os.environ
    for (_, sock), number in zip(rpc.got, handed_over, strict=True):
        assert sock.fileno() == number
        assert not sock.get_inheritable()
    assert release(rpc) == ["add_client", "add_listener"]


@pytest.mark.parametrize(
    "value", ["99999", "x", "3,", ",", "-1", "1.5", "\u0663", "7,07", "1" * 20]
)
def test_numbers_that_are_no_sockets(monkeypatch, value):
    monkeypatch.setenv("RPCASYNC_FDS", value)
    rpc = Recorder()
    with pytest.raises(SystemExit) as caught:
        init_clients(rpc)
    assert caught.value.code.startswith(f"program: RPCASYNC_FDS is {value!r}: ")
    assert rpc.got == []


@pytest.mark.parametrize("kind", ["pipe", "datagrams", "closed"])
def test_nothing_is_taken_if_one_is_no_stream(monkeypatch, kind):
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    number = {"pipe": reader, "datagrams": datagrams.detach(), "closed": 99999}[kind]
    monkeypatch.setenv("RPCASYNC_FDS", f"{theirs.detach()},{number}")
    rpc = Recorder()
    with pytest.raises(SystemExit, match=f"descriptor {number} is of no use: "):
        init_clients(rpc)
    assert rpc.got == []
    assert ours.recv(1) == b""  # it was closed, not forgotten
    for sock in (ours, datagrams):
        sock.close()
    for pipe in (reader, writer):
        os.close(pipe)


# RPCASYNC_OPTIONS


def test_options(monkeypatch, handed_over):
    options = {"outstanding": 3, "max_packet": 1000, "codecs": ["json", "storable"]}
    monkeypatch.setenv("RPCASYNC_OPTIONS", json.dumps(options))
    monkeypatch.setenv("RPCASYNC_FDS", str(handed_over[1]))
    rpc = Recorder()
    init_clients(rpc)
    assert "RPCASYNC_OPTIONS" not in os.environ
    assert rpc.got[:2] == [
        ("set_limits", {"outstanding": 3, "max_packet": 1000}),
        ("set_codecs", "json", "storable"),
    ]
    rpc.got = rpc.got[2:]  # they come first, so that they are good for all clients
    assert release(rpc) == ["add_listener"]


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({}, []),
        ({"outstanding": None}, [("set_limits", {"outstanding": None})]),
        ({"codecs": ["json"]}, [("set_codecs", "json")]),
    ],
)
def test_some_options(monkeypatch, options, calls):
    monkeypatch.setenv("RPCASYNC_OPTIONS", json.dumps(options))
    rpc = Recorder()
    init_clients(rpc)
    assert rpc.got == [*calls, ("listen", "a"), ("listen", "b")]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("{", "Expecting"),
        ("[]", "expected a JSON object"),
        ('{"ouststanding": 1}', "there is no option 'ouststanding'"),
        ('{"codecs": "json"}', "codecs must be a list of names"),
        ('{"codecs": [1]}', "codecs must be a list of names"),
    ],
)
def test_options_that_are_none(monkeypatch, value, problem):
    monkeypatch.setenv("RPCASYNC_OPTIONS", value)
    with pytest.raises(SystemExit) as caught:
        init_clients(Recorder())
    assert caught.value.code.startswith("program: RPCASYNC_OPTIONS is ")
    assert problem in caught.value.code


@pytest.mark.parametrize("error", [ValueError("must be at least 1"), TypeError("must be an int")])
def test_options_that_the_server_refuses(monkeypatch, error):
    monkeypatch.setenv("RPCASYNC_OPTIONS", '{"outstanding": 0}')
    with pytest.raises(SystemExit) as caught:
        init_clients(Recorder(error))
    assert caught.value.code == f"program: RPCASYNC_OPTIONS is '{{\"outstanding\": 0}}': {error}"


@pytest.mark.parametrize(
    "options",
    [
        *({"outstanding": wrong} for wrong in (0, -1, "5", 1.5, True)),
        *({"max_packet": wrong} for wrong in (1, 2**32, "5", 1e6, True)),
        *({name: wrong} for name in ("max_clients", "max_buffered") for wrong in (0, "5", 1.5)),
        *({name: wrong} for name in ("idle_timeout", "packet_timeout") for wrong in (0, "5", True)),
        *({"uids": wrong} for wrong in (0, "root", ["root"], [True])),
        *({"tls": wrong} for wrong in (1, {}, {"key": "x"}, {"cert": "x", "cret": "x"})),
        {"tls": {"cert": "/no/such/file", "fds": []}},
        *({"proxy": wrong, "trusted": ["unix:"]} for wrong in ("accept", 1, None)),
        {"proxy": "require"},
        {"agent": 7},
        *({"codecs": wrong} for wrong in ([], ["yaml"])),
        *({"on_exception": wrong} for wrong in ("ignore", None, 1, ["answer"])),
        *({"fallback": wrong} for wrong in (1, ["tcp://127.0.0.1:1"])),
        *({"shadow": wrong} for wrong in (1, {}, {"old": 1}, {"old": OLD, "random": 1})),
        *({"shadow": {"old": OLD, "answer": wrong}} for wrong in ("both", 1)),
        *({"shadow": {"old": OLD, "sample": wrong}} for wrong in (2, "1", True)),
        *({"shadow": {"old": OLD, "leave_out": wrong}} for wrong in ("add", [1])),
    ],
    ids=str,
)
def test_options_that_no_server_takes(monkeypatch, options):
    monkeypatch.setenv("RPCASYNC_OPTIONS", json.dumps(options))
    with EventMux() as mux, pytest.raises(SystemExit, match="program: RPCASYNC_OPTIONS is "):
        init_clients(Server(mux), ["-u", "tcp://127.0.0.1:0"])


@pytest.mark.parametrize("fds", [3, "3", [True]])
def test_descriptors_for_tls_that_are_none(monkeypatch, fds):
    monkeypatch.setenv("RPCASYNC_OPTIONS", json.dumps({"tls": {"cert": "x", "fds": fds}}))
    with EventMux() as mux, pytest.raises(SystemExit, match="fds of tls must be a list of numbers"):
        init_clients(Server(mux), ["-u", "tcp://127.0.0.1:0"])


def test_what_becomes_of_a_client_whose_procedure_fails(monkeypatch):
    monkeypatch.setenv("RPCASYNC_OPTIONS", '{"on_exception": "answer"}')
    with EventMux() as mux:
        rpc = Server(mux, {})
        init_clients(rpc, ["-u", "tcp://127.0.0.1:0"])
        assert rpc.on_exception == "answer"
        rpc.close_listeners()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("tcp://nowhere", "cannot parse 'tcp://nowhere': the port is missing.*"),
        ("perl:///missing.pl", "No such file or directory"),
    ],
)
def test_a_fallback_that_cannot_be(monkeypatch, url, problem):
    monkeypatch.setenv("RPCASYNC_OPTIONS", json.dumps({"fallback": url}))
    with (
        EventMux() as mux,
        pytest.raises(SystemExit, match=f"^program: cannot pass calls on to {url}: {problem}$"),
    ):
        init_clients(Server(mux, {}), ["-u", "tcp://127.0.0.1:0"])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"old": "tcp://nowhere"}, "shadow tcp://nowhere: cannot parse .*"),
        ({"old": "perl:///missing.pl"}, "shadow perl:///missing.pl: No such file or directory"),
        (
            {"old": "tcp://127.0.0.1:1", "report": "/no/such/x"},
            "keep the report of the shadow: /no/such/x: No such file or directory",
        ),
        (
            {"old": "tcp://127.0.0.1:1", "report": "/"},
            "keep the report of the shadow: /: is no shadow report, and left alone: .*",
        ),
    ],
)
def test_a_shadow_that_cannot_be(monkeypatch, options, problem):
    monkeypatch.setenv("RPCASYNC_OPTIONS", json.dumps({"shadow": options}))
    with EventMux() as mux, pytest.raises(SystemExit, match=f"^program: cannot {problem}$"):
        init_clients(Server(mux, {}), ["-u", "tcp://127.0.0.1:0"])


def test_options_are_good_for_the_first_client(monkeypatch):
    with EventMux() as mux:
        ours, theirs = socket.socketpair()
        monkeypatch.setenv("RPCASYNC_OPTIONS", '{"codecs": ["json"]}')
        monkeypatch.setenv("RPCASYNC_FDS", str(theirs.detach()))
        rpc, client = Server(mux, {}), Client(mux, ours)  # which speaks Storable
        init_clients(rpc, [])
        call = client.methods()
        while not call.done:
            event = mux.mux(PATIENCE)
            assert event.type != "timeout"
            client.io(rpc.io(event))
        with pytest.raises(Disconnected):
            call.result()


# LISTEN_FDS. The first socket is 3, which is taken in the process that runs the tests.

FIRST = 200
LISTENER, CLIENT, DATAGRAMS, FILE = "listener", "client", "datagrams", "file"


def opened(kind):
    """Return a descriptor that the caller closes."""
    if kind == LISTENER:
        return socket.create_server(("127.0.0.1", 0)).detach()
    if kind == CLIENT:
        ours, theirs = socket.socketpair()
        ours.close()
        return theirs.detach()
    if kind == DATAGRAMS:
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()
    return os.open(os.devnull, os.O_RDONLY)


@pytest.fixture
def systemd(monkeypatch):
    """Hand over descriptors of these kinds as systemd does, from FIRST on."""
    numbers = []

    def hand_over(*kinds, **variables):
        for kind in kinds:
            number = opened(kind)
            numbers.append(os.dup2(number, FIRST + len(numbers)))
            os.close(number)
        defaults = {"LISTEN_FDS": str(len(kinds)), "LISTEN_PID": str(os.getpid())}
        for name, value in {**defaults, **variables}.items():
            monkeypatch.setenv(name, value)

    monkeypatch.setattr(activation, "_FIRST_FD", FIRST)
    yield hand_over
    for number in numbers:
        with contextlib.suppress(OSError):  # what is refused is closed
            os.close(number)


def given(name=None):
    """Return what a server is given: which of its methods, and the how manieth descriptor."""
    rpc = Recorder()
    assert init_clients(rpc, ["-u", "x"], name=name) == ["-u", "x"]
    assert not any(sock.get_inheritable() for _, sock, *_ in rpc.got)
    return [(method, sock.detach() - FIRST) for method, sock, *_ in rpc.got]


def test_sockets_of_systemd(systemd):
    systemd(LISTENER, CLIENT, LISTEN_PIDFDID="1")
    assert given() == [("add_listener", 0), ("add_client", 1)]
    assert not set(LISTEN) & set(os.environ)


def test_systemd_keeps_its_listeners(systemd, monkeypatch, handed_over):
    """Who waits there when we end is for the next process."""
    systemd(LISTENER, CLIENT)
    rpc = Recorder()
    init_clients(rpc, [])
    assert rpc.got[0][2] == {"shared": True}
    monkeypatch.setenv("RPCASYNC_FDS", ",".join(map(str, handed_over)))
    ours = Recorder()
    init_clients(ours, [])
    assert [len(given) for given in ours.got] == [2, 2]
    for _, sock, *_ in [*rpc.got, *ours.got]:
        sock.detach()


def test_sockets_of_our_own_come_first(systemd, monkeypatch, handed_over):
    systemd(LISTENER)
    monkeypatch.setenv("RPCASYNC_FDS", str(handed_over[0]))
    assert given() == [("add_client", handed_over[0] - FIRST)]
    assert given() == [("add_listener", 0)]


def test_the_sockets_of_a_name(systemd):
    systemd(LISTENER, CLIENT, LISTENER, LISTEN_FDNAMES="rpc:admin:rpc")
    assert given("rpc") == [("add_listener", 0), ("add_listener", 2)]
    assert set(LISTEN) - set(os.environ) == {"LISTEN_PIDFDID"}  # the others are for the next call
    assert given("admin") == [("add_client", 1)]
    assert not set(LISTEN) & set(os.environ)


def test_all_that_are_left(systemd):
    systemd(LISTENER, CLIENT, LISTENER, LISTEN_FDNAMES="rpc:admin:rpc")
    assert given("admin") == [("add_client", 1)]
    assert given() == [("add_listener", 0), ("add_listener", 2)]


def test_what_has_no_name_is_unknown(systemd):
    systemd(LISTENER)
    assert given("unknown") == [("add_listener", 0)]


@pytest.mark.parametrize("names", [{}, {"LISTEN_FDNAMES": ""}])
def test_no_sockets_at_all(systemd, names):
    systemd(**names)
    rpc = Recorder()
    assert init_clients(rpc, ["-u", "x"]) == []
    assert rpc.got == [("listen", "x")]


@pytest.mark.parametrize("pid", ["1", "0", ""])
def test_sockets_for_another_process(systemd, pid):
    systemd(LISTENER, LISTEN_PID=pid)
    rpc = Recorder()
    init_clients(rpc, ["-u", "x"])
    assert rpc.got == [("listen", "x")]
    assert os.environ["LISTEN_FDS"] == "1"  # they are not ours to take


@pytest.mark.parametrize(
    ("kinds", "variables", "message"),
    [
        ([LISTENER], {"LISTEN_FDS": "abc"}, "LISTEN_FDS is 'abc': expected a number"),
        ([LISTENER], {"LISTEN_FDS": "9" * 8}, "LISTEN_FDS is '99999999': expected a number"),
        ([LISTENER], {"LISTEN_FDS": "-1"}, "LISTEN_FDS is '-1': expected a number"),
        ([LISTENER], {"LISTEN_FDS": "2"}, "LISTEN_FDS is '2': descriptor 201 is of no use: "),
        ([LISTENER], {"LISTEN_PID": "abc"}, "LISTEN_PID is 'abc': expected the number of a"),
        ([DATAGRAMS], {}, "LISTEN_FDS is '1': descriptor 200 is of no use: cannot watch <socket"),
        ([FILE], {}, "LISTEN_FDS is '1': descriptor 200 is of no use: "),
        ([LISTENER], {"LISTEN_FDNAMES": "a:b"}, "LISTEN_FDNAMES is 'a:b': expected 1 names"),
        ([LISTENER], {"LISTEN_FDNAMES": "b"}, "LISTEN_FDNAMES is 'b': no socket is left with the"),
    ],
)
def test_what_systemd_would_not_say(systemd, kinds, variables, message):
    systemd(*kinds, **variables)
    rpc = Recorder()
    with pytest.raises(SystemExit) as caught:
        init_clients(rpc, [], name="a" if "LISTEN_FDNAMES" in variables else None)
    assert caught.value.code.startswith(f"program: {message}")
    assert rpc.got == []


# The number of a process is known only in it; it stays the same when another program runs in it.
ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""
ACTIVATED = """
from eventmux import EventMux
from rpcasync import Server, init_clients
rpc = Server(EventMux())
init_clients(rpc)
print(*(sock.fileno() for sock in rpc.clients))
"""


def test_the_first_socket_of_systemd():
    client, ours = socket.socketpair()
    with client, ours:
        activate = [sys.executable, "-S", "-E", "-c", ACTIVATE, str(client.fileno())]
        result = subprocess.run(
            [*activate, sys.executable, "-c", ACTIVATED],
            pass_fds=[client.fileno()],
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "LISTEN_FDS": "1"},
        )
    assert (result.stdout, result.stderr) == ("3\n", "")


# -u URL


def test_urls_in_the_arguments():
    rpc = Recorder()
    assert init_clients(rpc) == ["file", "--flag"]
    assert rpc.got == [("listen", "a"), ("listen", "b")]
    assert sys.argv[1:3] == ["-u", "a"]


def test_a_name_is_only_for_systemd(monkeypatch, handed_over):
    rpc = Recorder()
    assert init_clients(rpc, ["-u", "x"], name="rpc") == []
    assert rpc.got == [("listen", "x")]
    monkeypatch.setenv("RPCASYNC_FDS", str(handed_over[0]))
    rpc = Recorder()
    init_clients(rpc, [], name="rpc")
    assert release(rpc) == ["add_client"]


@pytest.mark.parametrize("error", [URLError("x"), OSError("x")])
def test_urls_that_nobody_can_listen_at(error, capsys):
    before = open_descriptors()
    with pytest.raises(SystemExit) as caught:
        init_clients(Recorder(error), ["-u", "udp://x:1"])
    assert caught.value.code == 2
    assert "cannot listen on udp://x:1: x\n" in capsys.readouterr().err
    assert open_descriptors() == before


def test_no_clients(capsys):
    with pytest.raises(SystemExit) as caught:
        init_clients(Recorder(), [])
    assert caught.value.code == 2
    assert "no clients: say where to listen with -u tcp://HOST:PORT" in capsys.readouterr().err
