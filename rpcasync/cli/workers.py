"""`rpcasync listen --workers N`: how the command is run anew for each worker, and by whom."""

from __future__ import annotations

import argparse
import os
import sys

from eventmux import EventMux
from rpcasync.cli.handed import Handed
from rpcasync.cli.output import CommandFailed, say
from rpcasync.notifying import watchdog_time
from rpcasync.serving.scoreboard import Scoreboard, make_file
from rpcasync.workers.supervisor import Supervisor
from rpcasync.workers.worker import Starter

__all__ = ["run_workers"]


def run_workers(options: argparse.Namespace, numbers: list[int], systemd: Handed) -> int:
    """Start the workers, and go on until all have ended; return the exit status.

    Args:
        options: of the command.
        numbers: the descriptors on which we listen.
        systemd: what it has handed over.

    Raises:
        CommandFailed: what systemd says cannot be, or the system has no memory to share.
    """
    try:
        watchdog = watchdog_time()
        board = make_file(options.workers + 1)
    except (ValueError, OSError) as error:
        raise CommandFailed(error) from None
    starter = Starter(_command(options.typed), numbers, systemd.numbers, board, watchdog)
    with EventMux() as mux:
        shared = Scoreboard(os.dup(board))
        return Supervisor(mux, starter, shared, options.workers, options.drain, say).run()


def _command(words: list[str]) -> list[str]:
    """Return how this command is run anew, with the options of the interpreter that we have."""
    before = sys.orig_argv[1 : len(sys.orig_argv) - len(words)]
    if sys.orig_argv[1:] != [*before, *words]:  # a program has called main(), with other words
        before = ["-m", "rpcasync"]
    return [sys.executable, *before, *words]
