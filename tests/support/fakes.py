"""Stand-ins for sockets, selectors and clocks that do what a script says.

They keep the promises of the real ones as far as the packages rely on them: a socket with nothing
to give raises BlockingIOError, an end of stream stays one, a selector never wakes up early. What
a real kernel does once in a million times (one byte taken, EINTR, a reset) they do on demand.
"""

from __future__ import annotations

import selectors
import socket
from collections import deque


class ScriptedSocket:
    """A socket that follows scripts instead of a network.

    Args:
        recv: what `recv()` and `recvmsg()` meet in turn: bytes, `b""` for the end of the stream,
            or an exception to raise. Afterwards there is nothing to read.
        send: how many bytes each `send()` takes, or an exception to raise. Afterwards all is
            taken, or nothing if `full` is true. A socket of packets takes each one whole.
        accept: what `accept()` meets in turn: a pair of socket and address, or an exception.
        error: what `SO_ERROR` says, once.
    """

    def __init__(
        self,
        *,
        recv=(),
        send=(),
        accept=(),
        error=0,
        full=False,
        kind=socket.SOCK_STREAM,
        family=socket.AF_UNIX,
        fd=99,
    ):
        self.type = kind
        self.family = family
        self.incoming = deque(recv)
        self.takes = deque(send)
        self.waiting = deque(accept)
        self.error = error
        self.full = full
        self.sent = bytearray()
        self.packets = []  # what was sent, one by one
        self.calls = []  # the names of the system calls that were made
        self.closed = False
        self._fd = fd
        self._timeout = None

    def fileno(self):
        return -1 if self.closed else self._fd

    def gettimeout(self):
        return self._timeout

    def settimeout(self, timeout):
        self._timeout = timeout

    def setblocking(self, blocking):
        self._timeout = None if blocking else 0.0

    def setsockopt(self, *option):
        pass

    def getsockopt(self, _level, option, size=0):
        if option == socket.SO_ERROR:
            error, self.error = self.error, 0
            return error
        return bytes(size) if size else 0

    def recv(self, size, _flags=0):
        self.calls.append("recv")
        step = self._next()
        if len(step) > size and self.type == socket.SOCK_STREAM:
            self.incoming.appendleft(step[size:])
        return step[:size]

    def recvmsg(self, size, _ancillary_size=0, _flags=0):
        self.calls.append("recvmsg")
        step = self._next()
        return step[:size], [], socket.MSG_TRUNC if len(step) > size else 0, None

    def _next(self):
        if not self.incoming:
            raise BlockingIOError
        step = self.incoming[0]
        if step == b"" and self.type != socket.SOCK_DGRAM:
            return b""  # for ever
        self.incoming.popleft()
        if isinstance(step, BaseException):
            raise step
        return step

    def send(self, data, _flags=0):
        self.calls.append("send")
        if self.takes:
            step = self.takes.popleft()
        elif self.full:
            step = BlockingIOError()
        else:
            step = len(data)
        if isinstance(step, BaseException):
            raise step
        self.sent += bytes(data[:step])
        self.packets.append(bytes(data[:step]))
        return min(step, len(data))

    def accept(self):
        self.calls.append("accept")
        if not self.waiting:
            raise BlockingIOError
        step = self.waiting.popleft()
        if isinstance(step, BaseException):
            raise step
        return step

    def close(self):
        self.closed = True


class CountedSocket(socket.socket):
    """A real socket that notes how many bytes each `send()` took."""

    def __init__(self, sock):
        super().__init__(sock.family, sock.type, fileno=sock.detach())
        self.writes = []

    def send(self, *args):
        sent = super().send(*args)
        self.writes.append(sent)
        return sent


class FakeClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds


class WouldWaitForEver(AssertionError):
    """A selector was asked to wait without a timeout, and nothing could ever happen."""


class ClockedSelector:
    """A real selector whose waiting is done by a fake clock, so that no test ever waits.

    Instead of sleeping, it does the next thing of `meanwhile`, a list of `(seconds, action)`, or
    lets the rest of the timeout pass. `timeouts` notes how each call was made; more than
    `most_calls` of them is a busy loop.
    """

    def __init__(self, clock, *, selector=None, most_calls=1000):
        self.clock = clock
        self.inner = selectors.DefaultSelector() if selector is None else selector
        self.meanwhile = deque()
        self.timeouts = []
        self.most_calls = most_calls

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def select(self, timeout=None):
        self.timeouts.append(timeout)
        assert len(self.timeouts) <= self.most_calls, "busy loop"
        left = timeout
        while True:
            ready = self.inner.select(0)
            if ready:
                return ready
            if self.meanwhile and (left is None or self.meanwhile[0][0] <= left):
                seconds, action = self.meanwhile.popleft()
                self.clock.advance(seconds)
                left = None if left is None else left - seconds
                action()
            elif left is None:
                raise WouldWaitForEver
            else:
                self.clock.advance(left)
                return []


class RefusingSelector(selectors.DefaultSelector):
    """A real selector that refuses to register once `refuse` is set to an exception."""

    refuse: OSError | None = None

    def register(self, fileobj, events, data=None):
        if self.refuse is not None:
            raise self.refuse
        return super().register(fileobj, events, data)
