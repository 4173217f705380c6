"""What the command prints: results to stdout, messages and a status line to stderr.

One rule: what comes from a server and would be obeyed by a terminal is printed with escapes, and so
are the ends of lines, but in the values of an answer. Nothing is mixed: what is printed erases the
status line first. This is the only file of the package that prints.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterable

from rpcasync.cli.screen import colours_of, columns_of, cut, is_terminal, width
from rpcasync.wire.messages import as_text

__all__ = [
    "CommandFailed",
    "StatusLine",
    "harmless",
    "on_one_line",
    "print_lines",
    "say",
    "status",
    "to_json",
    "write_bytes",
]


_MOST_BITS = 64


class CommandFailed(Exception):
    """The command failed: the message for the user, and the exit status."""

    def __init__(self, message: object, status: int = 1) -> None:
        super().__init__(message)
        self.status = status
        self._is_told = False

    def tell(self) -> None:
        """Say the message, once."""
        if not self._is_told:
            self._is_told = True
            say(self, is_error=True)


# Printing


class StatusLine:
    """What the last line of a terminal shows for as long as it is so, on stderr.

    Where stderr is no terminal, there is none: `show()` does nothing.
    """

    def __init__(self) -> None:
        self.text = ""
        """What is shown; empty if nothing is."""
        self._shown = ""  # what of it is on the screen

    def is_possible(self) -> bool:
        """Return whether somebody would see it."""
        return is_terminal(sys.stderr)

    def show(self, text: str) -> None:
        """Show a text of one line, in the place of what was there."""
        columns = columns_of(sys.stderr)
        if columns is not None:
            shown = cut(harmless(text), columns - 1)  # in the last column, some begin a line
            if width(shown) < width(self._shown):
                self.clear()
            self.text, self._shown = text, shown  # first: Ctrl-C may come in between
            self._write(f"\r{shown}")

    def clear(self) -> None:
        """Erase it."""
        if self._shown:
            self._write(f"\r{' ' * width(self._shown)}\r")  # an escape sequence, some do not know
        self.text = self._shown = ""

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, UnicodeEncodeError):
            print(_encodable(text, sys.stderr.encoding), end="", file=sys.stderr, flush=True)


status = StatusLine()
"""The one line that there is."""


def say(message: object, *, prefix: str = "rpcasync: ", is_error: bool = False) -> None:
    """Print a message to stderr, on one line, if somebody reads it."""
    if sys.stderr is not None:  # print() would take stdout
        status.clear()
        if is_error:
            prefix = colours_of(sys.stderr).error(prefix)
        with contextlib.suppress(OSError):
            text = harmless(str(message).rstrip("\r\n"), "\t")
            print(prefix + text, file=sys.stderr, flush=True)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines to stdout, whatever its encoding.

    Raises:
        CommandFailed: nobody reads it, the disk is full...
    """

    def write() -> None:
        encoding = sys.stdout.encoding
        for line in lines:
            print(_encodable(line, encoding))

    _to_stdout(write)


def write_bytes(data: bytes) -> None:
    """Write bytes to stdout as they are.

    Raises:
        CommandFailed: as for `print_lines()`.
    """
    _to_stdout(lambda: sys.stdout.buffer.write(data))


def _to_stdout(write: Callable[[], object]) -> None:
    if sys.stdout is None:
        raise CommandFailed("cannot print the answer: stdout is closed")
    status.clear()
    try:
        write()
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        raise CommandFailed(f"cannot print the answer: {error}") from None


# Text that can be printed


def harmless(text: str, kept: str = "") -> str:
    """Return text with escapes for what cannot be printed, other than what is kept."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in kept else char.encode("unicode_escape").decode()
        for char in text
    )


def _encodable(text: str, encoding: str) -> str:
    return text.encode(encoding, "backslashreplace").decode(encoding)


def on_one_line(value: object) -> str:
    """Return text that can be printed as it is, and anything else as JSON."""
    return value if isinstance(value, str) and value.isprintable() else to_json(value)


def to_json(value: object, *, of_bytes: Callable[[bytes], str] = repr) -> str:
    """Return a value as JSON on one line; as a text what JSON does not have.

    Args:
        value: any.
        of_bytes: gives the text for bytes.
    """
    if type(value) is int and value.bit_length() <= _MOST_BITS:
        return str(value)  # as below, and ten times as fast: answers may have a million
    try:
        plain = _plain(value, of_bytes)
        text = json.dumps(plain, ensure_ascii=False)
        return text if text.isprintable() else json.dumps(plain)
    except (RecursionError, ValueError):  # nested in itself, or too deeply
        return json.dumps(f"<{type(value).__name__} that cannot be shown>")


def _plain(value: object, of_bytes: Callable[[bytes], str]) -> object:
    """Return a value in the types that JSON has."""
    if isinstance(value, dict):
        return {str(as_text(key)): _plain(part, of_bytes) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part, of_bytes) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bytes):
        return of_bytes(value)
    return value if value is None or isinstance(value, (str, int, float)) else repr(value)
