"""What is set on TCP connections, unless the program does not want it.

TCP_NODELAY, so that small pieces leave at once, and keepalive, so that a peer that has vanished
(its machine or the way to it is gone, and nobody is left to say so) does not stay for ever. Without
it, a connection on which nothing is sent never ends, and one with data on its way after a quarter
of an hour or more.

Keepalive of a connection (RFC 9293, section 3.8.4) asks after a minute without a word, and then
every half minute; after five minutes without an answer the connection fails with ETIMEDOUT. On
Linux TCP_USER_TIMEOUT (RFC 5482) is set to the same five minutes, which bounds how long data may
stay unacknowledged: the kernel does not ask while any is on its way. It decides for idle
connections, too, so the two have to agree.

The one rule: what the program has set stays. Nothing here is ever an error: a system that refuses
has its own ways.

This file knows sockets, and nothing of selectors and channels.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable

__all__ = ["ASK_AFTER", "ASK_EVERY", "GIVE_UP_AFTER", "Changes", "restore", "tune"]

ASK_AFTER = 60
"""Seconds without a word from the peer until it is asked."""
ASK_EVERY = 30
"""Seconds until it is asked again."""
GIVE_UP_AFTER = 300
"""Seconds without an answer, or with data that is not acknowledged, until the connection fails."""

Changes = tuple[tuple[int, int, int], ...]
"""Options by level and number, and what each of them was before it was set."""

_INTERNET = (socket.AF_INET, socket.AF_INET6)
_NODELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY)
_KEEPALIVE = (socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def _pace() -> list[tuple[int, int, int]]:
    """Return what makes keepalive quick: of these, the options that the system has."""
    # macOS calls it by another name, which Python knows since 3.10.
    idle = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"
    wanted = {
        idle: ASK_AFTER,
        "TCP_KEEPINTVL": ASK_EVERY,
        "TCP_KEEPCNT": (GIVE_UP_AFTER - ASK_AFTER) // ASK_EVERY,
    }
    if sys.platform == "linux":
        wanted["TCP_USER_TIMEOUT"] = GIVE_UP_AFTER * 1000  # in milliseconds
    numbers = [(getattr(socket, name, None), value) for name, value in wanted.items()]
    return [(socket.IPPROTO_TCP, number, value) for number, value in numbers if number is not None]


_PACE = _pace()
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)


def tune(sock: socket.socket, *, nodelay: bool, keepalive: bool) -> Changes:
    """Set on a TCP socket what it does not have yet; others are left alone.

    A connection that was accepted has what its listener had when the peer came: where that had all
    of it, two questions are all that is left to do.

    Args:
        sock: in any state.
        nodelay: whether small pieces are to leave at once.
        keepalive: whether a peer that is silent is to be asked. Where the program has turned it on
            itself, its pace stays the program's.

    Returns:
        What `restore()` takes.
    """
    if not (nodelay or keepalive) or not _is_tcp(sock):
        return ()
    changes: list[tuple[int, int, int]] = []
    try:
        if nodelay and not sock.getsockopt(*_NODELAY):
            changes.append((*_NODELAY, 0))
            sock.setsockopt(*_NODELAY, 1)
        if keepalive and not sock.getsockopt(*_KEEPALIVE):
            changes.append((*_KEEPALIVE, 0))
            _set_pace(sock, changes)
            sock.setsockopt(*_KEEPALIVE, 1)  # last: from now on it goes by the pace
    except OSError:  # macOS says EINVAL if the peer has reset already
        pass
    return tuple(changes)


def _is_tcp(sock: socket.socket) -> bool:
    return sock.family in _INTERNET and sock.type == socket.SOCK_STREAM


def _set_pace(sock: socket.socket, changes: list[tuple[int, int, int]]) -> None:
    for level, option, value in _PACE:
        before = sock.getsockopt(level, option)
        if option != _USER_TIMEOUT or not before:  # else the program has set one
            changes.append((level, option, before))
            sock.setsockopt(level, option, value)


def restore(sock: socket.socket, changes: Iterable[tuple[int, int, int]]) -> None:
    """Set a socket back as it was before `tune()`."""
    try:
        for level, option, before in changes:
            sock.setsockopt(level, option, before)
    except OSError:  # it is closed, or its peer has reset
        pass
