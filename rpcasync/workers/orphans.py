"""Processes that the first process of a container gets from others, to be waited for.

Whoever starts a process and ends leaves it to process 1, which has to wait for it, or it stays as a
zombie. Those that are waited for otherwise are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Container

__all__ = ["reap"]


def reap(ours: Container[int]) -> None:
    """Wait for the children that have ended, up to the first of ours; it has to be called again.

    Args:
        ours: the processes that somebody else waits for.
    """
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # there are no children at all
            return
        if found is None or found.si_pid in ours:
            return
        os.waitpid(found.si_pid, 0)
