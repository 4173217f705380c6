"""Who is let in to a server, and how many of them.

The program says who: it is asked once for each connection, before anything is looked at that came
over it. Whatever goes wrong with the question is a no.

How many says `max_clients`. When all places are taken, the listeners pause: who comes then waits in
the kernel's queue, as at a server that is busy. A mux accepts some at a time, and a TLS handshake
may have been under way. So a few may be there that were accepted already: they wait here, unread.

This file calls the program's code in one line, in `_asks()`. It serves nobody.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from rpcasync._log import fields, log
from rpcasync.serving.identity import Identity, described, name_of
from rpcasync.serving.peers import Peers
from rpcasync.serving.sharing import Sharing

__all__ = ["Authorize", "Entrance", "Waiting", "check_authorize"]

Authorize = Callable[[Identity], bool]
"""Says whether somebody is let in."""

_MOST_WAITING = 64  # connections that were accepted, and have no place


def check_authorize(authorize: object) -> None:
    """See that something can be asked.

    Raises:
        TypeError: it cannot be called.
    """
    if authorize is not None and not callable(authorize):
        raise TypeError(f"authorize is {authorize!r}, must be a function of a peer, or None")


class Waiting:
    """A connection that was let in and has no place yet: whose it is, and what came of it."""

    __slots__ = ("events", "identity")

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.events: deque[Any] = deque()  # few: nothing more is read


class Entrance:
    """That of one server.

    Args:
        mux: what the listeners are watched by. Without `want_read`, there is no limit.
        peers: who is in, and tells when one has gone.
        let_in: serves one that has waited, and has a place now.
    """

    __slots__ = (
        *("_awaited", "_is_paused", "_let_in", "_peers", "_share_at", "_shared", "_turns"),
        *("_uids", "_want_read", "authorize", "listeners", "max_clients", "waiting"),
    )

    def __init__(
        self, mux: object, peers: Peers, let_in: Callable[[socket.socket, Waiting], None]
    ) -> None:
        self._want_read = getattr(mux, "want_read", None)
        self._awaited = getattr(mux, "_awaited", None)
        self._share_at: Any = getattr(mux, "_take_turns", None)
        self._turns: Sharing | None = None  # of the processes that accept here
        self._shared: WeakSet[socket.socket] = WeakSet()  # the listeners where they do
        self._peers = peers
        self._let_in = let_in
        self._is_paused = False  # the listeners are
        self.authorize: Authorize | None = None  # None lets in everybody
        self.max_clients: int | None = None  # None is no limit
        self.listeners: dict[socket.socket, None] = {}
        """Those of the server that are open."""
        # The users that one lets in. A closed one may have accepted somebody before.
        self._uids: WeakKeyDictionary[socket.socket, frozenset[int]] = WeakKeyDictionary()
        self.waiting: dict[socket.socket, Waiting] = {}
        """Those that were accepted, and have no place: the first has waited longest."""

    # Who

    def admits(
        self, sock: socket.socket, identity: Identity, listener: socket.socket | None = None
    ) -> bool:
        """Return whether somebody is let in; if not, the log says who it was.

        Args:
            sock: the connection.
            identity: who it is.
            listener: what has accepted it; None if the program has it from elsewhere.
        """
        uids = None if listener is None else self._uids.get(listener)
        why = "" if uids is None else _why_not_of(uids, identity)
        if not why and self.authorize is not None:
            why = self._asks(self.authorize, sock, identity)
        if why:
            name = name_of(sock, identity)
            who = described(name, identity)
            log.warning("client %s refused: %s", who, why, extra=fields(peer=name))
        return not why

    def _asks(self, authorize: Authorize, sock: socket.socket, identity: Identity) -> str:
        """Ask the program; return why somebody is not let in, "" if he is."""
        try:
            # This is where the program's code is called.
            answer = authorize(identity)
        except Exception as error:  # noqa: BLE001  # whatever it is, nobody else suffers
            name = name_of(sock, identity)
            extra = fields(peer=name)
            log.error("authorize() of client %s failed", name, exc_info=error, extra=extra)
            return "authorize() failed"
        if answer is True:
            return ""
        # A coroutine, or a text that says "no", would be as good as True.
        return f"authorize() returned {'False' if answer is False else _not_bool(answer)}"

    # How many

    def is_full(self) -> bool:
        """Return whether all places are taken."""
        limit = self.max_clients
        return limit is not None and self._want_read is not None and self._count() >= limit

    def _count(self) -> int:
        """Return how many are in. Who is on his way out has his place until he is gone."""
        peers = self._peers
        leaving = sum(peer is not None and not peer.is_inner for peer in peers.leaving.values())
        return len(peers.by_fh) - len(peers.inner) + leaving

    def hold(self, sock: socket.socket, identity: Identity) -> None:
        """Have a connection wait for a place, unless too many do."""
        if sock in self.waiting:
            return
        if len(self.waiting) >= _MOST_WAITING:
            name = name_of(sock, identity)
            log.warning(
                "client %s refused: %d clients are connected, and %d wait already",
                *(described(name, identity), self._count(), len(self.waiting)),
                extra=fields(peer=name),
            )
            self._peers.refuse(sock)
            return
        self._read(sock, False)
        self.waiting[sock] = Waiting(identity)

    def look(self) -> None:
        """Let in who waits, if there is room now; have the listeners pause, or go on."""
        while self.waiting and not self.is_full():
            sock, waiting = next(iter(self.waiting.items()))
            self._let_in(sock, waiting)
            self.waiting.pop(sock, None)
            self._read(sock, True)
        is_full = self.is_full()
        self._peers.on_room = self.look if is_full else None
        if is_full == self._is_paused:
            return
        for listener in tuple(self.listeners):
            self._read(listener, not is_full)
        self._is_paused = is_full  # last: should it be interrupted before, it is done again
        self._tell_turns()
        if is_full:
            log.warning(
                "%d clients are connected, limit is %d: others wait until one has gone",
                *(self._count(), self.max_clients),
            )

    def add_listener(self, sock: socket.socket, uids: frozenset[int] | None) -> None:
        """Note a listener; it pauses if all places are taken."""
        if uids is not None:
            self._uids[sock] = uids  # first: nobody else may come in
        self.listeners[sock] = None
        if self._is_paused:
            self._read(sock, False)

    def remove_listener(self, sock: socket.socket) -> None:
        """Note that a listener is closed."""
        self.listeners.pop(sock, None)
        self._tell_turns()

    def pause(self, sock: socket.socket) -> None:
        """Accept nobody at a listener for now, whatever the number of places."""
        self._read(sock, False)

    def close(self) -> None:
        """Let nobody in any more who has no place."""
        for sock in tuple(self.waiting):
            self._peers.refuse(sock)
            self.waiting.pop(sock, None)

    # Other processes that accept here

    def share(self, turns: Sharing) -> None:
        """Take turns with them, at listeners that they have, too.

        Raises:
            TypeError: the mux cannot do that.
        """
        if self._share_at is None:
            raise TypeError("rpcasync listen --workers needs an EventMux")
        self._turns = turns
        turns.join(self.count_shared)
        self._peers.on_gone = turns.update

    def share_listener(self, sock: socket.socket) -> None:
        """Note a listener that others have, too."""
        if self._turns is not None:
            self._share_at(sock, self._turns)
            self._shared.add(sock)
            self._turns.update()

    def count_shared(self) -> int | None:
        """Return how many are here, with those who have yet to say who they are.

        Returns:
            None if nobody is accepted where others accept, too.
        """
        if self._is_paused or not any(sock in self.listeners for sock in self._shared):
            return None
        here = len(self._peers.by_fh) - len(self._peers.inner) + len(self.waiting)
        return here if self._awaited is None else here + sum(map(self._awaited, self.listeners))

    def _tell_turns(self) -> None:
        if self._turns is not None:
            self._turns.update()

    def _read(self, sock: socket.socket, wanted: bool) -> None:
        if self._want_read is not None:
            with contextlib.suppress(KeyError):  # it has gone
                self._want_read(sock, wanted)


def _why_not_of(uids: frozenset[int], identity: Identity) -> str:
    """Return why a listener does not let in somebody, "" if it does.

    Behind a proxy, who connects to our path is the proxy.
    """
    connects = identity if identity.proxy is None else identity.proxy
    if connects.credentials is None:
        return "the system does not tell its user, and only some are allowed"
    uid = connects.credentials.uid
    return "" if uid in uids else f"user {uid} is not among those that are allowed"


def _not_bool(answer: object) -> str:
    return f"{type(answer).__name__}, must be True or False"
