"""The signatures of callbacks that are kept, so that each is read once.

Programs make callbacks by the thousand from one lambda, `def` or method, and to read a signature
takes longer than a call does. So they are known by the code that they share. An entry holds the
code, so that no other can get its id, and all else that a signature depends on: the annotations,
which defaults are None, and for annotations in text the globals in which they mean something.
"""

from __future__ import annotations

from collections.abc import Callable
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType
from typing import TypeVar

from rpcasync.arguments.signatures import Signature

__all__ = ["signature_of"]

K = TypeVar("K")
V = TypeVar("V")

_MAX_KNOWN = 1024

_Known = dict[int, tuple[object, Signature]]  # by id of the code, with the code itself
_by_code: _Known = {}  # of plain functions
_by_method: _Known = {}  # of methods
_by_kind: dict[tuple[type, str], Signature] = {}  # of functions in C, as list.append of some list
# Of those with annotations or defaults; with the annotations, and the globals of those in text.
_special: dict[tuple[object, ...], tuple[object, Signature, dict[str, object], object]] = {}


def signature_of(function: Callable[..., object]) -> Signature:
    """Return the signature of a callback, and keep it."""
    known, plain = _by_code, function
    if type(function) is MethodType:
        known, plain = _by_method, function.__func__
    # What has attributes may have a `__wrapped__` or `__signature__`, and is not known by its code.
    if type(plain) is FunctionType and not plain.__dict__:
        if plain.__annotations__ or plain.__defaults__ or plain.__kwdefaults__:
            return _of_special(function, plain)
        code = plain.__code__
        found = known.get(id(code))
        if found is None:
            found = code, Signature(function).with_short_cuts()
            _keep(known, id(code), found)
        return found[1]
    return _of_method_in_c(function) if type(function) is BuiltinMethodType else Signature(function)


def _of_special(function: Callable[..., object], plain: FunctionType) -> Signature:
    """Of defaults it matters whether they are None, as `n: int = None` is `n: int | None`."""
    annotations, code = plain.__annotations__, plain.__code__
    by_name = plain.__kwdefaults__ or {}
    key = (
        id(code),
        plain is function,
        *[default is None for default in plain.__defaults__ or ()],
        *[(name, default is None) for name, default in by_name.items()],
    )
    # Annotations in text mean the same as long as the globals are the same.
    is_text = any(type(annotation) is str for annotation in annotations.values())
    names = plain.__globals__ if is_text else None
    if key in _special:
        _, signature, noted, known_names = _special[key]
        try:
            is_known = annotations == noted and names is known_names
        except Exception:  # noqa: BLE001  # an annotation may be anything, as an array
            is_known = False
        if is_known:
            return signature
    signature = Signature(function).with_short_cuts()
    _keep(_special, key, (code, signature, dict(annotations), names))
    return signature


def _of_method_in_c(function: BuiltinMethodType) -> Signature:
    owner = function.__self__
    # Functions of modules and classes may have the same name and different signatures.
    if owner is None or isinstance(owner, (ModuleType, type)):
        return Signature(function)
    key = type(owner), function.__name__
    if key not in _by_kind:
        _keep(_by_kind, key, Signature(function).with_short_cuts())
    return _by_kind[key]


def _keep(known: dict[K, V], key: K, entry: V) -> None:
    if len(known) >= _MAX_KNOWN:
        known.clear()
    known[key] = entry
