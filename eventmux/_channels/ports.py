"""What a handle is, and how to read and write what is no socket.

A handle is a socket, an object with `fileno()`, or a descriptor as a number. `open_port()` gives
what channels do their input and output with, its *port*: a socket, or a `Descriptor`, which has
those methods of a socket that channels use.

This file knows nothing of selectors, channels and events.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
from typing import Any

from eventmux.events import Address, Handle

__all__ = [
    "BorrowedSocket",
    "Descriptor",
    "Port",
    "is_closed",
    "is_still",
    "open_port",
    "which_file",
]

_log = logging.getLogger("eventmux")
_log.addHandler(logging.NullHandler())


def _fileno_of(fh: Handle) -> int:
    """Return the descriptor of a handle; -1 if it is closed.

    Raises:
        TypeError: it is no handle.
    """
    if isinstance(fh, int) and not isinstance(fh, bool):
        return fh
    fileno = getattr(fh, "fileno", None)
    if not callable(fileno):
        inner = getattr(fh, "fh", None)
        advice = "; its `fh` has one: give that" if hasattr(inner, "fileno") else ""
        raise TypeError(f"cannot watch {fh!r}: it has no file descriptor{advice}")
    try:
        fd = fileno()
    except (ValueError, OSError, RuntimeError):  # closed, all in memory, a mux that has ended
        return -1
    if type(fd) is not int:
        raise TypeError(f"cannot watch {fh!r}: its fileno() is {fd!r}")
    return fd


def which_file(fd: int) -> tuple[int, int] | None:
    """Tell one open file from another that has the same number; None if it is closed."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_still(fh: Handle, fd: int, file: tuple[int, int] | None) -> bool:
    """True if a handle has the descriptor that it had, and that the same open file."""
    try:
        found = _fileno_of(fh)
    except Exception:  # noqa: BLE001  # a closed object of the program's may raise anything
        return False
    return found == fd and which_file(fd) == file


def is_closed(fh: Handle) -> bool:
    """True if a handle of the program's is closed; False for what is none."""
    try:
        return which_file(_fileno_of(fh)) is None
    except (TypeError, OverflowError):
        return False


def _check(fh: Handle, fd: int, file: tuple[int, int] | None) -> None:
    """Raise if the program has closed a handle: the number may be another file's by now."""
    if not is_still(fh, fd, file):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def _close(fh: Handle) -> None:
    """Close a handle of the program's; what its own close() says besides is logged."""
    close = getattr(fh, "close", None)
    try:
        if isinstance(fh, int):
            os.close(fh)
        elif callable(close):
            close()
        else:
            os.close(fh.fileno())
    except (OSError, ValueError) as error:  # a file may fail to flush what it has buffered
        _log.debug("closing %r: %s", fh, error)


class BorrowedSocket(socket.socket):
    """A socket that the program holds as a number, or as an object of its own."""

    owner: Handle
    file: tuple[int, int] | None

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive, if the number is still that of this socket."""
        _check(self.owner, self.fileno(), self.file)
        return super().recv(size, flags)

    def recvmsg(
        self, size: int, ancillary_size: int = 0, flags: int = 0, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        """Receive, if the number is still that of this socket."""
        _check(self.owner, self.fileno(), self.file)
        return super().recvmsg(size, ancillary_size, flags)

    def send(self, data: Any, flags: int = 0, /) -> int:
        """Send, if the number is still that of this socket."""
        _check(self.owner, self.fileno(), self.file)
        return super().send(data, flags)

    def sendto(self, *arguments: Any) -> int:
        """Send, if the number is still that of this socket."""
        _check(self.owner, self.fileno(), self.file)
        return super().sendto(*arguments)

    def __del__(self) -> None:
        """Leave the program's handle open, should the mux be dropped without its end."""
        self.detach()

    def close(self) -> None:
        """Close the program's handle."""
        self.detach()
        _close(self.owner)


class Descriptor:
    """A pipe, a terminal, a file or a device, with the methods of a socket.

    `can_read` and `can_write` say what it was opened for, and `is_pipe` that its other end can
    go away. A terminal is left blocking until something is sent: it is often shared with
    stdout, where non-blocking output would be lost, and one read of what is ready never blocks.
    """

    __slots__ = (
        "_fd",
        "_file",
        "_owner",
        "_will_block",
        "can_read",
        "can_write",
        "is_pipe",
        "is_tty",
    )

    def __init__(self, fd: int, owner: Handle, mode: int) -> None:
        import fcntl  # not on Windows, where only sockets can be watched

        access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        self._fd = fd
        self._file = which_file(fd)
        self._owner = owner
        self.can_read = access != os.O_WRONLY
        self.can_write = access != os.O_RDONLY
        self.is_pipe = stat.S_ISFIFO(mode)
        self.is_tty = stat.S_ISCHR(mode) and os.isatty(fd)
        self._will_block = False  # until something is sent

    def gettimeout(self) -> float | None:
        """Return None if it blocks, else 0."""
        return None if os.get_blocking(self._fd) else 0.0

    def settimeout(self, timeout: float | None) -> None:
        """Let it block if the timeout is None, and not if it is 0."""
        if os.get_blocking(self._fd) != (timeout is None):
            os.set_blocking(self._fd, timeout is None)

    def setblocking(self, blocking: bool) -> None:
        """Let it block or not; a terminal only once it matters."""
        if self.is_tty and not blocking:
            self._will_block = True
        else:
            self.settimeout(None if blocking else 0.0)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def recv(self, size: int) -> bytes:
        """Read bytes; none is the end."""
        _check(self._owner, self._fd, self._file)
        try:
            return os.read(self._fd, size)
        except OSError as error:
            if error.errno == errno.EIO and self.is_tty:  # the other side of a pty has gone
                return b""
            raise

    def recvmsg(self, size: int) -> tuple[bytes, list[Any], int, None]:
        """Read one packet, from a device that has packets."""
        _check(self._owner, self._fd, self._file)
        return os.read(self._fd, size), [], 0, None

    def send(self, data: bytes | memoryview) -> int:
        """Write bytes; return how many were taken."""
        _check(self._owner, self._fd, self._file)
        if self._will_block:
            self._will_block = False
            self.settimeout(0.0)
        return os.write(self._fd, data)

    def sendto(self, data: bytes, address: Address) -> int:
        """Refuse: only sockets have addresses."""
        del data, address
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))

    def detach(self) -> None:
        """Let go of it and leave it open."""

    def close(self) -> None:
        """Close the program's handle."""
        _close(self._owner)


Port = socket.socket | Descriptor
"""What a channel reads from and writes to."""


def open_port(fh: Handle) -> Port:
    """Return what to read from and write to a handle with.

    Raises:
        TypeError: it is no handle, or one that keeps data to itself, as TLS does.
        OSError: it is closed.
    """
    if hasattr(fh, "do_handshake"):
        raise TypeError(f"cannot watch {fh!r}: TLS holds data back that no selector can see")
    fd = _fileno_of(fh)
    if isinstance(fh, socket.socket) and fd >= 0:
        return fh
    try:
        mode = os.fstat(fd).st_mode
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None) or errno.EBADF
        raise OSError(number, f"cannot watch {fh!r}: {os.strerror(number)}") from None
    if not stat.S_ISSOCK(mode):
        return Descriptor(fd, fh, mode)
    sock = BorrowedSocket(fileno=fd)
    sock.owner, sock.file = fh, which_file(fd)
    sock.setblocking(os.get_blocking(fd))  # Python does not ask
    return sock
