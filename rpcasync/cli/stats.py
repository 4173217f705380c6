"""`rpcasync stats`: the numbers of a server, for people and for Prometheus."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from rpcasync.cli.figures import Figures, figures
from rpcasync.cli.output import CommandFailed, on_one_line, print_lines
from rpcasync.cli.prometheus import prometheus_lines
from rpcasync.cli.screen import cut, width
from rpcasync.cli.session import Session, connected_by, is_unknown
from rpcasync.errors import RemoteError

__all__ = ["stats"]

_LONGEST = 40  # columns of what a server may name as it likes


def stats(options: argparse.Namespace) -> int:
    """Print them; return the exit status.

    Raises:
        CommandFailed: the server does not tell.
    """
    with connected_by(options) as session:
        found = _ask(session)
        print_lines(_lines(found, options))
        try:
            while options.watch is not None:
                _wait(session, options.watch)
                before, found = found, _ask(session)
                print_lines(["", *_lines(found, options, before)])
        except KeyboardInterrupt:
            pass  # it is how one stops to watch
    return 0


def _ask(session: Session) -> Figures:
    session.names = []  # so that it does not look for what may have been meant
    try:
        return figures(session.ask("stats"))
    except RemoteError as error:
        if is_unknown(error, "stats"):
            raise CommandFailed(
                "the server has no procedure stats: it is in Perl, or old"
            ) from None
        raise CommandFailed(f"stats: {error}") from None


def _wait(session: Session, seconds: float) -> None:
    """Let some time pass.

    Raises:
        CommandFailed: the server has gone meanwhile.
    """
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        session.take(session.mux.mux(left))
        if session.lost is not None:
            raise CommandFailed(session.lost)


def _lines(
    found: Figures, options: argparse.Namespace, before: Figures | None = None
) -> Iterator[str]:
    return prometheus_lines(found) if options.prometheus else _table(found, before)


# For people


def _table(found: Figures, before: Figures | None) -> Iterator[str]:
    numbers = found.numbers
    yield f"{_short(found.status)}, up {_seconds(numbers.get('uptime'))}"
    yield (
        f"clients {_whole(numbers, 'clients')}, accepted {_whole(numbers, 'accepted')},"
        f" refused {_whole(numbers, 'refused')}"
    )
    yield (
        f"calls running {_whole(numbers, 'running')}, waiting {_whole(numbers, 'waiting')};"
        f" bytes queued {_whole(numbers, 'queued')}"
    )
    yield f"loop late {_seconds(numbers.get('lag'))}, at most {_seconds(numbers.get('most_lag'))}"
    ended = [f"{_short(name)} {count}" for name, count in found.calls.items() if count]
    yield f"ended {', '.join(ended) or 'none'}, counted for {_seconds(numbers.get('counted'))}"
    if found.procedures:
        yield from _columns([_HEAD, *_rows(found, before)])


_HEAD = ("procedure", "calls", "calls/s", "errors", "p50", "p99")


def _rows(found: Figures, before: Figures | None) -> Iterator[tuple[str, ...]]:
    since = found.numbers.get("counted", 0.0)
    if before is not None:
        since -= before.numbers.get("counted", 0.0)
    for name, about in found.procedures.items():
        old = before.procedures.get(name) if before is not None else None
        calls = about.calls - (old.calls if old is not None else 0)
        rate = f"{calls / since:.1f}" if since > 0 and calls >= 0 else "-"
        times = _seconds(about.p50), _seconds(about.p99)
        yield (_short(name), str(about.calls), rate, str(about.errors), *times)


def _columns(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Give a line for each row: the first column is flush left, the others are flush right."""
    wide = [max(map(width, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        padded = [cell.rjust(size) for cell, size in zip(cells, wide[1:], strict=True)]
        yield "  ".join([name + " " * (wide[0] - width(name)), *padded])


def _short(text: str) -> str:
    return cut(on_one_line(text), _LONGEST)


def _whole(numbers: dict[str, float], name: str) -> str:
    return f"{numbers[name]:.0f}" if name in numbers else "-"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g} s" if value < 100 else f"{value:.0f} s"
