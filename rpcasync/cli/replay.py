"""`rpcasync replay`: play a recording against a server, and say what has become of its calls."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from eventmux import EventMux, URLError
from eventmux._nearest import did_you_mean
from rpcasync.cli.output import CommandFailed, harmless, on_one_line, print_lines, say, to_json
from rpcasync.cli.trust import client_options
from rpcasync.recording.reader import Recording
from rpcasync.replaying.replay import Replay
from rpcasync.replaying.tally import Tally

__all__ = ["replay"]

_MOST_PROBLEMS = 10  # that are told each


def replay(options: argparse.Namespace) -> int:
    """Play it; return the exit status.

    Raises:
        CommandFailed: the file is no recording, or the URL is not understood.
    """
    try:
        recording = Recording(options.file)
    except OSError as error:
        raise CommandFailed(f"{error.filename}: {error.strerror}", 2) from None
    with recording:
        _tell_problems(recording)
        tally = Tally(compares=options.compare)
        is_whole = _play(options, recording, tally)
        _tell_names(options, tally, is_whole)
        broken = sum(not problem.is_cut for problem in recording.problems)
        show = _json_lines if options.json else _lines
        print_lines(show(tally, len(recording), broken))
    is_good = tally.is_good and tally.played and is_whole and not broken
    return 0 if is_good else 1


def _tell_problems(recording: Recording) -> None:
    for problem in recording.problems[:_MOST_PROBLEMS]:
        say(f"{problem}, left out")
    rest = len(recording.problems) - _MOST_PROBLEMS
    if rest > 0:
        say(f"... and {rest} more lines that are left out")


def _play(options: argparse.Namespace, recording: Recording, tally: Tally) -> bool:
    """Play the calls; return False if Ctrl-C came before the end."""
    with EventMux() as mux:
        play = Replay(
            mux,
            options.url,
            recording,
            tally,
            wants=_wanted(options),
            speed=options.speed,
            in_flight=options.in_flight,
            timeout=options.timeout,
            client_options=client_options(options, options.url),
            say=lambda line: say(line.decode(errors="backslashreplace"), prefix=""),
        )
        try:
            play.run()
            play.end()
        except URLError as error:
            raise CommandFailed(error, 2) from None
        except KeyboardInterrupt:
            say("interrupted")
            return False
    if tally.gone is not None:
        say(f"the server has gone: {tally.gone}")
    return True


def _wanted(options: argparse.Namespace) -> Callable[[str], bool]:
    only, but = frozenset(options.only), frozenset(options.but)
    return lambda name: name not in but and (not only or name in only)


def _tell_names(options: argparse.Namespace, tally: Tally, is_whole: bool) -> None:
    """Say which names were given that are nowhere in the recording."""
    if is_whole and tally.gone is None:
        for name in dict.fromkeys([*options.only, *options.but]):
            if name not in tally.names:
                meant = did_you_mean(name, tally.names)
                say(f"there is no call of {name!r} in {options.file}{meant}")


# What is printed


def _lines(tally: Tally, count: int, broken: int) -> Iterator[str]:
    calls = f"{tally.played} of {count} calls" if tally.played != count else f"{count} calls"
    where = "1 connection" if tally.clients == 1 else f"{tally.clients} connections"
    yield f"played {calls} on {where} in {tally.seconds:.1f} s"
    rows = [_Row("answered", tally.answered)]
    rows += [_Row(f"failed: {why}", number) for why, number in sorted(tally.failed.items())]
    rows += [_Row("never answered, as in the recording", tally.unanswered)]
    rows += [_Row(f"not played: {why}", n) for why, n in sorted(tally.not_played.items())]
    rows += [_Row("broken: lines of the recording that cannot be read", broken)]
    wide = max(len(str(row.number)) for row in rows)
    for row in rows:
        if row.number or row.text == "answered":
            yield f"  {row.number:{wide}} {row.text}"
    yield from _differences(tally)


class _Row(NamedTuple):
    text: str
    number: int


def _differences(tally: Tally) -> Iterator[str]:
    what = "answers" if tally.compares else "outcomes"
    if not tally.differences:
        if tally.answered:
            yield f"no {what} differ"
        return
    yield f"{what} that differ, and the first of each kind:"
    found = sorted(tally.differences.items(), key=lambda pair: (-pair[1].count, pair[0]))
    wide = max(len(str(each.count)) for _, each in found)
    for (procedure, _), each in found:
        name = on_one_line(procedure)
        example = harmless(str(each.example))
        yield f"  {each.count:{wide}} {name}: {example} (call {each.call})"


def _json_lines(tally: Tally, count: int, broken: int) -> Sequence[str]:
    differences = [
        {
            "procedure": procedure,
            "kind": kind,
            "count": each.count,
            "call": each.call,
            "path": each.example.path,
            "old": each.example.old,
            "new": each.example.new,
        }
        for (procedure, kind), each in sorted(tally.differences.items())
    ]
    summary = {
        "calls": count,
        "played": tally.played,
        "answered": tally.answered,
        "unanswered": tally.unanswered,
        "failed": dict(tally.failed),
        "not_played": dict(tally.not_played),
        "differences": differences,
        "broken_lines": broken,
        "connections": tally.clients,
        "seconds": round(tally.seconds, 3),
        "gone": tally.gone,
    }
    return [to_json(summary)]
