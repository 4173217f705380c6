"""`rpcasync listen`: run a server program that is handed the sockets it listens on.

The program is run in this process, as if it had been started by itself. What it is handed stands
in the environment, where `init_clients()` takes it.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from eventmux import EventMux, URLError
from eventmux.urls import Endpoint
from rpcasync.cli.output import CommandFailed, say
from rpcasync.programs import FDS_VARIABLE, OPTIONS_VARIABLE
from rpcasync.urls import parse_stream_url, url_listen

__all__ = ["listen"]


def listen(options: argparse.Namespace) -> int:
    """Run the program.

    Raises:
        CommandFailed: there is no such program, a URL cannot be listened on, or the program did not
            want the sockets, or ended without serving them.
    """
    if not options.urls:
        options.parser.error(_no_urls(options.arguments))
    if not os.path.isfile(options.program):
        raise CommandFailed(f"no such file: {options.program}", 2)
    for url in options.urls:
        _check_url(url)
    listeners = [_listen_on(url) for url in options.urls]
    os.environ[FDS_VARIABLE] = ",".join(str(sock.detach()) for sock in listeners)
    os.environ[OPTIONS_VARIABLE] = json.dumps(_limits(options))
    sys.argv = [options.program, *options.arguments]
    sys.path[0] = os.path.dirname(os.path.abspath(options.program))
    has_looped = _watch_for_a_loop()
    runpy.run_path(options.program, run_name="__main__")
    if FDS_VARIABLE in os.environ:
        raise CommandFailed(f"{options.program} ended and never called init_clients()")
    if not has_looped():
        raise CommandFailed(
            f"{options.program} ended and served nobody: it has no loop such as"
            " `while rpc.has_clients(): rpc.io(mux.mux())`"
        )
    return 0


def _no_urls(arguments: list[str]) -> str:
    if any(argument.startswith("-u") for argument in arguments):
        return "options go in front of the program: -u URL PROGRAM"
    return "the following arguments are required: -u"


def _watch_for_a_loop() -> Callable[[], bool]:
    """Return what tells whether somebody may have turned a mux since.

    It replaces a method up to its first call, so that no turn but the first one is slower. Other
    processes and threads may turn theirs when this one does not.
    """
    turn = EventMux.mux
    has_forked: list[bool] = []

    def first_turn(mux: EventMux, *args: Any, **options: Any) -> Any:
        EventMux.mux = turn  # type: ignore[method-assign]
        return turn(mux, *args, **options)

    EventMux.mux = first_turn  # type: ignore[method-assign,assignment]
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_parent=lambda: has_forked.append(True))
    return lambda: EventMux.mux is turn or bool(has_forked) or threading.active_count() > 1


def _limits(options: argparse.Namespace) -> dict[str, object]:
    """Return what the server is to be set to, without what was not given."""
    given = {
        "outstanding": options.outstanding,
        "max_packet": options.max_packet,
        "codecs": options.codecs,
    }
    return {name: value for name, value in given.items() if value is not None}


def _check_url(url: str) -> None:
    try:
        parse_stream_url(url)
    except URLError as error:
        raise CommandFailed(f"cannot listen on {url}: {error}", 2) from None


def _listen_on(url: str) -> socket.socket:
    try:
        sock = url_listen(url)
    except OSError as error:
        raise CommandFailed(f"cannot listen on {url}: {error}") from None
    say(f"listening on {_address(sock)}")
    return sock


def _address(sock: socket.socket) -> Endpoint:
    name = sock.getsockname()
    if isinstance(name, tuple):
        return Endpoint("tcp", host=name[0], port=name[1])
    return Endpoint("unix", path=name if isinstance(name, str) else f"@{name[1:].decode()}")
