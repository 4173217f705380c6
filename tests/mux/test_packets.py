"""Datagram sockets and connections of packets, over real sockets with each selector.

What arrives on the loopback interface is there when `sendto()` returns, so nothing is waited for.
"""

import contextlib
import errno
import os
import socket

import pytest
from support.fakes import ScriptedSocket
from support.outlets import outlet_to
from support.pump import PATIENCE, drain, kinds, take

from eventmux import (
    Closed,
    Closing,
    Connect,
    Credentials,
    Error,
    EventMux,
    Peer,
    Read,
    Ready,
    Sent,
)
from eventmux._channels.options import ChannelOptions
from eventmux._channels.packets import Datagram, PacketStream
from eventmux.buffers import Split

FAMILIES = {"IPv4": (socket.AF_INET, "127.0.0.1"), "IPv6": (socket.AF_INET6, "::1")}
TOO_LONG = b"x" * 70_000  # for UDP


@pytest.fixture
def udp():
    """Make UDP sockets that are bound to a port, of IPv4 unless told otherwise."""
    with contextlib.ExitStack() as stack:

        def make(family="IPv4"):
            kind, host = FAMILIES[family]
            sock = stack.enter_context(socket.socket(kind, socket.SOCK_DGRAM))
            sock.bind((host, 0))
            return sock

        yield make


@pytest.fixture
def unix(tmp_path):
    """Make UNIX datagram sockets that are bound to a path."""
    with contextlib.ExitStack() as stack:

        def make(name):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            sock.bind(str(tmp_path / name))
            return sock

        yield make


@pytest.fixture
def packet_pair(pair):
    """Make pairs of connected sockets of a kind."""

    def make(kind=socket.SOCK_SEQPACKET):
        return pair(kind)

    return make


@pytest.fixture
def linked(mux, packet_pair):
    """A connection of packets that is up, and the peer's end."""
    fh, peer = packet_pair()
    mux.add(fh)
    assert mux.mux(0) == Ready(fh)
    return fh, peer


def vacant(udp, family="IPv4"):
    """Return an address that nobody receives at."""
    with udp(family) as sock:
        return sock.getsockname()


def waiting(sock):
    """Return the packets that have arrived at a socket."""
    sock.setblocking(False)
    packets = []
    with contextlib.suppress(BlockingIOError):
        while True:
            packets.append(sock.recv(100_000))
    return packets


# Datagrams that arrive


@pytest.mark.parametrize("family", FAMILIES)
def test_each_datagram_is_read_with_its_sender(mux, udp, family):
    fh, one, two = udp(family), udp(family), udp(family)
    mux.add(fh)
    one.sendto(b"from one", fh.getsockname())
    two.sendto(b"from two", fh.getsockname())
    assert drain(mux) == [
        Read(fh, b"from one", one.getsockname()),
        Read(fh, b"from two", two.getsockname()),
    ]


def test_a_datagram_of_no_bytes_is_read(mux, udp):
    fh, peer = udp(), udp()
    mux.add(fh)
    for data in (b"", b"a", b""):
        peer.sendto(data, fh.getsockname())
    assert [event.data for event in drain(mux)] == [b"", b"a", b""]


def test_a_datagram_socket_has_no_ready(mux, udp):
    fh = udp()
    mux.add(fh)
    assert drain(mux) == []
    assert mux.handles() == [fh]


def test_datagrams_of_a_unix_socket_tell_the_senders_path(mux, unix):
    fh, peer = unix("fh"), unix("peer")
    mux.add(fh)
    peer.sendto(b"hello", fh.getsockname())
    assert drain(mux) == [Read(fh, b"hello", peer.getsockname())]


def test_a_sender_without_a_path_has_no_name(mux, unix):
    fh = unix("fh")
    mux.add(fh)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.sendto(b"hello", fh.getsockname())
    (event,) = drain(mux)
    assert (event.data, event.sender) == (b"hello", None)


def test_a_turn_takes_its_share_of_datagrams_and_leaves_none(udp):
    fh, peer = udp(), udp()
    with EventMux(reads_per_turn=3) as mux:
        mux.add(fh)
        for number in range(10):
            peer.sendto(b"%d" % number, fh.getsockname())
        assert mux.mux(0).data == b"0"
        assert mux.has_events() == 2
        assert [event.data for event in drain(mux)] == [b"%d" % n for n in range(1, 10)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_datagram_longer_than_read_size_is_an_error(mux, udp, family):
    fh, peer = udp(family), udp(family)
    mux.add(fh, read_size=4)
    for data in (b"four", b"fives", b"4444"):
        peer.sendto(data, fh.getsockname())
    sender = peer.getsockname()
    text = "packet of more than read_size, 4 bytes"
    assert drain(mux) == [
        Read(fh, b"four", sender),
        Error(fh, text, errno.EMSGSIZE, None, b"five", sender=sender),
        Read(fh, b"4444", sender),
    ]


# Datagrams that are sent


@pytest.mark.parametrize("family", FAMILIES)
def test_a_datagram_is_sent_to_an_address(mux, udp, family):
    fh, one, two = udp(family), udp(family), udp(family)
    mux.add(fh)
    assert mux.sendto(fh, one.getsockname(), b"a", b"b") == 0
    assert mux.sendto(fh, two.getsockname(), b"c") == 0
    assert (waiting(one), waiting(two)) == ([b"a", b"b"], [b"c"])
    assert drain(mux) == [Sent(fh), Sent(fh)]


def test_each_argument_of_send_is_one_packet(mux, packet_pair):
    fh, peer = packet_pair(socket.SOCK_DGRAM)
    mux.add(fh)
    assert mux.send(fh, b"one", b"", b"three") == 0
    assert waiting(peer) == [b"one", b"", b"three"]
    assert drain(mux) == [Sent(fh)]


def test_packets_that_are_put_off_stay_packets(mux, packet_pair):
    fh, peer = packet_pair(socket.SOCK_DGRAM)
    mux.add(fh)
    assert mux.send(fh, b"one", later=True) == 1
    assert mux.send(fh, b"two", later=True) == 2
    assert waiting(peer) == []
    assert drain(mux) == [Sent(fh)]
    assert waiting(peer) == [b"one", b"two"]


def test_packets_of_a_connection_that_are_put_off_stay_packets(mux, packet_pair):
    fh, peer = packet_pair(socket.SOCK_SEQPACKET)
    mux.add(fh)
    assert drain(mux) == [Ready(fh)]
    assert mux.send(fh, b"one", later=True) == 1
    assert mux.send(fh, b"two", b"three", later=True) == 3
    assert waiting(peer) == []
    drain(mux)
    assert mux.buflen(fh) == 0
    assert waiting(peer) == [b"one", b"two", b"three"]


def test_a_udp_client_and_server(mux):
    server = mux.listen("udp://127.0.0.1:0")
    client = mux.connect(f"udp://127.0.0.1:{server.getsockname()[1]}")
    mux.send(client, b"ping")
    assert take(mux, 2) == [Sent(client), Read(server, b"ping", client.getsockname())]
    mux.sendto(server, client.getsockname(), b"pong")
    assert take(mux, 2) == [Sent(server), Read(client, b"pong", server.getsockname())]


def test_a_unix_datagram_client_gets_an_answer(mux, tmp_path):
    server = mux.listen(f"unix_dgram://{tmp_path / 'server'}")
    client = mux.connect(f"unix_dgram://{tmp_path / 'server'}")
    mux.send(client, b"ping")
    read = take(mux, 2)[1]
    mux.sendto(server, read.sender, b"pong")
    assert Read(client, b"pong", server.getsockname()) in take(mux, 2)


def test_a_bad_packet_does_not_stop_the_others(mux, udp):
    fh, peer = udp(), udp()
    mux.add(fh)
    address = peer.getsockname()
    assert mux.sendto(fh, address, b"one", TOO_LONG, b"three") == 0
    assert waiting(peer) == [b"one", b"three"]
    error, sent = drain(mux)
    assert (error.errno, error.receiver, error.data) == (errno.EMSGSIZE, address, TOO_LONG)
    assert error.error == error.exception.strerror == os.strerror(errno.EMSGSIZE)
    assert sent == Sent(fh)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_packet_too_long_is_one_error_also_where_the_kernel_reports_it_as_well(mux, udp, family):
    fh, peer = udp(family), udp(family)
    mux.add(fh, errors=True)
    packet = b"x" * (65_520 if family == "IPv4" else 70_000)  # both queue a report
    mux.sendto(fh, peer.getsockname(), packet, b"next")
    assert waiting(peer) == [b"next"]
    error, sent = drain(mux)
    assert (error.errno, error.data) == (errno.EMSGSIZE, packet)
    assert error.receiver == peer.getsockname()
    assert error.mtu in (65_535, 65_536)
    assert sent == Sent(fh)


def test_a_packet_for_a_path_that_is_not_there(mux, unix, tmp_path):
    fh, peer = unix("fh"), unix("peer")
    mux.add(fh)
    nowhere = str(tmp_path / "nowhere")
    mux.sendto(fh, nowhere, b"lost")
    mux.sendto(fh, peer.getsockname(), b"found")
    error = drain(mux)[0]
    assert (error.errno, error.receiver, error.data) == (errno.ENOENT, nowhere, b"lost")
    assert waiting(peer) == [b"found"]


def test_a_packet_without_a_receiver(mux, udp):
    fh = udp()
    mux.add(fh)
    mux.send(fh, b"whereto")
    error = mux.mux(0)
    assert (error.errno, error.data) == (errno.EDESTADDRREQ, b"whereto")
    assert mux.handles() == [fh]


@pytest.mark.parametrize("wrong", ["text", 5, None])
def test_packets_are_bytes_all_or_nothing(mux, udp, wrong):
    fh, peer = udp(), udp()
    mux.add(fh)
    with pytest.raises(TypeError, match=f"cannot send {type(wrong).__name__}"):
        mux.sendto(fh, peer.getsockname(), b"good", wrong)
    assert mux.buflen(fh) == 0
    assert waiting(peer) == []


def test_a_packet_is_copied_when_it_is_queued(mux, packet_pair):
    fh, peer = packet_pair(socket.SOCK_DGRAM)
    mux.add(fh)
    mine = bytearray(b"abc")
    mux.send(fh, mine, later=True)
    mine[:] = b"xyz"
    drain(mux)
    assert waiting(peer) == [b"abc"]


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_sendto_is_for_datagrams(mux, packet_pair, kind):
    fh, _ = packet_pair(kind)
    mux.add(fh)
    with pytest.raises(TypeError, match="it is no datagram socket"):
        mux.sendto(fh, ("127.0.0.1", 9), b"x")


# What the network says of datagrams


def connected_to_nobody(mux, udp, **options):
    """Return a handle whose peer has gone."""
    with udp() as peer:
        return mux.connect(f"udp://127.0.0.1:{peer.getsockname()[1]}", **options)


def test_a_peer_that_refuses_is_an_error_and_no_end(mux, udp):
    fh = connected_to_nobody(mux, udp)
    mux.send(fh, b"anybody?")
    sent, error = take(mux, 2)
    assert sent == Sent(fh)
    assert (error.type, error.errno, error.data) == ("error", errno.ECONNREFUSED, b"")
    assert error.error == os.strerror(errno.ECONNREFUSED)
    assert drain(mux) == []
    assert mux.handles() == [fh]


def test_a_handle_that_was_refused_is_still_of_use(mux, udp):
    fh = connected_to_nobody(mux, udp)
    mux.send(fh, b"anybody?")
    assert kinds(drain(mux)) == ["sent", "error"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(fh.getpeername())
        mux.send(fh, b"hello")
        assert waiting(peer) == [b"hello"]
        peer.sendto(b"hi", fh.getsockname())
        assert drain(mux) == [Sent(fh), Read(fh, b"hi", peer.getsockname())]


def test_the_error_of_one_packet_is_not_blamed_on_the_next_and_does_not_lose_it(mux, udp):
    fh = connected_to_nobody(mux, udp)
    mux.send(fh, b"refused")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(fh.getpeername())
        assert mux.send(fh, b"next") == 0  # the kernel answers with the refusal of the first
        assert waiting(peer) == [b"next"]
    sent, error, sent_next = drain(mux)
    assert (error.errno, error.data, error.receiver) == (errno.ECONNREFUSED, b"", None)
    assert (sent, sent_next) == (Sent(fh), Sent(fh))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_datagram_that_was_refused_comes_back(mux, udp, family):
    fh = udp(family)
    mux.add(fh, errors=True)
    nobody = vacant(udp, family)
    mux.sendto(fh, nobody, b"anybody?")
    sent, error = drain(mux)
    assert sent == Sent(fh)
    assert (error.type, error.errno) == ("error", errno.ECONNREFUSED)
    assert error.error == os.strerror(errno.ECONNREFUSED)
    assert isinstance(error.exception, ConnectionRefusedError)
    assert (error.receiver, error.data) == (nobody, b"anybody?")
    assert error.sender[0] == FAMILIES[family][1]  # who said so
    assert error.mtu is None


@pytest.mark.parametrize("family", FAMILIES)
def test_without_errors_nothing_is_heard_of_it(mux, udp, family):
    fh = udp(family)
    mux.add(fh)
    mux.sendto(fh, vacant(udp, family), b"anybody?")
    assert drain(mux) == [Sent(fh)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reported_refusal_does_not_lose_the_next_packet(mux, udp, family):
    fh, peer = udp(family), udp(family)
    mux.add(fh, errors=True)
    nobody = vacant(udp, family)
    mux.sendto(fh, nobody, b"one")
    mux.sendto(fh, peer.getsockname(), b"two")
    mux.sendto(fh, nobody, b"three")
    mux.sendto(fh, peer.getsockname(), b"four")
    assert waiting(peer) == [b"two", b"four"]
    errors = [event for event in drain(mux) if event.type == "error"]
    assert [(error.receiver, error.data) for error in errors] == [
        (nobody, b"one"),
        (nobody, b"three"),
    ]


def test_what_arrives_between_reports_is_read(mux, udp):
    fh, peer = udp(), udp()
    mux.add(fh, errors=True)
    mux.sendto(fh, vacant(udp), b"anybody?")
    peer.sendto(b"hello", fh.getsockname())
    events = drain(mux)
    assert sorted(kinds(events)) == ["error", "read", "sent"]


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_errors_are_for_datagrams(mux, packet_pair, kind):
    fh, _ = packet_pair(kind)
    with pytest.raises(ValueError, match="errors is for datagram sockets"):
        mux.add(fh, errors=True)
    assert mux.handles() == []


def test_errors_are_not_for_unix_datagrams(mux, unix):
    fh = unix("fh")
    with pytest.raises(OSError, match="only by Linux, for IPv4 and IPv6"):
        mux.add(fh, errors=True)
    assert mux.handles() == []
    assert fh.getblocking()


# A receiver that does not read


def fill(mux, fh, receiver, limit=10_000):
    """Send until something stays in the queue; return how many packets were sent."""
    for count in range(limit):
        if mux.sendto(fh, receiver.getsockname(), b"%d" % count):
            return count + 1
    pytest.fail("the receiver takes all")


def test_packets_wait_for_a_full_receiver(mux, unix):
    fh, peer = unix("fh"), unix("peer")
    mux.add(fh)
    count = fill(mux, fh, peer)
    drain(mux)
    assert mux.buflen(fh) == 1
    packets = waiting(peer)
    assert mux.mux(PATIENCE) == Sent(fh)
    assert packets + waiting(peer) == [b"%d" % number for number in range(count)]


def test_a_full_receiver_is_tried_again_each_10_ms(timed, selector, clock, unix):
    # A UNIX socket without a connection is always writable: waiting for that would spin.
    fh, peer = unix("fh"), unix("peer")
    timed.add(fh)
    fill(timed, fh, peer)
    drain(timed)
    selector.timeouts.clear()
    began = clock()
    assert timed.mux(1).type == "timeout"
    assert clock() - began == pytest.approx(1)
    assert 90 <= len(selector.timeouts) <= 220


def test_a_full_receiver_that_reads_again_gets_the_rest_within_10_ms(timed, selector, clock, unix):
    fh, peer = unix("fh"), unix("peer")
    timed.add(fh)
    count = fill(timed, fh, peer)
    drain(timed)
    packets = []
    selector.meanwhile.append((0.005, lambda: packets.extend(waiting(peer))))
    began = clock()
    assert timed.mux(1) == Sent(fh)
    assert clock() - began <= 0.02
    assert packets + waiting(peer) == [b"%d" % number for number in range(count)]


def test_a_handle_that_stalls_can_read(timed, selector, unix):
    fh, peer, other = unix("fh"), unix("peer"), unix("other")
    timed.add(fh)
    fill(timed, fh, peer)
    drain(timed)
    selector.meanwhile.append((0.005, lambda: other.sendto(b"hello", fh.getsockname())))
    assert timed.mux(1) == Read(fh, b"hello", other.getsockname())


def test_a_handle_that_stalls_can_go(timed, unix):
    fh, peer = unix("fh"), unix("peer")
    timed.add(fh)
    fill(timed, fh, peer)
    drain(timed)
    timed.kill(fh)
    assert timed.mux(1) == Closed(fh, 1)
    assert timed.mux() is None


def test_high_water_counts_packets_and_stops_reading(mux, unix):
    fh, peer, other = unix("fh"), unix("peer"), unix("other")
    mux.add(fh, high_water=2)
    fill(mux, fh, peer)
    drain(mux)
    other.sendto(b"one", fh.getsockname())
    assert [event.data for event in drain(mux)] == [b"one"]  # one packet is not more than two
    mux.sendto(fh, peer.getsockname(), b"x", b"y")
    other.sendto(b"two", fh.getsockname())
    assert drain(mux) == []
    waiting(peer)
    assert mux.mux(PATIENCE) == Sent(fh)
    assert mux.mux(PATIENCE) == Read(fh, b"two", other.getsockname())


# The end


def test_close_sends_what_is_queued_first(mux, unix):
    fh, peer = unix("fh"), unix("peer")
    mux.add(fh)
    count = fill(mux, fh, peer)
    drain(mux)
    mux.close(fh)
    assert drain(mux) == [Closing(fh)]
    packets = waiting(peer)
    assert mux.mux(PATIENCE) == Closed(fh, 0)
    assert packets + waiting(peer) == [b"%d" % number for number in range(count)]


def test_nothing_is_read_or_sent_after_close(mux, udp):
    fh, peer = udp(), udp()
    mux.add(fh)
    peer.sendto(b"late", fh.getsockname())
    mux.close(fh)
    assert mux.sendto(fh, peer.getsockname(), b"late") == 0
    assert drain(mux) == [Closing(fh), Closed(fh)]
    assert waiting(peer) == []


def test_missing_counts_packets(mux, unix):
    fh, peer = unix("fh"), unix("peer")
    mux.add(fh)
    fill(mux, fh, peer)
    mux.sendto(fh, peer.getsockname(), b"a long packet", b"and one more")
    mux.kill(fh, "enough")
    assert drain(mux)[-1] == Closed(fh, 3, "enough")


def test_a_datagram_socket_that_was_removed_is_as_before(mux, udp):
    fh = udp()
    fh.settimeout(2.5)
    mux.add(fh)
    assert fh.gettimeout() == 0
    mux.remove(fh)
    assert fh.gettimeout() == 2.5
    assert mux.mux() is None


def test_too_many_packets_are_the_end(mux, unix):
    fh, peer = unix("fh"), unix("peer")
    mux.add(fh, max_outbuffer=2)
    fill(mux, fh, peer)
    drain(mux)
    mux.sendto(fh, peer.getsockname(), b"x", b"y")
    error, closing, closed = drain(mux)
    assert "3" in error.error
    assert "limit is 2" in error.error
    assert closing == Closing(fh, error.error)
    assert closed == Closed(fh, 3, error.error)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_packets_are_not_cut_into_records(mux, packet_pair, kind):
    fh, _ = packet_pair(kind)
    with pytest.raises(ValueError, match="buffered is for streams"):
        mux.add(fh, buffered=Split())
    assert mux.handles() == []
    assert fh.getblocking()
    mux.add(fh)
    with pytest.raises(TypeError, match="is no stream of bytes"):
        mux.set(fh, buffered=Split())


def test_the_type_of_a_handle(mux, packet_pair, udp):
    for kind, name in (
        (socket.SOCK_STREAM, "stream"),
        (socket.SOCK_DGRAM, "dgram"),
        (socket.SOCK_SEQPACKET, "seqpacket"),
    ):
        fh, _ = packet_pair(kind)
        mux.add(fh)
        assert (mux.type(fh), mux.class_(fh)) == (name, "socket")
    fh = udp()
    mux.add(fh)
    assert mux.type(fh) == "dgram"


@pytest.mark.parametrize("ask", [EventMux.type, EventMux.class_])
def test_the_type_of_a_stranger(mux, udp, ask):
    with pytest.raises(KeyError, match="is not watched"):
        ask(mux, udp())
    assert mux.handles() == []


@pytest.mark.parametrize("wrong", ["stream", "seqpacket", "tcp"])
def test_the_type_must_fit(mux, udp, wrong):
    fh = udp()
    with pytest.raises(ValueError, match=f"type is '{wrong}', but .* is 'dgram'"):
        mux.add(fh, type=wrong)
    assert mux.handles() == []
    assert fh.getblocking()


# Connections of packets


def test_a_connection_of_packets_from_ready_to_closed(mux, packet_pair):
    fh, peer = packet_pair()
    mux.add(fh)
    assert mux.mux(0) == Ready(fh)
    peer.send(b"one")
    peer.send(b"two")
    assert drain(mux) == [Read(fh, b"one"), Read(fh, b"two")]
    assert mux.send(fh, b"three", b"four") == 0
    assert waiting(peer) == [b"three", b"four"]
    peer.close()
    assert drain(mux) == [Sent(fh), Closing(fh), Closed(fh)]
    assert fh.fileno() == -1


def test_listening_for_connections_of_packets(mux, tmp_path):
    listener = mux.listen(f"unix_seqpacket://{tmp_path / 'socket'}")
    fh = mux.connect(f"unix_seqpacket://{tmp_path / 'socket'}")
    events = {event.type: event for event in take(mux, 2)}
    accepted = events["connect"].fh
    ids = os.getpid(), os.getuid(), os.getgid()
    assert events["connect"] == Connect(accepted, listener, "", *ids, Peer("", Credentials(*ids)))
    assert events["ready"] == Ready(fh)
    mux.send(fh, b"one", b"two")
    assert drain(mux) == [Sent(fh), Read(accepted, b"one"), Read(accepted, b"two")]
    assert mux.type(accepted) == "seqpacket"


def test_an_empty_packet_would_look_like_the_end(mux, linked):
    fh, peer = linked
    with pytest.raises(ValueError, match="cannot send an empty packet"):
        mux.send(fh, b"good", b"")
    assert mux.buflen(fh) == 0
    assert waiting(peer) == []


def test_a_peer_that_only_stops_sending_still_gets_answers(mux, linked):
    fh, peer = linked
    peer.shutdown(socket.SHUT_WR)
    assert mux.mux(0) == Closing(fh)
    mux.send(fh, b"goodbye")
    assert drain(mux)[-1] == Closed(fh)
    assert peer.recv(100) == b"goodbye"


def test_a_packet_of_a_connection_that_is_longer_than_read_size(mux, packet_pair):
    fh, peer = packet_pair()
    mux.add(fh, read_size=4)
    for data in (b"four", b"fives", b"4444"):
        peer.send(data)
    text = "packet of more than read_size, 4 bytes"
    assert drain(mux)[1:] == [
        Read(fh, b"four"),
        Error(fh, text, errno.EMSGSIZE, None, b"five"),
        Read(fh, b"4444"),
    ]


def test_a_packet_too_long_for_a_connection_does_not_stop_the_others(mux, linked):
    fh, peer = linked
    packet = b"x" * 10_000_000
    assert mux.send(fh, b"one", packet, b"three") == 0
    assert waiting(peer) == [b"one", b"three"]
    error, sent = drain(mux)
    assert (error.errno, error.data) == (errno.EMSGSIZE, packet)
    assert sent == Sent(fh)


def test_a_packet_too_long_behind_the_end_of_the_peer(mux, linked):
    fh, peer = linked
    peer.shutdown(socket.SHUT_WR)
    assert mux.mux(PATIENCE) == Closing(fh)
    mux.send(fh, b"x" * 10_000_000)
    assert kinds(drain(mux)) == ["error", "sent", "closed"]  # not the other way round


def test_a_full_connection_of_packets_is_waited_for(mux, linked):
    fh, peer = linked
    count = 1
    while not mux.send(fh, b"%d" % count):
        count += 1
    drain(mux)
    assert mux.buflen(fh) == 1
    packets = waiting(peer)
    assert mux.mux(PATIENCE) == Sent(fh)
    assert packets + waiting(peer) == [b"%d" % number for number in range(1, count + 1)]


def test_missing_packets_of_a_connection_whose_peer_went(mux, linked):
    fh, peer = linked
    while not mux.send(fh, b"x" * 1000):
        pass
    mux.send(fh, b"y", b"z")
    drain(mux)
    peer.close()
    events = drain(mux)
    assert kinds(events) == ["error", "closing", "closed"]
    assert events[0].errno in (errno.EPIPE, errno.ECONNRESET)
    assert events[-1].missing == 3


def test_closing_a_connection_of_packets_sends_first(mux, linked):
    fh, peer = linked
    while not mux.send(fh, b"x" * 1000):
        pass
    drain(mux)
    mux.close(fh)
    assert drain(mux) == [Closing(fh)]
    waiting(peer)
    assert mux.mux(PATIENCE) == Closed(fh, 0)


# What kernels do rarely, by a script


def datagram(*send, recv=(), **options):
    """Return a datagram channel over a scripted socket, its socket, events and pauses."""
    events, pauses = [], []
    sock = ScriptedSocket(send=send, recv=recv, kind=socket.SOCK_DGRAM)
    channel = Datagram(
        *(sock, sock, outlet_to(events), ChannelOptions(100, 10, **options), None),
        defer=lambda which, seconds: pauses.append((which, seconds)),
    )
    return channel, sock, events, pauses


def failure(name):
    return OSError(getattr(errno, name), name)


def test_a_pending_error_does_not_lose_a_packet_that_has_to_wait_then():
    channel, sock, events, _ = datagram(failure("ECONNREFUSED"), BlockingIOError())
    channel.queue((b"packet",))
    channel.flush()
    assert channel.unsent == 1
    assert [(event.errno, event.data) for event in events] == [(errno.ECONNREFUSED, b"")]
    channel.writable()
    assert sock.packets == [b"packet"]
    assert kinds(events) == ["error", "sent"]


def test_a_pending_error_is_told_although_the_packet_is_bad_as_well():
    channel, _, events, _ = datagram(failure("ECONNREFUSED"), failure("EMSGSIZE"))
    channel.queue((b"packet",))
    channel.flush()
    assert [(event.type, getattr(event, "errno", None)) for event in events] == [
        ("error", errno.ECONNREFUSED),
        ("error", errno.EMSGSIZE),
        ("sent", None),
    ]
    assert [event.data for event in events[:2]] == [b"", b"packet"]


@pytest.mark.parametrize("name", ["ENOBUFS", "ENOMEM"])
def test_a_kernel_without_memory_is_tried_again(name):
    channel, sock, events, pauses = datagram(*[failure(name)] * 2)
    channel.queue((b"packet",))
    channel.flush()
    channel.writable()
    assert events == []
    assert pauses == [(channel, 0.01)]
    channel.resume()
    channel.writable()
    assert sock.packets == [b"packet"]


def test_a_stalled_handle_does_not_ask_whether_it_is_writable():
    channel, _, _, _ = datagram(*[BlockingIOError()] * 2)
    channel.queue((b"packet",))
    before = channel.wanted
    channel.writable()
    stalled = channel.wanted
    channel.resume()
    assert (before, stalled, channel.wanted) == (3, 1, 3)


def test_a_turn_sends_its_share_of_packets():
    channel, sock, events, _ = datagram()
    channel.queue(tuple(b"%d" % number for number in range(1000)))
    channel.flush()
    assert 1 < len(sock.packets) < 1000
    assert events == []


def test_an_error_of_receiving_is_no_end():
    channel, _, events, _ = datagram(recv=[failure("ENETDOWN"), b"hello"])
    channel.readable()
    channel.readable()
    assert kinds(events) == ["error", "read"]
    assert channel.wanted == 1


def test_a_broken_datagram_socket_is_the_end():
    channel, _, events, _ = datagram(BlockingIOError(), recv=[failure("EBADF")])
    channel.queue((b"one", b"two"))
    channel.flush()
    channel.readable()
    assert kinds(events) == ["error", "closing", "closed"]
    assert events[2] == Closed(channel.fh, 2, "EBADF")
    assert channel.wanted == 0


def test_an_error_while_datagrams_drain_is_the_reason():
    channel, _, events, _ = datagram(BlockingIOError())
    channel.queue((b"one",))
    channel.flush()
    channel.close()
    channel.fail(failure("EBADF"))
    assert events == [Closing(channel.fh), Closed(channel.fh, 1, "EBADF")]


def packet_stream(*, ready=True, **script):
    events = []
    sock = ScriptedSocket(**script, kind=socket.SOCK_SEQPACKET)
    options = ChannelOptions(100, 10)
    return PacketStream(sock, sock, outlet_to(events), options, None, ready=ready), sock, events


def test_packets_of_a_connection_that_is_not_up_yet_wait():
    channel, sock, events = packet_stream(ready=False, send=[failure("ENOTCONN")])
    channel.queue((b"one", b"two"))
    channel.flush()
    assert (channel.unsent, events) == (2, [])
    channel.writable()
    assert sock.packets == [b"one", b"two"]
    assert kinds(events) == ["ready", "sent"]


def test_a_connection_of_packets_is_up_when_it_takes_one():
    channel, _, events = packet_stream(ready=False)
    channel.queue((b"one",))
    channel.flush()
    assert kinds(events) == ["ready", "sent"]


def test_a_reset_of_a_connection_of_packets():
    channel, _, events = packet_stream(recv=[b"one", failure("ECONNRESET")])
    for _ in range(3):
        channel.readable()
    assert kinds(events) == ["read", "error", "closing", "closed"]


def test_no_packet_is_no_event():
    channel, _, events = packet_stream(recv=[BlockingIOError()])
    channel.readable()
    assert events == []


def test_packets_are_not_joined():
    channel, sock, _ = packet_stream()
    channel.queue((b"one", b"two"))
    channel.flush()
    assert sock.packets == [b"one", b"two"]


def test_remove_switches_the_reports_off_again(mux):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        mux.add(sock, errors=True)
        assert sock.getsockopt(socket.IPPROTO_IP, 11)  # IP_RECVERR
        mux.remove(sock)
        assert not sock.getsockopt(socket.IPPROTO_IP, 11)


def test_a_receiver_that_does_not_read_keeps_nobody_else_waiting(mux, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server = mux.listen("unix_dgram://s")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
    ):
        for sock, name in ((deaf, "deaf"), (other, "other")):
            sock.bind(name)
            sock.setblocking(False)
        while not mux.sendto(server, "deaf", b"x"):
            pass
        mux.sendto(server, "other", b"hello")
        assert other.recv(100) == b"hello"
        assert mux.buflen(server) == 1
