"""Write reference.md from the docstrings of the public names.

    python docs/generate.py

What is said about a name is said in its docstring and nowhere else; `tests/test_reference.py` fails
when reference.md is not what this gives. The docstrings are in the style that the packages use:
paragraphs, lists with "- ", indented code, and the sections Args, Returns and Raises.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

HERE = Path(__file__).resolve().parent
PAGE = HERE / "reference.md"

# The modules of the page, in order, with the names that are shown; None is all of `__all__`.
MODULES: list[tuple[str, list[str] | None]] = [
    ("eventmux", None),
    ("eventmux.events", ["Address", "Handle", "MaybeNone", "SomeEvent"]),
    ("eventmux.buffers", None),
    ("eventmux.proxy", None),
    ("eventmux.aio", None),
    ("rpcasync", None),
    ("rpcasync.aio", None),
    ("rpcasync.arguments.conversions", ["conversion"]),
    ("rpcasync.arguments.signatures", ["Signature"]),
    ("rpcasync.arguments.reflection", None),
    ("rpcasync.wire.codecs", ["Codec"]),
    ("rpcasync.wire.protocol", None),
    ("rpcasync.storable", None),
]
# What programs are given, and do not make themselves.
GIVEN = {"AsyncClient", "Call", "Caller", "ChildSocket", "Coderef", "Connecting", "Events"}
GIVEN |= {"CallRecord", "Connection", "Reply", "Watch"}
HEAD = """\
# Reference

<!-- Made by docs/generate.py from the docstrings: change those, and run it again. -->

Every public name, by module. `help()` shows the same in Python. Pages of their own have [the order
of events](events.md), [the URLs](urls.md), [how values become arguments](arguments.md), [what is
logged, and the environment](operating.md), and [the command](howto/command-line.md).
"""
_WIDTH = 100
_STARS: dict[object, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}
_SECTIONS = ("Args", "Returns", "Raises")
_INNER = ("This file ", "This package ", "Source: ")  # for whoever reads the source
_SPECIAL = ("__call__", "__iter__", "__getitem__", "__getattr__", "__exit__")


def reference() -> str:
    """Return the whole page."""
    shown = [(importlib.import_module(name), names) for name, names in MODULES]
    links = "\n".join(f"- [{name}](#{name.replace('.', '')})" for name, _ in MODULES)
    parts = [HEAD + "\n" + links]
    for module, names in shown:
        parts += _module(module, sorted(names or module.__all__))
    return "\n\n".join(parts) + "\n"


# Names


def _module(module: ModuleType, names: list[str]) -> Iterator[str]:
    yield f"## {module.__name__}"
    values = {name: getattr(module, name) for name in names}
    if set(names) == set(module.__all__):
        yield from _body(module)
    events = [each for each in values.values() if _is_event(each)]
    errors = [each for each in values.values() if _is_error(each)]
    for name, value in values.items():
        # `Any` is one since 3.11, and `tuple[int]` is one before it.
        is_class = inspect.isclass(value) and value is not Any and not get_args(value)
        if is_class and value not in events and value not in errors:
            yield from _class(value)
        elif inspect.isfunction(value):
            yield f"### {name}"
            yield from _function(value, name)
        elif not is_class:
            source, text = _variable(module, name)
            yield f"### {name}"
            yield _code(_assignment(name, source), "pyi")
            yield from _markdown(text)
    if events:
        yield "### Events"
        yield from _body(sys.modules[events[0].__module__])
        for event in sorted(events, key=lambda each: (len(each.__mro__), each.__name__)):
            yield f"#### {event.__name__}"
            yield _code(_event(event), "pyi")
            yield from _body(event)
    if errors:
        yield f"### Exceptions of {module.__name__}"
        yield from _body(sys.modules[errors[0].__module__])
        yield "\n".join(_tree(errors, Exception, 0))


def _is_event(value: object) -> bool:
    return inspect.isclass(value) and any(each.__name__ == "Event" for each in value.__mro__)


def _is_error(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, BaseException)


def _class(value: type[Any]) -> Iterator[str]:
    yield f"### {value.__name__}"
    if value.__name__ not in GIVEN and "__init__" in vars(value) and not _is_protocol(value):
        yield _code(_signature(value, value.__name__), "pyi")
    yield from _body(value)
    for name, (_, text) in _attributes(value).items():
        yield f"#### `{value.__name__}.{name}`"
        yield from _markdown(text)
    for name, member in vars(value).items():
        if (name.startswith("_") and name not in _SPECIAL) or _is_of_a_buffer(value, name):
            continue
        function = member.fget if isinstance(member, property) else member
        if not inspect.isfunction(function):
            continue
        yield f"#### `{value.__name__}.{name}`"
        if name != function.__name__:
            yield f"The same as `{function.__name__}`."
        elif isinstance(member, property):
            returned = inspect.signature(function).return_annotation
            yield _code(f"{name}: {returned}", "pyi")
            yield from _body(function)
        else:
            yield from _function(function, name)


def _is_protocol(value: type[Any]) -> bool:
    return bool(getattr(value, "_is_protocol", False))


def _is_of_a_buffer(value: type[Any], name: str) -> bool:
    """True for what a discipline has because each one has it: it is shown at `Buffer`."""
    buffers = importlib.import_module("eventmux.buffers")
    return (
        value.__module__.startswith("eventmux.buffers.")
        and value is not buffers.Buffer
        and name in vars(buffers.Buffer)
    )


def _event(value: type[Any]) -> str:
    fields = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=field.default,
            annotation=field.type,
        )
        for field in dataclasses.fields(value)
    ]
    head = _call(value.__name__, [_parameter(each) for each in fields])
    kind = value.type
    return f'{head}\ntype = "{kind}"' if kind else head


def _tree(errors: list[type[Any]], base: type[Any], depth: int) -> Iterator[str]:
    """Yield the exceptions below one of them, as a list of lists."""
    for error in errors:
        parents = [each for each in error.__mro__[1:] if each in errors]
        if (parents[0] if parents else Exception) is not base:
            continue
        others = [each for each in error.__mro__ if each.__module__ == "builtins"]
        kin = [each.__name__ for each in others if each.__name__ not in _EVERY]
        also = f" (also a {' and a '.join(kin[:1])})" if kin else ""
        text = " ".join(_join(each) for each in (inspect.getdoc(error) or "").split("\n\n"))
        indent = "  " * depth
        yield _wrap(f"- `{error.__name__}`{also}: {_escape(text)}", indent + "  ", indent)
        yield from _tree(errors, error, depth + 1)


_EVERY = {"Exception", "BaseException", "object"}


def _function(function: Any, name: str) -> Iterator[str]:
    is_awaited = "async " if inspect.iscoroutinefunction(function) else ""
    yield _code(is_awaited + _signature(function, name), "pyi")
    yield from _body(function)


# Signatures


def _signature(function: Any, name: str) -> str:
    signature = inspect.signature(function)
    parameters = list(parameters_of(function))
    if parameters and parameters[0].name == "self":
        del parameters[0]
    returned = signature.return_annotation
    after = "" if inspect.isclass(function) or returned is signature.empty else f" -> {returned}"
    shown = []
    for before, each in zip([None, *parameters], parameters, strict=False):
        if (
            before is not None
            and before.kind is each.POSITIONAL_ONLY
            and each.kind is not each.POSITIONAL_ONLY
        ):
            shown.append("/")
        if each.kind is each.KEYWORD_ONLY and (
            before is None or before.kind not in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
        ):
            shown.append("*")
        shown.append(_parameter(each))
    return _call(name, shown, after)


def parameters_of(function: Any) -> Iterator[inspect.Parameter]:
    """Yield the parameters of a function, with the options of a handle where it explains each."""
    for each in inspect.signature(function).parameters.values():
        if each.annotation != "Unpack[Options]" or "\n    options: " in str(
            inspect.getdoc(function)
        ):
            yield each
            continue
        module = importlib.import_module("eventmux._channels.options")
        values = {field.name: field.default for field in dataclasses.fields(module.ChannelOptions)}
        for name, kind in module.Options.__annotations__.items():
            default = None if name in ("meta", "read_size") else values[name]
            text = kind.__forward_arg__
            yield inspect.Parameter(name, each.KEYWORD_ONLY, default=default, annotation=text)


def _call(name: str, parameters: list[str], after: str = "") -> str:
    line = f"{name}({', '.join(parameters)}){after}"
    if len(line) <= _WIDTH:
        return line
    inner = "".join(f"    {each},\n" for each in parameters)
    return f"{name}(\n{inner}){after}"


def _parameter(each: inspect.Parameter) -> str:
    star = _STARS.get(each.kind, "")
    annotation = each.annotation
    if not isinstance(annotation, str):
        annotation = getattr(annotation, "__name__", str(annotation))
    annotation = annotation.replace("'", '"')
    if each.default is each.empty:
        return f"{star}{each.name}: {annotation}"
    return f"{each.name}: {annotation} = {_default(each.default)}"


def _default(value: object) -> str:
    if value is ... or type(value) is object:  # what stands for "not given"
        return "..."
    if inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    if type(value) is int and value > 9999:
        return f"{value:_}"
    text = repr(value)
    return text if '"' in text else text.replace("'", '"')


# Docstrings


def _body(value: Any) -> Iterator[str]:
    yield from _markdown(inspect.getdoc(value) or "")


def _markdown(text: str) -> Iterator[str]:
    """Yield the blocks of a docstring as Markdown."""
    lines = text.rstrip().split("\n")
    while lines:
        line = lines.pop(0)
        if not line.strip():
            continue
        if line.rstrip(":") in _SECTIONS and line.endswith(":"):
            yield from _section(line.rstrip(":"), _take_indented(lines))
        elif line.startswith("    "):
            code = textwrap.dedent("\n".join([line, *_take_indented(lines)])).strip("\n")
            yield _code(code, _language(code))
        elif line.startswith("Returns: "):
            yield _paragraph([line])
        else:
            block = [line]
            while lines and lines[0].strip():
                block.append(lines.pop(0))
            if not line.startswith(_INNER):
                yield from _list(block)


def _language(code: str) -> str:
    if ">>>" in code:
        return "pycon"
    try:
        lines = ast.parse(code).body
    except SyntaxError:
        return "text"
    is_value = len(lines) == 1 and isinstance(lines[0], ast.Expr)
    return "text" if is_value else "py"


def _take_indented(lines: list[str]) -> list[str]:
    """Take the lines that are indented, with the blank ones between them."""
    taken = []
    while lines and (lines[0].startswith("    ") or not lines[0].strip()):
        taken.append(lines.pop(0))
    return taken


def _section(name: str, lines: list[str]) -> Iterator[str]:
    text = textwrap.dedent("\n".join(lines)).strip("\n")
    if name == "Returns":
        yield _paragraph(["Returns:", *text.split("\n")])
        return
    yield {"Args": "Arguments:", "Raises": "Raises:"}[name]
    yield "\n".join(_item(each) for each in re.split(r"\n(?=\S)", text))


def _item(text: str) -> str:
    """Return what is said of one argument or exception, as an item of a list."""
    name, colon, rest = text.partition(": ")
    if not colon or not re.fullmatch(r"[\w.]+", name):
        raise ValueError(f"{text!r} does not begin with a name and a colon")
    return _wrap(f"- `{name}`: {_escape(_join(rest))}", "  ")


def _list(lines: list[str]) -> Iterator[str]:
    """Yield a paragraph, or a list if it is one."""
    if not lines[0].startswith("- "):
        yield _paragraph(lines)
        return
    items = re.split(r"\n(?=- )", "\n".join(lines))
    yield "\n".join(_wrap(_escape(_join(each)), "  ") for each in items)


def _paragraph(lines: list[str]) -> str:
    return _wrap(_escape(_join("\n".join(lines))))


def _join(text: str) -> str:
    return " ".join(text.split())


def _wrap(text: str, indent: str = "", first: str = "") -> str:
    """Break a text into lines, but not within backticks."""
    kept = re.sub(r"`[^`]*`", lambda match: match[0].replace(" ", "\0"), text)
    lines = textwrap.fill(
        kept,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return lines.replace("\0", " ")


def _escape(text: str) -> str:
    """Have what stands outside of backticks mean nothing in Markdown."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(
        piece if piece.startswith("`") else re.sub(r"([*\[\]<])", r"\\\1", piece)
        for piece in pieces
    )


def _code(text: str, language: str) -> str:
    end = "\n" if language == "pycon" else ""  # where the output ends, for doctest
    return f"```{language}\n{text}\n{end}```"


# What has no docstring of its own in Python: a string below an assignment


def _variable(module: ModuleType, name: str) -> tuple[str, str]:
    """Return the source and the text of a name, from the module that has it first."""
    found = _variables(module)
    if name not in found:
        for statement in ast.parse(inspect.getsource(module)).body:
            if isinstance(statement, ast.ImportFrom) and name in _names(statement):
                return _variable(importlib.import_module(str(statement.module)), name)
    return found[name]


def _names(statement: ast.ImportFrom) -> set[str]:
    return {alias.name for alias in statement.names}


def _assignment(name: str, source: str) -> str:
    line = f"{name} = {source}"
    if len(line) <= _WIDTH:
        return line
    inner = textwrap.fill(source, _WIDTH, initial_indent="    ", subsequent_indent="    ")
    return f"{name} = (\n{inner}\n)"


def _variables(module: ModuleType) -> dict[str, tuple[str, str]]:
    """Return the source and the text of each name of a module that has a string below it."""
    return dict(_documented(ast.parse(inspect.getsource(module)).body))


def _attributes(value: type[Any]) -> dict[str, tuple[str, str]]:
    """Return the same of a class, and of what its `__init__` sets."""
    source = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
    found: dict[str, tuple[str, str]] = {}
    for each in ast.walk(source):
        if isinstance(each, ast.ClassDef | ast.FunctionDef):
            found |= _documented(each.body)
    return {name: found[name] for name in found if not name.startswith("_")}


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, tuple[str, str]]]:
    for statement, after in pairwise(body):
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            name = target.attr if isinstance(target, ast.Attribute) else ast.unparse(target)
            text = ast.literal_eval(after.value) if isinstance(after.value, ast.Constant) else None
            if isinstance(text, str):
                source = "" if statement.value is None else ast.unparse(statement.value)
                yield name, (source, inspect.cleandoc(text))


if __name__ == "__main__":
    PAGE.write_text(reference())
    sys.exit(0)
