"""What a forked child may not do with the muxes of its parent.

A child shares the parent's selector and open files: were it to run a mux that it has inherited,
it would change what the parent waits for, and send and receive in the parent's place. So every
mux is told in the child, and refuses until it has been started anew.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

__all__ = ["Refusal", "tell_of_forks"]

T = TypeVar("T")


class Refusal:
    """Stands for what must not be touched: whatever is asked of it, it refuses."""

    def __init__(self, why: str) -> None:
        self._why = why

    def _refuse(self, *_: object) -> NoReturn:
        raise RuntimeError(self._why)

    __len__ = __iter__ = __contains__ = __getitem__ = __setitem__ = __delitem__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse."""
        self._refuse()


# One handler for all, since Python's cannot be taken back.
_told: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()


def tell_of_forks(owner: T, action: Callable[[T], None]) -> None:
    """Have something done with the owner in each child that is forked while it lives."""
    _told[owner] = action


def _tell() -> None:
    for owner, action in list(_told.items()):
        action(owner)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell)
