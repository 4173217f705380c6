"""curl at a small web server on the mux, by https."""

from __future__ import annotations

import shutil
import ssl

import pytest
from support.certificates import ca_file, pem_file, server_context
from support.talking import Foreign, Talk, talking

from eventmux import Connect, Error, EventMux, Read
from eventmux.buffers import HTTP

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")

_MILLION = 1_000_000
# The exit statuses of curl that the tests ask for (its manual, EXIT CODES).
TIMED_OUT, TLS_FAILED, RECEIVE_FAILED, NOT_TRUSTED = 28, 35, 56, 60


class Web:
    """A web server: `/hello` greets whoever asks, `/N` has N bytes, a POST is answered by its size.

    Args:
        talk: with the mux.
        url: where to listen.
        options: of the listener.
    """

    def __init__(self, talk: Talk, url: str = "tls://127.0.0.1:0", **options) -> None:
        self.talk = talk
        options.setdefault("tls", server_context())
        buffered = HTTP(max_size=100 * _MILLION)
        self.listener = talk.mux.listen(url, buffered=buffered, **options)
        self.port = self.listener.getsockname()[1]
        self.connects: list[Connect] = []
        self.errors: list[Error] = []

    def until_end_of(self, client: Foreign) -> int:
        """Serve until a program has ended; return its exit status."""
        while not client.has_ended:
            self._io(self.talk.turn())
        return client.process.wait(10)

    def _io(self, event: object) -> None:
        if isinstance(event, Connect):
            self.connects.append(event)
        elif isinstance(event, Error):
            self.errors.append(event)
        elif isinstance(event, Read):
            self.talk.mux.send(event.fh, *self._answer(event))

    def _answer(self, event: Read) -> tuple[bytes, bytes]:
        head, _, content = event.data.partition(b"\r\n\r\n")
        method, path, _ = head.split(b"\r\n")[0].split(b" ")
        if method == b"POST":
            body = b"%d bytes" % len(content)
        elif path == b"/hello":
            certificate = self.talk.mux.peer(event.fh).certificate
            body = b"hello, %b" % (b"you" if certificate else b"whoever you are")
        else:
            body = b"0123456789" * (int(path[1:]) // 10)
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body


@pytest.fixture
def talk():
    with EventMux() as mux, talking(mux) as talk:
        yield talk


def curl(talk: Talk, *options: str, trusts: str = "server") -> Foreign:
    quiet = ["--silent", "--show-error", "--noproxy", "*"]
    return talk.start("curl", *quiet, "--cacert", ca_file(trusts), *options)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_page(talk, version):
    web = Web(talk)
    only = [f"--tlsv{version}", "--tls-max", version]
    client = curl(talk, *only, f"https://127.0.0.1:{web.port}/hello")
    assert web.until_end_of(client) == 0
    assert client.printed == "hello, whoever you are"
    assert web.connects[0].peer.tls.version == f"TLSv{version}"
    assert not web.errors


def test_by_the_name_of_a_virtual_host(talk):
    web = Web(talk, tls=server_context("second"))
    at = f"second.example:{web.port}"
    client = curl(talk, "--resolve", f"{at}:127.0.0.1", f"https://{at}/hello")
    assert web.until_end_of(client) == 0
    assert web.connects[0].peer.tls.server_name == "second.example"


@pytest.mark.parametrize(
    ("kind", "trusts", "said"),
    [
        ("server", "foreign", "self-signed certificate"),
        ("foreign", "server", "unable to get local issuer certificate"),
        ("expired", "server", "certificate has expired"),
        ("elsewhere", "server", "no alternative certificate subject name matches"),
    ],
)
def test_curl_does_not_believe_us(talk, kind, trusts, said):
    web = Web(talk, tls=server_context(kind))
    client = curl(talk, f"https://127.0.0.1:{web.port}/hello", trusts=trusts)
    assert web.until_end_of(client) == NOT_TRUSTED
    assert said in client.printed


def test_curl_tells_us_that_it_does_not_believe_us(talk):
    """By an alert, which is the error of the listener in TLS 1.2: there was no connection yet."""
    web = Web(talk, tls=server_context("foreign"))
    client = curl(talk, "--tls-max", "1.2", f"https://127.0.0.1:{web.port}/hello")
    web.until_end_of(client)
    error = web.errors[0] if web.errors else talk.until(Error)
    assert error.fh is web.listener
    assert "unknown ca" in error.error.lower().replace("_", " ")
    assert not web.connects


def test_with_a_certificate(talk):
    web = Web(talk, tls=server_context(asks=ssl.CERT_REQUIRED))
    url = f"https://127.0.0.1:{web.port}/hello"
    client = curl(talk, "--cert", pem_file("client"), url)
    assert web.until_end_of(client) == 0
    assert client.printed == "hello, you"
    client = curl(talk, url)
    assert web.until_end_of(client) in (RECEIVE_FAILED, TLS_FAILED)
    assert "alert" in client.printed
    assert len(web.connects) == 1


def test_20_megabytes_down(talk, tmp_path):
    web = Web(talk)
    url = f"https://127.0.0.1:{web.port}/{20 * _MILLION}"
    client = curl(talk, "--output", str(tmp_path / "page"), url)
    assert web.until_end_of(client) == 0
    assert (tmp_path / "page").read_bytes() == b"0123456789" * (2 * _MILLION)


def test_20_megabytes_up(talk, tmp_path):
    web = Web(talk)
    with (tmp_path / "form").open("wb") as form:
        form.truncate(20 * _MILLION)
    upload = ["--header", "Expect:", "--data-binary", f"@{tmp_path / 'form'}"]
    client = curl(talk, *upload, f"https://127.0.0.1:{web.port}/")
    assert web.until_end_of(client) == 0
    assert client.printed == "20000000 bytes"


def test_pages_by_one_connection(talk):
    web = Web(talk)
    pages = [f"https://127.0.0.1:{web.port}/{size}" for size in (10, 200, 30)]
    client = curl(talk, *pages)
    assert web.until_end_of(client) == 0
    assert client.printed == "0123456789" * 24
    assert len(web.connects) == 1


def test_pages_by_many_connections_at_once(talk):
    web = Web(talk)
    pages = [f"https://127.0.0.1:{web.port}/{10 * _MILLION}"] * 5
    out = [option for _ in pages for option in ("--output", "/dev/null")]
    client = curl(talk, "--parallel", "--parallel-immediate", *out, *pages)
    assert web.until_end_of(client) == 0
    assert len(web.connects) > 1


def test_http_to_the_port_of_https(talk):
    web = Web(talk)
    client = curl(talk, f"http://127.0.0.1:{web.port}/hello")
    assert web.until_end_of(client) != 0
    error = web.errors[0] if web.errors else talk.until(Error)
    assert error.fh is web.listener
    assert "http request" in error.error.lower().replace("_", " ")


def test_https_to_a_port_without_tls(talk):
    listener = talk.mux.listen("tcp://127.0.0.1:0")
    client = curl(talk, f"https://127.0.0.1:{listener.getsockname()[1]}/hello")
    talk.mux.send(talk.until(Read).fh, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert talk.end_of(client) == TLS_FAILED
    assert "wrong version number" in client.printed


def test_curl_gives_up_a_page(talk):
    web = Web(talk, high_water=100_000)
    limit = ["--max-time", "0.3", "--limit-rate", "100k", "--output", "/dev/null"]
    client = curl(talk, *limit, f"https://127.0.0.1:{web.port}/{20 * _MILLION}")
    assert web.until_end_of(client) == TIMED_OUT
    error = web.errors[0] if web.errors else talk.until(Error)
    assert error.fh is web.connects[0].fh
