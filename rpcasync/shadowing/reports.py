"""The file in which a report is kept, for whoever wants to see it while the server runs.

It is a file, and no procedure of the server: it has values in it from the answers of clients, which
are for its owner alone. It is replaced as a whole, so that a reader sees all of one or the other.

This file knows no more of a report than whether there is something in it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from typing import cast

__all__ = ["ReportFile", "read_report"]

_FORM = "rpcasync shadow 1"  # what the file says that it is
_MOST_BYTES = 64 * 1024 * 1024


class ReportFile:
    """A report in a file, which only its owner may read.

    Args:
        path: of the file.
    """

    interval = 5.0
    """Seconds between two versions of it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)  # the program may go elsewhere
        self._pid = os.getpid()
        self._since = _now()

    def begin(self, report: dict[str, object]) -> None:
        """Write the first version; the report of the program before this one becomes `FILE.1`.

        Not one that has seen no calls: a program that is started again and again, as it fails,
        would otherwise cost what was found before.

        Raises:
            OSError: it cannot be written, or is something else, which is left alone.
        """
        if os.path.lexists(self.path):
            before = _report_at(self.path)
            if before is None:
                problem = "is no shadow report, and left alone: choose another file"
                raise FileExistsError(errno.EEXIST, problem, self.path)
            if before.get("procedures"):
                os.replace(self.path, f"{self.path}.1")
        try:
            self.write(report)
        except OSError as error:
            error.filename = self.path  # not the one beside it
            raise

    def write(self, report: dict[str, object]) -> None:
        """Write another version; a forked child has no business with it.

        Raises:
            OSError: it cannot be written.
        """
        if os.getpid() != self._pid:
            return
        times = {"form": _FORM, "since": self._since, "until": _now()}
        beside = f"{self.path}.{self._pid}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL  # never what somebody else has put there
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        try:
            with open(os.open(beside, flags, 0o600), "w", encoding="utf-8") as file:
                json.dump(times | report, file, indent=1)
                file.write("\n")
            os.replace(beside, self.path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise


def read_report(path: str) -> dict[str, object]:
    """Return what a file says.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file.
    """
    with open(path, encoding="utf-8") as file:
        text = file.read(_MOST_BYTES)
    try:
        report = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a shadow report: {error}") from None
    if not isinstance(report, dict) or report.get("form") != _FORM:
        raise ValueError(f"not a shadow report: it does not say {_FORM!r}")
    return cast("dict[str, object]", report)


def _report_at(path: str) -> dict[str, object] | None:
    """Return the report that is there, {} for an empty file, None for what is something else."""
    if not os.path.isfile(path):  # a folder, say, or /dev/null
        return None
    try:
        return read_report(path) if os.path.getsize(path) else {}
    except ValueError:
        return None


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
