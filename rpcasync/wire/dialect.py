"""A peer that speaks RPC::Async 2.0, known by its first packet: it is told so, and no more.

2.0 was never released. It is like 1.05, but for two things: the length in front of a packet does
not count its own four bytes, and what a server sends is wrapped.

    request   [id, procedure, *args]
    reply     [id, "result", [values]]      failure   [id, "die", [text]]
    invoke    [id, "call", [args]]          release   [id, "destroy", []]

So its first packet, cut as one of 1.05, ends four bytes too early. A Storable image knows where it
ends: one that is cut runs out, and with the next four bytes it is whole, and of such a form. Bytes
that are none of both kinds cannot be taken for it.

Only a packet that cannot be read is looked at here, so others do not pay for it.
"""

from __future__ import annotations

import struct

from rpcasync.errors import DecodeError, ProtocolError
from rpcasync.wire.codecs import Codec, StorableCodec
from rpcasync.wire.messages import Id, as_text, check_reply, check_request

__all__ = ["OtherDialect", "by_client", "by_server"]

_SPOKEN = "speaks RPC::Async 2.0, which was never released; this is 1.05: see porting.md"
_ANSWER = "the server speaks RPC::Async 1.05, and this client 2.0"
_WORDS = ("result", "die", "call", "destroy")


class OtherDialect(ProtocolError):
    """The peer speaks RPC::Async 2.0; `answer` is the packet that tells it so, if there is one."""

    answer = b""


def by_client(error: Exception, codec: Codec, frame: bytes, behind: bytes) -> OtherDialect | None:
    """Return the error for a client of 2.0, None if it is not one.

    Args:
        error: why its first packet cannot be read.
        codec: what was to read it.
        frame: the payload, as it was cut.
        behind: the four bytes that follow.
    """
    try:
        id, _, _ = check_request(_whole(error, codec, frame, behind))  # noqa: A001
    except ProtocolError:
        return None
    found = OtherDialect(_SPOKEN)
    found.answer = _failure(id)
    return found


def by_server(error: Exception, codec: Codec, frame: bytes, behind: bytes) -> OtherDialect | None:
    """Return the error for a server of 2.0, None if it is not one: as `by_client()`."""
    try:
        _, values = check_reply(_whole(error, codec, frame, behind))
    except ProtocolError:
        return None
    is_wrapped = len(values) == 2 and as_text(values[0]) in _WORDS and type(values[1]) is list
    return OtherDialect(_SPOKEN) if is_wrapped else None


def _whole(error: Exception, codec: Codec, frame: bytes, behind: bytes) -> object:
    """Return the value of a packet that was cut too early.

    Raises:
        ProtocolError: it was not.
    """
    ran_out = isinstance(error, DecodeError) and error.code == "truncated"
    if not ran_out or not isinstance(codec, StorableCodec) or len(behind) != 4:
        raise ProtocolError("something else is wrong with it")
    return codec.decode(frame + behind)


def _failure(id: Id) -> bytes:  # noqa: A002
    """Return the packet that fails a call of a 2.0 client's, so that its program is told."""
    payload = StorableCodec(typed=False).encode([id, "die", [_ANSWER]])
    return struct.pack("!I", len(payload)) + payload
