"""A child process whose end is waited for: by a pidfd where there is one, else by asking.

This file waits for nothing itself: `readable()` looks, and says if the process has ended.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from typing import Any

from eventmux._waiting.pollable import Internal

__all__ = ["ChildProcess"]

_NO_PIDFD = (errno.ENOSYS, errno.EPERM, errno.EINVAL)  # an old kernel, or a sandbox


class ChildProcess(Internal):
    """A child process, and the pidfd that tells of its end; -1 if there is none.

    Raises:
        TypeError: it is neither a `subprocess.Popen` nor a pid.
        ChildProcessError: the pid is of no child of this process.
    """

    __slots__ = ("_ended", "_is_lost", "_process", "_status", "pid")

    def __init__(self, process: object, ended: Callable[[ChildProcess, int | None], None]) -> None:
        self._process = process if isinstance(process, subprocess.Popen) else None
        pid = process.pid if isinstance(process, subprocess.Popen) else process
        if type(pid) is not int:
            raise TypeError(f"cannot watch {process!r}: neither a subprocess.Popen nor a pid")
        self.pid = pid
        self._ended = ended
        self._is_lost = False
        self._status: int | None = None  # what waitpid() has told
        if self._process is None:
            _check_child(pid)
            fd = _open_pidfd(pid)
        else:
            fd = -1 if self._poll(self._process) else _open_pidfd(pid)
        super().__init__(fd)

    @property
    def has_ended(self) -> bool:
        """True if somebody has waited for it before."""
        return self._process is not None and self._process.returncode is not None

    def readable(self) -> None:
        """See whether it has ended."""
        process = self._process
        if process is not None:
            if self._poll(process):
                self._ended(self, None if self._is_lost else process.returncode)
            return
        if self._status is None:
            try:  # by map(), since a signal handler may raise as soon as a call returns
                [(pid, status)] = map(os.waitpid, (self.pid,), (os.WNOHANG,))
            except ChildProcessError:  # something else has waited for it
                self._ended(self, None)
                return
            if not pid:
                return
            self._status = status
        self._ended(self, os.waitstatus_to_exitcode(self._status))

    def _poll(self, process: subprocess.Popen[Any]) -> bool:
        """Return whether it has ended. Popen takes a status that is lost for a success."""
        if process.returncode is None:
            try:
                _check_child(process.pid)
            except ChildProcessError:
                self._is_lost = True
        return process.poll() is not None

    def close(self) -> None:
        """Close the pidfd."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def __del__(self) -> None:
        """Close the pidfd of a child that is not watched any more, with its mux."""
        if hasattr(self, "fd"):  # else it is no child
            self.close()


def _check_child(pid: int) -> None:
    """Raise ChildProcessError if it is no child; do not wait for it."""
    if pid < 1:  # these mean groups of processes
        raise ChildProcessError(errno.ECHILD, f"{pid} is no child of this process")
    if hasattr(os, "waitid"):
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except (OSError, OverflowError):
            raise ChildProcessError(errno.ECHILD, f"{pid} is no child of this process") from None


def _open_pidfd(pid: int) -> int:
    """Return a descriptor that is readable once the process has ended; -1 if there are none."""
    pidfd_open = getattr(os, "pidfd_open", None)
    if pidfd_open is None:
        return -1
    try:
        return int(pidfd_open(pid))
    except OSError as error:
        if error.errno in _NO_PIDFD:
            return -1
        raise
