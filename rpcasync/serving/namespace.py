"""The procedures of a server: the `rpc_*` functions of a namespace, and `def_*` about them.

A name is looked up at each call, so a function that is defined or replaced while the server
runs counts from then on. Its signature is read once.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, NoReturn

from rpcasync._log import fields, log, shorten
from rpcasync.arguments.reflection import describe, detail, is_sendable, stated
from rpcasync.arguments.signatures import Signature
from rpcasync.arguments.wanted import refusal
from rpcasync.errors import ArgumentError
from rpcasync.serving.mends import kind_of, mend_of, takes_too_much

__all__ = ["Namespace", "Procedure"]

_PREFIX = "rpc_"
_DEFINITION_PREFIX = "def_"
_IN_DETAIL = 2  # Perl's servers, and older ones, take it for any other true value
_MAX_KNOWN = 1024
_LONGEST_KNOWN = 256  # characters


class Procedure:
    """A function that clients can call, and how it takes their values.

    `signature` is None if it can take none, because it has no parameter for the caller or such.
    `bind(values)` returns the arguments of the function, but for the caller, as `Signature.bind()`
    does, and raises ArgumentError for values that do not fit, and if the function can be no
    procedure.
    """

    __slots__ = ("_unusable", "bind", "full_name", "function", "name", "signature")

    def __init__(self, name: str, function: Callable[..., object]) -> None:
        self.name = name
        self.full_name = _PREFIX + name  # in the namespace
        self.function = function
        self.signature: Signature | None = None
        self._unusable = ""
        try:
            self.signature = Signature(function, leading=1).with_short_cuts()
            self.bind = self.signature.bind
        except ArgumentError as error:
            self._unusable = mend_of(name, function) or str(error)
        self._unusable = self._unusable or kind_of(name, function)
        if self._unusable:
            self.bind = self._refuse

    def _refuse(self, values: Sequence[object]) -> NoReturn:
        del values
        raise ArgumentError(self._unusable)

    def refusal(self, values: Sequence[object], error: ArgumentError) -> str:
        """Return what a client is told whose call did not fit; the program's mistakes are logged.

        Args:
            values: what came.
            error: what `bind()` has raised.
        """
        name = shorten(self.name)
        if self._unusable or self.signature is None:
            extra = fields(procedure=self.name)
            log.error("procedure %s cannot be called: %s", name, self._unusable, extra=extra)
        elif takes_too_much(self.function, self.signature, values):
            mend = mend_of(self.name, self.function, keeps_first=True)
            log.error(
                "procedure %s may lack a parameter for the caller: %s",
                *(name, mend),
                extra=fields(procedure=self.name),
            )
            if len(values) == len(self.signature.listed) + 1:  # the mistake may be the client's
                return refusal(name, self.signature, values, error)
        else:
            return refusal(name, self.signature, values, error)
        return f"{name}: cannot be called; see the server's log"


class Namespace:
    """Where a server looks for its procedures.

    Args:
        source: a module, a mapping of names to functions such as `globals()`, an object with
            `rpc_*` methods, or the dotted name of a module, which is imported. Perl's
            spelling of a name ("pkg::sub", "pkg::", "main") works too.

    Raises:
        ImportError: there is no module of that name.
    """

    def __init__(self, source: object) -> None:
        if isinstance(source, str):
            name = source.replace("::", ".").strip(".")
            source = importlib.import_module("__main__" if name == "main" else name)
        self._source: Any = source
        self._look_up: Callable[[str], Any] = (
            source.get if isinstance(source, Mapping) else lambda name: getattr(source, name, None)
        )
        self._known: dict[str, Procedure] = {}
        self._is_empty = True  # as far as is known

    @property
    def name(self) -> str:
        """What Perl would call the package; the program itself is "main"."""
        source = self._source
        if isinstance(source, Mapping):
            name = source.get("__name__", "main")
        elif isinstance(source, ModuleType) or inspect.isclass(source):
            name = source.__name__
        else:
            name = type(source).__name__
        return "main" if name == "__main__" else str(name)

    def find(self, name: str) -> Procedure | None:
        """Return the procedure that clients call by this name, None if there is none."""
        known = self._known.get(name)
        function = self._look_up(_PREFIX + name if known is None else known.full_name)
        if known is not None and known.function is function:  # methods are made anew each time
            return known
        if not callable(function):
            return None
        if known is None or known.function != function:
            # An object may have any name that a peer invents: many, and long ones.
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = Procedure(name, function)
            if len(name) <= _LONGEST_KNOWN:
                self._known[name] = known
        return known

    def names(self) -> list[str]:
        """Return the names of all procedures, sorted."""
        source = self._source
        names = list(source) if isinstance(source, Mapping) else dir(source)
        return sorted(
            name.removeprefix(_PREFIX)
            for name in names
            if isinstance(name, str) and name.startswith(_PREFIX) and callable(self._look_up(name))
        )

    def is_empty(self) -> bool:
        """Return whether no procedure has ever been seen.

        Strangers have this asked by any name that there is not, so all names are looked at no
        more than once.
        """
        self._is_empty = self._is_empty and not self.names()
        return self._is_empty

    # Reflection

    def methods(self, defs: int = 0, caller: object = None) -> dict[str, dict[str, object]]:
        """Return all procedures by name, with what they take and answer if `defs` is true.

        That is what `def_NAME` says: a function, which is called once as `def_NAME(caller, True)`
        for `in` and once as `def_NAME(caller, False)` for `out`, or a dict of the two. A
        procedure without one, or whose one fails, is described by its signature.

        Args:
            defs: 0 for an empty dict in place of each definition; 2 for what is in no definition
                of Perl's, too: the order of names, defaults, docstrings as a whole.
            caller: what the functions get: the call of `methods` that this is for.
        """
        names = [name for name in self.names() if is_sendable(name)]
        if not defs:
            return {name: {} for name in names}
        procedures = [self.find(name) for name in names]  # a def_NAME may take others away
        definitions = {each: self._definition(each, caller) for each in procedures if each}
        if defs == _IN_DETAIL:
            for each, definition in definitions.items():
                definition |= detail(each.function, definition, each.signature)
        return {each.name: definition for each, definition in definitions.items()}

    def _definition(self, procedure: Procedure, caller: object) -> dict[str, object]:
        described = describe(procedure.function, procedure.signature)
        try:
            source = self._look_up(_DEFINITION_PREFIX + procedure.name)
            return described if source is None else stated(source, caller, described)
        except Exception:  # noqa: BLE001  # whatever it is, the others are not to suffer
            log.exception("%s%s is not used", _DEFINITION_PREFIX, shorten(procedure.name))
            return described
