"""Servers that are rolled one after the other, and clients that connect again by themselves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import threading
import time

import pytest
from support.loads import Load
from support.programs import LIMIT, PROGRAMS, Program

from eventmux import EventMux
from rpcasync import Backoff, aio, connect

CALC = PROGRAMS / "calc_server.py"


class Worker:
    """A server at a path, started anew each time."""

    def __init__(self, url):
        self.url = url
        self.start()

    def start(self):
        words = ["-m", "rpcasync", "listen", "-u", self.url, CALC]
        self.program = Program([sys.executable, *words])
        self.program.wait_for_log("listening on")

    def stop(self):
        self.program.stop()


@pytest.mark.parametrize("rounds", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_no_call_fails_while_two_workers_are_rolled(tmp_path, rounds):
    with contextlib.ExitStack() as stack:
        workers = [Worker(f"unix://{tmp_path}/{name}") for name in ("one", "two")]
        for worker in workers:
            stack.callback(worker.stop)
        mux = stack.enter_context(EventMux())
        load = Load(mux, [worker.url for worker in workers], 20)
        load.answer_more(200)
        for worker in workers * rounds:
            process = worker.program.process
            process.send_signal(signal.SIGTERM)
            load.turn_until(lambda process=process: process.poll() is not None)
            assert process.returncode == 0
            worker.stop()
            worker.start()
            load.answer_more(200)
        load.end()
    assert load.errors == []


class Waiting:
    """Clients that wait for each answer: in threads that share one, and in tasks of asyncio."""

    def __init__(self, urls):
        self.urls = urls
        self.options = {"reconnect": Backoff(0.01, 0.1), "timeout": LIMIT}
        self.answers = {"thread": 0, "task": 0}
        self.errors = []
        self.is_on = True
        self.threads = [threading.Thread(target=self.share), threading.Thread(target=self.run)]
        for thread in self.threads:
            thread.start()

    def note(self, kind, reply):
        assert reply["sum"] == 5
        self.answers[kind] += 1

    def share(self):
        def work():
            try:
                while self.is_on:
                    self.note("thread", rpc.add_numbers(n1=2, n2=3))
            except Exception as error:  # noqa: BLE001  # the test looks at it
                self.errors.append(error)

        with connect(self.urls, **self.options) as rpc:
            threads = [threading.Thread(target=work) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def run(self):
        async def work(rpc):
            while self.is_on:
                self.note("task", await rpc.add_numbers(n1=2, n2=3))

        async def main():
            async with aio.connect(self.urls, **self.options) as rpc:
                await asyncio.gather(*(work(rpc) for _ in range(10)))

        try:
            asyncio.run(main())
        except Exception as error:  # noqa: BLE001  # the test looks at it
            self.errors.append(error)

    def answer_more(self, count):
        goal = {kind: answers + count for kind, answers in self.answers.items()}
        limit = time.monotonic() + LIMIT
        while any(self.answers[kind] < goal[kind] for kind in goal):
            assert time.monotonic() < limit, (self.answers, self.errors)
            time.sleep(0.001)

    def stop(self):
        self.is_on = False
        for thread in self.threads:
            thread.join()


@pytest.mark.parametrize("rounds", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_no_call_of_those_who_wait_fails_either(tmp_path, rounds):
    with contextlib.ExitStack() as stack:
        workers = [Worker(f"unix://{tmp_path}/{name}") for name in ("one", "two")]
        for worker in workers:
            stack.callback(worker.stop)
        load = Waiting([worker.url for worker in workers])
        stack.callback(load.stop)
        load.answer_more(50)
        for worker in workers * rounds:
            process = worker.program.process
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT) == 0
            worker.stop()
            worker.start()
            load.answer_more(50)
        load.stop()
        print(f"{sum(load.answers.values())} calls, {len(load.errors)} failed")
    assert load.errors == []


# The own tool of systemd hands its sockets over once. This starts the program again with them, as
# systemd does, until it is removed.
KEEP = 'while [ -e "$0" ]; do (export LISTEN_PID=$BASHPID; exec "$@"); done'


@pytest.mark.skipif(
    not (shutil.which("systemd-socket-activate") and shutil.which("bash")),
    reason="no systemd-socket-activate command",
)
def test_no_call_fails_while_a_service_is_restarted(tmp_path):
    """Its socket stays: who connects meanwhile waits for the next process, and is not refused."""
    keep, path = tmp_path / "keep", f"{tmp_path}/socket"
    keep.touch()
    words = [sys.executable, "-m", "rpcasync", "listen", CALC]
    tool = ["systemd-socket-activate", "-E", "PYTHONPATH", "-l", path]
    program = Program([*tool, "bash", "-c", KEEP, keep, *words], start_new_session=True)
    try:
        program.wait_for_log("Listening on")
        with EventMux() as mux:
            load = Load(mux, [f"unix://{path}"], 20)
            load.answer_more(200)
            pids = [load.pid()]
            for _ in range(2):
                os.kill(pids[-1], signal.SIGTERM)
                load.turn_until(lambda: load.pid() != pids[-1])
                pids.append(load.pid())
                load.answer_more(200)
            keep.unlink()
            load.end()
        assert load.errors == []
        assert len(set(pids)) == 3
        os.kill(pids[-1], signal.SIGTERM)
        assert program.process.wait(LIMIT) == 0
        assert not [line for line in program.log if "WARNING" in line or "ERROR" in line]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.process.pid, signal.SIGKILL)
        program.stop()
