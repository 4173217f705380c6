"""`rpcasync shadow-report`: where the answers of two servers differ, from the file of a report.

The file may be that of a server that runs. What stands in it was written by our server, but with
values of strangers' in it, and somebody may have changed it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping

from rpcasync.cli.output import CommandFailed, harmless, print_lines, to_json
from rpcasync.cli.rendering import value_lines
from rpcasync.cli.screen import Colours, colours_of, columns_of
from rpcasync.shadowing.reports import read_report

__all__ = ["shadow_report"]

_COUNTS = ("calls", "equal", "different", "skipped", "unanswered")


def shadow_report(options: argparse.Namespace) -> int:
    """Print it; return 1 if answers differ, else 0.

    Raises:
        CommandFailed: there is no such file, or it is no report.
    """
    try:
        report = read_report(options.file)
    except OSError as error:
        raise CommandFailed(f"cannot read {options.file}: {error.strerror or error}", 2) from None
    except ValueError as error:
        raise CommandFailed(f"{options.file}: {error}", 2) from None
    found = _procedures(report)
    if options.json:
        print_lines([to_json(report)])
    else:
        print_lines(_lines(report, found))
    return int(any(about.get("different") for about in found.values()))


def _procedures(report: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    procedures = report.get("procedures")
    found = procedures if isinstance(procedures, dict) else {}
    return {name: about for name, about in found.items() if isinstance(about, dict)}


def _lines(
    report: Mapping[str, object], found: Mapping[str, Mapping[str, object]]
) -> Iterator[str]:
    colours = colours_of(sys.stdout)
    yield _shown(f"{report.get('old')}, since {report.get('since')}, as of {report.get('until')}")
    yield _shown(f"clients get the {report.get('answer')} answers" + _about_sample(report))
    if not report.get("is_there", True):
        yield "the old server is not there"
    yield ""
    if not found:
        yield "no calls yet"
        return
    yield from value_lines(
        [_row(name, about) for name, about in found.items()],
        colours=colours,
        columns=columns_of(sys.stdout),
    )
    for name, about in found.items():
        yield from _differences(name, about, colours)


def _about_sample(report: Mapping[str, object]) -> str:
    sample, left_out = report.get("sample"), report.get("left_out")
    text = ""
    if isinstance(sample, (int, float)) and 0 <= sample < 1:
        text += f"; {sample:.4g} of the calls are compared"
    if isinstance(left_out, list) and left_out:
        text += f"; left out: {', '.join(map(str, left_out))}"
    return text


def _row(name: str, about: Mapping[str, object]) -> dict[str, object]:
    row: dict[str, object] = {"procedure": name}
    row |= {key: about.get(key) for key in _COUNTS}
    times = {key.replace("_", " "): about.get(key) for key in ("old_ms", "new_ms")}
    return row | {name: "" if time is None else time for name, time in times.items()}


def _differences(name: str, about: Mapping[str, object], colours: Colours) -> Iterator[str]:
    found = about.get("differences")
    if not isinstance(found, list) or not found:
        return
    yield ""
    yield colours.heading(_shown(name))
    for each in found:
        if isinstance(each, dict):
            place = each.get("place")
            where = f"{place}: " if place else ""
            head = f"{where}{each.get('kind')}, {_calls(each.get('calls'))}"
            if each.get("path") != place:
                head += f", first at {each.get('path')}"
            yield f"  {_shown(head)}"
            yield f"    old {_shown(each.get('old') or 'none')}"
            yield f"    new {_shown(each.get('new') or 'none')}"


def _calls(count: object) -> str:
    return "1 call" if count == 1 else f"{count} calls"


def _shown(text: object) -> str:
    return harmless(str(text))
