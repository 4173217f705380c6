"""What is no socket, and what is held as a number: pipes, terminals, files, on each selector."""

import contextlib
import errno
import gc
import io
import os
import pty
import socket
import ssl
import subprocess
import sys
import tty

import pytest
from support.fakes import RefusingSelector
from support.pump import PATIENCE, drain, kinds, receive, take, until

from eventmux import Closed, Closing, Error, EventMux, Read, Ready, Sent
from eventmux.buffers import Split

BAD = os.strerror(errno.EBADF)


@pytest.fixture
def owned():
    """Close descriptors at the end of the test, if they are still open as what they were."""
    with contextlib.ExitStack() as stack:

        def own(*fds):
            for fd in fds:
                stack.callback(close_if, fd, identity(fd))
            return fds if len(fds) > 1 else fds[0]

        yield own


def identity(fd):
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def close_if(fd, known):
    with contextlib.suppress(OSError):
        if identity(fd) == known:
            os.close(fd)


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.fixture
def pipe(owned):
    """Make pipes: the end to read from, and the one to write to."""
    return lambda: owned(*os.pipe())


@pytest.fixture
def terminal(owned):
    """Make pseudo terminals that pass bytes on as they are: the master and the slave."""

    def make():
        master, slave = owned(*pty.openpty())
        tty.setraw(slave)
        return master, slave

    return make


def fill(mux, fh):
    """Send until something stays in the queue; what came of that is taken off."""
    while not mux.send(fh, b"x" * 10_000):
        pass
    drain(mux)


# Pipes


def test_the_reading_end_of_a_pipe(mux, pipe):
    reader, writer = pipe()
    mux.add(reader)
    assert drain(mux) == []  # nothing is ever written to it, so there is no `Ready`
    os.write(writer, b"hello")
    assert drain(mux) == [Read(reader, b"hello")]
    os.close(writer)
    assert drain(mux) == [Closing(reader), Closed(reader)]
    assert not is_open(reader)


def test_the_writing_end_of_a_pipe(mux, pipe):
    reader, writer = pipe()
    mux.add(writer)
    assert drain(mux) == [Ready(writer)]
    assert mux.send(writer, b"hel", b"lo") == 0
    assert os.read(reader, 100) == b"hello"
    assert drain(mux) == [Sent(writer)]
    os.close(reader)
    assert drain(mux) == [Closing(writer), Closed(writer)]
    assert not is_open(writer)


def test_an_idle_pipe_does_not_spin(timed, selector, pipe):
    reader, writer = pipe()
    timed.add(reader)
    timed.add(writer)
    assert drain(timed) == [Ready(writer)]
    selector.timeouts.clear()
    assert timed.mux(100).type == "timeout"
    assert len(selector.timeouts) <= 3


def test_a_reader_that_has_gone_before(mux, pipe):
    reader, writer = pipe()
    os.close(reader)
    mux.add(writer)
    assert drain(mux) == [Ready(writer), Closing(writer), Closed(writer)]


def test_writing_to_a_pipe_that_nobody_reads(mux, pipe):
    reader, writer = pipe()
    mux.add(writer)
    drain(mux)
    os.close(reader)
    mux.send(writer, b"hello")
    error, closing, closed = drain(mux)
    assert (error.type, error.errno) == ("error", errno.EPIPE)
    assert closing == Closing(writer, error.error)
    assert closed == Closed(writer, 5, error.error)


def test_a_reader_that_goes_while_output_waits(mux, pipe):
    reader, writer = pipe()
    mux.add(writer)
    drain(mux)
    fill(mux, writer)
    unsent = mux.buflen(writer)
    os.close(reader)
    events = drain(mux)
    assert kinds(events) == ["error", "closing", "closed"]
    assert events[-1].missing == unsent


def test_a_full_pipe_is_waited_for(mux, pipe):
    reader, writer = pipe()
    mux.add(writer)
    drain(mux)
    fill(mux, writer)
    assert drain(mux) == []
    os.read(reader, 1_000_000)
    assert mux.mux(PATIENCE) == Sent(writer)


def test_closing_a_full_pipe_sends_first(mux, pipe):
    reader, writer = pipe()
    mux.add(writer)
    drain(mux)
    fill(mux, writer)
    mux.close(writer)
    assert drain(mux) == [Closing(writer)]
    os.read(reader, 1_000_000)
    assert mux.mux(PATIENCE) == Closed(writer, 0)


def test_records_from_a_pipe(mux, pipe):
    reader, writer = pipe()
    mux.add(reader, buffered=Split())
    os.write(writer, b"one\ntwo\nthr")
    assert drain(mux) == [Read(reader, b"one"), Read(reader, b"two")]
    os.close(writer)
    assert drain(mux) == [Read(reader, b"thr"), Closing(reader), Closed(reader)]


def test_nothing_can_be_sent_to_what_is_only_read_from(mux, pipe):
    reader, _ = pipe()
    mux.add(reader)
    with pytest.raises(TypeError, match="it is open for reading only"):
        mux.send(reader, b"x")
    assert mux.buflen(reader) == 0


def test_a_pipe_has_no_addresses(mux, pipe):
    _, writer = pipe()
    mux.add(writer)
    with pytest.raises(TypeError, match="it is no datagram socket"):
        mux.sendto(writer, "/tmp/x", b"x")


def test_a_pipe_whose_reader_went_does_not_spin_while_another_is_waited_for(mux, pair, pipe):
    fh, peer = pair()
    reader, writer = pipe()
    mux.add(fh)
    mux.add(writer)
    assert len(take(mux, 2)) == 2
    mux.push_event(*[Closing(None)] * 300)
    os.close(reader)
    assert mux.mux(0, only=fh).type == "timeout"
    assert mux.mux(0, only=fh).type == "timeout"
    mux.remove(writer)
    peer.send(b"hello")
    assert mux.mux(PATIENCE, only=fh) == Read(fh, b"hello")
    assert mux.handles() == [fh]


@pytest.mark.parametrize("end", [0, 1], ids=["reader", "writer"])
def test_type_and_class_of_a_pipe(mux, pipe, end):
    fd = pipe()[end]
    mux.add(fd)
    assert (mux.type(fd), mux.class_(fd)) == ("stream", "other")


def test_packets_of_a_device_have_an_end(mux, pipe):
    reader, writer = pipe()
    mux.add(reader, type="dgram")
    assert mux.type(reader) == "dgram"
    os.write(writer, b"packet")
    assert drain(mux) == [Read(reader, b"packet")]
    os.close(writer)
    assert drain(mux) == [Closing(reader), Closed(reader)]


# FIFOs


def test_a_fifo_from_its_first_writer_to_the_last(mux, owned, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    reader = owned(os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK))
    mux.add(reader)
    assert drain(mux) == []
    writer = owned(os.open(tmp_path / "fifo", os.O_WRONLY))
    mux.add(writer)
    mux.send(writer, b"hello")
    assert drain(mux) == [Ready(writer), Sent(writer), Read(reader, b"hello")]
    mux.kill(writer)
    assert drain(mux) == [Closed(writer), Closing(reader), Closed(reader)]


def test_a_fifo_open_for_both_is_its_own_peer(mux, owned, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    fd = owned(os.open(tmp_path / "fifo", os.O_RDWR))
    mux.add(fd)
    mux.send(fd, b"hello")
    assert drain(mux) == [Ready(fd), Sent(fd), Read(fd, b"hello")]


# Terminals


def test_a_terminal_from_ready_to_closed(mux, terminal):
    master, slave = terminal()
    mux.add(master)
    mux.add(slave)
    assert sorted(kinds(take(mux, 2))) == ["ready", "ready"]
    mux.send(master, b"to the program")
    assert take(mux, 2) == [Sent(master), Read(slave, b"to the program")]
    mux.send(slave, b"to the user")
    assert take(mux, 2) == [Sent(slave), Read(master, b"to the user")]
    mux.kill(slave)
    assert take(mux, 3) == [Closed(slave), Closing(master), Closed(master)]


def test_the_end_of_a_master_is_no_error(mux, terminal):
    master, slave = terminal()
    mux.add(master)
    os.write(slave, b"bye")
    os.close(slave)
    events = until(mux, "closed")
    assert events == [Ready(master), Read(master, b"bye"), Closing(master), Closed(master)]


def test_a_slave_whose_master_has_gone(mux, terminal):
    master, slave = terminal()
    mux.add(slave)
    assert mux.mux(PATIENCE) == Ready(slave)
    os.close(master)
    assert until(mux, "closed") == [Closing(slave), Closed(slave)]


def test_a_terminal_is_read_until_there_is_no_more(mux, terminal):
    master, slave = terminal()
    mux.add(slave, buffered=Split(), read_size=4)
    os.write(master, b"abcdefgh")  # twice read_size, and no record
    assert drain(mux) == [Ready(slave)]
    os.write(master, b"\n")
    assert until(mux, "read") == [Read(slave, b"abcdefgh")]


def test_a_terminal_for_writing_only(mux, terminal, owned):
    master, slave = terminal()
    writer = owned(os.open(os.ttyname(slave), os.O_WRONLY | os.O_NOCTTY))
    mux.add(writer)
    mux.send(writer, b"hello")
    assert drain(mux) == [Ready(writer), Sent(writer)]
    assert os.read(master, 100) == b"hello"


# Files and devices


def test_a_file_is_read_to_its_end(mux, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abcdefgh")
    with path.open("rb") as file:
        mux.add(file, read_size=3)
        assert [mux.mux() for _ in range(5)] == [
            Read(file, b"abc"),
            Read(file, b"def"),
            Read(file, b"gh"),
            Closing(file),
            Closed(file),
        ]
        assert file.closed
    assert mux.mux() is None


def test_a_file_is_written(mux, tmp_path):
    with (tmp_path / "file").open("wb") as file:
        mux.add(file)
        assert mux.mux() == Ready(file)
        mux.send(file, b"hello")
        mux.close(file)
        assert drain(mux) == [Sent(file), Closing(file), Closed(file)]
    assert (tmp_path / "file").read_bytes() == b"hello"


def test_a_file_that_is_written_does_not_spin(timed, selector, tmp_path):
    with (tmp_path / "file").open("wb") as file:
        timed.add(file)
        drain(timed)
        selector.timeouts.clear()
        assert timed.mux(100).type == "timeout"
        assert len(selector.timeouts) <= 3


def test_a_file_does_not_keep_others_waiting(mux, watched, tmp_path):
    fh, peer = watched
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    with path.open("rb") as file:
        mux.add(file, read_size=1)
        peer.send(b"hello")
        assert Read(fh, b"hello") in take(mux, 3)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (os.O_RDONLY, ["closing", "closed"]),
        (os.O_WRONLY, ["ready"]),
        (os.O_RDWR, ["ready", "closing", "closed"]),
    ],
    ids=["read", "write", "both"],
)
def test_the_null_device(mux, owned, flags, expected):
    fd = owned(os.open(os.devnull, flags))
    mux.add(fd)
    assert kinds(drain(mux)) == expected


def test_a_full_disk_is_an_error_and_the_end(mux, owned):
    fd = owned(os.open("/dev/full", os.O_WRONLY))
    mux.add(fd)
    drain(mux)
    mux.send(fd, b"hello")
    error, closing, closed = drain(mux)
    assert (error.type, error.errno) == ("error", errno.ENOSPC)
    assert closing == Closing(fd, error.error)
    assert closed == Closed(fd, 5, error.error)


# Numbers and objects


class Holder:
    """An object of the program's that has a descriptor, and no `close()`."""

    def __init__(self, fd):
        self.fd = fd

    def fileno(self):
        return self.fd


def test_an_object_without_close_is_closed_by_its_number(mux, pipe):
    reader, writer = pipe()
    holder = Holder(reader)
    mux.add(holder)
    os.write(writer, b"hello")
    os.close(writer)
    assert drain(mux) == [Read(holder, b"hello"), Closing(holder), Closed(holder)]
    assert not is_open(reader)


def test_an_object_that_holds_a_socket(mux, pair):
    sock, peer = pair()
    holder = Holder(sock.detach())
    mux.add(holder)
    peer.send(b"hello")
    assert drain(mux) == [Ready(holder), Read(holder, b"hello")]
    assert (mux.type(holder), mux.class_(holder)) == ("stream", "socket")
    mux.send(holder, b"world")
    assert peer.recv(100) == b"world"
    mux.close(holder)
    assert drain(mux) == [Sent(holder), Closing(holder), Closed(holder)]
    assert peer.recv(100) == b""
    assert not is_open(holder.fd)


def test_a_listening_socket_as_a_number(mux):
    with socket.create_server(("127.0.0.1", 0)) as server:
        fd = server.fileno()
        mux.add(fd)
        with socket.create_connection(server.getsockname()) as peer:
            event = mux.mux(PATIENCE)
            assert (event.type, event.parent_fh) == ("connect", fd)
            assert event.address == peer.getsockname()
            mux.kill(event.fh)
        mux.remove(fd)
        assert server.fileno() == fd
        assert is_open(fd)


def test_a_datagram_socket_as_a_number(mux, pair):
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, two:
        fd = one.fileno()
        mux.add(fd)
        two.send(b"hello")
        mux.send(fd, b"world")
        assert drain(mux) == [Sent(fd), Read(fd, b"hello")]
        assert two.recv(100) == b"world"
        mux.remove(fd)


def test_a_number_outlives_a_mux_that_is_dropped(pair):
    fh, peer = pair()
    mux = EventMux()
    mux.add(fh.fileno())
    del mux
    gc.collect()
    peer.send(b"hello")
    assert fh.recv(100) == b"hello"


def test_the_pipes_of_a_child_process(mux):
    code = "import sys; print(sys.stdin.read()[::-1], end='', flush=True)"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-Sc", code], **pipes) as process:
        mux.add(process.stdin)
        mux.add(process.stdout)
        mux.send(process.stdin, b"hello")
        mux.close(process.stdin)
        events = until(mux, "closed", process.stdout)
    assert [event for event in events if event.fh is process.stdin] == [
        Ready(process.stdin),
        Sent(process.stdin),
        Closing(process.stdin),
        Closed(process.stdin),
    ]
    assert [event for event in events if event.fh is process.stdout] == [
        Read(process.stdout, b"olleh"),
        Closing(process.stdout),
        Closed(process.stdout),
    ]
    assert process.stdout.closed


# What is refused, and leaves no trace


def assert_refused(mux, error, fh, match, **options):
    with pytest.raises(error, match=match):
        mux.add(fh, **options)
    assert mux.handles() == []
    assert mux.mux() is None


@pytest.mark.parametrize("wrong", [None, "text", b"bytes", 1.5, True, object(), [1]])
def test_what_is_no_handle(mux, wrong):
    assert_refused(mux, TypeError, wrong, "has no file descriptor|unhashable")


def test_what_has_a_handle_but_is_none_says_where_it_is(mux, pair):
    class Client:
        fh = pair()[0]

    class Caller(Client):
        def __getattr__(self, name):
            if name.startswith("_"):
                raise AttributeError(name)
            return lambda: pytest.fail(f"{name} was called")

    for client in (Client(), Caller()):
        assert_refused(
            mux, TypeError, client, "has no file descriptor; its `fh` has one: give that"
        )
        with pytest.raises(KeyError, match="is not watched"):
            mux.close(client)


@pytest.mark.parametrize("wrong", ["7", None, True, 7.0])
def test_a_fileno_that_is_no_int(mux, wrong):
    assert_refused(mux, TypeError, Holder(wrong), r"its fileno\(\) is")


@pytest.mark.parametrize("fd", [-1, 2**31, 2**64, -(2**64)])
def test_a_number_that_is_no_descriptor(mux, fd):
    assert_refused(mux, OSError, fd, f"cannot watch {fd}: {BAD}")


def test_what_is_closed(mux, tmp_path, pair):
    fh, _ = pair()
    fh.close()
    with (tmp_path / "file").open("wb") as file:
        pass
    for closed in (fh, file, io.BytesIO()):
        with pytest.raises(OSError, match=BAD):
            mux.add(closed)
    assert mux.handles() == []


def test_tls_is_refused(mux, pair):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with context.wrap_socket(pair()[0], do_handshake_on_connect=False) as fh:
        assert_refused(mux, TypeError, fh, "TLS holds data back")
        assert fh.getblocking()


class Unfit(Split):
    """A buffer of the program's whose code fails."""

    def fresh(self):
        raise ZeroDivisionError("unfit")


REFUSALS = {
    "listen": (ValueError, "listen is True", {"listen": True}),
    "type": (ValueError, "type is 'seqpacket'", {"type": "seqpacket"}),
    "unknown type": (ValueError, "type is 'pipe'", {"type": "pipe"}),
    "errors": (ValueError, "errors is for datagram sockets", {"errors": True}),
    "packets": (ValueError, "is for streams|type is", {"type": "dgram", "buffered": Split()}),
    "no buffer": (TypeError, "must be a buffer", {"buffered": b"\n"}),
    "class": (TypeError, "must be a buffer", {"buffered": Split}),
    "broken buffer": (ZeroDivisionError, "unfit", {"buffered": Unfit()}),
    "size": (ValueError, "read_size is 0", {"read_size": 0}),
    "water": (ValueError, "high_water is 0", {"high_water": 0}),
    "limit": (ValueError, "max_outbuffer is -1", {"max_outbuffer": -1}),
    "handler": (TypeError, "must be callable", {"meta_handler": 5}),
}


@pytest.mark.parametrize(("error", "match", "options"), REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("what", ["pipe", "socket", "number"])
def test_what_is_refused_is_as_before(mux, pipe, pair, what, error, match, options):
    fh = pipe()[0] if what == "pipe" else pair()[0]
    handle = fh.fileno() if what == "number" else fh
    assert_refused(mux, error, handle, match, **options)
    assert os.get_blocking(fh if what == "pipe" else fh.fileno())
    mux.add(handle)  # and may be added as it should have been
    assert mux.handles() == [handle]
    mux.remove(handle)


@pytest.mark.parametrize("what", ["pipe", "socket", "number"])
def test_what_the_selector_refuses_is_as_before(pipe, pair, what):
    fh = pipe()[0] if what == "pipe" else pair()[0]
    fd = fh if what == "pipe" else fh.fileno()
    selector = RefusingSelector()
    with EventMux(selector=selector) as mux:
        selector.refuse = OSError(errno.ENOSPC, "no more")
        assert_refused(mux, OSError, fd if what == "number" else fh, "no more")
    assert os.get_blocking(fd)


def test_adding_twice_is_refused(mux, pair):
    fh, peer = pair()
    for first, second in (
        (fh, fh),
        (fh, fh.fileno()),
        (fh.fileno(), fh),
        (fh, Holder(fh.fileno())),
    ):
        mux.add(first)
        with pytest.raises(ValueError, match="is watched already"):
            mux.add(second)
        assert mux.handles() == [first]
        peer.send(b"hello")
        assert drain(mux) == [Ready(first), Read(first, b"hello")]
        mux.remove(first)


def test_adding_twice_is_refused_also_while_nothing_is_waited_for(mux, pair):
    fh, _ = pair()
    mux.add(fh)
    drain(mux)
    mux.want_read(fh, False)
    with pytest.raises(ValueError, match="is watched already"):
        mux.add(fh.fileno())
    assert mux.handles() == [fh]


# Closed behind the mux's back


def lost(fh):
    return [
        Error(fh, BAD, errno.EBADF),
        Closing(fh, BAD),
        Closed(fh, 0, BAD),
    ]


def without_exceptions(events):
    for event in events:
        if event.type == "error":
            assert event.exception.errno == event.errno
            event.exception = None
    return events


@pytest.mark.parametrize("what", ["socket", "reader", "writer", "number"])
def test_a_handle_that_the_program_closed_itself(mux, pair, pipe, what):
    ends = pair()
    fh = ends[0] if what == "socket" else pipe()[what == "writer"]
    if what == "number":
        fh = ends[0].detach()
    mux.add(fh)
    drain(mux)
    if what == "socket":
        fh.close()
    else:
        os.close(fh)
    assert without_exceptions(drain(mux)) == lost(fh)
    assert mux.handles() == []
    assert mux.mux() is None


def test_a_file_object_that_the_program_closed_itself(mux, pipe):
    reader, _ = pipe()
    file = os.fdopen(reader, "rb")
    mux.add(file)
    file.close()
    assert without_exceptions(drain(mux)) == lost(file)


def put_in_place(fd, other):
    """Close a descriptor and give its number to another open file."""
    os.dup2(other, fd)
    os.close(other)


@pytest.mark.parametrize("how", ["drain", "kill", "remove", "end"])
@pytest.mark.parametrize("what", ["pipe", "socket"])
def test_a_number_that_is_used_again_is_left_alone(pair, pipe, owned, what, how):
    number = pair()[0].detach() if what == "socket" else pipe()[0]
    reader, writer = pipe()
    with EventMux() as mux:
        mux.add(number)
        drain(mux)
        put_in_place(number, reader)
        owned(number)
        os.write(writer, b"not for the mux")
        if how in ("kill", "remove"):
            getattr(mux, how)(number)
        events = drain(mux) if how != "end" else []
    assert "read" not in kinds(events)
    assert is_open(number)
    assert os.get_blocking(number)
    assert os.read(number, 100) == b"not for the mux"


@pytest.mark.parametrize("what", ["pipe", "socket"])
def test_a_number_that_is_used_again_is_not_read_from_among_many(mux, pair, pipe, owned, what):
    number = pair()[0].detach() if what == "socket" else pipe()[0]
    reader, writer = pipe()
    if what == "socket":
        one, two = pair()
        reader, writer = one.detach(), two.fileno()
    others = [pair()[0] for _ in range(20)]
    mux.add(number)
    for other in others:
        mux.add(other)
    drain(mux)
    put_in_place(number, reader)
    owned(number)
    os.write(writer, b"not for the mux")
    assert "read" not in [mux.mux(0).type for _ in range(30)]
    assert os.read(number, 100) == b"not for the mux"


@pytest.mark.parametrize("what", ["pipe", "socket", "datagrams"])
def test_nothing_is_sent_to_a_number_that_is_used_again(mux, pair, pipe, owned, what):
    kind = socket.SOCK_DGRAM if what == "datagrams" else socket.SOCK_STREAM
    one, two = socket.socketpair(socket.AF_UNIX, kind)
    with one, two:
        number = pipe()[1] if what == "pipe" else owned(one.detach())
        mux.add(number)
        drain(mux)
        other, peer = pair()
        put_in_place(number, other.detach())
        owned(number)
        mux.send(number, b"not for the peer")
        drain(mux)
        assert receive(peer) == b""


def test_a_number_that_is_used_again_by_another_handle(mux, pair):
    old, _ = pair()
    mux.add(old)
    drain(mux)
    fd = old.fileno()
    new, peer = pair()
    old.close()
    new = socket.socket(fileno=os.dup2(new.detach(), fd))
    with new:
        mux.add(new)
        peer.send(b"hello")
        events = without_exceptions(drain(mux))
        assert [event for event in events if event.fh is old] == lost(old)
        assert [event for event in events if event.fh is new] == [Ready(new), Read(new, b"hello")]
        assert new.fileno() == fd
        assert mux.handles() == [new]


def test_a_number_is_free_when_closed_has_come(mux, pipe):
    number, _ = pipe()
    mux.add(number)
    reader, writer = pipe()
    put_in_place(number, reader)
    drain(mux)
    mux.add(number)
    os.write(writer, b"hello")
    assert drain(mux) == [Read(number, b"hello")]
