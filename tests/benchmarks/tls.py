"""TLS on eventmux beside asyncio: echoes, and bytes one way, as a server and as a client.

    python tests/benchmarks/tls.py [--rounds N] [--seconds S] [--quick] [--write-docs]

The other end is the same for both, by hand. All take turns, in rounds; a ratio is the median of the
rounds. The processor time is that of the end that is measured: it tells what a message costs where
the machine is busy with other things, or where the other end is the slower one.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:1] = [str(_ROOT), str(_ROOT / "tests")]

from support.certificates import ca_file, pem_file  # noqa: E402

from benchmarks.processes import BenchmarkFailed, child, server, wait_for  # noqa: E402
from benchmarks.report import Table, machine, write_between  # noqa: E402
from benchmarks.rounds import Spread  # noqa: E402

__all__ = ["SHAPES", "Shape", "main", "measure", "table"]

BEGIN = "<!-- tls.py writes from here -->"
_DOCS = _ROOT / "docs" / "benchmarks.md"
_LIBRARIES = ("eventmux", "asyncio")
_WARMUP = 0.1  # seconds
_PAUSE = 0.005


@dataclass(frozen=True, slots=True)
class Shape:
    """What is measured: a row of the table.

    Args:
        title: of the row.
        role: of the end that is measured, "server" or "client".
        work: that end's, as `tls_ends.Work` has it.
        connections: how many there are.
        size: of a message, in bytes.
    """

    title: str
    role: str
    work: str
    connections: int = 1
    size: int = 65536

    @property
    def other(self) -> str:
        """The work of the other end."""
        return {"send": "receive", "receive": "send"}.get(self.work, self.work)

    @property
    def unit(self) -> float:
        """How many of what is counted are one of what is shown: bytes and megabytes."""
        return 1 if self.work == "echo" else 1e6


def _shapes(role: str) -> Iterator[Shape]:
    for title, size in (("64 B", 64), ("1 KB", 1024), ("64 KB", 65536)):
        for count in (1, 100):
            what = f"{role}: echoes of {title}, {count} connection{'s' * (count > 1)}"
            yield Shape(what, role, "echo", count, size)
    yield Shape(f"{role}: sends, MB", role, "send")
    yield Shape(f"{role}: sends 1 MB at a time, MB", role, "send", size=1024 * 1024)
    yield Shape(f"{role}: receives, MB", role, "receive")


SHAPES = [*_shapes("server"), *_shapes("client")]


def measure(library: str, shape: Shape, warmup: float, seconds: float) -> tuple[float, float]:
    """Return how many a second, and the processor time for one, in us; of echoes, or MB.

    Raises:
        BenchmarkFailed: a process failed, or an echo was wrong.
    """
    ends = {"server": "hand", "client": "hand", shape.role: library}
    works = {"server": shape.other, "client": shape.other, shape.role: shape.work}
    sizes = (shape.connections, shape.size)
    serve = ("tls-serve", ends["server"], works["server"], *sizes, pem_file("server"))
    ask = ("tls-ask", ends["client"], works["client"], *sizes, ca_file(), warmup, seconds)
    with server(*serve) as (serving, port), child(*ask) as asking:
        wait_for(serving, port)
        measured = serving if shape.role == "server" else asking
        asking.tell(f"{port} {measured.pid}")
        rate, nanoseconds = asking.read()
    if not rate:
        raise BenchmarkFailed(f"{library}, {shape.title}: nothing in {seconds} seconds")
    return rate / shape.unit, nanoseconds * shape.unit / 1000


def watch(count: Callable[[], int], least: int, pid: int, warmup: float, seconds: float) -> None:
    """Measure in a thread of its own, print what `measure()` returns, and end this process.

    Args:
        count: what is counted.
        least: how much of that there is when all are connected.
        pid: whose processor time counts.
        warmup: seconds from then on, before it is measured.
        seconds: for which it is.
    """

    def run() -> None:
        while count() < least:
            time.sleep(_PAUSE)
        time.sleep(warmup)
        before, busy, start = count(), _nanoseconds(pid), time.perf_counter()
        time.sleep(seconds)
        done = count() - before
        took = time.perf_counter() - start
        print(done / took, (_nanoseconds(pid) - busy) / max(done, 1), flush=True)
        os._exit(0)

    threading.Thread(target=run, daemon=True).start()


def _nanoseconds(pid: int) -> int:
    """Return how long the first thread of a process has run."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def table(shapes: Sequence[Shape], rounds: int, seconds: float) -> Table:
    """Measure all; return what came out."""
    found = Table(
        "TLS: eventmux beside asyncio",
        ("", "eventmux", "asyncio", "ratio", "eventmux, us", "asyncio, us", "asyncio over ours"),
        note="Echoes, or megabytes, in a second, and how many times as many eventmux has; then the"
        " processor time for one. Medians, of ratios with the least and the most.",
    )
    for shape in shapes:
        print(shape.title, file=sys.stderr)
        runs: dict[str, list[tuple[float, float]]] = {library: [] for library in _LIBRARIES}
        for number in range(rounds):
            for library in _LIBRARIES if number % 2 else _LIBRARIES[::-1]:
                runs[library].append(measure(library, shape, _WARMUP, seconds))
        ours, theirs = (runs[library] for library in _LIBRARIES)
        rates = [median(rate for rate, _ in each) for each in (ours, theirs)]
        times = [median(took for _, took in each) for each in (ours, theirs)]
        pairs = list(zip(ours, theirs, strict=True))
        faster = Spread([mine[0] / other[0] for mine, other in pairs])
        cheaper = Spread([other[1] / mine[1] for mine, other in pairs])
        cells = [*(f"{rate:,.0f}" for rate in rates), str(faster)]
        cells += [*(f"{took:,.1f}" for took in times), str(cheaper)]
        found.rows.append((shape.title, *cells))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; return the exit status."""
    options = _parse_args(argv)
    shapes = [shape for shape in SHAPES if options.only in shape.title]
    try:
        text = table(shapes, options.rounds, options.seconds).markdown()
    except BenchmarkFailed as error:
        print(f"tls.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    text = f"{machine()} {options.rounds} rounds, {options.seconds:g} s for each run.\n\n{text}"
    print(text)
    if options.write_docs:
        write_between(_DOCS, text, BEGIN)
    return 0


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tls.py", description="TLS, beside asyncio.")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, help="default: 7")
    parser.add_argument("--seconds", type=float, help="of each run; default: 0.7")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows with this in the title")
    parser.add_argument("--write-docs", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (1 if options.quick else 7)
    options.seconds = options.seconds or (0.2 if options.quick else 0.7)
    if not 1 <= options.rounds <= 50 or not 0 < options.seconds <= 10:
        parser.error("rounds are 1 to 50, and seconds above 0 and at most 10")
    return options


if __name__ == "__main__":
    sys.exit(main())
