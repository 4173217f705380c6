"""Clients that block: a thread for each connection, and batches where there are several in flight.

What the peers have in common that have no other way to make more than one call at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from benchmarks.meter import PAYLOAD, Meter, Tally, fail


def drive_blocking(
    meter: Meter,
    connect: Callable[[], Any],
    batch: Callable[[Any, list[tuple[int, int]]], list[int]],
) -> None:
    """Ask for ever.

    Args:
        meter: counts.
        connect: returns a client with `add_numbers(n1, n2)` and `echo(s)`. It is called in the
            thread that uses the client.
        batch: makes all the calls for some pairs at once, and returns the sums.
    """
    shape = meter.shape
    barrier = threading.Barrier(shape.connections, action=meter.start)

    def work() -> None:
        try:
            _ask(meter, connect(), barrier, batch)
        except BaseException as error:  # noqa: BLE001  # a thread alone would end without notice
            fail(repr(error))

    others = [threading.Thread(target=work) for _ in range(shape.connections - 1)]
    for thread in others:
        thread.start()
    work()


def _ask(
    meter: Meter,
    client: Any,
    barrier: threading.Barrier,
    batch: Callable[[Any, list[tuple[int, int]]], list[int]],
) -> None:
    tally: Tally = meter.tally()
    tally.check(5, client.add_numbers(2, 3))
    barrier.wait()
    while True:
        if meter.shape.echo:
            tally.check(PAYLOAD, client.echo(PAYLOAD))
        elif meter.shape.in_flight == 1:
            n1, n2 = next(meter.pairs)
            tally.check(n1 + n2, client.add_numbers(n1, n2))
        else:
            pairs, sums = meter.batch()
            tally.check_all(sums, batch(client, pairs))
