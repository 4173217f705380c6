"""Connections with TLS: who is there, in which order events come, and what passes."""

import socket
import ssl

import pytest
from support.certificates import client_context, pem_file, server_context
from support.fakes import FakeClock
from support.pump import PATIENCE, kinds
from support.tls_ends import (
    TLSEnds,
    contexts_of_version,
    foreign_client,
    foreign_server,
    settled,
)

from eventmux import Connect, EventMux, Read, Ready, TLSError
from eventmux.buffers import Split

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def contexts(request):
    return contexts_of_version(request.param)


@pytest.fixture
def ends(mux):
    return TLSEnds(mux)


# The order of events


def test_what_is_sent_both_ways(mux, contexts):
    ends = TLSEnds(mux, contexts[0])
    fh = ends.connect(contexts[1])
    assert mux.send(fh, b"hello") == 5  # it waits for the handshake
    ours = ends.until(("connect", None), ("read", None))
    assert isinstance(ours[0], Connect)
    assert ours[1] == Read(ours[0].fh, b"hello")
    assert mux.send(ours[0].fh, b"answer") == 0
    assert ends.until(("read", fh)) == [Read(fh, b"answer")]
    assert ends.of(fh) == ["ready", "sent", "read"]
    mux.close(fh)
    ends.until(("closed", fh), ("closed", ours[0].fh))
    assert ends.of(fh) == ["ready", "sent", "read", "closing", "closed"]
    assert ends.of(ours[0].fh) == ["connect", "read", "sent", "closing", "closed"]
    assert all(event.reason is None for event in ends.events if event.type == "closed")


def test_ready_comes_before_anything_is_read(ends):
    with foreign_server(lambda sock: sock.sendall(b"220 at once\r\n")) as port:
        fh = ends.mux.connect(f"tls://localhost:{port}", tls=client_context(), buffered=None)
        assert ends.next() == Ready(fh)
        ends.mux.set(fh, buffered=Split(b"\r\n"))
        assert ends.until(("read", fh)) == [Read(fh, b"220 at once")]
        ends.until(("closed", fh))


def test_data_that_comes_with_the_end_of_the_handshake(ends):
    """It is inside OpenSSL, where no selector sees it."""
    with foreign_client(ends.port, lambda sock: (sock.sendall(b"quick"), sock.recv(1))):
        (connect, read) = ends.until(("connect", None), ("read", None))
        assert read == Read(connect.fh, b"quick")
        ends.mux.close(connect.fh)
        ends.until(("closed", connect.fh))


def test_a_connection_is_unknown_before_its_handshake(ends):
    with socket.create_connection(ends.listener.getsockname()) as sock:
        assert settled(ends.mux) == []
        assert ends.mux.handles() == [ends.listener]
        sock.send(b"\x16\x03\x01")
        assert settled(ends.mux) == []
        assert ends.mux.handles() == [ends.listener]
    (error,) = settled(ends.mux)
    assert error.fh is ends.listener
    assert isinstance(error.exception, TLSError)


def test_records_are_cut_as_of_plain_streams(mux):
    ends = TLSEnds(mux, buffered=Split(b"\n"))
    fh, ours = ends.up()
    mux.send(fh, b"one\ntwo\nthr")
    mux.send(fh, b"ee\n")
    ends.until(("read", ours), ("read", ours), ("read", ours))
    assert [event.data for event in ends.events if event.fh is ours] == [b"one", b"two", b"three"]


@pytest.mark.parametrize("size", [1, 100, 16384, 65535])
def test_what_is_more_than_one_read(mux, size):
    """A record of 16 KB is handed out in many reads, though the selector reports it once."""
    ends = TLSEnds(mux, read_size=size)
    fh, ours = ends.up()
    text = bytes(range(256)) * (4 if size == 1 else 300)
    mux.send(fh, text)
    data = b""
    while len(data) < len(text):
        (read,) = ends.until(("read", ours))
        assert len(read.data) <= size
        data += read.data
    assert data == text


def test_much_is_read_at_once_unless_the_program_says_otherwise(mux):
    ends = TLSEnds(mux)
    fh, ours = ends.up()
    mux.send(fh, bytes(4_000_000))
    sizes = []
    while sum(sizes) < 4_000_000:
        (read,) = ends.until(("read", ours))
        sizes.append(len(read.data))
    assert 65536 < max(sizes) <= 262_144


def test_what_is_inside_waits_while_the_program_does_not_want_it(mux):
    ends = TLSEnds(mux, read_size=100)
    fh, ours = ends.up()
    mux.send(fh, bytes(1000))
    assert len(ends.until(("read", ours))[0].data) == 100
    mux.want_read(ours, False)
    assert [event for event in ends.drain() if event.fh is ours] == []
    assert mux.timeout() is None
    mux.want_read(ours, True)
    assert sum(len(event.data) for event in ends.drain() if event.type == "read") == 900


def test_others_have_their_turn(mux):
    """While one has much inside, what comes for another is not put off."""
    ends = TLSEnds(mux, read_size=16)
    one, _ = ends.up()
    two, other = ends.up()
    mux.send(one, bytes(100_000))
    mux.send(two, b"me")
    ends.until(("read", other))
    assert len([event for event in ends.events if event.type == "read"]) < 5000


def test_mux_for_one_handle_alone(mux):
    ends = TLSEnds(mux)
    fh, ours = ends.up()
    other, _ = ends.up()
    mux.send(fh, b"one")
    mux.send(other, b"two")
    assert mux.mux(PATIENCE, only=ours) == Read(ours, b"one")


# Bytes are plain bytes


def test_the_queue_counts_plain_bytes(ends):
    fh, ours = ends.up(high_water=100_000)
    ends.mux.want_read(ours, False)
    text = bytes(20_000_000)
    left = ends.mux.send(fh, text)
    assert 0 < left < len(text)
    assert ends.mux.buflen(fh) == left
    ends.mux.want_read(ours, True)
    size = 0
    while size < len(text):
        (read,) = ends.until(("read", ours))
        size += len(read.data)
    assert size == len(text)
    assert ends.mux.buflen(fh) == 0
    assert "sent" in ends.of(fh)


def test_missing_counts_plain_bytes(ends):
    fh, ours = ends.up()
    ends.mux.want_read(ours, False)
    left = ends.mux.send(fh, bytes(20_000_000))
    ends.mux.kill(fh)
    (closed,) = ends.until(("closed", fh))
    assert closed.missing == left


def test_max_outbuffer_is_of_plain_bytes(ends):
    fh, ours = ends.up(max_outbuffer=1_000_000)
    ends.mux.want_read(ours, False)
    while (left := ends.mux.send(fh, bytes(100_000))) < 900_000 and not ends.of(fh).count("error"):
        ends.events += ends.drain()
        if left + 100_000 > 1_000_000:
            break
    ends.mux.send(fh, bytes(1_000_001))
    (error,) = ends.until(("error", fh))
    assert "limit is 1000000" in error.error


def test_many_small_pieces_leave_together(ends):
    fh, ours = ends.up()
    for number in range(1000):
        ends.mux.send(fh, b"%03d" % number, later=True)
    data = b""
    while len(data) < 3000:
        data += ends.until(("read", ours))[0].data
    assert data == b"".join(b"%03d" % number for number in range(1000))


# Who is there


def test_the_peer_of_a_client(ends):
    fh, _ = ends.up()
    peer = ends.mux.peer(fh)
    assert ("DNS", "localhost") in peer.certificate["subjectAltName"]
    assert peer.address == ends.listener.getsockname()
    assert peer.tls.version == "TLSv1.3"
    assert peer.tls.cipher.startswith("TLS_")
    assert peer.tls.server_name == "localhost"
    assert peer.tls.alpn is None
    assert not peer.tls.resumed


def test_the_peer_of_a_server(mux, contexts):
    contexts[0].verify_mode = ssl.CERT_REQUIRED
    contexts[1].load_cert_chain(pem_file("client"))
    ends = TLSEnds(mux, contexts[0])
    fh = ends.connect(contexts[1])
    (connect,) = ends.until(("connect", None))
    assert connect.peer == mux.peer(connect.fh)
    assert ("commonName", "client.example") in sum(connect.peer.certificate["subject"], ())
    assert connect.address == connect.peer.address == fh.getsockname()
    assert connect.peer.tls.server_name == "localhost"


def test_without_client_certificates_there_is_none(ends):
    _, ours = ends.up()
    assert ends.mux.peer(ours).certificate is None


def test_an_application_protocol_is_agreed_on(mux):
    server, client = server_context(), client_context()
    server.set_alpn_protocols(["h2", "http/1.1"])
    client.set_alpn_protocols(["http/1.1"])
    fh, ours = TLSEnds(mux, server).up(client=client)
    assert mux.peer(fh).tls.alpn == mux.peer(ours).tls.alpn == "http/1.1"


def test_a_certificate_by_the_name_that_is_asked_for(mux):
    server, asked = server_context(), []

    def choose(tls, name, context):
        asked.append(name)
        tls.context = server_context("second")

    server.sni_callback = choose
    fh, ours = TLSEnds(mux, server).up()
    assert asked == ["localhost"]
    assert ("DNS", "second.example") in mux.peer(fh).certificate["subjectAltName"]
    assert mux.peer(ours).tls.server_name == "localhost"


def test_a_session_is_taken_up_again(mux, contexts):
    ends = TLSEnds(mux, contexts[0])
    for is_resumed in (False, True, True):
        fh, ours = ends.up(client=contexts[1])
        assert mux.peer(fh).tls.resumed == mux.peer(ours).tls.resumed == is_resumed
        mux.send(ours, b"the ticket comes with it, if not before")
        ends.until(("read", fh))
        mux.close(fh)
        ends.until(("closed", fh), ("closed", ours))


def test_a_session_is_not_taken_up_with_another_context(mux):
    ends = TLSEnds(mux)
    for _ in range(2):
        fh, ours = ends.up()  # which makes a context
        mux.send(ours, b"x")
        ends.until(("read", fh))
        assert not mux.peer(fh).tls.resumed
        mux.close(fh)
        ends.until(("closed", fh), ("closed", ours))


def test_a_new_context_is_for_new_connections(ends):
    before, _ = ends.up()
    ends.mux.set_tls(ends.listener, server_context("second"))
    after, _ = ends.up()
    certificates = [ends.mux.peer(fh).certificate["subjectAltName"] for fh in (before, after)]
    assert [("DNS", "second.example") in names for names in certificates] == [False, True]


# What is given to connect(), listen() and add()


def test_a_tcp_url_with_tls(ends):
    fh = ends.mux.connect(f"tcp://localhost:{ends.port}", tls=client_context())
    ends.until(("ready", fh), ("connect", None))
    assert ends.mux.peer(fh).tls.server_name == "localhost"


def test_an_address_is_a_name_too(ends):
    fh = ends.mux.connect(f"tls://127.0.0.1:{ends.port}", tls=client_context())
    ends.until(("ready", fh))


def test_another_name_than_that_of_the_url(ends):
    wrong = ends.connect(server_hostname="other.example")
    (error,) = ends.until(("error", wrong))
    assert "Hostname mismatch" in error.error
    assert error.exception.reason == "CERTIFICATE_VERIFY_FAILED"


def test_without_a_context_those_are_trusted_whom_the_system_trusts(ends):
    fh = ends.mux.connect(f"tls://localhost:{ends.port}")
    (error,) = ends.until(("error", fh))
    assert "the certificate of the peer is not accepted" in error.error
    ends.until(("closed", fh))


def test_both_ends_of_a_pair_are_added(mux, pair, contexts):
    one, two = pair()
    mux.add(one, tls=contexts[0])
    mux.add(two, tls=contexts[1], server_hostname="localhost")
    mux.send(one, b"hello")
    events = settled(mux)
    assert Read(two, b"hello") in events
    assert kinds(event for event in events if event.fh is one) == ["ready", "sent"]


def test_a_descriptor_as_a_number(mux, pair):
    one, two = pair()
    number = one.detach()
    mux.add(number, tls=server_context())
    mux.add(two, tls=client_context(), server_hostname="localhost")
    mux.send(two, b"hello")
    assert Read(number, b"hello") in settled(mux)
    mux.kill(number)


def test_a_context_for_both_sides(mux, pair):
    with pytest.warns(DeprecationWarning, match="PROTOCOL_TLS"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS)
    context.load_cert_chain(pem_file("server"))
    one, two = pair()
    mux.add(one, tls=context, server_side=True)
    mux.add(two, tls=client_context(), server_hostname="localhost")
    assert kinds(settled(mux)) == ["ready", "ready"]


def test_over_a_unix_socket(mux, tmp_path):
    url = f"unix://{tmp_path}/s"
    mux.listen(url, tls=server_context())
    fh = mux.connect(url, tls=client_context(), server_hostname="localhost")
    found = settled(mux)
    (connect,) = [event for event in found if event.type == "connect"]
    assert connect.uid is not None
    assert Ready(fh) in found


# How long it may take


@pytest.fixture
def clock():
    return FakeClock()


def test_a_server_that_is_silent(clock):
    with EventMux(clock=clock) as mux, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        fh = mux.connect(f"tls://127.0.0.1:{port}", tls=client_context(), handshake_timeout=5.0)
        sock, _ = server.accept()
        with sock:
            assert settled(mux) == []
            clock.advance(4.9)
            assert settled(mux) == []
            clock.advance(0.2)
            events = settled(mux)
            assert kinds(events) == ["error", "closing", "closed"]
            assert events[0].error == "no TLS handshake within 5 seconds"
            assert isinstance(events[0].exception, TimeoutError)
            assert fh.fileno() == -1


def test_the_time_to_connect_is_for_both(clock):
    with EventMux(clock=clock) as mux, socket.create_server(("127.0.0.1", 0)) as server:
        mux.connect(f"tls://127.0.0.1:{server.getsockname()[1]}", tls=client_context(), timeout=3)
        sock, _ = server.accept()
        with sock:
            assert settled(mux) == []
            clock.advance(3.1)
            assert kinds(settled(mux)) == ["error", "closing", "closed"]


def test_after_the_handshake_there_is_no_limit(clock):
    with EventMux(clock=clock) as mux:
        ends = TLSEnds(mux, handshake_timeout=1.0)
        one, two = socket.socketpair()
        mux.add(one, tls=client_context(), server_hostname="localhost", handshake_timeout=1.0)
        mux.add(two, tls=server_context(), handshake_timeout=1.0)
        assert kinds(settled(mux)) == ["ready", "ready"]
        clock.advance(100)
        assert settled(mux) == []
        mux.send(one, b"late")
        assert Read(two, b"late") in settled(mux)
        del ends
