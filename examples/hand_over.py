"""Accept connections in one process, and have others serve them: each is handed to a worker.

usage: python hand_over.py [PORT]           try it with: nc 127.0.0.1 7007

The first line of a connection decides: who says "blue" comes to one worker, others to the other.
"""

import os
import signal
import socket
import sys

from eventmux import Closed, EventMux, Read, ReadWithFds

LONGEST = 1000  # bytes of a name
NAMES = ("blue", "other")


def work(mux, name, inbox):
    """Serve the connections that come through a socket, until it ends."""
    mux.add(inbox, receive_fds=1)
    for event in mux:
        match event:
            case ReadWithFds(data=seen, fds=fds):
                for fd in fds.take():
                    connection = socket.socket(fileno=fd)
                    mux.add(connection)
                    mux.send(connection, f"{name} worker: ".encode() + seen)
            case Read(fh, data):
                mux.send(fh, data)
            case Closed(fh) if fh is inbox:
                return


def start(mux, name):
    """Start a worker; return the socket through which it gets its connections."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        mux.after_fork()  # closes what the parent has, the sockets of earlier workers among it
        ours.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # its end is that of the parent
        work(mux, name, theirs)
        os._exit(0)
    theirs.close()
    mux.add(ours)
    return ours


with EventMux() as mux:
    workers = {name: start(mux, name) for name in NAMES}
    port = sys.argv[1] if len(sys.argv) > 1 else "7007"
    listener = mux.listen(f"tcp://127.0.0.1:{port}", meta=b"")
    print("listening on", listener.getsockname(), flush=True)
    try:
        for event in mux:
            match event:
                case Read(fh, data):
                    seen = mux.meta(fh, mux.meta(fh) + data)
                    if b"\n" in seen or len(seen) > LONGEST:
                        name = seen.split(b"\n")[0].decode(errors="replace")
                        # All that was read goes along: it is not in the socket any more.
                        mux.send_fds(workers.get(name, workers["other"]), seen, [fh])
                        mux.kill(fh)  # the worker has its own
    except KeyboardInterrupt:
        sys.exit(130)
