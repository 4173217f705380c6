"""Ports that are shared, and where a connection comes from."""

import errno
import os
import socket
import sys

import pytest
from support.meeting import url_of
from support.network import has_ipv6, unused_port
from support.pump import PATIENCE, drain, kinds, take, until

from eventmux import Read, Ready, Sent, sockets
from eventmux.urls import parse_url

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is a host of Linux")
ipv6_only = pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 here")

NOBODY = "tcp://127.0.0.1:9"


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        yield server


# reuse_port


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_a_port_can_be_shared(mux, scheme, host):
    first = mux.listen(f"{scheme}://{host}:0", reuse_port=True)
    port = first.getsockname()[1]
    second = mux.listen(f"{scheme}://{host}:{port}", reuse_port=True)
    assert second.getsockname() == first.getsockname()
    with pytest.raises(OSError, match="already in use") as caught:
        mux.listen(f"{scheme}://{host}:{port}")
    assert caught.value.errno == errno.EADDRINUSE


def test_each_of_them_gets_some(mux):
    listeners = [mux.listen("tcp://127.0.0.1:0", reuse_port=True)]
    url = url_of(listeners[0])
    listeners.append(mux.listen(url, reuse_port=True))
    seen = set()
    for _ in range(200):
        with socket.create_connection(listeners[0].getsockname()):
            seen.add(until(mux, "connect")[-1].parent_fh)
        if len(seen) == 2:
            break
    assert seen == set(listeners)


@pytest.mark.parametrize("scheme", ["unix", "unix_dgram", "unix_seqpacket"])
def test_a_path_is_no_port(mux, tmp_path, scheme):
    with pytest.raises(ValueError, match="reuse_port is for ports"):
        mux.listen(f"{scheme}://{tmp_path}/socket", reuse_port=True)
    assert list(tmp_path.iterdir()) == []


def test_a_system_that_cannot_share_ports(mux, monkeypatch):
    monkeypatch.delattr(socket, "SO_REUSEPORT", raising=False)
    with pytest.raises(ValueError, match="SO_REUSEPORT"):
        mux.listen("tcp://127.0.0.1:0", reuse_port=True)


def test_a_port_of_a_connection_that_has_ended_can_be_had_again(mux, server):
    """In TIME_WAIT: a server that is started again is not kept waiting."""
    listener = mux.listen("tcp://127.0.0.1:0")
    url = url_of(listener)
    with socket.create_connection(listener.getsockname()) as peer:
        fh = until(mux, "connect")[-1].fh
        mux.close(fh)
        until(mux, "closed")
        assert peer.recv(1) == b""
    mux.kill(listener)
    drain(mux)
    assert url_of(mux.listen(url)) == url


# source, for IPv4 and IPv6


@linux_only
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_where_a_connection_comes_from(mux, server, host):
    url = f"tcp://{host}:{server.getsockname()[1]}"
    fh = mux.connect(url, source=("127.0.0.2", 0))
    assert until(mux, "ready")[-1] == Ready(fh)
    peer, address = server.accept()
    with peer:
        assert address[0] == "127.0.0.2"
        assert fh.getsockname() == address


def test_a_port(mux, server):
    port = unused_port()
    fh = mux.connect(url_of(server), source=("", port))
    until(mux, "ready")
    assert fh.getsockname()[1] == port


def test_the_port_of_a_connection_that_has_ended(mux, server):
    """Our end closes first, so that it is in TIME_WAIT; another peer may be called from there."""
    port = unused_port()
    fh = mux.connect(url_of(server), source=("127.0.0.1", port))
    until(mux, "ready")
    peer, _ = server.accept()
    mux.close(fh)
    until(mux, "closed")
    with peer, socket.create_server(("127.0.0.1", 0)) as other:
        assert peer.recv(1) == b""
        peer.close()
        again = mux.connect(url_of(other), source=("127.0.0.1", port))
        assert until(mux, "ready") == [Ready(again)]


@linux_only
def test_the_system_may_choose_the_same_port_for_several_peers(mux, server):
    fh = mux.connect(url_of(server), source=("127.0.0.1", 0))
    until(mux, "ready")
    assert fh.getsockopt(socket.IPPROTO_IP, 24)  # IP_BIND_ADDRESS_NO_PORT
    assert fh.getsockname()[1] != 0


@ipv6_only
def test_addresses_of_the_other_family_are_left_out(mux, monkeypatch):
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        found = [
            (family, socket.SOCK_STREAM, 0, "", address)
            for family, address in [
                (socket.AF_INET, ("127.0.0.1", port)),
                (socket.AF_INET6, ("::1", port, 0, 0)),
            ]
        ]
        monkeypatch.setattr(
            sockets.socket,
            "getaddrinfo",
            lambda *args, flags=0, **named: _numeric(flags) or found,
        )
        fh = mux.connect(f"tcp://both:{port}", source=("::1", 0))
        assert until(mux, "ready") == [Ready(fh)]
        assert fh.getsockname()[0] == "::1"


def _numeric(flags):
    if flags & socket.AI_NUMERICHOST:
        raise socket.gaierror(socket.EAI_NONAME, "it is a name")


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_a_name_that_has_no_address_of_the_family(mux, monkeypatch, scheme):
    monkeypatch.setattr(
        sockets, "look_up", lambda endpoint: [(socket.AF_INET, 1, ("127.0.0.1", 9))]
    )
    fh = mux.connect(f"{scheme}://localhost:9", source=("::1", 0))
    events = until(mux, "closed")
    assert kinds(events) == ["error", "closing", "closed"]
    assert events[0].error == "no address of the family of the source, ('::1', 0)"
    assert events[0].errno == errno.EAFNOSUPPORT
    assert events[0].fh is fh


@pytest.mark.parametrize("source", [("192.0.2.1", 0), ("127.0.0.1", 1)])
def test_what_the_kernel_refuses_is_an_error(mux, source, monkeypatch):
    if source[1] and os.geteuid() == 0:

        def refuse(sock, address):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr("eventmux.sources._bind", refuse)
    fh = mux.connect(NOBODY, source=source)
    error, closing, closed = until(mux, "closed")
    assert error.error.startswith(f"cannot send from {source!r}: ")
    assert error.errno in (errno.EADDRNOTAVAIL, errno.EACCES)
    assert closing.fh is closed.fh is fh


def test_a_source_that_is_in_use(mux, server):
    fh = mux.connect(url_of(server), source=server.getsockname())
    error = until(mux, "closed")[0]
    assert error.errno == errno.EADDRINUSE
    assert error.fh is fh


def test_a_refused_source_costs_no_descriptor(mux):
    before = len(os.listdir("/dev/fd"))
    for _ in range(20):
        mux.connect(NOBODY, source=("192.0.2.1", 0))
        until(mux, "closed")
    assert len(os.listdir("/dev/fd")) == before


@linux_only
def test_datagrams(mux):
    receiver = mux.listen("udp://127.0.0.1:0")
    url = url_of(receiver).replace("tcp", "udp")
    connected = mux.connect(url, source=("127.0.0.2", 0))
    alone = mux.connect("udp://", source=("127.0.0.3", 0))
    mux.send(connected, b"one")
    mux.sendto(alone, receiver.getsockname(), b"two")
    events = [event for event in take(mux, 4) if not isinstance(event, Sent)]
    assert [(event.data, event.sender[0]) for event in events] == [
        (b"one", "127.0.0.2"),
        (b"two", "127.0.0.3"),
    ]


@ipv6_only
def test_a_datagram_socket_for_ipv6(mux):
    receiver = mux.listen("udp://[::1]:0")
    fh = mux.connect("udp://", source=("::1", 0))
    mux.sendto(fh, receiver.getsockname()[:2], b"hello")
    read = next(event for event in take(mux, 2) if isinstance(event, Read))
    assert (read.data, read.sender[:2]) == (b"hello", fh.getsockname()[:2])


@pytest.mark.parametrize(
    ("url", "source", "error", "text"),
    [
        (NOBODY, "127.0.0.1:0", TypeError, "must be (host, port)"),
        (NOBODY, ("127.0.0.1",), TypeError, "must be (host, port)"),
        (NOBODY, (2130706433, 0), TypeError, "a str and an int"),
        (NOBODY, ("127.0.0.1", "80"), TypeError, "a str and an int"),
        (NOBODY, ("127.0.0.1", True), TypeError, "a str and an int"),
        (NOBODY, ("localhost", 0), ValueError, "'localhost' is no numeric address"),
        (NOBODY, ("127.0.0.1\0", 0), ValueError, "is no numeric address"),
        (NOBODY, ("127.0.0.1", 65536), ValueError, "the port is not in 0..65535"),
        (NOBODY, ("127.0.0.1", -1), ValueError, "the port is not in 0..65535"),
        (NOBODY, ("::1", 0), ValueError, "of another family than tcp://127.0.0.1:9"),
        ("tcp://[::1]:9", ("127.0.0.1", 0), ValueError, "of another family"),
        ("udp://:9", ("127.0.0.1", 0), ValueError, "udp://:9 has the port to send from"),
        ("unix://x", ("127.0.0.1", 0), TypeError, "must be the path of a UNIX socket"),
        ("unix://x", "", ValueError, "must be a path, or @ and a name"),
        ("unix://x", "a\0b", ValueError, "must be a path"),
    ],
)
def test_sources_that_cannot_be(mux, url, source, error, text):
    with pytest.raises(error) as caught:
        mux.connect(url, source=source)
    assert text in str(caught.value)
    assert mux.handles() == []


# source, for UNIX sockets


@pytest.mark.parametrize("scheme", ["unix", "unix_seqpacket"])
def test_the_path_of_a_client(mux, tmp_path, scheme):
    mux.listen(f"{scheme}://{tmp_path}/server")
    path = str(tmp_path / "client")
    fh = mux.connect(f"{scheme}://{tmp_path}/server", source=path)
    connect = next(event for event in take(mux, 2) if event.type == "connect")
    assert connect.address == path
    mux.kill(fh)
    drain(mux)
    assert not os.path.exists(path)


@linux_only
def test_a_name_of_a_client(mux, tmp_path):
    mux.listen(f"unix://{tmp_path}/server")
    name = f"{tmp_path}/client".replace("/", "-")
    mux.connect(f"unix://{tmp_path}/server", source=f"@{name}")
    connect = next(event for event in take(mux, 2) if event.type == "connect")
    assert connect.address == b"\0" + name.encode()


def test_datagrams_are_answered_at_the_path(mux, tmp_path):
    server = mux.listen(f"unix_dgram://{tmp_path}/server")
    path = str(tmp_path / "client")
    fh = mux.connect(f"unix_dgram://{tmp_path}/server", source=path)
    mux.send(fh, b"hello")
    read = until(mux, "read")[-1]
    assert read.sender == path
    mux.sendto(server, path, b"world")
    assert until(mux, "read")[-1] == Read(fh, b"world", f"{tmp_path}/server")


def test_a_file_of_somebody_is_not_taken(mux, tmp_path):
    mux.listen(f"unix://{tmp_path}/server")
    mine = tmp_path / "mine"
    mine.write_text("it stays")
    mux.connect(f"unix://{tmp_path}/server", source=str(mine))
    error = until(mux, "error")[-1]
    assert error.error.startswith(f"cannot send from {str(mine)!r}: ")
    assert mine.read_text() == "it stays"


def test_nobody_listens_and_the_file_goes(mux, tmp_path):
    path = tmp_path / "client"
    mux.connect(f"unix://{tmp_path}/nobody", source=str(path))
    assert kinds(until(mux, "closed")) == ["error", "closing", "closed"]
    assert not path.exists()


# By itself


def test_the_endpoint_alone():
    with sockets.unconnected(parse_url("udp://"), ("127.0.0.1", 0)) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"
