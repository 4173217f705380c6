"""The logger of the package, and how text from a stranger is shown in it.

The package configures no logging: a program that wants to read it sets up a handler. Only where
the package runs a program, or starts its server, it shows warnings and errors that nobody else
would, as Python itself does for loggers that know nothing of each other.
"""

from __future__ import annotations

import logging

__all__ = ["log", "log_to_stderr", "shorten"]

log = logging.getLogger("rpcasync")
log.addHandler(logging.NullHandler())

_SHOWN = 60


def shorten(text: str) -> str:
    """Return text that came from a peer on one line, cut to a length that fits in a message."""
    if len(text) > _SHOWN:
        text = f"{text[: _SHOWN - 3]}..."
    return text if text.isprintable() else repr(text)[1:-1]


def log_to_stderr(level: int | str = logging.WARNING) -> None:
    """Show what is logged on stderr, as long as nobody has set up logging."""
    if any(not isinstance(handler, logging.NullHandler) for handler in log.handlers):
        return
    handler = logging.StreamHandler()
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    handler.addFilter(lambda _: not logging.root.handlers)
    log.addHandler(handler)
    if handler.level < log.getEffectiveLevel():
        log.setLevel(level)
