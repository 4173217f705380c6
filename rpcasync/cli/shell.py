"""`rpcasync shell`: calls that are typed, one on a line.

Lines that come from a pipe or a file are read by the mux, which is the client's too: an answer is
printed as it comes, while the next lines are read. At a terminal, `input()` has to edit the line,
and waits for nothing else meanwhile: so there a call is made and waited for, and that the server
has gone is noticed with the next line.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from eventmux.buffers import Split
from eventmux.events import Closed, Error, Event, Read
from rpcasync.calls import Reply
from rpcasync.cli.definitions import (
    Definition,
    description_lines,
    parameters,
    procedures,
    signature_lines,
)
from rpcasync.cli.lines import BUILT_IN, Line, parse_line
from rpcasync.cli.output import CommandFailed, print_lines, say
from rpcasync.cli.rendering import print_answer
from rpcasync.cli.screen import PLAIN, Colours, colours_of
from rpcasync.cli.session import LOOKING, Session, connected_by, is_unknown, suggestion
from rpcasync.cli.terminal import PROMPT, editing
from rpcasync.errors import Disconnected, RemoteError, RPCError

__all__ = ["shell"]

HELP = """\
procedure key=value value ...   call a procedure and print the answer
methods                         list the procedures, with what they take if the server tells
help procedure                  tell about one; `methods procedure`, too
help                            print this
quit, exit, Ctrl-D              leave

A value is JSON, and text if it is none: n=2 list=[1, 2] name=Ann text="2" note='two words'.
progress=@ is a callback, and prints what it is called with; progress='"@"' is text.
A quoted name is always a procedure: 'quit', 'help' text. A line that begins with # is a comment.
"""

_LONGEST = 16 * 1024 * 1024  # bytes in a line: no packet is longer
_MOST_PENDING = 1000  # calls
_LEARNING = 5.0  # seconds that the first prompt waits for what can be completed


def shell(options: argparse.Namespace) -> int:
    """Run the lines on stdin as calls; return the exit status.

    Raises:
        CommandFailed: the server is not there, or has gone.
    """
    if sys.stdin is None:
        raise CommandFailed("stdin is closed")
    with connected_by(options, *options.arguments) as session:
        if sys.stdin.isatty() and sys.stdout.isatty():
            return _Terminal(session).run()
        return _Stream(session).run()


class _Lines(Protocol):
    """Where lines come from, and how what they ask for is done there."""

    def leave(self) -> None: ...

    def call(self, line: Line) -> None: ...

    def ask_about(self, topic: str | None) -> None: ...


def _obey(line: Line | None, lines: _Lines) -> None:
    """Do what a line says."""
    if line is None:
        return
    if not line.is_built_in:
        lines.call(line)
    elif line.procedure == "help" and line.topic in (None, *BUILT_IN):
        print_lines(HELP.splitlines())
    elif line.procedure in ("help", "methods"):
        lines.ask_about(line.topic)
    else:
        lines.leave()


def _about(
    found: Mapping[str, Definition], topic: str | None, colours: Colours = PLAIN
) -> Iterable[str]:
    """Give the lines that tell of all procedures, or of the one that is asked about.

    Raises:
        RPCError: there is no such procedure.
    """
    if topic is None:
        return signature_lines(found, colours)
    if topic not in found:
        raise RPCError(f"there is no procedure {topic!r}{suggestion(topic, found)}")
    return description_lines(topic, found[topic], colours)


class _Stream:
    """Lines from a pipe or a file: none waits for the answer of the one before it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._mux = session.mux
        self._number = 0  # of the line
        self._is_open = True
        self._is_read = True
        self._unanswered = 0
        self._untold: list[Callable[[], None]] = []  # what waits for the names of the server
        self._failed = False

    def run(self) -> int:
        session = self._session
        self._mux.add(sys.stdin, buffered=Split(max_size=_LONGEST))
        while self._is_open or session.client.has_requests():
            event = session.take(self._mux.mux())
            if session.lost is not None:
                # Those of a server that we started are pending until its process has ended.
                unanswered = self._unanswered + len(session.client.dump_requests())
                calls = f"; calls without an answer: {unanswered}" if unanswered else ""
                raise CommandFailed(session.lost + calls)
            if event is not None and event.fh is sys.stdin:
                self._take_line(event)
            self._hold_back()
        return 1 if self._failed else 0

    def _hold_back(self) -> None:
        """Read on only while the server keeps up, or a long file would be held in memory."""
        wanted = len(self._session.client.dump_requests()) < _MOST_PENDING
        if self._is_open and wanted is not self._is_read:
            self._is_read = wanted
            self._mux.want_read(sys.stdin, wanted)

    def _take_line(self, event: Event) -> None:
        if isinstance(event, Closed):
            self._is_open = False
        elif isinstance(event, Error):
            self._complain(self._number + 1, event.error)
        elif isinstance(event, Read) and self._is_open:
            self._number += 1
            try:
                line = parse_line(event.data.decode())
            except ValueError as error:
                self._complain(self._number, error)
            else:
                _obey(line, self)

    def leave(self) -> None:
        self._is_open = False
        self._mux.remove(sys.stdin)

    def call(self, line: Line) -> None:
        self._call(line.procedure, line.values, print_answer, self._number)

    def ask_about(self, topic: str | None) -> None:
        number = self._number

        def show(reply: Reply) -> None:
            print_lines(_about(procedures(reply), topic))

        def list_names() -> None:
            self._call("methods", [], show, number)

        self._call("methods", ["defs", 2], show, number, instead=list_names)

    def _call(
        self,
        procedure: str,
        values: list[object],
        show: Callable[[Reply], object],
        number: int,
        *,
        instead: Callable[[], object] | None = None,
    ) -> None:
        """Make a call for a line; `instead` is done if the server answers with an error."""

        def done(*answer: object, error: RPCError | None = None) -> None:
            self._session.note(error)
            try:
                if error is None:
                    show(Reply(answer))
                elif instead is not None and isinstance(error, RemoteError):
                    instead()
                elif is_unknown(error, procedure):
                    self._complain_of_name(number, procedure, error)
                else:
                    raise error
            except Disconnected:
                self._unanswered += 1
            except RPCError as failure:
                self._complain(number, failure)

        try:
            values = self._session.with_functions(values)
            self._session.client.call(procedure, *values, done).set_timeout(self._session.timeout)
        except RPCError as error:  # a value that cannot be sent
            self._complain(number, error)

    def _complain_of_name(self, number: int, procedure: str, error: RPCError) -> None:
        """Say that there is no such procedure, and which one was meant, once that is known."""
        session = self._session

        def tell() -> None:
            meant = suggestion(procedure, session.names or (), BUILT_IN)
            self._complain(number, f"{error}{meant}")

        if session.names is not None:
            tell()
            return
        self._untold.append(tell)
        if len(self._untold) > 1:  # it is asked for already
            return
        limit = LOOKING if session.timeout is None else min(LOOKING, session.timeout)
        try:
            session.client.call("methods", self._learn).set_timeout(limit)
        except RPCError as refused:  # there is too much under way
            self._learn(error=refused)

    def _learn(self, *answer: object, error: RPCError | None = None) -> None:
        """Take the names of the server, and say what waits for them."""
        names: list[str] = []
        if error is None:
            with contextlib.suppress(RPCError):  # it is the answer to something else
                names = list(procedures(Reply(answer)))
        self._session.names = names
        untold, self._untold = self._untold, []
        for tell in untold:
            tell()

    def _complain(self, number: int, error: object) -> None:
        self._failed = True
        say(f"line {number}: {error}")


class _Terminal:
    """Lines typed at a terminal: each call is waited for, and Ctrl-C gives it up."""

    def __init__(self, session: Session) -> None:
        self._session = session
        session.is_interruptible = True
        session.own_words = BUILT_IN
        self._known: dict[str, list[str]] = {}
        self._is_open = True

    def run(self) -> int:
        self._learn()
        with editing(self._known):
            while self._is_open:
                try:
                    self._take_line(input(PROMPT))
                except EOFError:
                    print_lines([""])
                    self.leave()
                except KeyboardInterrupt:
                    print_lines([""])
        return 0

    def _learn(self) -> None:
        """Ask what can be completed. It also tells at once that nobody is there."""
        try:
            found = self._session.definitions(timeout=_LEARNING)
        except RPCError:  # then without
            return
        self._known.update({name: parameters(about) for name, about in found.items()})

    def _take_line(self, text: str) -> None:
        self._session.catch_up()
        if self._session.lost is not None:
            raise CommandFailed(self._session.lost)
        try:
            _obey(parse_line(text), self)
        except (ValueError, RPCError) as error:
            say(error)

    def leave(self) -> None:
        self._is_open = False

    def call(self, line: Line) -> None:
        print_answer(self._session.ask(line.procedure, line.values))

    def ask_about(self, topic: str | None) -> None:
        print_lines(_about(self._session.definitions(), topic, colours_of(sys.stdout)))
