"""`--log-file`: the log of a command in a file that others may put aside while it is written.

Each record is a line with its time, and one write behind what is there: several processes may have
the same file. What cannot be written is lost, and never harms the server; stderr tells that once,
until lines arrive again.
"""

from __future__ import annotations

import contextlib
import logging
import os
from datetime import datetime
from logging.handlers import WatchedFileHandler

from rpcasync.cli.output import CommandFailed, say

__all__ = ["log_to_file"]

_LOGGERS = ("rpcasync", "eventmux")


def log_to_file(path: str, level: str, first: str, *, with_process: bool = False) -> None:
    """Have what is logged at a level and above written to a file, behind a first line.

    Args:
        path: of the file.
        level: the lowest one.
        first: the line.
        with_process: each line has the number of the process: there are others.

    Raises:
        CommandFailed: the file cannot be opened, or not be written to.
    """
    try:
        handler = _LogFile(path, with_process)
        handler.begin(first)
    except OSError as error:
        raise CommandFailed(f"cannot write the log to {path}: {error.strerror}") from None
    handler.setLevel(level)
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        if handler.level < logger.getEffectiveLevel():
            logger.setLevel(level)


class _Line(logging.Formatter):
    """Local time to the millisecond, and how far it is from UTC; then as on stderr."""

    def __init__(self, with_process: bool) -> None:
        name = "%(name)s[%(process)d]" if with_process else "%(name)s"
        super().__init__(f"%(asctime)s %(levelname)s {name}: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002  # logging's names
        """Return the time of a record."""
        return datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "milliseconds")


class _LogFile(WatchedFileHandler):
    """Opens the file anew when it is another one; writes past the buffers of Python.

    A buffer would keep what a full disk did not take, and fail again with it.
    """

    def __init__(self, path: str, with_process: bool) -> None:
        super().__init__(path, encoding="utf-8")
        self.setFormatter(_Line(with_process))
        self._is_torn = False  # the last line has no end
        self._is_failing = False

    def begin(self, text: str) -> None:
        """Write a line of our own.

        Raises:
            OSError: it cannot be written.
        """
        record = {"name": "rpcasync", "levelno": logging.INFO, "levelname": "INFO", "msg": text}
        self._write(self.format(logging.makeLogRecord(record)))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; raise nothing."""
        try:
            line = self.format(record)
            self.reopenIfNeeded()
            self._write(line)
        except OSError as error:
            self._fail(error)
        except Exception:  # noqa: BLE001  # as all handlers do: logging says what becomes of it
            with contextlib.suppress(Exception):
                self.handleError(record)
        else:
            self._is_failing = False

    def _write(self, line: str) -> None:
        if self.stream is None:  # it could not be opened the last time
            self.stream = self._open()
            self._statstream()
        start = "\n" if self._is_torn else ""
        left = memoryview(f"{start}{line}\n".encode("utf-8", "backslashreplace"))
        while left:
            left = left[os.write(self.stream.fileno(), left) :]
            self._is_torn = bool(left)

    def _fail(self, error: OSError) -> None:
        if not self._is_failing and logging.raiseExceptions:
            say(f"cannot write the log to {self.baseFilename}: {error.strerror}; lines are lost")
        self._is_failing = True
