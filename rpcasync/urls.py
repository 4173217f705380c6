"""What a URL connects to, including a server that is started as a child process.

    tcp://host:port    unix://path    cfd://N (a descriptor that was inherited)
    python://file.py   the program, started with one end of a socketpair as its only client

A program that is started learns of its sockets by the environment, as with systemd's
LISTEN_FDS: `RPCASYNC_FDS` has the numbers of the descriptors. `startup.py` reads it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from eventmux import sockets
from eventmux.errors import URLError
from eventmux.urls import Endpoint, parse_url

__all__ = [
    "FDS_VARIABLE",
    "ChildSocket",
    "check_stream",
    "url_connect",
    "url_disconnect",
    "url_listen",
]

FDS_VARIABLE = "RPCASYNC_FDS"


class ChildSocket(socket.socket):
    """A socket whose other end belongs to a child process."""

    process: subprocess.Popen[bytes]
    stdout = None
    stderr = None


def url_connect(url: str, *args: str, timeout: float | None = None) -> socket.socket:
    """Connect to a URL and return the socket; it waits until the connection is up.

    Args:
        url: where to connect to, or what to start.
        args: arguments for a program that is started.
        timeout: seconds to wait for a `tcp://` or `unix://` connection; None is as long as the
            system does.

    Returns:
        The socket, which is blocking; a `ChildSocket` for a program that is started.

    Raises:
        URLError: the URL is not understood, or takes no arguments.
        OSError: nobody is there, the file does not exist...
    """
    scheme, _, rest = url.partition("://")
    if scheme == "python":
        return _start(url, [sys.executable, rest], rest, args)
    if args:
        raise URLError(f"cannot pass arguments to {url!r}: it starts no program")
    if scheme == "cfd":
        return _inherited(url, rest)
    if scheme not in ("tcp", "unix"):
        raise URLError(f"cannot parse {url!r}: expected tcp://, unix://, python:// or cfd://")
    return _connect(parse_url(url), timeout)


def _connect(endpoint: Endpoint, timeout: float | None) -> socket.socket:
    if endpoint.scheme == "tcp":
        sock = socket.create_connection((endpoint.host, endpoint.port), timeout)
        sock.settimeout(None)
        return sock
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(sockets.unix_address(endpoint.path))
        sock.settimeout(None)
    except BaseException:
        sock.close()
        raise
    return sock


def _inherited(url: str, number: str) -> socket.socket:
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise URLError(f"cannot parse {url!r}: expected cfd://number")
    return socket.socket(fileno=int(number))


def _start(url: str, command: list[str], file: str, args: Sequence[str]) -> ChildSocket:
    """Start a program with one end of a socketpair; return the other."""
    if not file:
        raise URLError(f"cannot parse {url!r}: expected python://file.py")
    if not os.path.isfile(file):
        raise FileNotFoundError(2, os.strerror(2), file)
    ours, theirs = socket.socketpair()
    with theirs:
        sock = ChildSocket(fileno=ours.detach())
        environment = {**os.environ, FDS_VARIABLE: str(theirs.fileno())}
        path = _import_path(environment.get("PYTHONPATH"))
        if path is not None:
            environment["PYTHONPATH"] = path
        try:
            sock.process = subprocess.Popen(  # noqa: S603  # starting what the URL says is the point
                [*command, *args],
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,  # Ctrl-C is for us: the child ends when we let go of it
            )
        except BaseException:
            sock.close()
            raise
    return sock


def _import_path(current: str | None) -> str | None:
    """Return the PYTHONPATH with which a child finds this package; None if it will anyway.

    In a checkout that is not installed it would not: its first place to look is the folder of
    the program, not the current one.
    """
    root = str(Path(__file__).resolve().parents[1])
    if root in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return None
    return root if not current else os.pathsep.join([current, root])


def url_listen(url: str) -> socket.socket:
    """Listen at a `tcp://` or `unix://` URL and return the socket, which is non-blocking.

    Raises:
        URLError: the URL is not understood.
        OSError: the address is in use, the name is unknown, permission is missing...
    """
    if url.partition("://")[0] not in ("tcp", "unix"):  # the only ones with streams of bytes
        raise URLError(f"cannot parse {url!r}: expected tcp:// or unix://")
    return sockets.listen(parse_url(url))


def check_stream(sock: object) -> None:
    """Raise TypeError for what is no stream socket: packets of RPC need one."""
    if not isinstance(sock, socket.socket) or sock.type != socket.SOCK_STREAM:
        raise TypeError(f"cannot watch {sock!r}: not a stream socket")


def url_disconnect(sock: socket.socket, grace: float = 5.0) -> int | None:
    """Close a socket; if it is a child's, wait for the child to end.

    A server ends by itself when its last client has gone. One that has not after `grace`
    seconds gets SIGTERM, and SIGKILL after as many more.

    Returns:
        The exit status of the child, negative if a signal ended it; None if there is no child.
    """
    sock.close()
    process = getattr(sock, "process", None)
    if process is None:
        return None
    for end in (process.terminate, process.kill):
        try:
            return int(process.wait(grace))
        except subprocess.TimeoutExpired:
            end()
    return int(process.wait())
