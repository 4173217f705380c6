"""Two servers in one program, whose listeners come from systemd by name."""

from eventmux import EventMux
from rpcasync import Server, init_clients


class Procedures:
    def __init__(self, mux, name):
        self.name = name
        self.rpc = Server(mux, self)

    def rpc_name(self, caller):
        self.rpc.return_(caller, name=self.name)

    def rpc_stop(self, caller):
        self.rpc.return_(caller, stopping=1)
        for server in servers:
            server.rpc.close_listeners()


mux = EventMux()
servers = [Procedures(mux, name) for name in ("public", "admin")]
for server in servers:
    init_clients(server.rpc, name=server.name)
while any(server.rpc.has_clients() for server in servers):
    event = mux.mux()
    for server in servers:
        event = server.rpc.io(event)
