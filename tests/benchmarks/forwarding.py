"""What a call costs that is passed on to another server, beside one that goes there directly.

    python tests/benchmarks/forwarding.py

Once all are in one process, on one mux: then the time is all the work there is. And once the server
behind is real Perl, with ours between as `rpcasync listen --fallback` runs it: what clients wait.
Both ways take turns; the ratio is the median of the rounds, with the least and the most.
"""

from __future__ import annotations

import gc
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:1] = [str(_ROOT), str(_ROOT / "tests")]

from support.peers import Taker  # noqa: E402
from support.programs import PERL, PROGRAMS, listening, perl_listening  # noqa: E402

from benchmarks.report import Table, machine  # noqa: E402
from benchmarks.rounds import Spread  # noqa: E402
from eventmux import EventMux  # noqa: E402
from rpcasync import Client, Server  # noqa: E402

_ROUNDS = 15
_SECONDS = 0.2  # of one way, in one round
_ADD = ("add_numbers", "n1", 2, "n2", 3)
_CALLS: dict[str, tuple[int, tuple[object, ...]]] = {
    "`n1=2, n2=3`, one at a time": (1, _ADD),
    "`n1=2, n2=3`, 100 in flight": (100, _ADD),
    "a list of 1000 numbers, 10 in flight": (10, ("echo", [*range(1000)])),
    "100 KB of text, 10 in flight": (10, ("echo", "x" * 100_000)),
    "with a function that is called, 10 in flight": (10, ("tell", "1", lambda *_: None)),
}


@dataclass(slots=True)
class Way:
    """A way to a server: by which client, and who else takes the events of its mux."""

    mux: EventMux
    client: Client
    others: Sequence[Taker] = ()

    def time(self, in_flight: int, call: Sequence[object], seconds: float) -> float:
        """Call again and again; return microseconds for each call."""
        answered = 0
        name, *args = call
        end = start = time.perf_counter()
        end += seconds

        def ask() -> None:
            self.client.call(str(name), *args, done)

        def done(*values: object) -> None:
            nonlocal answered
            answered += 1
            if time.perf_counter() < end:
                ask()

        for _ in range(in_flight):
            ask()
        while self.client.has_requests() or self.client.has_coderefs():
            event = self.mux.mux()
            for taker in (self.client, *self.others):
                event = taker.io(event)
        return (time.perf_counter() - start) / answered * 1e6


class _Old:
    """The server behind, in Python."""

    rpc: Server

    def rpc_add_numbers(self, caller: object, n1: int, n2: int) -> None:
        self.rpc.return_(caller, sum=n1 + n2)

    def rpc_echo(self, caller: object, value: object, /) -> None:
        self.rpc.return_(caller, value)

    def rpc_tell(self, caller: object, code: str, function: Callable[..., None], /) -> None:
        function(int(code))
        self.rpc.return_(caller)


@contextmanager
def in_one_process(codec: str = "storable") -> Iterator[tuple[Way, Way]]:
    """Give the ways to a server directly, and by another one."""
    with EventMux() as mux, ExitStack() as stack:
        procedures = _Old()
        old = procedures.rpc = Server(mux, procedures, slow=None)

        def connected(server: Server) -> socket.socket:
            ours, theirs = (stack.enter_context(each) for each in socket.socketpair())
            server.add_client(ours)
            return theirs

        front = Server(mux, {}, fallback=Client(mux, connected(old)), slow=None)
        yield (
            Way(mux, Client(mux, connected(old), codec=codec), [old]),
            Way(mux, Client(mux, connected(front), codec=codec), [front, old]),
        )


@contextmanager
def to_perl() -> Iterator[tuple[Way, Way]]:
    """Give the ways to a Perl server directly, and by `rpcasync listen` as a process."""
    with (
        tempfile.TemporaryDirectory() as folder,
        perl_listening(f"unix://{folder}/old", PERL / "old_server.pl") as old,
        listening(PROGRAMS / "half_ported_server.py", f"unix://{folder}/new", fallback=old) as (
            new,
            _,
        ),
        EventMux() as mux,
    ):
        yield Way(mux, Client(mux, old)), Way(mux, Client(mux, new))


def rows(
    where: str, ways: tuple[Way, Way], rounds: int, seconds: float
) -> Iterator[tuple[str, ...]]:
    """Measure all calls by both ways; give rows of the table."""
    for name, (in_flight, call) in _CALLS.items():
        taken: list[list[float]] = [[], []]
        for number in range(rounds):
            gc.collect()
            for which in (0, 1) if number % 2 else (1, 0):
                taken[which].append(ways[which].time(in_flight, call, seconds))
        ratio = Spread([passed_on / direct for direct, passed_on in zip(*taken, strict=True)])
        yield where, name, f"{median(taken[0]):.0f}", f"{median(taken[1]):.0f}", str(ratio)


def table(rounds: int = _ROUNDS, seconds: float = _SECONDS) -> Table:
    """Return what was measured."""
    columns = ("server behind", "calls", "directly, us", "passed on, us", "ratio")
    found = Table("Calls that are passed on", columns, note="Time for each call.")
    with in_one_process() as ways:
        found.rows += rows("ours, in one process", ways, rounds, seconds)
    with in_one_process("json") as ways:
        found.rows += rows("the same, for JSON", ways, rounds, seconds)
    if shutil.which("perl") is not None:
        with to_perl() as ways:
            found.rows += rows("Perl", ways, rounds, seconds)
    return found


if __name__ == "__main__":
    print(machine(), table().markdown(), sep="\n\n")
