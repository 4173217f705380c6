"""Child processes, descriptors and signal handlers, as tests use and count them."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from support.pump import PATIENCE

from eventmux import EventMux


def open_descriptors() -> dict[int, str]:
    """Return the descriptors that this process has, and what each one is."""
    gc.collect()  # what tests before this one left
    with EventMux():  # which closes what one that ended in another thread had to leave
        pass
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the directory itself
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


@contextlib.contextmanager
def handling(signum: int, handler: Callable[..., object]) -> Iterator[None]:
    """Have a handler for a signal, and the one that was there before back at the end."""
    before = signal.signal(signum, handler)
    try:
        yield
    finally:
        signal.signal(signum, before)


def waiting_child(code: str = "0") -> subprocess.Popen[bytes]:
    """Start a Python that ends with an exit status once its stdin is closed."""
    program = f"import sys, os; sys.stdin.read(); os._exit({code})"
    return subprocess.Popen([sys.executable, "-S", "-E", "-c", program], stdin=subprocess.PIPE)


def with_socket(
    *command: str | Path, **options: Any
) -> tuple[socket.socket, subprocess.Popen[Any]]:
    """Start a program that inherits a socket; return our end of it.

    Args:
        command: `{fd}` in it stands for the number of the descriptor.
        options: of Popen.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        fd = theirs.fileno()
        words = [str(fd) if word == "{fd}" else word for word in command]
        return ours, subprocess.Popen(words, pass_fds=[fd], **options)


def forked(action: Callable[[], object]) -> str:
    """Run something in a forked child; return what it returned as text, or how it failed.

    The child ends without the clean-up of the parent's tests.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():  # newer Pythons warn of forks while there are threads
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        try:
            os.close(reader)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # without the test's limit
            signal.alarm(PATIENCE)  # ends it should it hang, with no report
            try:
                report = repr(action())
            except BaseException:  # noqa: BLE001
                report = traceback.format_exc()
            os.write(writer, report.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        report = pipe.read().decode()
    os.waitpid(pid, 0)
    return report
