"""Ending our side of a connection: `EventMux.shutdown()`. Reading goes on, to the peer's end."""

import io
import os
import signal
import socket
import subprocess
import sys

import pytest
from support.meeting import meet, unused_url, url_of
from support.pump import PATIENCE, drain, kinds, receive, until

from eventmux import Closed, Closing, EventMux, HalfClosed, Read, ReadLast, Ready, Sent, Timeout
from eventmux.buffers import Size

HUGE = b"x" * 3_000_000  # more than a kernel buffers
CONNECTIONS = [socket.SOCK_STREAM]
if hasattr(socket, "SOCK_SEQPACKET"):
    CONNECTIONS.append(socket.SOCK_SEQPACKET)


def up(mux, pair, kind=socket.SOCK_STREAM, **options):
    fh, peer = pair(kind)
    mux.add(fh, **options)
    assert mux.mux(PATIENCE) == Ready(fh)
    return fh, peer


def has_end(sock):
    """True if all there is to read is the end."""
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False


def next_event(mux, peer):
    """Let the peer read until there is an event; return that, and what it got before."""
    got = b""
    while (event := mux.mux(0)) == Timeout():
        got += receive(peer)
    return event, got


def read_on(mux, peer, until_empty):
    """Let the peer read until nothing is queued for it; return what it got, and the events."""
    got, events = b"", []
    while mux.buflen(until_empty):
        got += receive(peer)
        event = mux.mux(0)
        events += [] if isinstance(event, Timeout) else [event]
    return got + receive(peer), events


@pytest.mark.parametrize("half_close", [False, True])
@pytest.mark.parametrize("kind", CONNECTIONS, ids=str)
def test_a_request_its_end_and_the_answer(mux, pair, kind, half_close):
    fh, peer = up(mux, pair, kind, half_close=half_close)
    mux.send(fh, b"request")
    mux.shutdown(fh)
    assert peer.recv(100) == b"request"
    assert has_end(peer)
    peer.send(b"answer")
    peer.close()
    assert drain(mux) == [Sent(fh), Read(fh, b"answer"), Closing(fh), Closed(fh)]


def test_what_is_queued_leaves_first(mux, pair):
    fh, peer = up(mux, pair)
    assert mux.send(fh, HUGE) > 0
    mux.shutdown(fh)
    got, events = read_on(mux, peer, fh)
    assert got == HUGE
    assert events == [Sent(fh)]
    assert has_end(peer)
    peer.send(b"answer")
    peer.close()
    assert drain(mux) == [Read(fh, b"answer"), Closing(fh), Closed(fh)]


def test_what_was_put_off_leaves_first(mux, pair):
    fh, peer = up(mux, pair)
    mux.send(fh, b"one ", later=True)
    mux.send(fh, b"two", later=True)
    mux.shutdown(fh)
    assert receive(peer) == b"one two"
    assert has_end(peer)


def test_a_second_time_is_nothing(mux, pair):
    fh, peer = up(mux, pair)
    for _ in range(3):
        mux.shutdown(fh)
        assert mux.mux(0) == Timeout()
    peer.shutdown(socket.SHUT_WR)
    assert drain(mux) == [Closing(fh), Closed(fh)]
    mux.shutdown(fh)  # as close(): who ends a connection need not know whether the peer has


def test_nothing_can_be_sent_any_more(mux, pair):
    fh, peer = up(mux, pair)
    mux.send(fh, HUGE)
    before = mux.buflen(fh)
    mux.shutdown(fh)
    for later in (False, True):
        with pytest.raises(ValueError, match=r"shutdown\(\) has ended our side"):
            mux.send(fh, b"more", later=later)
    assert mux.send(fh) == mux.send(fh, b"") == before
    read_on(mux, peer, fh)
    with pytest.raises(ValueError, match=r"shutdown\(\) has ended our side"):
        mux.send(fh, b"more")
    mux.close(fh)
    assert mux.send(fh, b"ignored") == 0


@pytest.mark.parametrize("half_close", [False, True])
def test_the_peer_ends_while_output_is_queued(mux, pair, half_close):
    """It has nothing to be told that it could do something about."""
    fh, peer = up(mux, pair, half_close=half_close)
    mux.send(fh, HUGE)
    mux.shutdown(fh)
    peer.shutdown(socket.SHUT_WR)
    assert mux.mux(PATIENCE) == Closing(fh)
    event, got = next_event(mux, peer)
    assert [event, *drain(mux)] == [Sent(fh), Closed(fh)]
    assert got + receive(peer) == HUGE


def test_behind_the_end_of_the_peer_it_is_close(mux, pair):
    fh, peer = up(mux, pair, half_close=True)
    peer.shutdown(socket.SHUT_WR)
    assert mux.mux(PATIENCE) == HalfClosed(fh)
    mux.send(fh, HUGE)
    mux.shutdown(fh)
    assert mux.mux(0) == Closing(fh)
    with pytest.raises(ValueError, match="has ended our side"):
        mux.send(fh, b"more")
    event, got = next_event(mux, peer)
    assert [event, *drain(mux)] == [Sent(fh), Closed(fh)]
    assert got + receive(peer) == HUGE


def test_behind_close_it_is_nothing(mux, pair):
    fh, peer = up(mux, pair)
    mux.send(fh, HUGE)
    mux.close(fh)
    mux.shutdown(fh)
    assert mux.mux(0) == Closing(fh)
    event, got = next_event(mux, peer)
    assert event == Closed(fh)
    assert got + receive(peer) == HUGE


def test_close_behind_it_is_as_ever(mux, pair):
    fh, peer = up(mux, pair)
    mux.send(fh, HUGE)
    mux.shutdown(fh)
    mux.close(fh)
    assert mux.mux(0) == Closing(fh)
    event, got = next_event(mux, peer)
    assert event == Closed(fh)
    assert got + receive(peer) == HUGE
    assert has_end(peer)


@pytest.mark.parametrize("data", [b"", b"request", HUGE], ids=["nothing", "little", "much"])
def test_before_the_connection_is_up(mux, data):
    listener = mux.listen("tcp://127.0.0.1:0")
    fh = mux.connect(url_of(listener))
    if data:
        mux.send(fh, data)
    mux.shutdown(fh)
    got, accepted, events = b"", None, []
    while "closing" not in kinds(event for event in events if event.fh is accepted):
        event = mux.mux(PATIENCE)
        events.append(event)
        if event.type == "connect":
            accepted = event.fh
        elif event.type == "read":
            got += event.data
    assert got == data
    ours = [event for event in events if event.fh is fh]
    assert kinds(ours) == ["ready", "sent"] if data else ["ready"]


def test_a_name_that_is_looked_up(mux):
    listener = mux.listen("tcp://127.0.0.1:0")
    port = listener.getsockname()[1]
    fh = mux.connect(f"tcp://localhost:{port}")
    mux.shutdown(fh)
    events = until(mux, "closed", fh)  # the server's end has nothing queued, and closes
    assert kinds(event for event in events if event.fh is fh) == ["ready", "closing", "closed"]


def test_a_connection_that_is_refused(mux):
    fh = mux.connect(unused_url())
    mux.send(fh, b"request")
    mux.shutdown(fh)
    events = until(mux, "closed")
    assert kinds(events) == ["error", "closing", "closed"]
    assert events[-1].missing == 7


def test_a_peer_that_has_gone(mux, pair):
    fh, peer = up(mux, pair)
    mux.send(fh, HUGE)
    mux.shutdown(fh)
    peer.close()
    events = drain(mux)
    assert kinds(events) in (["error", "closing", "closed"], ["closing", "closed"])
    assert events[-1].missing > 0


def test_a_record_that_is_cut_off(mux, pair):
    fh, peer = up(mux, pair, buffered=Size("B"))
    mux.shutdown(fh)
    peer.send(b"\3one\3tw")
    peer.close()
    assert drain(mux) == [Read(fh, b"one"), ReadLast(fh, b"\3tw"), Closing(fh), Closed(fh)]


def test_a_handle_that_is_not_read_from(mux, pair):
    fh, peer = up(mux, pair)
    mux.want_read(fh, False)
    mux.shutdown(fh)
    assert has_end(peer)
    peer.close()
    assert mux.mux(0) == Timeout()
    mux.want_read(fh, True)
    assert drain(mux) == [Closing(fh), Closed(fh)]


@pytest.mark.parametrize("way", ["kill", "remove"])
def test_a_handle_that_is_let_go_of(mux, pair, way):
    fh, peer = up(mux, pair)
    mux.send(fh, HUGE)
    mux.shutdown(fh)
    getattr(mux, way)(fh)
    events = drain(mux) if way == "kill" else []
    assert kinds(events) == ["closed"][: len(events)]
    if way == "remove":  # what was asked for is forgotten
        receive(peer)
        fh.send(b"more")
        assert receive(peer) == b"more"


def test_a_number(mux, pair):
    fh, peer = pair()
    number = fh.fileno()
    mux.add(number)
    mux.shutdown(number)
    assert mux.mux(PATIENCE) == Ready(number)
    assert has_end(peer)
    mux.remove(number)


def test_both_ends_here(mux):
    _, fh, accepted = meet(mux, half_close=True)
    mux.send(fh, b"request")
    mux.shutdown(fh)
    events = until(mux, "half_closed")
    assert events[-1].fh is accepted
    mux.send(accepted, b"answer")
    mux.shutdown(accepted)
    rest = drain(mux)
    assert [event.data for event in rest if event.type == "read"] == [b"answer"]
    for each in (fh, accepted):
        assert kinds(event for event in rest if event.fh is each)[-2:] == ["closing", "closed"]


# What has no two sides


def test_the_input_of_a_child_process(mux):
    """What can only be written to is closed: that is how its reader gets the end."""
    command = [sys.executable, "-c", "import sys; print(len(sys.stdin.read()))"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    mux.add(process.stdin)
    mux.add(process.stdout)
    mux.send(process.stdin, HUGE)
    mux.shutdown(process.stdin)
    with process:
        events = until(mux, "closed", process.stdout)
        count = b"".join(event.data for event in events if event.type == "read")
        assert int(count) == len(HUGE)
        assert process.wait() == 0


def test_what_can_only_be_read_from(mux):
    reader, writer = os.pipe()
    with io.FileIO(reader) as source, io.FileIO(writer, "w"):
        mux.add(source)
        with pytest.raises(TypeError, match="it is open for reading only"):
            mux.shutdown(source)
        mux.remove(source)


def test_other_kinds_of_handles(mux, pair):
    udp = mux.listen("udp://127.0.0.1:0")
    listener = mux.listen("tcp://127.0.0.1:0")
    inner = EventMux()
    mux.add(inner)
    for fh in (udp, listener, inner):
        with pytest.raises(TypeError, match="cannot end one side of .*: it is no stream"):
            mux.shutdown(fh)
    fh, peer = pair()
    with pytest.raises(KeyError, match="is not watched"):
        mux.shutdown(fh)
    mux.add(fh, manual_write=True)
    with pytest.raises(TypeError, match="it has manual_write"):
        mux.shutdown(fh)
    mux.add(peer, manual_read=True)
    mux.shutdown(peer)
    mux.want_write(fh, False)
    assert until(mux, "closed", fh)[-1] == Closed(fh)
    mux.remove(inner)
    inner.__exit__()


def test_a_terminal(mux):
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    mux.add(master)
    with pytest.raises(TypeError, match="cannot end one side of .*: it is no socket"):
        mux.shutdown(master)
    mux.remove(master)
    os.close(master)
    os.close(slave)


def test_a_signal_of_a_broken_pipe_is_not_raised(mux, pair):
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        fh, peer = up(mux, pair)
        peer.close()
        mux.shutdown(fh)
        assert drain(mux) == [Closing(fh), Closed(fh)]
    finally:
        signal.signal(signal.SIGPIPE, before)
