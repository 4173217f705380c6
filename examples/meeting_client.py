"""Wait for somebody who comes, and for somebody who does not.

usage: python meeting_client.py URL
"""

import sys

from eventmux import EventMux
from rpcasync import Client, RemoteError

mux = EventMux()
ann, bob = Client(mux, sys.argv[1]), Client(mux, sys.argv[1])


def serve_both(call):
    while not call.done:
        bob.io(ann.io(mux.mux()))
    return call.result()


serve_both(ann.enter(name="ann"))
waiting = ann.wait_for(name="bob")
serve_both(bob.enter(name="bob"))
print("here is", serve_both(waiting)["name"])
print("present:", *serve_both(ann.present()))

bob.disconnect()
waiting = ann.wait_for(name="eve")
try:
    serve_both(waiting)
except RemoteError as error:
    print("waiting for eve:", error)
print("present:", *serve_both(ann.present()))

ann.disconnect()
for event in mux:
    bob.io(ann.io(event))
