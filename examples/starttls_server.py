"""A server of lines that begins in plain text, and goes on with TLS when it is asked to.

usage: python starttls_server.py URL CERTIFICATE

It knows STARTTLS, and SECRET, which it answers over TLS alone.
"""

import ssl
import sys
from contextlib import suppress

from eventmux import EventMux
from eventmux.buffers import Split

if len(sys.argv) != 3:
    sys.exit(__doc__)
url, certificate = sys.argv[1:]
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(certificate)

with EventMux() as mux, suppress(KeyboardInterrupt):
    listener = mux.listen(url, buffered=Split(b"\r\n", max_size=1000))
    print("listening on", listener.getsockname(), flush=True)
    for event in mux:
        match event.type:
            case "read" if event.data == b"STARTTLS":
                if mux.peer(event.fh).tls is None:
                    mux.send(event.fh, b"220 go ahead\r\n")  # this is still plain
                    mux.start_tls(event.fh, context)
                else:
                    mux.send(event.fh, b"503 TLS is on\r\n")
            case "ready" if (tls := mux.peer(event.fh).tls) is not None:
                print("encrypted by", tls.version, flush=True)  # forget what came before
            case "read" if event.data == b"SECRET":
                is_safe = mux.peer(event.fh).tls is not None
                mux.send(event.fh, b"250 rosebud\r\n" if is_safe else b"530 STARTTLS first\r\n")
            case "read":
                mux.send(event.fh, b"500 what?\r\n")
            case "error":
                print(event.error, flush=True)
