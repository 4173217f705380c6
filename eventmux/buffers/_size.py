"""Records that are found by their length: `Size`, `FixedSize` and `Last`.

The one rule: what is announced is judged before it comes, so a header that promises too much
costs no memory.

This file does not look into records.
"""

from __future__ import annotations

import math
import struct

from eventmux.buffers._records import MAX_SIZE, Undivided, check_limit, check_positive
from eventmux.errors import BufferOverflow, EventMuxError, MalformedRecord

__all__ = ["FixedSize", "Last", "Size"]


class Size(Undivided):
    """Records with their length in front, which is not part of them.

    `format` is a `struct` format of one unsigned or signed integer, for example "!I" for the
    usual four bytes; `offset` is added to the number to get the length of what follows. A length
    that counts its own four bytes is `Size("!I", -4)`. What is incomplete at the end of the stream
    is a `ReadLast`, with its header.

    Raises:
        ValueError: the format is not one integer; `offset`, `min_size` or `max_size` (bytes in
            one record without its header, 32 MiB unless told otherwise; None for no limit) is no
            int, or out of range.
    """

    returns_last = True
    __slots__ = ("_format", "_largest", "_max_size", "_min_size", "_need", "_offset")

    def __init__(
        self,
        format: str = "!I",  # noqa: A002  # the name that struct uses
        offset: int = 0,
        *,
        min_size: int = 0,
        max_size: int | None = MAX_SIZE,
    ) -> None:
        super().__init__()
        self._format = _integer_format(format)
        if type(offset) is not int:
            raise ValueError(f"offset is {offset!r}, must be an int")
        if type(min_size) is not int or min_size < 0:
            raise ValueError(f"min_size is {min_size!r}, must be an int of 0 or more")
        check_limit("max_size", max_size)
        if max_size is not None and max_size < min_size:
            raise ValueError(f"min_size is {min_size}, must be at most max_size, {max_size}")
        self._offset = offset
        self._min_size = min_size
        self._max_size = max_size
        self._largest = math.inf if max_size is None else max_size
        self._need = self._format.size  # nothing can be done with fewer bytes than this

    def fresh(self) -> Size:
        """Return an empty buffer with the same settings, for another stream."""
        return Size(
            self._format.format, self._offset, min_size=self._min_size, max_size=self._max_size
        )

    @property
    def can_unread(self) -> bool:
        """True if the header has nothing besides the length."""
        return "x" not in self._format.format

    def _as_it_came(self, record: bytes) -> bytes:
        return self._format.pack(len(record) - self._offset) + record

    def _restart(self) -> None:
        super()._restart()
        self._need = self._format.size

    def write(self, data: bytes) -> None:
        """Add bytes of the stream.

        Raises:
            BufferOverflow: a header announces more than `max_size`.
            MalformedRecord: a header announces less than `min_size`.
        """
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # else it would grow each time
        if not self._rest:
            self._cut(data, 0, [])
        elif len(self._rest) + len(data) < self._need:
            self._rest += data
        else:
            self._complete(data)

    def _complete(self, data: bytes) -> None:
        """Cut what begins in the rest; a long record is copied once, not thrice."""
        rest, header = self._rest, self._format.size
        missing = self._need - len(rest)
        if self._need > header:
            record = b"".join((memoryview(rest)[header:], memoryview(data)[:missing]))
            self._cut(data, missing, [record])
        else:
            self._cut(bytes(rest) + data, 0, [])

    def _cut(self, data: bytes, position: int, records: list[bytes]) -> None:
        """Take records from a position on, where one begins, behind those that are given."""
        unpack, header, append = self._format.unpack_from, self._format.size, records.append
        offset, smallest, largest = self._offset, self._min_size, self._largest
        available = len(data)
        need = header
        start = position + header
        while start <= available:
            size = unpack(data, position)[0] + offset
            if not smallest <= size <= largest:
                self._records += records
                self._rest = bytearray()
                raise self._fail(self._impossible(size), data[position:])
            end = start + size
            if end > available:
                need = header + size
                break
            append(data[start:end])
            position = end
            start = end + header
        rest = self._rest
        if rest or position < available:
            rest = bytearray(data[position:] if position else data)
        self._records += records  # with the next line: see Undivided
        self._rest, self._need = rest, need

    def _impossible(self, size: int) -> EventMuxError:
        if size < self._min_size:
            least = self._min_size
            return MalformedRecord(f"header announces {size} bytes, must be at least {least}")
        return BufferOverflow(size, self._max_size or 0)


class FixedSize(Undivided):
    """Records of one length, in bytes; what is left at the end of the stream is a `ReadLast`.

    Raises:
        ValueError: `size` is not a positive int.
    """

    returns_last = True
    __slots__ = ("_size",)

    def __init__(self, size: int) -> None:
        super().__init__()
        check_positive("size", size)
        self._size = size

    def fresh(self) -> FixedSize:
        """Return an empty buffer with the same settings, for another stream."""
        return FixedSize(self._size)

    @property
    def can_unread(self) -> bool:
        """True: a record is what came."""
        return True

    def write(self, data: bytes) -> None:
        """Add bytes of the stream; it never fails, since no length is wrong."""
        size = self._size
        self._rest += data
        if len(self._rest) < size:
            return
        data = bytes(self._rest)
        end = len(data) - len(data) % size
        records = [data[start : start + size] for start in range(0, end, size)]
        rest = bytearray(data[end:])
        self._records += records  # with the next line: see Undivided
        self._rest = rest


class Last(Undivided):
    """One record: the whole stream, when it has ended. A stream of no bytes has none.

    Raises:
        ValueError: `max_size` (bytes of the stream, 32 MiB unless told otherwise; None for no
            limit) is not a positive int.
    """

    returns_last = False
    __slots__ = ("_max_size",)

    def __init__(self, *, max_size: int | None = MAX_SIZE) -> None:
        super().__init__()
        check_limit("max_size", max_size)
        self._max_size = max_size

    def fresh(self) -> Last:
        """Return an empty buffer with the same settings, for another stream."""
        return Last(max_size=self._max_size)

    @property
    def can_unread(self) -> bool:
        """True: the record is what came."""
        return True

    def write(self, data: bytes) -> None:
        """Add bytes of the stream.

        Raises:
            BufferOverflow: there are more than `max_size`.
        """
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # else it would grow each time
        self._rest += data
        if self._max_size is not None and len(self._rest) > self._max_size:
            raise self._fail(BufferOverflow(len(self._rest), self._max_size))


def _integer_format(text: str) -> struct.Struct:
    try:
        format = struct.Struct(text)  # noqa: A001
        fields = format.unpack(bytes(format.size))
    except (struct.error, TypeError, ValueError) as error:
        raise ValueError(f"format {text!r}: {error}") from None
    if len(fields) != 1 or type(fields[0]) is not int:
        raise ValueError(f"format {text!r} must describe exactly one integer")
    return format
