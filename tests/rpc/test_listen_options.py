"""What may be given to `Server.listen()` and `add_listener()`; what is told of open networks."""

from __future__ import annotations

import os
import socket

import pytest
from support import certificates
from support.records import warnings_of

from eventmux import Peer
from rpcasync import Server

TCP = "tcp://127.0.0.1:0"
TRUSTED = {"proxy": "require", "trusted": ["127.0.0.0/8"]}
HEADER = b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 7007\r\n"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tsl": None}, r"listen\(\) has no option 'tsl'; did you mean 'tls'\?"),
        ({"reuseport": True}, "no option 'reuseport'; did you mean 'reuse_port'"),
        ({"buffered": None}, r"listen\(\) has no option 'buffered'"),
        ({"idle_timeout": 5}, r"'idle_timeout': Server.set_limits\(idle_timeout=\) knows which"),
        ({"max_outbuffer": 5}, r"'max_outbuffer': it is an option of Server\(\)"),
        ({"tls": 5}, "tls is 5, must be an ssl.SSLContext"),
    ],
)
def test_options_that_there_are_not(bench, options, text):
    with pytest.raises(TypeError, match=text):
        bench.rpc.listen(TCP, **options)
    assert not bench.rpc.has_clients()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"proxy": "maybe"}, "proxy is 'maybe', must be 'require' or None"),
        ({"handshake_timeout": 0}, "handshake_timeout is 0, must be"),
        ({"mode": 0o660}, "mode is 0o660, but tcp://127.0.0.1:0 has no file"),
    ],
)
def test_values_that_are_none(bench, options, text):
    with pytest.raises(ValueError, match=text):
        bench.rpc.listen(TCP, **options)
    assert not bench.rpc.has_clients()


def test_options_of_a_listener_that_was_made_elsewhere(bench):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        with pytest.raises(TypeError, match=r"add_listener\(\) has no option 'backlog'"):
            bench.rpc.add_listener(sock, backlog=5)
        with pytest.raises(TypeError, match=r"'idel_timeout'"):
            bench.rpc.add_listener(sock, idel_timeout=5)
        bench.rpc.add_listener(sock, nodelay=False, **TRUSTED)
        peer = bench.knock(sock)
        peer.sock.sendall(HEADER)
        assert bench.ask(peer, 0, "note", 1) == [[0, 1]]
        bench.rpc.close_listeners()
        bench.turn()


def test_a_mux_without_listen_is_given_them(mux, procedures):
    class Small:
        send, kill = mux.send, mux.kill

        def add(self, fh, **options):
            given.append(options)
            mux.add(fh, **options)

    given = []
    rpc = Server(Small(), procedures)
    rpc.listen(TCP, keepalive=False)
    assert given[0]["listen"] is True
    assert given[0]["keepalive"] is False
    rpc.close_listeners()


# Behind a proxy


def test_who_is_behind_a_proxy(bench, procedures):
    def rpc_who(caller):
        seen.append(caller.peer)
        bench.rpc.return_(caller)

    def authorize(peer):
        asked.append(peer)
        return True

    seen, asked = [], []
    procedures.rpc_who = rpc_who
    bench.rpc.authorize = authorize
    peer = bench.knock(bench.rpc.listen(TCP, **TRUSTED))
    peer.sock.sendall(HEADER)
    assert bench.ask(peer, 0, "who") == [[0]]
    (found,) = seen
    assert asked == seen
    assert isinstance(found, Peer)
    assert found.address == ("203.0.113.7", 4711)
    assert found.proxy.address == peer.sock.getsockname()


@pytest.mark.parametrize("other", [0, 1])
def test_users_are_those_of_the_proxy(bench, tmp_path, other):
    url = f"unix://{tmp_path}/socket"
    listener = bench.rpc.listen(url, uids=[os.getuid() + other], proxy="require", trusted=["unix:"])
    peer = bench.knock(listener)
    peer.sock.sendall(HEADER)
    assert bench.ask(peer, 0, "note", 1) == ([] if other else [[0, 1]])
    assert peer.ended == bool(other)


def test_a_header_from_elsewhere_is_refused(bench, caplog):
    listener = bench.rpc.listen(TCP, proxy="require", trusted=["192.0.2.0/24"])
    peer = bench.knock(listener)
    peer.sock.sendall(HEADER + peer.packet(0, "note", 1))
    bench.turn()
    assert peer.read() == []
    assert peer.ended
    (line,) = warnings_of(caplog)
    assert line.startswith("client refused: (")
    assert "is not trusted to say who" in line
    assert not bench.rpc.clients


# Open networks


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", ""])
def test_a_plain_listener_for_everybody_is_told(bench, caplog, host):
    listener = bench.rpc.listen(f"tcp://{host}:0")
    shown, port = listener.getsockname()[:2]
    shown = f"[{shown}]" if ":" in shown else shown
    (line,) = warnings_of(caplog)
    assert line.startswith(f"listening on tcp://{shown}:{port} without TLS: ")
    assert "listen at tls://, unix:// or 127.0.0.1" in line


def test_one_that_was_made_elsewhere_is_told(bench, caplog):
    with socket.create_server(("0.0.0.0", 0)) as sock:
        bench.rpc.add_listener(sock)
        assert "without TLS" in warnings_of(caplog)[0]
        bench.rpc.close_listeners()
        bench.turn()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("tcp://127.0.0.1:0", {}),
        ("tcp://127.1.2.3:0", {}),
        ("tcp://localhost:0", {}),
        ("tcp://[::1]:0", {}),
        ("unix://{}/socket", {}),
        ("tls://0.0.0.0:0", {"tls": "server"}),
        ("tcp://0.0.0.0:0", {"tls": "server"}),
        ("tcp://0.0.0.0:0", TRUSTED),
    ],
)
def test_others_are_not(bench, caplog, tmp_path, url, options):
    options = dict(options)
    if "tls" in options:
        options["tls"] = certificates.server_context()
    bench.rpc.listen(url.format(tmp_path), **options)
    assert warnings_of(caplog) == []
