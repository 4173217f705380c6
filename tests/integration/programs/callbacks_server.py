"""A server that keeps functions of its clients and calls them: what callbacks_server.pl does."""

import weakref

from eventmux import EventMux
from rpcasync import Coderef, Server, init_clients

kept = []
seen = weakref.WeakSet()


def rpc_keep(caller, *callbacks: Coderef):
    seen.update(callbacks)
    kept.extend(callbacks)
    rpc.return_(caller, count=len(callbacks))


def rpc_alive(caller):
    count = sum(callback.alive for callback in kept)
    rpc.return_(caller, kept=count, alive=sum(callback.alive for callback in seen))


def rpc_fire(caller, *values):
    alive = [callback for callback in kept if callback.alive]
    for callback in alive:
        callback(*values)
    rpc.return_(caller, fired=len(alive))


def rpc_drop(caller, count: int):
    del kept[:count]
    rpc.return_(caller, left=len(kept))


def rpc_callback(caller, calls: int, callback):
    function = callback["key"][0].value
    rpc.return_(caller)
    for number in range(1, calls + 1):
        function.call(number)


def rpc_late(caller, *values):
    *others, callback = values
    callback(*others)
    rpc.return_(caller, count=len(others))


mux = EventMux()
rpc = Server(mux)
init_clients(rpc)
while rpc.has_clients():
    rpc.io(mux.mux())
