"""`rpcasync health`: one question, one line, and an exit status, for whoever watches a server."""

from __future__ import annotations

import argparse
import time

from rpcasync.calls import Reply
from rpcasync.cli.output import CommandFailed, on_one_line, print_lines
from rpcasync.cli.session import Session, connected_by, is_unknown
from rpcasync.errors import RemoteError
from rpcasync.wire.messages import as_text

__all__ = ["health"]

_LONGEST = 60  # characters of what a server may call its status


def health(options: argparse.Namespace) -> int:
    """Ask, and print how the server is; return the exit status: 0 if it is well.

    Raises:
        CommandFailed: it does not answer in time.
    """
    with connected_by(options) as session:
        is_well, line = _asked(session, options.timeout)
        print_lines([line])
    return 0 if is_well else 1


def _asked(session: Session, seconds: float) -> tuple[bool, str]:
    end = time.monotonic() + seconds
    session.names = []  # so that it does not look for what may have been meant
    try:
        return _read(session.ask("health"))
    except RemoteError as error:
        if not is_unknown(error, "health"):
            raise CommandFailed(f"health: {error}") from None
    session.timeout = max(0.0, end - time.monotonic())
    try:
        session.ask("methods")
    except RemoteError as error:
        if not is_unknown(error, "methods"):
            raise CommandFailed(f"methods: {error}") from None
        return True, "ok: it answers, and has neither health nor methods"
    return True, "ok: it answers, and has no procedure health"


def _read(reply: Reply) -> tuple[bool, str]:
    """Return whether a server is well by its answer, and what to print.

    A procedure of the program's own may answer with anything: then it is well, as it answers.
    """
    values = [as_text(value) for value in reply]
    if "status" not in values[:-1:2]:
        return True, "ok: it answers, without a status"
    status = values[values.index("status") + 1]
    text = status if isinstance(status, str) else on_one_line(status)
    return status == "ok", on_one_line(text[:_LONGEST])
