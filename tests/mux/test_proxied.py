"""Listeners behind proxies: who is let in, what is read before the program is told, and how long
it is waited for.
"""

import contextlib
import errno
import os
import re
import socket
import struct
import sys

import pytest
from support.certificates import server_context
from support.fakes import ClockedSelector, FakeClock
from support.network import linux_only, needs_ipv6
from support.processes import forked, open_descriptors
from support.programs import run
from support.pump import PATIENCE, drain, kinds, take, until

from eventmux import (
    Closed,
    Closing,
    Connect,
    Credentials,
    Error,
    EventMux,
    MalformedHeader,
    Read,
    Timeout,
)
from eventmux._channels import arrivals

LINE = b"PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\n"
CLIENT = ("192.0.2.1", 56324)
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.9")
V4 += struct.pack("!HH", 56324, 443)
BINARY = SIGNATURE + struct.pack("!BBH", 0x21, 0x11, len(V4)) + V4
LONG = SIGNATURE + struct.pack("!BBH", 0x21, 0x11, len(V4) + 1503) + V4
LONG += b"\xe0" + struct.pack("!H", 1500) + b"\n" * 1500
LOCAL = SIGNATURE + struct.pack("!BBH", 0x20, 0, 0)
OURS = ["127.0.0.0/8", "::1/128"]


@pytest.fixture
def listener(mux):
    return mux.listen("tcp://127.0.0.1:0", proxy="require", trusted=OURS, meta={"a": 1})


@pytest.fixture
def dial(closing):
    """Connect, from the other side."""

    def dial(listener, *pieces):
        family = listener.family
        sock = socket.socket(family)
        closing(sock)
        sock.settimeout(PATIENCE)
        sock.connect(listener.getsockname())
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            sock.sendall(piece)
        return sock

    return dial


def peers():
    """Return to whom the sockets of this process are connected."""
    found = set()
    for fd, what in open_descriptors().items():
        if what.startswith("socket:"):
            with socket.socket(fileno=os.dup(fd)) as sock, contextlib.suppress(OSError):
                found.add(sock.getpeername())
    return found


def is_ended(sock):
    """True once our side has closed it, and sent nothing."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def arrive(mux):
    """Accept what waits, of which the program is told nothing yet."""
    assert drain(mux) == []


# Who is there


@pytest.mark.parametrize("header", [LINE, BINARY, LONG])
def test_the_client_is_who_the_proxy_says(mux, listener, dial, header):
    proxy = dial(listener, header + b"hello")
    connect, read = take(mux, 2)
    assert connect == Connect(connect.fh, listener, CLIENT, peer=connect.peer)
    assert connect.peer.address == CLIENT
    assert connect.peer.credentials is None
    assert connect.peer.proxy.source == CLIENT
    assert connect.peer.proxy.destination == ("192.0.2.9", 443)
    assert connect.peer.proxy.address == proxy.getsockname()
    assert mux.peer(connect.fh) == connect.peer
    assert read == Read(connect.fh, b"hello")
    mux.send(connect.fh, b"hello yourself")
    assert proxy.recv(100) == b"hello yourself"


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", LOCAL])
def test_a_proxy_that_speaks_for_itself(mux, listener, dial, header):
    proxy = dial(listener, header + b"are you well?")
    connect, read = take(mux, 2)
    assert connect.address == connect.peer.address == proxy.getsockname()
    assert connect.peer.proxy.source is None
    assert connect.peer.proxy.is_local == (header is LOCAL)
    assert read.data == b"are you well?"


def test_what_is_accepted_has_the_options_and_a_meta_of_its_own(mux, listener, dial):
    dial(listener, LINE)
    dial(listener, LINE)
    one, two = (event.fh for event in take(mux, 2))
    mux.meta(one)["a"] = 2
    assert (mux.meta(one), mux.meta(two)) == ({"a": 2}, {"a": 1})


@pytest.mark.parametrize("header", [LINE, BINARY, LONG])
def test_nothing_behind_the_header_is_read(mux, dial, header):
    """It may be TLS, or the program reads it."""
    listener = mux.listen("tcp://127.0.0.1:0", proxy="require", trusted=OURS, manual_read=True)
    dial(listener, header + b"behind")
    (connect,) = until(mux, "connect")
    assert connect.fh.recv(100) == b"behind"


@pytest.mark.parametrize("header", [LINE, BINARY])
def test_a_header_byte_by_byte_keeps_the_mux_asleep(dial, header):
    """What has come is taken out: else each turn would find it again."""
    clock = FakeClock()
    selector = ClockedSelector(clock)
    with EventMux(selector=selector, clock=clock, spin=0) as mux:
        listener = mux.listen("tcp://127.0.0.1:0", proxy="require", trusted=OURS)
        proxy = dial(listener)
        arrive(mux)
        for at in range(len(header)):
            proxy.sendall(header[at : at + 1])
            before = len(selector.timeouts)
            event = mux.mux(0.05)
            assert len(selector.timeouts) - before <= 2
            assert isinstance(event, Timeout) == (at < len(header) - 1)
        assert event.address == CLIENT


# Who is not let in


@pytest.mark.parametrize("data", [LINE, b""])
def test_who_is_not_trusted_is_refused_before_anything_is_read(mux, dial, data):
    listener = mux.listen("tcp://127.0.0.1:0", proxy="require", trusted=["192.0.2.0/24", "::/0"])
    stranger = dial(listener, data)
    (error,) = take(mux, 1)
    address = stranger.getsockname()
    text = f"{address!r} is not trusted to say who its clients are"
    assert error == Error(listener, text, errno.EACCES, error.exception, sender=address)
    assert isinstance(error.exception, PermissionError)
    assert is_ended(stranger)
    assert drain(mux) == []
    assert mux.handles() == [listener]


@needs_ipv6
def test_ipv4_networks_hold_where_ipv6_is_served_too(mux, closing):
    listener = mux.listen("tcp://:0", proxy="require", trusted=["127.0.0.0/8"])
    port = listener.getsockname()[1]
    if listener.family != socket.AF_INET6:
        pytest.skip("no socket for both here")
    for host in ("127.0.0.1", "::1"):
        closing(socket.create_connection((host, port))).sendall(LINE)
    first, second = sorted(take(mux, 2), key=lambda event: event.type)
    assert (first.type, first.address) == ("connect", CLIENT)
    assert first.peer.proxy.address[0] == "::ffff:127.0.0.1"
    assert second.error.startswith("('::1', ")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "no PROXY header begins with b'GET / HTTP/1'"),
        (b"\x16\3\1\2\0\1\0\1\xfc\3\3aaa", r"no PROXY header begins with b'\x16\x03\x01"),
        (b"x", "no PROXY header begins with b'x'"),
        (b"PROXY TCP4 1 2 3 4\r\n", r"malformed PROXY header b'PROXY TCP4 1 2 3 4\r\n'"),
        (SIGNATURE + b"\x21\x11\xff\xff", "PROXY header of 65551 bytes, limit is 4096"),
    ],
)
def test_what_is_no_header(mux, listener, dial, data, error):
    stranger = dial(listener, data)
    (refusal,) = take(mux, 1)
    address = stranger.getsockname()
    assert refusal.fh is listener
    assert refusal.sender == address
    assert refusal.error.startswith(
        f"PROXY header of the connection with {address!r} failed: {error}"
    )
    assert isinstance(refusal.exception, MalformedHeader)
    assert is_ended(stranger)
    assert drain(mux) == []


@pytest.mark.parametrize("data", [b"", LINE[:20], BINARY[:-1]])
def test_an_end_before_the_header_is_whole(mux, listener, dial, data):
    dial(listener, data).shutdown(socket.SHUT_WR)
    (error,) = take(mux, 1)
    assert (error.fh, error.errno) == (listener, errno.ECONNRESET)
    assert f"failed: it ended after {len(data)} bytes of at least " in error.error


def test_a_reset_before_the_header_is_whole(mux, listener, dial):
    proxy = dial(listener, LINE[:20])
    arrive(mux)
    proxy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    proxy.close()
    (error,) = take(mux, 1)
    assert (error.fh, error.errno) == (listener, errno.ECONNRESET)
    assert isinstance(error.exception, ConnectionResetError)
    assert mux.handles() == [listener]


def test_an_end_right_behind_the_header_is_that_of_the_client(mux, listener, dial):
    dial(listener, LINE).shutdown(socket.SHUT_WR)
    assert kinds(take(mux, 3)) == ["connect", "closing", "closed"]


# How long, and how many


class Clocked:
    def __init__(self, **options):
        self.clock = FakeClock()
        self.mux = EventMux(selector=ClockedSelector(self.clock), clock=self.clock)
        options.setdefault("proxy", "require")
        self.listener = self.mux.listen("tcp://127.0.0.1:0", trusted=OURS, **options)


@pytest.fixture
def clocked():
    with contextlib.ExitStack() as stack:

        def make(**options):
            clocked = Clocked(**options)
            stack.enter_context(clocked.mux)
            return clocked

        yield make


@pytest.mark.parametrize("seconds", [None, 0.5])
def test_the_header_has_to_come_in_time(clocked, dial, seconds):
    world = clocked(**({} if seconds is None else {"handshake_timeout": seconds}))
    limit = seconds or 10.0
    proxy = dial(world.listener)
    arrive(world.mux)
    proxy.sendall(LINE[:5])  # which gives it no more time
    world.clock.advance(limit - 0.01)
    arrive(world.mux)
    world.clock.advance(0.02)
    (error,) = take(world.mux, 1)
    assert (error.fh, error.errno) == (world.listener, errno.ETIMEDOUT)
    assert error.error.endswith(f" failed: not complete within {limit:g} seconds")
    assert is_ended(proxy)


def test_who_was_let_in_has_all_the_time(clocked, dial):
    world = clocked(handshake_timeout=0.5)
    proxy = dial(world.listener, LINE)
    (connect,) = take(world.mux, 1)
    world.clock.advance(60)
    proxy.sendall(b"late")
    assert take(world.mux, 1) == [Read(connect.fh, b"late")]
    assert drain(world.mux) == []


def test_tls_has_what_is_left_of_the_time(clocked, dial):
    world = clocked(tls=server_context(), handshake_timeout=10)
    proxy = dial(world.listener)
    arrive(world.mux)
    world.clock.advance(9)
    proxy.sendall(LINE)
    arrive(world.mux)
    world.clock.advance(0.9)
    arrive(world.mux)
    world.clock.advance(0.2)
    (error,) = take(world.mux, 1)
    assert (error.fh, error.sender, error.errno) == (world.listener, CLIENT, errno.ETIMEDOUT)
    assert error.error.startswith(f"TLS handshake with {CLIENT!r} failed: ")
    assert is_ended(proxy)


def test_silent_connections_give_way_to_others(mux, listener, dial, monkeypatch):
    monkeypatch.setattr(arrivals, "MOST_AWAITED", 3)
    proxies = [dial(listener) for _ in range(3)]
    arrive(mux)
    proxies[0].sendall(LINE[:10])  # so it has not been silent for longest
    arrive(mux)
    proxies.append(dial(listener))
    (error,) = take(mux, 1)
    assert error.sender == proxies[1].getsockname()
    assert error.error.endswith(" failed: given up for others, 3 are waited for")
    assert error.errno == errno.ECONNABORTED
    assert is_ended(proxies[1])
    proxies[0].sendall(LINE[10:])
    assert take(mux, 1)[0].address == CLIENT
    for proxy in proxies[2:]:
        proxy.sendall(LINE)
        assert take(mux, 1)[0].address == CLIENT


def test_each_listener_has_places_of_its_own(mux, listener, dial, monkeypatch):
    monkeypatch.setattr(arrivals, "MOST_AWAITED", 1)
    other = mux.listen("tcp://127.0.0.1:0", proxy="require", trusted=OURS)
    dial(listener)
    dial(other)
    arrive(mux)


@linux_only
def test_silent_connections_give_back_the_descriptors_that_others_need(mux, listener, dial):
    import resource

    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    silent = [dial(listener) for _ in range(3)]
    arrive(mux)
    late = dial(listener, LINE)
    with open(os.devnull) as lowest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest.fileno(), usual[1]))
        try:
            events = until(mux, "connect")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    *errors, connect = events
    assert connect.peer.proxy.address == late.getsockname()
    assert {error.errno for error in errors} == {errno.EMFILE, errno.ECONNABORTED}
    assert is_ended(silent[0])


# Handles


def test_only_the_listener_is_known_before(mux, listener, dial):
    dial(listener, LINE[:5])
    arrive(mux)
    assert mux.handles() == [listener]


@pytest.mark.parametrize("end", ["kill", "close", "remove"])
def test_those_who_wait_end_with_their_listener(mux, listener, dial, end):
    silent, late = dial(listener), dial(listener, LINE[:-1])
    arrive(mux)
    getattr(mux, end)(listener)
    late.close()
    expected = {"kill": [Closed(listener)], "close": [Closing(listener), Closed(listener)]}
    assert drain(mux) == expected.get(end, [])
    assert is_ended(silent)
    listener.close()
    assert mux.mux() is None


def test_nobody_comes_once_the_listener_is_closing(mux, listener, dial):
    late = dial(listener, LINE[:-1])
    arrive(mux)
    mux.close(listener)
    with contextlib.suppress(OSError):
        late.sendall(LINE[-1:])
    assert drain(mux) == [Closing(listener), Closed(listener)]


def test_those_who_wait_end_with_the_mux(dial):
    with EventMux() as mux:
        silent = dial(mux.listen("tcp://127.0.0.1:0", proxy="require", trusted=OURS))
        arrive(mux)
    assert is_ended(silent)


def test_those_who_wait_end_with_a_mux_that_is_dropped(dial):
    mux = EventMux()
    listener = mux.listen("tcp://127.0.0.1:0", proxy="require", trusted=OURS)
    silent = dial(listener)
    arrive(mux)
    del mux
    with listener:
        assert is_ended(silent)


@linux_only
def test_a_forked_child_leaves_them_to_its_parent(mux, listener, dial):
    proxy = dial(listener, LINE[:10])
    arrive(mux)

    def child():
        before = peers()
        mux.after_fork()
        return proxy.getsockname() in before, proxy.getsockname() in peers(), mux.mux()

    assert forked(child) == "(True, False, None)"
    proxy.sendall(LINE[10:])
    assert take(mux, 1)[0].address == CLIENT


def test_another_handle_can_be_waited_for_alone(mux, listener, dial, pair):
    fh, peer = pair()
    mux.add(fh)
    until(mux, "ready")
    proxy = dial(listener)
    arrive(mux)
    proxy.sendall(LINE)
    peer.sendall(b"this")
    assert mux.mux(PATIENCE, only=fh) == Read(fh, b"this")
    assert isinstance(mux.mux(0, only=fh), Timeout)
    assert take(mux, 1)[0].address == CLIENT


def test_a_listener_can_be_waited_for_alone(mux, listener, dial):
    dial(listener, b"x")
    assert mux.mux(PATIENCE, only=listener).errno is None


def test_what_is_accepted_can_be_removed(mux, listener, dial):
    proxy = dial(listener, LINE + b"more")
    fh = until(mux, "connect")[-1].fh
    mux.want_read(fh, False)
    mux.remove(fh)
    with fh:
        assert fh.getblocking()
        proxy.sendall(b"!")


# UNIX sockets


@pytest.fixture
def path(tmp_path):
    return f"unix://{tmp_path}/x"


@linux_only
@pytest.mark.parametrize("trusted", ["unix:", f"uid:{os.getuid()}"])
def test_a_unix_socket(mux, dial, path, trusted):
    listener = mux.listen(path, proxy="require", trusted=[trusted])
    dial(listener, LINE)
    (connect,) = take(mux, 1)
    ours = Credentials(os.getpid(), os.getuid(), os.getgid())
    assert connect.address == CLIENT
    assert connect.peer.proxy.credentials == ours
    # They are the proxy's, and not the client's.
    assert connect.peer.credentials is None
    assert (connect.pid, connect.uid, connect.gid) == (None, None, None)
    dial(listener, LOCAL)
    (connect,) = take(mux, 1)
    assert connect.peer.credentials == ours
    assert connect.uid == os.getuid()


@linux_only
def test_what_is_no_header_at_a_unix_socket(mux, dial, path):
    """Its address is empty: the error names the process."""
    listener = mux.listen(path, proxy="require", trusted=["unix:"])
    dial(listener, b"GET / HTTP/1.1\r\n\r\n")
    (refusal,) = take(mux, 1)
    ours = Credentials(os.getpid(), os.getuid(), os.getgid())
    assert refusal.error.startswith(f"PROXY header of the connection with {ours!r} failed: no ")


@linux_only
def test_another_user_is_not_trusted(mux, dial, path):
    listener = mux.listen(path, proxy="require", trusted=[f"uid:{os.getuid() + 1}"])
    dial(listener, LINE)
    (error,) = take(mux, 1)
    assert re.fullmatch(
        rf"Credentials\(pid=\d+, uid={os.getuid()}, gid=\d+\) is not trusted .*", error.error
    )


# Options


@pytest.mark.parametrize(
    ("trusted", "error"),
    [
        ([], "trusted is empty: nobody could connect"),
        (["unix:"], "trusted has no network such as '10.0.0.0/8': nobody could connect"),
        (["127.0.0.1/8"], "trusted has '127.0.0.1/8', must be a network .*has host bits set"),
        (["localhost"], "trusted has 'localhost', must be a network such as '10.0.0.0/8'"),
        (["uid:www-data"], "trusted has 'uid:www-data', must be the number of a user: 'uid:33'$"),
        (["uid:"], "trusted has 'uid:', must be the number of a user: 'uid:33'$"),
        (["10.0.0.0/33"], "trusted has '10.0.0.0/33', must be"),
        ([""], "trusted has '', must be"),
    ],
)
def test_trusted_is_checked_at_the_call(mux, trusted, error):
    with pytest.raises(ValueError, match=f"^{error}"):
        mux.listen("tcp://127.0.0.1:0", proxy="require", trusted=trusted)
    assert mux.handles() == []


@pytest.mark.parametrize("trusted", ["127.0.0.0/8", b"127.0.0.0/8", 5, [5], [b"127.0.0.1"]])
def test_trusted_is_a_list_of_texts(mux, trusted):
    with pytest.raises(TypeError, match="^trusted "):
        mux.listen("tcp://127.0.0.1:0", proxy="require", trusted=trusted)


def test_a_unix_socket_has_no_networks(mux, path):
    with pytest.raises(ValueError, match=r"^trusted has neither 'unix:' nor 'uid:...'"):
        mux.listen(path, proxy="require", trusted=OURS)


def test_options_that_do_not_go_together(mux):
    with pytest.raises(ValueError, match=r"^trusted is \['127.0.0.0/8'\], but there is no proxy="):
        mux.listen("tcp://127.0.0.1:0", trusted=["127.0.0.0/8"])
    with pytest.raises(ValueError, match=r"^proxy is True, must be 'require' or None$"):
        mux.listen("tcp://127.0.0.1:0", proxy=True, trusted=OURS)
    with pytest.raises(ValueError, match=r"^proxy='require' with manual_accept"):
        mux.listen("tcp://127.0.0.1:0", proxy="require", trusted=OURS, manual_accept=True)


@pytest.mark.parametrize("scheme", ["udp://127.0.0.1:0", "unix_dgram://", "unix_seqpacket://"])
def test_only_streams_begin_with_a_header(mux, path, scheme):
    url = scheme if scheme.startswith("udp") else scheme + path.removeprefix("unix://")
    with pytest.raises(ValueError, match=r"^proxy is for listeners of streams, but <.*> is none$"):
        mux.listen(url, proxy="require", trusted=["unix:", *OURS])


def test_a_listener_of_the_programs_own(mux, pair, dial, closing):
    listener = closing(socket.create_server(("127.0.0.1", 0)))
    mux.add(listener, proxy="require", trusted=["127.0.0.1"])
    dial(listener, LINE)
    assert take(mux, 1)[0].address == CLIENT
    with pytest.raises(ValueError, match=r"^proxy is for listeners of streams"):
        mux.add(pair()[0], proxy="require", trusted=OURS)


@pytest.mark.parametrize("network", ["::ffff:127.0.0.0/104", "0.0.0.0/0", "127.0.0.1"])
def test_ways_to_write_a_network(mux, dial, network):
    dial(mux.listen("tcp://127.0.0.1:0", proxy="require", trusted=[network]), LINE)
    assert take(mux, 1)[0].type == "connect"


def test_what_proxies_need_is_imported_with_them():
    """The module `ipaddress` takes some milliseconds; `-S` is without what `site` imports."""
    program = "import sys, eventmux; print({'ipaddress', 'eventmux.proxy'} & {*sys.modules})"
    assert run(sys.executable, "-S", "-c", program).stdout == "set()\n"


def test_what_is_not_asked_for_is_the_programs(mux, dial):
    """To look for a header by itself would let anybody say who he is (section 2)."""
    listener = mux.listen("tcp://127.0.0.1:0")
    proxy = dial(listener, LINE)
    connect, read = take(mux, 2)
    assert (connect.address, connect.peer.proxy) == (proxy.getsockname(), None)
    assert read.data == LINE
