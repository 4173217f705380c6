"""The command line: start a server on URLs, make a call, list procedures.

Results go to stdout, messages to stderr. The exit status is 0, 1 if the call failed, and 2 if
the command was not understood.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import runpy
import socket
import sys
from collections.abc import Iterable, Sequence

from eventmux import EventMux, URLError
from eventmux.urls import Endpoint, parse_url
from rpcasync.client import Client, Reply
from rpcasync.codecs import refuse_constant
from rpcasync.errors import RPCError
from rpcasync.urls import FDS_VARIABLE, url_listen

__all__ = ["main"]


class _Failure(Exception):
    """The command failed: the message for the user, and the exit status."""

    def __init__(self, message: object, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with the given arguments, default `sys.argv`; return the status."""
    parser = _parser()
    options = parser.parse_args(argv)
    _log_to_stderr()
    try:
        status: int = options.run(options)
    except KeyboardInterrupt:
        print("rpcasync: interrupted", file=sys.stderr)
        return 0 if options.run is _listen else 1  # it is how a server is told to stop
    except _Failure as failure:
        print(f"rpcasync: {failure}", file=sys.stderr)
        return failure.status
    return status


def _log_to_stderr() -> None:
    """Show what the package logs, unless the program that is run sets up logging itself."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    handler.addFilter(lambda _: not logging.root.handlers)
    logging.getLogger("rpcasync").addHandler(handler)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rpcasync", description="Remote procedure calls, as RPC::Async 1.05 speaks them."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listen = commands.add_parser("listen", help="run a server program, listening on URLs")
    listen.add_argument("-u", dest="urls", action="append", required=True, metavar="URL")
    listen.add_argument("program", help="a Python file that calls init_clients()")
    listen.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    listen.set_defaults(run=_listen)

    call = commands.add_parser("call", help="call a procedure and print the answer")
    _add_server(call)
    call.add_argument("procedure")
    call.add_argument(
        "pairs",
        nargs="*",
        type=_pair,
        metavar="key=value",
        help="an argument; the value is read as JSON, and as text if it is none",
    )
    call.set_defaults(run=_call)

    methods = commands.add_parser("methods", help="list the procedures of a server")
    _add_server(methods)
    methods.set_defaults(run=_methods)
    return parser


def _add_server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", help="tcp://host:port, unix://path or python://file.py")
    parser.add_argument("--timeout", type=_seconds, help="seconds to wait for the answer")
    parser.add_argument(
        "--codec", choices=("storable", "json"), default="storable", help="default: storable"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _pair(text: str) -> tuple[str, object]:
    key, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not key=value")
    try:
        return key, json.loads(value, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return key, value


# listen


def _listen(options: argparse.Namespace) -> int:
    if not os.path.isfile(options.program):
        raise _Failure(f"no such file: {options.program}", 2)
    for url in options.urls:
        _check_url(url)
    listeners = [_listen_on(url) for url in options.urls]
    os.environ[FDS_VARIABLE] = ",".join(str(sock.detach()) for sock in listeners)
    sys.argv = [options.program, *options.arguments]
    sys.path[0] = os.path.dirname(os.path.abspath(options.program))
    runpy.run_path(options.program, run_name="__main__")
    if FDS_VARIABLE in os.environ:
        raise _Failure(f"{options.program} ended and never called init_clients()")
    return 0


def _check_url(url: str) -> None:
    try:
        scheme = parse_url(url).scheme
    except URLError as error:
        raise _Failure(error, 2) from None
    if scheme not in ("tcp", "unix"):
        raise _Failure(f"cannot listen on {url}: expected tcp:// or unix://", 2)


def _listen_on(url: str) -> socket.socket:
    try:
        sock = url_listen(url)
    except OSError as error:
        raise _Failure(f"cannot listen on {url}: {error}") from None
    print(f"rpcasync: listening on {_address(sock)}", file=sys.stderr, flush=True)
    return sock


def _address(sock: socket.socket) -> Endpoint:
    name = sock.getsockname()
    if isinstance(name, tuple):
        return Endpoint("tcp", host=name[0], port=name[1])
    return Endpoint("unix", path=name if isinstance(name, str) else f"@{name[1:].decode()}")


# call and methods


def _ask(options: argparse.Namespace, procedure: str, pairs: Sequence[tuple[str, object]]) -> Reply:
    """Make one call and return the answer."""
    values = [part for pair in pairs for part in pair]
    with EventMux() as mux:
        try:
            client = Client(mux, options.url, codec=options.codec)
            try:
                return client.call(procedure, *values).result(options.timeout)
            finally:
                client.disconnect()
        except URLError as error:
            raise _Failure(error, 2) from None
        except (RPCError, OSError) as error:
            raise _Failure(error) from None


def _call(options: argparse.Namespace) -> int:
    reply = _ask(options, options.procedure, options.pairs)
    try:
        lines = [f"{name}={_show(value)}" for name, value in reply.pairs().items()]
    except ValueError:
        lines = [_show(value) for value in reply]
    _print(lines)
    return 0


def _methods(options: argparse.Namespace) -> int:
    reply = _ask(options, "methods", ())
    names = reply[1] if len(reply) == 2 and reply[0] == "methods" else None
    if not isinstance(names, dict):
        raise _Failure("methods: the server answered something else than its procedures")
    _print(sorted(names))
    return 0


def _show(value: object) -> str:
    """Return text as it is, and anything else as JSON; text that a terminal would obey, too."""
    if isinstance(value, str) and value.replace("\n", "").replace("\t", "").isprintable():
        return value
    return json.dumps(value, default=repr, ensure_ascii=isinstance(value, str))


def _print(lines: Iterable[str]) -> None:
    """Print lines, whatever the encoding of stdout.

    Raises:
        _Failure: nobody reads it, the disk is full...
    """
    encoding = sys.stdout.encoding
    try:
        for line in lines:
            print(line.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        raise _Failure(f"cannot print the answer: {error}") from None
