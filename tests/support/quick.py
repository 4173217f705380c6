"""What the usual run leaves out. Tests marked `slow` are run by .ci/run, as all others are."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def quick_first(cases: Iterable[object], count: int = 1) -> list[object]:
    """Return cases for `parametrize()`: those after the first few are marked slow.

    For tests that take long and whose further cases say the same again in another way, so put
    those that differ most in front.
    """
    return [case if number < count else _marked_slow(case) for number, case in enumerate(cases)]


def _marked_slow(case: object) -> object:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
