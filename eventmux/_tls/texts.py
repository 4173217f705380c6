"""Why a TLS connection has failed, for people to read.

OpenSSL says it in the words of its source, `[SSL: WRONG_VERSION_NUMBER] wrong version number
(_ssl.c:1006)`. What happens to users is said in other words here; its own follow in brackets, since
that is what people search for.

This file knows nothing of sockets.
"""

from __future__ import annotations

import re
import ssl

from eventmux.errors import TLSError

__all__ = ["explained"]

_TRUNCATED = "the connection ended without close_notify: what came may be cut off"
_BROKE_OFF = "the peer ended the connection in the middle of the handshake"
# What an alert of the peer means, by the name that OpenSSL has for it.
_ALERTS = {
    "UNKNOWN_CA": "the peer does not trust our certificate: its authority is unknown there",
    "BAD_CERTIFICATE": "the peer does not accept our certificate",
    "UNSUPPORTED_CERTIFICATE": "the peer does not accept certificates of our kind",
    "CERTIFICATE_REVOKED": "the peer does not accept our certificate: it is revoked",
    "CERTIFICATE_EXPIRED": "the peer does not accept our certificate: it has expired",
    "CERTIFICATE_UNKNOWN": "the peer does not accept our certificate",
    "CERTIFICATE_REQUIRED": "the peer requires a certificate, and none was shown",
    "ACCESS_DENIED": "the peer does not let us in",
    "HANDSHAKE_FAILURE": "the peer finds nothing that both sides can do, or misses a certificate",
    "PROTOCOL_VERSION": "the peer does not speak our versions of TLS",
    "INSUFFICIENT_SECURITY": "the peer finds our ciphers too weak",
    "NO_APPLICATION_PROTOCOL": "no application protocol (ALPN) is common to both sides",
    "UNRECOGNIZED_NAME": "the peer does not know the name that we asked for",
    "USER_CANCELLED": "the peer has cancelled the handshake",
    "INTERNAL_ERROR": "the peer has failed",
}
# What we found out ourselves.
_OWN = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer has shown no certificate, and one is required",
    "NO_SHARED_CIPHER": "no cipher is common to both sides, or our context has no certificate",
    "UNSUPPORTED_PROTOCOL": "no version of TLS is common to both sides",
    "NO_PROTOCOLS_AVAILABLE": "the context allows no version of TLS",
    "VERSION_TOO_LOW": "the peer speaks only versions of TLS that are too old",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "our certificate has no signature that the peer knows",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "what came was changed on its way",
}
_NO_TLS = {"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST"}
_ALERT = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_ALERT_(\w+)|TLSV1_(UNRECOGNIZED_NAME)")
_SHOWN = 20  # bytes


def explained(error: ssl.SSLError, is_up: bool, first: bytes) -> TLSError:
    """Return an error whose text says what is wrong.

    Args:
        error: what OpenSSL says.
        is_up: whether the handshake was through.
        first: the first bytes that the peer has sent; none if they are not known.
    """
    if isinstance(error, ssl.SSLEOFError):
        failure = TLSError(_TRUNCATED if is_up else _BROKE_OFF)
    else:
        reason = getattr(error, "reason", None) or ""
        own = reason.lower().replace("_", " ") or error.strerror or type(error).__name__
        failure = TLSError(f"{_text(error, reason, first)} ({own})", reason or None)
    failure.__cause__ = error
    return failure


def _text(error: ssl.SSLError, reason: str, first: bytes) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of the peer is not accepted: {error.verify_message.rstrip('.')}"
    if reason in _NO_TLS:
        is_http = reason.startswith("HTTP") or first.startswith(b"HTTP/")
        spoken = "HTTP" if is_http else repr(first[:_SHOWN]) if first else ""
        return "the peer does not speak TLS" + (f", but {spoken}" if spoken else "")
    alert = _ALERT.fullmatch(reason)
    name = "" if alert is None else alert[1] or alert[2]
    return _ALERTS.get(name) or _OWN.get(reason) or "TLS has failed"
