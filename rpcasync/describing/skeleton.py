"""`skeleton()`: a server program with the procedures of another, for whoever ports it.

Each procedure is a function that takes what the other's does, and refuses. What annotations do not
tell of it is in its `def_*`, so that `methods` of the new server tells what that of the old one
did. The program is complete: it runs, and type checkers and linters have nothing to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rpcasync.arguments.reflection import expand
from rpcasync.describing.hints import Hint, hint
from rpcasync.describing.kinds import ANY, Kind
from rpcasync.describing.names import Names, is_name
from rpcasync.describing.procedures import UNKNOWN, Parameter, Procedure
from rpcasync.describing.source import assignment, bracketed, docstring, literal

__all__ = ["skeleton"]

_HEAD = '''\
"""Procedures that are still to be ported, as `rpcasync skeleton` found them.

usage: rpcasync listen -u URL PROGRAM
       rpcasync listen -u URL --fallback OLD PROGRAM

The server at OLD answers what is not in here: take out what is not ported yet.
"""
'''
_TAIL = """\
mux = EventMux()
rpc = Server(mux)
init_clients(rpc)

while rpc.has_clients():
    rpc.io(mux.mux())
"""
_INDENT = " " * 4
_TAKEN = frozenset({"caller", "rpc", "Fault"})  # what the body of a function needs
_BUILT_IN = "methods"  # a server of ours has it without a function
_FEW = 10  # names that are shown in a comment


def skeleton(procedures: Iterable[Procedure]) -> str:
    """Return the text of the program."""
    parts: list[str] = []
    imported = {"Caller", "Fault", "Server", "init_clients"}
    made = Names(())
    for procedure in procedures:
        if procedure.name == _BUILT_IN:
            continue
        function = _Function(procedure, made)
        parts.append("\n".join(function.lines()) + "\n")
        if function.has_callback:
            imported.add("Coderef")
    names = ", ".join(sorted(imported, key=lambda name: (name[0].islower(), name)))
    imports = f"from eventmux import EventMux\nfrom rpcasync import {names}\n"
    program = "\n\n".join([*parts, _TAIL])
    gap = "\n\n" if program.startswith("def ") else "\n"  # as sorters of imports want it
    return f"{_HEAD}\n{imports}{gap}{program}"


class _Function:
    """One procedure, as it stands in the program."""

    def __init__(self, procedure: Procedure, made: Names) -> None:
        """Read it; the name of its function may have to be made."""
        self._procedure = procedure
        self._full_name = f"rpc_{procedure.name}"
        self._is_plain = is_name(self._full_name)
        self._name = self._full_name
        if not self._is_plain:  # one that begins with rpc_ would be a procedure, too
            self._name = made.new(procedure.name, prefix="procedure_")
        self._named = [each for each in procedure.named if is_name(each.name, _TAKEN)]
        self._hidden = [each.name for each in procedure.named if not is_name(each.name, _TAKEN)]
        self._any_name = ANY if self._hidden else procedure.any_name
        self._names = Names({*_TAKEN, *procedure.names})
        self._fields = self._names.new("fields")
        self.has_callback = False

    def lines(self) -> Iterator[str]:
        """Give the lines of its definition, its function, and what makes that a procedure."""
        parameters = self._parameters()
        definition = self._definition()
        if definition and self._is_plain:
            head = f"def_{self._procedure.name}: dict[str, object] = "
            yield from assignment(head, definition)
            yield from ("", "")
        yield from bracketed(f"def {self._name}(", parameters, ") -> None:", "")
        yield from docstring(self._procedure.doc, _INDENT)
        yield from self._comment()
        yield f'{_INDENT}raise Fault("not ported")'
        if not self._is_plain:
            yield from ("", "")
            yield f"globals()[{literal(self._full_name)}] = {self._name}"
            if definition:
                head = f"globals()[{literal(f'def_{self._procedure.name}')}] = "
                yield from assignment(head, definition)

    def _comment(self) -> Iterator[str]:
        """Tell of names that are no parameters."""
        if self._hidden:
            names = ", ".join(literal(name[:60]) for name in self._hidden[:_FEW])
            more = ", ..." if len(self._hidden) > _FEW else ""
            yield f"{_INDENT}# Given by name in {self._fields}: {names}{more}"

    # Parameters

    def _parameters(self) -> list[str]:
        procedure = self._procedure
        if not procedure.is_known:
            return ["caller: Caller", "*values: object"]
        shown = ["caller: Caller"]
        shown += [self._parameter(self._name_of(each), each) for each in procedure.listed]
        if procedure.listed or self._hidden:
            shown.append("/")
        rest = procedure.rest
        if rest is not None:
            shown.append(f"*{self._name_of(rest)}: {self._hint(rest.kind).text}")
        if self._needs_star():
            shown.append("*")
        shown += [self._parameter(each.name, each) for each in self._named]
        if self._any_name is not None:
            shown.append(f"**{self._fields}: {self._hint(self._any_name).text}")
        return shown

    def _needs_star(self) -> bool:
        """True if Python wants it, because what may be left out is in front of what may not."""
        are_optional = [each.is_optional for each in (*self._procedure.listed, *self._named)]
        return bool(self._named) and are_optional != sorted(are_optional)

    def _name_of(self, parameter: Parameter) -> str:
        """Return a name for what is given without one."""
        name = parameter.name
        return name if is_name(name, _TAKEN) else self._names.new(name)

    def _parameter(self, name: str, parameter: Parameter) -> str:
        text = self._hint(parameter.kind).text
        if not parameter.is_optional:
            return f"{name}: {text}"
        default = parameter.default
        fits = default is not UNKNOWN and type(default).__name__ in (text, "NoneType")
        if text == "float" and type(default) is int:
            fits = True
        if not fits and (text != "object" or default is UNKNOWN):
            default = None
        if default is None and text != "object":
            text += " | None"
        return f"{name}: {text} = {literal(default)}"

    def _hint(self, kind: Kind) -> Hint:
        found = hint(kind, sub="Coderef")
        self.has_callback = self.has_callback or "Coderef" in found.text
        return found

    # What annotations do not tell

    def _definition(self) -> dict[str, object]:
        """Return the parts of the definition that the function does not tell of itself."""
        parts: dict[str, object] = {}
        told = self._procedure.definition
        if "in" in told and told["in"] != self._told():
            parts["in"] = _with_numbers(told["in"])
        if told.get("out"):
            parts["out"] = told["out"]
        return {name: part for name, part in parts.items() if _is_good(part, name == "in")}

    def _told(self) -> dict[str, object]:
        """Return what `methods` tells of what the function takes."""
        procedure = self._procedure
        fields = [(each.name, self._hint(each.kind).told) for each in procedure.listed]
        if procedure.rest is not None:
            fields.append((procedure.rest.name, [self._hint(procedure.rest.kind).told]))
        if len(fields) > 1:
            fields = [(f"{count:02}{name}", told) for count, (name, told) in enumerate(fields)]
        fields += [(each.name, self._hint(each.kind).told) for each in self._named]
        if self._any_name is not None:
            fields.append(("*", self._hint(self._any_name).told))
        return dict(fields)


def _with_numbers(part: object) -> object:
    """Return what a procedure takes, with a number in front of each name that seems to end in one.

    Where a program writes `x_1`, Perl reads the name `x`, and a number.
    """
    if isinstance(part, list):
        return [_with_numbers(each) for each in part]
    if not isinstance(part, dict):
        return part
    return {_with_number(key): _with_numbers(each) for key, each in part.items()}


def _with_number(key: str) -> str:
    try:
        return key if expand({key: ""}) == {key: "any"} else f"00{key}"
    except ValueError:  # `_is_good()` finds it
        return key


def _is_good(part: object, is_in: bool) -> bool:
    """True if a server of ours can read a part of a definition."""
    try:
        expand(part, is_in)
    except (ValueError, TypeError):
        return False
    return isinstance(part, (dict, list))
