"""What a terminal shows of what a program writes: the few sequences that `rpcasync top` needs."""

from __future__ import annotations

import re
import unicodedata
from codecs import getincrementaldecoder

_SEQUENCE = re.compile(r"\x1b\[(\?\d+[hl]|[0-9;]*[A-Za-z])")
_START = re.compile(r"\x1b(\[[?0-9;]*)?")


class Screen:
    """A screen of a terminal. Whatever else a terminal would obey is an error.

    `modes` are the private modes that are set: 7 and 25 at first, lines go on below and there is a
    cursor; 1049 is another screen.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self.modes = {7, 25}
        self.colours: set[str] = set()
        self._text = ""  # the start of a sequence
        self._decoder = getincrementaldecoder("utf-8")()
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        self._columns, self._rows = columns, rows
        self._cells = [[" "] * columns for _ in range(rows)]
        self._x = self._y = 0

    def grow(self, columns: int, rows: int) -> None:
        """Have at least so much room, with what is there."""
        before, at = self._cells, (self._x, self._y)
        self.resize(columns, rows)
        self._x, self._y = at
        for new, old in zip(self._cells, before, strict=False):
            new[: len(old)] = old

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self._cells]

    def feed(self, data: bytes) -> None:
        """Take what was written."""
        self._text += self._decoder.decode(data)
        while self._text and not _START.fullmatch(self._text):
            if self._text[0] == "\x1b":
                match = _SEQUENCE.match(self._text)
                assert match, ascii(self._text[:20])
                self._obey(match[1])
                self._text = self._text[match.end() :]
            else:
                self._take(self._text[0])
                self._text = self._text[1:]

    def _take(self, char: str) -> None:
        if char == "\r":
            self._x = 0
        elif char == "\n":
            self._y += 1
            assert self._y < self._rows, "it would scroll"
        else:
            assert char.isprintable(), ascii(char)
            self._put(char)

    def _put(self, char: str) -> None:
        wide = 2 if unicodedata.east_asian_width(char) in "WF" else 1
        assert self._x + wide < self._columns, "it touches the last column"
        self._cells[self._y][self._x : self._x + wide] = [char, ""][:wide]
        self._x += wide

    def _obey(self, sequence: str) -> None:
        match sequence:
            case "H":
                self._x = self._y = 0
            case "K":
                self._erase(self._y, self._x)
            case "J":
                self._erase(self._y, self._x)
                for row in range(self._y + 1, self._rows):
                    self._erase(row, 0)
            case "2J":
                self.resize(self._columns, self._rows)
            case _ if sequence.endswith("m"):
                self.colours.add(sequence)
            case _:
                assert sequence[0] == "?", sequence
                number, is_set = int(sequence[1:-1]), sequence[-1] == "h"
                assert number in (7, 25, 1049), sequence
                self.modes = self.modes | {number} if is_set else self.modes - {number}

    def _erase(self, row: int, start: int) -> None:
        self._cells[row][start:] = [" "] * (self._columns - start)
