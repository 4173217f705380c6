"""A client of TLS whose bytes a test moves itself, and so may cut, spoil and leave out."""

from __future__ import annotations

import ssl
from contextlib import suppress

from support.certificates import client_context

__all__ = ["ByHand", "alert"]


class ByHand:
    """One end of TLS without a socket.

    Args:
        context: default is one that trusts our authority.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        context = client_context() if context is None else context
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")

    def hello(self) -> bytes:
        """Return what a client says first."""
        assert not self.take(b"")
        return self.to_send()

    def take(self, data: bytes) -> bool:
        """Take what the server has sent; return whether the handshake is through."""
        self._in.write(data)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def to_send(self) -> bytes:
        """Return what is to be sent to the server."""
        return self._out.read()

    def write(self, data: bytes) -> bytes:
        """Return the records of some data."""
        self._tls.write(data)
        return self.to_send()

    def read(self, data: bytes) -> bytes:
        """Take what the server has sent; return what it says."""
        self._in.write(data)
        found = b""
        with suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while piece := self._tls.read(65536):
                found += piece
        return found

    def close(self) -> bytes:
        """Return what ends our side: close_notify."""
        with suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        return self.to_send()


def alert(level: int, description: int) -> bytes:
    """Return an alert as it is before there are keys (RFC 8446, section 6)."""
    return bytes((21, 3, 3, 0, 2, level, description))
