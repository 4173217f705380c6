"""`rpcasync listen`: run a server program that is handed the sockets it listens on.

The program is run in this process, as if it had been started by itself. What it is handed stands
in the environment, where `init_clients()` takes it. Sockets from systemd stand there already.
With `--workers`, this process only opens the sockets, and this command is run anew for each worker.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import runpy
import shlex
import signal
import socket
import sys

from eventmux import URLError
from eventmux.sockets import inherited, is_listening
from eventmux.urls import Endpoint
from rpcasync.children.environments import FDS_VARIABLE, OPTIONS_VARIABLE
from rpcasync.cli.balancing import check_balancing
from rpcasync.cli.handed import Handed, why_none
from rpcasync.cli.output import CommandFailed, say
from rpcasync.cli.trust import check_server_files, server_files
from rpcasync.cli.usage import EXAMPLE_URL, Parser
from rpcasync.serving.stopping import end_in_start_up
from rpcasync.urls import is_tls_url, parse_stream_url, url_listen
from rpcasync.workers.membership import membership

__all__ = ["are_files", "listen", "listen_on"]


def listen(options: argparse.Namespace) -> int:
    """Run the program.

    Raises:
        CommandFailed: there is no such program, a URL cannot be listened on, a certificate is none,
            or the program did not want the sockets.
    """
    place = membership()
    if place is not None:
        place.begin(options.drain)
    systemd = Handed()
    _check_required(options, is_handed=bool(systemd.numbers))
    options.urls = options.urls or []
    _check_shadow(options)
    _check_workers(options, systemd)
    _check_program(options)
    paths, files = are_files(options, systemd), server_files(options)
    check_balancing(options, systemd)
    if options.log_file is not None:
        from rpcasync.cli.log_file import log_to_file  # most have none

        first = f"{options.program} begins: process {os.getpid()}"
        several = options.workers is not None
        log_to_file(options.log_file, options.log_level, first, with_process=several)
    if place is None:
        numbers = _listen_on_all(options, paths)
        systemd.tell()
    else:
        numbers = place.listeners
    if options.workers is not None and place is None:
        from rpcasync.cli.workers import run_workers  # most have none

        return run_workers(options, numbers, systemd)
    return _run(options, numbers, files, systemd)


def _listen_on_all(options: argparse.Namespace, paths: list[bool]) -> list[int]:
    """Listen on the URLs; return the descriptors."""
    pairs = zip(options.urls, paths, strict=True)
    listeners = [listen_on(url, options.mode if is_path else None) for url, is_path in pairs]
    return [sock.detach() for sock in listeners]


def _run(
    options: argparse.Namespace, numbers: list[int], files: dict[str, str], systemd: Handed
) -> int:
    """Run the program, with the sockets."""
    handed = _limits(options)
    if files:
        pairs = zip(numbers, options.urls, strict=True)
        encrypted = [number for number, url in pairs if is_tls_url(url)]
        handed["tls"] = {**files, "fds": [*encrypted, *systemd.on_network]}
    if numbers:
        os.environ[FDS_VARIABLE] = ",".join(map(str, numbers))
    os.environ[OPTIONS_VARIABLE] = json.dumps(handed)
    if os.getpid() == 1:  # in a container: no signal ends it that has no handler
        signal.signal(signal.SIGTERM, end_in_start_up)
    sys.argv = [options.program, *options.arguments]
    sys.path[0] = os.path.dirname(os.path.abspath(options.program))
    # The names keep the program's server, and so its sockets, until they have been looked at.
    try:
        names = runpy.run_path(options.program, run_name="__main__")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the program's
        _tell(error, options.program)
        return 1
    if FDS_VARIABLE in os.environ or not systemd.are_taken():
        problem = "ended and never called init_clients(rpc), by which a server gets its URLs"
        raise CommandFailed(f"{options.program} {problem}")
    # It may have meant to; but most have forgotten their loop.
    if any(map(_is_open, [*numbers, *systemd.taken()])):
        say(f"{options.program} ended while it listened: `while rpc.has_clients():` goes on")
    del names
    return 0


def _check_required(options: argparse.Namespace, *, is_handed: bool) -> None:
    parser: Parser = options.parser
    program, words = options.program, options.arguments
    has_clients = bool(options.urls) or is_handed
    if has_clients and program is not None:
        return
    if program is None:
        parser.lacks(*(() if has_clients else ("-u URL",)), "a program")
    at = next((at for at, word in enumerate(words) if word.startswith("-u")), None)
    if at is None:
        mend = ["-u", EXAMPLE_URL, program, *words]
        command = f"{parser.prog} {shlex.join(mend)}"
        parser.error("-u URL is required, for example:", command, why_none() or _OTHER_WAY)
    end = at + (2 if words[at] == "-u" else 1)
    mend = [*words[at:end], program, *words[:at], *words[end:]]
    message = "options go in front of the program, what stands behind it is the program's own:"
    parser.error(message, f"{parser.prog} {shlex.join(mend)}")


_OTHER_WAY = "or have systemd start it, with the sockets of a .socket unit"


def _check_program(options: argparse.Namespace) -> None:
    """End if it is no program in Python; tell of options that are the program's now."""
    parser: Parser = options.parser
    program: str = options.program
    if "://" in program:
        problem = f"{program!r} stands where the program is expected, for example:"
        parser.error(problem, f"{parser.prog} {parser.example}")
    if not os.path.isfile(program):
        raise CommandFailed(f"no such file: {program}", 2)
    if program.endswith(".pl"):
        url = program if os.path.isabs(program) else f"./{os.path.normpath(program)}"
        mend = [*_first_url(options), "--fallback", f"perl://{url}", "NEW.py"]
        problem = f"{program} is in Perl; a program in Python passes calls on to it:"
        parser.error(problem, f"{parser.prog} {shlex.join(mend)}")
    for word in options.arguments:
        flag = word.partition("=")[0]
        if flag in _OF_THE_OLD_SERVER:
            say(f"{flag} stands behind {program}, and is its own: options go in front of it")


def _first_url(options: argparse.Namespace) -> list[str]:
    return ["-u", options.urls[0]] if options.urls else []


# Without them calls are answered by somebody else, and nothing else shows that they are missed.
_OF_THE_OLD_SERVER = {
    *("--fallback", "--shadow", "--answer"),
    *("--shadow-sample", "--shadow-except", "--shadow-report"),
}


def _tell(error: Exception, program: str) -> None:
    """Have the traceback of a program printed, as if it ran by itself: without us."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename != program:
        traceback = traceback.tb_next
    sys.excepthook(type(error), error.with_traceback(traceback), traceback)


def _is_open(number: int) -> bool:
    """True if a listener was not closed by the program."""
    try:
        with inherited(os.dup(number)) as sock:
            return is_listening(sock)
    except OSError:
        return False


def _limits(options: argparse.Namespace) -> dict[str, object]:
    """Return what the server is to be set to, without what was not given."""
    given = {
        "outstanding": options.outstanding,
        "max_packet": options.max_packet,
        "max_clients": options.max_clients,
        "max_buffered": options.max_buffered,
        "idle_timeout": options.idle_timeout,
        "packet_timeout": options.packet_timeout,
        "max_age": options.max_age,
        "agent": options.agent,
        "proxy": options.proxy,
        "trusted": options.trusted,
        "uids": options.uids,
        "codecs": options.codecs,
        "on_exception": options.on_exception,
        "drain": options.drain,
        "fallback": options.fallback,
        "shadow": _shadow(options),
    }
    return {name: value for name, value in given.items() if value is not None}


def _shadow(options: argparse.Namespace) -> dict[str, object] | None:
    """Return the options of a `Shadow`, None for none."""
    report = options.shadow_report
    given = {
        "old": options.shadow,
        "answer": options.answer,
        "sample": options.shadow_sample,
        "leave_out": options.shadow_except,
        "report": None if report is None else os.path.abspath(report),
    }
    if options.shadow is None:
        return None
    return {name: value for name, value in given.items() if value is not None}


def _check_shadow(options: argparse.Namespace) -> None:
    """End if there are options of a shadow, and none is wanted."""
    for flag in ("--answer", "--shadow-sample", "--shadow-except", "--shadow-report"):
        name = flag[2:].replace("-", "_")
        if options.shadow is None and getattr(options, name) is not None:
            options.parser.error(f"{flag} goes with --shadow URL, and there is none")


def _check_workers(options: argparse.Namespace, systemd: Handed) -> None:
    """End if there is something that several processes cannot have."""
    if options.workers is not None:
        systemd.check_flag("--workers")
        if options.shadow_report is not None:
            problem = "--shadow-report is one file, which several workers cannot keep:"
            options.parser.error(problem, "leave out --workers while you compare")
        if options.agent is not None:
            problem = (
                "--agent is one address, and each of several workers has an answer of its own:"
            )
            options.parser.error(problem, "start the workers one by one, each with its own agent")


def are_files(options: argparse.Namespace, systemd: Handed | None = None) -> list[bool]:
    """Return which URLs to listen on are files; end if what is typed of them does not fit.

    Raises:
        CommandFailed: one is no URL that can be listened on, or a connection that systemd has
            accepted cannot have what is typed.
    """
    has_paths = systemd is not None and systemd.has_paths
    has_others = systemd is not None and bool(systemd.numbers)
    paths = [_path(url) for url in options.urls]
    found = [bool(path) and not path.startswith("@") for path in paths]
    if options.mode is not None and not any(found):
        of_systemd = "; SocketMode= in its unit is for a socket from systemd" if has_others else ""
        options.parser.error(f"--mode is for unix://path, and there is none{of_systemd}")
    if systemd is not None:
        for flag, value in (("--allow-uid", options.uids), ("--cert", options.cert)):
            if value is not None:
                systemd.check_flag(flag)
    if options.uids is not None and not any(paths) and not has_paths:
        options.parser.error("--allow-uid is for unix://path, and there is none")
    encrypts = systemd is not None and bool(systemd.on_network)
    check_server_files(options, options.urls, encrypts=encrypts)
    return found


def _path(url: str) -> str:
    try:
        return parse_stream_url(url).path
    except URLError as error:
        raise CommandFailed(f"cannot listen on {url}: {error}", 2) from None


def listen_on(url: str, mode: int | None) -> socket.socket:
    """Listen on a URL, and say so.

    Raises:
        CommandFailed: it cannot be listened on.
    """
    try:
        # What encrypts is the mux of the program that is handed the socket.
        sock = url_listen(f"tcp{url[3:]}" if is_tls_url(url) else url, mode=mode)
    except OSError as error:
        raise CommandFailed(f"cannot listen on {url}: {_why(url, error)}") from None
    say(f"listening on {_address(sock, url)}")
    return sock


def _why(url: str, error: OSError) -> object:
    """Return what went wrong, who is in the way, and what can be done."""
    endpoint = parse_stream_url(url)
    if error.errno != errno.EADDRINUSE or not (endpoint.port or endpoint.path):
        return error.strerror or error
    from rpcasync.cli.holders import OURSELVES, holder  # only where it is needed

    who, mend = holder(endpoint) or "another program", "stop it, or "
    if who == OURSELVES:
        mend = ""
    elif os.path.isfile(endpoint.path) or os.path.isdir(endpoint.path):
        who, mend = "a file that is no socket", "remove it, or "
    other = "path" if endpoint.path else "port"
    return f"{os.strerror(error.errno)} by {who}: {mend}choose another {other}"


def _address(sock: socket.socket, url: str) -> Endpoint:
    name = sock.getsockname()
    if isinstance(name, tuple):
        return Endpoint(url.partition(":")[0], host=name[0], port=name[1])
    return Endpoint("unix", path=name if isinstance(name, str) else f"@{name[1:].decode()}")
