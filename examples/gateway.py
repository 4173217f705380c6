"""A server that is a client of another server: two filters on one mux.

usage: rpcasync listen -u URL examples/gateway.py SERVER_URL
       rpcasync call URL double n=21
"""

import sys

from eventmux import EventMux
from rpcasync import Client, Server, init_clients


def rpc_double(caller, n: int):
    # The answer comes later; until then this server serves others.
    def done(sum=None, error=None):
        if error is not None:
            server.error(caller, f"no answer from behind: {error}")
        else:
            server.return_(caller, double=sum)

    behind.add_numbers(done, n1=n, n2=n)


if len(sys.argv) != 2:
    sys.exit(__doc__)
mux = EventMux()
server = Server(mux)
init_clients(server)
behind = Client(mux, sys.argv[1])

while server.has_clients():
    event = behind.io(server.io(mux.mux()))
    if event is None:
        continue
    print("not for either of them:", event)
