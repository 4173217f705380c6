"""Calls per second: rpcasync, with both of its codecs, beside all peers that are installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks import goals
from benchmarks.meter import SHAPES
from benchmarks.peers import BASE, OURS, PEERS
from benchmarks.processes import BenchmarkFailed, call_rate
from benchmarks.report import Section, Table, Verdict
from benchmarks.rounds import AGAIN, Results, Spread, run_rounds

_TITLES = {shape.name: shape.title for shape in SHAPES}
_WRONG = "wrong answer"


def installed() -> list[str]:
    """Return the peers that can be measured."""
    return [name for name, entry in PEERS.items() if entry.is_installed]


def measure_calls(peers: Sequence[str], rounds: int, warmup: float, seconds: float) -> Results:
    """Measure the peers in all shapes."""

    def measure(peer: str, shape: str) -> float | None:
        try:
            rate = call_rate(peer, shape, warmup, seconds)
        except BenchmarkFailed as error:
            if _WRONG in str(error):
                raise
            print(f"  {peer} is left out: {error}", file=sys.stderr)
            return None
        print(f"  {peer}: {rate:,.0f} calls/s", file=sys.stderr)
        return rate

    return run_rounds(rounds, [shape.name for shape in SHAPES], peers, BASE, measure)


def calls_section(results: Results) -> Section:
    """Return the tables: ours over each peer, and calls per second."""
    section = Section([_comparison(results), _rates(results)])
    for peer, goal in _goals():
        for column in goals.COLUMNS:
            aim, spread = goal.of(column), _ours_over(results, goal.ours, peer, column)
            if aim is not None and spread is not None:
                is_met = spread.median >= aim
                codec = goal.ours.removeprefix("ours-")
                what = _title(peer) if codec == "json" else f"{_title(peer)}; ours: {codec}"
                verdict = Verdict(what, _TITLES[column], f"{aim:g}", str(spread), is_met)
                section.verdicts.append(verdict)
    return section


def _goals() -> list[tuple[str, goals.Goal]]:
    return [*[(row, goals.PERL) for row in _perl_rows()], *goals.CALLS]


def _comparison(results: Results) -> Table:
    """Ours over each peer."""
    table = Table(
        "How many times as fast as each peer",
        ("against", "ours", *_TITLES.values()),
        note="Median (min-max) of the rounds.",
    )
    for peer, goal in _goals():
        spreads = [_ours_over(results, goal.ours, peer, column) for column in goals.COLUMNS]
        if any(spreads):
            codec = goal.ours.removeprefix("ours-")
            cells = ["" if spread is None else str(spread) for spread in spreads]
            table.rows.append((_title(peer), codec, *cells))
    return table


def _ours_over(results: Results, ours: str, peer: str, column: str) -> Spread | None:
    """Return how many times as fast as a peer we are; None if that is not known."""
    other, scale = peer, 1.0
    if peer in _perl_rows():
        other = _perl_rows()[peer]
        scale = goals.PERL_OVER[other][goals.COLUMNS.index(column)]
    mine, theirs = results.get((ours, column)), results.get((other, column))
    if mine is None or theirs is None:
        return None
    spread = mine.over(theirs)
    return Spread([value / scale for value in spread.values]) if spread.values else None


def _perl_rows() -> dict[str, str]:
    """Return the rows of Perl, and the peer by way of which each is derived."""
    return {f"perl by {base}": base for base in goals.PERL_OVER}


def _title(peer: str) -> str:
    if peer in _perl_rows():
        return f"Perl RPC::Async 1.05, derived from {PEERS[_perl_rows()[peer]].title}"
    return PEERS[peer].title


def _rates(results: Results) -> Table:
    table = Table(
        "Calls per second",
        ("", *_TITLES.values()),
        note=f"Median of the rounds; in brackets the ratio to {PEERS[BASE].title}. The last row"
        " compares the base with itself: smaller differences mean nothing.",
    )

    def place(peer: str) -> float:
        figures = results.get((peer, "100"))
        return -figures.over(results[BASE, "100"]).median if figures else 0.0

    for peer in sorted({peer for peer, _ in results if peer in PEERS}, key=place):
        cells = []
        for column in _TITLES:
            figures = results.get((peer, column))
            base = results.get((BASE, column))
            cells.append(
                f"{figures.rate:,.0f} [{figures.over(base).median:.2f}]" if figures and base else ""
            )
        title = PEERS[peer].title
        table.rows.append((f"**{title}**" if peer in OURS else title, *cells))
    again = [results.get((AGAIN, column)) for column in _TITLES]
    noise = [str(Spread([*each.ratios.values()])) if each else "" for each in again]
    table.rows.append((f"{PEERS[BASE].title}, last run over first", *noise))
    return table
