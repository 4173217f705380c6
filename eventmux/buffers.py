"""Buffering disciplines: bytes of a stream in, whole records out.

A buffer belongs to one stream. `write()` takes what arrived, however it was cut, and `read()`
gives the records that are complete, in order. The records do not depend on how the stream was
cut into writes, and the time is linear in its length, be it in pieces of one byte or of 100 MB.

`max_size` limits one record, not one write: a burst of small records passes whatever its size,
and the good records in front of one over the limit are still given out. Once a buffer has
raised, the stream has no record boundaries any more: each further `write()` raises again.
"""

from __future__ import annotations

import struct
from typing import Protocol

from eventmux.errors import BufferOverflow, EventMuxError, MalformedRecord

__all__ = ["Buffer", "Size", "Split"]


class Buffer(Protocol):
    """What a mux needs of a buffer, and what a discipline of your own has to have."""

    returns_last: bool
    """True if what is left at the end of the stream is an incomplete record (`ReadLast`),
    False if it is a record like the others (`Read`)."""

    def write(self, data: bytes) -> None:
        """Add bytes; raise BufferOverflow or MalformedRecord when they cannot be cut."""
        ...

    def read(self) -> list[bytes]:
        """Return the complete records that were not returned before."""
        ...

    def read_last(self) -> list[bytes]:
        """Return what is left at the end of the stream, and empty the buffer."""
        ...

    def fresh(self) -> Buffer:
        """Return an empty buffer with the same settings, for another stream."""
        ...

    @property
    def pending(self) -> int:
        """The number of bytes of the record that is not complete yet."""
        ...


class _Records:
    """What the disciplines have in common: finished records, the rest, and the failure."""

    __slots__ = ("_failure", "_records", "_rest")

    def __init__(self) -> None:
        self._records: list[bytes] = []
        self._rest = bytearray()
        self._failure: EventMuxError | None = None

    def read(self) -> list[bytes]:
        """Return the complete records that were not returned before."""
        records = self._records
        if records:
            self._records = []
        return records

    def read_last(self) -> list[bytes]:
        """Return what is left at the end of the stream, and empty the buffer."""
        rest = bytes(self._rest)
        self._restart()
        return [*self.read(), rest] if rest else self.read()

    def _restart(self) -> None:
        """Forget the incomplete record and how far it was looked at."""
        self._rest = bytearray()

    @property
    def pending(self) -> int:
        """The number of bytes of the record that is not complete yet."""
        return len(self._rest)

    def _fail(self, failure: EventMuxError, rest: bytes) -> EventMuxError:
        self._failure = failure
        self._rest += rest
        return failure


def _check_limit(name: str, value: int | None) -> None:
    if value is not None and (type(value) is not int or value < 1):
        raise ValueError(f"{name} is {value!r}, must be a positive int or None")


class Split(_Records):
    """Records that end with a separator, which is not part of them.

    Empty records are kept. What follows the last separator at the end of the stream counts as
    a record, so a last line without a newline is not lost.

    Raises:
        TypeError: the separator is not bytes.
        ValueError: the separator is empty, or `max_size` (bytes in one record, without its
            separator; None for no limit) is not a positive int.
    """

    returns_last = False
    __slots__ = ("_max_size", "_scanned", "_separator")

    def __init__(self, separator: bytes = b"\n", *, max_size: int | None = None) -> None:
        super().__init__()
        if not isinstance(separator, bytes):
            raise TypeError(f"separator is {separator!r}, must be bytes")
        if not separator:
            raise ValueError("separator is empty")
        _check_limit("max_size", max_size)
        self._separator = separator
        self._max_size = max_size
        self._scanned = 0  # no separator starts before this offset of the rest

    def fresh(self) -> Split:
        """Return an empty buffer with the same settings, for another stream."""
        return Split(self._separator, max_size=self._max_size)

    def _restart(self) -> None:
        super()._restart()
        self._scanned = 0

    def write(self, data: bytes) -> None:
        """Add bytes of the stream.

        Raises:
            BufferOverflow: a record is longer than `max_size`.
        """
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # else it would grow each time
        rest = self._rest
        rest += data
        if rest.find(self._separator, self._scanned) >= 0:
            *records, last = bytes(rest).split(self._separator)
            if self._max_size is not None:
                self._check_sizes(records, last)
            self._records += records
            self._rest = rest = bytearray(last)
        # A separator may have begun in the last bytes.
        self._scanned = max(0, len(rest) - len(self._separator) + 1)
        if self._max_size is not None and len(rest) > self._max_size:
            size = len(rest) - self._begun()
            if size > self._max_size:
                raise self._fail(self._overflow(size), b"")

    def _begun(self) -> int:
        """Return how many bytes at the end of the rest may be the start of a separator."""
        separator = self._separator
        for size in range(len(separator) - 1, 0, -1):
            if self._rest.endswith(separator[:size]):
                return size
        return 0

    def _check_sizes(self, records: list[bytes], last: bytes) -> None:
        """Raise for the first record over the limit; those in front of it can be read."""
        for index, record in enumerate(records):
            if len(record) > self._max_size:  # type: ignore[operator]  # not None here
                self._records += records[:index]
                self._rest = bytearray()
                rest = self._separator.join([*records[index:], last])
                raise self._fail(self._overflow(len(record)), rest)

    def _overflow(self, size: int) -> BufferOverflow:
        return BufferOverflow(size, self._max_size or 0)


class Size(_Records):
    """Records with their length in front, which is not part of them.

    `format` is a `struct` format of one unsigned or signed integer, for example "!I" for the
    usual four bytes; `offset` is added to the number to get the length of what follows. A length
    that counts its own four bytes is `Size("!I", -4)`.

    Raises:
        ValueError: the format is not one integer; `offset`, `min_size` or `max_size` (bytes in
            one record without its header) is no int, or out of range.
    """

    returns_last = True
    __slots__ = ("_format", "_max_size", "_min_size", "_need", "_offset")

    def __init__(
        self,
        format: str = "!I",  # noqa: A002  # the name that struct uses
        offset: int = 0,
        *,
        min_size: int = 0,
        max_size: int | None = None,
    ) -> None:
        super().__init__()
        self._format = _integer_format(format)
        if type(offset) is not int:
            raise ValueError(f"offset is {offset!r}, must be an int")
        if type(min_size) is not int or min_size < 0:
            raise ValueError(f"min_size is {min_size!r}, must be an int of 0 or more")
        _check_limit("max_size", max_size)
        if max_size is not None and max_size < min_size:
            raise ValueError(f"min_size is {min_size}, must be at most max_size, {max_size}")
        self._offset = offset
        self._min_size = min_size
        self._max_size = max_size
        self._need = self._format.size  # nothing can be done with fewer bytes than this

    def fresh(self) -> Size:
        """Return an empty buffer with the same settings, for another stream."""
        return Size(
            self._format.format, self._offset, min_size=self._min_size, max_size=self._max_size
        )

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
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return
            data = bytes(self._rest)
            self._rest.clear()
        self._cut(data)

    def _cut(self, data: bytes) -> None:
        unpack, header = self._format.unpack_from, self._format.size
        offset, smallest, largest = self._offset, self._min_size, self._max_size
        position, available = 0, len(data)
        need = header
        while available - position >= header:
            size = unpack(data, position)[0] + offset
            if size < smallest or (largest is not None and size > largest):
                raise self._fail(self._impossible(size), data[position:])
            end = position + header + size
            if end > available:
                need = header + size
                break
            self._records.append(data[position + header : end])
            position = end
        self._need = need
        if position < available:
            self._rest += data[position:] if position else data

    def _impossible(self, size: int) -> EventMuxError:
        if size < self._min_size:
            least = self._min_size
            return MalformedRecord(f"header announces {size} bytes, must be at least {least}")
        return BufferOverflow(size, self._max_size or 0)


def _integer_format(text: str) -> struct.Struct:
    try:
        format = struct.Struct(text)  # noqa: A001
        fields = format.unpack(bytes(format.size))
    except (struct.error, TypeError, ValueError) as error:
        raise ValueError(f"format {text!r}: {error}") from None
    if len(fields) != 1 or type(fields[0]) is not int:
        raise ValueError(f"format {text!r} must describe exactly one integer")
    return format
