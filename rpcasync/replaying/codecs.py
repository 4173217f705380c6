"""Writes calls as the clients wrote them that were recorded: for Perl, typed, or as JSON.

Objects of Perl classes, which our own programs cannot send, are written as the objects they were.

This file knows nothing of connections.
"""

from __future__ import annotations

from rpcasync.recording.lines import Codec as Name
from rpcasync.storable import Blessed
from rpcasync.storable._freeze import write
from rpcasync.storable._leaves import LARGEST, Form
from rpcasync.wire.codecs import Codec, JSONCodec, StorableCodec
from rpcasync.wire.messages import CALLBACK_CLASS, CallbackRef

__all__ = ["codec_for"]

_MAX_DEPTH = 256


def codec_for(name: Name) -> Codec:
    """Return what writes as such a client does."""
    return JSONCodec() if name == "json" else _Storable(is_typed=name == "typed")


class _Storable(StorableCodec):
    def __init__(self, *, is_typed: bool) -> None:
        super().__init__(typed=is_typed)
        self._form = Form(_as_object, typed=is_typed)

    def encode(self, values: list[object]) -> bytes:
        """Return the image of the list.

        Raises:
            EncodeError: a value, or a part of one, has no form in Storable.
        """
        return write(values, _MAX_DEPTH, LARGEST, self._form)


def _as_object(value: object) -> object:
    """Return the object to write: another than the value, for what can be written as one."""
    if isinstance(value, CallbackRef):
        fields = {"id": value.id, "alive": 1, "call": None, "destroy": None}
        return Blessed(CALLBACK_CLASS, fields)
    if isinstance(value, Blessed):
        return Blessed(value.class_name, value.value)
    return value
