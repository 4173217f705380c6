"""Signals: handlers that make a note, and the handlers of before.

This file queues no events and waits for nothing: it is told how to wake whoever does.
"""

from __future__ import annotations

import contextlib
import signal
from collections import Counter, deque
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["Signals"]


class _Hook:
    """A signal handler that makes a note, and calls the program's own handler if there is one.

    Python's own answer to SIGINT, and the system's to any signal, are replaced while the signal
    is watched: to be told instead is the point. A hook that another handler was put over cannot
    be taken out, nor can one by another thread; it stays, and only passes on.
    """

    def __init__(self, note: Callable[[int], None]) -> None:
        self.note: Callable[[int], None] | None = note
        self.previous: Any = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        previous = self.handler_before()
        if self.note is not None:
            self.note(signum)
            if previous is signal.default_int_handler:
                return
        elif self._is_on_top(signum):  # nobody is over it that would go on
            self.take_out(signum)
            if previous == signal.SIG_DFL:
                signal.raise_signal(signum)
        if callable(previous):
            previous(signum, frame)

    def handler_before(self) -> Any:
        """Return what was there before, without the hooks that only pass on."""
        previous = self.previous
        while isinstance(previous, _Hook) and previous.note is None:
            previous = previous.previous
        return previous

    def _is_on_top(self, signum: int) -> bool:
        current: object = signal.getsignal(signum)
        return current is self

    def take_out(self, signum: int) -> None:
        """Put the handler of before back, unless another one is over this."""
        if self._is_on_top(signum):
            previous = self.handler_before()
            # None is a handler that was not installed by Python, which cannot put it back. In a
            # thread that may not put anything back, the hook stays, and passes on.
            with contextlib.suppress(ValueError):
                signal.signal(signum, signal.SIG_DFL if previous is None else previous)


class Signals:
    """The signals that are watched."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._arrived: deque[int] = deque()
        self._hooks: dict[int, _Hook] = {}
        self._users: Counter[int] = Counter()

    def add(self, signum: int) -> None:
        """Watch a signal; once more if it is watched already.

        Raises:
            ValueError: there is no such signal, or this is not the main thread.
            OSError: the signal cannot be caught.
        """
        if not self._users[signum]:
            hook = _Hook(self._note)
            hook.previous = signal.getsignal(signum)
            signal.signal(signum, hook)
            self._hooks[signum] = hook
        self._users[signum] += 1

    def _note(self, signum: int) -> None:
        self._arrived.append(signum)
        self._ring()

    def remove(self, signum: int) -> None:
        """Watch a signal once less; with the last, the handler of before comes back."""
        if signum not in self._hooks:
            return
        self._users[signum] -= 1
        if self._users[signum]:
            return
        hook = self._hooks.pop(signum)
        hook.note = None
        self._forget(signum, len(self._arrived))
        hook.take_out(signum)

    def tell(self, report: Callable[[int, int], None]) -> None:
        """Report how often each signal has arrived since the last time.

        Should that be interrupted, they count again: rather twice than not at all.
        """
        for signum, count in Counter(tuple(self._arrived)).items():
            report(signum, count)
            self._forget(signum, count)

    def _forget(self, signum: int, most: int) -> None:
        """Drop a signal that has arrived, so many times; others stay, wherever Ctrl-C comes."""
        with contextlib.suppress(ValueError):  # there is no more of it
            for _ in range(most):
                self._arrived.remove(signum)

    def clear(self) -> None:
        """Watch nothing any more."""
        for signum in list(self._hooks):
            self._users[signum] = 1
            self.remove(signum)
