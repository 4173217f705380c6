"""A process for each device, and a client for each process: fork without exec.

usage: python examples/fork_workers.py [DEVICE ...]

Whatever takes long with a device keeps its own process waiting, and no other. The same call is
started on all of them, and the answers are collected as they come. A process that gives none in
time is killed; try it with a device called "stuck".
"""

import os
import signal
import socket
import sys
import time
from functools import partial

from eventmux import EventMux
from rpcasync import Client, Server

PATIENCE = 10.0  # seconds for an answer


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
        signal.alarm(60)  # the end of this process if it hangs, even if the parent has gone
        if self.name == "stuck":
            time.sleep(3600)
        total = sum(len(self.name) * number for number in range(times))
        signal.alarm(0)
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
    return Client(mux, ours, timeout=PATIENCE, process=pid)


def show(device, pid=None, total=None, error=None, **_):
    if error is None:
        print(f"{device}: {total}, says process {pid}", flush=True)
    else:
        print(f"{device}: {error}", flush=True)
        workers[device].process.kill()


def turn():
    """Hand the next event to the clients."""
    event = mux.mux()
    for client in workers.values():
        event = client.io(event)


mux = EventMux()
workers = {}
for name in sys.argv[1:] or ["alpha", "beta", "gamma"]:
    workers[name] = start(name)
    workers[name].measure(partial(show, name), times=100_000)

while any(client.has_requests() for client in workers.values()):
    turn()
for client in workers.values():
    client.disconnect()  # the end for its process, whichever it is
while any(client.has_work() for client in workers.values()):
    turn()
for client in workers.values():
    print("a process ended:", client.process.returncode)
