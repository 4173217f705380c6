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

    __slots__ = ("_post", "_push_event", "actions", "can_wake", "is_woken", "wake_event")

    def __init__(self, mux: object) -> None:
        self._push_event = getattr(mux, "push_event", None)
        self.can_wake = self._push_event is not None
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

    def wake_later(self) -> None:
        """Have `wake_event` come once the mux has looked at its handles."""
        self._wake(self._post)

    def _wake(self, push: Callable[[Event], None] | None) -> None:
        if not self.is_woken and push is not None:
            self.is_woken = True
            push(self.wake_event)

    def io(self, event: Event) -> bool:
        """Take an event; return whether it was `wake_event`."""
        if event is not self.wake_event:
            return False
        self.is_woken = False  # not sooner: one of them on its way is enough
        return True

    def hand_back(self, event: Event) -> None:
        """Give an event back to the mux, which is not ours."""
        if self._push_event is not None:
            self._push_event(event)

    def recover(self) -> None:
        """See that the event comes: it is not known whether it is on its way."""
        self.is_woken = False
        self.wake()

    def do(self) -> None:
        """Do what was noted. What is interrupted is done again the next time, from its start."""
        action = None
        while self.actions:
            try:
                action = self.actions.popleft()
                action()
                action = None  # else it would be done again if the next `popleft()` is interrupted
            except Exception:  # noqa: BLE001  # a codec of the program's own may raise anything
                log.exception("a callback or call that was dropped could not be told so")
            except BaseException:  # Ctrl-C, say
                if action is not None:
                    self.actions.appendleft(action)
                raise
