"""Send a line over TLS, and print who answers, and what.

usage: python tls_client.py URL TEXT [AUTHORITY [CERTIFICATE]]

The server has to show a certificate for the host of the URL, of an authority that the system
trusts, or of AUTHORITY alone. CERTIFICATE is what we show, with its private key.
"""

import ssl
import sys

from eventmux import EventMux

if len(sys.argv) < 3:
    sys.exit(__doc__)
url, text, *files = sys.argv[1:]
context = ssl.create_default_context(cafile=files[0] if files else None)
if len(files) > 1:
    context.load_cert_chain(files[1])

with EventMux() as mux:
    server = mux.connect(url, tls=context, timeout=10)
    mux.send(server, text.encode())  # it leaves when the handshake is through
    for event in mux:
        match event.type:
            case "ready" if (tls := mux.peer(server).tls) is not None:
                print("this is", tls.server_name, "by", tls.version)
            case "read":
                print(event.data.decode())
                mux.close(server)
            case "error":
                sys.exit(event.error)
