"""What a handle is, and how to read and write without waiting, what it is no matter.

A handle is a socket, an object with `fileno()`, or a descriptor as a number. `open_port()` gives
what channels do their input and output with, its *port*: a socket, or a `Descriptor`, which has
those methods of a socket that channels use.

O_NONBLOCK belongs to the open file, and that may be shared with the shell, with `print()`, with
any process. So the rule is to leave it alone: a socket is told at each call, by RECV_FLAGS and
SEND_FLAGS; a terminal, and a pipe that was inherited, is opened a second time. Of what is left,
`prepare()` says that it has to be lent: `lending.py`.

This file knows nothing of selectors, channels and events.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from eventmux.events import Handle

__all__ = [
    "RECV_FLAGS",
    "SEND_FLAGS",
    "BorrowedSocket",
    "Descriptor",
    "Port",
    "is_closed",
    "is_still",
    "open_port",
    "prepare",
    "which_file",
]

_log = logging.getLogger("eventmux")
_log.addHandler(logging.NullHandler())

_IS_LINUX = sys.platform == "linux"  # elsewhere not every kind of socket heeds MSG_DONTWAIT
RECV_FLAGS = socket.MSG_DONTWAIT if _IS_LINUX else 0
SEND_FLAGS = RECV_FLAGS | getattr(socket, "MSG_NOSIGNAL", 0)  # the program may want SIGPIPE itself

_STDIO = (0, 1, 2)
_SIGPIPE = getattr(signal, "SIGPIPE", None)  # Windows has none
_MASTER = (5, 2)  # the device number of /dev/ptmx, on Linux

T = TypeVar("T")
A = TypeVar("A")


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
    go away. It is waited for by the program's descriptor, and may be read and written by one of
    its own, see `prepare()`.
    """

    __slots__ = (
        "_fd",
        "_file",
        "_io",
        "_is_blocking_for_others",
        "_is_master",
        "_is_tty",
        "_mode",
        "_owner",
        "can_read",
        "can_write",
        "is_pipe",
    )

    def __init__(self, fd: int, owner: Handle, mode: int) -> None:
        import fcntl  # not on Windows, where only sockets can be watched

        access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
        device = os.fstat(fd).st_rdev
        self._fd = self._io = fd
        self._file = which_file(fd)
        self._owner = owner
        self._mode = mode
        self.can_read = access != os.O_WRONLY
        self.can_write = access != os.O_RDONLY
        self.is_pipe = stat.S_ISFIFO(mode)
        self._is_master = _IS_LINUX and (os.major(device), os.minor(device)) == _MASTER
        self._is_tty = stat.S_ISCHR(mode) and os.isatty(fd) and not self._is_master
        self._is_blocking_for_others = False

    def prepare(self) -> bool:
        """See to it that nothing waits; False if O_NONBLOCK has to be set for that.

        A file never waits. A terminal, and a pipe that others may have, is opened again, so that
        O_NONBLOCK is ours alone. Where that cannot be, because the user has changed since, or
        there is no /proc, O_NONBLOCK is set for the moment of each call. A pipe or a device that
        the program has made has nobody else who could mind.
        """
        if stat.S_ISREG(self._mode) or stat.S_ISDIR(self._mode):
            return True
        is_shared = self._is_tty or _is_inherited(self._fd)
        if is_shared and (self._is_tty or self.is_pipe):
            self._io = _open_again(self._fd)
        self._is_blocking_for_others = is_shared and self._io == self._fd
        return is_shared

    def gettimeout(self) -> float | None:
        """Return None if it blocks, else 0."""
        return None if os.get_blocking(self._fd) else 0.0

    def settimeout(self, timeout: float | None) -> None:
        """Let it block if the timeout is None, and not if it is 0."""
        if os.get_blocking(self._fd) != (timeout is None):
            os.set_blocking(self._fd, timeout is None)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Read bytes; none is the end."""
        del flags  # they are for sockets
        _check(self._owner, self._fd, self._file)
        try:
            return self._without_waiting(os.read, size)
        except OSError as error:
            if error.errno == errno.EIO and self._is_at_its_end():
                return b""
            raise

    def recvmsg(
        self, size: int, ancillary_size: int = 0, flags: int = 0, /
    ) -> tuple[bytes, list[Any], int, None]:
        """Read one packet, from a device that has packets."""
        del ancillary_size, flags
        _check(self._owner, self._fd, self._file)
        return self._without_waiting(os.read, size), [], 0, None

    def send(self, data: bytes | memoryview, flags: int = 0, /) -> int:
        """Write bytes; return how many were taken."""
        del flags
        _check(self._owner, self._fd, self._file)
        return self._without_waiting(_write if self.is_pipe else os.write, data)

    def _is_at_its_end(self) -> bool:
        """True if EIO tells that the other side of a pty has gone, and not of another job."""
        return self._is_master or (self._is_tty and not _is_background(self._fd))

    def _without_waiting(self, call: Callable[[int, A], T], argument: A) -> T:
        fd = self._io
        if not self._is_blocking_for_others or not os.get_blocking(fd):
            return call(fd, argument)
        os.set_blocking(fd, False)
        try:
            return call(fd, argument)
        finally:
            os.set_blocking(fd, True)

    def sendto(self, *arguments: object) -> int:
        """Refuse: only sockets have addresses."""
        del arguments
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))

    def detach(self) -> None:
        """Let go of it and leave it open."""
        again, self._io = self._io, self._fd
        if again != self._fd and which_file(again) == self._file:
            os.close(again)

    def __del__(self) -> None:
        """Close what was opened again, should the mux be dropped without its end."""
        self.detach()

    def close(self) -> None:
        """Close the program's handle."""
        self.detach()
        _close(self._owner)


def _is_inherited(fd: int) -> bool:
    """True if a descriptor is, or may be, of an open file that other processes have, too.

    Those that Python makes are not inheritable; what can be inherited has been.
    """
    if fd in _STDIO or os.get_inheritable(fd):
        return True
    file = which_file(fd)
    return any(which_file(standard) == file for standard in _STDIO)  # a duplicate of one


def _open_again(fd: int) -> int:
    """Open a pipe or terminal once more, without O_NONBLOCK for those who have it already.

    Returns the same descriptor if that cannot be. (The master of a pty must not be: that would be
    another terminal.)
    """
    import fcntl

    if not _IS_LINUX:
        return fd
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    wanted = (flags & os.O_ACCMODE) | os.O_NONBLOCK | os.O_NOCTTY
    try:
        again = os.open(f"/proc/self/fd/{fd}", wanted)
    except OSError:  # EACCES: another user's; ENXIO: a pipe that nobody reads; no /proc...
        return fd
    if flags & os.O_DIRECT:  # a pipe that keeps the bounds of what is written
        fcntl.fcntl(again, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    return again


def _is_background(fd: int) -> bool:
    """True if reading from a terminal is refused because another job has it."""
    try:
        return os.tcgetpgrp(fd) != os.getpgrp()
    except OSError:  # it is not the terminal of this session: nobody minds
        return False


def _write(fd: int, data: bytes | memoryview) -> int:
    """Write to a pipe; that nobody reads it is told by EPIPE, and never by SIGPIPE.

    Python ignores that signal, but the program may have set it back, and for pipes there is no
    flag as for sockets.
    """
    if _SIGPIPE is None or signal.getsignal(_SIGPIPE) is not signal.SIG_DFL:
        return os.write(fd, data)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {_SIGPIPE})
    try:
        is_pending = _SIGPIPE in signal.sigpending()
        try:
            return os.write(fd, data)
        except BrokenPipeError:
            if not is_pending and hasattr(signal, "sigtimedwait"):
                signal.sigtimedwait({_SIGPIPE}, 0)
            raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
    blocking = os.get_blocking(fd)  # Python does not ask, and may set its own default
    sock = BorrowedSocket(fileno=fd)
    sock.owner, sock.file = fh, which_file(fd)
    sock.setblocking(blocking)
    return sock


def prepare(port: Port) -> bool:
    """See to it that reading and writing do not wait; False if O_NONBLOCK has to be set for that.

    A socket object with a timeout waits by itself, whatever the flags say.
    """
    if isinstance(port, Descriptor):
        return port.prepare()
    timeout = port.gettimeout()
    return timeout == 0.0 or (timeout is None and _IS_LINUX)
