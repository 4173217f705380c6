"""What the program gives as a handle: its descriptor, and whether that is still the same file.

A number is used again as soon as it is free, so a handle that is no socket object is asked before
each use.
"""

from __future__ import annotations

import errno
import logging
import os

from eventmux.events import Handle

__all__ = ["check", "close", "fileno_of", "is_closed", "is_still", "which_file"]

_log = logging.getLogger("eventmux")


def fileno_of(fh: Handle) -> int:
    """Return the descriptor of a handle; -1 if it is closed.

    Raises:
        TypeError: it is no handle.
    """
    if isinstance(fh, int) and not isinstance(fh, bool):
        return fh
    advice = ""
    if not hasattr(type(fh), "fileno"):
        # First: the object may answer to any name, as a client does that calls procedures.
        inner = getattr(fh, "fh", None)
        advice = "; its `fh` has one: give that" if hasattr(inner, "fileno") else ""
    fileno = None if advice else getattr(fh, "fileno", None)
    if not callable(fileno):
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
        found = fileno_of(fh)
    except Exception:  # noqa: BLE001  # a closed object of the program's may raise anything
        return False
    return found == fd and which_file(fd) == file


def is_closed(fh: Handle) -> bool:
    """True if a handle of the program's is closed; False for what is none."""
    try:
        return which_file(fileno_of(fh)) is None
    except (TypeError, OverflowError):
        return False


def check(fh: Handle, fd: int, file: tuple[int, int] | None) -> None:
    """Raise if the program has closed a handle: the number may be another file's by now."""
    if not is_still(fh, fd, file):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def close(fh: Handle) -> None:
    """Close a handle of the program's; what its own close() says besides is logged."""
    close_it = getattr(fh, "close", None)
    try:
        if isinstance(fh, int):
            os.close(fh)
        elif callable(close_it):
            close_it()
        else:
            os.close(fh.fileno())
    except (OSError, ValueError) as error:  # a file may fail to flush what it has buffered
        _log.debug("closing %r: %s", fh, error)
