"""`rpcasync record`: pass calls on to a server, and write them to a file.

It is a server without procedures, whose fallback is the other one, and which is watched.
"""

from __future__ import annotations

import argparse
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from eventmux import EventMux, URLError
from eventmux.events import Event, Signal
from rpcasync.blocking import connect
from rpcasync.cli.listen import are_files, listen_on
from rpcasync.cli.output import CommandFailed, print_lines, say
from rpcasync.cli.trust import client_options, server_files
from rpcasync.recorder import Recorder
from rpcasync.recording.lines import Header
from rpcasync.recording.redaction import Redaction
from rpcasync.recording.writer import Writer
from rpcasync.server import Server
from rpcasync.urls import is_stream_url, is_tls_url, url_connect

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["record"]

_REACHING = 10.0  # seconds for a connection to the server, at the start
_ENDING = 5.0  # seconds that calls under way have to be answered, at the end
_LEAVING = 1.0  # seconds that clients have to read their last answers


def record(options: argparse.Namespace) -> int:
    """Record until a signal; return the exit status.

    Raises:
        CommandFailed: a URL cannot be listened on, the server is not there, or the file cannot be
            written.
    """
    _check(options)
    paths, context = are_files(options), _context(options)
    target = client_options(options, options.to)
    _check_target(options.to, target)
    with EventMux() as mux, _failures(options.to):
        server = Server(mux, {})
        server._forwarding.set_fallback(mux, options.to, target)
        writer = _writer(options)
        redaction = Redaction(options.redact, options.redact_procedures)
        recorder = Recorder(writer, redaction, is_lost=server._forwarding.has_failed)
        server._built_in.clear()  # `methods` goes through like all else
        server._forwarding.watch(recorder)
        try:
            for url, is_path in zip(options.urls, paths, strict=True):
                listener = listen_on(url, options.mode if is_path else None)
                given: dict[str, Any] = {"tls": context} if is_tls_url(url) else {}
                if url.startswith("unix"):
                    given["uids"] = options.uids
                server.add_listener(listener, **given)
            say(f"calls go to {options.to}, and are recorded in {options.file}")
            _serve(mux, server, recorder)
        finally:
            recorder.close()
    print_lines(_summary(options.file, recorder, writer))
    return 0 if writer.failure is None else 1


def _check(options: argparse.Namespace) -> None:
    missing = [
        name
        for name, value in (("-u URL", options.urls), ("--to URL", options.to))
        if value is None
    ]
    if options.file is None:
        missing.append("a file")
    if missing:
        options.parser.lacks(*missing)


@contextmanager
def _failures(target: str) -> Iterator[None]:
    try:
        yield
    except URLError as error:
        raise CommandFailed(f"--to {target}: {error}", 2) from None
    except OSError as error:
        raise CommandFailed(f"{error.filename or target}: {error.strerror or error}") from None


def _context(options: argparse.Namespace) -> SSLContext | None:
    """Return what is shown at `tls://` URLs; None if nothing is."""
    files = server_files(options)
    if not files:
        return None
    from rpcasync.certificates import server_context  # only where it is needed

    return server_context(**files)


def _check_target(target: str, encryption: dict[str, Any]) -> None:
    """Fail if nobody is there: else that would show only when somebody calls."""
    with _failures(target):
        if is_tls_url(target):
            connect(target, timeout=_REACHING, **encryption).close()
        elif is_stream_url(target):
            url_connect(target, timeout=_REACHING).close()


def _writer(options: argparse.Namespace) -> Writer:
    header = Header(
        secrets.token_hex(8),
        time=_now(),
        target=options.to,
        names=sorted(set(options.redact)),
        procedures=sorted(set(options.redact_procedures)),
    )
    return Writer(options.file, header, max_size=options.max_size, keep=options.keep, now=_now)


def _now() -> str:
    return f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S.%fZ}"


# The loop


def _serve(mux: EventMux[Event], server: Server, recorder: Recorder) -> None:
    """Pass calls on until SIGINT or SIGTERM; a second one ends at once what is under way."""
    watch = mux.signal(signal.SIGINT, signal.SIGTERM)
    due: float | None = None
    while server.has_clients():
        if due is not None and (not recorder.under_way or mux.clock() >= due):
            break
        if not mux.has_events():
            recorder.flush()  # before what clients are answered leaves
        event = server.io(mux.mux(None if due is None else max(0.0, due - mux.clock())))
        if isinstance(event, Signal):
            if due is not None:
                break
            due = mux.clock() + _ENDING
            server.close_listeners()
            if recorder.under_way:
                calls = _counted(recorder.under_way, "call")
                say(f"waits {_ENDING:g} seconds for {calls}; a second Ctrl-C ends it at once")
    recorder.close()
    watch.cancel()
    _leave(mux, server)


def _leave(mux: EventMux[Event], server: Server) -> None:
    """Have the clients get what they are still to get, and end what was connected or started."""
    server.close_listeners()
    for fh in server.clients:
        mux.close(fh, timeout=_LEAVING)
    server.fallback = None
    while server.has_clients() or server._forwarding.connections:
        if (event := mux.mux()) is None:
            break
        server.io(event)


def _summary(path: str, recorder: Recorder, writer: Writer) -> Iterator[str]:
    """Tell what was recorded."""
    counts = recorder.counts
    parts = [f"{_counted(counts['written'], 'call')} of {_counted(counts['clients'], 'client')}"]
    for kind, text in _KINDS.items():
        if counts[kind]:
            parts.append(f"{counts[kind]} {text}")
    yield f"recorded in {path}: {', '.join(parts)}"
    if writer.failure is not None:
        lost = counts["calls"] - counts["written"]
        yield f"not recorded: at least {_counted(lost, 'call')} and all after: {writer.failure}"


_KINDS = {
    "redacted": "redacted",
    "skipped": "too long to be recorded in full",
    "unanswered": "without an answer",
}


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
