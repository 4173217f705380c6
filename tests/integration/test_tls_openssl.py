"""`openssl s_client` at a listener of ours: what they agree on, who is let in, and how it ends."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess

import pytest
from support.certificates import ca_file, pem_file, server_context
from support.talking import Foreign, Talk, handshake_messages, talking

from eventmux import Closed, Closing, Connect, Error, EventMux, Read, TLSError

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here")

VERSIONS = {"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"}
# What the standard library does not name: a client may ask for another handshake (OpenSSL 3.0).
OP_ALLOW_CLIENT_RENEGOTIATION = 1 << 8


@pytest.fixture
def talk():
    with EventMux() as mux, talking(mux) as talk:
        yield talk


def listen(talk: Talk, context: ssl.SSLContext | None = None, **options) -> socket.socket:
    return talk.mux.listen("tls://127.0.0.1:0", tls=context or server_context(), **options)


def s_client(talk: Talk, listener: socket.socket, *options: str) -> Foreign:
    at = "{}:{}".format(*listener.getsockname())
    trust = ["-CAfile", ca_file(), "-verify_return_error"]
    return talk.start("openssl", "s_client", "-connect", at, *trust, *options)


def assert_ends_well(talk: Talk) -> None:
    assert talk.next(Closing).reason is None
    closed = talk.next(Closed)
    assert (closed.reason, closed.missing) == (None, 0)


def assert_hears(talk: Talk, connect: Connect, client: Foreign, word: str = "hello") -> None:
    client.say(f"{word}?")
    assert talk.read(b"\n") == f"{word}?\n".encode()
    talk.mux.send(connect.fh, f"{word}!\n".encode())
    talk.hear(client, f"{word}!\n")
    talk.events.clear()  # Sent


@pytest.mark.parametrize("version", VERSIONS)
def test_both_ways_until_the_client_quits(talk, version):
    client = s_client(talk, listen(talk), version)
    connect = talk.next(Connect)
    assert connect.peer.tls.version == VERSIONS[version]
    assert connect.peer.tls.cipher in talk.hear(client, "Verify return code: 0 (ok)")
    assert_hears(talk, connect, client)
    client.say("Q")
    assert_ends_well(talk)
    assert talk.end_of(client) == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_both_ways_until_we_close(talk, version):
    client = s_client(talk, listen(talk), version, "-msg")
    connect = talk.next(Connect)
    assert_hears(talk, connect, client)
    talk.mux.send(connect.fh, b"the last word\n")
    talk.mux.close(connect.fh)
    assert talk.until(Closed).missing == 0
    talk.end_of(client)
    assert "the last word\n" in client.printed
    received = client.printed.rpartition("the last word\n")[2]
    assert "Alert [length 0002], warning close_notify" in received


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_is_killed_has_not_ended_the_stream(talk, version):
    client = s_client(talk, listen(talk), version)
    connect = talk.next(Connect)
    assert_hears(talk, connect, client)
    client.process.kill()
    error = talk.next(Error)
    assert error.fh is connect.fh
    assert "without close_notify" in error.error
    assert talk.next(Closing).reason == error.error
    assert talk.next(Closed).reason == error.error


def test_a_version_that_is_too_old_is_refused(talk):
    listener = listen(talk)
    client = s_client(talk, listener, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    error = talk.next(Error)
    assert error.fh is listener
    assert error.sender[0] == "127.0.0.1"
    assert "TLS handshake" in error.error
    assert "unsupported protocol" in error.error.lower().replace("_", " ")
    assert isinstance(error.exception, TLSError)
    assert isinstance(error.exception.__cause__, ssl.SSLError)
    assert "alert protocol version" in talk.hear(client, "alert")
    assert talk.end_of(client) != 0


def test_a_cipher_that_we_do_not_have_is_refused(talk):
    context = server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    listener = listen(talk, context)
    s_client(talk, listener, "-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305")
    error = talk.next(Error)
    assert error.fh is listener
    assert "no shared cipher" in error.error.lower().replace("_", " ")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_tells_who_the_client_is(talk, version):
    listener = listen(talk, server_context(asks=ssl.CERT_REQUIRED))
    client = s_client(talk, listener, version, "-cert", pem_file("client"))
    connect = talk.next(Connect)
    subject = {name: value for ((name, value),) in connect.peer.certificate["subject"]}
    assert subject["commonName"] == "client.example"
    assert connect.peer.certificate["subjectAltName"] == (("email", "someone@example.org"),)
    assert_hears(talk, connect, client)
    assert talk.mux.peer(connect.fh).certificate == connect.peer.certificate


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_need_not_show_a_certificate(talk, version):
    client = s_client(talk, listen(talk, server_context(asks=ssl.CERT_OPTIONAL)), version)
    connect = talk.next(Connect)
    assert not connect.peer.certificate
    assert_hears(talk, connect, client)


@pytest.mark.parametrize(
    ("certificate", "why"),
    [
        (None, "peer did not return a certificate"),
        ("foreign", "self-signed certificate|unable to get local issuer|certificate verify failed"),
        ("expired", "certificate has expired"),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_without_a_good_certificate_is_refused(talk, version, certificate, why):
    listener = listen(talk, server_context(asks=ssl.CERT_REQUIRED))
    shown = ["-cert", pem_file(certificate)] if certificate else []
    client = s_client(talk, listener, version, *shown)
    error = talk.next(Error)
    assert error.fh is listener
    pattern = why.split("|")
    assert any(each in error.error.lower().replace("_", " ") for each in pattern), error
    talk.end_of(client)
    assert "alert" in client.printed
    assert not talk.events


def test_a_name_has_a_certificate_of_its_own(talk):
    context, second = server_context(), server_context("second")

    def choose(ssl_object, name, _context):
        if name == "second.example":
            ssl_object.context = second

    context.sni_callback = choose
    listener = listen(talk, context)
    s_client(talk, listener, "-servername", "second.example")
    assert talk.next(Connect).peer.tls.server_name == "second.example"
    client = s_client(talk, listener, "-servername", "localhost")
    assert talk.next(Connect).peer.tls.server_name == "localhost"
    assert "CN = server.example" in talk.hear(client, "Verify return code")


def test_the_name_that_was_asked_for_is_known_without_a_callback(talk):
    listener = listen(talk)
    s_client(talk, listener, "-servername", "second.example")
    assert talk.next(Connect).peer.tls.server_name == "second.example"
    s_client(talk, listener, "-noservername")
    assert talk.next(Connect).peer.tls.server_name is None


def test_a_callback_can_refuse_a_name(talk):
    context = server_context()
    context.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    listener = listen(talk, context)
    client = s_client(talk, listener, "-servername", "nobody.example")
    assert talk.next(Error).fh is listener
    assert "unrecognized name" in talk.hear(client, "alert")


def test_a_protocol_is_agreed_on(talk):
    context = server_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    client = s_client(talk, listen(talk, context), "-alpn", "smtp,http/1.1")
    assert talk.next(Connect).peer.tls.alpn == "http/1.1"
    talk.hear(client, "ALPN protocol: http/1.1")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_taken_up_again(talk, version, tmp_path):
    listener, session = listen(talk), tmp_path / "session.pem"
    client = s_client(talk, listener, version, "-sess_out", str(session))
    connect = talk.next(Connect)
    assert not connect.peer.tls.resumed
    assert_hears(talk, connect, client)  # so that the tickets of 1.3 have arrived
    client.say("Q")
    assert_ends_well(talk)
    talk.end_of(client)
    client = s_client(talk, listener, version, "-sess_in", str(session))
    connect = talk.next(Connect)
    assert connect.peer.tls.resumed
    talk.hear(client, "Reused, ")
    assert_hears(talk, connect, client)


def test_a_client_comes_again_and_again(talk):
    client = s_client(talk, listen(talk), "-tls1_2", "-reconnect")
    resumed = [talk.until(Connect).peer.tls.resumed for _ in range(6)]
    assert resumed == [False] + [True] * 5
    talk.hear(client, "Reused, ")


def test_early_data_is_not_taken(talk, tmp_path):
    listener, session = listen(talk), tmp_path / "session.pem"
    client = s_client(talk, listener, "-tls1_3", "-sess_out", str(session))
    assert_hears(talk, talk.next(Connect), client)
    client.say("Q")
    assert_ends_well(talk)
    talk.end_of(client)
    early = tmp_path / "early"
    early.write_text("buy it again\n")
    options = ["-sess_in", str(session), "-early_data", str(early)]
    client = s_client(talk, listener, "-tls1_3", *options)
    connect = talk.next(Connect)
    assert "Early data was not sent" in talk.hear(client, "Early data")
    assert_hears(talk, connect, client)  # and nothing else was read before


@pytest.mark.parametrize(("command", "answers"), [("K", 3), ("k", 0)])
def test_keys_are_changed_while_it_goes_on(talk, command, answers):
    """With `K` the client asks that we change ours, too."""
    client = s_client(talk, listen(talk), "-tls1_3", "-msg")
    connect = talk.next(Connect)
    for count in range(1, 4):
        client.say(command)
        talk.hear(client, "KEYUPDATE", count)
        assert_hears(talk, connect, client, f"hello {count}")
    assert handshake_messages(client, "KeyUpdate") == (3, answers)


def test_another_handshake_while_it_goes_on(talk):
    context = server_context()
    context.options |= OP_ALLOW_CLIENT_RENEGOTIATION
    client = s_client(talk, listen(talk, context), "-tls1_2")
    connect = talk.next(Connect)
    for count in range(1, 4):
        client.say("R")
        talk.hear(client, "RENEGOTIATING", count)
        assert_hears(talk, connect, client, f"hello {count}")
    # The first handshake and each later one show the certificate.
    assert client.printed.count("verify return:1\ndepth=0") == 4


def test_another_handshake_that_is_not_allowed(talk):
    client = s_client(talk, listen(talk), "-tls1_2")
    connect = talk.next(Connect)
    assert_hears(talk, connect, client)
    client.say("R")
    talk.hear(client, "no renegotiation")
    assert talk.until(Closed).fh is connect.fh


def test_a_client_that_begins_in_plain(talk):
    """STARTTLS as RFC 3207 has it, which s_client speaks."""
    listener = talk.mux.listen("tcp://127.0.0.1:0")
    at = "{}:{}".format(*listener.getsockname())
    options = ["-connect", at, "-CAfile", ca_file(), "-starttls", "smtp", "-crlf"]
    client = talk.start("openssl", "s_client", *options)
    fh = talk.next(Connect).fh
    talk.mux.send(fh, b"220 here\r\n")
    assert talk.until(Read).data.startswith(b"EHLO ")
    talk.mux.send(fh, b"250-here\r\n250 STARTTLS\r\n")
    assert talk.until(Read).data == b"STARTTLS\r\n"
    talk.mux.send(fh, b"220 go on\r\n")
    talk.mux.start_tls(fh, server_context(), server_side=True)
    talk.hear(client, "Verify return code: 0 (ok)")
    client.say("EHLO again")
    assert talk.until(Read).data == b"EHLO again\r\n"
    talk.mux.send(fh, b"250 hello again\r\n")
    talk.hear(client, "250 hello again")
    assert talk.mux.peer(fh).tls.version == "TLSv1.3"


def test_a_new_context_is_for_new_connections(talk):
    listener = listen(talk)
    first = s_client(talk, listener)
    before = talk.next(Connect)
    talk.hear(first, "CN = server.example")
    talk.mux.set_tls(listener, server_context("second"))
    second = s_client(talk, listener)
    assert_hears(talk, talk.next(Connect), second)
    assert "CN = second.example" in second.printed
    assert_hears(talk, before, first)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_megabyte_each_way(talk, version, tmp_path):
    """In a pipe, with `-ign_eof`: s_client reads as long as we write, and so do we."""
    listener = listen(talk, high_water=100_000)
    data = bytes(range(256)) * 4096
    (tmp_path / "data").write_bytes(data)
    at = "{}:{}".format(*listener.getsockname())
    command = ["openssl", "s_client", "-connect", at, version, "-quiet", "-verify_quiet"]
    with (tmp_path / "data").open("rb") as source, (tmp_path / "back").open("wb") as back:
        process = subprocess.Popen(command, stdin=source, stdout=back, stderr=subprocess.DEVNULL)
    try:
        fh, size = talk.next(Connect).fh, 0
        while size < len(data):
            piece = talk.until(Read).data
            assert piece == data[size : size + len(piece)]
            size += len(piece)
            talk.mux.send(fh, piece)
        talk.mux.close(fh)
        assert talk.until(Closed).missing == 0
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "back").read_bytes() == data
