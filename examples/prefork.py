"""Serve with two processes: they share a listener, and one that is free accepts.

usage: python prefork.py [PORT]             try it with: nc 127.0.0.1 7007

A process that dies is replaced. Ctrl-C ends all of them.
"""

import os
import signal
import socket
import sys

from eventmux import Child, EventMux, Signal

listener = socket.create_server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 7007))


# The others know by this pipe that they are to end: nobody ever writes to it.
alive, end = os.pipe()


def serve():
    mux.add(listener)
    mux.add(alive)
    for event in mux:
        if event.type == "read":
            mux.send(event.fh, b"process %d: %s" % (os.getpid(), event.data))
        elif event.fh == alive:
            sys.exit()


def start():
    """Start a process and return its number."""
    pid = os.fork()
    if pid == 0:
        mux.after_fork()  # what the parent watches is not ours
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.close(end)
        serve()
    mux.child(pid)
    return pid


with EventMux() as mux:
    mux.signal(signal.SIGINT, signal.SIGTERM)
    running = {start(), start()}
    print("listening on", listener.getsockname(), flush=True)
    stopping = False
    while running:
        match mux.mux():
            case Child(pid=pid, returncode=status):
                running.remove(pid)
                print(f"process {pid} ended: {status}", flush=True)
                if not stopping:
                    running.add(start())
            case Signal() if not stopping:
                stopping = True
                os.close(end)
