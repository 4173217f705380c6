"""A client of ours at `openssl s_server`: whom it believes, what it shows, and how it ends."""

from __future__ import annotations

import re
import shutil
import ssl

import pytest
from support.certificates import ca_file, client_context, pem_file
from support.talking import Foreign, Talk, handshake_messages, talking

from eventmux import Closed, Closing, Error, EventMux, Read, Ready, TLSError
from eventmux.buffers import HTTP

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here")

VERSIONS = {"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"}


@pytest.fixture
def talk():
    with EventMux() as mux, talking(mux) as talk:
        yield talk


def s_server(talk: Talk, *options: str, kind: str = "server") -> tuple[Foreign, str]:
    """Start a server; return it, and its URL."""
    shown = ["-cert", pem_file(kind), "-CAfile", ca_file()]
    server = talk.start("openssl", "s_server", "-accept", "127.0.0.1:0", *shown, *options)
    talk.hear(server, "ACCEPT")
    port = re.search(r"ACCEPT 127.0.0.1:(\d+)\n", server.printed)
    assert port, server.printed
    return server, f"tls://127.0.0.1:{port[1]}"


def connect(talk: Talk, url: str, context: ssl.SSLContext | None = None, **options):
    options.setdefault("server_hostname", "localhost")
    return talk.mux.connect(url, tls=context or client_context(), **options)


def assert_hears(talk: Talk, fh: object, server: Foreign, word: str = "hello") -> None:
    talk.mux.send(fh, f"{word}?\n".encode())
    talk.hear(server, f"{word}?\n")
    talk.events.clear()  # Sent
    server.say(f"{word}!")
    assert talk.read(b"\n") == f"{word}!\n".encode()


@pytest.mark.parametrize("version", VERSIONS)
def test_both_ways_until_we_close(talk, version):
    server, url = s_server(talk, version, "-msg", "-naccept", "1")
    fh = connect(talk, url)
    talk.mux.send(fh, b"before it was up\n")
    assert talk.next(Ready).fh is fh
    peer = talk.mux.peer(fh)
    assert peer.tls.version == VERSIONS[version]
    assert ("DNS", "localhost") in peer.certificate["subjectAltName"]
    talk.hear(server, "before it was up\n")
    assert_hears(talk, fh, server)
    talk.mux.send(fh, b"the last word\n")
    talk.mux.close(fh)
    assert talk.until(Closed).missing == 0
    assert talk.end_of(server) == 0
    received = server.printed.rpartition("the last word\n")[2]
    assert "<<< " in received
    assert "warning close_notify" in received


@pytest.mark.parametrize("version", VERSIONS)
def test_both_ways_until_the_server_ends_it(talk, version):
    """With `-rev` it turns lines round, and takes `CLOSE` for the end."""
    _, url = s_server(talk, version, "-rev")
    fh = connect(talk, url)
    assert talk.next(Ready).fh is fh
    for line in (b"abc\n", b"x" * 5000 + b"y\n"):
        talk.mux.send(fh, line)
        assert talk.read(b"\n") == line[-2::-1] + b"\n"
    talk.mux.send(fh, b"CLOSE\n")
    assert talk.until(Closing).reason is None
    assert talk.next(Closed).reason is None


def test_a_server_that_does_not_say_that_it_ends(talk):
    """`Q` has s_server close the socket, and no more."""
    server, url = s_server(talk)
    fh = connect(talk, url)
    talk.next(Ready)
    assert_hears(talk, fh, server)
    server.say("Q")
    assert talk.next(Error).fh is fh
    assert talk.next(Closing).reason


def test_a_server_that_is_killed_has_not_ended_the_stream(talk):
    server, url = s_server(talk)
    fh = connect(talk, url)
    talk.next(Ready)
    assert_hears(talk, fh, server)
    server.process.kill()
    error = talk.next(Error)
    assert error.fh is fh
    assert talk.next(Closing).reason == error.error
    assert talk.next(Closed).reason == error.error


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("expired", "certificate has expired"),
        ("elsewhere", "Hostname mismatch, certificate is not valid for 'localhost'"),
        ("foreign", "unable to get local issuer certificate"),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_is_not_believed(talk, version, kind, why):
    server, url = s_server(talk, version, kind=kind)
    fh = connect(talk, url)
    talk.mux.send(fh, b"a secret\n")
    error = talk.next(Error)
    assert error.fh is fh
    assert why in error.error
    assert isinstance(error.exception, TLSError)
    assert isinstance(error.exception.__cause__, ssl.SSLCertVerificationError)
    assert talk.next(Closing).reason == error.error
    closed = talk.next(Closed)
    assert closed.reason == error.error
    assert closed.missing == len(b"a secret\n")
    talk.hear(server, "alert")
    assert "secret" not in server.printed


def test_the_name_of_the_url_counts(talk):
    """127.0.0.1 is in the certificate, too, as an address."""
    _, url = s_server(talk)
    connect(talk, url, server_hostname=None)
    talk.next(Ready)
    server, url = s_server(talk)
    connect(talk, url, server_hostname="elsewhere.example")
    assert "elsewhere.example" in talk.next(Error).error
    talk.hear(server, "alert")


def test_the_server_is_asked_for_a_name(talk):
    second = ["-servername", "second.example", "-cert2", pem_file("second")]
    _, url = s_server(talk, *second, "-key2", pem_file("second"))
    fh = connect(talk, url, server_hostname="second.example")
    talk.next(Ready)
    assert ("DNS", "second.example") in talk.mux.peer(fh).certificate["subjectAltName"]


def test_a_server_that_is_not_to_be_checked(talk):
    server, url = s_server(talk, kind="foreign")
    context = client_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    fh = connect(talk, url, context)
    talk.next(Ready)
    assert not talk.mux.peer(fh).certificate
    assert_hears(talk, fh, server)


@pytest.mark.parametrize("version", VERSIONS)
def test_we_show_a_certificate(talk, version):
    server, url = s_server(talk, version, "-Verify", "1", "-verify_return_error")
    fh = connect(talk, url, client_context("client"))
    talk.next(Ready)
    assert_hears(talk, fh, server)
    assert "CN = client.example" in server.printed


@pytest.mark.parametrize("version", VERSIONS)
def test_we_have_no_certificate_to_show(talk, version):
    """In TLS 1.3 a client is through before the server has looked at what it shows."""
    server, url = s_server(talk, version, "-Verify", "1", "-verify_return_error")
    fh = connect(talk, url)
    error = talk.until(Error)
    assert error.fh is fh
    assert "alert" in error.error.lower()
    assert talk.next(Closing).reason == error.error
    talk.hear(server, "peer did not return a certificate")


def test_a_certificate_is_asked_for_in_the_middle(talk):
    """Authentication after the handshake, which TLS 1.3 has in the place of renegotiation."""
    server, url = s_server(talk, "-tls1_3", "-Verify", "1", "-cert_chain", pem_file("server"))
    context = client_context("client")
    context.post_handshake_auth = True
    fh = connect(talk, url, context)
    talk.next(Ready)
    server.say("c")
    assert_hears(talk, fh, server)
    assert "CN = client.example" in server.printed


def test_a_server_of_an_old_version(talk):
    _, url = s_server(talk, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    fh = connect(talk, url)
    error = talk.next(Error)
    assert error.fh is fh
    assert "protocol version" in error.error.lower().replace("_", " ")
    assert talk.next(Closing).reason == error.error


def test_no_cipher_in_common(talk):
    _, url = s_server(talk, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384")
    context = client_context()
    context.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
    connect(talk, url, context)
    assert "handshake failure" in talk.next(Error).error.lower().replace("_", " ")


def test_a_protocol_is_agreed_on(talk):
    _, url = s_server(talk, "-alpn", "h2,http/1.1")
    context = client_context()
    context.set_alpn_protocols(["http/1.1"])
    fh = connect(talk, url, context)
    talk.next(Ready)
    assert talk.mux.peer(fh).tls.alpn == "http/1.1"


@pytest.mark.parametrize("letter", ["r", "R"])
def test_another_handshake_while_it_goes_on(talk, letter):
    options = ["-Verify", "1"] if letter == "R" else []
    server, url = s_server(talk, "-tls1_2", "-msg", *options)
    fh = connect(talk, url, client_context("client"))
    talk.next(Ready)
    for count in range(1, 4):
        server.say(letter)
        assert_hears(talk, fh, server, f"hello {count}")
        talk.hear(server, "], ClientHello\n", 1 + count)
        talk.hear(server, "], Finished\n", 2 * (1 + count))  # of both


@pytest.mark.parametrize(("letter", "answers"), [("K", 3), ("k", 0)])
def test_keys_are_changed_while_it_goes_on(talk, letter, answers):
    """With `K` the server asks that we change ours, too."""
    server, url = s_server(talk, "-tls1_3", "-msg")
    fh = connect(talk, url)
    talk.next(Ready)
    for count in range(3):
        server.say(letter)
        assert_hears(talk, fh, server, f"hello {count}")
    assert_hears(talk, fh, server, "bye")  # in front of it is what the last one asked for
    assert handshake_messages(server, "KeyUpdate") == (3, answers)


def test_plain_text_in_the_middle_is_refused(talk):
    """`P` has s_server write beside the encryption."""
    server, url = s_server(talk)
    fh = connect(talk, url)
    talk.next(Ready)
    assert_hears(talk, fh, server)
    server.say("P")
    error = talk.next(Error)
    assert error.fh is fh
    assert talk.next(Closing).reason == error.error
    talk.next(Closed)


def test_a_page_of_a_web_server(talk):
    _, url = s_server(talk, "-www")
    fh = connect(talk, url, buffered=HTTP())
    talk.mux.send(fh, b"GET / HTTP/1.0\r\n\r\n")
    answer = talk.until(Read).data
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 ok")
    assert b"Secure Renegotiation" in body
    talk.until(Closed)
