"""What is shown of a server's procedures: their signatures, and their definitions.

A signature is in Python's words, for whoever writes a call; a definition has the types that the
server has sent, with all that they tell:

    add_numbers(n1: int, n2: int, scale: float = 1.0) -> sum: int
    add_numbers(n1: integer32, n2: integer32, scale: float32) -> sum: integer32:pos

All of it comes from the server, and may be anything: what is not as it should be is not shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from rpcasync.calls import Reply
from rpcasync.cli.output import harmless, on_one_line
from rpcasync.cli.screen import PLAIN, Colours
from rpcasync.errors import RPCError
from rpcasync.wire.messages import as_text

__all__ = [
    "Definition",
    "definition_line",
    "definition_lines",
    "description_lines",
    "parameters",
    "procedures",
    "signature_line",
    "signature_lines",
]

Definition: TypeAlias = Mapping[object, object]
"""What a server tells of a procedure; empty if it tells nothing."""

_DEEPEST = 20  # types in each other that are shown
_LONGEST = 88  # characters of a signature on one line, where it stands alone
_NUMBERED = re.compile(r"(\d*)(.*)", re.DOTALL)  # in Perl's order: 00first, 01second


def procedures(reply: Reply) -> dict[str, Definition]:
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


def parameters(about: Definition) -> list[str]:
    """Return the names that a procedure takes, in order, but for `*`, which is any name."""
    return [name for name, _ in _entries(about.get("in"), _order(about, "in")) if name != "*"]


# Signatures


def signature_lines(found: Mapping[str, Definition], colours: Colours = PLAIN) -> Iterator[str]:
    """Give a line for each procedure, by name."""
    return (signature_line(name, about, colours) for name, about in sorted(found.items()))


def signature_line(name: str, about: Definition, colours: Colours = PLAIN) -> str:
    """Return a signature such as `add(n1: int, n2: int = 0) -> sum: int  # Add two numbers.`."""
    first = next(_doc_lines(about), "")
    return _signature(name, about, colours) + (f"  # {first}" if first else "")


def description_lines(name: str, about: Definition, colours: Colours = PLAIN) -> Iterator[str]:
    """Give the lines for one procedure: its signature, and all of its docstring.

    A long signature has each parameter on a line of its own.
    """
    if "in" in about and len(_signature(name, about)) > _LONGEST:
        yield f"{colours.heading(on_one_line(name))}("
        yield from (f"    {each}," for each in _taken(about, colours))
        yield f"){_answered(about, colours)}"
    else:
        yield _signature(name, about, colours)
    for line in _doc_lines(about):
        yield f"    {line}" if line else ""


def _signature(name: str, about: Definition, colours: Colours = PLAIN) -> str:
    """Return what a procedure takes and answers; where nothing is known, that is its name."""
    line = colours.heading(on_one_line(name))
    if "in" in about:
        line += f"({', '.join(_taken(about, colours))})"
    return line + _answered(about, colours)


def _answered(about: Definition, colours: Colours) -> str:
    out = about.get("out")
    if not out:
        return ""
    if not isinstance(out, dict):
        return f" -> {_python_type(out)}"
    return f" -> {', '.join(_hints(out, _order(about, 'out'), colours))}"


def _taken(about: Definition, colours: Colours) -> Iterator[str]:
    """Give each parameter, as Python writes it."""
    fields = about.get("in")
    if not isinstance(fields, dict):
        yield _python_type(fields)
        return
    defaults = about.get("defaults")
    defaults = defaults if isinstance(defaults, dict) else {}
    by_place = frozenset(_texts(about.get("positional")))
    entries = _entries(fields, _order(about, "in"))
    places = [place for place, (name, _) in enumerate(entries) if name in by_place]
    if any(f"*{name}" in by_place for name, _ in entries):
        places = []  # what is taken by name follows the star
    for place, (name, kind) in enumerate(entries):
        hint = _python_type(kind)
        shown = colours.name(on_one_line(name))
        if name == "*":
            shown = "**names"
        elif f"*{name}" in by_place:
            shown = f"*{shown}"
            hint = _python_type(kind[0]) if isinstance(kind, list) and kind else ""
        default = as_text(defaults.get(name))
        if isinstance(default, str):
            yield _with_default(shown, hint, default)
        else:
            yield f"{shown}: {hint}" if hint else shown
        if place in places[-1:]:
            yield "/"


def _with_default(shown: str, hint: str, default: str) -> str:
    default = on_one_line(default)
    if not hint:
        return f"{shown}={default}"
    if default == "None":
        hint += " | None"
    return f"{shown}: {hint} = {default}"


def _hints(fields: object, order: Mapping[str, int], colours: Colours, depth: int = 0) -> list[str]:
    """Return `name: type` for each name."""
    hints = []
    for name, kind in _entries(fields, order):
        hint = _python_type(kind, depth)
        shown = colours.name(on_one_line(name))
        hints.append(f"{shown}: {hint}" if hint else shown)
    return hints


_PYTHON = {
    "utf8string": "str",
    "latin1string": "str",
    "binary": "bytes",
    "boolean": "bool",
    "sub": "Callable",
    "any": "",
    "": "",
}
_NUMBERS = re.compile(r"u?(int|float)(?:eger)?\d+")


def _python_type(kind: object, depth: int = 0) -> str:
    """Return what Python calls a type; empty for what may be anything."""
    kind = as_text(kind)
    if isinstance(kind, (dict, list)) and depth >= _DEEPEST:
        return "..."
    if isinstance(kind, dict):
        if kind.keys() <= {"*"}:
            hint = _python_type(kind.get("*", ""), depth + 1)
            return f"dict[str, {hint}]" if hint else "dict"
        return f"{{{', '.join(_hints(kind, {}, PLAIN, depth + 1))}}}"
    if isinstance(kind, list):
        hints = dict.fromkeys(_python_type(part, depth + 1) for part in kind)
        return f"list[{' | '.join(hints)}]" if all(hints) and hints else "list"
    if not isinstance(kind, str):
        return on_one_line(kind)
    name, _, _ = kind.partition(":")
    number = _NUMBERS.fullmatch(name)
    return number[1] if number else _PYTHON.get(name, on_one_line(name))


def _doc_lines(about: Definition) -> Iterator[str]:
    doc = as_text(about.get("doc"))
    if isinstance(doc, str):
        yield from (harmless(line, "\t").rstrip() for line in doc.strip().split("\n"))


# Definitions


def definition_lines(found: Mapping[str, Definition]) -> Iterator[str]:
    """Give a line for each procedure, by name."""
    return (definition_line(name, about) for name, about in sorted(found.items()))


def definition_line(name: str, about: Definition) -> str:
    """Return a definition such as `add(n1: integer32, n2: integer32) -> sum: integer32`.

    Where nothing is known of a procedure, that is its name alone. Its description follows.
    """
    line = on_one_line(name)
    if "in" in about:
        line += f"({_fields(about['in'])})"
    if about.get("out"):
        line += f" -> {_fields(about['out'])}"
    doc = as_text(about.get("doc"))
    return f"{line}  # {on_one_line(doc)}" if doc else line


def _fields(fields: object, depth: int = 0) -> str:
    if not isinstance(fields, dict):
        return _type(fields, depth)
    return ", ".join(
        f"{on_one_line(name)}: {_type(kind, depth)}" for name, kind in _entries(fields)
    )


def _type(kind: object, depth: int) -> str:
    """Return a type on one line; what is nested more deeply than anybody reads is left out."""
    kind = as_text(kind)
    if isinstance(kind, (dict, list)) and depth >= _DEEPEST:
        return "..."
    if isinstance(kind, dict):
        return f"{{{_fields(kind, depth + 1)}}}"
    if isinstance(kind, list):
        return f"[{', '.join(_type(part, depth + 1) for part in kind)}]"
    return on_one_line(kind)


# Names in order


def _entries(fields: object, order: Mapping[str, int] | None = None) -> list[tuple[str, object]]:
    """Return names and types: by number, as the server says, by name; and any name last.

    Names without a number have no order: Perl gives them in another one each time.

    Args:
        fields: what is defined.
        order: where each name stands, with its number.
    """
    if not isinstance(fields, dict):
        return []
    ranks = order or {}
    found = []
    for key, kind in fields.items():
        text = str(as_text(key))
        match = _NUMBERED.fullmatch(text)
        number, name = match.groups() if match else ("", text)
        rank = (float(number or "inf"), name == "*", ranks.get(text, len(ranks)), name)
        found.append((rank, name or number, kind))
    found.sort(key=lambda entry: entry[0])
    return [(name, kind) for _, name, kind in found]


def _order(about: Definition, part: str) -> dict[str, int]:
    """Return where each name of a part stands, if the server says so."""
    order = about.get("order")
    names = order.get(part) if isinstance(order, dict) else None
    return {name: place for place, name in enumerate(_texts(names))}


def _texts(value: object) -> list[str]:
    """Return what is text in a list."""
    items: Iterable[object] = value if isinstance(value, list) else ()
    return [text for text in map(as_text, items) if isinstance(text, str)]
