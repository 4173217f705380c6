"""Parts of files in the output of a stream: `EventMux.sendfile()`."""

import errno
import gc
import io
import logging
import os
import signal
import socket
import tempfile
import threading

import pytest
from support.meeting import exchange, meet, unused_url
from support.pump import PATIENCE, drain, kinds, receive, take, until

from eventmux import FileError, Ready, Sent, Timeout
from eventmux._channels import files

SIZE = 3_000_000  # bytes, more than a kernel buffers
CONTENT = bytes(range(251)) * (SIZE // 251 + 1)
CONTENT = CONTENT[:SIZE]


@pytest.fixture
def file():
    with tempfile.TemporaryFile() as file:
        file.write(CONTENT)
        file.flush()
        yield file


@pytest.fixture(params=["copied", "read"])
def connection(request, mux, monkeypatch):
    """A handle and its peer: with sockets where the kernel copies, and where it does not."""
    _, fh, accepted = meet(mux)
    mux.remove(fh)
    fh.setblocking(False)
    copied = []
    sendfile = getattr(os, "sendfile", None)
    if request.param == "read" or sendfile is None:
        monkeypatch.delattr(os, "sendfile", raising=False)
    else:

        def counting(*arguments):
            copied.append(arguments)
            return sendfile(*arguments)

        monkeypatch.setattr(os, "sendfile", counting)
    yield accepted, fh
    assert bool(copied) == (request.param == "copied" and sendfile is not None)
    fh.close()


def collect(mux, fh, peer):
    """Let the peer read until all has left; return what it got, and the events."""
    got, events = b"", []
    while mux.buflen(fh):
        got += receive(peer)
        event = mux.mux(0)
        events += [] if isinstance(event, Timeout) else [event]
    events += drain(mux)
    return got + receive(peer), events


def open_descriptors():
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


# What arrives


def test_a_whole_file(mux, connection, file):
    fh, peer = connection
    assert mux.sendfile(fh, file) == mux.buflen(fh) > 0
    assert collect(mux, fh, peer) == (CONTENT, [Sent(fh)])


@pytest.mark.parametrize(
    ("offset", "count"), [(0, 5), (10, None), (7, 1000), (SIZE - 1, 1), (1, SIZE - 1)]
)
def test_a_part_of_one(mux, connection, file, offset, count):
    fh, peer = connection
    mux.sendfile(fh, file, offset, count)
    end = None if count is None else offset + count
    assert collect(mux, fh, peer) == (CONTENT[offset:end], [Sent(fh)])


def test_in_order_with_what_is_sent(mux, connection, file):
    fh, peer = connection
    mux.send(fh, b"head ", later=True)
    mux.sendfile(fh, file, 0, 1_000_000)
    mux.send(fh, b" and ")
    mux.send(fh, b"more ", later=True)
    mux.sendfile(fh, file, 5, 3)
    mux.send(fh, b" ", b"x" * 300_000)
    mux.sendfile(fh, file, 9, 300)
    mux.sendfile(fh, file)
    mux.send(fh, b" tail", later=True)
    got, events = collect(mux, fh, peer)
    parts = (CONTENT[:1_000_000], b" and more ", CONTENT[5:8], b" ", b"x" * 300_000)
    assert got == b"".join((b"head ", *parts, CONTENT[9:309], CONTENT, b" tail"))
    assert set(kinds(events)) == {"sent"}


def test_before_the_connection_is_up(mux, file):
    listener = mux.listen("tcp://127.0.0.1:0")
    peer = mux.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
    mux.send(peer, b"head ")
    mux.sendfile(peer, file)
    mux.shutdown(peer)
    got = b""
    while (event := mux.mux(PATIENCE)).type != "closing":
        got += event.data if event.type == "read" else b""
    assert got == b"head " + CONTENT


def test_a_handle_that_blocks_is_not_waited_for(mux, pair, file):
    """O_NONBLOCK is the program's, and sendfile() has no flag: such a file is read."""
    fh, peer = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    assert fh.getblocking()
    assert 0 < mux.sendfile(fh, file) < SIZE
    assert collect(mux, fh, peer)[0] == CONTENT


def test_a_number_and_a_pipe(mux, pair, file):
    fh, peer = pair()
    mux.add(fh.fileno())
    mux.sendfile(fh.fileno(), file.fileno(), 0, 10)
    assert receive(peer) == CONTENT[:10]
    mux.remove(fh.fileno())
    reader, writer = os.pipe()
    with io.FileIO(reader) as source, io.FileIO(writer, "w") as sink:
        mux.add(sink)
        mux.sendfile(sink, file, 0, 10)
        assert os.read(source.fileno(), 100) == CONTENT[:10]
        mux.remove(sink)


def test_the_file_stays_the_programs(mux, connection, file):
    fh, peer = connection
    file.seek(17)
    mux.sendfile(fh, file)
    assert file.read(3) == CONTENT[17:20]
    before = open_descriptors()
    file.close()
    assert collect(mux, fh, peer)[0] == CONTENT
    assert not before or open_descriptors() == before - 2  # the file's, and ours


def test_nothing_of_a_file(mux, connection, file):
    fh, peer = connection
    before = open_descriptors()
    assert mux.sendfile(fh, file, 5, 0) == mux.sendfile(fh, file, SIZE) == 0
    assert mux.sendfile(fh, file, SIZE + 1) == 0
    assert open_descriptors() == before
    mux.sendfile(fh, file, 0, 1)
    assert collect(mux, fh, peer) == (CONTENT[:1], [Sent(fh)])


def test_memory_stays_flat(mux, connection):
    """Much that is not there: a file with a hole, and a peer that counts."""
    fh, peer = connection
    size, counted = 2**28, 0
    peer.setblocking(True)

    def read():
        nonlocal counted
        room = bytearray(2**20)
        while count := peer.recv_into(room):
            counted += count

    resource = pytest.importorskip("resource")
    with tempfile.TemporaryFile() as holes:
        holes.truncate(size)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        mux.sendfile(fh, holes)
        reader = threading.Thread(target=read)
        reader.start()
        mux.close(fh)
        assert until(mux, "closed")[-1].missing == 0
        reader.join()
    assert counted == size
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # KiB


# Limits


def test_it_counts_as_output(mux, connection, file):
    fh, peer = connection
    mux.sendfile(fh, file)
    peer.close()
    closed = until(mux, "closed", fh)[-1]
    assert 0 < closed.missing < SIZE
    assert closed.reason


def test_high_water(mux, pair, file):
    fh, peer = pair()
    mux.add(fh, high_water=1000)
    assert mux.mux(PATIENCE) == Ready(fh)
    mux.sendfile(fh, file)
    peer.send(b"hello")
    assert mux.mux(0) == Timeout()
    _, events = collect(mux, fh, peer)
    assert kinds(events) == ["sent", "read"]


@pytest.mark.parametrize("limit", [1000, None])
def test_max_outbuffer(mux, pair, file, limit):
    fh, _peer = pair()
    mux.add(fh, max_outbuffer=limit)
    assert mux.mux(PATIENCE) == Ready(fh)
    mux.sendfile(fh, file)
    assert kinds(drain(mux)) == ([] if limit is None else ["error", "closing", "closed"])


def test_behind_close_it_is_ignored(mux, connection, file):
    fh, peer = connection
    before = open_descriptors()
    mux.sendfile(fh, file, 0, 5)
    mux.close(fh)
    assert mux.sendfile(fh, file) == 0
    assert open_descriptors() == before
    assert exchange(mux, fh, peer)[1] == CONTENT[:5]


def test_the_peer_that_has_finished_still_gets_it(mux, connection, file):
    fh, peer = connection
    peer.shutdown(socket.SHUT_WR)
    assert until(mux, "closing")
    mux.sendfile(fh, file)
    events, got = exchange(mux, fh, peer)
    assert got == CONTENT
    assert events[-1].missing == 0


@pytest.mark.skipif(not hasattr(socket, "send_fds"), reason="no descriptors can be passed")
@pytest.mark.parametrize("first", ["file", "fds"])
def test_with_descriptors_that_are_passed(mux, pair, file, first):
    fh, peer = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    calls = [lambda: mux.sendfile(fh, file, 0, 10), lambda: mux.send_fds(fh, b"with", [file])]
    for call in calls if first == "file" else calls[::-1]:
        call()
    mux.sendfile(fh, file, 3, 5)
    data, fds = b"", []
    while len(data) < 19:
        more, passed, _, _ = socket.recv_fds(peer, 100, 5)
        data, fds = data + more, fds + passed
    parts = [CONTENT[:10], b"with"]
    assert data == b"".join(parts if first == "file" else parts[::-1]) + CONTENT[3:8]
    (passed,) = fds
    os.close(passed)


@pytest.mark.parametrize("way", ["kill", "remove", "close", "exit", "lose"])
def test_no_descriptor_is_left(mux, pair, file, way):
    fh, _peer = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    before = open_descriptors()
    mux.sendfile(fh, file)
    assert open_descriptors() == before + bool(before)
    if way == "close":
        mux.close(fh, timeout=0)
        drain(mux)
    elif way == "exit":
        mux.__exit__()
    elif way == "lose":
        fh.close()
        drain(mux)
    else:
        getattr(mux, way)(fh)
        drain(mux)
    gc.collect()
    assert open_descriptors() <= before


# What goes wrong


def test_a_file_that_becomes_shorter(mux, connection, file):
    fh, peer = connection
    mux.sendfile(fh, file)
    file.truncate(1000)
    got = b""
    while (event := mux.mux(0)).type != "error":
        got += receive(peer)
    assert isinstance(event.exception, FileError)
    assert "has become shorter" in event.error
    closing, closed = take(mux, 2)
    assert closing.reason == closed.reason == event.error
    got += receive(peer)
    assert closed.missing == SIZE - len(got) > 0


def test_a_file_that_cannot_be_read(mux, connection, file, monkeypatch):
    fh, peer = connection
    mux.sendfile(fh, file)

    def fail(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "_pread", fail)
    if hasattr(os, "sendfile"):
        monkeypatch.setattr(os, "sendfile", fail)
    while (event := mux.mux(0)).type != "error":
        receive(peer)
    assert event.error == f"cannot read a file that is sent: {os.strerror(errno.EIO)}"
    assert kinds(drain(mux)) == ["closing", "closed"]


@pytest.mark.skipif(not hasattr(os, "sendfile"), reason="the system has no sendfile()")
def test_a_file_that_the_kernel_cannot_copy(mux, file, monkeypatch):
    _, peer, fh = meet(mux)
    mux.remove(peer)
    copy = os.sendfile

    def refuse(*arguments):
        monkeypatch.setattr(os, "sendfile", copy)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "sendfile", refuse)
    mux.sendfile(fh, file)
    assert collect(mux, fh, peer) == (CONTENT, [Sent(fh)])
    mux.sendfile(fh, file, 0, 1)  # the next one is tried again
    assert collect(mux, fh, peer)[0] == CONTENT[:1]
    peer.close()


def test_sigpipe_is_not_raised(mux, connection, file):
    """The program has set it back to what ends a process; `sendfile()` has no flag against it."""
    fh, peer = connection
    mux.sendfile(fh, file, 0, 1)
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        mux.sendfile(fh, file)
        peer.close()
        assert until(mux, "closed", fh)[-1].missing > 0
    finally:
        signal.signal(signal.SIGPIPE, before)


def test_a_connection_that_is_refused(mux, file):
    before = open_descriptors()
    fh = mux.connect(unused_url())
    mux.sendfile(fh, file)
    assert until(mux, "closed")[-1].missing == SIZE
    assert open_descriptors() == before


def test_wrong_calls(mux, pair, file):
    fh, peer = pair()
    mux.add(fh)
    gc.collect()
    before = open_descriptors()
    for arguments, error, text in (
        ((file, -1), ValueError, "offset is -1, must be 0 or more"),
        ((file, 0, -1), ValueError, "count is -1, must be 0 or more"),
        ((file, 0.5), TypeError, "offset is 0.5, must be an int"),
        ((file, True), TypeError, "offset is True, must be an int"),
        ((file, 0, "1"), TypeError, "count is '1', must be an int"),
        ((file, 10, SIZE), ValueError, f"has {SIZE - 10} bytes from 10 on, not {SIZE}"),
        ((file, SIZE + 5, 1), ValueError, f"has 0 bytes from {SIZE + 5} on, not 1"),
        ((b"content",), TypeError, "it has no file descriptor"),
        ((fh,), ValueError, "is no regular file"),
        ((io.BytesIO(),), OSError, os.strerror(errno.EBADF)),
    ):
        with pytest.raises(error, match=text):
            mux.sendfile(fh, *arguments)
    with (
        tempfile.NamedTemporaryFile() as known,
        open(known.name, "wb") as writer,
        pytest.raises(OSError, match=os.strerror(errno.EBADF)),
    ):
        mux.sendfile(fh, writer)
    gc.collect()
    assert open_descriptors() == before
    mux.shutdown(fh)
    with pytest.raises(ValueError, match=r"shutdown\(\) has ended our side"):
        mux.sendfile(fh, file)
    with pytest.raises(KeyError, match="is not watched"):
        mux.sendfile(peer, file)


def test_handles_that_take_no_files(mux, pair, file):
    udp = mux.listen("udp://127.0.0.1:0")
    listener = mux.listen("tcp://127.0.0.1:0")
    packets, _ = pair(getattr(socket, "SOCK_SEQPACKET", socket.SOCK_STREAM))
    mux.add(packets, manual_write=packets.type == socket.SOCK_STREAM)
    reader, writer = os.pipe()
    with io.FileIO(reader) as source, io.FileIO(writer, "w"):
        mux.add(source)
        for fh in (udp, listener, packets, source):
            with pytest.raises(TypeError):
                mux.sendfile(fh, file)
        mux.remove(source)


def test_a_trace_tells_what_is_sent(mux, pair, file, caplog):
    fh, _peer = pair()
    mux.add(fh)
    caplog.set_level(logging.DEBUG)
    mux.trace(logging.getLogger("traced"))
    mux.sendfile(fh, file, 5, 10)
    assert f"fd {fh.fileno()} > <10 bytes of a file, from 5 on>" in caplog.messages
