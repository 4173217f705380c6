"""A procedure as a method of a class that has a client: its parameters, its call and its answer."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from rpcasync.describing.hints import BUILTINS
from rpcasync.describing.names import Names, is_name
from rpcasync.describing.procedures import Parameter, Procedure
from rpcasync.describing.source import bracketed, docstring, literal
from rpcasync.describing.tables import Tables

__all__ = ["Method"]

_INDENT = " " * 4
_INNER = " " * 8
_TAKEN = frozenset({"self", "builtins", "_given", "_given_values"})  # the body needs them
_REPLY = "rpcasync.Reply"
_FEW = 10  # names that are shown in a docstring


class Method:
    """One procedure; `uses` is what its text needs of the module.

    Args:
        procedure: what it calls.
        name: its own.
        tables: has the classes for hashes.
        hidden: names of builtins that are methods of the class.
    """

    def __init__(
        self, procedure: Procedure, name: str, tables: Tables, hidden: Collection[str]
    ) -> None:
        self.uses: set[str] = set()
        self._procedure = procedure
        self._name = name
        self._tables = tables
        self._hidden = hidden
        names = Names({*_TAKEN, *procedure.names})
        self._fields = names.new("fields")
        self._reply = names.new("reply")
        self._listed = [(_name_of(each, names), each) for each in procedure.listed]
        self._rest = None if procedure.rest is None else _name_of(procedure.rest, names)
        self._named = [each for each in procedure.named if is_name(each.name, _TAKEN)]
        self._unnamed = [each.name for each in procedure.named if not is_name(each.name, _TAKEN)]
        self._parameters = [*self._parameter_texts()]
        self._values = [*self._value_texts()]
        self._returns, self._type = self._answer_texts()

    def text(self, *, is_async: bool) -> str:
        """Return its lines, with a newline behind each."""
        head = f"{'async ' if is_async else ''}def {self._name}("
        lines = bracketed(head, self._parameters, f") -> {self._returns}:", _INDENT)
        lines += docstring(self._doc(), _INNER)
        word = "return" if self._type is None else f"{self._reply} ="
        call = f"{word} {'await ' if is_async else ''}self.rpc.call("
        lines += bracketed(call, self._values, ")", _INNER)
        if self._type is not None:
            lines += bracketed(f"return {self._reply}.to(", [self._type], ")", _INNER)
        return "".join(f"{line}\n" for line in lines)

    def _doc(self) -> str:
        doc, name = self._procedure.doc, self._procedure.name
        notes = []
        if name != self._name:
            notes.append(f"The procedure is {literal(name)}.")
        if self._unnamed:
            shown = ", ".join(literal(each[:60]) for each in self._unnamed[:_FEW])
            more = ", ..." if len(self._unnamed) > _FEW else ""
            notes.append(f"Given by name in {self._fields}: {shown}{more}.")
        return "\n\n".join(filter(None, [doc, "\n".join(notes)]))

    # Parameters

    def _parameter_texts(self) -> Iterator[str]:
        procedure = self._procedure
        has_fields = bool(self._unnamed) or procedure.any_name is not None
        yield "self"
        if not procedure.is_known:
            yield "/"
            yield f"*values: {self._builtin('object')}"
            yield f"**{self._fields}: {self._builtin('object')}"
            return
        yield from (self._parameter(name, each) for name, each in self._listed)
        if self._listed or has_fields:
            yield "/"
        if procedure.rest is not None:
            yield f"*{self._rest}: {self._hint(procedure.rest)}"
        elif self._named:
            yield "*"
        yield from (self._parameter(each.name, each) for each in self._named)
        if self._unnamed or procedure.any_name is None:
            text = self._builtin("object")
        else:
            text = self._hint(Parameter(self._fields, procedure.any_name))
        if has_fields:
            yield f"**{self._fields}: {text}"

    def _parameter(self, name: str, parameter: Parameter) -> str:
        text = self._hint(parameter)
        if not parameter.is_optional:
            return f"{name}: {text}"
        return f"{name}: {text} | None = None"

    def _hint(self, parameter: Parameter) -> str:
        text = self._tables.taken(self._procedure.name, parameter, self._hidden)
        self._note(text)
        return text

    def _builtin(self, name: str) -> str:
        text = f"builtins.{name}" if name in self._hidden else name
        self._note(text)
        return text

    def _note(self, text: str) -> None:
        """Note what an annotation needs."""
        if "builtins." in text:
            self.uses.add("builtins")
        if "Callable[" in text:
            self.uses.add("Callable")

    # The call

    def _value_texts(self) -> Iterator[str]:
        """Give what the client is called with."""
        yield literal(self._procedure.name)
        if not self._procedure.is_known:
            yield "*values"
            yield f"**{self._fields}"
            return
        yield from (name for name, each in self._listed if not each.is_optional)
        optional = [name for name, each in self._listed if each.is_optional]
        if optional:
            self.uses.update(("_given_values", "itertools"))
            yield f"*_given_values({', '.join(optional)})"
        if self._rest is not None:
            yield f"*{self._rest}"
        yield from (f"{each.name}={each.name}" for each in self._named if not each.is_optional)
        given = [f"{each.name}={each.name}" for each in self._named if each.is_optional]
        if given:
            self.uses.add("_given")
            yield f"**_given({', '.join(given)})"
        if self._unnamed or self._procedure.any_name is not None:
            yield f"**{self._fields}"

    # The answer

    def _answer_texts(self) -> tuple[str, str | None]:
        """Return what is returned, and to what the reply is converted, None if it is not."""
        answer, name = self._procedure.answer, self._procedure.name
        if answer is None:
            return _REPLY, None
        returns = self._tables.answered(name, answer, self._hidden)
        if returns in ("object", "builtins.object"):
            return _REPLY, None
        inside = BUILTINS.intersection(self._procedure.names)  # parameters, for the body
        converted = self._tables.answered(name, answer, inside)
        for text in (returns, converted):
            self._note(text)
        return returns, converted


def _name_of(parameter: Parameter, names: Names) -> str:
    """Return a name for what is given without one."""
    return parameter.name if is_name(parameter.name, _TAKEN) else names.new(parameter.name)
