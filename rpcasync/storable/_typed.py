r"""Typed images: what tells a float, a bool, bytes and a long integer from text.

In Perl's images all of them are strings, or numbers for it to tell. Perl reads some strings in more
than one form, and takes any minor version. So an image of minor version 1, which Perl has not
written since 2000, has one form for each type; for Perl, nothing differs by `eq`, `==` and truth.

    SCALAR                          str, Latin-1; written for ASCII only
    UTF8STR, LUTF8STR               str, if it is not ASCII, or longer than 255 bytes
    LSCALAR                         bytes
    UTF8STR, ASCII                  True "1", False "0" or "", or an int beyond 32 bits
    LUTF8STR, up to 255 bytes       float
    LVSTRING "N", LSCALAR "N"       int of more than 255 characters
    VSTRING "-0", SCALAR "0"        the float -0.0, which is no "-0" in Perl

The one rule: nothing else is taken. What a text means never depends on who reads it.

This file does not know where such a string stands in an image.
"""

from __future__ import annotations

from rpcasync.errors import DecodeError
from rpcasync.storable import _opcodes as ops

__all__ = [
    "FALSE",
    "FLOAT_CHARACTERS",
    "HEADER",
    "LIMIT",
    "MINOR",
    "MOST_BITS",
    "TRUE",
    "ascii_value",
    "behind_literal",
    "float_value",
    "write_float",
]

MINOR = 0x01
HEADER = bytes([ops.NETWORK_ORDER, MINOR])
LIMIT = 255  # bytes: what is longer has another form

TRUE = bytes([ops.UTF8STR, 1]) + b"1"
FALSE = bytes([ops.UTF8STR, 1]) + b"0"  # "" is no 0 by `eq`
_NEGATIVE_ZERO = bytes([ops.VSTRING, 2]) + b"-0" + bytes([ops.SCALAR, 1]) + b"0"

_FLOAT_HEADS = [bytes([ops.LUTF8STR, 0, 0, 0, size]) for size in range(64)]
FLOAT_CHARACTERS = b"0123456789.e+-"
_NAMES = {b"inf": b"Inf", b"-inf": b"-Inf", b"nan": b"NaN"}  # as Perl has them
_NAMED = {name: float(name) for name in _NAMES.values()}

_NINE = ord("9")  # what ends with more than that is no number

_SAME_LENGTH = 10  # digits: what has more is beyond 32 bits
MOST_BITS = 14_000  # of an integer: about the 4300 digits from which Python refuses to print one
_MOST_DIGITS = 4215  # of an integer of so many bits


def write_float(number: float, _room: int = 0, _pieces: object = None) -> bytes:
    """Return the item of a float."""
    text = repr(number).encode()
    if text[-2:] == b".0":
        text = text[:-2]
        if text == b"-0":
            return _NEGATIVE_ZERO
    elif text[-1] > _NINE:
        text = _NAMES[text]
    return _FLOAT_HEADS[len(text)] + text


def float_value(text: bytes, start: int) -> float:
    """Read what a LUTF8STR of at most 255 bytes is."""
    if not text.translate(None, FLOAT_CHARACTERS):
        try:
            number = float(text)
            if number - number == 0:  # else it is beyond what a float can hold
                return number
        except ValueError:
            pass
    elif text in _NAMED:
        return _NAMED[text]
    raise _refusal("float", text, start)


def ascii_value(text: str, start: int) -> bool | int:
    """Read what a UTF8STR of nothing but ASCII is: a bool, or an int beyond 32 bits."""
    if text.isdigit() and text[0] != "0" and len(text) > _SAME_LENGTH:
        return int(text)  # the most frequent
    if text == "1":
        return True
    if text == "0" or not text:
        return False
    return _long_int(text, start)


def behind_literal(literal: bytes, text: bytes, start: int) -> float | int:
    """Read what a VSTRING or LVSTRING is, whose string is that text."""
    if literal == b"-0" and text == b"0":
        return -0.0
    if literal == text and len(text) > LIMIT:
        return _long_int(text.decode("latin-1"), start)
    raise _refusal("number", literal, start)


def _long_int(text: str, start: int) -> int:
    digits = text[1:] if text[0] == "-" else text
    if digits.isdigit() and digits.isascii() and digits[0] != "0" and len(digits) <= _MOST_DIGITS:
        try:
            number = int(text)
            # Short ones have forms of their own.
            if not ops.LEAST_INT <= number <= ops.MOST_INT and number.bit_length() <= MOST_BITS:
                return number
        except ValueError:  # this Python was told to take less
            pass
    raise _refusal("bool or int beyond 32 bits", text.encode("latin-1"), start)


def _refusal(wanted: str, text: bytes, start: int) -> DecodeError:
    shown = repr(text[:40])[1:] + ("..." if len(text) > 40 else "")
    return DecodeError("bad-number", f"{shown} at offset {start} is no {wanted}")
