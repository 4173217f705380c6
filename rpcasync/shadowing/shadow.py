"""`Shadow`: calls that one server answers are asked of another, too, and the answers compared.

The caller has its answer from one of the two, as if there were no other. What the second one does
with its copy, that it is slow, dead, or speaks nonsense, is counted and told, and changes nothing
else.

This file knows what a program asks for; `pairs.py` does it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from typing import Any, Literal
from weakref import finalize

from eventmux import EventMux
from eventmux._nearest import tells_options
from eventmux.events import Event
from rpcasync._log import log, shorten
from rpcasync.client import Client
from rpcasync.forwarding.fallback import Fallback
from rpcasync.server import Server
from rpcasync.shadowing.book import Book
from rpcasync.shadowing.copies import Copies, InnerCopies
from rpcasync.shadowing.pairs import Pairs
from rpcasync.shadowing.reports import ReportFile
from rpcasync.wire.codecs import check_limit
from rpcasync.wire.deadlines import check_seconds

__all__ = ["Shadow"]

_MOST_NAMES = 1000


class Shadow:
    """Asks calls of a server's clients of an old server, too, and compares the answers.

    `shadow = Shadow(mux, rpc, "unix:///run/old.sock", leave_out={"set_*"})`, behind the line that
    makes the server `rpc`, is all: the loop stays as it is, as `rpc.io()` takes the events of the
    connections to the old server.

    Answers are compared as a Perl program would see them: `"3"` is 3, and a hash has no order. What
    differs is counted by procedure, kind and place, and logged the first time.

    A copy leaves before the procedure runs. It has functions that do nothing in the place of the
    client's callbacks. A procedure that changes something is to be left out, or it is done twice.

    Args:
        mux: that of the server.
        server: the new server.
        old: the old one: a URL, or a `Client` of it. At a `tcp://`, `tls://` or `unix://` URL
            each client of ours has a connection of its own; a program that is started serves all.
            If it has ended it is connected to, or started, again for the next call. A `Client`
            stays as it is.
        procedures: which of the server's procedures, by name; `*` and `?` stand for any characters,
            or one, as in names of files. None is all that it has. Others are answered by it alone.
        sample: which part of their calls is asked of both, 0 to 1.
        answer: whose answer the caller gets, "new" or "old". If it is "old", calls are passed on to
            the old server as by `Server(fallback=)`, and ours gets the copies. Where that has the
            same server, it is one, with the same connections.
        leave_out: procedures of which no copy is made, by name or pattern: one server answers.
        timeout: seconds for the answer to a copy.
        max_pending: calls at a time that are compared; others are skipped meanwhile.
        report: a file in which `report()` is kept, as JSON, at most five seconds old. A report that
            is there already, with calls in it, becomes `FILE.1`; what is no report is left alone.
        random: returns a number from 0 to 1, for `sample`. Default is that of Python.

    Raises:
        TypeError: `server` is no `Server`, `old` is neither a URL nor a `Client`, or names are a
            single text.
        ValueError: `mux` is not that of the server, or of the client `old`; or a number or word is
            none of those above.
        URLError: the URL is not understood.
        OSError: the old server's program cannot be started, or the file cannot be written,
            or is no report.
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
        if not isinstance(server, Server):
            raise TypeError(f"server is {server!r}, must be a Server")
        if mux is not server._mux:
            raise ValueError(f"mux is {mux!r}, must be that of the server")
        if type(sample) not in (int, float) or not 0 <= sample <= 1:
            raise ValueError(f"sample is {sample!r}, must be a number from 0 to 1")
        if answer not in ("new", "old"):
            raise ValueError(f"answer is {answer!r}, must be 'new' or 'old'")
        if not isinstance(old, (Client, str)):
            raise TypeError(f"old is {old!r}, must be a Client or a URL")
        check_limit("max_pending", max_pending)
        check_seconds("timeout", timeout)
        self._names = _Names("procedures", ("*",) if procedures is None else procedures)
        self._left_out = _Names("leave_out", leave_out)
        self._are_checked = False  # the names: that there are such procedures
        self._namespace = server._namespace
        name = old if isinstance(old, str) else old._name
        self._book = Book(name, answer, sample, sorted(self._left_out.patterns))
        self._file = None if report is None else ReportFile(report)
        self._is_due = False  # another version of the file
        if self._file is not None:
            self._file.begin(self._book.report())
            finalize(self, _write, self._file, self._book)
        self._copies = self._join(mux, server, old, timeout)
        if random is None:
            from random import random as drawn  # only here: most programs have no use for it

            random = drawn
        pairs = Pairs(
            self._copies,
            server._forwarding,
            self._book,
            is_wanted=self._is_wanted,
            draw=random,
            clock=mux.clock,
            max_pending=max_pending,
            changed=self._changed,
        )
        server._forwarding.watch(pairs)

    def _join(
        self, mux: EventMux[Event], server: Server, old: Client | str, timeout: float
    ) -> Copies:
        """Make the connections, whose events the server takes; return those for copies."""
        forwarding = server._forwarding
        if self._book.answer == "new":
            return Copies(mux, old, forwarding.connections, timeout)
        is_same = isinstance(old, str) and old == server.fallback
        passing = forwarding.fallback if is_same else None  # what it keeps is then in one place
        if passing is None:
            passing = Fallback(mux, old, forwarding.connections)
        forwarding.instead = lambda name: passing if self._is_chosen(name) else None
        return InnerCopies(mux, server._arrivals.connect_inside, forwarding.connections, timeout)

    def report(self) -> dict[str, Any]:
        """Return what was found so far, in the types that JSON has.

        Under "procedures" there is for each one how many of its "calls" were "equal",
        "different", "skipped" as too many were under way or the old server was not there, and
        "unanswered" by one of the two; the medians "old_ms" and "new_ms" of the milliseconds that
        the last answers took; and "differences", each with "kind", "place", the number of "calls",
        and of the first of them "path", "old" and "new".
        """
        return self._book.report()

    def _is_chosen(self, name: str) -> bool:
        return name in self._names and self._namespace.find(name) is not None

    def _is_wanted(self, name: str) -> bool:
        if not self._are_checked:
            self._check_names()
        return self._is_chosen(name) and name not in self._left_out

    def _check_names(self) -> None:
        """Tell of names that nothing has: of what is left out, that would be dangerous."""
        self._are_checked = True
        known = self._namespace.names()
        for pattern in sorted(self._names.patterns | self._left_out.patterns):
            if not any(fnmatchcase(name, pattern) for name in known):
                log.warning("shadow: no procedure is named %s", shorten(pattern))

    def _changed(self, is_news: bool) -> None:
        """See that the file says so: at once, of the few things that are news; or soon."""
        if self._file is None:
            return
        if is_news:
            _write(self._file, self._book)
        if not self._is_due:
            self._is_due = True
            self._copies.call_later(self._file.interval, self._rewrite)

    def _rewrite(self) -> None:
        self._is_due = False
        if self._file is not None:
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


def _write(file: ReportFile, book: Book) -> None:
    try:
        file.write(book.report())
    except OSError as error:
        log.error("report %s cannot be written: %s", file.path, error.strerror or error)
