"""Texts of other formats: JSON, HTTP, and lines of several kinds.

Most are nearly right; some are deep, wide, or say things in a way that no writer would.
"""

from __future__ import annotations

from random import Random

from fuzz.mutators import some_size
from fuzz.words import CODEREF, KEYS, PROCEDURES

__all__ = [
    "NUMBERS",
    "http_stream",
    "json_callback",
    "json_string",
    "json_text",
    "json_value",
    "lines",
]

NUMBERS = ["0", "-0", "1", "-1", "1.5", "1e5", "1.0", "0.1e1", "1e-999", "4294967296", "1" * 40]
NUMBERS += ["2305843009213693951", "-9223372036854775809", "18446744073709551616"]
"""Numbers of JSON, some of which are no integers of any usual size."""

_NO_NUMBERS = ["01", "+1", "1.", ".5", "0x1", "1_0", "NaN", "Infinity", "-Infinity", "1e999"]
_NO_NUMBERS += ["-1E400", "9" * 4301, "nul", "True", "", "[,]", "{]", "'a'"]

_PIECES = [r"a", r"key", r"\u0000", r"\ud800", r"\udc00", r"\ud83d\ude00", r"\n", r"\/", r"\""]
_PIECES += [r"\\", r"\u001b[31m", r"\u001b[31m\nERROR rpcasync: forged", CODEREF, "x" * 100]
_PIECES += ["\xe9", "\x7f", "\U0001f600", "\u2028", "\ufeff"]
_NO_PIECES = [r"\x", r"\u12", "\t", "\x01", "\ud800"]

_WRONG = 0.02  # of all values: a list of many is right most often


def json_string(source: Random) -> str:
    """Return a text in quotes."""
    if source.random() < 0.5:
        return '"' + source.choice(KEYS + PROCEDURES) + '"'
    pieces = _NO_PIECES if source.random() < _WRONG else _PIECES
    return '"' + "".join(source.choices(pieces, k=source.randrange(5))) + '"'


def json_value(source: Random, level: int) -> str:
    """Return any value, nested no deeper than some levels."""
    dice = source.random()
    if dice < _WRONG:
        return source.choice(_NO_NUMBERS)
    if level > 20 or dice < 0.25:
        return source.choice(NUMBERS)
    if dice < 0.5:
        return json_string(source)
    if dice < 0.6:
        return source.choice(("true", "false", "null", "{}", "[]"))
    if dice < 0.65:
        return json_callback(source)
    count = source.randrange(4)
    if dice < 0.85:
        return "[" + ",".join(json_value(source, level + 1) for _ in range(count)) + "]"
    pairs = (f"{json_string(source)}:{json_value(source, level + 1)}" for _ in range(count))
    return "{" + ",".join(pairs) + (",}" if source.random() < _WRONG else "}")


def json_callback(source: Random) -> str:
    """Return what stands for a function, or nearly so."""
    number = str(source.randrange(20))
    if source.random() < 0.2:
        number = source.choice(('"4"', "-1", "1.0", "null", "1e5", "9" * 30, "[]"))
    form = '{"RPC::Async::Coderef":{"id":%s}}'
    if source.random() < 0.1:
        form = source.choice(
            ('{"RPC::Async::Coderef":%s}', '{"RPC::Async::Coderef":{"id":%s,"a":1}}')
        )
    return form % number


def _json_deep(source: Random) -> str:
    depth = source.choice((10, 255, 256, 257, 900, 1000, source.randrange(200_000)))
    opening, closing = source.choice((("[", "]"), ('{"a":', "}"), ("[[],", "]"), ('[{"b":', "}]")))
    return opening * depth + "1" + closing * source.choice((depth, depth, 0, depth // 2))


def _json_wide(source: Random) -> str:
    thing = source.choice(
        ("[]", "{}", "0", '""', "null", "[[]]", "1e5", '{"a":0}', "[[[]]]", "1.5")
    )
    count = some_size(source, 2000, 2**18 if source.random() < 0.05 else 2**13)
    return "[" + ",".join([thing] * count) + "]"


def _json_names(source: Random) -> str:
    """Have many keys: the same one, or what some hash functions are known to put together."""
    count = some_size(source, 500, 2**14)
    if source.random() < 0.3:  # numbers whose hashes are all the same, as keys of a dict
        return (
            '[1,"fields"' + "".join(f",{(2**61 - 1) * number},0" for number in range(count)) + "]"
        )
    key = source.choice(('"a":0', '"%d":0', '"\\u00%02x":0'))
    keys = (
        key % (number % 256 if "x" in key else number) if "%" in key else key
        for number in range(count)
    )
    return '[1,"add",{' + ",".join(keys) + "}]"


def _json_digits(source: Random) -> str:
    digits = source.choice("019") * source.choice((18, 19, 20, 4299, 4300, 4301, 10**5))
    return f"[1,{digits}{source.choice(('', '.', '.5', 'e5', 'e-5', 'E+9'))}]"


def json_text(source: Random) -> bytes:
    """Return a JSON text, right or not; most often a list."""
    dice = source.random()
    if dice < 0.75:
        count = some_size(source)
        text = "[" + ",".join(json_value(source, 1) for _ in range(count)) + "]"
    elif dice < 0.78:
        text = json_value(source, 1)
    else:
        style = source.choice((_json_deep, _json_deep, _json_wide, _json_names, _json_digits))
        text = style(source)
    if source.random() < 0.1:
        text = source.choice(("", " ", "\ufeff")) + text + source.choice(("\n", "\n", " 1"))
    return text.encode("utf-8", "surrogatepass")


# ---- other streams -----------------------------------------------------------------------

_HEADS = [b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.0\r\n", b"HTTP/1.1 200 OK\r\n", b"\r\n\r\n"]
_HEADS += [b"HTTP/1.1 304 \r\n", b"get / HTTP/1.1\n", b"HTTP/1.1 200\r\n", b"GET  / HTTP/1.1\r\n"]
_HEADS += [b"HTTP/2 200\r\n"]
_FIELDS = [b"Content-Length: 5\r\n", b"content-length:5\n", b"Content-Length: 5, 5\r\n"]
_FIELDS += [b"Content-Length: -1\r\n", b"Content-Length: +5\r\n", b"Content-Length:\r\n"]
_FIELDS += [b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n"]
_FIELDS += [b"Transfer-Encoding: gzip, chunked\r\n", b"X: y\r\n", b"A : b\r\n", b" folded\r\n"]
_FIELDS += [b"X: \0\r\n", b"Y: " + b"z" * 300 + b"\r\n"]
_BODIES = [b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"5;x=y\r\nhello\r\n0\r\nT: u\r\n\r\n"]
_BODIES += [b"0\r\n\r\n", b"FFFFFFFFFFFFFFFF\r\n", b"-1\r\n", b"5\r\nhello0\r\n\r\n", b"g\r\n"]
_BODIES += [b"5 \t\r\nhello\r\n"]
_LINES = [b"\n", b"\r\n", b"\r", b"a", b"bc", b",", b"12", b"\0\0\0\x03", b"\0\x02", b"--", b"\xff"]


def http_stream(source: Random) -> bytes:
    """Return HTTP messages, right or not."""
    parts = []
    for _ in range(source.choice((1, 1, 2, 3))):
        parts.append(source.choice(_HEADS))
        parts += source.choices(_FIELDS, k=source.randrange(4))
        parts += [source.choice((b"\r\n", b"\n", b"\r\n", b"")), source.choice(_BODIES)]
    if source.random() < 0.02:
        parts.insert(1, source.choice((b"X: y\r\n", b"\r\n", b"x")) * some_size(source, 100, 2**16))
    return b"".join(parts)


def lines(source: Random) -> bytes:
    """Return lines with ends of several kinds, numbers, and long pieces without any."""
    if source.random() < 0.03:
        return source.choice(_LINES) * some_size(source, 100, 2**18)
    return b"".join(source.choices(_LINES, k=some_size(source, 30)))
