"""What workers and a balancer carry: the figures that docs/scaling.md reckons with.

    python tests/benchmarks/scaling.py [--rounds N] [--seconds S] [--quick] [--write-docs]

A server runs as `rpcasync listen` runs it: alone, with HAProxy in front of it, in TCP mode and with
one thread, and in several processes. The load takes a core of its own, and turns with them on a
machine with few; so what counts is the processor time that each of them needs for a call or a
connection. It tells what a core of theirs can do, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:1] = [str(_ROOT), str(_ROOT / "tests")]

from support.programs import PROGRAMS, Program, listening  # noqa: E402
from support.proxies import listening_at, running  # noqa: E402

from benchmarks.processes import BenchmarkFailed, anonymous_memory  # noqa: E402
from benchmarks.report import Table, machine, write_between  # noqa: E402
from eventmux import EventMux  # noqa: E402
from rpcasync import Client  # noqa: E402

__all__ = ["balanced", "call", "connect", "main", "several"]

BEGIN = "<!-- scaling.py writes from here -->"
_DOCS = _ROOT / "docs" / "scaling.md"
_SERVER = PROGRAMS / "calc_server.py"
_AT_A_TIME = 50  # connections that are made together
_PATIENCE = 20.0  # seconds for an answer

IN_FLIGHT = {"1 client, one at a time": (1, 1), "50 clients, 10 in flight each": (50, 10)}
"""Rows of the first table: how many clients, and how many calls of each."""
WORKERS = (1, 2, 4)


@dataclass(frozen=True, slots=True)
class Place:
    """Where clients connect to, and the processes that are busy for them."""

    url: str
    pids: tuple[int, ...]

    def busy(self) -> list[int]:
        """Return for how many nanoseconds each has run, in its first thread."""
        return [int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in self.pids]


@contextmanager
def balanced(folder: Path) -> Iterator[tuple[Place, Place]]:
    """Run a worker, and HAProxy in front; give the way to the worker, and that by HAProxy."""
    with ExitStack() as stack:
        url, server = stack.enter_context(listening(_SERVER))
        front = stack.enter_context(listening_at(folder))
        config = folder / "haproxy.cfg"
        config.write_text(_CONFIG.format(front=front.fileno(), worker=url.rpartition("/")[2]))
        command: list[str | Path] = ["haproxy", "-db", "-f", config]
        balancer = stack.enter_context(running(command, front))
        there = f"tcp://127.0.0.1:{front.getsockname()[1]}"
        pid = server.process.pid
        yield Place(url, (pid,)), Place(there, (pid, balancer.pid))


_CONFIG = """
global
    nbthread 1
defaults
    mode tcp
    timeout connect 20s
    timeout client 1h
    timeout server 1h
listen rpc
    bind fd@{front}
    server worker {worker}
"""


@contextmanager
def several(count: int, folder: Path) -> Iterator[Place]:
    """Run some workers, and have them ready."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.settimeout(_PATIENCE)
        told.bind(str(folder / f"told {count}"))
        words = ["env", f"NOTIFY_SOCKET={told.getsockname()}", sys.executable, "-m", "rpcasync"]
        options = ["--workers", str(count), "-u", "tcp://127.0.0.1:0"]
        parent = Program([*words, "listen", *options, _SERVER])
        try:
            url = parent.wait_for_log("listening on").rpartition(" ")[2]
            if told.recv(100) != b"READY=1":
                raise BenchmarkFailed(f"{count} workers are not ready")
            pid = parent.process.pid
            workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            yield Place(url, tuple(map(int, workers)))
        finally:
            parent.process.terminate()
            parent.process.wait(_PATIENCE)
            parent.stop()


# Calls


@dataclass(slots=True)
class Run:
    """What a run has found."""

    rate: float  # a second
    costs: list[float]  # processor time for each, in us, by process


def call(place: Place, clients: int, in_flight: int, seconds: float) -> Run:
    """Call for so many seconds."""
    with EventMux() as mux:
        every = [Client(mux, place.url, timeout=_PATIENCE) for _ in range(clients)]
        answered, is_on = 0, True

        def ask(client: Client) -> None:
            def done(sum: int) -> None:
                nonlocal answered
                answered += sum == 5
                if is_on:
                    ask(client)

            client.add_numbers("n1", 2, "n2", 3, done)

        def turn() -> None:
            event = mux.mux()
            for client in every:
                event = client.io(event)
                if event is None:
                    return

        for client in every:
            for _ in range(in_flight):
                ask(client)
        while answered < clients * in_flight:  # all are connected, and warm
            turn()
        before, busy, start = answered, place.busy(), time.perf_counter()
        end = start + seconds
        while time.perf_counter() < end:
            turn()
        done, took, now_busy = answered - before, time.perf_counter() - start, place.busy()
        is_on = False
        while any(client.has_requests() for client in every):
            turn()
    return _run(done, took, busy, now_busy)


def _run(done: int, took: float, before: Sequence[int], after: Sequence[int]) -> Run:
    pairs = zip(before, after, strict=True)
    return Run(done / took, [(now - then) / max(done, 1) / 1000 for then, now in pairs])


def calls_table(direct: Place, through: Place, rounds: int, seconds: float) -> Table:
    """Measure calls by both ways."""
    found = Table(
        "Calls",
        (
            *("", "direct, a second", "by HAProxy, a second"),
            *("worker, us", "worker behind HAProxy, us", "HAProxy, us"),
        ),
        note="Calls a second on this machine, with the load; then the processor time for each.",
    )
    for title, (clients, in_flight) in IN_FLIGHT.items():
        print(title, file=sys.stderr)
        runs: dict[Place, list[Run]] = {direct: [], through: []}
        for number in range(rounds):
            for place in (direct, through) if number % 2 else (through, direct):
                runs[place].append(call(place, clients, in_flight, seconds))
        rates = [f"{median(run.rate for run in runs[each]):,.0f}" for each in (direct, through)]
        found.rows.append((title, *rates, *_costs(runs[direct]), *_costs(runs[through])))
    return found


def _costs(runs: Sequence[Run]) -> list[str]:
    return [f"{median(cost):,.1f}" for cost in zip(*(run.costs for run in runs), strict=True)]


def workers_table(folder: Path, rounds: int, seconds: float) -> Table:
    """Measure calls of workers that share a listener."""
    title, (clients, in_flight) = list(IN_FLIGHT.items())[-1]
    found = Table(
        "Workers",
        ("", "calls a second", "processor time for a call, us"),
        note=f"{title}, with `--workers`; on this machine, with the load.",
    )
    for count in WORKERS:
        print(f"{count} workers", file=sys.stderr)
        with several(count, folder) as place:
            runs = [call(place, clients, in_flight, seconds) for _ in range(rounds)]
        cells = median(run.rate for run in runs), median(sum(run.costs) for run in runs)
        found.rows.append((str(count), f"{cells[0]:,.0f}", f"{cells[1]:,.1f}"))
    return found


# Connections


def connect(place: Place, count: int) -> tuple[Run, list[float]]:
    """Connect so many, and keep them; return what one costs, with a call, and holds while idle.

    The second is in bytes for each connection, by process.
    """
    with EventMux() as mux:
        memory = [anonymous_memory(pid) for pid in place.pids]
        busy, start = place.busy(), time.perf_counter()
        kept: list[Client] = []
        while len(kept) < count:
            several = min(_AT_A_TIME, count - len(kept))
            new = [Client(mux, place.url, timeout=_PATIENCE) for _ in range(several)]
            for client in new:
                client.add_numbers("n1", 2, "n2", 3, _nothing)
            while any(client.has_requests() for client in new):
                event = mux.mux()
                for client in new:
                    event = client.io(event)
                    if event is None:
                        break
            kept += new
        run = _run(count, time.perf_counter() - start, busy, place.busy())
        after = [anonymous_memory(pid) for pid in place.pids]
    return run, [(now - then) / count for then, now in zip(memory, after, strict=True)]


def _nothing(sum: int) -> None:
    """Take an answer; an error is none, and ends it all."""


def connections_table(folder: Path, rounds: int, count: int) -> Table:
    """Measure connections by both ways, each round with processes of their own."""
    found = Table(
        "Connections",
        ("", "worker", "worker behind HAProxy", "HAProxy"),
        note=f"{count:,} of them, each of which makes one call and stays.",
    )
    costs: list[list[float]] = []  # by round
    sizes: list[list[float]] = []
    for number in range(rounds):
        print(f"connections, round {number + 1} of {rounds}", file=sys.stderr)
        cost, size = [], []
        for which in (0, 1):
            with balanced(folder) as places:
                run, held = connect(places[which], count)
            cost += run.costs
            size += held
        costs.append(cost)
        sizes.append(size)
    for title, figures in (
        ("processor time for one and its call, us", costs),
        ("memory while it is idle, bytes", sizes),
    ):
        cells = (f"{median(each):,.0f}" for each in zip(*figures, strict=True))
        found.rows.append((title, *cells))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; return the exit status."""
    options = _parse_args(argv)
    if shutil.which("haproxy") is None:
        print("scaling.py: there is no haproxy here", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with balanced(folder) as (direct, through):
            calls = calls_table(direct, through, options.rounds, options.seconds)
        connections = connections_table(folder, options.rounds, options.connections)
        tables = [calls, connections, workers_table(folder, options.rounds, options.seconds)]
    head = f"{machine()} {options.rounds} rounds, {options.seconds:g} s for each run."
    text = "\n\n".join([head, *(table.markdown() for table in tables)])
    print(text)
    if options.write_docs:
        write_between(_DOCS, text, BEGIN)
    return 0


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scaling.py", description="One worker, one balancer.")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, help="default: 5")
    parser.add_argument("--seconds", type=float, help="of each run; default: 1")
    parser.add_argument("--connections", type=int, help="default: 2000")
    parser.add_argument("--write-docs", action="store_true", help="into docs/scaling.md")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (0.2 if options.quick else 1.0)
    options.connections = options.connections or (100 if options.quick else 2000)
    if not 1 <= options.rounds <= 50 or not 0 < options.seconds <= 10:
        parser.error("rounds are 1 to 50, and seconds above 0 and at most 10")
    return options


if __name__ == "__main__":
    sys.exit(main())
