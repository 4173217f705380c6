"""A mail server that prints what it is given: SMTP with STARTTLS (RFC 5321, RFC 3207).

usage: python smtp_server.py [URL [CERTIFICATE KEY]]        two PEM files; without, no STARTTLS

try it: swaks --server 127.0.0.1 --port 2525 --to you@example.org
"""

import ssl
import sys
from contextlib import suppress
from dataclasses import dataclass, field

from eventmux import EventMux
from eventmux.buffers import Split

LONGEST_LINE = 1000  # bytes, with its end (RFC 5321, 4.5.3.1.6)
LARGEST_MESSAGE = 10_000_000  # bytes
MOST_RECEIVERS = 100
PATIENCE = 300  # seconds (RFC 5321, 4.5.3.2)


@dataclass
class Session:
    """What one client has said so far."""

    name: str = ""
    sender: str | None = None
    receivers: list[str] = field(default_factory=list)
    message: list[bytes] | None = None  # its lines, once DATA was said
    size: int = 0


def command(fh, session, line):
    """Answer one command."""
    verb, _, rest = line.decode(errors="replace").partition(" ")
    match verb.upper(), rest.strip():
        case (("EHLO" | "HELO"), name):
            mux.meta(fh, Session(name))
            offers = ["me", f"SIZE {LARGEST_MESSAGE}"]
            if context and not mux.peer(fh).tls:
                offers.append("STARTTLS")
            reply(fh, 250, *(offers if verb.upper() == "EHLO" else ["me"]))
        case "STARTTLS", "" if context and not mux.peer(fh).tls:
            reply(fh, 220, "go ahead")
            mux.meta(fh, Session())  # what was said in the clear does not count
            mux.start_tls(fh, context, server_side=True)
        case "MAIL", sender if sender.upper().startswith("FROM:"):
            session.sender = sender[5:].split()[0] if sender[5:].split() else "<>"
            reply(fh, 250, "ok")
        case "RCPT", receiver if receiver.upper().startswith("TO:") and session.sender:
            if len(session.receivers) == MOST_RECEIVERS:
                reply(fh, 452, "too many receivers")
            else:
                session.receivers.append(receiver[3:].strip())
                reply(fh, 250, "ok")
        case "DATA", "" if session.receivers:
            session.message = []
            reply(fh, 354, "end with a line that is a dot")
        case "RSET", "":
            mux.meta(fh, Session(session.name))
            reply(fh, 250, "ok")
        case "NOOP", _:
            reply(fh, 250, "ok")
        case "QUIT", "":
            reply(fh, 221, "goodbye")
            mux.close(fh)
        case (("MAIL" | "RCPT" | "DATA" | "STARTTLS" | "RSET" | "QUIT"), _):
            reply(fh, 503, "not now, or not so")
        case _:
            reply(fh, 500, "unknown command")


def message_line(fh, session, line):
    """Take one line of a message; a dot alone ends it, and one in front is doubled (4.5.2)."""
    if line != b".":
        session.size += len(line) + 2
        if session.size <= LARGEST_MESSAGE:
            session.message.append(line.removeprefix(b"."))
        return
    if session.size > LARGEST_MESSAGE:
        reply(fh, 552, f"more than {LARGEST_MESSAGE} bytes")
    else:
        tls = mux.peer(fh).tls
        how = tls.version if tls else "no TLS"
        show(f"from {session.sender} to {', '.join(session.receivers)} ({how}):")
        for each in session.message:
            show(each.decode(errors="replace"))
        reply(fh, 250, "taken")
    mux.meta(fh, Session(session.name))


def show(text):
    """Print a line without what could control a terminal."""
    print("".join(filter(str.isprintable, text)), flush=True)


def reply(fh, code, *lines):
    """Send a reply of one or more lines."""
    *most, last = lines
    text = "".join(f"{code}-{line}\r\n" for line in most) + f"{code} {last}\r\n"
    mux.send(fh, text.encode())


url = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:2525"
context = None
if len(sys.argv) == 4:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(sys.argv[2], sys.argv[3])

with EventMux() as mux, suppress(KeyboardInterrupt):
    lines = Split(b"\r\n", max_size=LONGEST_LINE)
    try:
        listener = mux.listen(url, buffered=lines, idle_timeout=PATIENCE, high_water=65536)
    except (OSError, ValueError) as error:
        sys.exit(f"cannot listen: {error}")
    print("listening on", listener.getsockname(), flush=True)
    for event in mux:
        match event.type:
            case "connect":
                mux.meta(event.fh, Session())
                reply(event.fh, 220, "me, ready")
            case "read":
                session = mux.meta(event.fh)
                if session.message is None:
                    command(event.fh, session, event.data)
                else:
                    message_line(event.fh, session, event.data)
            case "error":
                print("error:", event.error, file=sys.stderr, flush=True)
