"""A call that is passed on as it came, and its answer, handed over as it comes.

Both are read on the way, for the limits, and neither is written anew where both ends speak
Storable: what a Perl program sees is what another has written, to the last flag. Only the ids in it
are others, as each connection has its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rpcasync.calls import Call, Telling
from rpcasync.client import Client
from rpcasync.coderefs import Coderef
from rpcasync.errors import RPCError
from rpcasync.wire.leaves import map_leaves
from rpcasync.wire.messages import Id

__all__ = ["Answer", "Relayed"]


class Answer(NamedTuple):
    """What a server has answered."""

    payload: bytes
    """The packet, without its length."""
    values: list[object]
    """What is in it, behind the id."""


class Relayed(Call):
    """A call of somebody else's.

    Args:
        client: who makes it.
        procedure: its name.
        done: called with what comes of it: an `Answer`, or an error.
    """

    __slots__ = ("__weakref__", "_client", "_done")

    def __init__(
        self, client: Client, procedure: str, done: Callable[[Answer | RPCError], None]
    ) -> None:
        super().__init__(client, procedure, [], None)
        self._client = client
        self._done = done

    def send(self, values: list[object], payload: bytes, has_callbacks: bool) -> None:
        """Send it, once.

        Args:
            values: its arguments, with a `Coderef` for each function of the client it came from.
            payload: the packet that it came in, without the length.
            has_callbacks: there may be functions among the values.

        Raises:
            EncodeError: a value cannot be sent.
            QueueFull: too much is queued already.
        """
        functions: dict[Id, object] = {}

        def note(value: object) -> object:
            if isinstance(value, Coderef):
                functions[value.id] = value
            return value

        if has_callbacks:
            map_leaves(values, note)
        self._client._relay(self, values, payload, functions)

    def _answered(self, values: list[object]) -> Telling:
        self._outcome = values
        return self._done, (Answer(self._client._protocol_of(self).peeked_payload, values),), {}

    def _refused(self, text: str) -> Telling:
        del text  # as it stands there, with whatever is beside it
        return self._answered(self._client._protocol_of(self).peeked_values())

    def _failed(self, error: RPCError) -> Telling:
        self._outcome = error
        return self._done, (error,), {}
