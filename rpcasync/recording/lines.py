"""The lines of a recording, and what they say.

The first line of each file is a header; each other line is a call, which is written when it has
ended, or a function of the client's that was called once its call had ended:

    {"format": "rpcasync recording", "version": 1, "session": "5f3a...", "part": 1, "time": ...}
    {"time": ..., "at": 0.25, "took": 0.001, "client": 1, "call": 1, "codec": "perl",
     "procedure": "add_numbers", "arguments": [...], "ended": "answer", "answer": [...]}
    {"time": ..., "at": 9.5, "client": 1, "call": 1, "late": [7, [...]]}

docs/howto/record-and-replay.md has all of their keys.

This file knows nothing of files, and of who makes the calls.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Literal, cast

from rpcasync.recording.tagged import parse, untag
from rpcasync.wire.messages import Id, as_id

__all__ = [
    "CODECS",
    "ENDINGS",
    "FORMAT",
    "LONGEST_PART",
    "VERSION",
    "CallLine",
    "Header",
    "Invoked",
    "Late",
    "OtherVersion",
    "Parts",
    "is_beginning",
    "parse_line",
]

FORMAT = "rpcasync recording"
VERSION = 1
LONGEST_PART = 4 * 1024 * 1024
"""Characters of the arguments, the answer, or all calls of callbacks in one line; and bytes of a
packet. Of what is longer, only the size is written."""

Ending = Literal["answer", "error", "lost", "gone", "open"]
ENDINGS = ("answer", "error", "lost", "gone", "open")
"""With values, with an error, with ours since the server had gone, not at all since its client had
gone, or not while we recorded."""
Codec = Literal["perl", "typed", "json"]
CODECS = ("perl", "typed", "json")
"""Storable as Perl writes it, Storable with Python's types, or JSON."""


class OtherVersion(ValueError):
    """The header says that what follows it is not for us."""


Invoked = tuple[Id, "list[object] | None"]
"""The id of a function, and what it was called with; None: it was released."""


@dataclass(slots=True)
class Header:
    """The first line of a file.

    `session` is the same in all files that one run has written, whose parts are numbered; the
    names of clients and calls are those of a session. `names` and `procedures` were redacted.
    """

    session: str
    part: int = 1
    time: str = ""
    target: str = ""
    names: list[str] = field(default_factory=list)
    procedures: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return the line, with its end."""
        return _line(
            {
                "format": FORMAT,
                "version": VERSION,
                "session": self.session,
                "part": self.part,
                "time": self.time,
                "target": self.target,
                "redact": self.names,
                "redact_procedures": self.procedures,
            }
        )


@dataclass(slots=True)
class CallLine:
    """One call as it was recorded.

    Args:
        client: number of the connection, from 1 on.
        call: number of the call, from 1 on, in the order in which they came.
        at: seconds from the start of the session to that of the call.
        took: seconds to its end.
        codec: in which the client spoke.
        arguments: None if they were too long.
        answer: the values, those of an error too; None if there was none or it was too long.
        callbacks: what the functions of the client were called with, until the answer.
        skipped: for "arguments", "answer" or "callbacks" that were too long: how long, in bytes;
            -1 if they could not be written.
        redacted: those of the three from which something was taken out.
    """

    client: int
    call: int
    procedure: str
    time: str
    at: float
    took: float
    codec: Codec
    arguments: list[object] | None
    ended: Ending
    answer: list[object] | None = None
    callbacks: list[Invoked] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    redacted: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Late:
    """A function of the client's was called, or released, when its call had ended."""

    client: int
    call: int
    at: float
    invoked: Invoked


class Parts:
    """A line that is put together from what is JSON already, in the order of its keys."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def add(self, name: str, value: object) -> None:
        """Add a key with a value that JSON has."""
        self._parts.append(f'"{name}": {_encode(value)}')

    def add_text(self, name: str, text: str) -> None:
        """Add a key with a value that is JSON already."""
        self._parts.append(f'"{name}": {text}')

    def add_moment(self, wall: float, at: float) -> None:
        """Add when it was: seconds since 1970, and since the start of the session."""
        moment = datetime.fromtimestamp(wall, timezone.utc)
        self._parts.append(f'"time": "{moment:%Y-%m-%dT%H:%M:%S.%fZ}", "at": {at:.6f}')

    def line(self) -> str:
        """Return the line, with its end."""
        return f"{{{', '.join(self._parts)}}}\n"


_encode = json.JSONEncoder().encode


def _line(keys: dict[str, object]) -> str:
    return f"{_encode(keys)}\n"


# Reading

_BEGINNING = f'{{"format": "{FORMAT}"'.encode()


def is_beginning(line: bytes) -> bool:
    """True for a header, or for what is left of one that was cut."""
    return line.startswith(_BEGINNING) or (line != b"" and _BEGINNING.startswith(line))


def parse_line(text: str) -> Header | CallLine | Late:
    """Read a line.

    Raises:
        ValueError: it is none; the message says why.
    """
    keys = parse(text)
    if type(keys) is not dict:
        raise ValueError("not an object of JSON")
    if "format" in keys:
        return _header(keys)
    return _late(keys) if "late" in keys else _call(keys)


def _header(keys: dict[str, object]) -> Header:
    if keys["format"] != FORMAT:
        raise ValueError(f'"format" is not {FORMAT!r}')
    version = keys.get("version")
    if version != VERSION or type(version) is not int:
        raise OtherVersion(f"of version {_short(version)}; this program reads {VERSION}")
    return Header(
        _text(keys, "session"),
        _count(keys, "part"),
        _text(keys, "time"),
        _text(keys, "target"),
        _names(keys, "redact"),
        _names(keys, "redact_procedures"),
    )


def _call(keys: dict[str, object]) -> CallLine:
    ended, codec = keys.get("ended"), keys.get("codec")
    if ended not in ENDINGS:
        raise ValueError(f'"ended" is {_short(ended)}, none of {", ".join(ENDINGS)}')
    if codec not in CODECS:
        raise ValueError(f'"codec" is {_short(codec)}, none of {", ".join(CODECS)}')
    callbacks = keys.get("callbacks", [])
    if type(callbacks) is not list:
        raise ValueError(f'"callbacks" is {_short(callbacks)}, no list')
    return CallLine(
        client=_count(keys, "client"),
        call=_count(keys, "call"),
        procedure=_as_text(untag(keys.get("procedure")), "procedure"),
        time=_text(keys, "time"),
        at=_seconds(keys, "at"),
        took=_seconds(keys, "took"),
        codec=cast("Codec", codec),
        arguments=_values(keys, "arguments"),
        ended=cast("Ending", ended),
        answer=_values(keys, "answer"),
        callbacks=[*map(_invoked, callbacks)],
        skipped=_sizes(keys),
        redacted=_names(keys, "redacted"),
    )


def _late(keys: dict[str, object]) -> Late:
    return Late(
        _count(keys, "client"), _count(keys, "call"), _seconds(keys, "at"), _invoked(keys["late"])
    )


def _invoked(value: object) -> Invoked:
    if type(value) is not list or len(value) != 2:
        raise ValueError(f"a callback is {_short(value)}, no list of an id and values")
    found, values = as_id(value[0]), untag(value[1])
    if found is None or not (values is None or type(values) is list):
        raise ValueError("a callback is no list of an id and values")
    return found, cast("list[object] | None", values)


def _values(keys: dict[str, object], name: str) -> list[object] | None:
    values = untag(keys.get(name))
    if values is None or type(values) is list:
        return values
    raise ValueError(f'"{name}" is {_short(values)}, no list')


def _sizes(keys: dict[str, object]) -> dict[str, int]:
    sizes = keys.get("skipped", {})
    if type(sizes) is not dict or any(type(size) is not int for size in sizes.values()):
        raise ValueError(f'"skipped" is {_short(sizes)}, no sizes')
    return sizes


def _names(keys: dict[str, object], name: str) -> list[str]:
    names = keys.get(name, [])
    if type(names) is not list or any(type(each) is not str for each in names):
        raise ValueError(f'"{name}" is {_short(names)}, no list of names')
    return names


def _text(keys: dict[str, object], name: str) -> str:
    return _as_text(keys.get(name), name)


def _as_text(value: object, name: str) -> str:
    if type(value) is not str:
        raise ValueError(f'"{name}" is {_short(value)}, no text')
    return value


def _count(keys: dict[str, object], name: str) -> int:
    value = keys.get(name)
    if type(value) is not int or not 1 <= value < 2**63:
        raise ValueError(f'"{name}" is {_short(value)}, no number from 1 on')
    return value


def _seconds(keys: dict[str, object], name: str) -> float:
    value = keys.get(name)
    if type(value) not in (int, float) or not 0 <= cast("float", value) < 2**53:
        raise ValueError(f'"{name}" is {_short(value)}, no number of seconds')
    return float(cast("float", value))


def _short(value: object) -> str:
    """Show a value of a line that may be anything."""
    kind = type(value).__name__
    if isinstance(value, (list, dict)):
        return f"a {kind} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an int of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
