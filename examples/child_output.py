"""Start a server, and read what it prints in the same loop.

usage: python child_output.py [URL]
"""

import sys

from eventmux import EventMux
from eventmux.buffers import Split
from rpcasync import Client


def show(sum=None, error=None):
    print("sum:", sum if error is None else error)


def dead(error):
    print("failed:", error)


mux = EventMux()
rpc = Client(mux, sys.argv[1] if len(sys.argv) > 1 else "python2://examples/conformance_server.py")
mux.add(rpc.stdout, buffered=Split())
mux.add(rpc.stderr, buffered=Split())
printed = []

rpc.add_numbers(show, n1=2, n2=3)
rpc.die(dead)  # the server logs what happened, disconnects us, and ends

for event in mux:
    event = rpc.io(event)
    if event is not None and event.type == "read":
        printed.append(event.data.decode())

print("it printed:", printed[0])
print("its exit status:", rpc.process.returncode)
