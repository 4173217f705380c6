"""Programs at a terminal: a real pseudo-terminal, which the test types at and looks at."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from support.programs import LIMIT, ROOT
from support.screens import Screen

PROMPT = "rpcasync> "
# Whoever started the tests may have it ignore SIGHUP, as `nohup` does.
_LEAD = (
    "import fcntl, os, signal, sys, termios\n"
    "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """A program whose stdin, stdout and stderr are a terminal that the test sits at.

    Args:
        arguments: what stands behind its name on the command line.
        program: what is started; default is Python.
        stdout: a file that it writes to, in the place of the terminal.
        columns: how wide the terminal is; 0 is not told.
        rows: how many lines it has.
        cwd: where it is started.
        env: variables of its environment, beside ours.
    """

    def __init__(
        self,
        *arguments: str | Path,
        program: str = sys.executable,
        stdout: int | IO[str] | None = None,
        columns: int = 0,
        rows: int = 24,
        cwd: Path | None = None,
        **env: str,
    ) -> None:
        self._ours, theirs = os.openpty()
        self.resize(columns, rows)
        self._seen = b""  # and not expected
        self.process = subprocess.Popen(
            [sys.executable, "-IS", "-c", _LEAD, program, *map(str, arguments)],
            stdin=theirs,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
            cwd=cwd,
            start_new_session=True,  # so that it can be the session's terminal: for Ctrl-C
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "TERM": "dumb",
                "INPUTRC": "/dev/null",
                **env,
            },
        )
        os.close(theirs)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def resize(self, columns: int, rows: int) -> None:
        """Have another size; the system tells the program."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def has_echo(self) -> bool:
        """Return whether what is typed is shown, and comes line by line, as it is at first."""
        flags: int = termios.tcgetattr(self._ours)[3]
        return flags & (termios.ECHO | termios.ICANON) == termios.ECHO | termios.ICANON

    def show(self, screen: Screen, is_it: Callable[[Screen], object]) -> None:
        """Wait until a screen with all that is written to the terminal is as it should be."""
        deadline = time.monotonic() + LIMIT
        while not is_it(screen):  # which is asked of each picture
            assert time.monotonic() < deadline, screen.lines
            if not self._seen:
                self._seen = self._read(deadline)
                assert self._seen, screen.lines
            picture, end, self._seen = self._seen.partition(b"\x1b[J")
            screen.feed(picture + end)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def expect(self, text: str) -> str:
        """Wait until the text is shown; return what was shown before it."""
        deadline = time.monotonic() + LIMIT
        while text.encode() not in self._seen:
            chunk = self._read(deadline)
            assert chunk, f"no {text!r} in {self._seen!r}"
            self._seen += chunk
        before, _, self._seen = self._seen.partition(text.encode())
        return before.decode()

    def _read(self, deadline: float) -> bytes:
        ready, _, _ = select.select([self._ours], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"nothing behind {self._seen!r}"
        try:
            return os.read(self._ours, 65536)
        except OSError:  # how Linux says that nobody has it open any more
            return b""

    def wait_until_it_waits(self) -> None:
        """Wait until the program sleeps."""
        status = Path(f"/proc/{self.process.pid}/stat")
        deadline = time.monotonic() + LIMIT
        while status.read_text().rpartition(")")[2].split()[0] != "S":
            assert time.monotonic() < deadline, "it is still busy"
            os.sched_yield()

    def enter(self, line: str) -> str:
        """Type a line at the prompt; return what is shown before the next prompt."""
        self.type(line + "\n")
        self.expect("\r\n")
        return self.expect(PROMPT).replace("\r\n", "\n")

    def end(self) -> tuple[int, str]:
        """Return the exit status, and what is still shown."""
        deadline = time.monotonic() + LIMIT
        while chunk := self._read(deadline):
            self._seen += chunk
        return self.process.wait(LIMIT), self._seen.decode().replace("\r\n", "\n")
