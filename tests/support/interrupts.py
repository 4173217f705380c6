"""Raise at any place where a signal handler could.

Python runs signal handlers at the beginning of a function, when a call of something written in C
returns, and when a loop begins anew; nowhere else. `sys.settrace()` sees each step, so a test can
go through all such places in turn.
"""

from __future__ import annotations

import dis
import inspect
import selectors
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from support.handled import forgetting

import eventmux
from eventmux import Event, EventMux, Timeout

_FILES = (str(Path(eventmux.__file__).parent), selectors.__file__)
_CALLS = {"CALL", "CALL_KW", "CALL_FUNCTION", "CALL_FUNCTION_KW", "CALL_FUNCTION_EX", "CALL_METHOD"}
_JUMPS = {"JUMP_BACKWARD", "JUMP_ABSOLUTE"}


class Interrupt(BaseException):
    """What the handler raises, as KeyboardInterrupt."""


class Interrupter:
    """Raises once, at the place with a number, in the code of eventmux or of selectors.

    Args:
        number: of the place, from 0 on.
    """

    def __init__(self, number: int) -> None:
        self.left = number
        self.has_raised = False
        self.where = ""
        self._last: dict[FrameType, str] = {}

    def run(self, action: Callable[[], Any]) -> Any:
        """Do something, and raise there if the place comes."""
        if self.has_raised:
            return action()
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            return action()
        finally:
            sys.settrace(before)

    def _trace(self, frame: FrameType, event: str, _arg: object) -> Any:
        if event == "call":
            # Python's own functions are called without coming back to C; `__init__` is not.
            if frame.f_back in self._last and frame.f_code.co_name != "__init__":
                self._last[frame.f_back] = ""
            if not frame.f_code.co_filename.startswith(_FILES):
                return None
            frame.f_trace_opcodes = True
            self._last[frame] = ""
            if not frame.f_code.co_flags & inspect.CO_GENERATOR:  # one may be called to be closed
                self._pass(frame)
        elif event == "opcode":
            last = self._last.get(frame, "")
            code = frame.f_code.co_code[frame.f_lasti]
            self._last[frame] = dis.opname[code]
            if last in _CALLS or last in _JUMPS:
                self._pass(frame)
        elif event == "return":
            self._last.pop(frame, None)
        return self._trace

    def _pass(self, frame: FrameType) -> None:
        caller: FrameType | None = frame
        while caller is not None:
            if caller.f_code.co_name == "__del__":  # Python drops what is raised there
                return
            caller = caller.f_back
        if self.left == 0 and not self.has_raised:
            self.has_raised = True
            name = Path(frame.f_code.co_filename).name
            self.where = f"{name}:{frame.f_lineno} in {frame.f_code.co_name}"
            self._last.clear()
            raise Interrupt(self.where)
        self.left -= 1


def interrupted_everywhere(scenario: Callable[[Interrupter], None], stride: int = 1) -> int:
    """Run a scenario until no place is left in it, each time interrupted at a later one.

    Args:
        scenario: is given what interrupts it.
        stride: 1 tries each place; more leaves out some between two that it tries.

    Returns:
        How many times it was run.
    """
    runs, number = 0, 0
    while True:
        interrupter = Interrupter(number)
        runs += 1
        try:
            forgetting(scenario, interrupter)
        except (AssertionError, Exception) as error:
            raise AssertionError(f"interrupted at {interrupter.where}") from error
        if not interrupter.has_raised:
            assert number > 5, "there is hardly anything to interrupt"
            return runs
        number += stride


def take_events(
    mux: EventMux[Any], run: Callable[[Callable[[], Any]], Any], into: list[Event], idle: int
) -> None:
    """Take all events that there are; go on when interrupted.

    Args:
        mux: whose.
        run: does what it is given, such as `Interrupter.run`.
        into: where they go.
        idle: how often there has to be none.
    """
    while idle:
        try:
            event = run(lambda: mux.mux(0))
        except Interrupt:
            continue
        if event is None or isinstance(event, Timeout):
            idle -= 1
        else:
            into.append(event)
