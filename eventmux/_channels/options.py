"""The options of a handle, and what each of them may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any, Final

from eventmux.buffers import Buffer
from eventmux.events import Address, Handle

__all__ = ["USUAL", "ChannelOptions", "Usual", "check_buffer"]

_BUFFER_METHODS = ("write", "read", "read_last", "fresh", "returns_last")


class Usual(Enum):
    """What an option is that the program has not given, where None means something else."""

    USUAL = "usual"

    def __repr__(self) -> str:
        """Return how it is to be read in a signature."""
        return "USUAL"


USUAL: Final = Usual.USUAL


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """The options of a handle; a listener hands its own on to what it accepts.

    Raises:
        ValueError: a number is no int of at least 1.
        TypeError: `buffered` is no buffer, or `meta_handler` cannot be called.
    """

    read_size: int = 65536
    reads_per_turn: int = 10
    buffered: Buffer | None = None
    high_water: int | None = None
    max_outbuffer: int | Usual | None = USUAL
    meta_handler: Callable[[Handle, bytes, Address | None], object] | None = None
    errors: bool = False
    manual_accept: bool = False
    manual_read: bool = False
    manual_write: bool = False

    def __post_init__(self) -> None:
        """Check what the program has given."""
        for name in ("read_size", "reads_per_turn"):
            _check_count(name, getattr(self, name))
        for name in ("high_water", "max_outbuffer"):
            if getattr(self, name) not in (None, USUAL):
                _check_count(name, getattr(self, name))
        check_buffer(self.buffered)
        if self.meta_handler is not None and not callable(self.meta_handler):
            raise TypeError(f"meta_handler is {self.meta_handler!r}, must be callable")

    def having(self, *, read_size: int | None = None, **options: Any) -> ChannelOptions:
        """Return these options with others in their place; no `read_size` leaves it as it is.

        Raises:
            TypeError: there is no such option; or as for the class.
            ValueError: as for the class.
        """
        unknown = options.keys() - _NAMES
        if unknown:
            raise TypeError(f"{min(unknown)!r} is no option here")
        if read_size is not None:
            options["read_size"] = read_size
        return replace(self, **options)


_NAMES = {field.name for field in fields(ChannelOptions)}


def _check_count(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} is {value!r}, must be a positive int")


def check_buffer(buffered: object) -> None:
    """Raise TypeError for what is no buffer; None is no buffering."""
    if buffered is not None and (
        isinstance(buffered, type) or not all(hasattr(buffered, name) for name in _BUFFER_METHODS)
    ):
        raise TypeError(f"buffered is {buffered!r}, must be a buffer such as Split()")
