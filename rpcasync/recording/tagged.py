"""The values of calls as JSON and back, exactly.

What JSON has stands there as it is, and what it does not have as an object with one key that
begins with `$`:

    {"$bytes": "text"}             bytes that are all printable ASCII
    {"$base64": "AAH/"}            other bytes
    {"$float": "nan"}              nan, inf or -inf
    {"$int": "0x1f"}               an int of too many digits to be read quickly
    {"$latin1": "AAH/"}            a long text that looks like bytes, as those of Perl do: base64
    {"$text": [55296, 97]}         a text with surrogates in it, by its code points
    {"$dict": [[key, value]]}      a dict with a key that begins with `$`, or is no plain text
    {"$ref": value}                a ScalarRef
    {"$blessed": ["Class", value]} a Blessed
    {"$regexp": ["^a", "i"]}       a Regexp
    {"$callback": 7}               a function of the client's, by its id

The text is ASCII, on one line, and holds nothing that a terminal would obey. Lists and dicts that
stand in several places are written in each of them, as `storable` does.

This file knows nothing of calls.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import math
import re
from collections.abc import Callable
from typing import cast

from rpcasync.coderefs import Coderef
from rpcasync.storable import Blessed, Regexp, ScalarRef
from rpcasync.wire.codecs import refuse_constant
from rpcasync.wire.messages import CallbackRef, as_id

__all__ = ["parse", "to_text", "untag"]

_encode = json.JSONEncoder(allow_nan=False, separators=(", ", ": ")).encode
_decode = json.JSONDecoder(parse_constant=refuse_constant).decode
_SURROGATE = re.compile("[\ud800-\udfff]")
_LONG = 256  # characters: a shorter text is not looked at
_MOST_BITS = 4096  # of an int: Python refuses to read more than 4300 digits


def to_text(value: object) -> str:
    """Return a value as JSON.

    Args:
        value: what a codec has decoded, or a `Coderef` in it.

    Raises:
        ValueError: it is nested too deeply.
        TypeError: it is none of a codec's values.
    """
    try:
        try:
            text = _encode(value)  # nearly all values need no more than this
        except (TypeError, ValueError):
            return _encode(_tag(value))
        return _encode(_tag(value)) if _may_need_tags(text) else text
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _may_need_tags(text: str) -> bool:
    """True if there may be what looks like a tag, a surrogate, or a long text full of escapes."""
    if '"$' in text or "\\ud" in text:
        return True
    return len(text) > 6 * _LONG and text.count("\\u00") > len(text) // 24


def parse(text: str) -> object:
    """Read a line as JSON; what is tagged in it stays as it is.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        return _decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


# To JSON


def _tag(value: object) -> object:
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return value if cast("int", value).bit_length() <= _MOST_BITS else {"$int": hex(value)}  # type: ignore[arg-type]
    tag = _TAGS.get(kind)
    if tag is None:
        raise TypeError(f"{kind.__name__} cannot be recorded")
    return tag(value)


def _tag_text(value: str) -> object:
    if _SURROGATE.search(value):
        return {"$text": [*map(ord, value)]}
    if len(value) > _LONG:
        quoted = _encode(value[:_LONG])
        if quoted.count("\\u00") > _LONG // 4:
            with contextlib.suppress(UnicodeEncodeError):
                return {"$latin1": base64.b64encode(value.encode("latin-1")).decode()}
    return value


def _tag_float(value: float) -> object:
    return value if math.isfinite(value) else {"$float": str(value)}


def _tag_bytes(value: bytes) -> object:
    if value.isascii() and (text := value.decode()).isprintable():
        return {"$bytes": text}
    return {"$base64": base64.b64encode(value).decode()}


def _tag_list(value: list[object]) -> object:
    return [*map(_tag, value)]


def _tag_dict(value: dict[str, object]) -> object:
    if all(map(_is_plain_key, value)):
        return {key: _tag(part) for key, part in value.items()}
    return {"$dict": [[_tag_text(key), _tag(part)] for key, part in value.items()]}


def _is_plain_key(key: str) -> bool:
    return key[:1] != "$" and not _SURROGATE.search(key)


_TAGS: dict[type, Callable[..., object]] = {
    str: _tag_text,
    float: _tag_float,
    bytes: _tag_bytes,
    list: _tag_list,
    tuple: _tag_list,
    dict: _tag_dict,
    ScalarRef: lambda value: {"$ref": _tag(value.value)},
    Blessed: lambda value: {"$blessed": [_tag(value.class_name), _tag(value.value)]},
    Regexp: lambda value: {"$regexp": [_tag(value.pattern), _tag(value.modifiers)]},
    CallbackRef: lambda value: {"$callback": value.id},
    Coderef: lambda value: {"$callback": value.id},
}


# And back


def untag(value: object) -> object:
    """Return the value that stands as JSON; a `CallbackRef` stands for a function in it.

    Raises:
        ValueError: there is no such tag, or it holds something else than it should.
    """
    try:
        return _untag(value)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _untag(value: object) -> object:
    if type(value) is list:
        return [*map(_untag, value)]
    if type(value) is not dict:
        return value
    if len(value) == 1:
        name, content = next(iter(value.items()))
        if name[:1] == "$":
            return _of_tag(name, content)
    if any(name[:1] == "$" for name in value):
        raise ValueError("a tag with other keys beside it")
    return {name: _untag(part) for name, part in value.items()}


def _of_tag(name: str, content: object) -> object:
    read = _READERS.get(name)
    if read is None:
        raise ValueError(f"{name[:40]!r} is no tag")
    try:
        return read(content)
    except (TypeError, ValueError, OverflowError, AttributeError, binascii.Error) as error:
        raise ValueError(f"bad {name}: {error}") from None


def _read_float(content: str) -> float:
    if content not in ("nan", "inf", "-inf"):
        raise ValueError("none of nan, inf, -inf")
    return float(content)


def _read_callback(content: object) -> CallbackRef:
    found = as_id(content)
    if found is None:
        raise ValueError("no id")
    return CallbackRef(found)


def _text(value: object) -> str:
    found = _untag(value)
    if type(found) is not str:
        raise ValueError("no text")
    return found


def _read_blessed(content: list[object]) -> Blessed:
    name, value = content
    return Blessed(_text(name), _untag(value))


def _read_regexp(content: list[object]) -> Regexp:
    pattern, modifiers = content
    return Regexp(_text(pattern), _text(modifiers))


_READERS: dict[str, Callable[..., object]] = {
    "$bytes": lambda content: content.encode("ascii"),
    "$base64": lambda content: base64.b64decode(content, validate=True),
    "$latin1": lambda content: base64.b64decode(content, validate=True).decode("latin-1"),
    "$float": _read_float,
    "$int": lambda content: int(content, 16),
    "$text": lambda content: "".join(map(chr, content)),
    "$dict": lambda content: {_text(key): _untag(part) for key, part in content},
    "$ref": lambda content: ScalarRef(_untag(content)),
    "$blessed": _read_blessed,
    "$regexp": _read_regexp,
    "$callback": _read_callback,
}
