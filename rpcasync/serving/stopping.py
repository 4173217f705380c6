"""SIGTERM and SIGINT of a server program: the first one drains its servers, the second one ends it.

A mux hears of a signal only when its loop turns, which may take long if a procedure blocks. So the
second one is noticed by a signal handler, which ends the program wherever it is.

What a program does about these signals itself comes first: handlers that it has, or sets later,
and watches of its mux. One that is ignored stays so. A child that the program forks has what was
there before us.

`rpcasync listen` asks for all this; other programs say themselves when they drain.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import Any

from rpcasync.serving.draining import Draining

__all__ = ["Stopping", "end_in_start_up"]


def end_in_start_up(signum: int, frame: object) -> None:
    """End the program: what a signal would do by itself, if we were not the first process."""
    del frame
    sys.exit(128 + signum)


_AT_ONCE = {"SIGINT": "interrupted", "SIGTERM": "terminated"}  # what is said if nobody is left


class Stopping:
    """That of the servers of a mux.

    Args:
        mux: watches the signals; it has to be an `EventMux` for that.
        draining: of the first server.
        seconds: the deadline of all.
        is_worker: the parent says what there is to say, and ends us at once by SIGINT. SIGTERM may
            come twice, of the parent and of systemd.
    """

    def __init__(
        self,
        mux: object,
        draining: Draining,
        seconds: float,
        *,
        is_worker: bool = False,
    ) -> None:
        self._watch_signal: Any = getattr(mux, "signal", None)
        self._mux = mux
        self._draining = draining
        self._others: list[Draining] = []  # of the servers that have joined
        self._is_over = False  # nobody was left
        self._seconds = seconds
        self._is_worker = is_worker
        self._pid = os.getpid()
        self._is_told = False  # what is waited for
        self._count = 0  # of signals
        self._has_interrupt = False  # among them; Python may tell of the second one first
        self._before: dict[int, Any] = {}  # handlers, by signal
        self._watches: dict[int, Any] = {}
        self._hooks: dict[int, Any] = {}  # what the mux hears of it by

    def begin(self) -> None:
        """Watch the signals that the program does nothing about, if it can be done from here."""
        if self._watch_signal is None or threading.current_thread() is not threading.main_thread():
            return
        self._draining.take_signal = self.io
        self._draining.on_left = self._leave
        self._draining.look_after_leaving()
        usual = (signal.SIG_DFL, signal.default_int_handler, end_in_start_up)
        for signum in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(signum)
            if before in usual:
                self._before[signum] = before
                signal.signal(signum, self._arrived)  # which the mux calls, too
                self._watches[signum] = self._watch_signal(signum)
                self._hooks[signum] = signal.getsignal(signum)

    def join(self, mux: object, draining: Draining) -> bool:
        """Drain another server as well; return False if it is one of another mux, or too late."""
        if mux is not self._mux or self._is_over:
            return False
        self._others.append(draining)
        draining.on_left = self._leave
        draining.look_after_leaving()
        return True

    def io(self, event: Any) -> bool:
        """Take a `Signal`: drain the servers. Return False if it is the program's affair."""
        if not self._is_ours(event.signum):
            return False
        for draining in (self._draining, *self._others):
            draining.begin(self._seconds, 0)
        if not self._is_told:
            self._tell(signal.Signals(event.signum).name)
            self._is_told = True
        self._stop_watching()
        return True

    def _arrived(self, signum: int, frame: Any) -> None:
        """Note a signal, when it comes. The mux tells `io()` of the first."""
        handler: Any = signal.getsignal(signum)
        is_unheard = handler == self._arrived and not self._draining.has_begun
        if os.getpid() != self._pid or (is_unheard and not self._count):
            self._do_as_before(signum, frame)
        elif handler == self._arrived or self._is_ours(signum):
            self._count += 1
            self._has_interrupt |= signum == signal.SIGINT
            if self._count > 1 and (self._has_interrupt or not self._is_worker):
                sys.exit(0)

    def _is_ours(self, signum: int) -> bool:
        """True unless the program does something about a signal itself."""
        watch = self._watches.get(signum)
        handler: Any = signal.getsignal(signum)
        return watch is not None and handler == self._hooks[signum] and watch.is_alone(signum)

    def _do_as_before(self, signum: int, frame: Any) -> None:
        before = self._before[signum]
        signal.signal(signum, before)
        if callable(before):
            before(signum, frame)
        else:
            signal.raise_signal(signum)

    def _stop_watching(self) -> None:
        """Let the mux end when nobody is left. Our handler stays, for the next signal."""
        for watch in self._watches.values():
            watch.cancel()

    def _leave(self) -> None:
        """Give the signals back: nobody is left, and what the program still does is its own."""
        if not all(each.has_left() for each in (self._draining, *self._others)):
            return
        self._is_over = True
        self._stop_watching()
        if self._draining.has_begun:
            for draining in (self._draining, *self._others):
                draining.on_idle = self._end_for_ever
            return
        for signum, before in self._before.items():
            handler: Any = signal.getsignal(signum)
            if handler == self._arrived:
                with contextlib.suppress(ValueError):  # this is not the main thread
                    signal.signal(signum, before)

    def _end_for_ever(self) -> None:
        """End a loop that never ends, once there is nothing at all that it could wait for."""
        has_anything = getattr(self._mux, "_has_anything", None)
        if has_anything is not None and not has_anything():
            sys.exit(0)

    def _tell(self, name: str) -> None:
        if self._is_worker:
            return
        counts = [each.count() for each in (self._draining, *self._others)]
        clients, calls = map(sum, zip(*counts, strict=True))
        text = (
            f"rpcasync: {name}: waits for {clients} clients and {calls} calls,"
            f" {self._seconds:g} s at most; a second signal ends it at once\n"
            if clients
            else f"rpcasync: {_AT_ONCE[name]}\n"
        )
        if sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):  # nobody reads it
                sys.stderr.write(text)
                sys.stderr.flush()
