"""Ctrl-C at any line of rpcasync: coarser than `interrupts.py`, and so quick enough for a server.

An exception is raised at the n-th line that runs in the package.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import rpcasync

_PACKAGE = str(Path(rpcasync.__file__).parent)


class Interrupter:
    """Raises an exception once, at the n-th line that runs in `with` blocks.

    Args:
        at: which line, from 1 on.
        kind: what to raise.
        places: the files and folders whose lines count.
    """

    def __init__(
        self,
        at: int,
        kind: type[BaseException] = KeyboardInterrupt,
        places: tuple[str, ...] = (_PACKAGE,),
    ) -> None:
        self._at = at
        self._kind = kind
        self._places = places
        self.lines = 0
        self.place = ""  # where it was, for a test that fails

    def counts(self, frame: FrameType) -> bool:
        """True if the line is one where the exception may be raised."""
        return not is_finalizing(frame)

    @property
    def has_fired(self) -> bool:
        return self.lines >= self._at

    def __enter__(self) -> Interrupter:
        if not self.has_fired:
            sys.settrace(self._enter)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._note if frame.f_code.co_filename.startswith(self._places) else None

    def _note(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and self.counts(frame):
            self.lines += 1
            if self.has_fired:
                sys.settrace(None)
                code = frame.f_code
                self.place = f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_name}"
                raise self._kind
        return self._note


def is_finalizing(frame: FrameType | None) -> bool:
    """Python drops what a finalizer raises: that is no place for Ctrl-C to come out of."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
