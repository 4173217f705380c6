"""What stands in the documents: their blocks, the commands in them, and what these print."""

from __future__ import annotations

import doctest
import re
import socket
from collections.abc import Iterator
from pathlib import Path


def blocks(path: Path, language: str) -> list[str]:
    """Return the blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Give each command of a console block with the output shown below it."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown.strip("\n")


def agree(printed: str, shown: str) -> bool:
    """Whether something printed is what is shown, where "..." stands for anything."""
    return doctest.OutputChecker().check_output(shown, printed, doctest.ELLIPSIS)


def free_port() -> str:
    """Return the number of a port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return str(sock.getsockname()[1])
