"""The sockets that systemd has opened for this process, and hands over.

The environment tells of them, and remembers which are taken; when all are, its variables go:

    LISTEN_FDS       how many descriptors there are, from 3 on
    LISTEN_PID       for which process; an environment is inherited, descriptors may not be
    LISTEN_FDNAMES   what they are called, with colons between

What is wrong there ends the program: it was started in a way that cannot be. This file knows no
server.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

from eventmux.sockets import inherited
from rpcasync.urls import check_stream, is_number

__all__ = ["open_all", "others_pid", "refuse", "take", "untaken"]

_LISTEN_FDS = "LISTEN_FDS"
_LISTEN_PID = "LISTEN_PID"
_LISTEN_FDNAMES = "LISTEN_FDNAMES"
_LISTEN_VARIABLES = (_LISTEN_FDS, _LISTEN_PID, _LISTEN_FDNAMES, "LISTEN_PIDFDID")
_FIRST_FD = 3
_UNNAMED = "unknown"  # what systemd calls a descriptor without a name
_TAKEN = ""  # the name in LISTEN_FDNAMES of one that an earlier call took; systemd gives none


def refuse(variable: str, value: str, problem: object) -> NoReturn:
    """End the program: it was started in a way that cannot be."""
    sys.exit(f"{os.path.basename(sys.argv[0])}: {variable} is {value!r}: {problem}")


def take(name: str | None) -> list[socket.socket]:
    """Return the sockets that this process was started with, of one name or all of them."""
    text = os.environ.get(_LISTEN_FDS, "")
    if not text or not _is_for_us():
        return []
    names = _all_names()
    wanted = [at for at, each in enumerate(names) if each != _TAKEN and name in (None, each)]
    if names and not wanted:
        refuse(_LISTEN_FDNAMES, ":".join(names), f"no socket is left with the name {name!r}")
    sockets = open_all([_FIRST_FD + at for at in wanted], _LISTEN_FDS, text)
    for at in wanted:
        names[at] = _TAKEN
    os.environ[_LISTEN_FDNAMES] = ":".join(names)
    if not any(names):
        for variable in _LISTEN_VARIABLES:
            os.environ.pop(variable, None)
    return sockets


def untaken() -> list[int]:
    """Return the descriptors that nobody has taken yet, and take none."""
    return [_FIRST_FD + at for at, each in enumerate(_all_names()) if each != _TAKEN]


def others_pid() -> str:
    """Return the process that LISTEN_FDS is meant for, if it is another one; else ""."""
    text = os.environ.get(_LISTEN_PID, "") if os.environ.get(_LISTEN_FDS) else ""
    return "" if text == str(os.getpid()) else text


def _all_names() -> list[str]:
    """Return the names of all that were handed over to us; of those that are taken, too."""
    text = os.environ.get(_LISTEN_FDS, "")
    if not text or not _is_for_us():
        return []
    if not is_number(text, digits=6):
        refuse(_LISTEN_FDS, text, "expected a number")
    return _names(int(text))


def _is_for_us() -> bool:
    """False if the variables were meant for another process, whose environment we inherited."""
    text = os.environ.get(_LISTEN_PID, "")
    if text and not is_number(text):
        refuse(_LISTEN_PID, text, "expected the number of a process")
    return text == str(os.getpid())


def _names(count: int) -> list[str]:
    text = os.environ.get(_LISTEN_FDNAMES)
    if text is None:
        return [_UNNAMED] * count
    names = text.split(":") if count else []
    if len(names) != count:
        refuse(_LISTEN_FDNAMES, text, f"expected {count} names, as many as {_LISTEN_FDS} says")
    return names


def open_all(numbers: Sequence[int], variable: str, text: str) -> list[socket.socket]:
    """Return sockets of these descriptors; all of them are good before the server gets one."""
    sockets: list[socket.socket] = []
    for number in numbers:
        try:
            sock = inherited(number)
            sockets.append(sock)
            check_stream(sock)
        except (OSError, TypeError) as error:
            for sock in sockets:
                sock.close()
            refuse(variable, text, f"descriptor {number} is of no use: {error}")
        sock.set_inheritable(False)
    return sockets
