"""A stream of bytes to the payloads of packets, and a payload to the bytes to send.

    offset  size  meaning
    0       4     length, most significant byte first; it counts these four bytes too
    4       ...   payload, in the encoding of the codec

The length is checked as soon as the four bytes are there: a packet over the limit is refused
before more of it is stored. What comes of a packet is kept as it came, and joined once, when the
packet is complete. Nothing is known here of what is in a payload.
"""

from __future__ import annotations

import struct

from rpcasync.errors import EncodeError, FrameTooLarge, ProtocolError

__all__ = ["DEFAULT_MAX_PACKET", "LengthPrefix", "check_max_packet"]

DEFAULT_MAX_PACKET = 16 * 1024 * 1024
_HEADER = struct.Struct("!I")
_pack = _HEADER.pack
_unpack = _HEADER.unpack_from
_SMALLEST = 7  # its length, a Storable header and one opcode; in JSON, a list of one digit
# A peer that sends byte by byte must not cost an object for each byte: so many small pieces are
# joined to one, unless they are large already.
_MANY_PIECES = 256
_SMALL_PIECES = 65_536  # bytes of all of them


def check_max_packet(max_packet: int) -> int:
    """Return the limit if it can be one.

    Raises:
        ValueError: it is not between 7 and 2**32 - 1 bytes.
    """
    if type(max_packet) is not int or not _SMALLEST <= max_packet < 2**32:
        raise ValueError(f"max_packet is {max_packet!r}, must be from {_SMALLEST} to 2**32 - 1")
    return max_packet


class LengthPrefix:
    """The framing of RPC::Async 1.05.

    `feed()` only stores, and `cut()` takes effect in one step at its end: whoever is interrupted,
    by Ctrl-C say, goes on later and has lost nothing.

    Args:
        max_packet: bytes in one packet, its length included, in both directions.

    Raises:
        ValueError: `max_packet` is not between 7 and 2**32 - 1.
    """

    __slots__ = (
        "_impossible_length",
        "_joined",
        "_looked",
        "_need",
        "_pieces",
        "failure",
        "frames",
        "max_packet",
        "size",
    )

    def __init__(self, max_packet: int = DEFAULT_MAX_PACKET) -> None:
        self.max_packet = check_max_packet(max_packet)
        self.frames: list[bytes] = []
        """Payloads that are complete, the next one last. Whoever takes one shortens the list."""
        self.failure: ProtocolError | None = None
        """What is wrong behind the last of them: there is no way on from there."""
        self.size = 0
        """How many bytes have come of a packet that is not complete, as of the last `cut()`."""
        self._pieces: list[bytes] = []  # what came and is no frame yet
        self._looked = 0  # how many of them `cut()` has seen: `size` is theirs
        self._joined = 0  # how many of them are large enough
        self._need = 4  # nothing can be done with fewer bytes than this
        self._impossible_length = b""  # as it came, if that is the `failure`

    def feed(self, data: bytes) -> None:
        """Store bytes of the stream; never raises. Behind a failure, nothing is believed."""
        if self.failure is None:
            self._pieces.append(data)

    def has_fed(self, data: bytes) -> bool:
        """True if this object is what was fed last, and was not cut since."""
        return len(self._pieces) > self._looked and self._pieces[-1] is data

    def cut(self) -> list[bytes]:
        """Cut what has come into packets, once all `frames` are taken, and return these."""
        pieces = self._pieces
        if len(pieces) == 1 and not self._looked:  # the usual case, and the fast one
            self._cut([], pieces[0], 0)
        elif len(pieces) > self._looked:
            fresh = pieces[self._looked :]
            size = self.size + sum(map(len, fresh))
            if size < self._need:
                self._keep(size)
            elif len(fresh) == 1 and len(pieces[0]) >= 4 < self._need:
                self._complete(pieces)
            else:
                self._cut([], b"".join(pieces), 0)
        return self.frames

    def behind(self) -> bytes:
        """Return the four bytes behind the next frame, or as many as have come."""
        if len(self.frames) > 1:
            return _pack(len(self.frames[-2]) + 4)
        return self._impossible_length or b"".join(self._pieces[:4])[:4]

    @property
    def held(self) -> int:
        """How many bytes are kept here."""
        fresh = self._pieces[self._looked :]
        return self.size + sum(map(len, fresh)) + sum(map(len, self.frames))

    def fail(self, failure: ProtocolError) -> None:
        """Believe nothing any more."""
        self.frames, self.failure, self._pieces, self._looked, self.size = [], failure, [], 0, 0

    def drop_rest(self) -> None:
        """Forget what is no complete packet, once all `frames` are taken: nothing more comes."""
        self._pieces, self._looked, self._joined, self._need, self.size = [], 0, 0, 4, 0

    def clear(self) -> None:
        """Forget what has come, and what comes: the peer has gone."""
        self.fail(ProtocolError("the connection has ended"))

    def _keep(self, size: int) -> None:
        """Note how much there is of a packet that is not complete."""
        pieces, joined = self._pieces, self._joined
        if len(pieces) - joined >= _MANY_PIECES:
            small = pieces[joined:]
            if sum(map(len, small)) <= _SMALL_PIECES:
                pieces = [*pieces[:joined], b"".join(small)]
            joined = len(pieces)
        self._pieces, self._looked, self._joined, self.size = pieces, len(pieces), joined, size

    def _complete(self, pieces: list[bytes]) -> None:
        """Cut what the last piece completes; a long packet is copied once, not twice."""
        last = pieces[-1]
        missing = self._need - self.size
        ends = memoryview(pieces[0])[4:], memoryview(last)[:missing]
        self._cut([b"".join((ends[0], *pieces[1:-1], ends[1]))], last, missing)

    def _cut(self, frames: list[bytes], data: bytes, position: int) -> None:
        """Take packets from a position on, where one begins; then have it all take effect."""
        largest, append, available = self.max_packet, frames.append, len(data)
        failure: ProtocolError | None = None
        need = 4
        start = position + 4
        while start <= available:
            size = _unpack(data, position)[0]
            if not _SMALLEST <= size <= largest:
                failure = self._impossible(size)
                self._impossible_length = data[position:start]
                position = available  # nothing of it is kept
                break
            end = position + size
            if end > available:
                need = size
                break
            append(data[start:end])
            position = end
            start = end + 4
        frames.reverse()
        rest = available - position
        pieces = [] if not rest else [data[position:] if position else data]
        looked, self._joined = len(pieces), 0
        state = frames, failure, pieces, looked, rest, need  # all of it at once, or none:
        self.frames, self.failure, self._pieces, self._looked, self.size, self._need = state

    def _impossible(self, size: int) -> ProtocolError:
        if size < _SMALLEST:
            least = _SMALLEST - 4
            return ProtocolError(
                f"packet too short: header announces {size - 4} bytes, must be at least {least}"
            )
        return FrameTooLarge(f"packet of {size} bytes, limit is {self.max_packet}")

    def frame(self, payload: bytes) -> bytes:
        """Return the packet to send.

        Raises:
            EncodeError: it is over the limit.
        """
        size = len(payload) + 4
        if size > self.max_packet:
            raise EncodeError(f"packet of {size} bytes, limit is {self.max_packet}")
        return _pack(size) + payload
