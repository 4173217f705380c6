"""What has happened, as tests note it: the ends of calls, and what was logged."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest


class Outcomes(list[tuple[str, object]]):
    """Makes callbacks that note what they are given."""

    def taker(self, name: str) -> Callable[..., None]:
        return lambda *values: self.append((name, values))

    def error_taker(self, name: str) -> Callable[..., None]:
        def done(*, error: BaseException | None = None, **named: object) -> None:
            self.append((name, type(error)))

        return done


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages that were logged as warnings or worse."""
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]
