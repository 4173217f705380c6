"""Handles with something out of the ordinary to tell: urgent data of TCP, a file of sysfs or /proc.

The kernel tells it as POLLPRI (poll(2)), for which the selectors module has no name. So each such
handle has an epoll of its own, which waits for that alone, and which the mux waits for as it does
for any descriptor. One for all of them would not do: some files, such as /proc/mounts, tell a
change to whoever asks first, and that is the outer wait, which does not say whose it was.

It is told once for each time that the kernel tells of it (EPOLLET), whether the program reads it or
not: what it leaves does not keep the loop busy. Urgent data comes past what was sent before, and is
lost once the stream has been read beyond its place. So it is looked for before each read, and
nothing is read until the program has been told.
"""

from __future__ import annotations

import select
from itertools import starmap
from selectors import EVENT_READ
from typing import Any

from eventmux._channels.channel import TOLD, Channel
from eventmux._channels.manual import ManualStream
from eventmux._channels.streams import Source, Stream
from eventmux._waiting.pollable import HELD
from eventmux.events import CanRead, Handle

__all__ = ["EXCEPTIONAL", "ExceptionalFile", "Noticing", "can_wait"]


_PRI = getattr(select, "EPOLLPRI", 0)
_EDGE = getattr(select, "EPOLLET", 0)
_NOW = ((0,),)  # the arguments of `poll()`, for starmap()


def can_wait() -> bool:
    """True if the system has what it takes: epoll, of Linux."""
    return hasattr(select, "epoll")


class Notice:
    """What the poller waits for beside a channel; see `Pollable`."""

    __slots__ = ("_channel", "_epoll", "armed", "armed_fd", "fd", "muted", "poll")

    def __init__(self, channel: Noticing) -> None:
        self._channel = channel
        self._epoll = select.epoll()
        self.poll = self._epoll.poll
        self.fd = self._epoll.fileno()
        self.armed = 0
        self.armed_fd = -1
        self.muted = 0

    def watch(self, fd: int) -> None:
        """Wait for what is exceptional of a descriptor.

        Raises:
            ValueError: it is of a file that never has anything.
        """
        try:
            self._epoll.register(fd, _PRI | _EDGE)
        except PermissionError:
            text = f"exceptional is for what the kernel tells of, not for {self._channel.fh!r}"
            raise ValueError(text) from None

    @property
    def fh(self) -> Handle:
        """The handle that it is about."""
        return self._channel.fh

    @property
    def wanted(self) -> int:
        """The readiness to wait for."""
        return 0 if self.muted & HELD else EVENT_READ

    def readable(self) -> None:
        """Tell the program."""
        self._channel.notice_is_ready()

    def writable(self) -> None:
        """Do nothing: it never wants to write."""

    def fail(self, error: OSError) -> None:
        """Fail the channel: the poller cannot wait for this."""
        self._channel.fail(error)

    def is_lost(self) -> bool:
        """False: only the channel closes it."""
        return False

    def close(self) -> None:
        """Wait for nothing any more."""
        self._epoll.close()


class Noticing(Channel):
    """A channel with a notice."""

    __slots__ = ()

    notice: Notice

    def notice_is_ready(self) -> None:
        """Tell the program, if there is something."""
        raise NotImplementedError

    def release(self) -> None:
        """Give the handle back as it was."""
        self.notice.close()
        super().release()

    def shut(self) -> None:
        """Close the handle."""
        self.notice.close()
        super().shut()

    def drop(self) -> None:
        """Close this process's copy of what is its parent's."""
        self.notice.close()
        super().drop()


class _ExceptionalStream(Noticing, Stream):
    __slots__ = ("notice",)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._reads = range(1)  # in one turn: a second one might pass what has come meanwhile

    def _prepare(self) -> None:
        self.notice = Notice(self)
        self.notice.watch(self.fd)  # first: it may raise
        super()._prepare()

    def connected(self) -> None:
        """Note that the connection is up, by another descriptor."""
        super().connected()
        self.notice.watch(self.fd)

    def readable(self) -> None:
        """Read, unless there is something that the program is to read first."""
        if self.closing or not (self.muted & TOLD or self._tell()):
            super().readable()

    def notice_is_ready(self) -> None:
        """Tell the program, if it was not told before a read."""
        self._tell()

    def _tell(self) -> bool:
        """Tell the program what it was not told of; False if there is nothing."""
        event = CanRead(self.fh, exceptional=True)
        [found] = starmap(self.notice.poll, _NOW)  # as in Intake.readable()
        if not found or not found[0][1] & _PRI or self.closing:
            return False
        self._emit(event)
        self._unsettle()
        self.muted |= TOLD  # until settle()
        return True

    @property
    def is_behind(self) -> bool:
        """True if it has something to emit that nothing but `settle()` will."""
        return bool(self.muted & TOLD) or super().is_behind

    def settle(self) -> None:
        """Go on: the program was told, and has read what it wanted to."""
        self.muted &= ~TOLD
        super().settle()


class _ExceptionalSource(_ExceptionalStream, Source):
    __slots__ = ()


class _ExceptionalManualStream(_ExceptionalStream, ManualStream):
    __slots__ = ()


class ExceptionalFile(Noticing):
    """A file that can always be read from, as those of sysfs and /proc: that tells nothing."""

    why_not = "it is watched for what is exceptional alone"
    __slots__ = ("notice",)

    def _prepare(self) -> None:
        self.notice = Notice(self)
        self.notice.watch(self.fd)

    @property
    def wanted(self) -> int:
        """The readiness to wait for: none."""
        return 0

    def readable(self) -> None:
        """Do nothing: the program reads."""

    def writable(self) -> None:
        """Do nothing: the program writes."""

    def notice_is_ready(self) -> None:
        """Tell the program: the file has told the poller, and may tell nothing a second time."""
        if not self.closing:
            self._emit(CanRead(self.fh, exceptional=True))
        self.notice.poll(0)  # so that it is ready no more


EXCEPTIONAL: dict[type[Channel], type[Channel]] = {
    Stream: _ExceptionalStream,
    Source: _ExceptionalSource,
    ManualStream: _ExceptionalManualStream,
}
"""By the class that serves a handle otherwise."""
