"""Ctrl-C anywhere in streams with TLS: nothing is lost, nothing is sent twice.

The first tests interrupt at one place of our code after the other, as test_interrupted.py does. The
last has a real signal, which also comes while OpenSSL is at work: there it may have encrypted or
decrypted, and returns nothing.
"""

import contextlib
import os
import random
import signal
import socket
import sys
import time

import pytest
from support.certificates import client_context, server_context
from support.interrupts import Interrupt, at_places, take_events
from support.pump import SELECTORS, kinds

from eventmux import Closed, EventMux, Read, Timeout

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals as of POSIX")

STRIDE = 61
_SERVER, _CLIENT = server_context(), client_context()


class Setting:
    """Two ends with TLS on one mux."""

    def __init__(self):
        self.mux = EventMux(selector=SELECTORS[0](), spin=0)
        self.ends = self.one, self.two = socket.socketpair()
        self.events = []

    def add(self):
        self.mux.add(self.one, tls=_SERVER)
        self.mux.add(self.two, tls=_CLIENT, server_hostname="localhost")

    def turn(self, run, idle=12):
        take_events(self.mux, run, self.events, idle)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.mux.__exit__()
        for end in self.ends:
            end.close()


def received(events, fh):
    return b"".join(event.data for event in events if isinstance(event, Read) and event.fh is fh)


@pytest.fixture(params=[STRIDE, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def everywhere(request):
    return lambda scenario: at_places(scenario, request.param)


def plain(action):
    return action()


def test_a_handshake(everywhere):
    def scenario(interrupter):
        with Setting() as here:
            here.add()
            here.mux.send(here.two, b"hello")
            here.turn(interrupter.run)
            here.turn(plain)
            assert received(here.events, here.one) == b"hello"
            assert sorted(kinds(here.events)) == ["read", "ready", "ready", "sent"]

    everywhere(scenario)


def test_data_both_ways(everywhere):
    text = bytes(range(256)) * 300

    def scenario(interrupter):
        with Setting() as here:
            here.add()
            here.turn(plain)
            for fh in here.ends:
                here.mux.send(fh, text, later=True)
            here.turn(interrupter.run)
            here.turn(plain)
            for fh in here.ends:
                assert received(here.events, fh) == text
                assert here.mux.buflen(fh) == 0

    everywhere(scenario)


def test_half_of_what_a_record_has_left():
    """As much is left as was asked for: that is no sign that nothing was given."""
    text = os.urandom(1999)

    def scenario(interrupter):
        with Setting() as here:
            here.mux.add(here.one, tls=_SERVER, read_size=1000)
            here.mux.add(here.two, tls=_CLIENT, server_hostname="localhost")
            here.turn(plain)
            here.mux.send(here.two, text)
            here.turn(interrupter.run)
            here.turn(plain)
            assert received(here.events, here.one) == text

    at_places(scenario, 1)


def test_more_than_the_kernel_takes(everywhere):
    text = random.Random(0).randbytes(300_000)

    def scenario(interrupter):
        with Setting() as here:
            here.add()
            here.turn(plain)
            with contextlib.suppress(Interrupt):
                interrupter.run(lambda: here.mux.send(here.one, text))
            here.turn(interrupter.run)
            here.turn(plain)
            heard = received(here.events, here.two)
            pairs = enumerate(zip(heard, text, strict=False))
            wrong = next((at for at, (one, other) in pairs if one != other), None)
            assert heard in (b"", text), f"{len(heard)} bytes, wrong from {wrong} on"
            here.mux.send(here.one, b"end")
            here.turn(plain)
            assert received(here.events, here.two) in (b"end", text + b"end")

    everywhere(scenario)


def test_the_end(everywhere):
    def scenario(interrupter):
        with Setting() as here:
            here.add()
            here.turn(plain)
            here.mux.send(here.one, b"last", later=True)
            here.mux.close(here.one)
            here.turn(interrupter.run)
            here.turn(plain)
            assert received(here.events, here.two) == b"last"
            ends = [event for event in here.events if isinstance(event, Closed)]
            assert sorted(event.fh is here.one for event in ends) == [False, True]
            assert [event.reason for event in ends] == [None, None]

    everywhere(scenario)


def test_starting_in_the_middle(everywhere):
    def scenario(interrupter):
        with Setting() as here:
            for fh in here.ends:
                here.mux.add(fh)
            here.turn(plain)
            here.events.clear()
            here.mux.start_tls(here.two, _CLIENT, server_hostname="localhost")
            try:
                interrupter.run(lambda: here.mux.start_tls(here.one, _SERVER))
            except Interrupt:
                with contextlib.suppress(ValueError):  # it was done
                    here.mux.start_tls(here.one, _SERVER)
            here.mux.send(here.two, b"secret")
            here.turn(interrupter.run)
            here.turn(plain)
            assert received(here.events, here.one) == b"secret"
            assert kinds(here.events).count("ready") == 2

    everywhere(scenario)


class Raised(Exception):
    """What the handler of a signal raises."""


@pytest.mark.skipif(
    sys.version_info < (3, 11),
    reason="3.10 runs handlers between the end of mux() and the assignment of its event",
)
@pytest.mark.parametrize("seconds", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_signals_at_any_time(seconds):
    """Numbered bytes go both ways, while a timer interrupts some thousand times a second."""
    is_on = False

    def raise_(signum, frame):
        if is_on:
            raise Raised

    said = bytes(range(1, 252)) * 100  # a zero alone in its record may be lost: see `_recover()`
    sizes = [1, 2, 5, 100, 3000, 20_000]
    before = signal.signal(signal.SIGVTALRM, raise_)
    try:
        with Setting() as here:
            here.add()
            here.turn(plain)
            sent = dict.fromkeys(here.ends, 0)
            heard = dict.fromkeys(here.ends, 0)
            raised = 0
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0003, 0.0003)
            until = time.monotonic() + seconds
            while True:
                is_over = time.monotonic() > until
                for fh in here.ends:
                    if not is_over and here.mux.buflen(fh) == 0:
                        size = sizes[sent[fh] % len(sizes)]
                        start = sent[fh] % 251
                        here.mux.send(fh, said[start : start + size], later=True)
                        sent[fh] += size
                event = None
                try:
                    is_on = True
                    event = here.mux.mux(0)
                    is_on = False
                except Raised:
                    is_on = False
                    raised += 1
                if isinstance(event, Read):
                    start = heard[event.fh] % 251
                    assert event.data == (said * 3)[start : start + len(event.data)]
                    heard[event.fh] += len(event.data)
                if is_over and isinstance(event, Timeout):
                    break
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            assert heard == {here.one: sent[here.two], here.two: sent[here.one]}
            assert raised > 20
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
