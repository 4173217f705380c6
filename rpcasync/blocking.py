"""A client that waits: `connect()`, for scripts and for programs with threads.

There is no thread of its own. Of the threads that wait for answers one leads: it turns the loop,
sends what the others ask for, and wakes them when their answers come. When its own has come, it
hands the lead to another that waits. So a program with one thread does all in that thread: a call
costs no switch between threads, Ctrl-C ends the wait at once, and what a callback raises comes out
of the call. A thread for each connection would make each call wait for two switches, would be gone
in a forked child, and would have callbacks run where nobody waits for them.

The rule here: who leads owns the connection and its mux, nobody else touches them, and each thread
looks after its own time. How the lead goes from one to the next is in `leading/`.
"""

from __future__ import annotations

import socket
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from eventmux import EventMux
from eventmux._forking import tell_of_forks
from eventmux._nearest import tells_options
from rpcasync.backoff import Backoff
from rpcasync.calls import Reply, check_procedure
from rpcasync.errors import never_sent
from rpcasync.leading.connection import Connection
from rpcasync.leading.lasting import LastingConnection
from rpcasync.leading.lead import Lead
from rpcasync.leading.requests import Request
from rpcasync.leading.sending import begin
from rpcasync.opening import checked_single
from rpcasync.urls import is_stream_url, is_tls_url
from rpcasync.wire.codecs import Codec
from rpcasync.wire.deadlines import check_timeout
from rpcasync.wire.framing import DEFAULT_MAX_PACKET

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["BlockingClient", "connect"]

_GRACE = 5.0  # seconds that a server has to read what is queued, and a program of ours to end
_MOST_INTERRUPTS = 1000  # while one call is left: a handler of signals that fails each time ends


def connect(
    url: str | list[str],
    *args: str,
    timeout: float | None = 30.0,
    codec: str | Codec = "storable",
    max_packet: int = DEFAULT_MAX_PACKET,
    tls: SSLContext | None = None,
    server_hostname: str | None = None,
    reconnect: Backoff | None = None,
    retry: Literal["unsent", "idempotent"] | None = None,
) -> BlockingClient:
    """Connect to a server whose procedures are then called like functions, from any thread.

    It waits until the connection is up; with `reconnect` until a server has answered, and tries
    again and again. A `python://` or `perl://` URL starts the program. See `BlockingClient`.

    Args:
        url: `tcp://host:port`, `tls://host:port`, `unix://path`, or a program to start; with
            `reconnect` one of the first three, or a list of them.
        args: arguments for a program that is started.
        timeout: seconds to wait for the connection, and for each answer; None is for ever.
        codec: "storable", "json", or a codec of your own.
        max_packet: bytes in one packet, both ways.
        tls: for `tls://`, as for `Client`.
        server_hostname: as for `Client`.
        reconnect: connect again when the connection is lost, after such a time, as for `Client`.
        retry: which calls are sent again then, as for `Client`.

    Raises:
        OSError: nobody is there, the name is unknown, the program cannot be started...
        TLSError: an OSError of `eventmux`: there is no TLS with this server; `reason` says why.
        TimeoutError: the connection is not up in time.
        URLError: the URL is not understood.
        ValueError: an option is wrong, as for `Client`.
        TypeError: there is a list of URLs, or `retry`, without `reconnect`.
    """
    return BlockingClient(
        url,
        *args,
        timeout=timeout,
        codec=codec,
        max_packet=max_packet,
        tls=tls,
        server_hostname=server_hostname,
        reconnect=reconnect,
        retry=retry,
    )


class BlockingClient:
    """Calls the procedures of a server and waits for each answer; made by `connect()`.

        import rpcasync

        with rpcasync.connect("tcp://127.0.0.1:7007") as calc:
            print(calc.add_numbers(n1=2, n2=3)["sum"])

    Any attribute that is not listed below is a procedure: `calc.add_numbers(...)` is short for
    `calc.call("add_numbers", ...)`. It returns a `Reply` or raises what went wrong.

    All threads of a process may use it at the same time, over one connection. A forked child
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
        tls: for `tls://`, as for `Client`.
        server_hostname: as for `Client`.
        reconnect: as for `connect()`; `server` is then a URL, or a list of them.
        retry: as for `connect()`.
    """

    def __init__(
        self,
        server: str | socket.socket | list[str],
        *args: str,
        timeout: float | None = 30.0,
        codec: str | Codec = "storable",
        max_packet: int = DEFAULT_MAX_PACKET,
        tls: SSLContext | None = None,
        server_hostname: str | None = None,
        reconnect: Backoff | None = None,
        retry: Literal["unsent", "idempotent"] | None = None,
    ) -> None:
        self._timeout = check_timeout(timeout)
        self._timeouts: dict[str, float | None] = {}  # of single procedures
        self._why_not = ""  # there are no more calls; under the mutex of the lead
        self._is_inherited = False  # by a forked child
        self._mux = EventMux()
        options: dict[str, Any] = {
            "codec": codec,
            "max_packet": max_packet,
            "tls": tls,
            "server_hostname": server_hostname,
        }
        try:
            self._connection: Connection | LastingConnection
            if reconnect is None:
                one = checked_single(server, retry)
                self._connection = connection = Connection(self._mux, one, *args, **options)
                url = one if isinstance(one, str) else ""
                connection.is_encrypted = tls is not None or is_tls_url(url)
                is_awaited = connection.is_encrypted or is_stream_url(url)
            else:
                options |= {"reconnect": reconnect, "retry": retry}
                self._connection = LastingConnection(self._mux, server, *args, **options)
                is_awaited = True
            self._connection.front = BlockingClient
            if is_awaited:
                self._connection.wait_until_up(timeout)
        except BaseException:
            self._mux.__exit__()
            raise
        # Neither refers to us: one that nobody has any more is closed at once.
        self._lead = Lead(partial(self._mux.post, self._connection.wake_event))
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
            Disconnected: the connection ended before the answer came. The call may have run,
                unless `may_have_run` is False.
            EncodeError: an argument cannot be sent.
            QueueFull: too much is queued already for a server that does not read.
            CallCancelled: Ctrl-C came while another thread was sending this call. It may have run.
            RuntimeError: the process has forked, and this is the child; or 32 callbacks wait for
                answers, each called while the one before waits.
            Exception: what a callback raised that was passed with this call.
        """
        if not isinstance(procedure, str):
            check_procedure(procedure)
        values = [*args]
        for pair in named.items():
            values += pair
        request = Request(self._connection, procedure, values)
        request.timeout = self._timeout
        if self._timeouts:
            request.timeout = self._timeouts.get(procedure, self._timeout)
        try:
            self._take_part(request, self._ask)
            return request.reply(request.timeout)
        finally:
            del request, values  # as in reply()

    @tells_options
    def set_options(self, procedure: str, /, *, timeout: float | None) -> None:
        """Say how calls of one procedure are made from now on, in whatever thread.

        Args:
            procedure: its name; there need not be one.
            timeout: seconds to wait for an answer, in the place of those of the client; None is
                for ever.

        Raises:
            ValueError: `timeout` is negative, infinite or NaN.
            TypeError: it is no number, or the name of the procedure no str.
        """
        self._timeouts[check_procedure(procedure)] = check_timeout(timeout)

    @property
    def closed(self) -> bool:
        """True once the connection has ended, or was closed, or belongs to a parent process.

        It looks, and does not wait. A server may still end before a call reaches it. One that
        connects again has ended when it was closed.
        """
        return bool(self._why_not) or self._connection.has_ended

    def close(self) -> None:
        """End the connection, from any thread; twice is once.

        Calls that wait in other threads fail with `Disconnected`, and so do all that come later.
        It waits until what is queued has been sent, up to 5 seconds; and for a program that was
        started: it has 5 seconds to end by itself before it gets SIGTERM, and then 5 before
        SIGKILL. From a callback it does not wait: the rest is done by the next `close()`.
        """
        self._take_part(Request(self._connection, "close", []), self._end)

    # What a thread does that takes part

    def _take_part(self, request: Request, act: Callable[[Request], None]) -> None:
        """Do something, and leave, even if Ctrl-C comes just before that, or in the middle."""
        try:
            try:
                act(request)
            finally:
                self._leave(request)
        except BaseException:
            self._leave_at_last(request)
            raise

    def _ask(self, request: Request) -> None:
        """Have a call sent, and wait until it has ended or its time is over."""
        lead, connection, timeout = self._lead, self._connection, request.timeout
        with lead.mutex:
            if self._why_not:
                self._refuse(request.procedure)
            is_leading = lead.enter(request)
        if is_leading:
            connection.take_over()
            begin(connection, request)
        else:
            lead.order(partial(begin, connection, request))
            if not lead.follow(request, timeout):
                return
            if not self._is_open:  # another thread has closed it, just now
                self._refuse(request.procedure)
            connection.take_over()
            timeout = request.seconds_left()

        def is_over() -> bool:
            lead.obey()
            return request.has_outcome

        connection.wait_until(is_over, timeout)

    def _refuse(self, procedure: str) -> NoReturn:
        if self._is_inherited:
            raise RuntimeError(f"{procedure}: {self!r}: call connect() in this process")
        raise never_sent(f"{procedure}: {self._connection.name}: {self._why_not}")

    def _end(self, request: Request) -> None:
        """Close the connection, and let go of all; a callback that runs has to end before that."""
        lead, connection = self._lead, self._connection
        if self._is_inherited:
            self._shut()
            return
        with lead.mutex:
            if not self._is_open:
                return
            self._why_not = "closed"
            is_leading = lead.enter(request)
        if not is_leading:
            lead.order(partial(connection.disconnect, _GRACE))  # all calls fail as the loop turns
            if not lead.follow(request, None) or not self._is_open:
                return  # another thread was first
        connection.take_over()
        connection.disconnect(_GRACE)
        if lead.leader is request:  # else this is a callback
            self._finish()

    def _leave(self, request: Request) -> None:
        """Have nobody wait for the answer, and hand on the lead; twice is once."""
        connection = self._connection
        if not request.has_outcome:
            request.is_given_up = True
            if request.waker is None or self._lead.leader is request:
                connection.abandon(request)
            else:  # it is another thread that has sent it, or will
                self._lead.order(partial(connection.abandon, request))
        self._lead.leave(request)
        request.has_left = True

    def _leave_at_last(self, request: Request) -> None:
        """Leave, although that is interrupted again and again: others wait for the lead."""
        interrupt: BaseException | None = None
        try:
            for _ in range(_MOST_INTERRUPTS):
                if request.has_left:
                    break
                try:
                    self._leave(request)
                except BaseException as error:  # noqa: BLE001  # it is raised when we have left
                    interrupt = error
            if interrupt is not None:
                raise interrupt
        finally:
            del interrupt  # its traceback has this frame

    # The end

    def _finish(self) -> None:
        """Turn the loop until the connection and its program have ended; then let go of all."""
        while True:
            self._lead.obey()  # those calls fail as well
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
        self._lead.abandon_all()
        self._is_inherited = True
        self._why_not = self._why_not or "a connection of the parent process"
