"""A line in a log for each event that is handed out, and for what is sent.

fd 5 > b'hello'         sent, or queued to be sent
fd 5 < read b'hello'    an event with data
fd 5 : closing          an event without
"""

from __future__ import annotations

import logging

from eventmux.events import Event

__all__ = ["Trace"]

_SHOWN = 60  # bytes of data in a line


class Trace:
    """What is logged to one logger."""

    __slots__ = ("_debug",)

    def __init__(self, logger: logging.Logger) -> None:
        self._debug = logger.debug

    def sent(self, fd: int, data: tuple[bytes, ...]) -> None:
        """Log what was given to `send()`."""
        for chunk in data:
            self._debug("fd %d > %s", fd, _shorten(chunk))

    def event(self, event: Event, fd: int | None) -> None:
        """Log an event, of a handle with that descriptor, or of none."""
        name = "mux" if event.fh is None else repr(event.fh) if fd is None else f"fd {fd}"
        data = getattr(event, "data", None)
        if isinstance(data, bytes) and data:
            self._debug("%s < %s %s", name, event.type, _shorten(data))
        else:
            self._debug("%s : %s", name, event.type)


def _shorten(data: bytes) -> str:
    rest = len(data) - _SHOWN
    shown = repr(bytes(data[:_SHOWN]))
    return f"{shown} and {rest} more" if rest > 0 else shown
