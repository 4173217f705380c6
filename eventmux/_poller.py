"""The selector, and what it is asked to wait for: the only place that knows it.

A channel computes what it wants; `arm()` passes on what has changed. Channels can be set aside
for a while: listeners that ran out of descriptors, which would be ready without end, and handles
that nobody wants to hear from now.

This file knows nothing of events, and of what a channel does when it is ready.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE

from eventmux._channels import Channel, Listener
from eventmux.events import Handle

__all__ = ["Poller"]

_RETRY_ACCEPT = 1.0  # seconds until a listener that could not accept tries again
_LONGEST_WAIT = 86400.0  # seconds; epoll and poll refuse more than some weeks at once


class Poller:
    """Waits for channels to become ready, and has them read and write."""

    __slots__ = ("_clock", "_held", "_paused", "_resume_at", "_selector")

    def __init__(self, selector: selectors.BaseSelector, clock: Callable[[], float]) -> None:
        self._selector = selector
        self._clock = clock
        self._paused: list[Listener] = []
        self._resume_at = 0.0
        self._held: list[Channel] = []

    def turn(self, timeout: float | None, only: Handle | None = None) -> None:
        """Wait once; let what is ready write, then read. With `only`, nothing else may read."""
        if self._paused:
            timeout = self._until_resume(timeout)
        if timeout is not None and timeout > _LONGEST_WAIT:
            timeout = _LONGEST_WAIT
        ready = self._selector.select(timeout)
        for key, mask in ready:
            if mask & EVENT_WRITE:
                channel: Channel = key.data
                channel.writable()
                self.arm(channel)
        for key, mask in ready:
            if mask & EVENT_READ:
                channel = key.data
                if only is None or channel.fh == only:
                    channel.readable()
                else:
                    self._hold(channel)
                if channel.wanted != channel.armed:  # as arm() asks, without the call
                    self.arm(channel)

    def arm(self, channel: Channel) -> None:
        """Tell the selector what the channel wants."""
        wanted, fd = channel.wanted, channel.fd
        if wanted == channel.armed and fd == channel.armed_fd:
            return
        if channel.armed and (not wanted or fd != channel.armed_fd):
            self._selector.unregister(channel.armed_fd)
            channel.armed = 0
        if wanted and channel.armed:
            self._selector.modify(fd, wanted, channel)
        elif wanted:
            self._selector.register(fd, wanted, channel)
        channel.armed, channel.armed_fd = wanted, fd

    def disarm(self, channel: Channel) -> None:
        """Forget a channel. If its descriptor is closed, listeners may be able to accept again."""
        if channel.armed:
            self._selector.unregister(channel.armed_fd)
            channel.armed = 0
        if channel.held:
            self._held.remove(channel)
        if isinstance(channel, Listener) and channel.paused:
            self._paused.remove(channel)
        if self._paused:
            self._resume()

    def owner(self, fd: int) -> Channel | None:
        """Return the channel that is armed with a descriptor."""
        key = self._selector.get_map().get(fd)
        return None if key is None else key.data

    def close(self) -> None:
        """Close the selector."""
        self._selector.close()

    # Listeners that cannot accept, for example because the process is out of descriptors

    def pause(self, listener: Listener) -> None:
        """Let a listener try again in a while, or when a descriptor is given back."""
        if not self._paused:
            self._resume_at = self._clock() + _RETRY_ACCEPT
        self._paused.append(listener)

    def _until_resume(self, timeout: float | None) -> float | None:
        """Return how long to wait at most, and resume if it is time to."""
        pause = self._resume_at - self._clock()
        if pause <= 0:
            self._resume()
            return timeout
        return pause if timeout is None else min(pause, timeout)

    def _resume(self) -> None:
        listeners, self._paused = self._paused, []
        for listener in listeners:
            listener.paused = False
            self.arm(listener)

    # Handles that are not to be read from, while one alone is waited for

    def _hold(self, channel: Channel) -> None:
        channel.held = True
        self._held.append(channel)

    def release(self) -> None:
        """Read again from the handles that were held."""
        channels, self._held = self._held, []
        for channel in channels:
            channel.held = False
            self.arm(channel)
