"""Descriptors that are passed over UNIX sockets: they arrive once, in order, and none stays open.

The peer is a plain socket of Python's own, with `socket.send_fds()` and `recv_fds()`.
"""

import contextlib
import errno
import gc
import os
import resource
import socket
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.interrupts import Interrupt, at_places
from support.pump import PATIENCE, drain, kinds, take, until

from eventmux import Closed, EventMux, PassedFds, Read, ReadWithFds, Sent
from eventmux._channels.options import ChannelOptions
from eventmux.buffers import Split
from eventmux.passing import MOST_FDS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/fd, and CLOEXEC")

KINDS = {
    "stream": socket.SOCK_STREAM,
    "seqpacket": socket.SOCK_SEQPACKET,
    "dgram": socket.SOCK_DGRAM,
}


def open_fds():
    """Return what is open, without what was open to find that out."""
    links = {fd: f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")}
    return {fd for fd, link in links.items() if os.path.lexists(link)}


@pytest.fixture(autouse=True)
def nothing_is_leaked():
    """See that a test leaves no descriptor open, whoever it was meant for."""
    gc.collect()
    before = len(open_fds())
    yield
    gc.collect()
    assert len(open_fds()) <= before


@pytest.fixture
def pipe():
    """Make pipes, whose ends the test closes."""
    with contextlib.ExitStack() as stack:

        def make():
            ends = os.pipe()
            for fd in ends:
                stack.callback(os.close, fd)
            return ends

        yield make


@pytest.fixture(params=KINDS)
def receiving(request, pair, mux):
    """A handle that may get four descriptors at a time, and its peer; for each kind of socket."""
    fh, peer = pair(KINDS[request.param])
    mux.add(fh, receive_fds=4)
    drain(mux)
    return fh, peer


@pytest.fixture(params=KINDS)
def sending(request, pair, mux):
    """A handle to send with, and its peer; for each kind of socket."""
    fh, peer = pair(KINDS[request.param])
    mux.add(fh)
    drain(mux)
    peer.settimeout(PATIENCE)
    return fh, peer


def is_same(one, other):
    """True if two descriptors are of one open file."""
    return os.path.sameopenfile(one, other)


def close_all(fds):
    for fd in fds:
        os.close(fd)


# Receiving


def test_they_come_with_their_data(mux, receiving, pipe):
    fh, peer = receiving
    ends = pipe()
    socket.send_fds(peer, [b"take these"], ends)
    event = mux.mux(PATIENCE)
    assert type(event) is ReadWithFds
    assert (event.type, event.fh, event.data, event.id) == ("read", fh, b"take these", None)
    assert len(event.fds) == 2
    fds = event.fds.take()
    assert [is_same(*both) for both in zip(fds, ends, strict=True)] == [True, True]
    assert not set(fds) & set(ends)
    assert [os.get_inheritable(fd) for fd in fds] == [False, False]
    assert event.fds.take() == []
    close_all(fds)


def test_it_is_a_read(mux, receiving):
    fh, peer = receiving
    peer.send(b"data alone")
    match mux.mux(PATIENCE):
        case Read(there, data):
            assert (there, data) == (fh, b"data alone")
        case event:
            pytest.fail(str(event))


def test_what_comes_without_has_none(mux, receiving):
    _, peer = receiving
    peer.send(b"data alone")
    event = mux.mux(PATIENCE)
    assert (len(event.fds), event.fds.take(), repr(event.fds)) == (0, [], "<0 passed descriptors>")


def test_what_is_not_taken_is_closed_with_the_event(mux, receiving, pipe):
    _, peer = receiving
    ends = pipe()
    before = open_fds()
    socket.send_fds(peer, [b"a gift"], ends)
    event = mux.mux(PATIENCE)
    assert len(open_fds()) == len(before) + 2
    del event
    assert open_fds() == before


def test_close(mux, receiving, pipe):
    _, peer = receiving
    ends = pipe()
    before = open_fds()
    socket.send_fds(peer, [b"no"], ends)
    event = mux.mux(PATIENCE)
    event.fds.close()
    event.fds.close()
    assert open_fds() == before
    assert event.fds.take() == []


def test_those_who_do_not_ask_get_none(mux, pair, pipe):
    for kind in KINDS.values():
        fh, peer = pair(kind)
        mux.add(fh)
        drain(mux)
        ends = pipe()
        before = open_fds()
        socket.send_fds(peer, [b"unasked"], ends)
        [event] = drain(mux)
        assert event == Read(fh, b"unasked", event.sender)
        assert open_fds() == before


def test_a_stream_ends_a_read_behind_them(mux, pair, pipe):
    fh, peer = pair()
    mux.add(fh, receive_fds=1)
    drain(mux)
    peer.send(b"before,")
    socket.send_fds(peer, [b"with"], pipe()[:1])
    peer.send(b",behind")
    socket.send_fds(peer, [b",with"], pipe()[:1])
    reads = drain(mux)
    assert [(event.data, len(event.fds)) for event in reads] == [
        (b"before,with", 1),
        (b",behind,with", 1),
    ]


def test_a_read_that_takes_a_part_has_them_once(mux, pair, pipe):
    fh, peer = pair()
    mux.add(fh, receive_fds=1, read_size=3)
    drain(mux)
    socket.send_fds(peer, [b"12345678"], pipe()[:1])
    assert [(event.data, len(event.fds)) for event in drain(mux)] == [
        (b"123", 1),
        (b"456", 0),
        (b"78", 0),
    ]


def test_a_session(mux, pair, pipe):
    for kind in KINDS.values():
        fh, peer = pair(kind)
        mux.add(fh, receive_fds=1, meta_handler=lambda fh, data, sender: data.upper())
        drain(mux)
        socket.send_fds(peer, [b"x"], pipe()[:1])
        [event] = drain(mux)
        assert (event.id, len(event.fds)) == (b"X", 1)


def test_the_end(mux, pair):
    for kind in ("stream", "seqpacket"):
        fh, peer = pair(KINDS[kind])
        mux.add(fh, receive_fds=1)
        drain(mux)
        peer.send(b"last")
        peer.close()
        assert kinds(until(mux, "closed", fh)) == ["read", "closing", "closed"]


def test_a_peer_that_resets(mux, pair):
    fh, peer = pair()
    mux.add(fh, receive_fds=1)
    drain(mux)
    mux.send(fh, b"never read")
    assert mux.mux(0) == Sent(fh)
    peer.close()  # a UNIX socket with unread data is reset
    assert kinds(until(mux, "closed", fh)) == ["error", "closing", "closed"]


def test_what_a_listener_accepts_inherits_it(mux, tmp_path, closing, pipe):
    for scheme, kind in (("unix", "stream"), ("unix_seqpacket", "seqpacket")):
        path = str(tmp_path / scheme)
        mux.listen(f"{scheme}://{path}", receive_fds=2)
        peer = closing(socket.socket(socket.AF_UNIX, KINDS[kind]))
        peer.connect(path)
        socket.send_fds(peer, [b"hello"], pipe())
        connect, read = take(mux, 2)
        assert (connect.type, read.data, len(read.fds)) == ("connect", b"hello", 2)


def test_datagrams_have_a_sender(mux, tmp_path, closing, pipe):
    fh = mux.listen(f"unix_dgram://{tmp_path}/here", receive_fds=2)
    peer = closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    peer.bind(f"{tmp_path}/there")
    peer.connect(f"{tmp_path}/here")
    for data in (b"one", b""):
        socket.send_fds(peer, [data], pipe())
    for data in (b"one", b""):
        event = mux.mux(PATIENCE)
        assert (event.fh, event.data, event.sender) == (fh, data, f"{tmp_path}/there")
        assert len(event.fds) == 2


def test_credentials_that_the_program_has_asked_for_take_no_room(mux, pair, pipe):
    for kind in KINDS.values():
        fh, peer = pair(kind)
        fh.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        mux.add(fh, receive_fds=2)
        drain(mux)
        socket.send_fds(peer, [b"x"], pipe())
        [event] = drain(mux)
        assert (event.data, len(event.fds)) == (b"x", 2)


# Too many, and none left


def test_a_stream_with_too_many_ends(mux, pair, pipe):
    fh, peer = pair()
    mux.add(fh, receive_fds=1)
    drain(mux)
    ends = pipe()
    before = open_fds()
    socket.send_fds(peer, [b"flood"], ends)
    peer.send(b"and more")
    error, closing = take(mux, 2)
    assert (error.type, error.errno, error.data) == ("error", errno.EMSGSIZE, b"flood")
    assert error.error == closing.reason == "more descriptors than receive_fds, 1"
    assert open_fds() == before
    [closed] = take(mux, 1)
    assert closed == Closed(fh, 0, error.error)
    assert drain(mux) == []


def test_what_is_queued_then_still_leaves(mux, pair, pipe):
    fh, peer = pair()
    mux.add(fh, receive_fds=1)
    drain(mux)
    socket.send_fds(peer, [b"flood"], pipe())
    assert mux.mux(PATIENCE).type == "error"
    mux.send(fh, b"that was too much")
    until(mux, "closed")
    assert peer.recv(100) == b"that was too much"


@pytest.mark.parametrize("kind", ["seqpacket", "dgram"])
def test_a_packet_with_too_many_is_an_error_of_its_own(mux, pair, pipe, kind):
    fh, peer = pair(KINDS[kind])
    mux.add(fh, receive_fds=1)
    drain(mux)
    ends = pipe()
    before = open_fds()
    socket.send_fds(peer, [b"flood"], ends)
    socket.send_fds(peer, [b"good"], ends[:1])
    error, read = take(mux, 2)
    assert (error.type, error.errno, error.data) == ("error", errno.EMSGSIZE, b"flood")
    assert (read.data, len(read.fds)) == (b"good", 1)
    del error, read
    assert open_fds() == before


@pytest.mark.parametrize("kind", ["seqpacket", "dgram"])
def test_a_packet_that_is_too_long(mux, pair, pipe, kind):
    fh, peer = pair(KINDS[kind])
    mux.add(fh, receive_fds=2, read_size=4)
    drain(mux)
    ends = pipe()
    before = open_fds()
    socket.send_fds(peer, [b"12345"], ends)
    [error] = drain(mux)
    assert (error.type, error.errno, error.data) == ("error", errno.EMSGSIZE, b"1234")
    assert open_fds() == before


@contextlib.contextmanager
def few_descriptors(spare):
    """Let this process open only so many more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, open_fds()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
    plugs = []
    try:
        with contextlib.suppress(OSError):
            while True:
                plugs.append(os.dup(0))
        close_all([plugs.pop() for _ in range(spare)])
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        close_all(plugs)


def test_out_of_descriptors(mux, receiving, pipe):
    fh, peer = receiving
    socket.send_fds(peer, [b"no room"], [*pipe(), *pipe()])
    with few_descriptors(0):
        error = mux.mux(PATIENCE)
    assert (error.type, error.fh, error.errno) == ("error", fh, errno.EMFILE)
    assert error.data == b"no room"
    assert error.error.startswith("descriptors that were passed are lost: ")


# What goes with the handle


@pytest.mark.parametrize("end", ["kill", "remove", "exit"])
def test_those_in_the_queue_go_with_the_handle(pair, pipe, end):
    fh, peer = pair(socket.SOCK_SEQPACKET)
    other, whose = pair()
    ends = pipe()
    with EventMux() as mux:
        mux.add(fh, receive_fds=2)
        mux.add(other)
        drain(mux)
        before = open_fds()
        socket.send_fds(peer, [b"one"], ends)
        whose.send(b"wake up")
        assert mux.mux(PATIENCE, only=other).data == b"wake up"
        assert len(open_fds()) == len(before) + 2  # it was read, and waits in the queue
        if end == "kill":
            mux.kill(fh)
            assert mux.mux(0).type == "closed"
        elif end == "remove":
            mux.remove(fh)
        if end != "exit":
            assert not open_fds() - before
    assert not open_fds() - before
    assert (fh.fileno() >= 0) == (end == "remove")


def test_a_forked_child_closes_its_copies(pair, pipe):
    fh, peer = pair(socket.SOCK_SEQPACKET)
    other, whose = pair()
    ends = pipe()
    with EventMux() as mux:
        mux.add(fh, receive_fds=2)
        mux.add(other)
        drain(mux)
        before = len(open_fds())
        socket.send_fds(peer, [b"one"], ends)
        whose.send(b"wake up")
        mux.mux(PATIENCE, only=other)
        pid = os.fork()
        if pid == 0:
            mux.after_fork(keep=[fh, other])
            os._exit(len(open_fds()) > before)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert len(mux.mux(PATIENCE).fds) == 2  # ours are still there


# Sending


def received(peer, size=1000, most=MOST_FDS):
    data, fds, _, _ = socket.recv_fds(peer, size, most)
    return data, fds


def test_a_peer_gets_them(mux, sending, pipe):
    fh, peer = sending
    ends = pipe()
    before = open_fds()
    assert mux.send_fds(fh, b"take these", ends) == 0
    assert open_fds() == before  # the duplicates have gone
    assert mux.mux(0) == Sent(fh)
    data, fds = received(peer)
    assert data == b"take these"
    assert [is_same(*both) for both in zip(fds, ends, strict=True)] == [True, True]
    close_all(fds)


def test_the_program_may_close_its_own_at_once(mux, pair):
    fh, peer = pair()
    fill(mux, fh)
    reading, writing = os.pipe()
    assert mux.send_fds(fh, b"!", [reading])
    os.close(reading)
    data, [(_, _, fd)] = collect(mux, peer, b"!")
    assert data.strip(b"\0") == b"!"
    os.write(writing, b"it is open")
    assert os.read(fd, 100) == b"it is open"
    close_all([fd, writing])


def collect(mux, peer, last, size=4096):
    """Turn the mux, and read all up to the last bytes.

    Returns:
        The data, and for each descriptor where the read that brought it begins and ends.
    """
    peer.setblocking(False)
    data, found = b"", []
    while not data.endswith(last):
        with contextlib.suppress(BlockingIOError):
            while not data.endswith(last):
                chunk, fds, _, _ = socket.recv_fds(peer, size, MOST_FDS)
                found += [(len(data), len(data) + len(chunk), fd) for fd in fds]
                data += chunk
        mux.mux(0)
    return data, found


def fill(mux, fh):
    """Send until the kernel takes no more; return how many bytes were given."""
    mux.add(fh)
    drain(mux)
    size = 0
    while not mux.send(fh, bytes(100_000)):
        size += 100_000
    return size + 100_000


def test_in_order_with_what_is_queued(mux, pair, pipe):
    """Each arrives with the first byte of its data, wherever the kernel ends its pieces."""
    fh, peer = pair()
    size = fill(mux, fh)
    ends = [pipe()[0] for _ in range(3)]
    mux.send(fh, b"a" * 10)
    mux.send_fds(fh, b"b" * 70_000, ends[:1])
    mux.send_fds(fh, b"C", ends[1:2])
    mux.send(fh, b"d" * 300_000)
    mux.send_fds(fh, b"E", ends[2:])
    data, found = collect(mux, peer, b"E")
    assert data[size:] == b"a" * 10 + b"b" * 70_000 + b"C" + b"d" * 300_000 + b"E"
    places = [size + 10, size + 70_010, len(data) - 1]
    for (begin, end, fd), place, original in zip(found, places, ends, strict=True):
        assert begin <= place < end
        assert is_same(fd, original)
    close_all([fd for _, _, fd in found])


def test_packets_in_order(mux, pair, pipe):
    fh, peer = pair(socket.SOCK_SEQPACKET)
    peer.settimeout(PATIENCE)
    fill_packets(mux, fh)
    ends = pipe()
    mux.send(fh, b"plain")
    mux.send_fds(fh, b"with", ends)
    mux.send(fh, b"last")
    found = []
    while not found or found[-1][0] != b"last":
        mux.mux(0)
        data, fds = received(peer)
        close_all(fds)
        if data != bytes(1000):
            found.append((data, len(fds)))
    assert found == [(b"plain", 0), (b"with", 2), (b"last", 0)]


def fill_packets(mux, fh):
    mux.add(fh)
    drain(mux)
    while not mux.send(fh, bytes(1000)):
        pass


def test_before_the_stream_is_up(mux, tmp_path, pipe):
    """What is queued while connecting keeps its place, and its descriptors."""
    mux.listen(f"unix://{tmp_path}/here", receive_fds=2)
    fh = mux.connect(f"unix://{tmp_path}/here")
    mux.send(fh, b"first,", later=True)
    mux.send_fds(fh, b"second", pipe())
    reads = [event for event in until(mux, "read") if event.type == "read"]
    while b"".join(event.data for event in reads) != b"first,second":
        reads.append(until(mux, "read")[-1])
    assert [len(event.fds) for event in reads][-1] == 2


def test_between_two_muxes(mux, receiving, pair, pipe):
    fh, peer = receiving
    with EventMux() as other:
        other.add(peer)
        with open(os.devnull) as file:
            assert other.send_fds(peer, bytearray(b"x"), [file, *pipe()]) == 0
        event = mux.mux(PATIENCE)
        assert (event.fh, event.data, len(event.fds)) == (fh, b"x", 3)


def test_a_datagram_to_an_address(mux, tmp_path, pipe):
    there = mux.listen(f"unix_dgram://{tmp_path}/there", receive_fds=2)
    fh = mux.connect("unix_dgram://" + str(tmp_path / "there"))
    here = mux.listen(f"unix_dgram://{tmp_path}/here")
    mux.send_fds(here, b"by address", pipe(), address=f"{tmp_path}/there")
    mux.send_fds(fh, b"", pipe())  # a datagram may be empty
    reads = [event for event in drain(mux) if event.type == "read"]
    assert [(event.fh, event.data, len(event.fds)) for event in reads] == [
        (there, b"by address", 2),
        (there, b"", 2),
    ]
    assert reads[0].sender == f"{tmp_path}/here"


def test_an_accepted_connection(mux, pair, closing):
    """What a server is for that hands connections to its workers."""
    ours, theirs = pair(socket.SOCK_SEQPACKET)
    mux.add(ours)
    mux.add(theirs, receive_fds=1)
    listener = mux.listen("tcp://127.0.0.1:0")
    client = closing(socket.create_connection(listener.getsockname()))
    connection = until(mux, "connect")[-1].fh
    mux.remove(connection)
    mux.send_fds(ours, b"serve it", [connection])
    connection.close()
    [fd] = until(mux, "read")[-1].fds.take()
    with socket.socket(fileno=fd) as copy:
        copy.sendall(b"served")
        client.settimeout(PATIENCE)
        assert client.recv(100) == b"served"


# What never leaves


@pytest.mark.parametrize("end", ["kill", "remove", "exit", "close in time", "the peer"])
def test_what_never_leaves_is_closed(pair, pipe, end):
    fh, peer = pair()
    ends = pipe()
    with EventMux() as mux:
        fill(mux, fh)
        before = open_fds()
        mux.send_fds(fh, b"12345", ends)
        assert len(open_fds()) == len(before) + 2
        queued = mux.buflen(fh)
        if end == "kill":
            mux.kill(fh)
        elif end == "remove":
            mux.remove(fh)
        elif end == "close in time":
            mux.close(fh, timeout=0)
            assert until(mux, "closed")[-1].missing == queued
        elif end == "the peer":
            peer.close()
            assert until(mux, "closed")[-1].missing == queued
        if end != "exit":
            assert not open_fds() - before
    assert not open_fds() - before


def test_after_close_they_are_ignored(mux, pair, pipe):
    for kind in KINDS.values():
        fh, _ = pair(kind)
        mux.add(fh)
        drain(mux)
        ends = pipe()
        mux.close(fh)
        before = open_fds()
        assert mux.send_fds(fh, b"too late", ends) == 0
        assert open_fds() == before
        assert kinds(drain(mux)) == ["closing", "closed"]


def test_a_packet_that_is_too_long_to_be_sent(mux, pair, pipe):
    fh, peer = pair(socket.SOCK_SEQPACKET)
    mux.add(fh)
    drain(mux)
    ends = pipe()
    before = open_fds()
    mux.send_fds(fh, bytes(10_000_000), ends)
    mux.send_fds(fh, b"good", ends[:1])
    assert kinds(drain(mux)) == ["error", "sent", "sent"]
    assert open_fds() == before
    data, fds = received(peer)
    assert (data, len(fds)) == (b"good", 1)
    close_all(fds)


def test_over_the_limit_of_the_queue(mux, pair, pipe):
    fh, _ = pair()
    mux.add(fh, max_outbuffer=1000)
    drain(mux)
    ends = pipe()
    before = open_fds()
    mux.send_fds(fh, bytes(10_000_000), ends)
    assert kinds(drain(mux)) == ["error", "closing", "closed"]
    assert not open_fds() - before


# Wrong calls


def test_what_cannot_be_sent(mux, pair, pipe, closing):
    fh, _ = pair()
    mux.add(fh)
    ends = pipe()
    with pytest.raises(ValueError, match="no data is given"):
        mux.send_fds(fh, b"", ends)
    with pytest.raises(ValueError, match="0 descriptors are given, must be 1 to 253"):
        mux.send_fds(fh, b"x", [])
    with pytest.raises(ValueError, match="254 descriptors are given"):
        mux.send_fds(fh, b"x", ends[:1] * 254)
    with pytest.raises(TypeError, match="cannot send str"):
        mux.send_fds(fh, "x", ends)
    with pytest.raises(TypeError, match="it has no file descriptor"):
        mux.send_fds(fh, b"x", ["stdin"])
    with pytest.raises(TypeError, match="no datagram socket"):
        mux.send_fds(fh, b"x", ends, address="/tmp/there")
    with pytest.raises(KeyError):
        mux.send_fds(pair()[0], b"x", ends)
    shut = socket.socket()
    shut.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        mux.send_fds(fh, b"x", [*ends, shut])
    assert mux.buflen(fh) == 0


def test_only_unix_sockets_take_them(mux, pipe):
    here, there = pipe()
    mux.add(there)
    tcp = mux.listen("tcp://127.0.0.1:0")
    udp = mux.listen("udp://127.0.0.1:0")
    for fh in (there, tcp, udp):
        with pytest.raises(TypeError, match="it is no plain UNIX socket"):
            mux.send_fds(fh, b"x", [here])
    mux.remove(there)


def test_a_listener_takes_none(mux, tmp_path, pipe):
    fh = mux.listen(f"unix://{tmp_path}/here")
    ends = pipe()
    before = open_fds()
    with pytest.raises(TypeError, match="it is a listener"):
        mux.send_fds(fh, b"x", ends)
    assert not open_fds() - before


def test_what_the_option_fits(mux, pair, pipe):
    with pytest.raises(ValueError, match="receive_fds is for UNIX sockets"):
        mux.listen("tcp://127.0.0.1:0", receive_fds=1)
    with pytest.raises(ValueError, match="receive_fds is for UNIX sockets"):
        mux.add(pipe()[0], receive_fds=1)
    with pytest.raises(ValueError, match="receive_fds does not go with buffered"):
        mux.add(pair()[0], receive_fds=1, buffered=Split())
    with pytest.raises(ValueError, match="receive_fds does not go with manual_read"):
        mux.add(pair()[0], receive_fds=1, manual_read=True)
    assert not mux.handles()


def test_no_buffer_later(mux, pair):
    fh, _ = pair()
    mux.add(fh, receive_fds=1)
    with pytest.raises(ValueError, match="has receive_fds: it cannot have a buffer"):
        mux.set(fh, buffered=Split())
    mux.set(fh, buffered=None)


@pytest.mark.parametrize("count", [0, -1, 254, True, 1.0, "1"])
def test_how_many_can_be_asked_for(count):
    with pytest.raises(ValueError, match="receive_fds is"):
        ChannelOptions(receive_fds=count)


# Ctrl-C


@pytest.mark.parametrize("kind", KINDS)
def test_interrupted_while_receiving(kind, pair, pipe):
    """Nothing stays open, and what came is handed out."""

    def scenario(interrupter):
        fh, peer = pair(KINDS[kind])
        ends = pipe()
        with EventMux() as mux:
            mux.add(fh, receive_fds=2)
            drain(mux)
            before = open_fds()
            socket.send_fds(peer, [b"x"], ends)
            try:
                event = interrupter.run(lambda: mux.mux(PATIENCE))
            except Interrupt:
                event = mux.mux(PATIENCE)
            assert (event.data, len(event.fds)) == (b"x", 2)
            del event
            assert open_fds() == before

    at_places(scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_interrupted_while_sending(kind, pair, pipe):
    """The descriptors arrive with their data, once, or not at all; never with other data."""

    def scenario(interrupter):
        fh, peer = pair(KINDS[kind])
        peer.settimeout(PATIENCE)
        ends = pipe()
        before = open_fds()
        with EventMux() as mux:
            mux.add(fh)
            drain(mux)
            with contextlib.suppress(Interrupt):
                interrupter.run(lambda: mux.send_fds(fh, b"x", ends))
            mux.send(fh, b"other")
            drain(mux)
            came = []
            while not came or not came[-1][0].endswith(b"other"):
                data, fds = received(peer)
                came.append((data, len(fds)))
                close_all(fds)
            assert came in ([(b"other", 0)], [(b"x", 2), (b"other", 0)])
        assert not open_fds() - before

    at_places(scenario)


# The ancillary data itself


@given(
    st.lists(
        st.tuples(
            st.integers(0, 50).filter((socket.SOL_SOCKET).__ne__),
            st.integers(0, 50),
            st.binary(max_size=20),
        )
    )
)
def test_other_messages_are_passed_over(messages):
    passed = PassedFds(messages)
    assert (len(passed), passed.take()) == (0, [])


def test_a_body_that_is_cut_in_the_middle_of_a_number():
    spare = os.dup(0)
    body = spare.to_bytes(4, sys.byteorder) + b"\1\2"
    with contextlib.closing(PassedFds([(socket.SOL_SOCKET, socket.SCM_RIGHTS, body)])) as passed:
        assert passed.take() == [spare]
    os.close(spare)
