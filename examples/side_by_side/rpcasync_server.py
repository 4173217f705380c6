"""A total that grows, and is told to those who follow it: by rpcasync.

usage: rpcasync listen -u URL examples/side_by_side/rpcasync_server.py
"""

from eventmux import EventMux
from rpcasync import Coderef, Fault, Server, init_clients

total = 0.0
followers: list[Coderef] = []


def rpc_add(caller, amount: float):
    global total
    if amount < 0:
        raise Fault("amount must not be negative")
    total += amount
    followers[:] = [tell for tell in followers if tell.alive]
    for tell in followers:
        tell(total=total)
    rpc.return_(caller, total=total)


def rpc_follow(caller, callback: Coderef):
    followers.append(callback)
    rpc.return_(caller)


mux = EventMux()
rpc = Server(mux)
init_clients(rpc)

while rpc.has_clients():
    rpc.io(mux.mux())
