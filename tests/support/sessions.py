"""Commands as a person types them in a folder, with `rpcasync`, `python` and `perl` at hand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from support.documents import agree, commands
from support.programs import LIMIT, ROOT, Program

CTRL_C = "^C"
SERVES = ("perl listen.pl ", "rpcasync listen ", "rpcasync record ")


class Session:
    """Two terminals: one for a server, which is stopped by Ctrl-C, and one for all else.

    Args:
        folder: where the commands are typed.
        tools: a folder that does not exist, for the commands that run what is tested.
    """

    def __init__(self, folder: Path, tools: Path) -> None:
        tools.mkdir()
        self._folder = folder
        self._environment = {"PATH": f"{tools}:{os.environ['PATH']}"}
        self.server: Program | None = None
        self._seen = 0  # lines of the server's that were waited for
        for name, words in {"rpcasync": "-m rpcasync", "python": ""}.items():
            path = tools / name
            path.write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
            path.chmod(0o755)

    def follow(self, block: str) -> None:
        """Do what stands in a block of a document, and see that it prints what is shown there.

        A block that has `^C` in front of its commands begins in the terminal of the server, with
        what that has printed since it was started.
        """
        head, _, rest = f"\n{block}".partition("\n$ ")
        seen = head.split("\n")[1:]
        if CTRL_C in seen:
            seen.remove(CTRL_C)
            printed = self.interrupt()
            assert agree("\n".join(printed), "\n".join(seen)), printed
        for command, shown in commands(f"$ {rest}" if rest else ""):
            if command.startswith(SERVES):
                printed = self.serve(command, shown.count("\n") + 1)
            else:
                printed = self.do(command).splitlines()
            assert agree("\n".join(printed), shown), (command, printed)

    def do(self, command: str) -> str:
        """Type a command for the shell; return what it prints, once it has ended."""
        if command.startswith("cd "):
            self._folder /= command.removeprefix("cd ")
            return ""
        return self.run(command).stdout.strip("\n")

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the shell; what it prints to stderr is in stdout."""
        return subprocess.run(
            ["bash", "-c", command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **self._environment},
            check=False,
        )

    def serve(self, command: str, lines: int = 1) -> list[str]:
        """Start a server; return so many lines of what it prints."""
        assert self.server is None, "one server is running already"
        words = ["env", *(f"{name}={value}" for name, value in self._environment.items())]
        self.server = Program([*words, "bash", "-c", f"exec {command} >&2"], cwd=self._folder)
        self._seen = lines
        return self.server.wait_for_lines(lines)

    def interrupt(self) -> list[str]:
        """Press Ctrl-C where the server is; return what it has printed since it was started."""
        if self.server is None:
            return []
        server, self.server = self.server, None
        server.process.send_signal(signal.SIGINT)
        try:
            server.process.wait(LIMIT)
        finally:
            server.stop()
        return server.log[self._seen :]
