"""A peer that speaks another protocol, known by the first bytes that it sends.

They would be the length of a packet of some hundred megabytes, and nobody who reads that in a log
would think of a port that is mixed up. So what they are is said in its place, and what to do.

Only a length that is refused is looked at here, so others do not pay for it.
"""

from __future__ import annotations

from rpcasync.errors import ProtocolError

__all__ = ["named"]

_PROXY = "a PROXY header: listen(..., proxy='require', trusted=[...]) for clients behind proxies"
_HELLO = "a TLS handshake: listen at tls:// for clients with TLS"
_ALERT = "a TLS alert: tls:// is for peers with TLS"
_REQUEST = "an HTTP request"
_METHODS = ("GET ", "HEAD", "POST", "PUT ", "PATC", "DELE", "OPTI", "CONN", "TRAC", "PRI ")
_KNOWN: dict[bytes, str] = {
    b"PROX": _PROXY,
    b"\r\n\r\n": _PROXY,  # version 2
    b"HTTP": "an HTTP response",
    **dict.fromkeys((method.encode() for method in _METHODS), _REQUEST),
}
_TLS = {b"\x15\3": _ALERT, b"\x16\3": _HELLO}  # type of the record, and its major version


def named(head: bytes) -> ProtocolError | None:
    """Return the error for a peer whose first four bytes are of a protocol that is known."""
    what = _KNOWN.get(head) or _TLS.get(head[:2])
    return None if what is None else ProtocolError(f"it sent {what}")
