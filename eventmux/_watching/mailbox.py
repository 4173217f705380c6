"""What comes from outside the mux's own thread: events, and a bell that wakes a waiting mux.

A thread that posts, and a signal handler, put a note into a deque and ring; the poller waits for
the bell, and the mux deals with the notes in a turn of its own.

This file knows nothing of what is posted.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable
from itertools import islice, repeat

from eventmux._waiting.pollable import Internal
from eventmux.events import Event

__all__ = ["Mailbox"]


class Mailbox(Internal):
    """Events from other threads, and a bell that wakes the mux."""

    __slots__ = ("_bell", "_is_closed", "_lock", "_posted", "_rope", "_tasks", "is_rung")

    def __init__(self) -> None:
        self._bell, self._rope = socket.socketpair()
        for end in (self._bell, self._rope):
            end.setblocking(False)
        # A signal handler may ring while its own thread is ringing.
        self._lock = threading.RLock()
        self._posted: deque[Event] = deque()
        self._tasks: deque[Callable[[], None]] = deque()
        self._is_closed = False
        self.is_rung = False
        super().__init__(self._bell.fileno())

    def __len__(self) -> int:
        """Return how much was posted and not taken."""
        return len(self._posted) + len(self._tasks)

    def count_events(self) -> int:
        """Return how many events were posted and not taken."""
        return len(self._posted)

    def newest(self, count: int) -> list[Event]:
        """Return the last so many that were posted, from the last on."""
        return list(islice(reversed(self._posted), max(0, count)))

    def post(self, *events: Event) -> None:
        """Leave events, and wake the mux; from any thread."""
        with self._lock:
            if not self._is_closed:  # else it would stay in memory
                self._posted.extend(events)
                self.ring()

    def ask(self, task: Callable[[], None]) -> None:
        """Leave what the mux is to do, and wake it; from any thread."""
        with self._lock:
            if not self._is_closed:
                self._tasks.append(task)
                self.ring()

    def ring(self) -> None:
        """Wake the mux."""
        with self._lock, contextlib.suppress(OSError):  # it rings already, or the mux is closed
            self._rope.send(b"\0")

    def readable(self) -> None:
        """Silence the bell."""
        self.is_rung = True
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(4096)  # once: others may ring faster than this one reads

    def empty(self, queue: deque[Event]) -> None:
        """Do what was asked for, and move what was posted to the end of a queue.

        What comes meanwhile is left, and rings for itself. It may be interrupted wherever a
        function of Python's has been called: a task is then done again, and the events are moved
        by C code alone.
        """
        for _ in range(len(self._tasks)):
            self._tasks[0]()
            del self._tasks[0]
        queue.extend(map(deque.popleft, repeat(self._posted, len(self._posted))))

    def close(self) -> None:
        """Close the bell; ringing does nothing any more."""
        with self._lock:
            self._is_closed = True
            self._posted.clear()
            self._tasks.clear()
            self._bell.close()
            self._rope.close()

    def __del__(self) -> None:
        """Close the bell of a mux that was let go without its end: it is no leak of the program."""
        if hasattr(self, "_rope"):  # else there was no descriptor left for it
            self._bell.close()
            self._rope.close()

    def abandon(self) -> None:
        """Let go of a bell that a forked child shares with its parent."""
        self._lock = threading.RLock()  # a thread that is not here any more may have had it
        self.close()
