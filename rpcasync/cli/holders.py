"""Who listens where we wanted to: a guess for a message, from what Linux tells in /proc.

Elsewhere, and for the processes of others, nothing is found. Nothing here raises.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice

from eventmux.urls import Endpoint

__all__ = ["OURSELVES", "holder"]

OURSELVES = "this command itself"

_MOST = 100_000  # lines of a table, and descriptors of all processes, that are looked at
_LISTENS = "0A"  # the state of a TCP socket
_ACCEPTS = "00010000"  # the flags of a UNIX socket: somebody has called listen()
_LONGEST = 80  # characters of a command


def holder(endpoint: Endpoint) -> str:
    """Return the process that listens at an address, as `process 7 (python3 server.py)`.

    It is "" if that cannot be told, and `OURSELVES` if it is our own process.
    """
    inodes = set(_tcp(endpoint.port) if endpoint.scheme == "tcp" else _unix(endpoint.path))
    pid = _owner({f"socket:[{inode}]" for inode in inodes}) if inodes else None
    if pid is None:
        return ""
    return OURSELVES if pid == os.getpid() else f"process {pid}{_command(pid)}"


def _tcp(port: int) -> Iterator[str]:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in _lines(table):
            match line.split():
                case [_, local, _, state, _, _, _, _, _, inode, *_]:
                    if state == _LISTENS and local.endswith(f":{port:04X}"):
                        yield inode


def _unix(path: str) -> Iterator[str]:
    for line in _lines("/proc/net/unix"):
        words = line.split(maxsplit=7)
        if len(words) == 8 and words[7] == path and words[3] == _ACCEPTS:
            yield words[6]


def _lines(table: str) -> list[str]:
    try:
        with open(table, errors="surrogateescape") as lines:
            return [line.rstrip("\n") for line in islice(lines, 1, _MOST)]
    except OSError:
        return []


def _owner(links: set[str]) -> int | None:
    """Return the first process that has one of some descriptors."""
    for pid, link in islice(_descriptors(), _MOST):
        if link in links:
            return pid
    return None


def _descriptors() -> Iterator[tuple[int, str]]:
    for pid in filter(str.isdigit, _names("/proc")):
        for number in _names(f"/proc/{pid}/fd"):
            try:
                yield int(pid), os.readlink(f"/proc/{pid}/fd/{number}")
            except OSError:  # it was closed meanwhile
                continue


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # it is another user's, or has ended
        return []


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", errors="replace") as file:
            command = file.read(4096).rstrip("\0").replace("\0", " ")
    except OSError:
        return ""
    return f" ({command if len(command) <= _LONGEST else f'{command[: _LONGEST - 3]}...'})"
