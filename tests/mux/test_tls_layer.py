"""The layer of TLS alone: any way that records arrive or leave in pieces gives the same bytes."""

import contextlib
import errno
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.certificates import client_context, server_context

from eventmux._tls.hello import server_name
from eventmux._tls.layer import TLSLayer
from eventmux._tls.texts import explained
from eventmux.errors import TLSError


class Wire:
    """One end of a connection whose kernel gives and takes so many bytes at a time."""

    def __init__(self, inward, outward, sizes):
        self.inward, self.outward = inward, outward
        self.sizes = sizes
        self.turn = 0

    def _size(self):
        self.turn += 1
        return self.sizes[self.turn % len(self.sizes)]

    def recv(self, size, flags=0):
        size = min(size, self._size())
        if not self.inward or not size:
            raise BlockingIOError(errno.EAGAIN, "nothing there")
        data = bytes(self.inward[:size])
        del self.inward[:size]
        return data

    def send(self, data, flags=0):
        size = min(len(data), self._size())
        if not size:
            raise BlockingIOError(errno.EAGAIN, "no room")
        self.outward += data[:size]
        return size


def layers(sizes=(1 << 20,)):
    one, two = bytearray(), bytearray()
    client = TLSLayer(
        Wire(one, two, sizes), client_context(), server_side=False, server_hostname="localhost"
    )
    server = TLSLayer(Wire(two, one, sizes), server_context(), server_side=True)
    return client, server


def shake_hands(*both, most=100_000):
    for _ in range(most):
        for layer in both:
            if not layer.is_up:
                layer.shake_hands()
            layer.push()
        if all(layer.is_up for layer in both):
            break
    for layer in both:  # after that it asks the kernel
        with contextlib.suppress(BlockingIOError):
            assert not layer.recv(1)
    assert all(layer.is_up for layer in both)


def exchange(sender, receiver, pieces, read_size):
    """Send pieces as a stream does: what is not taken comes again, joined with what follows."""
    queue, got, waiting = b"", bytearray(), list(pieces)
    total = sum(map(len, pieces))
    for _ in range(1_000_000):
        if waiting:
            queue += waiting.pop(0)
        if queue:
            with contextlib.suppress(BlockingIOError):
                queue = queue[sender.send(queue) :]
        with contextlib.suppress(BlockingIOError):
            data = receiver.recv(read_size)
            assert 0 < len(data) <= read_size
            got += data
        if len(got) == total and not queue:
            return bytes(got)
    raise AssertionError(f"{len(got)} of {total}")


chunks = st.lists(st.integers(0, 5000), min_size=1, max_size=8).filter(any)


@given(chunks, st.lists(st.binary(min_size=1, max_size=3000), max_size=10), st.integers(1, 9000))
def test_any_chunking_gives_the_same_bytes(sizes, pieces, read_size):
    client, server = layers(sizes)
    shake_hands(client, server)
    assert exchange(client, server, pieces, read_size) == b"".join(pieces)
    assert exchange(server, client, pieces, read_size) == b"".join(pieces)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_handshake_in_the_smallest_pieces(size):
    client, server = layers((size,))
    shake_hands(client, server)
    assert exchange(client, server, [b"hello"], 100) == b"hello"
    assert server.session().server_name == "localhost"


@pytest.mark.parametrize("size", [16384, 16385, 131072, 131073, 2_500_000])
def test_long_pieces(size):
    client, server = layers((40_000, 0, 1 << 20))
    shake_hands(client, server)
    text = bytes(range(251)) * (size // 251 + 1)
    assert exchange(client, server, [text[:size]], 65536) == text[:size]


def test_no_more_than_a_megabyte_is_sent_at_once():
    client, server = layers()
    shake_hands(client, server)
    assert client.send(bytes(5_000_000)) == 1024 * 1024


def test_a_record_counts_once_all_of_it_has_left():
    client, server = layers((100, 0))
    shake_hands(client, server)
    with pytest.raises(BlockingIOError):
        client.send(b"x" * 1000)
    sent = 0
    while not sent:
        try:
            sent = client.send(b"x" * 1000 + b"more")
        except BlockingIOError:
            continue
    assert sent == 1000


def test_nothing_passes_before_the_handshake():
    client, _ = layers()
    with pytest.raises(BlockingIOError):
        client.send(b"secret")
    with pytest.raises(BlockingIOError):
        client.recv(100)


def test_the_end_comes_behind_the_data_and_again():
    client, server = layers()
    shake_hands(client, server)
    client.send(b"last")
    client.say_end()
    client.push()
    assert server.recv(100) == b"last"
    assert server.recv(100) == server.recv(100) == b""
    assert server.is_ended


def test_a_failure_comes_behind_the_data_and_again():
    client, server = layers()
    shake_hands(client, server)
    client.send(b"last")
    server._sock.inward += b"\x17\x03\x03\x00\x20" + bytes(32)
    assert server.recv(100) == b"last"
    for _ in range(2):
        with pytest.raises(TLSError, match="changed on its way"):
            server.recv(100)
    assert server.has_records  # the alert


def test_tickets_are_no_data():
    client, server = layers()
    shake_hands(client, server)
    with pytest.raises(BlockingIOError):
        client.recv(100)
    assert client.ticket() is not None
    assert server.ticket() is None


# The name in a hello


def hello(name=None):
    context = client_context()
    context.check_hostname = False
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    return out.read()


def test_the_name_that_is_asked_for():
    assert server_name(hello("some.example")) == "some.example"
    assert server_name(hello()) is None


def test_the_name_in_a_hello_that_is_spread_over_records():
    data = hello("some.example")
    body = data[5:]
    cut = b"".join(
        data[:3] + len(part).to_bytes(2, "big") + part
        for part in (body[at : at + 7] for at in range(0, len(body), 7))
    )
    assert server_name(cut) == "some.example"


def test_a_hello_that_is_cut_off_has_no_wrong_name():
    data = hello("some.example")
    assert {server_name(data[:size]) for size in range(len(data))} == {None}


@given(st.binary(max_size=300))
def test_any_bytes_have_a_name_or_none(data):
    assert server_name(data) is None or isinstance(server_name(data), str)


_HELLO = hello("some.example")


@given(st.integers(0, len(_HELLO) - 1), st.integers(0, 255))
def test_a_hello_with_one_byte_changed_does_no_harm(at, value):
    changed = bytearray(_HELLO)
    changed[at] = value
    name = server_name(bytes(changed))
    assert name is None or isinstance(name, str)


# What is told


def failure(reason="", kind=ssl.SSLError, **attributes):
    error = kind(1, f"[SSL: {reason}]")
    error.reason = reason
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


@pytest.mark.parametrize(
    ("error", "first", "text"),
    [
        (failure("WRONG_VERSION_NUMBER"), b"220 x\r\n", r"b'220 x\\r\\n' \(wrong version number\)"),
        (failure("WRONG_VERSION_NUMBER"), b"HTTP/1.1 400", "but HTTP"),
        (failure("HTTP_REQUEST"), b"GET / HTTP", "but HTTP"),
        (failure("TLSV1_ALERT_UNKNOWN_CA"), b"", "does not trust our certificate"),
        (failure("SSLV3_ALERT_CERTIFICATE_EXPIRED"), b"", "it has expired"),
        (failure("TLSV13_ALERT_CERTIFICATE_REQUIRED"), b"", "none was shown"),
        (failure("TLSV1_ALERT_PROTOCOL_VERSION"), b"", "our versions of TLS"),
        (failure("TLSV1_UNRECOGNIZED_NAME"), b"", "the name that we asked for"),
        (failure("PEER_DID_NOT_RETURN_A_CERTIFICATE"), b"", "has shown no certificate"),
        (failure("NO_SHARED_CIPHER"), b"", "our context has no certificate"),
        (failure("WRONG_VERSION_NUMBER"), b"", r"does not speak TLS \(wrong version number\)"),
        (failure("SOMETHING_ELSE"), b"", r"TLS has failed \(something else\)"),
        (failure("", ssl.SSLEOFError), b"", "in the middle of the handshake"),
        (
            failure("X", ssl.SSLCertVerificationError, verify_message="it is old."),
            b"",
            r"not accepted: it is old \(x\)",
        ),
    ],
)
def test_why_it_failed(error, first, text):
    told = explained(error, False, first)
    with pytest.raises(TLSError, match=text):
        raise told
    assert told.__cause__ is error
    assert told.reason in (error.reason, None)


def test_an_error_without_a_reason():
    assert str(explained(ssl.SSLError(1, "odd"), True, b"")) == "TLS has failed (odd)"
