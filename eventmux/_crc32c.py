"""CRC-32C (Castagnoli), which PROXY headers are checked with; `zlib` has another polynomial.

Source: RFC 9260 (SCTP), appendix A; it replaces RFC 4960, which the PROXY protocol names.
"""

from __future__ import annotations

__all__ = ["crc32c"]

_POLYNOMIAL = 0x82F63B78  # 0x1EDC6F41 with the bits in reverse order


def _of_byte(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_POLYNOMIAL if value & 1 else 0)
    return value


_TABLE = [_of_byte(value) for value in range(256)]


def crc32c(data: bytes) -> int:
    """Return the checksum of bytes, as a number of 32 bits."""
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum = checksum >> 8 ^ _TABLE[(checksum ^ byte) & 0xFF]
    return checksum ^ 0xFFFFFFFF
