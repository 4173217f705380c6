"""A stream of bytes to the payloads of packets, and a payload to the bytes to send.

    offset  size  meaning
    0       4     length, most significant byte first; it counts these four bytes too
    4       ...   payload, in the encoding of the codec

The length is checked as soon as the four bytes are there: a packet over the limit is refused
before any of it is stored. Nothing is known here of what is in a payload.
"""

from __future__ import annotations

import struct

from eventmux.buffers import Size
from eventmux.errors import BufferOverflow, MalformedRecord
from rpcasync.errors import EncodeError, FrameTooLarge, ProtocolError

__all__ = ["DEFAULT_MAX_PACKET", "LengthPrefix", "check_max_packet"]

DEFAULT_MAX_PACKET = 16 * 1024 * 1024
_HEADER = struct.Struct("!I")
_pack = _HEADER.pack
_SMALLEST_PAYLOAD = 3  # a Storable header and one opcode; in JSON, a list of one digit


def check_max_packet(max_packet: int) -> int:
    """Return the limit if it can be one.

    Raises:
        ValueError: it is not between 7 and 2**32 - 1 bytes.
    """
    smallest = _HEADER.size + _SMALLEST_PAYLOAD
    if type(max_packet) is not int or not smallest <= max_packet < 2**32:
        raise ValueError(f"max_packet is {max_packet!r}, must be from {smallest} to 2**32 - 1")
    return max_packet


class LengthPrefix:
    """The framing of RPC::Async 1.05.

    Args:
        max_packet: bytes in one packet, its length included, in both directions.

    Raises:
        ValueError: `max_packet` is not between 7 and 2**32 - 1.
    """

    __slots__ = ("_buffer", "max_packet")

    def __init__(self, max_packet: int = DEFAULT_MAX_PACKET) -> None:
        self.max_packet = check_max_packet(max_packet)
        self._buffer = Size(
            "!I",
            -_HEADER.size,
            min_size=_SMALLEST_PAYLOAD,
            max_size=max_packet - _HEADER.size,
        )

    def split(self, data: bytes) -> tuple[list[bytes], ProtocolError | None]:
        """Take bytes of the stream; return the payloads that are complete now, in order.

        With them goes what is wrong behind the last of them: a length that is impossible or over
        the limit. There is no way on from there, and this must not be called again.
        """
        failure: ProtocolError | None = None
        try:
            self._buffer.write(data)
        except BufferOverflow as error:
            size = error.size + _HEADER.size
            failure = FrameTooLarge(f"packet of {size} bytes, limit is {self.max_packet}")
        except MalformedRecord as error:
            failure = ProtocolError(f"packet too short: {error}")
        return self._buffer.read(), failure

    def frame(self, payload: bytes) -> bytes:
        """Return the packet to send.

        Raises:
            EncodeError: it is over the limit.
        """
        size = len(payload) + 4
        if size > self.max_packet:
            raise EncodeError(f"packet of {size} bytes, limit is {self.max_packet}")
        return _pack(size) + payload
