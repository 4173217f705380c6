"""A server with one procedure that was ported, and none of the others."""

from eventmux import EventMux
from rpcasync import Server, init_clients

mux = EventMux()
rpc = Server(mux, slow=None)  # this machine may be busy
init_clients(rpc)


def rpc_ported(caller, *values):
    rpc.return_(caller, "ported", *values)


while rpc.has_clients():
    rpc.io(mux.mux())
