"""The calls of a server, as they end: counted, and told to the program.

A server whose calls nobody counts pays nothing. Most calls are answered while their procedures run.
Of these the dispatcher knows how long they took, as it has looked at the clock anyway, and all that
is done for each is to keep that number; from time to time they are put into the histograms. Nothing
is noted with such a call, unless somebody is told of it: `_began` stays None. If it has failed, its
outcome stands there.

A call that goes on behind its procedure, or waits first, is kept in a table, and `_began` is its
entry: so it is known what was under way when a client left.

What ends is noted behind the line that ends it, never in front: should Ctrl-C come just between the
two, a record is missing, and no call.

This file calls the program's code in one line, in `_end()`. It answers nothing.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Container
from functools import partial

from rpcasync._log import fields, log, shorten
from rpcasync.serving.callers import Caller, Dropped, Open
from rpcasync.serving.histogram import BOUNDS
from rpcasync.serving.peer import Peer
from rpcasync.serving.records import (
    ANSWERED,
    EXCEPTION,
    GONE,
    OUTCOMES,
    REFUSED,
    CallRecord,
    OnCall,
    Outcome,
)

__all__ = ["OTHERS", "Counting", "Heard", "Row"]

OTHERS = "(others)"
"""Stands for the procedures beyond those that are counted each by itself."""
_MOST_ROWS = 1000
_LONGEST_NAME = 256  # characters
_MOST_KEPT = 4096  # calls that are not in the histograms yet
_record: Callable[[tuple[object, ...]], CallRecord] = partial(tuple.__new__, CallRecord)
"""Makes a record of its fields, by one call of Python less than `CallRecord` itself."""
_OUTCOMES: dict[str, Outcome] = {outcome: outcome for outcome in OUTCOMES}


class Row:
    """What was counted of the calls of one procedure."""

    __slots__ = ("counts", "others", "seconds", "times", "unrun")

    def __init__(self) -> None:
        self.times: list[float] = []  # of calls that are in nothing of the rest yet
        self.counts = [0] * (len(BOUNDS) + 1)  # by how long they ran
        self.seconds = 0.0  # of them all
        self.unrun = 0  # calls that no procedure was called for
        self.others: dict[Outcome, int] = {}  # those that were not answered with values, by outcome

    def fold(self) -> None:
        """Put the times into the rest: all at once, so that C code does most of it."""
        times = sorted(self.times)
        del self.times[: len(times)]
        before = 0
        for step, bound in enumerate(BOUNDS):
            if before == len(times):
                break
            upto = bisect_right(times, bound, before)
            self.counts[step] += upto - before
            before = upto
        self.counts[-1] += len(times) - before
        self.seconds += sum(times)


class _Taken(dict[str, Callable[[float], None]]):
    """By procedure, what takes the seconds of a call that was answered."""

    def __init__(self, find: Callable[[str], Callable[[float], None]]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, procedure: str) -> Callable[[float], None]:
        return self._find(procedure)


class Heard:
    """What was counted of one client."""

    __slots__ = ("calls", "last", "since")

    def __init__(self, since: float | None) -> None:
        self.since = since  # time.time()
        self.calls = 0
        self.last: float | None = None  # when the last one came, by the clock of the turns


class Counting:
    """That of one server.

    Args:
        built_in: names of procedures of the server's own.
        is_built_in: says whether one is in use, and the program has none of that name.
        is_known: says whether the program has a procedure of a name.
    """

    __slots__ = (
        *("_built_in", "_clock", "_is_built_in", "_is_known", "_kept", "_open"),
        *("heard", "is_on", "nameless", "on_call", "rows", "taken"),
    )

    def __init__(
        self,
        built_in: Container[str],
        is_built_in: Callable[[str], bool],
        is_known: Callable[[str], bool],
    ) -> None:
        self._built_in = built_in
        self._is_built_in = is_built_in
        self._is_known = is_known
        self._clock = time.monotonic
        self._open: dict[Peer, dict[Open, None]] = {}
        self.is_on = False
        """Calls are counted, and not only told."""
        self.on_call: OnCall | None = None
        self.rows: dict[str, Row] = {}
        """By procedure."""
        self.nameless = Row()
        """Calls of procedures that there are not, which strangers may give any name."""
        self.heard: dict[Peer, Heard] = {}
        self.taken = _Taken(self._taker)
        """Takes how long a call took that was answered, and of which nobody is told."""
        self._kept = 0  # times that may be in no histogram yet

    # Clients

    def begin(self, peer: Peer) -> None:
        """Note a client that connects."""
        self.heard[peer] = Heard(time.time())

    def served(self, peer: Peer, calls: int) -> None:
        """Note that calls of a client have come."""
        heard = self.heard.get(peer)
        if heard is None:
            if peer.gone or peer.is_inner:
                return
            heard = self.heard[peer] = Heard(None)
        heard.calls, heard.last = heard.calls + calls, self._clock()
        self._kept += calls
        if self._kept >= _MOST_KEPT:
            self.fold()

    def fold(self) -> None:
        """Put all times that were kept into the histograms."""
        self._kept = 0
        for row in (*self.rows.values(), self.nameless):
            row.fold()

    def forget(self, peer: Peer) -> None:
        """Note that a client has gone: so end its calls. What is interrupted can be done again."""
        self.heard.pop(peer, None)
        calls = self._open.get(peer)
        now = self._clock()
        while calls:
            call, _ = calls.popitem()
            came, began = call.came, call.began
            self._end(peer, call.procedure, call.id, GONE, came, began, now, call.size, 0)
        self._open.pop(peer, None)

    # Calls

    def put(self, caller: Caller, now: float) -> None:
        """Note a call that has to wait."""
        caller._began = call = Open(caller, now)
        self._open.setdefault(caller._peer, {})[call] = None

    def start(self, caller: Caller, now: float) -> None:
        """Note that a call is given to its procedure which had to wait."""
        noted = getattr(caller, "_began", None)
        if isinstance(noted, Open):  # else it came before anybody counted
            noted.began = now

    def returned(self, caller: Caller, began: float, now: float) -> None:
        """Note that the procedure of a call has returned, unless the call waits.

        Args:
            caller: a call of which nobody was told when it was answered.
            began: when the procedure was called.
            now: the time.
        """
        noted, peer = caller._began, caller._peer
        if isinstance(noted, Open) or caller.answered is None:
            return
        if not caller.answered:
            caller._began = call = Open(caller, began)
            call.began = began
            if not peer.gone:
                self._open.setdefault(peer, {})[call] = None
                return
        outcome = _OUTCOMES[noted] if isinstance(noted, str) else GONE
        self._end(peer, caller.procedure, caller.id, outcome, began, began, now, caller.size, 0)

    def ended(self, caller: Caller | Dropped, outcome: Outcome, sent: int) -> None:
        """Note that a call has ended.

        Args:
            caller: the call, or what is left of one that was dropped.
            outcome: how, if the client has not gone.
            sent: bytes of the answer.
        """
        noted, peer = getattr(caller, "_began", None), caller._peer
        if peer.gone and outcome != EXCEPTION:
            outcome, sent = GONE, 0
        if noted is None or isinstance(noted, str):
            caller._began = outcome  # its procedure runs, or it came before anybody counted
            return
        came, began, size = noted, noted, caller.size
        if isinstance(noted, Open):
            came, began, size = noted.came, noted.began, noted.size
            calls = self._open.get(peer)
            if calls is None or noted not in calls:
                return  # its client went before
            del calls[noted]
            if not calls:
                del self._open[peer]
        name, id = caller.procedure, caller.id  # noqa: A001
        self._end(peer, name, id, outcome, came, began, self._clock(), size, sent)

    def _end(
        self,
        peer: Peer,
        procedure: str,
        id: int | str,  # noqa: A002
        outcome: Outcome,
        came: float,
        began: float | None,
        now: float,
        received: int,
        sent: int,
    ) -> None:
        if procedure in self._built_in and self._is_built_in(procedure):
            return
        if began is None or outcome == REFUSED:  # no procedure was called
            wait, seconds = (now if began is None else began) - came, 0.0
            if self.is_on:
                self._count(self._row(procedure, outcome), outcome, None)
        else:
            wait, seconds = began - came, now - began
            if self.is_on:
                self._count(self._row(procedure, outcome), outcome, seconds)
        tell = self.on_call
        if tell is None:
            return
        identity, started = peer.identity, time.time() - seconds
        record = _record((procedure, identity, id, outcome, wait, seconds, received, sent, started))
        try:
            # This is where the program's code is called.
            tell(record)
        except Exception:  # noqa: BLE001  # the call is not to suffer
            extra = fields(peer=peer.name, procedure=procedure, call=id)
            log.exception("on_call() of procedure %s failed", shorten(procedure), extra=extra)

    def _taker(self, procedure: str) -> Callable[[float], None]:
        """Return what takes the time of an answered call; nothing does for a built-in procedure."""
        if not self.is_on or self._is_built_in(procedure):
            return _nothing
        row = self._row(procedure, ANSWERED)
        if procedure in self.rows:
            self.taken[procedure] = row.times.append
        return row.times.append

    def _row(self, procedure: str, outcome: Outcome) -> Row:
        row = self.rows.get(procedure)
        if row is not None:
            return row
        if outcome != ANSWERED and not self._is_known(procedure):
            return self.nameless
        if len(self.rows) >= _MOST_ROWS or len(procedure) > _LONGEST_NAME:
            procedure = OTHERS
        return self.rows.setdefault(procedure, Row())

    def _count(self, row: Row, outcome: Outcome, seconds: float | None) -> None:
        if outcome != ANSWERED:
            row.others[outcome] = row.others.get(outcome, 0) + 1
        if seconds is None:
            row.unrun += 1
        else:
            row.times.append(seconds)
            self._kept += 1


def _nothing(seconds: float) -> None:
    """Stand in where nobody counts."""
