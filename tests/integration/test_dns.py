"""examples/dns_server.py answers dig, over UDP and TCP, and whatever else comes."""

import re
import shutil
import socket
import struct
import subprocess
import sys

import pytest
from support.network import has_ipv6
from support.programs import LIMIT, ROOT, Program

needs_dig = pytest.mark.skipif(shutil.which("dig") is None, reason="there is no dig")
QUERY = struct.Struct("!6H")
A, NS = 1, 2


@pytest.fixture(scope="module")
def start():
    """Start servers that hear on all addresses of a family; give the port."""
    programs = {}

    def port(host="0.0.0.0"):
        if host not in programs:
            command = [sys.executable, "-u", ROOT / "examples" / "dns_server.py", host, "0"]
            program = Program(command)
            line = program.process.stdout.readline()
            programs[host] = program, int(re.search(r", (\d+)", line)[1])
        return programs[host][1]

    yield port
    for program, _ in programs.values():
        program.stop()
        assert program.log == []


def dig(port, *words, host="127.0.0.1"):
    command = ["dig", f"@{host}", "-p", str(port), "+tries=1", "+time=5", *words]
    result = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def status(text):
    return re.search(r"status: (\w+)", text)[1]


@needs_dig
@pytest.mark.parametrize("way", ["+notcp", "+tcp"])
def test_addresses(start, way):
    assert dig(start(), way, "+short", "www.home.test").split() == ["192.0.2.80", "192.0.2.81"]
    assert dig(start(), way, "+short", "WWW.Home.TEST", "AAAA").split() == ["2001:db8::80"]
    text = dig(start(), way, "home.test")
    assert (status(text), re.search(r"flags: ([\w ]+)", text)[1]) == ("NOERROR", "qr aa rd")


@needs_dig
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "127.1.2.3"])
def test_the_answer_comes_from_the_address_that_was_asked(start, host):
    """dig says so, and fails, if it does not."""
    text = dig(start(), "+notcp", "home.test", host=host)
    assert f"SERVER: {host}#" in text
    assert "unexpected source" not in text


@needs_dig
@pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 here")
def test_ipv6(start):
    assert dig(start("::"), "+short", "home.test", host="::1") == "192.0.2.1\n"


@needs_dig
def test_what_is_too_long_for_udp_comes_over_tcp(start):
    text = dig(start(), "+notcp", "long.home.test", "TXT")
    assert "Truncated, retrying in TCP mode" in text
    assert re.findall(r'"([xy]{255})"', text) == ["x" * 255, "y" * 255]
    assert "(TCP)" in text


@needs_dig
def test_what_is_cut_says_so(start):
    text = dig(start(), "+notcp", "+ignore", "long.home.test", "TXT")
    assert re.search(r"flags: ([\w ]+)", text)[1] == "qr aa tc rd"
    assert "ANSWER: 0" in text


@needs_dig
@pytest.mark.parametrize(
    ("words", "expected", "authority"),
    [
        (["home.test", "MX"], "NOERROR", 1),  # there is the name, but nothing of that type
        (["nobody.home.test"], "NXDOMAIN", 1),
        (["www.example.com"], "REFUSED", 0),
        (["nothome.test"], "REFUSED", 0),
        (["home.test", "CH", "TXT"], "REFUSED", 0),
        (["+opcode=notify", "home.test", "SOA"], "NOTIMP", 0),
    ],
)
def test_what_is_not_answered(start, words, expected, authority):
    text = dig(start(), "+notcp", *words)
    assert (status(text), f"AUTHORITY: {authority}" in text) == (expected, True)
    assert "ANSWER: 0" in text


@needs_dig
def test_any(start):
    text = dig(start(), "+tcp", "+noall", "+answer", "www.home.test", "ANY")
    assert sorted(line.split()[3] for line in text.splitlines()) == ["A", "A", "AAAA"]


def query(name, kind=A, number=7, flags=0x0100, questions=1):
    head = QUERY.pack(number, flags, questions, 0, 0, 0)
    return head + name + struct.pack("!HH", kind, 1)


GOOD = query(b"\x04home\x04test\0")
MALFORMED = {
    "a pointer": query(b"\xc0\x0c"),
    "a label too long": query(b"\x40" + b"x" * 64 + b"\0"),
    "a name too long": query((b"\x3f" + b"x" * 63) * 5 + b"\0"),
    "no ASCII": query(b"\x01\xff\0"),
    "two questions": query(b"\x04home\x04test\0", questions=2),
    "no question": query(b"", questions=0),
    **{f"cut at {size}": GOOD[:size] for size in range(QUERY.size, len(GOOD))},
}


@pytest.fixture
def ask(start):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(LIMIT)
        sock.connect(("127.0.0.1", start()))

        def ask(data):
            sock.send(data)
            return sock.recv(65536)

        yield ask


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed(ask, data):
    assert ask(data) == QUERY.pack(7, 0x8101, 0, 0, 0, 0)


def test_what_is_no_question_at_all_is_dropped(start, ask):
    with socket.create_connection(("127.0.0.1", start()), timeout=LIMIT) as sock:
        sock.sendall(b"\0\x05short")
        assert sock.recv(100) == b""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", start()))
        for data in (b"", b"x", GOOD[:11], query(b"\x04home\x04test\0", flags=0x8000)):
            sock.send(data)
        assert ask(GOOD)[:2] == GOOD[:2]  # it was answered behind those
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(100)


def test_a_byte_at_a_time_and_many_at_once(start):
    with socket.create_connection(("127.0.0.1", start()), timeout=LIMIT) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        packets = [query(b"\x04home\x04test\0", number=number) for number in range(3)]
        stream = b"".join(struct.pack("!H", len(packet)) + packet for packet in packets)
        for byte in stream:
            sock.send(bytes([byte]))
        sock.sendall(stream)
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as file:
            answers = file.read()
    size = struct.unpack_from("!H", answers)[0] + 2
    assert len(answers) == 6 * size
    numbers = [struct.unpack_from("!H", answers, at + 2)[0] for at in range(0, len(answers), size)]
    assert numbers == [0, 1, 2, 0, 1, 2]


def test_a_port_that_is_no_number():
    result = subprocess.run(
        [sys.executable, "examples/dns_server.py", "127.0.0.1", "domain"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("127.0.0.1 domain: ")
    assert "Traceback" not in result.stderr
