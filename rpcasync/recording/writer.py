"""Writes a recording: lines to a file, which is put aside when it is full.

What cannot be written ends the recording, with one line in the log, and nothing else: whoever has
calls recorded goes on with them.

Lines are put into one `write()` by `flush()`. What that has taken is the kernel's, and is there
even if this process is killed.

This file knows nothing of calls, and of what is in a line but the header.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import replace

from rpcasync._log import log
from rpcasync.recording.lines import Header, is_beginning, parse_line

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["RecordingError", "Writer"]

_HEAD = 64 * 1024  # bytes in which a header ends
_BATCH = 256 * 1024  # characters after which lines are written at once


class RecordingError(OSError):
    """A file cannot be written as a recording, or read as one."""


class Writer:
    """The file of a recording; it is readable for its owner alone.

    A recording that there is already is continued, with a header of its own.

    Args:
        path: of the file.
        header: of it, part 1.
        max_size: bytes after which the file is put aside as `path.1`, what was there as `path.2`
            and so on; None is never. A single line may be longer.
        keep: how many such files there may be; the oldest one goes.
        now: gives the time for a header, as text.

    Raises:
        RecordingError: the file is something else, or recorded to by somebody else.
        OSError: it cannot be opened, or not written to.
        ValueError: `max_size` or `keep` is less than 1.
    """

    def __init__(
        self,
        path: str,
        header: Header,
        *,
        max_size: int | None = None,
        keep: int = 5,
        now: Callable[[], str] = str,
    ) -> None:
        if (max_size is not None and max_size < 1) or keep < 1:
            raise ValueError(f"limits start at 1: max_size={max_size}, keep={keep}")
        self.path = path
        self.failure: str | None = None
        """Why nothing could be written any more."""
        self.is_open = True
        """What is added is written."""
        self._max_size = max_size
        self._keep = keep
        self._now = now
        self._header = header
        self._lines: list[str] = []
        self._waiting = 0  # characters in them
        self._fd = _open(path)
        try:
            self._size = os.fstat(self._fd).st_size
            self._begun = 0  # the size of the file when there was nothing in it but our header
            if not _is_whole(self._fd, self._size):  # whoever wrote it was killed
                self._lines.append("\n")
            self._write_header()
        except BaseException:
            os.close(self._fd)
            raise

    def add(self, line: str) -> None:
        """Have a line written with the next `flush()`; nothing if it is not open any more."""
        if self.is_open:
            if self._is_full(len(line)):
                self._try(self._rotate)
            self._lines.append(line)
            self._waiting += len(line)
            if self._waiting >= _BATCH:
                self.flush()

    def flush(self) -> None:
        """Write the lines that wait; what goes wrong ends the recording."""
        if self._lines:
            self._try(self._write)

    def _try(self, action: Callable[[], None]) -> None:
        if self.is_open:
            try:
                action()
            except OSError as error:
                self._fail(error)

    def close(self) -> None:
        """Write what waits, and close the file."""
        self.flush()
        self._end()

    # The file

    def _is_full(self, more: int) -> bool:
        """True if a line goes to the next file: there is no room, and not only for its length."""
        if self._max_size is None:
            return False
        size = self._size + self._waiting
        return size + more > self._max_size and size > self._begun

    def _write_header(self) -> None:
        is_new = not self._size
        self._lines.append(self._header.line())
        self._write()
        if is_new:
            self._begun = self._size

    def _write(self) -> None:
        data = "".join(self._lines).encode("ascii")
        before = self._size
        try:
            self._write_all(data)
        except OSError:  # the disk is full: no half of a line stays
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, before)
            raise
        self._lines.clear()
        self._waiting = 0

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            count = os.write(self._fd, view)
            view = view[count:]
            self._size += count

    def _rotate(self) -> None:
        """Put the file aside with what waits for it, and go on in a new one."""
        self._write()
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}.{number}", f"{self.path}.{number + 1}")
        os.replace(self.path, f"{self.path}.1")
        fd = _open(self.path)
        os.close(self._fd)
        self._fd, self._size = fd, 0
        self._header = replace(self._header, part=self._header.part + 1, time=self._now())
        self._write_header()

    def _end(self) -> None:
        if self.is_open:
            self.is_open = False
            self._lines.clear()
            os.close(self._fd)

    def _fail(self, error: OSError) -> None:
        reason = error.strerror or str(error)
        self.failure = reason
        self._end()
        log.error("recording to %s has ended, calls go on: %s", self.path, reason)


def _open(path: str) -> int:
    """Open a file to be written at its end, made if there is none, for its owner alone."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
    fd = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o600)  # a FIFO would wait
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise RecordingError(errno.EINVAL, "not a regular file", path)
        _lock(fd, path)
        _check_recording(fd, path)
        if hasattr(os, "fchmod"):
            os.fchmod(fd, 0o600)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _lock(fd: int, path: str) -> None:
    if fcntl is not None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecordingError(errno.EBUSY, "another program records to it", path) from None


def _check_recording(fd: int, path: str) -> None:
    """Raise RecordingError if there is something in the file that is no recording."""
    head = os.pread(fd, _HEAD, 0) if hasattr(os, "pread") else b""
    if not head:
        return
    line, has_end, _ = head.partition(b"\n")
    if not has_end and len(head) < _HEAD and is_beginning(line):  # whoever wrote it was killed
        os.ftruncate(fd, 0)
        return
    try:
        if not is_beginning(line):
            raise ValueError("it does not begin with a header")
        parse_line(line.decode("ascii"))
    except ValueError as error:
        reason = f"not a recording, so nothing is added to it: {error}"
        raise RecordingError(errno.EEXIST, reason, path) from None


def _is_whole(fd: int, size: int) -> bool:
    """True if a file does not end in the middle of a line."""
    return not size or not hasattr(os, "pread") or os.pread(fd, 1, size - 1) == b"\n"
