"""examples/smtp_server.py takes mail from smtplib and swaks, in the clear and after STARTTLS."""

import re
import shutil
import smtplib
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest
from support.certificates import ca_file, client_context, pem_file
from support.programs import LIMIT, ROOT, Program

MAIL = "Subject: hello\r\n\r\n.a dot in front\r\nand the end\r\n"


@contextmanager
def serving(*certificate):
    """Run the server; give it and its port."""
    command = [sys.executable, ROOT / "examples" / "smtp_server.py", "tcp://127.0.0.1:0"]
    program = Program([*command, *certificate])
    try:
        yield program, int(re.search(r", (\d+)\)", program.stdout.readline())[1])
    finally:
        program.stop()


def connected(port):
    return smtplib.SMTP("localhost", port, "me.example", timeout=LIMIT)


def lines(program, count):
    return [program.stdout.readline().rstrip("\n") for _ in range(count)]


def test_a_message_in_the_clear():
    with serving() as (program, port), connected(port) as client:
        assert client.sendmail("a@example.org", ["b@example.org", "c@example.org"], MAIL) == {}
        assert not client.has_extn("starttls")
        assert lines(program, 5) == [
            "from <a@example.org> to <b@example.org>, <c@example.org> (no TLS):",
            *("Subject: hello", "", ".a dot in front", "and the end"),
        ]


def test_a_message_after_starttls():
    certificate = pem_file("server")
    with serving(certificate, certificate) as (program, port), connected(port) as client:
        client.ehlo()
        assert client.has_extn("starttls")
        client.starttls(context=client_context())
        client.ehlo()
        assert not client.has_extn("starttls")
        client.sendmail("a@example.org", ["b@example.org"], MAIL)
        (first,) = lines(program, 1)
        assert re.fullmatch(r"from <a@example.org> to <b@example.org> \(TLSv1\.[23]\):", first)


def test_commands_behind_starttls_in_the_clear_are_not_taken():
    certificate = pem_file("server")
    with serving(certificate, certificate) as (program, port):
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as sock:
            sock.sendall(b"EHLO x\r\nSTARTTLS\r\nMAIL FROM:<evil@example.org>\r\n")
            said = b""
            while data := sock.recv(1000):
                said += data
        assert said.endswith(b"220 go ahead\r\n")
        program.wait_for_log("in plain text before the TLS handshake")


@pytest.mark.parametrize(
    ("commands", "codes"),
    [
        (["DATA"], [503]),
        (["MAIL FROM:<a>", "DATA"], [250, 503]),
        (["RCPT TO:<b>"], [503]),
        (["STARTTLS"], [503]),
        (["NONSENSE", "NOOP"], [500, 250]),
        (["MAIL FROM:<a>", "RSET", "RCPT TO:<b>"], [250, 250, 503]),
        (["MAIL FROM:<a>", "RCPT TO:<b>", "DATA", ".", "QUIT"], [250, 250, 354, 250, 221]),
    ],
)
def test_the_order_of_commands(commands, codes):
    with serving() as (_, port), connected(port) as client:
        client.ehlo()
        assert [client.docmd(command)[0] for command in commands] == codes


def test_a_line_that_is_too_long_ends_the_connection():
    with serving() as (program, port), connected(port) as client:
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.docmd("NOOP", "x" * 2000)
        program.wait_for_log("limit is 1000")


@pytest.mark.skipif(shutil.which("swaks") is None, reason="no swaks here")
def test_swaks():
    certificate = pem_file("server")
    with serving(certificate, certificate) as (program, port):
        command = ["swaks", "--server", "localhost", "--port", str(port), "--to", "b@example.org"]
        command += ["--tls", "--tls-verify", "--tls-ca-path", ca_file()]
        done = subprocess.run(command, capture_output=True, timeout=LIMIT, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "(TLSv1." in program.stdout.readline()
