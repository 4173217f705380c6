"""The end of a server that was started as a child process, in a loop of asyncio.

The steps are those of `children/ending.py`, which wants a mux for its timers and the process. So
there is one, for as long as that takes.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess

from eventmux import EventMux
from eventmux.aio import events
from rpcasync.children.ending import Ending

__all__ = ["ProcessEnd"]


class ProcessEnd:
    """The end of one process; `task` is done when it has ended.

    Args:
        loop: the one that runs.
        process: a process that should end.
        name: what it is, for the log.
        grace: seconds before SIGTERM, and then before SIGKILL.
        sock: whose process it is.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        process: subprocess.Popen[bytes],
        name: str,
        grace: float,
        sock: socket.socket,
    ) -> None:
        self._mux = EventMux()
        try:
            self._ending = Ending(self._mux, process, name, grace, sock)
        except BaseException:
            self._mux.__exit__()
            raise
        self.task = loop.create_task(self._run())

    async def _run(self) -> None:
        with self._mux:
            async for event in events(self._mux):
                self._ending.io(event)

    def hurry(self, grace: float) -> None:
        """Let the process have no more than this, if it had more."""
        if not self.task.done():
            self._ending.hurry(grace)
