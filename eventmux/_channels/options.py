"""The options of a handle, and what each of them may be."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, cast

from eventmux._nearest import no_option
from eventmux.buffers import Buffer
from eventmux.events import Address
from eventmux.passing import MOST_FDS

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = [
    "USUAL",
    "ChannelOptions",
    "Options",
    "Usual",
    "check_buffer",
    "check_context",
    "check_time",
]

_BUFFER_METHODS = ("write", "read", "read_last", "fresh", "returns_last")


class Usual(Enum):
    """What an option is that the program has not given, where None means something else."""

    USUAL = "usual"

    def __repr__(self) -> str:
        """Return how it is to be read in a signature."""
        return "USUAL"


USUAL: Final = Usual.USUAL

READ_SIZE: Final = 65536  # bytes; unless the program says otherwise


class Options(TypedDict, total=False):
    """What a program may give by name to each method that watches a handle."""

    buffered: Buffer | None
    meta: object
    meta_handler: Callable[[Any, bytes, Address | None], object] | None
    read_size: int | None
    high_water: int | None
    max_outbuffer: int | Usual | None
    errors: bool
    manual_accept: bool
    manual_read: bool
    manual_write: bool
    tls: SSLContext | None
    handshake_timeout: float
    half_close: bool
    idle_timeout: float | None
    keepalive: bool
    nodelay: bool
    exceptional: bool
    receive_fds: int | None
    destination: bool


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """The options of a handle; a listener hands its own on to what it accepts.

    Raises:
        ValueError: a number is no int of at least 1, or a time is not above 0; or `proxy`,
            `trusted` and `manual_accept` do not go together, or nobody is trusted.
        TypeError: `buffered` is no buffer, `meta_handler` cannot be called, `tls` is no context, or
            `trusted` is no list of texts.
    """

    read_size: int = READ_SIZE
    reads_per_turn: int = 10
    buffered: Buffer | None = None
    high_water: int | None = None
    max_outbuffer: int | Usual | None = USUAL
    meta_handler: Callable[[Any, bytes, Address | None], object] | None = None
    errors: bool = False
    manual_accept: bool = False
    manual_read: bool = False
    manual_write: bool = False
    tls: SSLContext | None = None
    server_side: bool | None = None
    server_hostname: str | None = None
    handshake_timeout: float = 10.0
    half_close: bool = False
    idle_timeout: float | None = None
    keepalive: bool = True
    nodelay: bool = True
    proxy: Literal["require"] | None = None
    trusted: Collection[str] = ()
    exceptional: bool = False
    receive_fds: int | None = None
    destination: bool = False

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
        if self.tls is not None:
            check_context(self.tls)
        if self.receive_fds is not None:
            _check_count("receive_fds", self.receive_fds)
            if self.receive_fds > MOST_FDS:
                raise ValueError(f"receive_fds is {self.receive_fds}, the limit is {MOST_FDS}")
        check_time("handshake_timeout", self.handshake_timeout)
        if self.idle_timeout is not None:
            check_time("idle_timeout", self.idle_timeout)
        if self.proxy is not None or self.trusted:
            _check_proxy(self.proxy, self.trusted, self.manual_accept)

    def having(
        self, method: Callable[..., object], options: Options, **own: object
    ) -> ChannelOptions:
        """Return these options with others in their place; no `read_size` leaves it as it is.

        Args:
            method: which one the program has called.
            options: what it has given, by name; `meta` is not for the channels.
            own: what that method alone has.

        Raises:
            TypeError: there is no such option; or as for the class.
            ValueError: as for the class.
        """
        unknown = options.keys() - _NAMES
        if unknown:
            its: dict[str, object] = getattr(method, "__kwdefaults__", None) or {}
            raise TypeError(no_option(method.__qualname__, unknown, [*its, *_NAMES]))
        changed = {name: value for name, value in own.items() if value != getattr(self, name)}
        given: dict[str, Any] = {**options, **changed}
        given.pop("meta", None)
        if given.get("read_size", self) is None:
            del given["read_size"]
        return replace(self, **given) if given else self  # as of most handles of a program


_NAMES = Options.__optional_keys__


def _check_count(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} is {value!r}, must be a positive int")


def check_time(name: str, value: object) -> None:
    """Raise ValueError for what is no time above 0, in seconds."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 < cast("float", value) < float("inf"):
        raise ValueError(f"{name} is {value!r}, must be a number of seconds above 0")


def _check_proxy(proxy: object, trusted: Collection[str], manual_accept: bool) -> None:
    if proxy is None:
        raise ValueError(f"trusted is {trusted!r}, but there is no proxy='require'")
    if proxy != "require":
        raise ValueError(f"proxy is {proxy!r}, must be 'require' or None")
    if manual_accept:
        raise ValueError("proxy='require' with manual_accept: it is the program that accepts")
    from eventmux._channels.trust import Trust  # with `ipaddress` it takes a while

    Trust(trusted)


def check_context(tls: object) -> None:
    """Raise TypeError for what is no `ssl.SSLContext`."""
    import ssl  # it takes a while; whoever has a context has it already

    if not isinstance(tls, ssl.SSLContext):
        raise TypeError(f"tls is {tls!r}, must be an ssl.SSLContext")


def check_buffer(buffered: object) -> None:
    """Raise TypeError for what is no buffer; None is no buffering."""
    if buffered is not None and (
        isinstance(buffered, type) or not all(hasattr(buffered, name) for name in _BUFFER_METHODS)
    ):
        raise TypeError(f"buffered is {buffered!r}, must be a buffer such as Split()")
