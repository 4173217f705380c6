"""A gateway that passes on everything: two servers and a client on one mux.

The server at URL has every procedure that the one at SERVER_URL has. Functions among the arguments
are passed on as well: when that server calls one, it is called here, and calls the client's. The
server at STATUS_URL has procedures of its own: it tells what is under way, and ends the gateway.

usage: python examples/relay.py SERVER_URL URL STATUS_URL

try it: rpcasync listen -u tcp://127.0.0.1:7007 examples/progress_server.py
        python examples/relay.py tcp://127.0.0.1:7007 tcp://127.0.0.1:7008 tcp://127.0.0.1:7009
        python examples/progress_client.py tcp://127.0.0.1:7008
        rpcasync call tcp://127.0.0.1:7009 status
"""

import sys

from eventmux import EventMux
from rpcasync import Client, Server


class Status:
    def rpc_status(self, caller):
        calls, functions = len(behind.dump_requests()), behind.has_coderefs()
        status.return_(caller, clients=len(front.clients), calls=calls, functions=functions)

    def rpc_stop(self, caller):
        status.return_(caller)
        front.close_listeners()
        status.close_listeners()


if len(sys.argv) != 4:
    sys.exit(__doc__)
server_url, url, status_url = sys.argv[1:]
mux = EventMux()
behind = Client(mux, server_url)
front = Server(mux, {}, fallback=behind)
status = Server(mux, Status())
print("listening on", front.listen(url).getsockname(), flush=True)
print("status on", status.listen(status_url).getsockname(), flush=True)

while front.has_clients() or status.has_clients():
    status.io(front.io(mux.mux()))
behind.disconnect()
