"""Passes on the bytes of TCP connections, and the end of each direction by itself.

A client that has sent all it has, and ended its side, still gets the answer: so the relay does not
end a connection when one side of it ends, but passes just that on. A slow reader is waited for.

usage: python examples/tcp_relay.py LISTEN_URL SERVER_URL

try it: python examples/tcp_relay.py tcp://127.0.0.1:7008 tcp://127.0.0.1:7007
"""

import sys
from contextlib import suppress

from eventmux import EventMux
from eventmux.events import Handle

if len(sys.argv) != 3:
    sys.exit(__doc__)
url, server_url = sys.argv[1:]
others: dict[Handle, Handle] = {}  # by socket: the other end, as long as both are there

with EventMux() as mux, suppress(KeyboardInterrupt):
    try:
        listener = mux.listen(url, half_close=True)
    except (OSError, ValueError) as error:
        sys.exit(f"cannot listen: {error}")
    print("listening on", listener.getsockname(), flush=True)
    for event in mux:
        if event.type == "connect":
            try:
                server = mux.connect(server_url, half_close=True, timeout=10)
            except OSError as error:  # there are no descriptors left, say
                print(f"{server_url}: {error}", file=sys.stderr, flush=True)
                mux.kill(event.fh)
                continue
            others[event.fh], others[server] = server, event.fh
        elif event.fh not in others:
            continue
        elif event.type == "read":
            if mux.send(others[event.fh], event.data) > 1_000_000:
                mux.want_read(event.fh, False)
        elif event.type == "sent":
            mux.want_read(others[event.fh], True)
        elif event.type == "half_closed":
            mux.shutdown(others[event.fh])
        elif event.type == "closing":
            other = others.pop(event.fh)
            del others[other]
            mux.close(other)  # what is queued for it leaves first
