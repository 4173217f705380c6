"""What the network of this machine has, and small things to do with sockets."""

from __future__ import annotations

import select
import socket
import sys

import pytest

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


def is_ready(sock: socket.socket, mode: str = "r") -> bool:
    """Wait until a socket can be read from or written to."""
    readers, writers = ([sock], []) if mode == "r" else ([], [sock])
    return any(select.select(readers, writers, [], 10))


def unused_port(kind: int = socket.SOCK_STREAM, host: str = "127.0.0.1") -> int:
    """Return a port that nobody listens on: it was just given back."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
        return port
