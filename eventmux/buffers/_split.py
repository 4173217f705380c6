"""Records that are found by what they look like: `Split` and `Regexp`.

The one rule: a record is given out as soon as the bytes so far allow it. A program that
answers each line must never have to wait for what comes after the line.

This file does not know about lengths in front of records.
"""

from __future__ import annotations

import re

from eventmux.buffers._records import MAX_SIZE, Undivided, check_limit, check_positive
from eventmux.errors import BufferOverflow

__all__ = ["Regexp", "Split"]


class Split(Undivided):
    r"""Records that end with a separator, which is not part of them.

    Empty records are kept. What follows the last separator at the end of the stream counts as
    a record, so a last line without a newline is not lost. Lines of telnet end with `b"\r\n"`.

    `separator` is bytes, or a compiled pattern of bytes. One that a pattern describes ends as
    soon as the pattern matches, without waiting for more; a match of no bytes is none. So a
    pattern that could match more later, such as rb"\n+", or that looks at what is around the
    separator, cuts depending on how the stream arrives: rb"\r?\n" does not.

    `max_separator` is how far back a pattern looks for a separator that arrives in pieces. A
    longer one is found only if it comes in one piece. The remainder at the end of the stream
    can be over `max_size` by as much, since these bytes might have been a separator.

    Raises:
        TypeError: the separator is neither bytes nor a compiled pattern of bytes.
        ValueError: the separator is empty, or a pattern that matches no bytes at all;
            `max_separator`, or `max_size` (bytes in one record, without its separator, 32 MiB
            unless told otherwise; None for no limit), is not a positive int.
    """

    returns_last = False
    __slots__ = ("_longest", "_max_size", "_pattern", "_scanned", "_separator")

    def __init__(
        self,
        separator: bytes | re.Pattern[bytes] = b"\n",
        *,
        max_size: int | None = MAX_SIZE,
        max_separator: int = 64,
    ) -> None:
        super().__init__()
        check_limit("max_size", max_size)
        check_positive("max_separator", max_separator)
        self._pattern: re.Pattern[bytes] | None = None
        self._separator = b""
        if isinstance(separator, bytes):
            if not separator:
                raise ValueError("separator is empty")
            self._separator = separator
        else:
            self._pattern = _pattern("separator", separator)
        self._longest = max_separator if self._pattern is not None else len(self._separator)
        self._max_size = max_size
        self._scanned = 0  # no separator starts before this offset of the rest

    def fresh(self) -> Split:
        """Return an empty buffer with the same settings, for another stream."""
        return Split(
            self._pattern or self._separator, max_size=self._max_size, max_separator=self._longest
        )

    @property
    def can_unread(self) -> bool:
        """True if all separators are alike."""
        return self._pattern is None

    def _as_it_came(self, record: bytes) -> bytes:
        return record + self._separator

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
        if self._pattern is not None:
            self._cut_at(self._pattern)
            rest = self._rest
        elif rest.find(self._separator, self._scanned) >= 0:
            *records, last = bytes(rest).split(self._separator)
            if self._max_size is not None and len(rest) > self._max_size:  # else none can be
                self._check_sizes(records, last)
            rest = bytearray(last)
            self._records += records  # with the next line: see Undivided
            self._rest = rest
        # A separator may have begun in the last bytes.
        self._scanned = max(0, len(rest) - self._longest + 1)
        if self._max_size is not None and len(rest) > self._max_size:
            size = len(rest) - self._begun()
            if size > self._max_size:
                raise self._fail(self._overflow(size))

    def _cut_at(self, pattern: re.Pattern[bytes]) -> None:
        rest = self._rest
        # Searched before it is copied: most writes of a slow stream complete no record.
        found = [match.span() for match in pattern.finditer(rest, self._scanned) if match[0]]
        if not found:
            return
        data = bytes(rest)
        begin = 0
        for start, end in found:
            if self._max_size is not None and start - begin > self._max_size:
                self._rest = bytearray()
                raise self._fail(self._overflow(start - begin), data[begin:])
            self._records.append(data[begin:start])
            begin = end
        self._rest = bytearray(data[begin:])

    def _begun(self) -> int:
        """Return how many bytes at the end of the rest may be the start of a separator."""
        if self._pattern is not None:
            return self._longest - 1
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


class Regexp(Undivided):
    r"""Records that a pattern matches, one directly after the other.

    A record is the first group of its match (b"" if that took no part), or the whole match if
    the pattern has no groups. Nothing between two matches is skipped: as long as the pattern
    does not match where the last match ended, the buffer waits for more. The pattern sees each
    record as if the stream began there. Empty records are kept (Perl has an option for that),
    but each match must take at least one byte; one that takes none is no match.

    What is left at the end of the stream is a `ReadLast`, or a `Read` with `returns_last=False`.

    `pattern` is a compiled pattern of bytes, or bytes, which mean what re.compile() makes of them:
    "." is any byte but a newline, unless the pattern begins with (?s). A record ends as soon as
    it matches: rb"(\d+)" cuts depending on how the stream arrives, rb"(\d+);" does not.

    Each write matches the incomplete record again from its start, so a record of n bytes in
    single bytes costs n * n / 2. `max_size`, the bytes of one match, keeps that in bounds; it is
    65536 unless told otherwise.

    Raises:
        TypeError: the pattern is neither bytes nor a compiled pattern of bytes.
        ValueError: the pattern is no regular expression, or matches no bytes at all; `max_size`
            is neither a positive int nor None for no limit.
    """

    __slots__ = ("_group", "_max_size", "_pattern", "returns_last")

    def __init__(
        self,
        pattern: bytes | re.Pattern[bytes],
        *,
        returns_last: bool = True,
        max_size: int | None = 65536,
    ) -> None:
        super().__init__()
        check_limit("max_size", max_size)
        if isinstance(pattern, bytes):
            try:
                pattern = re.compile(pattern)
            except re.error as error:
                raise ValueError(f"pattern is {pattern!r}: {error}") from None
        self._pattern = _pattern("pattern", pattern)
        self._group = 1 if pattern.groups else 0
        self._max_size = max_size
        self.returns_last = returns_last

    def fresh(self) -> Regexp:
        """Return an empty buffer with the same settings, for another stream."""
        return Regexp(self._pattern, returns_last=self.returns_last, max_size=self._max_size)

    @property
    def can_unread(self) -> bool:
        """True if a record is all that was matched."""
        return not self._group

    def write(self, data: bytes) -> None:
        """Add bytes of the stream.

        Raises:
            BufferOverflow: a match is longer than `max_size`, or what does not match yet is.
        """
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # else it would grow each time
        self._rest += data
        data = bytes(self._rest)
        end = self._cut(data)
        if self._max_size is not None and len(data) - end > self._max_size:
            raise self._fail(BufferOverflow(len(data) - end, self._max_size))

    def _cut(self, data: bytes) -> int:
        """Take the records off the front of the data, and return where the last one ends."""
        matches, group = self._pattern.match, self._group
        # Not `matches(data, position)`: there "^" or a look-behind would see what was before
        # the record, which depends on how the stream arrives.
        view = memoryview(data)
        records: list[bytes] = []
        position = 0
        while match := matches(view[position:]):
            size = match.end()
            if not size:
                break
            if self._max_size is not None and size > self._max_size:
                self._records += records
                self._rest = bytearray()
                raise self._fail(BufferOverflow(size, self._max_size), data[position:])
            start, end = match.span(group)  # -1 twice if it took no part: no bytes, too
            records.append(data[position + start : position + end])
            position += size
        if records:
            rest = bytearray(data[position:])
            self._records += records  # with the next line: see Undivided
            self._rest = rest
        return position


def _pattern(name: str, pattern: re.Pattern[bytes]) -> re.Pattern[bytes]:
    """Return the pattern if it is one that records can be found with."""
    if not isinstance(pattern, re.Pattern) or not isinstance(pattern.pattern, bytes):
        raise TypeError(f"{name} is {pattern!r}, must be bytes or a compiled pattern of bytes")
    if pattern.search(b""):
        raise ValueError(f"{name} is {pattern.pattern!r}, must not match the empty string")
    return pattern
