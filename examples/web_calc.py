"""A web application that calls an RPC server. It is WSGI, as Flask's and Django's are.

usage: python web_calc.py [PORT]             try it with: curl '127.0.0.1:8000/?n1=2&n2=3'
"""

import os
import sys
import threading
from socketserver import ThreadingMixIn
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIServer, make_server

import rpcasync

URL = os.environ.get("CALC_URL", "tcp://127.0.0.1:7007")

# One connection for each process, made when it is first needed, and used by all threads.

_lock = threading.Lock()
_rpc = None


def calc():
    """Return the connection of this process; a new one if there is none, or it has ended."""
    global _rpc
    with _lock:
        if _rpc is None or _rpc.closed:
            _rpc = rpcasync.connect(URL, timeout=5)
        return _rpc


def application(environ, start_response):
    values = parse_qs(environ["QUERY_STRING"])
    status = "200 OK"
    try:
        reply = calc().add_numbers(n1=values["n1"][0], n2=values["n2"][0])
        text = f"{reply['sum']}\n"
    except KeyError as error:
        status, text = "400 Bad Request", f"{error} is missing\n"
    except rpcasync.RemoteError as error:  # the server refused
        status, text = "400 Bad Request", f"{error}\n"
    except OSError as error:  # nobody is there, the connection ended, or no answer in time
        print(error, file=sys.stderr)
        status, text = "503 Service Unavailable", "try again\n"
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode()]


class Server(ThreadingMixIn, WSGIServer):
    """A thread for each request."""

    daemon_threads = True


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    with make_server("127.0.0.1", port, application, Server) as server:
        print("listening on port", server.server_port, flush=True)
        server.serve_forever()
