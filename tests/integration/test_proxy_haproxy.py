"""Behind HAProxy: what it says of its clients, in each way in which it can be told to say it."""

import os
import re
import socket
import ssl
import sys
import threading
from contextlib import contextmanager

import pytest
from support.certificates import ca_file, client_context, pem_file, server_context
from support.documents import blocks
from support.programs import ROOT, Program, run
from support.proxies import haproxy, needs_haproxy, running
from support.pump import PATIENCE, until

import rpcasync
from eventmux import EventMux, Timeout

pytestmark = needs_haproxy
PAGE = ROOT / "docs" / "howto" / "behind-a-proxy.md"
TRUSTED = ["127.0.0.0/8", "unix:"]


class Bench:
    """A mux with a listener that asks for PROXY headers."""

    def __init__(self, mux, folder):
        self.mux = mux
        self.folder = folder
        self.listener = mux.listen("tcp://127.0.0.1:0", proxy="require", trusted=TRUSTED)
        self.address = "127.0.0.1:{1}".format(*self.listener.getsockname())

    def behind(self, options, **more):
        return haproxy(f"{self.address} {options}", self.folder, **more)

    def arrival(self):
        """Return the event of the next client, and what it says first."""
        connect = until(self.mux, "connect")[-1]
        return connect, until(self.mux, "read", connect.fh)[-1].data


@pytest.fixture
def bench(mux, tmp_path):
    return Bench(mux, tmp_path)


@pytest.fixture
def mux():
    with EventMux() as mux:
        yield mux


def dial(front):
    sock = socket.socket(front.family)
    sock.settimeout(PATIENCE)
    sock.connect(front.getsockname())
    return sock


@contextmanager
def with_tls(front, certificate=None, name="localhost", alpn=()):
    """Connect and shake hands in a thread: behind a proxy that passes TLS on, it is our mux."""
    context = client_context(certificate)
    if alpn:
        context.set_alpn_protocols(alpn)
    with dial(front) as sock, context.wrap_socket(sock, server_hostname=name) as tls:
        yield tls


@pytest.mark.parametrize(("option", "version"), [("send-proxy", 1), ("send-proxy-v2", 2)])
def test_the_address_of_a_client(bench, option, version):
    with bench.behind(option) as front, dial(front) as client:
        client.sendall(b"hello")
        connect, said = bench.arrival()
        assert said == b"hello"
        assert connect.address == client.getsockname()
        header = connect.peer.proxy
        assert header.version == version
        assert header.source == client.getsockname()
        assert header.destination == front.getsockname()
        assert header.address == connect.fh.getpeername()
        bench.mux.send(connect.fh, b"hello yourself")
        assert client.recv(100) == b"hello yourself"


@pytest.mark.parametrize(
    "option", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c"]
)
def test_health_checks_are_the_proxys_own(bench, option):
    with bench.behind(f"{option} check inter 100ms"):
        checks = [until(bench.mux, "connect")[-1] for _ in range(2)]
    for check in checks:
        header = check.peer.proxy
        # Version 1 cannot say so, and gives its own address as that of the client.
        assert header.source == (header.address if option == "send-proxy" else None)
        assert header.is_local is (option != "send-proxy")
        assert check.address[0] == "127.0.0.1"


def test_checksum_and_unique_id(bench):
    options = "send-proxy-v2 proxy-v2-options crc32c,unique-id"
    with (
        bench.behind(options, frontend="unique-id-format %ci:%cp-%fp") as front,
        dial(front) as client,
    ):
        client.sendall(b"x")
        connect, _ = bench.arrival()
        host, port = client.getsockname()
        text = f"{host}:{port}-{front.getsockname()[1]}"
        assert connect.peer.proxy.unique_id == text.encode()
        assert len(connect.peer.proxy.tlvs[3]) == 4  # the checksum, which was right


def tls_at_haproxy(alpn="h2,http/1.1"):
    verify = f"verify optional ca-file {ca_file()} crt-ignore-err all ca-ignore-err all"
    return f"ssl crt {pem_file('server')} {verify} alpn {alpn}"


ALL_OF_TLS = "send-proxy-v2-ssl-cn proxy-v2-options ssl-cipher,cert-sig,cert-key,authority,crc32c"


def test_tls_that_ends_at_the_proxy(bench):
    with (
        bench.behind(ALL_OF_TLS, bind=tls_at_haproxy()) as front,
        with_tls(front, "client", alpn=["http/1.1"]) as client,
    ):
        client.sendall(b"secret")
        connect, said = bench.arrival()
        assert said == b"secret"
        assert connect.address == client.getsockname()
        header = connect.peer.proxy
        assert (header.alpn, header.authority) == (b"http/1.1", "localhost")
        tls = header.ssl
        assert (tls.verified, tls.common_name) == (True, "client.example")
        assert (tls.has_certificate, tls.had_certificate, tls.verify_result) == (True, True, 0)
        assert (tls.version, tls.cipher) == (client.version(), client.cipher()[0])
        assert re.fullmatch("ecdsa-with-SHA256|RSA-SHA256", tls.signature_algorithm)
        assert re.fullmatch("EC256|RSA2048", tls.key_algorithm)
        # What was told is not what our own TLS has found out.
        assert (connect.peer.tls, connect.peer.certificate) == (None, None)


def test_a_client_without_a_certificate_is_not_verified(bench):
    with (
        bench.behind(ALL_OF_TLS, bind=tls_at_haproxy()) as front,
        with_tls(front) as client,
    ):
        client.sendall(b"x")
        tls = bench.arrival()[0].peer.proxy.ssl
        assert (tls.verified, tls.has_certificate, tls.common_name) == (False, False, None)
        assert tls.verify_result == 0  # which alone says nothing


def test_a_client_with_a_strange_certificate_is_not_verified(bench):
    with (
        bench.behind(ALL_OF_TLS, bind=tls_at_haproxy()) as front,
        with_tls(front, "foreign") as client,
    ):
        client.sendall(b"x")
        tls = bench.arrival()[0].peer.proxy.ssl
        assert (tls.verified, tls.has_certificate) == (False, True)
        assert tls.common_name == "foreign.example"  # so it says
        assert tls.verify_result != 0


def test_a_client_without_tls(bench):
    with bench.behind("send-proxy-v2-ssl-cn") as front, dial(front) as client:
        client.sendall(b"x")
        assert bench.arrival()[0].peer.proxy.ssl is None


def test_tls_that_is_passed_on_is_untouched(bench):
    """The program itself shakes hands, with all that came behind the header."""
    listener = bench.mux.listen(
        "tcp://127.0.0.1:0", proxy="require", trusted=TRUSTED, manual_read=True
    )
    server = "127.0.0.1:{1} send-proxy-v2".format(*listener.getsockname())
    with haproxy(server, bench.folder) as front:
        said = []

        def speak():
            with with_tls(front) as client:
                client.sendall(b"secret")
                said.append(client.recv(100))

        speaker = threading.Thread(target=speak)
        speaker.start()
        connect = until(bench.mux, "connect")[-1]
        bench.mux.remove(connect.fh)
        connect.fh.settimeout(PATIENCE)
        with server_context().wrap_socket(connect.fh, server_side=True) as tls:
            assert tls.recv(100) == b"secret"
            tls.sendall(b"and back")
            speaker.join(PATIENCE)
        assert said == [b"and back"]


def test_tls_of_ours_behind_the_proxy(bench):
    listener = bench.mux.listen(
        "tls://127.0.0.1:0",
        proxy="require",
        trusted=TRUSTED,
        tls=server_context(asks=ssl.CERT_REQUIRED),
    )
    server = "127.0.0.1:{1} send-proxy-v2".format(*listener.getsockname())
    with haproxy(server, bench.folder) as front:
        said = []

        def speak():
            with with_tls(front, "client") as client:
                client.sendall(b"secret")
                said.extend((client.getsockname(), client.recv(100)))

        speaker = threading.Thread(target=speak)
        speaker.start()
        connect, data = bench.arrival()
        assert data == b"secret"
        assert bench.mux.peer(connect.fh) == connect.peer
        assert (("commonName", "client.example"),) in connect.peer.certificate["subject"]
        bench.mux.send(connect.fh, b"and back")
        until(bench.mux, "closed", connect.fh)
        speaker.join(PATIENCE)
        assert said == [connect.address, b"and back"]
        assert connect.peer.proxy.source == connect.address
        assert connect.peer.tls.version == "TLSv1.3"


def test_unix_sockets_on_both_sides(bench):
    path = bench.folder / "server"
    listener = bench.mux.listen(f"unix://{path}", proxy="require", trusted=["unix:"])
    with (
        haproxy(f"unix@{path} send-proxy-v2", bench.folder, family=socket.AF_UNIX) as front,
        dial(front) as client,
    ):
        client.sendall(b"x")
        connect, _ = bench.arrival()
        assert connect.parent_fh is listener
        assert connect.peer.proxy.version == 2
        assert connect.peer.proxy.credentials.uid == os.getuid()


class Procedures:
    """Of a server that tells its clients who they are."""

    def __init__(self):
        self.server = None
        self.peers = []

    def rpc_who(self, caller):
        self.peers.append(caller.peer)
        self.server.return_(caller, host=caller.peer.address[0], port=caller.peer.address[1])


def test_a_server_sees_who_calls_it(mux, tmp_path):
    procedures = Procedures()
    server = procedures.server = rpcasync.Server(mux, procedures)
    listener = server.listen("tcp://127.0.0.1:0", proxy="require", trusted=TRUSTED)
    options = "127.0.0.1:{1} send-proxy-v2".format(*listener.getsockname())
    with haproxy(options, tmp_path) as front:
        client = rpcasync.Client(mux, "tcp://127.0.0.1:{1}".format(*front.getsockname()))
        call = client.who()
        while not call.done:
            event = client.io(server.io(mux.mux(PATIENCE)))
            assert not isinstance(event, Timeout)
        (peer,) = procedures.peers
        assert call.result()["port"] == peer.address[1] == client.fh.getsockname()[1]
        assert peer.address != peer.proxy.address


# What the documentation shows


def test_the_lines_about_tls_of_the_documentation(tmp_path):
    """They are for the file above; HAProxy checks them, certificates included."""
    _, lines = blocks(PAGE, "haproxy")
    lines = lines.replace("server.pem", pem_file("server")).replace("clients.pem", ca_file())
    times = "".join(f"timeout {kind} 5s\n" for kind in ("connect", "client", "server"))
    path = tmp_path / "haproxy.cfg"
    path.write_text(f"defaults\nmode tcp\n{times}listen test\n{lines}")
    result = run("haproxy", "-c", "-f", str(path))
    assert (result.returncode, "WARNING" in result.stderr) == (0, False), result.stderr


def test_the_configuration_of_the_documentation(tmp_path):
    text = (ROOT / "examples" / "haproxy.cfg").read_text()
    assert text in blocks(PAGE, "haproxy")
    example = ROOT / "examples" / "behind_a_proxy.py"
    server = Program([sys.executable, "-u", example, "tcp://127.0.0.1:0"])
    try:
        port = re.search(r", (\d+)\)", server.stdout.readline())[1]
        with socket.create_server(("127.0.0.1", 0)) as front:
            path = tmp_path / "haproxy.cfg"
            text = text.replace("bind :7070", f"bind fd@{front.fileno()}")
            path.write_text(text.replace("7007", port).replace("inter 2s", "inter 100ms"))
            with running(["haproxy", "-db", "-f", path], front):
                assert server.stdout.readline() == "a check of the proxy's own\n"
                with dial(front) as client:
                    address = client.getsockname()
                    assert client.recv(100) == f"hello stranger at {address[0]}\n".encode()
                while (line := server.stdout.readline()).startswith("a check"):
                    pass
                assert line == f"hello {address}\n"
                with socket.create_connection(("127.0.0.1", int(port))) as stranger:
                    stranger.sendall(b"hello?")
                    while (line := server.stdout.readline()).startswith("a check"):
                        pass
                    assert re.fullmatch(
                        r"refused: PROXY header of the connection with \('127.0.0.1', \d+\) failed:"
                        r" no PROXY header begins with b'hello\?'\n",
                        line,
                    )
    finally:
        server.stop()
