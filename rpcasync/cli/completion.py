"""What the scripts for TAB ask for: what a word of a command may be completed to.

Three rules:

- Nothing is started. A server on a socket is asked for its procedures; of a program, the file is
  read.
- TAB answers soon, whatever the server does, and takes little of what it sends.
- A name that a shell or a terminal could obey is not offered, whoever has given it.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from eventmux import EventMux
from rpcasync.cli.definitions import Definition, parameters, procedures
from rpcasync.cli.output import CommandFailed, print_lines
from rpcasync.cli.tab import SCRIPTS, replacements, split_line
from rpcasync.cli.usage import LEVELS, Overview, Parser, options_of
from rpcasync.client import Client
from rpcasync.errors import RemoteError, RPCError
from rpcasync.urls import is_stream_url
from rpcasync.wire.messages import as_text

__all__ = ["Candidate", "candidates", "complete"]

_LIMIT = 1.0  # seconds that a server has to answer
_MOST_BYTES = 1024 * 1024  # of its answer, and of the file of a program
_MOST_ITEMS = 20_000  # values in its answer
_MOST = 500  # candidates
_MOST_FILES = 10_000  # that are looked at in a folder
_ABOUT = 80  # characters of what is said beside a candidate
_NAME = re.compile(r"\w[\w.:-]*")

_Known: TypeAlias = Mapping[str, Definition]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A word that may be meant, and what is said of it."""

    text: str
    about: str = ""


def complete(parser: Overview, words: Sequence[str]) -> int:
    """Print what the last word may be completed to; return the exit status.

    Args:
        parser: of all commands.
        words: the shell; then for bash the line up to the cursor, and the characters at which it
            divides words; for the others the words that have been typed, and what is there of the
            last one.
    """
    match words:
        case ["bash", line, breaks]:
            typed = split_line(line, breaks)
            found = candidates(parser, typed.words, typed.text)
            lines = replacements(typed, (each.text for each in found))
        case ["zsh" | "fish", *before, text]:
            found = candidates(parser, before, text)
            lines = (f"{each.text}\t{each.about}".rstrip("\t") for each in found)
        case _:
            return 2
    try:
        print_lines(lines)
    except CommandFailed:  # the shell does not listen any more
        return 1
    return 0


# Candidates


def candidates(parser: Overview, before: Sequence[str], text: str) -> list[Candidate]:
    """Return what a word may be completed to.

    Args:
        parser: of all commands.
        before: the words in front of it, without the name of the program.
        text: what is there of it.
    """
    if not before or before[0] == "help":
        is_option = text.startswith("-") and not before
        found = _flags(parser, set()) if is_option else _commands(parser)
    elif before[0] in parser.commands:
        found = _Place(before[0], parser.commands[before[0]], before[1:]).candidates(text)
    else:
        found = ()
    good = (each for each in found if each.text.startswith(text) and each.text.isprintable())
    return sorted(islice(good, _MOST), key=lambda each: each.text)


def _commands(parser: Overview) -> Iterable[Candidate]:
    return (Candidate(name, each.about) for name, each in parser.commands.items())


def _flags(parser: Parser, given: set[str]) -> Iterable[Candidate]:
    """Give the options, without those that were given and can be given once only."""
    for action in options_of(parser):
        if action.dest not in given:
            for flag in action.option_strings:
                yield Candidate(flag, _short(action.help))


def _short(text: object) -> str:
    """Return what stands beside a candidate, on one line that nothing obeys."""
    line = "".join(char if char.isprintable() else " " for char in str(text or ""))
    return line if len(line) <= _ABOUT else f"{line[: _ABOUT - 3]}..."


class _Place:
    """The place of a word in a command: what has been given in front of it."""

    _REPEATED = (
        *("urls", "codecs", "shadow_except"),
        *("redact", "redact_procedures", "only", "but"),
    )

    def __init__(self, command: str, parser: Parser, before: Sequence[str]) -> None:
        self._command = command
        self._parser = parser
        self._flags = {flag: each for each in options_of(parser) for flag in each.option_strings}
        self._given: dict[str, str] = {}  # values of options
        self._words: list[str] = []  # what is no option
        self._asks: argparse.Action | None = None  # the option that waits for its value
        self._is_rest = False  # no options follow
        for word in before:
            self._take(word)

    def _take(self, word: str) -> None:
        if self._asks is not None:
            self._given[self._asks.dest] = word
            self._asks = None
        elif self._is_rest or not word.startswith("-"):
            self._words.append(word)
            self._is_rest = self._is_rest or self._command == "listen"
        elif word == "--":
            self._is_rest = True
        else:
            flag, separator, value = word.partition("=")
            action = self._flags.get(flag)
            if action is not None:
                self._given[action.dest] = value
                self._asks = None if separator or action.nargs == 0 else action

    def candidates(self, text: str) -> Iterable[Candidate]:
        """Give what may stand here, whatever is there of it; some begin with something else."""
        if self._asks is not None:
            return _values(self._asks, text)
        if not self._is_rest and text.startswith("-"):
            flag, separator, value = text.partition("=")
            if separator and flag in self._flags:
                found = _values(self._flags[flag], value)
                return (Candidate(f"{flag}={each.text}") for each in found)
            return _flags(self._parser, self._given.keys() - {*self._REPEATED})
        return self._others(text)

    def _others(self, text: str) -> Iterable[Candidate]:
        number = len(self._words)
        match self._command, number:
            case (
                ("call" | "methods" | "shell" | "skeleton" | "stub" | "describe")
                | ("health" | "stats"),
                0,
            ):
                return _urls(text, ("tcp", "unix", "python", "perl"))
            case "top", 0:
                return _urls(text, ("tcp", "unix"))
            case ("call", 1) | (("methods" | "skeleton" | "stub" | "describe"), _):
                return self._procedures()
            case "call", _:
                return self._names()
            case "replay", 1:
                return _urls(text, ("tcp", "unix", "python", "perl"))
            case (("record" | "replay"), 0):
                return _files(text, lambda _: True)
            case "listen", 0:
                return _files(text, lambda entry: entry.name.endswith(".py"))
            case ("listen" | "shell", _) | ("shadow-report", 0):
                return _files(text, lambda _: True)
            case "completion", 0:
                return map(Candidate, SCRIPTS)
        return ()

    def _procedures(self) -> Iterator[Candidate]:
        for name, about in islice(self._ask().items(), _MOST):
            if _NAME.fullmatch(name):
                takes, doc = ", ".join(parameters(about)), as_text(about.get("doc"))
                yield Candidate(name, _short(": ".join(str(each) for each in (takes, doc) if each)))

    def _names(self) -> Iterator[Candidate]:
        _, procedure, *values = self._words
        given = {value.partition("=")[0] for value in values}
        for name in islice(parameters(self._ask().get(procedure, {})), _MOST):
            if _NAME.fullmatch(name) and name not in given:
                yield Candidate(f"{name}=")

    def _ask(self) -> _Known:
        url = self._words[0]
        if is_stream_url(url):
            return _asked(url, self._given.get("codec", "storable"))
        return _read(url)


def _values(option: argparse.Action, text: str) -> Iterable[Candidate]:
    """Give the values of an option."""
    if option.choices is not None:
        return map(Candidate, option.choices)
    if option.dest == "log_level":
        return map(Candidate, LEVELS)
    if option.dest == "urls":
        return _urls(text, ("tcp", "unix"))
    if option.metavar == "URL":
        return _urls(text, ("tcp", "unix", "python", "perl"))
    if option.metavar == "FILE":
        return _files(text, lambda _: True)
    return ()


def _urls(text: str, schemes: Iterable[str]) -> Iterable[Candidate]:
    scheme, separator, rest = text.partition("://")
    if not separator:
        return (Candidate(f"{each}://") for each in schemes)
    if scheme == "tcp":
        return (Candidate(f"tcp://{host}:") for host in ("127.0.0.1", "localhost"))
    if scheme == "unix":
        found = _files(rest, _is_socket)
    elif scheme.startswith("python") and "python" in schemes:
        found = _files(rest, lambda entry: entry.name.endswith(".py"))
    elif scheme.startswith("perl") and "perl" in schemes:
        found = _files(rest, lambda entry: entry.name.endswith((".pl", ".pm")))
    else:
        return ()
    return (Candidate(f"{scheme}://{each.text}") for each in found)


def _is_socket(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISSOCK(entry.stat().st_mode)
    except OSError:  # a link that leads nowhere
        return False


def _files(start: str, is_wanted: Callable[[os.DirEntry[str]], bool]) -> Iterator[Candidate]:
    """Give the files and folders whose paths begin so."""
    folder, part = os.path.split(start)
    try:
        with os.scandir(folder or ".") as entries:
            for entry in islice(entries, _MOST_FILES):
                is_hidden = entry.name.startswith(".") and not part.startswith(".")
                if entry.name.startswith(part) and not is_hidden:
                    path = os.path.join(folder, entry.name)
                    if entry.is_dir():
                        yield Candidate(f"{path}/")
                    elif is_wanted(entry):
                        yield Candidate(path)
    except (OSError, ValueError):  # there is no such folder
        return


# Procedures


def _asked(url: str, codec: str) -> _Known:
    """Return what a server says; nothing if it takes its time.

    A thread asks: looking up a name, and reading what was sent, cannot be interrupted.
    """
    from threading import Thread

    found: dict[str, Definition] = {}

    def ask() -> None:
        try:
            found.update(_ask(url, codec))
        except (RPCError, OSError, ValueError):  # nobody is there, or does not say
            return

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_LIMIT)
    return {} if thread.is_alive() else found


def _ask(url: str, codec: str) -> _Known:
    with EventMux() as mux:
        client = Client(
            mux, url, codec=codec, timeout=_LIMIT, max_packet=_MOST_BYTES, max_items=_MOST_ITEMS
        )
        try:
            return procedures(client.call("methods", "defs", 2).result())
        except RemoteError:  # it has no definitions
            return procedures(client.call("methods").result())


def _read(url: str) -> _Known:
    """Return the procedures in the file of a program, without running it."""
    scheme, _, path = url.partition("://")
    try:
        with open(path, "rb") as file:
            source = file.read(_MOST_BYTES).decode(errors="replace")
    except (OSError, ValueError):
        return {}
    if scheme.startswith("perl"):
        return {name: {} for name in re.findall(r"^\s*sub\s+rpc_(\w+)", source, re.MULTILINE)}
    if not scheme.startswith("python"):
        return {}
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    return {
        node.name.removeprefix("rpc_"): {"in": _parameters(node)}
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("rpc_")
    }


def _parameters(function: ast.FunctionDef) -> dict[str, object]:
    """Return what may be given by its name."""
    named = [each.arg for each in function.args.args]
    if not function.args.posonlyargs:
        named = named[2 if named[:1] == ["self"] else 1 :]  # the caller
    named += [each.arg for each in function.args.kwonlyargs]
    return {f"{number:04}{name}": "any" for number, name in enumerate(named)}
