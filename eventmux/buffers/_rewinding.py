"""Records that are taken back: the bytes of the stream that they were cut from.

Who changes the buffer of a stream at a record wants all that came behind it, as it came. Some
disciplines can say that of their records. For the others, `Rewinding` keeps what they were given
until the records have been handed out, and finds where one ended by cutting it again.

The one rule: a record ended with the byte that let it be given out, but for what the buffer had
left over then. So this works for a discipline of the program's, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, cast

from eventmux.buffers._records import Buffer
from eventmux.errors import EventMuxError

__all__ = ["Rewindable", "Rewinding", "rewindable"]


class Rewindable(Buffer, Protocol):
    """A buffer that can take records back."""

    def unread(self, records: list[bytes]) -> bytes:
        """Take back the last records that were given out; return the bytes from the first one on.

        What `read_last()` returned may be the last of them. The buffer is of no use then.
        """
        ...


def rewindable(pattern: Buffer) -> Rewindable:
    """Return an empty buffer of this kind that can take records back."""
    buffer = pattern.fresh()
    # A class of the program's may inherit that, and give out what came in another way.
    if "can_unread" in vars(type(buffer)) and buffer.can_unread:  # type: ignore[attr-defined]
        return cast("Rewindable", buffer)
    return Rewinding(buffer)


class Rewinding:
    """A buffer, and what it was given since the last record that will not be taken back."""

    __slots__ = (
        *("_buffer", "_is_expecting", "_counts", "_read", "_records", "_replies", "_size"),
        *("_steps", "_waits", "_write", "given_rest"),
    )

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._read, self._write = buffer.read, buffer.write
        self._waits = hasattr(buffer, "waiting")
        self._replies = hasattr(buffer, "reply")
        self._counts = hasattr(buffer, "pending")
        self._steps: list[bytes | int] = []  # what was written, and the sizes that were expected
        self._size = 0  # bytes that were written
        self._records: list[bytes] = []  # what came of it
        self._is_expecting = False  # a record has begun that not its bytes have announced
        self.given_rest = False

    def __getattr__(self, name: str) -> Any:
        """Be as the buffer in all the rest."""
        return getattr(self._buffer, name)

    def fresh(self) -> Rewinding:
        """Return an empty one of this kind."""
        return Rewinding(self._buffer.fresh())

    @property
    def returns_last(self) -> bool:
        """As the buffer has it."""
        return self._buffer.returns_last

    @property
    def pending(self) -> int:
        """As the buffer has it."""
        return self._buffer.pending

    @property
    def given(self) -> int:
        """How many records can be taken back."""
        return len(self._records)

    def write(self, data: bytes) -> None:
        """Add bytes of the stream."""
        size = self._size + len(data)
        self._steps += (data,)  # with the next line: see Undivided
        self._size = size
        self._write(data)

    def again(self, before: int, taken: Sequence[bytes], data: bytes) -> tuple[Rewinding, bytes]:
        """Do as `Undivided.again()`, for a buffer that may be cut off in the midst of it."""
        del before
        if self._steps and self._steps[-1] is data:
            del self._steps[-1]
            self._size -= len(data)
        fresh = Rewinding(self._replay(self._size))
        fresh._steps, fresh._size = self._steps, self._size
        fresh.read()
        told = len(self._records) - len(taken)
        fresh._records = self._records[:told]
        fresh._is_expecting = self._is_expecting
        return fresh, data

    @property
    def waiting(self) -> bool:
        """As the buffer has it."""
        return self._waits and bool(self._buffer.waiting)  # type: ignore[attr-defined]

    @property
    def reply(self) -> bytes:
        """As the buffer has it."""
        return self._buffer.reply if self._replies else b""  # type: ignore[attr-defined]

    @property
    def expect(self) -> Callable[[int], None]:
        """Says how long the next record is; only a buffer that can be told so has it."""
        tell: Callable[[int], None] = self._buffer.expect  # type: ignore[attr-defined]

        def expect(size: int) -> None:
            tell(size)
            self._steps.append(size)
            self._is_expecting = size > 0

        return expect

    def read(self) -> list[bytes]:
        """Return the complete records that were not returned before."""
        records = self._read()
        if records:
            self._records += records
            self._is_expecting = False
        return records

    def read_last(self) -> list[bytes]:
        """Return what is left at the end of the stream."""
        records = self._buffer.read_last()
        self._records += records
        self.given_rest = bool(records)
        return records

    def forget(self) -> None:
        """Keep only what is not complete: no record will be taken back any more."""
        if self._is_expecting or self.waiting:
            return
        pending = self._pending()
        if pending < self._size:
            tail = self._bytes()[self._size - pending :]
            self._steps = [tail] if tail else []
            self._size = pending
        self._records.clear()

    def _pending(self) -> int:
        """Return how many bytes, as they came, are behind the last record."""
        if self._counts:
            return min(self._buffer.pending, self._size)
        return self._size - self._end_of(len(self._records))

    def unread(self, records: list[bytes]) -> bytes:
        """Take back the last records; return the bytes of the stream from the first one on."""
        if self.given_rest and not records:
            return b""
        start = self._end_of(len(self._records) - len(records))
        return self._bytes()[start:]

    def _bytes(self) -> bytes:
        return b"".join(step for step in self._steps if isinstance(step, bytes))

    def _end_of(self, count: int) -> int:
        """Return where the first so many records ended."""
        if count <= 0:
            return 0
        expected = self._records[:count]
        low, high = 0, self._size  # the end is behind the one, and not behind the other
        while high - low > 1:
            middle = (low + high) // 2
            if self._replay(middle).read()[:count] == expected:
                high = middle
            else:
                low = middle
        replayed = self._replay(high)
        if len(replayed.read()) == count:  # else it gives several at one byte
            high -= sum(map(len, replayed.read_last()))
        return high

    def _replay(self, size: int) -> Buffer:
        """Return a buffer that was given the first so many bytes in the same pieces."""
        buffer = self._buffer.fresh()
        try:
            for step in self._first(size):
                if isinstance(step, bytes):
                    buffer.write(step)
                else:
                    buffer.expect(step)  # type: ignore[attr-defined]
        except (EventMuxError, ValueError):  # what is behind the failure is not there yet
            pass
        return buffer

    def _first(self, size: int) -> Iterator[bytes | int]:
        for step in self._steps:
            if isinstance(step, int):
                yield step
            elif size:
                yield step[:size]
                size -= min(size, len(step))
