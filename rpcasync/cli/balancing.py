"""What is typed for a server that stands behind a balancer: whether it fits together.

It is looked at before anything is listened on, since the program itself cannot say it as well.
"""

from __future__ import annotations

import argparse

from eventmux import URLError
from rpcasync.cli.handed import Handed
from rpcasync.cli.output import CommandFailed
from rpcasync.cli.usage import Parser
from rpcasync.urls import is_tls_url, parse_stream_url

__all__ = ["check_balancing"]

_LOCAL = "unix: for all who may connect to a path"
_NETWORK = "a network such as 127.0.0.0/8"


def check_balancing(options: argparse.Namespace, systemd: Handed) -> None:
    """End if what is typed does not fit.

    Raises:
        CommandFailed: the agent cannot listen at its URL.
    """
    _check_proxy(options, systemd)
    if options.agent is None:
        return
    try:
        parse_stream_url(options.agent)
    except URLError as error:
        raise CommandFailed(f"--agent cannot listen on {options.agent}: {error}", 2) from None
    if is_tls_url(options.agent):
        options.parser.error(f"--agent {options.agent}: HAProxy asks in plain text, at tcp://")


def _check_proxy(options: argparse.Namespace, systemd: Handed) -> None:
    """End if it is not said whose headers are believed, or nobody could connect."""
    parser: Parser = options.parser
    if options.proxy is None:
        if options.trusted is not None:
            parser.error("--trusted goes with --proxy require, and there is none")
        return
    systemd.check_flag("--proxy")
    trusted: list[str] = options.trusted or []
    if not trusted:
        parser.error(
            "--proxy needs --trusted, since who sends a header can pass for anybody: --trusted"
            f" {_LOCAL}, or {_NETWORK}"
        )
    local = [who for who in trusted if who.startswith(("unix:", "uid:"))]
    paths = [bool(parse_stream_url(url).path) for url in options.urls]
    if (systemd.has_paths or any(paths)) and not local:
        parser.error(f"at unix:// nobody could connect: --trusted {_LOCAL} is missing")
    if (systemd.on_network or not all(paths)) and len(local) == len(trusted):
        parser.error(f"at tcp:// nobody could connect: --trusted {_NETWORK} is missing")
