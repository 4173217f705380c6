"""From a URL to a connection.

What can wait, does so in the loop: looking up names and connecting. A program is started where it
is asked for, as asyncio starts programs, too.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, cast

from eventmux import sockets, tcp
from eventmux.events import Address
from eventmux.urls import Endpoint, parse_url
from rpcasync.awaiting.connection import Connection
from rpcasync.awaiting.encryption import Encryption, is_of_tls, reason_of
from rpcasync.loss import nobody_there
from rpcasync.urls import check_stream, connect_stream, is_stream_url, url_disconnect

__all__ = ["open_connection"]

_NEXT_ADDRESS = 0.25  # seconds until the next address of a name is tried as well (RFC 8305)

Make = Callable[[socket.socket | None], Connection]


async def open_connection(
    loop: asyncio.AbstractEventLoop,
    server: str | socket.socket,
    args: tuple[str, ...],
    make: Make,
    encryption: Encryption | None = None,
) -> Connection:
    """Return a connection that is up, and its handshake through.

    Args:
        loop: the one that runs.
        server: a URL, or a connected socket.
        args: for a program that is started.
        make: makes the connection that the transport is given.
        encryption: how it is encrypted; None is plain.

    Raises:
        URLError: the URL is not understood.
        TypeError: the socket is no stream.
        OSError: nobody is there, the program cannot be started...; the text has the URL.
    """
    options = {} if encryption is None else encryption.options()
    if not isinstance(server, str):
        check_stream(server)
        return await _adopt(loop, server, make, options)
    try:
        if not is_stream_url(server) or args:
            return await _adopt_own(loop, connect_stream(server, *args), make, options)
        endpoint = parse_url(server)
        if endpoint.scheme == "unix":
            [target] = sockets.look_up(endpoint)
            return await _adopt_own(loop, sockets.start(target), make, options)
        return await _connect_tcp(loop, endpoint, make, options)
    except OSError as error:
        raise _naming(server, error) from error


async def _adopt(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, make: Make, options: dict[str, Any]
) -> Connection:
    tcp.tune(sock, nodelay=True, keepalive=True)
    _, connection = await loop.create_connection(lambda: make(sock), sock=sock, **options)
    return connection


async def _adopt_own(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, make: Make, options: dict[str, Any]
) -> Connection:
    """Do so with a socket that nobody else has: should that fail, it ends, and its process."""
    try:
        return await _adopt(loop, sock, make, options)
    except BaseException:
        url_disconnect(sock, 0)  # the loop is not to wait for it
        raise


async def _connect_tcp(
    loop: asyncio.AbstractEventLoop, endpoint: Endpoint, make: Make, options: dict[str, Any]
) -> Connection:
    """Connect a socket of our own: asyncio loses its own if it is cancelled as it has one."""
    targets = sockets.known_targets(endpoint)
    if targets is None:
        host, kind = endpoint.host or "localhost", socket.SOCK_STREAM
        found = await loop.getaddrinfo(host, endpoint.port, type=kind)
        targets = sockets.interleaved((one[0], kind, cast("Address", one[4])) for one in found)
    sock = await _reach_one(loop, targets)
    try:
        failure = sockets.own_peer_error(sock)
        if failure is not None:
            raise failure
        tcp.tune(sock, nodelay=True, keepalive=True)
    except BaseException:
        sock.close()
        raise
    _, connection = await loop.create_connection(lambda: make(None), sock=sock, **options)
    return connection


async def _reach_one(
    loop: asyncio.AbstractEventLoop, targets: Sequence[sockets.Target]
) -> socket.socket:
    """Return a socket that is connected to one of the targets: the first that answers.

    Raises:
        OSError: none does.
    """
    left, errors = [*reversed(targets)], []
    attempts: set[asyncio.Task[socket.socket]] = set()
    try:
        while left or attempts:
            if left:
                attempts.add(loop.create_task(_reach(loop, left.pop())))
            patience = _NEXT_ADDRESS if left else None
            await asyncio.wait(attempts, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for attempt in [attempt for attempt in attempts if attempt.done()]:
                attempts.remove(attempt)
                error = attempt.exception()
                if error is None:
                    return attempt.result()
                errors.append(error)
        if len({getattr(error, "errno", None) for error in errors}) == 1:
            raise errors[0]
        raise OSError("; ".join(map(str, errors)))
    finally:
        errors.clear()  # else the traceback of one would have a cycle
        for attempt in attempts:
            attempt.cancel()
            attempt.add_done_callback(_close)


async def _reach(loop: asyncio.AbstractEventLoop, target: sockets.Target) -> socket.socket:
    family, kind, address = target
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _close(attempt: asyncio.Task[socket.socket]) -> None:
    """Close a socket that nobody needs any more."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _naming(url: str, error: OSError) -> OSError:
    """Return an error of the same kind that names the URL."""
    if error.errno is None:  # of several addresses, each with an error of its own; or asyncio's
        return type(error)(f"{url}: {reason_of(error)}")
    if is_of_tls(error):  # the number is OpenSSL's
        return type(error)(error.errno, f"{url}: {reason_of(error)}")
    text = os.strerror(error.errno) if error.errno in errno.errorcode else error.strerror
    if text is not None and is_stream_url(url):  # else it is a program that is not there
        text = nobody_there(text)
    return type(error)(error.errno, f"{url}: {text}")
