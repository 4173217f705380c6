"""Start programs as users do, learn where they listen, and make sure that they end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "tests" / "integration" / "programs"
PERL = ROOT / "tests" / "integration" / "perl"
LIMIT = 40.0  # seconds, for anything that a test waits for: far beyond what it takes, below
# the limit of a whole test, so that the test can say what it waited for


class Program:
    """A program that runs beside the test; `log` collects the lines of its stderr."""

    def __init__(self, command: Sequence[str | Path], **options: Any) -> None:
        self.process = subprocess.Popen(
            [os.fspath(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            **options,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.stdout = self.process.stdout
        self._stderr = self.process.stderr
        self.log: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _read_log(self) -> None:
        for line in self._stderr:
            with self._changed:
                self.log.append(line.rstrip("\n"))
                self._changed.notify_all()

    def wait_for_log(self, part: str) -> str:
        """Return the first line of stderr with the text in it; wait until there is one."""

        line = self.wait_for_line(lambda line: part in line)
        assert line, f"no {part!r} in {self.log}"
        return line

    def wait_for_line(self, is_it: Callable[[str], bool]) -> str | None:
        """Return the first line of stderr that is it, None if there is none; wait for it."""

        def found() -> str | None:
            return next(filter(is_it, self.log), None)

        with self._changed:
            return self._changed.wait_for(found, LIMIT)

    def wait_for_lines(self, count: int) -> list[str]:
        """Return the first lines of stderr; wait until there are so many."""
        with self._changed:
            found = self._changed.wait_for(lambda: len(self.log) >= count, LIMIT)
            assert found, f"not {count} lines: {self.log}"
            return self.log[:count]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        self.stdout.close()
        self._stderr.close()


@contextmanager
def listening(
    program: Path = PROGRAMS / "calc_server.py",
    url: str = "tcp://127.0.0.1:0",
    *urls: str,
    fallback: str = "",
) -> Iterator[tuple[str, Program]]:
    """Run a server with `rpcasync listen`; give the URL that it listens on, and the program."""
    options = [option for each in (url, *urls) for option in ("-u", each)]
    options += ["--fallback", fallback] if fallback else []
    server = Program([sys.executable, "-m", "rpcasync", "listen", *options, program])
    try:
        line = server.wait_for_log("listening on")
        yield line.rpartition(" ")[2], server
    finally:
        server.stop()


@contextmanager
def perl_listening(
    url: str = "tcp://127.0.0.1:0", program: Path = PERL / "rpc_server.pl"
) -> Iterator[str]:
    """Run a Perl server; give the URL that it listens on."""
    server = Program(["perl", program, url])
    try:
        yield server.stdout.readline().strip()
    finally:
        server.stop()


def run(
    *command: str | Path, env: dict[str, str] | None = None, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it printed."""
    return subprocess.run(
        [os.fspath(part) for part in command],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        check=False,
    )


def pushed_into(sock: socket.socket, data: bytes, most: int) -> int:
    """Send this again and again; return how many bytes went until no more do, or so many have."""
    sock.settimeout(0.5)
    sent = 0
    with suppress(TimeoutError):
        while sent < most:
            sent += sock.send(memoryview(data)[sent % len(data) :])
    sock.settimeout(LIMIT)
    return sent


def scarce(program: Path, descriptors: int) -> list[str]:
    """Return the command that runs a program of Python which may have so few descriptors."""
    code = f"""
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({descriptors}, {descriptors}))
sys.path[0] = {str(program.parent)!r}
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    return [sys.executable, "-c", code, str(program)]
