"""How a stream begins: connecting, listening and accepting, from ready to closed."""

import contextlib
import errno
import os
import socket
import uuid

import pytest
from support.meeting import meet, unused_url, url_of
from support.network import unused_port
from support.pump import PATIENCE, drain, kinds, take, until

from eventmux import (
    Closed,
    Closing,
    Connect,
    Credentials,
    Peer,
    Read,
    Ready,
    Sent,
    URLError,
    sockets,
)


def test_a_stream_from_ready_to_closed(mux, pair):
    fh, peer = pair()
    mux.add(fh)
    assert mux.handles() == [fh]
    assert mux.mux() == Ready(fh)
    peer.send(b"hello")
    assert mux.mux() == Read(fh, b"hello")
    assert mux.send(fh, b"wor", b"ld") == 0
    assert mux.mux() == Sent(fh)
    assert peer.recv(10) == b"world"
    peer.close()
    assert mux.mux() == Closing(fh, None)
    assert fh.fileno() >= 0
    assert mux.handles() == [fh]
    assert mux.mux() == Closed(fh, 0, None)
    assert fh.fileno() == -1
    assert mux.handles() == []
    assert mux.mux() is None


def test_what_the_peer_sent_before_it_went_is_read(mux, pair):
    fh, peer = pair()
    mux.add(fh)
    peer.send(b"hello")
    peer.close()
    assert drain(mux) == [Ready(fh), Read(fh, b"hello"), Closing(fh), Closed(fh)]


def test_a_client_over_tcp(mux):
    with socket.create_server(("127.0.0.1", 0)) as server:
        fh = mux.connect(url_of(server))
        assert not fh.getblocking()
        assert mux.mux() == Ready(fh)
        peer, _ = server.accept()
        with peer:
            peer.send(b"hello")
            assert mux.mux() == Read(fh, b"hello")
        assert take(mux, 2) == [Closing(fh), Closed(fh)]
        assert mux.mux() is None


def test_what_is_sent_before_the_connection_is_up(mux):
    with socket.create_server(("127.0.0.1", 0)) as server:
        fh = mux.connect(url_of(server))
        mux.send(fh, b"hello")
        assert take(mux, 2) == [Ready(fh), Sent(fh)]
        peer, _ = server.accept()
        with peer:
            assert peer.recv(10) == b"hello"


def test_an_accepted_connection(mux):
    listener = mux.listen("tcp://127.0.0.1:0")
    with socket.create_connection(listener.getsockname()) as peer:
        event = mux.mux()
        assert event == Connect(
            event.fh, listener, peer.getsockname(), peer=Peer(peer.getsockname())
        )
        assert set(mux.handles()) == {listener, event.fh}
        assert not event.fh.getblocking()
        peer.send(b"hello")
        assert mux.mux() == Read(event.fh, b"hello")
    assert take(mux, 2) == [Closing(event.fh), Closed(event.fh)]
    assert mux.handles() == [listener]


def test_both_ends_in_one_mux(mux):
    _, fh, accepted = meet(mux)
    mux.send(fh, b"ping")
    assert until(mux, "read") == [Sent(fh), Read(accepted, b"ping")]
    mux.send(accepted, b"pong")
    assert until(mux, "read") == [Sent(accepted), Read(fh, b"pong")]


def test_many_connections_at_once(mux):
    listener = mux.listen("tcp://127.0.0.1:0")
    fhs = [mux.connect(url_of(listener)) for _ in range(100)]
    events = take(mux, 200)
    assert {event.fh for event in events if event.type == "ready"} == set(fhs)
    ports = {event.address[1] for event in events if event.type == "connect"}
    assert ports == {fh.getsockname()[1] for fh in fhs}


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="only Linux has it")
def test_a_unix_connection_brings_credentials(mux):
    url = f"unix://@eventmux-{uuid.uuid4()}"
    listener = mux.listen(url)
    fh = mux.connect(url)
    events = {event.type: event for event in take(mux, 2)}
    assert events["ready"] == Ready(fh)
    ids = (os.getpid(), os.getuid(), os.getgid())
    accepted = events["connect"].fh
    assert events["connect"] == Connect(accepted, listener, "", *ids, Peer("", Credentials(*ids)))


def test_a_refused_connection(mux):
    fh = mux.connect(unused_url(), meta="mine")
    error, closing = take(mux, 2)
    assert (error.type, error.fh, error.errno) == ("error", fh, errno.ECONNREFUSED)
    assert error.error == os.strerror(errno.ECONNREFUSED)
    assert isinstance(error.exception, ConnectionRefusedError)
    assert error.data == b""
    assert closing == Closing(fh, error.error)
    assert mux.meta(fh) == "mine"
    assert mux.mux() == Closed(fh, 0, error.error)
    assert mux.mux() is None


def test_a_refused_connection_counts_what_was_not_sent(mux):
    fh = mux.connect(unused_url())
    mux.send(fh, b"hello")
    assert until(mux, "closed")[-1].missing == 5


@pytest.mark.parametrize(
    "url",
    ["unix:///no/such/dir/x", f"unix:///{'x' * 200}", "tcp://no-such-host.invalid:1", "tcp://:1"],
)
def test_a_connection_that_fails_at_once_is_told_by_events(mux, url):
    fh = mux.connect(url)
    assert mux.handles() == [fh]
    assert kinds(take(mux, 3)) == ["error", "closing", "closed"]
    assert mux.mux() is None


@pytest.mark.parametrize("host", ["x" * 64, "a..b", "\ud800"])
def test_a_name_that_cannot_be_one(mux, host):
    # Python's IDNA codec raises UnicodeError for these.
    with pytest.raises((URLError, OSError)):
        mux.listen(f"tcp://{host}:1")
    with contextlib.suppress(URLError):
        mux.connect(f"tcp://{host}:1")
        assert kinds(take(mux, 3)) == ["error", "closing", "closed"]
    assert mux.handles() == []


@pytest.mark.skipif(os.name == "nt", reason="paths are text there")
def test_a_path_that_cannot_be_one(mux):
    with contextlib.suppress(URLError):
        mux.connect("unix:///tmp/\ud800")
        assert kinds(take(mux, 3)) == ["error", "closing", "closed"]
    assert mux.handles() == []


def resolve_to(monkeypatch, *addresses):
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    def getaddrinfo(host, *_, flags=0, **__):
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, f"{host} is a name")
        return entries

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("refused", [1, 3])
def test_a_name_with_several_addresses_is_tried_until_one_answers(mux, monkeypatch, refused):
    # "localhost" is ::1 first nearly everywhere, and a server often on 127.0.0.1 only.
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = unused_url().rpartition(":")[2]
        bad = [("127.0.0.1", int(closed))] * refused
        resolve_to(monkeypatch, *bad, server.getsockname())
        fh = mux.connect("tcp://localhost:80")
        mux.send(fh, b"hello")
        assert until(mux, "sent") == [Ready(fh), Sent(fh)]
        peer, _ = server.accept()
        with peer:
            assert peer.recv(10) == b"hello"
            peer.send(b"world")
            assert mux.mux(PATIENCE) == Read(fh, b"world")
        assert not fh.getblocking()
        assert not os.get_blocking(fh.fileno())
        assert fh.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_name_none_of_whose_addresses_answers(mux, monkeypatch):
    closed = int(unused_url().rpartition(":")[2])
    resolve_to(monkeypatch, *[("127.0.0.1", closed)] * 3)
    fh = mux.connect("tcp://localhost:80")
    events = take(mux, 3)
    assert kinds(events) == ["error", "closing", "closed"]
    assert events[0].errno == errno.ECONNREFUSED
    assert mux.mux() is None
    assert fh.fileno() == -1


@pytest.mark.parametrize("url", ["tcp://127.0.0.1", "http://x:1", "unix://"])
def test_a_url_that_is_not_understood_is_raised(mux, url):
    for method in (mux.connect, mux.listen):
        with pytest.raises(URLError, match="cannot parse"):
            method(url)
    assert mux.handles() == []


def test_listen_raises_what_the_kernel_says(mux):
    listener = mux.listen("tcp://127.0.0.1:0")
    with pytest.raises(OSError, match="in use"):
        mux.listen(url_of(listener))
    assert mux.handles() == [listener]


def test_listen_passes_the_backlog_on(mux):
    url = f"unix://@eventmux-{uuid.uuid4()}"
    mux.listen(url, backlog=0)
    mux.connect(url)
    second = mux.connect(url)
    event = next(event for event in take(mux, 3) if event.fh is second)
    assert event.errno == errno.EAGAIN


def assert_listens(mux, server):
    with pytest.raises(ValueError, match="listen is False, but .* listens"):
        mux.add(server, listen=False)


def test_what_listens_and_what_does_not(mux, pair):
    fh, _ = pair()
    with pytest.raises(ValueError, match="listen is True, but .* does not listen"):
        mux.add(fh, listen=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert_listens(mux, server)
    assert mux.handles() == []


@pytest.mark.parametrize("url", [7007, ("127.0.0.1", 7007), None, b"tcp://x:1"])
def test_a_url_is_text(mux, url):
    for method in (mux.connect, mux.listen):
        with pytest.raises(TypeError, match="url is .*, must be a str such as"):
            method(url)


def test_a_connection_that_is_gone_leaves_no_deadline(mux):
    listener = mux.listen("tcp://127.0.0.1:0")
    fh = mux.connect(url_of(listener), timeout=1000)
    take(mux, 2)
    mux.kill(fh)
    drain(mux)
    assert mux.timeout() is None


# A connection that meets itself


@pytest.fixture
def narrow(monkeypatch):
    """Let the system give connections the port that they go to, as it does by chance."""
    start = sockets.start

    def meet_itself(target, source):
        class Narrow(socket.socket):
            def connect_ex(self, address):
                self.bind(address)
                return super().connect_ex(address)

        with monkeypatch.context() as patch:
            patch.setattr(sockets.socket, "socket", Narrow)
            return start(target, source)

    monkeypatch.setattr(sockets, "start", meet_itself)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("data", [b"", b"hello"])
def test_a_connection_to_itself_is_refused(mux, narrow, host, data):
    fh = mux.connect(f"tcp://{host}:{unused_port()}")
    if data:
        mux.send(fh, data)
    error, closing, closed = until(mux, "closed")
    assert (error.type, error.errno) == ("error", errno.ECONNREFUSED)
    assert closing == Closing(fh, error.error)
    assert closed == Closed(fh, len(data), error.error)
    assert fh.fileno() == -1
