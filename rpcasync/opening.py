"""How a client comes to its socket, and to the child process at the other end, if there is one.

What is wrong with the options is said before anything is started. This file sends nothing.
"""

from __future__ import annotations

import functools
import socket
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from eventmux import EventMux
from eventmux.events import Event
from rpcasync.children.forked import as_process
from rpcasync.children.programs import Program, parse_program
from rpcasync.urls import check_stream, connect_stream, is_stream_url, url_disconnect

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["checked_process", "checked_single", "mux_comes_first", "open_server"]

F = TypeVar("F", bound=Callable[..., None])


def mux_comes_first(init: F) -> F:
    """Have `Client(url)` say so, before Python misses another argument."""

    @functools.wraps(init)
    def checked(self: object, *args: object, **options: object) -> None:
        if args and isinstance(args[0], str):
            raise TypeError(f"Client({args[0]!r}): the mux comes first: Client(mux, {args[0]!r})")
        init(self, *args, **options)

    return cast("F", checked)


def checked_single(server: str | socket.socket | list[str], retry: object) -> str | socket.socket:
    """Return what one connection goes to.

    Raises:
        TypeError: it would take several.
    """
    if isinstance(server, (list, tuple)):
        raise TypeError(f"server is {server!r}: several URLs are for reconnect=")
    if retry is not None:
        raise TypeError(f"retry is {retry!r}, which is for reconnect=")
    return server


def checked_process(
    server: object, process: object, output: object
) -> subprocess.Popen[bytes] | None:
    """Return the child process that the program has given, None if it has given none.

    Args:
        server: what is connected to.
        process: what was given.
        output: what is told what it prints; None if nobody is.

    Raises:
        ChildProcessError: it is no child of this process.
        TypeError: it is no process, or the URL starts one, too; `output` cannot be called.
        ValueError: there is `output`, and no pipe.
    """
    child = None if process is None else as_process(process)
    program = parse_program(server) if isinstance(server, str) else None
    if child is not None and program is not None:
        raise TypeError(f"process is {process!r}, and {server!r} starts one itself")
    if output is None:
        return child
    if not callable(output):
        raise TypeError(f"output is {output!r}, must be a function of a name and a line")
    if program is not None and not program.pipes:
        raise ValueError(
            f"output: {server!r} prints where we print; {_with_pipes(program)!r} has pipes"
        )
    if program is None and (child is None or not (child.stdout or child.stderr)):
        raise ValueError("output: there is no process with pipes; see `process`")
    return child


def _with_pipes(program: Program) -> str:
    """Return the URL that starts a program with pipes."""
    return f"{program.language}2{program.url.removeprefix(program.language)}"


def open_server(
    mux: EventMux[Event],
    server: str | socket.socket,
    args: tuple[str, ...],
    tls: SSLContext | None,
    server_hostname: str | None,
    timeout: float | None = None,
) -> socket.socket:
    """Return the socket, watched by the mux; how much may be queued for it, the outbox says.

    A connection that is not up after `timeout` seconds fails; None leaves it to the system.

    Raises:
        URLError: the URL is not understood.
        OSError: the program cannot be started.
        TypeError: it is neither a URL nor a stream socket; or `tls` is no context.
        ValueError: `tls` or the name does not fit.
    """
    options: dict[str, Any] = {"max_outbuffer": None}
    if tls is not None or server_hostname is not None:
        options |= {"tls": tls, "server_hostname": server_hostname}
    if isinstance(server, str):
        if is_stream_url(server) and not args:
            return mux.connect(server, timeout=timeout, **options)
        if len(options) > 1:
            raise ValueError(f"tls is for tls://host:port, but {server!r} is none")
        sock = connect_stream(server, *args)
    elif isinstance(server, socket.socket):
        sock = server
        check_stream(sock)
    else:
        raise TypeError(
            f"server is {server!r}, must be a URL such as 'tcp://host:port', or a connected socket"
        )
    try:
        mux.add(sock, **options)
    except BaseException:
        if isinstance(server, str):
            url_disconnect(sock)
        raise
    return sock
