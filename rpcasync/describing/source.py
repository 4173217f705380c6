"""Python text that is made: literals, docstrings, and lines as formatters would have them.

Whatever a server has sent gets into a program by `literal()` or `docstring()`, and by nothing else
but `names.is_name()`. What they return is printable, so it never ends where it should not, and it
is read back as the text that it was made of.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["WIDTH", "assignment", "bracketed", "docstring", "literal"]

WIDTH = 88  # characters of a line: what black and ruff take for granted
_MOST_LINES = 200


def literal(value: object) -> str:
    """Return a text, a number, bytes, True, False or None as Python writes it."""
    text = repr(value)
    if isinstance(value, str) and text[0] == "'" and '"' not in value:
        return f'"{text[1:-1]}"'
    if isinstance(value, bytes) and text[1] == "'" and b'"' not in value:
        return f'b"{text[2:-1]}"'
    return text


def docstring(text: str, indent: str) -> list[str]:
    """Return the lines of a docstring; none if the text is blank.

    Args:
        text: any; its lines stay lines, and of many of them the first do.
        indent: what each line begins with.
    """
    # A lone surrogate is shown: Python 3.13 compiles no docstring that has one.
    text = text.encode("utf-8", "backslashreplace").decode().strip()
    quote = '\\"' if text[:1] == '"' or text[-1:] == '"' or '"""' in text else '"'
    lines = [_escaped(line.rstrip(), quote) for line in text.split("\n")[:_MOST_LINES]]
    if not text:
        return []
    if len(lines) == 1 and len(indent) + 6 + len(lines[0]) <= WIDTH:
        return [f'{indent}"""{lines[0]}"""']
    lines = [f"{indent}{line}" if line else "" for line in [f'"""{lines[0]}', *lines[1:]]]
    while not lines[-1]:
        lines.pop()
    return [*lines, f'{indent}"""']


def _escaped(line: str, quote: str) -> str:
    """Return a line as it is written between triple quotes."""
    line = line.replace("\\", "\\\\").replace('"', quote)
    if line.isprintable():
        return line
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in line
    )


def bracketed(head: str, items: Sequence[str], tail: str, indent: str) -> list[str]:
    """Return the lines of a call or a `def`: on one line, else the items on one, else on many.

    Args:
        head: what stands in front, with the opening bracket.
        items: what is between the brackets.
        tail: the closing bracket, and what stands behind.
        indent: what each line begins with.
    """
    inner = ", ".join(items)
    if not items or len(indent) + len(head) + len(inner) + len(tail) <= WIDTH:
        return [f"{indent}{head}{inner}{tail}"]
    if len(indent) + 4 + len(inner) <= WIDTH:
        return [f"{indent}{head}", f"{indent}    {inner}", f"{indent}{tail}"]
    return [f"{indent}{head}", *(f"{indent}    {item}," for item in items), f"{indent}{tail}"]


def assignment(head: str, value: object) -> list[str]:
    """Return the lines of an assignment of dicts, lists and texts: on one line, or on many.

    Args:
        head: what stands in front, with the equals sign and a blank.
        value: what is assigned.
    """
    return f"{head}{_data(value, len(head), 0)}".split("\n")


def _data(value: object, used: int, indent: int) -> str:
    """Return a value as Python writes it: on one line if there is room for that.

    Args:
        value: dicts, lists and texts.
        used: characters that are on the line already, or have to follow.
        indent: of the line.
    """
    flat = _flat(value, WIDTH - used)
    if flat is not None:
        return flat
    deeper = indent + 4
    blanks = " " * deeper
    if isinstance(value, dict) and value:
        parts = [
            f"{blanks}{literal(key)}: {_data(part, deeper + len(literal(key)) + 3, deeper)},\n"
            for key, part in value.items()
        ]
        return f"{{\n{''.join(parts)}{' ' * indent}}}"
    if isinstance(value, list) and value:
        parts = [f"{blanks}{_data(part, deeper + 1, deeper)},\n" for part in value]
        return f"[\n{''.join(parts)}{' ' * indent}]"
    return literal(value)


def _flat(value: object, room: int) -> str | None:
    """Return a value on one line, None if there is not the room for it."""
    if isinstance(value, dict):
        parts = []
        left = room - 2
        for key, part in value.items():
            shown = literal(key)
            inner = _flat(part, left - len(shown) - 2)
            if inner is None:
                return None
            parts.append(f"{shown}: {inner}")
            left -= len(parts[-1]) + 2
        text = f"{{{', '.join(parts)}}}"
    elif isinstance(value, list):
        parts = []
        left = room - 2
        for part in value:
            inner = _flat(part, left)
            if inner is None:
                return None
            parts.append(inner)
            left -= len(inner) + 2
        text = f"[{', '.join(parts)}]"
    else:
        text = literal(value)
    return text if len(text) <= room else None
