"""A client in a loop of asyncio, and servers in processes: Python's and Perl's."""

import asyncio
import os
import shutil
import signal
import socket

import pytest
from support.programs import LIMIT, PERL, PROGRAMS, ROOT, Program, listening, perl_listening
from support.quick import quick_first

import rpcasync.aio
from rpcasync import Disconnected, RemoteError

needs_perl = pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl here")
CALC = f"python://{PROGRAMS / 'calc_server.py'}"


def run(main):
    return asyncio.run(asyncio.wait_for(main, LIMIT))


@pytest.fixture
def perl_modules(monkeypatch):
    """Let Perl find what stands for the modules of CPAN."""
    monkeypatch.setenv("PERL5OPT", f"-I{PERL} -I{PERL / 'standin'} -MFuller")


def test_a_server_that_is_started_ends_with_the_client():
    async def main():
        async with rpcasync.aio.connect(CALC) as rpc:
            replies = await asyncio.gather(*[rpc.add_numbers(n1=n, n2=1) for n in range(1000)])
            assert [reply["sum"] for reply in replies] == list(range(1, 1001))
            with pytest.raises(RemoteError, match="on purpose"):
                await rpc.refuse(why="on purpose")
            process = rpc.process
            assert process.poll() is None
        assert process.returncode == 0

    run(main())


@pytest.mark.slow
def test_arguments_for_the_program():
    async def main():
        async with rpcasync.aio.connect(CALC, "one", "two") as rpc:
            assert (await rpc.whoami())["argv"] == ["one", "two"]

    run(main())


@pytest.mark.slow
def test_what_it_prints_can_be_read():
    async def main():
        url = f"python2://{PROGRAMS / 'child_server.py'}"
        async with rpcasync.aio.connect(url) as rpc:
            await rpc.say(out="hello\n", err="")
            return rpc.stdout.readline()

    assert run(main()) == b"hello\n"


def test_a_server_that_dies_tells_its_status():
    async def main():
        async with rpcasync.aio.connect(CALC) as rpc:
            task = asyncio.create_task(rpc.park())
            await asyncio.sleep(0)
            await rpc.add_numbers(n1=1, n2=1)
            rpc.process.kill()
            with pytest.raises(Disconnected, match=r"; its process has ended with status -9$"):
                await task
            with pytest.raises(Disconnected, match=r"[^;]*; its process has ended with status -9$"):
                await rpc.add_numbers(n1=1, n2=1)

    run(main())


def test_a_server_that_does_not_end_is_made_to(tmp_path, caplog):
    program = tmp_path / "deaf.py"
    program.write_text(
        "import os, signal, socket\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "sock = socket.socket(fileno=int(os.environ['RPCASYNC_FDS']))\n"
        "sock.send(b'\\0\\0\\0\\7[0]')\n"
        "while True: signal.pause()\n"
    )

    async def main():
        rpc = await rpcasync.aio.connect(f"python://{program}", codec="json")
        assert await rpc.wait_until_it_is_there() == ()
        await rpc.close(grace=0.05)
        return rpc.process.returncode

    assert run(main()) == -signal.SIGKILL
    assert [record.args[-1] for record in caplog.records] == ["SIGTERM", "SIGKILL"]


@pytest.mark.parametrize("is_coroutine", quick_first([True, False]))
def test_callbacks_of_a_real_server(is_coroutine):
    seen = []

    async def show(done, total):
        await asyncio.sleep(0)
        seen.append((done, total))

    def show_now(done, total):
        seen.append((done, total))

    async def main():
        url = f"python://{ROOT / 'examples' / 'progress_server.py'}"
        async with rpcasync.aio.connect(url) as rpc:
            progress = show if is_coroutine else show_now
            return await rpc.count_primes(upto=12_000, progress=progress)

    assert run(main())["found"] == 1438
    assert seen == [(10_000, 12_000), (12_000, 12_000)]


@pytest.mark.slow
def test_a_server_that_goes_fails_what_is_pending():
    async def main(url, server):
        async with rpcasync.aio.connect(url) as rpc:
            tasks = [asyncio.create_task(rpc.park()) for _ in range(100)]
            await asyncio.sleep(0)
            assert (await rpc.parked())["count"] == 100
            server.process.kill()
            await asyncio.wait(tasks)
            for task in tasks:
                with pytest.raises(Disconnected, match=f"^park: {url}: "):
                    task.result()

    with listening() as (url, server):
        run(main(url, server))


@pytest.mark.slow
def test_an_inherited_socket():
    async def main():
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        with theirs:
            async with rpcasync.aio.connect(f"cfd://{ours.detach()}", codec="json") as rpc:
                task = asyncio.create_task(rpc.work())
                await asyncio.get_running_loop().sock_recv(theirs, 1000)
                theirs.send(b"\0\0\0\x0a[0,42]")
                return await task

    assert run(main()) == (42,)


@needs_perl
@pytest.mark.slow
def test_a_perl_server_on_a_port():
    async def main(url):
        async with rpcasync.aio.connect(url) as rpc:
            replies = await asyncio.gather(*[rpc.add_numbers(n1=n, n2=1) for n in range(100)])
            return [int(reply["sum"]) for reply in replies]

    with perl_listening() as url:
        assert run(main(url)) == list(range(1, 101))


@needs_perl
def test_a_perl_server_that_is_started(perl_modules):
    told = []

    async def tell(author, text, /):
        told.append((author, text))

    async def main():
        async with rpcasync.aio.connect(f"perl://{ROOT}/examples/notes_server.pl") as rpc:
            await rpc.follow(callback=tell)
            parked = asyncio.create_task(rpc.next())
            await asyncio.sleep(0)
            await rpc.add(author="Ann", text="buy milk")
            assert (await parked)["text"] == "buy milk"
            assert await rpc.find("milk") == ("buy milk",)
            with pytest.raises(RemoteError, match="there is no note 9"):
                await rpc.rate(number=9, stars=1)
            process = rpc.process
        assert process.returncode == 0

    run(main())
    assert told == [("Ann", "buy milk")]


@needs_perl
def test_callbacks_that_a_perl_server_keeps():
    seen = []

    async def main(url):
        async with rpcasync.aio.connect(url) as rpc:
            await rpc.keep(lambda *values: seen.append(values))
            await rpc.fire("a", 1)
            await rpc.drop(count=1)
            assert int((await rpc.alive())["alive"]) == 0
            assert not rpc._connection._protocol.callbacks

    server = Program(["perl", PERL / "callbacks_server.pl", "tcp://127.0.0.1:0"])
    try:
        run(main(server.stdout.readline().strip()))
    finally:
        server.stop()
    assert [tuple(map(str, values)) for values in seen] == [("a", "1")]


def test_nothing_is_left_of_a_server_when_connecting_is_cancelled(monkeypatch):
    """The program is there already when the loop adopts its socket."""
    started = []

    async def main():
        loop = asyncio.get_running_loop()

        async def never(*_, sock, **__):
            started.append(sock.process)
            await asyncio.Event().wait()

        monkeypatch.setattr(loop, "create_connection", never)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(rpcasync.aio.connect(CALC)._connect(), 0.01)

    run(main())
    assert started[0].returncode is not None
    with pytest.raises(ProcessLookupError):
        os.kill(started[0].pid, 0)
