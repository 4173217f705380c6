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
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from support.handled import forgetting

import eventmux
from eventmux import Event, EventMux, Timeout

_FILES = (str(Path(eventmux.__file__).parent), selectors.__file__)
_CALLS = {"CALL", "CALL_KW", "CALL_FUNCTION", "CALL_FUNCTION_KW", "CALL_FUNCTION_EX", "CALL_METHOD"}
_JUMPS = {"JUMP_BACKWARD", "JUMP_ABSOLUTE"}
_TRIES = 5  # a place does not come where Python collects garbage just then, and calls finalizers


class Interrupt(BaseException):
    """What the handler raises, as KeyboardInterrupt."""


@dataclass(frozen=True)
class Place:
    """One of the times that a step of a function is done.

    Args:
        code: that of the function.
        step: where it is in the code.
        number: the how many of these times it is, from 1 on.
    """

    code: CodeType
    step: int
    number: int


class Interrupter:
    """Raises once, at the place with a number, in the code of eventmux or of selectors.

    Args:
        at: the number of the place, from 0 on; or the place, which is quicker: no other function
            is looked at. None is to raise nowhere, and to note all places in `places`.
    """

    def __init__(self, at: int | Place | None = None) -> None:
        self._only = at if isinstance(at, Place) else None
        self.left = at.number - 1 if isinstance(at, Place) else at
        self.has_raised = False
        self.where = ""
        self.places: list[Place] = []
        self._times: Counter[tuple[CodeType, int]] = Counter()  # how often each was passed
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
            if not self._is_looked_at(frame.f_code):
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

    def _is_looked_at(self, code: CodeType) -> bool:
        if self._only is not None:
            return code is self._only.code
        return code.co_filename.startswith(_FILES)

    def _pass(self, frame: FrameType) -> None:
        if self._only is not None and frame.f_lasti != self._only.step:
            return
        caller: FrameType | None = frame
        while caller is not None:
            if caller.f_code.co_name == "__del__":  # Python drops what is raised there
                return
            caller = caller.f_back
        if self.left is None:
            step = frame.f_code, frame.f_lasti
            self._times[step] += 1
            self.places.append(Place(*step, self._times[step]))
            return
        if self.left == 0 and not self.has_raised:
            self.has_raised = True
            name = Path(frame.f_code.co_filename).name
            self.where = f"{name}:{frame.f_lineno} in {frame.f_code.co_name}"
            self._last.clear()
            raise Interrupt(self.where)
        self.left -= 1


def at_places(scenario: Callable[[Interrupter], object], stride: int = 1) -> None:
    """Interrupt a scenario at one place after the other, or at each so many.

    Args:
        scenario: has the interrupter `run()` what is to be interrupted, the same each time.
        stride: how many places it is from one to the next.
    """
    scenario(Interrupter())  # some things are done once, and kept
    first = Interrupter()
    scenario(first)
    assert len(first.places) > 5, "there is hardly anything to interrupt"
    for place in first.places[::stride]:
        for _ in range(_TRIES):
            interrupter = Interrupter(place)
            try:
                forgetting(scenario, interrupter)
            except (AssertionError, Exception) as error:
                raise AssertionError(f"interrupted at {interrupter.where}") from error
            if interrupter.has_raised:
                break
        else:
            raise AssertionError(f"{place} did not come again")


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
