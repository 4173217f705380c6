"""Start a long job on a server, and show how far it is.

usage: python examples/progress_client.py [URL]
"""

import sys
from pathlib import Path

from eventmux import EventMux
from rpcasync import Client


def show(done, total):  # the server calls it, as often as it likes
    print(f"{100 * done // total:3} %", flush=True)


def finished(found=None, error=None):
    print(error or f"there are {found} primes below 50000")


server = f"python://{Path(__file__).with_name('progress_server.py')}"
mux = EventMux()
rpc = Client(mux, sys.argv[1] if len(sys.argv) > 1 else server)
rpc.count_primes(finished, upto=50_000, progress=show)

while rpc.has_requests() or rpc.has_coderefs():
    rpc.io(mux.mux())
rpc.disconnect()
for event in mux:  # until the server that was started has ended
    rpc.io(event)
