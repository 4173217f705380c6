"""A server whose procedure `later` answers after a moment; it ends with its last client."""

from eventmux import EventMux
from rpcasync import Server, init_clients


def rpc_add_numbers(caller, n1: int, n2: int):
    rpc.return_(caller, sum=n1 + n2)


def rpc_later(caller, value, /):
    rpc.retry(caller, 0.1, lambda caller: rpc.return_(caller, value))


mux = EventMux()
rpc = Server(mux)
init_clients(rpc)
while rpc.has_clients():
    rpc.io(mux.mux())
