"""Starting the processes that are measured, and leaving none behind."""

from __future__ import annotations

import os
import random
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_HOST = "127.0.0.1"
_PATIENCE = 20.0  # seconds for a server to listen
_PAUSE = 0.01
# Below those that the kernel gives to clients: one of them could take ours, or meet itself there.
_PORTS = (20000, 30000)


class BenchmarkFailed(Exception):
    """A process that was measured did not do its work."""


class Child:
    """A process of `child.py`.

    Args:
        command: in front of the command, as with strace.
        args: what it is to be.
        packages: where the packages are that it is to use.
    """

    def __init__(self, *args: object, command: tuple[str, ...] = (), packages: Path = ROOT) -> None:
        self._name = " ".join(map(str, args))
        tests = ROOT / "tests"
        path = os.pathsep.join([str(packages), str(tests), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [*command, sys.executable, "-m", "benchmarks.child", *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)},
            cwd=tests,  # the first place that `-m` looks in has to be one without packages
        )

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """True if it has ended by itself."""
        return self._process.poll() is not None

    def tell(self, line: object) -> None:
        """Write a line to its stdin."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n")
        except BrokenPipeError:
            raise self.failure() from None

    def read(self) -> list[float]:
        """Return the numbers of the next line that it prints.

        Raises:
            BenchmarkFailed: it ended instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self.failure()
        return [float(part) for part in line.split()]

    def failure(self) -> BenchmarkFailed:
        """Return what to raise, as it has ended: with the last line of its stderr."""
        self._process.kill()
        lines = self._process.communicate()[1].strip().splitlines()
        return BenchmarkFailed(f"{self._name}: {lines[-1] if lines else 'failed'}")

    def wait(self) -> None:
        """Wait until it ends by itself."""
        self._process.communicate(timeout=_PATIENCE)

    def end(self) -> None:
        """End it, and wait for it."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def child(*args: object, packages: Path = ROOT) -> Iterator[Child]:
    """Start a process, and end it."""
    process = Child(*args, packages=packages)
    try:
        yield process
    finally:
        process.end()


@contextmanager
def server(*args: object) -> Iterator[tuple[Child, int]]:
    """Start a server, and end it; give its port. It may not listen yet: `wait_for()`."""
    port = free_port()
    with child(*args, port) as process:
        yield process, port


def wait_for(process: Child, port: int) -> None:
    """Wait until a server listens.

    Raises:
        BenchmarkFailed: it does not.
    """
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        if process.ended:
            raise process.failure()
        try:
            socket.create_connection((_HOST, port)).close()
        except ConnectionRefusedError:
            time.sleep(_PAUSE)
        else:
            return
    raise process.failure()


def free_port() -> int:
    """Return a port that nobody listens on."""
    source = random.SystemRandom()
    while True:
        port = source.randrange(*_PORTS)
        try:
            socket.create_server((_HOST, port)).close()
        except OSError:
            continue
        return port


def call_rate(peer: str, shape: str, warmup: float, seconds: float) -> float:
    """Return the calls per second of one run.

    Raises:
        BenchmarkFailed: a process failed, or no answer came.
    """
    with (
        server("serve", peer) as (serving, port),
        child("drive", peer, shape, warmup, seconds) as client,
    ):
        wait_for(serving, port)
        client.tell(port)
        (rate,) = client.read()
    if not rate:
        raise BenchmarkFailed(f"{peer}: no answer in {seconds} seconds")
    return rate


def anonymous_memory(pid: int) -> int:
    """Return how many bytes of memory a process has for itself; its files do not count."""
    _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    return (resident - shared) * resource.getpagesize()
