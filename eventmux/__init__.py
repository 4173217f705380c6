"""A multiplexer for a loop that the program owns: wait on all handles, get one event at a time.

`EventMux` is the loop, the classes named after events are what it returns, and
`eventmux.buffers` cuts streams into records. A handle is what can be watched: an object with
`fileno()`, such as a socket, a pipe, `sys.stdin` or another `EventMux`, or a descriptor as an int.
"""

from eventmux._watching.watches import Watch
from eventmux.errors import (
    BufferOverflow,
    EventMuxError,
    FileError,
    FramingError,
    HeaderOverflow,
    IdleTimeout,
    MalformedHeader,
    MalformedRecord,
    OutputOverflow,
    TLSError,
    URLError,
)
from eventmux.events import (
    Accepting,
    AnyEvent,
    CanRead,
    CanWrite,
    Child,
    Closed,
    Closing,
    Connect,
    Error,
    Event,
    HalfClosed,
    Read,
    ReadLast,
    ReadWithDestination,
    ReadWithFds,
    Ready,
    Records,
    Sent,
    Signal,
    Timeout,
    Timer,
)
from eventmux.mux import EventMux
from eventmux.passing import PassedFds
from eventmux.peers import Credentials, Peer, ProxyHeader, ProxySSL, TLSSession

__all__ = [
    "Accepting",
    "AnyEvent",
    "BufferOverflow",
    "CanRead",
    "CanWrite",
    "Child",
    "Closed",
    "Closing",
    "Connect",
    "Credentials",
    "Error",
    "Event",
    "EventMux",
    "EventMuxError",
    "FileError",
    "FramingError",
    "HalfClosed",
    "HeaderOverflow",
    "IdleTimeout",
    "MalformedHeader",
    "MalformedRecord",
    "OutputOverflow",
    "PassedFds",
    "Peer",
    "ProxyHeader",
    "ProxySSL",
    "Read",
    "ReadLast",
    "ReadWithDestination",
    "ReadWithFds",
    "Ready",
    "Records",
    "Sent",
    "Signal",
    "TLSError",
    "TLSSession",
    "Timeout",
    "Timer",
    "URLError",
    "Watch",
]
