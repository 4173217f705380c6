"""What is said of values that do not fit a callback: which they are, and how to write it instead.

Which of two rules holds, the signature says: `lambda x, /:` takes the values in order, `lambda x:`
takes the one with the name `x`. Who comes from another library expects the first and writes the
second. So what is told has the values, and the parameters that would take them.

Values come from a peer: few of them are shown, and none in full.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from keyword import iskeyword
from types import FunctionType, MethodType

from rpcasync._log import escape, shorten
from rpcasync.arguments.signatures import Signature
from rpcasync.errors import ArgumentError

__all__ = ["misfit", "show"]

_MOST_SHOWN = 4  # of a list or a dict
_DEEPEST = 2
_LONGEST = 200  # characters
_MOST_NAMES = 4  # in a signature that is proposed
_LONGEST_NAME = 32
_MOST_BITS = 256


def misfit(
    whose: str,
    function: Callable[..., object],
    signature: Signature,
    values: Sequence[object],
    error: ArgumentError,
) -> ArgumentError:
    """Return the error that tells of values that do not fit a callback, and of the mend.

    Args:
        whose: whose callback it is, for the message.
        function: the callback.
        signature: how it takes values.
        values: what came.
        error: what does not fit.
    """
    text = f"{whose}: {error}; got {show(values)}"
    ways = " or ".join(_ways(function, signature, values))
    return ArgumentError(f"{text}: write {ways}" if ways else text)


def _ways(
    function: Callable[..., object], signature: Signature, values: Sequence[object]
) -> list[str]:
    """Return how to write the callback; nothing if it is but a value that cannot be converted."""
    names = _names_in(values)
    error = ["error=None"] if "error" in signature.named else []  # it is told of failures, too
    by_name = _head(function, names or [], [] if names and "error" in names else error)
    in_order = _head(function, ["*values"], error)
    if not signature.takes_pairs:
        listed = len(signature.listed)
        if signature.least <= len(values) and (signature.takes_rest or len(values) <= listed):
            return []
        return [by_name if names else in_order]
    own = _names_in(values[len(signature.listed) :], most=len(values))
    if own is not None and signature.fits_names({*own}):
        return []
    parameters = [*signature.listed, *(name for name in signature.named if name != "error")]
    if parameters and len(parameters) == len(values):
        in_order = _head(function, [*parameters, "/"], error)
    return [by_name, in_order] if names else [in_order]


def _names_in(values: Sequence[object], most: int = 2 * _MOST_NAMES) -> list[str] | None:
    """Return the names if values may be names and values, and not too many to write down."""
    if len(values) % 2 or len(values) > most:
        return None
    names = [name for name in values[::2] if isinstance(name, str) and _can_be_parameter(name)]
    return names if 2 * len(names) == len(values) and len(set(names)) == len(names) else None


def _can_be_parameter(name: str) -> bool:
    return len(name) <= _LONGEST_NAME and name.isidentifier() and not iskeyword(name)


def _head(function: Callable[..., object], values: Sequence[str], error: Sequence[str]) -> str:
    """Return the first line of a function like this one, with other parameters."""
    own = ["self"] if isinstance(function, MethodType) else []
    parameters = ", ".join([*own, *values, *error])
    if not isinstance(function, (FunctionType, MethodType)):
        return f"({parameters})"
    name = function.__name__
    if name == "<lambda>":
        return f"lambda {parameters}:" if parameters else "lambda:"
    return f"def {name}({parameters}):"


def show(values: Sequence[object]) -> str:
    """Return values on one short line: one alone as it is, others as a list."""
    text = _show(values[0] if len(values) == 1 else list(values[: _MOST_SHOWN + 1]), 0)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _show(value: object, depth: int) -> str:
    kind = type(value)
    if isinstance(value, str):
        return f"'{shorten(value)}'" if "'" not in value[:_LONGEST] else f'"{shorten(value)}"'
    if isinstance(value, bytes):
        return f"b'{len(value)} bytes'" if len(value) > _LONGEST_NAME else escape(repr(value))
    if value is None or kind in (bool, float) or _is_short(value):
        return repr(value)
    if kind not in (list, tuple, dict) or depth > _DEEPEST:
        return f"<{kind.__name__}>"
    if isinstance(value, dict):
        return _in_brackets(
            [
                f"{_show(key, depth + 1)}: {_show(each, depth + 1)}"
                for key, each in islice(value.items(), _MOST_SHOWN)
            ],
            "{}",
            len(value),
        )
    items: Sequence[object] = value  # type: ignore[assignment]
    shown = [_show(each, depth + 1) for each in items[:_MOST_SHOWN]]
    return _in_brackets(shown, "[]", len(items))


def _is_short(value: object) -> bool:
    """True for an int that may be written: there is a limit on digits."""
    return type(value) is int and value.bit_length() <= _MOST_BITS


def _in_brackets(shown: list[str], brackets: str, count: int) -> str:
    rest = ["..."] if count > len(shown) else []
    return f"{brackets[0]}{', '.join(shown + rest)}{brackets[1]}"
