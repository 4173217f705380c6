"""Typed Storable images beside those of Perl: to write and to read one, in processor time.

    python tests/benchmarks/typed.py

Both are measured in turns, many times, so that a busy machine slows them alike; the figure is the
lower quartile. What costs more to read is what is a float, a bool or bytes then, and is nothing but
a piece of text in the other image.
"""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:1] = [str(_ROOT), str(_ROOT / "tests")]

from benchmarks.report import Table, machine  # noqa: E402
from rpcasync import StorableCodec  # noqa: E402

_ROUNDS = 150
_ROW = {"id": 7, "name": "seven", "tags": ["a", "b", None], "more": {"x": 70_000}}
_VALUES: dict[str, tuple[int, list[object]]] = {
    "`n1=2, n2=3`": (300, [0, "add_numbers", "n1", 2, "n2", 3]),
    "an answer": (300, [0, "sum", 5]),
    "100 KB of ASCII": (20, [0, "put", "data", "x" * 100_000]),
    "100 KB of other text": (20, [0, "put", "data", "\xe9" * 50_000]),
    "50 dicts with lists in them": (10, [0, "put", "rows", [_ROW] * 50]),
    "100 floats": (20, [0, "put", "values", [number / 7 for number in range(100)]]),
    "100 bools": (20, [0, "put", "values", [True, False] * 50]),
    "100 times 4 bytes": (20, [0, "put", "values", [b"\x80abc"] * 100]),
    "100 integers of 41 bits": (20, [0, "put", "values", [2**40 + n for n in range(100)]]),
}


def measure(values: list[object], count: int, rounds: int = _ROUNDS) -> list[float]:
    """Return us to write and to read them: untyped, and typed."""
    codecs = [StorableCodec(typed=False), StorableCodec(typed=True)]
    images = [codec.encode(values) for codec in codecs]
    taken: list[list[float]] = [[] for _ in range(4)]
    gc.disable()
    try:
        for turn in range(rounds):
            for which in (0, 1) if turn % 2 else (1, 0):
                codec, image = codecs[which], images[which]
                start = time.process_time()
                for _ in range(count):
                    codec.encode(values)
                half = time.process_time()
                for _ in range(count):
                    codec.decode(image)
                end = time.process_time()
                taken[2 * which].append((half - start) / count * 1e6)
                taken[2 * which + 1].append((end - half) / count * 1e6)
    finally:
        gc.enable()
    return [sorted(each)[len(each) // 4] for each in taken]


def table(rounds: int = _ROUNDS) -> Table:
    """Return what was measured."""
    columns = ("values", "untyped, us", "typed, us", "typed to untyped")
    found = Table("Typed images", columns, note="Write + read; processor time.")
    for name, (count, values) in _VALUES.items():
        plain_out, plain_in, typed_out, typed_in = measure(values, count, rounds)
        ratio = (typed_out + typed_in) / (plain_out + plain_in)
        found.rows.append(
            (
                name,
                f"{plain_out:.2f} + {plain_in:.2f}",
                f"{typed_out:.2f} + {typed_in:.2f}",
                f"{ratio:.2f}",
            )
        )
    return found


if __name__ == "__main__":
    print(machine(), table().markdown(), sep="\n\n")
