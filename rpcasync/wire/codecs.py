"""Values to the payload of a packet and back.

A codec is pure: what it gives depends on what it gets alone, no names from the input are ever
looked up, and `decode()` raises DecodeError and nothing else, whatever the bytes are. The first
byte of a payload tells the codecs apart, so that one listener can serve clients of all of them.

In the arguments of a call a `CallbackRef` may stand: Storable has it as an object of the Perl class
`RPC::Async::Coderef`, JSON as `{"RPC::Async::Coderef": {"id": 3}}`. A reader looks for it only
where that name stands in the payload, so that other calls do not pay.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from copy import copy
from functools import lru_cache
from json import encoder as json_encoder
from math import inf
from typing import Any, Literal, Protocol

from rpcasync.errors import DecodeError, EncodeError
from rpcasync.storable import Blessed, thaw
from rpcasync.storable._freeze import write
from rpcasync.storable._leaves import Form
from rpcasync.storable._thaw import read
from rpcasync.storable._typed import MINOR
from rpcasync.wire.counting import count_values
from rpcasync.wire.leaves import map_leaves
from rpcasync.wire.messages import (
    CALLBACK_CLASS,
    CALLBACK_HINT,
    CALLBACK_MARK,
    CallbackRef,
    as_id,
)

__all__ = [
    "DEFAULT_MAX_ITEMS",
    "Codec",
    "JSONCodec",
    "StorableCodec",
    "check_limit",
    "get_codec",
    "refuse_constant",
    "refuse_infinity",
]

DEFAULT_MAX_ITEMS = 1_000_000


def check_limit(name: str, limit: int) -> int:
    """Return a limit if it can be one.

    Raises:
        ValueError: it is no int, or not 1 or more.
    """
    if type(limit) is not int or limit < 1:
        raise ValueError(f"{name} is {limit!r}, must be 1 or more")
    return limit


class Codec(Protocol):
    """What a connection needs of a codec, and what one of your own has to have."""

    @property
    def name(self) -> str:
        """The name to ask for it by."""
        ...

    @property
    def first_byte(self) -> int:
        """The byte that every payload begins with, and that of no other codec does."""
        ...

    def encode(self, values: list[object]) -> bytes:
        """Return the payload; raise EncodeError for what cannot be sent.

        To carry callbacks, it writes a `CallbackRef` so that CALLBACK_CLASS stands in the payload,
        and makes one of it again in `decode()`.
        """
        ...

    def decode(self, payload: bytes) -> object:
        """Return the value; raise DecodeError for what is no valid payload."""
        ...


class StorableCodec:
    """Perl's Storable in network order, as `nfreeze` writes it: what Perl peers speak.

    Between two peers of this package, values keep their types: None, bool, int, float, str, bytes,
    list and dict come back as they were. Perl reads the same image, and finds the same strings and
    numbers in it as in one that is not typed.

    Args:
        byte_strings: what Perl's byte strings become. "latin-1" is a str with one character for
            each byte, equal in Python exactly when equal in Perl; "bytes" is bytes; "utf-8" is
            a str, for Perl programs that never decode what they read. It says nothing of typed
            images, which tell bytes from str.
        max_depth: how deep lists and dicts may be nested, in both directions.
        max_items: how many values a packet that comes may hold, as for `thaw`; what is shared
            counts in each of its places.
        typed: whether the images that it writes are typed. Both kinds are read. What a client has
            says it; a server writes to each client as that client does.

    Raises:
        ValueError: `byte_strings` is none of the three, or a limit is less than 1.
    """

    name = "storable"
    first_byte = 0x05

    def __init__(
        self,
        *,
        byte_strings: Literal["latin-1", "bytes", "utf-8"] = "latin-1",
        max_depth: int = 256,
        max_items: int = DEFAULT_MAX_ITEMS,
        typed: bool = True,
    ) -> None:
        self._typed = bool(typed)
        self._max_items = check_limit("max_items", max_items)
        thaw(b"\x05\x0b\x05", byte_strings=byte_strings, max_depth=max_depth)  # checks these
        self._byte_strings = byte_strings
        self._max_depth = max_depth
        self._other: StorableCodec | None = None  # which writes the other kind

    def encode(self, values: list[object]) -> bytes:
        """Return the image of the list.

        Raises:
            EncodeError: a value, or a part of one, has no form in Storable.
        """
        return write(values, self._max_depth, _MAX_SIZE, _TYPED_FORM if self._typed else _PERL_FORM)

    def decode(self, payload: bytes) -> object:
        """Return the value of an image.

        Raises:
            DecodeError: it is not a valid image.
        """
        if type(payload) is not bytes:
            payload = bytes(payload)
        size = len(payload)
        value = read(
            payload,
            self._max_depth,
            self._max_items,
            _MAX_EXPANDED if size < _MAX_EXPANDED else size,
            self._byte_strings,
        )
        if CALLBACK_HINT not in payload or CALLBACK_MARK not in payload or type(value) is not list:
            return value
        try:
            return map_leaves(value, _from_object)
        except ValueError as error:
            raise DecodeError("limit-depth", str(error)) from None

    def answering(self, payload: bytes) -> StorableCodec:
        """Return the codec for whoever has sent that: it writes typed images if that is one."""
        if self._typed == (payload[1:2] == _TYPED_MINOR):
            return self
        other = self._other
        if other is None:
            other = copy(self)
            other._typed = not self._typed
            self._other = other
        return other


def _to_object(value: object) -> object:
    """Return what a Perl server takes for a function of its client's."""
    if not isinstance(value, CallbackRef):
        return value
    return Blessed(CALLBACK_CLASS, {"id": value.id, "alive": 1, "call": None, "destroy": None})


def _from_object(value: object) -> object:
    """Return a CallbackRef for such an object; one without a proper id stays what it is."""
    if not isinstance(value, Blessed) or value.class_name != CALLBACK_CLASS:
        return value
    return _callback_ref(value.value, value)


def _callback_ref(fields: object, otherwise: object) -> object:
    callback_id = as_id(fields.get("id")) if isinstance(fields, dict) else None
    return otherwise if callback_id is None else CallbackRef(callback_id)


_TYPED_FORM = Form(_to_object, typed=True)
_PERL_FORM = Form(_to_object, typed=False)
_TYPED_MINOR = bytes([MINOR])

_MAX_SIZE = 2**32 - 1  # no limit of the codec's own: the framing has one
# Bytes, if what an image refers to in several places stood in full in each of them. The limit of
# the framing does not help there: a short image can stand for a very large value.
_MAX_EXPANDED = 16 * 1024 * 1024


def refuse_constant(text: str) -> object:
    """Raise ValueError for NaN and the infinities, which `json` would read."""
    raise ValueError(f"{text} is not JSON")


def refuse_infinity(text: str) -> float:
    """Read a number; raise ValueError for one like 1e999, which has no form to be sent back in."""
    number = float(text)
    if number in (inf, -inf):
        raise ValueError(f"{text:.40} is beyond what a float can hold")
    return number


def _to_json(value: object) -> object:
    if isinstance(value, CallbackRef):
        return {CALLBACK_CLASS: {"id": value.id}}
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _from_json(table: dict[str, object]) -> object:
    if len(table) == 1 and CALLBACK_CLASS in table:
        return _callback_ref(table[CALLBACK_CLASS], table)
    return table


def _prepared_encoder(ensure_ascii: bool) -> Callable[[object, int], Iterable[str]]:
    """Return what encodes as JSON: the part in C, made once, where this Python has it."""
    c_make_encoder: Any = getattr(json_encoder, "c_make_encoder", None)
    if c_make_encoder is None:
        encode = json.JSONEncoder(
            ensure_ascii=ensure_ascii, separators=(",", ":"), allow_nan=False, default=_to_json
        ).encode
        return lambda value, _level: [encode(value)]
    escape: Any = json_encoder.encode_basestring
    if ensure_ascii:
        escape = json_encoder.encode_basestring_ascii
    # The first None: it keeps no table of containers to find one that holds itself. That ends in
    # a RecursionError.
    parts: Callable[[object, int], Iterable[str]] = c_make_encoder(
        None, _to_json, escape, None, ":", ",", False, False, False
    )
    return parts


def _prepared_decoder(
    object_hook: Callable[[dict[str, object]], object] | None,
) -> Callable[[str, int], tuple[object, int]]:
    """Return what decodes JSON from an offset on, and tells where the value ends."""
    decoder: Any = json.JSONDecoder(
        parse_constant=refuse_constant, parse_float=refuse_infinity, object_hook=object_hook
    )
    scan: Callable[[str, int], tuple[object, int]] = decoder.scan_once
    return scan


_TO_ESCAPE = [chr(code) for code in range(32)] + ['"', "\\"]
_LONG = 4096  # characters: from here on it pays to look whether there is anything to escape


class JSONCodec:
    """JSON, in UTF-8: for peers in any language.

    Keys of dicts become text, tuples become lists, and bytes cannot be sent, as in `json`.
    NaN and the infinities are not JSON: the words are refused in both directions, and so is a
    number that is beyond what a float can hold, such as 1e999.

    Args:
        max_items: how many values a packet that comes may hold: what stands in lists and objects.

    Raises:
        ValueError: `max_items` is less than 1.
    """

    name = "json"
    first_byte = ord("[")

    # The prepared halves of json.dumps and json.loads: those build an encoder for each call
    # and look for blanks around the value, which costs more than the work itself.
    _parts = staticmethod(_prepared_encoder(ensure_ascii=False))
    _parts_in_ascii = staticmethod(_prepared_encoder(ensure_ascii=True))
    _scan = staticmethod(_prepared_decoder(None))
    _scan_for_callbacks = staticmethod(_prepared_decoder(_from_json))

    def __init__(self, *, max_items: int = DEFAULT_MAX_ITEMS) -> None:
        self._max_items = check_limit("max_items", max_items)
        self._is_short = 2 * max_items  # bytes, in which there cannot be more
        self._was_long = False  # the last list was, so long texts are looked for in the next

    def encode(self, values: list[object]) -> bytes:
        """Return the list as JSON.

        Raises:
            EncodeError: a value, or a part of one, has no form in JSON.
        """
        try:
            if self._was_long and type(values) is list:
                text = self._encode_long(values)
            else:
                text = "".join(self._parts(values, 0))
            if len(text) > _LONG:
                self._was_long = True
            return text.encode()
        except UnicodeEncodeError:  # lone surrogates, which only escapes can say
            return "".join(self._parts_in_ascii(values, 0)).encode()
        except (TypeError, ValueError) as error:
            raise EncodeError(f"cannot send as JSON: {error}") from None
        except RecursionError:
            raise EncodeError("cannot send as JSON: nested too deeply") from None

    def _encode_long(self, values: list[object]) -> str:
        """Copy long texts that have nothing to escape: the encoder looks at each character.

        To look through a text for 34 characters, one after the other, is several times as fast.
        """
        self._was_long = False
        parts = ["".join(_copied(value) or self._parts(value, 0)) for value in values]
        return f"[{','.join(parts)}]"

    def decode(self, payload: bytes) -> object:
        """Return the value of a JSON text; white space may follow it.

        Raises:
            DecodeError: it is not a JSON text, or one with too many values.
        """
        if len(payload) > self._is_short:
            count = count_values(payload, self._max_items)
            if count > self._max_items:
                raise DecodeError("limit-items", f"{count} values, limit is {self._max_items}")
        try:
            text = payload.decode()
            if CALLBACK_HINT in payload and CALLBACK_MARK in payload:
                value, end = self._scan_for_callbacks(text, 0)
            else:
                value, end = self._scan(text, 0)
        except UnicodeDecodeError as error:
            raise DecodeError("bad-utf8", f"{error.reason} at offset {error.start}") from None
        except StopIteration as error:  # how the scanner says that there is no value
            raise DecodeError("bad-json", f"expected a value at offset {error.value}") from None
        except json.JSONDecodeError as error:
            raise DecodeError(
                "bad-json", f"{error.msg.removesuffix(' at')} at offset {error.pos}"
            ) from None
        except ValueError as error:
            raise DecodeError("bad-json", str(error)) from None
        except RecursionError:
            raise DecodeError("limit-depth", "nested too deeply") from None
        if end != len(text) and text[end:].strip():
            raise DecodeError("trailing", f"more follows the value at offset {end}")
        return value


def _copied(value: object) -> Iterable[str] | None:
    """Return a long text as JSON if there is nothing in it to escape."""
    if type(value) is not str or len(value) < _LONG:
        return None
    if any(character in value for character in _TO_ESCAPE):
        return None
    return '"', value, '"'


def get_codec(codec: str | Codec, max_items: int = DEFAULT_MAX_ITEMS) -> Codec:
    """Return the codec of a name, with that limit, or the codec itself.

    Raises:
        ValueError: there is no codec of that name, or the limit is not 1 or more.
    """
    check_limit("max_items", max_items)
    if not isinstance(codec, str):
        return codec
    if codec == StorableCodec.name:
        return _storable(max_items)
    if codec == JSONCodec.name:
        return JSONCodec(max_items=max_items)
    raise ValueError(f"codec is {codec!r}, must be 'storable', 'json' or a codec of your own")


@lru_cache(maxsize=16)
def _storable(max_items: int) -> StorableCodec:
    """Return the same one to all clients: it keeps nothing of what it was given."""
    return StorableCodec(max_items=max_items)
