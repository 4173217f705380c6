"""An echo server with TLS, which takes a renewed certificate without a break.

usage: python tls_echo_server.py URL CERTIFICATE [AUTHORITY]

CERTIFICATE is a file with the certificate, its chain, and the private key. With AUTHORITY, clients
have to show a certificate of that authority. On SIGHUP the files are read again.
"""

import signal
import ssl
import sys
from contextlib import suppress

from eventmux import EventMux

if len(sys.argv) not in (3, 4):
    sys.exit(__doc__)
url, certificate, *authority = sys.argv[1:]


def load():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    if authority:
        context.load_verify_locations(authority[0])
        context.verify_mode = ssl.CERT_REQUIRED
    return context


with EventMux() as mux, suppress(KeyboardInterrupt):
    try:
        listener = mux.listen(url, tls=load())
    except (OSError, ValueError) as error:
        sys.exit(f"cannot listen with {certificate}: {error}")
    mux.signal(signal.SIGHUP)
    print("listening on", listener.getsockname(), flush=True)
    for event in mux:
        match event.type:
            case "connect" if (tls := event.peer.tls) is not None:
                subject = (event.peer.certificate or {}).get("subject", ())
                who = dict(pair for pairs in subject for pair in pairs)
                print("hello", who.get("commonName", "stranger"), tls.version, flush=True)
            case "read":
                mux.send(event.fh, event.data)
            case "signal":
                try:
                    mux.set_tls(listener, load())
                    print("the certificate is renewed", flush=True)
                except (OSError, ValueError) as error:  # the old one stays
                    print("cannot load the certificate:", error, flush=True)
            case "error":
                print(event.error, flush=True)
