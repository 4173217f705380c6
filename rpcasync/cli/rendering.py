"""An answer as it is shown: to people, as JSON, or as the value itself.

Names and values are `name=value`, one on a line. A short list or dict of plain values stands
behind its name, as JSON; any other is indented below it, and a list of dicts with the same keys is
a table:

    name=Ann
    tags=["a", "b"]
    address:
      city=Oslo
      lines:
        - 1 High Street
        - {"floor": 2}
    rows:
      id  name
       1  Ann
      22  Bob

Lines are made one by one, and none is longer than what it shows, but for blanks that line columns
up. On a terminal a table is cut to its width; elsewhere nothing is left out.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence

from eventmux._nearest import did_you_mean
from rpcasync.calls import Reply
from rpcasync.cli.output import CommandFailed, harmless, on_one_line, print_lines, to_json
from rpcasync.cli.screen import PLAIN, Colours, colours_of, columns_of, cut, width

__all__ = [
    "answer_lines",
    "as_bytes",
    "call_line",
    "is_numeric",
    "only_value",
    "print_answer",
    "value_lines",
]

_LONGEST = 70  # characters of a list or dict that stands behind its name
_DEEPEST = 20  # levels that are indented; what is below them is JSON
_WIDEST = 60  # columns that a cell is filled up to
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?")


def print_answer(reply: Reply, *, as_json: bool = False, name: str | None = None) -> None:
    """Print an answer, or the value of a name in it, as it suits stdout.

    Raises:
        CommandFailed: there is no such name, or nobody reads stdout.
    """
    colours, columns = colours_of(sys.stdout), columns_of(sys.stdout)
    if name is None:
        print_lines(answer_lines(reply, as_json=as_json, colours=colours, columns=columns))
    else:
        value = only_value(reply, name)
        print_lines(value_lines(value, as_json=as_json, colours=colours, columns=columns))


def answer_lines(
    reply: Reply,
    *,
    as_json: bool = False,
    colours: Colours = PLAIN,
    columns: int | None = None,
) -> Iterator[str]:
    """Give the lines that show an answer.

    Args:
        reply: the answer.
        as_json: all of it as one line of JSON, instead of `name=value` or one value on each.
        colours: for names and numbers.
        columns: what a table is cut to; None is nothing.
    """
    pairs = _pairs(reply)
    if as_json:
        yield _json(list(reply) if pairs is None else pairs)
        return
    writer = _Writer(colours, columns)
    if pairs is None:
        for value in reply:
            yield from writer.value(value)
    else:
        for name, value in pairs.items():
            yield from writer.named(name, value, 0)


def value_lines(
    value: object, *, as_json: bool = False, colours: Colours = PLAIN, columns: int | None = None
) -> Iterator[str]:
    """Give the lines that show one value of an answer, as `answer_lines()` does."""
    if as_json:
        yield _json(value)
    else:
        yield from _Writer(colours, columns).value(value)


def call_line(name: str, values: Sequence[object], *, as_json: bool = False) -> str:
    """Return the line for a call of a callback: `progress: done=1 total=10`.

    Args:
        name: what the callback was passed as.
        values: what it was called with.
        as_json: an object with the name, instead.
    """
    reply = Reply(values)
    pairs = _pairs(reply)
    if as_json:
        return _json({name: list(reply) if pairs is None else pairs})
    if pairs is None:
        shown = [_word(value) for value in reply]
    else:
        shown = [f"{on_one_line(key)}={_word(value)}" for key, value in pairs.items()]
    return " ".join([f"{on_one_line(name)}:", *shown])


def only_value(reply: Reply, name: str | None = None) -> object:
    """Return the value of an answer that has one, or the one of a name.

    Raises:
        CommandFailed: it has several, or none, or not the name.
    """
    pairs = _pairs(reply)
    if name is not None:
        if pairs is None or name not in pairs:
            raise CommandFailed(_no_such_name(name, pairs))
        return pairs[name]
    if len(reply) == 1:
        return reply[0]
    if pairs is not None and len(pairs) == 1:
        return next(iter(pairs.values()))
    if not pairs:
        raise CommandFailed(f"the answer has {len(reply)} values, and --raw prints one")
    raise CommandFailed(
        f"the answer has {len(pairs)} values, and --raw prints one: add --value NAME, "
        f"one of {_some(pairs)}"
    )


def _no_such_name(name: str, pairs: Mapping[str, object] | None) -> str:
    if not pairs:
        return f"the answer has no names, so not {name!r}"
    hint = did_you_mean(name, pairs)
    return f"the answer has no {name!r}{hint or f': it has {_some(pairs)}'}"


def _some(pairs: Mapping[str, object]) -> str:
    """Return the first names of many."""
    names = [cut(harmless(name), _WIDEST) for name in list(pairs)[:10]]
    return ", ".join(names) + (", ..." if len(pairs) > len(names) else "")


def as_bytes(value: object, *, is_binary: bool = False) -> bytes:
    """Return a value as it is, for a file: bytes, text in UTF-8, a number as JSON has it.

    Args:
        value: what has to be one of these.
        is_binary: each character of a text is the byte of that number, as Perl's servers send
            bytes.

    Raises:
        CommandFailed: it is a list or dict, or no byte has the number of a character.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, str) and not is_binary:
        return value.encode("utf-8", "backslashreplace")
    if isinstance(value, str):
        try:
            return value.encode("latin-1")
        except UnicodeEncodeError as error:
            char = value[error.start]
            raise CommandFailed(f"{char!r} in the value is no byte; --raw prints text") from None
    if value is None or isinstance(value, (int, float)):
        return to_json(value).encode()
    raise CommandFailed(f"the value is a {type(value).__name__}, and no text or bytes: use --json")


def _pairs(reply: Reply) -> dict[str, object] | None:
    try:
        return reply.pairs()
    except ValueError:
        return None


def _json(value: object) -> str:
    """Return a value as JSON; bytes as the text that Perl would make of them."""
    return to_json(value, of_bytes=lambda data: data.decode("latin-1"))


def _word(value: object) -> str:
    """Return what stands beside others on a line."""
    if isinstance(value, str) and value.isprintable() and value and not set(value) & set(" \"'="):
        return value
    return to_json(value)


class _Writer:
    """Makes lines of values."""

    def __init__(self, colours: Colours, columns: int | None) -> None:
        self._colours = colours
        self._columns = columns

    def value(self, value: object) -> Iterator[str]:
        """Give the lines for a value without a name; text as it is."""
        text = self._at_top(value)
        if text is None:
            yield from self._block(value, 0)
        else:
            yield text

    def named(self, name: object, value: object, depth: int) -> Iterator[str]:
        """Give the lines for a name and its value."""
        text = self._inline(value, depth) if depth else self._at_top(value)
        start = "  " * depth + self._colours.name(on_one_line(name))
        if text is None:
            yield f"{start}:"
            yield from self._block(value, depth + 1)
        else:
            yield f"{start}={text}"

    def _at_top(self, value: object) -> str | None:
        """Return a value as it stands behind a name that nothing is indented below.

        Text may have several lines there: those behind it have names again.
        """
        if isinstance(value, str):
            return value if harmless(value, "\n\t") == value else to_json(value)
        return self._inline(value, 0)

    def _inline(self, value: object, depth: int) -> str | None:
        """Return a value that is short enough for one line; None for others."""
        if isinstance(value, str):
            return on_one_line(value)
        if not isinstance(value, (list, tuple, dict)):
            return self._colours.number(to_json(value))
        parts = list(value.values()) if isinstance(value, dict) else value
        if not parts or depth >= _DEEPEST:
            return to_json(value)
        if len(parts) * 3 > _LONGEST or not all(map(_is_short, parts)):
            return None
        text = to_json(value)
        return text if len(text) <= _LONGEST else None

    def _block(self, value: object, depth: int) -> Iterator[str]:
        """Give the lines for a list or dict."""
        if isinstance(value, dict):
            for name, part in value.items():
                yield from self.named(name, part, depth)
        elif isinstance(value, (list, tuple)):
            names = _columns_of(value)
            if names:
                yield from self._table(value, names, depth)
            else:
                yield from self._items(value, depth)

    def _items(self, items: Sequence[object], depth: int) -> Iterator[str]:
        """Give the lines for a list: a dash in front of the first of each item."""
        start = "  " * depth
        for item in items:
            text = self._inline(item, depth)
            if text is not None:
                yield f"{start}- {text}"
                continue
            dash = "- "
            for line in self._block(item, depth + 1):
                yield f"{start}{dash}{line[len(start) + 2 :]}"
                dash = "  "

    # Tables

    def _table(self, rows: Sequence[object], names: list[str], depth: int) -> Iterator[str]:
        """Give the lines for rows that have the same keys."""
        heads = [on_one_line(name) for name in names]
        sizes = [width(head) for head in heads]
        numbers, others = [False] * len(names), [False] * len(names)
        for row in rows:
            for place, cell in enumerate(_cells(row, names)):
                sizes[place] = max(sizes[place], width(cell))
                numbers[place] = numbers[place] or is_numeric(cell)
                others[place] = others[place] or not (is_numeric(cell) or cell in ("", "null"))
        numeric = [has and not other for has, other in zip(numbers, others, strict=True)]
        sizes = [min(size, _WIDEST) for size in sizes]
        sizes[-1] *= numeric[-1]  # nothing stands behind it
        yield self._row(heads, sizes, numeric, depth, is_head=True)
        for row in rows:
            yield self._row(list(_cells(row, names)), sizes, numeric, depth)

    def _row(
        self,
        cells: list[str],
        sizes: list[int],
        numeric: list[bool],
        depth: int,
        *,
        is_head: bool = False,
    ) -> str:
        line = "  " * depth
        room = None if self._columns is None else self._columns - len(line)
        colour = self._colours.heading if is_head else self._colours.number
        for place, (cell, size, is_right) in enumerate(zip(cells, sizes, numeric, strict=True)):
            gap = "  " if place else ""
            blanks = " " * (size - width(cell))
            if room is not None:
                room -= len(gap)
                is_last = len(blanks) + width(cell) > room
                if is_last:
                    cell, blanks = cut(cell, max(room, 0)), ""
                room = 0 if is_last else room - len(blanks) - width(cell)
            shown = colour(cell) if is_head or is_right else cell
            line += gap + (blanks + shown if is_right else shown + blanks)
            if room == 0:
                break
        return line.rstrip(" ")


def is_numeric(text: str) -> bool:
    """Return whether a text is a number; Perl sends many as text."""
    return len(text) <= _WIDEST and _NUMBER.fullmatch(text) is not None


def _is_short(value: object) -> bool:
    """Return whether a value is plain, and may stand in a list on one line."""
    if isinstance(value, (str, bytes)):
        return len(value) <= _LONGEST
    return not isinstance(value, (list, tuple, dict))


def _columns_of(rows: Sequence[object]) -> list[str] | None:
    """Return the keys that all rows have, in order, if a table can be made of them."""
    first = rows[0]
    if not isinstance(first, dict) or not first:
        return None
    keys = first.keys()
    for row in rows:
        if not isinstance(row, dict) or row.keys() != keys:
            return None
        if not all(map(_is_plain, row.values())):
            return None
    return list(keys)


def _is_plain(value: object) -> bool:
    return not isinstance(value, (list, tuple, dict)) or not value


def _cells(row: object, names: list[str]) -> Iterator[str]:
    """Give the cells of a row, each on one line."""
    values: Mapping[object, object] = row if isinstance(row, dict) else {}
    return (on_one_line(values[name]) for name in names)
