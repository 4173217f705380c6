"""What a stream has read and not cut, once its buffer was changed at a record.

The one rule: it is cut in small pieces, and in larger ones as long as the buffer stays. So what is
cut for nothing, because the next record changes the buffer again, costs no more than the record.
"""

from __future__ import annotations

__all__ = ["Backlog"]

_LEAST = 32  # bytes


class Backlog:
    """Bytes of a stream, in order."""

    __slots__ = ("_at", "_data", "_piece")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._piece = _LEAST

    def __bool__(self) -> bool:
        """True if anything is left."""
        return self._at < len(self._data)

    def put(self, data: bytes) -> None:
        """Put what was read now; nothing was left."""
        self._data, self._at = data, 0
        self._piece = _LEAST

    def take(self) -> bytes:
        """Take the next piece."""
        start = self._at
        self._at = end = min(start + self._piece, len(self._data))
        self._piece *= 2
        return self._data[start:end]

    def take_all(self) -> bytes:
        """Take all that is left."""
        rest = self.rest()
        self._data, self._at = b"", 0
        return rest

    def rest(self) -> bytes:
        """Return all that is left."""
        return self._data[self._at :]

    def put_back(self, data: bytes) -> None:
        """Put in front what was taken last, or was read before there was a backlog."""
        self._piece = _LEAST
        if data and self._data.endswith(data, 0, self._at):  # so that no byte is moved
            self._at -= len(data)
        elif data:
            self._data, self._at = data + self._data[self._at :], 0
