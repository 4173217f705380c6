"""Ctrl-C anywhere in the mux: what is queued leaves, what happens is reported, each thing once.

Each test does the same again and again, and is interrupted at one place after the other, until no
place is left.
"""

import contextlib
import functools
import os
import re
import signal
import socket

import pytest
from support.fakes import FakeClock
from support.interrupts import Interrupt, at_places, take_events
from support.pump import PATIENCE, SELECTORS, SELECTORS_IN_TURN, receive

from eventmux import Child, Event, EventMux, Read, Signal, _loop
from eventmux._watching import children
from eventmux.buffers import FixedSize, Regexp, Size, Split

pytestmark = pytest.mark.skipif(os.name == "nt", reason="socket pairs and selectors as of POSIX")

# The quick run tries each 37th place; all are tried by the slow run.
STRIDE = 37


@pytest.fixture(params=[STRIDE, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def everywhere(request, kind):
    stride = request.param if kind is SELECTORS[0] else STRIDE
    return lambda scenario: at_places(scenario, stride)


@pytest.fixture(params=SELECTORS_IN_TURN, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


class Setting:
    """A mux with two streams that are up, and their peers."""

    def __init__(self, kind):
        self.clock = FakeClock()
        self.mux = EventMux(selector=kind(), clock=self.clock, spin=0)
        self.pairs = [socket.socketpair() for _ in range(2)]
        self.handles = [fh for fh, _ in self.pairs]
        self.peers = [peer for _, peer in self.pairs]
        self.events = []
        for fh in self.handles:
            self.mux.add(fh)
        self.turn(lambda action: action())
        assert [event.type for event in self.events] == ["ready"] * 2
        self.events.clear()

    def turn(self, run, idle=3):
        take_events(self.mux, run, self.events, idle)

    def received(self):
        return [receive(peer) for peer in self.peers]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.mux.__exit__()
        for peer in self.peers:
            peer.close()


def by_type(events, *kinds):
    return [event for event in events if event.type in kinds]


def test_what_was_put_off_and_what_arrives(everywhere, kind):
    def scenario(interrupter):
        with Setting(kind) as here:
            for fh, text in zip(here.handles, (b"one", b"two"), strict=True):
                here.mux.send(fh, text, later=True)
            for peer in here.peers:
                peer.send(b"hello")
            here.turn(interrupter.run)
            for fh in here.handles:
                here.mux.send(fh, b" more", later=True)
            here.turn(interrupter.run)
            assert here.received() == [b"one more", b"two more"]
            reads = by_type(here.events, "read")
            assert {event.fh for event in reads} == set(here.handles)
            assert [event.data for event in reads] == [b"hello"] * 2
            assert len(by_type(here.events, "sent")) == 0

    everywhere(scenario)


@pytest.mark.parametrize("queued", [(), (b"hello",)], ids=["idle", "queued"])
def test_getting_ready(everywhere, kind, queued):
    def scenario(interrupter):
        ours, theirs = socket.socketpair()
        with theirs, EventMux(selector=kind(), spin=0) as mux:
            events = []
            mux.add(ours)
            for data in queued:
                mux.send(ours, data, later=True)
            take_events(mux, interrupter.run, events, 3)
            take_events(mux, lambda action: action(), events, 3)
            assert [event.type for event in events].count("ready") == 1
            assert receive(theirs) == b"".join(queued)

    everywhere(scenario)


def test_what_is_flushed(everywhere, kind):
    def scenario(interrupter):
        with Setting(kind) as here:
            for fh, text in zip(here.handles, (b"one", b"two"), strict=True):
                here.mux.send(fh, text, later=True)
            try:
                interrupter.run(here.mux.flush)
            except Interrupt:
                here.turn(interrupter.run)
            assert here.received() == [b"one", b"two"]

    everywhere(scenario)


def test_output_that_waits_for_its_peer(everywhere, kind):
    text = bytes(range(256)) * 1200

    def scenario(interrupter):
        with Setting(kind) as here:
            fh, peer = here.pairs[0]
            here.mux.send(fh, text, later=True)
            got = b""
            for _ in range(20):
                here.turn(interrupter.run, 1)
                got += receive(peer)
            assert got == text
            assert [event.type for event in here.events] == ["sent"]

    everywhere(scenario)


def test_timers_posts_and_events_of_the_programs_own(everywhere, kind):
    def scenario(interrupter):
        with Setting(kind) as here:
            here.mux.timer(0, "one")
            here.mux.timer(0, "two")
            here.mux.timer(1, "beat", repeat=True)
            here.mux.post(Event(1), Event(2))
            here.mux.push_event(Event(3))
            for _ in range(3):
                here.turn(interrupter.run, 1)
                here.clock.advance(1)
            here.turn(interrupter.run)
            data = sorted(event.data for event in by_type(here.events, "timer"))
            assert data == ["beat"] * 3 + ["one", "two"]
            own = [event.fh for event in here.events if type(event) is Event]
            assert sorted(own) == [1, 2, 3]

    everywhere(scenario)


def test_handles_that_end(everywhere, kind):
    def scenario(interrupter):
        with Setting(kind) as here:
            here.peers[0].send(b"last words")
            here.peers[0].close()
            here.mux.close(here.handles[1])
            here.turn(interrupter.run)
            for fh in here.handles:
                kinds = [event.type for event in here.events if event.fh is fh]
                assert kinds[-2:] == ["closing", "closed"]
                assert kinds.count("closed") == kinds.count("closing") == 1
                assert fh.fileno() == -1
            assert Read(here.handles[0], b"last words") in here.events
            assert here.mux.handles() == []

    everywhere(scenario)


@pytest.mark.parametrize("seconds", [0, 2.5])
def test_last_words(everywhere, kind, seconds):
    def scenario(interrupter):
        with Setting(kind) as here:
            fh, peer = here.pairs[0]
            peer.send(b"nobody reads that")
            here.mux.send(fh, b"last words", later=True)
            here.mux.close(fh)
            here.turn(interrupter.run)
            assert [event.type for event in here.events] == ["closing"]
            if seconds:
                here.clock.advance(seconds)
            else:
                assert receive(peer) == b"last words"
                peer.close()
            here.turn(interrupter.run)
            assert [event.type for event in here.events] == ["closing", "closed"]
            assert fh.fileno() == -1

    everywhere(scenario)


# The two sides of a connection, and files


def test_a_peer_that_finishes_and_then_goes(everywhere, kind):
    def scenario(interrupter):
        with Setting(kind) as here:
            for fh in here.handles:
                here.mux.remove(fh)
                here.mux.add(fh, half_close=True)
            here.turn(lambda action: action())
            here.events.clear()
            for peer in here.peers:
                peer.send(b"request")
                peer.shutdown(socket.SHUT_WR)
            here.turn(interrupter.run)
            one, other = here.handles
            here.mux.send(one, b"answer", later=True)
            here.turn(interrupter.run)
            assert here.received() == [b"answer", b""]
            for peer in here.peers:
                peer.close()
            here.turn(interrupter.run)
            for fh in (one, other):
                kinds = [event.type for event in here.events if event.fh is fh]
                kinds = [kind for kind in kinds if kind not in ("ready", "sent")]
                assert kinds == ["read", "half_closed", "closing", "closed"]

    everywhere(scenario)


@pytest.mark.parametrize("queued", [b"", b"request", bytes(300_000)], ids=["no", "few", "many"])
@pytest.mark.parametrize("ended", [False, True], ids=["first", "second"])
def test_shutdown(everywhere, kind, queued, ended):
    def scenario(interrupter):
        with Setting(kind) as here:
            fh, peer = here.pairs[0]
            if ended:
                here.mux.remove(fh)
                here.mux.add(fh, half_close=True)
                peer.shutdown(socket.SHUT_WR)
                here.turn(lambda action: action())
                here.events.clear()
            here.mux.send(fh, queued, later=True)
            if ask(interrupter, lambda: here.mux.shutdown(fh)):
                here.mux.shutdown(fh)  # twice is once
            here.turn(interrupter.run)
            got = b""
            for _ in range(20):
                got += receive(peer)
                here.turn(interrupter.run, 1)
            assert got == queued
            assert peer.recv(1) == b""  # else it would block
            peer.close()
            here.turn(interrupter.run)
            kinds = [event.type for event in here.events if event.type != "sent"]
            assert kinds == ["closing", "closed"]

    everywhere(scenario)


@pytest.mark.parametrize("is_read", [False, True], ids=["copied", "read"])
def test_files(everywhere, kind, is_read, tmp_path):
    text = bytes(range(256)) * 1200
    path = tmp_path / "file"
    path.write_bytes(text)

    def scenario(interrupter):
        with Setting(kind) as here, path.open("rb") as file:
            fh, peer = here.pairs[0]
            fh.setblocking(is_read)
            here.mux.send(fh, b"head", later=True)
            lost = ask(interrupter, lambda: here.mux.sendfile(fh, file))
            here.mux.send(fh, b"tail", later=True)
            got = b""
            for _ in range(20):
                here.turn(interrupter.run, 1)
                got += receive(peer)
            assert got == b"head" + text + b"tail" or (lost and got == b"headtail")

    everywhere(scenario)


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="no waitid() here")
def test_signals_and_children(everywhere, kind, monkeypatch):
    monkeypatch.setattr(children, "_open_pidfd", lambda pid: -1)

    def scenario(interrupter):
        with Setting(kind) as here:
            here.mux.signal(signal.SIGUSR1)
            stdin, end = os.pipe()
            actions = [(os.POSIX_SPAWN_DUP2, stdin, 0)]
            pid = os.posix_spawnp("cat", ["cat"], os.environ, file_actions=actions)
            os.close(stdin)
            here.mux.child(pid)
            os.close(end)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # so that each play is the same
            os.kill(os.getpid(), signal.SIGUSR1)
            here.turn(interrupter.run, 1)
            while not any(isinstance(event, Child) for event in here.events):
                here.turn(interrupter.run, 1)
            found = [event for event in here.events if isinstance(event, Signal)]
            assert len(found) >= 1
            assert found[0].signum == signal.SIGUSR1
            assert [event for event in here.events if isinstance(event, Child)] == [
                Child(pid=pid, returncode=0)
            ]

    everywhere(scenario)


# Input: what the kernel has given is handed out, once


def numbered(*sizes):
    """Return pieces of a stream of lines, as they arrive; lines come apart between them."""
    text = b"".join(b"%04d\n" % number for number in range(sum(sizes) // 5))
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    return [text[end - size : end] for size, end in zip(sizes, ends, strict=True)]


@pytest.mark.parametrize(
    "buffered",
    [
        None,
        Split(b"\n"),
        Split(re.compile(b"\n")),
        Regexp(rb"(\d+)\n"),
        Regexp(rb"\d+\n"),
        FixedSize(5),
        Size("!B", offset=4 - ord("0")),
    ],
    ids=["None", "Split", "pattern", "group", "Regexp", "FixedSize", "Size"],
)
def test_records_that_arrive_in_pieces(everywhere, kind, buffered):
    pieces = numbered(12, 1, 9, 8)
    lines = b"".join(pieces).split()

    def scenario(interrupter):
        with Setting(kind) as here:
            fh, peer = here.pairs[0]
            here.mux.remove(fh)
            here.mux.add(fh, buffered=buffered)
            here.turn(lambda action: action())
            here.events.clear()
            for piece in pieces:
                peer.send(piece)
                here.turn(interrupter.run, 1)
            here.turn(interrupter.run)
            data = b"".join(event.data for event in by_type(here.events, "read"))
            if isinstance(buffered, Size):  # the digit in front says that four bytes follow
                expected = b"".join(line[1:] + b"\n" for line in lines)
            else:
                expected = b"".join(lines)
                data = data.replace(b"\n", b"")
            assert data == expected

    everywhere(scenario)


@pytest.mark.parametrize("which", ["number", "pipe", "inherited", "packets", "datagrams"])
def test_what_arrives_on_other_handles(everywhere, kind, which):
    def scenario(interrupter):
        with Setting(kind) as here, contextlib.ExitStack() as stack:
            if which in ("pipe", "inherited"):
                fh, other = os.pipe()
                os.set_inheritable(fh, which == "inherited")
                stack.callback(os.close, other)
                write = functools.partial(os.write, other)
            else:
                kinds = {"packets": socket.SOCK_SEQPACKET, "datagrams": socket.SOCK_DGRAM}
                one, two = socket.socketpair(type=kinds.get(which, socket.SOCK_STREAM))
                stack.enter_context(two)
                fh, write = one.detach() if which == "number" else one, two.send
            here.mux.add(fh)
            for number in range(3):
                write(b"%d" % number)
                here.turn(interrupter.run)
            reads = [event.data for event in by_type(here.events, "read") if event.fh == fh]
            assert reads == [b"0", b"1", b"2"]

    everywhere(scenario)


# What the program asks for: if it is interrupted, it was done or not, and never by half


def ask(interrupter, action):
    """Ask for something; True if it was interrupted."""
    try:
        interrupter.run(action)
    except Interrupt:
        return True
    return False


@pytest.mark.parametrize("later", [False, True])
def test_sending(everywhere, kind, later):
    def scenario(interrupter):
        with Setting(kind) as here:
            fh, peer = here.pairs[0]
            was_interrupted = ask(interrupter, lambda: here.mux.send(fh, b"one", later=later))
            here.mux.send(fh, b"two", later=later)
            here.turn(interrupter.run)
            got = receive(peer)
            assert got in ([b"onetwo", b"two"] if was_interrupted else [b"onetwo"])
            assert here.mux.buflen(fh) == 0

    everywhere(scenario)


def test_sending_more_than_the_kernel_takes(everywhere, kind):
    text = bytes(range(256)) * 1200

    def scenario(interrupter):
        with Setting(kind) as here:
            fh, peer = here.pairs[0]
            was_interrupted = ask(interrupter, lambda: here.mux.send(fh, text))
            got = b""
            for _ in range(20):
                here.turn(interrupter.run, 1)
                got += receive(peer)
            assert got in ([b"", text] if was_interrupted else [text])
            assert here.mux.buflen(fh) == 0

    everywhere(scenario)


@pytest.mark.parametrize("method", ["close", "kill"])
def test_closing(everywhere, kind, method):
    def scenario(interrupter):
        with Setting(kind) as here:
            fh, peer = here.pairs[0]
            here.mux.send(fh, b"last words", later=True)
            was_interrupted = ask(interrupter, lambda: getattr(here.mux, method)(fh))
            here.turn(interrupter.run)
            if was_interrupted and fh in here.mux.handles():  # it was not done
                assert by_type(here.events, "closing", "closed") == []
                getattr(here.mux, method)(fh)
                here.turn(interrupter.run)
            assert len(by_type(here.events, "closed")) == 1
            assert fh.fileno() == -1
            assert receive(peer) in ([b"last words"] if method == "close" else [b"", b"last words"])

    everywhere(scenario)


def test_removing(everywhere, kind):
    def scenario(interrupter):
        with Setting(kind) as here:
            fh, peer = here.pairs[0]
            if ask(interrupter, lambda: here.mux.remove(fh)) and fh in here.mux.handles():
                here.mux.remove(fh)
            here.turn(interrupter.run)
            assert here.mux.handles() == [here.handles[1]]
            assert fh.getblocking()
            peer.send(b"x")
            assert fh.recv(1) == b"x"
            here.mux.add(fh)
            peer.send(b"y")
            here.turn(interrupter.run)
            assert Read(fh, b"y") in here.events

    everywhere(scenario)


def test_adding(everywhere, kind):
    def scenario(interrupter):
        with Setting(kind) as here:
            fh, peer = socket.socketpair()
            with fh, peer:
                if ask(interrupter, lambda: here.mux.add(fh)) and fh not in here.mux.handles():
                    here.mux.add(fh)
                peer.send(b"x")
                here.turn(interrupter.run)
                assert Read(fh, b"x") in here.events
                here.mux.remove(fh)

    everywhere(scenario)


def test_timers_and_events(everywhere, kind):
    def scenario(interrupter):
        with Setting(kind) as here:
            lost = ask(interrupter, lambda: here.mux.timer(0, "timer"))
            lost += ask(interrupter, lambda: here.mux.push_event(Event()))
            lost += ask(interrupter, lambda: here.mux.post(Event(1)))
            here.turn(interrupter.run)
            assert 3 - lost <= len(here.events) <= 3
            here.peers[0].send(b"x")
            here.turn(interrupter.run)
            assert Read(here.handles[0], b"x") in here.events

    everywhere(scenario)


def test_want_read(everywhere, kind):
    def scenario(interrupter):
        with Setting(kind) as here:
            fh, peer = here.pairs[0]
            here.mux.want_read(fh, False)
            if ask(interrupter, lambda: here.mux.want_read(fh, True)):
                here.mux.want_read(fh, True)
            peer.send(b"x")
            here.turn(interrupter.run)
            assert Read(fh, b"x") in here.events

    everywhere(scenario)


def test_what_is_waited_for_alone(everywhere, kind, monkeypatch):
    monkeypatch.setattr(_loop, "_MOST_KEPT", 5)

    def scenario(interrupter):
        with Setting(kind) as here:
            fh, other = here.handles
            here.mux.push_event(*[Event()] * 5)
            for peer in here.peers:
                peer.send(b"x")
            found = []
            while not found:
                try:
                    event = interrupter.run(lambda: here.mux.mux(0, only=fh))
                except Interrupt:
                    continue
                found += [event] * (event == Read(fh, b"x"))
            here.turn(interrupter.run)
            assert Read(other, b"x") in here.events
            assert len(here.events) == 6

    everywhere(scenario)


def test_a_proxy_header_in_pieces(everywhere, kind):
    """The mux may close a connection that it is just about to tell of; then nothing is told."""

    def scenario(interrupter):
        with Setting(kind) as here, contextlib.ExitStack() as stack:
            url, trusted = "tcp://127.0.0.1:0", ["127.0.0.1"]
            listener = here.mux.listen(url, proxy="require", trusted=trusted)
            proxy = stack.enter_context(socket.create_connection(listener.getsockname()))
            proxy.settimeout(PATIENCE)
            for piece in (b"PROXY TCP4 192.0.2.1", b" 192.0.2.9 1 2", b"\r\nhello"):
                with contextlib.suppress(ConnectionError):
                    proxy.sendall(piece)
                here.turn(interrupter.run)
            events = [event.type for event in here.events]
            if events[:1] == ["connect"]:
                assert here.events[0].address == ("192.0.2.1", 1)
            if events != ["connect", "read"]:
                assert interrupter.has_raised
                assert events in ([], ["connect", "error", "closing", "closed"])
                with contextlib.suppress(ConnectionResetError):
                    assert proxy.recv(1) == b""
            here.clock.advance(60)  # nothing is waited for any more
            here.turn(lambda action: action())
            assert len(here.events) == len(events)

    everywhere(scenario)


class Turns:
    """Lets others accept first, twice."""

    def __init__(self):
        self.looks = 0

    def wait(self):
        self.looks += 1
        return 0.001 if self.looks < 3 else 0.0

    def took(self):
        pass


def test_a_listener_that_lets_others_accept_first(everywhere, kind):
    """The mux may close a connection that it is just about to tell of; it listens on."""

    def scenario(interrupter):
        with Setting(kind) as here, contextlib.ExitStack() as stack:
            listener = here.mux.listen("tcp://127.0.0.1:0")
            here.mux._take_turns(listener, Turns())
            for count in (1, 2):
                stack.enter_context(socket.create_connection(listener.getsockname()))
                for _ in range(4):
                    here.turn(interrupter.run)
                    here.clock.advance(0.001)
                arrived = len(by_type(here.events, "connect"))
                assert count - interrupter.has_raised <= arrived <= count
            assert arrived > 0

    everywhere(scenario)
