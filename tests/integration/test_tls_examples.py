"""The examples of TLS, and the certificate that docs/howto/tls.md makes."""

import shlex
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from support.certificates import ca_file, client_context, pem_file
from support.documents import blocks
from support.programs import LIMIT, ROOT

EXAMPLES = ROOT / "examples"
PAGE = ROOT / "docs" / "howto" / "tls.md"


@pytest.fixture
def serve():
    """Start an example that listens; return it and its port."""
    started = []

    def start(name, *files):
        argv = [sys.executable, "-u", str(EXAMPLES / name), "tls://127.0.0.1:0", *files]
        if name.startswith("starttls"):
            argv[3] = "tcp://127.0.0.1:0"
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        started.append(process)
        line = process.stdout.readline()
        return process, int(line.rpartition(", ")[2].rstrip(")\n"))

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ask(port, *arguments, host="localhost"):
    argv = [sys.executable, str(EXAMPLES / "tls_client.py"), f"tls://{host}:{port}", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False)


def test_a_client_and_a_server(serve):
    server, port = serve("tls_echo_server.py", pem_file("server"))
    asked = ask(port, "hello", ca_file())
    assert asked.stdout == "this is localhost by TLSv1.3\nhello\n"
    assert server.stdout.readline() == "hello stranger TLSv1.3\n"


def test_a_client_shows_a_certificate(serve):
    server, port = serve("tls_echo_server.py", pem_file("server"), ca_file())
    assert ask(port, "hello", ca_file(), pem_file("client")).returncode == 0
    assert server.stdout.readline() == "hello client.example TLSv1.3\n"
    refused = ask(port, "hello", ca_file())
    assert refused.returncode == 1
    assert "none was shown" in refused.stderr
    assert "has shown no certificate" in server.stdout.readline()


def test_a_server_that_is_not_trusted(serve):
    _, port = serve("tls_echo_server.py", pem_file("foreign"))
    asked = ask(port, "hello", ca_file())
    assert asked.returncode == 1
    assert asked.stderr.startswith("the certificate of the peer is not accepted: ")


def test_the_certificate_is_renewed(serve, tmp_path):
    current = tmp_path / "current.pem"
    shutil.copy(pem_file("server"), current)
    server, port = serve("tls_echo_server.py", str(current))
    current.write_text("nonsense")
    server.send_signal(signal.SIGHUP)
    assert server.stdout.readline().startswith("cannot load the certificate: ")
    assert ask(port, "hello", ca_file()).returncode == 0
    assert server.stdout.readline() == "hello stranger TLSv1.3\n"
    shutil.copy(pem_file("second"), current)
    server.send_signal(signal.SIGHUP)
    assert server.stdout.readline() == "the certificate is renewed\n"
    with (
        socket.create_connection(("127.0.0.1", port)) as raw,
        client_context().wrap_socket(raw, server_hostname="second.example") as sock,
    ):
        assert ("DNS", "second.example") in sock.getpeercert()["subjectAltName"]
        sock.unwrap()


class Lines:
    """A client of the server that knows STARTTLS."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), LIMIT)

    def ask(self, line):
        self.sock.sendall(line + b"\r\n")
        answer = b""
        while not answer.endswith(b"\r\n"):
            data = self.sock.recv(100)
            assert data, answer
            answer += data
        return answer.rstrip()


def test_tls_in_the_middle(serve):
    server, port = serve("starttls_server.py", pem_file("server"))
    client = Lines(port)
    assert client.ask(b"SECRET") == b"530 STARTTLS first"
    assert client.ask(b"STARTTLS") == b"220 go ahead"
    client.sock = client_context().wrap_socket(client.sock, server_hostname="localhost")
    assert client.ask(b"SECRET") == b"250 rosebud"
    assert client.ask(b"STARTTLS") == b"503 TLS is on"
    assert server.stdout.readline() == "encrypted by TLSv1.3\n"
    client.sock.close()


def test_commands_behind_starttls_are_not_obeyed(serve):
    server, port = serve("starttls_server.py", pem_file("server"))
    client = Lines(port)
    client.sock.sendall(b"STARTTLS\r\nSECRET\r\n")
    assert "in plain text before the TLS handshake" in server.stdout.readline()
    got = b""
    while data := client.sock.recv(100):
        got += data
    assert got in (b"", b"220 go ahead\r\n")
    client.sock.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")
def test_what_is_typed_in_the_document(tmp_path):
    """The commands of the page, with the examples below them and a port that is free."""
    (block,) = blocks(PAGE, "bash")
    make, join, serve, ask = block.strip().splitlines()
    subprocess.run(shlex.split(make), cwd=tmp_path, check=True, capture_output=True)
    subprocess.run(join, cwd=tmp_path, check=True, shell=True)
    (tmp_path / "examples").symlink_to(EXAMPLES)
    python = ["-u", *shlex.split(serve.replace("7007", "0"))[1:]]
    server = subprocess.Popen(
        [sys.executable, *python], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    try:
        port = server.stdout.readline().rpartition(", ")[2].rstrip(")\n")
        argv = shlex.split(ask.replace("7007", port))
        asked = subprocess.run(
            [sys.executable, *argv[1:]], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert asked.stdout == "this is localhost by TLSv1.3\nhello\n", asked.stderr
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize("name", ["tls_echo_server.py", "http_server.py"])
def test_a_file_that_is_no_certificate(name, tmp_path):
    for file in (tmp_path / "missing.pem", tmp_path / "empty.pem"):
        argv = [sys.executable, str(EXAMPLES / name), "tls://127.0.0.1:0", str(file)]
        result = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert (result.stdout, result.returncode) == ("", 1)
        assert str(file) in result.stderr
        assert result.stderr.count("\n") == 1
        (tmp_path / "empty.pem").touch()
