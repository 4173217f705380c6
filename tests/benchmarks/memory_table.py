"""What needs no socket: the codecs on the packets of one call, and buffers on long streams."""

from __future__ import annotations

import gc
import json
import timeit
from collections.abc import Callable, Sequence
from statistics import median

from benchmarks import goals
from benchmarks.report import Section, Table, Verdict
from benchmarks.rounds import Spread
from eventmux.buffers import Buffer, FixedSize, Size, Split
from rpcasync import JSONCodec
from rpcasync.wire.codecs import Codec, StorableCodec

_REPEATS = 15
_CALLS = 2000
_PACKETS: dict[str, list[object]] = {
    "request": [4711, "add_numbers", "n1", 592, "n2", 143],
    "reply": [4711, "sum", 735],
}
_MEGABYTE = 1_000_000
_TRIES = 3


# Codecs


def codec_section(repeats: int = _REPEATS) -> Section:
    """Return what encoding and decoding take, with each codec and with `json` as it is."""
    table = Table(
        "Codecs: the packets of add_numbers",
        ("", "Storable, us", "our JSON, us", "json, us", "Storable over json"),
        note="`json` is `json.dumps(...).encode()` and `json.loads(...)`.",
    )
    section = Section([table])
    storable, ours = StorableCodec(), JSONCodec()
    for name, packet in _PACKETS.items():
        for what, functions in _works(storable, ours, packet).items():
            times = _interleaved(functions, repeats)
            ratio = Spread([first / last for first, _, last in times])
            cells = [f"{median(column):.2f}" for column in zip(*times, strict=True)]
            table.rows.append((f"{what} a {name}", *cells, str(ratio)))
            goal = f"at most {goals.STORABLE:g}"
            is_met = ratio.median <= goals.STORABLE
            verdict = Verdict("json: Storable", f"{what} a {name}", goal, str(ratio), is_met)
            section.verdicts.append(verdict)
    return section


def _works(
    storable: Codec, ours: Codec, packet: list[object]
) -> dict[str, list[Callable[[], object]]]:
    """Return what is to be timed: with Storable, with our JSON, and with `json`."""
    image, text = storable.encode(packet), ours.encode(packet)
    if not storable.decode(image) == ours.decode(text) == packet == json.loads(text):
        raise AssertionError(f"{packet} does not come back as it was")
    return {
        "encode": [
            lambda: storable.encode(packet),
            lambda: ours.encode(packet),
            lambda: json.dumps(packet).encode(),
        ],
        "decode": [
            lambda: storable.decode(image),
            lambda: ours.decode(text),
            lambda: json.loads(text),
        ],
    }


def _interleaved(works: Sequence[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Return us for one call of each, several times."""
    for work in works:
        timeit.timeit(work, number=_CALLS)
    return [
        [timeit.timeit(work, number=_CALLS) / _CALLS * 1e6 for work in works]
        for _ in range(repeats)
    ]


# Buffers


def buffer_section() -> Section:
    """Return the time for each MB of streams: of many records, and of a single large one."""
    table = Table(
        "Buffers: ms for each MB of a stream",
        ("discipline, records", "pieces", "short stream", "long stream", "long over short"),
        note="Linear time is the same for each MB, however long the stream. Pieces of one byte"
        " are 0.5 and 2 MB, those of 64 KB 25 and 100 MB.",
    )
    section = Section([table])
    for name, (make, stream) in _DISCIPLINES.items():
        for piece, sizes in ((1, (0.5, 2.0)), (65536, (25.0, 100.0))):
            short, long = (
                _milliseconds(make, stream, round(size * _MEGABYTE), piece) for size in sizes
            )
            pieces = "1 byte" if piece == 1 else "64 KB"
            ratio = f"{long / short:.2f}"
            table.rows.append((name, pieces, f"{short:.1f}", f"{long:.1f}", ratio))
            goal = f"at most {goals.LINEAR:g}"
            is_met = long / short <= goals.LINEAR
            verdict = Verdict(f"linear: {name}", f"pieces of {pieces}", goal, ratio, is_met)
            section.verdicts.append(verdict)
    return section


def _lines(size: int) -> tuple[bytes, int]:
    return b"x" * 99 + b"\n", size // 100


def _one_line(size: int) -> tuple[bytes, int]:
    return b"x" * (size - 1) + b"\n", 1


def _sized(size: int) -> tuple[bytes, int]:
    return (96).to_bytes(4, "big") + b"x" * 96, size // 100


def _one_sized(size: int) -> tuple[bytes, int]:
    return (size - 4).to_bytes(4, "big") + b"x" * (size - 4), 1


_Make = Callable[[], Buffer]
_Stream = Callable[[int], tuple[bytes, int]]  # size to one record, and how many of them
_DISCIPLINES: dict[str, tuple[_Make, _Stream]] = {
    "Split, 100 bytes": (lambda: Split(b"\n", max_size=None), _lines),
    "Split, one record": (lambda: Split(b"\n", max_size=None), _one_line),
    "Size, 100 bytes": (lambda: Size("!I", max_size=None), _sized),
    "Size, one record": (lambda: Size("!I", max_size=None), _one_sized),
    "FixedSize, 100 bytes": (lambda: FixedSize(100), _lines),
}


def _milliseconds(make: _Make, stream: _Stream, size: int, piece: int) -> float:
    """Return ms for each MB, the best of several; the records are counted."""
    record, count = stream(size)
    data = record * count
    pieces = [data[start : start + piece] for start in range(0, len(data), piece)]
    best = min(_feed(make(), pieces, count) for _ in range(_TRIES))
    return best * 1000 / (len(data) / _MEGABYTE)


def _feed(buffer: Buffer, pieces: Sequence[bytes], count: int) -> float:
    records = 0
    gc.collect()

    def feed() -> None:
        nonlocal records
        for piece in pieces:
            buffer.write(piece)
            records += len(buffer.read())

    took = timeit.timeit(feed, number=1)
    if records != count:
        raise AssertionError(f"{records} records, expected {count}")
    return took
