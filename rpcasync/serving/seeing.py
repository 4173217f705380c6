"""What can be seen of a server that runs: its calls, its clients, its loop.

Most of it is known anyway and asked for when somebody looks. What has to be counted is counted from
the first look on: a server that nobody looks at pays nothing.

This file answers no calls.
"""

from __future__ import annotations

import os
import time
from typing import Any

from rpcasync.serving.counting import Counting, Row
from rpcasync.serving.dispatch import Dispatcher
from rpcasync.serving.entrance import Entrance
from rpcasync.serving.histogram import BOUNDS, quantile
from rpcasync.serving.peer import Peer
from rpcasync.serving.peers import Peers
from rpcasync.serving.records import ANSWERED, GONE, OUTCOMES, Connection, OnCall

__all__ = ["Seeing"]


class Seeing:
    """What can be seen of one server.

    Args:
        mux: what the sockets are watched by.
        peers: the clients.
        entrance: who comes in.
        dispatcher: knows the procedures.
    """

    __slots__ = ("_began", "_buflen", "_counting", "_entrance", "_peers", "_since")

    def __init__(
        self, mux: object, peers: Peers, entrance: Entrance, dispatcher: Dispatcher
    ) -> None:
        self._buflen: Any = getattr(mux, "buflen", None)
        self._peers = peers
        self._entrance = entrance
        self._counting = Counting(dispatcher.built_in, dispatcher.is_built_in, dispatcher.is_own)
        self._began = time.monotonic()
        self._since: float | None = None  # when counting began, as `_began`

    # What turns it on

    @property
    def on_call(self) -> OnCall | None:
        """Is told of each call that has ended."""
        return self._counting.on_call

    def set_on_call(self, function: OnCall | None) -> None:
        """Have somebody else told, or nobody."""
        self._counting.on_call = function
        self._look()

    def turn_on(self) -> None:
        """Count from now on."""
        if not self._counting.is_on:
            self._counting.is_on, self._since = True, time.monotonic()
            self._peers.lag.turn_on()
        self._look()

    def _look(self) -> None:
        is_wanted = self._counting.is_on or self._counting.on_call is not None
        self._peers.counting = self._counting if is_wanted else None

    # What is seen

    def health(self, is_draining: bool) -> str:
        """Return how the server is, in a word."""
        if is_draining:
            return "draining"
        clients, _ = self._peers.admissions
        most = clients.outstanding
        is_behind = most is not None and len(clients) >= most
        return "overloaded" if is_behind or self._entrance.is_full() else "ok"

    def stats(self, status: str) -> dict[str, Any]:
        """Return what `Server.stats()` tells."""
        self.turn_on()
        now = time.monotonic()
        clients, _ = self._peers.admissions
        self._counting.fold()
        rows = self._counting.rows
        procedures = {name: _about(row) for name, row in sorted(rows.items())}
        calls = dict.fromkeys(OUTCOMES, 0)
        of_others = self._counting.nameless.others
        for outcomes in (*(each["outcomes"] for each in procedures.values()), of_others):
            for outcome, count in outcomes.items():
                calls[outcome] += count
        peers = self._clients()
        return {
            "status": status,
            "pid": os.getpid(),
            "uptime": now - self._began,
            "counted": now - (self._since or now),
            "listeners": len(self._entrance.listeners),
            "clients": len(peers),
            "accepted": self._peers.accepted,
            "refused": self._peers.refused,
            "running": sum(peer.running for peer in peers),
            "waiting": len(clients),
            "queued": sum(map(self._queued, peers)),
            "lag": self._peers.lag.last(),
            "most_lag": self._peers.lag.most(),
            "calls": calls,
            "procedures": procedures,
            "bounds": [*BOUNDS],
        }

    def connections(self) -> list[Connection]:
        """Return what `Server.connections()` tells."""
        self.turn_on()
        now = time.monotonic()
        found = []
        for peer in self._clients():
            heard = self._counting.heard.get(peer)
            last = None if heard is None else heard.last
            found.append(
                Connection(
                    peer=peer.identity,
                    since=None if heard is None else heard.since,
                    calls=0 if heard is None else heard.calls,
                    running=peer.running,
                    waiting=peer.waiting,
                    queued=self._queued(peer),
                    idle=None if last is None else now - last,
                    codec=peer.protocol.codec.name,
                )
            )
        return found

    def _clients(self) -> list[Peer]:
        return [peer for peer in self._peers.by_fh.values() if not peer.is_inner]

    def _queued(self, peer: Peer) -> int:
        """Return how many bytes a client has not read; nothing is sent for that."""
        if self._buflen is None:
            return peer.queued
        try:
            return int(self._buflen(peer.fh))
        except KeyError:  # the program has taken it out of the mux
            return 0


def _about(row: Row) -> dict[str, Any]:
    """Return what was counted of a procedure."""
    calls, others = sum(row.counts) + row.unrun, sum(row.others.values())
    return {
        "calls": calls,
        "errors": others - row.others.get(GONE, 0),
        "p50": quantile(row.counts, 0.5),
        "p99": quantile(row.counts, 0.99),
        "outcomes": {ANSWERED: calls - others, **row.others},
        "seconds": row.seconds,
        "counts": [*row.counts],
    }
