"""How a connection in a loop of asyncio is encrypted: by asyncio itself, as it is told here.

The options are those of the other clients, where the mux looks after them; and so is what is said
of a connection that has failed. asyncio itself imports `ssl`, so that it costs nothing here.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import Any

from eventmux._tls.texts import explained
from eventmux._tls.usual import name_of, usual_context
from eventmux.urls import parse_url
from rpcasync.children.programs import parse_program
from rpcasync.urls import is_tls_url

__all__ = ["Encryption", "is_of_tls", "reason_of"]

_TIMEOUT = 10.0  # seconds for the handshake, as `EventMux` has it


@dataclass(frozen=True, slots=True)
class Encryption:
    """TLS of one connection.

    Args:
        context: what the program has given; None is the usual one.
        name: the name that the certificate has to be for; None is none.
    """

    context: ssl.SSLContext | None
    name: str | None

    @classmethod
    def of(
        cls, server: str | socket.socket, tls: ssl.SSLContext | None, name: str | None
    ) -> Encryption | None:
        """Return how a server is to be connected to; None is plain.

        Raises:
            URLError: the URL is one of TLS, and not understood.
            TypeError: `tls` is no context.
            ValueError: there is a context for a program that is started; or a name, and no
                context; or no name, and the context asks for it.
        """
        url = server if isinstance(server, str) else ""
        if tls is None and not is_tls_url(url):
            if name is not None:
                raise ValueError(f"server_hostname is {name!r}, but there is no tls")
            return None
        if tls is not None and not isinstance(tls, ssl.SSLContext):
            raise TypeError(f"tls is {tls!r}, must be an ssl.SSLContext")
        if parse_program(url) is not None:
            raise ValueError(f"tls is for tls://host:port, but {url!r} is none")
        if name is None and url.startswith(("tls://", "tcp://")):
            name = name_of(parse_url(url).host or "localhost")
        if name is None and tls is not None and tls.check_hostname:
            raise ValueError("server_hostname is missing: the name that the certificate is for")
        return cls(tls, name)

    def options(self) -> dict[str, Any]:
        """Return what `create_connection()` of a loop takes."""
        return {
            "ssl": self.context or usual_context(),
            "server_hostname": self.name or "",  # None would be the host
            "ssl_handshake_timeout": _TIMEOUT,
        }


def is_of_tls(error: BaseException) -> bool:
    """Return True for an error of TLS, whose number is none of the system's."""
    return isinstance(error, ssl.SSLError)


def reason_of(error: Exception) -> str:
    """Return why a connection has failed or ended; of TLS, in the words of eventmux."""
    if isinstance(error, ssl.SSLError):
        return str(explained(error, is_up=False, first=b""))  # asyncio does not tell what has come
    if isinstance(error, ConnectionResetError) and not error.args:  # its end in the handshake
        return str(explained(ssl.SSLEOFError(), is_up=False, first=b""))
    return getattr(error, "strerror", None) or str(error)
