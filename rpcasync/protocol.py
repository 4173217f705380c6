"""The core: bytes in, messages out; messages in, bytes out. No socket, no clock, no user code.

Each connection has one of these objects at either end. `feed()` only stores, `next_message()`
is pulled, one message at a time: whoever pulls may raise, answer or give up between two
messages and loses none. Good messages come first; then, if the peer broke the rules,
ProtocolError, each time it is asked. What a call's `token` is, the core does not ask.

The shells are `client.py` and `server.py`; a test, or another event loop, can drive this as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from rpcasync._log import log
from rpcasync.codecs import Codec, JSONCodec, StorableCodec
from rpcasync.errors import ProtocolError
from rpcasync.framing import DEFAULT_MAX_PACKET, LengthPrefix
from rpcasync.messages import (
    Failure,
    Id,
    Request,
    Result,
    failure_text,
    failure_values,
    parse_reply,
    parse_request,
)

__all__ = ["ClientProtocol", "ServerProtocol"]

T = TypeVar("T")

_LONGEST_TEXT = 4096  # characters of an error
_ID_MASK = 0x7FFFFFFF  # ids stay within 31 bits, as a Perl client's do


class _Protocol:
    """What both ends have in common: payloads come, and the first bad one is the last."""

    __slots__ = ("_failure", "_framing")

    def __init__(self, max_packet: int) -> None:
        self._framing = LengthPrefix(max_packet)
        self._failure: ProtocolError | None = None

    def feed(self, data: bytes) -> None:
        """Store bytes from the peer; never raises."""
        self._framing.feed(data)

    def _next_frame(self) -> bytes | None:
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        try:
            return self._framing.next_frame()
        except ProtocolError as error:
            self._failure = error
            raise

    def _decode(self, codec: Codec, frame: bytes, parse: Callable[[object], T]) -> T:
        try:
            return parse(self._decode_safely(codec, frame))
        except ProtocolError as error:
            self._failure = error
            raise

    def _decode_safely(self, codec: Codec, frame: bytes) -> object:
        try:
            return codec.decode(frame)
        except ProtocolError:
            raise
        except Exception as error:
            # A codec of the program's own may raise anything, and any may run out of memory.
            log.exception("codec %s failed", codec.name)
            raise ProtocolError(f"cannot be decoded: {type(error).__name__}") from error


class ServerProtocol(_Protocol):
    """A server's end of one connection.

    Args:
        codecs: what it understands, default is Storable and JSON; the first byte of the first
            payload chooses. The first codec is for payloads that begin like none of them: it
            says what is wrong.
        max_packet: bytes in one packet, both ways.
    """

    __slots__ = ("_codec", "_codecs")

    def __init__(
        self, codecs: Sequence[Codec] | None = None, max_packet: int = DEFAULT_MAX_PACKET
    ) -> None:
        super().__init__(max_packet)
        self._codecs = (StorableCodec(), JSONCodec()) if codecs is None else codecs
        self._codec: Codec | None = None

    @property
    def codec(self) -> Codec:
        """The codec of this client; until it is known, the first one."""
        return self._codecs[0] if self._codec is None else self._codec

    def next_message(self) -> Request | None:
        """Return the next request, None if there is none yet.

        Raises:
            ProtocolError: the client sent something that is no request.
        """
        frame = self._next_frame()
        if frame is None:
            return None
        codec = self._codec
        if codec is None:
            codec = self._codec = self._detect(frame)
        return self._decode(codec, frame, parse_request)

    def _detect(self, frame: bytes) -> Codec:
        for codec in self._codecs:
            if frame[0] == codec.first_byte:
                return codec
        return self._codecs[0]

    def result(self, id: Id, values: Iterable[object]) -> bytes:  # noqa: A002
        """Return the packet that answers a request.

        Raises:
            EncodeError: a value cannot be sent, or the packet is over the limit.
        """
        return self._framing.frame(self.codec.encode([id, *values]))

    def failure(self, id: Id, text: str) -> bytes:  # noqa: A002
        """Return the packet that answers a request with an error; a very long text is cut.

        Raises:
            EncodeError: the packet is over the limit.
        """
        if len(text) > _LONGEST_TEXT:
            text = f"{text[: _LONGEST_TEXT - 3]}..."
        text = text.encode("utf-8", "backslashreplace").decode()  # lone surrogates
        return self.result(id, failure_values(text or "failed"))  # no text is no error


class ClientProtocol(_Protocol):
    """A client's end of one connection.

    Args:
        codec: what to speak.
        max_packet: bytes in one packet, both ways.
    """

    __slots__ = ("_codec", "_next_id", "_pending")

    def __init__(self, codec: Codec, max_packet: int = DEFAULT_MAX_PACKET) -> None:
        super().__init__(max_packet)
        self._codec = codec
        self._pending: dict[Id, object] = {}
        self._next_id = 0

    @property
    def pending(self) -> Mapping[Id, object]:
        """The tokens of the calls that are not answered, by id, oldest first."""
        return MappingProxyType(self._pending)

    def call(self, procedure: str, args: Iterable[object], token: object) -> tuple[int, bytes]:
        """Return the id and the packet of a call; `token` comes back with the answer.

        Raises:
            EncodeError: an argument cannot be sent, or the packet is over the limit. The call
                is not pending then.
        """
        id = self._next_id  # noqa: A001
        while id in self._pending:
            id = (id + 1) & _ID_MASK  # noqa: A001
        packet = self._framing.frame(self._codec.encode([id, procedure, *args]))
        self._pending[id] = token
        self._next_id = (id + 1) & _ID_MASK
        return id, packet

    def next_message(self) -> Result | Failure | None:
        """Return the next answer to a pending call, None if there is none yet.

        An answer that nobody waits for is logged and skipped.

        Raises:
            ProtocolError: the server sent something that is no reply.
        """
        while True:
            frame = self._next_frame()
            if frame is None:
                return None
            id, values = self._decode(self._codec, frame, parse_reply)  # noqa: A001
            if id not in self._pending:
                id = _as_number(id)  # noqa: A001
            if id not in self._pending:
                log.warning("< reply to a call that is not pending, id %.20r", id)
                continue
            token = self._pending.pop(id)
            text = failure_text(values)
            return Result(token, values) if text is None else Failure(token, text)

    def connection_lost(self) -> list[object]:
        """Return the tokens of the calls that will never be answered, and forget them."""
        tokens = list(self._pending.values())
        self._pending.clear()
        return tokens


def _as_number(id: Id) -> Id:  # noqa: A002
    """Return an id that came back as text as the number that was sent."""
    return int(id) if isinstance(id, str) and id.isascii() and id.isdigit() and len(id) < 11 else id
