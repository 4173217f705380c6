"""Ctrl-C at any line that a server runs in `io()`."""

from __future__ import annotations

import inspect
import linecache
from pathlib import Path
from types import FrameType

from support import line_interrupts

import rpcasync
from rpcasync import Server

_PACKAGE = Path(rpcasync.__file__).parent
# What decodes, encodes and binds changes nothing of the server's.
_LINES, _BEGIN = inspect.getsourcelines(Server.io)
_BEGIN += [line.strip() for line in _LINES].index("try:")
_PLACES = tuple(str(_PACKAGE / each) for each in ("server.py", "serving", "wire", "coderefs.py"))


class Interrupter(line_interrupts.Interrupter):
    """Raises KeyboardInterrupt once, at the n-th line of a server, or at one run of a line."""

    def __init__(self, at: line_interrupts.At) -> None:
        super().__init__(at, places=_PLACES)

    def counts(self, frame: FrameType) -> bool:
        return super().counts(frame) and not is_before(frame)


def is_before(frame: FrameType) -> bool:
    """As long as `io()` has not begun to try, the event is the program's, which loses it.

    What is raised in a line of `try:` itself, as no Ctrl-C is, may pass by all handlers.
    """
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return line == "try:" or (frame.f_code is Server.io.__code__ and frame.f_lineno < _BEGIN)
