"""Storable images by their opcodes.

Most are nearly right: tags and classes are counted, so that references fit. Some are what attacks
are made of: deep, wide, announced and never sent, short and standing for much.

The one rule: our encoder is not used to write them. This file does not know what is right.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

from fuzz.mutators import LENGTHS, some_size
from fuzz.words import CODEREF, KEYS, WORDS

__all__ = ["LEAVES", "Image", "image", "image_item"]

_CLASSES = (CODEREF, "JSON::PP::Boolean", "Regexp", "A", "", "A\nB", "\xe9::\xff", "x" * 200)

_u32 = struct.Struct(">I").pack


class Image:
    """An image that is being written: it counts tags and classes, so that references fit."""

    def __init__(self, source: Random, left: int) -> None:
        self.source = source
        self.out = bytearray(b"\x05\x0b")
        self.tags = 0
        self.classes = 0
        self.done: list[int] = []  # tags of what may be referred to
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
        elif dice < 0.9 and self.done:
            self._again()
        elif dice < 0.97:
            self.tags += 1
            self.out.append(source.choice((4, 4, 4, 0x1B, 0x1B, 0x1C)))
            self.item(level + 1)
        elif dice < 0.985:
            self.out += source.choice(_RARE)
            self.tags += 1
        else:
            self.out += source.choice(_REFUSED)
            self.tags += 1

    def _again(self) -> None:
        """Refer to something that is there already, or, rarely, to what is not."""
        source = self.source
        through = source.random() < 0.3  # a reference to it, which has a tag, too
        self.tags += through
        self.out += b"\x04\0" if through else b"\0"
        tag = source.choice(self.done)
        self.out += _u32(tag if source.random() < 0.9 else source.randrange(self.tags + 3))

    def _leaf(self) -> None:
        self.done.append(self.tags)
        self.tags += 1
        self.out += self.source.choice(LEAVES)(self.source)

    def _reference(self, level: int) -> None:
        tag = self.tags
        self.tags += 1
        blessed = self.source.random() < 0.15
        overloads = self.source.random() < (0.5 if blessed else 0.01)
        self.out.append(0x14 if overloads else 4)
        if blessed:
            self._bless()
        self.container(level + 1)
        self.done.append(tag)

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
        self.out += _u32(count if source.random() < 0.99 else source.choice(LENGTHS))
        for number in range(count):
            self.item(level)
            if op != 2:
                self.key(number, op == 0x19)

    def key(self, number: int, flagged: bool) -> None:
        """Write what follows a value in a hash."""
        source = self.source
        key = f"k{number}" if source.random() < 0.98 else source.choice(KEYS)
        raw = key.encode()
        if flagged:
            self.out.append(source.choice((0, 0, 0, 1, 1, 2, 4, 5, 0x10)))
            raw += source.choice((b"", b"", b"\xc3\xa9"))
            if source.random() < 0.02:
                self.out[-1] = 0x48
        self.out += _u32(len(raw)) + raw


def _string(source: Random) -> bytes:
    if source.random() < 0.1:
        long = source.randbytes(some_size(source, 300, 2**16))
        if source.random() < 0.3:
            long = source.choice("a\xe9\u263a").encode() * len(long)
            return b"\x18" + _u32(len(long)) + long
        return b"\x01" + _u32(len(long)) + long
    if source.random() < 0.3:
        return _typed(source)
    raw = source.choice((*WORDS, "0", "1", "-1", "3.5", "1e+300", "12345678901")).encode()[:255]
    return source.choice((b"\x0a", b"\x0a", b"\x17")) + bytes([len(raw)]) + raw


def _typed(source: Random) -> bytes:
    """What only a typed image has, nearly right or right."""
    text = source.choice(_NUMBERS)
    if source.random() < 0.1:
        text = text * source.choice((20, 300, 5000))
    elif source.random() < 0.1:
        text += source.choice(("x", " ", "_", "-", "0", "\u0663", "e999"))
    raw = text.encode()
    if len(raw) < 256 and source.random() < 0.5:
        return b"\x17" + bytes([len(raw)]) + raw
    long = _u32(len(raw)) + raw
    form = source.choice((b"\x18", b"\x18", b"\x1e" + long + b"\x01", b"\x1d\x02-0\x0a\x01" + b"0"))
    return form if form[0] == 0x1D else form + long


_NUMBERS: tuple[str, ...] = (
    "1",
    "0",
    "",
    "2",
    "-1",
    "1.5",
    "-0",
    "1e300",
    "1e999",
    "Inf",
    "-Inf",
    "NaN",
    "nan",
)
_NUMBERS += ("2147483648", "-2147483649", "2147483647", "1099511627776", "9" * 255, "1" + "0" * 300)

LEAVES: tuple[Callable[[Random], bytes], ...] = (
    lambda source: b"\x08" + source.randbytes(1),
    lambda source: b"\x09" + source.randbytes(4),
    lambda source: source.choice((b"\x05", b"\x0e", b"\x0f", b"\x10", b"\x1f", b"\x22", b"\x23")),
    _string,
    _string,
)
_RARE = [b"\x1d\x02v1\x0a\x01\x01", b"\x1e\0\0\0\x02v1\x17\x03\xe2\x98\xba"]
_RARE += [b"\x11\x06Regexp\x20\0\x01x\x01u", b"\x20\0\x01x\x01u"]
_REFUSED = [b"\x1e\xff\xff\xff\xffv1", b"\x20\x01\xff\xff\xff\xff", b"\x17\x01\xff", b"\x24"]
_REFUSED += [b"\x18\0\0\0\x03\xed\xa0\x80", b"\x13\x02\x01A\0", b"\x1a\x0a\x01x", b"\x21\x01"]
_REFUSED += [b"\x06\0\0\0\0\0\0\0\x01", b"\x0b", b"\x15"]


def _tree(source: Random) -> bytes:
    made = Image(source, some_size(source, 40))
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


_SMALL = [b"\x05", b"\x0e", b"\x08\x80", b"\x0a\0", b"\x17\0", b"\x1d\0\x0a\0"]
_SMALL += [b"\x04" + behind for behind in (*_SMALL, b"\x02\0\0\0\0", b"\x03\0\0\0\0", b"\x04\x05")]


def _wide(source: Random) -> bytes:
    """Put very many very small things in one array."""
    things = source.sample(_SMALL, source.choice((1, 1, 2, 3)))
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
    """Return a Storable image, right or not; one in three is typed."""
    made = source.choices(_STYLES, _WEIGHTS)[0](source)
    return b"\x05\x01" + made[2:] if source.random() < 0.33 else made


def image_item(source: Random) -> bytes:
    """Return one thing of an image, whose references fit in no image but its own."""
    made = Image(source, some_size(source, 10))
    made.item(1)
    return bytes(made.out)
