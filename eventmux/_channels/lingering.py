"""The last words of a connection, and how its peer gets to read them.

A kernel that closes a connection with unread input, or that gets more of it later, answers with a
reset: what we sent last may be lost on the way, or be dropped by the peer before it was read. So
whoever has the last word ends his side, and hears the peer out; a peer that never ends is heard
for so long, and so many bytes, and no more (RFC 9112, section 9.6).

This file knows connected sockets, and nothing of channels and clocks.
"""

from __future__ import annotations

import contextlib
import socket
import struct

from eventmux.events import Closed

__all__ = ["LINGER", "Lingering", "discard", "has_unread", "unacknowledged"]

LINGER = 2.0
"""Seconds that a peer has to end its side after our last word."""

_MOST = 64 * 1024 * 1024  # bytes that are heard meanwhile
_AT_ONCE = 1024 * 1024  # bytes in one turn
_READ_SIZE = 64 * 1024
_DONT_WAIT = getattr(socket, "MSG_DONTWAIT", 0)
_LOOK = int(socket.MSG_PEEK | _DONT_WAIT)  # to put them together takes longer than the call


def has_unread(sock: socket.socket) -> bool | None:
    """True if the peer has sent what nobody has read; None if nothing more can come."""
    _wait_for_nothing(sock)
    try:
        return True if sock.recv(1, _LOOK) else None
    except BlockingIOError:
        return False
    except OSError:  # it is broken, or not connected
        return None


def _wait_for_nothing(sock: socket.socket) -> None:
    """Take the timeout off a socket object, which would wait by itself, whatever the flags say.

    The kernel has been told O_NONBLOCK for it before, so nothing changes for others. Where there is
    no flag, it has to be told now.
    """
    if sock.gettimeout() or not _DONT_WAIT:
        sock.settimeout(0.0)


def unacknowledged(sock: socket.socket) -> int:
    """Return how many bytes the kernel still has for the peer; 0 where it does not tell.

    Of a UNIX socket it is what the peer has not read; of TCP, what has not arrived.
    """
    try:
        import fcntl  # not on Windows
        import termios

        (size,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
    except (ImportError, OSError, ValueError):
        return 0
    return int(size)


def discard(sock: socket.socket, most: int = _AT_ONCE) -> tuple[int, bool]:
    """Drop what the peer has sent; return how many bytes, and whether more can come."""
    _wait_for_nothing(sock)
    size = 0
    while size < most:
        try:
            data = sock.recv(_READ_SIZE, _DONT_WAIT)
        except BlockingIOError:
            return size, True
        except (OSError, MemoryError):  # what is not read now never is
            return size, False
        if not data:
            return size, False
        size += len(data)
    return size, True


class Lingering:
    """A connection that has had its last word."""

    __slots__ = ("_left", "_sock", "is_over", "is_said", "put_off")

    def __init__(
        self, sock: socket.socket, put_off: Closed | None, *, is_said: bool = True
    ) -> None:
        self._sock = sock
        self.put_off = put_off  # another one comes in its place
        self._left = _MOST
        self.is_over = False
        self.is_said = False  # our side has ended
        if is_said:
            self.end_our_side()

    def end_our_side(self) -> None:
        """The last word is said."""
        self.is_said = True
        with contextlib.suppress(OSError):  # the peer has gone: reading will tell
            self._sock.shutdown(socket.SHUT_WR)

    def hear(self) -> None:
        """Drop what has come; it is over when the peer has ended, or said too much."""
        size, may_go_on = discard(self._sock)
        self._left -= size
        if not may_go_on or self._left <= 0:
            self.is_over = True
