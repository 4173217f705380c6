"""The file of a recording: calls, or an error that says what is wrong, whatever is in it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from support.recordings import call_line

from fuzz.mutators import some_size
from fuzz.targets import VALUES, Target, check
from fuzz.texts import json_value
from rpcasync.recording.lines import Header
from rpcasync.recording.reader import Recording
from rpcasync.recording.tagged import parse, to_text, untag
from rpcasync.recording.writer import RecordingError

__all__ = ["RECORDINGS"]

_TAGS = ("bytes", "base64", "latin1", "text", "float", "int", "dict", "ref", "blessed", "regexp")
_CONTENTS = ('"A::B"', '"nan"', '"0x1f"', '"AAH/"', '["A", {}]', '[["$a", 1]]', "[97, 55296]", "7")
_KEYS: tuple[str, ...] = (
    "time",
    "at",
    "took",
    "client",
    "call",
    "codec",
    "procedure",
    "arguments",
    "ended",
)
_KEYS += ("answer", "callbacks", "skipped", "redacted", "late", "format", "version", "session")


class Recordings(Target):
    """`Recording`: each line is a call, or a problem; and values can be written again."""

    def __init__(self) -> None:
        super().__init__()
        head = Header("s1").line()
        lines = [call_line(number, "echo", values) for number, values in enumerate(VALUES, 1)]
        self.seeds = [head.encode(), "".join([head, *lines, head, *lines]).encode()]

    def begin(self) -> None:
        """Make a folder for the file."""
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name) / "calls"

    def close(self) -> None:
        """Remove it."""
        self._folder.cleanup()

    def make(self, source: Random) -> bytes:
        """Return a file."""
        lines = [Header("s1").line()]
        lines += [_line(source, number) for number in range(1, 2 + some_size(source, most=50))]
        return "".join(lines).encode(errors="surrogatepass")

    def run(self, data: bytes) -> str:
        """Read it, and write its values again."""
        self._path.write_bytes(data)
        try:
            recording = Recording(str(self._path))
        except RecordingError as error:
            return str(error.strerror).partition(":")[0]
        with recording:
            calls = [each.line for each in recording]
            check(len(calls) == len(recording), "calls that were counted", len(calls))
            for line in calls:
                for values in (line.arguments, line.answer):
                    again = untag(parse(to_text(values)))
                    check(repr(again) == repr(values), "differs when written", again, values)
            return f"{bool(calls)} {len({problem.reason[:20] for problem in recording.problems})}"

    def read(self, data: bytes) -> None:
        """Read it once."""
        self._path.write_bytes(data)
        with suppress(RecordingError), Recording(str(self._path)) as recording:
            for _ in recording:
                pass


def _line(source: Random, number: int) -> str:
    """Return a line that is a call, or nearly so."""
    text = call_line(source.choice((number, number, 1)), arguments=[0], took=0.5)
    for _ in range(source.choice((1, 1, 2, 3))):
        text = text.replace("[0]", f"[{_value(source)}]", source.randrange(3))
    if source.random() < 0.2:
        key, value = source.choice(_KEYS), _value(source)
        text = text.replace("{", f'{{"{key}": {value}, ', 1)
        if source.random() < 0.5:
            text = text.replace(f'"{source.choice(_KEYS)}"', f'"{source.choice(_KEYS)}"')
    return text


def _value(source: Random) -> str:
    if source.random() < 0.5:
        return json_value(source, 0)
    content = source.choice(_CONTENTS) if source.random() < 0.7 else json_value(source, 10)
    return f'{{"${source.choice(_TAGS)}": {content}}}'


RECORDINGS: dict[str, Callable[[], Target]] = {"recording": Recordings}
