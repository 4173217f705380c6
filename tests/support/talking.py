"""Programs of others at the other end of a mux: what they print is read by the mux itself.

So a test is one loop and one thread: nothing waits for what only the other side can bring about.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from support.pump import PATIENCE

from eventmux import Closed, Event, EventMux, Read, Sent, Timeout

__all__ = ["Foreign", "Talk", "handshake_messages", "talking"]

Kind = TypeVar("Kind", bound=Event)


class Foreign:
    """A program, and what it has printed by now, on stdout and stderr together."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self.process = subprocess.Popen(
            [os.fspath(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin = self.process.stdin
        self.stdout = self.process.stdout
        self.printed = ""
        self.has_ended = False

    def say(self, line: str) -> None:
        """Write a line to its stdin."""
        self.stdin.write(f"{line}\n".encode())

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.stdin.close()
        self.stdout.close()


class Talk:
    """A mux, programs that talk to it, and the events that no test has asked for yet.

    Args:
        mux: of the test, which adds the handles.
    """

    def __init__(self, mux: EventMux) -> None:
        self.mux = mux
        self.events: list[Event] = []
        self._programs: dict[object, Foreign] = {}

    def start(self, *command: str | Path) -> Foreign:
        """Start a program."""
        program = Foreign(command)
        self._programs[program.stdout] = program
        self.mux.add(program.stdout)
        return program

    def until(self, kind: type[Kind]) -> Kind:
        """Return the first event of this type, waiting for it; those before it are dropped."""
        self._turn_until(lambda: any(isinstance(event, kind) for event in self.events), kind)
        while True:
            event = self.events.pop(0)
            if isinstance(event, kind):
                return event

    def next(self, kind: type[Kind]) -> Kind:
        """Return the next event of all, which has to be of this type."""
        self._turn_until(lambda: self.events != [], kind)
        event = self.events.pop(0)
        assert isinstance(event, kind), f"no {kind.__name__} but {event}"
        return event

    def read(self, end: bytes) -> bytes:
        """Return what is read up to this end, waiting for it.

        Nothing but `Read` may come meanwhile, and `Sent`, of what was sent before.
        """
        data = b""
        while not data.endswith(end):
            if not isinstance(event := self.next(Event), Sent):
                assert isinstance(event, Read), event
                data += event.data
        return data

    def hear(self, program: Foreign, text: str, times: int = 1) -> str:
        """Return what a program has printed, once this is in it, so many times."""

        def is_heard() -> bool:
            return program.printed.count(text) >= times

        self._turn_until(lambda: is_heard() or program.has_ended, text)
        assert is_heard(), f"no {text!r} in {program.printed}"
        return program.printed

    def end_of(self, program: Foreign) -> int:
        """Return the exit status of a program, once it has ended."""
        self._turn_until(lambda: program.has_ended, "end of a program")
        return program.process.wait(PATIENCE)

    def turn(self) -> Event | None:
        """Wait for one thing; return it if it is an event of the test's own handles."""
        event = self.mux.mux(PATIENCE)
        assert event is not None, "nothing is watched"
        assert not isinstance(event, Timeout), "nothing happens"
        of = self._programs.get(event.fh)
        if of is None:
            return event
        if isinstance(event, Read):
            of.printed += event.data.decode(errors="replace")
        elif isinstance(event, Closed):
            of.has_ended = True
        return None

    def _turn_until(self, is_true: Callable[[], bool], what: object) -> None:
        while not is_true():
            try:
                event = self.turn()
            except AssertionError as error:
                printed = [program.printed for program in self._programs.values()]
                raise AssertionError(f"no {what!r}, only {self.events}; {printed}") from error
            if event is not None:
                self.events.append(event)

    def stop(self) -> None:
        for program in self._programs.values():
            program.stop()


@contextmanager
def talking(mux: EventMux) -> Iterator[Talk]:
    """Give a talk; its programs are ended at its end."""
    talk = Talk(mux)
    try:
        yield talk
    finally:
        talk.stop()


def handshake_messages(program: Foreign, kind: str) -> tuple[int, int]:
    """Return how many messages of a kind were sent by `openssl` with `-msg`, and how many came."""
    shown = rf"^(>>>|<<<) .*Handshake \[length \w+\], {kind}$"
    signs = re.findall(shown, program.printed, re.MULTILINE)
    return signs.count(">>>"), signs.count("<<<")
