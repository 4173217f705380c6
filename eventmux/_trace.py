"""A line in a log for each event that is handed out, and for what is sent.

fd 5 > b'hello'         sent, or queued to be sent
fd 5 < read b'hello'    an event with data
fd 5 : closing          an event without

The logger may have a handler that uses a mux itself, to send the lines to a log server for example.
What a trace causes is not traced, by no mux: it would not end. So it is noted here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from eventmux.events import Event, Handle, Records, Sent

__all__ = ["Trace"]

_SHOWN = 60  # bytes of data in a line
_RECORDS = 3  # of those that come in one event


_here = threading.local()  # `is_busy` while a line is being logged in this thread


class Trace:
    """What is logged to one logger."""

    __slots__ = ("_caused", "_debug", "_waiting")

    def __init__(self, logger: logging.Logger) -> None:
        self._debug = logger.debug
        self._caused: dict[int, Event] = {}  # by id(), what will be handed out because of a line
        self._waiting: set[Handle] = set()  # handles with lines that were not sent at once

    @property
    def is_busy(self) -> bool:
        """True if what happens now is caused by a trace."""
        return getattr(_here, "is_busy", False)

    def __enter__(self) -> None:
        """Begin to log."""
        _here.is_busy = True

    def __exit__(self, *exception: object) -> None:
        """Stop to log."""
        _here.is_busy = False

    # What it causes itself

    def note(self, events: Sequence[Event]) -> None:
        """Note events that will come because of a line."""
        self._caused.update((id(event), event) for event in events)

    def note_sent(self, fh: Handle, unsent: int, last: Event | None) -> None:
        """Note what was sent because of a line, with the last event that is queued now."""
        if unsent:
            self._waiting.add(fh)
        elif isinstance(last, Sent) and last.fh is fh:
            self.note((last,))

    def forget(self) -> None:
        """Forget the events: none is queued any more."""
        self._caused.clear()

    def has_caused(self, event: Event) -> bool:
        """True if an event that is handed out comes of a line; it is not asked again."""
        if self._caused.pop(id(event), None) is not None:
            return True
        if isinstance(event, Sent) and event.fh in self._waiting:
            self._waiting.discard(event.fh)
            return True
        return False

    # The lines

    def sent(self, fd: int, data: tuple[bytes | str, ...]) -> None:
        """Log what was given to `send()`; text says what else is sent."""
        for chunk in data:
            self._debug("fd %d > %s", fd, _shorten(chunk))

    def event(self, event: Event, fd: int | None) -> None:
        """Log an event, of a handle with that descriptor, or of none."""
        name = "mux" if event.fh is None else repr(event.fh) if fd is None else f"fd {fd}"
        data = getattr(event, "data", None)
        if isinstance(event, Records):
            self._debug("%s < %s %s", name, event.type, _shorten_all(event.records))
        elif isinstance(data, bytes) and data:
            self._debug("%s < %s %s", name, event.type, _shorten(data))
        else:
            self._debug("%s : %s", name, event.type)


def _shorten_all(records: list[bytes]) -> str:
    rest = len(records) - _RECORDS
    shown = ", ".join(map(_shorten, records[:_RECORDS]))
    return f"{shown}, and {rest} more" if rest > 0 else shown


def _shorten(data: bytes | str) -> str:
    if isinstance(data, str):
        return data
    rest = len(data) - _SHOWN
    shown = repr(bytes(data[:_SHOWN]))
    return f"{shown} and {rest} more" if rest > 0 else shown
