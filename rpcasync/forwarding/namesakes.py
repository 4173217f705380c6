"""Procedures of a server behind that are named as those which every server has: `health`, `stats`.

Whoever asks how a server does means the server that he asks. But an old server may have a procedure
of its own that happens to have that name, and its clients go on to call it. Which it is, the list
of its procedures says, on which what every server has does not stand. It is asked for once, at the
first such call, and what `methods` brings later counts from then on.

This file passes nothing on.
"""

from __future__ import annotations

from collections.abc import Callable

from rpcasync.client import Client
from rpcasync.errors import RemoteError, RPCError

__all__ = ["Namesakes"]

_LIMIT = 0.5  # seconds that the list may take: a probe has one


class Namesakes:
    """Those of one server behind."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: frozenset[str] | None = None  # None is not known

    def has(self, name: str) -> bool:
        """Return True if it is known that the server has a procedure of a name."""
        return self._names is not None and name in self._names

    def learn(self, values: tuple[object, ...]) -> dict[str, object] | None:
        """Take an answer of `methods`; return the procedures in it, None if there are none."""
        names = dict(zip(values[::2], values[1::2], strict=False)) if not len(values) % 2 else {}
        found = names.get("methods")
        if not isinstance(found, dict):
            return None
        self._names = frozenset(found)
        return found

    def look_up(self, name: str, client: Client, done: Callable[[bool], None]) -> None:
        """Tell a function whether the server may have a procedure of a name; now, if it is known.

        One that has no `methods` may have it: so it is to be called, and answers that it has not.
        One that does not answer has none now.

        Raises:
            RPCError: it cannot be asked.
        """
        if self._names is not None:
            done(name in self._names)
            return

        def answered(*values: object, error: RPCError | None = None) -> None:
            self.learn(values)
            done(self.has(name) or isinstance(error, RemoteError))

        client.call("methods", answered).set_timeout(_LIMIT)
