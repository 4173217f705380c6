"""The end of a server that was started as a child process, as the loop turns.

A server ends by itself when its last client has gone. One that has not after a time of grace gets
SIGTERM, and SIGKILL after as long again. Nothing here waits: the mux watches the process and the
time.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from typing import Any

from eventmux import EventMux
from eventmux.events import Event, Handle
from rpcasync._log import log

__all__ = ["Ending"]


class Ending:
    """The end of one process, from when it should end until it has.

    Args:
        mux: watches the process, and has something to wait for until it has ended.
        process: a process that should end.
        name: what it is, for the log.
        grace: seconds before SIGTERM, and then before SIGKILL.
        fh: what the events come with.
    """

    def __init__(
        self,
        mux: EventMux[Event],
        process: subprocess.Popen[Any],
        name: str,
        grace: float,
        fh: Handle,
    ) -> None:
        self._mux = mux
        self._fh = fh
        self._process = process
        self._name = name
        self._grace = grace
        self._means: list[tuple[str, Callable[[], None]]] = [
            ("SIGKILL", process.kill),
            ("SIGTERM", process.terminate),
        ]
        self._is_done = False  # the process has ended, and its event was taken
        self._timer = mux.timer(grace, self, fh=fh)
        try:
            self._child = mux.child(process, fh=fh)
        except BaseException:
            self._timer.cancel()
            raise

    @property
    def is_running(self) -> bool:
        """False once the process has ended, as far as is known without looking."""
        return not self._is_done and self._process.returncode is None

    @property
    def is_awaited(self) -> bool:
        """True until the loop has brought its end."""
        return self.is_running or (not self._is_done and bool(self._mux.has_events()))

    def io(self, event: Event) -> bool:
        """Take an event; return whether it was of this process, or the timer of its grace."""
        details: Any = event
        if event.type == "timer" and getattr(event, "data", None) is self:
            self._use_force()
        elif event.type == "child" and details.pid == self._process.pid:
            self._timer.cancel()
            if self._is_done:
                return True
            self._is_done = True
            level = logging.INFO if details.returncode else logging.DEBUG
            log.log(level, "%s ended with status %s", self._name, details.returncode)
        else:
            return False
        return True

    def hurry(self, grace: float) -> None:
        """Let the process have no more than this, if it had more."""
        if grace < self._grace and self._means and self._process.returncode is None:
            self._grace = grace
            self._timer.cancel()
            self._timer = self._mux.timer(grace, self, fh=self._fh)

    def _use_force(self) -> None:
        name, use = self._means[-1]
        log.warning("%s has not ended within %s seconds: %s", self._name, self._grace, name)
        use()
        self._means.pop()
        if self._means:
            self._timer = self._mux.timer(self._grace, self, fh=self._fh)
