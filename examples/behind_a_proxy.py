"""A server behind a proxy, which tells each client who it is.

usage: python behind_a_proxy.py [URL]       try it with: haproxy -f examples/haproxy.cfg
                                            nc 127.0.0.1 7070
"""

import sys
from contextlib import suppress

from eventmux import EventMux

url = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7007"

with EventMux() as mux, suppress(KeyboardInterrupt):
    try:
        listener = mux.listen(url, proxy="require", trusted=["127.0.0.0/8"])
    except (OSError, ValueError) as error:
        sys.exit(f"cannot listen: {error}")
    print("listening on", listener.getsockname(), flush=True)
    for event in mux:
        match event.type:
            case "connect":
                proxy = event.peer.proxy
                if proxy is None or proxy.source is None:
                    print("a check of the proxy's own", flush=True)
                    continue
                print("hello", event.address, flush=True)
                tls = proxy.ssl
                name = tls.common_name if tls is not None and tls.verified else "stranger"
                mux.send(event.fh, f"hello {name} at {event.address[0]}\n".encode())
            case "error" if event.fh is listener:  # who is not trusted, or speaks no PROXY
                print("refused:", event.error, flush=True)
