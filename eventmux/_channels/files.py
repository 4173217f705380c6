"""Parts of regular files in an output queue, and how they are sent.

A part stands in the queue in place of its bytes, and is what is left of them. The kernel copies
it to the socket by `sendfile()` where that cannot wait; else it is read a piece at a time. Either
way a file of any size takes no memory.

    plain TCP and UNIX sockets, non-blocking    os.sendfile()
    what is encrypted, pipes, other systems     os.pread(), and the stream's own way to send

A descriptor of its own keeps the file open, and its position is never used, so the program may go
on with the file, or close it.

This file knows nothing of channels.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from itertools import starmap

from eventmux._channels.descriptors import raises_sigpipe
from eventmux._channels.handles import fileno_of
from eventmux._channels.ports import SEND_FLAGS, BorrowedSocket, Port
from eventmux.errors import FileError
from eventmux.events import Handle

__all__ = ["FilePart", "FileSender"]

_SENDFILE_SIZE = 1024 * 1024  # bytes for the kernel to send at once: others have their turn, too
_READ_SIZE = 128 * 1024  # likewise, where they pass through our memory


class FilePart:
    """So many bytes of a regular file, from an offset on.

    Args:
        file: an object with `fileno()`, or a descriptor, open for reading.
        offset: where it begins.
        count: how many bytes; None is all there are.

    Raises:
        TypeError: `file` is no file, or a number is no int.
        ValueError: it is no regular file, a number is negative, or the file is shorter.
        OSError: it is closed, or not open for reading; the process is out of descriptors.
    """

    __slots__ = ("_fd", "at", "is_read", "left")

    def __init__(self, file: Handle, offset: int, count: int | None) -> None:
        _check_size("offset", offset)
        if count is not None:
            _check_size("count", count)
        # By map(), so that it is known as soon as it is open, whatever a signal handler raises
        [self._fd] = map(os.dup, (fileno_of(file),))
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{file!r} is no regular file")
        rest = max(0, found.st_size - offset)
        if count is not None and count > rest:
            raise ValueError(f"{file!r} has {rest} bytes from {offset} on, not {count}")
        self.at = offset
        self.left = rest if count is None else count
        self.is_read = False  # the kernel cannot copy it
        _pread(self._fd, 0, offset)  # which the system refuses if it is only open for writing

    def __len__(self) -> int:
        """Return how many bytes are still to be sent."""
        return self.left

    def __repr__(self) -> str:
        """Show where it is in the file, for a log."""
        return f"<{self.left} bytes of a file, from {self.at} on>"

    def __del__(self) -> None:
        """Close the descriptor: it was sent, or dropped."""
        fd = getattr(self, "_fd", -1)  # it may not have come to that
        if fd >= 0:
            os.close(fd)

    def place(self) -> tuple[int, int, int]:
        """Return the descriptor, the offset and the size of the next piece, for `os.sendfile()`."""
        return self._fd, self.at, min(self.left, _SENDFILE_SIZE)

    def read(self) -> bytes:
        """Return the next piece of it.

        Raises:
            FileError: there is none, or it cannot be read.
        """
        try:
            data = _pread(self._fd, min(self.left, _READ_SIZE), self.at)
        except OSError as error:
            raise FileError(f"cannot read a file that is sent: {error.strerror}") from error
        if not data:
            raise FileError(f"a file that is sent has become shorter: {self.left} bytes lack")
        return data


class FileSender:
    """Sends what is in the output queue of a stream that has parts of files.

    Args:
        port: of the stream.
        send: how it sends bytes.
    """

    __slots__ = ("_port", "send")

    def __init__(self, port: Port, send: Callable[..., int]) -> None:
        self._port = port
        self.send = send

    def __call__(self, piece: bytes | memoryview | FilePart, flags: int = SEND_FLAGS, /) -> int:
        """Send bytes, or some of a part; return how many.

        The kernel is called by `starmap()`, and nothing between that and the return, for the reason
        that `Stream._send_once()` gives.

        Raises:
            FileError: the file has no more, or cannot be read.
            OSError: as for `send()`.
        """
        port = self._port
        if not isinstance(piece, FilePart):
            [sent] = starmap(self.send, ((piece, flags),))
            return sent
        if isinstance(port, socket.socket) and not piece.is_read and self._may_copy(port):
            try:
                [sent] = starmap(os.sendfile, ((port.fileno(), *piece.place()),))
            except (BlockingIOError, ConnectionError):
                raise
            except OSError:  # the file's fault or the connection's: who reads and sends sees which
                sent = 0
            if sent:
                piece.at, piece.left = piece.at + sent, piece.left - sent
                return sent
            piece.is_read = True  # or there is no more of the file, which reading will tell
        data = piece.read()
        [sent] = starmap(self.send, ((data, flags),))
        piece.at, piece.left = piece.at + sent, piece.left - sent
        return sent

    def _may_copy(self, sock: socket.socket) -> bool:
        """True if `sendfile()`, which takes no flags, does neither wait nor raise SIGPIPE."""
        return (
            self.send == sock.send  # else it is encrypted
            and not isinstance(sock, BorrowedSocket)  # that one is asked for before each use
            and hasattr(os, "sendfile")
            and not os.get_blocking(sock.fileno())
            and not raises_sigpipe()
        )


def _pread(fd: int, size: int, offset: int) -> bytes:
    """Read from an offset on; the position, which the program's file shares, stays."""
    pread = getattr(os, "pread", None)
    if pread is not None:
        return bytes(pread(fd, size, offset))
    before = os.lseek(fd, 0, os.SEEK_CUR)  # Windows
    try:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)
    finally:
        os.lseek(fd, before, os.SEEK_SET)


def _check_size(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}, must be an int")
    if value < 0:
        raise ValueError(f"{name} is {value}, must be 0 or more")
