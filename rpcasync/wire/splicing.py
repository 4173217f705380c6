"""A packet with other ids in it, and everything else as it came, bit for bit.

For calls and answers that are passed on from one connection to another. What decoding and encoding
would lose stays: which strings are Unicode, what is shared, objects, v-strings, the minor version.

    payload   header ARRAY count [class] id ...      only the id is another
              ... REF class HASH ... value "id" ...  and so are those of callbacks

Storable numbers its things in order, and refers back to them by these tags. A scalar in the place
of a scalar keeps the numbers. But a Perl program may freeze one scalar in two places, and one of
them may be an id:

- What refers back to an id that was replaced must not become the new id. The first such place gets
  the scalar itself, as it was, and the others refer to that.
- A callback's id that is itself such a place becomes a scalar.

Both put a thing in where none was, so every later tag is one more.

The one rule: a packet comes here that was decoded before. What cannot be done is a ValueError, and
whoever asked goes on with values. That is so for all of JSON: there values lose nothing.

This file does not know where ids come from.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable

from rpcasync.storable._freeze import write
from rpcasync.storable._leaves import BYTES, LARGEST, Form
from rpcasync.storable._opcodes import (
    ARRAY,
    BLESS,
    IX_BLESS,
    LEAST_INT,
    LONG_CLASS,
    MOST_INT,
    NETINT,
    NETWORK_ORDER,
    OBJECT,
)
from rpcasync.storable._scalars import SCALARS, Reader
from rpcasync.storable._typed import MINOR
from rpcasync.storable._walk import NO_CLASS, Item, Places, scalar_end, tag_at, walk
from rpcasync.wire.messages import CALLBACK_HINT, CALLBACK_MARK, Id, as_id

__all__ = ["with_id", "with_ids"]

_FIRST = 7  # offset of the first element: behind the header, the opcode and the count
_ID_TAG = 1
_REFERS_TO_ID = bytes([OBJECT]) + _ID_TAG.to_bytes(4, "big")  # or it is a key, after a zero

_u32 = struct.Struct(">I")
_netint = struct.Struct(">Bi").pack
_PERL_FORM, _TYPED_FORM = Form(None, typed=False), Form(None, typed=True)


def with_id(payload: bytes, id: Id) -> bytes:  # noqa: A002
    """Return a payload in Storable with another id.

    Mostly, only its head is looked at.

    Raises:
        ValueError: it is none.
        EncodeError: the id cannot be written.
    """
    _check(payload)
    if payload[_FIRST] not in SCALARS or _REFERS_TO_ID in payload:
        return _spliced(payload, id, None)
    try:
        end = scalar_end(payload, _FIRST)
    except (IndexError, struct.error):
        raise ValueError(f"payload of {len(payload)} bytes ends within its id") from None
    return b"".join((payload[:_FIRST], _written(id, payload), memoryview(payload)[end:]))


def with_ids(payload: bytes, id: Id, replace: Callable[[Id], Id]) -> bytes:  # noqa: A002
    """Return a payload in Storable with another id, and with others in its callbacks.

    Args:
        payload: a request that was decoded.
        id: of the call.
        replace: called with the id of each callback, in the order in which they stand, and returns
            the one to write. What is in several places is one callback. Those are found that
            decoding makes a `CallbackRef` of, and no others. Where a ValueError is raised, it was
            not called at all.

    Raises:
        ValueError: it is none, or a callback's id is not ASCII, or it stands in an object of
            another class and may stand elsewhere, too.
        EncodeError: an id cannot be written.
    """
    if CALLBACK_HINT not in payload or CALLBACK_MARK not in payload:
        return with_id(payload, id)
    _check(payload)
    return _spliced(payload, id, replace)


def _check(payload: bytes) -> None:
    if len(payload) <= _FIRST or payload[0] != NETWORK_ORDER or payload[2] != ARRAY:
        raise ValueError(f"payload of {len(payload)} bytes is no list in Storable")
    if not any(payload[3:_FIRST]):
        raise ValueError("payload is an empty list in Storable")


def _written(id: Id, payload: bytes) -> bytes:  # noqa: A002
    """Return the item of an id, as an encoder writes it into such an image."""
    if type(id) is int and LEAST_INT <= id <= MOST_INT:  # as good as always
        return BYTES.get(id) or _netint(NETINT, id)
    form = _TYPED_FORM if payload[1] == MINOR else _PERL_FORM
    return write([id], 1, LARGEST, form)[_FIRST:]


def _spliced(payload: bytes, id: Id, replace: Callable[[Id], Id] | None) -> bytes:  # noqa: A002
    """Write the payload anew, with the ids and back references changed that have to be."""
    places = walk(payload, b"" if replace is None else CALLBACK_MARK, b"id")
    first = _id_item(payload, places)
    new = {first.start: _written(id, payload)}
    if replace is not None:
        found = [(item, _id_of(payload, places, item)) for item in places.fields]
        for item, old in found:  # all of them could be read, so none is replaced in vain
            if old is not None:
                new[item.start] = _written(replace(old), payload)
    ids = [item for item in (first, *places.fields) if item.start in new]
    again = [item for item in places.again if item.start not in new]
    view = memoryview(payload)
    pieces: list[bytes | memoryview] = []
    tags = _Tags(payload)
    at = 0
    for item in sorted(ids + again):
        piece = new.get(item.start)
        if piece is None:
            piece = tags.again(item)
        else:
            tags.replace(item)
        pieces += view[at : item.start], piece
        at = item.end
    pieces.append(view[at:])
    return b"".join(pieces)


def _id_item(payload: bytes, places: Places) -> Item:
    """Return the first element: a scalar, perhaps one that has a class."""
    class_number = 0 if payload[_FIRST] == BLESS else NO_CLASS
    start = places.starts[_ID_TAG] if len(places.starts) > _ID_TAG else _FIRST
    if payload[_FIRST] == OBJECT or payload[start] not in SCALARS:
        raise ValueError(f"opcode {payload[_FIRST]:#04x} at offset {_FIRST} is no id")
    return Item(start, scalar_end(payload, start), _ID_TAG, class_number)


def _id_of(payload: bytes, places: Places, item: Item) -> Id | None:
    """Return what the id of a callback is, None if it is none: then there is no callback.

    Raises:
        ValueError: it is not ASCII, and what it means depends on the codec.
    """
    start, end = item.start, item.end
    if payload[start] == OBJECT:
        tag = tag_at(payload, item)
        if tag >= item.tag:
            raise ValueError(f"back reference to tag {tag} at offset {start}, {item.tag} given")
        start = places.starts[tag]
        if payload[start] not in SCALARS:
            return None
        end = scalar_end(payload, start)
    reader = Reader(payload[:2] + payload[start:end], "latin-1")
    op = reader.byte("a scalar")
    found = as_id(reader.scalar(op))
    if type(found) is str and not found.isascii():
        raise ValueError(f"id {found!r} of a callback is not ASCII")
    return found


class _Tags:
    """What becomes of the tags that back references have, from the first to the last of them."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._gone: dict[int, Item] = {}  # scalars that were replaced
        self._moved: dict[int, int] = {}  # the new tags of those that stand elsewhere now
        self._put_in: list[int] = []  # for each thing put in, the first old tag that is one more

    def replace(self, item: Item) -> None:
        """Note that a scalar stands where this was."""
        if self._payload[item.start] == OBJECT:
            self._put_in.append(item.tag)
        else:
            self._gone[item.tag] = item

    def again(self, item: Item) -> bytes:
        """Return what to write for a back reference."""
        old = tag_at(self._payload, item)
        gone = self._gone.get(old)
        if gone is None:
            return self._reference(old + bisect_right(self._put_in, old))
        if old in self._moved:
            return self._reference(self._moved[old])
        self._moved[old] = item.tag + len(self._put_in)
        self._put_in.append(item.tag)
        return _class_prefix(gone.class_number) + self._payload[gone.start : gone.end]

    @staticmethod
    def _reference(tag: int) -> bytes:
        return bytes([OBJECT]) + _u32.pack(tag)


def _class_prefix(number: int) -> bytes:
    """Return what gives the next item a class that was named before."""
    if number == NO_CLASS:
        return b""
    if number < LONG_CLASS:
        return bytes([IX_BLESS, number])
    return bytes([IX_BLESS, LONG_CLASS]) + _u32.pack(number)
