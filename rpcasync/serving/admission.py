"""Which calls run, and which wait until others have been answered.

Each call that runs is counted with its peer, and given back once: when it is answered, or when the
peer has gone. Both are noted in one step, with the call itself, so that the count cannot drift,
whatever becomes of a call and wherever Ctrl-C interrupts. Those that wait are taken client by
client, in rounds, and for each client in order.

This file runs nothing.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import cast

from rpcasync.serving.callers import Caller, Dropped
from rpcasync.serving.peer import Peer

__all__ = ["Admission"]


class Admission:
    """The calls of peers of a server; each peer is of one admission.

    `outstanding` is how many may run at a time, None is any number.
    """

    __slots__ = ("_round", "_running", "_waiting", "outstanding")

    def __init__(self) -> None:
        self.outstanding: int | None = None
        self._round: OrderedDict[Peer, None] = OrderedDict()  # whose calls wait, the next one first
        self._waiting = 0  # calls, those of stalled peers included, which are not in the round
        self._running = 0

    def __len__(self) -> int:
        """Return how many calls wait."""
        return self._waiting

    def count(self) -> int:
        """Return how many calls run or wait."""
        return self._running + self._waiting

    def _is_full(self) -> bool:
        return self.outstanding is not None and self._running >= self.outstanding

    def admit(self, peer: Peer, caller: Caller) -> bool:
        """Start a call that comes now, if none waits in front of it, and say whether it does."""
        if (self.outstanding is not None or self._waiting) and (
            peer.waiting or self._round or self._is_full()
        ):
            return False
        # As start() does, without the call: each call comes here.
        caller.answered, peer.running, self._running = False, peer.running + 1, self._running + 1
        return True

    def start(self, peer: Peer, caller: Caller) -> None:
        """Count a call that runs."""
        caller.answered, peer.running, self._running = False, peer.running + 1, self._running + 1

    def finish(self, caller: Caller | Dropped) -> bool:
        """Give back a call that is answered; return whether one that waits may run now."""
        peer = caller._peer
        if caller.answered is False and not peer.gone:
            caller.answered, peer.running, self._running = True, peer.running - 1, self._running - 1
        else:  # it was never counted, or given back with all others of its peer
            caller.answered = True
        return self.has_next() if self._round else False

    # Those that wait

    def has_next(self) -> bool:
        """True if one that waits may run."""
        return bool(self._round) and not self._is_full()

    def next_peer(self) -> Peer | None:
        """Return whose call may run next; None if none waits, or none may run."""
        return next(iter(self._round)) if self._round and not self._is_full() else None

    def put(self, peer: Peer, caller: Caller) -> None:
        """Have a call wait."""
        if peer.calls is None:
            peer.calls = deque()
        peer.calls.append(caller)
        peer.waiting += 1
        peer.waiting_size += caller.size
        self._waiting += 1
        if not peer.stalled:
            self._round.setdefault(peer)

    def take(self, peer: Peer) -> Caller:
        """Return the first call of a peer that is in the round, which then goes to its end."""
        calls = cast("deque[Caller]", peer.calls)
        del self._round[peer]
        caller = calls.popleft()
        peer.waiting -= 1
        peer.waiting_size -= caller.size
        self._waiting -= 1
        if calls:
            self._round[peer] = None
        return caller

    def stall(self, peer: Peer) -> None:
        """Take a client out of the round, until it has read what was queued for it."""
        peer.stalled = True
        self._round.pop(peer, None)

    def resume(self, peer: Peer) -> None:
        """Put it in the round again."""
        peer.stalled = False
        if peer.calls:
            self._round.setdefault(peer)

    # Peers that go

    def forget(self, peer: Peer) -> None:
        """Note that a peer has gone: drop what waits of it, and give back what runs."""
        peer.gone, self._running, peer.running = True, self._running - peer.running, 0
        self._round.pop(peer, None)
        self._waiting -= peer.waiting
        peer.waiting = peer.waiting_size = 0
        peer.calls = None

    def recount(self, peers: Iterable[Peer]) -> None:
        """Count anew what waits, and who is in the round: something was interrupted."""
        self._waiting = 0
        self._round.clear()
        for peer in peers:
            calls = peer.calls or ()
            peer.waiting = len(calls)
            peer.waiting_size = sum(caller.size for caller in calls)
            self._waiting += peer.waiting
            self.resume(peer)
