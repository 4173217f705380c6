"""Why a TLS connection has failed, in words for whoever has to mend it.

OpenSSL says it for those who know OpenSSL: `[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca
(_ssl.c:1006)`. An alert is what the other end has said of us.

This file knows text alone, and needs no `ssl`.
"""

from __future__ import annotations

import re

__all__ = ["in_words"]

_OPENSSL = re.compile(
    r"\[(?:SSL|X509|PEM)(?:: (?P<name>\w+))?\] (?P<text>.*?)(?: \(_ssl\.c:\d+\))?", re.DOTALL
)
_VERIFY = "certificate verify failed: "

# By OpenSSL's names, of which some differ between its versions.
_WORDS = {
    "WRONG_VERSION_NUMBER": "the other end does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "both ends have no version of TLS in common",
    "TLSV1_ALERT_PROTOCOL_VERSION": "both ends have no version of TLS in common",
    "TLSV1_ALERT_UNKNOWN_CA": "the other end does not know who has issued our certificate, or its"
    " own is not trusted by us",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server wants to see a certificate",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client shows no certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the other end refuses the handshake; it may want to see a"
    " certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the other end refuses our certificate",
    "TLSV1_ALERT_DECRYPT_ERROR": "the other end refuses our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the other end refuses our certificate",
    "TLSV1_UNRECOGNIZED_NAME": "the server has no certificate for that name",
}


def in_words(reason: str) -> str:
    """Return the reason; if it is one of OpenSSL's, in words.

    >>> from rpcasync.alerts import in_words
    >>> in_words("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed"
    ...     " certificate (_ssl.c:1006)")
    'the certificate of the other end is not trusted: self-signed certificate'
    >>> in_words("Connection refused")
    'Connection refused'
    """
    match = _OPENSSL.fullmatch(reason)
    if match is None:
        return reason
    text = match["text"]
    if text.startswith(_VERIFY):
        why = text.removeprefix(_VERIFY).rstrip(".")
        return f"the certificate of the other end is not trusted: {why}"
    return _WORDS.get(match["name"] or "", f"TLS: {text}")
