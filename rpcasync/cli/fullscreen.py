"""A terminal whose whole screen is ours for a while: it is given back as it was, whatever happens.

What was on the screen stays aside meanwhile, keys come at once and are not shown, and lines that
are too long are cut by the terminal. `leave()` undoes all of it, and can be called at any time and
again. Sequences are those of ECMA-48 and xterm, which all terminals of today know; what a terminal
says of itself, other than "dumb", is not asked.

This file knows nothing of what is shown, which has to be harmless already.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rpcasync.cli.output import CommandFailed, write_bytes
from rpcasync.cli.screen import is_terminal

try:
    import termios
except ImportError:  # Windows has none
    termios = None  # type: ignore[assignment]

__all__ = ["FullScreen", "is_possible", "notes"]

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"  # another screen, no cursor, no line goes on below
_LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
_USUAL = os.terminal_size((80, 24))
_LOGGERS = ("rpcasync", "eventmux")


def is_possible() -> bool:
    """Return whether stdout is a terminal that can do this."""
    is_able = termios is not None and os.environ.get("TERM", "dumb") not in ("", "dumb")
    return is_able and is_terminal(sys.stdout)


class FullScreen:
    """The screen of stdout, and the keys of stdin if that is a terminal, too."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None  # how the keyboard was
        self.is_ours = False
        """It was taken, and was not given back."""

    def _enter(self) -> None:
        """Take it, unless this process is in the background: then it is somebody else's.

        Raises:
            CommandFailed: it cannot be written to.
        """
        if not _is_foreground():
            return
        if is_terminal(sys.stdin):
            with contextlib.suppress(termios.error):  # it has gone: the signal for that is to come
                fd = sys.stdin.fileno()
                mode = termios.tcgetattr(fd)
                self._before = [*mode]
                mode[3] &= ~(termios.ICANON | termios.ECHO)  # Ctrl-C and Ctrl-Z stay signals
                termios.tcsetattr(fd, termios.TCSANOW, mode)
        self.is_ours = True
        _write(_ENTER)

    def leave(self) -> None:
        """Give it back; if it has gone, that is nothing to be told of."""
        if self._before is not None:
            with contextlib.suppress(termios.error, ValueError):
                termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, self._before)
            self._before = None
        if self.is_ours:
            with contextlib.suppress(CommandFailed):
                _write(_LEAVE)
            self.is_ours = False

    def size(self) -> os.terminal_size:
        """Return how many columns and lines there are."""
        try:
            found = os.get_terminal_size(sys.stdout.fileno())
        except (OSError, ValueError):
            return _USUAL
        return os.terminal_size(mine or usual for mine, usual in zip(found, _USUAL, strict=True))

    def draw(self, lines: list[str]) -> None:
        """Show lines from the top; what else was there is erased. The screen is taken for that.

        In the background, nothing is shown. A shell that brings us back from there need not tell.

        Raises:
            CommandFailed: it cannot be written to.
        """
        if not self.is_ours:
            self._enter()
        if self.is_ours:
            _write("\x1b[H" + "\x1b[K\r\n".join(lines) + "\x1b[J")


@contextmanager
def notes(take: Callable[[str], object]) -> Iterator[None]:
    """Have lines of the log taken, until the block ends, which would go to the terminal."""
    handler = _Notes(take)
    loggers = [logging.getLogger(name) for name in _LOGGERS] if is_terminal(sys.stderr) else []
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


class _Notes(logging.Handler):
    def __init__(self, take: Callable[[str], object]) -> None:
        super().__init__()
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        self._take(record.getMessage())


def _write(text: str) -> None:
    write_bytes(text.encode(sys.stdout.encoding, "backslashreplace"))


def _is_foreground() -> bool:
    try:
        return os.tcgetpgrp(sys.stdout.fileno()) == os.getpgrp()
    except OSError:  # it is not the terminal of this session
        return True
