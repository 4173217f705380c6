"""The selector, and what it is asked to wait for: no other file registers anything with it.

A pollable computes what it wants, and `arm()` tells the selector what has changed. While the mux
waits for one handle alone, the others that are ready are held: they are not read from until
`release()`. Files are always ready, which not every selector knows; those that it refuses are
served here at each turn.

This file knows pollables, not channels. It knows nothing of events, and of what a pollable does
when it is ready.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import selectors
from selectors import EVENT_READ, EVENT_WRITE
from typing import cast

from eventmux._waiting.hangups import HangUps
from eventmux._waiting.pollable import HANGUP, HELD, Ending, Pollable
from eventmux._waiting.spinning import Waiter
from eventmux.events import Handle

__all__ = ["Poller"]

_UNKNOWN = -1  # what the selector was asked for: it was interrupted meanwhile
_LONGEST_WAIT = 86400.0  # seconds; epoll and poll refuse more than some weeks at once


class Poller:
    """Waits for pollables to become ready, and has them read and write."""

    __slots__ = (
        *("_always", "_are_hangups_haunted", "_hangups", "_has_ghosts", "_held", "_is_shown"),
        *("_kind", "_selector", "waiter"),
    )

    def __init__(self, selector: selectors.BaseSelector, waiter: Waiter) -> None:
        self._selector = selector
        self.waiter = waiter  # how to wait with it
        self._kind = type(selector)
        self._held: list[Pollable] = []
        self._always: dict[int, Pollable] = {}  # by descriptor, what the selector refuses
        self._hangups: HangUps | None = None  # made for the first that wants HANGUP
        self._has_ghosts = False  # see _drive_out_ghosts()
        self._are_hangups_haunted = False  # likewise
        self._is_shown = False  # its descriptor is known to others

    def fileno(self) -> int:
        """Return the descriptor of the selector.

        Raises:
            io.UnsupportedOperation: this kind of selector has none.
        """
        fileno = getattr(self._selector, "fileno", None)
        if fileno is None:
            raise io.UnsupportedOperation(f"{type(self._selector).__name__} has no descriptor")
        self._is_shown = True
        return int(fileno())

    def refuse(self) -> None:
        """Raise RuntimeError if the selector is closed: what stands for it says why."""
        len(self._selector.get_map())

    def turn(self, timeout: float | None, only: Handle | None = None) -> bool:
        """Wait once; let what is ready write, then read. With `only`, no other handle may read.

        Returns:
            False if nothing was ready.
        """
        if self._always:
            timeout = 0
        elif timeout is not None and timeout > _LONGEST_WAIT:
            timeout = _LONGEST_WAIT
        if self._has_ghosts:
            self._drive_out_ghosts()
        try:
            ready = self.waiter.wait(self._selector, timeout)
        except (OSError, ValueError):
            if not self._fail_broken():
                raise
            return True
        new: dict[Pollable, bool] | None = None
        for key, mask in ready:
            if mask & EVENT_WRITE:
                pollable: Pollable = key.data
                if pollable.writable():
                    new = new or {}
                    new[pollable] = True
                self.arm(pollable)
        for key, mask in ready:
            if mask & EVENT_READ:
                pollable = key.data
                if new is not None and pollable in new:
                    continue
                if only is None or pollable.fh is None or pollable.fh == only:
                    try:
                        pollable.readable()
                    finally:  # the program's meta_handler may raise
                        if pollable.wanted != pollable.armed:  # as arm() asks, without the call
                            self.arm(pollable)
                else:
                    self._hold(pollable)
        if self._always:
            self._serve_always(only)
            return True
        return True if ready else False  # noqa: SIM210  # bool() is a call

    def _hold(self, pollable: Pollable) -> None:
        self._held.append(pollable)
        pollable.muted |= HELD
        self.arm(pollable)

    def _serve_always(self, only: Handle | None) -> None:
        ready = list(self._always.values())
        for pollable in ready:
            if pollable.armed & EVENT_WRITE:
                pollable.writable()
                self.arm(pollable)
        for pollable in ready:
            if pollable.armed & EVENT_READ:
                if only is None or pollable.fh == only:
                    try:
                        pollable.readable()
                    finally:
                        self.arm(pollable)
                else:
                    self._hold(pollable)

    def _fail_broken(self) -> bool:
        """Fail what select() cannot wait for: a closed descriptor, or one over 1023."""
        found = False
        for key in list(self._selector.get_map().values()):
            probe = selectors.SelectSelector()
            probe.register(key.fd, key.events)
            try:
                probe.select(0)
            except (OSError, ValueError) as error:
                found = True
                number = error.errno if isinstance(error, OSError) else None
                key.data.fail(OSError(number, getattr(error, "strerror", None) or str(error)))
                self.arm(key.data)
        return found

    def arm(self, pollable: Pollable) -> None:
        """Tell the selector what something wants; if it cannot be waited for, it fails."""
        if pollable.wanted == pollable.armed and pollable.fd == pollable.armed_fd:
            return
        try:
            self.watch(pollable)
        except OSError as error:  # the program has closed it without telling, most likely
            pollable.armed = 0  # a selector that refuses a change has forgotten the whole thing
            self._has_ghosts = True
            pollable.fail(error)

    def watch(self, pollable: Pollable) -> None:
        """Do what `arm()` does for something new.

        Raises:
            OSError: the selector does not take it.
        """
        wanted, fd = pollable.wanted, pollable.fd
        try:
            if pollable.armed and (
                not wanted
                or fd != pollable.armed_fd
                or (wanted == HANGUP) != (pollable.armed == HANGUP)
            ):
                self._unregister(pollable)
            if wanted and pollable.armed:
                self._modify(pollable, fd, wanted)
            elif wanted:
                self._register(pollable, fd, wanted)
        except OSError:
            raise
        except BaseException:  # Ctrl-C, for example
            pollable.armed, pollable.armed_fd = _UNKNOWN, fd
            self._has_ghosts = True
            raise
        pollable.armed, pollable.armed_fd = wanted, fd

    def _register(self, pollable: Pollable, fd: int, wanted: int) -> None:
        """Register it, unless the program has closed it, and the number is another's by now."""
        if pollable.is_lost():
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        other = self.owner(fd)
        if other is not None and other is not pollable:  # so it is that one which is closed
            other.fail(OSError(errno.EBADF, os.strerror(errno.EBADF)))
            self.arm(other)
        if wanted == HANGUP:
            self._watch_hang_up(pollable, fd)
            return
        try:
            self._selector.register(fd, wanted, pollable)
        except PermissionError:  # epoll says so of files, and of /dev/null
            self._always[fd] = pollable
        except FileExistsError:  # the selector was interrupted, and has forgotten it
            self._expel(fd)
            self._selector.register(fd, wanted, pollable)

    def _watch_hang_up(self, pollable: Pollable, fd: int) -> None:
        if self._hangups is None:
            if not hasattr(select, "epoll"):
                return
            try:
                self._hangups = HangUps(self.arm, self._meet_ghost)
            except OSError:  # no descriptor is left: the end is noticed when something is sent
                return
        if self._hangups.armed != EVENT_READ:
            self.watch(self._hangups)
        self._hangups.add(fd, cast("Ending", pollable))

    def _modify(self, pollable: Pollable, fd: int, wanted: int) -> None:
        if fd in self._always or wanted == HANGUP:
            return
        try:
            self._selector.modify(fd, wanted, pollable)
        except (FileNotFoundError, KeyError):  # it was interrupted; or it is closed, which it says
            self._register(pollable, fd, wanted)

    def _expel(self, fd: int) -> None:
        """Take a descriptor out of an epoll whose selector has forgotten it."""
        if not self._is_epoll:  # what the others know is what they are asked for each time
            return
        with contextlib.suppress(OSError):
            epoll = select.epoll.fromfd(
                os.dup(cast("selectors.EpollSelector", self._selector).fileno())
            )
            with epoll:
                epoll.unregister(fd)

    def _unregister(self, pollable: Pollable) -> None:
        fd = pollable.armed_fd
        try:
            if self._hangups is not None and self._hangups.owner(fd) is pollable:
                self._hangups.discard(fd)
            if self._always.get(fd) is pollable:
                del self._always[fd]
            elif pollable.armed != HANGUP:
                self._selector.unregister(fd)
        except KeyError:
            if pollable.armed != _UNKNOWN:
                raise
            self._expel(fd)
        except BaseException:  # Ctrl-C, for example
            pollable.armed = _UNKNOWN
            self._has_ghosts = True
            raise
        pollable.armed = 0
        if pollable.is_lost():
            self._has_ghosts = True

    @property
    def _is_epoll(self) -> bool:
        return type(self._selector) is getattr(selectors, "EpollSelector", None)

    def _drive_out_ghosts(self) -> None:
        """Stop epoll from reporting what the program closed: it does while a duplicate is open.

        By number it cannot be removed any more, so epoll starts over, with the same descriptor.
        Who watches that one would not notice, and hear nothing any more: then it stays as it is.
        """
        if self._hangups is not None and self._are_hangups_haunted:
            if self._hangups.armed:
                self._unregister(self._hangups)
            self._hangups.start_over()
            self.watch(self._hangups)
            self._are_hangups_haunted = False
        self._has_ghosts = False
        if self._is_shown or not self._is_epoll:
            return
        with contextlib.suppress(OSError), select.epoll() as fresh:
            for key in self._selector.get_map().values():
                read = select.EPOLLIN if key.events & EVENT_READ else 0
                write = select.EPOLLOUT if key.events & EVENT_WRITE else 0
                with contextlib.suppress(OSError):  # one that is closed: it will be looked after
                    fresh.register(key.fd, read | write)
            old = cast("selectors.EpollSelector", self._selector)
            os.dup2(fresh.fileno(), old.fileno(), inheritable=False)

    def _meet_ghost(self) -> None:
        """Drive out what the epoll of hang-ups reports and the program has closed, next turn."""
        self._are_hangups_haunted = self._has_ghosts = True

    def disarm(self, pollable: Pollable) -> None:
        """Forget something."""
        if pollable.armed:
            self._unregister(pollable)
        if pollable.muted & HELD:
            self._held.remove(pollable)
            pollable.muted &= ~HELD

    def owner(self, fd: int) -> Pollable | None:
        """Return what is armed with a descriptor."""
        if fd in self._always:
            return self._always[fd]
        if self._hangups is not None and (pollable := self._hangups.owner(fd)) is not None:
            return pollable
        key = self._selector.get_map().get(fd)
        return None if key is None else key.data

    @property
    def has_files(self) -> bool:
        """True if something is always ready."""
        return bool(self._always)

    def close(self, refusal: selectors.BaseSelector) -> None:
        """Close the selector; what stands for it from now on refuses."""
        self._selector.close()
        self._selector = refusal
        if self._hangups is not None:
            self._hangups.close()
        self._always.clear()

    def new_selector(self) -> selectors.BaseSelector:
        """Return another selector like the one that was abandoned."""
        return self._kind()

    # Handles that are not to be read from, while one alone is waited for

    def release(self) -> None:
        """Read again from the handles that were held."""
        held = self._held[:]
        for pollable in held:
            pollable.muted &= ~HELD
            self.arm(pollable)
        del self._held[: len(held)]
