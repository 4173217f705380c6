"""What a URL connects to or listens at, and how to let go of it again.

tcp://host:port    unix://path          streams of bytes, the ones that RPC can use
tls://host:port                         the same, encrypted: a mux or asyncio connects to it
udp://host:port    unix_dgram://path    datagrams, for handles of your own on the same mux
cfd://N            a socket that was inherited, by the number of its descriptor
python://file.py   perl://file.pl       a program, started with one end of a socketpair as
                                        its only client; `programs.py` has the variants
open2://command    a command whose stdout and stderr are read; it has no socket
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Callable

from eventmux import sockets
from eventmux.errors import URLError
from eventmux.urls import Endpoint, meant_url, parse_url
from rpcasync.children.programs import ChildSocket, parse_program, start_command, start_program
from rpcasync.wire.deadlines import check_seconds

__all__ = [
    "ChildSocket",
    "check_stream",
    "connect_stream",
    "is_number",
    "is_stream_url",
    "parse_stream_url",
    "url_absolute",
    "url_connect",
    "url_disconnect",
    "url_explode",
    "url_listen",
]

_STREAMS = ("tcp", "tls", "unix")
_PACKETS = ("udp", "unix_dgram", "unix_seqpacket")
_ENDPOINTS = (*_STREAMS, *_PACKETS)
_SCHEME = re.compile(r"\w+", re.ASCII)


def _unknown(url: str, schemes: tuple[str, ...]) -> URLError:
    """Return the error for a URL that has none of the schemes that are possible."""
    *most, last = [f"{scheme}://" for scheme in schemes]
    found = _meant_program(url, schemes) or meant_url(url, schemes)
    hint = "" if found is None else f"; did you mean {found!r}?"
    return URLError(f"cannot parse {url!r}: expected {', '.join(most)} or {last}{hint}")


def _meant_program(url: str, schemes: tuple[str, ...]) -> str | None:
    """Return the URL that starts a program, where its path stands alone."""
    language = {".py": "python", ".pl": "perl", ".pm": "perl"}.get(url[-3:])
    return f"{language}://{url}" if language in schemes and ":" not in url else None


# Connecting


def url_connect(url: str, *args: str, timeout: float | None = None) -> socket.socket:
    """Connect to a URL and return the socket; it waits until the connection is up.

    Programs are started as `python://file.py` or `perl://file.pl`. Any of these words may follow
    `python` or `perl`, in any order:

    - `2`: the program's stdout and stderr are pipes, `.stdout` and `.stderr` of the socket.
      Otherwise it prints where we print.
    - `root`: it keeps root's rights. Otherwise a program that root starts runs as the user of
      the environment variable SUDO_USER, else of RPC_ASYNC_URL_USER. If neither is set, it
      keeps root's rights, and a warning is logged.
    - `header`: the first of `args` is code, in the language of the program, that runs in its
      place. It gets the number of the socket's descriptor and the absolute path of the file as
      its first two arguments, and has to load the file itself.

    A Perl program is loaded with its folder as the current one and must return a true value, as
    modules do; the `perl` of PATH runs it.

    `open2://command` runs a command of PATH with `args`, without a shell and with an empty
    stdin. It has no socket: what is returned is closed, with `.process`, `.stdout`, `.stderr`.

    Args:
        url: where to connect to, or what to start.
        args: arguments for a program that is started.
        timeout: seconds to wait for a `tcp://` or `unix://` connection; None is as long as the
            system does.

    Returns:
        The socket, which is blocking; that of `cfd://` is as it was. A `ChildSocket` for what is
        started.

    Raises:
        URLError: the URL is not understood, or takes no arguments, or wants a header; or it is
            a `tls://` one: a plain socket does not encrypt, but a `Client` does.
        OSError: nobody is there, the file does not exist, the user is unknown...
    """
    scheme, rest = _split(url)
    program = parse_program(url)
    if program is not None:
        return start_program(program, args)
    if scheme == "open2":
        return start_command(url, rest, args)
    if args:
        raise URLError(f"cannot pass arguments to {url!r}: it starts no program")
    if scheme == "cfd":
        return _inherited(url, rest)
    if scheme == "tls":
        mend = "Client(mux, url), connect(url) and aio.connect(url) can"
        raise URLError(f"cannot connect to {url!r}: a plain socket does not encrypt; {mend}")
    if scheme not in _ENDPOINTS:
        raise _unknown(url, ("tcp", "unix", "udp", "unix_dgram", "open2", "perl", "python", "cfd"))
    return _connect(parse_url(url), timeout)


def _split(url: str) -> tuple[str, str]:
    """Return the scheme and the rest; the scheme is empty if the text is no URL."""
    if not isinstance(url, str):
        raise TypeError(f"url is {url!r}, must be a str such as 'tcp://host:port'")
    scheme, separator, rest = url.partition("://")
    return (scheme, rest) if separator and _SCHEME.fullmatch(scheme) else ("", url)


def _connect(endpoint: Endpoint, timeout: float | None) -> socket.socket:
    if endpoint.scheme in ("udp", "unix_dgram"):
        sock = _connect_datagrams(endpoint)
        sock.setblocking(True)
        return sock
    return _first_that_can(sockets.look_up(endpoint), lambda to: sockets.connect(to, timeout))


def _connect_datagrams(endpoint: Endpoint) -> socket.socket:
    targets = sockets.look_up(endpoint)
    if not targets:  # udp://, or udp://:port
        return sockets.unconnected(endpoint)
    return _first_that_can(targets, sockets.start)


def _first_that_can(
    targets: list[sockets.Target], connect: Callable[[sockets.Target], socket.socket]
) -> socket.socket:
    """Return the first connection that there is; if there is none, raise why the last failed."""
    for target in targets[:-1]:
        try:
            return connect(target)
        except OSError:  # there is no IPv6 here, for example
            continue
    return connect(targets[-1])


def _inherited(url: str, number: str) -> socket.socket:
    if not is_number(number):
        raise URLError(f"cannot parse {url!r}: expected cfd://number")
    sock = sockets.inherited(int(number))
    sock.set_inheritable(False)  # it was meant for us, not for what we start
    return sock


def is_number(text: str, digits: int = 9) -> bool:
    """Return True for digits and nothing else: what a descriptor, for example, may be given as."""
    return text.isascii() and text.isdigit() and len(text) <= digits


# Listening


def url_listen(url: str, *, mode: int | None = None) -> socket.socket:
    """Listen at a URL and return the socket, which is non-blocking.

    At `tcp://` and `unix://` it accepts connections; at `udp://` and `unix_dgram://` it receives
    datagrams, which is nothing for a `Server`. The file of a UNIX path goes when the socket is
    closed.

    Args:
        url: where to listen.
        mode: who may connect to a UNIX path, as for `os.chmod()`: 0o600 is our user alone.
            Default is what the umask leaves.

    Raises:
        URLError: the URL is not understood, or a `tls://` one: `Server.listen()` encrypts.
        OSError: the address is in use, the name is unknown, permission is missing... Its
            `filename` is the URL.
        TypeError: the mode is no int.
        ValueError: the mode is not within 0 to 0o777, or there is no file that could have one.
    """
    scheme = _split(url)[0]
    if scheme == "tls":
        mend = "Server.listen(url, tls=context) and EventMux.listen(url, tls=context) do"
        raise URLError(f"cannot listen at {url!r}: a plain socket does not encrypt; {mend}")
    if scheme not in _ENDPOINTS:
        raise _unknown(url, ("tcp", "unix", "udp", "unix_dgram"))
    return sockets.listen(parse_url(url), mode=mode)


def connect_stream(url: str, *args: str) -> socket.socket:
    """Connect as `url_connect()` does, to what a `Client` can use: a stream of bytes.

    Raises:
        URLError: it is another URL, or is not understood; nothing is started then.
        TypeError: a descriptor that was inherited is no stream socket.
        OSError: nobody is there, the file does not exist, the user is unknown...
    """
    scheme = _split(url)[0]
    if scheme in (*_PACKETS, "open2"):
        raise URLError(f"cannot send calls to {url!r}: it is no stream of bytes")
    if scheme not in (*_STREAMS, "cfd") and parse_program(url) is None:
        raise _unknown(url, (*_STREAMS, "python", "perl", "cfd"))
    sock = url_connect(url, *args)
    try:
        check_stream(sock)
    except TypeError:
        sock.close()
        raise
    return sock


def is_stream_url(url: str) -> bool:
    """Return True for `tcp://`, `tls://` and `unix://`: where a mux connects without waiting."""
    return _split(url)[0] in _STREAMS


def is_tls_url(url: str) -> bool:
    """Return True for `tls://`; anything else may still be encrypted, with a context."""
    return url.startswith("tls://")


def parse_stream_url(url: str) -> Endpoint:
    """Parse a `tcp://`, `tls://` or `unix://` URL, the ones that a `Server` can listen at.

    Raises:
        URLError: it is another URL, or is not understood.
    """
    if not is_stream_url(url):
        raise _unknown(url, _STREAMS)
    return parse_url(url)


def check_stream(sock: object) -> None:
    """Check that something is a stream socket: packets of RPC need one.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(sock, socket.socket) or sock.type != socket.SOCK_STREAM:
        raise TypeError(f"cannot watch {sock!r}: not a stream socket")


# Letting go


def url_disconnect(sock: socket.socket, grace: float = 5.0) -> int | None:
    """Close a socket; if it is a child's, wait for the child to end.

    A server ends by itself when its last client has gone. One that has not after `grace`
    seconds gets SIGTERM, and SIGKILL after as many more. The pipes from its stdout and stderr
    are closed when it has ended, or with SIGTERM: it may hang because nobody reads them. Take
    them off the mux first.

    Args:
        sock: what `url_connect()` returned.
        grace: seconds.

    Returns:
        The exit status of the child, negative if a signal ended it; None if there is no child.

    Raises:
        TypeError: `grace` is no number.
        ValueError: `grace` is negative, infinite or NaN.
    """
    check_seconds("grace", grace)
    sock.close()
    if not isinstance(sock, ChildSocket):
        return None
    process = sock.process
    try:
        for end in (process.terminate, process.kill):
            try:
                return process.wait(grace)
            except subprocess.TimeoutExpired:
                _close_pipes(sock)
                end()
        return process.wait()
    finally:
        _close_pipes(sock)


def _close_pipes(sock: ChildSocket) -> None:
    for pipe in (sock.stdout, sock.stderr):
        if pipe is not None:
            pipe.close()


# Taking URLs apart


def url_absolute(cwd: str | os.PathLike[str], *urls: str) -> list[str]:
    """Return the URLs with their paths made absolute, as seen from a folder.

    Paths are in `unix`, `unix_dgram` and `unix_seqpacket` URLs and in those that start a Python
    or Perl program. What is absolute already, a name such as `unix://@name`, and every other
    URL stay as they are.

        >>> from rpcasync import url_absolute
        >>> url_absolute("/srv", "unix://run/x", "unix:///run/x", "tcp://h:1", "python2://a.py")
        ['unix:///srv/run/x', 'unix:///run/x', 'tcp://h:1', 'python2:///srv/a.py']

    Args:
        cwd: the folder; one that is relative itself is seen from the current one.
        urls: the URLs.

    Raises:
        URLError: one is no URL, or has no path where one must be.
    """
    folder = os.path.join(os.getcwd(), cwd)
    return [_absolute(folder, url) for url in urls]


def _absolute(folder: str, url: str) -> str:
    scheme, rest = _split(url)
    if not scheme:
        raise URLError(f"cannot parse {url!r}: expected scheme://...")
    if scheme.startswith("unix"):
        path = parse_url(url).path
        return url if path.startswith("@") else f"{scheme}://{os.path.join(folder, path)}"
    program = parse_program(url)
    return url if program is None else f"{scheme}://{os.path.join(folder, rest)}"


def url_explode(url: str) -> tuple[str, str, int]:
    """Return the scheme, the host and the port of a `tcp://`, `tls://` or `udp://` URL.

    The host is a name or an address, without the brackets that are around IPv6, and empty if the
    URL has none; the port of `udp://` is 0.

        >>> from rpcasync import url_explode
        >>> url_explode("tcp://[::1]:7007")
        ('tcp', '::1', 7007)

    Raises:
        URLError: the URL has no host and port, or is not understood.
    """
    if _split(url)[0] not in ("tcp", "tls", "udp"):
        known = "tcp://host:port, tls://host:port or udp://host:port"
        raise URLError(f"cannot parse {url!r}: expected {known}")
    endpoint = parse_url(url)
    return endpoint.scheme, endpoint.host, endpoint.port
