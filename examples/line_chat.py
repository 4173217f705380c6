"""A chat: what one person writes, all the others read, line by line.

usage: python line_chat.py [URL]            try it with: nc 127.0.0.1 7007

The first line is one's name.
"""

import sys
from contextlib import suppress

from eventmux import EventMux
from eventmux.buffers import Split

LONGEST_LINE = 1000  # bytes; who writes a longer one has to leave
MOST_UNREAD = 1_000_000  # bytes; who does not read them has to leave, too

url = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7007"
names = {}  # of those who have told theirs, by socket


def tell(text, but=None):
    print(text, flush=True)
    for fh in names:
        if fh is not but:
            mux.send(fh, text.encode() + b"\n")


def printable(data):
    """Return a line without what could control a terminal."""
    return "".join(filter(str.isprintable, data.decode(errors="replace"))).strip()


with EventMux() as mux, suppress(KeyboardInterrupt):
    lines = Split(b"\n", max_size=LONGEST_LINE)
    try:
        listener = mux.listen(url, buffered=lines, max_outbuffer=MOST_UNREAD)
    except (OSError, ValueError) as error:
        sys.exit(f"cannot listen: {error}")
    print("listening on", listener.getsockname(), flush=True)
    for event in mux:
        match event.type:
            case "connect":
                mux.send(event.fh, b"What is your name?\n")
            case "read":
                text = printable(event.data)
                if event.fh in names:
                    tell(f"{names[event.fh]}: {text}", but=event.fh)
                elif text:
                    names[event.fh] = text
                    tell(f"* {text} has come")
            case "closed" if event.fh in names:
                name = names.pop(event.fh)
                tell(f"* {name} has left" + (f": {event.reason}" if event.reason else ""))
