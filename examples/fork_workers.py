"""A process for each device, and a client for each process: fork without exec.

usage: python examples/fork_workers.py [DEVICE ...]

Whatever takes long with a device keeps its own process waiting, and no other. The same call is
started on all of them, and the answers are collected as they come.
"""

import os
import socket
import sys

from eventmux import Child, EventMux
from rpcasync import Client, Server


class Device:
    """What a process serves: its procedures may wait as long as they like."""

    def __init__(self, name, sock):
        self.name = name
        self.rpc = Server(mux, self, slow=None)  # there is nobody else to be served
        self.rpc.add_client(sock)

    def serve(self):
        """Serve until the one client has gone."""
        while self.rpc.has_clients():
            self.rpc.io(mux.mux())

    def rpc_measure(self, caller, times: int):
        total = sum(len(self.name) * number for number in range(times))
        self.rpc.return_(caller, name=self.name, pid=os.getpid(), total=total)


def start(name):
    """Start the process of a device and return the client that calls it."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        mux.after_fork()  # lets go of the clients of the devices before this one
        ours.close()
        Device(name, theirs).serve()
        os._exit(0)  # what the parent has begun is not for us to end
    theirs.close()  # or we would never be told that the process has ended
    mux.child(pid)
    return Client(mux, ours)


def show(name, pid, total):
    print(f"{name}: {total}, says process {pid}", flush=True)


mux = EventMux()
clients = {name: start(name) for name in sys.argv[1:] or ["alpha", "beta", "gamma"]}
for client in clients.values():
    client.measure(show, times=100_000)

while any(client.has_requests() for client in clients.values()):
    event = mux.mux()
    for client in clients.values():
        event = client.io(event)

for client in clients.values():
    client.disconnect()  # the end for its process, whichever it is
for event in mux:
    if isinstance(event, Child):
        print("a process ended:", event.returncode)
