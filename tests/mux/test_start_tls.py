"""TLS in the middle of a connection: STARTTLS, from both sides."""

import socket
import ssl

import pytest
from support.certificates import client_context, server_context
from support.fakes import FakeClock
from support.pump import PATIENCE, kinds
from support.tls_ends import HandClient, settled

from eventmux import EventMux, Read, Ready, Sent, TLSError
from eventmux.buffers import HTTP, Batch, FixedSize, Size, Split


@pytest.fixture
def upgraded(mux, pair):
    """Two ends of which the first was told to start TLS."""
    ours, theirs = pair()
    mux.add(ours, buffered=Split(b"\n"))
    assert mux.mux(PATIENCE) == Ready(ours)
    return ours, theirs


def hear_starttls(mux, ours, theirs, more=b""):
    theirs.send(b"STARTTLS\n" + more)
    assert mux.mux(PATIENCE) == Read(ours, b"STARTTLS")


def test_both_sides(mux, pair):
    one, two = pair()
    for fh in (one, two):
        mux.add(fh, buffered=Split(b"\n"))
    mux.send(two, b"STARTTLS\n")
    said = []
    for event in iter(lambda: mux.mux(0.05), None):
        said += [(event.fh, event.type)] if event.fh is not None else []
        if event == Read(one, b"STARTTLS"):
            mux.send(one, b"220 go ahead\n")
            mux.start_tls(one, server_context())
        elif event == Read(two, b"220 go ahead"):
            mux.start_tls(two, client_context(), server_hostname="localhost")
            mux.send(two, b"secret\n")
        elif event == Read(one, b"secret"):
            break
    assert [kind for fh, kind in said if fh is two].count("ready") == 2
    assert [kind for fh, kind in said if fh is one].count("ready") == 2
    assert mux.peer(two).tls.version == mux.peer(one).tls.version == "TLSv1.3"
    assert mux.peer(two).certificate is not None
    assert mux.handles() == [one, two]


def test_what_is_queued_leaves_in_plain_text(mux, upgraded):
    ours, theirs = upgraded
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    text = b"plain" * 200_000
    hear_starttls(mux, ours, theirs)
    assert mux.send(ours, text) > 0
    mux.start_tls(ours, server_context())
    mux.send(ours, b"secret")
    assert mux.buflen(ours) > 6
    got = b""
    while len(got) < len(text):
        assert [event for event in settled(mux) if not isinstance(event, Sent)] == []
        got += theirs.recv(len(text) - len(got))
    assert got == text
    events = []
    peer = HandClient(mux, theirs, events)
    assert kinds(events) == ["ready", "sent"]
    assert peer.take() == b"secret"


@pytest.mark.parametrize("more", [b"RSET\n", b"RSE", b"\n", b"a\nb\nc"])
def test_commands_in_plain_text_behind_it_are_refused(mux, upgraded, more):
    """CVE-2011-0411: whoever is in between has put them there."""
    ours, theirs = upgraded
    hear_starttls(mux, ours, theirs, more)
    mux.start_tls(ours, server_context())
    events = settled(mux)
    assert kinds(events) == ["error", "closing", "closed"]
    assert "in plain text before the TLS handshake" in events[0].error
    assert isinstance(events[0].exception, TLSError)
    assert theirs.recv(100) == b""


@pytest.mark.parametrize("more", [b"RSET\n", b"\n", b"RSE"])
def test_commands_of_a_batch_are_refused_too(mux, pair, more):
    ours, theirs = pair()
    mux.add(ours, buffered=Split(b"\n"))
    assert mux.mux(PATIENCE) == Ready(ours)
    theirs.send(b"STARTTLS\n" + more)
    assert mux.mux(PATIENCE) == Read(ours, b"STARTTLS")
    mux.set(ours, buffered=Batch(Split(b"\n")))
    mux.start_tls(ours, server_context())
    events = settled(mux)
    assert kinds(events) == ["error", "closing", "closed"]
    assert "in plain text before the TLS handshake" in events[0].error


@pytest.mark.parametrize(
    "buffered",
    [FixedSize(9), Size("!B"), HTTP(header_only=True), None],
    ids=lambda buffered: type(buffered).__name__,
)
def test_whatever_cuts_them(mux, pair, buffered):
    ours, theirs = pair()
    mux.add(ours, buffered=buffered)
    assert mux.mux(PATIENCE) == Ready(ours)
    commands = {
        FixedSize: b"STARTTLS\nNOOP NOOP",
        Size: b"\x08STARTTLS\x04NOOP",
        HTTP: b"OPTIONS * HTTP/1.1\r\nUpgrade: TLS/1.0\r\n\r\nGET /",
        type(None): b"STARTTLS",
    }
    theirs.send(commands[type(buffered)])
    assert mux.mux(PATIENCE).type == "read"
    if buffered is None:
        theirs.send(b"NOOP")
        mux.push_event(*[mux.mux(PATIENCE)])  # it is read, and the program has not seen it
    mux.start_tls(ours, server_context())
    assert "error" in kinds(settled(mux))
    assert mux.handles() == []


def test_after_set_what_was_read_counts(mux, upgraded):
    ours, theirs = upgraded
    hear_starttls(mux, ours, theirs, b"RSET\nDATA\n")
    mux.set(ours, buffered=Split(b"\n"))
    mux.start_tls(ours, server_context())
    assert kinds(settled(mux)) == ["error", "closing", "closed"]


def test_what_follows_is_cut_by_the_same_buffer(mux, upgraded):
    ours, theirs = upgraded
    hear_starttls(mux, ours, theirs)
    mux.start_tls(ours, server_context())
    events = []
    peer = HandClient(mux, theirs, events)
    assert events == [Ready(ours)]
    theirs.send(peer.say(b"one\ntw"))
    theirs.send(peer.say(b"o\n"))
    assert settled(mux) == [Read(ours, b"one"), Read(ours, b"two")]


def test_the_hello_may_be_there_already(mux, upgraded):
    ours, theirs = upgraded
    hear_starttls(mux, ours, theirs)
    hello = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        client_context().wrap_bio(
            ssl.MemoryBIO(), hello, server_hostname="localhost"
        ).do_handshake()
    theirs.send(hello.read())
    mux.start_tls(ours, server_context())
    assert settled(mux) == []
    assert theirs.recv(5)[:1] == b"\x16"


def test_a_handshake_that_fails(mux, upgraded):
    ours, theirs = upgraded
    hear_starttls(mux, ours, theirs)
    mux.start_tls(ours, server_context())
    theirs.send(b"RSET\n\n")
    events = settled(mux)
    assert kinds(events)[:2] == ["error", "closing"]
    assert "does not speak TLS" in events[0].error
    theirs.close()
    assert kinds(settled(mux)) == ["closed"]


def test_it_has_its_time(pair):
    clock = FakeClock()
    with EventMux(clock=clock) as mux:
        ours, _ = pair()
        mux.add(ours)
        settled(mux)
        mux.start_tls(ours, server_context(), handshake_timeout=3.0)
        clock.advance(2.9)
        assert settled(mux) == []
        clock.advance(0.2)
        assert kinds(settled(mux)) == ["error", "closing", "closed"]


def test_an_accepted_connection_is_a_server_with_a_context_for_both(mux):
    with pytest.warns(DeprecationWarning, match="PROTOCOL_TLS"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS)
    listener = mux.listen("tcp://127.0.0.1:0")
    with socket.create_connection(listener.getsockname()) as sock:
        fh = mux.mux(PATIENCE).fh
        mux.start_tls(fh, context)
        assert settled(mux) == []
        assert not sock.setblocking(False)
        with pytest.raises(BlockingIOError):  # a client would have said something
            sock.recv(1)


def test_meta_and_options_stay(mux, pair):
    ours, theirs = pair()
    mux.add(ours, meta={"who": 1}, read_size=10)
    settled(mux)
    mux.start_tls(ours, server_context())
    assert mux.meta(ours) == {"who": 1}
    peer = HandClient(mux, theirs)
    theirs.send(peer.say(bytes(100)))
    assert [len(event.data) for event in settled(mux)] == [10] * 10


# Wrong use


def test_twice(mux, upgraded):
    mux.start_tls(upgraded[0], server_context())
    with pytest.raises(ValueError, match="has TLS already"):
        mux.start_tls(upgraded[0], server_context())


def test_what_is_not_up(mux):
    with socket.create_server(("127.0.0.1", 0)) as server:
        fh = mux.connect(f"tcp://localhost:{server.getsockname()[1]}")
        with pytest.raises(ValueError, match="not up yet"):
            mux.start_tls(fh, client_context(), server_hostname="localhost")
        mux.kill(fh)


def test_what_is_closing(mux, upgraded):
    mux.close(upgraded[0])
    mux.start_tls(upgraded[0], server_context())
    assert kinds(settled(mux)) == ["closing", "closed"]


def test_a_stranger(mux, upgraded):
    with pytest.raises(KeyError):
        mux.start_tls(upgraded[1], server_context())


def test_no_context(mux, upgraded):
    with pytest.raises(TypeError, match="tls is None"):
        mux.start_tls(upgraded[0], None)


def test_a_client_needs_a_name(mux, upgraded):
    with pytest.raises(ValueError, match="server_hostname is missing"):
        mux.start_tls(upgraded[0], client_context())
    mux.send(upgraded[0], b"it is plain still")
    assert upgraded[1].recv(100) == b"it is plain still"


def test_in_the_middle_of_a_read(mux, pair):
    ours, theirs = pair()

    def handler(fh, data, sender):
        mux.start_tls(fh, server_context())

    mux.add(ours, meta_handler=handler)
    settled(mux)
    theirs.send(b"x")
    with pytest.raises(RuntimeError, match="is being read from"):
        mux.mux(PATIENCE)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_packets(mux, pair, kind):
    ours, _ = pair(kind)
    mux.add(ours)
    with pytest.raises(TypeError, match="no stream of bytes"):
        mux.start_tls(ours, server_context())


def test_a_handle_that_the_program_reads(mux, pair):
    ours, _ = pair()
    mux.add(ours, manual_read=True)
    settled(mux)
    with pytest.raises(ValueError, match="manual_read"):
        mux.start_tls(ours, server_context())
