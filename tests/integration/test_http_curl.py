"""examples/http_server.py, asked by curl and by what sends requests byte by byte."""

import re
import shutil
import socket
import subprocess
import sys

import pytest
from support.certificates import ca_file, client_context, pem_file
from support.programs import LIMIT, ROOT, Program, pushed_into

CURL = shutil.which("curl")
needs_curl = pytest.mark.skipif(CURL is None, reason="there is no curl here")


@pytest.fixture(scope="module", params=["http", "https"])
def server(request):
    """The server, with and without TLS: its URL."""
    scheme = request.param
    url = "tcp://127.0.0.1:0" if scheme == "http" else "tls://127.0.0.1:0"
    files = [] if scheme == "http" else [pem_file("server")]
    program = Program([sys.executable, ROOT / "examples" / "http_server.py", url, *files])
    port = re.search(r", (\d+)\)", program.stdout.readline())[1]
    yield f"{scheme}://localhost:{port}"
    program.stop()
    assert program.log == []


@pytest.fixture
def connect(server):
    """Connect to the server by hand."""
    host, port = server.partition("://")[2].split(":")
    socks = []

    def make():
        sock = socket.create_connection(("127.0.0.1", int(port)), timeout=LIMIT)
        if server.startswith("https"):
            sock = client_context().wrap_socket(sock, server_hostname=host)
        socks.append(sock)
        return sock

    yield make
    for sock in socks:
        sock.close()


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    """Make files to upload, of so many bytes."""
    folder = tmp_path_factory.mktemp("bodies")

    def make(size):
        path = folder / str(size)
        path.write_bytes(b"0123456789abcdef" * (size // 16))
        return path

    return make


def curl(*arguments):
    """Return what curl shows: what it was answered, and behind it what -w has."""
    argv = [CURL, "-s", "-S", "--http1.1", "--noproxy", "*", "--cacert", ca_file(), *arguments]
    done = subprocess.run([*map(str, argv)], capture_output=True, timeout=LIMIT, check=False)
    assert done.stderr == b""
    assert done.returncode == 0
    return done.stdout


def head_and_body(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    return status, {line.partition(": ")[0]: line.partition(": ")[2] for line in fields}, body


@needs_curl
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["/"], "200 OK"),
        (["/hello?a=b"], "200 OK"),
        (["/nothing"], "404 Not Found"),
        (["/echo"], "405 Method Not Allowed"),
        (["/", "-d", "x"], "405 Method Not Allowed"),
        (["/", "-X", "BREW"], "405 Method Not Allowed"),
    ],
)
def test_pages(server, arguments, status):
    path, *options = arguments
    shown, fields, body = head_and_body(curl("-i", server + path, *options))
    assert shown == f"HTTP/1.1 {status}"
    assert fields["Content-Length"] == str(len(body))
    assert fields["Connection"] == "keep-alive"


@needs_curl
def test_a_head_alone(server):
    status, fields, body = head_and_body(curl("-I", server + "/hello"))
    assert (status, fields["Content-Length"], body) == ("HTTP/1.1 200 OK", "13", b"")


@needs_curl
def test_pages_come_by_one_connection(server):
    shown = curl("-w", "%{num_connects}", *[server + "/hello"] * 3)
    assert shown == b"Hello, world\n1Hello, world\n0Hello, world\n0"


@needs_curl
@pytest.mark.parametrize(
    "options", [["-H", "Connection: close"], ["--http1.0"]], ids=["close", "1.0"]
)
def test_a_connection_for_each(server, options):
    shown = curl("-w", "%{num_connects}", *options, *[server + "/hello"] * 2)
    assert shown == b"Hello, world\n1Hello, world\n1"


@needs_curl
@pytest.mark.parametrize(
    "options",
    [[], ["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked"]],
    ids=["asks", "sends", "chunks"],
)
def test_an_upload_comes_back_without_a_wait(server, body, options):
    """Else curl would wait for a second, which is the least that it takes where it is not told."""
    file = body(960_000)
    expect = [] if "Expect:" in options else ["-H", "Expect: 100-continue"]
    arguments = ["--data-binary", f"@{file}", "--expect100-timeout", "30", *expect, *options]
    shown = curl("-w", "%{time_total}", server + "/echo", *arguments)
    echoed, seconds = shown[:960_000], float(shown[960_000:])
    assert echoed == file.read_bytes()
    assert seconds < 20


@needs_curl
@pytest.mark.parametrize(
    "options",
    [["-H", "Expect: 100-continue"], ["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked"]],
    ids=["asks", "sends", "chunks"],
)
def test_an_upload_over_the_limit_is_shown_the_refusal(server, body, options):
    file = body(10_000_000)
    shown = curl("-w", "%{http_code}", server + "/echo", "--data-binary", f"@{file}", *options)
    assert shown == b"413 Content Too Large\n413"


@needs_curl
@pytest.mark.parametrize("size", [20_000, 90_000])
def test_a_head_over_the_limit_is_shown_the_refusal(server, size):
    shown = curl("-w", "%{http_code}", server + "/", "-H", "X: " + "y" * size)
    assert shown == b"431 Request Header Fields Too Large\n431"


@needs_curl
@pytest.mark.parametrize(
    "field", ["X : y", "Content-Length : 5", "Transfer-Encoding: gzip", "Host;"]
)
def test_a_malformed_request_is_shown_the_refusal(server, field):
    options = ["-H", "Host: a", "-H", "Host : b"] if field == "Host;" else ["-H", field]
    shown = curl("-w", "%{http_code}", server + "/", *options)
    assert shown == b"400 Bad Request\n400"


def ask(sock, data):
    """Send it, and return all that comes until the server ends the connection."""
    sock.sendall(data)
    answer = b""
    while chunk := sock.recv(65536):
        answer += chunk
    return answer


GET = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def test_requests_may_come_together(connect):
    answer = ask(connect(), GET * 50 + LAST + GET)
    assert answer.count(b"HTTP/1.1 200 OK") == 51
    assert answer.endswith(b"This is all there is: / /hello /echo\n")


def test_a_request_may_come_byte_by_byte(connect):
    sock = connect()
    for byte in GET:
        sock.sendall(bytes([byte]))
    assert ask(sock, LAST).count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # the server misses its Host
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n",
    ],
)
def test_what_could_be_understood_in_two_ways_is_refused(connect, request_):
    """And nothing that comes behind it is taken for a request."""
    answer = ask(connect(), GET + request_ + GET)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"400"]
    assert b"Connection: close" in answer


def test_a_refusal_does_not_wait_for_the_body(connect):
    sock = connect()
    sock.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
    assert sock.recv(65536).startswith(b"HTTP/1.1 413 Content Too Large\r\n")


def test_a_client_that_goes_harms_nobody(connect):
    for data in (b"", b"GET", b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx"):
        sock = connect()
        sock.sendall(data)
        sock.close()
    assert ask(connect(), LAST).startswith(b"HTTP/1.1 200 OK")


def test_who_does_not_read_responses_is_not_read_from(connect):
    """Else they would take memory, up to 64 MiB for each client."""
    head = b"POST /echo HTTP/1.1\r\nHost: here\r\nContent-Length: 100000\r\n\r\n"
    request = head + bytes(100_000)
    most = 700 * len(request)
    sock = connect()
    taken = pushed_into(sock, request, most)
    assert taken < most
    responses = 0
    while responses < taken // len(request) * 100_000:
        responses += len(sock.recv(1_000_000))
