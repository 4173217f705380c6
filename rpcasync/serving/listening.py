"""What a program may ask for where it listens, and what it should know of that place.

The options are those of the mux, but for those that are the server's own affair. This file opens no
socket.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal, TypedDict

from eventmux._nearest import no_option
from rpcasync._log import log

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["AcceptOptions", "ListenOptions", "check_options", "check_uids", "tell_if_open"]


class AcceptOptions(TypedDict, total=False):
    """What may be given for connections that are accepted; see `EventMux.add()`."""

    tls: SSLContext | None
    handshake_timeout: float
    proxy: Literal["require"] | None
    trusted: Collection[str]
    half_close: bool
    keepalive: bool
    nodelay: bool


class ListenOptions(AcceptOptions, total=False):
    """What may be given for a listener that is made, too; see `EventMux.listen()`."""

    backlog: int
    reuse_port: bool


_OF_THE_SERVER = {
    "idle_timeout": "Server.set_limits(idle_timeout=) knows which calls are under way",
    "max_outbuffer": "it is an option of Server()",
}
_INTERNET = (socket.AF_INET, socket.AF_INET6)


def check_options(method: str, options: Mapping[str, object], known: Collection[str]) -> None:
    """See that there are only options of some names.

    Args:
        method: which one the program has called.
        options: what it has given.
        known: the names.

    Raises:
        TypeError: there is another.
    """
    unknown = options.keys() - known
    if unknown:
        hint = _OF_THE_SERVER.get(min(unknown))
        raise TypeError(
            f"{method}() has no option {min(unknown)!r}: {hint}"
            if hint
            else no_option(method, unknown, known)
        )


def check_uids(uids: Collection[int] | None, family: int) -> frozenset[int] | None:
    """Return the users that may connect to a listener; None is all.

    Raises:
        TypeError: they are no numbers.
        ValueError: it is no UNIX socket, of which alone the kernel tells who connects.
    """
    if uids is None:
        return None
    if isinstance(uids, (str, bytes)) or not isinstance(uids, Collection):
        raise TypeError(f"uids is {uids!r}, must be a collection of user ids")
    for uid in uids:
        if type(uid) is not int:
            raise TypeError(f"uids has {uid!r}, must be user ids such as {{0, 1000}}")
    if family in _INTERNET:
        raise ValueError(f"uids is {uids!r}, but only UNIX sockets tell who connects")
    return frozenset(uids)


def tell_if_open(sock: socket.socket, options: Mapping[str, object]) -> None:
    """Warn of a listener that others on the network can reach, and where nothing is encrypted.

    With `proxy="require"` the program has named the networks that may connect, and what encrypts
    stands there.
    """
    if sock.family not in _INTERNET or options.get("tls") or options.get("proxy"):
        return
    host, port = sock.getsockname()[:2]
    if host == "::1" or host.removeprefix("::ffff:").startswith("127."):
        return
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    log.warning(
        "listening on tcp://%s without TLS: whoever is on the way can read and change all that"
        " passes, and nobody is told apart; listen at tls://, unix:// or 127.0.0.1",
        place,
    )
