"""HAProxy and nginx in front of a test, with sockets that they inherit: no port is ever chosen."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from grp import getgrgid
from pathlib import Path
from pwd import getpwuid

import pytest
from support.pump import PATIENCE

__all__ = ["haproxy", "listening_at", "needs_haproxy", "needs_nginx", "nginx", "running"]

_STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

needs_haproxy = pytest.mark.skipif(shutil.which("haproxy") is None, reason="no haproxy here")
needs_nginx = pytest.mark.skipif(
    shutil.which("nginx") is None or not _STREAM_MODULE.exists(),
    reason="no nginx here with its stream module (libnginx-mod-stream)",
)


@contextmanager
def haproxy(
    server: str, folder: Path, *, bind: str = "", frontend: str = "", family: int = socket.AF_INET
) -> Iterator[socket.socket]:
    """Run HAProxy in front of a server; give the socket that it listens on.

    Args:
        server: address and options of the server.
        folder: for files of its own.
        bind: options of the listener.
        frontend: more lines of the frontend.
        family: of the listener.
    """
    with listening_at(folder, family) as front:
        path = folder / "haproxy.cfg"
        path.write_text(
            f"""
            defaults
                mode tcp
                timeout connect {PATIENCE}s
                timeout client {PATIENCE}s
                timeout server {PATIENCE}s
            listen test
                bind fd@{front.fileno()} {bind}
                {frontend}
                server s {server}
            """.rstrip(" ")
        )  # it insists on the end of the last line
        with running(["haproxy", "-db", "-f", path], front):
            yield front


@contextmanager
def nginx(server: str, folder: Path) -> Iterator[socket.socket]:
    """Run nginx in front of a server, as a proxy of streams; give the socket it listens on."""
    with listening_at(folder) as front:
        port = front.getsockname()[1]
        path = folder / "nginx.conf"
        path.write_text(f"""
            load_module {_STREAM_MODULE};
            user {getpwuid(os.getuid()).pw_name} {getgrgid(os.getgid()).gr_name};
            daemon off;  # and not `master_process off`, with which it does not survive NGINX
            worker_processes 1;
            pid {folder}/nginx.pid;
            error_log stderr;
            events {{}}
            stream {{
                server {{
                    listen 127.0.0.1:{port};
                    proxy_pass {server};
                    proxy_protocol on;
                }}
            }}
        """)
        # By this variable an nginx takes over the sockets of the one before it.
        with running(["nginx", "-c", path, "-e", "stderr"], front, NGINX=f"{front.fileno()};"):
            yield front


@contextmanager
def listening_at(folder: Path, family: int = socket.AF_INET) -> Iterator[socket.socket]:
    """Give a socket that a proxy may listen on."""
    with socket.socket(family) as sock:
        sock.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(folder / "front"))
        sock.listen()
        yield sock


@contextmanager
def running(
    command: list[str | Path], front: socket.socket, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a proxy that inherits a socket; give its process."""
    process = subprocess.Popen(
        command, pass_fds=[front.fileno()], env={**os.environ, **environment}
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE)
