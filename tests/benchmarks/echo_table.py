"""The multiplexer alone: an echo server on eventmux beside others, all of its connections busy."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from statistics import median

from benchmarks import goals
from benchmarks.echoes import BASE, ECHO_SERVERS, OURS
from benchmarks.processes import BenchmarkFailed, child, server, wait_for
from benchmarks.report import Section, Table, Verdict
from benchmarks.rounds import Results, run_rounds

SIZES = (1, 100, 1000)


def installed() -> list[str]:
    """Return the servers that can be measured."""
    return [name for name, entry in ECHO_SERVERS.items() if entry.is_installed]


def measure_echo_server(
    name: str, connections: int, warmup: float, seconds: float
) -> tuple[float, float]:
    """Return messages per second, and the processor time of the server for one, in us.

    Raises:
        BenchmarkFailed: a process failed, or an echo was wrong.
    """
    with (
        server("echo", name) as (serving, port),
        child("load", connections, serving.pid) as load,
    ):
        wait_for(serving, port)
        load.tell(port)
        for duration in (warmup, seconds):
            load.tell(duration)
            rate, nanoseconds = load.read()
    return rate, nanoseconds / 1000


Processor = dict[tuple[str, str], list[float]]
"""Processor time of a server, in us for a message, by server and column."""


def measure_echo(
    servers: Sequence[str], rounds: int, warmup: float, seconds: float
) -> tuple[Results, Processor]:
    """Measure the servers with all numbers of connections."""
    processor: Processor = {}

    def measure(name: str, connections: str) -> float | None:
        try:
            rate, took = measure_echo_server(name, int(connections), warmup, seconds)
        except BenchmarkFailed as error:
            if "wrong echo" in str(error):
                raise
            print(f"  {name} is left out: {error}", file=sys.stderr)
            return None
        print(f"  {name}: {rate:,.0f} messages/s", file=sys.stderr)
        processor.setdefault((name, connections), []).append(took)
        return rate

    columns = [str(size) for size in SIZES]
    return run_rounds(rounds, columns, servers, BASE, measure), processor


def echo_section(results: Results, processor: Processor) -> Section:
    """Return the tables, and what became of the goals."""
    table = Table(
        "eventmux alone: echoes of 64 bytes",
        ("server", *(f"{size:,} connection{'s' * (size > 1)}" for size in SIZES)),
        note="Messages per second; in brackets how many times as fast eventmux is.",
    )
    times = Table(
        "eventmux alone: the server's processor time",
        table.head,
        note="us for a message, median. The load is Python, too, and as slow as the faster ones"
        " of the servers when many connections are busy: this does not depend on it.",
    )
    section = Section([table, times])
    for name in sorted(
        {name for name, _ in results if name in ECHO_SERVERS}, key=list(ECHO_SERVERS).index
    ):
        title = ECHO_SERVERS[name].title
        cells = []
        for size in SIZES:
            figures, ours = results.get((name, str(size))), results.get((OURS, str(size)))
            if figures is None or ours is None:
                cells.append("")
                continue
            spread = ours.over(figures)
            cells.append(f"{figures.rate:,.0f}" + (f" [{spread}]" if name != OURS else ""))
            if name in goals.ECHO:
                aim = goals.ECHO[name]
                what = f"{title}: echo"
                is_met = spread.median >= aim
                verdict = Verdict(what, f"{size:,} busy", f"{aim:g}", str(spread), is_met)
                section.verdicts.append(verdict)
        table.rows.append((title, *cells))
        taken = [processor.get((name, str(size)), []) for size in SIZES]
        times.rows.append((title, *(f"{median(each):.1f}" if each else "" for each in taken)))
    return section
