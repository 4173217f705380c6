"""How a server program gets its clients without knowing who they are.

Whoever starts the program hands over sockets, and says so in environment variables:

    RPCASYNC_FDS       numbers of descriptors, from a `python://` parent or `rpcasync listen`
    RPCASYNC_OPTIONS   a JSON object with limits and codecs for the server, from the same
    RPCASYNC_PARENT    the process of a `python://` parent
    RPCASYNC_WORKER    of `rpcasync listen --workers`, which has read it before: `workers`
    LISTEN_FDS         how many descriptors there are from 3 on, from systemd: `activation`
    NOTIFY_SOCKET      whom to tell that the program is ready: `notifying`

A variable is unset once it has been used, so that the programs which this one starts do not take
it for theirs. A program started by hand is told where to listen with `-u URL`.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from eventmux.errors import URLError
from eventmux.sockets import is_listening
from rpcasync.activation import open_all, refuse, take, untaken
from rpcasync.children.environments import FDS_VARIABLE, OPTIONS_VARIABLE, PARENT_VARIABLE
from rpcasync.children.parent import end_after
from rpcasync.notifying import is_supervised, supervise
from rpcasync.server import Server
from rpcasync.serving.stopping import Stopping
from rpcasync.shadowing.shadow import Shadow
from rpcasync.urls import is_number, is_tls_url
from rpcasync.wire.deadlines import check_seconds
from rpcasync.workers import membership

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["init_clients"]

_LIMITS = {
    *("outstanding", "max_packet", "max_clients", "max_buffered"),
    *("idle_timeout", "packet_timeout", "max_age"),
}
_OF_LISTENERS = ("uids", "tls", "drain", "proxy", "trusted")
_OPTIONS = {*_LIMITS, *_OF_LISTENERS, "codecs", "on_exception", "fallback", "shadow", "agent"}
_TLS_OPTIONS = {"cert", "key", "client_ca", "fds"}
_ONCE = {"fallback", "shadow", "agent"}  # not for each server of a program
_stopping: weakref.ref[Stopping] | None = None  # of the last server that signals stop
_SHADOW_OPTIONS = {"old", "answer", "sample", "leave_out", "report"}


def init_clients(
    rpc: Server,
    argv: Sequence[str] | None = None,
    *,
    name: str | None = None,
    tls: SSLContext | None = None,
) -> list[str]:
    """Give a server the clients and listeners that the program was started with.

    It takes them from the first of these that has any: the sockets handed over by whoever
    started the program, a `python://` parent or `rpcasync listen`; those that systemd hands
    over; then each `-u URL` in the arguments, on which it listens. `rpcasync listen -u URL` may
    be started by systemd: then it takes both.

    Under systemd it then says that the program is ready, and goes on with signs of life if those
    are wanted: `notify()`.

    If `rpcasync listen` has started the program, SIGTERM and SIGINT have the server `drain()` from
    then on, unless the program handles or watches them itself.

    A program with two servers calls this for each of them, and tells systemd's sockets apart by
    their `name`, the `FileDescriptorName=` of the unit.

    Args:
        rpc: the server.
        argv: the program's arguments; default is `sys.argv[1:]`, which is not changed.
        name: of the sockets from systemd take only those of this name, and leave the others to
            another call. Default is to take all that are left.
        tls: what is encrypted with at each `-u tls://host:port` of the arguments. `rpcasync listen
            --cert FILE` needs nothing of it.

    Returns:
        The arguments without what was taken.

    Raises:
        SystemExit: there are no clients at all, a URL cannot be listened on, or what was handed
            over is not what the environment says; stderr tells what is wrong, and how to start
            the program.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    is_ours = OPTIONS_VARIABLE in os.environ
    handed = _apply_options(rpc)
    parent = os.environ.pop(PARENT_VARIABLE, "")
    sockets = _from_starter()
    if sockets and is_number(parent):
        _end_after(int(parent), rpc, sockets)
    # systemd keeps its own, for who comes after us. With `rpcasync listen` there may be both.
    kept = take(name) if is_ours or not sockets else []
    if handed.later and untaken():  # another server of the program is to have them
        os.environ[OPTIONS_VARIABLE] = json.dumps(handed.later)
    if not sockets and not kept:
        arguments = _listen(rpc, arguments, tls)
    sharing = membership.sharing()
    if sharing is not None:
        rpc._arrivals.entrance.share(sharing)
    for sock in sockets + kept:
        if is_listening(sock):
            is_shared = sock in kept or sharing is not None
            shared: dict[str, Any] = {"shared": True} if is_shared else {}
            rpc.add_listener(sock, **handed.options_of(sock), **shared)
        else:
            rpc.add_client(sock)
    if handed.drain is not None:
        _stop_at_signals(rpc, handed.drain)
    if is_supervised():
        _supervise(rpc)
    return arguments


def _stop_at_signals(rpc: Server, seconds: float) -> None:
    """Have signals drain a server, together with others that the program has."""
    global _stopping
    others = None if _stopping is None else _stopping()
    if others is None or not others.join(rpc._mux, rpc._draining):
        is_worker = membership.sharing() is not None
        stopping = Stopping(rpc._mux, rpc._draining, seconds, is_worker=is_worker)
        stopping.begin()
        _stopping = weakref.ref(stopping)  # the server keeps it


def _supervise(rpc: Server) -> None:
    try:
        rpc._supervised = supervise(rpc._mux, rpc.has_clients)
    except (ValueError, TypeError) as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {error}")


def _end_after(parent: int, rpc: Server, sockets: list[socket.socket]) -> None:
    """See to it that the server ends after the one who is its only client, even if it hangs."""
    server = weakref.ref(rpc)
    handed = set(sockets)

    def hangs() -> bool:
        rpc = server()
        clients = set() if rpc is None else rpc.clients
        return bool(clients) and clients <= handed  # others want it, or none: then it is alive

    end_after(parent, hangs)


# Options of `rpcasync listen`


class _Handed:
    """What is handed over besides: of the listeners, users, proxies and TLS; and how to stop.

    Raises:
        ValueError: it is not what `rpcasync listen` hands over, or a file is none for TLS.
    """

    def __init__(
        self,
        uids: object = None,
        tls: object = None,
        drain: Any = None,
        proxy: object = None,
        trusted: Any = None,
        later: dict[str, Any] | None = None,
    ) -> None:
        self.later = later  # options for the next server, if sockets are left for it
        if proxy not in (None, "require") or (proxy is None) is not (trusted is None):
            raise ValueError(f"proxy is {proxy!r} with trusted {trusted!r}, must be 'require'")
        self._proxy = {} if proxy is None else {"proxy": proxy, "trusted": trusted}
        self.drain = None if drain is None else check_seconds("drain", drain)
        """Seconds that clients have to leave after a signal; None if signals are not our affair."""
        self._uids = None if uids is None else _numbers("uids", uids)
        self._encrypted: list[int] = []
        self._context: SSLContext | None = None
        if tls is not None:
            self._see_tls(tls)

    def _see_tls(self, tls: object) -> None:
        if not isinstance(tls, dict) or "cert" not in tls or tls.keys() - _TLS_OPTIONS:
            *most, last = sorted(_TLS_OPTIONS)
            raise ValueError(f"tls must be a JSON object of {', '.join(most)} and {last}")
        from rpcasync.certificates import server_context  # most listeners are plain

        files = {name: file for name, file in tls.items() if name != "fds"}
        self._encrypted = _numbers("fds of tls", tls.get("fds", []))
        self._context = server_context(**files)

    def options_of(self, sock: socket.socket) -> dict[str, Any]:
        """Return the options of a listener."""
        options: dict[str, Any] = {**self._proxy}
        if self._uids is not None and sock.family == socket.AF_UNIX:
            options["uids"] = self._uids
        if sock.fileno() in self._encrypted:
            options["tls"] = self._context
        return options


def _numbers(name: str, value: object) -> list[int]:
    if not isinstance(value, list) or not all(type(number) is int for number in value):
        raise ValueError(f"{name} must be a list of numbers")
    return value


def _apply_options(rpc: Server) -> _Handed:
    """Apply those of the server, and return those of its listeners."""
    text = os.environ.pop(OPTIONS_VARIABLE, "")
    if not text:
        return _Handed()
    try:
        limits = _parse_options(text)
        later = {name: value for name, value in limits.items() if name not in _ONCE}
        listeners = {name: limits.pop(name, None) for name in _OF_LISTENERS}
        handed = _Handed(**listeners, later=later)
        codecs = limits.pop("codecs", None)
        if "on_exception" in limits:
            rpc.on_exception = limits.pop("on_exception")
        if "fallback" in limits:
            _set_fallback(rpc, limits.pop("fallback"))
        if "shadow" in limits:
            _begin_shadow(rpc, limits.pop("shadow"))
        agent = limits.pop("agent", None)
        if limits:
            rpc.set_limits(**limits)
        if agent is not None:
            _begin_agent(rpc, agent)
        if codecs is not None:
            rpc.set_codecs(*codecs)
    except (ValueError, TypeError, RecursionError) as error:
        refuse(OPTIONS_VARIABLE, text, error)
    return handed


def _set_fallback(rpc: Server, url: str) -> None:
    try:
        rpc.fallback = url
    except (URLError, OSError) as error:
        _cannot(f"pass calls on to {url}", error)


def _begin_shadow(rpc: Server, options: dict[str, Any]) -> None:
    if not isinstance(options, dict):
        raise TypeError("shadow must be a JSON object")
    unknown = sorted(options.keys() - _SHADOW_OPTIONS)
    if unknown:
        raise ValueError(f"shadow has no option {unknown[0]!r}")
    try:
        Shadow(rpc._mux, rpc, **options)  # type: ignore[arg-type]  # it looks itself
    except (URLError, OSError) as error:
        name = getattr(error, "filename", None)
        if name is not None and name == options.get("report"):
            _cannot(f"keep the report of the shadow: {name}", error)
        _cannot(f"shadow {options.get('old')}", error)


def _begin_agent(rpc: Server, url: str) -> None:
    try:
        rpc.agent(url)
    except (URLError, OSError) as error:
        _cannot(f"answer a balancer at {url}", error)


def _cannot(what: str, error: Exception) -> NoReturn:
    """End the program: it cannot do what it was told to."""
    program, why = os.path.basename(sys.argv[0]), getattr(error, "strerror", None) or error
    sys.exit(f"{program}: cannot {what}: {why}")


def _parse_options(text: str) -> dict[str, Any]:
    options = json.loads(text)
    if not isinstance(options, dict):
        raise ValueError("expected a JSON object")
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown:
        raise ValueError(f"there is no option {unknown[0]!r}")
    codecs = options.get("codecs", [])
    if not isinstance(codecs, list) or not all(isinstance(codec, str) for codec in codecs):
        raise ValueError("codecs must be a list of names")
    return options


# Sockets that were handed over


def _from_starter() -> list[socket.socket]:
    """Return the sockets of a `python://` parent or of `rpcasync listen -u`."""
    text = os.environ.pop(FDS_VARIABLE, "")
    if not text:
        return []
    numbers = [int(part) if is_number(part) else -1 for part in text.split(",")]
    if -1 in numbers or len(set(numbers)) < len(numbers):
        refuse(FDS_VARIABLE, text, "expected different numbers of descriptors, as in 3,4")
    return open_all(numbers, FDS_VARIABLE, text)


# Listening by hand


def _listen(rpc: Server, argv: list[str], tls: SSLContext | None) -> list[str]:
    parser = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, usage="%(prog)s -u URL [-u URL ...] [ARGUMENT ...]"
    )
    parser.add_argument("-u", dest="urls", action="append")
    options, rest = parser.parse_known_args(argv)
    if not options.urls:
        parser.error("no clients: say where to listen with -u tcp://HOST:PORT or -u unix://PATH")
    for url in options.urls:
        is_encrypted = is_tls_url(url)
        if is_encrypted and tls is None:
            parser.error(
                f"cannot listen on {url}: start it with `rpcasync listen --cert FILE`, or have it"
                " call init_clients(rpc, tls=context)"
            )
        given: dict[str, Any] = {"tls": tls} if is_encrypted else {}
        try:
            rpc.listen(url, **given)
        except (URLError, OSError) as error:
            parser.error(f"cannot listen on {url}: {getattr(error, 'strerror', None) or error}")
    return rest
