"""What a server is to do on its next turn: asked for at any moment, done when the loop turns.

A finalizer may run in the middle of anything, and in any thread. So it leaves a note here, which
is one append, and the mux is woken to have it done. This file knows no peers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from eventmux.events import Event
from rpcasync._log import log

__all__ = ["Notes"]


class Notes:
    """The notes of one server.

    Without `push_event` and `post` of the mux, what is noted is done with the next event.
    """

    __slots__ = ("_post", "_push_event", "actions", "is_woken", "wake_event")

    def __init__(self, mux: object) -> None:
        self._push_event = getattr(mux, "push_event", None)
        self._post = getattr(mux, "post", self._push_event)
        self.actions: deque[Callable[[], None]] = deque()  # empty: there is nothing to do
        self.wake_event = Event()  # tells the server to look what there is to do
        self.is_woken = False  # that event is on its way

    def add(self, action: Callable[[], None]) -> None:
        """Remember what to do, and no more: this runs in finalizers."""
        self.actions.append(action)
        self._wake(self._post)

    def wake(self) -> None:
        """Have `wake_event` come; not for finalizers."""
        self._wake(self._push_event)

    def _wake(self, push: Callable[[Event], None] | None) -> None:
        if not self.is_woken and push is not None:
            self.is_woken = True
            push(self.wake_event)

    def do(self) -> None:
        """Do what was noted."""
        while self.actions:
            try:
                self.actions.popleft()()
            except Exception:  # noqa: BLE001  # a codec of the program's own may raise anything
                log.exception("a callback or call that was dropped could not be told so")
