"""What may be asked of TLS, and that what cannot be is told at the call."""

import contextlib
import os
import socket
import subprocess
import sys

import pytest
from support.certificates import client_context, server_context
from support.tls_ends import TLSEnds, settled

from eventmux import EventMux


def test_a_listener_needs_a_context(mux):
    with pytest.raises(ValueError, match="without tls=, a context with a certificate"):
        mux.listen("tls://127.0.0.1:0")
    assert mux.handles() == []


@pytest.mark.parametrize(
    ("url", "options", "text"),
    [
        ("tls://127.0.0.1:0", {"tls": "client"}, "context for clients .*Purpose.CLIENT_AUTH"),
        ("tls://127.0.0.1:0", {"tls": "server", "manual_accept": True}, "manual_accept"),
        ("udp://127.0.0.1:0", {"tls": "server"}, "'dgram'"),
        ("unix_seqpacket://x", {"tls": "server"}, "'seqpacket'"),
    ],
)
def test_a_listener(mux, tmp_path, monkeypatch, url, options, text):
    monkeypatch.chdir(tmp_path)
    context = server_context() if options["tls"] == "server" else client_context()
    with pytest.raises(ValueError, match=text):
        mux.listen(url, **{**options, "tls": context})
    assert mux.handles() == []


@pytest.mark.parametrize(
    ("url", "options", "text"),
    [
        ("tls://127.0.0.1:9", {"tls": "server"}, "context for servers .*Purpose.SERVER_AUTH"),
        ("udp://127.0.0.1:9", {"tls": "client"}, "'dgram'"),
        ("tcp://127.0.0.1:9", {"server_hostname": "x"}, "there is no tls"),
        ("unix://x", {"tls": "client"}, "server_hostname is missing"),
        ("tls://127.0.0.1:9", {"tls": "client", "manual_read": True}, "manual_read"),
        ("tls://127.0.0.1:9", {"tls": "client", "handshake_timeout": 0}, "handshake_timeout is 0"),
    ],
)
def test_connecting(mux, url, options, text):
    contexts = {"server": server_context, "client": client_context}
    given = {**options, "tls": contexts[options["tls"]]()} if "tls" in options else options
    with pytest.raises(ValueError, match=text):
        mux.connect(url, **given)
    assert mux.handles() == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tls": "client"}, "server_hostname is missing"),
        ({"tls": "client", "server_side": True}, "context for clients"),
        ({"tls": "server", "server_side": False}, "context for servers"),
        ({"tls": "server", "server_hostname": "x"}, "we are the server"),
        ({"tls": "server", "manual_write": True}, "manual_write"),
        ({"server_side": True}, "there is no tls"),
        ({"tls": "client", "server_hostname": ""}, "server_hostname is missing"),
    ],
)
def test_adding(mux, pair, options, text):
    contexts = {"server": server_context, "client": client_context}
    given = {**options, "tls": contexts[options["tls"]]()} if "tls" in options else options
    fh, _ = pair()
    with pytest.raises(ValueError, match=text):
        mux.add(fh, **given)
    assert mux.handles() == []
    assert fh.getblocking()


def test_a_pipe(mux):
    fh, other = os.pipe()
    try:
        with pytest.raises(ValueError, match="no socket"):
            mux.add(fh, tls=server_context())
    finally:
        os.close(fh)
        os.close(other)


def test_what_is_no_context(mux, pair):
    with pytest.raises(TypeError, match="must be an ssl.SSLContext"):
        mux.add(pair()[0], tls="context")


def test_a_socket_that_has_tls_already(mux, pair):
    context, raw = client_context(), pair()[0]
    sock = context.wrap_socket(raw, server_hostname="localhost", do_handshake_on_connect=False)
    with sock, pytest.raises(TypeError, match=r"add\(sock, tls=context\)"):
        mux.add(sock)


def test_another_context(mux, pair):
    ends = TLSEnds(mux)
    with pytest.raises(ValueError, match="for clients"):
        mux.set_tls(ends.listener, client_context())
    with pytest.raises(TypeError, match="must be an ssl.SSLContext"):
        mux.set_tls(ends.listener, None)
    fh, _ = ends.up()
    with pytest.raises(TypeError, match="is no listener"):
        mux.set_tls(fh, server_context())
    plain = mux.listen("tcp://127.0.0.1:0")
    with pytest.raises(ValueError, match="has no TLS"):
        mux.set_tls(plain, server_context())
    with pytest.raises(KeyError):
        mux.set_tls(pair()[0], server_context())


def test_programs_without_tls_do_not_import_it():
    program = (
        "import sys, eventmux, rpcasync; mux = eventmux.EventMux(); fh = mux.listen('tcp://:0');"
        "mux.connect(f'tcp://127.0.0.1:{fh.getsockname()[1]}'); [mux.mux(0.1) for _ in range(3)];"
        "mux.__exit__(); sys.exit('ssl' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# Connections that the program was not told of


def test_with_the_listener_those_go_that_shake_hands(mux):
    ends = TLSEnds(mux)
    with socket.create_connection(ends.listener.getsockname()) as sock:
        sock.send(b"\x16\x03\x01")
        assert settled(mux) == []
        mux.close(ends.listener)
        assert [event.type for event in settled(mux)] == ["closing", "closed"]
        sock.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(100) == b""
    assert mux.mux() is None


def test_the_end_of_the_mux_is_theirs():
    with EventMux() as mux:
        ends = TLSEnds(mux)
        silent, refused = (socket.create_connection(ends.listener.getsockname()) for _ in range(2))
        refused.send(b"\x16\x03\x01\x00\x05hello")
        assert [event.type for event in settled(mux)] == ["error"]
    for sock in (silent, refused):
        sock.settimeout(5)
        while sock.recv(100):
            pass
        sock.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_drops_its_copies():
    with EventMux() as mux:
        ends = TLSEnds(mux)
        fh, ours = ends.up()
        sock = socket.create_connection(ends.listener.getsockname())
        sock.send(b"\x16")
        assert settled(mux) == []
        pid = os.fork()
        if not pid:
            mux.after_fork()
            os._exit(len(mux.handles()))
        assert os.waitpid(pid, 0)[1] == 0
        mux.send(fh, b"still")
        assert [event.data for event in settled(mux) if event.fh is ours] == [b"still"]
        sock.close()
        assert [event.type for event in settled(mux)] == ["error"]
