"""A client that connects again, and servers that are processes: killed, started anew, in Perl."""

import asyncio
import contextlib
import shutil
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.programs import Program, perl_listening
from support.pump import PATIENCE

import rpcasync.aio
from eventmux import EventMux
from rpcasync import Backoff, Client, Disconnected

SERVER = """
import sys
from eventmux import EventMux
from rpcasync import Server

def rpc_add(caller, n1: int, n2: int):
    rpc.return_(caller, sum=n1 + n2)

def rpc_park(caller, n, /):
    parked.append(caller)
    if len(parked) == 100:
        print("parked", flush=True)
parked = []
mux = EventMux()
rpc = Server(mux)
rpc.listen(sys.argv[1])
print("listens", flush=True)
for event in mux:
    rpc.io(event)
"""


class Worker(Program):
    """A server in a process of its own."""

    def __init__(self, url):
        super().__init__([sys.executable, "-c", SERVER, url])
        self.hear("listens\n")

    def hear(self, line):
        assert self.process.stdout.readline() == line, self.log

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def workers(*urls):
    with contextlib.ExitStack() as stack:
        made = []
        for url in urls:
            made.append(Worker(url))
            stack.callback(made[-1].stop)
        yield made


@pytest.fixture
def mux():
    with EventMux() as mux:
        yield mux


@pytest.fixture
def urls(tmp_path):
    return [f"unix://{tmp_path}/{name}" for name in ("one", "other")]


def turn_until_sent(mux, rpc):
    """Turn the loop until all that was called has left."""
    rpc.add(n1=0, n2=0).result(PATIENCE)


def test_kill_9_fails_only_what_was_in_flight(mux, urls):
    with workers(*urls) as (one, _):
        rpc = Client(mux, urls, reconnect=Backoff(0.001, 0.1))
        calls = [rpc.park(n) for n in range(100)]
        turn_until_sent(mux, rpc)
        one.hear("parked\n")
        one.kill()
        later = [rpc.add(n1=n, n2=1) for n in range(100)]  # the client has not noticed yet
        for call in calls:
            with pytest.raises(Disconnected) as caught:
                call.result(PATIENCE)
            assert caught.value.may_have_run
        for call in later:
            with contextlib.suppress(Disconnected):
                call.result(PATIENCE)
        after = [rpc.add(n1=n, n2=1) for n in range(100)]
        assert [call.result(PATIENCE)["sum"] for call in after] == [*range(1, 101)]


def test_kill_9_fails_nothing_that_may_run_twice(mux, urls):
    with workers(*urls) as (one, other):
        rpc = Client(mux, urls, reconnect=Backoff(0.001, 0.1), retry="idempotent")
        calls = [rpc.park(n) for n in range(100)]
        turn_until_sent(mux, rpc)
        one.hear("parked\n")
        one.kill()
        sums = [rpc.add(n1=n, n2=1) for n in range(100)]
        assert [call.result(PATIENCE)["sum"] for call in sums] == [*range(1, 101)]
        other.hear("parked\n")
        assert list(rpc.dump_requests().values()) == calls


def test_calls_go_on_when_the_only_server_is_started_anew(mux, urls):
    url = urls[0]
    rpc = Client(mux, url, reconnect=Backoff(0.001, 0.1), retry="idempotent")
    for n in range(3):
        call = rpc.add(n1=n, n2=1)
        with workers(url) as (server,):
            assert call.result(PATIENCE)["sum"] == n + 1
            server.kill()


@pytest.mark.parametrize("retry", [None, "idempotent"])
def test_kill_9_under_threads_that_wait(urls, retry):
    options = {"reconnect": Backoff(0.001, 0.1), "retry": retry, "timeout": PATIENCE}
    with (
        workers(*urls) as (one, other),
        ThreadPoolExecutor(100) as pool,
        rpcasync.connect(urls, **options) as rpc,
    ):
        parked = [pool.submit(rpc.park, n) for n in range(100)]
        one.hear("parked\n")
        one.kill()
        if retry is None:
            for call in parked:
                assert isinstance(call.exception(), Disconnected)
                assert call.exception().may_have_run
        else:
            other.hear("parked\n")
        assert rpc.add(n1=1, n2=2)["sum"] == 3
        rpc.close()
        for call in parked:
            assert isinstance(call.exception(), Disconnected)


@pytest.mark.parametrize("retry", [None, "idempotent"])
def test_kill_9_under_tasks_of_asyncio(urls, retry):
    async def main(one, other):
        rpc = await rpcasync.aio.connect(urls, reconnect=Backoff(0.001, 0.1), retry=retry)
        parked = [asyncio.create_task(rpc.park(n)) for n in range(100)]
        await asyncio.to_thread(one.hear, "parked\n")
        one.kill()
        if retry is None:
            for error in await asyncio.gather(*parked, return_exceptions=True):
                assert isinstance(error, Disconnected)
                assert error.may_have_run
        else:
            await asyncio.to_thread(other.hear, "parked\n")
        assert (await rpc.add(n1=1, n2=2))["sum"] == 3
        await rpc.close()
        for call in parked:
            assert isinstance(call.exception(), Disconnected)

    with workers(*urls) as (one, other):
        asyncio.run(main(one, other))


def test_a_server_that_never_answers(mux):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        rpc = Client(
            mux, f"tcp://127.0.0.1:{silent.getsockname()[1]}", reconnect=Backoff(), timeout=0.02
        )
        with pytest.raises(TimeoutError):
            rpc.add(n1=1, n2=2).result(PATIENCE)


@pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")
def test_servers_in_perl(mux, tmp_path):
    """They have no goaway, and the client goes on."""
    url = f"unix://{tmp_path}/socket"
    rpc = Client(mux, url, reconnect=Backoff(0.001, 0.1), retry="idempotent")
    for n in range(2):
        call = rpc.add_numbers(n1=n, n2=1)
        with perl_listening(url) as address:
            assert address == url
            assert call.result(PATIENCE)["sum"] == n + 1
            assert rpc.call("sum", 1, 2, 3).result(PATIENCE) == (6,)
            assert rpc.has_coderefs() == 0
        (tmp_path / "socket").unlink()  # a server in Perl leaves it, and cannot replace it


@pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")
def test_servers_in_perl_and_clients_that_wait(tmp_path):
    url = f"unix://{tmp_path}/socket"
    options = {"reconnect": Backoff(0.001, 0.1), "timeout": PATIENCE}

    async def main():
        with contextlib.ExitStack() as stack, ThreadPoolExecutor() as pool:
            for n in range(2):
                with perl_listening(url):
                    if n == 0:
                        rpc = stack.enter_context(rpcasync.connect(url, **options))
                        other = await rpcasync.aio.connect(url, **options)
                    first = pool.submit(rpc.add_numbers, n1=n, n2=1)
                    assert (await other.add_numbers(n1=n, n2=2))["sum"] == n + 2
                    assert (await asyncio.wrap_future(first))["sum"] == n + 1
                (tmp_path / "socket").unlink()
            await other.close()

    asyncio.run(main())
