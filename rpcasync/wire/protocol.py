"""The core: bytes in, messages out; messages in, bytes out. No socket, no clock, no user code.

Each connection has one of these objects at either end. `feed()` only stores, `next_message()`
is pulled, one message at a time: whoever pulls may raise, answer or give up between two
messages and loses none. Good messages come first; then, if the peer broke the rules,
ProtocolError, each time it is asked. What a call's `token` is, the core does not ask.

The shells are `client.py` and `server.py`; a test, or another event loop, can drive this as well.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from types import MappingProxyType
from typing import Any, TypeVar, cast

from rpcasync._log import log, shorten
from rpcasync.errors import EncodeError, FrameTooLarge, ProtocolError
from rpcasync.storable._places import located_in_list
from rpcasync.wire.codecs import Codec, JSONCodec, StorableCodec
from rpcasync.wire.deadlines import Deadlines
from rpcasync.wire.dialect import by_client, by_server
from rpcasync.wire.framing import DEFAULT_MAX_PACKET, LengthPrefix
from rpcasync.wire.leaves import map_leaves
from rpcasync.wire.messages import (
    CALLBACK_HINT,
    CALLBACK_MARK,
    FAILURE_KEYS,
    CallbackRef,
    Failure,
    Id,
    Invoke,
    Release,
    Request,
    Result,
    Stray,
    check_reply,
    check_request,
    failure_text,
    failure_values,
    invoke_values,
    parse_invoke,
    release_values,
)
from rpcasync.wire.splicing import with_id, with_ids
from rpcasync.wire.strangers import named

__all__ = ["ClientProtocol", "Peeked", "ServerProtocol"]

R = TypeVar("R", bound=Request)

Message = Result | Failure | Invoke | Release

Peeked = tuple[type[Result | Failure | Invoke | Release | Stray], Any, Any]
"""The kind of a message, its token, and what else it has: cheaper than the message itself."""

_LONGEST_TEXT = 4096  # characters of an error
_MOST_ABANDONED = 65_536  # ids to remember: a server that never answers must not fill the memory
_FEW_ORIGINS = 64  # of callbacks that are gone, and may still be noted
_STORABLE = bytes([StorableCodec.first_byte])
_NO_ID = -1  # nothing was looked at yet
_ID_MASK = 0x7FFFFFFF  # ids stay within 31 bits, as a Perl client's do


class _Protocol:
    """What both ends have in common: payloads come, and the first bad one is the last."""

    __slots__ = ("_frame", "framing")

    def __init__(self, max_packet: int) -> None:
        self.framing = LengthPrefix(max_packet)
        """What has come and was not taken yet."""
        self._frame = self.framing.frame

    @property
    def max_packet(self) -> int:
        """Bytes in one packet, at most."""
        return self.framing.max_packet

    def feed(self, data: bytes) -> None:
        """Store bytes from the peer; never raises."""
        self.framing.feed(data)

    def _cut(self) -> list[bytes]:
        """Return the payloads that have come since all were taken, the next one last.

        Raises:
            ProtocolError: there are none, and what comes next is no packet.
        """
        framing = self.framing
        frames = framing.cut()
        if not frames and framing.failure is not None:
            may_be_known = self._is_first and isinstance(framing.failure, FrameTooLarge)
            # Without a name here: its traceback holds this frame.
            raise (may_be_known and named(framing.behind())) or _copy_of(framing.failure)
        return frames

    @property
    def _is_first(self) -> bool:
        """True as long as no packet was read."""
        raise NotImplementedError

    def _reject(self, error: Exception, codec: Codec) -> ProtocolError:
        """Note that nothing more can be read, and return why."""
        if not isinstance(error, ProtocolError):
            if not isinstance(error, MemoryError):  # one of the program's own may raise anything
                log.error("codec %s failed", codec.name, exc_info=error)
            error = ProtocolError(f"cannot be decoded: {type(error).__name__}")
        self.framing.fail(_copy_of(error))
        return error


class ServerProtocol(_Protocol):
    """A server's end of one connection.

    Args:
        codecs: what it understands, default is Storable and JSON; the first byte of the first
            payload chooses. The first codec is for payloads that begin like none of them: it
            says what is wrong. Storable is written as the client does: typed, or as Perl's.
        max_packet: bytes in one packet, both ways.
    """

    __slots__ = ("_codec", "_codecs")

    def __init__(
        self, codecs: Sequence[Codec] | None = None, max_packet: int = DEFAULT_MAX_PACKET
    ) -> None:
        super().__init__(max_packet)
        self._codecs = (StorableCodec(typed=False), JSONCodec()) if codecs is None else codecs
        self._codec: Codec | None = None  # chosen by the first packet

    def next_message(self, make: Callable[..., R] = Request) -> R | None:  # type: ignore[assignment]
        """Return the next request, None if there is none yet.

        Args:
            make: what makes it, if it is to be more than a `Request`.

        Raises:
            ProtocolError: the client sent something that is no request.
        """
        frames = self.framing.frames or self._cut()
        if not frames:
            return None
        frame = frames[-1]
        codec = self._codec
        is_first = codec is None
        if codec is None:
            codec = self._detect(frame)
        try:
            value: Any = codec.decode(frame)
            if type(value) is list and len(value) > 1 and type(value[1]) is str:
                id = value[0]  # noqa: A001
                # Of this form are the requests of all clients but old ones in Perl, so the full
                # check is for the others.
                if type(id) is int and 0 <= id <= _ID_MASK:
                    has_callbacks = CALLBACK_HINT in frame and CALLBACK_MARK in frame
                    request = make(id, value[1], value[2:], len(frame), has_callbacks)
                    del frames[-1]  # only now: what was interrupted is read again
                    return request
            request = make(*check_request(value), len(frame), CALLBACK_MARK in frame)
        except Exception as error:  # noqa: BLE001  # it is raised as another
            other = None
            if is_first:
                other = by_client(error, codec, frame, self.framing.behind())
            raise self._reject(other or error, codec) from None
        del frames[-1]
        return request

    @property
    def _is_first(self) -> bool:
        return self._codec is None

    @property
    def codec(self) -> Codec:
        """What the client speaks, as far as is known."""
        return self._codec or self._codecs[0]

    def _detect(self, frame: bytes) -> Codec:
        """Choose the codec by the first packet."""
        first = (codec for codec in self._codecs if frame[0] == codec.first_byte)
        codec = next(first, self._codecs[0])
        if isinstance(codec, StorableCodec):
            codec = codec.answering(frame)
        self._codec = codec
        return codec

    def result(self, id: Id, values: Iterable[object]) -> bytes:  # noqa: A002
        """Return the packet that answers a request.

        Raises:
            EncodeError: a value cannot be sent, or the packet is over the limit.
        """
        codec = self._codec or self._codecs[0]
        try:
            payload = codec.encode([id, *values])
        except EncodeError as error:
            raise _located(error, values, "values", codec) from None
        return self._frame(payload)

    def relayed(self, id: Id, payload: bytes, values: Iterable[object]) -> bytes:  # noqa: A002
        """Return the packet with which another server has answered a request, or called a function.

        Args:
            id: of the request here, or of the function.
            payload: the packet that came, without its length: one that was read without error.
            values: what is in it, behind the id.

        Raises:
            EncodeError: a value cannot be sent, or the packet is over the limit.
        """
        codec = self._codec or self._codecs[0]
        if isinstance(codec, StorableCodec) and payload[0] == codec.first_byte:
            with suppress(ValueError):  # not of the form that is known: as values it can be sent
                return self._frame(with_id(payload, id))
        return self.result(id, values)

    def failure(self, id: Id, text: str) -> bytes:  # noqa: A002
        """Return the packet that answers a request with an error; a very long text is cut.

        Raises:
            EncodeError: the packet is over the limit.
        """
        if len(text) > _LONGEST_TEXT:
            text = f"{text[: _LONGEST_TEXT - 3]}..."
        text = text.encode("utf-8", "backslashreplace").decode()  # lone surrogates
        # With an empty text, the other end would take it for an answer.
        return self.result(id, failure_values(text or "failed"))

    def invoke(self, id: Id, args: Iterable[object]) -> bytes:  # noqa: A002
        """Return the packet that calls a function of the client's.

        Raises:
            EncodeError: a value cannot be sent, or the packet is over the limit.
        """
        codec = self._codec or self._codecs[0]
        try:
            payload = codec.encode([id, *invoke_values(args)])
        except EncodeError as error:
            raise _located(error, args, "args", codec) from None
        return self._frame(payload)

    def release(self, id: Id) -> bytes:  # noqa: A002
        """Return the packet that says that a function will not be called any more."""
        return self.result(id, release_values())


class ClientProtocol(_Protocol):
    """A client's end of one connection.

    Its calls, and the functions that are passed with them, are known to it as tokens: it keeps
    them until they are answered or released. All share one counter of ids.

    Args:
        codec: what to speak.
        max_packet: bytes in one packet, both ways.
    """

    __slots__ = (
        *("_abandoned", "_callbacks", "_codec", "_deadlines", "_next_id", "_pending"),
        *("_origins", "_peeked_id", "_peeked_in"),
    )

    def __init__(self, codec: Codec, max_packet: int = DEFAULT_MAX_PACKET) -> None:
        super().__init__(max_packet)
        self._codec = codec
        self._pending: dict[Id, object] = {}
        self._callbacks: dict[Id, object] = {}
        self._origins: dict[Id, str] = {}  # with which call a callback was passed, and where
        self._abandoned: dict[Id, None] = {}  # calls that may still be answered, oldest first
        self._deadlines = Deadlines()
        self._next_id = 0
        self._peeked_id: Id = _NO_ID  # what the message that was looked at takes with it
        self._peeked_in: dict[Id, object] | dict[Id, None] | None = None

    @property
    def pending(self) -> Mapping[Id, object]:
        """The tokens of the calls that are not answered, by id, oldest first."""
        return MappingProxyType(self._pending)

    @property
    def callbacks(self) -> Mapping[Id, object]:
        """The functions that the server may still call, by id."""
        return MappingProxyType(self._callbacks)

    def call(
        self,
        procedure: str,
        args: Iterable[object],
        token: object,
        keep: Callable[[Any], object] | None = None,
    ) -> tuple[int, bytes]:
        """Return the id and the packet of a call; `token` comes back with the answer.

        What can be called among the arguments comes back with `Invoke` and `Release`; or what
        `keep` has returned for it.

        Raises:
            EncodeError: an argument cannot be sent, or the packet is over the limit. The call
                is not pending then.
        """
        id = self._next_id  # noqa: A001
        # With no callbacks and no abandoned calls, only a pending call can have the id.
        if id in self._pending or self._callbacks or self._abandoned:
            id = self._free_id(id)  # noqa: A001
        callbacks: dict[Id, object] | None = None
        try:
            payload = self._codec.encode([id, procedure, *args])
        except EncodeError:
            # Functions are rare. So they are looked for only where something cannot be encoded.
            callbacks = {}
            try:
                args = self._replace_callables([*args], callbacks, keep)
                if not callbacks:
                    raise
                id = self._free_id(id, callbacks)  # noqa: A001
                payload = self._codec.encode([id, procedure, *args])
            except EncodeError as error:
                raise _located(error, args, "args", self._codec, callable) from None
        packet = self._frame(payload)
        self._next_id = (id + 1) & _ID_MASK
        if callbacks:
            self._callbacks.update(callbacks)
            self._note_origins(procedure, cast("list[object]", args), callbacks)
        self._pending[id] = token
        return id, packet

    def relay(
        self,
        procedure: str,
        values: Iterable[object],
        token: object,
        payload: bytes,
        functions: Mapping[Id, object],
    ) -> tuple[int, bytes]:
        """Return the id and the packet of a call that another client has made: as that wrote it.

        Args:
            procedure: as in `call()`.
            values: as the arguments of `call()`; for a packet in another format.
            token: as in `call()`.
            payload: the packet that came, without its length: one that was read without error.
            functions: what stands for each function in it, by the other client's ids.

        Raises:
            EncodeError: as in `call()`.
        """
        codec = self._codec
        if not isinstance(codec, StorableCodec) or payload[:1] != _STORABLE:
            return self.call(procedure, values, token)
        id = self._free_id(self._next_id)  # noqa: A001
        callbacks: dict[Id, object] = {}
        next_id = id

        def replace(other: Id) -> Id:
            nonlocal next_id
            next_id = self._free_id(next_id + 1, callbacks)
            callbacks[next_id] = functions[other]
            return next_id

        try:
            payload = with_ids(payload, id, replace) if functions else with_id(payload, id)
        except (KeyError, ValueError):  # not of the form that is known: as values it can be sent
            return self.call(procedure, values, token)
        packet = self._frame(payload)
        self._next_id = (id + 1) & _ID_MASK
        self._callbacks.update(callbacks)
        self._pending[id] = token
        return id, packet

    def _free_id(self, id: int, others: Container[Id] = ()) -> int:  # noqa: A002
        """Return the first id from this one on that nothing on either side is known by."""
        id &= _ID_MASK  # noqa: A001
        while id in self._pending or id in self._callbacks or id in self._abandoned or id in others:
            id = (id + 1) & _ID_MASK  # noqa: A001
        return id

    def _replace_callables(
        self,
        args: list[object],
        callbacks: dict[Id, object],
        keep: Callable[[Any], object] | None,
    ) -> list[object]:
        """Return the arguments with a CallbackRef for each function; note it in `callbacks`."""
        next_id = self._next_id

        def replace(value: object) -> object:
            nonlocal next_id
            if not callable(value):
                return value
            next_id = self._free_id(next_id, callbacks)
            callbacks[next_id] = value if keep is None else keep(value)
            return CallbackRef(next_id)

        try:
            return map_leaves(args, replace)
        except ValueError as error:
            raise EncodeError(f"cannot send: {error}") from None

    def _note_origins(self, procedure: str, args: list[object], callbacks: Iterable[Id]) -> None:
        """Note where in a call its callbacks stand, for `peeked_origin()`."""
        origins = self._origins
        for id in callbacks:  # noqa: A001
            origins[id] = f"a callback in the arguments of {procedure}"
        for index, value in enumerate(args):
            if type(value) is CallbackRef:
                before = args[index - 1] if index else None
                where = shorten(before) if isinstance(before, str) else str(index + 1)
                origins[value.id] = f"argument {where} of {procedure}"
        if len(origins) > 2 * len(self._callbacks) + _FEW_ORIGINS:
            self._origins = {at: origins[at] for at in origins if at in self._callbacks}

    def peeked_origin(self) -> str:
        """Return which callback is called by the message that `peek()` has returned."""
        return self._origins.get(self._peeked_id, "a callback")

    def next_message(self) -> Message | None:
        """Return the next answer to a pending call, or what is to be done with a function.

        None if there is nothing yet. What nobody waits for is logged and skipped. It is
        `peek()` and `drop()` in one.

        Raises:
            ProtocolError: the server sent something that is no reply.
        """
        while (peeked := self.peek()) is not None:
            self.drop()
            kind, token, detail = peeked
            if kind is not Stray:
                make = cast("Callable[..., Message]", kind)
                return make(token) if kind is Release else make(token, detail)
        return None

    def peek(self) -> Peeked | None:
        """Return what comes next, a packet for each message, and change nothing; None if nothing.

        Until `drop()` the call is pending, and the function can be called: whoever is
        interrupted in the middle of his work with a message, by Ctrl-C, finds it here again.

        Raises:
            ProtocolError: the server sent something that is no reply.
        """
        frames = self.framing.frames or self._cut()
        if not frames:
            return None
        pending = self._pending
        id: Id  # noqa: A001
        try:
            value: Any = self._codec.decode(frames[-1])
            # An int that a call is pending by needs no check of what it is.
            if type(value) is list and value and type(value[0]) is int and value[0] in pending:
                id = value[0]  # noqa: A001
                del value[0]
                values = value
            else:
                id, values = check_reply(value)  # noqa: A001
                if id not in pending:
                    id = _as_number(id)  # noqa: A001
        except Exception as error:
            if not isinstance(error, (ProtocolError, MemoryError)) and self._is_sound(frames[-1]):
                raise  # the handler of a signal did, say: it is read again
            other = None
            if self._is_first:
                other = by_server(error, self._codec, frames[-1], self.framing.behind())
            raise self._reject(other or error, self._codec) from None
        self._peeked_id = id
        if id in pending:
            self._peeked_in = pending
            if values and type(values[0]) is str and values[0] not in FAILURE_KEYS:
                return Result, pending[id], values  # most answers need no more than this
            text = failure_text(values)
            return (Result, pending[id], values) if text is None else (Failure, pending[id], text)
        if id in self._callbacks:
            return self._for_callback(id, values)
        if id in self._abandoned:
            self._peeked_in = self._abandoned
            log.debug("< call %.20r is answered too late", id)
        else:
            self._peeked_in = None
            log.warning("< reply to a call that is not pending, id %.20r", id)
        return Stray, None, None

    @property
    def _is_first(self) -> bool:
        return self._peeked_id == _NO_ID

    @property
    def peeked_payload(self) -> bytes:
        """The packet of the message that `peek()` has returned, without its length."""
        return self.framing.frames[-1]

    def peeked_values(self) -> list[object]:
        """Return all values of a failure that `peek()` has returned, which has only its text."""
        return check_reply(self._codec.decode(self.peeked_payload))[1]

    def _is_sound(self, frame: bytes) -> bool:
        """True if a packet can be read after all: what was raised came from outside."""
        try:
            check_reply(self._codec.decode(frame))
        except Exception:  # noqa: BLE001  # the first one is looked at
            return False
        return True

    def drop(self) -> None:
        """Take off the message that `peek()` has returned, and the call or function with it.

        The last line does all of it, without a moment in which Ctrl-C could come between.
        """
        taken_from, id = self._peeked_in, self._peeked_id  # noqa: A001
        if taken_from is None:
            del self.framing.frames[-1]
        else:
            if self._deadlines.due:
                self._deadlines.discard(int(id))
            del self.framing.frames[-1], taken_from[id]

    @property
    def has_more(self) -> bool:
        """True if `peek()` has something to return, or to raise."""
        framing = self.framing
        return bool(framing.frames or framing.cut()) or framing.failure is not None

    def _for_callback(self, id: Id, values: list[object]) -> Peeked:  # noqa: A002
        try:
            args = parse_invoke(values)
        except ProtocolError as error:
            raise self._reject(error, self._codec) from None
        self._peeked_in = self._callbacks if args is None else None
        return (Invoke if args is not None else Release), self._callbacks[id], args

    @property
    def next_id(self) -> int:
        """Where the counter stands, for `has_answered_since()`."""
        return self._next_id

    @property
    def newest_id(self) -> int:
        """The id that was given to the last call."""
        return (self._next_id - 1) & _ID_MASK

    def has_answered_since(self, id: int) -> bool:  # noqa: A002
        """True if a call was answered that was made since the counter stood at an id."""
        in_use: set[Id] = {*self._pending, *self._abandoned, *self._callbacks}
        count = (self._next_id - id) & _ID_MASK
        if count > len(in_use):
            return True
        return any((id + step) & _ID_MASK not in in_use for step in range(count))

    # The end of a call without an answer

    def abandon(self, id: Id) -> None:  # noqa: A002
        """Wait for the answer of a pending call no more.

        Its id stays in use, since the answer may still come; of more than 65,536 such ids, the
        oldest is free again. The last line does it, and whatever came before can be done again.
        """
        self._put_by(id)
        due: dict[Any, float] = self._deadlines.due
        if id in due:
            del due[id], self._pending[id]
        else:
            del self._pending[id]

    # Calls that go from one connection to the next, as they are

    def follow(self, other: ClientProtocol) -> None:
        """Give no id to a new call that was in use on the connection before."""
        self._next_id = other._next_id

    def adopt(
        self,
        id: Id,  # noqa: A002
        other: ClientProtocol,
        callbacks: Mapping[Id, object],
    ) -> None:
        """Have a call be pending that is so on another connection, with functions passed with it.

        It keeps its id and its deadline. The functions come with it, as the other server may have
        let go of them. The last line does it, and can be done again.
        """
        for callback, function in callbacks.items():
            self._callbacks[callback] = function
            self._origins[callback] = other._origins.get(callback, "a callback")
        due: float | None = other._deadlines.due.get(cast("int", id))
        if due is not None:
            self._deadlines.set(cast("int", id), due)
        self._pending[id] = other._pending[id]

    def disown(self, id: Id, callbacks: Iterable[Id]) -> None:  # noqa: A002
        """Forget a call that another connection has adopted. The last line does it."""
        for callback in callbacks:
            self._callbacks.pop(callback, None)
        self._deadlines.discard(cast("int", id))
        self._pending.pop(id, None)

    def newest_callbacks(self, count: int) -> dict[Id, object]:
        """Return the functions that were passed last, so many of them, by id."""
        return dict(islice(reversed(self._callbacks.items()), count))

    def retract(self, id: Id) -> None:  # noqa: A002
        """Forget a function that was passed with a call which was never sent: its id stays in use.

        The last line does it, and whatever came before can be done again.
        """
        if id in self._callbacks:
            self._put_by(id)
            del self._callbacks[id]

    def _put_by(self, id: Id) -> None:  # noqa: A002
        """Keep an id in use."""
        self._abandoned[id] = None
        if len(self._abandoned) > _MOST_ABANDONED:
            del self._abandoned[next(iter(self._abandoned))]

    def withdraw(self, token: object) -> None:
        """Abandon a call that could not be made after all, whatever has become of it so far."""
        for id in [id for id, other in self._pending.items() if other is token]:  # noqa: A001
            self.abandon(id)

    def set_deadline(self, id: int, due: float | None) -> None:  # noqa: A002
        """Have a pending call expire at a time, in the seconds of `expire()`; None is never."""
        if due is None:
            self._deadlines.discard(id)
        elif id in self._pending:
            self._deadlines.set(id, due)

    def next_deadline(self) -> float | None:
        """Return when the next call expires; None if none does."""
        return self._deadlines.next()

    def next_expired(self, now: float) -> object | None:
        """Return the token of a call whose time is over; it is pending until `abandon()`."""
        while (id := self._deadlines.first(now)) is not None:  # noqa: A001
            if id in self._pending:
                return self._pending[id]
            self._deadlines.discard(id)
        return None

    def connection_lost(self) -> list[object]:
        """Return the tokens of the calls that will never be answered, and forget all else.

        They are pending until `abandon()`.
        """
        self._callbacks.clear()
        self._origins.clear()
        self._abandoned.clear()
        self._deadlines.clear()
        return list(self._pending.values())


def _located(
    error: EncodeError,
    values: Iterable[object],
    name: str,
    codec: Codec,
    is_fine: Callable[[object], bool] | None = None,
) -> EncodeError:
    """Return an error that says which value cannot be sent; what `is_fine` can be."""

    def refuse(value: object) -> None:
        if is_fine is None or not is_fine(value):
            codec.encode([value])

    return located_in_list(error, [*values], name, refuse)


def _copy_of(error: ProtocolError) -> ProtocolError:
    """Return one that was never raised: the frames of a traceback hold the packet in memory."""
    copy = type(error).__new__(type(error), *error.args)
    vars(copy).update(vars(error))
    return copy


def _as_number(id: Id) -> Id:  # noqa: A002
    """Return an id that came back as text as the number that was sent."""
    return int(id) if isinstance(id, str) and id.isascii() and id.isdigit() and len(id) < 11 else id
