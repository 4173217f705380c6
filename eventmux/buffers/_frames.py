"""Records whose length a function of the program's tells: `Frames`.

The one rule: the function is asked again only when there is more than it has seen, and never about
a record whose length it has told. So a record of known length costs the same in one piece as byte
by byte; and what has no length yet is bounded, since it is looked through anew each time.

This file does not look into records.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from eventmux.buffers._records import MAX_SIZE, Undivided, check_limit, check_positive
from eventmux.errors import BufferOverflow, EventMuxError, FramingError, MalformedRecord

__all__ = ["AtLeast", "Frames"]


@dataclass(frozen=True, slots=True)
class AtLeast:
    """What the function of `Frames` returns if all it knows of a record is the least `size`.

    It is asked again when so many are there, so a record that tells its length bit by bit need not
    be looked through at each byte. If they are there already, it is asked at the next byte.
    """

    size: int


Function = Callable[[bytes, int], "int | AtLeast | None"]


class Frames(Undivided):
    r"""Records whose length a function tells, each with all its bytes, be they header or payload.

    `function(data, at)` is given the bytes so far, always `bytes`, and where in them a record
    begins; at least one byte is there. It returns how many bytes the record takes, which may be
    more than have come, or None if that cannot be told yet. Netstrings (`b"5:hello,"`) are

        >>> def netstring(data, at):
        ...     colon = data.find(b":", at, at + 9)
        ...     return None if colon < 0 else colon - at + int(data[at:colon]) + 2

    What makes no sense is the peer's fault: MalformedRecord, or another ValueError, as `int()`
    has it above, or a length of less than 1. All else that the function raises, and a result that
    is neither an int nor None, is the program's fault; it comes out of `mux()` once, and the
    connection ends. The function must not depend on anything but its arguments: it may be asked
    about the same bytes again.

    What is incomplete at the end of the stream is a `ReadLast`.

    A length is judged when it is told, before the record is there. As long as the function returns
    None it is asked at each write, and sees the record from its start, so n bytes in single bytes
    cost n * n / 2. `max_header` keeps that in bounds: it is how many bytes of a record may have
    come without a length. A longer header is found only if it comes in one piece.

    A function that has to look at much of a record returns `AtLeast(size)` instead of None, and is
    not asked before so many bytes are there; `max_header` counts from there on. Of an array it can
    tell how many elements are still to come, and so is not asked about it at each byte.

    Raises:
        TypeError: `function` cannot be called.
        ValueError: `max_size` (bytes in one record, 32 MiB unless told otherwise; None for no
            limit) is neither a positive int nor None; `max_header` (64 KB unless told otherwise)
            is not a positive int.
    """

    returns_last = True
    __slots__ = ("_function", "_is_known", "_largest", "_max_header", "_max_size", "_need")

    def __init__(
        self,
        function: Function,
        *,
        max_size: int | None = MAX_SIZE,
        max_header: int = 65536,
    ) -> None:
        super().__init__()
        if not callable(function):
            raise TypeError(f"function is {function!r}, must be callable")
        check_limit("max_size", max_size)
        check_positive("max_header", max_header)
        self._function = function
        self._max_size = max_size
        self._largest = math.inf if max_size is None else max_size
        self._max_header = max_header
        self._need = 1  # nothing can be done with fewer bytes than this
        self._is_known = False  # that is the length of the record, and not only the least

    def fresh(self) -> Frames:
        """Return an empty buffer with the same settings, for another stream."""
        return Frames(self._function, max_size=self._max_size, max_header=self._max_header)

    @property
    def can_unread(self) -> bool:
        """True: a record is what came."""
        return True

    def _restart(self) -> None:
        super()._restart()
        self._need, self._is_known = 1, False

    def write(self, data: bytes) -> None:
        """Add bytes of the stream.

        Raises:
            BufferOverflow: a record is longer than `max_size`, or there are more than `max_header`
                bytes of one without a length.
            MalformedRecord: there is no record, as the function has it.
            FramingError: the function is at fault; see its `__cause__`.
        """
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # else it would grow each time
        rest = self._rest
        if not rest:
            self._cut(data, 0, [])
        elif len(rest) + len(data) < self._need:
            rest += data
        elif self._is_known:  # a long record is copied once, not thrice
            missing = self._need - len(rest)
            record = b"".join((rest, memoryview(data)[:missing]))
            self._cut(data, missing, [record])
        elif data:
            self._cut(bytes(rest) + data, 0, [])

    def _cut(self, data: bytes, position: int, records: list[bytes]) -> None:
        """Take records from a position on, where one begins, behind those that are given."""
        function, append, largest = self._function, records.append, self._largest
        available = len(data)
        need, is_known = 1, False
        while position < available:
            try:
                size = function(data, position)
                if type(size) is not int or not 0 < size <= largest:
                    need = self._least(size, available - position, data[position : position + 20])
                    break
            except Exception as error:  # noqa: BLE001  # the program's; _judged() tells
                self._records += records
                self._rest = bytearray()
                begin = data[position : position + 20]
                failure = self._fail(_judged(error, begin), data[position:])
                raise failure from (error if failure is not error else None)
            end = position + size
            if end > available:
                need, is_known = size, True
                break
            append(data[position:end])
            position = end
        rest = self._rest
        if rest or position < available:
            rest = bytearray(data[position:] if position else data)
        self._records += records  # with the next line: see Undivided
        self._rest, self._need, self._is_known = rest, need, is_known

    def _least(self, size: object, there: int, begin: bytes) -> int:
        """Return how many bytes must be there to ask again, or raise what is wrong with a size."""
        least = size.size if type(size) is AtLeast else 0 if size is None else size
        if type(least) is not int:
            name = getattr(self._function, "__name__", repr(self._function))
            raise TypeError(f"{name}() returned {size!r}, must be a number of bytes, or None")
        if least < 1 and size is not None:
            raise MalformedRecord(f"record that begins with {begin!r} is {least} bytes long")
        if least > self._largest:
            raise BufferOverflow(least, self._max_size or 0)
        limit = min(least + self._max_header, self._largest)
        if there > limit:
            raise BufferOverflow(there, int(limit))
        return least


def _judged(error: Exception, begin: bytes) -> EventMuxError:
    """Return what it means for the stream that this was raised about a record."""
    if isinstance(error, EventMuxError):
        return error
    if isinstance(error, ValueError):
        return MalformedRecord(f"record that begins with {begin!r}: {error}")
    return FramingError(f"{type(error).__name__} in the function that tells lengths: {error}")
