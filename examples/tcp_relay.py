"""Passes on the bytes of TCP connections, and the end of each direction by itself.

A client that has sent all it has, and ended its side, still gets the answer: so the relay does not
end a connection when one side of it ends, but passes just that on. A slow reader is waited for.

usage: python examples/tcp_relay.py LISTEN_URL SERVER_URL

try it: python examples/tcp_relay.py tcp://127.0.0.1:7008 tcp://127.0.0.1:7007
"""

import sys

from eventmux import EventMux

if len(sys.argv) != 3:
    sys.exit(__doc__)
url, server_url = sys.argv[1:]
mux = EventMux()
listener = mux.listen(url, half_close=True)
print("listening on", listener.getsockname(), flush=True)
others = {}  # by socket: the other end, as long as both are there

for event in mux:
    fh = event.fh
    if event.type == "connect":
        server = mux.connect(server_url, half_close=True, timeout=10)
        others[fh], others[server] = server, fh
    elif event.type == "read" and fh in others:
        if mux.send(others[fh], event.data) > 1_000_000:
            mux.want_read(fh, False)
    elif event.type == "sent" and fh in others:
        mux.want_read(others[fh], True)
    elif event.type == "half_closed" and fh in others:
        mux.shutdown(others[fh])
    elif event.type == "closing" and fh in others:
        other = others.pop(fh)
        del others[other]
        mux.close(other)  # what is queued for it leaves first
