"""Programs that are still running when this one ends: none outlives it unasked.

A server ends by itself when its only client has gone, and most programs see to their servers before
they end. What is left has a time of grace, then gets SIGTERM, and after as long again SIGKILL. That
is done when Python ends: a process that is killed, or ends by `os._exit()`, can only let go of the
sockets, which servers notice.

This file knows nothing of the mux; `ending.py` has the same steps, as the loop turns.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rpcasync._log import log

__all__ = ["end_with_us"]

_GRACE = 5.0  # seconds that a program has to end by itself, and then again after SIGTERM


@dataclass(frozen=True, slots=True)
class _Leftover:
    """A program that was started, as long as it runs."""

    process: subprocess.Popen[Any]
    sock: weakref.ref[socket.socket]  # it is the program's own: whoever drops it is warned
    name: str
    pid: int  # of who started it


_running: list[_Leftover] = []


def end_with_us(process: subprocess.Popen[Any], sock: socket.socket, name: str) -> None:
    """Have a program end when we do, and be waited for, should nobody do so before."""
    _forget_those_that_ended()
    _running.append(_Leftover(process, weakref.ref(sock), name, os.getpid()))


def _forget_those_that_ended() -> None:
    """Forget those that were waited for, and wait for those that nobody has any more."""
    for each in _running:
        if each.sock() is None:
            each.process.poll()
    _running[:] = [each for each in _running if each.process.returncode is None]


@atexit.register
def _end_all() -> None:
    """End what is left; in a forked child that is nothing."""
    left = [each for each in _running if each.pid == os.getpid()]
    _running.clear()
    try:
        for each in left:
            sock = each.sock()
            if sock is not None:
                sock.close()
        for name, use in (
            ("SIGTERM", subprocess.Popen.terminate),
            ("SIGKILL", subprocess.Popen.kill),
        ):
            left = _wait(left)
            _force(left, name, use)
        for each in left:
            each.process.wait()
            _close_pipes(each.process)
    except BaseException:  # Ctrl-C: whoever waits for us does not want to
        for each in left:
            each.process.kill()
        raise


def _wait(left: list[_Leftover]) -> list[_Leftover]:
    """Wait for programs for the time of grace; return those that still run."""
    end = time.monotonic() + _GRACE
    still = []
    for each in left:
        try:
            each.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            still.append(each)
        else:
            _close_pipes(each.process)
    return still


def _force(left: list[_Leftover], name: str, use: Callable[[subprocess.Popen[Any]], None]) -> None:
    for each in left:
        log.warning("%s has not ended within %s seconds: %s", each.name, _GRACE, name)
        _close_pipes(each.process)  # it may hang because nobody reads them
        use(each.process)


def _close_pipes(process: subprocess.Popen[Any]) -> None:
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
