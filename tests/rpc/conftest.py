"""What most tests of clients and servers begin with."""

import contextlib
import socket

import pytest
from support.peers import Bench, Peer
from support.procedures import Procedures
from support.records import Outcomes

from eventmux import EventMux
from rpcasync import Client


@pytest.fixture(params=["storable", "json"])
def codec(request):
    return request.param


@pytest.fixture(autouse=True)
def long_turns(monkeypatch):
    """No turn of a client is cut short because this machine is busy with something else."""
    monkeypatch.setattr("rpcasync.inbox.MOST_SECONDS", 60)


@pytest.fixture
def mux():
    with EventMux() as mux:
        yield mux


@pytest.fixture
def nobody():
    """Return a URL where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{unused.getsockname()[1]}"


@contextlib.contextmanager
def _clients(mux):
    with contextlib.ExitStack() as stack:

        def make(*, codec="storable", **options):
            ours, theirs = socket.socketpair()
            stack.enter_context(theirs)
            return Client(mux, ours, codec=codec, **options), Peer(theirs, codec)

        yield make


@pytest.fixture
def connect(mux):
    """Make clients, each with the server's end of its socket in our hands."""
    with _clients(mux) as make:
        yield make


@pytest.fixture
def timed_connect(timed):
    """The same, on a fake clock."""
    with _clients(timed) as make:
        yield make


@pytest.fixture
def pair(connect, codec):
    """A client, and the server's end of its socket in our hands."""
    return connect(codec=codec)


@pytest.fixture
def got():
    return Outcomes()


@pytest.fixture
def procedures():
    return Procedures()


@pytest.fixture
def serve(procedures):
    """Make servers, of `procedures` unless the test has others, each on a mux of its own."""
    with contextlib.ExitStack() as stack:

        def make(namespace=None, *, mux=None, **options):
            if mux is None:
                mux = stack.enter_context(EventMux())
            bench = Bench(mux, procedures if namespace is None else namespace, **options)
            if namespace is None:
                procedures.bench = bench
            stack.callback(bench.close)
            return bench

        yield make
        procedures.kept.clear()  # while the servers can still let go of callbacks


@pytest.fixture
def bench(serve):
    """A server of `procedures`."""
    return serve()
