"""The figures of a server in the text format of Prometheus, version 0.0.4.

Names in it come from a server: each is on its line, whatever it is, and does nothing to a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from rpcasync.cli.figures import Figures, OfProcedure
from rpcasync.cli.output import harmless

__all__ = ["prometheus_lines"]

_GAUGES = {
    "uptime": ("uptime_seconds", "Seconds since the server was made."),
    "counted": ("counted_seconds", "Seconds since calls are counted."),
    "listeners": ("listeners", "Listeners that are open."),
    "clients": ("clients", "Clients that are connected."),
    "running": ("calls_running", "Calls that were given to a procedure and not answered."),
    "waiting": ("calls_waiting", "Calls that wait until others have been answered."),
    "queued": ("queued_bytes", "Bytes that clients have not read."),
    "lag": ("loop_lag_seconds", "How late the loop was when it was looked at last."),
    "most_lag": ("loop_lag_most_seconds", "How late the loop was at most in the last minute."),
}
_STATUSES = ("ok", "overloaded", "draining")


def prometheus_lines(found: Figures) -> Iterator[str]:
    """Give the lines."""
    for name, (metric, about) in _GAUGES.items():
        if name in found.numbers:
            yield from _metric(metric, "gauge", about, [("", {}, found.numbers[name])])
    yield from _metric(
        *("status", "gauge", "1 for how the server is, by its own account."),
        [("", {"status": each}, int(found.status == each)) for each in _STATUSES],
    )
    connections = [name for name in ("accepted", "refused") if name in found.numbers]
    yield from _metric(
        *("connections_total", "counter", "Connections so far."),
        [("", {"result": name}, found.numbers[name]) for name in connections],
    )
    yield from _metric(
        *("calls_total", "counter", "Calls that have ended, by how."),
        [("", {"outcome": name}, count) for name, count in found.calls.items()],
    )
    yield from _metric(
        *("procedure_calls_total", "counter", "Calls of each procedure that have ended, by how."),
        [
            ("", {"procedure": name, "outcome": outcome}, count)
            for name, about in found.procedures.items()
            for outcome, count in about.outcomes.items()
        ],
    )
    yield from _metric(
        *("call_duration_seconds", "histogram", "How long calls ran."),
        [
            sample
            for name, about in found.procedures.items()
            if about.counts
            for sample in _histogram(name, about, found.bounds)
        ],
    )


_Sample = tuple[str, Mapping[str, str], float]


def _histogram(name: str, about: OfProcedure, bounds: list[float]) -> Iterator[_Sample]:
    labels = {"procedure": name}
    sums = list(accumulate(about.counts))
    for bound, count in zip([*map(_number, bounds), "+Inf"], sums, strict=True):
        yield "_bucket", {**labels, "le": bound}, count
    yield "_sum", labels, about.seconds
    yield "_count", labels, sums[-1]


def _metric(name: str, kind: str, about: str, samples: Iterable[_Sample]) -> Iterator[str]:
    """Give the lines of a metric; none if it has no samples."""
    seen: set[str] = set()
    for end, labels, value in samples:
        if not seen:
            yield f"# HELP rpcasync_{name} {about}"
            yield f"# TYPE rpcasync_{name} {kind}"
        series = f"rpcasync_{name}{end}{_labels(labels)}"
        if series not in seen:  # two names may look the same, and no series may come twice
            seen.add(series)
            yield f"{series} {_number(value)}"


def _labels(labels: Mapping[str, str]) -> str:
    pairs = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{','.join(pairs)}}}" if labels else ""


def _escaped(value: str) -> str:
    return harmless(value).replace("\\", "\\\\").replace('"', '\\"')


def _number(value: float) -> str:
    return repr(value)
