"""Real sockets: listening, connecting without waiting, credentials."""

import contextlib
import errno
import os
import select
import socket
import stat
import struct
import sys
import uuid

import pytest

from eventmux import sockets
from eventmux.urls import parse_url

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


@pytest.fixture
def closing():
    """A stack that closes what a test opens."""
    with contextlib.ExitStack() as stack:
        yield lambda sock: stack.enter_context(contextlib.closing(sock))


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A path for a UNIX socket: short, because 108 bytes are all there is."""
    monkeypatch.chdir(tmp_path)
    return "x.sock"


@pytest.fixture
def abstract():
    return f"@eventmux-{uuid.uuid4()}"


def is_ready(sock, mode="r"):
    """Wait until a socket can be read from or written to."""
    lists = ([sock], [], []) if mode == "r" else ([], [sock], [])
    return any(select.select(*lists, 10))


def url_of(listener):
    host, port = listener.getsockname()[:2]
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def meet(closing, listener, url):
    """Connect to a listener and return both ends."""
    sock, _, error = sockets.connect(parse_url(url))
    closing(sock)
    assert error is None
    assert is_ready(sock, "w")
    assert sockets.connect_error(sock) is None
    assert is_ready(listener)
    other, address = sockets.accept(listener)
    return sock, closing(other), address


def unused_port():
    """Return a port that nobody listens on: it was just given back."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


# Listening


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
def test_listen_and_connect_over_tcp(closing, host):
    listener = closing(sockets.listen(parse_url(f"tcp://{host}:0")))
    assert not listener.getblocking()
    assert not listener.get_inheritable()
    assert sockets.is_listening(listener)
    port = listener.getsockname()[1]
    sock, other, address = meet(closing, listener, f"tcp://{host or '127.0.0.1'}:{port}")
    assert not sock.getblocking()
    assert not sock.get_inheritable()
    assert address[1] == sock.getsockname()[1]
    other.send(b"hello")
    assert is_ready(sock)
    assert sock.recv(10) == b"hello"


@needs_ipv6
@pytest.mark.parametrize("host", ["[::1]", ""])
def test_listen_and_connect_over_ipv6(closing, host):
    listener = closing(sockets.listen(parse_url(f"tcp://{host}:0")))
    assert listener.family == socket.AF_INET6
    sock, _, address = meet(closing, listener, f"tcp://[::1]:{listener.getsockname()[1]}")
    assert sock.family == socket.AF_INET6
    assert address[0] == "::1"


@needs_ipv6
def test_the_empty_host_serves_both_families(closing):
    listener = closing(sockets.listen(parse_url("tcp://:0")))
    _, _, address = meet(closing, listener, f"tcp://127.0.0.1:{listener.getsockname()[1]}")
    assert address[0].endswith("127.0.0.1")


def test_listen_without_ipv6(closing, monkeypatch):
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    listener = closing(sockets.listen(parse_url("tcp://:0")))
    assert listener.getsockname()[0] == "0.0.0.0"


def test_listen_refuses_an_address_in_use(closing):
    first = closing(sockets.listen(parse_url("tcp://127.0.0.1:0")))
    with pytest.raises(OSError, match="in use") as caught:
        sockets.listen(parse_url(url_of(first)))
    assert caught.value.errno == errno.EADDRINUSE


def test_listen_refuses_an_unknown_name():
    with pytest.raises(OSError, match=r"."):
        sockets.listen(parse_url("tcp://no-such-host.invalid:0"))


def test_a_backlog_that_is_no_number_leaks_no_socket():
    with pytest.raises(TypeError):
        sockets.listen(parse_url("tcp://127.0.0.1:0"), backlog="many")


# UNIX sockets


def test_listen_and_connect_over_unix(closing, path):
    listener = closing(sockets.listen(parse_url(f"unix://{path}")))
    assert not listener.getblocking()
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    sock, other, _ = meet(closing, listener, f"unix://{path}")
    sock.send(b"hello")
    assert other.recv(10) == b"hello"


def test_a_stale_file_is_replaced(closing, path):
    sockets.listen(parse_url(f"unix://{path}")).close()
    assert os.path.exists(path)
    listener = closing(sockets.listen(parse_url(f"unix://{path}")))
    meet(closing, listener, f"unix://{path}")


def test_a_live_server_is_left_alone(closing, path):
    first = closing(sockets.listen(parse_url(f"unix://{path}")))
    with pytest.raises(OSError, match="in use") as caught:
        sockets.listen(parse_url(f"unix://{path}"))
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.filename == path
    closing(sockets.accept(first)[0])  # that was the probe
    meet(closing, first, f"unix://{path}")


def test_a_live_server_with_a_full_queue_is_left_alone(closing, path):
    first = closing(sockets.listen(parse_url(f"unix://{path}"), backlog=0))
    closing(sockets.connect(parse_url(f"unix://{path}"))[0])
    with pytest.raises(OSError, match="in use"):
        sockets.listen(parse_url(f"unix://{path}"))
    sockets.accept(first)[0].close()
    meet(closing, first, f"unix://{path}")


def test_a_datagram_socket_is_left_alone(closing, path):
    other = closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    other.bind(path)
    with pytest.raises(OSError, match="in use"):
        sockets.listen(parse_url(f"unix://{path}"))
    assert os.path.exists(path)


def test_a_file_that_is_no_socket_is_left_alone(path):
    with open(path, "w") as file:
        file.write("precious")
    with pytest.raises(OSError, match="in use"):
        sockets.listen(parse_url(f"unix://{path}"))
    with open(path) as file:
        assert file.read() == "precious"


def test_a_directory_is_left_alone(path):
    os.mkdir(path)
    with pytest.raises(OSError, match=path):
        sockets.listen(parse_url(f"unix://{path}"))
    assert os.path.isdir(path)


def test_a_link_to_nowhere_is_left_alone(path):
    os.symlink("nowhere", path)
    with pytest.raises(OSError, match=path):
        sockets.listen(parse_url(f"unix://{path}"))
    assert os.path.islink(path)


@pytest.mark.parametrize("name", ["no/such/dir/x", "x" * 200])
def test_a_path_that_cannot_be_is_named(path, name):
    with pytest.raises(OSError, match=name):
        sockets.listen(parse_url(f"unix://{name}"))


@linux_only
def test_abstract_names(closing, path, abstract):
    listener = closing(sockets.listen(parse_url(f"unix://{abstract}")))
    assert listener.getsockname() == b"\0" + abstract[1:].encode()
    meet(closing, listener, f"unix://{abstract}")
    assert os.listdir() == []


@linux_only
def test_an_abstract_name_in_use_is_refused(closing, abstract):
    closing(sockets.listen(parse_url(f"unix://{abstract}")))
    with pytest.raises(OSError, match="in use"):
        sockets.listen(parse_url(f"unix://{abstract}"))


# Connecting


@pytest.mark.parametrize("name", ["nobody.sock", "x" * 200])
def test_unix_connect_reports_the_error(closing, path, name):
    sock, _, error = sockets.connect(parse_url(f"unix://{name}"))
    closing(sock)
    assert isinstance(error, OSError)
    assert "No such file" in str(error) or "too long" in str(error)


def test_unix_connect_to_a_stale_file(closing, path):
    sockets.listen(parse_url(f"unix://{path}")).close()
    sock, _, error = sockets.connect(parse_url(f"unix://{path}"))
    closing(sock)
    assert error.errno == errno.ECONNREFUSED


@linux_only
def test_unix_connect_to_a_full_queue_is_an_error(closing, path):
    # EAGAIN does not mean that it goes on: nothing would ever come of it.
    closing(sockets.listen(parse_url(f"unix://{path}"), backlog=0))
    closing(sockets.connect(parse_url(f"unix://{path}"))[0])
    sock, _, error = sockets.connect(parse_url(f"unix://{path}"))
    closing(sock)
    assert error.errno == errno.EAGAIN


def test_tcp_connect_refused(closing):
    sock, _, error = sockets.connect(parse_url(f"tcp://127.0.0.1:{unused_port()}"))
    closing(sock)
    if error is None:  # it goes on
        assert is_ready(sock, "w")
        error = sockets.connect_error(sock)
    assert error.errno == errno.ECONNREFUSED
    assert error.strerror


@pytest.mark.parametrize("host", ["no-such-host.invalid", ""])
def test_connect_to_an_unknown_name(closing, host):
    sock, _, error = sockets.connect(parse_url(f"tcp://{host}:1"))
    closing(sock)
    assert isinstance(error, OSError)


def resolve_to(monkeypatch, *found):
    """Let every name have these addresses, pairs of family and socket address."""
    entries = [(family, socket.SOCK_STREAM, 6, "", address) for family, address in found]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)


def test_the_next_address_is_tried(closing, monkeypatch):
    listener = closing(sockets.listen(parse_url("tcp://127.0.0.1:0")))
    broadcast = (socket.AF_INET, ("255.255.255.255", 1))  # ENETUNREACH or EACCES at once
    resolve_to(monkeypatch, broadcast, (socket.AF_INET, listener.getsockname()))
    meet(closing, listener, "tcp://name:1")


def test_the_last_error_is_reported(closing, monkeypatch):
    resolve_to(monkeypatch, *[(socket.AF_INET, ("255.255.255.255", port)) for port in (1, 2, 3)])
    sock, _, error = sockets.connect(parse_url("tcp://name:1"))
    closing(sock)
    assert isinstance(error, OSError)
    assert error.errno


def test_the_same_address_twice_leaks_no_socket(closing, monkeypatch):
    resolve_to(monkeypatch, *[(socket.AF_INET, ("255.255.255.255", 1))] * 3)
    sock, _, error = sockets.connect(parse_url("tcp://name:1"))
    closing(sock)
    assert error is not None


def test_an_address_of_a_family_that_the_kernel_lacks_is_passed_over(closing, monkeypatch):
    # ::1 comes first for "localhost" even where IPv6 is switched off in the kernel.
    listener = closing(sockets.listen(parse_url("tcp://127.0.0.1:0")))
    lacking = (socket.AF_APPLETALK if hasattr(socket, "AF_APPLETALK") else 5, ("::1", 1))
    resolve_to(monkeypatch, lacking, (socket.AF_INET, listener.getsockname()))
    meet(closing, listener, "tcp://name:1")


def test_the_next_address_keeps_the_socket_object(closing, monkeypatch):
    listener = closing(sockets.listen(parse_url("tcp://127.0.0.1:0")))
    refused = (socket.AF_INET, ("127.0.0.1", unused_port()))
    resolve_to(monkeypatch, refused, (socket.AF_INET, listener.getsockname()))
    sock, targets, error = sockets.connect(parse_url("tcp://name:1"))
    closing(sock)
    assert error is None
    if targets:  # the refusal was not told at once
        assert is_ready(sock, "w")
        assert sockets.connect_error(sock).errno == errno.ECONNREFUSED
        before = sock.fileno()
        assert sockets.connect_next(sock, targets) is None
        assert sock.fileno() != before
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(before)
    assert targets == []
    assert not sock.getblocking()
    assert not sock.get_inheritable()
    assert is_ready(listener)
    other, _ = sockets.accept(listener)
    closing(other).send(b"hello")
    assert is_ready(sock)
    assert sock.recv(10) == b"hello"


def test_there_may_be_no_next_address(closing):
    sock = closing(socket.socket())
    assert sockets.connect_next(sock, []) is None
    bad = [(socket.AF_INET, ("255.255.255.255", 1))]
    number = sock.fileno()
    assert isinstance(sockets.connect_next(sock, bad), OSError)
    assert bad == []
    assert sock.fileno() == number


# The rest


def test_connect_error_is_given_once(closing):
    listener = closing(sockets.listen(parse_url("tcp://127.0.0.1:0")))
    sock, other, _ = meet(closing, listener, url_of(listener))
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    other.close()
    assert is_ready(sock)
    assert sockets.connect_error(sock).errno == errno.ECONNRESET
    assert sockets.connect_error(sock) is None


def test_accept_with_nobody_there(closing):
    listener = closing(sockets.listen(parse_url("tcp://127.0.0.1:0")))
    assert sockets.accept(listener) is None


def test_is_listening(closing):
    sock = closing(socket.socket())
    assert sockets.is_listening(sock) is False
    sock.listen()
    assert sockets.is_listening(sock) is True


def test_nodelay(closing):
    sock = closing(socket.socket())
    assert sockets.set_nodelay(sock) == 0
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sockets.set_nodelay(sock, 0) != 0
    assert not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_nodelay_where_there_is_none(closing):
    for sock in socket.socketpair():
        assert sockets.set_nodelay(closing(sock)) is None


def test_nodelay_is_never_an_error():
    sock = socket.socket()
    sock.close()
    assert sockets.set_nodelay(sock) is None


@linux_only
def test_credentials_of_a_unix_peer(closing, path):
    listener = closing(sockets.listen(parse_url(f"unix://{path}")))
    _, other, _ = meet(closing, listener, f"unix://{path}")
    assert sockets.credentials(other) == (os.getpid(), os.getuid(), os.getgid())


def test_no_credentials_over_tcp(closing):
    listener = closing(sockets.listen(parse_url("tcp://127.0.0.1:0")))
    _, other, _ = meet(closing, listener, url_of(listener))
    assert sockets.credentials(other) == (None, None, None)


def test_no_credentials_where_the_kernel_has_none(closing, monkeypatch):
    monkeypatch.setattr(sockets, "_SO_PEERCRED", None)
    one, two = socket.socketpair()
    closing(two)
    assert sockets.credentials(closing(one)) == (None, None, None)
