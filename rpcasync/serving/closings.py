"""What the program wants to do when a client has gone.

It is done from `io()`, in the next turn: a client may be found to have gone in the middle of
anything, in `return_()` say. Nothing is kept of the call that it was asked for in, so that one
which is forgotten is still found to be.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from weakref import ref

from rpcasync._log import fields, log, shorten
from rpcasync.serving.callers import Caller
from rpcasync.serving.notes import Notes
from rpcasync.serving.peer import Peer

__all__ = ["Closing", "Closings"]


class Closing:
    """A function that is to be called, as `Server.on_close()` returns it, until it is cancelled."""

    __slots__ = ("_caller", "_peer", "function", "id", "procedure")

    def __init__(self, caller: Caller, function: Callable[[Caller], object]) -> None:
        self._caller = ref(caller)
        self._peer = caller._peer
        self.function = function
        self.id = caller.id
        self.procedure = caller.procedure

    def cancel(self) -> None:
        """Do not call it after all; twice is once, and so is behind its call."""
        self._peer.with_extras().closings.pop(self, None)

    @property
    def caller(self) -> Caller:
        """The call that it was asked for in; if nobody has kept that, another one like it."""
        caller = self._caller()
        if caller is None:
            caller = Caller(self.id, self.procedure, [])
            caller._peer, caller.answered = self._peer, True
        return caller


class Closings:
    """Those of one server.

    Args:
        notes: has them called in the next turn.
    """

    __slots__ = ("_notes", "due")

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self.due: dict[Peer, None] = {}
        """The clients that have gone, and whose functions are still to be called."""

    def add(self, caller: Caller, function: Callable[[Caller], object]) -> Closing:
        """Have a function called when the client has gone; soon, if it has already."""
        closing, peer = Closing(caller, function), caller._peer
        peer.with_extras().closings[closing] = None
        if peer.gone:
            self.forget(peer)
        return closing

    def forget(self, peer: Peer) -> None:
        """Have the functions of a client called which has gone."""
        if peer.extras is not None and peer.extras.closings and peer not in self.due:
            self._notes.add(partial(self._tell, peer))
            self.due[peer] = None  # last: should it be interrupted before, it is noted twice

    def _tell(self, peer: Peer) -> None:
        """Call the functions in order. One that Ctrl-C interrupts is called again."""
        closings = peer.with_extras().closings
        for closing in tuple(closings):
            if closing not in closings:  # cancelled by one before
                continue
            try:
                # This is where the program's code is called.
                closing.function(closing.caller)
            except Exception as error:  # noqa: BLE001  # the others are to be called all the same
                name = shorten(closing.procedure)
                extra = fields(peer=peer.name, procedure=name, call=closing.id)
                log.error("on_close() of procedure %s failed", name, exc_info=error, extra=extra)
            closings.pop(closing, None)
        if closings:  # one of them has asked for more
            self._notes.add(partial(self._tell, peer))
        else:
            self.due.pop(peer, None)
