"""What travels in a packet, and the shape that it has as a list.

    request   [id, procedure, *args]      client to server
    reply     [id, *values]               server to client
    failure   [id, "error", text, ...]    a reply by its form: an agreement, not a type
    invoke    [id, "call", *args]         server to client: of a function that it was passed
    release   [id, "destroy"]             server to client: it will not be called any more

The ids are the client's, of calls and of functions alike: an integer from 0 on, or the same as
text when an old Perl has sent it. A server sends an id back exactly as it came.

In the arguments of a request, a `CallbackRef` stands for a function of the client's. How it is
written is the codec's affair, but for one thing: `CALLBACK_CLASS` stands in the payload as it is.

This file knows nothing of bytes, and of who is waiting for an answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rpcasync._log import shorten
from rpcasync.errors import ProtocolError

__all__ = [
    "CALLBACK_CLASS",
    "CALLBACK_HINT",
    "CALLBACK_MARK",
    "FAILURE_KEYS",
    "CallbackRef",
    "Failure",
    "Id",
    "Invoke",
    "Release",
    "Request",
    "Result",
    "Stray",
    "as_id",
    "as_text",
    "check_reply",
    "check_request",
    "crash_text",
    "failure_text",
    "failure_values",
    "invoke_values",
    "parse_invoke",
    "release_values",
]

Id = int | str

CALLBACK_CLASS = "RPC::Async::Coderef"
CALLBACK_MARK = CALLBACK_CLASS.encode()
"""Stands in each payload with a callback: one without it need not be searched for callbacks."""
CALLBACK_HINT = ord(":")
"""A byte of the mark: to look for one byte first takes a tenth of the time."""

# It is the client that chooses the id, and the server that has to send it back.
_ID_BITS = 64
_ID_LENGTH = 20  # characters: enough for such a number as text


@dataclass(frozen=True, slots=True)
class CallbackRef:
    """Stands for a function of the client's, which the server can call by the id."""

    id: Id


@dataclass(slots=True)
class Request:
    """A client calls a procedure; in `args`, a CallbackRef stands for each callback."""

    id: Id
    procedure: str
    args: list[object]
    size: int = field(default=0, compare=False)  # bytes of the payload
    has_callbacks: bool = field(default=False, compare=False)


@dataclass(slots=True)
class Result:
    """The answer to the call that `token` stands for."""

    token: object
    values: list[object]


@dataclass(slots=True)
class Failure:
    """The server answered the call that `token` stands for with an error."""

    token: object
    text: str


@dataclass(slots=True)
class Invoke:
    """The server calls the function that `token` stands for."""

    token: object
    args: list[object]


@dataclass(slots=True)
class Release:
    """The server will not call the function any more that `token` stands for."""

    token: object


@dataclass(slots=True)
class Stray:
    """A reply that nobody waits for."""


def check_request(value: object) -> tuple[Id, str, list[object]]:
    """Read a decoded packet as a request: its id, its procedure and its arguments.

    Raises:
        ProtocolError: it is not one; the message says why.
    """
    if type(value) is not list or len(value) < 2:
        raise ProtocolError(f"not a call: {_describe(value)}, expected [id, procedure, ...]")
    procedure = as_text(value[1])
    if type(procedure) is not str:
        raise ProtocolError(f"not a call: the procedure is {_describe(procedure)}, expected a name")
    return _check_id(value[0]), procedure, value[2:]


def check_reply(value: object) -> tuple[Id, list[object]]:
    """Read a decoded packet as a reply: its id and its values.

    Raises:
        ProtocolError: it is not one; the message says why.
    """
    if type(value) is not list or not value:
        raise ProtocolError(f"not a reply: {_describe(value)}, expected [id, ...]")
    return _check_id(value[0]), value[1:]


def parse_invoke(values: list[object]) -> list[object] | None:
    """Read what follows the id of a function: the arguments to call it with; None to release it.

    Raises:
        ProtocolError: it is neither.
    """
    word = as_text(values[0]) if values else None
    if word == "call":
        return values[1:]
    if word == "destroy":
        return None
    raise ProtocolError("not for a callback: expected [id, 'call', ...] or [id, 'destroy']")


def invoke_values(args: Iterable[object]) -> tuple[object, ...]:
    """Return what follows the id of a function to call it."""
    return ("call", *args)


def release_values() -> tuple[object, ...]:
    """Return what follows the id of a function to release it."""
    return ("destroy",)


def as_text(value: object) -> object:
    """Return bytes as text: a codec may give all of Perl's strings as bytes, names included."""
    return value.decode("latin-1") if type(value) is bytes else value


def as_id(value: object) -> Id | None:
    """Return what can be an id as one, None for what cannot: a boolean, a fraction, too long."""
    value = _as_whole(as_text(value))
    if type(value) is int:
        return value if value.bit_length() <= _ID_BITS else None
    return value if type(value) is str and len(value) <= _ID_LENGTH else None


def _as_whole(value: object) -> object:
    """Return a number of JSON as an int if that is what it says, if with a point or an exponent."""
    return int(value) if type(value) is float and value.is_integer() else value


def _check_id(value: object) -> Id:
    found = as_id(value)
    if found is not None:
        return found
    value = _as_whole(as_text(value))
    if type(value) is int:
        raise ProtocolError(f"not a packet: id of {value.bit_length()} bits, limit is {_ID_BITS}")
    raise ProtocolError(f"not a packet: the id is {_describe(value)}, expected an integer")


def _describe(value: object) -> str:
    """Name a value by its kind and size: it came from a stranger and may be huge."""
    kind = type(value).__name__
    return f"{kind} of length {len(value)}" if isinstance(value, (list, dict, str)) else kind


FAILURE_KEYS = ("error", "errors")
"""The names in a failure. A tuple, not a set: a list may stand where a name should."""


def failure_values(text: str) -> tuple[object, ...]:
    """Return the values of a failure: under both keys that releases of the Perl modules use."""
    return ("error", text, "errors", [text])


def crash_text(procedure: str) -> str:
    """Return the text of the failure of a call whose procedure raised an exception.

    It says nothing of the exception, which is nobody's affair but the server's. A client knows it
    again: the connection that ends next has ended for that.
    """
    return f"{shorten(procedure)}: failed; see the server's log"


def failure_text(values: list[object]) -> str | None:
    """Return the text of a failure, None if the values are an answer.

    A failure has nothing but `error` and `errors` in it; an answer that has other keys beside
    them is the application's own affair.
    """
    count = len(values)
    if count != 2 and count != 4:
        return None
    if any(as_text(key) not in FAILURE_KEYS for key in values[::2]):
        return None
    found = values[1]
    texts: Iterable[object] = map(as_text, found if type(found) is list else [found])
    return "; ".join(text for text in texts if type(text) is str) or None
