"""A Perl that speaks RPC::Async 2.0 meets our server and our clients: it is told, and we are."""

import asyncio
import shutil
import subprocess

import pytest
from support.processes import with_socket
from support.programs import LIMIT, PERL

from eventmux import EventMux
from rpcasync import BlockingClient, Client, Disconnected, Server, aio

pytestmark = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")

NAMED = "speaks RPC::Async 2.0, which was never released; this is 1.05: see porting.md"


@pytest.fixture
def start():
    """Start a peer, and return our end of its socket and the process."""
    started = []

    def start(role, *values):
        command = ["perl", PERL / "dialect_peer.pl", role, "{fd}", *values]
        ours, process = with_socket(*command, stdout=subprocess.PIPE, text=True)
        started.append((ours, process))
        return ours, process

    yield start
    for sock, process in started:
        sock.close()
        process.kill()
        process.communicate()


@pytest.mark.parametrize("values", [["a"], ["a", "b" * 300], ["x" * 70_000], []])
def test_a_client(start, values, caplog):
    sock, process = start("client", *values)
    with EventMux() as mux:
        rpc = Server(mux, {"rpc_echo": None})
        rpc.add_client(sock)
        event = None
        while event is None or event.type != "closed":
            event = mux.mux(LIMIT)
            rpc.io(event)
    printed, _ = process.communicate(timeout=LIMIT)
    assert printed == "1 die the server speaks RPC::Async 1.05, and this client 2.0\nthe end\n"
    assert [record.getMessage().endswith(NAMED) for record in caplog.records] == [True]


@pytest.mark.parametrize("procedure", ["echo", "die"])
def test_a_server(start, procedure):
    sock, _ = start("server")
    with EventMux() as mux:
        rpc = Client(mux, sock)
        call = rpc.call(procedure, "a", 2, 3.5)
        with pytest.raises(Disconnected) as caught:
            call.result(LIMIT)
    assert str(caught.value).endswith(NAMED)


def test_a_server_and_a_client_that_waits(start):
    sock, _ = start("server")
    with BlockingClient(sock) as rpc, pytest.raises(Disconnected, match="2\\.0, which was"):
        rpc.echo(1)


def test_a_server_and_a_client_in_asyncio(start):
    sock, _ = start("server")

    async def ask():
        async with aio.connect(sock) as rpc:
            await rpc.echo(1)

    with pytest.raises(Disconnected, match="2\\.0, which was"):
        asyncio.run(ask())
