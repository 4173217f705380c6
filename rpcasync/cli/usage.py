"""What is said to whoever has typed a command that is none: what is wrong, and what to write.

Each message is a line that names the mistake, an example where something is missing, and where to
read more. This file parses no values, and knows of no server.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from eventmux._nearest import did_you_mean, nearest
from rpcasync.cli.output import say

__all__ = [
    "EXAMPLE_URL",
    "LEVELS",
    "Overview",
    "Parser",
    "check_command",
    "check_file",
    "check_order",
    "options_of",
    "place",
    "sort_out",
]

EXAMPLE_URL = "tcp://127.0.0.1:7007"
LEVELS = ("debug", "info", "warning", "error", "critical")
_NUMBER = re.compile(r"-[0-9.][0-9.eE+-]*", re.ASCII)
_URL = re.compile(r"\w+://")


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, in place of all that would be right.

    `about` says what its command does, and `example` is what may follow the name of it.
    """

    about = ""
    example = ""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)

    def format_help(self) -> str:
        """Return the help, with the example."""
        if self.example:
            self.epilog = f"example:\n  {self.prog} {self.example}"
        return super().format_help()

    def error(self, message: str, *mends: str) -> NoReturn:
        """Say what is wrong and how it is right, and end with status 2."""
        say(message, prefix=f"{self.prog}: ")
        for mend in mends:
            say(mend, prefix="  ")
        say(f"for more: {self.prog} --help", prefix="")
        self.exit(2)

    def lacks(self, *missing: str, hint: str = "") -> NoReturn:
        """Say what is required and has not been given."""
        verb = "is" if len(missing) == 1 else "are"
        *most, last = missing
        listed = f"{', '.join(most)} and {last}" if most else last
        required = f"{listed} {verb} required, for example:"
        self.error(required, f"{self.prog} {self.example}", *filter(None, [hint]))


class Overview(Parser):
    """The parser of all commands; `commands` has theirs."""

    commands: Mapping[str, Parser]

    def format_help(self) -> str:
        """Return what there is."""
        wide = max(map(len, self.commands))
        listed = [f"  {name:{wide}}  {each.about}" for name, each in self.commands.items()]
        return _OVERVIEW.format(commands="\n".join(listed), url=EXAMPLE_URL)


_OVERVIEW = """\
usage: rpcasync COMMAND ...

Remote procedure calls: serve Python functions, and call them.

commands:
{commands}

examples:
  rpcasync listen -u {url} server.py
  rpcasync methods {url}
  rpcasync call {url} add_numbers n1=2 n2=3
  rpcasync call python://server.py add_numbers n1=2 n2=3

The last one starts the server, for that call. `rpcasync COMMAND --help` tells all about a
command, and `rpcasync --version` the version.
"""


def options_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the options of a parser, in order."""
    return [action for action in parser._actions if action.option_strings]


# Before anything is parsed


def check_command(parser: Overview, words: Sequence[str]) -> None:
    """End unless the first word is a command, or an option that stands alone."""
    if not words:
        for line in parser.format_help().splitlines():
            say(line, prefix="")
        parser.exit(2)
    word, *rest = words
    known = parser.commands
    if word in known or word in _flags(parser):
        return
    problem = f"there is no command {word!r}"
    if word.startswith("-"):
        _check_place(parser, word, rest)
        parser.error(f"there is no option {word}{_meant_flag(word, parser)}")
    elif _URL.match(word):
        command = "call" if rest else "methods"
        parser.error(f"{problem}, write:", f"rpcasync {command} {shlex.join([word, *rest])}")
    elif word.endswith(".py"):
        command = shlex.join(["listen", "-u", EXAMPLE_URL, word, *rest])
        parser.error(f"{problem}, write:", f"rpcasync {command}")
    parser.error(f"{problem}{did_you_mean(word, known)}")


def _check_place(parser: Overview, word: str, rest: Sequence[str]) -> None:
    """End if an option is one of the command that stands behind it."""
    command = next((each for each in rest if each in parser.commands), None)
    flag = word.partition("=")[0]
    if command is not None and flag in _flags(parser.commands[command]):
        parser.error(f"{flag} goes behind the command: rpcasync {command} {flag} ...")


def _flags(parser: Parser) -> list[str]:
    return [flag for action in options_of(parser) for flag in action.option_strings]


def _meant_flag(word: str, parser: Parser) -> str:
    """Return the question whether an option was meant, with its semicolon."""
    flags = {flag.lstrip("-"): flag for flag in _flags(parser)}  # all have dashes in common
    meant = nearest(word.lstrip("-"), flags)
    return "" if meant is None else f"; did you mean {flags[meant]!r}?"


# After it was parsed


def sort_out(parser: Parser, rest: Sequence[str]) -> list[str]:
    """Return the values among what the parser could not place; end if there is an option."""
    if "--" in rest:
        at = rest.index("--")
        return [*sort_out(parser, rest[:at]), *rest[at + 1 :]]
    for word in rest:
        if word.startswith("-") and word != "-" and not _NUMBER.fullmatch(word):
            flag = word.partition("=")[0]
            mend = _meant_flag(flag, parser) or _mend(flag, parser)
            parser.error(f"there is no option {flag}{mend}")
    return list(rest)


def _mend(flag: str, parser: Parser) -> str:
    """Return how values are written, where a command takes them."""
    if parser.prog != "rpcasync call":
        return ""
    name = flag.removeprefix("--")
    if name.isidentifier():
        return f"; a value with a name is written {name}=VALUE"
    return "; a value that begins with - stands behind --"


def place(options: argparse.Namespace, names: Iterable[str], rest: list[str]) -> None:
    """Give the arguments that have none the first of the rest, which stood behind an option."""
    for name in names:
        if getattr(options, name) is None and rest:
            setattr(options, name, rest.pop(0))


def check_file(parser: Parser, file: str, url: str) -> None:
    """End if a URL stands in the place of the file."""
    if _URL.match(file):
        words = [url, file] if not _URL.match(url) else ["FILE", url]
        problem = f"{file!r} stands where the file is expected, write:"
        parser.error(problem, f"{parser.prog} {shlex.join(words)}")


def check_order(parser: Parser, url: str, words: Sequence[str]) -> None:
    """End if what stands in the place of the URL is none, and a URL stands behind it."""
    if _URL.match(url):
        return
    found = next((word for word in words if _URL.match(word)), None)
    if found is not None:
        others = [word for word in words if word is not found]
        command = shlex.join([found, url, *others])
        parser.error(
            f"{url!r} stands where the URL is expected, write:", f"{parser.prog} {command}"
        )
