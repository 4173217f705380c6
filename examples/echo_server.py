"""An echo server on eventmux alone: the loop is yours, and one event comes at a time.

usage: python echo_server.py [URL]          try it with: nc 127.0.0.1 7007
"""

import sys
from contextlib import suppress

from eventmux import EventMux

url = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7007"

with EventMux() as mux, suppress(KeyboardInterrupt):
    try:
        listener = mux.listen(url)
    except (OSError, ValueError) as error:
        sys.exit(f"cannot listen: {error}")
    print("listening on", listener.getsockname(), flush=True)
    for event in mux:
        match event.type:
            case "connect":
                print("hello", event.address, flush=True)
            case "read":
                mux.send(event.fh, event.data)
            case "closed":
                print("goodbye, reason:", event.reason, flush=True)
