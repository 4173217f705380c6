"""Many inputs, in processes of their own, and the table of what came of them: see `run.py`.

Each target has a process for its part of the time, and as many run at a time as there are jobs.
A process writes each input to memory that it shares with us before it runs it: so it is known
which one ended the process, or had it wait for ever.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import mmap
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.report import machine, write_between

from fuzz.cutting import CUTTING
from fuzz.decoding import DECODING
from fuzz.describing import DESCRIBING
from fuzz.endpoints import ENDPOINTS
from fuzz.judge import Escape, Figures, Judge, shortened
from fuzz.passing import PASSING
from fuzz.proxied import PROXIED
from fuzz.recordings import RECORDINGS
from fuzz.targets import Target
from fuzz.waiting import WAITING

__all__ = ["TARGETS", "Part", "campaign", "fuzz", "main", "table"]

_DOCS = Path(__file__).parents[2] / "docs" / "attacks.md"
_BEGIN = "<!-- tests/fuzz/run.py writes from here -->"
_MEMORY = 2 * 1024**3  # bytes that a process may have: what grows beyond ends in a MemoryError
_LONGEST = 8 * 1024**2  # bytes of an input that are kept for the case that it ends the process
_SILENT = 120.0  # seconds without a new input: the process waits for something that never comes
_PROGRESS = 5.0  # seconds between two looks at the processes
_LINES = 25  # of a traceback


TARGETS = {
    **DECODING,
    **CUTTING,
    **PROXIED,
    **PASSING,
    **DESCRIBING,
    **RECORDINGS,
    **ENDPOINTS,
    **WAITING,
}
"""What makes each target, by name."""


def fuzz(
    target: Target,
    source: Random,
    is_over: Callable[[int], bool],
    note: Callable[[bytes], None] = lambda data: None,
    longest: int = _LONGEST,
) -> Figures:
    """Give a target inputs until it is over; that is asked with how many there were.

    Inputs that are longer than `longest` are left out.
    """
    with Judge(target) as judge:
        while not is_over(judge.figures.inputs):
            data = target.generate(source)
            if len(data) > longest:
                continue
            note(data)
            judge.look(data)
        for escape in judge.figures.shown:
            judge.shrink(escape)
        return judge.figures


# ---- processes ---------------------------------------------------------------------------


@dataclass
class Part:
    """The part of a target: how it is made, and how much of it is left."""

    name: str
    make: Callable[[], Target]
    seed: str
    seconds: float
    inputs: int | None
    figures: Figures = field(default_factory=Figures)


class Job:
    """A process that works on a part."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self._input = mmap.mmap(-1, 12 + _LONGEST)
        self.reader, writer = multiprocessing.Pipe(duplex=False)
        self._start = self._changed = time.monotonic()
        self._last = b""
        context: Any = multiprocessing.get_context("fork")
        self.process = context.Process(target=self._work, args=(writer,))
        self.process.start()
        writer.close()

    def _work(self, writer: Connection) -> None:
        part = self.part
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        logging.raiseExceptions = False
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        target = part.make()
        end = time.monotonic() + part.seconds
        if part.inputs is None:
            figures = fuzz(target, Random(part.seed), lambda _: time.monotonic() > end, self._note)
        else:
            most = part.inputs
            figures = fuzz(target, Random(part.seed), lambda count: count >= most, self._note)
        writer.send_bytes(pickle.dumps(figures))

    def _note(self, data: bytes) -> None:
        """Write down what is given next: its number, its size, and as much of it as fits."""
        count = int.from_bytes(self._input[:8], "big") + 1
        kept = data[:_LONGEST]
        self._input[: 12 + len(kept)] = b"%b%b%b" % (
            count.to_bytes(8, "big"),
            len(kept).to_bytes(4, "big"),
            kept,
        )

    def is_silent(self) -> bool:
        """True if there was no new input for a long time."""
        now, mark = time.monotonic(), self._input[:8]
        if mark != self._last:
            self._last, self._changed = mark, now
        return now - self._changed > _SILENT

    def end(self, why: str = "") -> Part | None:
        """Take what the process found; return what is left to do if it ended too early."""
        figures = None
        with contextlib.suppress(EOFError):
            figures = pickle.loads(self.reader.recv_bytes())
        self.process.join(_PROGRESS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.reader.close()
        if figures is not None:
            self.part.figures.add(figures)
            return None
        return self._died(why or f"the process ended: status {self.process.exitcode}")

    def kill(self) -> None:
        """End the process."""
        self.process.kill()

    def _died(self, why: str) -> Part | None:
        size = int.from_bytes(self._input[8:12], "big")
        lost = Figures(inputs=int.from_bytes(self._input[:8], "big"))
        lost.escapes[why] += 1
        lost.shown.append(Escape(why, self._input[12 : 12 + size], why))
        part = self.part
        part.figures.add(lost)
        part.seconds -= time.monotonic() - self._start
        part.seed += "+"
        if part.inputs is not None:
            part.inputs -= lost.inputs
            return part if part.inputs > 0 else None
        return part if part.seconds > 0 else None


def campaign(parts: Sequence[Part], jobs: int) -> None:
    """Work on all parts, some at a time."""
    left, running = list(parts), list[Job]()
    try:
        while left or running:
            while left and len(running) < jobs:
                running.append(Job(left.pop(0)))
                print(f"{running[-1].part.name} ...", file=sys.stderr)
            done = wait([job.reader for job in running], _PROGRESS)
            for job in list(running):
                if job.reader in done:
                    again = job.end()
                elif job.is_silent():
                    job.kill()
                    again = job.end("the process waited for ever")
                else:
                    continue
                running.remove(job)
                left += [again] if again else []
    finally:
        for job in running:
            job.kill()


# ---- the command -------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; return the exit status."""
    options = _parse_args(argv, list(TARGETS))
    if options.replay:
        return _replay(TARGETS[options.target[0]](), options.replay.read_bytes())
    print(f"seed {options.seed}, {options.jobs} jobs", file=sys.stderr)
    names = options.target or list(TARGETS)
    seconds = 60 * options.minutes * min(options.jobs, len(names)) / len(names)
    parts = [
        Part(name, TARGETS[name], f"{options.seed} {name}", seconds, options.inputs)
        for name in names
    ]
    start = time.monotonic()
    with contextlib.suppress(KeyboardInterrupt):
        campaign(parts, options.jobs)
    minutes = (time.monotonic() - start) / 60
    about = f"{machine()} {minutes:.0f} minutes, {options.jobs} at a time, seed {options.seed}."
    text = "\n".join([about, "", *table(parts)])
    print("\n".join([text, "", *_worst(parts)]))
    if options.write_docs:
        write_between(_DOCS, text, _BEGIN)
    escapes = [(part, escape) for part in parts for escape in part.figures.shown]
    for part, escape in escapes:
        _show(part, escape, options.keep)
    if options.keep:
        for part in parts:
            _keep(options.keep, f"{part.name}-slowest", part.figures.time.data)
            _keep(options.keep, f"{part.name}-largest", part.figures.memory.data)
    return 1 if escapes else 0


def table(parts: Sequence[Part]) -> list[str]:
    """Return the figures as a Markdown table."""
    head = "inputs | inputs/s | bytes | escapes | slowest s/KB | worst memory ratio | outcomes"
    lines = [f"| target | {head} |", f"| --- {'| ---: ' * 7}|"]
    total = Figures()
    for part in parts:
        lines.append(_row(part.name, part.figures))
        total.add(part.figures)
    return [*lines, _row("all", total)]


def _row(name: str, figures: Figures) -> str:
    rate = figures.inputs / figures.seconds if figures.seconds else 0.0
    escapes = figures.escapes.total()
    return (
        f"| {name} | {figures.inputs:,} | {rate:,.0f} | {figures.size:,} | {escapes:,} |"
        f" {figures.time.value:.6f} | {figures.memory.value:.1f} | {len(figures.outcomes)} |"
    )


def _worst(parts: Sequence[Part]) -> list[str]:
    lines = []
    for part in parts:
        figures = part.figures
        lines.append(f"- {part.name}: slowest {shortened(figures.time.data, 40)}")
        lines.append(f"  largest {shortened(figures.memory.data, 40)}")
    return lines


def _show(part: Part, escape: Escape, keep: Path | None) -> None:
    count = part.figures.escapes[escape.what]
    print(f"\n{part.name}: {escape.what} ({count:,} times)\n  input {shortened(escape.data, 400)}")
    if keep:
        print(f"  in {_keep(keep, part.name, escape.data)}")
    print("\n".join(escape.text.splitlines()[-_LINES:]))


def _keep(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{zlib.crc32(data):08x}"
    path.write_bytes(data)
    return path


def _replay(target: Target, data: bytes) -> int:
    with Judge(target) as judge:
        escape = judge.look(data)
        figures = judge.figures
    print(escape.text if escape else f"outcome: {next(iter(figures.outcomes))!r}")
    print(f"{len(data):,} bytes, {figures.seconds:.3f} s of processor time")
    target.close()
    return 1 if escape else 0


def _parse_args(argv: Sequence[str] | None, names: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py", description="Give bytes to all that reads bytes from strangers."
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="for all; default: 1")
    parser.add_argument("--inputs", type=int, help="for each target, in place of minutes")
    parser.add_argument("--target", nargs="+", choices=names, help=f"of {', '.join(names)}")
    parser.add_argument("--seed", default=None, help="to have the same inputs again")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="a directory for inputs that escaped")
    parser.add_argument("--replay", type=Path, help="run the input of a file, for one target")
    parser.add_argument("--write-docs", action="store_true", help="into docs/attacks.md")
    options = parser.parse_args(argv)
    if options.replay and len(options.target or ()) != 1:
        parser.error("--replay needs one --target")
    if options.minutes <= 0 or options.jobs < 1 or (options.inputs or 1) < 1:
        parser.error("--minutes, --jobs and --inputs must be above 0")
    if options.seed is None:
        options.seed = str(Random().randrange(10**9))
    return options
