"""What is said of the values of a call that do not fit its procedure: what it takes instead.

A client that gives values where names are wanted, or the other way round, has a list of the wrong
form. So the text says which form, as the client would write it: `add takes n1=, n2=, [scale=]`,
`move takes 2 values: x, y`. What is not required stands in brackets.

The names are those of the program, which `methods` tells everybody. Nothing else of it is told.
"""

from __future__ import annotations

from collections.abc import Sequence

from rpcasync._log import shorten
from rpcasync.arguments.signatures import Signature
from rpcasync.errors import ArgumentError
from rpcasync.wire.messages import as_text

__all__ = ["refusal", "wanted"]

_MOST_NAMES = 20


def refusal(name: str, signature: Signature, values: Sequence[object], error: ArgumentError) -> str:
    """Return what the client of a call is told whose values do not fit.

    Args:
        name: the procedure.
        signature: how it takes values.
        values: what came.
        error: what does not fit.
    """
    takes = f"{name} takes {wanted(signature)}"
    count, listed = len(values), len(signature.listed)
    if not signature.takes_pairs:
        if signature.least <= count and (count <= listed or signature.takes_rest):
            return f"{name}: {error}"  # a value that cannot be converted
        return f"{takes}; got {_given(signature, values)}"
    names = [as_text(each) for each in values[listed::2]]
    if count < signature.least:
        return f"{name}: {error}"
    if not all(isinstance(each, str) for each in names):
        return f"{takes}; got values without names"
    if (count - listed) % 2:
        return f"{takes}; got an odd number of names and values: {count - listed}"
    if not signature.takes_any_name and not signature.names.issuperset(names):
        return f"{name}: {error}; it takes {wanted(signature)}"
    return f"{name}: {error}"


def wanted(signature: Signature) -> str:
    """Return what a function takes, as the client of a call would write it."""
    values = [
        each if number < signature.least else f"[{each}]"
        for number, each in enumerate(signature.listed)
    ]
    rest = "" if signature.rest is None else signature.rest.name
    if not signature.takes_pairs:
        counted = _counted(signature.least, len(values), signature.takes_rest)
        shown = _joined([*values, f"*{rest}"] if signature.takes_rest else values)
        return f"{counted}: {shown}" if shown else counted
    pairs = [f"{each}=" if each in signature.required else f"[{each}=]" for each in signature.named]
    if signature.takes_any_name:
        pairs.append("any names" if not pairs else f"[{rest}=...]")
    return f"{_joined(values)}, then {_joined(pairs)}" if values else _joined(pairs)


def _given(signature: Signature, values: Sequence[object]) -> str:
    """Return how many values came, or which names: who gave those counts half as many values."""
    count = len(values)
    names = [as_text(each) for each in values[::2]] if count <= 2 * _MOST_NAMES else []
    if names and count % 2 == 0 and all(each in signature.listed for each in names):
        return _joined([f"{each}=" for each in names])
    return str(count)


def _counted(least: int, most: int, is_open: bool) -> str:
    if is_open:
        return f"{_number(least)} or more" if least else "any number of values"
    if most == 0:
        return "no values"
    return _number(most) if least == most else f"{least} to {_number(most)}"


def _number(count: int) -> str:
    return f"{count} value" if count == 1 else f"{count} values"


def _joined(names: Sequence[str]) -> str:
    more = ["..."] if len(names) > _MOST_NAMES else []
    return ", ".join([*map(shorten, names[:_MOST_NAMES]), *more])
