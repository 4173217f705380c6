"""How bash, zsh and fish have a TAB completed: a script for each, and how bash quotes.

A script knows no command. It runs `rpcasync _complete SHELL ...` with what has been typed, and
takes the lines that are printed. zsh and fish give and take words as they are meant; bash gives its
line as it is typed, and takes what it puts into that. So that is here as well.

This file does not know what is offered.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rpcasync.cli.output import print_lines

__all__ = ["SCRIPTS", "Typed", "print_script", "replacements", "split_line"]


def print_script(options: argparse.Namespace) -> int:
    """Print what has a shell complete the command; return the exit status.

    Raises:
        CommandFailed: nobody reads it.
    """
    print_lines(SCRIPTS[options.shell].splitlines())
    return 0


SCRIPTS = {
    "bash": """\
# Completion of rpcasync for bash: eval "$(rpcasync completion bash)"
_rpcasync() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <(command rpcasync _complete bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" \\
        2>/dev/null </dev/null)
}
complete -o nospace -F _rpcasync rpcasync
""",
    "zsh": """\
#compdef rpcasync
# Completion of rpcasync for zsh: source <(rpcasync completion zsh)
_rpcasync() {
    local value about
    local -a open open_shown whole whole_shown
    while IFS=$'\\t' read -r value about; do
        if [[ $value == *[=/:] ]]; then
            open+=("$value")
            open_shown+=("$value${about:+  -- $about}")
        elif [[ -n $value ]]; then
            whole+=("$value")
            whole_shown+=("$value${about:+  -- $about}")
        fi
    done < <(command rpcasync _complete zsh "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" \\
        2>/dev/null </dev/null)
    compadd -l -S '' -d open_shown -a -- open
    compadd -l -d whole_shown -a -- whole
}
if [[ ${funcstack[1]} == _rpcasync ]]; then
    _rpcasync "$@"
else
    (( ${+functions[compdef]} )) || { autoload -Uz compinit && compinit }
    compdef _rpcasync rpcasync
fi
""",
    "fish": """\
# Completion of rpcasync for fish: rpcasync completion fish | source
function __rpcasync_complete
    set -l words (commandline -opc)
    set -e words[1]
    set -l text (commandline -ct | string unescape)
    command rpcasync _complete fish $words "$text" 2>/dev/null </dev/null
end
complete -c rpcasync -f -a '(__rpcasync_complete)'
""",
}


# bash: what is typed, and what takes its place


@dataclass(slots=True)
class Typed:
    """A line up to the cursor: its words, and of the last one its text.

    `quote` is the one that is still open; `kept` is how much of the text stays as it is, in front
    of the last character that divides words.
    """

    words: list[str] = field(default_factory=list)
    text: str = ""
    quote: str = ""
    kept: int = 0


def split_line(line: str, breaks: str) -> Typed:
    """Split a line of bash as far as it is typed.

    The name of the program, and what is set in front of it, are left out.
    """
    typed = Typed()
    is_word = is_escaped = False
    for char in line:
        if is_escaped:
            typed.text += char
            is_escaped = False
        elif char == typed.quote:
            typed.quote = ""
        elif char == "\\" and typed.quote != "'":
            is_word = is_escaped = True
        elif typed.quote:
            typed.text += char
        elif char in "'\"":
            is_word = True
            typed.quote = char
        elif char.isspace():
            if is_word:
                typed.words.append(typed.text)
            is_word = False
            typed.text, typed.kept = "", 0
        else:
            is_word = True
            typed.text += char
            if char in breaks:
                typed.kept = len(typed.text)
    while typed.words and re.match(r"\w+=", typed.words[0]):
        del typed.words[0]
    del typed.words[:1]
    return typed


_HARMLESS = re.compile(r"[^\w./:=@%+,-]")
_OPEN = ("=", "/", ":")  # more of the same word will follow; zsh has it in its script
_IN_QUOTES = {"'": "'", '"': '"\\$`!'}  # what ends them, or is obeyed in them


def replacements(typed: Typed, found: Iterable[str]) -> Iterator[str]:
    """Give what takes the place of what bash calls the word."""
    for text in found:
        if typed.quote:
            if not set(_IN_QUOTES[typed.quote]) & set(text):
                yield text
        else:
            escaped = _HARMLESS.sub(r"\\\g<0>", text[typed.kept :])
            yield escaped if text.endswith(_OPEN) else f"{escaped} "
