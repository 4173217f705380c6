"""The commands: what each of them takes, and what of that was typed.

This file runs none of them, and talks to no server.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable

from eventmux._nearest import did_you_mean
from rpcasync.cli.lines import parse_words
from rpcasync.cli.output import print_lines
from rpcasync.cli.tab import SCRIPTS
from rpcasync.cli.usage import (
    EXAMPLE_URL,
    LEVELS,
    Overview,
    Parser,
    check_command,
    check_file,
    check_order,
    place,
    sort_out,
)
from rpcasync.urls import is_number
from rpcasync.wire.deadlines import check_seconds

__all__ = ["options_in", "overview"]

_REQUIRED = {
    "call": {"url": "a URL", "procedure": "a procedure"},
    "methods": {"url": "a URL"},
    "replay": {"file": "a file", "url": "a URL"},
    "shadow-report": {"file": "a file"},
    "shell": {"url": "a URL"},
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
    _add_listen(listening)

    call = _command(
        commands,
        "call",
        "call a procedure and print the answer",
        "[OPTION ...] URL PROCEDURE [NAME=VALUE | VALUE ...]",
        f"{EXAMPLE_URL} add_numbers n1=2 n2=3",
    )
    _add_call(call)

    methods = _command(
        commands,
        "methods",
        "list the procedures of a server",
        "[OPTION ...] URL [PROCEDURE ...]",
        EXAMPLE_URL,
    )
    _add_methods(methods)

    lines = _command(
        commands,
        "shell",
        "make calls that are typed, one on a line",
        "[OPTION ...] URL [ARGUMENT ...]",
        EXAMPLE_URL,
    )
    _add_server(lines)
    lines.add_argument("arguments", nargs="*", help="for a server that is started")

    recording = _command(
        commands,
        "record",
        "pass calls on to a server, and write them to a file",
        "-u URL [-u URL ...] --to URL [OPTION ...] FILE",
        f"-u {EXAMPLE_URL} --to perl://./old.pl calls.jsonl",
    )
    _add_record(recording)

    playing = _command(
        commands,
        "replay",
        "make the calls of a recording, and compare the answers",
        "[OPTION ...] FILE URL",
        f"--compare calls.jsonl {EXAMPLE_URL}",
    )
    _add_replay(playing)

    report = _command(
        commands,
        "shadow-report",
        "show where a server's answers differ from the old one's",
        "[OPTION ...] FILE",
        "shadow.json",
    )
    report.add_argument("file", nargs="?", metavar="FILE", help="of `listen --shadow-report`")
    report.add_argument("--json", action="store_true", help="print it as a line of JSON")
    _add_log_level(report)

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


def _add_makers(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add what makes something of the procedures of a server."""
    usage = "[OPTION ...] URL [PROCEDURE ...]"
    about = "print a server program with the procedures of a server, to be ported"
    skeleton = _command(commands, "skeleton", about, usage, "perl://./old.pl > server.py")
    _add_server(skeleton)
    _add_wanted(skeleton)

    about = "print typed clients for a server: a method for each procedure"
    stub = _command(commands, "stub", about, usage, f"{EXAMPLE_URL} > client.py")
    _add_server(stub)
    _add_wanted(stub)
    only = stub.add_mutually_exclusive_group()
    only.add_argument(
        "--sync", dest="only_sync", action="store_true", help="only the class that waits"
    )
    only.add_argument(
        "--async", dest="only_async", action="store_true", help="only the class for asyncio"
    )

    stub.add_argument(
        "--undef", action="store_true", help="what is in an answer may be undef, which is None"
    )

    about = "print what the procedures of a server take and answer, in JSON Schema"
    describe = _command(commands, "describe", about, usage, EXAMPLE_URL)
    _add_server(describe)
    _add_wanted(describe)
    describe.add_argument("--json", action="store_true", help="print it as a line of JSON")


def _add_wanted(parser: Parser) -> None:
    parser.add_argument("wanted", nargs="*", metavar="PROCEDURE", help="of these alone")


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


def _add_listen(parser: Parser) -> None:
    parser.set_defaults(parser=parser)
    parser.add_argument(  # not required=True: listen() says what is wrong in better words
        "-u", dest="urls", action="append", metavar="URL", help="where to listen"
    )
    parser.add_argument(
        "--codec",
        dest="codecs",
        action="append",
        choices=("storable", "json"),
        help="what clients may speak, can be repeated; default: both",
    )
    parser.add_argument(
        "--max-packet",
        type=_number("bytes", 7, 2**32 - 1),
        metavar="BYTES",
        help="the longest packet, both ways",
    )
    parser.add_argument(
        "--outstanding",
        type=_number("calls", 1),
        metavar="CALLS",
        help="how many calls run at once; others wait",
    )
    parser.add_argument(
        "--on-exception",
        choices=("answer", "disconnect"),
        help="what becomes of a client whose procedure fails: it is told so and stays, or told"
        " and disconnected; default: what the program says, or disconnect",
    )
    parser.add_argument(
        "--fallback",
        metavar="URL",
        help="the server for calls of procedures that the program does not have",
    )
    _add_shadow(parser)
    parser.add_argument(
        "--mode", type=_mode, metavar="MODE", help="who may use a unix:// path, as for chmod: 660"
    )
    _add_log_level(parser)
    parser.add_argument("program", nargs="?", help="a Python file that calls init_clients()")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")


def _add_shadow(parser: Parser) -> None:
    parser.add_argument(
        "--shadow",
        metavar="URL",
        help="an old server that calls are asked of, too: the answers are compared",
    )
    parser.add_argument(
        "--answer",
        choices=("new", "old"),
        help="with --shadow: whose answers clients get; default: new",
    )
    parser.add_argument(
        "--shadow-sample",
        type=_part,
        metavar="PART",
        help="with --shadow: the part of the calls that is compared, 0 to 1; default: 1",
    )
    parser.add_argument(
        "--shadow-except",
        type=_name,
        action="append",
        metavar="NAME",
        help="with --shadow: a procedure that is not asked of both, as it changes something; a *"
        " stands for any characters; can be repeated",
    )
    parser.add_argument(
        "--shadow-report",
        metavar="FILE",
        help="with --shadow: where to keep what differs, for `rpcasync shadow-report FILE`",
    )


def _add_call(parser: Parser) -> None:
    _add_server(parser)
    parser.add_argument(
        "procedure", nargs="?", metavar="PROCEDURE", help="`rpcasync methods URL` lists them"
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="NAME=VALUE|VALUE",
        help="what it is given; a value is read as JSON, and as text if it is none; @ is a "
        "callback, and shows what it is called with",
    )
    _add_forms(parser)


def _add_methods(parser: Parser) -> None:
    _add_server(parser)
    parser.add_argument(
        "wanted", nargs="*", metavar="PROCEDURE", help="tell of these alone, and all that is told"
    )
    parser.add_argument("--names", action="store_true", help="nothing but the names")
    parser.add_argument("--defs", action="store_true", help="with the types that the server sends")
    parser.add_argument("--json", action="store_true", help="print the list as a line of JSON")


def _add_record(parser: Parser) -> None:
    parser.set_defaults(parser=parser)
    parser.add_argument(  # not required=True: record() says what is wrong in better words
        "-u", dest="urls", action="append", metavar="URL", help="where to listen"
    )
    parser.add_argument("--to", metavar="URL", help="the server that answers")
    parser.add_argument(
        "--max-size",
        type=_number("bytes", 1),
        metavar="BYTES",
        help="put the file aside as FILE.1 when it has so many; default: never",
    )
    parser.add_argument(
        "--keep",
        type=_number("files", 1, 500),
        default=5,
        metavar="FILES",
        help="how many files that were put aside stay; default: 5",
    )
    parser.add_argument(
        "--redact",
        type=_whole_name,
        action="append",
        default=[],
        metavar="NAME",
        help="leave out the value of this name wherever it stands, can be repeated",
    )
    parser.add_argument(
        "--redact-procedure",
        dest="redact_procedures",
        type=_whole_name,
        action="append",
        default=[],
        metavar="NAME",
        help="leave out all values of this procedure, can be repeated",
    )
    parser.add_argument(
        "--mode", type=_mode, metavar="MODE", help="who may use a unix:// path, as for chmod: 660"
    )
    _add_log_level(parser)
    parser.add_argument("file", nargs="?", metavar="FILE", help="where the calls are written")


def _add_replay(parser: Parser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", help="what was recorded")
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="tcp://host:port, unix://path, python://file.py ..."
    )
    parser.add_argument(
        "--compare", action="store_true", help="compare the values of the answers, as Perl would"
    )
    parser.add_argument(
        "--speed",
        type=_factor,
        metavar="FACTOR",
        help="1: as fast as they came, 2: twice as fast; default: as fast as they are answered",
    )
    parser.add_argument(
        "--in-flight",
        type=_number("calls", 1),
        default=100,
        metavar="CALLS",
        help="how many calls may wait for an answer; default: 100",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="how long to wait for an answer; default: 10",
    )
    parser.add_argument(
        "--procedure",
        dest="only",
        type=_whole_name,
        action="append",
        default=[],
        metavar="NAME",
        help="make the calls of this procedure alone, can be repeated",
    )
    parser.add_argument(
        "--except",
        dest="but",
        type=_whole_name,
        action="append",
        default=[],
        metavar="NAME",
        help="leave out the calls of this procedure, can be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print the summary as a line of JSON")
    _add_log_level(parser)


def _add_server(parser: Parser) -> None:
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="tcp://host:port, unix://path, python://file.py ..."
    )
    parser.add_argument("--timeout", type=_seconds, help="seconds to wait for an answer")
    parser.add_argument(
        "--codec", choices=("storable", "json"), default="storable", help="default: storable"
    )
    _add_log_level(parser)


def _add_log_level(parser: Parser) -> None:
    parser.add_argument(
        "--log-level",
        type=_level,
        default="WARNING",
        metavar="LEVEL",
        help="debug, info, warning (the default), error or critical",
    )


def _add_forms(parser: Parser) -> None:
    """Add how an answer can be printed."""
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="print the answer as a line of JSON")
    forms.add_argument(
        "--raw", action="store_true", help="print the one value as it is: text, or bytes"
    )
    forms.add_argument(
        "--bytes", action="store_true", help="the same; characters are bytes, as from Perl"
    )
    parser.add_argument("--key", metavar="NAME", help="print only this value of the answer")


def _level(text: str) -> str:
    if text.lower() not in LEVELS:
        *most, last = LEVELS
        meant = did_you_mean(text.lower(), LEVELS)
        known = f"{', '.join(most)} and {last}"
        raise argparse.ArgumentTypeError(f"{text!r} is none of {known}{meant}")
    return text.upper()


def _seconds(text: str) -> float:
    try:
        return check_seconds("timeout", float(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None


def _part(text: str) -> float:
    try:
        if 0 <= float(text) <= 1:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")


def _factor(text: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return factor


def _mode(text: str) -> int:
    if not re.fullmatch("0?[0-7]{3}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no mode: three octal digits, as in 660")
    return int(text, 8)


def _name(text: str) -> str:
    """Return a name; several in one would be none, and something is done that should not be."""
    if "," in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no name: repeat the option for each")
    return text


def _whole_name(text: str) -> str:
    if "*" in text or "?" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is a pattern: names stand here as they are")
    return _name(text)


def _number(what: str, least: int, most: int | None = None) -> Callable[[str], int]:
    limits = f"{least} or more" if most is None else f"{least} to {most}"

    def number(text: str) -> int:
        is_good = is_number(text, digits=20) and int(text) >= least
        if not is_good or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of {what}: {limits}")
        return int(text)

    return number
