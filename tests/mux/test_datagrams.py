"""Addresses that datagrams can be sent to, and the errors of those that did not arrive."""

import errno
import socket
import struct

import pytest
from support.network import is_ready, linux_only, needs_ipv6, unused_port

from eventmux import datagrams, sockets
from eventmux.urls import parse_url

FOUR, SIX = socket.AF_INET, socket.AF_INET6
DGRAM = socket.SOCK_DGRAM


# Addresses of datagrams


class Family:
    """Stands for a socket of a family that may not be here."""

    def __init__(self, family):
        self.family = family


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (FOUR, ("127.0.0.1", 0)),
        (FOUR, ("255.255.255.255", 65535)),
        (FOUR, ("<broadcast>", 9)),
        (SIX, ("::1", 80)),
        (SIX, ("::1", 80, 0)),
        (SIX, ("::ffff:127.0.0.1", 80, 0xFFFFF, 0xFFFFFFFF)),
        (SIX, ("fe80::1%eth0.100", 80, 0, 2)),
        (socket.AF_UNIX, "x.sock"),
        (socket.AF_UNIX, b"\0abc"),
        (socket.AF_UNIX, "x" * 107),
        (5, "anything"),
    ],
)
def test_addresses_that_can_be_sent_to(family, address):
    datagrams.check_address(Family(family), address)


@pytest.mark.parametrize(
    ("family", "address", "error", "text"),
    [
        (FOUR, "127.0.0.1", TypeError, "expected (host, port)"),
        (FOUR, None, TypeError, "expected (host, port)"),
        (FOUR, ["127.0.0.1", 1], TypeError, "expected (host, port)"),
        (FOUR, ("127.0.0.1",), TypeError, "expected (host, port)"),
        (FOUR, ("127.0.0.1", 1, 0), TypeError, "expected (host, port)"),
        (FOUR, (b"127.0.0.1", 1), TypeError, "a str and then ints"),
        (FOUR, ("127.0.0.1", "1"), TypeError, "a str and then ints"),
        (FOUR, ("127.0.0.1", None), TypeError, "a str and then ints"),
        (FOUR, ("127.0.0.1", -1), ValueError, "the port is not in 0..65535"),
        (FOUR, ("127.0.0.1", 65536), ValueError, "the port is not in 0..65535"),
        (FOUR, ("localhost", 1), ValueError, "'localhost' is not a numeric IPv4 address"),
        (FOUR, ("", 1), ValueError, "'' is not a numeric IPv4 address"),
        (FOUR, ("127.1", 1), ValueError, "'127.1' is not a numeric IPv4 address"),
        (FOUR, ("::1", 1), ValueError, "'::1' is not a numeric IPv4 address"),
        (FOUR, ("127.0.0.1\0x", 1), ValueError, "is not a numeric IPv4 address"),
        (FOUR, ("\ud800", 1), ValueError, "is not a numeric IPv4 address"),
        (SIX, ("::1",), TypeError, "expected (host, port[, flow[, scope]])"),
        (SIX, ("::1", 1, 0, 0, 0), TypeError, "expected (host, port[, flow[, scope]])"),
        (SIX, ("::1", 1, "0"), TypeError, "a str and then ints"),
        (SIX, ("<broadcast>", 1), ValueError, "'<broadcast>' is not a numeric IPv6 address"),
        (SIX, ("127.0.0.1", 1), ValueError, "'127.0.0.1' is not a numeric IPv6 address"),
        (SIX, ("host%eth0", 1), ValueError, "'host%eth0' is not a numeric IPv6 address"),
        (SIX, ("fe80::1%\0", 1), ValueError, "is not a numeric IPv6 address"),
        (SIX, ("::1", 65536), ValueError, "the port is not in 0..65535"),
        (SIX, ("::1", 1, 0x100000), ValueError, "the flow is not in 0..1048575"),
        (SIX, ("::1", 1, 0, -1), ValueError, "the scope is not in 0..4294967295"),
        (socket.AF_UNIX, ("x", 1), TypeError, "expected a path, str or bytes"),
        (socket.AF_UNIX, "", ValueError, "path of 0 bytes, must be 1 to 107"),
        (socket.AF_UNIX, b"x" * 108, ValueError, "path of 108 bytes, must be 1 to 107"),
        (socket.AF_UNIX, "\u00e9" * 54, ValueError, "path of 108 bytes, must be 1 to 107"),
        (socket.AF_UNIX, "\ud800", ValueError, "surrogates not allowed"),
    ],
)
def test_addresses_that_cannot_be_sent_to(family, address, error, text):
    with pytest.raises(error) as caught:
        datagrams.check_address(Family(family), address)
    assert str(caught.value).startswith(f"cannot send to {address!r}: ")
    assert text in str(caught.value)


def test_an_address_that_passes_can_be_sent_to(closing):
    receiver = closing(sockets.listen(parse_url("udp://")))
    address = ("127.0.0.1", receiver.getsockname()[1])
    datagrams.check_address(receiver, address)
    assert receiver.sendto(b"hello", address) == 5


# Errors of datagrams


@linux_only
def test_a_refused_datagram_is_reported(closing):
    sock = closing(sockets.unconnected(parse_url("udp://")))
    datagrams.report_errors(sock)
    assert datagrams.read_error(sock) is None
    address = ("127.0.0.1", unused_port(DGRAM))
    sock.sendto(b"hello", address)
    assert is_ready(sock)
    assert datagrams.read_error(sock) == datagrams.SendError(
        errno.ECONNREFUSED, receiver=address, data=b"hello", offender=("127.0.0.1", 0), mtu=None
    )
    assert datagrams.read_error(sock) is None


@linux_only
def test_each_datagram_has_its_report(closing):
    sock = closing(sockets.unconnected(parse_url("udp://")))
    datagrams.report_errors(sock)
    addresses = [("127.0.0.1", unused_port(DGRAM)) for _ in range(2)]
    for address in addresses:
        sock.sendto(b"", address)
        assert is_ready(sock)
        # The error is pending, too: the next call would raise it, and send nothing.
        assert sockets.connect_error(sock).errno == errno.ECONNREFUSED
    reports = list(iter(lambda: datagrams.read_error(sock), None))
    assert [report.receiver for report in reports] == addresses


@linux_only
@needs_ipv6
def test_a_refused_datagram_over_ipv6_is_reported(closing):
    sock = closing(socket.socket(SIX, DGRAM))
    datagrams.report_errors(sock)
    address = ("::1", unused_port(DGRAM, "::1"), 0, 0)
    sock.sendto(b"hello", address)
    assert is_ready(sock)
    report = datagrams.read_error(sock)
    assert (report.errno, report.receiver, report.data) == (errno.ECONNREFUSED, address, b"hello")
    assert report.offender == ("::1", 0, 0, 0)


@linux_only
@needs_ipv6
def test_a_dual_stack_socket_reports_ipv4_too(closing):
    sock = closing(socket.socket(SIX, DGRAM))
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    datagrams.report_errors(sock)
    address = ("::ffff:127.0.0.1", unused_port(DGRAM), 0, 0)
    sock.sendto(b"hello", address)
    assert is_ready(sock)
    report = datagrams.read_error(sock)
    assert (report.errno, report.receiver) == (errno.ECONNREFUSED, address)
    assert report.offender == ("::ffff:127.0.0.1", 0, 0, 0)


@linux_only
def test_a_datagram_that_is_too_long_is_reported_with_the_limit(closing):
    address = ("127.0.0.1", unused_port(DGRAM))
    sock = closing(sockets.start((FOUR, DGRAM, address)))
    datagrams.report_errors(sock)
    sock.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
    with pytest.raises(OSError, match="too long"):
        sock.send(b"x" * 65508)  # one byte more than IPv4 can carry
    report = datagrams.read_error(sock)
    assert (report.errno, report.receiver, report.offender) == (errno.EMSGSIZE, address, None)
    assert 0 < report.mtu <= 65535


@linux_only
def test_a_datagram_that_is_too_long_for_anybody_has_no_port(closing):
    sock = closing(sockets.unconnected(parse_url("udp://")))
    datagrams.report_errors(sock)
    with pytest.raises(OSError, match="too long"):
        sock.sendto(b"x" * 65508, ("127.0.0.1", 9))
    assert datagrams.read_error(sock).receiver == ("127.0.0.1", 0)


class Queue:
    """Stands for a socket: its error queue has these messages."""

    family = socket.AF_INET

    def __init__(self, *messages):
        self.messages = list(messages)

    def recvmsg(self, *_):
        if not self.messages:
            raise BlockingIOError
        return b"data", self.messages.pop(0), 0x2000, ("192.0.2.1", 9)


@linux_only
def test_the_mtu_of_a_router():
    head = struct.pack("=I4BII", errno.EMSGSIZE, 2, 3, 4, 0, 1400, 0)
    router = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton("192.0.2.7"))
    report = datagrams.read_error(Queue([(socket.IPPROTO_IP, 11, head + router)]))
    assert (report.mtu, report.offender) == (1400, ("192.0.2.7", 0))
    assert (report.receiver, report.data) == (("192.0.2.1", 9), b"data")


@linux_only
def test_an_ipv6_router_has_a_scope():
    head = struct.pack("=I4BII", errno.EHOSTUNREACH, 3, 1, 3, 0, 1400, 0)
    host = socket.inet_pton(SIX, "fe80::1")
    router = struct.pack("=HHI16sI", SIX, 0, 0, host, 2)
    report = datagrams.read_error(Queue([(socket.IPPROTO_IPV6, 25, head + router)]))
    assert (report.mtu, report.offender) == (None, ("fe80::1", 0, 0, 2))


@linux_only
def test_what_is_no_error_of_a_datagram_is_passed_over():
    stamp = struct.pack("=I4BII16x", errno.ENOMSG, 4, 0, 0, 0, 0, 0)
    refused = struct.pack("=I4BII16x", errno.ECONNREFUSED, 2, 3, 3, 0, 0, 0)
    other = (socket.SOL_SOCKET, 37, b"")
    queue = Queue([(0, 11, stamp)], [other], [other, (0, 11, refused)])
    assert datagrams.read_error(queue).errno == errno.ECONNREFUSED
    assert datagrams.read_error(queue) is None


def test_a_unix_socket_has_no_error_queue(closing):
    one, two = map(closing, socket.socketpair(socket.AF_UNIX, DGRAM))
    one.send(b"hello")
    assert datagrams.read_error(two) is None
    assert two.recv(10) == b"hello"
    with pytest.raises(OSError, match="only by Linux, for IPv4 and IPv6"):
        datagrams.report_errors(one)


def test_errors_are_not_reported_by_other_systems(closing, monkeypatch):
    monkeypatch.setattr(datagrams, "_IS_LINUX", False)
    monkeypatch.setattr(datagrams, "_MSG_ERRQUEUE", 0)
    sock = closing(sockets.unconnected(parse_url("udp://")))
    with pytest.raises(OSError, match="only by Linux") as caught:
        datagrams.report_errors(sock)
    assert caught.value.errno == errno.ENOPROTOOPT
    assert datagrams.read_error(sock) is None


@linux_only
def test_an_error_of_the_queue_itself_is_raised():
    sock = socket.socket(type=DGRAM)
    sock.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        datagrams.read_error(sock)
