"""TLS sessions that clients may take up again: a handshake that asks for less.

A server gives tickets, of which one connects the next time, with the same context and for the same
name. Each is used once, as RFC 8446 (appendix C.4) has it, so that nobody who listens can tell that
two connections are of one client.

This file knows nothing of sockets.
"""

from __future__ import annotations

from collections import OrderedDict
from ssl import SSLContext, SSLSession

from eventmux._channels.options import ChannelOptions

__all__ = ["Sessions"]

_MOST = 64  # that are kept; a session keeps its context

_Key = tuple[SSLContext, str]


class Sessions:
    """Those of one mux, by context and name; what was kept for longest goes first."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: OrderedDict[_Key, SSLSession] = OrderedDict()

    def take(self, options: ChannelOptions) -> SSLSession | None:
        """Take the session for a connection with these options; None if there is none."""
        key = _key(options)
        return None if key is None else self._kept.pop(key, None)

    def keep(self, options: ChannelOptions, session: SSLSession | None) -> None:
        """Keep what a connection with these options has come by."""
        key = _key(options)
        if key is not None and session is not None:
            self._kept[key] = session
            self._kept.move_to_end(key)
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)


def _key(options: ChannelOptions) -> _Key | None:
    """Return by what a session is found; only clients that know the name of the server have any."""
    if options.tls is None or options.server_side or options.server_hostname is None:
        return None
    return options.tls, options.server_hostname
