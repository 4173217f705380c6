"""The options of each command, and the words that it takes.

What is required is not so for argparse: whoever reads them says what is missing in better words.
"""

from __future__ import annotations

import argparse

from rpcasync.cli import values
from rpcasync.cli.usage import Parser

__all__ = [
    "add_call",
    "add_describe",
    "add_health",
    "add_listen",
    "add_methods",
    "add_record",
    "add_replay",
    "add_report",
    "add_shell",
    "add_skeleton",
    "add_stats",
    "add_stub",
    "add_top",
]


def add_listen(parser: Parser) -> None:
    """Add what `listen` takes."""
    _add_urls(parser, "where to listen, besides the sockets that systemd hands over")
    parser.add_argument(
        "--codec",
        dest="codecs",
        action="append",
        choices=("storable", "json"),
        help="what clients may speak, can be repeated; default: both",
    )
    parser.add_argument(
        "--max-packet",
        type=values.number_of("bytes", 7, 2**32 - 1),
        metavar="BYTES",
        help="the longest packet, both ways",
    )
    parser.add_argument(
        "--outstanding",
        type=values.number_of("calls", 1),
        metavar="CALLS",
        help="how many calls run at once; others wait",
    )
    _add_limits(parser)
    parser.add_argument(
        "--on-exception",
        choices=("answer", "disconnect"),
        help="what becomes of a client whose procedure fails: it is told so and stays, or told"
        " and disconnected; default: what the program says, or disconnect",
    )
    parser.add_argument(
        "--drain",
        type=values.wait,
        default=30.0,
        metavar="SECONDS",
        help="how long clients have to leave after SIGTERM or Ctrl-C; the second one ends it at"
        " once; default: 30",
    )
    _add_balancing(parser)
    parser.add_argument(
        "--workers",
        type=values.number_of("workers", 1, 512),
        metavar="N",
        help="run the program in so many processes, which share the clients; SIGHUP replaces them,"
        " one after the other",
    )
    parser.add_argument(
        "--fallback",
        metavar="URL",
        help="the server for calls of procedures that the program does not have",
    )
    _add_shadow(parser)
    parser.add_argument(
        "--log-file",
        metavar="FILE",
        help="where the log is written, in the place of stderr; it may be put aside at any time",
    )
    _add_log_level(parser)
    parser.add_argument("program", nargs="?", help="a Python file that calls init_clients()")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")


def _add_limits(parser: Parser) -> None:
    parser.add_argument(
        "--max-clients",
        type=values.number_of("clients", 1),
        metavar="CLIENTS",
        help="how many clients may be connected; others wait until one has gone",
    )
    parser.add_argument(
        "--max-buffered",
        type=values.number_of("bytes", 1),
        metavar="BYTES",
        help="what may be kept for all clients together",
    )
    parser.add_argument(
        "--idle-timeout",
        type=values.time,
        metavar="SECONDS",
        help="disconnect clients that do nothing, and wait for nothing, for so long",
    )
    parser.add_argument(
        "--packet-timeout",
        type=values.time,
        metavar="SECONDS",
        help="how long a packet may take to come; default: 60",
    )


def _add_balancing(parser: Parser) -> None:
    """Add what is for a server behind a proxy, HAProxy say."""
    parser.add_argument(
        "--proxy",
        choices=("require",),
        help="each connection comes from a proxy, and begins with a PROXY header",
    )
    parser.add_argument(
        "--trusted",
        type=values.trusted,
        action="append",
        metavar="WHO",
        help="with --proxy: whose headers are believed: a network such as 10.0.0.0/8, unix: for"
        " all who may connect to a path, or uid:33; can be repeated",
    )
    parser.add_argument(
        "--agent",
        metavar="URL",
        help="where HAProxy asks by agent-check how the server does: tcp://127.0.0.1:7101",
    )
    parser.add_argument(
        "--max-age",
        type=values.time,
        metavar="SECONDS",
        help="ask clients to connect anew that have been connected for so long; it reaches those"
        " that can be asked",
    )


def _add_shadow(parser: Parser) -> None:
    parser.add_argument(
        "--shadow",
        metavar="URL",
        help="an old server that calls are asked of, too: the answers are compared",
    )
    parser.add_argument(
        "--answer",
        choices=("new", "old"),
        help="with --shadow: whose answers clients get; default: new",
    )
    parser.add_argument(
        "--shadow-sample",
        type=values.part,
        metavar="PART",
        help="with --shadow: the part of the calls that is compared, 0 to 1; default: 1",
    )
    parser.add_argument(
        "--shadow-except",
        type=values.name,
        action="append",
        metavar="NAME",
        help="with --shadow: a procedure that is not asked of both, as it changes something; a *"
        " stands for any characters; can be repeated",
    )
    parser.add_argument(
        "--shadow-report",
        metavar="FILE",
        help="with --shadow: where to keep what differs, for `rpcasync shadow-report FILE`",
    )


def add_call(parser: Parser) -> None:
    """Add what `call` takes."""
    _add_server(parser)
    parser.add_argument(
        "procedure", nargs="?", metavar="PROCEDURE", help="`rpcasync methods URL` lists them"
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="NAME=VALUE|VALUE",
        help="what it is given; a value is read as JSON, and as text if it is none; @ is a "
        "callback, and shows what it is called with",
    )
    _add_forms(parser)


def add_methods(parser: Parser) -> None:
    """Add what `methods` takes."""
    _add_server(parser)
    parser.add_argument(
        "wanted", nargs="*", metavar="PROCEDURE", help="tell of these alone, and all that is told"
    )
    parser.add_argument("--names", action="store_true", help="nothing but the names")
    parser.add_argument("--defs", action="store_true", help="with the types that the server sends")
    parser.add_argument("--json", action="store_true", help="print the list as a line of JSON")


def add_record(parser: Parser) -> None:
    """Add what `record` takes."""
    _add_urls(parser)
    parser.add_argument("--to", metavar="URL", help="the server that answers")
    _add_trust(parser)
    parser.add_argument(
        "--max-size",
        type=values.number_of("bytes", 1),
        metavar="BYTES",
        help="put the file aside as FILE.1 when it has so many; default: never",
    )
    parser.add_argument(
        "--keep",
        type=values.number_of("files", 1, 500),
        default=5,
        metavar="FILES",
        help="how many files that were put aside stay; default: 5",
    )
    _add_names(parser, "--redact", "redact", "leave out the value of this name wherever it stands")
    _add_names(
        parser, "--redact-procedure", "redact_procedures", "leave out all values of this procedure"
    )
    _add_log_level(parser)
    parser.add_argument("file", nargs="?", metavar="FILE", help="where the calls are written")


def add_replay(parser: Parser) -> None:
    """Add what `replay` takes."""
    parser.add_argument("file", nargs="?", metavar="FILE", help="what was recorded")
    _add_url(parser)
    parser.add_argument(
        "--compare", action="store_true", help="compare the values of the answers, as Perl would"
    )
    parser.add_argument(
        "--speed",
        type=values.factor,
        metavar="FACTOR",
        help="1: as fast as they came, 2: twice as fast; default: as fast as they are answered",
    )
    parser.add_argument(
        "--in-flight",
        type=values.number_of("calls", 1),
        default=100,
        metavar="CALLS",
        help="how many calls may wait for an answer; default: 100",
    )
    parser.add_argument(
        "--timeout",
        type=values.seconds,
        default=10.0,
        metavar="SECONDS",
        help="how long to wait for an answer; default: 10",
    )
    _add_trust(parser)
    _add_certificate(parser, "for a server that wants to see one")
    _add_names(parser, "--procedure", "only", "make the calls of this procedure alone")
    _add_names(parser, "--except", "but", "leave out the calls of this procedure")
    parser.add_argument("--json", action="store_true", help="print the summary as a line of JSON")
    _add_log_level(parser)


def add_shell(parser: Parser) -> None:
    """Add what `shell` takes."""
    _add_server(parser)
    parser.add_argument("arguments", nargs="*", help="for a server that is started")


def add_health(parser: Parser) -> None:
    """Add what `health` takes."""
    _add_server(parser, timeout=1.0)


def add_stats(parser: Parser) -> None:
    """Add what `stats` takes."""
    _add_server(parser, timeout=10.0)
    parser.add_argument(
        "--prometheus", action="store_true", help="in the text format of Prometheus, 0.0.4"
    )
    parser.add_argument(
        "--watch",
        type=values.time,
        nargs="?",
        const=2.0,
        metavar="SECONDS",
        help="print them again and again, until Ctrl-C; by default each 2 seconds. Behind the URL",
    )


def add_top(parser: Parser) -> None:
    """Add what `top` takes."""
    _add_server(parser, timeout=10.0)
    parser.add_argument(
        "--interval",
        type=values.time,
        default=2.0,
        metavar="SECONDS",
        help="how often to look, and what rates and times are of; default: 2",
    )
    parser.add_argument(
        "-n",
        dest="count",
        type=values.number_of("tables", 1),
        metavar="COUNT",
        help="print so many tables, and end; as where stdout is no terminal",
    )


def add_report(parser: Parser) -> None:
    """Add what `shadow-report` takes."""
    parser.add_argument("file", nargs="?", metavar="FILE", help="of `listen --shadow-report`")
    parser.add_argument("--json", action="store_true", help="print it as a line of JSON")
    _add_log_level(parser)


def add_skeleton(parser: Parser) -> None:
    """Add what `skeleton` takes."""
    _add_server(parser)
    parser.add_argument("wanted", nargs="*", metavar="PROCEDURE", help="of these alone")


def add_stub(parser: Parser) -> None:
    """Add what `stub` takes."""
    add_skeleton(parser)
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--sync", dest="only_sync", action="store_true", help="only the class that waits"
    )
    only.add_argument(
        "--async", dest="only_async", action="store_true", help="only the class for asyncio"
    )
    parser.add_argument(
        "--undef", action="store_true", help="what is in an answer may be undef, which is None"
    )


def add_describe(parser: Parser) -> None:
    """Add what `describe` takes."""
    add_skeleton(parser)
    parser.add_argument("--json", action="store_true", help="print it as a line of JSON")


# What several of them have


def _add_urls(parser: Parser, about: str = "where to listen") -> None:
    """Add where a command listens, which says itself what is missing, by its `parser`."""
    parser.set_defaults(parser=parser)
    parser.add_argument("-u", dest="urls", action="append", metavar="URL", help=about)
    parser.add_argument(
        "--mode",
        type=values.mode,
        metavar="MODE",
        help="who may use a unix:// path, as for chmod: 660",
    )
    parser.add_argument(
        "--allow-uid",
        dest="uids",
        type=values.user,
        action="append",
        metavar="USER",
        help="a user who may connect to a unix:// path, by number or name; can be repeated",
    )
    _add_certificate(parser, "for tls://host:port")
    parser.add_argument(
        "--client-ca",
        metavar="FILE",
        help="with --cert: clients have to show a certificate of an authority in this file",
    )


def _add_certificate(parser: Parser, about: str) -> None:
    parser.add_argument("--cert", metavar="FILE", help=f"a certificate, and its chain, {about}")
    parser.add_argument(
        "--key", metavar="FILE", help="the private key of --cert; default: it is in the same file"
    )


def _add_trust(parser: Parser) -> None:
    """Add whom a client trusts that speaks TLS."""
    parser.add_argument(
        "--ca",
        metavar="FILE",
        help="for tls:// URLs, the authorities that are trusted; default: those of the system",
    )
    parser.add_argument(
        "--server-name",
        metavar="NAME",
        help="the name in the certificate of the server, if it is not the host of the URL",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="for tls:// URLs, trust whoever answers"
    )


def _add_names(parser: Parser, flag: str, dest: str, about: str) -> None:
    """Add an option that takes a name, and can be repeated."""
    parser.add_argument(
        flag,
        dest=dest,
        type=values.whole_name,
        action="append",
        default=[],
        metavar="NAME",
        help=f"{about}, can be repeated",
    )


def _add_url(parser: Parser) -> None:
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="tcp://host:port, unix://path, python://file.py ..."
    )


def _add_server(parser: Parser, timeout: float | None = None) -> None:
    _add_url(parser)
    default = "" if timeout is None else f"; default: {timeout:g}"
    parser.add_argument(
        "--timeout",
        type=values.seconds,
        default=timeout,
        metavar="SECONDS",
        help=f"how long to wait for an answer{default}",
    )
    parser.add_argument(
        "--codec", choices=("storable", "json"), default="storable", help="default: storable"
    )
    _add_trust(parser)
    _add_certificate(parser, "for a server that wants to see one")
    _add_log_level(parser)


def _add_log_level(parser: Parser) -> None:
    parser.add_argument(
        "--log-level",
        type=values.level,
        default="WARNING",
        metavar="LEVEL",
        help="debug, info, warning (the default), error or critical",
    )


def _add_forms(parser: Parser) -> None:
    """Add how an answer can be printed."""
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="print the answer as a line of JSON")
    forms.add_argument(
        "--raw", action="store_true", help="print the one value as it is: text, or bytes"
    )
    forms.add_argument(
        "--bytes", action="store_true", help="the same; characters are bytes, as from Perl"
    )
    parser.add_argument(
        "--value", metavar="NAME", help="print only this value of the answer; also --key NAME"
    )
