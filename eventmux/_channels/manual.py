"""Handles that the program reads from or writes to itself.

`manual_read` and `manual_write` take over one direction each; the other stays with the channel
that would serve the handle otherwise. Readiness is reported at each turn while it lasts, unless
the program disarms it with `want_read()` or `want_write()`.
"""

from __future__ import annotations

from selectors import EVENT_READ, EVENT_WRITE

from eventmux._channels.channel import Channel
from eventmux._channels.packets import Datagram, PacketStream
from eventmux._channels.streams import Stream
from eventmux.events import Address, CanRead, CanWrite

__all__ = ["MANUAL", "ManualStream"]


class _Manual(Channel):
    """Goes in front of another kind of channel."""

    __slots__ = ()

    @property
    def wanted(self) -> int:
        """The readiness to wait for."""
        wanted = super().wanted
        if self.closing or self.dialing:
            return wanted
        if self.options.manual_read:
            wanted &= ~EVENT_READ
            wanted |= 0 if self.muted or getattr(self, "connecting", False) else EVENT_READ
        if self.options.manual_write:
            wanted &= ~EVENT_WRITE
            if not self.write_off:
                wanted = wanted & EVENT_READ | EVENT_WRITE  # which shows a hang-up, too
        return wanted

    def readable(self) -> None:
        """Tell the program, or read."""
        if self.closing or not self.options.manual_read:
            super().readable()
        else:
            self._emit(CanRead(self.fh))

    def writable(self) -> bool | None:
        """Tell the program, or write."""
        if not self.options.manual_write:
            return super().writable()
        if not self.closing:
            self._emit(CanWrite(self.fh))
        return False

    def queue(self, data: tuple[bytes, ...], receiver: Address | None = None) -> None:
        """Refuse if it is the program that writes."""
        if self.options.manual_write:
            raise TypeError(f"cannot send on {self.fh!r}: it has manual_write")
        super().queue(data, receiver)

    def shutdown(self) -> None:
        """Refuse if it is the program that writes: it knows when it has."""
        if self.options.manual_write:
            raise TypeError(f"cannot end our side of {self.fh!r}: it has manual_write")
        super().shutdown()


class ManualStream(_Manual, Stream):
    """A stream that the program reads, writes, or both."""

    __slots__ = ()


class _ManualPacketStream(_Manual, PacketStream):
    __slots__ = ()


class _ManualDatagram(_Manual, Datagram):
    __slots__ = ()


MANUAL: dict[type[Channel], type[Channel]] = {
    Stream: ManualStream,
    PacketStream: _ManualPacketStream,
    Datagram: _ManualDatagram,
}
"""By the class that serves a handle otherwise."""
