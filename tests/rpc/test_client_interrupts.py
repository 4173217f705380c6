"""Ctrl-C at any place in a client, for a program that goes on: nothing is lost or comes twice.

A callback counts as called if Ctrl-C came at the moment of the call: for the program, that is the
same as Ctrl-C at its first line.
"""

from __future__ import annotations

import contextlib
import inspect
import socket
import sys

import pytest
from support.handled import forgetting
from support.line_interrupts import NEVER, Interrupter, at_each_line
from support.peers import Peer, turn
from support.pump import PATIENCE

import rpcasync
from eventmux import EventMux
from rpcasync import CallCancelled, CallTimeout, Client, Disconnected, RemoteError

# Where the program's functions are called.
AT_THE_CALL = ("take", "fail", "raise_error")


class Alarm(Exception):
    """What the handler of a signal may raise, as Python's documentation shows it."""


class Scene:
    """A client, its server's end of the socket in our hands, and what the callbacks were given."""

    def __init__(self, codec="json", **options):
        self.mux = EventMux()
        ours, theirs = socket.socketpair()
        self.client = Client(self.mux, ours, codec=codec, **options)
        self.peer = Peer(theirs, codec)
        self.got = []
        self.calls = []

    def taker(self, name):
        def take(*values, error=None):
            self.got.append((name, values or type(error)))

        return take

    def close(self):
        self.peer.sock.close()
        self.mux.__exit__(None, None, None)

    def finish(self):
        """Go on as a program does that caught Ctrl-C."""
        while self.client.has_requests():
            event = self.mux.mux(PATIENCE)
            assert event is None or event.type != "timeout", self.client.dump_requests()
            self.client.io(event)


def each_place(act, check, sample, kind=KeyboardInterrupt, make=Scene):
    """Interrupt `act` at each line, or at each so many, and `check` what is left of the scene."""
    at = 0
    while True:
        at += sample
        scene = make()
        interrupter = Interrupter(at, kind)
        try:
            forgetting(act, scene, interrupter)
            check(scene, interrupter)
        except BaseException as error:
            raise AssertionError(f"Ctrl-C at line {at}, {interrupter.place}") from error
        finally:
            scene.close()
        if not interrupter.has_fired:
            return at


SAMPLES = [pytest.param(3, marks=pytest.mark.slow), 47]


@pytest.mark.parametrize(
    ("turn_of", "kind"), [(256, KeyboardInterrupt), (2, KeyboardInterrupt), (256, Alarm)]
)
@pytest.mark.parametrize("sample", SAMPLES)
def test_answers(sample, turn_of, kind, monkeypatch):
    monkeypatch.setattr(rpcasync.inbox, "MOST_MESSAGES", range(turn_of))

    def act(scene, interrupter):
        client, peer, got = scene.client, scene.peer, scene.got
        scene.calls = [client.call(name, scene.taker(name)) for name in "abc"]
        scene.plain = client.plain()
        client.watch(lambda *values: got.append(("watched", values)), 1)
        turn(scene.mux, client)
        for call in scene.calls[:2]:
            peer.send(call.id, call.procedure)
        peer.send(scene.calls[2].id, "error", "no")
        peer.send(scene.plain.id, "fine")
        for number in range(3):
            peer.send(scene.calls[-1].id + 2, "call", number)
        with contextlib.suppress(kind, RemoteError), interrupter:
            client.wait(PATIENCE, *scene.calls, scene.plain)
        peer.send(scene.calls[-1].id + 3)

    def check(scene, interrupter):
        scene.finish()
        turn(scene.mux, scene.client)
        expected = [("a", ("a",)), ("b", ("b",)), ("c", RemoteError)]
        expected += [("watched", (number,)) for number in range(3)]
        assert is_all_but_one(expected, scene.got, interrupter)
        assert scene.plain.result() == ("fine",)
        assert [call.done for call in scene.calls] == [True] * 3
        later = scene.client.later(scene.taker("later"))
        scene.peer.send(later.id, 1)
        assert later.result(PATIENCE) == (1,)

    each_place(act, check, sample, kind)


def is_all_but_one(expected, got, interrupter):
    """True if all has come, in order; but one may be missing whose call was interrupted."""
    if got == expected:
        return True
    lost = [one for one in expected if one not in got]
    return (
        len(lost) == 1
        and interrupter.place.endswith(AT_THE_CALL)
        and got == [one for one in expected if one not in lost]
    )


@pytest.mark.parametrize("sample", SAMPLES)
def test_io(sample):
    def act(scene, interrupter):
        client, peer = scene.client, scene.peer
        scene.calls = [client.call(name, scene.taker(name)) for name in "ab"]
        turn(scene.mux, client)
        for call in scene.calls:
            peer.send(call.id, call.procedure)
        event = scene.mux.mux()
        try:
            with interrupter:
                client.io(event)
        except KeyboardInterrupt:
            if is_ahead_of_the_work(interrupter.place):
                client.io(event)  # it is as if it had come before the call

    def check(scene, interrupter):
        scene.finish()
        assert is_all_but_one([("a", ("a",)), ("b", ("b",))], scene.got, interrupter)

    each_place(act, check, sample)


def is_ahead_of_the_work(place):
    """True in the lines of `Client.io()` that end with its `try:`."""
    lines, first = inspect.getsourcelines(rpcasync.Client.io)
    last = first + next(n for n, line in enumerate(lines) if line.strip() == "try:")
    return place in {f"client.py:{number} io" for number in range(first, last + 1)}


@pytest.mark.parametrize("sample", SAMPLES)
def test_calls_that_fail_together(sample):
    def act(scene, interrupter):
        client = scene.client
        scene.calls = [client.call(name, scene.taker(name)) for name in "abc"]
        scene.plain = client.plain()
        turn(scene.mux, client)
        scene.peer.sock.close()
        with contextlib.suppress(KeyboardInterrupt), interrupter:
            client.wait(PATIENCE)

    def check(scene, interrupter):
        scene.finish()
        expected = [(name, Disconnected) for name in "abc"]
        assert is_all_but_one(expected, scene.got, interrupter)
        with pytest.raises(Disconnected):
            scene.plain.result(PATIENCE)
        with pytest.raises(Disconnected):
            scene.client.later().result(PATIENCE)

    each_place(act, check, sample)


@pytest.mark.parametrize("sample", SAMPLES)
def test_calls_that_time_out(sample):
    def act(scene, interrupter):
        client = scene.client
        scene.calls = [client.call(name, scene.taker(name)).set_timeout(0) for name in "abc"]
        with contextlib.suppress(KeyboardInterrupt), interrupter:
            client.wait(PATIENCE)

    def check(scene, interrupter):
        scene.finish()
        expected = [(name, CallTimeout) for name in "abc"]
        assert is_all_but_one(expected, scene.got, interrupter)
        later = scene.client.later()
        scene.peer.send(later.id, 1)
        assert later.result(PATIENCE) == (1,)

    each_place(act, check, sample)


@pytest.mark.parametrize("sample", SAMPLES)
def test_making_and_cancelling_calls(sample):
    def act(scene, interrupter):
        client = scene.client
        client.set_options("a", timeout=60)
        client.set_options("b", timeout=60)
        with contextlib.suppress(KeyboardInterrupt), interrupter:
            scene.calls.append(client.call("a", scene.taker("a"), [print]))
            scene.calls.append(client.call("b", scene.taker("b")))
            scene.calls[1].cancel()

    def check(scene, interrupter):
        turn(scene.mux, scene.client)
        made = scene.peer.read()
        for id, *_ in made:
            scene.peer.send(id, id)
        scene.finish()
        assert len(scene.got) == len(set(scene.got)) <= len(scene.calls)
        if scene.calls:
            assert scene.calls[0].done
        later = scene.client.later()
        scene.peer.send(later.id, 1)
        assert later.result(PATIENCE) == (1,)
        assert not scene.client.has_requests()

    each_place(act, check, sample)


class Stop(BaseException):
    """What the handler of a signal may raise."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, Stop])
@pytest.mark.parametrize("way", ["result", "io"])
def test_a_callback_that_ends_the_program(mux, connect, got, kind, way):
    """It is raised at once, and what came behind it is handed over when the program goes on."""
    client, peer = connect()

    def stop(*values):
        raise kind

    first = client.x(stop)
    others = [client.y(got.taker(number)) for number in range(3)]
    turn(mux, client)
    peer.sock.sendall(b"".join(peer.packet(call.id, 1) for call in (first, *others)))
    with pytest.raises(kind):
        others[-1].result() if way == "result" else client.io(mux.mux())
    assert (got, client.has_requests()) == ([], True)
    while client.has_requests():
        client.io(mux.mux())
    assert got == [(number, (1,)) for number in range(3)]
    assert first.result() == (1,)


@pytest.mark.parametrize("ending", ["closed", "timeout"])
def test_one_of_many_callbacks_ends_the_program(mux, connect, got, ending):
    client, peer = connect()

    def stop(error=None):
        raise KeyboardInterrupt

    callbacks = [got.error_taker("a"), stop, got.error_taker("b"), stop, got.error_taker("c")]
    for callback in callbacks:
        client.x(callback)
    if ending == "closed":
        peer.sock.close()
    else:
        for call in client.dump_requests().values():
            call.set_timeout(0)
    interrupts = 0
    while client.has_requests():
        try:
            client.io(mux.mux(PATIENCE))
        except KeyboardInterrupt:
            interrupts += 1
    assert interrupts == 2
    error = Disconnected if ending == "closed" else CallTimeout
    assert got == [(name, error) for name in "abc"]


def test_a_signal_while_result_waits(mux, connect, got):
    """The call stays, and its answer can be asked for again."""
    signal = pytest.importorskip("signal")
    client, peer = connect()
    call = client.x(got.taker("x"))
    if not hasattr(signal, "setitimer"):
        pytest.skip("no timers of the system")

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.005)
        with pytest.raises(KeyboardInterrupt):
            call.result(PATIENCE)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    peer.send(call.id, 1)
    assert call.result(PATIENCE) == (1,)
    assert got == [("x", (1,))]
    assert sys.gettrace() is None


# With a limit: a call that Ctrl-C came upon as it was sent may have left or not


class LimitedScene(Scene):
    """A client whose server is given two calls at a time, and what came of six."""

    def __init__(self):
        super().__init__("json", limit=2)
        self.served = []

    def serve(self):
        """Answer what has come."""
        for id, name, *_ in self.peer.read():
            self.served.append(name)
            self.peer.send(id, name)

    def finish(self):
        """Go on as a program does that caught Ctrl-C, with a server that answers."""
        while self.client.has_requests():
            turn(self.mux, self.client)
            assert self.is_within_the_limit()
            before = len(self.served)
            self.serve()
            turn(self.mux, self.client)
            assert len(self.served) > before or not self.client.has_requests()

    def is_within_the_limit(self):
        return len(self.client.dump_requests()) - len(self.client._limited.waiting) <= 2


def check_limited(scene, interrupter, made):
    scene.finish()
    assert len(scene.served) == len(set(scene.served))
    assert scene.served == sorted(scene.served)
    outcomes = dict(scene.got)
    assert len(outcomes) == len(scene.got)
    lost = [name for name in made if outcomes.get(name) != (name,)]
    if lost:  # Ctrl-C at its callback, or as it was sent: never both, and never another
        assert len(lost) == 1
        at_the_call = interrupter.place.endswith(AT_THE_CALL)
        assert at_the_call or outcomes[lost[0]] is CallCancelled
        assert at_the_call or interrupter.place.endswith((" go_on", " _put"))
    assert not scene.client._limited.waiting
    later = scene.client.later(scene.taker("later"))
    scene.finish()
    assert later.done


@pytest.mark.parametrize("sample", SAMPLES)
def test_answers_with_a_limit(sample):
    names = "abcdef"

    def act(scene, interrupter):
        scene.calls = [scene.client.call(name, scene.taker(name)) for name in names]
        turn(scene.mux, scene.client)
        scene.serve()
        with contextlib.suppress(KeyboardInterrupt):
            with interrupter:
                scene.client.wait(PATIENCE, *scene.calls[:2])
            scene.mux.flush()
            scene.serve()
            with interrupter:
                scene.client.wait(PATIENCE, *scene.calls[:4])

    def check(scene, interrupter):
        check_limited(scene, interrupter, names)

    each_place(act, check, sample, make=LimitedScene)


@pytest.mark.parametrize("sample", SAMPLES)
def test_making_and_cancelling_calls_with_a_limit(sample):
    def act(scene, interrupter):
        client = scene.client
        scene.calls = [client.call(name, scene.taker(name)) for name in "abc"]
        with contextlib.suppress(KeyboardInterrupt), interrupter:
            scene.calls.append(client.call("d", [print], scene.taker("d")))
            scene.calls.append(client.call("e", scene.taker("e")))
            scene.calls[0].cancel()
            scene.calls[2].cancel()
            client.wait(0)

    def check(scene, interrupter):
        made = [call.procedure for call in scene.calls if not is_cancelled(call)]
        check_limited(scene, interrupter, made)
        assert all(call.done for call in scene.calls)
        size = scene.client._limited._size
        assert size == 0

    each_place(act, check, sample, make=LimitedScene)


def is_cancelled(call):
    with contextlib.suppress(CallCancelled):
        return call.done and call.result() is None
    return True


@pytest.mark.parametrize("sample", SAMPLES)
def test_calls_that_time_out_with_a_limit(sample):
    names = "abcdef"

    def act(scene, interrupter):
        client = scene.client
        scene.calls = [client.call(name, scene.taker(name)) for name in names]
        for call in scene.calls[1:4]:
            call.set_timeout(0)
        with contextlib.suppress(KeyboardInterrupt), interrupter:
            client.wait(PATIENCE, *scene.calls[1:4])

    def check(scene, interrupter):
        scene.finish()
        outcomes = dict(scene.got)
        assert len(outcomes) == len(scene.got)
        assert len(scene.served) == len(set(scene.served))
        expected = {name: (name,) for name in "aef"} | dict.fromkeys("bcd", CallTimeout)
        wrong = [name for name in names if outcomes.get(name) != expected[name]]
        assert len(wrong) <= 1
        if wrong and not interrupter.place.endswith(AT_THE_CALL):
            assert outcomes[wrong[0]] is CallCancelled

    each_place(act, check, sample, make=LimitedScene)


def making(at):
    """Make calls, one of which Ctrl-C interrupts: nobody has that, and it is not pending."""
    interrupter = Interrupter(at)
    ours, theirs = socket.socketpair()
    with EventMux() as mux, theirs:
        client = Client(mux, ours)
        calls = []
        for _ in range(3):
            with contextlib.suppress(KeyboardInterrupt), interrupter:
                calls.append(client.work())
        assert len(calls) == 3 - interrupter.has_fired, interrupter.place
        assert list(client.dump_requests().values()) == calls, interrupter.place
        client.disconnect()
        for event in mux:
            client.io(event)
    return interrupter


def test_a_call_that_was_interrupted_as_it_was_made():
    making(NEVER)  # what is kept for the next time is kept now
    assert at_each_line(making) > 15
