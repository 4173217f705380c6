"""Who is here, and waiting for somebody: what a server keeps for its clients, and for how long.

usage: rpcasync listen -u URL examples/meeting_server.py
"""

from collections import Counter

from eventmux import EventMux
from rpcasync import Fault, Server, init_clients

present = Counter()


def rpc_enter(caller, name: str):
    """Say who the client is, once; it leaves by hanging up."""
    if "name" in caller.meta:
        raise Fault(f"you are {caller.meta['name']} already")
    caller.meta["name"] = name
    present[name] += 1
    rpc.on_close(caller, leave)
    rpc.return_(caller)


def leave(caller):
    present[caller.meta["name"]] -= 1


def rpc_present(caller):
    rpc.return_(caller, *sorted(name for name in present if present[name]))


def rpc_wait_for(caller, name: str):
    """Answer as soon as somebody of that name is here."""
    if present[name]:
        rpc.return_(caller, name=name)
    else:
        rpc.retry(caller, 0.05, lambda caller: rpc_wait_for(caller, name))


mux = EventMux()
rpc = Server(mux, timeout=30)
rpc.set_options("wait_for", timeout=0.5)
init_clients(rpc)

while rpc.has_clients():
    rpc.io(mux.mux())
