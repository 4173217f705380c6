"""XML-RPC of the standard library, and JSON-RPC with jsonrpclib-pelix: a thread for each client.

HTTP/1.1, so that connections are kept. Several calls at once are a MultiCall: one HTTP request.
"""

from __future__ import annotations

from socketserver import ThreadingMixIn
from typing import Any
from xmlrpc.client import MultiCall, ServerProxy
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

from benchmarks.meter import Meter
from benchmarks.peers.threads import drive_blocking


def _add_numbers(n1: int, n2: int) -> int:
    return n1 + n2


def _echo(s: str) -> str:
    return s


class _KeepAlive:
    """A handler of many requests on one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True


class _Threads(ThreadingMixIn):
    """A server with a thread for each connection."""

    daemon_threads = True
    request_queue_size = 1024


class XMLRPC:
    """Both ends from the standard library."""

    def serve(self, port: int) -> None:
        """Serve until the process is ended."""

        class Handler(_KeepAlive, SimpleXMLRPCRequestHandler):
            pass

        class Server(_Threads, SimpleXMLRPCServer):
            pass

        with Server(("127.0.0.1", port), Handler, logRequests=False) as server:
            server.register_function(_add_numbers, "add_numbers")
            server.register_function(_echo, "echo")
            server.register_multicall_functions()
            server.serve_forever()

    def drive(self, port: int, meter: Meter) -> None:
        """Ask for ever."""

        def batch(client: ServerProxy, pairs: list[tuple[int, int]]) -> list[int]:
            calls: Any = MultiCall(client)
            for n1, n2 in pairs:
                calls.add_numbers(n1, n2)
            return list(calls())

        drive_blocking(meter, lambda: ServerProxy(f"http://127.0.0.1:{port}"), batch)


class JSONRPC:
    """Both ends from jsonrpclib-pelix."""

    def serve(self, port: int) -> None:
        """Serve until the process is ended."""
        from jsonrpclib.SimpleJSONRPCServer import (
            SimpleJSONRPCRequestHandler,
            SimpleJSONRPCServer,
        )

        class Handler(_KeepAlive, SimpleJSONRPCRequestHandler):
            pass

        class Server(_Threads, SimpleJSONRPCServer):
            pass

        server = Server(("127.0.0.1", port), requestHandler=Handler, logRequests=False)
        server.register_function(_add_numbers, "add_numbers")
        server.register_function(_echo, "echo")
        server.serve_forever()

    def drive(self, port: int, meter: Meter) -> None:
        """Ask for ever."""
        import jsonrpclib

        def batch(client: Any, pairs: list[tuple[int, int]]) -> list[int]:
            calls = jsonrpclib.MultiCall(client)
            for n1, n2 in pairs:
                calls.add_numbers(n1, n2)
            return list(calls())

        drive_blocking(meter, lambda: jsonrpclib.ServerProxy(f"http://127.0.0.1:{port}"), batch)
