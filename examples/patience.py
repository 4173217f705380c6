"""A line server in which nobody stays for ever: three times, and each sees something else.

usage: python patience.py [HOST [PORT]]
"""

import sys
from contextlib import suppress

from eventmux import EventMux
from eventmux.buffers import Split

STRANGER = 10.0  # seconds without a byte, until somebody has said who he is
FRIEND = 300.0  # and from then on
LINE = 600.0  # seconds from one whole line to the next, however many bytes come meanwhile
LAST_WORDS = 5.0  # seconds to take them


def serve(host="127.0.0.1", port="7007"):
    with EventMux() as mux, suppress(KeyboardInterrupt):
        listener = mux.listen(f"tcp://{host}:{port}", buffered=Split(), idle_timeout=STRANGER)
        print("listening on", *listener.getsockname(), flush=True)
        for event in mux:
            match event.type:
                case "connect":
                    mux.meta(event.fh, mux.timer(LINE, event.fh))
                case "read":
                    mux.meta(event.fh).restart()
                    mux.set(event.fh, idle_timeout=FRIEND)
                    mux.send(event.fh, b"hello, " + event.data + b"\n")
                case "timer":
                    mux.send(event.data, b"too slow\n")
                    mux.close(event.data, timeout=LAST_WORDS)
                case "error":
                    print("lost:", event.error, flush=True)
                case "closing":
                    mux.meta(event.fh).cancel()


if __name__ == "__main__":
    serve(*sys.argv[1:])
