"""Clients of all three kinds that connect again, and endpoints that are not as they should be."""

import asyncio
import contextlib
import resource
import socket
import threading

import pytest
from support.fleets import Fleet
from support.pump import PATIENCE

import rpcasync
from eventmux import EventMux
from rpcasync import Backoff, Client, EncodeError, JSONCodec, aio

QUICK = Backoff(0.001, 0.01)


class ByClient:
    """A client in a loop of events."""

    def __init__(self, urls, **options):
        self.mux = EventMux()
        self.rpc = Client(self.mux, urls, **{"reconnect": QUICK, **options})
        try:
            self.rpc.call("add", n1=0, n2=0).result(options.get("timeout"))
        except BaseException:
            self.close()
            raise

    def add(self, n1, n2):
        return self.rpc.add(n1=n1, n2=n2).result(PATIENCE)["sum"]

    def failures(self):
        return self.rpc._route.failures

    def close(self):
        self.mux.__exit__()


class ByBlocking:
    """A client that waits."""

    def __init__(self, urls, **options):
        self.rpc = rpcasync.connect(urls, **{"reconnect": QUICK, "timeout": PATIENCE, **options})

    def add(self, n1, n2):
        return self.rpc.add(n1=n1, n2=n2)["sum"]

    def failures(self):
        return self.rpc._connection._route.failures

    def close(self):
        self.rpc.close()


class ByAsyncio:
    """A client in a loop of asyncio, which turns while it is asked for something."""

    def __init__(self, urls, **options):
        self.loop = asyncio.new_event_loop()
        self.urls, self.options = urls, options
        try:
            self.rpc = self.loop.run_until_complete(self.connect())
        except BaseException:
            self.loop.close()
            raise

    async def connect(self):
        return await aio.connect(self.urls, **{"reconnect": QUICK, **self.options})

    def add(self, n1, n2):
        return self.loop.run_until_complete(self.rpc.add(n1=n1, n2=n2))["sum"]

    def failures(self):
        return self.rpc._connection._route.failures

    def close(self):
        self.loop.run_until_complete(self.rpc.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


@pytest.fixture(params=[ByClient, ByBlocking, ByAsyncio])
def reach(request):
    with contextlib.ExitStack() as stack:

        def make(urls, **options):
            client = request.param(urls, **options)
            stack.callback(client.close)
            return client

        yield make


@pytest.fixture
def fleets():
    with contextlib.ExitStack() as stack:

        def make(*args):
            fleet = Fleet(*args)
            stack.callback(fleet.stop)
            return fleet

        yield make


def test_the_name_is_unknown_and_then_known(fleets, reach, monkeypatch):
    fleet = fleets(1, (0,))
    look_up, asked = socket.getaddrinfo, []

    def late(host, *args, **options):
        if host != "late.example":
            return look_up(host, *args, **options)
        asked.append(host)
        if len(asked) < 4:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return look_up("127.0.0.1", *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", late)
    client = reach(fleet.urls[0].replace("127.0.0.1", "late.example"))
    assert client.add(1, 2) == 3
    assert len(asked) == 4


def test_a_name_that_stays_unknown(reach, monkeypatch):
    def never(*args, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    with pytest.raises(TimeoutError, match="there is no connection: .* Name or service not known"):
        reach("tcp://nobody.example:7007", timeout=0.05)


@contextlib.contextmanager
def closing_at_once():
    """Give a URL where whoever comes is turned away, and a list of those who came."""
    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    sock, address = listener.accept()
                    accepted.append(address)
                    sock.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}", accepted
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_an_endpoint_that_accepts_and_closes_at_once(reach):
    """It is left alone ever longer, as one that does not accept."""
    backoff = Backoff(0.02, 10)
    backoff.uniform = lambda _, most: most
    with closing_at_once() as (url, accepted):
        why = f"there is no connection: {url}: (the server closed|Connection reset|Broken)"
        with pytest.raises(TimeoutError, match=why):
            reach(url, timeout=0.3, reconnect=backoff)
        assert 1 <= len(accepted) <= 5  # after 0, 0.02, 0.06, 0.14 and 0.3 seconds


class Plain(JSONCodec):
    """A codec that can send no functions."""

    def encode(self, value):
        if "goaway" in value:
            raise EncodeError("functions cannot be sent")
        return super().encode(value)


def test_a_codec_that_cannot_ask(fleets, reach):
    """Nothing is to be waited for: calls leave when the connection is up."""
    fleet = fleets(1, (0,))
    assert reach(fleet.urls, codec=Plain(), timeout=PATIENCE).add(1, 2) == 3


@contextlib.contextmanager
def no_descriptors():
    """Have no more descriptors than there are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_out_of_descriptors(fleets, reach):
    fleet = fleets(1, (0,))
    client = reach(fleet.urls, timeout=PATIENCE)
    assert client.add(1, 2) == 3
    sums = []

    def add():
        with contextlib.suppress(ConnectionError):  # a client that did not look has lost this one
            client.add(0, 0)
        sums.append(client.add(2, 2))

    with no_descriptors():
        fleet.hang_up()
        thread = threading.Thread(target=add)
        if isinstance(client, ByClient):  # which belongs to this thread
            call = client.rpc.add(n1=0, n2=0)
            while client.failures() < 3:
                client.rpc.io(client.mux.mux(PATIENCE))
            assert call.done
        else:
            thread.start()
            while client.failures() < 3:
                fleet.do(lambda: None)
    if isinstance(client, ByClient):
        add()
    else:
        thread.join(PATIENCE)
    assert sums == [4]
