"""What the command prints: answers to stdout, messages to stderr.

One rule: what comes from a server and would be obeyed by a terminal is printed with escapes, and so
are the ends of lines, but in the values of an answer. This is the only file of the package that
prints.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping

from rpcasync.calls import Reply
from rpcasync.errors import RPCError
from rpcasync.wire.messages import as_text

__all__ = [
    "CommandFailed",
    "answer_lines",
    "definition_line",
    "definition_lines",
    "parameters",
    "print_lines",
    "procedures",
    "say",
    "to_json",
]


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
            say(self)


# Printing


def say(message: object, *, prefix: str = "rpcasync: ") -> None:
    """Print a message to stderr, on one line, if somebody reads it."""
    if sys.stderr is not None:  # print() would take stdout
        with contextlib.suppress(OSError):
            text = _harmless(str(message).rstrip("\r\n"), "\t")
            print(prefix + text, file=sys.stderr, flush=True)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines to stdout, whatever its encoding.

    Raises:
        CommandFailed: nobody reads it, the disk is full...
    """
    if sys.stdout is None:
        raise CommandFailed("cannot print the answer: stdout is closed")
    encoding = sys.stdout.encoding
    try:
        for line in lines:
            print(line.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        raise CommandFailed(f"cannot print the answer: {error}") from None


def _harmless(text: str, kept: str) -> str:
    """Return text with escapes for what cannot be printed, other than what is kept."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in kept else char.encode("unicode_escape").decode()
        for char in text
    )


# Answers


def answer_lines(reply: Reply, *, as_json: bool = False) -> Iterator[str]:
    """Give the lines that show an answer.

    Args:
        reply: the answer.
        as_json: all of it as one line of JSON, instead of `name=value` or one value on each.
    """
    try:
        pairs: dict[str, object] | None = reply.pairs()
    except ValueError:
        pairs = None
    if as_json:
        yield to_json(list(reply) if pairs is None else pairs)
    elif pairs is None:
        yield from map(_show, reply)
    else:
        yield from (f"{_show_name(name)}={_show(value)}" for name, value in pairs.items())


def _show(value: object) -> str:
    """Return text as it is, and anything else as JSON; text that a terminal would obey, too."""
    if isinstance(value, str) and _harmless(value, "\n\t") == value:
        return value
    return to_json(value)


def _show_name(value: object) -> str:
    """Return the same for what has to stay on one line."""
    return value if isinstance(value, str) and value.isprintable() else to_json(value)


def to_json(value: object) -> str:
    """Return a value as JSON on one line; as a text what JSON does not have."""
    try:
        text = json.dumps(_plain(value), ensure_ascii=False)
        return text if text.isprintable() else json.dumps(_plain(value))
    except (RecursionError, ValueError):  # nested in itself, or too deeply
        return json.dumps(f"<{type(value).__name__} that cannot be shown>")


def _plain(value: object) -> object:
    """Return a value in the types that JSON has."""
    if isinstance(value, dict):
        return {str(as_text(key)): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (str, int, float)) else repr(value)


# Procedures and their definitions

_DEEPEST = 20  # types in each other that are shown
_NUMBERED = re.compile(r"(\d*)(.*)", re.DOTALL)  # in Perl's order: 00first, 01second


def procedures(reply: Reply) -> dict[str, Mapping[object, object]]:
    """Return the procedures that `methods` has answered with, and what is said of each.

    Raises:
        RPCError: it is the answer to something else.
    """
    found = reply[1] if len(reply) == 2 and as_text(reply[0]) == "methods" else None
    if not isinstance(found, dict):
        raise RPCError("methods: the server answered something else than its procedures")
    return {
        str(as_text(name)): about if isinstance(about, dict) else {}
        for name, about in found.items()
    }


def parameters(about: Mapping[object, object]) -> list[str]:
    """Return the names that a procedure takes, in order, but for `*`, which is any name."""
    return [name for name, _ in _entries(about.get("in")) if name != "*"]


def definition_lines(found: Mapping[str, Mapping[object, object]]) -> Iterator[str]:
    """Give a line for each procedure, by name."""
    return (definition_line(name, about) for name, about in sorted(found.items()))


def definition_line(name: str, about: Mapping[object, object]) -> str:
    """Return a definition such as `add(n1: integer32, n2: integer32) -> sum: integer32`.

    Where nothing is known of a procedure, that is its name alone. Its description follows.
    """
    line = _show_name(name)
    if "in" in about:
        line += f"({_fields(about['in'])})"
    if about.get("out"):
        line += f" -> {_fields(about['out'])}"
    doc = as_text(about.get("doc"))
    return f"{line}  # {_show_name(doc)}" if doc else line


def _fields(fields: object, depth: int = 0) -> str:
    if not isinstance(fields, dict):
        return _type(fields, depth)
    return ", ".join(f"{_show_name(name)}: {_type(kind, depth)}" for name, kind in _entries(fields))


def _entries(fields: object) -> list[tuple[str, object]]:
    """Return names and types: by number, and without it; then by name, and any name last.

    Names without a number have no order: Perl gives them in another one each time.
    """
    if not isinstance(fields, dict):
        return []
    parts = [(_NUMBERED.fullmatch(str(as_text(name))), kind) for name, kind in fields.items()]
    split = [(match[1], match[2], kind) for match, kind in parts if match]
    split.sort(key=lambda part: (float(part[0] or "inf"), part[1] == "*", part[1]))
    return [(name or number, kind) for number, name, kind in split]


def _type(kind: object, depth: int) -> str:
    """Return a type on one line; what is nested more deeply than anybody reads is left out."""
    kind = as_text(kind)
    if isinstance(kind, (dict, list)) and depth >= _DEEPEST:
        return "..."
    if isinstance(kind, dict):
        return f"{{{_fields(kind, depth + 1)}}}"
    if isinstance(kind, list):
        return f"[{', '.join(_type(part, depth + 1) for part in kind)}]"
    return _show_name(kind)
