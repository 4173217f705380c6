"""A child process that the program has forked itself, known by its pid.

It is given to a client as a `subprocess.Popen` is, and can be asked for the same: how it ended, and
to end. Nothing here starts or watches anything.
"""

from __future__ import annotations

import errno
import os
import subprocess
import time

__all__ = ["ForkedProcess", "as_process"]

_LONGEST_NAP = 0.05  # seconds between two looks of `wait()`


class ForkedProcess(subprocess.Popen[bytes]):
    """A child of this process.

    Args:
        pid: its number.

    Raises:
        ChildProcessError: it is no child of this process.
    """

    def __init__(self, pid: int) -> None:
        _check_child(pid)
        self.args = f"process {pid}"
        self.pid = pid
        self.returncode: int | None = None
        self.stdin = self.stdout = self.stderr = None
        self.is_lost = False
        """Somebody else has waited for it: its status is not known, and 0 stands for it."""

    def poll(self) -> int | None:
        """Return its status if it has ended, else None."""
        if self.returncode is None:
            try:  # by map(), since a signal handler may raise as soon as a call returns
                [(pid, status)] = map(os.waitpid, (self.pid,), (os.WNOHANG,))
            except ChildProcessError:
                self.is_lost = True
                self.returncode = 0  # as Popen has it
            else:
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its status.

        Raises:
            TimeoutExpired: it has not ended within so many seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        nap = 0.0005
        while (status := self.poll()) is None:
            left = _LONGEST_NAP if end is None else end - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            nap = min(2 * nap, left, _LONGEST_NAP)
            time.sleep(nap)
        return status


def as_process(process: object) -> subprocess.Popen[bytes]:
    """Return a child process that the program has started, or forked and has the pid of.

    Raises:
        ChildProcessError: the pid is of no child of this process.
        TypeError: it is neither.
    """
    if isinstance(process, subprocess.Popen):
        return process
    if type(process) is not int:
        raise TypeError(f"process is {process!r}, must be a subprocess.Popen or the pid of a child")
    return ForkedProcess(process)


def _check_child(pid: int) -> None:
    """Raise ChildProcessError if it is no child; do not wait for it."""
    try:
        if pid > 0:  # others mean groups of processes
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            return
    except (ChildProcessError, OverflowError):
        pass
    raise ChildProcessError(errno.ECHILD, f"process is {pid}, which is no child of this process")
