"""TLS between a server and each of the three clients: `tls://`, and what goes wrong with it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
import threading

import pytest
from support import certificates
from support.programs import LIMIT
from support.records import warnings_of

import rpcasync
from eventmux import Event, EventMux, Peer, TLSError, URLError
from rpcasync import Client, Disconnected, RemoteError, Server, aio
from rpcasync.serving import peers

ONE_LINE = pytest.mark.parametrize("reach", ["client", "blocking", "asyncio"])


class Serving:
    """A server in a thread of its own, with the procedures of these tests."""

    def __init__(self, context, url="tls://127.0.0.1:0", **options):
        self.mux = EventMux()
        self.rpc = Server(self.mux, self, slow=None, **options)  # this machine may be busy
        self.seen = []
        address = self.rpc.listen(url, tls=context).getsockname()
        self.port = None if isinstance(address, str) else address[1]
        self.url = url if self.port is None else f"tls://127.0.0.1:{self.port}"
        self._is_over = False
        self._turned = threading.Condition()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        with self.mux:
            while not self._is_over:
                event = self.mux.mux(1)
                with self._turned:
                    self.rpc.io(event)
                    self._turned.notify_all()

    def wait_until(self, is_true):
        """Wait for something that a turn of the server may bring about."""
        with self._turned:
            assert self._turned.wait_for(is_true, LIMIT)

    def stop(self):
        self._is_over = True
        if self._thread.is_alive():
            self.mux.post(Event())  # or it would wait on
        self._thread.join(LIMIT)

    def rpc_add(self, caller, n1: int, n2: int):
        self.seen.append(caller.peer)
        self.rpc.return_(caller, sum=n1 + n2)

    def rpc_big(self, caller, data, /):
        self.rpc.return_(caller, data)

    def rpc_count(self, caller, upto: int, progress):
        for number in range(upto):
            progress(number)
        self.rpc.return_(caller, "done")

    def rpc_fail(self, caller):
        raise rpcasync.Fault("not today")

    def rpc_leave(self, caller):
        self.mux.close(caller.fh)

    def rpc_drop(self, caller):
        self.mux.kill(caller.fh)


@pytest.fixture
def serving():
    made = []

    def make(context=None, **options):
        made.append(Serving(context or certificates.server_context(), **options))
        return made[-1]

    yield make
    for each in made:
        each.stop()


# The same of each client: connect, call, and close.


def by_client(url, calls, **options):
    with EventMux() as mux, Client(mux, url, **options) as client:
        return [
            client.call(name, *args, lambda *_, error=None: None).result(LIMIT)
            for name, *args in calls
        ]


def by_blocking(url, calls, **options):
    with rpcasync.connect(url, timeout=LIMIT, **options) as client:
        return [client.call(name, *args) for name, *args in calls]


def by_asyncio(url, calls, **options):
    async def run():
        async with aio.connect(url, timeout=LIMIT, **options) as client:
            return [await client.call(name, *args) for name, *args in calls]

    return asyncio.run(run())


REACH = {"client": by_client, "blocking": by_blocking, "asyncio": by_asyncio}
ADD = ("add", "n1", 2, "n2", 3)


@ONE_LINE
def test_calls_answers_and_callbacks(serving, reach):
    server = serving()
    heard = []
    calls = [ADD, ("count", "upto", 3, "progress", heard.append), ("big", "x" * 3_000_000)]
    if reach == "client":  # the last function is not to be taken for the callback of the answer
        calls[1] = ("count", "progress", heard.append, "upto", 3)
    add, count, big = REACH[reach](server.url, calls, tls=certificates.client_context())
    assert add["sum"] == 5
    assert (count, heard) == (("done",), [0, 1, 2])
    assert big == ("x" * 3_000_000,)
    assert server.seen[0].tls.version == "TLSv1.3"
    assert server.seen[0].certificate is None


@ONE_LINE
def test_the_certificate_of_the_caller(serving, reach):
    server = serving(certificates.server_context(asks=ssl.CERT_REQUIRED))
    REACH[reach](server.url, [ADD], tls=certificates.client_context("client"))
    (peer,) = server.seen
    assert isinstance(peer, Peer)
    subject = dict(pair for part in peer.certificate["subject"] for pair in part)
    assert subject["commonName"] == "client.example"


@ONE_LINE
def test_authorize_knows_the_certificate(serving, reach, caplog):
    def authorize(peer):
        asked.append(peer)
        return any(("commonName", "second.example") in part for part in peer.certificate["subject"])

    asked = []
    context = certificates.server_context(asks=ssl.CERT_REQUIRED)
    server = serving(context, authorize=authorize)
    with pytest.raises(Disconnected, match="the server closed the connection"):
        REACH[reach](server.url, [ADD], tls=certificates.client_context("client"))
    assert server.seen == []
    line = next(line for line in warnings_of(caplog) if " refused: " in line)
    assert "certificate CN=client.example" in line
    [(answer)] = REACH[reach](server.url, [ADD], tls=certificates.client_context("second"))
    assert answer["sum"] == 5
    assert len(asked) == 2


def test_not_many_who_are_refused_hear_of_it(serving, monkeypatch, caplog):
    """Beyond so many at a time, the connection just ends: each of these has a descriptor."""
    monkeypatch.setattr(peers, "_MOST_TOLD", 0)
    server = serving(authorize=lambda _: False)
    with pytest.raises((Disconnected, OSError), match="close_notify|reset|EOF|Broken pipe"):
        by_client(server.url, [ADD], tls=certificates.client_context())
    assert any(" refused: authorize() returned False" in line for line in warnings_of(caplog))


@ONE_LINE
def test_errors_of_the_server_and_its_end(serving, reach):
    server = serving()
    for name, error, text in (
        ("fail", RemoteError, "^not today$"),
        ("leave", Disconnected, "the server closed the connection"),
        ("drop", Disconnected, "leave|close_notify|closed|reset|EOF"),
    ):
        with pytest.raises(error, match=text):
            REACH[reach](server.url, [ADD, (name,)], tls=certificates.client_context())


@ONE_LINE
@pytest.mark.parametrize(
    ("server", "client", "text"),
    [
        ("server", "nobody", "the certificate of the peer is not accepted: "),
        ("foreign", "server", "the certificate of the peer is not accepted: "),
        ("expired", "server", "not accepted: certificate has expired"),
        ("elsewhere", "server", "not accepted: IP address mismatch"),
    ],
)
def test_certificates_that_are_no_good(serving, reach, server, client, text, caplog):
    url = serving(certificates.server_context(server)).url
    options = {} if client == "nobody" else {"tls": certificates.client_context()}
    with pytest.raises((Disconnected, OSError)) as caught:
        REACH[reach](url, [ADD], **options)
    message = str(caught.value)
    assert text in message
    assert url in message
    assert "_ssl.c" not in message
    assert "\n" not in message


@ONE_LINE
def test_a_certificate_that_is_wanted_and_not_shown(serving, reach):
    url = serving(certificates.server_context(asks=ssl.CERT_REQUIRED)).url
    with pytest.raises((Disconnected, OSError), match="the peer requires a certificate"):
        REACH[reach](url, [ADD], tls=certificates.client_context())


@ONE_LINE
def test_a_server_that_speaks_no_tls(reach):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            sock, _ = listener.accept()
            with sock:
                sock.recv(1000)
                sock.sendall(b"220 smtp.example ESMTP\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"tls://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises((Disconnected, OSError), match="the peer does not speak TLS"):
            REACH[reach](url, [ADD], tls=certificates.client_context())
        thread.join(LIMIT)


@ONE_LINE
def test_a_server_that_ends_the_connection_at_a_hello(reach):
    """So does a server of ours that listens without TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            sock, _ = listener.accept()
            with sock:
                sock.recv(100_000)  # all of it: unread bytes would make a reset of the end

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"tls://127.0.0.1:{listener.getsockname()[1]}"
        told = f"{url}: the peer ended the connection in the middle of the handshake$"
        with pytest.raises((Disconnected, OSError), match=told):
            REACH[reach](url, [ADD], tls=certificates.client_context())
        thread.join(LIMIT)


@ONE_LINE
def test_nobody_there(reach, nobody):
    url = nobody.replace("tcp", "tls")
    with pytest.raises((Disconnected, OSError), match="Connection refused: is the server running"):
        REACH[reach](url, [ADD], tls=certificates.client_context())


@ONE_LINE
def test_a_name_that_is_not_the_host(serving, reach):
    url = serving(certificates.server_context("elsewhere")).url
    options = {"tls": certificates.client_context(), "server_hostname": "elsewhere.example"}
    assert REACH[reach](url, [ADD], **options)[0]["sum"] == 5


@ONE_LINE
@pytest.mark.parametrize("kind", ["tcp", "socket"])
def test_what_is_connected_already_can_be_encrypted(serving, reach, kind):
    server = serving()
    target = f"tcp://127.0.0.1:{server.port}"
    if kind == "socket":
        target = socket.create_connection(("127.0.0.1", server.port))
    if kind == "socket" and reach == "blocking":
        target.close()
        pytest.skip("connect() takes URLs")
    options = {"tls": certificates.client_context(), "server_hostname": "localhost"}
    assert REACH[reach](target, [ADD], **options)[0]["sum"] == 5


@ONE_LINE
def test_unix_sockets_can_be_encrypted(serving, reach, tmp_path):
    server = serving(url=f"unix://{tmp_path}/socket")
    options = {"tls": certificates.client_context(), "server_hostname": "localhost"}
    assert REACH[reach](server.url, [ADD], **options)[0]["sum"] == 5


@ONE_LINE
@pytest.mark.parametrize(
    ("url", "options", "error"),
    [
        ("tls://127.0.0.1:1", {"tls": "context"}, TypeError),
        ("tcp://127.0.0.1:1", {"server_hostname": "x"}, ValueError),
        ("python://server.py", {"tls": "context"}, (TypeError, ValueError)),
        ("tls://nowhere", {}, URLError),
    ],
)
def test_options_that_are_wrong(reach, url, options, error):
    with pytest.raises(error):
        REACH[reach](url, [ADD], **options)


@pytest.mark.parametrize("scheme", ["python", "perl2"])
def test_programs_are_not_encrypted(mux, scheme):
    context = certificates.client_context()
    with pytest.raises(ValueError, match="tls is for tls://host:port, but .* is none"):
        Client(mux, f"{scheme}://server.py", tls=context)
    with pytest.raises(ValueError, match="tls is for tls://host:port, but .* is none"):
        aio.connect(f"{scheme}://server.py", tls=context)


# What belongs to the blocking client alone


def test_a_handshake_that_fails_is_an_error_of_tls(serving):
    url = serving(certificates.server_context("expired")).url
    with pytest.raises(TLSError) as caught:
        rpcasync.connect(url, timeout=LIMIT, tls=certificates.client_context())
    assert str(caught.value).startswith(f"cannot connect to {url}: the certificate of the peer is ")
    assert caught.value.reason == "CERTIFICATE_VERIFY_FAILED"
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


def test_a_blocking_client_knows_that_the_server_has_left(serving):
    server = serving()
    context = certificates.client_context()
    with rpcasync.connect(server.url, timeout=LIMIT, tls=context) as client:
        assert not client.closed
        with pytest.raises(Disconnected):
            client.leave()
        assert client.closed
    with rpcasync.connect(server.url, timeout=LIMIT, tls=context) as client:
        client.add(n1=1, n2=2)
        server.stop()  # its mux closes what it watches
        for _ in range(1000):
            if client.closed:
                break
            threading.Event().wait(0.01)
        assert client.closed


# The server's side


def test_a_handshake_that_fails_is_told_and_harms_nobody(serving, caplog):
    server = serving()
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while sock.recv(1000):
            pass
    assert by_client(server.url, [ADD], tls=certificates.client_context())[0]["sum"] == 5
    (line,) = warnings_of(caplog)
    assert line.startswith("client refused: TLS handshake with ('127.0.0.1', ")
    server.wait_until(lambda: not server.rpc.clients)
    server.wait_until(lambda: not server.rpc._peers.leaving)


def test_who_has_no_place_waits_behind_the_handshake(mux):
    """What it has sent behind that is with us already, and is not lost."""
    rpc = Server(mux, {"rpc_x": lambda caller: rpc.return_(caller, 1)}, max_clients=1)
    listener = rpc.listen("tls://127.0.0.1:0", tls=certificates.server_context())
    url = f"tls://127.0.0.1:{listener.getsockname()[1]}"
    clients = [Client(mux, url, tls=certificates.client_context()) for _ in range(4)]
    calls = [client.x() for client in clients]

    def turn(event):
        for client in clients:
            event = client.io(event)
        rpc.io(event)

    for _ in calls:
        while not any(call.done for call in calls):
            turn(mux.mux())
            assert len(rpc.clients) <= 1
        first = next(call for call in calls if call.done)
        assert first.result() == (1,)
        clients[calls.index(first)].disconnect()
        calls[calls.index(first)] = Never
    rpc.close_listeners()
    while (event := mux.mux()) is not None:
        turn(event)


class Never:
    done = False


@pytest.mark.parametrize(
    ("url", "options", "error", "text"),
    [
        ("tls://127.0.0.1:0", {}, ValueError, "without tls=, a context with a certificate"),
        ("tls://127.0.0.1:0", {"tls": 5}, TypeError, "tls is 5, must be an ssl.SSLContext"),
        ("tls://127.0.0.1", {}, URLError, "the port is missing"),
    ],
)
def test_listening_that_cannot_be(mux, url, options, error, text):
    rpc = Server(mux, {})
    with pytest.raises(error, match=text):
        rpc.listen(url, **options)
    with pytest.raises(ValueError, match="tls is a context for clients"):
        rpc.listen("tls://127.0.0.1:0", tls=certificates.client_context())
    assert not rpc.has_clients()


def test_a_fallback_that_speaks_tls(serving, mux, monkeypatch):
    """It trusts whom the system trusts, or whom its `Client` trusts."""
    behind = serving()
    client = Client(mux, behind.url, tls=certificates.client_context())
    rpc = Server(mux, {}, fallback=client)
    listener = rpc.listen("tcp://127.0.0.1:0")
    ours = Client(mux, f"tcp://127.0.0.1:{listener.getsockname()[1]}")
    call = ours.add(n1=4, n2=5)
    while not call.done:
        ours.io(rpc.io(mux.mux()))
    assert call.result()["sum"] == 9
    rpc.fallback = behind.url
    call = ours.add(lambda **named: None, n1=4, n2=5)
    while not call.done:
        ours.io(rpc.io(mux.mux()))
    assert behind.seen[1:] == []  # nobody it trusts


# What it costs those who do not use it


@pytest.mark.parametrize("module", ["rpcasync", "rpcasync.cli"])
def test_ssl_is_not_imported_for_nothing(module):
    code = f"import sys, {module}; sys.exit('ssl' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LIMIT)


def test_a_plain_server_and_client_do_without_it():
    code = """
import sys
from eventmux import EventMux
from rpcasync import Client, Server
mux = EventMux()
rpc = Server(mux, {"rpc_x": lambda caller: rpc.return_(caller, 1)})
listener = rpc.listen("tcp://127.0.0.1:0")
client = Client(mux, "tcp://127.0.0.1:%d" % listener.getsockname()[1])
call = client.x()
while not call.done:
    client.io(rpc.io(mux.mux()))
sys.exit("ssl" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LIMIT)
