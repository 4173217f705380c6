"""Inputs with a structure: what a parser understands well enough to go wrong in its depths.

Storable images by their opcodes, JSON texts, packets of calls and answers, and streams of packets.
Most are nearly right. Some are what attacks are made of: deep, wide, announced and never sent,
short and standing for much, written in a way that no encoder would.

The one rule: nothing of the packages is used to write them. This file does not know what is right.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random

from fuzz.mutators import LENGTHS, mutate, some_size

__all__ = ["frame", "http_stream", "image", "json_text", "lines", "packets", "reply", "request"]

CODEREF = "RPC::Async::Coderef"
FORGED = "\x1b[31m\nERROR rpcasync: forged"
"""Text that must not reach a log as it is."""

PROCEDURES = ("add", "echo", "fields", "typed", "keep", "let_go", "follow", "fails", "fault", "big")
"""What the server has that `endpoints` fuzzes."""

_WORDS = (*PROCEDURES, "methods", "rpc_add", "__init__", "", "x" * 300, "\xe9", "\u263a", FORGED)
_KEYS = ("n1", "n2", "values", "callback", "text", "size", "defs", "caller", "self", "id", "error")
_CLASSES = (CODEREF, "JSON::PP::Boolean", "Regexp", "A", "", "A\nB", "\xe9::\xff", "x" * 200)

_u32 = struct.Struct(">I").pack


# ---- Storable ----------------------------------------------------------------------------


class _Image:
    """An image that is being written: it counts tags and classes, so that references fit."""

    def __init__(self, source: Random, left: int) -> None:
        self.source = source
        self.out = bytearray(b"\x05\x0b")
        self.tags = 0
        self.classes = 0
        self.left = left  # items that may still be written

    def item(self, level: int) -> None:
        """Write one scalar: a leaf, or a reference to something."""
        source = self.source
        self.left -= 1
        dice = source.random()
        if self.left <= 0 or level > 30 or dice < 0.5:
            self._leaf()
        elif dice < 0.8:
            self._reference(level)
        elif dice < 0.9 and self.tags:
            self.out += source.choice((b"", b"\x04", b"\x04", b"\x11\x01A\x04"))
            self.out += b"\0" + _u32(source.randrange(self.tags + source.choice((0, 0, 0, 3))))
        elif dice < 0.96:
            self.tags += 1
            self.out.append(source.choice((4, 0x14, 0x1B, 0x1C)))
            self.item(level + 1)
        else:
            self.out += source.choice(_RARE)
            self.tags += 1

    def _leaf(self) -> None:
        self.tags += 1
        self.out += self.source.choice(_LEAVES)(self.source)

    def _reference(self, level: int) -> None:
        self.tags += 1
        self.out.append(self.source.choice((4, 4, 4, 4, 0x14, 0x1B)))
        if self.source.random() < 0.15:
            self._bless()
        self.container(level + 1)

    def _bless(self) -> None:
        source = self.source
        if self.classes and source.random() < 0.4:
            index = source.randrange(self.classes + source.choice((0, 0, 1)))
            self.out += b"\x12" + bytes([index % 128])
            return
        name = source.choice(_CLASSES).encode("utf-8")
        self.out += b"\x11" + (bytes([len(name)]) if len(name) < 128 else b"\x80" + _u32(len(name)))
        self.out += name
        self.classes += 1

    def container(self, level: int, count: int | None = None) -> None:
        """Write an array or a hash."""
        source = self.source
        self.tags += 1
        count = source.randrange(6) if count is None else count
        op = source.choice((2, 2, 3, 3, 0x19))
        self.out.append(op)
        if op == 0x19:
            self.out.append(source.choice((0, 0, 1)))
        self.out += _u32(count if source.random() < 0.97 else source.choice(LENGTHS))
        for number in range(count):
            self.item(level)
            if op != 2:
                self.key(number, op == 0x19)

    def key(self, number: int, flagged: bool) -> None:
        """Write what follows a value in a hash."""
        source = self.source
        key = f"k{number}" if source.random() < 0.8 else source.choice(_KEYS)
        raw = key.encode()
        if flagged:
            self.out.append(source.choice((0, 0, 0, 1, 2, 4, 5, 0x10, 8, 0x40)))
            raw += source.choice((b"", b"", b"\xc3\xa9", b"\xff"))
        self.out += _u32(len(raw)) + raw


def _string(source: Random) -> bytes:
    if source.random() < 0.1:
        long = source.randbytes(some_size(source, 300, 2**16))
        return source.choice((b"\x01", b"\x18")) + _u32(len(long)) + long
    raw = source.choice((*_WORDS, "0", "1", "-1", "3.5", "1e+300", "12345678901")).encode()[:255]
    return source.choice((b"\x0a", b"\x0a", b"\x17")) + bytes([len(raw)]) + raw


_LEAVES: tuple[Callable[[Random], bytes], ...] = (
    lambda source: b"\x08" + source.randbytes(1),
    lambda source: b"\x09" + source.randbytes(4),
    lambda source: source.choice((b"\x05", b"\x0e", b"\x0f", b"\x10", b"\x1f", b"\x22", b"\x23")),
    _string,
    _string,
)
_RARE = (
    b"\x1d\x02v1\x0a\x01\x01",
    b"\x1e\0\0\0\x02v1\x17\x03\xe2\x98\xba",
    b"\x1e\xff\xff\xff\xffv1",
    b"\x11\x06Regexp\x20\0\x01x\x01u",
    b"\x20\x01\xff\xff\xff\xff",
    b"\x17\x01\xff",
    b"\x18\0\0\0\x03\xed\xa0\x80",
    b"\x13\x02\x01A\0",
    b"\x1a\x0a\x01x",
    b"\x06\0\0\0\0\0\0\0\x01",
    b"\x0b",
    b"\x15",
    b"\x21\x01",
    b"\x24",
)


def _tree(source: Random) -> bytes:
    made = _Image(source, some_size(source, 40))
    if source.random() < 0.1:
        made.item(1)
    else:
        made.container(1, min(made.left, some_size(source)))
    return bytes(made.out)


def _deep(source: Random) -> bytes:
    """Nest one thing in the same again, up to a hundred thousand times."""
    step = source.choice(
        (b"\x04\x02\0\0\0\x01", b"\x04", b"\x1b", b"\x04\x03\0\0\0\x01", b"\x11\x01A\x04")
    )
    depth = source.choice((10, 250, 255, 256, 257, 300, 1000, source.randrange(100_000)))
    head = source.choice((b"", b"\x02\0\0\0\x01"))
    tail = b"\0\0\0\x01k" * depth if step[1:2] == b"\x03" else b""
    return b"\x05\x0b" + head + step * depth + source.choice((b"\x05", b"\x02\0\0\0\0")) + tail


def _wide(source: Random) -> bytes:
    """Put very many very small things in one array."""
    small = (b"\x05", b"\x08\x80", b"\x0a\0", b"\x04\x05", b"\x0e", b"\x04\x02\0\0\0\0")
    small += (
        b"\x04\x0a\0",
        b"\x04\x03\0\0\0\0",
        b"\x17\0",
        b"\x1d\0\x0a\0",
        b"\x04\x0e",
        b"\x04\x04\x05",
    )
    things = source.sample(small, source.choice((1, 1, 2, 3)))
    count = some_size(source, 2000, 2**19 if source.random() < 0.05 else 2**14)
    return b"\x05\x0b\x02" + _u32(count * len(things)) + b"".join(things) * count


def _shared(source: Random) -> bytes:
    """Have each array hold the one before several times: short, and stands for very much."""
    levels, times = source.randrange(1, 100), source.randrange(1, 5)
    through = source.random() < 0.5  # each time by a reference of its own, which has a tag, too
    parts = [b"\x04\x02\0\0\0\0"]  # the reference is tag 1, the array behind it tag 2
    tag = 1
    for _ in range(levels):
        again = b"\x04\0" + _u32(tag + 1) if through else b"\0" + _u32(tag)
        tag += 2 if tag == 1 or not through else 2 + times
        parts.append(b"\x04\x02" + _u32(times) + again * times)
    if source.random() < 0.3:  # one thing, referred to again and again
        number = some_size(source, 1000, 2**15)
        parts = [b"\x04\x02\0\0\0\x01\x05", *[b"\0\0\0\0\x01"] * number]
    return b"\x05\x0b\x02" + _u32(len(parts)) + b"".join(parts)


def _announced(source: Random) -> bytes:
    """Announce much, and send little."""
    count = _u32(source.choice(LENGTHS))
    op = source.choice((b"\x02", b"\x03", b"\x19\0", b"\x01", b"\x18", b"\x1e", b"\x11\x80"))
    inside = b"\x02\0\0\0\x01\x04" if source.random() < 0.5 else b""
    return b"\x05\x0b" + inside + op + count + source.randbytes(some_size(source))


def _classy(source: Random) -> bytes:
    """Name very many classes, long ones, or one of them very often."""
    count = some_size(source, 100, 20_000)
    parts = []
    for number in range(count):
        name = b"C%d" % (number if source.random() < 0.5 else 0)
        parts.append(
            b"\x04\x11" + bytes([len(name)]) + name + source.choice((b"\x05", b"\x03\0\0\0\0"))
        )
    return b"\x05\x0b\x02" + _u32(count) + b"".join(parts)


_STYLES = (_tree, _deep, _wide, _shared, _announced, _classy)
_WEIGHTS = (70, 5, 5, 6, 10, 4)


def image(source: Random) -> bytes:
    """Return a Storable image, right or not."""
    return source.choices(_STYLES, _WEIGHTS)[0](source)


def _callback_image(source: Random) -> bytes:
    fields = [(b"id", b"\x08" + bytes([128 + source.randrange(100)])), (b"alive", b"\x08\x81")]
    if source.random() < 0.2:
        fields = [(b"id", source.choice(_LEAVES)(source)), (b"call", b"\x05")]
    table = b"".join(value + _u32(len(key)) + key for key, value in fields)
    return b"\x04\x11\x13RPC::Async::Coderef\x03" + _u32(len(fields)) + table


# ---- JSON --------------------------------------------------------------------------------

_NUMBERS = ("0", "-0", "1", "-1", "1.5", "1e5", "1.0", "1e999", "-1E400", "1e-999", "0.1e1", "01")
_NUMBERS += ("+1", "1.", ".5", "0x1", "NaN", "Infinity", "-Infinity", "1_0", "2305843009213693951")
_NUMBERS += ("4294967296", "18446744073709551616", "-9223372036854775809", "1" * 40, "9" * 4301)
_PIECES = (
    "a",
    "key",
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "\\ud83d\\ude00",
    "\\n",
    "\\x",
    "\xe9",
    "\x7f",
)
_PIECES += (
    "\U0001f600",
    "\\/",
    '\\"',
    "\\\\",
    "\t",
    "\x01",
    CODEREF,
    "\\u001b[31m",
    "\\u12",
    "\u2028",
)
_PIECES += ("\\u001b[31m\\nERROR rpcasync: forged", "\ufeff", "x" * 100)


def _json_string(source: Random) -> str:
    if source.random() < 0.5:
        return '"' + source.choice(_KEYS + PROCEDURES) + '"'
    return '"' + "".join(source.choices(_PIECES, k=source.randrange(5))) + '"'


def _json_value(source: Random, level: int) -> str:
    dice = source.random()
    if level > 20 or dice < 0.25:
        return source.choice(_NUMBERS)
    if dice < 0.5:
        return _json_string(source)
    if dice < 0.6:
        return source.choice(("true", "false", "null", "nul", "True", "", "{}", "[]", "[,]"))
    if dice < 0.65:
        return _json_callback(source)
    count = source.randrange(4)
    if dice < 0.85:
        return "[" + ",".join(_json_value(source, level + 1) for _ in range(count)) + "]"
    pairs = (f"{_json_string(source)}:{_json_value(source, level + 1)}" for _ in range(count))
    return "{" + ",".join(pairs) + source.choice(("}", "}", "}", ",}"))


def _json_callback(source: Random) -> str:
    number = source.choice(("1", "2", "3", '"4"', "-1", "1.0", "null", "1e999", "9" * 30))
    return (
        source.choice(('{"RPC::Async::Coderef":{"id":%s}}', '{"RPC::Async::Coderef":%s}')) % number
    )


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
        text = "[" + ",".join(_json_value(source, 1) for _ in range(count)) + "]"
    elif dice < 0.78:
        text = _json_value(source, 1)
    else:
        style = source.choice((_json_deep, _json_deep, _json_wide, _json_names, _json_digits))
        text = style(source)
    text = (
        source.choice(("", "", "", "", " ", "\ufeff"))
        + text
        + source.choice(("", "", "", "", "\n", " 1"))
    )
    return text.encode("utf-8", "surrogatepass")


# ---- packets -----------------------------------------------------------------------------


def frame(payload: bytes) -> bytes:
    """Return the packet of a payload."""
    return _u32(4 + len(payload)) + payload


def request(source: Random, is_json: bool) -> bytes:
    """Return the payload of a call."""
    if source.random() < 0.1:
        return (json_text if is_json else image)(source)
    if is_json:
        number = str(source.randrange(10)) if source.random() < 0.9 else source.choice(_NUMBERS)
        return _json_list(source, [number, _json_name(source)], _args(source)).encode()
    number_image = b"\x08" + bytes([128 + source.randrange(100)])
    name = source.choice(_WORDS if source.random() < 0.3 else PROCEDURES).encode()[:255]
    return _image_list(source, [number_image, b"\x0a" + bytes([len(name)]) + name], _args(source))


def reply(source: Random, is_json: bool) -> bytes:
    """Return the payload of an answer, or of a call of a callback."""
    if source.random() < 0.1:
        return (json_text if is_json else image)(source)
    number = source.randrange(10)
    word = source.choice(("call", "destroy", "error", "errors", "sum", ""))
    if is_json:
        return _json_list(source, [str(number), f'"{word}"'], _args(source)).encode()
    first = [b"\x08" + bytes([128 + number]), b"\x0a" + bytes([len(word)]) + word.encode()]
    return _image_list(source, first, _args(source))


def _args(source: Random) -> Sequence[str]:
    """Return what arguments are to be: names of keys, "" for a value, "&" for a callback."""
    if source.random() < 0.5:
        return [part for _ in range(source.randrange(4)) for part in (source.choice(_KEYS), "")]
    if source.random() < 0.3:
        return ["callback", "&"] * source.choice((1, 1, 2, some_size(source, 30, 500)))
    return [""] * some_size(source, 6, 2000)


def _json_name(source: Random) -> str:
    return f'"{source.choice(PROCEDURES)}"' if source.random() < 0.7 else _json_string(source)


def _json_list(source: Random, parts: list[str], args: Sequence[str]) -> str:
    for arg in args:
        if arg == "&":
            parts.append(_json_callback(source))
        elif arg:
            parts.append(f'"{arg}"' if source.random() < 0.95 else str(source.randrange(10)))
        else:
            parts.append(_json_value(source, 10))
    return "[" + ",".join(parts) + "]"


def _image_list(source: Random, parts: list[bytes], args: Sequence[str]) -> bytes:
    made = _Image(source, some_size(source, 30))
    made.out += b"\x02" + _u32(len(parts) + len(args)) + b"".join(parts)
    made.tags = 1 + len(parts)
    for arg in args:
        if arg == "&":
            made.out += _callback_image(source)
            made.tags += 5
        elif arg and source.random() < 0.95:
            made.out += b"\x0a" + bytes([len(arg)]) + arg.encode()
            made.tags += 1
        else:
            made.item(1)
    return bytes(made.out)


def packets(
    source: Random, payload: Callable[[Random, bool], bytes], seeds: Sequence[bytes] = ()
) -> bytes:
    """Return a stream of packets of one codec, most often right; `payload` makes what is in one."""
    is_json = source.random() < 0.5
    parts = []
    for _ in range(source.choice((1, 1, 2, 3, some_size(source, 8, 300)))):
        made = payload(source, is_json)
        if source.random() < 0.15:
            made = mutate(source, made, seeds or (made,))
        packet = frame(made)
        if source.random() < 0.05:
            wrong = source.choice((*LENGTHS, len(made) + 3, len(made) + 5, len(made)))
            packet = _u32(wrong) + made
        parts.append(packet)
    stream = b"".join(parts)
    return stream[: source.randrange(len(stream) + 1)] if source.random() < 0.1 else stream


# ---- other streams -----------------------------------------------------------------------

_HEADS = (
    b"GET / HTTP/1.1\r\n",
    b"POST /x HTTP/1.0\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 304 \r\n",
)
_HEADS += (
    b"get / HTTP/1.1\n",
    b"HTTP/1.1 200\r\n",
    b"GET  / HTTP/1.1\r\n",
    b"\r\n\r\n",
    b"HTTP/2 200\r\n",
)
_FIELDS = (
    b"Content-Length: 5\r\n",
    b"content-length:5\n",
    b"Content-Length: 5, 5\r\n",
    b"X: y\r\n",
)
_FIELDS += (
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"A : b\r\n",
)
_FIELDS += (b" folded\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n")
_FIELDS += (
    b"Content-Length: +5\r\n",
    b"Content-Length:\r\n",
    b"X: \0\r\n",
    b"Y: " + b"z" * 300 + b"\r\n",
)
_BODIES = (
    b"",
    b"hello",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5;x=y\r\nhello\r\n0\r\nT: u\r\n\r\n",
    b"0\r\n\r\n",
)
_BODIES += (
    b"FFFFFFFFFFFFFFFF\r\n",
    b"-1\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5 \t\r\nhello\r\n",
    b"g\r\n",
)


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
    pieces = (
        b"\n",
        b"\r\n",
        b"\r",
        b"a",
        b"bc",
        b",",
        b"12",
        b"\0\0\0\x03",
        b"\0\x02",
        b"--",
        b"\xff",
    )
    if source.random() < 0.03:
        return source.choice(pieces) * some_size(source, 100, 2**18)
    return b"".join(source.choices(pieces, k=some_size(source, 30)))
