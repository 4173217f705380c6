"""Functions that cannot be procedures, and how their programs would write them.

A procedure is an ordinary function whose first parameter is the caller. What is none was most often
written by somebody who knows another library. So the log has the line to write.

This file is for mistakes alone, and no call that is right comes here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from inspect import Parameter

from rpcasync._log import shorten
from rpcasync.arguments.signatures import Signature
from rpcasync.wire.messages import as_text

__all__ = ["kind_of", "mend_of", "takes_too_much"]

_CALLER = "caller"
_MOST_SHOWN = 10  # parameters


class _Dots:
    """Stands for a default, which may be anything, and show it in any way."""

    def __repr__(self) -> str:
        return "..."


_DOTS = _Dots()


def kind_of(name: str, function: Callable[..., object]) -> str:
    """Return why a function of this kind is no procedure, and the mend; "" if it can be one."""
    if inspect.iscoroutinefunction(function):
        kind, how = "coroutine", ", and answer when its work is done"
    elif inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        kind, how = "generator", " without yield"
    else:
        return _without_object(function)
    head = _head(name, _parameters(function))
    return f"it is a {kind} function, procedures are ordinary ones: write {head}{how}"


def _without_object(function: Callable[..., object]) -> str:
    """Return what is wrong with a method that a class was given for, in place of an object."""
    if [each.name for each in _parameters(function)[:2]] != ["self", _CALLER]:
        return ""
    owner = getattr(function, "__qualname__", "").rpartition(".")[0].rpartition(".")[2]
    return f"it is a method, and there is no object: write Server(mux, {owner or 'Thing'}())"


def mend_of(name: str, function: Callable[..., object], keeps_first: bool = False) -> str:
    """Return how to write a function that has no parameter for the caller; "" if it has one.

    Args:
        name: of the procedure.
        function: it.
        keeps_first: there is a first parameter, and it is meant for a value.
    """
    parameters = _parameters(function)
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    has_first = bool(parameters) and parameters[0].kind in positional
    if has_first and not keeps_first:
        return ""
    kind = parameters[0].kind if has_first else Parameter.POSITIONAL_OR_KEYWORD
    others = [each for each in parameters if each.name != _CALLER]
    head = _head(name, [Parameter(_CALLER, kind), *others])
    if keeps_first:
        return f"if {parameters[0].name} is meant for a value, write {head}"
    return f"it has no parameter for the caller: write {head}"


def takes_too_much(
    function: Callable[..., object], signature: Signature, values: Sequence[object]
) -> bool:
    """True if values fit a function that has no caller as its first parameter.

    Args:
        function: a procedure.
        signature: how it takes values behind that parameter.
        values: what does not fit.
    """
    first = next(iter(_parameters(function)), None)
    if first is None or _CALLER in first.name or first.name[0] == "_" or signature.takes_rest:
        return False
    if first.kind is Parameter.POSITIONAL_ONLY and not signature.takes_pairs:
        return len(values) == len(signature.listed) + 1
    names = [as_text(each) for each in values[::2]]
    if len(values) % 2 or first.name not in names or signature.listed:
        return False
    others = {each for each in names if isinstance(each, str)} - {first.name}
    return signature.fits_names(others)


def _parameters(function: Callable[..., object]) -> list[Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):  # builtins without a text signature
        return []


def _head(name: str, parameters: Sequence[Parameter]) -> str:
    """Return the first line of a function, without annotations and defaults."""
    shown = [
        each.replace(
            annotation=Parameter.empty,
            default=Parameter.empty if each.default is Parameter.empty else _DOTS,
        )
        for each in parameters[:_MOST_SHOWN]
    ]
    return f"def rpc_{shorten(name)}{inspect.Signature(shown)}"
