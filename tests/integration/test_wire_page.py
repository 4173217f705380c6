"""docs/wire-format.md is enough to write a client from: what stands there was written here again.

The reader of Storable below uses nothing but the page, and reads all that a real Perl has written.
"""

import ast
import json
import math
import re
import struct

import pytest
from support.programs import ROOT

from rpcasync import JSONCodec, StorableCodec
from rpcasync.wire.messages import CallbackRef

PAGE = (ROOT / "docs" / "wire-format.md").read_text()
VECTORS = [
    vector
    for vector in json.loads((ROOT / "tests/data/storable/vectors.json").read_text())["vectors"]
    if vector["python"] == "accept" and "hex" in vector  # the others are hostile, or very long
]
UNDEF, TRUTHS, REFERENCES = (0x05, 0x0E, 0x1F), (0x0F, 0x10, 0x22, 0x23), (0x04, 0x14, 0x1B, 0x1C)


def test_the_bytes_that_are_shown():
    shown = re.findall(r"^    00 00 .*\n(?: {17}.*\n)*", PAGE, re.MULTILINE)
    lists = [
        [0, "add_numbers", "n1", 2, "n2", 3],
        [0, "sum", 5],
        [0, "error", "no", "errors", ["no"]],
        [2, "count", "upto", 3, "progress", CallbackRef(1)],
        [1, "call", "done", 1],
        [1, "destroy"],
    ]
    perl = StorableCodec(typed=False)
    payloads = [codec.encode(values) for codec in (JSONCodec(), perl) for values in lists]
    packets = [(len(payload) + 4).to_bytes(4, "big") + payload for payload in payloads]
    assert list(map(packet_of, shown)) == packets


def packet_of(shown):
    """Return the bytes of a packet as the page shows it: in hex, with text as it is."""
    return b"".join(
        bytes.fromhex(word) if re.fullmatch("[0-9a-f]{2}", word) else word.encode()
        for word in shown.split()
    )


class Refused(Exception):
    """The page has no such item."""


class Reader:
    """Reads one image by the tables of the page."""

    def __init__(self, image):
        if image[0] != 0x05:
            raise Refused(image[0])
        self.rest = image[2:]
        self.items = []
        self.classes = []

    def take(self, count):
        taken, self.rest = self.rest[:count], self.rest[count:]
        assert len(taken) == count
        return taken

    def byte(self):
        return self.take(1)[0]

    def four(self):
        return int.from_bytes(self.take(4), "big")

    def of_class(self):
        number = self.byte()
        return self.four() if number == 0x80 else number

    def item(self):
        kind = self.byte()
        if kind == 0x00:
            return self.items[self.four()]
        if kind == 0x11:
            self.classes.append(self.take(self.of_class()))
            return self.item()
        if kind == 0x12:
            assert self.classes[self.of_class()]
            return self.item()
        if kind in (0x1D, 0x1E):
            self.take(self.byte() if kind == 0x1D else self.four())
            return self.item()
        number = len(self.items)
        self.items.append(None)
        self.items[number] = self.value(kind)
        return self.items[number]

    def value(self, kind):
        if kind in UNDEF:
            return None
        if kind in TRUTHS:
            return kind in TRUTHS[::2]
        if kind in REFERENCES:
            return self.item()
        if kind == 0x08:
            return self.byte() - 128
        if kind == 0x09:
            return struct.unpack("!i", self.take(4))[0]
        if kind in (0x0A, 0x01):
            return self.take(self.byte() if kind == 0x0A else self.four()).decode("latin-1")
        if kind in (0x17, 0x18):
            return self.take(self.byte() if kind == 0x17 else self.four()).decode("utf-8", "ignore")
        if kind == 0x02:
            return [self.item() for _ in range(self.four())]
        if kind == 0x03:
            return dict(self.pair() for _ in range(self.four()))
        if kind == 0x19:
            self.byte()
            pairs = [self.flagged_pair() for _ in range(self.four())]
            return dict(pair for flags, pair in pairs if not flags & 0x10)
        if kind == 0x20:
            is_long = self.byte() & 1
            return self.take(self.four() if is_long else self.byte()), self.take(self.byte())
        raise Refused(kind)

    def pair(self):
        item = self.item()
        return self.take(self.four()).decode("latin-1"), item

    def flagged_pair(self):
        item, flags = self.item(), self.byte()
        key = self.take(self.four()).decode("utf-8" if flags & 1 else "latin-1")
        return flags, (key, item)


@pytest.mark.slow
@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_the_items_are_those_of_perl(vector):
    image = bytes.fromhex(vector["hex"])
    reader = Reader(image[4:] if vector.get("framed") else image)
    value = reader.item()
    assert reader.rest == b""
    if "plain" in vector:
        assert value == vector["plain"]


class TypedReader(Reader):
    """Reads a typed image by the page."""

    def item(self):
        start = self.rest
        if start[0] in (0x1D, 0x1E):
            self.take(1)
            literal = self.take(self.byte() if start[0] == 0x1D else self.four())
            assert self.item() in (b"0", "0") or self.items[-1] == literal
            self.items[-1] = -0.0 if literal == b"-0" else int(literal)
            return self.items[-1]
        return super().item()

    def value(self, kind):
        if kind == 0x01:
            return self.take(self.four())
        if kind == 0x17:
            raw = self.take(self.byte())
            if not raw.isascii():
                return raw.decode()
            return {b"1": True, b"0": False, b"": False}.get(raw) if len(raw) < 2 else int(raw)
        if kind == 0x18:
            raw = self.take(self.four())
            return float(raw) if len(raw) <= 255 else raw.decode()
        return super().value(kind)


SHOWN = [True, False, 1.5, 2**40, b"\x80", "1.5"]


def test_the_typed_image_that_is_shown():
    assert 'These are `[True, False, 1.5, 2**40, b"\\x80", "1.5"]`:' in PAGE
    shown = re.search(r"^    05 01 .*\n {11}.*\n", PAGE, re.MULTILINE)[0]
    words = [f" {word}" if len(word) == 1 else word for word in shown.split()]
    assert b"".join(packet_of(word) for word in words) == StorableCodec().encode(SHOWN)


@pytest.mark.parametrize(
    "values",
    [
        *(SHOWN, [None, 0, -129, 2**31, -(2**64), 10**254, 10**300, -(10**4000)]),
        *([0.0, -0.0, 1e16, -2.0, math.inf, -math.inf, math.nan], [b"", b"x" * 256, b"1"]),
        *(
            ["", "1", "\xe9", "x" * 255, "x" * 256, "\xe9" * 127, "\xe9" * 128],
            [{"\u263a": [{"\xe9": 1.0}]}],
        ),
    ],
    ids=["shown", "integers", "floats", "bytes", "texts", "hashes"],
)
def test_typed_images_are_as_the_page_says(values):
    reader = TypedReader(StorableCodec().encode(values))
    assert repr(reader.item()) == repr(values)
    assert reader.rest == b""


@pytest.mark.parametrize("name", ["json_client.py", "wire_client.py"])
def test_the_clients_by_hand_need_nothing_of_ours(name):
    tree = ast.parse((ROOT / "examples" / name).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in imports for alias in node.names}
    assert names == {"json", "socket", "struct", "sys"}
