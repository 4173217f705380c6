"""One worker, as its parent sees it: a process, and the socket through which it tells how it does.

The program is executed anew, with the command line of the parent, so that a worker has what is on
the disk when it starts. It has a session of its own: Ctrl-C in a terminal is for the parent alone.
This file waits for nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rpcasync.children.environments import WATCHDOG_VARIABLES, WORKER_VARIABLE, own_environment
from rpcasync.workers.membership import Membership

if TYPE_CHECKING:
    from eventmux import Watch

__all__ = ["Starter", "Worker", "how"]


class Worker:
    """A process that was started.

    Args:
        number: which of the workers it is, or is to become.
        place: its own on the scoreboard.
        process: the process.
        sock: what it tells by.
    """

    __slots__ = (
        *("is_dismissed", "limit", "number", "place", "process", "ready_at", "signs", "sock"),
    )

    def __init__(
        self, number: int, place: int, process: subprocess.Popen[bytes], sock: socket.socket
    ) -> None:
        self.number = number
        self.place = place
        self.process = process
        self.sock = sock
        self.is_dismissed = False
        """It was told to end."""
        self.ready_at: float | None = None  # by `time.monotonic()`
        self.limit: Watch | None = None
        """Of what it has to do by then: be ready, or end."""
        self.signs: Watch | None = None
        """Of life: when they were missing for too long."""

    def __str__(self) -> str:
        """Return what the log calls it."""
        return f"worker {self.number} (process {self.process.pid})"

    @property
    def is_ready(self) -> bool:
        """True once it has said so."""
        return self.ready_at is not None

    def be_ready(self) -> None:
        """Note that it says so now."""
        self.ready_at = time.monotonic()
        if self.limit is not None:
            self.limit.cancel()
            self.limit = None

    def age(self) -> float:
        """Return for how many seconds it has been ready."""
        return 0.0 if self.ready_at is None else time.monotonic() - self.ready_at

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signum)

    def forget_limits(self) -> None:
        """Expect nothing of it any more."""
        for watch in (self.limit, self.signs):
            if watch is not None:
                watch.cancel()
        self.limit = self.signs = None


class Starter:
    """What all workers are started with.

    Args:
        command: what is executed.
        listeners: the descriptors of sockets that we have opened.
        handed: those that systemd has handed over.
        board: that of the scoreboard.
        watchdog: seconds within which a sign of life is wanted; None if there is no need of any.
    """

    def __init__(
        self,
        command: Sequence[str],
        listeners: Sequence[int],
        handed: Sequence[int],
        board: int,
        watchdog: float | None,
    ) -> None:
        self._command = command
        self._listeners = [*listeners]
        self._handed = [*handed]
        self._board = board
        self.watchdog = watchdog

    def start(self, number: int, place: int) -> Worker:
        """Start a worker.

        Raises:
            OSError: there are too many processes or descriptors, no Python...
        """
        ours, theirs = socket.socketpair()
        with theirs:
            tell = theirs.fileno()
            given = Membership(os.getpid(), self._listeners, tell, self._board, place)
            environment = {**own_environment(), WORKER_VARIABLE: given.to_text()}
            if self.watchdog is not None:
                environment[WATCHDOG_VARIABLES[0]] = str(round(self.watchdog * 1e6))
            try:
                process = subprocess.Popen(  # noqa: S603  # it is what we were started with
                    self._command,
                    stdin=subprocess.DEVNULL,
                    env=environment,
                    pass_fds=(*self._listeners, *self._handed, tell, self._board),
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        return Worker(number, place, process, ours)

    def close_listeners(self) -> None:
        """Close those that we have opened: nobody is to come any more."""
        for number in self._listeners:
            os.close(number)
        self._listeners.clear()


def how(returncode: int | None) -> str:
    """Return how a process has ended, for the log."""
    if returncode is None:
        return "nobody knows how"
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"
