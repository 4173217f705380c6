"""A pipe, a terminal, a file or a device, read and written without waiting.

O_NONBLOCK belongs to the open file, and the shell, `print()` and other processes may have that,
too. So what may be shared is opened a second time, or O_NONBLOCK is set for the moment of each
call. What the program has made is lent: `lending.py`.

This file knows nothing of sockets, selectors, channels and events.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from eventmux._channels.handles import check, close, which_file
from eventmux.events import Handle

__all__ = ["Descriptor", "raises_sigpipe"]

_IS_LINUX = sys.platform == "linux"
_STDIO = (0, 1, 2)
_SIGPIPE = getattr(signal, "SIGPIPE", None)  # Windows has none
_MASTER = (5, 2)  # the device number of /dev/ptmx, on Linux

T = TypeVar("T")
A = TypeVar("A")


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
        if self.is_regular or stat.S_ISDIR(self._mode):
            return True
        is_shared = self._is_tty or _is_inherited(self._fd)
        if is_shared and (self._is_tty or self.is_pipe):
            self._io = _open_again(self._fd)
        self._is_blocking_for_others = is_shared and self._io == self._fd
        return is_shared

    @property
    def is_regular(self) -> bool:
        """True for a file, or what looks like one."""
        return stat.S_ISREG(self._mode)

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
        check(self._owner, self._fd, self._file)
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
        check(self._owner, self._fd, self._file)
        data = self._without_waiting(os.read, size)
        return data, [], 0, None

    def send(self, data: bytes | memoryview, flags: int = 0, /) -> int:
        """Write bytes; return how many were taken."""
        del flags
        check(self._owner, self._fd, self._file)
        return self._without_waiting(_write if self.is_pipe else os.write, data)

    def _is_at_its_end(self) -> bool:
        """True if EIO tells that the other side of a pty has gone, and not of another job."""
        return self._is_master or (self._is_tty and not _is_background(self._fd))

    def _without_waiting(self, call: Callable[[int, A], T], argument: A) -> T:
        """Read or write.

        By `map()`: a signal handler may raise as soon as a call returns, and then what was read
        would be lost, or what was written be written again. Here C code calls.
        """
        fd = self._io
        if not self._is_blocking_for_others or not os.get_blocking(fd):
            [result] = map(call, (fd,), (argument,))
            return result
        os.set_blocking(fd, False)
        try:
            [result] = map(call, (fd,), (argument,))
        finally:
            os.set_blocking(fd, True)
        return result

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
        close(self._owner)


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


def raises_sigpipe() -> bool:
    """True if to write where nobody reads ends the process: the program wants it so."""
    return _SIGPIPE is not None and signal.getsignal(_SIGPIPE) is signal.SIG_DFL


def _write(fd: int, data: bytes | memoryview) -> int:
    """Write to a pipe; that nobody reads it is told by EPIPE, and never by SIGPIPE.

    Python ignores that signal, but the program may have set it back, and for pipes there is no
    flag as for sockets.
    """
    if _SIGPIPE is None or not raises_sigpipe():
        [written] = map(os.write, (fd,), (data,))  # see _without_waiting()
        return written
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
