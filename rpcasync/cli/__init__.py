"""The command line: one function for each command.

Results go to stdout, messages to stderr. The exit status is 0, 1 if a call failed, and 2 if the
command was not understood.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rpcasync._log import log_to_stderr
from rpcasync.cli.call import call
from rpcasync.cli.commands import options_in, overview
from rpcasync.cli.methods import methods
from rpcasync.cli.output import CommandFailed, say
from rpcasync.cli.shell import shell
from rpcasync.cli.tab import print_script

__all__ = ["main"]


def _listen(options: argparse.Namespace) -> int:
    from rpcasync.cli.listen import listen  # only there: a call has no use for it

    return listen(options)


def _record(options: argparse.Namespace) -> int:
    from rpcasync.cli.record import record

    return record(options)


def _replay(options: argparse.Namespace) -> int:
    from rpcasync.cli.replay import replay

    return replay(options)


def _shadow_report(options: argparse.Namespace) -> int:
    from rpcasync.cli.shadow_report import shadow_report

    return shadow_report(options)


def _health(options: argparse.Namespace) -> int:
    from rpcasync.cli.health import health

    return health(options)


def _stats(options: argparse.Namespace) -> int:
    from rpcasync.cli.stats import stats

    return stats(options)


def _top(options: argparse.Namespace) -> int:
    from rpcasync.cli.top import top

    return top(options)


def _made(options: argparse.Namespace) -> int:
    """Run one of the commands that make something: others have no use for what it takes."""
    from rpcasync.cli import making

    return {
        "skeleton": making.print_skeleton,
        "stub": making.print_stub,
        "describe": making.print_description,
    }[options.command](options)


_ASK = "_complete"  # a command that only the scripts for TAB know
_COMMANDS = {
    "listen": _listen,
    "call": call,
    "methods": methods,
    "record": _record,
    "replay": _replay,
    "shadow-report": _shadow_report,
    "shell": shell,
    "health": _health,
    "stats": _stats,
    "top": _top,
    "skeleton": _made,
    "stub": _made,
    "describe": _made,
    "completion": print_script,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with the given arguments, default `sys.argv`; return the status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == [_ASK]:
        from rpcasync.cli.completion import complete  # only for TAB: a call has no use for it

        return complete(overview(), words[1:])
    options = options_in(words)
    options.typed = words
    log_to_stderr(getattr(options, "log_level", "WARNING"))
    try:
        return _COMMANDS[options.command](options)
    except KeyboardInterrupt:
        say("interrupted")
        return 0 if options.command == "listen" else 1  # it is how a server is told to stop
    except CommandFailed as failure:
        failure.tell()
        return failure.status
