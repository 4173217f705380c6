"""How a server program gets its clients without knowing who they are.

Whoever starts the program hands over sockets: `python://` and `rpcasync listen` name their
descriptors in the environment variable RPCASYNC_FDS. A program started by hand is told where to
listen with `-u URL`.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence

from eventmux.errors import URLError
from eventmux.sockets import is_listening
from rpcasync.server import Server
from rpcasync.urls import FDS_VARIABLE

__all__ = ["init_clients"]


def init_clients(rpc: Server, argv: Sequence[str] | None = None) -> list[str]:
    """Give a server the clients and listeners that the program was started with.

    It takes them from the first of these that has any: the sockets handed over by whoever
    started the program, a `python://` parent or `rpcasync listen`; then each `-u URL` in the
    arguments, on which it listens.

    Args:
        rpc: the server.
        argv: the program's arguments; default is `sys.argv[1:]`, which is not changed.

    Returns:
        The arguments without what was taken.

    Raises:
        SystemExit: there are no clients at all, or a URL cannot be listened on; what is wrong
            and how to start the program is printed to stderr.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    descriptors = os.environ.pop(FDS_VARIABLE, "")
    if not descriptors:
        return _listen(rpc, arguments)
    for number in descriptors.split(","):
        sock = socket.socket(fileno=int(number))
        sock.set_inheritable(False)
        if is_listening(sock):
            rpc.add_listener(sock)
        else:
            rpc.add_client(sock)
    return arguments


def _listen(rpc: Server, argv: list[str]) -> list[str]:
    parser = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, usage="%(prog)s -u URL [-u URL ...] [ARGUMENT ...]"
    )
    parser.add_argument("-u", dest="urls", action="append")
    options, rest = parser.parse_known_args(argv)
    if not options.urls:
        parser.error("no clients: say where to listen with -u tcp://HOST:PORT or -u unix://PATH")
    for url in options.urls:
        try:
            rpc.listen(url)
        except (URLError, OSError) as error:
            parser.error(f"cannot listen on {url}: {error}")
    return rest
