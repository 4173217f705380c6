"""A multiplexer for a loop that the program owns: wait on all handles, get one event at a time.

`EventMux` is the loop, the classes named after events are what it returns, and
`eventmux.buffers` cuts streams into records.
"""

from eventmux.errors import BufferOverflow, EventMuxError, MalformedRecord, URLError
from eventmux.events import (
    Closed,
    Closing,
    Connect,
    Error,
    Event,
    Read,
    ReadLast,
    Ready,
    Sent,
    Timeout,
)
from eventmux.mux import EventMux

__all__ = [
    "BufferOverflow",
    "Closed",
    "Closing",
    "Connect",
    "Error",
    "Event",
    "EventMux",
    "EventMuxError",
    "MalformedRecord",
    "Read",
    "ReadLast",
    "Ready",
    "Sent",
    "Timeout",
    "URLError",
]
