"""What a buffer is, and what the disciplines have in common.

The one rule: a failure stays. What is left when a buffer raises is no start of a record, so
nothing is cut from it any more, and every further write raises again.

This file does not know how a record ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from eventmux.errors import EventMuxError

__all__ = ["MAX_SIZE", "Buffer", "Records", "Undivided", "check_limit", "check_positive"]

MAX_SIZE = 32 * 1024 * 1024
"""Bytes that a record may have where nothing else is said; None is no limit."""


class Buffer(Protocol):
    """What a mux needs of a buffer, and what a discipline of your own has to have.

    If the buffer of a stream is changed, the mux wants the bytes that records behind came from. It
    keeps what it has written to a buffer for that, until its records have been handed out, unless
    the class itself has a true `can_unread` and a method `unread(records)`: it returns the bytes
    that these records, the last that were given out, came from, and all that came behind them.
    """

    @property
    def returns_last(self) -> bool:
        """Whether what is left at the end of the stream is an incomplete record.

        True: it is one (`ReadLast`). False: it is a record like the others (`Read`).
        """
        ...

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


class Records:
    """What the disciplines have in common: finished records, the rest, and the failure."""

    __slots__ = ("_failure", "_gave_rest", "_records", "_rest")

    def __init__(self) -> None:
        self._records: list[bytes] = []
        self._rest = bytearray()
        self._failure: EventMuxError | None = None
        self._gave_rest = False

    def read(self) -> list[bytes]:
        """Return the complete records that were not returned before."""
        records = self._records
        if records:
            self._records = []
        return records

    def read_last(self) -> list[bytes]:
        """Return what is left at the end of the stream, and empty the buffer."""
        rest = bytes(self._rest)
        self._gave_rest = bool(rest)
        self._restart()
        return [*self.read(), rest] if rest else self.read()

    @property
    def can_unread(self) -> bool:
        """True if a record says how it came, so that `unread()` can take it back."""
        return False

    def unread(self, records: list[bytes]) -> bytes:
        """Take back the last records that were given out; return the bytes from the first one on.

        What `read_last()` returned may be the last of them. The buffer is of no use then.
        """
        came = list(map(self._as_it_came, records))
        if records and self._gave_rest:
            came[-1] = records[-1]
        return b"".join([*came, self._rest])

    def _as_it_came(self, record: bytes) -> bytes:
        """Return the bytes of the stream that a record was cut from."""
        return record

    def _restart(self) -> None:
        """Forget the incomplete record and how far it was looked at."""
        self._rest = bytearray()

    @property
    def pending(self) -> int:
        """The number of bytes of the record that is not complete yet."""
        return len(self._rest)

    def _fail(self, failure: EventMuxError, rest: bytes = b"") -> EventMuxError:
        self._failure = failure
        self._rest += rest
        return failure


class Undivided(Records):
    """A discipline whose `write()` is done, or is not, whatever a signal handler raises.

    It may raise wherever a function is called. So what a write changes, it changes at its end, and
    nothing is called in between.
    """

    __slots__ = ()

    def fresh(self) -> Undivided:
        """Return an empty buffer with the same settings, for another stream."""
        raise NotImplementedError

    def again(self, before: int, taken: Sequence[bytes], data: bytes) -> tuple[Undivided, bytes]:
        """Return a fresh buffer, and what to write to it, in the place of a write that was cut off.

        Args:
            before: how many bytes were pending; -1 if nothing was written since.
            taken: the records that were read since.
            data: what was to be written.
        """
        came = self.unread([*taken, *self._records])
        return self.fresh(), came + data if before in (-1, len(came)) else came


def check_positive(name: str, value: int) -> None:
    """Raise ValueError if the value of an option is not an int of 1 or more."""
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} is {value!r}, must be a positive int")


def check_limit(name: str, value: int | None) -> None:
    """Raise ValueError if the value of an option is neither a positive int nor None."""
    if value is not None and (type(value) is not int or value < 1):
        raise ValueError(f"{name} is {value!r}, must be a positive int or None")
