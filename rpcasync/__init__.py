"""Remote procedure calls in a loop that the program owns, as Perl's RPC::Async 1.05 speaks them.

`Server` and `Client` are filters on the events of an `eventmux.EventMux`.
"""

from rpcasync.backoff import Backoff
from rpcasync.blocking import BlockingClient, connect
from rpcasync.calls import Call, Reply
from rpcasync.client import Client
from rpcasync.coderefs import Coderef
from rpcasync.errors import (
    ArgumentError,
    CallCancelled,
    CallTimeout,
    DecodeError,
    Disconnected,
    EncodeError,
    Fault,
    FrameTooLarge,
    ProtocolError,
    QueueFull,
    RemoteError,
    RPCError,
)
from rpcasync.notifying import notify
from rpcasync.reconnecting.client import (
    ReconnectingClient as _ReconnectingClient,  # noqa: F401  # which `Client(reconnect=)` makes
)
from rpcasync.server import Server
from rpcasync.serving.callers import Caller
from rpcasync.serving.records import CallRecord, Connection
from rpcasync.shadowing.shadow import Shadow
from rpcasync.startup import init_clients
from rpcasync.urls import (
    ChildSocket,
    url_absolute,
    url_connect,
    url_disconnect,
    url_explode,
    url_listen,
)
from rpcasync.wire.codecs import JSONCodec, StorableCodec

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "Backoff",
    "BlockingClient",
    "Call",
    "CallCancelled",
    "CallRecord",
    "CallTimeout",
    "Caller",
    "ChildSocket",
    "Client",
    "Coderef",
    "Connection",
    "DecodeError",
    "Disconnected",
    "EncodeError",
    "Fault",
    "FrameTooLarge",
    "JSONCodec",
    "ProtocolError",
    "QueueFull",
    "RPCError",
    "RemoteError",
    "Reply",
    "Server",
    "Shadow",
    "StorableCodec",
    "connect",
    "init_clients",
    "notify",
    "url_absolute",
    "url_connect",
    "url_disconnect",
    "url_explode",
    "url_listen",
]
