"""What systemd is told of a service: one datagram for each state, as sd_notify(3) has it.

The environment says where to, and whether a sign of life is wanted:

    NOTIFY_SOCKET   a path, or `@name` for an abstract one
    WATCHDOG_USEC   microseconds after which systemd takes the program for dead
    WATCHDOG_PID    for which process that is; for this one, if it is not set

A worker of `rpcasync listen --workers` tells its parent instead, through a socket.

The variables are removed once they have been used, so that the programs which this one starts do
not take them for theirs. This file knows no server: it has a mux, and is asked to look whether
somebody is served.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from rpcasync._log import log
from rpcasync.children.environments import NOTIFY_VARIABLE, WATCHDOG_VARIABLES
from rpcasync.urls import is_number

__all__ = ["Supervised", "is_supervised", "notify", "supervise", "tell_parent", "watchdog_time"]

_LONGEST = 4096  # bytes; systemd drops what is longer
_PATIENCE = 5.0  # seconds for READY=1, without which a service never comes up

_address = ""  # what NOTIFY_SOCKET has said
_parent: socket.socket | None = None  # is told in its place
_all: WeakSet[Supervised] = WeakSet()


def notify(state: str) -> bool:
    """Tell systemd what this program is doing, as sd_notify(3) does.

        rpcasync.notify("STATUS=42 clients, all is well")

    `init_clients()` says READY=1 by itself, and the server STOPPING=1 and WATCHDOG=1. This never
    waits: what systemd does not take at once is lost. NOTIFY_SOCKET is read, and removed from the
    environment, when it is first needed.

    Args:
        state: assignments, one to a line: `READY=1`, `STATUS=...`, `MAINPID=...`; up to 4096
            bytes in UTF-8. What they mean is systemd's; it leaves out what it does not know.

    Returns:
        True; False if nobody wants to know, for there is no NOTIFY_SOCKET, or if it could not be
        sent, which is logged at INFO.

    Raises:
        TypeError: `state` is no str.
        ValueError: a line of it is no assignment, it has a NUL character or one that is none in
            UTF-8, or it is too long.
    """
    return _tell(_checked(state))


def _checked(state: str) -> bytes:
    if not isinstance(state, str):
        raise TypeError(f"state is {state!r}, must be a str")
    for line in state.removesuffix("\n").split("\n"):
        name, mark, _ = line.partition("=")
        if not (mark and name.isascii() and name.isidentifier() and name == name.upper()):
            raise ValueError(f"state has the line {line!r}, must be as 'READY=1'")
    if "\0" in state:
        raise ValueError(f"state is {state!r}, must have no NUL character")
    data = state.encode()
    if len(data) > _LONGEST:
        raise ValueError(f"state of {len(data)} bytes, limit is {_LONGEST}")
    return data


def _tell(data: bytes, seconds: float = 0.0) -> bool:
    """Send this; within some seconds, for what must not get lost."""
    if _parent is not None:
        return _tell_parent(_parent, data)
    address = _find()
    if not address:
        return False
    problem: object = "it is no path, and no @name"
    if address[0] in "/@":
        try:
            # Connected, so that a queue that is full can be waited for.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(seconds)
                sock.connect(address if address[0] == "/" else f"\0{address[1:]}")
                sock.send(data)
            return True
        except OSError as error:
            problem = error.strerror or error
    text = data.decode()
    if seconds:
        log.warning("NOTIFY_SOCKET %s was not told %s: %s", address, text, problem)
    else:
        log.info("NOTIFY_SOCKET %s was not told %s: %s", address, text, problem)
    return False


def tell_parent(sock: socket.socket) -> None:
    """Have all be told to the parent from now on: lines, through a stream."""
    global _parent
    sock.setblocking(False)
    _parent = sock


def _tell_parent(sock: socket.socket, data: bytes) -> bool:
    try:
        return sock.send(data + b"\n") > 0  # they are short: all of it, or nothing
    except OSError as error:
        log.info("the parent was not told %s: %s", data.decode(), error.strerror or error)
        return False


def _find() -> str:
    """Return where systemd listens; "" if it does not."""
    global _address  # as the environment, of which it was taken
    _address = os.environ.pop(NOTIFY_VARIABLE, "") or _address
    return _address


# By themselves


def is_supervised() -> bool:
    """True if this program was started by somebody who wants to be told."""
    return _parent is not None or bool(_address) or NOTIFY_VARIABLE in os.environ


class Supervised:
    """What is told of one server by itself: that it is ready, alive, and stopping.

    Args:
        mux: has the timer for the signs of life.
        is_serving: returns whether there is, or may be, a client.
        watchdog: seconds after which the program is taken for dead; None if nobody looks.

    Raises:
        TypeError: there is a `watchdog`, and the mux has no timer.
    """

    def __init__(self, mux: object, is_serving: Callable[[], bool], watchdog: float | None) -> None:
        self.is_serving = is_serving
        self.is_stopping = False
        self._watch: Any = None
        if watchdog is not None:
            timer: Any = getattr(mux, "timer", None)
            if timer is None:
                raise TypeError("signs of life need a mux with timer(), as EventMux has it")
            self._watch = timer(watchdog / 2, self, repeat=True)
        _all.add(self)
        self.ready()

    def ready(self) -> None:
        """Say that it is ready, for the first time or again."""
        _tell(b"READY=1", _PATIENCE)

    def reloading(self) -> None:
        """Say that it is not, for a while, as it takes over what was changed."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        _tell(b"RELOADING=1\nMONOTONIC_USEC=%d" % now, _PATIENCE)

    def io(self, event: Any) -> bool:
        """Take an event; return whether it was the timer of this object."""
        if event.type != "timer" or getattr(event, "data", None) is not self:
            return False
        if any(each.is_serving() for each in _all):  # the program's other servers, too
            _tell(b"WATCHDOG=1")
        else:
            self._watch.cancel()  # it would keep a mux waiting
        return True

    def stopping(self) -> None:
        """Note that the server begins to stop; the program does so with its last one."""
        if not self.is_stopping:
            if all(each.is_stopping for each in _all if each is not self):
                _tell(b"STOPPING=1")
            self.is_stopping = True


def supervise(mux: object, is_serving: Callable[[], bool]) -> Supervised:
    """Tell that a server is ready, and go on with signs of life if they are wanted.

    Raises:
        ValueError: a variable of the environment is not what systemd says.
        TypeError: signs of life are wanted, and the mux has no timer.
    """
    return Supervised(mux, is_serving, watchdog_time())


def watchdog_time() -> float | None:
    """Return the seconds within which a sign of life is wanted; None if there is no need of any.

    Raises:
        ValueError: a variable of the environment is not what systemd says.
    """
    usec, pid = (os.environ.pop(variable, "") for variable in WATCHDOG_VARIABLES)
    return _seconds(usec, pid)


def _seconds(usec: str, pid: str) -> float | None:
    if pid and not is_number(pid):
        raise ValueError(f"WATCHDOG_PID is {pid!r}: expected the number of a process")
    if not usec or pid not in ("", str(os.getpid())):
        return None
    if not is_number(usec, digits=20) or not int(usec):
        raise ValueError(f"WATCHDOG_USEC is {usec!r}: expected microseconds, 1 or more")
    return int(usec) / 1e6
