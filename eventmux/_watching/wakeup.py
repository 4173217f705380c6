"""The descriptor that the process writes to when a signal arrives: one for all muxes in it.

Python runs handlers of signals in the main thread, between two steps of the program. One that
arrives just before that thread begins to wait, or that the kernel gives to another thread, would
have to wait until the wait ends for another reason. So the muxes of the main thread wait for a
descriptor to which C code writes a byte at each signal: `signal.set_wakeup_fd()`.

A process has only one, and it may be somebody else's, who waits for it elsewhere: an asyncio loop,
for example. Then ours is in place only while a mux waits, and theirs gets what has come meanwhile.

This file knows no signals: what each of them does is the handlers' business.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import threading
from functools import partial

from eventmux._forking import tell_of_forks
from eventmux._waiting.pollable import Internal
from eventmux._waiting.poller import Poller
from eventmux._waiting.spinning import Ready, Waiter
from eventmux._watching.mailbox import Mailbox

__all__ = ["Wakeup"]


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class _Line:
    """What the muxes of a process share: a pair of sockets, while there is any mux."""

    def __init__(self) -> None:
        self._ends: tuple[socket.socket, socket.socket] | None = None
        self._users = 0
        self._is_placed = False  # it is ours that stays in place
        self._is_known = False  # somebody was told its number, and may put it back in place
        self._theirs = -1  # somebody else's
        tell_of_forks(self, _Line._forget)

    @property
    def reader(self) -> int:
        """The descriptor to wait for; -1 if nobody has joined."""
        return -1 if self._ends is None else self._ends[0].fileno()

    @property
    def _writer(self) -> int:
        return -1 if self._ends is None else self._ends[1].fileno()

    def join(self) -> None:
        """Have the descriptor open until `leave()`."""
        if self._ends is None:
            self._ends = socket.socketpair()
            for end in self._ends:
                end.setblocking(False)
        self._users += 1

    def place(self) -> bool:
        """Put ours in place for good, in the main thread; False if somebody else's is there."""
        self._swap()
        if not _put_back(self._theirs):
            self._is_placed = True
            self._theirs = -1
            return True
        self._is_known = self._is_known or self._is_placed
        self._is_placed = False
        return False

    def lend(self) -> None:
        """Put ours in place for a while, or for good if nobody else has one any more."""
        self._swap()
        self._is_placed = self._theirs < 0

    def _swap(self) -> None:
        """Put ours in place, and note whose was there.

        By `map()`, it is C code that calls: no handler can raise before that is noted.
        """
        ours = self._writer
        [there] = map(_set, (ours,))
        if there != ours:  # else it was not taken back: an exception came in between
            self._theirs = there

    def take_back(self) -> None:
        """Put theirs back in place."""
        if not _put_back(self._theirs):
            self._theirs = -1

    def drain(self) -> None:
        """Read what has been written; who has the one beside ours is to see it, too."""
        if self._ends is None:
            return
        with contextlib.suppress(OSError):
            data = self._ends[0].recv(4096)
            if self._theirs >= 0:
                os.write(self._theirs, data)

    def leave(self) -> None:
        """Close it when nobody uses it any more, and nobody knows it.

        In another thread nothing can be taken out: it stays for the next mux.
        """
        self._users -= 1
        if self._users or self._ends is None or not _is_main_thread():
            return
        there = _set(-1)
        is_ours = there == self._writer  # perhaps lent: an exception came in between
        _put_back(self._theirs if is_ours else there)
        if self._is_placed:
            self._is_known = not is_ours and (there != -1 or self._is_known)
            self._is_placed = False
        if not self._is_known:
            self._close()

    def _close(self) -> None:
        ends, self._ends = self._ends, None
        for end in ends or ():
            end.close()

    def _forget(self) -> None:
        """Let go of it in a forked child, where it would wake the parent."""
        if self._ends is not None:
            there = _set(-1)
            _put_back(self._theirs if there == self._writer else there)
            self._close()
        self._users = 0
        self._is_placed = self._is_known = False
        self._theirs = -1


_set = partial(signal.set_wakeup_fd, warn_on_full_buffer=False)


def _put_back(fd: int) -> bool:
    """Put somebody else's in place; False if there is none, or it is closed."""
    if fd < 0:
        return False
    try:
        _set(fd)
    except (OSError, ValueError):
        return False
    return True


_line = _Line()


class _Lending:
    """Waits as another one does, with ours in place meanwhile."""

    def __init__(self, waiter: Waiter) -> None:
        self.waiter = waiter

    def wait(self, selector: selectors.BaseSelector, timeout: float | None) -> Ready:
        """Return what is ready, as `select()` does."""
        if timeout == 0 or not _is_main_thread():
            return self.waiter.wait(selector, timeout)
        try:
            _line.lend()
            return self.waiter.wait(selector, timeout)
        finally:
            _line.take_back()


class Wakeup(Internal):
    """Wakes one mux at each signal, as long as it is the main thread that waits with it."""

    __slots__ = ("_is_user", "_mailbox", "_poller")

    def __init__(self, poller: Poller, mailbox: Mailbox) -> None:
        super().__init__(-1)
        self._poller = poller
        self._mailbox = mailbox
        self._is_user = False

    def watch(self) -> None:
        """Have signals wake the mux from now on, if this is the main thread; twice is once."""
        if not _is_main_thread():
            return
        if not self._is_user:
            _line.join()
            self._is_user = True
        self.fd = _line.reader
        self._poller.arm(self)
        self.see_to()

    def see_to(self) -> None:
        """See whether ours is in place, or who else's is."""
        if self.fd < 0 or not _is_main_thread():
            return
        waiter = self._poller.waiter
        if _line.place():
            if isinstance(waiter, _Lending):
                self._poller.waiter = waiter.waiter
        elif not isinstance(waiter, _Lending):
            self._poller.waiter = _Lending(waiter)

    def readable(self) -> None:
        """Have the mux see what the handlers have noted, in this turn."""
        if not _is_main_thread():  # it is not this one that is to be woken
            self.fd = -1
            return
        _line.drain()
        self._mailbox.readable()

    def close(self) -> None:
        """Do not wait for it any more."""
        self.fd = -1
        if self._is_user:
            self._is_user = False
            _line.leave()

    def abandon(self) -> None:
        """Forget it, in a forked child."""
        self.fd = -1
        self._is_user = False
