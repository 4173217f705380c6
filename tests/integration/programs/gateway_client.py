"""A client passes a function to a server, which may be a gateway: what gateway_client.pl does.

usage: gateway_client.py URL
"""

import sys

from eventmux import EventMux
from rpcasync import Client


def called(*values):
    print("called with", *values, flush=True)


def answered(count=None, error=None):
    print(f"kept {count}" if error is None else f"error: {error}", flush=True)


mux = EventMux()
rpc = Client(mux, sys.argv[1])
rpc.call("keep", called, answered)
while rpc.has_requests() or rpc.has_coderefs():
    rpc.io(mux.mux())
print("let go of", flush=True)
