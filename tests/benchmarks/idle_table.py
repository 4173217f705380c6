"""Connections that are idle: the memory that they take, and what they cost those that are busy.

The server is looked at from outside: its memory without that of files, and its processor time. An
idle connection has been used once. For a round trip of one busy connection, 10, 1,000 and 10,000
others are idle.
"""

from __future__ import annotations

import random
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from benchmarks import goals
from benchmarks.processes import Child, anonymous_memory, child, server, wait_for
from benchmarks.report import Section, Table, Verdict
from benchmarks.rounds import Spread

SIZES = (10, 1000, 10_000)
_FEW = 10
_SPARE = 100  # descriptors for other things than connections
_PATIENT = 2.0  # times the measured time: a single connection is the noisiest to measure


@dataclass(frozen=True, slots=True)
class _Row:
    title: str
    serve: tuple[str, str]
    kind: str  # of the connections that are held


_ROWS = {
    "eventmux": _Row("eventmux, a stream", ("echo", "eventmux"), "echo"),
    "rpcasync": _Row("rpcasync, a client", ("serve", "ours-json"), "call"),
    "selectors": _Row("bare selectors", ("echo", "selectors"), "echo"),
    "asyncio": _Row("asyncio.Protocol", ("echo", "asyncio"), "echo"),
}


@dataclass(frozen=True, slots=True)
class _Found:
    memory: float  # bytes for each idle connection
    trip: float  # us
    processor: float  # us of the server for one message; 0 if it was not looked at


def fitting(sizes: Sequence[int]) -> list[int]:
    """Return the sizes, those that RLIMIT_NOFILE does not allow made smaller."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = max(sizes) if limit == resource.RLIM_INFINITY else limit - _SPARE
    if most < max(sizes):
        print(f"RLIMIT_NOFILE is {limit}: {most} connections at most", file=sys.stderr)
    return sorted({min(size, most) for size in sizes})


def idle_section(rounds: int, sizes: Sequence[int], warmup: float, seconds: float) -> Section:
    """Measure all, in rounds; return the table, and what became of the goals."""
    sizes = fitting(sizes)
    found: dict[tuple[str, int], list[_Found]] = {}
    source = random.Random(1)
    for number in range(1, rounds + 1):
        print(f"round {number} of {rounds}: idle", file=sys.stderr)
        every = [(name, size) for name in _ROWS for size in sizes]
        for name, size in source.sample(every, len(every)):
            figures = _measure(_ROWS[name], size, warmup, seconds)
            print(f"  {name}, {size:,} idle: {figures.trip:.1f} us", file=sys.stderr)
            found.setdefault((name, size), []).append(figures)
    return _section(found, sizes)


def _measure(row: _Row, size: int, warmup: float, seconds: float) -> _Found:
    with server(*row.serve) as (serving, port):
        wait_for(serving, port)
        with child("hold", row.kind, _FEW) as few, child("hold", row.kind, size) as many:
            few.tell(port)
            few.read()
            before = anonymous_memory(serving.pid)
            many.tell(port)
            many.read()
            memory = (anonymous_memory(serving.pid) - before) / size
            if row.kind == "call":
                with child("drive", row.serve[1], "one", warmup, seconds) as client:
                    client.tell(port)
                    return _Found(memory, 1e6 / client.read()[0], 0.0)
            with child("load", 1, serving.pid) as load:
                return _Found(memory, *_echo(load, port, warmup, seconds * _PATIENT))


def _echo(load: Child, port: int, warmup: float, seconds: float) -> tuple[float, float]:
    load.tell(port)
    for duration in (warmup, seconds):
        load.tell(duration)
        rate, nanoseconds = load.read()
    return 1e6 / rate, nanoseconds / 1000


def _section(found: dict[tuple[str, int], list[_Found]], sizes: Sequence[int]) -> Section:
    most = max(sizes)
    head = ("server", f"bytes for each of {most:,}", *(f"{size:,} idle: us" for size in sizes))
    table = Table(
        "Idle connections",
        (*head, "growth"),
        note="Memory for each idle connection; then the round trip of one that is busy, with the"
        " server's processor time in brackets; and how many times the last is the first, median"
        " (min-max).",
    )
    section = Section([table])
    for name, row in _ROWS.items():
        memory = Spread([each.memory for each in found[name, most]])
        growth = _growth(found, name, sizes)
        trips = [_trip(found[name, size]) for size in sizes]
        table.rows.append((row.title, f"{memory.median:,.0f}", *trips, str(growth)))
        if name in goals.MEMORY:
            aim = goals.MEMORY[name]
            what, column = f"memory: {row.title}", f"{most:,} idle"
            is_met = memory.median <= aim
            text = f"{memory.median:,.0f}"
            section.verdicts.append(Verdict(what, column, f"at most {aim:,}", text, is_met))
            is_met = growth.median <= goals.GROWTH
            aim_text = f"at most {goals.GROWTH:g}"
            what = f"cost of an event, growing with idle ones: {row.title}"
            section.verdicts.append(Verdict(what, column, aim_text, str(growth), is_met))
    return section


def _growth(found: dict[tuple[str, int], list[_Found]], name: str, sizes: Sequence[int]) -> Spread:
    """Return how much more a round trip takes among the most than among the fewest."""
    pairs = zip(found[name, min(sizes)], found[name, max(sizes)], strict=True)
    return Spread([many.trip / few.trip for few, many in pairs])


def _trip(found: Sequence[_Found]) -> str:
    trip = Spread([each.trip for each in found]).median
    processor = Spread([each.processor for each in found]).median
    return f"{trip:.1f}" + (f" [{processor:.1f}]" if processor else "")
