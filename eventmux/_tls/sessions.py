"""TLS sessions that clients may take up again: a handshake that asks for less.

A server gives tickets, of which one connects the next time, with the same context and for the same
name. Each is used once, as RFC 8446 (appendix C.4) has it, so that nobody who listens can tell that
two connections are of one client.

This file knows nothing of sockets.
"""

from __future__ import annotations

from collections import OrderedDict
from ssl import SSLContext, SSLSession

__all__ = ["Sessions"]

_MOST = 64  # that are kept; a session keeps its context


class Sessions:
    """Those of one mux, by context and name; what was kept for longest goes first.

    A server, and a client that does not know the name of its server, have none: its name is None.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[SSLContext, str], SSLSession] = OrderedDict()

    def take(self, context: SSLContext, name: str | None) -> SSLSession | None:
        """Take the session for a connection to a server of a name; None if there is none."""
        return None if name is None else self._kept.pop((context, name), None)

    def keep(self, context: SSLContext, name: str | None, session: SSLSession | None) -> None:
        """Keep what such a connection has come by."""
        if name is not None and session is not None:
            self._kept[context, name] = session
            self._kept.move_to_end((context, name))
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
