"""How long an honest client waits while others attack its server, and what that costs the server.

    python tests/benchmarks/under_attack.py [--quick] [--seconds S] [--attacks NAME ...]
                                            [--packages DIR] [--write-docs]

Each attack runs for five seconds, from a process of its own, against a server in another; a third
one makes a call every 10 ms. The table has how long a call took in the median, of a hundred the
longest, and the longest of all; the most memory that the server had; and the length of its log.
It takes two minutes, with `--quick` half of one, and runs the packages of this tree. To compare,
name another checkout, where the folders `eventmux` and `rpcasync` are: `--packages ../before`.
Linux.

docs/attacks.md has what `--write-docs` puts there.

Three processes are busy at times. With two cores, some of what is seen is the wait for one: calm
shows how much.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:1] = [str(_ROOT), str(_ROOT / "tests")]

from benchmarks.attacks import ATTACKS  # noqa: E402
from benchmarks.processes import BenchmarkFailed, child, free_port, wait_for  # noqa: E402
from benchmarks.report import Table, machine, write_between  # noqa: E402

_DOCS = _ROOT / "docs" / "attacks.md"
_BEGIN = "<!-- tests/benchmarks/under_attack.py writes from here -->"
_LATE = 20.0  # seconds: what counts for a call that was never answered


@dataclass(slots=True)
class Siege:
    """What was measured of one attack; times in seconds."""

    times: list[float]  # sorted
    memory: int  # bytes, the most
    log: int  # bytes
    connections: int
    sent: int  # bytes
    survived: bool

    def part(self, share: float) -> float:
        """Return the time below which this share of the calls are."""
        return self.times[min(len(self.times) - 1, int(share * len(self.times)))]


def besiege(name: str, seconds: float, packages: Path = _ROOT) -> Siege:
    """Attack a server, and ask it meanwhile.

    Raises:
        BenchmarkFailed: it does not start, or answers wrong.
    """
    attack, port = ATTACKS[name], free_port()
    with (
        tempfile.NamedTemporaryFile() as log,
        child("stand", attack.outstanding, log.name, port, packages=packages) as server,
    ):
        wait_for(server, port)
        with child("attack", name, seconds, port) as attacker, child("ask", seconds) as client:
            client.tell(port)
            times = client.read()
            memory = _most_memory(server.pid)
            connections, sent = map(int, attacker.read())
        size = Path(log.name).stat().st_size
        return Siege(times, memory, size, connections, sent, survived=not server.ended)


def _most_memory(pid: int) -> int:
    """Return the most memory that a process has had; 0 if it has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def table(sieges: dict[str, Siege], seconds: float) -> Table:
    """Return what was measured as a table."""
    shown = Table(
        "An honest client's wait, under attack",
        ("attack", "p50 ms", "p99 ms", "max ms", "server MB", "log KB", "connections", "sent MB"),
        note=f"One call every 10 ms, for {seconds:g} s.",
    )
    for name, siege in sieges.items():
        times = [_milliseconds(each) for each in (siege.part(0.5), siege.part(0.99), siege.part(1))]
        memory = f"{siege.memory / 1e6:.0f}" if siege.survived else "**ended**"
        log, sent = f"{siege.log / 1e3:,.0f}", f"{siege.sent / 1e6:,.0f}"
        row = (ATTACKS[name].title, *times, memory, log, f"{siege.connections:,}", sent)
        shown.rows.append(row)
    return shown


def _milliseconds(seconds: float) -> str:
    return "never" if seconds >= _LATE else f"{1000 * seconds:,.1f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; return the exit status."""
    options = _parse_args(argv)
    sieges = {}
    try:
        for name in options.attacks:
            print(f"{ATTACKS[name].title} ...", file=sys.stderr)
            sieges[name] = besiege(name, options.seconds, options.packages)
    except BenchmarkFailed as error:
        print(f"under_attack.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    text = f"{machine()}\n\n{table(sieges, options.seconds).markdown()}"
    print(text)
    if options.write_docs:
        write_between(_DOCS, text, _BEGIN)
    return 0


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="under_attack.py", description="An honest client's wait while others attack."
    )
    parser.add_argument("--quick", action="store_true", help="one second for each attack")
    parser.add_argument("--seconds", type=float, help="for each attack; default: 5")
    parser.add_argument(
        "--attacks",
        nargs="+",
        choices=ATTACKS,
        default=list(ATTACKS),
        metavar="NAME",
        help=f"of {', '.join(ATTACKS)}",
    )
    parser.add_argument("--packages", type=Path, default=_ROOT, help="the checkout to measure")
    parser.add_argument("--write-docs", action="store_true", help="into docs/attacks.md")
    options = parser.parse_args(argv)
    options.seconds = options.seconds or (1.0 if options.quick else 5.0)
    if not 0 < options.seconds <= 60:
        parser.error("seconds are above 0 and at most 60")
    if not (options.packages / "rpcasync").is_dir():
        parser.error(f"there is no rpcasync in {options.packages}")
    options.packages = options.packages.resolve()
    return options


if __name__ == "__main__":
    sys.exit(main())
