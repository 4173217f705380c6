"""`Shadow`: calls that one server answers are asked of another, too, and the answers compared.

The caller has its answer from one of the two, as if there were no other. What the second one does
with its copy, that it is slow, dead, or speaks nonsense, is counted and told, and changes nothing
else.

This file knows nothing of how two answers are compared, and how connections are made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from functools import partial
from typing import Literal
from weakref import finalize

from eventmux import EventMux
from eventmux._nearest import tells_options
from eventmux.events import Event
from rpcasync._log import log, shorten
from rpcasync.client import Client
from rpcasync.comparing.answers import compare
from rpcasync.errors import Disconnected, RPCError
from rpcasync.forwarding.fallback import Fallback
from rpcasync.forwarding.relayed import Answer
from rpcasync.server import Server
from rpcasync.serving.callers import Caller, Dropped
from rpcasync.serving.peer import Peer
from rpcasync.shadowing.book import Book, Tally
from rpcasync.shadowing.copies import Copies, InnerCopies
from rpcasync.shadowing.reports import ReportFile
from rpcasync.wire.codecs import Codec, check_limit
from rpcasync.wire.deadlines import check_seconds
from rpcasync.wire.messages import Id, check_reply

__all__ = ["Shadow"]

_MOST_BYTES = 16 * 1024 * 1024  # of answers that wait for the other one
_MOST_NAMES = 1000
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


class Shadow:
    """Asks calls of a server's clients of an old server, too, and compares the answers.

        rpc = Server(mux)
        shadow = Shadow(mux, rpc, "unix:///run/old.sock", leave_out={"set_*"})
        while rpc.has_clients():
            rpc.io(mux.mux())

    Answers are compared as a Perl program would see them: `"3"` is 3, and a hash has no order. What
    differs is counted by procedure, kind and place, and logged the first time. The loop stays as
    it is: `rpc.io()` takes the events of the connections to the old server.

    A copy leaves before the procedure runs. It has functions that do nothing in the place of the
    client's callbacks. A procedure that changes something is to be left out, or it is done twice.

    Args:
        mux: that of the server.
        server: the new server.
        old: the old one: a URL, or a `Client` of it. At a `tcp://` or `unix://` URL each client of
            ours has a connection of its own; a program that is started serves all. If it has ended
            it is connected to, or started, again for the next call. A `Client` stays as it is.
        procedures: which of the server's procedures, by name; `*` and `?` stand for any characters,
            or one, as in names of files. None is all that it has.
        sample: which part of their calls is asked of both, 0 to 1.
        answer: whose answer the caller gets, "new" or "old". If it is "old", calls are passed on to
            the old server as by `Server(fallback=)`, and ours gets the copies.
        leave_out: procedures of which no copy is made, by name or pattern.
        timeout: seconds for the answer to a copy.
        max_pending: calls at a time that are compared; others are skipped meanwhile.
        report: a file in which `report()` is kept, as JSON, once a minute and at the end of the
            program. One that is there already becomes `FILE.1`.
        random: returns a number from 0 to 1, for `sample`. Default is that of Python.

    Raises:
        TypeError: `old` is neither a URL nor a `Client`, or names are a single text.
        ValueError: `mux` is not that of the server, or a number or word is none of those above.
        URLError: the URL is not understood.
        OSError: the old server's program cannot be started, or the file cannot be written.
    """

    @tells_options
    def __init__(
        self,
        mux: EventMux[Event],
        server: Server,
        old: Client | str,
        procedures: Collection[str] | None = None,
        sample: float = 1.0,
        answer: Literal["new", "old"] = "new",
        *,
        leave_out: Collection[str] = (),
        timeout: float = 30.0,
        max_pending: int = 1000,
        report: str | os.PathLike[str] | None = None,
        random: Callable[[], float] | None = None,
    ) -> None:
        if mux is not server._mux:
            raise ValueError(f"mux is {mux!r}, must be that of the server")
        if type(sample) not in (int, float) or not 0 <= sample <= 1:
            raise ValueError(f"sample is {sample!r}, must be a number from 0 to 1")
        if answer not in ("new", "old"):
            raise ValueError(f"answer is {answer!r}, must be 'new' or 'old'")
        if not isinstance(old, (Client, str)):
            raise TypeError(f"old is {old!r}, must be a Client or a URL")
        self._names = _Names("procedures", ("*",) if procedures is None else procedures)
        self._left_out = _Names("leave_out", leave_out)
        if random is None:
            from random import random as drawn  # only here: most programs have no use for it

            random = drawn
        self._sample, self._random = sample, random
        self._max_pending = check_limit("max_pending", max_pending)
        self._server, self._clock = server, mux.clock
        self._is_new = answer == "new"
        self._is_url = isinstance(old, str)
        self._due = 0.0  # when the old server may be asked again
        self._pairs: dict[Peer, dict[Id, _Pair]] = {}
        self._pending = self._bytes = 0  # of calls that are asked of both, and of their answers
        self._is_noted = False  # that the file is to be written
        self._is_checked = False  # that there are procedures of the names that were given
        check_seconds("timeout", timeout)
        self._copies = self._join(mux, old, timeout)
        name = old if isinstance(old, str) else old._name
        self._book = Book(name, answer, sample, sorted(self._left_out.patterns))
        self._file = None if report is None else ReportFile(report)
        if self._file is not None:
            self._file.begin(self._book.report())
            finalize(self, _write, self._file, self._book)
        server._watch_calls(self)

    def _join(self, mux: EventMux[Event], old: Client | str, timeout: float) -> Copies:
        """Make the connections, whose events the server takes; return those for copies."""
        forwarding = self._server._forwarding
        connections = forwarding.connections
        if self._is_new:
            return Copies(mux, old, connections, timeout)
        passing = Fallback(mux, old, connections)
        forwarding.instead = lambda name: passing if self._is_chosen(name) else None
        return InnerCopies(mux, self._server._connect_inside, connections, timeout)

    def report(self) -> dict[str, object]:
        """Return what was found so far, in the types that JSON has.

        Under "procedures" there is for each one how many of its "calls" were "equal",
        "different", "skipped" as too many were under way or the old server was not there, and
        "unanswered" by one of the two; the medians "old_ms" and "new_ms" of the milliseconds that
        the last answers took; and "differences", each with "kind", "place", the number of "calls",
        and of the first of them "path", "old" and "new".
        """
        return self._book.report()

    def _is_chosen(self, name: str) -> bool:
        return name in self._names and self._server._namespace.find(name) is not None

    # A call, and what comes of it. The server calls these.

    def began(self, caller: Caller, values: list[object], payload: bytes) -> None:
        """Ask a call of the other server, too."""
        if not self._is_checked:
            self._check_names()
        name = caller.procedure
        if not self._is_chosen(name) or name in self._left_out:
            return
        tally = self._book.tally(name)
        tally.calls += 1
        self._note_change()
        if self._sample < 1 and self._random() >= self._sample:
            return
        now = self._clock()
        codec = caller._peer.protocol._codec
        if self._pending >= self._max_pending or now < self._due or codec is None:
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

    def _check_names(self) -> None:
        """Tell of names that nothing has: of what is left out, that would be dangerous."""
        self._is_checked = True
        known = self._server._namespace.names()
        for pattern in sorted(self._names.patterns | self._left_out.patterns):
            if not any(fnmatchcase(name, pattern) for name in known):
                log.warning("shadow: no procedure is named %s", shorten(pattern))

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
        if self._server._forwarding.failing is caller:  # it is no answer of the old server's
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

    def _end(self, pair: _Pair) -> None:
        pair.is_over = True
        self._note_change()
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
            log.exception("procedure %s: its answers cannot be compared", name)
            tally.skipped += 1
            return
        times = pair.copy_time, pair.answer_time
        news = tally.note(found, *(times if self._is_new else times[::-1]))
        for difference in news:
            log.warning("procedure %s differs from the old one: %s", name, difference)
        if news:
            _write(self._file, self._book)  # at once: there are not many

    # Whether the old server is there

    def _lost(self, error: Disconnected | OSError) -> None:
        """Note that the old server cannot be reached, or has ended a connection."""
        if not self._is_new:  # it is our own that has
            return
        if not self._is_url:
            self._due = float("inf")
        elif isinstance(error, OSError) and not getattr(error, "_was_up", False):
            self._due = self._clock() + _PAUSE  # it would be the same with the next call
        if self._book.is_there:
            self._book.is_there = False
            log.warning("shadow %s has gone: %s", self._book.old, error)

    def _found(self) -> None:
        if not self._book.is_there:
            self._book.is_there = True
            log.info("shadow %s is back", self._book.old)

    # The file

    def _note_change(self) -> None:
        if self._file is not None and not self._is_noted:
            self._is_noted = True
            self._copies.call_later(self._file.interval, self._write)

    def _write(self) -> None:
        self._is_noted = False
        _write(self._file, self._book)


class _Names:
    """Names of procedures, with patterns among them.

    Raises:
        TypeError: they are one text, or not all of them are text.
    """

    def __init__(self, what: str, patterns: Collection[str]) -> None:
        if isinstance(patterns, str) or not all(isinstance(name, str) for name in patterns):
            raise TypeError(f"{what} is {patterns!r}, must be a collection of names")
        self.patterns = frozenset(patterns)
        self._are_in: dict[str, bool] = {}

    def __contains__(self, name: str) -> bool:
        found = self._are_in.get(name)
        if found is None:
            if len(self._are_in) >= _MOST_NAMES:  # an object may have any that a peer invents
                self._are_in.clear()
            found = any(fnmatchcase(name, pattern) for pattern in self.patterns)
            self._are_in[name] = found
        return found


def _write(file: ReportFile | None, book: Book) -> None:
    if file is not None:
        try:
            file.write(book.report())
        except OSError as error:
            log.error("report %s cannot be written: %s", file.path, error.strerror or error)
