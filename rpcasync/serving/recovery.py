"""What is done when a turn of a server was cut short: by Ctrl-C, say, or as memory ran out.

Nobody knows how far it had come. So the event is taken once more, if it was not done with, and all
clients get a turn: no call is lost.

This file calls no procedures.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from rpcasync._log import log
from rpcasync.serving.alarms import Alarms
from rpcasync.serving.dispatch import Dispatcher
from rpcasync.serving.notes import Notes
from rpcasync.serving.peer import Peer
from rpcasync.serving.peers import OUT_OF_MEMORY, Peers

__all__ = ["Recovery"]


class Recovery:
    """That of one server.

    Args:
        peers: the clients.
        notes: has an event taken again in the next turn.
        alarms: may have lost their timer.
        dispatcher: may have left calls half done.
    """

    __slots__ = ("_alarms", "_dispatcher", "_notes", "_peers")

    def __init__(self, peers: Peers, notes: Notes, alarms: Alarms, dispatcher: Dispatcher) -> None:
        self._peers = peers
        self._notes = notes
        self._alarms = alarms
        self._dispatcher = dispatcher

    def run_out_of_memory(self, peer: Peer | None, error: MemoryError) -> None:
        """End the connection that was served."""
        if peer is None:
            log.error("out of memory", exc_info=error)
        elif not peer.gone:
            self._peers.kill(peer, OUT_OF_MEMORY)
        self._go_on()

    def interrupted(self, event: Any, take: Callable[[Any], Any], is_ours: bool) -> None:
        """See that all goes on.

        Args:
            event: one that may not be done with; None if there is none.
            take: takes it, and returns it if it was not the server's.
            is_ours: it was: it is handed back to nobody.
        """
        if event is not None and not self._is_fed(event):
            self._notes.actions.appendleft(partial(self._take_again, event, take, is_ours))
        self._go_on()

    def _go_on(self) -> None:
        self._alarms.recover()
        self._dispatcher.recover()

    def _is_fed(self, event: Any) -> bool:
        if event.type != "read" or not isinstance(event.fh, socket.socket):
            return False
        peer = self._peers.by_fh.get(event.fh)
        return peer is not None and peer.protocol.framing.has_fed(event.data)

    def _take_again(self, event: Any, take: Callable[[Any], Any], is_ours: bool) -> None:
        if take(event) is not None and not is_ours:
            self._notes.hand_back(event)
