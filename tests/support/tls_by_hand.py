"""A client of TLS whose bytes a test moves itself, and so may cut, spoil and leave out."""

from __future__ import annotations

import hmac
import ssl
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from support.certificates import client_context

__all__ = ["ByHand", "Records", "alert"]


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


class Records:
    """Makes records of TLS 1.3 that no library would: those of a client, behind its handshake.

    Args:
        keys: the file that its context was to log keys in (`keylog_filename`).
        hash_name: of the cipher suite, which is one of AES-GCM: "sha384" with keys of 256 bits.
    """

    def __init__(self, keys: Path, hash_name: str = "sha384") -> None:
        self._hash = hash_name
        lines = [line.split() for line in keys.read_text().splitlines()]
        [secret] = [words[2] for words in lines if words[0] == "CLIENT_TRAFFIC_SECRET_0"]
        self._begin(bytes.fromhex(secret))

    def _begin(self, secret: bytes) -> None:
        self._secret, self._count = secret, 0
        self._key = AESGCM(self._expand(b"key", 32 if self._hash == "sha384" else 16))
        self._iv = self._expand(b"iv", 12)

    def _expand(self, label: bytes, size: int) -> bytes:
        """HKDF-Expand-Label (RFC 8446, section 7.1), for what takes one block."""
        label = b"tls13 " + label
        info = size.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0"
        return hmac.digest(self._secret, info + b"\1", self._hash)[:size]

    def record(self, kind: int, data: bytes) -> bytes:
        """Return the next record."""
        inner = data + bytes([kind])
        head = b"\x17\3\3" + (len(inner) + 16).to_bytes(2, "big")
        number = int.from_bytes(self._iv, "big") ^ self._count
        self._count += 1
        return head + self._key.encrypt(number.to_bytes(12, "big"), inner, head)

    def key_update(self) -> bytes:
        """Return the record that asks the other side for new keys, and tells of ours."""
        record = self.record(22, b"\x18\0\0\1\1")
        self._begin(self._expand(b"traffic upd", len(self._secret)))
        return record
