"""The logger of the package, and how text from a stranger is shown in it.

The package configures no logging: a program that wants to read it sets up a handler.
"""

from __future__ import annotations

import logging

__all__ = ["log", "shorten"]

log = logging.getLogger("rpcasync")
log.addHandler(logging.NullHandler())

_SHOWN = 60


def shorten(text: str) -> str:
    """Return text that came from a peer on one line, cut to a length that fits in a message."""
    if len(text) > _SHOWN:
        text = f"{text[: _SHOWN - 3]}..."
    return text if text.isprintable() else repr(text)[1:-1]
