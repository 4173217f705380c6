"""A client that waits: `connect()`, for scripts and for programs with threads.

There is no thread of its own. Of the threads that wait for answers one leads: it turns the loop,
sends what the others ask for, and wakes them when their answers come. When its own has come, it
hands the lead to another that waits. So a program with one thread does all in that thread: a call
costs no switch between threads, Ctrl-C ends the wait at once, and what a callback raises comes out
of the call. A thread for each connection would make each call wait for two switches, would be gone
in a forked child, and would have callbacks run where nobody waits for them.

The rule here: who leads owns the `Client` and its mux, nobody else touches them, and each thread
looks after its own time. Ctrl-C may come at any line, in the thread that leads or in one that does
not: the lead is then handed on, and the calls of others go on.
"""

from __future__ import annotations

import errno
import socket
import sys
import warnings
from collections import deque
from collections.abc import Callable
from functools import partial
from threading import TIMEOUT_MAX, Lock, RLock, get_ident
from time import monotonic
from typing import Any, NoReturn

from eventmux import EventMux
from eventmux._forking import tell_of_forks
from eventmux.events import Closed, Error, Event, Ready, Timeout
from rpcasync._log import log
from rpcasync.arguments.known import signature_of
from rpcasync.arguments.misfits import misfit
from rpcasync.calls import Call, Reply, Telling, remote_error
from rpcasync.client import Client
from rpcasync.coderefs import Coderef
from rpcasync.errors import (
    ArgumentError,
    CallCancelled,
    CallTimeout,
    Disconnected,
    RemoteError,
    RPCError,
)
from rpcasync.loss import nobody_there
from rpcasync.urls import is_stream_url
from rpcasync.wire.codecs import Codec
from rpcasync.wire.deadlines import check_seconds
from rpcasync.wire.framing import DEFAULT_MAX_PACKET

__all__ = ["BlockingClient", "connect"]

_GRACE = 5.0  # seconds that a server has to read what is queued, and a program of ours to end
_NO_GATE = Lock()  # nobody waits at this
_PEEK = getattr(socket, "MSG_DONTWAIT", 0) | socket.MSG_PEEK


def connect(
    url: str,
    *args: str,
    timeout: float | None = 30.0,
    codec: str | Codec = "storable",
    max_packet: int = DEFAULT_MAX_PACKET,
) -> BlockingClient:
    """Connect to a server whose procedures are then called like functions, from any thread.

    It waits until the connection is up. A `python://` or `perl://` URL starts the program. See
    `BlockingClient`.

    Args:
        url: `tcp://host:port`, `unix://path`, or a program to start.
        args: arguments for a program that is started.
        timeout: seconds to wait for the connection, and for each answer; None is for ever.
        codec: "storable", "json", or a codec of your own.
        max_packet: bytes in one packet, both ways.

    Raises:
        OSError: nobody is there, the name is unknown, the program cannot be started...
        TimeoutError: the connection is not up in time.
        URLError: the URL is not understood.
        ValueError: an option is wrong, as for `Client`.
    """
    return BlockingClient(url, *args, timeout=timeout, codec=codec, max_packet=max_packet)


class BlockingClient:
    """Calls the procedures of a server and waits for each answer; made by `connect()`.

        import rpcasync

        with rpcasync.connect("tcp://127.0.0.1:7007") as calc:
            print(calc.add_numbers(n1=2, n2=3)["sum"])

    Any attribute that is not listed below is a procedure: `calc.add_numbers(...)` is short for
    `calc.call("add_numbers", ...)`. It returns a `Reply` or raises what went wrong.

    All threads of a process may use it at the same time, over its one connection. A forked child
    may not: it connects itself. At the end of a `with` block it is closed; one that is dropped
    while it is connected is closed with a ResourceWarning, as files and sockets are.

    Functions among the arguments are callbacks that the server can call. They run while a call
    waits, in the thread that waits; where several do, in any of them, one at a time. What one
    raises ends the call that it was passed with, whose functions are not called any more. It may
    make calls itself; it must not wait for another thread that makes some.

    Args:
        server: a URL, or a connected socket.
        args: arguments for a program that is started.
        timeout: seconds to wait for the connection, and for each answer; None is for ever.
        codec: "storable", "json", or a codec of your own.
        max_packet: bytes in one packet, both ways.
    """

    def __init__(
        self,
        server: str | socket.socket,
        *args: str,
        timeout: float | None = 30.0,
        codec: str | Codec = "storable",
        max_packet: int = DEFAULT_MAX_PACKET,
    ) -> None:
        self._timeout = None if timeout is None else check_seconds("timeout", timeout)
        self._mutex = RLock()  # for the next three; a finalizer, or a signal handler, may call us
        self._leader: _Request | None = None
        self._waiting: dict[_Request, None] = {}  # those that do not lead, oldest first
        self._why_not = ""  # there are no more calls
        self._orders: deque[Callable[[], None]] = deque()  # what the leader is to do
        self._is_inherited = False  # by a forked child
        self._mux = EventMux()
        try:
            self._connection = _Connection(
                self._mux, server, *args, codec=codec, max_packet=max_packet
            )
            if isinstance(server, str) and is_stream_url(server):
                self._connection.wait_until_up(timeout)
        except BaseException:
            self._mux.__exit__()
            raise
        tell_of_forks(self, BlockingClient._inherit)
        self._is_open = True  # last: it has the finalizer do something

    def __getattr__(self, name: str) -> Callable[..., Reply]:
        """Return what calls the procedure of that name."""
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return partial(self.call, name)

    def __repr__(self) -> str:
        """Show where it is connected to, or that it is not any more."""
        state = f", {self._why_not}" if self._why_not else ""
        return f"<BlockingClient of {self._connection.name}{state}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled."""
        raise TypeError(f"cannot copy or pickle {self!r}: call connect() where it is needed")

    def __enter__(self) -> BlockingClient:
        """Return the client itself; the end of the block closes it."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    def __del__(self) -> None:
        """Close what nobody has any more, and say that nobody has."""
        if not self.__dict__.get("_is_open") or sys.is_finalizing():
            return
        try:
            if not self.closed:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
        finally:
            self._shut()

    # Calls

    def call(self, procedure: str, /, *args: object, **named: object) -> Reply:
        """Call a procedure with values, then with names and values, and wait for its answer.

        After a `CallTimeout` the connection stays, and an answer that comes late is ignored. The
        server is not told: the procedure runs on.

        Raises:
            RemoteError: the server answered with an error.
            CallTimeout: there was no answer in time.
            Disconnected: the connection ended before the answer came. It may have run.
            EncodeError: an argument cannot be sent.
            QueueFull: too much is queued already for a server that does not read.
            CallCancelled: Ctrl-C came while another thread was sending this call. It may have run.
            RuntimeError: the process has forked, and this is the child; or 32 callbacks wait for
                answers, each called while the one before waits.
            Exception: what a callback raised that was passed with this call.
        """
        if not isinstance(procedure, str):
            raise TypeError(f"procedure is {procedure!r}, must be a str")
        values = [*args]
        for pair in named.items():
            values += pair
        request = _Request(self._connection, procedure, values)
        try:
            try:
                if self._enter(request):
                    self._connection.take_over()
                    self._begin(request)
                    self._lead(request, self._timeout)
                elif self._follow(request):
                    self._connection.take_over()
                    self._lead(request, request.seconds_left())
            finally:
                self._leave(request)
        except BaseException:  # Ctrl-C, perhaps just before or while it leaves
            self._leave(request)
            raise
        if request.failure is not None:
            raise request.failure
        if not request.done:
            raise CallTimeout(f"{procedure}: no answer within {self._timeout} seconds")
        return request.result()

    @property
    def closed(self) -> bool:
        """True once the connection has ended, or was closed, or belongs to a parent process.

        It looks, and does not wait. A server may still end before a call reaches it.
        """
        return bool(self._why_not) or self._connection.has_ended

    def close(self) -> None:
        """End the connection, from any thread; twice is once.

        Calls that wait in other threads fail with `Disconnected`, and so do all that come later.
        It waits until what is queued has been sent, up to 5 seconds; and for a program that was
        started: it has 5 seconds to end by itself before it gets SIGTERM, and then 5 before
        SIGKILL. From a callback it does not wait: the rest is done by the next `close()`.
        """
        request = _Request(self._connection, "close", [])
        try:
            try:
                self._close(request)
            finally:
                self._leave(request)
        except BaseException:  # as in call()
            self._leave(request)
            raise

    # Who leads

    def _enter(self, request: _Request, *, is_last: bool = False) -> bool:
        """Return True if this thread is to turn the loop; else the leader is told."""
        with self._mutex:
            if is_last:
                if not self._is_open or self._is_inherited:
                    self._shut()
                    request.is_given_up = True
                    return False
                self._why_not = "closed"
            elif self._why_not:
                self._refuse(request.procedure)
            leader = self._leader
            if leader is None:
                self._leader = request
                return True
            if leader.thread == request.thread:  # a callback calls us: its thread leads already
                return True
            request.gate = Lock()
            request.gate.acquire()
            request.wake = self._wake, (request,), {}
            if self._timeout is not None and not is_last:
                request.due = monotonic() + self._timeout
            self._waiting[request] = None
        self._order(self._hurry if is_last else partial(self._begin, request))
        return False

    def _refuse(self, procedure: str) -> NoReturn:
        if self._is_inherited:
            raise RuntimeError(f"{procedure}: {self!r}: call connect() in this process")
        raise Disconnected(f"{procedure}: {self._connection.name}: {self._why_not}")

    def _order(self, order: Callable[[], None]) -> None:
        """Have the leader do something, or the next one if there is none."""
        self._orders.append(order)
        # Each time: the leader may have just done the order before this one, and wait again.
        self._mux.post(Event(self._connection.fh))

    def _follow(self, request: _Request) -> bool:
        """Wait; return True if this thread leads now, False if there is nothing to wait for."""
        while not request.is_given_up:
            left = request.seconds_left()
            if not request.gate.acquire(timeout=-1 if left is None else min(left, TIMEOUT_MAX)):
                return False
            with self._mutex:
                if self._leader is request:
                    return True
                if request not in self._waiting:  # it was told
                    return False
        return False

    def _lead(self, request: _Request, timeout: float | None) -> None:
        """Turn the loop until the call has ended, or its time is over."""
        if not self._is_open:  # by another thread, just now
            self._refuse(request.procedure)
        orders = self._orders

        def is_over() -> bool:
            if orders:
                self._obey()
            return request._outcome is not None or request.failure is not None

        self._connection._run_until(is_over, timeout)

    def _obey(self) -> None:
        """Do what others have asked for. What is interrupted is done again, by the next leader."""
        orders = self._orders
        while orders:
            orders[0]()
            del orders[0]

    def _begin(self, request: _Request) -> None:
        """Send a call, once."""
        connection = self._connection
        if request.is_over:
            return
        if request.is_begun:  # a leader was interrupted here, and this may have been sent or not
            connection.abandon(request)
            request.fail(
                CallCancelled(
                    f"{request.procedure}: Ctrl-C came while another thread was sending it; it may"
                    " have run"
                )
            )
            return
        request.is_begun = True
        try:
            connection.begin(request)
        except Exception as error:  # noqa: BLE001  # it is raised in the thread that has called
            request.fail(error)

    def _wake(self, request: _Request) -> None:
        """Wake the thread whose call has ended."""
        with self._mutex:
            # In this order, since Ctrl-C may come in between: to be woken twice does no harm.
            if request in self._waiting and request.gate.locked():
                request.gate.release()
            self._waiting.pop(request, None)

    def _leave(self, request: _Request) -> None:
        """Have no part any more: hand on the lead, and have nobody wait for the answer.

        Twice is once, also where the first time was interrupted.
        """
        if request._outcome is None and request.failure is None:
            request.is_given_up = True
            if request.wake is not None:  # it is another thread that has sent it, or will
                self._order(partial(self._connection.abandon, request))
            elif request.is_begun:
                self._connection.abandon(request)
        with self._mutex:
            self._waiting.pop(request, None)
            if self._leader is not request:
                return
            if sys.exc_info()[0] is not None:
                self._wake_forgotten()
            successor = next(iter(self._waiting), None)
            if successor is not None and successor.gate.locked():
                successor.gate.release()  # it waits for the mutex then, to see that it leads
            self._leader = successor
            if successor is not None:
                del self._waiting[successor]

    def _wake_forgotten(self) -> None:
        """Wake those whose answer has come; the leader may be interrupted before it does."""
        for request in [request for request in self._waiting if request.is_over]:
            if request.gate.locked():
                request.gate.release()
            del self._waiting[request]

    # The end

    def _close(self, request: _Request) -> None:
        if not self._enter(request, is_last=True) and not self._follow(request):
            return
        if not self._is_open:  # another thread was first
            return
        self._connection.take_over()
        self._connection.disconnect(_GRACE)
        if self._leader is request:
            self._finish()

    def _hurry(self) -> None:
        """End the connection, as the leader: all calls fail as the loop turns."""
        self._connection.disconnect(_GRACE)

    def _finish(self) -> None:
        """Turn the loop until the connection and its program have ended; then let go of all."""
        while True:
            self._obey()  # those fail as well
            event = self._mux.mux()
            if event is None:
                break
            self._connection.io(event)
        self._shut()

    def _shut(self) -> None:
        if self._is_open:
            self._is_open = False
            self._mux.__exit__()

    def _inherit(self) -> None:
        """Refuse all calls: this is a forked child, and the connection is the parent's."""
        self._mutex = RLock()  # a thread that is not here any more may have had it
        self._leader = None
        self._waiting.clear()
        self._orders.clear()
        self._is_inherited = True
        self._why_not = self._why_not or "a connection of the parent process"


class _Request(Call):
    """A call, and the thread that waits for it."""

    __slots__ = ("due", "failure", "gate", "is_begun", "is_given_up", "running", "thread", "wake")

    def __init__(self, connection: _Connection, procedure: str, args: list[object]) -> None:
        super().__init__(connection, procedure, args, None)
        self.thread = get_ident()
        self.gate = _NO_GATE
        """What its thread waits at, if it does not lead."""
        self.due: float | None = None
        """When its time is over, if its thread does not lead from the start."""
        self.failure: Exception | None = None
        """What is raised in place of an answer, of any kind."""
        self.is_begun = False
        """A leader has sent it, or was about to."""
        self.is_given_up = False
        """Its thread waits no more."""
        self.running = 0
        """How many of the functions run that were passed with it, one in another."""
        self.wake: Telling | None = None
        """How its thread is told; None if it leads."""

    @property
    def is_over(self) -> bool:
        """True if there is nothing to wait for."""
        return self._outcome is not None or self.failure is not None or self.is_given_up

    def seconds_left(self) -> float | None:
        """Return how long to wait; None is for ever."""
        return None if self.due is None else max(0.0, self.due - monotonic())

    def fail(self, error: Exception) -> None:
        """End it with an exception for its thread, which is woken."""
        self.failure = error
        self.tell()

    def tell(self) -> None:
        """Wake its thread, if that does not lead, and none of the call's callbacks runs."""
        if self.wake is not None and not self.running:
            self.wake[0](*self.wake[1])

    # What the client tells it.

    def _answered(self, values: list[object]) -> Telling | None:
        self._outcome = values
        return None if self.running else self.wake

    def _failed(self, error: RPCError) -> Telling | None:
        self._outcome = error
        return None if self.running else self.wake


class _Connection(Client):
    """A client that goes from thread to thread, and lets whoever leads it send and wait."""

    @property
    def name(self) -> str:
        """The server, for messages."""
        return self._name

    @property
    def has_ended(self) -> bool:
        """True if the server has ended the connection, or we have; any thread may ask."""
        try:
            return not self.fh.recv(1, _PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def take_over(self) -> None:
        """Belong to this thread."""
        self._thread = get_ident()

    def wait_until_up(self, timeout: float | None) -> None:
        """Wait until the server has accepted.

        Raises:
            OSError: it does not.
        """
        end = None if timeout is None else monotonic() + timeout
        error: Error | None = None
        while True:
            event = self._mux.mux(None if end is None else max(0.0, end - monotonic()))
            if event is not None:
                self.io(event)
            if isinstance(event, Ready):
                return
            if isinstance(event, Timeout):
                text = f"cannot connect to {self._name}: no answer within {timeout} seconds"
                raise OSError(errno.ETIMEDOUT, text)
            if isinstance(event, Error):
                error = error or event
            if event is None or isinstance(event, Closed):
                raise _reason(self._name, error)

    def begin(self, request: _Request) -> None:
        """Send a call."""
        try:
            self._outbox.put(request, request.args)
            if self._protocol._callbacks:
                self._adopt(request)
        except BaseException:  # Ctrl-C, say
            self._protocol.withdraw(request)
            raise

    def _adopt(self, request: _Request) -> None:
        """Have what the functions raise that were passed with a call come out of that call."""
        functions: dict[Any, Any] = self._protocol._callbacks
        for id in reversed(list(functions)):  # noqa: A001  # the last ones are those of this call
            function = functions[id]
            if isinstance(getattr(function, "__self__", None), _Passed):
                break
            if not isinstance(function, Coderef):
                functions[id] = _Passed(self, request, function).run

    def tell(self, function: Callable[..., object], values: list[object]) -> None:
        """Call a function that was passed with a call, as the server has said just now.

        Raises:
            ArgumentError: the values do not fit.
        """
        signature = signature_of(function)
        try:
            args, named = signature.bind(values)
        except ArgumentError as error:
            raise misfit(self._inbox._whose(), function, signature, values, error) from None
        function(*args, **named)

    def _remote_error(self, procedure: str, text: str) -> RemoteError:
        return remote_error(text, procedure, BlockingClient)

    def abandon(self, request: _Request) -> None:
        """Ignore the answer, should it come."""
        if self._protocol.pending.get(request.id) is request:
            self._protocol.abandon(request.id)


class _Passed:
    """A function that was passed with a call."""

    __slots__ = ("_connection", "_function", "_request")

    def __init__(
        self, connection: _Connection, request: _Request, function: Callable[..., object]
    ) -> None:
        self._connection = connection
        self._request = request
        self._function = function

    def run(self, *values: object) -> None:
        """Call it for the server, unless one that was passed with the same call has raised."""
        request = self._request
        if request.failure is not None:
            return
        request.running += 1
        try:
            self._connection.tell(self._function, [*values])
        except Exception as error:  # noqa: BLE001  # it is raised in the thread that has called
            if request.is_over:
                log.error("callback of %s failed", request.procedure, exc_info=error)
            else:
                self._connection.abandon(request)
                request.failure = error
        finally:
            request.running -= 1
            if request.is_over:
                request.tell()


def _reason(name: str, error: Error | None) -> OSError:
    """Return why a connection did not come up."""
    if error is None:
        return OSError(errno.EIO, f"cannot connect to {name}: it ended")
    kind = socket.gaierror if isinstance(error.exception, socket.gaierror) else OSError
    return kind(error.errno or errno.EIO, f"cannot connect to {name}: {nobody_there(error.error)}")
