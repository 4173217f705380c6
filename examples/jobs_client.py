"""Start a long job, and stop it when it takes too long.

usage: python jobs_client.py [URL]
"""

import sys

from eventmux import EventMux
from rpcasync import Client


def progress(job, done):
    print(f"job {job}: {done}")
    if done == 2:
        rpc.stop(job=job)


def finished(counted=None, error=None):
    print("finished:", counted if error is None else error)


mux = EventMux()
rpc = Client(mux, sys.argv[1] if len(sys.argv) > 1 else "python://examples/jobs_server.py")
rpc.count(finished, upto=1_000_000, progress=progress)
while rpc.has_requests() or rpc.has_coderefs():
    rpc.io(mux.mux())

rpc.disconnect()
for event in mux:  # until the server that was started has ended
    rpc.io(event)
