"""Lines typed at a terminal: editing, history and completion, as far as `readline` is there.

The history is kept in a file between one shell and the next: `$RPCASYNC_HISTORY`, nowhere if that
is empty, and by default `rpcasync/history` below `$XDG_STATE_HOME` or `~/.local/state`. Whatever
goes wrong with it, the shell does without.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rpcasync.cli.lines import ABOUT, BUILT_IN

try:
    import readline
except ImportError:  # some builds of Python have none
    readline = None  # type: ignore[assignment]

__all__ = ["HISTORY_VARIABLE", "PROMPT", "completions", "editing", "history_path"]

HISTORY_VARIABLE = "RPCASYNC_HISTORY"
PROMPT = "rpcasync> "
_MOST_LINES = 1000


def history_path(environment: Mapping[str, str]) -> Path | None:
    """Return where the history is kept, None for nowhere."""
    path = environment.get(HISTORY_VARIABLE)
    if path is not None:
        return Path(path) if path else None
    state = environment.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):  # others are to be ignored, says the standard
        return Path(state, "rpcasync", "history")
    home = environment.get("HOME", "")
    return Path(home, ".local", "state", "rpcasync", "history") if home else None


@contextmanager
def editing(known: Mapping[str, Iterable[str]]) -> Iterator[None]:
    """Have `input()` complete words and remember lines, until the block ends.

    Args:
        known: the procedures, with the names that each takes. It may change meanwhile.
    """
    if readline is None:
        yield
        return
    readline.set_completer_delims(" \t")
    readline.set_completer(_completer(known))
    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
    path = history_path(os.environ)
    with contextlib.suppress(OSError):
        if path is not None:
            readline.read_history_file(path)
    before = readline.get_current_history_length()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if path is not None:
                _keep(path, readline.get_current_history_length() - before)


def _completer(known: Mapping[str, Iterable[str]]) -> Callable[[str, int], str | None]:
    found: list[str] = []

    def complete(start: str, number: int) -> str | None:
        """Return one completion after the other, as readline asks for them."""
        if number == 0:
            before = readline.get_line_buffer()[: readline.get_begidx()]
            found[:] = completions(before, start, known)
        return found[number] if number < len(found) else None

    return complete


def _keep(path: Path, count: int) -> None:
    """Add the last lines to the file; for the user's eyes only, since they hold values.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    readline.set_history_length(_MOST_LINES)
    if hasattr(readline, "append_history_file"):  # two shells at once do not lose each other's
        readline.append_history_file(count, path)
    else:
        readline.write_history_file(path)


def completions(before: str, start: str, known: Mapping[str, Iterable[str]]) -> list[str]:
    """Return what a word of the shell may be completed to.

    Args:
        before: the line in front of the word.
        start: what is there of the word.
        known: the procedures of the server, with the names that each takes. Those that cannot be
            typed as they are, and might do something to the terminal, are left out.
    """
    words = before.split()
    if not words or (len(words) == 1 and words[0] in ABOUT):
        others = BUILT_IN if not words else ()
        procedures = sorted(filter(_is_plain, {*known, *others}))
        return [f"{name} " for name in procedures if name.startswith(start)]
    given = {word.partition("=")[0] for word in words[1:]}
    names = filter(_is_plain, known.get(words[0].strip("\\'\""), ()))
    return [f"{name}=" for name in names if name.startswith(start) and name not in given]


def _is_plain(name: str) -> bool:
    """True for what can be seen and has no blanks."""
    return name.isprintable() and " " not in name
