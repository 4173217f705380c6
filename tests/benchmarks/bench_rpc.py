"""How many calls per second rpcasync makes, beside the same work by hand with asyncio.

    python tests/benchmarks/bench_rpc.py [--rounds N] [--seconds S] [--scenarios NAME ...]
    python tests/benchmarks/bench_rpc.py --micro

Both packages have to be importable (`pip install .`, or `PYTHONPATH=.`). Linux.

A call is `add_numbers(n1: int, n2: int)`, which answers the sum, over TCP on the loopback: one
server process, one client process, one connection, one call at a time ("-1") or a hundred in
flight ("-100"). Each sum is checked, and a wrong one ends the run. `--micro` measures only what
encoding and decoding the packet of such a call takes.

How to read it: on a machine that is shared with others the digits change from minute to minute;
the ratios hold. A ratio is the rate over that of asyncio in the same round, which is the mean
of a run before and a run after the scenarios of that round. The rows of asyncio show the second
of these runs over the first: what differs no more than they do is noise. And asyncio stands here
as people write it by hand; it can be tuned, by gathering answers into one write above all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import timeit
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import mean, median

import peers

from rpcasync import JSONCodec
from rpcasync.storable import freeze, thaw

_WARMUP = 0.3  # seconds
_SEED = 1  # of the order within the rounds, so that runs can be compared
_MICRO_CALLS = 20_000
_MICRO_REPEATS = 7


class BenchmarkFailed(Exception):
    """A process that was measured did not do its work."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What one run measures."""

    peer: str
    in_flight: int

    def __str__(self) -> str:
        return f"{self.peer}-{self.in_flight}"


@dataclass(slots=True)
class Results:
    """The rates of a scenario and their ratios, one of each for a round."""

    rates: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)


# One run: a server process and a client process


@contextmanager
def _child(*args: object) -> Iterator[subprocess.Popen[str]]:
    """Run a process of `peers.py`, and leave none behind, not even a zombie.

    `subprocess.run()` and Popen's own `with` do not wait for the child after Ctrl-C.
    """
    command = [sys.executable, peers.__file__, *map(str, args)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _read(process: subprocess.Popen[str], name: object) -> str:
    """Return the line that a process prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise BenchmarkFailed(f"{name} failed")
    return line


def _run(scenario: Scenario, seconds: float) -> float:
    """Return the calls per second of one run."""
    peer, in_flight = scenario.peer, scenario.in_flight
    with _child("serve", peer) as server:
        port = int(_read(server, f"the server of {scenario}"))
        with _child("call", peer, port, in_flight, _WARMUP, seconds) as client:
            rate = float(_read(client, f"the client of {scenario}"))
    print(f"{scenario}: {rate:,.0f} calls/s", file=sys.stderr)
    return rate


# Rounds


def _run_rounds(
    scenarios: Sequence[Scenario], rounds: int, seconds: float
) -> dict[Scenario, Results]:
    """Run everything in each round, in an order of the round's own."""
    results: dict[Scenario, Results] = {}
    source = random.Random(_SEED)
    windows = sorted({scenario.in_flight for scenario in scenarios})
    for number in range(1, rounds + 1):
        print(f"round {number} of {rounds}", file=sys.stderr)
        for in_flight in source.sample(windows, len(windows)):
            group = [scenario for scenario in scenarios if scenario.in_flight == in_flight]
            _run_group(source.sample(group, len(group)), seconds, results)
    return results


def _run_group(group: Sequence[Scenario], seconds: float, results: dict[Scenario, Results]) -> None:
    """Run scenarios with as many calls in flight, between two runs of the baseline."""
    baseline = Scenario(peers.ASYNCIO, group[0].in_flight)
    first = _run(baseline, seconds)
    rates = [_run(scenario, seconds) for scenario in group]
    last = _run(baseline, seconds)
    reference = mean((first, last))
    _note(results, baseline, reference, last / first)
    for scenario, rate in zip(group, rates, strict=True):
        _note(results, scenario, rate, rate / reference)


def _note(results: dict[Scenario, Results], scenario: Scenario, rate: float, ratio: float) -> None:
    noted = results.setdefault(scenario, Results())
    noted.rates.append(rate)
    noted.ratios.append(ratio)


def _print_results(results: dict[Scenario, Results]) -> None:
    print("| scenario | calls/s, median | ratio to asyncio, median | min-max |")
    print("| --- | ---: | ---: | ---: |")
    for scenario in sorted(results, key=_place):
        rates, ratios = results[scenario].rates, results[scenario].ratios
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        shown = "again / first" if scenario.peer == peers.ASYNCIO else f"{median(ratios):.2f}"
        print(f"| {scenario} | {median(rates):,.0f} | {shown} | {spread} |")


def _place(scenario: Scenario) -> tuple[int, bool, str]:
    """Sort by calls in flight, the baseline first."""
    return scenario.in_flight, scenario.peer != peers.ASYNCIO, scenario.peer


# The codecs alone


def _print_micro() -> None:
    """Print what encoding and decoding one request takes."""
    request: list[object] = [4711, "add_numbers", "n1", 592, "n2", 143]
    codec = JSONCodec()
    text, image = json.dumps(request), freeze(request)
    compact = codec.encode(request)
    if not request == thaw(image) == codec.decode(compact) == json.loads(text):
        raise BenchmarkFailed("the request does not come back as it was")
    works: dict[str, Callable[[], object]] = {
        "storable.freeze": lambda: freeze(request),
        "JSONCodec.encode": lambda: codec.encode(request),
        "json.dumps": lambda: json.dumps(request),
        "storable.thaw": lambda: thaw(image),
        "JSONCodec.decode": lambda: codec.decode(compact),
        "json.loads": lambda: json.loads(text),
    }
    print("| request of add_numbers | us, best of several |")
    print("| --- | ---: |")
    for name, work in works.items():
        print(f"| {name} | {_best(work):.2f} |")


def _best(work: Callable[[], object]) -> float:
    """Return microseconds for one call."""
    seconds = timeit.repeat(work, number=_MICRO_CALLS, repeat=_MICRO_REPEATS)
    return min(seconds) / _MICRO_CALLS * 1e6


# The command line


def _scenario(text: str) -> Scenario:
    found = re.fullmatch(r"(\w+)-([1-9][0-9]{0,4})", text)
    if not found or found[1] not in peers.CODECS:
        codecs = " or ".join(peers.CODECS)
        raise argparse.ArgumentTypeError(f"{text!r} is not {codecs}, '-', and calls in flight")
    return Scenario(found[1], int(found[2]))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _duration(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 3600")
    return seconds


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Calls per second, beside asyncio by hand.")
    parser.add_argument("--rounds", type=_positive, default=3, help="default: 3")
    parser.add_argument(
        "--seconds", type=_duration, default=1.0, help="measured in each run; default: 1"
    )
    parser.add_argument(
        "--scenarios",
        type=_scenario,
        nargs="+",
        metavar="NAME",
        default=[Scenario(codec, count) for count in (1, 100) for codec in peers.CODECS],
        help="codec and calls in flight; default: storable-1 json-1 storable-100 json-100",
    )
    parser.add_argument("--micro", action="store_true", help="only encode and decode a packet")
    return parser.parse_args(argv)


def _print_machine() -> None:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    load = os.getloadavg()[0]
    print(f"{python}, {platform.system()} {platform.machine()}, ", end="")
    print(f"{os.cpu_count()} cores, load {load:.1f} at the start\n", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; return the exit status."""
    options = _parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that children are ended then too
    try:
        _print_machine()
        if options.micro:
            _print_micro()
        else:
            scenarios = list(dict.fromkeys(options.scenarios))
            _print_results(_run_rounds(scenarios, options.rounds, options.seconds))
    except BenchmarkFailed as error:
        print(f"bench_rpc: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
