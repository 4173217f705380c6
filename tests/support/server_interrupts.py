"""Ctrl-C at any line that a server runs in `io()`."""

from __future__ import annotations

import inspect
import linecache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from support import line_interrupts

import rpcasync
from rpcasync import Server

_PACKAGE = Path(rpcasync.__file__).parent
# What decodes, encodes and binds changes nothing of the server's.
_LINES, _BEGIN = inspect.getsourcelines(Server.io)
_BEGIN += [line.strip() for line in _LINES].index("try:")
_PLACES = tuple(str(_PACKAGE / each) for each in ("server.py", "serving", "wire", "coderefs.py"))


class Interrupter(line_interrupts.Interrupter):
    """Raises KeyboardInterrupt once, at the n-th line of a server."""

    def __init__(self, at: int) -> None:
        super().__init__(at, places=_PLACES)

    def counts(self, frame: FrameType) -> bool:
        return super().counts(frame) and not is_before(frame)


def is_before(frame: FrameType) -> bool:
    """As long as `io()` has not begun to try, the event is the program's, which loses it.

    What is raised in a line of `try:` itself, as no Ctrl-C is, may pass by all handlers.
    """
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return line == "try:" or (frame.f_code is Server.io.__code__ and frame.f_lineno < _BEGIN)


class Places(Interrupter):
    """Raises nothing, and notes where each line is: `seen` has its numbers, by place."""

    def __init__(self) -> None:
        super().__init__(10**9)
        self.seen: dict[tuple[CodeType, int], list[int]] = {}

    def _note(self, frame: FrameType, event: str, argument: Any) -> Any:
        before = self.lines
        super()._note(frame, event, argument)
        if self.lines > before:
            place = frame.f_code, frame.f_lineno
            self.seen.setdefault(place, []).append(self.lines)
        return self._note
