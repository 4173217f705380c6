"""What a child process prints, handed to the program line by line.

It is read as the loop turns, whatever the program waits for: a pipe that nobody reads would be
full one day, and the child would stand still.

Ctrl-C may come at any line: nothing that was read is lost, and no line comes twice.

The program's function is called from one line, in `take()`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import IO, cast

from eventmux import EventMux
from eventmux.events import Event, Handle

__all__ = ["LONGEST_LINE", "Output"]

LONGEST_LINE = 65_536  # bytes: one that is longer comes in pieces
_MOST_EVENTS = 64  # of one pipe, at a time

Tell = Callable[[str, bytes], object]


class _Stream:
    """One of the pipes."""

    __slots__ = ("has_ended", "name", "rest")

    def __init__(self, name: str) -> None:
        self.name = name
        self.rest = b"", 0
        """What was read, and where in it the next line begins: one thing, so it stays in step."""
        self.has_ended = False

    def next_line(self) -> tuple[bytes, tuple[bytes, int]] | None:
        """Return a line, without its end, and the `rest` behind it; None if none is complete."""
        data, at = self.rest
        end = data.find(b"\n", at, at + LONGEST_LINE + 1)
        if end >= 0:
            return data[at:end], (data, end + 1)
        left = len(data) - at
        if not left or (left <= LONGEST_LINE and not self.has_ended):
            return None
        end = min(at + LONGEST_LINE, len(data))
        return data[at:end], (data, end)


class Output:
    """The pipes of one child process.

    Args:
        mux: watches them from now on.
        pipes: by the name that the program is told.
        tell: called with that name and a line.
    """

    __slots__ = ("_fresh", "_mux", "_streams", "_tell", "todo")

    def __init__(self, mux: EventMux[Event], pipes: Mapping[str, IO[bytes]], tell: Tell) -> None:
        self._mux = mux
        self._tell = tell
        self._streams: dict[Handle | None, _Stream] = {}
        self._fresh: Event | None = None  # what the mux has returned here
        self.todo: list[Event] = []
        """Events that were handed out and not seen to: who adds one makes another list of it."""
        try:
            for name, pipe in pipes.items():
                mux.add(pipe)
                self._streams[pipe] = _Stream(name)
        except BaseException:
            for watched in self._streams:
                mux.remove(cast("Handle", watched))
            raise

    @property
    def is_open(self) -> bool:
        """True while there may be more to read."""
        return not all(stream.has_ended for stream in self._streams.values())

    def has(self, event: Event) -> bool:
        """True if an event is of one of the pipes."""
        return event.fh in self._streams

    def take(self) -> None:
        """See to the events, and hand over the lines that are complete."""
        while self.todo:
            self._see_to(self.todo[0], self.todo[1:])
        for stream in self._streams.values():
            while (found := stream.next_line()) is not None:
                line, stream.rest = found
                # This is where the program's code is called.
                self._tell(stream.name, line)

    def _see_to(self, event: Event, rest: list[Event]) -> None:
        stream = self._streams[event.fh]
        if event.type == "read":
            data, at = stream.rest
            fresh = data[at:] + event.data, 0  # type: ignore[attr-defined]
            stream.rest, self.todo = fresh, rest  # one line: all of it, or none
            return
        stream.has_ended = stream.has_ended or event.type == "closed"
        self.todo = rest

    def read(self) -> None:
        """Read what is there now, without a wait, and hand it over."""
        for pipe, stream in self._streams.items():
            for _ in range(_MOST_EVENTS):
                if stream.has_ended or not self._has_read(cast("Handle", pipe)):
                    break
                self.take()
        self.take()

    def _has_read(self, pipe: Handle) -> bool:
        self.keep()
        self._fresh = self._mux.mux(0, only=pipe)
        return self.keep()

    def keep(self) -> bool:
        """Note what the mux has returned to us, if it is an event of a pipe; then others follow."""
        event = self._fresh
        if event is None or event.type == "timeout":
            self._fresh = None
            return False
        self.todo, self._fresh = [*self.todo, event], None  # one line: all of it, or none
        return True

    def wake(self) -> None:
        """Have an event come: not all was handed over."""
        self._mux.push_event(Event(next(iter(self._streams))))
