"""What the kernel tells besides bytes: urgent data, packet mode, files of /proc that change."""

import contextlib
import fcntl
import io
import os
import resource
import select
import socket
import struct
import subprocess
import sys
import termios

import pytest
from support.interrupts import Interrupt, at_places
from support.pump import PATIENCE, drain, kinds, take, until

from eventmux import CanRead, EventMux, Read, Ready, Timeout
from eventmux.buffers import FixedSize, Split

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="it takes epoll")


@pytest.fixture
def accepted(mux, closing):
    """Make connections over TCP that are watched; give the accepted end and the peer."""

    def make(**options):
        listener = mux.listen("tcp://127.0.0.1:0", **options)
        peer = closing(socket.create_connection(listener.getsockname()))
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fh = until(mux, "connect")[-1].fh
        mux.kill(listener)
        until(mux, "closed", listener)
        return fh, peer

    return make


def urge(peer, byte=b"!"):
    """Send urgent data, and wait until it has arrived."""
    assert peer.send(byte, socket.MSG_OOB) == len(byte)


def test_urgent_data(mux, accepted):
    fh, peer = accepted(exceptional=True)
    urge(peer)
    assert mux.mux(PATIENCE) == CanRead(fh, exceptional=True)
    assert fh.recv(1, socket.MSG_OOB) == b"!"
    assert drain(mux) == []


def test_it_comes_past_what_was_sent_before(mux, accepted):
    fh, peer = accepted(exceptional=True)
    peer.send(b"before")
    urge(peer)
    peer.send(b"behind")
    assert mux.mux(PATIENCE) == CanRead(fh, exceptional=True)
    assert fh.recv(1, socket.MSG_OOB) == b"!"
    assert take(mux, 2) == [Read(fh, b"before"), Read(fh, b"behind")]


def test_it_is_told_before_the_stream_is_read_past_its_place(mux, accepted):
    """The kernel drops it then."""
    fh, peer = accepted(exceptional=True)
    urge(peer)
    peer.send(b"behind")
    assert mux.mux(PATIENCE) == CanRead(fh, exceptional=True)
    assert fh.recv(1, socket.MSG_OOB) == b"!"
    assert mux.mux(PATIENCE) == Read(fh, b"behind")


def test_nothing_is_read_while_the_program_has_not_been_told(mux, accepted, pair):
    """It may be told of others first."""
    fh, peer = accepted(exceptional=True)
    other, whose = pair()
    mux.add(other)
    assert mux.mux(0) == Ready(other)
    urge(peer)
    peer.send(b"behind")
    for number in range(5):
        whose.send(b"%d" % number)
        assert mux.mux(PATIENCE, only=other) == Read(other, b"%d" % number)
    assert mux.timeout() == 0
    assert mux.mux(0) == CanRead(fh, exceptional=True)
    assert mux.timeout() == 0  # it is read from again, whatever another loop thinks
    assert fh.recv(1, socket.MSG_OOB) == b"!"
    assert mux.mux(0) == Read(fh, b"behind")
    assert mux.timeout() is None


def test_what_is_left_does_not_keep_the_loop_busy(mux, accepted):
    fh, peer = accepted(exceptional=True)
    urge(peer)
    assert mux.mux(PATIENCE) == CanRead(fh, exceptional=True)
    assert [mux.mux(0) for _ in range(20)] == [Timeout()] * 20
    assert mux.mux(0.05) == Timeout()
    assert not select.select([mux.fileno()], [], [], 0)[0] if has_fileno(mux) else True
    peer.send(b"behind")  # the kernel tells of the byte once more, as it is still there
    assert kinds(take(mux, 2)) == ["can_read", "read"]


def has_fileno(mux):
    with contextlib.suppress(OSError):
        return mux.fileno() >= 0
    return False


def test_each_time(mux, accepted):
    fh, peer = accepted(exceptional=True)
    for byte in (b"1", b"2", b"3"):
        urge(peer, byte)
        assert mux.mux(PATIENCE) == CanRead(fh, exceptional=True)
        assert fh.recv(1, socket.MSG_OOB) == byte
    assert drain(mux) == []


def test_without_the_option_it_is_skipped(mux, accepted):
    fh, peer = accepted()
    urge(peer)
    peer.send(b"behind")
    assert mux.mux(PATIENCE) == Read(fh, b"behind")
    assert drain(mux) == []


def test_records(mux, accepted):
    fh, peer = accepted(exceptional=True, buffered=Split(), read_size=4)
    peer.send(b"abc\nde")
    urge(peer)
    peer.send(b"f\n")
    assert mux.mux(PATIENCE) == CanRead(fh, exceptional=True)
    assert fh.recv(1, socket.MSG_OOB) == b"!"
    assert take(mux, 2) == [Read(fh, b"abc"), Read(fh, b"def")]


def test_several_reads_in_a_turn_do_not_pass_its_place(mux, accepted):
    """With a buffer a stream is read again and again, while no record is complete."""
    fh, peer = accepted(exceptional=True, buffered=FixedSize(8), read_size=4)
    peer.send(b"1234")
    with arriving_behind_the_first_read(mux, fh, lambda: [urge(peer), peer.send(b"5678")]):
        assert mux.mux(PATIENCE) == CanRead(fh, exceptional=True)
    assert fh.recv(1, socket.MSG_OOB) == b"!"
    assert mux.mux(PATIENCE) == Read(fh, b"12345678")


@contextlib.contextmanager
def arriving_behind_the_first_read(mux, fh, action):
    """Have something arrive in the middle of a turn."""
    channel = mux._channel(fh)
    receive = channel._recv

    def once(*arguments):
        channel._recv = receive
        data = receive(*arguments)
        action()
        return data

    channel._recv = once
    yield


def test_while_reading_is_stopped(mux, accepted):
    """That is what it is for: whoever is behind can be told to stop."""
    fh, peer = accepted(exceptional=True)
    mux.want_read(fh, False)
    peer.send(b"a lot")
    urge(peer)
    assert mux.mux(PATIENCE) == CanRead(fh, exceptional=True)
    assert fh.recv(1, socket.MSG_OOB) == b"!"
    assert drain(mux) == []
    mux.want_read(fh, True)
    assert mux.mux(PATIENCE) == Read(fh, b"a lot")


def test_the_program_reads_itself(mux, accepted):
    fh, peer = accepted(exceptional=True, manual_read=True)
    peer.send(b"before")
    urge(peer)
    assert mux.mux(PATIENCE) == CanRead(fh, exceptional=True)
    assert fh.recv(1, socket.MSG_OOB) == b"!"
    assert take(mux, 2) == [CanRead(fh), CanRead(fh)]
    assert fh.recv(100) == b"before"
    assert drain(mux) == []


def test_inline(mux, accepted):
    """What SO_OOBINLINE leaves in the stream is told, and read, as any."""
    fh, peer = accepted(exceptional=True)
    fh.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    urge(peer)
    assert mux.mux(PATIENCE) == CanRead(fh, exceptional=True)
    assert mux.mux(PATIENCE) == Read(fh, b"!")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_connection_of_ours(mux, closing, host):
    listener = closing(socket.create_server(("127.0.0.1", 0)))
    fh = mux.connect(f"tcp://{host}:{listener.getsockname()[1]}", exceptional=True)
    until(mux, "ready")
    peer = closing(listener.accept()[0])
    urge(peer)
    assert until(mux, "can_read")[-1] == CanRead(fh, exceptional=True)
    assert fh.recv(1, socket.MSG_OOB) == b"!"


def test_a_socket_that_is_only_a_number(mux, closing):
    listener = closing(socket.create_server(("127.0.0.1", 0)))
    peer = closing(socket.create_connection(listener.getsockname()))
    sock = closing(listener.accept()[0])
    mux.add(sock.fileno(), exceptional=True)
    assert mux.mux(0).type == "ready"
    urge(peer)
    assert mux.mux(PATIENCE) == CanRead(sock.fileno(), exceptional=True)
    mux.remove(sock.fileno())
    assert sock.recv(1, socket.MSG_OOB) == b"!"


def test_unix_streams(mux, pair):
    fh, peer = pair()
    mux.add(fh, exceptional=True)
    assert mux.mux(0) == Ready(fh)
    try:
        peer.send(b"!", socket.MSG_OOB)
    except OSError as error:
        pytest.skip(f"the kernel has no such thing: {error}")
    assert mux.mux(PATIENCE) == CanRead(fh, exceptional=True)
    assert fh.recv(1, socket.MSG_OOB) == b"!"


# Where it ends


@pytest.mark.parametrize("end", ["peer", "reset", "close", "kill", "remove", "exit"])
def test_no_descriptor_is_left(accepted, closing, end):
    before = set(os.listdir("/proc/self/fd"))
    with EventMux() as mux:
        listener = mux.listen("tcp://127.0.0.1:0", exceptional=True)
        with socket.create_connection(listener.getsockname()) as peer:
            fh = mux.mux(PATIENCE).fh
            urge(peer)
            assert mux.mux(PATIENCE) == CanRead(fh, exceptional=True)
            if end in ("peer", "reset"):
                if end == "reset":
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                peer.close()
                until(mux, "closed", fh)
            elif end == "close":
                mux.close(fh)
                peer.close()
                until(mux, "closed", fh)
            elif end == "kill":
                mux.kill(fh)
            elif end == "remove":
                mux.remove(fh)
                fh.close()
            if end != "exit":
                assert drain(mux) == [] or end == "kill"
                assert len(mux._poller._selector.get_map()) <= 3
    assert set(os.listdir("/proc/self/fd")) == before


def test_nothing_is_told_once_it_is_closing(mux, accepted):
    fh, peer = accepted(exceptional=True)
    mux.send(fh, b"bye")
    mux.close(fh)
    urge(peer)
    peer.close()
    assert "can_read" not in kinds(until(mux, "closed", fh))


def test_a_forked_child_lets_go(mux, accepted):
    fh, peer = accepted(exceptional=True)
    before = len(os.listdir("/proc/self/fd"))
    pid = os.fork()
    if pid == 0:
        mux.after_fork()
        os._exit(len(os.listdir("/proc/self/fd")) > before - 2)  # the socket, and the epoll
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    urge(peer)
    assert mux.mux(PATIENCE) == CanRead(fh, exceptional=True)


def test_out_of_descriptors(mux, pair):
    fh, _ = pair()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            mux.add(fh, exceptional=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert not mux.handles()
    mux.add(fh, exceptional=True)


def test_in_another_mux(mux, accepted):
    if not has_fileno(mux):
        pytest.skip("this selector has no descriptor")
    fh, peer = accepted(exceptional=True)
    with EventMux() as outer:
        outer.add(mux)
        urge(peer)
        assert outer.mux(PATIENCE) == CanRead(mux)
        assert mux.mux(0) == CanRead(fh, exceptional=True)


def test_interrupted_anywhere():
    """It is told, whatever Ctrl-C cuts off."""

    def scenario(interrupter):
        with EventMux() as mux:
            listener = mux.listen("tcp://127.0.0.1:0", exceptional=True)
            with socket.create_connection(listener.getsockname()) as peer:
                fh = mux.mux(PATIENCE).fh
                peer.send(b"before")
                urge(peer)
                peer.send(b"behind")
                events = []
                while len(events) < 3:
                    with contextlib.suppress(Interrupt):
                        events.append(interrupter.run(lambda: mux.mux(PATIENCE)))
                assert events == [
                    CanRead(fh, exceptional=True),
                    Read(fh, b"before"),
                    Read(fh, b"behind"),
                ]

    at_places(scenario, 3)


# Terminals, and files


def test_the_packet_mode_of_a_terminal(mux):
    master, slave = os.openpty()
    fcntl.ioctl(master, termios.TIOCPKT, struct.pack("i", 1))
    mux.add(master, exceptional=True)
    assert mux.mux(0) == Ready(master)
    os.write(slave, b"out")
    assert mux.mux(PATIENCE) == Read(master, b"\0out")
    termios.tcflush(slave, termios.TCIFLUSH)
    flushed = bytes([1])  # TIOCPKT_FLUSHREAD
    assert take(mux, 2) == [CanRead(master, exceptional=True), Read(master, flushed)]
    os.close(slave)


@pytest.fixture
def hostname():
    """Change the host name of this process alone."""
    unshare(0x04000000)  # CLONE_NEWUTS
    before = socket.gethostname()
    names = iter("abcdef")
    yield lambda: socket.sethostname(next(names))
    socket.sethostname(before)


def unshare(flags):
    ctypes = pytest.importorskip("ctypes")
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare") or libc.unshare(flags):
        pytest.skip(f"no namespace of our own: {os.strerror(ctypes.get_errno())}")


HOSTNAME = "/proc/sys/kernel/hostname"


def test_a_file_that_changes(mux, hostname, closing):
    file = closing(io.FileIO(HOSTNAME))
    file.read()
    mux.add(file, exceptional=True)
    assert drain(mux) == []  # that it can be read from is no news
    for _ in range(3):
        hostname()
        assert mux.mux(PATIENCE) == CanRead(file, exceptional=True)
        assert drain(mux) == []
    file.seek(0)
    assert file.read() == socket.gethostname().encode() + b"\n"


def test_a_file_that_is_never_read_does_not_keep_the_loop_busy(mux, hostname):
    fd = os.open(HOSTNAME, os.O_RDONLY)
    mux.add(fd, exceptional=True)
    hostname()
    assert kinds(drain(mux)) == ["can_read"]
    assert mux.mux(0.05) == Timeout()
    mux.close(fd)
    assert kinds(drain(mux)) == ["closing", "closed"]


def test_a_file_is_not_read_or_written(mux, closing):
    file = closing(io.FileIO(HOSTNAME))
    with pytest.raises(ValueError, match="does not go with buffered"):
        mux.add(file, exceptional=True, buffered=Split())
    mux.add(file, exceptional=True)
    with pytest.raises(TypeError, match="it is watched for what is exceptional alone"):
        mux.send(file, b"x")
    with pytest.raises(TypeError, match="is no stream of bytes"):
        mux.set(file, buffered=Split())
    assert (mux.type(file), mux.class_(file), mux.buflen(file)) == ("stream", "other", 0)
    assert drain(mux) == []
    mux.remove(file)
    assert file.read()


def test_a_file_that_is_closed_behind_our_back(mux):
    file = io.FileIO(HOSTNAME)
    mux.add(file, exceptional=True)
    file.close()
    assert kinds(until(mux, "closed", file)) == ["error", "closing", "closed"]


MOUNTS = """
import subprocess, sys
from eventmux import EventMux

with open("/proc/self/mounts") as file, EventMux() as mux:
    mux.add(file, exceptional=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", sys.argv[1]], check=True)
    for event in mux:
        print(event.type, event.exceptional, sys.argv[1] in file.read())
        break
"""


def test_what_is_mounted(tmp_path):
    """The kernel tells that to whoever asks first, and once."""
    command = ["unshare", "--mount", sys.executable, "-c", MOUNTS, str(tmp_path)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if "unshare" in result.stderr or "permission" in result.stderr:
        pytest.skip(f"no namespace of our own: {result.stderr}")
    assert (result.stdout, result.stderr) == ("can_read True True\n", "")


# Wrong calls


def test_what_has_nothing_to_tell(mux, tmp_path, closing, pair):
    path = tmp_path / "file"
    path.write_text("x")
    file = closing(io.FileIO(path))
    with pytest.raises(ValueError, match="exceptional is for what the kernel tells of, not for"):
        mux.add(file, exceptional=True)
    reading, writing = os.pipe()
    with pytest.raises(ValueError, match="exceptional is for streams that can be read from"):
        mux.add(writing, exceptional=True)
    with pytest.raises(ValueError, match="exceptional is for streams that can be read from"):
        mux.listen("udp://127.0.0.1:0", exceptional=True)
    with pytest.raises(ValueError, match="exceptional is for streams that can be read from"):
        mux.add(pair(socket.SOCK_SEQPACKET)[0], exceptional=True)
    with pytest.raises(ValueError, match="exceptional does not go with receive_fds"):
        mux.add(pair()[0], exceptional=True, receive_fds=1)
    assert not mux.handles()
    os.close(reading)
    os.close(writing)


def test_without_epoll(mux, pair, monkeypatch):
    monkeypatch.delattr(select, "epoll")
    with pytest.raises(ValueError, match="exceptional takes epoll"):
        mux.add(pair()[0], exceptional=True)


def test_half_close_goes_on_behind_what_was_told(mux, accepted):
    fh, peer = accepted(exceptional=True, half_close=True)
    urge(peer)
    assert mux.mux(PATIENCE) == CanRead(fh, exceptional=True)
    assert fh.recv(1, socket.MSG_OOB) == b"!"
    peer.sendall(b"more")
    peer.shutdown(socket.SHUT_WR)
    assert kinds(until(mux, "half_closed", fh)) == ["read", "half_closed"]
