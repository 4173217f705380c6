from eventmux import EventMux
from rpcasync import Server, init_clients


def rpc_add_numbers(caller, n1: int, n2: int):
    rpc.return_(caller, sum=n1 + n2)


mux = EventMux()
rpc = Server(mux)
init_clients(rpc)

while rpc.has_clients():
    rpc.io(mux.mux())
