"""Reads a recording: all its files, and all calls in the order in which they came.

A line is written when its call has ended, so the lines are read twice: to note where each call
stands, and one by one as they are asked for. A recording may be larger than memory.

What is not as it should be is noted as a `Problem`. A line that was cut, when whoever wrote it was
killed, is one that is no fault: it is the last of a file, or stands before the header of the next
session.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from rpcasync.recording.lines import CallLine, Header, Late, OtherVersion, is_beginning, parse_line
from rpcasync.recording.writer import RecordingError

__all__ = ["Problem", "Recorded", "Recording"]

_OFFSET, _PLACE = 48, 64  # bits of an offset, and with those of the number of a file
_LONGEST = 16 * 1024 * 1024  # bytes of a line; none of ours is as long


@dataclass(slots=True)
class Problem:
    """A line that is not used: in which file, its number, and why; `is_cut` is no fault."""

    path: str
    number: int
    reason: str
    is_cut: bool = False

    def __str__(self) -> str:
        """Tell it."""
        return f"{self.path}, line {self.number}: {self.reason}"


@dataclass(slots=True)
class Recorded:
    """A call, the session that it is of, and all calls of its callbacks."""

    session: int
    header: Header
    line: CallLine
    is_last: bool
    """Its client makes no more of them."""


@dataclass(slots=True)
class _Session:
    header: Header
    # The number of each call, and of the file, and the offset in it, in one int: there may be
    # millions, and a tuple takes three times as much.
    calls: list[int] = field(default_factory=list)
    late: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # file, offset, by call
    last: dict[int, int] = field(default_factory=dict)  # the last call of each client


class Recording:
    """The calls of a recording, in order.

    Args:
        path: of the newest file; what was put aside, `path.1` and so on, is read first.

    Raises:
        RecordingError: there is a file that is no recording, or of another version.
        OSError: one cannot be read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self._sessions: dict[str, _Session] = {}
        self._files: list[tuple[str, IO[bytes]]] = []
        with contextlib.ExitStack() as stack:
            for each in _paths(path):
                # They stay open: another program may put them aside meanwhile.
                file = stack.enter_context(open(each, "rb", opener=_open_regular))
                self._files.append((each, file))
                self._note_lines(len(self._files) - 1)
            self._stack = stack.pop_all()
        for session in self._sessions.values():
            session.calls.sort()

    def __enter__(self) -> Recording:
        """Return the recording itself; the end of the block closes its files."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close its files."""
        self.close()

    def close(self) -> None:
        """Close its files."""
        self._stack.close()

    def __len__(self) -> int:
        """Return how many calls there are."""
        return sum(len(session.calls) for session in self._sessions.values())

    def __iter__(self) -> Iterator[Recorded]:
        """Give the calls, session by session, in the order in which they came."""
        for number, session in enumerate(self._sessions.values()):
            for packed in session.calls:
                call, place = packed >> _PLACE, packed & ((1 << _PLACE) - 1)
                line = self._read(place >> _OFFSET, place & ((1 << _OFFSET) - 1))
                if isinstance(line, CallLine):
                    late = [self._read(*place) for place in session.late.get(call, ())]
                    line.callbacks += [each.invoked for each in late if isinstance(each, Late)]
                    is_last = session.last[line.client] == call
                    yield Recorded(number, session.header, line, is_last)

    def _read(self, number: int, offset: int) -> Header | CallLine | Late:
        file = self._files[number][1]
        file.seek(offset)
        return parse_line(file.readline(_LONGEST).decode("ascii"))

    # The first time

    def _note_lines(self, number: int) -> None:
        """Note where the calls of a file stand, and what is wrong with it."""
        path, file = self._files[number]
        session: _Session | None = None
        problem: Problem | None = None  # of the line before
        offset = 0
        for count, data in enumerate(_lines(file), 1):
            at, offset = offset, file.tell()
            if count == 1 and not is_beginning(data):
                raise RecordingError(errno.EINVAL, "not a recording", path)
            try:
                line = _parsed(data)
                if not isinstance(line, Header) and session is None:
                    raise ValueError("there is no header before it")
            except OtherVersion as error:
                raise RecordingError(errno.EINVAL, f"line {count}: {error}", path) from None
            except ValueError as error:
                self._add(problem)
                problem = Problem(path, count, str(error), is_cut=_is_cut(data))
                if problem.is_cut:
                    problem.reason = "cut in the middle"
                continue
            if isinstance(line, Header):
                if problem is not None:
                    problem.is_cut, problem.reason = True, "cut in the middle"
                session = self._sessions.setdefault(line.session, _Session(line))
            elif session is not None and isinstance(line, CallLine):
                session.calls.append(line.call << _PLACE | number << _OFFSET | at)
                session.last[line.client] = max(session.last.get(line.client, 0), line.call)
            elif session is not None:
                session.late.setdefault(line.call, []).append((number, at))
            self._add(problem)
            problem = None
        self._add(problem)

    def _add(self, problem: Problem | None) -> None:
        if problem is not None:
            self.problems.append(problem)


def _open_regular(path: str, flags: int) -> int:
    """Open a file; raise RecordingError for a pipe, say: it cannot be read twice."""
    fd = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise RecordingError(errno.EINVAL, "not a regular file", path)
    return fd


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Give the lines of a file; of one that is too long, its beginning."""
    while line := file.readline(_LONGEST):
        rest = line
        while len(rest) == _LONGEST and not rest.endswith(b"\n"):
            rest = file.readline(_LONGEST)
        yield line


def _is_cut(data: bytes) -> bool:
    """True if the end of a line is not there; of one that is too long, it was not read."""
    return not data.endswith(b"\n") and len(data) < _LONGEST


def _parsed(data: bytes) -> Header | CallLine | Late:
    if len(data) == _LONGEST:
        raise ValueError(f"longer than {_LONGEST} bytes")
    return parse_line(data.decode("ascii"))


def _paths(path: str) -> list[str]:
    """Return the files of a recording, oldest first."""
    folder, name = os.path.split(path)
    numbers = []
    for each in os.listdir(folder or "."):
        found = re.fullmatch(re.escape(name) + r"\.([1-9][0-9]{0,8})", each)
        if found:
            numbers.append(int(found[1]))
    paths = [f"{path}.{number}" for number in sorted(numbers, reverse=True)]
    if os.path.exists(path) or not paths:
        paths.append(path)
    return paths
