"""The calls that were asked of two servers, until both have answered.

They are bounded, in number and in bytes: what would be too much is skipped, and counted. Whatever
the second server does, the caller does not notice.

This file knows nothing of how two answers are compared, and how connections are made.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rpcasync._log import fields, log, shorten
from rpcasync.comparing.answers import compare
from rpcasync.errors import Disconnected, RPCError
from rpcasync.forwarding.forwarding import Forwarding
from rpcasync.forwarding.relayed import Answer
from rpcasync.serving.callers import Caller, Dropped
from rpcasync.serving.peer import Peer
from rpcasync.shadowing.book import Book, Tally
from rpcasync.shadowing.copies import Copies
from rpcasync.wire.codecs import Codec
from rpcasync.wire.messages import Id, check_reply

__all__ = ["Pairs"]

_MOST_BYTES = 16 * 1024 * 1024  # of answers that wait for the other one
_PAUSE = 1.0  # seconds between two attempts to reach a server that is not there


class _Pair:
    """One call that was asked of two servers."""

    __slots__ = (
        *("answer", "answer_time", "began", "codec", "copy", "copy_time"),
        *("is_over", "procedure", "size", "tally"),
    )

    def __init__(self, procedure: str, tally: Tally, codec: Codec, began: float) -> None:
        self.procedure = procedure
        self.tally = tally
        self.codec = codec  # which the caller speaks
        self.began = began
        self.is_over = False
        self.answer: bytes | None = None  # the caller's
        self.answer_time = 0.0
        self.copy: list[object] | None = None
        self.copy_time = 0.0
        self.size = 0  # bytes of the one that is kept


class Pairs:
    """Watches the calls of a server, and asks some of them of another, too.

    Args:
        copies: the connections that the second questions leave by.
        forwarding: knows which answers are none of the old server's.
        book: where what comes of them is noted.
        is_wanted: says whether a procedure is to be compared.
        draw: returns a number from 0 to 1: of those below the sample, copies are made.
        clock: returns the time, in seconds.
        max_pending: calls that are compared at a time.
        changed: called when something was noted; with True, if it is a new difference.
    """

    def __init__(
        self,
        copies: Copies,
        forwarding: Forwarding,
        book: Book,
        *,
        is_wanted: Callable[[str], bool],
        draw: Callable[[], float],
        clock: Callable[[], float],
        max_pending: int,
        changed: Callable[[bool], None],
    ) -> None:
        self._copies = copies
        self._forwarding = forwarding
        self._book = book
        self._is_wanted = is_wanted
        self._draw = draw
        self._clock = clock
        self._max_pending = max_pending
        self._changed = changed
        self._is_new = book.answer == "new"
        self._due = 0.0  # when the old server may be asked again
        self._pairs: dict[Peer, dict[Id, _Pair]] = {}
        self._pending = self._bytes = 0

    def began(self, caller: Caller, values: list[object], payload: bytes) -> None:
        """Ask a call of the other server, too."""
        name = caller.procedure
        if not self._is_wanted(name):
            return
        tally = self._book.tally(name)
        tally.calls += 1
        self._changed(False)
        if self._book.sample < 1 and self._draw() >= self._book.sample:
            return
        now = self._clock()
        codec = caller._peer.protocol.codec
        if self._pending >= self._max_pending or now < self._due:
            tally.skipped += 1
            return
        pair = _Pair(name, tally, codec, now)
        try:
            done = partial(self._copied, pair)
            self._copies.send(caller._peer, name, done, values, payload, caller.has_callbacks)
        except (RPCError, OSError) as error:
            tally.skipped += 1
            if isinstance(error, (Disconnected, OSError)):
                self._lost(error)
            return
        self._put(caller, pair)

    def _put(self, caller: Caller, pair: _Pair) -> None:
        peer = caller._peer
        pairs = self._pairs.get(peer)
        if pairs is None:
            pairs = self._pairs[peer] = {}
            peer.call_when_gone(partial(self._forget, peer))
        elif caller.id in pairs:  # a client that uses an id twice
            self._drop(pairs[caller.id])
        pairs[caller.id] = pair
        self._pending += 1

    def ended(self, caller: Caller | Dropped, payload: bytes) -> None:
        """Take the answer that the caller gets."""
        pairs = self._pairs.get(caller._peer)
        pair = pairs.pop(caller.id, None) if pairs else None
        if pair is None or pair.is_over:
            return
        if not self._is_new and self._forwarding.has_failed(caller):  # not the old server
            pair.tally.unanswered += 1
            self._end(pair)
        elif not payload:
            self._drop(pair)
        else:
            pair.answer, pair.answer_time = payload, self._clock() - pair.began
            self._go_on(pair, len(payload))

    def _copied(self, pair: _Pair, outcome: Answer | RPCError) -> None:
        """Take what came of the copy."""
        if isinstance(outcome, RPCError):
            if not pair.is_over:
                pair.tally.unanswered += 1
                self._end(pair)
            if isinstance(outcome, Disconnected):
                self._lost(outcome)
            return
        self._found()
        if not pair.is_over:
            pair.copy, pair.copy_time = outcome.values, self._clock() - pair.began
            self._go_on(pair, len(outcome.payload))

    def _go_on(self, pair: _Pair, size: int) -> None:
        """Compare a pair of which both answers are there; keep the one, if it is not too much."""
        if pair.answer is not None and pair.copy is not None:
            self._end(pair)
            self._compare(pair, pair.answer, pair.copy)
            return
        pair.size = size
        self._bytes += size
        if self._bytes > _MOST_BYTES:
            self._drop(pair)

    def _drop(self, pair: _Pair) -> None:
        if not pair.is_over:
            pair.tally.skipped += 1
            self._end(pair)
            pair.answer = pair.copy = None  # what waits for the other answer has the pair

    def _end(self, pair: _Pair) -> None:
        pair.is_over = True
        self._changed(False)
        self._pending -= 1
        self._bytes -= pair.size

    def _forget(self, peer: Peer) -> None:
        """Wait no more for what a client would have got that has gone."""
        for pair in self._pairs.pop(peer, {}).values():
            self._drop(pair)

    def _compare(self, pair: _Pair, payload: bytes, copy: list[object]) -> None:
        tally, name = pair.tally, shorten(pair.procedure)
        try:
            answer = check_reply(pair.codec.decode(payload))[1]
            found = compare(copy, answer) if self._is_new else compare(answer, copy)
        except Exception:  # noqa: BLE001  # a codec of the program's own may give anything
            extra = fields(procedure=name)
            log.exception("procedure %s: its answers cannot be compared", name, extra=extra)
            tally.skipped += 1
            return
        times = pair.copy_time, pair.answer_time
        news = tally.note(found, *(times if self._is_new else times[::-1]))
        for difference in news:
            extra = {**fields(procedure=name), "is_bounded": True}  # by the book
            log.warning("procedure %s differs from the old one: %s", name, difference, extra=extra)
        if news:
            self._changed(True)

    # Whether the old server is there

    def _lost(self, error: Disconnected | OSError) -> None:
        """Note that the old server cannot be reached, or has ended a connection."""
        if not self._is_new:  # it is our own that has
            return
        if not self._copies.can_reconnect:
            self._due = float("inf")
        elif isinstance(error, OSError) and not getattr(error, "_was_up", False):
            self._due = self._clock() + _PAUSE  # it would be the same with the next call
        if self._book.is_there:
            self._book.is_there = False
            old = self._book.old
            log.warning("shadow %s has gone: %s", old, error, extra=fields(server=old))

    def _found(self) -> None:
        if not self._book.is_there:
            self._book.is_there = True
            log.info("shadow %s is back", self._book.old, extra=fields(server=self._book.old))
