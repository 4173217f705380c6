"""`rpcasync stats`: the numbers of a server, for people and for Prometheus."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from rpcasync.cli.figures import Figures, figures
from rpcasync.cli.intervals import interval
from rpcasync.cli.output import CommandFailed, print_lines
from rpcasync.cli.prometheus import prometheus_lines
from rpcasync.cli.session import Session, connected_by, is_unknown
from rpcasync.cli.summary import (
    column_lines,
    rate,
    seconds,
    short,
    status_line,
    summary_lines,
)
from rpcasync.errors import RemoteError

__all__ = ["stats"]


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


def _wait(session: Session, pause: float) -> None:
    """Let some time pass.

    Raises:
        CommandFailed: the server has gone meanwhile.
    """
    end = time.monotonic() + pause
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
    yield status_line(found)
    yield from summary_lines(found)
    ended = [f"{short(name)} {count}" for name, count in found.calls.items() if count]
    counted = seconds(found.numbers.get("counted"))
    yield f"ended {', '.join(ended) or 'none'}, counted for {counted}"
    if found.procedures:
        yield from column_lines([_HEAD, *_rows(found, before)])


_HEAD = ("procedure", "calls", "calls/s", "errors", "p50", "p99")


def _rows(found: Figures, before: Figures | None) -> Iterator[tuple[str, ...]]:
    since, paces = found.numbers.get("counted", 0.0), interval(before, found).procedures
    for name, about in found.procedures.items():
        calls = paces[name].calls
        if before is None and since > 0:
            calls = about.calls / since
        times = seconds(about.p50), seconds(about.p99)
        yield (short(name), str(about.calls), rate(calls), str(about.errors), *times)
