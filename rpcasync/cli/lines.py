"""What is typed to make a call: `procedure key=value value ...`, and what can follow it.

A value is JSON where it can be read as such, and text otherwise. A line of the shell is cut into
words as `sh` does it, with one thing in front: where complete JSON stands, up to a blank or the
end, it is taken as it is, blanks and quotes included.

    add n1=2 n2=3           "n1", 2, "n2", 3
    sum 1 2.5 -3            1, 2.5, -3
    echo a={"b": [1, 2]}    "a", {"b": [1, 2]}
    echo a="2" b='two'      "a", "2", "b", "two"
    count to=9 progress=@   "count", "to", 9, "progress", Callback("progress")

This file knows of no server and of no terminal.
"""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rpcasync.wire.codecs import refuse_constant, refuse_infinity

__all__ = [
    "ABOUT",
    "BUILT_IN",
    "Callback",
    "Line",
    "parse_line",
    "parse_word",
    "parse_words",
]

BUILT_IN = ("exit", "help", "methods", "quit")
"""The words that the shell obeys itself, where one stands alone on its line."""
ABOUT = ("help", "methods")
"""Those that a procedure may follow."""

_KEY = re.compile(r"""([^\s="'\\\[{]+)=""")
_LONGEST_MEND = 60  # characters of a list that is written out in a message


@dataclass(frozen=True, slots=True)
class Callback:
    """Stands for a function that the server may call: `@`, and the name that it is given for."""

    name: str = "@"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the shell: the procedure, what it is given, and whether its name was quoted."""

    procedure: str
    values: list[object]
    is_quoted: bool = False

    @property
    def is_built_in(self) -> bool:
        """True if it is for the shell: a quoted word, or one with values, is for the server.

        But `help` and `methods` may be followed by a name.
        """
        if self.is_quoted or self.procedure not in BUILT_IN:
            return False
        return not self.values or (self.procedure in ABOUT and self.topic is not None)

    @property
    def topic(self) -> str | None:
        """What is asked about; None if there is nothing, or more than a name."""
        match self.values:
            case [str() as name]:
                return name
        return None


class _NoName(ValueError):
    """A word begins with `=`."""


def parse_word(word: str) -> list[object]:
    """Return the value of a word, or the name and the value if it is `key=value`.

    A word that is JSON as a whole is a value, whatever it contains. `@` is a `Callback`.

    Raises:
        ValueError: there is no name in front of the `=`.
    """
    if word == "@":
        return [Callback()]
    value = _value(word)
    key, separator, rest = word.partition("=")
    if value is not word or not separator:
        return [value]
    if not key:
        raise _NoName(f"{word!r} has no name in front of the =")
    return [key, Callback(key) if rest == "@" else _value(rest)]


def parse_words(words: Sequence[str]) -> list[list[object]]:
    """Return what each word of a call is, as `parse_word()` does.

    Raises:
        ValueError: a name is given twice, or a blank stands beside an `=`.
    """
    check = _Check()
    parsed: list[list[object]] = []
    for number, word in enumerate(words):
        try:
            parsed.append(parse_word(word))
        except _NoName as error:
            behind = words[number + 1] if number + 1 < len(words) else ""
            raise ValueError(f"{error}{check.mend(word, behind)}") from None
        check.add(word, parsed[-1])
    return parsed


class _Check:
    """Finds names that are given twice and blanks beside an `=`, word by word."""

    def __init__(self) -> None:
        self._before = ""  # the word before, as it was typed
        self._given: dict[str, object] = {}

    def add(self, word: str, parsed: list[object]) -> None:
        """Take the next word.

        Raises:
            ValueError: it does not go with those before it.
        """
        before, self._before = self._before, word
        if len(parsed) == 1:
            if _KEY.fullmatch(before):
                mend = f"write {before}{word} without blanks"
                raise ValueError(f"nothing stands behind {before} and {word!r} has no name; {mend}")
            return
        name, value = str(parsed[0]), parsed[1]
        if name in self._given:
            raise ValueError(f"{name} is given twice{_as_list(name, self._given[name], value)}")
        self._given[name] = value

    def mend(self, word: str, behind: str) -> str:
        """Return what to write for a word that begins with `=`, with a semicolon."""
        name, value = self._before, word.removeprefix("=") or behind
        if not value or not _KEY.fullmatch(f"{name}="):
            return ""
        return f"; write {name}={value} without blanks"


def _as_list(name: str, *values: object) -> str:
    if any(isinstance(value, Callback) for value in values):
        return ""
    text = json.dumps(values)
    if len(text) > _LONGEST_MEND or "'" in text:
        return ""
    return f"; for a list, write {name}='{text}'"


def _value(text: str) -> object:
    """Return what the text is as JSON; the text itself if it is none."""
    try:
        value: object = json.loads(
            text, parse_constant=refuse_constant, parse_float=refuse_infinity
        )
    except (ValueError, RecursionError):
        return text
    return value


def parse_line(line: str) -> Line | None:
    """Return what a line asks for; None if it is blank or a comment, that begins with `#`.

    Raises:
        ValueError: a quote is not closed, or what looks like JSON with blanks is none.
    """
    reader = _Reader(line)
    if reader.at_end or reader.starts_with("#"):
        return None
    start = reader.position
    procedure = reader.word()
    is_quoted = line[start : reader.position].strip() != procedure
    values: list[object] = []
    check = _Check()
    while not reader.at_end:
        start = reader.position
        try:
            found = reader.argument()
        except _NoName as error:
            word, _, behind = line[start:].strip().partition(" ")
            raise ValueError(
                f"{error}{check.mend(word, behind.strip().partition(' ')[0])}"
            ) from None
        check.add(line[start : reader.position].strip(), found)
        values += found
    return Line(procedure, values, is_quoted)


_BLANKS = re.compile(r"\s*")
# raw_decode() would count the lines in front of each word that is no JSON.
_scan: Callable[[str, int], tuple[object, int]]
_decoder: Any = json.JSONDecoder(parse_constant=refuse_constant, parse_float=refuse_infinity)
_scan = _decoder.scan_once


class _Reader:
    """Goes through a line; `position` is always in front of a word, or at the end."""

    def __init__(self, line: str) -> None:
        self._line = line
        self._stream = io.StringIO(line, newline="")
        self.position = 0
        self._skip_blanks()

    def _skip_blanks(self) -> None:
        match = _BLANKS.match(self._line, self.position)
        self.position = match.end() if match else self.position

    @property
    def at_end(self) -> bool:
        return self.position >= len(self._line)

    def starts_with(self, text: str) -> bool:
        return self._line.startswith(text, self.position)

    def argument(self) -> list[object]:
        """Take a value, or a name and a value."""
        start = self.position
        key = _KEY.match(self._line, start)
        found = self._json(start)
        if found is not None:
            return found
        if key is not None:
            found = self._json(key.end())
            if found is not None:
                return [key[1], *found]
        word = self.word()
        self._check_brackets(key.end() if key else start)
        return parse_word(word)

    def _json(self, start: int) -> list[object] | None:
        """Take a JSON value that a blank or the end follows; None if none is there."""
        try:
            value, end = _scan(self._line, start)
        except (StopIteration, ValueError, RecursionError):
            return None
        if end < len(self._line) and not self._line[end].isspace():
            return None
        self.position = end
        self._skip_blanks()
        return [value]

    def word(self) -> str:
        """Take a word as `sh` reads it, without its quotes."""
        self._stream.seek(self.position)
        lexer = shlex.shlex(self._stream, posix=True)
        lexer.whitespace_split = True
        lexer.commenters = ""
        try:
            word = lexer.get_token()
        except ValueError as error:
            raise ValueError(str(error).lower()) from None
        self.position = self._stream.tell()
        self._skip_blanks()
        return word or ""

    def _check_brackets(self, start: int) -> None:
        """Refuse the first word of broken JSON: the rest would be taken for more values."""
        if self._line[start : start + 1] not in ("[", "{"):
            return
        taken = self._line[start : self.position].split()[0]
        if sum(map(taken.count, "[{")) > sum(map(taken.count, "]}")):
            raise ValueError(f"{self._line[start:].strip()} is not JSON: put quotes around text")
