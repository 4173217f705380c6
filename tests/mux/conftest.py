"""What most tests of the mux begin with."""

import contextlib
import socket

import pytest
from support.pump import PATIENCE, SELECTORS_IN_TURN

from eventmux import EventMux, Ready


@pytest.fixture(params=SELECTORS_IN_TURN, ids=lambda kind: kind.__name__)
def mux(request):
    with EventMux(selector=request.param()) as mux:
        yield mux


@pytest.fixture
def pair():
    """Make socketpairs; the test owns both ends."""
    with contextlib.ExitStack() as stack:

        def make(kind=socket.SOCK_STREAM):
            one, two = socket.socketpair(socket.AF_UNIX, kind)
            stack.enter_context(one)
            stack.enter_context(two)
            return one, two

        yield make


@pytest.fixture
def watched(mux, pair):
    """A handle that is up, and the peer's end."""
    fh, peer = pair()
    mux.add(fh)
    assert mux.mux(PATIENCE) == Ready(fh)
    return fh, peer


@pytest.fixture
def closing():
    """A stack that closes what a test opens."""
    with contextlib.ExitStack() as stack:
        yield lambda sock: stack.enter_context(contextlib.closing(sock))
