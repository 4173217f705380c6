"""Ctrl-C at any place: an exception at the n-th line that runs in a package."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any


class Interrupter:
    """Raises an exception once, at the n-th line of the package that runs in `with` blocks."""

    def __init__(
        self, package: ModuleType, at: int, kind: type[BaseException] = KeyboardInterrupt
    ) -> None:
        self._kind = kind
        self._folder = str(Path(str(package.__file__)).parent)
        self._at = at
        self._lines = 0
        self.place = ""  # where it was, for a test that fails

    @property
    def has_fired(self) -> bool:
        return self._lines >= self._at

    def __enter__(self) -> Interrupter:
        if not self.has_fired:
            sys.settrace(self._enter)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._note if frame.f_code.co_filename.startswith(self._folder) else None

    def _note(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and not is_finalizing(frame):
            self._lines += 1
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
