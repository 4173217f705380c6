"""Who is at the other end of a connection, as far as that is known.

What the kernel says of it (address, credentials), what TLS has shown (certificate) and what a proxy
says (the PROXY header) are kept apart: each is to be trusted for another reason.

This file knows nothing of sockets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["Address", "Credentials", "Peer", "ProxyHeader", "ProxySSL", "TLSSession"]

Address = tuple[str, int] | tuple[str, int, int, int] | str | bytes
"""A socket address as the `socket` module gives it: IPv4, IPv6, or the path of a UNIX socket."""


class Credentials(NamedTuple):
    """The process at the other end of a UNIX socket when it connected, as the kernel says."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class TLSSession:
    """What a TLS handshake came to.

    Args:
        version: "TLSv1.2", "TLSv1.3"...
        cipher: the name of the cipher suite, as OpenSSL has it.
        alpn: the application protocol that both sides agreed on (RFC 7301), None without one.
        server_name: the name that the client asked for (SNI, RFC 6066), None without one.
        resumed: whether an earlier session was taken up again.
    """

    version: str
    cipher: str
    alpn: str | None = None
    server_name: str | None = None
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What a proxy said of the connection that it passes on, by the PROXY protocol.

    Source: https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt

    Args:
        version: of the protocol, 1 or 2.
        source: who has connected to the proxy; None if the proxy speaks for itself (`LOCAL`, as
            its health checks do) or does not know (`UNKNOWN`, `UNSPEC`).
        destination: the address that was connected to; None as for `source`.
        alpn: the application protocol of the client (RFC 7301), None if not told.
        authority: the host name that the client asked for (SNI), None if not told.
        unique_id: of the connection, up to 128 bytes of the proxy's choice, None if not told.
        namespace: the name of the network namespace, None if not told.
        ssl: what the proxy said of TLS between the client and itself; None if that had none, or
            nothing was told.
        tlvs: all that it said, by type; of a type unknown here that comes twice, the last.
        address: of the proxy itself, as the kernel has it.
        credentials: of the proxy itself, where it comes through a UNIX socket.
        is_local: whether the proxy speaks for itself (`LOCAL`).
    """

    version: int
    source: Address | None = None
    destination: Address | None = None
    alpn: bytes | None = None
    authority: str | None = None
    unique_id: bytes | None = None
    namespace: str | None = None
    ssl: ProxySSL | None = None
    tlvs: dict[int, bytes] = field(default_factory=dict)
    address: Address | None = None
    credentials: Credentials | None = None
    is_local: bool = False


@dataclass(frozen=True, slots=True)
class ProxySSL:
    """What a proxy said of the TLS connection of a client, which ends at it.

    Args:
        verified: whether the client has shown a certificate that the proxy has verified. Without
            it, `common_name` is only what somebody claims.
        verify_result: what came of verifying it, as X509_verify_cert_error_string(3) has the
            numbers; 0 is no error, also where there was no certificate.
        has_certificate: whether it has shown one over this connection.
        had_certificate: whether it has shown one at least once in this TLS session.
        version: "TLSv1.3" and such.
        common_name: of the subject of its certificate, None if not told.
        cipher: the name of the cipher suite, None if not told.
        signature_algorithm: by which the proxy's certificate is signed, None if not told.
        key_algorithm: of the proxy's certificate, such as "RSA2048", None if not told.
        tlvs: all of it, by type; of a type unknown here that comes twice, the last.
    """

    verified: bool
    verify_result: int = 0
    has_certificate: bool = False
    had_certificate: bool = False
    version: str | None = None
    common_name: str | None = None
    cipher: str | None = None
    signature_algorithm: str | None = None
    key_algorithm: str | None = None
    tlvs: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Peer:
    """Who is at the other end.

    Args:
        address: where it is; behind a proxy that is trusted, what the proxy says. None if that is
            not known any more.
        credentials: of the process, for UNIX sockets on Linux, else None. Who comes through a
            proxy has none: those of the proxy are in `proxy`.
        certificate: of the peer, verified, as `ssl.SSLSocket.getpeercert()` gives it; None without
            one.
        tls: what the handshake came to, None for plain connections.
        proxy: what a trusted proxy said, None without one.
    """

    address: Address | None
    credentials: Credentials | None = None
    certificate: dict[str, Any] | None = None
    tls: TLSSession | None = None
    proxy: ProxyHeader | None = None
