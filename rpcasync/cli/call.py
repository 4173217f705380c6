"""`rpcasync call`: one call, and its answer on stdout."""

from __future__ import annotations

import argparse
import sys

from rpcasync.cli.output import harmless, print_lines, say, write_bytes
from rpcasync.cli.progress import Callbacks
from rpcasync.cli.rendering import as_bytes, only_value, print_answer
from rpcasync.cli.screen import is_terminal
from rpcasync.cli.session import connected_by

__all__ = ["call"]


def call(options: argparse.Namespace) -> int:
    """Make the call; return the exit status.

    Raises:
        CommandFailed: there is no answer, or not what is to be printed of it.
    """
    values = [value for word in options.words for value in word]
    is_raw = options.raw or options.bytes
    _see_key(options)
    with connected_by(options) as session:
        session.callbacks = Callbacks(as_json=options.json, on_stderr=is_raw)
        reply = session.ask(options.procedure, values)
        try:
            if is_raw:
                _print_raw(only_value(reply, options.value), is_binary=options.bytes)
            else:
                print_answer(reply, as_json=options.json, name=options.value)
            session.attend()
        except KeyboardInterrupt:
            if not session.client.has_coderefs():
                raise
            say("interrupted")  # it is how a subscription ends
    return 0


def _see_key(options: argparse.Namespace) -> None:
    """Take `--key` without `--cert` for `--value`: that was its name before there was TLS."""
    if options.cert is None and options.key is not None:
        options.value, options.key = options.value or options.key, None


def _print_raw(value: object, *, is_binary: bool) -> None:
    """Print a value as it is; to a terminal, what can be shown of it."""
    data = as_bytes(value, is_binary=is_binary)
    if is_terminal(sys.stdout):
        print_lines(
            harmless(line, "\t") for line in data.decode(errors="backslashreplace").splitlines()
        )
    else:
        write_bytes(data)
