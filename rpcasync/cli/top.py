"""`rpcasync top`: how a server does right now, on a screen that is drawn again and again.

It is a program like any other with a client: the answers of `stats`, the keys, the clock and the
signals are events of one loop. What was there between two answers is what is shown. The client
connects again by itself, so that a server which is restarted comes back on the screen.

At no terminal, or with `-n`, the same goes to stdout as tables, one below the other.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from eventmux import EventMux
from eventmux.events import Closed, Event, Read, Signal, Timer
from rpcasync.backoff import Backoff
from rpcasync.calls import Call, Reply
from rpcasync.cli.dashboard import ORDERS, Dashboard
from rpcasync.cli.figures import figures
from rpcasync.cli.fullscreen import FullScreen, is_possible, notes
from rpcasync.cli.intervals import interval
from rpcasync.cli.output import CommandFailed, print_lines
from rpcasync.cli.screen import colours_of, is_terminal
from rpcasync.cli.session import Session, connected_by, is_unknown
from rpcasync.errors import CallTimeout, Disconnected, RPCError

__all__ = ["top"]

_BACKOFF = Backoff(0.1, 5.0)  # somebody looks on
_PATIENCE = 1.0  # seconds after which it is said that there is no answer


def top(options: argparse.Namespace) -> int:
    """Show it; return the exit status.

    Raises:
        CommandFailed: the server was never there, or does not tell.
    """
    with connected_by(options, reconnect=_BACKOFF) as session:
        pause, count = options.interval, options.count
        is_live = count is None and is_possible()
        view = _Live(session, pause) if is_live else _Paper(session, pause, count)
        with view.shown():
            view.run()
    if view.ended_by not in (None, signal.SIGINT):
        signal.raise_signal(view.ended_by)  # the terminal is as it was: end as if nobody had cared
    return 1 if count is not None and view.dashboard.trouble else 0


class _Asking:
    """Asks for the numbers, again and again, and knows what came of it."""

    _SIGNALS: Sequence[str] = ("SIGINT",)

    def __init__(self, session: Session, pause: float) -> None:
        self.dashboard = Dashboard(session.url)
        self.ended_by: int | None = None
        """The signal that has ended it."""
        self._session = session
        self._mux: EventMux[Event] = session.mux
        self._pause = pause
        self._call: Call | None = None  # that is under way
        self._asked = 0.0  # when it was made
        self._reason = ""  # why a connection has ended
        self._failure: CommandFailed | None = None  # what ends the command
        self._is_over = False

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Have the signals, and where it is shown, until the block ends."""
        watch = self._mux.signal(*_heeded(self._SIGNALS))
        try:
            with self._place():
                yield
        finally:
            watch.cancel()  # last: Ctrl-C keeps nobody from giving a terminal back

    def _place(self) -> AbstractContextManager[None]:
        return nullcontext()

    def run(self) -> None:
        """Go on until there is a reason to end.

        Raises:
            CommandFailed: the server was never there, or does not tell.
        """
        beat = self._mux.timer(self._pause, self, repeat=True)
        self._ask()
        try:
            while not self._is_over and (event := self._mux.mux()) is not None:
                self._take(event)
        finally:
            beat.cancel()
            if self._call is not None:
                self._call.cancel()
        if self._failure is not None:
            raise self._failure

    def _take(self, event: Event) -> None:
        if isinstance(event, Timer) and event.data is self:
            if self._call is None:
                self._ask()
            else:
                self._wait()
        elif isinstance(event, Signal):
            self._take_signal(event.signum)
        elif event.fh is sys.stdin:
            self._take_keys(event)
        else:
            if event.fh is self._session.client.fh:
                self._note(event)
            self._session.client.io(event)

    def _take_signal(self, number: int) -> None:
        self.ended_by, self._is_over = number, True

    def _take_keys(self, event: Event) -> None:
        """Take what was typed: nobody types on paper."""

    # Questions and answers

    def _ask(self) -> None:
        self._asked = time.monotonic()
        call = self._session.client.call("stats", self._answered)
        self._call = call.set_timeout(self._session.timeout)

    def _answered(self, *values: object, error: RPCError | None = None) -> None:
        self._call = None
        board = self.dashboard
        try:
            if error is not None:
                raise error
            found = figures(Reply(values))
        except CallTimeout as late:
            self._tell(str(late))
        except Disconnected:
            pass  # `Closed` tells why
        except RPCError as failure:
            self._fail(_told(failure))
        else:
            board.latest = interval(board.found, found)
            board.found, board.trouble = found, ""
            self._show()

    def _wait(self) -> None:
        """Have a turn without an answer."""
        if self.dashboard.trouble:
            self._show()

    def _note(self, event: Any) -> None:
        """Note what an event tells of the connection."""
        if event.type == "error":
            self._reason = event.error
        elif event.type == "closed":
            why = self._reason or event.reason or "the server closed the connection"
            self._reason = ""
            if self.dashboard.found is None:
                self._fail(f"{self.dashboard.url}: {why}")
            elif not self._is_over:
                self._tell(f"not connected: {why}")

    def _tell(self, trouble: str) -> None:
        self.dashboard.trouble = trouble
        self._show()

    def _fail(self, message: str) -> None:
        self._failure, self._is_over = CommandFailed(message), True

    def _show(self) -> None:
        """Show what is known now."""


class _Paper(_Asking):
    """Tables, one below the other; the first one when there is something to compare with."""

    def __init__(self, session: Session, pause: float, count: int | None) -> None:
        super().__init__(session, pause)
        self._left = count
        self._is_first = True

    def _show(self) -> None:
        if self._is_first and not self.dashboard.trouble:
            self._is_first = False
            return
        print_lines([*self.dashboard.lines(), ""])
        if self._left is not None:
            self._left -= 1
            self._is_over = self._is_over or self._left <= 0


class _Live(_Asking):
    """A screen, and keys."""

    _SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGTSTP", "SIGCONT", "SIGWINCH")

    def __init__(self, session: Session, pause: float) -> None:
        super().__init__(session, pause)
        self._screen = FullScreen()
        self._colours = colours_of(sys.stdout)
        self._line = ""  # of the log
        self._has_keys = False

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Have the terminal."""
        with notes(self._keep):
            try:
                if is_terminal(sys.stdin):
                    self._mux.add(sys.stdin)
                    self._has_keys = True
                self._show()
                yield
            finally:
                self._screen.leave()
                self._has_keys = False

    def _keep(self, line: str) -> None:
        self._line = line

    def _take_keys(self, event: Event) -> None:
        if isinstance(event, Closed):
            self._has_keys, self._is_over = False, True
        elif isinstance(event, Read):
            for key in event.data.decode("latin-1"):
                self._is_over = self._is_over or key == "q"
                if key in ORDERS:
                    self.dashboard.order = key
            self._show()

    def _take_signal(self, number: int) -> None:
        if number == signal.SIGTSTP:
            self._screen.leave()
            self._listen()
            os.kill(os.getpid(), signal.SIGSTOP)  # behind it, SIGCONT has come
        elif number == signal.SIGCONT:
            self._screen.leave()  # the shell may have changed all of it
            self._show()
        elif number == signal.SIGWINCH:
            self._show()
        else:
            super()._take_signal(number)

    def _wait(self) -> None:
        """Say that there is no answer yet, unless it is known why."""
        seconds = time.monotonic() - self._asked
        if not self.dashboard.trouble and seconds >= _PATIENCE:
            self._tell(f"no answer for {seconds:.0f} s")
            self.dashboard.trouble = ""
        else:
            super()._wait()

    def _answered(self, *values: object, error: RPCError | None = None) -> None:
        self._line = ""
        super()._answered(*values, error=error)

    def _show(self) -> None:
        columns, rows = self._screen.size()
        # In the last column, some begin a line.
        shown = self.dashboard.screen(columns - 1, rows, self._colours, self._line)
        self._screen.draw(shown)
        self._listen()

    def _listen(self) -> None:
        """Take keys while the screen is ours: in the background, to read them would stop us."""
        if self._has_keys:
            self._mux.want_read(sys.stdin, self._screen.is_ours)


def _heeded(names: Iterable[str]) -> list[int]:
    """Return signals by their names, but for those that this process is to ignore."""
    numbers = [int(getattr(signal, name)) for name in names]
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def _told(error: RPCError) -> str:
    if is_unknown(error, "stats"):
        return "the server has no procedure stats: it is in Perl, or old"
    return str(error) if str(error).startswith("stats: ") else f"stats: {error}"
