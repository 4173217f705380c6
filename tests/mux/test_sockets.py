"""Real sockets: listening, connecting without waiting."""

import errno
import os
import select
import socket
import stat
import struct
import uuid

import pytest
from support.network import is_ready, linux_only, needs_ipv6, unused_port

from eventmux import sockets
from eventmux.urls import Endpoint, parse_url

KINDS = {
    "unix": socket.SOCK_STREAM,
    "unix_dgram": socket.SOCK_DGRAM,
    "unix_seqpacket": getattr(socket, "SOCK_SEQPACKET", 0),
}


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A path for a UNIX socket: short, because 108 bytes are all there is."""
    monkeypatch.chdir(tmp_path)
    return "x.sock"


@pytest.fixture
def abstract():
    return f"@eventmux-{uuid.uuid4()}"


def url_of(listener):
    host, port = listener.getsockname()[:2]
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def begin(closing, url):
    """Start to connect to the first address of a URL."""
    return closing(sockets.start(sockets.look_up(parse_url(url))[0]))


def meet(closing, listener, url):
    """Connect to a listener and return both ends."""
    sock = begin(closing, url)
    assert is_ready(sock, "w")
    assert sockets.connect_error(sock) is None
    assert is_ready(listener)
    other, address = sockets.accept(listener)
    return sock, closing(other), address


def descriptors():
    """Return how many descriptors the process has open."""
    return len(os.listdir("/dev/fd"))


@pytest.fixture
def no_leak():
    """Check that the test leaves no descriptor open."""
    before = descriptors()
    yield
    assert descriptors() == before


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


def test_a_backlog_that_is_no_number_leaks_no_socket(no_leak):
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


def leave_behind(path, scheme="unix"):
    """Leave the file of a socket that nobody has, as a process that was killed does."""
    with socket.socket(socket.AF_UNIX, KINDS[scheme]) as sock:
        sock.bind(path)


def test_a_stale_file_is_replaced(closing, path):
    leave_behind(path)
    listener = closing(sockets.listen(parse_url(f"unix://{path}")))
    meet(closing, listener, f"unix://{path}")


def test_a_live_server_is_left_alone(closing, path):
    first = closing(sockets.listen(parse_url(f"unix://{path}")))
    with pytest.raises(OSError, match="in use") as caught:
        sockets.listen(parse_url(f"unix://{path}"))
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.filename == f"unix://{path}"
    closing(sockets.accept(first)[0])  # that was the probe
    meet(closing, first, f"unix://{path}")


def test_a_live_server_with_a_full_queue_is_left_alone(closing, path):
    first = closing(sockets.listen(parse_url(f"unix://{path}"), backlog=0))
    begin(closing, f"unix://{path}")
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


# Datagrams and packets


def test_listen_over_udp(closing):
    receiver = closing(sockets.listen(parse_url("udp://127.0.0.1:0")))
    assert (receiver.family, receiver.type) == (socket.AF_INET, socket.SOCK_DGRAM)
    assert not receiver.getblocking()
    assert not receiver.get_inheritable()
    sock = begin(closing, f"udp://127.0.0.1:{receiver.getsockname()[1]}")
    assert not sock.getblocking()
    assert not sock.get_inheritable()
    sock.send(b"hello")
    assert is_ready(receiver)
    assert receiver.recvfrom(10) == (b"hello", sock.getsockname())


@pytest.mark.parametrize("url", ["udp://", "udp://:0"])
def test_udp_without_a_host_takes_ipv4_addresses(closing, url):
    receiver = closing(sockets.listen(parse_url(url)))
    host, port = receiver.getsockname()
    assert host == "0.0.0.0"
    assert port != 0
    receiver.sendto(b"hello", ("127.0.0.1", port))
    assert is_ready(receiver)
    assert receiver.recvfrom(10) == (b"hello", ("127.0.0.1", port))


def test_a_udp_port_belongs_to_one_socket(closing):
    port = closing(sockets.listen(parse_url("udp://"))).getsockname()[1]
    with pytest.raises(OSError, match="in use"):
        sockets.listen(parse_url(f"udp://:{port}"))


@needs_ipv6
def test_listen_over_udp_with_ipv6(closing):
    receiver = closing(sockets.listen(parse_url("udp://[::]:0")))
    port = receiver.getsockname()[1]
    assert receiver.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    begin(closing, f"udp://[::1]:{port}").send(b"hello")
    assert is_ready(receiver)
    assert receiver.recvfrom(10)[1][0] == "::1"


def test_listen_over_udp_refuses_an_unknown_name():
    with pytest.raises(OSError, match=r"."):
        sockets.listen(parse_url("udp://no-such-host.invalid:0"))


def test_listen_over_unix_datagrams(closing, path):
    receiver = closing(sockets.listen(parse_url(f"unix_dgram://{path}")))
    assert receiver.type == socket.SOCK_DGRAM
    assert not receiver.getblocking()
    begin(closing, f"unix_dgram://{path}").send(b"hello")
    assert receiver.recv(10) == b"hello"


@linux_only
def test_a_unix_datagram_client_can_be_answered(closing, path):
    receiver = closing(sockets.listen(parse_url(f"unix_dgram://{path}")))
    sock = begin(closing, f"unix_dgram://{path}")
    sock.send(b"hello")
    _, sender = receiver.recvfrom(10)
    assert sender[:1] == b"\0"
    receiver.sendto(b"welcome", sender)
    assert sock.recv(10) == b"welcome"


@linux_only
def test_packets_keep_their_bounds(closing, path):
    listener = closing(sockets.listen(parse_url(f"unix_seqpacket://{path}")))
    assert sockets.is_listening(listener)
    sock, other, _ = meet(closing, listener, f"unix_seqpacket://{path}")
    assert sock.type == other.type == socket.SOCK_SEQPACKET
    sock.send(b"one")
    sock.send(b"two")
    assert [other.recv(10), other.recv(10)] == [b"one", b"two"]


SCHEMES = ["unix", "unix_dgram", pytest.param("unix_seqpacket", marks=linux_only)]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("before", SCHEMES)
def test_a_stale_file_of_any_kind_is_replaced(closing, path, before, scheme):
    leave_behind(path, before)
    closing(sockets.listen(parse_url(f"{scheme}://{path}")))
    begin(closing, f"{scheme}://{path}")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("before", SCHEMES)
def test_a_live_socket_of_any_kind_is_left_alone(closing, path, before, scheme):
    closing(sockets.listen(parse_url(f"{before}://{path}")))
    with pytest.raises(OSError, match="in use") as caught:
        sockets.listen(parse_url(f"{scheme}://{path}"))
    assert (caught.value.errno, caught.value.filename) == (
        errno.EADDRINUSE,
        f"{scheme}://{path}",
    )
    begin(closing, f"{before}://{path}")


# What to connect to

STREAM, DGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM


@pytest.mark.parametrize(
    ("url", "targets"),
    [
        ("tcp://127.0.0.1:80", [(socket.AF_INET, STREAM, ("127.0.0.1", 80))]),
        ("udp://127.0.0.1:80", [(socket.AF_INET, DGRAM, ("127.0.0.1", 80))]),
        ("udp://", []),
        ("udp://:80", []),
        ("unix://x", [(socket.AF_UNIX, STREAM, "x")]),
        ("unix://@x", [(socket.AF_UNIX, STREAM, "\0x")]),
        ("unix_dgram://x", [(socket.AF_UNIX, DGRAM, "x")]),
        ("unix_seqpacket://x", [(socket.AF_UNIX, socket.SOCK_SEQPACKET, "x")]),
    ],
)
def test_what_need_not_be_looked_up(url, targets):
    assert sockets.known_targets(parse_url(url)) == targets
    assert sockets.look_up(parse_url(url)) == targets


@needs_ipv6
@pytest.mark.parametrize(("scheme", "kind"), [("tcp", STREAM), ("udp", DGRAM)])
def test_an_ipv6_address_need_not_be_looked_up(scheme, kind):
    targets = sockets.known_targets(parse_url(f"{scheme}://[::1]:80"))
    assert targets == [(socket.AF_INET6, kind, ("::1", 80, 0, 0))]


@pytest.mark.parametrize("url", ["tcp://localhost:80", "udp://localhost:80", "tcp://:80"])
def test_what_has_to_be_looked_up(url):
    assert sockets.known_targets(parse_url(url)) is None


def test_look_up_a_name():
    targets = sockets.look_up(parse_url("udp://localhost:80"))
    assert {kind for _, kind, _ in targets} == {DGRAM}
    assert {address[0] for _, _, address in targets} <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize("host", ["no-such-host.invalid", ""])
def test_look_up_an_unknown_name(host):
    with pytest.raises(socket.gaierror):
        sockets.look_up(parse_url(f"tcp://{host}:1"))


def test_a_name_that_does_not_fit_into_dns():
    endpoint = Endpoint("tcp", "x" * 64 + "\u00e9", 1)  # parse_url() refuses it
    assert sockets.known_targets(endpoint) is None
    with pytest.raises(OSError, match="cannot look up 'xxx"):
        sockets.look_up(endpoint)


def resolve_to(monkeypatch, *found):
    """Let every name have these addresses, pairs of family and socket address."""
    entries = [(family, STREAM, 6, "", address) for family, address in found]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)


FOUR, SIX = socket.AF_INET, socket.AF_INET6


@pytest.mark.parametrize(
    ("found", "order"),
    [
        ([(SIX, 1), (SIX, 2), (SIX, 3), (FOUR, 4), (FOUR, 5)], [1, 4, 2, 5, 3]),
        ([(FOUR, 1), (SIX, 2), (SIX, 3)], [1, 2, 3]),
        ([(FOUR, 1), (FOUR, 2), (FOUR, 3), (SIX, 4)], [1, 4, 2, 3]),
        ([(FOUR, 1), (FOUR, 2), (FOUR, 1), (SIX, 4), (SIX, 4)], [1, 4, 2]),
        ([(FOUR, 1)] * 3, [1]),
        ([], []),
    ],
)
def test_the_families_take_turns(monkeypatch, found, order):
    resolve_to(monkeypatch, *[(family, ("host", port)) for family, port in found])
    targets = sockets.look_up(parse_url("tcp://name:1"))
    assert [address[1] for _, _, address in targets] == order


# Connecting


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ["nobody.sock", "x" * 200])
def test_unix_connect_reports_the_error(no_leak, path, scheme, name):
    with pytest.raises(OSError, match="No such file|too long"):
        sockets.start(sockets.look_up(parse_url(f"{scheme}://{name}"))[0])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_unix_connect_to_a_stale_file(no_leak, path, scheme):
    leave_behind(path, scheme)
    with pytest.raises(ConnectionRefusedError):
        sockets.start(sockets.look_up(parse_url(f"{scheme}://{path}"))[0])


@linux_only
@pytest.mark.parametrize("scheme", ["unix", "unix_seqpacket"])
def test_unix_connect_to_a_full_queue_is_an_error(closing, path, scheme):
    # EAGAIN does not mean that it goes on: nothing would ever come of it.
    closing(sockets.listen(parse_url(f"{scheme}://{path}"), backlog=0))
    begin(closing, f"{scheme}://{path}")
    with pytest.raises(BlockingIOError):
        begin(closing, f"{scheme}://{path}")


def test_tcp_connect_refused(closing):
    try:
        sock = begin(closing, f"tcp://127.0.0.1:{unused_port()}")
    except OSError as refused:
        error = refused
    else:  # it goes on
        assert is_ready(sock, "w")
        error = sockets.connect_error(sock)
    assert error.errno == errno.ECONNREFUSED
    assert error.strerror


@pytest.mark.parametrize(
    "target",
    [
        (socket.AF_INET, STREAM, ("255.255.255.255", 1)),  # ENETUNREACH or EACCES at once
        (getattr(socket, "AF_APPLETALK", 5), STREAM, ("::1", 1)),  # the kernel lacks it
    ],
)
def test_an_address_that_fails_at_once_leaks_no_socket(no_leak, target):
    with pytest.raises(OSError, match=r"."):
        sockets.start(target)


def test_an_address_that_is_none_leaks_no_socket(no_leak):
    with pytest.raises(TypeError):
        sockets.start((socket.AF_INET, STREAM, "host"))


def test_a_socket_without_a_peer(closing):
    sock = closing(sockets.unconnected(parse_url("udp://")))
    assert (sock.family, sock.type) == (socket.AF_INET, DGRAM)
    assert sock.getsockname() == ("0.0.0.0", 0)
    assert not sock.getblocking()
    assert not sock.get_inheritable()
    with pytest.raises(OSError, match="not connected"):
        sock.getpeername()


def test_a_socket_without_a_peer_but_with_a_port(closing):
    port = unused_port(DGRAM)
    sock = closing(sockets.unconnected(parse_url(f"udp://:{port}")))
    assert sock.getsockname() == ("0.0.0.0", port)
    with pytest.raises(OSError, match="in use"):
        sockets.unconnected(parse_url(f"udp://:{port}"))


@pytest.mark.parametrize(
    ("url", "family", "kind"),
    [
        ("tcp://name:1", socket.AF_INET, STREAM),
        ("udp://name:1", socket.AF_INET, DGRAM),
        ("unix://x", socket.AF_UNIX, STREAM),
        ("unix_dgram://x", socket.AF_UNIX, DGRAM),
        pytest.param("unix_seqpacket://x", socket.AF_UNIX, socket.SOCK_SEQPACKET, marks=linux_only),
    ],
)
def test_a_placeholder(closing, url, family, kind):
    sock = closing(sockets.placeholder(parse_url(url)))
    assert (sock.family, sock.type) == (family, kind)
    assert not sock.getblocking()
    assert not sock.get_inheritable()


def test_a_transplant_keeps_the_socket_object(closing):
    listener = closing(sockets.listen(parse_url("tcp://127.0.0.1:0")))
    sock = closing(sockets.placeholder(parse_url(url_of(listener))))
    attempt = begin(closing, url_of(listener))
    before, after = sock.fileno(), attempt.fileno()
    sockets.transplant(sock, attempt)
    assert (sock.fileno(), attempt.fileno()) == (after, -1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(before)
    assert not sock.getblocking()
    assert not sock.get_inheritable()
    assert is_ready(listener)
    other, _ = sockets.accept(listener)
    closing(other).send(b"hello")
    assert is_ready(sock)
    assert sock.recv(10) == b"hello"


def test_a_transplant_changes_the_family(closing, path):
    receiver = closing(sockets.listen(parse_url(f"unix_dgram://{path}")))
    sock = closing(sockets.placeholder(parse_url("tcp://name:1")))
    sockets.transplant(sock, begin(closing, f"unix_dgram://{path}"))
    assert (sock.family, sock.type) == (socket.AF_UNIX, DGRAM)
    sock.send(b"hello")
    assert receiver.recv(10) == b"hello"


def test_a_transplant_does_not_revive_a_closed_socket(no_leak):
    sock, other = socket.socket(), socket.socket()
    sock.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        sockets.transplant(sock, other)
    assert (sock.fileno(), other.fileno()) == (-1, -1)


# Connections


def test_connect_error_is_given_once(closing):
    listener = closing(sockets.listen(parse_url("tcp://127.0.0.1:0")))
    sock, other, _ = meet(closing, listener, url_of(listener))
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    other.close()
    assert is_ready(sock)
    assert sockets.connect_error(sock).errno == errno.ECONNRESET
    assert sockets.connect_error(sock) is None


def test_the_error_of_a_closed_socket():
    sock = socket.socket()
    sock.close()
    assert sockets.connect_error(sock).errno == errno.EBADF


def test_accept_with_nobody_there(closing):
    listener = closing(sockets.listen(parse_url("tcp://127.0.0.1:0")))
    assert sockets.accept(listener) is None


def test_is_listening(closing):
    sock = closing(socket.socket())
    assert sockets.is_listening(sock) is False
    sock.listen()
    assert sockets.is_listening(sock) is True


def test_a_datagram_socket_is_not_listening(closing):
    assert sockets.is_listening(closing(socket.socket(type=socket.SOCK_DGRAM))) is False


def test_nobody_is_listening_where_the_system_does_not_tell(closing, monkeypatch):
    listener = closing(sockets.listen(parse_url("tcp://127.0.0.1:0")))
    monkeypatch.setattr(sockets, "_SO_ACCEPTCONN", 9999)  # ENOPROTOOPT
    assert sockets.is_listening(listener) is False
    monkeypatch.setattr(sockets, "_SO_ACCEPTCONN", None)
    assert sockets.is_listening(listener) is False


def test_a_closed_socket_is_an_error():
    sock = socket.socket()
    sock.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        sockets.is_listening(sock)


def test_errors_of_one_connection():
    assert sockets.is_of_one_connection(OSError(errno.ECONNABORTED, ""))
    assert not sockets.is_of_one_connection(OSError(errno.EMFILE, ""))


@linux_only
def test_credentials_of_a_unix_peer(closing, path):
    listener = closing(sockets.listen(parse_url(f"unix://{path}")))
    _, other, _ = meet(closing, listener, f"unix://{path}")
    assert sockets.credentials(other) == (os.getpid(), os.getuid(), os.getgid())


def test_no_credentials_over_tcp(closing):
    listener = closing(sockets.listen(parse_url("tcp://127.0.0.1:0")))
    _, other, _ = meet(closing, listener, url_of(listener))
    assert sockets.credentials(other) is None


def test_no_credentials_where_the_kernel_has_none(closing, monkeypatch):
    monkeypatch.setattr(sockets, "_SO_PEERCRED", None)
    one, two = socket.socketpair()
    closing(two)
    assert sockets.credentials(closing(one)) is None


# Who has hung up


@pytest.mark.parametrize("how", ["close", "shut down"])
def test_a_peer_that_has_hung_up(closing, how):
    here, peer = map(closing, socket.socketpair())
    assert not sockets.has_hung_up(here)
    peer.sendall(b"not read yet")
    assert not sockets.has_hung_up(here)
    peer.close() if how == "close" else peer.shutdown(socket.SHUT_WR)
    assert sockets.has_hung_up(here)
    assert here.recv(100) == b"not read yet"
    assert sockets.has_hung_up(here)


@linux_only
def test_a_peer_that_has_hung_up_over_tcp(closing):
    listener = closing(sockets.listen(parse_url("tcp://127.0.0.1:0")))
    peer = closing(socket.create_connection(listener.getsockname()))
    assert is_ready(listener)
    here, _address = sockets.accept(listener)
    closing(here)
    assert not sockets.has_hung_up(here)
    peer.sendall(b"not read yet")
    peer.close()
    assert is_ready(here)
    asked = select.poll()
    asked.register(here, select.POLLRDHUP)
    assert asked.poll(10_000)  # it is on its way
    assert sockets.has_hung_up(here)


def test_nobody_can_tell_of_a_closed_socket(closing):
    here, _peer = map(closing, socket.socketpair())
    here.close()
    assert not sockets.has_hung_up(here)


# Zones


@linux_only
@needs_ipv6
@pytest.mark.parametrize("zone", ["lo", "1"])
def test_the_zone_of_an_address(zone):
    (target,) = sockets.known_targets(parse_url(f"tcp://[fe80::1%{zone}]:80"))
    assert target == (socket.AF_INET6, socket.SOCK_STREAM, ("fe80::1", 80, 0, 1))


@pytest.mark.parametrize("zone", ["no..such", "no-such@all", "no:such"])
def test_a_zone_that_is_not_there(zone):
    assert sockets.known_targets(parse_url(f"tcp://[fe80::1%{zone}]:80")) is None
    with pytest.raises(socket.gaierror):
        sockets.look_up(parse_url(f"tcp://[fe80::1%{zone}]:80"))


# A TCP connection to itself


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
def test_a_connection_to_itself_is_refused(closing, host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = closing(socket.socket(family))
    sock.bind((host, 0))
    address = sock.getsockname()
    sock.connect(address)  # nobody listens there, and yet
    assert sockets.connect_error(sock).errno == errno.ECONNREFUSED
    sock.close()
    closing(socket.socket(family)).bind(address)  # nothing is left of it


def test_other_connections_are_none_to_themselves(closing, path):
    listener = closing(sockets.listen(parse_url("tcp://127.0.0.1:0")))
    for sock in meet(closing, listener, url_of(listener))[:2]:
        assert sockets.own_peer_error(sock) is None
    listener = closing(sockets.listen(parse_url(f"unix://{path}")))
    for sock in meet(closing, listener, f"unix://{path}")[:2]:
        assert sockets.own_peer_error(sock) is None
    assert sockets.own_peer_error(closing(socket.socket())) is None


# A default timeout of the program's


@pytest.fixture(params=[0.0, 0.5, None], ids=["0", "0.5", "none"])
def default_timeout(request):
    socket.setdefaulttimeout(request.param)
    yield request.param
    socket.setdefaulttimeout(None)


@pytest.mark.parametrize("blocking", [True, False])
def test_what_is_inherited_is_as_it_was(closing, default_timeout, blocking):
    one, two = socket.socketpair()
    closing(two)
    number = one.detach()
    os.set_blocking(number, blocking)
    sock = closing(sockets.inherited(number))
    assert (sock.gettimeout(), os.get_blocking(number)) == (
        (None, True) if blocking else (0.0, False)
    )


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:0", "unix://x.sock", "unix_seqpacket://y.sock"])
def test_a_connection_that_is_waited_for_blocks(closing, path, default_timeout, url):
    listener = closing(sockets.listen(parse_url(url)))
    assert listener.gettimeout() == 0.0
    url = url_of(listener) if url.startswith("tcp") else url
    sock = closing(sockets.connect(sockets.look_up(parse_url(url))[0], 10.0))
    assert sock.gettimeout() is None


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:0", "udp://127.0.0.1:0", "unix://x.sock"])
def test_what_is_made_here_does_not_block(closing, path, default_timeout, url):
    sock = closing(sockets.listen(parse_url(url)))
    assert sock.gettimeout() == 0.0
    assert not os.get_blocking(sock.fileno())
    assert closing(sockets.unconnected(parse_url("udp://"))).gettimeout() == 0.0
    assert closing(sockets.placeholder(parse_url("tcp://x:1"))).gettimeout() == 0.0
