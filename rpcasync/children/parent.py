"""The end of a server whose parent has died, and who does not notice.

The socket of a parent that has gone tells a server so, as its loop turns, and it ends. One that
hangs in a procedure does not turn its loop. So Linux is asked for a signal when the parent dies,
however it does; a while later the server is looked at, and gets SIGTERM if it still takes its
parent for a client, and SIGKILL after as long again.

A server in Perl, or on another system, has its socket alone. This file knows no server.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from rpcasync._log import log

__all__ = ["drain_after", "end_after"]

_SET_PARENT_DEATH_SIGNAL = 1  # prctl(PR_SET_PDEATHSIG) of Linux
_GRACE = 5.0  # seconds


def end_after(parent: int, hangs: Callable[[], bool]) -> None:
    """End this process some time after its parent, should it hang then.

    The kernel also sends the signal when the thread of the parent ends that has started us: as
    long as the parent lives, it says nothing.

    Args:
        parent: the process that has started this one.
        hangs: whether this one has not noticed yet that the parent has gone; it is called in
            another thread.
    """

    def has_died() -> None:
        _later(_GRACE, _end, parent, hangs)

    _when_gone(parent, has_died)


def drain_after(parent: int, seconds: float) -> None:
    """Have this process stop in good order when its parent dies: by SIGTERM, as if it had sent it.

    Args:
        parent: the process that has started this one.
        seconds: how long that may take, until this one is killed.
    """

    def has_died() -> None:
        log.warning("process %d, which started this one, has gone: SIGTERM", parent)
        _later(seconds + _GRACE, os.kill, os.getpid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGTERM)

    _when_gone(parent, has_died)


def _later(seconds: float, function: Callable[..., object], *args: object) -> None:
    """Call something in a thread, since the main one may hang then."""
    timer = threading.Timer(seconds, function, args)
    timer.daemon = True  # it does not keep us from ending
    timer.start()


def _when_gone(parent: int, has_died: Callable[[], None]) -> None:
    """Call something when the parent has died."""
    number = getattr(signal, "SIGRTMAX", None)
    is_main = threading.current_thread() is threading.main_thread()
    if number is None or not is_main or signal.getsignal(number) is not signal.SIG_DFL:
        return  # the signal is the program's

    def note_death(*_: object) -> None:
        if os.getppid() != parent:
            has_died()

    signal.signal(number, note_death)
    if _ask_for(number):
        note_death()  # it may have died before we asked
    else:
        signal.signal(number, signal.SIG_DFL)


def _end(parent: int, hangs: Callable[[], bool]) -> None:
    """End this process if it hangs; in a thread, since the main one does."""
    if not hangs():
        return
    log.warning("process %d, which started this one, has gone, and this one hangs: SIGTERM", parent)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    if hangs():
        os.kill(os.getpid(), signal.SIGKILL)


def _ask_for(number: int) -> bool:
    """Ask for a signal when the parent dies; False if there is no such thing here."""
    if sys.platform != "linux":
        return False
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return False
    return not prctl(_SET_PARENT_DEATH_SIGNAL, ctypes.c_ulong(number), 0, 0, 0)
