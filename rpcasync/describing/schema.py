"""`schema()`: a JSON document with what each procedure takes and answers, in JSON Schema.

It is about values as they are meant: what Perl sends as text, and what JSON does not have, is told
at the head of the document. The dialect is that of 2020-12; each `in` and `out` is a schema of its
own.
"""

from __future__ import annotations

from collections.abc import Iterable

from rpcasync.describing.kinds import Fields, Kind, Listed, Plain
from rpcasync.describing.procedures import UNKNOWN, Parameter, Procedure

__all__ = ["schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_COMMENT = (
    "Values as they are meant. A program in Perl may send a number as text, and a boolean as 1, 0"
    " or an empty text; what is annotated with the type, in a procedure or an answer, is converted."
    " Bytes are text, each a character up to U+00FF. What is given by name travels as a list of"
    " names and values. Perl's definitions do not tell what may be left out, or undefined."
)
_BYTES = "^[\\u0000-\\u00ff]*$"
_WORDS: dict[str, dict[str, object]] = {
    "float32": {"type": "number"},
    "float64": {"type": "number"},
    "boolean": {"type": "boolean"},
    "utf8string": {"type": "string"},
    "latin1string": {"type": "string", "pattern": _BYTES},
    "binary": {"type": "string", "pattern": _BYTES, "$comment": "bytes"},
    "sub": {"$comment": "a function that the server can call: there is none in JSON"},
    "any": {},
}


def _integers() -> Iterable[tuple[str, dict[str, object]]]:
    for bits in (8, 16, 32, 64):
        half = 2 ** (bits - 1)
        yield f"integer{bits}", {"type": "integer", "minimum": -half, "maximum": half - 1}
        yield f"uinteger{bits}", {"type": "integer", "minimum": 0, "maximum": 2 * half - 1}


_WORDS |= dict(_integers())


def schema(procedures: Iterable[Procedure]) -> dict[str, object]:
    """Return the document, in the types that JSON has."""
    return {
        "$schema": _DIALECT,
        "$comment": _COMMENT,
        "procedures": {each.name: _procedure(each) for each in procedures},
    }


def _procedure(procedure: Procedure) -> dict[str, object]:
    """Return what is told of a procedure; of a part that is not told there is no schema."""
    parts: dict[str, object] = {}
    if procedure.doc:
        parts["description"] = procedure.doc
    if procedure.is_known:
        parts["in"] = _taken(procedure)
    if procedure.answer is not None:
        parts["out"] = _of(procedure.answer, is_whole=True)
    return parts


def _taken(procedure: Procedure) -> dict[str, object]:
    """Return the schema of what is given: of an object if all of it has names, else of an array."""
    takes_names = bool(procedure.named) or procedure.any_name is not None
    if not (procedure.listed or procedure.rest or takes_names):
        return {"type": "object", "maxProperties": 0}
    if not procedure.listed and procedure.rest is None and takes_names:
        return _object(procedure)
    found: dict[str, object] = {"type": "array"}
    if procedure.listed:
        found["prefixItems"] = [_parameter(each, each.name) for each in procedure.listed]
    least = sum(not each.is_optional for each in procedure.listed)
    if least:
        found["minItems"] = least
    if takes_names:
        named = _object(procedure)
        return {**found, "$comment": "then names and values", "$defs": {"named": named}}
    rest = procedure.rest
    return {**found, "items": False if rest is None else _parameter(rest, rest.name)}


def _object(procedure: Procedure) -> dict[str, object]:
    found: dict[str, object] = {
        "type": "object",
        "properties": {each.name: _parameter(each) for each in procedure.named},
    }
    required = [each.name for each in procedure.named if not each.is_optional]
    if required:
        found["required"] = required
    if procedure.any_name is not None:
        found["additionalProperties"] = _of(procedure.any_name)
    return found


def _parameter(parameter: Parameter, title: str = "") -> dict[str, object]:
    found = _of(parameter.kind)
    if title:
        found = {"title": title, **found}
    default = parameter.default
    if default is UNKNOWN or isinstance(default, bytes):
        return found
    if default is None and found.keys() - {"title", "$comment"}:  # it is no value of the type
        return found
    return {**found, "default": default}


def _of(kind: Kind, *, is_whole: bool = False) -> dict[str, object]:
    """Return the schema of a type.

    Args:
        kind: the type.
        is_whole: the names of each hash are all there, as in an answer.
    """
    if isinstance(kind, Plain):
        return _plain(kind)
    if isinstance(kind, Listed):
        inner = [_of(each, is_whole=is_whole) for each in kind.kinds]
        items = inner[0] if len(inner) == 1 else {"anyOf": inner}
        return {"type": "array", "items": items} if inner else {"type": "array"}
    return _hash(kind, is_whole=is_whole)


def _hash(kind: Fields, *, is_whole: bool) -> dict[str, object]:
    found: dict[str, object] = {"type": "object"}
    if kind.fields:
        found["properties"] = {each.name: _of(each.kind, is_whole=is_whole) for each in kind.fields}
        if is_whole:
            found["required"] = [each.name for each in kind.fields]
    if kind.rest is not None:
        found["additionalProperties"] = _of(kind.rest, is_whole=is_whole)
    return found


def _plain(kind: Plain) -> dict[str, object]:
    found = _WORDS.get(kind.name)
    if found is None or kind.note:
        name = f"{kind.name}:{kind.note}" if kind.note else kind.name
        return {**(found or {}), "$comment": name}
    return {**found}
