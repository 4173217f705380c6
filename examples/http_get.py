"""Fetch a page: look the name up, follow redirects, and take no longer than is allowed.

usage: python http_get.py URL [SECONDS]

The page goes to stdout. For https, and for much else, take http.client.
"""

import re
import sys
from urllib.parse import urljoin, urlsplit

from eventmux import EventMux
from eventmux.buffers import HTTP

MOST_REDIRECTS = 5
MOST_BYTES = 10_000_000


def ask(target, base=""):
    """Ask for a page, or for that to which the one at `base` leads; return its URL and socket."""
    try:
        url = urljoin(base, target)
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError("is no http:// URL")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
        data = head.encode()
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        fh = mux.connect(f"tcp://{host}:{parts.port or 80}", buffered=HTTP(max_size=MOST_BYTES))
    except (OSError, ValueError) as error:
        sys.exit(f"{sys.argv[1]}" + (f" leads to {target!r}: {error}" if base else f": {error}"))
    mux.send(fh, data)  # it waits until the connection is up
    return url, fh


def location(head):
    found = re.search(rb"^location:[ \t]*([^\r\n]*)", head, re.IGNORECASE | re.MULTILINE)
    return found[1].decode("latin-1").strip() if found else None


if len(sys.argv) < 2:
    sys.exit(__doc__)
redirects = 0

try:
    with EventMux() as mux:
        try:
            seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
            mux.timer(seconds)
        except (OverflowError, ValueError) as error:
            sys.exit(f"SECONDS: {error}")
        url, fh = ask(sys.argv[1])
        for event in mux:
            match event.type:
                case "read":
                    head, body = re.split(rb"\r?\n\r?\n", event.data, maxsplit=1)
                    status = int(head.split()[1])
                    if status < 200:
                        continue  # the answer is still to come
                    mux.remove(fh)
                    fh.close()
                    if status in (301, 302, 303, 307, 308) and location(head):
                        redirects += 1
                        if redirects > MOST_REDIRECTS:
                            sys.exit(f"{url}: more than {MOST_REDIRECTS} redirects")
                        url, fh = ask(location(head), url)
                        continue
                    sys.stdout.buffer.write(body)
                    answer = head.splitlines()[0].decode(errors="replace")
                    sys.exit(None if status < 300 else f"{url}: {answer}")
                case "error":
                    sys.exit(f"{url}: {event.error}")
                case "closed":
                    sys.exit(f"{url}: the connection ended before the answer was complete")
                case "timer":
                    sys.exit(f"{url}: no answer within {seconds:g} seconds")
except KeyboardInterrupt:
    sys.exit(130)
