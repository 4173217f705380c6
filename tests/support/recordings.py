"""Recordings for tests: written by hand, so that a test says what stands in them."""

from __future__ import annotations

from pathlib import Path

from rpcasync.recording.lines import Header, Parts
from rpcasync.recording.tagged import to_text


def call_line(
    call: int,
    procedure: str = "echo",
    arguments: list[object] | None = None,
    answer: list[object] | None = None,
    *,
    client: int = 1,
    at: float | None = None,
    took: float = 0.25,
    ended: str | None = "answer",
    codec: str = "perl",
    **others: object,
) -> str:
    """Return the line of a call; by default one each second, each over before the next."""
    parts = Parts()
    at = float(call) if at is None else at
    parts.add_moment(1_800_000_000 + at, at)
    keys = {"took": took, "client": client, "call": call, "codec": codec, "procedure": procedure}
    for key, value in keys.items():
        parts.add(key, value)
    if "arguments" not in others.get("skipped", ()):  # type: ignore[operator]
        parts.add_text("arguments", to_text(arguments or []))
    parts.add("ended", ended)
    if ended in ("answer", "error"):
        parts.add_text("answer", to_text(arguments or [] if answer is None else answer))
    for key, value in others.items():
        parts.add_text(key, to_text(value))
    return parts.line()


def write_recording(path: Path, *lines: str, header: Header | None = None) -> Path:
    """Write a recording, with a header before its lines, behind what is there."""
    with open(path, "a") as file:
        file.write((header or Header("s1")).line() + "".join(lines))
    return path
