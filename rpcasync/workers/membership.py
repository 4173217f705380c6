"""What a worker of `rpcasync listen --workers` is given by its parent, and has from then on.

    RPCASYNC_WORKER    a JSON object: `parent`, its process; `listeners`, `tell` and `board`, the
                       numbers of descriptors; `place`, ours on the scoreboard

The variable is removed when it is read. This file knows no server.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from dataclasses import asdict, dataclass

from rpcasync.activation import refuse
from rpcasync.children.environments import WORKER_VARIABLE
from rpcasync.children.parent import drain_after
from rpcasync.notifying import tell_parent
from rpcasync.serving.sharing import Sharing

__all__ = ["Membership", "membership", "sharing"]

_sharing: Sharing | None = None  # of this process
_pid = 0  # the process; a child that it forks is none of the workers


def sharing() -> Sharing | None:
    """Return how this process takes turns with the other workers; None if it is none."""
    return _sharing if os.getpid() == _pid else None


@dataclass(slots=True)
class Membership:
    """What is given."""

    parent: int
    listeners: list[int]
    tell: int
    board: int
    place: int

    def to_text(self) -> str:
        """Return what stands in the environment."""
        return json.dumps(asdict(self))

    def begin(self, drain: float) -> None:
        """Be a worker: tell the parent how we do, end when it has ended, take turns.

        Args:
            drain: how many seconds our clients have to leave.

        Raises:
            OSError: a descriptor is none.
        """
        global _pid, _sharing
        from rpcasync.serving.scoreboard import Scoreboard  # most programs are no worker

        for number in (*self.listeners, self.tell, self.board):
            os.set_inheritable(number, False)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            signal.signal(signal.SIGHUP, _leave_to_parent)
        drain_after(self.parent, drain)
        tell_parent(socket.socket(fileno=self.tell))
        _sharing, _pid = Sharing(Scoreboard(self.board), self.place), os.getpid()
        if os.environ.get("LISTEN_FDS"):  # ours as the parent's
            os.environ["LISTEN_PID"] = str(os.getpid())


def _leave_to_parent(signum: int, frame: object) -> None:
    """Do nothing about a signal that was sent to all processes of a service."""


def membership() -> Membership | None:
    """Return what this process is given; None if it is no worker."""
    text = os.environ.pop(WORKER_VARIABLE, "")
    if not text:
        return None
    try:
        return Membership(**json.loads(text))
    except (ValueError, TypeError) as error:
        refuse(WORKER_VARIABLE, text, error)
