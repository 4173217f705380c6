"""How a connection in a loop of asyncio is encrypted: by asyncio itself, as it is told here.

The options are those of the other clients, where the mux looks after them.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventmux.urls import parse_url
from rpcasync.children.programs import parse_program

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["Encryption"]

_TIMEOUT = 10.0  # seconds for the handshake, as `EventMux` has it


@dataclass(frozen=True, slots=True)
class Encryption:
    """TLS of one connection.

    Args:
        context: what the program has given; None is the usual one.
        name: the name that the certificate has to be for; None is none.
    """

    context: SSLContext | None
    name: str | None

    @classmethod
    def of(
        cls, server: str | socket.socket, tls: SSLContext | None, name: str | None
    ) -> Encryption | None:
        """Return how a server is to be connected to; None is plain.

        Raises:
            URLError: the URL is one of TLS, and not understood.
            TypeError: `tls` is no context.
            ValueError: there is a context for a program that is started; or a name, and no
                context; or no name, and the context asks for it.
        """
        url = server if isinstance(server, str) else ""
        if tls is None and not url.startswith("tls://"):
            if name is not None:
                raise ValueError(f"server_hostname is {name!r}, but there is no tls")
            return None
        if tls is not None:
            _check_context(tls)
        if parse_program(url) is not None:
            raise ValueError(f"tls is for tls://host:port, but {url!r} is none")
        if name is None and url.startswith(("tls://", "tcp://")):
            host = parse_url(url).host or "localhost"
            name = host.partition("%")[0].removesuffix(".")  # no zone, and no root
        if name is None and tls is not None and tls.check_hostname:
            raise ValueError("server_hostname is missing: the name that the certificate is for")
        return cls(tls, name)

    def options(self) -> dict[str, Any]:
        """Return what `create_connection()` of a loop takes."""
        context = self.context
        if context is None:
            import ssl  # it takes a while, and most connections are plain

            context = ssl.create_default_context()
        return {
            "ssl": context,
            "server_hostname": self.name or "",  # None would be the host
            "ssl_handshake_timeout": _TIMEOUT,
        }


def _check_context(tls: object) -> None:
    import ssl  # whoever has a context has it already

    if not isinstance(tls, ssl.SSLContext):
        raise TypeError(f"tls is {tls!r}, must be an ssl.SSLContext")
