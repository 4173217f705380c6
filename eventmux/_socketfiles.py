"""The files of UNIX sockets: bound without taking a live one over, and gone with their socket.

A server that was killed leaves its file behind, and that is replaced; one that somebody has is not.
Connecting tells them apart, but for a socket that is bound and does not listen yet: it refuses as a
dead one does. Linux lists those, and those of other containers are safe from us at least, since the
folder is locked from the first look until the new socket listens.

A file is removed by the process that made it, and only while it is still the one that was made.

This file knows nothing of channels, and of what is sent.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["FileSocket", "binding", "inherited", "unix_address"]

_PATIENCE = 1.0  # seconds to wait for the lock of a folder
_PAUSE = 0.005  # until it is tried again
_UNCONNECTED = b"01"  # in the column "St" of /proc/net/unix
_LISTENS = 0x10000  # in its column "Flags"
_DATAGRAMS = b"0002"  # in its column "Type"

Identity = tuple[int, int]


class _File:
    """The file of a socket that was bound here."""

    def __init__(self, path: str, number: int) -> None:
        self._path = os.path.abspath(path)
        self._identity = _identity(self._path)
        self._socket = b"%d" % os.fstat(number).st_ino
        self._pid = os.getpid()
        self.may_be_shared = False  # with a forked child, which may serve on
        _files.add(self)

    def remove(self) -> None:
        """Remove the file, unless this is another process, or the path leads to another file."""
        _files.discard(self)
        if self._pid == os.getpid() and _identity(self._path) == self._identity is not None:
            with contextlib.suppress(OSError):  # the folder is not ours to write in any more
                os.unlink(self._path)

    def remove_if_unused(self) -> None:
        """Remove the file of a socket that is closed here, unless another process has it."""
        if any(each.inode == self._socket for each in _all_bound()):
            _files.discard(self)
        else:
            self.remove()


_files: set[_File] = set()
_detached: dict[int, tuple[Identity | None, _File]] = {}  # by descriptor


@atexit.register
def _remove_all() -> None:
    for file in list(_files):
        if not file.may_be_shared:
            file.remove()


def _note_fork() -> None:
    for file in _files:
        file.may_be_shared = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_note_fork)


class FileSocket(socket.socket):
    """A bound UNIX socket, whose file goes when it is closed or dropped, or the program ends."""

    _file: _File | None = None

    def claim(self, path: str) -> None:
        """Note that the file is this socket's."""
        self._file = _File(path, self.fileno())

    def close(self) -> None:
        """Close the socket and remove its file; first, as a file in use is not replaced."""
        file, self._file = self._file, None
        if file is not None and not file.may_be_shared:
            file.remove()
        super().close()
        if file is not None and file.may_be_shared:
            file.remove_if_unused()

    def detach(self) -> int:
        """Give the descriptor away, and the file with it: see `inherited()`."""
        file, self._file = self._file, None
        number = super().detach()
        if file is not None:
            _detached[number] = _descriptor(number), file
        return number

    def __del__(self) -> None:
        """Do as `close()`, with the warning that Python gives of a socket that is not closed."""
        file, self._file = self._file, None
        if file is not None and not file.may_be_shared:
            file.remove()
        super().__del__()  # type: ignore[misc]  # it is there, though nothing says so


def inherited(number: int) -> socket.socket:
    """Return a socket object for a descriptor, which is left as it is.

    Python sets its default timeout on it otherwise, and takes it for blocking without asking.

    Raises:
        OSError: there is no such descriptor, or it is of no socket.
    """
    blocking = os.get_blocking(number) if hasattr(os, "get_blocking") else True
    identity, file = _detached.pop(number, (None, None))
    if file is not None and identity == _descriptor(number):
        sock = FileSocket(fileno=number)
        sock._file = file
        sock.setblocking(blocking)
        return sock
    plain = socket.socket(fileno=number)
    plain.setblocking(blocking)
    return plain


def unix_address(path: str) -> str:
    """Return the address of a UNIX socket; a leading `@` is Linux's abstract namespace."""
    return "\0" + path[1:] if path.startswith("@") else path


@contextlib.contextmanager
def binding(path: str, kind: int, mode: int | None = None) -> Iterator[socket.socket]:
    """Give a socket that is bound to a path, and that is to listen before the block ends.

    Args:
        path: as in a URL.
        kind: of the socket, such as SOCK_STREAM.
        mode: the rights of the file, as for `os.chmod()`; None leaves it to the umask.

    Raises:
        OSError: the address is in use, permission is missing...
        ValueError: there is a mode for a name without a file.
    """
    is_name = path.startswith("@")
    if is_name and mode is not None:
        raise ValueError(f"mode is {mode:#o}, but {path!r} is a name without a file")
    with contextlib.ExitStack() as stack:
        may_replace = not is_name and stack.enter_context(_locked(os.path.dirname(path) or "."))
        sock = FileSocket(socket.AF_UNIX, kind)
        try:
            _bind(sock, path, mode, may_replace=may_replace)
            yield sock
        except OSError as error:
            sock.close()
            raise OSError(error.errno, error.strerror or str(error), path) from None
        except BaseException:
            sock.close()
            raise


def _bind(sock: FileSocket, path: str, mode: int | None, *, may_replace: bool) -> None:
    if mode is not None:
        # Linux makes the file with these, less the umask; a datagram may come as soon as it is.
        with contextlib.suppress(OSError):
            os.fchmod(sock.fileno(), mode)
    address = unix_address(path)
    try:
        sock.bind(address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not (may_replace and _is_dead(path, sock.type)):
            raise
        os.unlink(path)
        sock.bind(address)
    if not path.startswith("@"):
        sock.claim(path)
        if mode is not None and stat.S_IMODE(os.lstat(path).st_mode) != mode:
            os.chmod(path, mode)  # nobody can connect yet: it does not listen


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[bool]:
    """Lock a folder among those who use this; False if somebody else has it for too long.

    Where it cannot be locked, on some network file systems for example, it is not.
    """
    try:
        import fcntl

        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (ImportError, OSError):  # it may not be read; if there is none, bind() says so
        yield True
        return
    try:
        yield _try(lambda: fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB))
    finally:
        os.close(number)


def _try(lock: Callable[[], None]) -> bool:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            lock()
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(_PAUSE)
        except OSError:  # there are no locks here
            return True
        else:
            return True


def _is_dead(path: str, kind: int) -> bool:
    """True if the path is a socket file that no process has; the kind is of the one to come.

    A socket of another kind says EPROTOTYPE while it lives.
    """
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            return False
    # One that answers would have: its path only looks the same.
    return not any(
        each.is_unconnected and not each.answers and _is_same(each.path, os.fsencode(path))
        for each in _all_bound()
    )


@dataclass(frozen=True, slots=True)
class _Bound:
    """A socket of any process that is bound to a path; what was accepted has its listener's."""

    path: bytes
    inode: bytes
    is_unconnected: bool
    answers: bool  # it listens, or takes datagrams


def _all_bound() -> Iterator[_Bound]:
    """Give all there are in our network namespace; none where the system has no such list."""
    try:
        with open("/proc/net/unix", "rb") as table:
            lines = table.read().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split(None, 7)
        if len(fields) == 8:
            _, _, _, flags, kind, state, inode, path = fields
            answers = kind == _DATAGRAMS or bool(int(flags, 16) & _LISTENS)
            yield _Bound(path, inode, state == _UNCONNECTED, answers)


def _is_same(listed: bytes, path: bytes) -> bool:
    """True if a path that another process has bound may be this one."""
    if os.path.basename(listed) != os.path.basename(path):
        return False
    if not os.path.isabs(listed):  # as seen from a folder that is not known
        return not listed.startswith(b"@")
    with contextlib.suppress(OSError):
        return os.path.samefile(os.path.dirname(listed), os.path.dirname(path) or b".")
    return False


def _identity(path: str) -> Identity | None:
    """Tell a file from another one at the same path; None if there is none."""
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        return found.st_dev, found.st_ino
    return None


def _descriptor(number: int) -> Identity | None:
    """Tell an open file from another one with the same number."""
    with contextlib.suppress(OSError):
        found = os.fstat(number)
        return found.st_dev, found.st_ino
    return None
