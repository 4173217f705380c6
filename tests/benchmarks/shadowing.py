"""What it costs the callers of a server when it has an old one beside it, or stands in front of it.

    python tests/benchmarks/shadowing.py

Calls are compared, all or some; or passed on, all of them, and recorded. Each server is a process
of its own, and so is the old one that they ask. They are measured in short turns, and the figure
is the least of the rounds, which other programs have held up least. With one call at a time it is
what a caller waits; with many, what the server can do in a second.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:1] = [str(_ROOT), str(_ROOT / "tests")]

from support.programs import PROGRAMS, Program  # noqa: E402

from benchmarks.report import Table, machine  # noqa: E402
from eventmux import EventMux  # noqa: E402
from rpcasync import Client  # noqa: E402

_WAYS = {  # the words of a command; an old server is at OLD
    "no shadow": "listen SERVER",
    "sample 0": "listen --shadow OLD --shadow-sample 0 SERVER",
    "sample 0.1": "listen --shadow OLD --shadow-sample 0.1 SERVER",
    "sample 1.0": "listen --shadow OLD --shadow-sample 1.0 SERVER",
    "sample 1.0, the old one answers": "listen --shadow OLD --answer old SERVER",
    "passed on": "listen --fallback OLD OTHER",
    "passed on and recorded": "record --to OLD FILE",
}
_IN_FLIGHT = 100
_ROUNDS = 50
_CALLS = 300  # in each


@contextmanager
def _serving(folder: str, words: str) -> Iterator[str]:
    """Give the URL of a server that runs."""
    url = f"unix://{folder}/{len(os.listdir(folder)) + 1}"
    meant = {
        "OLD": f"unix://{folder}/1",  # it is the first
        "SERVER": str(_ROOT / "examples" / "add_server.py"),
        "OTHER": str(PROGRAMS / "half_ported_server.py"),
        "FILE": f"{folder}/calls",
    }
    command, *rest = (meant.get(word, word) for word in words.split())
    server = Program([sys.executable, "-m", "rpcasync", command, "-u", url, *rest])
    try:
        server.wait_for_log("recorded in" if command == "record" else "listening on")
        yield url
    finally:
        server.stop()


def call_time(mux: EventMux, client: Client, in_flight: int, calls: int) -> float:
    """Return the seconds for one call, of so many that are under way at a time."""
    left, running, wrong = calls, 0, 0

    def done(sum: int) -> None:  # as the answer has it
        nonlocal running, wrong
        running -= 1
        wrong += sum != 5

    began = time.perf_counter()
    while left or running:
        while left and running < in_flight:
            client.add_numbers(done, n1=2, n2=3)
            left, running = left - 1, running + 1
        client.io(mux.mux())
    if wrong:
        raise SystemExit(f"{wrong} wrong answers")
    return (time.perf_counter() - began) / calls


def measure(rounds: int = _ROUNDS, calls: int = _CALLS) -> dict[str, list[float]]:
    """Return for each way the seconds of a call, one at a time and with many under way."""
    with ExitStack() as stack:
        mux = stack.enter_context(EventMux())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(_serving(folder, _WAYS["no shadow"]))
        clients = {
            name: Client(mux, stack.enter_context(_serving(folder, words)))
            for name, words in _WAYS.items()
        }
        taken: dict[str, list[list[float]]] = {name: [[], []] for name in _WAYS}
        for _ in range(rounds):
            for name, client in clients.items():
                for place, in_flight in enumerate((1, _IN_FLIGHT)):
                    taken[name][place].append(call_time(mux, client, in_flight, calls))
        for client in clients.values():
            client.disconnect()
    return {name: [min(each) for each in found] for name, found in taken.items()}


def table(rounds: int = _ROUNDS, calls: int = _CALLS) -> Table:
    """Return what was measured."""
    columns = ("server", "one at a time, us", "to none", f"{_IN_FLIGHT} in flight, us", "to none")
    found = Table("Beside an old server", columns, note="Time for a call; the least of the rounds.")
    measured = measure(rounds, calls)
    first = next(iter(measured.values()))
    for name, times in measured.items():
        cells = [
            (f"{each * 1e6:.0f}", f"{each / base:.2f}")
            for each, base in zip(times, first, strict=True)
        ]
        found.rows.append((name, *cells[0], *cells[1]))
    return found


if __name__ == "__main__":
    print(machine(), table().markdown(), sep="\n\n")
