"""Ping over UDP: a server that sends back what it gets, and a client that takes the time.

usage: python udp_ping.py serve [HOST [PORT]]
       python udp_ping.py HOST PORT [COUNT]

On Linux the client also learns when nobody listens at that port.
"""

import socket
import sys
import time
from contextlib import suppress

from eventmux import Error, EventMux, Read, Timeout

LIMIT = 1.0  # seconds to wait for an answer


def serve(host="127.0.0.1", port="7007"):
    with EventMux() as mux, suppress(KeyboardInterrupt):
        fh = mux.listen(f"udp://{host}:{port}")
        print("listening on", fh.getsockname(), flush=True)
        for event in mux:
            if event.type == "read":
                mux.sendto(event.fh, event.sender, event.data)


def ping(mux, fh, address, number):
    """Send one packet and say what became of it; True if it came back."""
    packet = b"ping %d" % number
    start = time.monotonic()
    mux.sendto(fh, address, packet)
    while True:
        match mux.mux(max(0.0, start + LIMIT - time.monotonic())):
            case Read(data=data, sender=sender) if data == packet:
                milliseconds = (time.monotonic() - start) * 1000
                print(f"{number}: {sender[0]} answered in {milliseconds:.3f} ms")
                return True
            case Error(error=text):
                print(f"{number}: {text}")
                return False
            case Timeout():
                print(f"{number}: no answer within {LIMIT:g} s")
                return False


def measure(host, port, count="3"):
    with EventMux() as mux:
        fh = mux.connect("udp://", errors=sys.platform == "linux")
        address = (socket.gethostbyname(host), int(port))  # sendto() looks no names up
        answers = [ping(mux, fh, address, number) for number in range(1, int(count) + 1)]
        print(f"{sum(answers)} of {len(answers)} answered")
        sys.exit(not all(answers))


try:
    if len(sys.argv) in (2, 3, 4) and sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    elif len(sys.argv) in (3, 4):
        measure(*sys.argv[1:])
    else:
        sys.exit(__doc__)
except (OSError, OverflowError, ValueError) as error:
    sys.exit(f"{' '.join(sys.argv[1:])}: {error}")
except KeyboardInterrupt:
    sys.exit(130)
