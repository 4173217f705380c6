"""What the values of options have to be: each of these reads one, or says what is wrong with it.

Raises:
    argparse.ArgumentTypeError: all of them do; the parser tells it.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable

from eventmux._nearest import did_you_mean
from rpcasync.cli.usage import LEVELS
from rpcasync.urls import is_number
from rpcasync.wire.deadlines import check_seconds

__all__ = [
    *("factor", "level", "mode", "name", "number_of", "part", "seconds", "time", "trusted"),
    *("user", "wait", "whole_name"),
]


def level(text: str) -> str:
    """Return a level of the log, in capitals."""
    if text.lower() not in LEVELS:
        *most, last = LEVELS
        meant = did_you_mean(text.lower(), LEVELS)
        known = f"{', '.join(most)} and {last}"
        raise argparse.ArgumentTypeError(f"{text!r} is none of {known}{meant}")
    return text.upper()


def seconds(text: str) -> float:
    """Return a number of seconds."""
    try:
        return check_seconds("timeout", float(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None


def time(text: str) -> float:
    """Return a number of seconds above 0."""
    return _number(text, lambda number: 0 < number < math.inf, "a number of seconds above 0")


def wait(text: str) -> float:
    """Return a number of seconds, which may be 0."""
    return _number(text, lambda number: 0 <= number < math.inf, "a number of seconds, 0 or more")


def user(text: str) -> int:
    """Return the number of a user, from that or from the name."""
    if is_number(text, digits=10):
        return int(text)
    try:
        import pwd  # only where it is needed, and Windows has none

        return pwd.getpwnam(text).pw_uid
    except (ImportError, KeyError):
        raise argparse.ArgumentTypeError(f"there is no user {text!r}") from None


def trusted(text: str) -> str:
    """Return a network, `unix:`, or `uid:` with the number of a user; as it is."""
    from ipaddress import ip_network  # only where it is needed: it takes a while

    scheme, _, rest = text.partition(":")
    if text == "unix:" or (scheme == "uid" and is_number(rest, digits=10)):
        return text
    try:
        ip_network(text)
    except ValueError as error:
        expected = "must be a network such as 10.0.0.0/8, unix: or uid:33"
        raise argparse.ArgumentTypeError(f"{text!r} {expected}: {error}") from None
    return text


def part(text: str) -> float:
    """Return a number from 0 to 1."""
    return _number(text, lambda number: 0 <= number <= 1, "a number from 0 to 1")


def factor(text: str) -> float:
    """Return a number above 0."""
    return _number(text, lambda number: 0 < number < math.inf, "a number above 0")


def _number(text: str, is_good: Callable[[float], bool], what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not is_good(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return number


def mode(text: str) -> int:
    """Return the mode of a file, from octal digits."""
    if not re.fullmatch("0?[0-7]{3}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no mode: three octal digits, as in 660")
    return int(text, 8)


def name(text: str) -> str:
    """Return a name; several in one would be none, and something is done that should not be."""
    if "," in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no name: repeat the option for each")
    return text


def whole_name(text: str) -> str:
    """Return a name that is no pattern."""
    if "*" in text or "?" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is a pattern: names stand here as they are")
    return name(text)


def number_of(what: str, least: int, most: int | None = None) -> Callable[[str], int]:
    """Return what reads a whole number of something, with its limits."""
    limits = f"{least} or more" if most is None else f"{least} to {most}"

    def number(text: str) -> int:
        is_good = is_number(text, digits=20) and int(text) >= least
        if not is_good or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of {what}: {limits}")
        return int(text)

    return number
