"""The command: see `run.py`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence

from benchmarks import calls_table, echo_table, idle_table, memory_table
from benchmarks.chart import Bar, draw
from benchmarks.echoes import ECHO_SERVERS
from benchmarks.meter import SHAPES
from benchmarks.peers import BASE, OURS, PEERS
from benchmarks.processes import ROOT, BenchmarkFailed
from benchmarks.report import Section, Table, goals_table, machine, write_between
from benchmarks.rounds import Results

_DOCS = ROOT / "docs"
_WARMUP = 0.2  # seconds
_TABLES = ("calls", "echo", "idle", "codecs", "buffers")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; return the exit status."""
    options = _parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that children are ended then too
    start = time.monotonic()
    try:
        _run(options)
    except BenchmarkFailed as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"took {time.monotonic() - start:.0f} s", file=sys.stderr)
    return 0


def _run(options: argparse.Namespace) -> None:
    peers = ", ".join(filter(None, _versions())) or "only what comes with Python"
    how = f"{options.rounds} rounds, {options.seconds:g} s for each run. Peers: {peers}."
    about = f"{machine()} {how}"
    if os.getloadavg()[0] > 0.5:
        print("the machine is not quiet: figures will spread", file=sys.stderr)
    calls: Results = {}

    def run_calls() -> Section:
        calls.update(_measure_calls(options))
        return calls_table.calls_section(calls)

    parts: dict[str, Callable[[], Section]] = {
        "calls": run_calls,
        "echo": lambda: _echo(options),
        "idle": lambda: _idle(options),
        "codecs": memory_table.codec_section,
        "buffers": memory_table.buffer_section,
    }
    sections = [parts[name]() for name in _TABLES if name in options.tables]
    verdicts = [verdict for section in sections for verdict in section.verdicts]
    tables = [table for section in sections for table in section.tables]
    print(_text(about, goals_table(verdicts), *tables))
    if options.write_docs:
        _write_docs(about, tables, calls)


def _write_docs(about: str, tables: Sequence[Table], calls: Results) -> None:
    if calls:
        about += "\n\n![Calls per second over asyncio by hand](benchmarks.svg)"
    write_between(_DOCS / "benchmarks.md", _text(about, *tables))
    if calls:
        (_DOCS / "benchmarks.svg").write_text(_chart(calls))


def _text(about: str, *tables: Table) -> str:
    return "\n\n".join([about, *(table.markdown() for table in tables)])


def _measure_calls(options: argparse.Namespace) -> Results:
    peers = calls_table.installed()
    if options.peers:
        peers = [peer for peer in peers if peer in {*OURS, BASE, *options.peers}]
    return calls_table.measure_calls(peers, options.rounds, options.warmup, options.seconds)


def _echo(options: argparse.Namespace) -> Section:
    servers = echo_table.installed()
    measured = echo_table.measure_echo(servers, options.rounds, options.warmup, options.seconds)
    return echo_table.echo_section(*measured)


def _idle(options: argparse.Namespace) -> Section:
    sizes = idle_table.SIZES[:2] if options.quick else idle_table.SIZES
    return idle_table.idle_section(options.rounds, sizes, options.warmup, options.seconds)


def _chart(calls: Results) -> str:
    panels = {}
    for shape in SHAPES:
        base = calls[BASE, shape.name]
        panels[shape.title] = [
            Bar(PEERS[peer].title, figures.over(base).median, peer in OURS, peer == BASE)
            for (peer, column), figures in calls.items()
            if column == shape.name and peer in PEERS
        ]
    return draw("Calls per second, over asyncio by hand", panels)


def _versions() -> list[str]:
    peers = [entry.version() for entry in PEERS.values() if entry.is_installed]
    return peers + [each.version() for each in ECHO_SERVERS.values() if each.is_installed]


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py", description="eventmux and rpcasync beside others: all tables."
    )
    parser.add_argument("--quick", action="store_true", help="one short round: see that it works")
    parser.add_argument("--rounds", type=int, help="default: 3")
    parser.add_argument("--seconds", type=float, help="of each run; default: 0.7")
    parser.add_argument("--tables", nargs="+", choices=_TABLES, default=_TABLES)
    parser.add_argument(
        "--peers", nargs="+", choices=PEERS, metavar="NAME", help=f"of {', '.join(PEERS)}"
    )
    parser.add_argument("--write-docs", action="store_true", help="into docs/benchmarks.md, .svg")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (0.25 if options.quick else 0.7)
    options.warmup = min(_WARMUP, options.seconds / 2)
    if not 1 <= options.rounds <= 50 or not 0 < options.seconds <= 10:
        parser.error("rounds are 1 to 50, and seconds above 0 and at most 10")
    return options


if __name__ == "__main__":
    sys.exit(main())
