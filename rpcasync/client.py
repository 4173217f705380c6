"""`Client`: the shell that joins a mux on one side and the core on the other.

It makes calls, waits for them, and knows when their time is over. What leaves goes through
`outbox.py`; what the server sends is handed over by `inbox.py`; and what comes of a connection that
ends, `loss.py` says. Every decision about bytes is the core's.

Ctrl-C may come at any line. So a call is pending until its callback is called, and an event that
was not seen to, to its end, comes again.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import subprocess
from collections.abc import Callable, Mapping
from threading import get_ident
from typing import IO, Any, TypeVar, cast

from eventmux import EventMux, Watch
from eventmux._nearest import tells_options
from eventmux.events import Closed, Event, MaybeNone, SomeEvent
from rpcasync._log import log
from rpcasync.calls import Call, remote_error
from rpcasync.errors import CallCancelled, CallTimeout, ProtocolError, RemoteError
from rpcasync.inbox import Inbox, first_of
from rpcasync.loss import BY_SERVER, Loss
from rpcasync.outbox import NOT_WATCHED, Outbox
from rpcasync.unsent import Unsent
from rpcasync.urls import check_stream, connect_stream, is_stream_url, url_disconnect
from rpcasync.wire.codecs import DEFAULT_MAX_ITEMS, Codec, check_limit, get_codec
from rpcasync.wire.deadlines import check_seconds
from rpcasync.wire.framing import DEFAULT_MAX_PACKET, check_max_packet
from rpcasync.wire.messages import Id
from rpcasync.wire.protocol import ClientProtocol

__all__ = ["Client"]


F = TypeVar("F", bound=Callable[..., None])


def _mux_comes_first(init: F) -> F:
    """Have `Client(url)` say so, before Python misses another argument."""

    @functools.wraps(init)
    def checked(self: object, *args: object, **options: object) -> None:
        if args and isinstance(args[0], str):
            raise TypeError(f"Client({args[0]!r}): the mux comes first: Client(mux, {args[0]!r})")
        init(self, *args, **options)

    return cast("F", checked)


class Client:
    """Calls the procedures of a server.

        mux = EventMux()
        rpc = Client(mux, "tcp://127.0.0.1:7007")
        rpc.add_numbers(lambda sum: print(sum), n1=2, n2=3)
        while rpc.has_requests():
            rpc.io(mux.mux())

    Any attribute that is not listed below is a procedure: `rpc.add_numbers(...)` is short for
    `rpc.call("add_numbers", ...)`. A procedure that is named like a member, such as `wait`, is
    called by `rpc.call("wait", ...)`. `fh` is the client's socket.

    A client belongs to the thread that made it: in another, calls, what concerns them, `io()` and
    `disconnect()` raise RuntimeError. At the end of a `with` block it disconnects.

    Args:
        mux: the mux that the program's loop runs.
        server: a URL, or a connected socket. Connecting to a URL does not wait; calls may be
            made at once. A `python://` or `perl://` URL starts the program.
        args: arguments for a program that is started.
        codec: "storable", "json", or a codec of your own.
        max_packet: bytes in one packet, both ways.
        timeout: seconds after which a call that is not answered fails with `CallTimeout`; None
            is never. `Call.set_timeout()` is for a single one.
        max_items: values in one packet of the server: what stands in its lists and hashes. From a
            server that sends more the client disconnects. A codec of your own has its own limit.
        max_outbuffer: bytes that may be queued for a server that does not read: beyond that, a
            call raises `QueueFull`. Default is four times `max_packet`.

    Raises:
        URLError: the URL is not understood.
        OSError: the program cannot be started.
        ValueError: there is no such codec, `max_packet` is not between 7 and 2**32 - 1, `timeout`
            is negative, infinite or NaN, or another limit is less than 1.
    """

    @_mux_comes_first
    @tells_options
    def __init__(
        self,
        mux: EventMux[Event],
        server: str | socket.socket,
        *args: str,
        codec: str | Codec = "storable",
        max_packet: int = DEFAULT_MAX_PACKET,
        timeout: float | None = None,
        max_items: int = DEFAULT_MAX_ITEMS,
        max_outbuffer: int | None = None,
    ) -> None:
        if max_outbuffer is None:
            max_outbuffer = 4 * check_max_packet(max_packet)
        check_limit("max_outbuffer", max_outbuffer)
        self._protocol = ClientProtocol(get_codec(codec, max_items), max_packet)
        self._mux = mux
        self._timeout = None if timeout is None else check_seconds("timeout", timeout)
        self._thread = get_ident()
        self._alarm: Watch | None = None  # the mux's timer for the next call that fails by itself
        self._alarm_due = 0.0
        self._name = server if isinstance(server, str) else repr(server)
        self._unseen: Event | None = None  # what `result()` has taken from the mux
        self._nested = 0  # how many wait, each in a callback of the one before
        self._gave_up = False  # what the server sent could not be understood
        self.fh = _open(mux, server, args)
        self._outbox = Outbox(mux, self.fh, self._protocol, max_outbuffer)
        self._inbox = Inbox(mux, self.fh, self._protocol, self._name, self._give_up)
        self._loss = Loss(mux, self.fh, self._protocol, self._inbox, self._name)
        self._unsent = Unsent(mux, self.fh, self._protocol, self._loss, self._name)

    def __getattr__(self, name: str) -> Callable[..., Call]:
        """Return what calls the procedure of that name."""
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        caller = functools.partial(self.call, name)
        self.__dict__[name] = caller
        return caller

    def __repr__(self) -> str:
        """Show where it is connected to and how many calls are pending."""
        return f"<Client of {self._name}, {len(self._protocol.pending)} calls pending>"

    def __enter__(self) -> Client:
        """Return the client itself; the end of the block disconnects."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Disconnect."""
        self.disconnect()

    # The server's process, if it was started for this client

    @property
    def process(self) -> subprocess.Popen[bytes] | MaybeNone:
        """The process of a server that was started for this client, else None."""
        return self._loss.process

    @property
    def stdout(self) -> IO[bytes] | MaybeNone:
        """Its stdout, where the URL asks for a pipe, else None; it can be added to the mux."""
        return getattr(self.fh, "stdout", None)

    @property
    def stderr(self) -> IO[bytes] | MaybeNone:
        """Its stderr, where the URL asks for a pipe, else None."""
        return getattr(self.fh, "stderr", None)

    # Calls

    def call(self, procedure: str, /, *args: object, **named: object) -> Call:
        """Call a procedure with values, then with names and values.

        The last of `args` is the callback if it can be called. Its signature says how it takes
        the answer, as with procedures: `def done(sum)` takes `sum => 5`, `def done(*values)`
        the list. An error goes to its parameter `error` or to its `**` if it has one, as an
        RPCError, and is raised out of `io()` if it has none. Without a callback the outcome is
        there for `Call.result()`.

        Any other function among the arguments, also inside of lists, tuples, dicts and
        ScalarRefs, is passed to the server as a callback: it may call it, any number of times,
        until it lets go of it. Its signature says how it takes the values.

        A call on a connection that has ended fails like one that was under way: with
        `Disconnected`, when the loop turns.

        Raises:
            EncodeError: an argument cannot be sent.
            ArgumentError: the callback can take no answer at all.
            QueueFull: too much is queued already for a server that does not read.
            TypeError: the name of the procedure is no str.
            RuntimeError: this is another thread than that which made the client.
        """
        if get_ident() != self._thread:
            self._check_thread()
        if not isinstance(procedure, str):
            raise TypeError(f"procedure is {procedure!r}, must be a str")
        values = [*args]
        callback: Any = values.pop() if values and callable(values[-1]) else None
        for pair in named.items():
            values += pair
        call = Call(self, procedure, values, callback)
        try:
            self._outbox.put(call, values)
            if self._timeout is not None:
                self._set_timeout(call, self._timeout)
        except BaseException:  # Ctrl-C, say: nobody has the call
            self._protocol.withdraw(call)
            raise
        return call

    def _relay(
        self, call: Call, values: list[object], payload: bytes, functions: Mapping[Id, object]
    ) -> None:
        """Make a call that came from another client, in the packet that it came in."""
        self._check_thread()
        try:
            self._outbox.relay(call, values, payload, functions)
            if self._timeout is not None:
                self._set_timeout(call, self._timeout)
        except BaseException:  # Ctrl-C, say: nobody has the call
            self._protocol.withdraw(call)
            raise

    def has_requests(self) -> bool:
        """True while a call is not answered."""
        return bool(self._protocol.pending)

    def has_coderefs(self) -> int:
        """Return how many functions the server may still call."""
        return len(self._protocol.callbacks)

    def dump_requests(self) -> Mapping[Id, Call]:
        """Return the calls that are not answered, by id, oldest first. It is live."""
        return cast("Mapping[Id, Call]", self._protocol.pending)

    def wait(self, timeout: float | None, *calls: Call | Id) -> bool:
        """Wait until the calls are answered, given as `Call` or id; without any, all of them.

        The mux runs meanwhile, as with `Call.result()`.

        Args:
            timeout: seconds to wait at most; None is for ever.
            calls: what to wait for.

        Returns:
            True if all are answered, False if the time is over.

        Raises:
            ValueError: `timeout` is negative, infinite or NaN.
            RuntimeError: this is another thread than that which made the client; or 32 functions
                that the server has called wait already, each called while the one before waits.
            Exception: what a callback raised meanwhile.
        """
        ids = {call.id if isinstance(call, Call) else call for call in calls}
        pending = self._protocol.pending
        if ids:
            return self._run_until(lambda: ids.isdisjoint(pending), timeout)
        return self._run_until(lambda: not pending, timeout)

    def _run_until(self, is_over: Callable[[], bool], timeout: float | None) -> bool:
        """Run the mux for this client alone until something is so; False if time is over."""
        self._check_thread()
        if timeout is not None:
            check_seconds("timeout", timeout)
        if self._nested >= _MOST_NESTED:
            raise RuntimeError(
                f"{self._nested} functions that the server calls wait for answers already: what"
                " waits in one is what calls the next"
            )
        deadline = None if timeout is None else self._mux.clock() + timeout
        self._nested += 1
        try:
            # If a callback calls us, the answers behind its own come first.
            _raise_if_any(self._take())
            while not is_over():
                if self._is_time_over(deadline):
                    return is_over()
        finally:
            self._nested -= 1
        return True

    def _is_time_over(self, deadline: float | None) -> bool:
        """Take the next event of this client alone; True if there is no time for another."""
        now = self._mux.clock
        left = None if deadline is None else max(0.0, deadline - now())
        try:
            self._unseen = event = self._mux.mux(left, only=self.fh)
            if event is not None:
                self.io(event)
        except BaseException:  # Ctrl-C, say: what is left to do is done on the next turn
            if self._unseen is not None:
                self._again(self._unseen)
            raise
        if event is None:  # there is nothing that could bring an answer, or the status of a process
            if self._loss.is_awaited:
                _raise_if_any(self._loss.fail())
            else:
                self.io(Closed(self.fh, reason=NOT_WATCHED))
            return not self._loss.is_awaited
        # The server may send without end. What tells only of the connection is no look at it.
        return event.type not in _OF_CONNECTION and deadline is not None and now() >= deadline

    def _check_thread(self) -> None:
        """Raise RuntimeError in another thread: neither the client nor its mux could stand it."""
        if get_ident() != self._thread:
            raise RuntimeError(
                f"{self!r} belongs to another thread: let that one call, and use mux.post()"
                " to tell it"
            )

    # Calls that take too long, or are not wanted any more

    def _set_timeout(self, call: Call, seconds: float | None) -> None:
        self._check_thread()
        call.timeout = None if seconds is None else check_seconds("timeout", seconds)
        if not call.done:
            due = None if seconds is None else self._mux.clock() + seconds
            self._protocol.set_deadline(call.id, due)
            self._set_alarm()

    def _next_due(self) -> float | None:
        """Return when the next call fails by itself; None if none does."""
        dues = self._protocol.next_deadline(), self._loss.due
        return min((due for due in dues if due is not None), default=None)

    def _set_alarm(self) -> None:
        """Have the mux wake us for the next call that fails by itself, and for nothing else."""
        due = self._next_due()
        if self._alarm is not None and (due is None or due < self._alarm_due):
            self._alarm.cancel()
            self._alarm = None
        if self._alarm is None and due is not None:
            self._alarm_due = due
            seconds = max(0.0, due - self._mux.clock())
            self._alarm = self._mux.timer(seconds, self, fh=self.fh)

    def _expire(self) -> Exception | None:
        """Fail the calls whose time is over; not those that their callbacks make."""
        now = self._mux.clock()
        first: Exception | None = None
        for _ in range(len(self._protocol.pending)):
            call = cast("Call | None", self._protocol.next_expired(now))
            if call is None:
                break
            error = CallTimeout(f"{call.procedure}: no answer within {call.timeout} seconds")
            first = self._inbox.fail(call, error, first)
        due = self._loss.due
        if due is not None and now >= due:
            return first_of(first, self._loss.fail())
        return first

    def _remote_error(self, procedure: str, text: str) -> RemoteError:
        """Return the error that a server has answered with."""
        if procedure in vars(self):  # else the program says call("disconnect"), and means it
            return remote_error(text, procedure, type(self))
        return RemoteError(text)

    def _cancel(self, call: Call) -> bool:
        self._check_thread()
        if call.done:
            return False
        call._drop(CallCancelled(f"{call.procedure}: cancelled"))
        self._protocol.abandon(call.id)
        self._set_alarm()
        return True

    # Events

    def io(self, event: SomeEvent) -> SomeEvent | None:
        """Take an event if it is this client's; return it if it is not.

        Callbacks run from here. If one raises, the others still run, and then the exception is
        raised; of several, the first, and the others are logged.

        Raises:
            RPCError: a call failed, and its callback takes no `error`.
        """
        unseen: Event | None = event
        rest: SomeEvent | None = None
        try:
            if get_ident() != self._thread:
                self._check_thread()
            if event is None or event.fh is not self.fh:
                return event
            if event.type == "read":
                inbox = self._inbox
                data = inbox.unfed + event.data  # type: ignore[attr-defined]
                unseen, self._unseen, inbox.unfed = None, None, data  # one line: all of it, or none
                failure = self._take()
            else:
                is_own, failure = self._other_event(event)
                if not is_own:
                    rest = event
        except BaseException:  # Ctrl-C, say: what is left to do is done on the next turn
            self._again(unseen)
            raise
        self._unseen = None
        if failure is not None:
            raise failure
        return rest

    def _take(self) -> Exception | None:
        """Hand over what the server has sent; return what a callback has raised."""
        try:
            return self._inbox.take()
        finally:
            if self._alarm is not None:
                self._set_alarm()

    def _other_event(self, event: Event) -> tuple[bool, Exception | None]:
        """Take an event that brings no bytes.

        Returns:
            Whether it is this client's, and what a callback has raised.
        """
        self._unsent.has_turned, self._unsent.is_left_behind = True, False
        loss, kind, details = self._loss, event.type, cast("Any", event)
        failure: Exception | None = None
        is_own = True
        if event is self._inbox.wake_event:
            self._inbox.is_woken = False
            failure = self._take()
        elif kind == "timer" and details.data is self:
            self._alarm = None
            failure = self._expire()
            self._set_alarm()
        elif kind == "timer" or kind == "child":
            is_own, failure = loss.io(event)
            self._set_alarm()
        elif kind == "ready":
            loss.was_up = True
        elif kind == "error":
            loss.reason = details.error
        elif kind == "closing":
            loss.reason = loss.reason or details.reason or BY_SERVER
        elif kind == "closed":
            failure = self._inbox.take(is_last=True)
            loss.reason = loss.reason or details.reason or "the socket was closed"
            failure = first_of(failure, loss.lose())
            self._set_alarm()
        return is_own, failure

    def _again(self, event: Event | None) -> None:
        """Go on with the next turn, and with an event if it was not seen to, to its end.

        It may be another's, whom it did not reach.
        """
        if event is not None and not isinstance(event, Event):
            raise TypeError(
                f"event is {event!r}, must be an event or None: rpc.io(mux.mux())"
            ) from None
        if get_ident() != self._thread:  # a wrong call: nothing has begun
            return
        if event is not None and event.fh is self.fh and event.type == "read":
            self._inbox.unfed += event.data  # type: ignore[attr-defined]
        elif event is not None and event.type != "timeout":
            self._mux.push_event(event)
        self._unseen = None
        self._inbox.wake()

    # The end

    def disconnect(self, grace: float = 5.0) -> None:
        """End the connection; calls that have been made leave first.

        It does not wait. What the kernel does not take at once leaves as the loop turns, and
        calls that are pending fail with `Disconnected` then. A server that was started for this
        client is made to end as the loop turns, too: until then the mux has something to wait
        for.

        Args:
            grace: seconds that a server has to read what is queued for it: what it has not read
                then is dropped. A program that was started for this client has as long to end
                by itself before it gets SIGTERM, and then again before it gets SIGKILL. A second
                `disconnect()` can only shorten it.

        Raises:
            ValueError: `grace` is negative, infinite or NaN.
        """
        self._check_thread()
        check_seconds("grace", grace)
        self._unsent.is_left_behind = self._outbox.close(grace)
        self._loss.leave(grace)
        if self._loss.is_awaited:  # not any more
            self._mux.push_event(Closed(self.fh, reason=self._loss.reason))

    def _give_up(self, error: ProtocolError) -> None:
        """Disconnect from a server that broke the rules of the protocol."""
        if not self._gave_up:
            self._loss.reason = str(error)
            with contextlib.suppress(KeyError):  # the program has closed it before
                self._mux.kill(self.fh, str(error))
            self._gave_up = True
            log.error("%s: %s", self._name, error)


_MOST_NESTED = 32  # of callbacks that wait; Python's own limit would come down on anything
_OF_CONNECTION = {"ready", "sent", "error", "closing", "closed"}


def _raise_if_any(failure: Exception | None) -> None:
    if failure is not None:
        raise failure


def _open(
    mux: EventMux[Event], server: str | socket.socket, args: tuple[str, ...]
) -> socket.socket:
    """Return the socket, watched by the mux; how much may be queued for it, the outbox says."""
    if isinstance(server, str):
        if is_stream_url(server) and not args:
            return mux.connect(server, max_outbuffer=None)
        sock = connect_stream(server, *args)
    elif isinstance(server, socket.socket):
        sock = server
        check_stream(sock)
    else:
        raise TypeError(
            f"server is {server!r}, must be a URL such as 'tcp://host:port', or a connected socket"
        )
    try:
        mux.add(sock, max_outbuffer=None)
    except BaseException:
        if isinstance(server, str):
            url_disconnect(sock)
        raise
    return sock
