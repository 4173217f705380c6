"""What a stream can show: whether it is a terminal, how wide, in which colours, how wide text is.

Colours are for a terminal that has them, and nobody has said no to: `NO_COLOR` is not set, or
empty, and `TERM` is not "dumb". They never tell what the text does not.

This file prints nothing, and does not look for what a terminal would obey: text that comes here is
harmless already.
"""

from __future__ import annotations

import os
from typing import TextIO

__all__ = ["PLAIN", "Colours", "colours_of", "columns_of", "cut", "is_terminal", "width"]

_USUAL = 80  # columns of a terminal that does not tell
_FEWEST = 20
_END = "..."


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether somebody looks at a stream; None, and a closed one, is none."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def columns_of(stream: TextIO | None) -> int | None:
    """Return how many columns a stream has, None if it is no terminal."""
    if stream is None or not is_terminal(stream):
        return None
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return max(columns or _USUAL, _FEWEST)


class Colours:
    """Puts text in colours, or leaves it as it is if they are off."""

    __slots__ = ("is_on",)

    def __init__(self, is_on: bool) -> None:
        self.is_on = is_on

    def name(self, text: str) -> str:
        """Return the name of something."""
        return self._in("36", text)

    def number(self, text: str) -> str:
        """Return what is no text."""
        return self._in("33", text)

    def heading(self, text: str) -> str:
        """Return the heading of a column, or a procedure."""
        return self._in("1", text)

    def error(self, text: str) -> str:
        """Return the start of an error."""
        return self._in("31", text)

    def _in(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.is_on and text else text


PLAIN = Colours(False)
"""No colours."""


def colours_of(stream: TextIO | None) -> Colours:
    """Return the colours of a stream."""
    is_wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    return Colours(is_wanted and is_terminal(stream))


def width(text: str) -> int:
    """Return how many columns a text takes: a wide character has two, an accent on one none."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def _width(char: str) -> int:
    from unicodedata import category, east_asian_width  # only here: most text is ASCII

    if category(char) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """Return a text of at most so many columns; `...` stands for what is left out."""
    # Marks that take no room could be as many as somebody likes.
    if len(text) <= 4 * columns and width(text) <= columns:
        return text
    end = _END[:columns]
    room, kept = columns - len(end), 0
    for char in text[: 4 * room]:
        room -= _width(char)
        if room < 0:
            break
        kept += 1
    return text[:kept] + end
