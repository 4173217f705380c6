"""The commands: which there are, and what was typed of one.

This file runs none of them, and talks to no server.
"""

from __future__ import annotations

import argparse
import shlex
import sys

from rpcasync.cli.lines import parse_words
from rpcasync.cli.options import (
    add_call,
    add_describe,
    add_health,
    add_listen,
    add_methods,
    add_record,
    add_replay,
    add_report,
    add_shell,
    add_skeleton,
    add_stats,
    add_stub,
    add_top,
)
from rpcasync.cli.output import print_lines
from rpcasync.cli.tab import SCRIPTS
from rpcasync.cli.usage import (
    EXAMPLE_URL,
    Overview,
    Parser,
    check_command,
    check_file,
    check_order,
    place,
    sort_out,
)

__all__ = ["options_in", "overview"]

_REQUIRED = {
    "call": {"url": "a URL", "procedure": "a procedure"},
    "methods": {"url": "a URL"},
    "replay": {"file": "a file", "url": "a URL"},
    "shadow-report": {"file": "a file"},
    "shell": {"url": "a URL"},
    "health": {"url": "a URL"},
    "stats": {"url": "a URL"},
    "top": {"url": "a URL"},
    "skeleton": {"url": "a URL"},
    "stub": {"url": "a URL"},
    "describe": {"url": "a URL"},
    "completion": {"shell": "the name of a shell"},
}


def options_in(words: list[str]) -> argparse.Namespace:
    """Return what was typed, the name of the command as `command`; end if that is no command."""
    parser = overview()
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    check_command(parser, words)
    options, rest = parser.parse_known_args(words)
    options.command = words[0]
    command = parser.commands[options.command]
    rest = sort_out(command, rest)
    required = _REQUIRED.get(options.command, {})
    place(options, required, rest)  # behind an option, argparse does not look for them
    if missing := [required[name] for name in required if getattr(options, name) is None]:
        command.lacks(*missing, hint=_lists(options.url) if options.command == "call" else "")
    if options.command == "replay":
        check_file(command, options.file, options.url)
    if options.command == "call":
        check_order(command, options.url, [options.procedure, *options.words, *rest])
        options.words = _values(command, [*options.words, *rest])
    elif hasattr(options, "wanted"):
        options.wanted += rest
    elif options.command == "shell":
        options.arguments += rest
    elif rest:
        command.error(f"{rest[0]!r} is one word too many")
    return options


def _lists(url: str | None) -> str:
    url = "URL" if url is None else shlex.quote(url)
    return f"rpcasync methods {url}   lists the procedures of a server"


def _values(command: Parser, words: list[str]) -> list[list[object]]:
    try:
        return parse_words(words)
    except ValueError as error:
        command.error(str(error))


def overview() -> Overview:
    """Return the parser of all commands."""
    parser = Overview(prog="rpcasync")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(prog="rpcasync", parser_class=Parser)
    listening = _command(
        commands,
        "listen",
        "run a server program, listening on URLs",
        "-u URL [-u URL ...] [OPTION ...] PROGRAM [ARGUMENT ...]",
        f"-u {EXAMPLE_URL} server.py",
    )
    add_listen(listening)

    call = _command(
        commands,
        "call",
        "call a procedure and print the answer",
        "[OPTION ...] URL PROCEDURE [NAME=VALUE | VALUE ...]",
        f"{EXAMPLE_URL} add_numbers n1=2 n2=3",
    )
    add_call(call)

    methods = _command(
        commands,
        "methods",
        "list the procedures of a server",
        "[OPTION ...] URL [PROCEDURE ...]",
        EXAMPLE_URL,
    )
    add_methods(methods)

    lines = _command(
        commands,
        "shell",
        "make calls that are typed, one on a line",
        "[OPTION ...] URL [ARGUMENT ...]",
        EXAMPLE_URL,
    )
    add_shell(lines)

    _add_seeing(commands)

    recording = _command(
        commands,
        "record",
        "pass calls on to a server, and write them to a file",
        "-u URL [-u URL ...] --to URL [OPTION ...] FILE",
        f"-u {EXAMPLE_URL} --to perl://./old.pl calls.jsonl",
    )
    add_record(recording)

    playing = _command(
        commands,
        "replay",
        "make the calls of a recording, and compare the answers",
        "[OPTION ...] FILE URL",
        f"--compare calls.jsonl {EXAMPLE_URL}",
    )
    add_replay(playing)

    report = _command(
        commands,
        "shadow-report",
        "show where a server's answers differ from the old one's",
        "[OPTION ...] FILE",
        "shadow.json",
    )
    add_report(report)

    _add_makers(commands)

    script = _command(
        commands,
        "completion",
        "print the script with which TAB completes in your shell",
        "bash|zsh|fish",
        "bash",
    )
    script.add_argument("shell", nargs="?", choices=tuple(SCRIPTS), help="for which shell")
    parser.commands = dict(commands.choices)
    return parser


def _add_seeing(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add what tells how a server does."""
    about = "tell by the exit status whether a server is well"
    health = _command(commands, "health", about, "[OPTION ...] URL", EXAMPLE_URL)
    add_health(health)

    about = "print the numbers of a server"
    stats = _command(commands, "stats", about, "[OPTION ...] URL", EXAMPLE_URL)
    add_stats(stats)

    about = "show what a server does, again and again"
    top = _command(commands, "top", about, "[OPTION ...] URL", EXAMPLE_URL)
    add_top(top)


def _add_makers(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add what makes something of the procedures of a server."""
    usage = "[OPTION ...] URL [PROCEDURE ...]"
    about = "print a server program with the procedures of a server, to be ported"
    skeleton = _command(commands, "skeleton", about, usage, "perl://./old.pl > server.py")
    add_skeleton(skeleton)

    about = "print typed clients for a server: a method for each procedure"
    stub = _command(commands, "stub", about, usage, f"{EXAMPLE_URL} > client.py")
    add_stub(stub)

    about = "print what the procedures of a server take and answer, in JSON Schema"
    describe = _command(commands, "describe", about, usage, EXAMPLE_URL)
    add_describe(describe)


def _command(
    commands: argparse._SubParsersAction[Parser], name: str, about: str, usage: str, example: str
) -> Parser:
    parser = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
    parser.usage = f"rpcasync {name} {usage}"
    parser.about, parser.example = about, example
    return parser


class _Version(argparse.Action):
    """Prints the version and ends."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print_lines([f"rpcasync {sys.modules['rpcasync'].__version__}"])
        parser.exit()
