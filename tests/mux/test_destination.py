"""Which address a datagram was sent to, and which one an answer leaves from."""

import errno
import socket
import sys

import pytest
from support.interrupts import Interrupt, at_places
from support.network import has_ipv6
from support.outlets import outlet_to
from support.pump import PATIENCE, drain, kinds, until

from eventmux import Error, EventMux, Read, ReadWithDestination, Sent, destinations
from eventmux._channels.options import ChannelOptions
from eventmux._channels.packets import Datagram
from eventmux.destinations import Destination, destination_of, leaving_from

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="IP_PKTINFO as Linux has it")
needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 here")

LOOPBACK = socket.if_nametoindex("lo") if sys.platform == "linux" else 0


@pytest.fixture
def client(closing):
    """A socket of the program that asks, bound nowhere."""

    def make(family=socket.AF_INET):
        sock = closing(socket.socket(family, socket.SOCK_DGRAM))
        sock.settimeout(PATIENCE)
        return sock

    return make


def port_of(fh):
    return fh.getsockname()[1]


def ask(mux, fh, sock, host):
    """Have a packet arrive that was sent to an address."""
    sock.sendto(b"who?", (host, port_of(fh)))
    event = mux.mux(PATIENCE)
    assert type(event) is ReadWithDestination
    return event


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "127.9.8.7"])
def test_an_answer_comes_from_the_address_that_was_asked(mux, client, host):
    fh = mux.listen("udp://0.0.0.0:0", destination=True)
    sock = client()
    sock.connect((host, port_of(fh)))  # it hears that address alone
    sock.send(b"who?")
    event = mux.mux(PATIENCE)
    assert event == ReadWithDestination(
        fh, b"who?", sock.getsockname(), None, destination=host, interface=LOOPBACK, local=host
    )
    assert mux.sendto(fh, event.sender, b"I", b"and I", source=event.local) == 0
    assert mux.mux(0) == Sent(fh)
    assert sock.recv(100) == b"I"
    assert sock.recv(100) == b"and I"


def test_without_a_source_the_kernel_chooses(mux, client):
    fh = mux.listen("udp://0.0.0.0:0", destination=True)
    sock = client()
    event = ask(mux, fh, sock, "127.0.0.2")
    mux.sendto(fh, event.sender, b"plain", source=None)
    assert sock.recvfrom(100) == (b"plain", ("127.0.0.1", port_of(fh)))


def test_it_is_a_read(mux, client):
    fh = mux.listen("udp://127.0.0.1:0", destination=True)
    sock = client()
    event = ask(mux, fh, sock, "127.0.0.1")
    assert event.type == "read"
    match event:
        case Read(there, data):
            assert (there, data) == (fh, b"who?")
        case _:
            pytest.fail("no Read")


def test_without_the_option_it_is_a_plain_one(mux, client):
    fh = mux.listen("udp://127.0.0.1:0")
    client().sendto(b"who?", ("127.0.0.1", port_of(fh)))
    assert type(mux.mux(PATIENCE)) is Read


def test_a_source_needs_no_option(mux, client):
    fh = mux.listen("udp://0.0.0.0:0")
    sock = client()
    sock.bind(("127.0.0.1", 0))
    mux.sendto(fh, sock.getsockname(), b"hello", source="127.0.0.5")
    assert sock.recvfrom(100) == (b"hello", ("127.0.0.5", port_of(fh)))


@needs_ipv6
def test_ipv6(mux, client):
    fh = mux.listen("udp://[::]:0", destination=True)
    sock = client(socket.AF_INET6)
    event = ask(mux, fh, sock, "::1")
    assert (event.destination, event.interface, event.local) == ("::1", LOOPBACK, "::1")
    mux.sendto(fh, event.sender, b"I", source=event.local)
    assert sock.recvfrom(100)[1][:2] == ("::1", port_of(fh))


@needs_ipv6
def test_ipv4_on_a_socket_of_both(mux, client, closing):
    fh = closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    fh.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    fh.bind(("::", 0))
    mux.add(fh, destination=True)
    sock = client()
    event = ask(mux, fh, sock, "127.0.0.2")
    assert event.destination == event.local == "::ffff:127.0.0.2"
    mux.sendto(fh, event.sender, b"I", source=event.local)
    assert sock.recvfrom(100) == (b"I", ("127.0.0.2", port_of(fh)))


def join(fh, group):
    """Hear a group, and send to it, on the loopback interface; skip where that cannot be."""
    request = socket.inet_aton(group) + socket.inet_aton("127.0.0.1")
    try:
        fh.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    except OSError as error:
        pytest.skip(f"no multicast on the loopback interface: {error}")


def test_a_group_is_answered_from_the_address_of_the_interface(mux, client):
    fh = mux.listen("udp://0.0.0.0:0", destination=True)
    join(fh, "239.1.2.3")
    sock = client()
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    event = ask(mux, fh, sock, "239.1.2.3")
    assert (event.destination, event.local) == ("239.1.2.3", "127.0.0.1")
    mux.sendto(fh, event.sender, b"I", source=event.local)
    assert sock.recvfrom(100) == (b"I", ("127.0.0.1", port_of(fh)))


def test_an_address_that_is_not_ours_is_an_error_of_that_packet(mux, client):
    fh = mux.listen("udp://127.0.0.1:0", destination=True)
    sock = client()
    sock.bind(("127.0.0.1", 0))
    mux.sendto(fh, sock.getsockname(), b"forged", source="192.0.2.77")
    mux.sendto(fh, sock.getsockname(), b"honest")
    [error, *rest] = drain(mux)
    assert isinstance(error, Error)
    assert (error.data, error.receiver) == (b"forged", sock.getsockname())
    assert error.errno in (errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETUNREACH)
    assert "error" not in kinds(rest)
    assert sock.recv(100) == b"honest"


@pytest.mark.parametrize(
    ("source", "kind", "text"),
    [
        ("localhost", ValueError, "source is 'localhost', must be a numeric IPv4 address"),
        ("::1", ValueError, "source is '::1', must be a numeric IPv4 address"),
        ("127.0.0.1\0", ValueError, "must be a numeric IPv4 address"),
        ("", ValueError, "source is '', must be"),
        (("127.0.0.1", 0), TypeError, "must be a str such as '192.0.2.1'"),
        (b"127.0.0.1", TypeError, "must be a str"),
    ],
)
def test_a_source_that_cannot_be(mux, source, kind, text):
    fh = mux.listen("udp://127.0.0.1:0")
    with pytest.raises(kind, match=text):
        mux.sendto(fh, ("127.0.0.1", 9), b"x", source=source)
    assert mux.buflen(fh) == 0


def test_unix_sockets_have_no_source(mux, pair):
    fh, _ = pair(socket.SOCK_DGRAM)
    mux.add(fh)
    with pytest.raises(ValueError, match="source is for IPv4 and IPv6 sockets"):
        mux.sendto(fh, "/tmp/nobody", b"x", source="127.0.0.1")


def test_what_it_fits(mux, pair):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with pytest.raises(ValueError, match="destination is for UDP sockets"):
            mux.add(pair(kind)[0], destination=True)
    with pytest.raises(ValueError, match="destination is for UDP sockets"):
        mux.listen("tcp://127.0.0.1:0", destination=True)
    with pytest.raises(ValueError, match="destination does not go with manual_read"):
        mux.listen("udp://127.0.0.1:0", destination=True, manual_read=True)
    assert not mux.handles()


def test_other_systems_refuse(mux, monkeypatch):
    monkeypatch.setattr(destinations.sys, "platform", "darwin")
    with pytest.raises(ValueError, match="on Linux"):
        mux.listen("udp://127.0.0.1:0", destination=True)


def test_a_socket_that_is_given_back_tells_nothing(mux, closing):
    fh = closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    mux.add(fh, destination=True)
    assert fh.getsockopt(socket.IPPROTO_IP, 8)
    mux.remove(fh)
    assert not fh.getsockopt(socket.IPPROTO_IP, 8)


def test_a_socket_that_is_only_a_number(mux, client, closing):
    inner = closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    inner.bind(("0.0.0.0", 0))
    fd = inner.fileno()
    mux.add(fd, destination=True)
    sock = client()
    sock.sendto(b"who?", ("127.0.0.2", port_of(inner)))
    event = mux.mux(PATIENCE)
    assert (event.fh, event.destination) == (fd, "127.0.0.2")
    mux.sendto(fd, event.sender, b"I", source=event.local)
    assert sock.recvfrom(100) == (b"I", ("127.0.0.2", port_of(inner)))
    mux.remove(fd)


def test_a_socket_that_looks_its_peer_up(mux, client):
    sock = client()
    sock.bind(("127.0.0.1", 0))
    fh = mux.connect(f"udp://localhost:{port_of(sock)}", destination=True)
    mux.send(fh, b"hello")
    until(mux, "sent")
    _, address = sock.recvfrom(100)
    sock.sendto(b"answer", address)
    event = until(mux, "read")[-1]
    assert (event.data, event.destination) == (b"answer", "127.0.0.1")


def test_with_errors_and_sessions(mux, client):
    fh = mux.listen(
        "udp://127.0.0.1:0",
        destination=True,
        errors=True,
        meta_handler=lambda fh, data, sender: (sender, data),
    )
    sock = client()
    event = ask(mux, fh, sock, "127.0.0.1")
    assert event.id == (event.sender, b"who?")
    sock.close()
    mux.sendto(fh, event.sender, b"anybody?", source=event.local)
    error = until(mux, "error")[-1]
    assert (error.errno, error.data, error.receiver) == (
        errno.ECONNREFUSED,
        b"anybody?",
        event.sender,
    )


def test_too_long_and_empty(mux, client):
    fh = mux.listen("udp://127.0.0.1:0", destination=True, read_size=10)
    sock = client()
    for data in (b"x" * 11, b"", b"y" * 10):
        sock.sendto(data, ("127.0.0.1", port_of(fh)))
    error, *reads = drain(mux)
    assert (error.type, error.errno, error.sender) == ("error", errno.EMSGSIZE, sock_name(sock))
    assert [event.data for event in reads] == [b"", b"y" * 10]
    assert {event.destination for event in reads} == {"127.0.0.1"}


def sock_name(sock):
    """Return the address that a socket is known by on the loopback interface."""
    return "127.0.0.1", port_of(sock)


def test_a_handler_that_closes_in_the_middle_of_a_turn(mux, client):
    def close(fh, data, sender):
        mux.close(fh)

    fh = mux.listen("udp://127.0.0.1:0", destination=True, meta_handler=close)
    sock = client()
    for _ in range(3):
        sock.sendto(b"who?", ("127.0.0.1", port_of(fh)))
    assert kinds(drain(mux)) == ["read", "closing", "closed"]


def test_what_is_queued_keeps_its_own_source(client, closing):
    fh, sock = closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)), client()
    sock.bind(("127.0.0.1", 0))
    to = sock.getsockname()
    datagram = Datagram(fh, fh, outlet_to([]), ChannelOptions(), None, defer=None)
    datagram.dialing = True  # nothing can be sent yet
    datagram.send_with((b"1",), to, [leaving_from(fh, "127.0.0.2")])
    datagram.send((b"2",), False, to)
    datagram.send_with((b"3",), to, [leaving_from(fh, "127.0.0.3")])
    assert datagram.unsent == 3
    datagram.dialing = False
    datagram.flush()
    came = [sock.recvfrom(9) for _ in range(3)]
    assert [(data, host) for data, (host, _) in came] == [
        (b"1", "127.0.0.2"),
        (b"2", "127.0.0.1"),
        (b"3", "127.0.0.3"),
    ]


def test_interrupted_anywhere(client):
    """A packet is handed out, whatever Ctrl-C cuts off; where it went is known, but for one."""
    known = runs = 0

    def scenario(interrupter):
        nonlocal known, runs
        runs += 1
        with EventMux() as mux:
            fh = mux.listen("udp://127.0.0.1:0", destination=True)
            client().sendto(b"who?", ("127.0.0.1", port_of(fh)))
            try:
                event = interrupter.run(lambda: mux.mux(PATIENCE))
            except Interrupt:
                event = mux.mux(PATIENCE)
            assert event.data == b"who?"
            known += event.destination == "127.0.0.1"

    at_places(scenario)
    assert known > runs / 2


@pytest.mark.parametrize("size", range(12))
def test_what_is_cut_short_tells_nothing(size):
    assert destination_of([(socket.IPPROTO_IP, 8, bytes(size))]) is None


def test_what_else_comes_is_passed_over():
    pktinfo = (3).to_bytes(4, sys.byteorder) + socket.inet_aton("10.0.0.1") * 2
    messages = [(socket.SOL_SOCKET, 29, b"a time stamp"), (socket.IPPROTO_IP, 8, pktinfo)]
    assert destination_of(messages) == Destination("10.0.0.1", 3, "10.0.0.1")
    assert destination_of(messages[:1]) is None
    group = socket.inet_pton(socket.AF_INET6, "ff02::1") + (2).to_bytes(4, sys.byteorder)
    messages = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, group)]
    assert destination_of(messages) == Destination("ff02::1", 2, None)


def test_closed_behind_our_back(mux):
    fh = mux.listen("udp://127.0.0.1:0", destination=True)
    fh.close()
    assert kinds(until(mux, "closed", fh)) == ["error", "closing", "closed"]
