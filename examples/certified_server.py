"""A server for those whose certificate has one of some names, be it verified here or at a proxy.

usage: rpcasync listen -u tls://:7007 --cert server.pem --client-ca ca.pem certified_server.py
       python certified_server.py URL TRUSTED...          behind a proxy, for `trusted` of listen()
"""

import sys
from contextlib import suppress

from eventmux import EventMux
from rpcasync import Server, init_clients

ALLOWED = {"client.example", "backup.example"}


def name_of(peer):
    """Return the common name that was verified, or None."""
    if peer.proxy is not None:  # TLS ended there
        tls = peer.proxy.ssl
        return tls.common_name if tls is not None and tls.verified else None
    subject = (peer.certificate or {}).get("subject", ())
    return dict(pair for part in subject for pair in part).get("commonName")


def authorize(peer):
    return name_of(peer) in ALLOWED


def rpc_who_am_i(caller):
    rpc.return_(caller, name=name_of(caller.peer), host=caller.peer.address[0])


mux = EventMux()
rpc = Server(mux, authorize=authorize)
if len(sys.argv) == 2:
    sys.exit(__doc__)
with suppress(KeyboardInterrupt):
    if len(sys.argv) > 2:
        url, *trusted = sys.argv[1:]
        listener = rpc.listen(url, proxy="require", trusted=trusted)
        print("listening on", listener.getsockname(), flush=True)
    else:
        init_clients(rpc)
    while rpc.has_clients():
        rpc.io(mux.mux())
