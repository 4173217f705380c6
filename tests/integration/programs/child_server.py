"""A server that tells who it is, prints, and starts others: for the tests of child servers."""

import os
import sys

from eventmux import EventMux
from rpcasync import Client, Server, init_clients

children = []


def rpc_report(caller):
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    rpc.return_(
        caller,
        pid=os.getpid(),
        name=sys.argv[0],
        argv=sys.argv[1:],
        cwd=os.getcwd(),
        uid=os.getuid(),
        gid=os.getgid(),
        groups=sorted(os.getgroups()),
        HOME=os.environ.get("HOME"),
        USER=os.environ.get("USER"),
        sockets=[os.readlink(link) for link in links if "socket" in _target(link)],
        cloexec=int(not os.get_inheritable(caller.fh.fileno())),
        variables=[name for name in os.environ if name.startswith("RPCASYNC_")],
    )


def _target(link):
    return os.readlink(link) if os.path.islink(link) else ""  # that of the folder has gone


def rpc_say(caller, out: str, err: str):
    os.write(1, out.encode())
    os.write(2, err.encode())
    rpc.return_(caller)


def rpc_start(caller, url: str):
    children.append(Client(mux, url))
    children[-1].report(lambda **report: rpc.return_(caller, **report))


mux = EventMux()
rpc = Server(mux)
init_clients(rpc)
while rpc.has_clients():
    event = rpc.io(mux.mux())
    for child in children:
        child.io(event)
