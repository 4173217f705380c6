"""The PROXY protocol, from bytes to what they say; headers are built here as specified."""

import socket
import struct
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventmux import MalformedHeader, ProxyHeader, ProxySSL
from eventmux._crc32c import crc32c
from eventmux.proxy import MAX_LENGTH, header_length, parse_header

SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")
V4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.9") + struct.pack("!HH", 5, 443)
V6 = bytes(15) + b"\1" + bytes(15) + b"\2" + struct.pack("!HH", 5, 443)
PLAIN = ProxyHeader(2, ("192.0.2.1", 5), ("192.0.2.9", 443))


def binary(body=V4, *fields, family=0x11, command=0x21):
    """Return a header of version 2."""
    rest = body + b"".join(fields)
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest


def field(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def tls(*fields, client=1, verify=0):
    return field(0x20, struct.pack("!BI", client, verify) + b"".join(fields))


def summed(*fields):
    """Return a header that has its checksum among the fields: bit by bit, without a table."""
    zeroed = binary(V4, *fields)
    at = zeroed.index(b"\3\0\4\0\0\0\0") + 3
    remainder = 0xFFFFFFFF
    for byte in zeroed:
        for bit in range(8):
            is_odd = (remainder ^ byte >> bit) & 1
            remainder = remainder >> 1 ^ (0x82F63B78 if is_odd else 0)
    return zeroed[:at] + struct.pack("!I", remainder ^ 0xFFFFFFFF) + zeroed[at + 4 :]


# Version 1


@pytest.mark.parametrize(
    ("line", "source", "destination"),
    [
        ("TCP4 192.0.2.1 192.0.2.9 56324 443", ("192.0.2.1", 56324), ("192.0.2.9", 443)),
        (
            "TCP4 255.255.255.255 255.255.255.255 65535 65535",
            ("255.255.255.255", 65535),
            ("255.255.255.255", 65535),
        ),
        ("TCP4 0.0.0.0 1.2.3.4 0 0", ("0.0.0.0", 0), ("1.2.3.4", 0)),
        ("TCP6 2001:DB8::1 ::1 1 2", ("2001:db8::1", 1, 0, 0), ("::1", 2, 0, 0)),
        (
            f"TCP6 {':'.join(['ffff'] * 8)} {':'.join(['ffff'] * 8)} 65535 65535",
            (":".join(["ffff"] * 8), 65535, 0, 0),
            (":".join(["ffff"] * 8), 65535, 0, 0),
        ),
        (
            "TCP6 ::ffff:192.0.2.1 ::ffff:c000:209 1 2",
            ("::ffff:192.0.2.1", 1, 0, 0),
            ("::ffff:192.0.2.9", 2, 0, 0),
        ),
    ],
)
def test_a_line(line, source, destination):
    assert parse_header(f"PROXY {line}\r\n".encode()) == ProxyHeader(1, source, destination)


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN \r\n",
        b"PROXY UNKNOWN whatever \0\xff it is\r\n",
        b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n",
    ],
)
def test_a_proxy_that_does_not_know(line):
    """Section 2.1: what follows is ignored; the longest line has 107 bytes."""
    assert header_length(line + b"x") == len(line) <= 107
    assert parse_header(line) == ProxyHeader(1)


@pytest.mark.parametrize(
    "line",
    [
        "TCP4 192.0.2.1 192.0.2.9 56324",
        "TCP4 192.0.2.1 192.0.2.9 56324 443 1",
        "TCP4 192.0.2.1  192.0.2.9 56324 443",
        "TCP4 192.0.2.1 192.0.2.9 56324 443 ",
        " TCP4 192.0.2.1 192.0.2.9 56324 443",
        "TCP4 192.0.2.01 192.0.2.9 56324 443",
        "TCP4 192.0.2.256 192.0.2.9 56324 443",
        "TCP4 192.0.2 192.0.2.9 56324 443",
        "TCP4 192.0.2.1 localhost 56324 443",
        "TCP4 192.0.2.1 ::1 56324 443",
        "TCP4 192.0.2.1 192.0.2.9 056324 443",
        "TCP4 192.0.2.1 192.0.2.9 65536 443",
        "TCP4 192.0.2.1 192.0.2.9 +1 443",
        "TCP4 192.0.2.1 192.0.2.9 1 99999",
        "TCP4 192.0.2.1 192.0.2.9 \u0661 443",
        "TCP6 192.0.2.1 192.0.2.9 1 2",
        "TCP6 ::1%lo ::1 1 2",
        "TCP6 ::1::2 ::1 1 2",
        "TCP6 1:2:3:4:5:6:7 ::1 1 2",
        "TCP6 12345::1 ::1 1 2",
        "TCP6 : ::1 1 2",
        "tcp4 192.0.2.1 192.0.2.9 1 2",
        "TCP5 192.0.2.1 192.0.2.9 1 2",
        "UNKNOWNS",
        "UDP4 192.0.2.1 192.0.2.9 1 2",
        "",
    ],
)
def test_a_line_that_breaks_the_protocol(line):
    data = f"PROXY {line}\r\n".encode()
    with pytest.raises(MalformedHeader):
        parse_header(data)


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY TCP4 192.0.2.1 192.0.2.9 1 2\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 1 2\rx",
        b"PROXY UNKNOWN \n\r\n",
        b"PROXY UNKNOWN \r\r\n",
        b"PROXY UNKNOWN " + b"f" * 93,
        b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n",
        b"proxy TCP4 192.0.2.1 192.0.2.9 1 2\r\n",
        b"PROXY\tTCP4",
        b"GET / HTTP/1.1\r\n",
        b"\x16\3\1\2\0",
        b"\0",
        SIGNATURE[:-1] + b"\r",
        SIGNATURE + b"\x11",
        SIGNATURE + b"\x30",
        SIGNATURE + b"\x21\x11" + struct.pack("!H", MAX_LENGTH - 15),
    ],
)
def test_what_cannot_become_a_header_is_refused_before_it_is_whole(data):
    with pytest.raises(MalformedHeader):
        header_length(data)


def test_errors_name_what_is_wrong_and_the_limit():
    with pytest.raises(MalformedHeader, match=r"^no PROXY header begins with b'GET / HTTP/1'$"):
        header_length(b"GET / HTTP/1.0\r\n")
    with pytest.raises(MalformedHeader, match=r"^PROXY header of 65551 bytes, limit is 4096$"):
        header_length(SIGNATURE + b"\x21\x11\xff\xff")
    with pytest.raises(MalformedHeader, match=r"^port 65536, must be from 0 to 65535$"):
        parse_header(b"PROXY TCP4 192.0.2.1 192.0.2.9 65536 443\r\n")


# Version 2


def test_a_binary_header():
    assert parse_header(binary()) == PLAIN
    assert parse_header(binary(V6, family=0x21)) == ProxyHeader(
        2, ("::1", 5, 0, 0), ("::2", 443, 0, 0)
    )


def test_the_longest_header():
    fill = field(0xE0, bytes(MAX_LENGTH - 16 - len(V4) - 3))
    assert len(binary(V4, fill)) == MAX_LENGTH
    assert parse_header(binary(V4, fill)).tlvs == {0xE0: fill[3:]}


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (b"/run/x.sock", "/run/x.sock"),
        (b"x" * 108, "x" * 108),
        (b"/run/\xff", "/run/\udcff"),
        (b"/run/x\0rest", "/run/x"),
        (b"\0name", b"\0name"),
        (b"", ""),
    ],
)
def test_unix_sockets(name, address):
    body = name.ljust(108, b"\0") + b"/to".ljust(108, b"\0")
    assert parse_header(binary(body, family=0x31)) == ProxyHeader(2, address, "/to")


@pytest.mark.parametrize("family", [0, 0x11, 0x12, 0x21, 0x31, 0x47, 0xFF])
@pytest.mark.parametrize("body", [b"", V4, V4 + b"no fields"])
def test_a_proxy_that_speaks_for_itself(family, body):
    """Section 2.2: LOCAL has the rest discarded, the family included."""
    assert parse_header(binary(body, family=family, command=0x20)) == ProxyHeader(2, is_local=True)


@pytest.mark.parametrize(
    ("family", "body"), [(0, b""), (1, b""), (0x10, V4), (0x20, V6), (0x30, bytes(216))]
)
def test_unspecified_families_and_protocols(family, body):
    told = field(2, b"example.org")
    header = parse_header(binary(body, told, family=family))
    assert (header.source, header.destination) == (None, None)
    assert header.authority == "example.org"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (binary(command=0x22), "command 2, must be 0 or 1"),
        (binary(command=0x2F), "command 15, must be 0 or 1"),
        (binary(family=0x41), "address family 4, must be from 0 to 3"),
        (binary(family=0x13), "transport protocol 3 is unknown, must be 0 or 1"),
        (binary(family=0x12), "transport protocol 2 is for datagrams, must be 0 or 1"),
        (binary(V6, family=0x22), "transport protocol 2 is for datagrams, must be 0 or 1"),
        (binary(V4[:-1]), "addresses of 11 bytes, must be 12"),
        (binary(V4, family=0x21), "addresses of 12 bytes, must be 36"),
        (binary(bytes(215), family=0x31), "addresses of 215 bytes, must be 216"),
        (binary(V4, b"\1"), "1 bytes behind the last field"),
        (binary(V4, field(4, b"")[:2]), "2 bytes behind the last field"),
        (binary(V4, field(1, b"h2")[:-1]), "type 0x01 of 2 bytes, only 1 are there"),
        (binary(V4, field(1, b"h2") * 2), "type 0x01 comes twice"),
        (binary(V4, field(2, b"\xff")), r"type 0x02 is no utf-8: b'\xff'"),
        (binary(V4, field(0x30, b"\xc3\xa4")), r"type 0x30 is no ascii: b'\xc3\xa4'"),
        (binary(V4, field(5, bytes(129))), "unique id of 129 bytes, limit is 128"),
        (binary(V4, field(3, bytes(3))), "checksum of 3 bytes, must be 4"),
        (binary(V4, field(0x20, bytes(4))), "TLS of 4 bytes, must be at least 5"),
        (binary(V4, tls(b"\x21\0")), "2 bytes behind the last field"),
        (binary(V4, tls(b"\x21\0\5TLS")), "type 0x21 of 5 bytes, only 3 are there"),
        (binary(V4, tls(field(0x22, b"x"), field(0x22, b"y"))), "type 0x22 comes twice"),
        (binary(V4, tls(field(0x22, b"\xff"))), r"type 0x22 is no utf-8: b'\xff'"),
        (binary(V4, tls(field(0x21, b"\xc3\xa4"), client=0)), "type 0x21 is no ascii"),
        (binary() + b"x", "PROXY header of 28 bytes in 29"),
        (binary()[:-1], "PROXY header of 28 bytes in 27"),
    ],
)
def test_a_binary_header_that_breaks_the_protocol(data, error):
    with pytest.raises(MalformedHeader) as caught:
        parse_header(data)
    assert str(caught.value).startswith(error)


def test_what_else_is_told():
    data = binary(
        V4,
        field(4, b"filler"),
        field(1, b"h2"),
        field(4, b""),
        field(2, "bücher.example".encode()),
        field(5, b"\0" * 128),
        field(0x30, b"blue"),
        field(0xEA, b"first"),
        field(0xEA, b"vpce-1"),
    )
    assert parse_header(data) == replace(
        PLAIN,
        alpn=b"h2",
        authority="bücher.example",
        unique_id=bytes(128),
        namespace="blue",
        tlvs={
            1: b"h2",
            2: "bücher.example".encode(),
            5: bytes(128),
            0x30: b"blue",
            0xEA: b"vpce-1",
        },
    )


def test_what_a_proxy_says_of_tls():
    fields = [
        field(0x21, b"TLSv1.3"),
        field(0x22, "Jürgen".encode()),
        field(0x23, b"TLS_AES_256_GCM_SHA384"),
        field(0x24, b"RSA-SHA256"),
        field(0x25, b"RSA2048"),
        field(0x28, b"der"),
    ]
    said = parse_header(binary(V4, tls(*fields, client=7))).ssl
    assert said is not None
    assert said.tlvs[0x28] == b"der"
    assert replace(said, tlvs={}) == ProxySSL(
        verified=True,
        verify_result=0,
        has_certificate=True,
        had_certificate=True,
        version="TLSv1.3",
        common_name="Jürgen",
        cipher="TLS_AES_256_GCM_SHA384",
        signature_algorithm="RSA-SHA256",
        key_algorithm="RSA2048",
    )


@pytest.mark.parametrize(
    ("client", "verify", "verified"),
    [
        (1, 0, False),  # no certificate: there was nothing to verify
        (3, 0, True),
        (5, 0, True),
        (3, 18, False),
        (1, 18, False),
    ],
)
def test_only_a_certificate_can_be_verified(client, verify, verified):
    said = parse_header(binary(V4, tls(client=client, verify=verify))).ssl
    assert said is not None
    assert (said.verified, said.verify_result) == (verified, verify)


@pytest.mark.parametrize("client", [0, 2, 6, 0xFE])
def test_a_client_without_tls(client):
    """HAProxy tells of TLS even so; whoever asks for `ssl` is not to take it for some."""
    header = parse_header(binary(V4, tls(client=client)))
    assert header.ssl is None
    assert 0x20 in header.tlvs


# The checksum


def test_the_checksum_of_the_standard():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, appendix B.4


def test_the_checksum_covers_the_whole_header():
    data = summed(field(1, b"h2"), field(3, bytes(4)), field(2, b"example.org"))
    assert parse_header(data).authority == "example.org"
    for at in set(range(16, len(data))) - {data.index(b"\3\0\4")}:  # else there is no checksum
        for bit in (1, 128):
            wrong = data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
            with pytest.raises(MalformedHeader):
                parse_header(wrong)


def test_a_wrong_checksum_is_told():
    with pytest.raises(MalformedHeader, match=r"^checksum 0x00000000, must be 0x[0-9a-f]{8}$"):
        parse_header(binary(V4, field(3, bytes(4))))


# In pieces


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY UNKNOWN\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\n",
        b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n",
        binary(b"", command=0x20, family=0),
        binary(V4, field(2, b"example.org"), field(1, b"\r\n")),
    ],
)
@pytest.mark.parametrize("behind", [b"", b"\r\n", b"PROXY UNKNOWN\r\n"])
def test_no_piece_reaches_beyond_the_header(data, behind):
    """However little is known: so many bytes still belong to it, and it is whole with the last."""
    for at in range(len(data)):
        assert at < header_length(data[:at]) <= len(data)
    assert header_length(data + behind) == len(data)


hosts = st.one_of(
    st.tuples(st.just(socket.AF_INET), st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.just(socket.AF_INET6), st.ip_addresses(v=6), st.ip_addresses(v=6)),
)
ports = st.integers(0, 65535)
fields = st.lists(
    st.tuples(st.integers(0, 255), st.binary(max_size=40)).filter(
        lambda told: told[0] not in (1, 2, 3, 4, 5, 0x20, 0x30)
    ),
    max_size=5,
)


def is_at(address, host, *rest):
    """Compare as numbers: there is more than one way to write the same."""
    return ip_address(address[0]) == host and address[1:] == tuple(rest)


@given(hosts, ports, ports, fields, st.sampled_from([1, 2]))
def test_what_is_built_is_read(ends, source_port, destination_port, told, version):
    family, source, destination = ends
    scope = () if family == socket.AF_INET else (0, 0)
    names = [socket.inet_ntop(family, end.packed) for end in (source, destination)]
    if version == 1:
        kind = "TCP4" if family == socket.AF_INET else "TCP6"
        text = f"PROXY {kind} {names[0]} {names[1]} {source_port} {destination_port}\r\n"
        data, told = text.encode(), []
    else:
        body = (
            source.packed + destination.packed + struct.pack("!HH", source_port, destination_port)
        )
        code = 0x11 if family == socket.AF_INET else 0x21
        data = binary(body, *(field(*one) for one in told), family=code)
    header = parse_header(data)
    assert header.version == version
    assert is_at(header.source, source, source_port, *scope)
    assert is_at(header.destination, destination, destination_port, *scope)
    assert header.tlvs == dict(told)


openings = st.sampled_from(
    [b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\0\x0c"]
)


@given(openings, st.binary(max_size=300))
def test_bytes_of_a_stranger_are_a_header_or_refused(opening, rest):
    data = opening + rest
    try:
        length = header_length(data)
        if length <= len(data):
            parse_header(data[:length])
    except MalformedHeader:
        pass
