"""`rpcasync methods`: what a server has, and what each procedure takes and answers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from rpcasync.cli.definitions import (
    Definition,
    definition_lines,
    description_lines,
    procedures,
    signature_lines,
)
from rpcasync.cli.output import CommandFailed, on_one_line, print_lines, to_json
from rpcasync.cli.screen import colours_of
from rpcasync.cli.session import Session, chosen, connected_by
from rpcasync.errors import RemoteError

__all__ = ["methods"]


def methods(options: argparse.Namespace) -> int:
    """List them; return the exit status.

    Raises:
        CommandFailed: the server does not tell, or has no procedure that was asked for.
    """
    with connected_by(options) as session:
        found = chosen(_found_methods(session, options), options.wanted)
        print_lines(_method_lines(found, options))
    return 0


def _found_methods(session: Session, options: argparse.Namespace) -> dict[str, Definition]:
    """Ask for as much as is printed."""
    if not options.defs:
        is_plain = options.names or options.json
        return procedures(session.ask("methods")) if is_plain else session.definitions()
    try:
        return procedures(session.ask("methods", ("defs", 1)))
    except RemoteError as error:
        raise CommandFailed(f"the server has no definitions: {error}") from None


def _method_lines(found: dict[str, Definition], options: argparse.Namespace) -> Iterator[str]:
    colours = colours_of(sys.stdout)
    if options.json:
        yield to_json(found)
    elif options.names:
        yield from map(on_one_line, sorted(found))
    elif options.defs:
        yield from definition_lines(found)
    elif options.wanted:
        for name, about in found.items():
            yield from description_lines(name, about, colours)
    else:
        yield from signature_lines(found, colours)
