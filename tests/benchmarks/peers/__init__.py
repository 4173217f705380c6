"""Who takes part. Each peer is a class with two methods, both ends the peer's own:

    serve(port)         serves `add_numbers(n1, n2)` and `echo(s)` until the process is ended
    drive(port, meter)  asks as `meter.shape` says, for ever, and checks each answer

A peer is imported in the processes that need it, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any, Protocol

from benchmarks.meter import Meter

BASE = "asyncio"
OURS = (
    *("ours-json", "ours-spinless", "ours-storable", "ours-blocking"),
    *("ours-aio", "ours-aio-storable", "ours-aio-uvloop"),
)


class Peer(Protocol):
    """What a peer does."""

    def serve(self, port: int) -> None:
        """Serve until the process is ended."""
        ...

    def drive(self, port: int, meter: Meter) -> None:
        """Ask for ever."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a peer is, and what it needs."""

    title: str
    where: str  # module:class
    options: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()  # modules
    package: str = ""  # what they are installed by

    @property
    def is_installed(self) -> bool:
        """True if all modules are there that it needs."""
        return all(find_spec(module) is not None for module in self.needs)

    def load(self) -> Peer:
        """Return the peer."""
        module, _, name = self.where.partition(":")
        made: Peer = getattr(import_module(f"benchmarks.peers.{module}"), name)(**self.options)
        return made

    def version(self) -> str:
        """Return package and version; nothing for what comes with Python."""
        return f"{self.package} {metadata.version(self.package)}" if self.package else ""


PEERS: dict[str, Entry] = {
    "ours-json": Entry("rpcasync, JSON", "ours:RPCAsync", {"codec": "json"}),
    "ours-storable": Entry("rpcasync, Storable", "ours:RPCAsync", {"codec": "storable"}),
    "ours-spinless": Entry("rpcasync, JSON, spin=0", "ours:RPCAsync", {"codec": "json", "spin": 0}),
    "ours-blocking": Entry("rpcasync, JSON, blocking", "ours:Blocking", {"codec": "json"}),
    "ours-aio": Entry("rpcasync.aio, JSON", "awaited:AsyncRPC", {"codec": "json"}),
    "ours-aio-storable": Entry("rpcasync.aio, Storable", "awaited:AsyncRPC", {"codec": "storable"}),
    "ours-aio-uvloop": Entry(
        "rpcasync.aio, JSON, on uvloop",
        "awaited:AsyncRPC",
        {"codec": "json", "uvloop": True},
        ("uvloop",),
    ),
    "streams": Entry("asyncio streams by hand, and our server", "awaited:StreamsJSON"),
    "asyncio": Entry("asyncio by hand", "by_hand:AsyncioJSON"),
    "asyncio-64k": Entry(
        "asyncio by hand, 64 KB reads", "by_hand:AsyncioJSON", {"read_size": 65536}
    ),
    "selectors": Entry("bare selectors, the floor", "floor:SelectorsJSON"),
    "uvloop": Entry(
        "uvloop by hand", "by_hand:AsyncioJSON", {"uvloop": True}, ("uvloop",), "uvloop"
    ),
    "pyro5": Entry("Pyro5", "pyro:Pyro5", {}, ("Pyro5",), "Pyro5"),
    "rpyc": Entry("RPyC", "rpyc_service:RPyC", {}, ("rpyc",), "rpyc"),
    "aiorpcx": Entry("aiorpcX", "aiorpcx_session:AiorpcX", {}, ("aiorpcx",), "aiorpcX"),
    "amp": Entry("Twisted AMP", "twisted_amp:AMP", {}, ("twisted",), "Twisted"),
    "grpc": Entry("gRPC", "grpc_stub:GRPC", {}, ("grpc", "grpc_tools"), "grpcio"),
    "xmlrpc": Entry("XML-RPC", "http_rpc:XMLRPC"),
    "jsonrpc": Entry("JSON-RPC", "http_rpc:JSONRPC", {}, ("jsonrpclib",), "jsonrpclib-pelix"),
    "zerorpc": Entry("zerorpc", "zerorpc_client:ZeroRPC", {}, ("zerorpc",), "zerorpc"),
}
