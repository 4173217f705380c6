"""`rpcasync skeleton`, `stub` and `describe`: what is made of all that a server tells of itself.

Programs are printed in UTF-8, whatever the terminal's encoding is: so Python reads them.
"""

from __future__ import annotations

import argparse
import json
import sys

from rpcasync.cli.output import CommandFailed, print_lines, to_json, write_bytes
from rpcasync.cli.screen import is_terminal
from rpcasync.cli.session import chosen, connected_by
from rpcasync.describing import schema, skeleton, stub
from rpcasync.describing.procedures import Procedure, read_procedures
from rpcasync.errors import RemoteError

__all__ = ["print_description", "print_skeleton", "print_stub"]


def print_skeleton(options: argparse.Namespace) -> int:
    """Print a server program with the procedures; return the exit status.

    Raises:
        CommandFailed: the server does not tell of any, or has none of a name.
    """
    _print_program(skeleton.skeleton(_some_procedures(options)))
    return 0


def print_stub(options: argparse.Namespace) -> int:
    """Print classes with the procedures as methods; return the exit status.

    Raises:
        CommandFailed: the server does not tell of any, or has none of a name.
    """
    is_sync, is_async = not options.only_async, not options.only_sync
    found = _some_procedures(options)
    _print_program(stub.stub(found, is_sync=is_sync, is_async=is_async, has_undef=options.undef))
    return 0


def print_description(options: argparse.Namespace) -> int:
    """Print a JSON document about the procedures; return the exit status.

    Raises:
        CommandFailed: the server does not tell, or has no procedure of a name.
    """
    found = schema.schema(_procedures(options))
    if options.json:
        print_lines([to_json(found)])
        return 0
    text = json.dumps(found, ensure_ascii=False, indent=2)
    if not all(line.isprintable() for line in text.split("\n")):
        text = json.dumps(found, indent=2)
    print_lines(text.split("\n"))
    return 0


def _some_procedures(options: argparse.Namespace) -> list[Procedure]:
    found = _procedures(options)
    if not found:
        raise CommandFailed("the server has no procedures")
    return found


def _procedures(options: argparse.Namespace) -> list[Procedure]:
    """Return those that are asked for, or all."""
    with connected_by(options) as session:
        try:
            found = session.definitions()
        except RemoteError as error:
            text = f"the server does not tell of its procedures: {error}"
            raise CommandFailed(text) from None
        return read_procedures(chosen(found, options.wanted))


def _print_program(text: str) -> None:
    if is_terminal(sys.stdout):
        print_lines(text.split("\n")[:-1])
    else:
        write_bytes(text.encode())
