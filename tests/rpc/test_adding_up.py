"""Calls of each ending, of many clients at once: all that counts them comes to the same numbers."""

from __future__ import annotations

import gc
import random
from collections import Counter

from support.fakes import ClockedSelector, FakeClock
from support.peers import Bench
from support.procedures import Procedures

from eventmux import EventMux
from rpcasync.calls import Reply
from rpcasync.cli.figures import figures
from rpcasync.cli.intervals import interval
from rpcasync.cli.prometheus import prometheus_lines
from rpcasync.serving.records import OUTCOMES

CLIENTS = 20
ENDINGS = {
    ("add", "n1", 1, "n2", 2): "answered",
    ("fault",): "fault",
    ("error",): "fault",
    ("explode",): "exception",
    ("unsendable",): "exception",
    ("forget",): "dropped",
    ("nothing_like_it",): "refused",
    ("add", "n1", 1): "refused",
    ("park", "late"): "timeout",
}


def ask_for_stats(bench, peer):
    """Return what `rpcasync stats` reads of the answer."""
    (answer,) = [packet for packet in bench.ask(peer, 10**6, "stats") if packet[0] == 10**6]
    return figures(Reply(answer[1:]))


def play(bench, clock):
    """Have the calls made; return how many of each ending there were."""
    random.seed(1)
    peers = [bench.peer(random.choice(["storable", "json"])) for _ in range(CLIENTS)]
    leaving = peers[: CLIENTS // 4]
    expected = Counter()
    for peer in peers:
        calls = random.choices([*ENDINGS], k=random.randrange(20, 40))
        expected.update(ENDINGS[call] for call in calls)
        peer.send_calls(*calls)
    for _ in range(3):
        bench.turn()
        gc.collect()
    while bench.rpc.stats()["running"]:
        clock.advance(6)
        bench.turn()
    for number, peer in enumerate(leaving):
        peer.send_calls(*[("park", n) for n in range(number + 1)])
        expected["gone"] += number + 1
    bench.turn()
    for peer in leaving:
        peer.sock.close()
    bench.turn()
    return expected


def test_all_that_counts_comes_to_the_same():
    clock, told = FakeClock(), []
    selector = ClockedSelector(clock)
    selector.most_calls = 10**6
    with EventMux(selector=selector, clock=clock, spin=0) as mux:
        procedures = Procedures()
        bench = procedures.bench = Bench(mux, procedures, on_exception="answer", timeout=5)
        bench.rpc.on_call = told.append
        bench.rpc.set_limits(outstanding=30)
        watcher = bench.peer()
        before = ask_for_stats(bench, watcher)
        expected = play(bench, clock)
        after = ask_for_stats(bench, watcher)
        stats = bench.rpc.stats()
        procedures.parked.clear()
        bench.close()
    assert set(expected) == set(OUTCOMES)
    total = sum(expected.values())
    assert Counter(record.outcome for record in told) == expected
    assert stats["calls"] == after.calls == expected
    assert (stats["running"], stats["waiting"]) == (0, 0)

    by_name = Counter((record.procedure, record.outcome) for record in told)
    nameless = by_name.pop(("nothing_like_it", "refused"))
    counted = Counter()
    for name, about in stats["procedures"].items():
        counted.update({(name, outcome): n for outcome, n in about["outcomes"].items()})
        assert about["calls"] == sum(about["outcomes"].values()) == after.procedures[name].calls
    assert +counted == by_name
    assert sum(counted.values()) == total - nameless

    samples = dict(line.rsplit(" ", 1) for line in prometheus_lines(after) if line[0] != "#")
    for outcome in OUTCOMES:
        assert samples[f'rpcasync_calls_total{{outcome="{outcome}"}}'] == str(expected[outcome])
    ran = sum(int(n) for series, n in samples.items() if "duration_seconds_count" in series)
    assert ran == sum(sum(about["counts"]) for about in stats["procedures"].values())

    shown = interval(before, after)
    seconds = after.numbers["counted"] - before.numbers["counted"]
    assert round(shown.of_all.calls * seconds) == total
    assert round(shown.of_all.errors * seconds) == total - expected["answered"] - expected["gone"]
    assert (
        sum(round(pace.calls * seconds) for pace in shown.procedures.values()) == total - nameless
    )
