"""`Client`: the shell that joins a mux on one side and the core on the other.

It makes calls, and waits for them. What leaves goes through `outbox.py`, or `limited.py`; what the
server sends is handed over by `inbox.py`; how long a call may take, `times.py` says, and what comes
of a connection that ends, `loss.py`. Every decision about bytes is the core's.

Ctrl-C may come at any line. So a call is pending until its callback is called, and an event that
was not seen to, to its end, comes again.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import subprocess
from collections.abc import Callable, Collection, Mapping
from threading import get_ident
from typing import IO, TYPE_CHECKING, Any, ClassVar, Literal, cast

from eventmux import EventMux
from eventmux._nearest import tells_options
from eventmux.events import Closed, Event, MaybeNone, SomeEvent
from rpcasync._log import fields, log
from rpcasync.backoff import Backoff
from rpcasync.calls import Call, check_procedure, remote_error
from rpcasync.children.output import Output
from rpcasync.errors import CallCancelled, ProtocolError, RemoteError
from rpcasync.inbox import Inbox, first_of
from rpcasync.limited import LimitedOutbox
from rpcasync.loss import Loss
from rpcasync.opening import checked_process, checked_single, mux_comes_first, open_server
from rpcasync.outbox import NOT_WATCHED, Outbox
from rpcasync.times import Times
from rpcasync.unsent import Unsent
from rpcasync.urls import url_disconnect
from rpcasync.wire.codecs import DEFAULT_MAX_ITEMS, Codec, check_limit, get_codec
from rpcasync.wire.deadlines import check_seconds, check_timeout
from rpcasync.wire.framing import DEFAULT_MAX_PACKET, check_max_packet
from rpcasync.wire.messages import Id
from rpcasync.wire.protocol import ClientProtocol

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["Client"]


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
        max_outbuffer: bytes that may be queued for a server that does not read, or wait because of
            `limit`: beyond that, a call raises `QueueFull`. Default is four times `max_packet`.
        limit: how many calls may be outstanding, that is, have been sent and not ended. Those
            beyond wait here, and leave in order as others end. They are pending like others, but
            `timeout` begins when they leave; one that ends before that is never sent. None is no
            limit.
        close_on_idle: disconnect when there have been calls, none is left, and the server can call
            no function any more.
        process: the server, if it is a child process that the program has started itself: a
            `subprocess.Popen`, or the pid of one that was forked. `disconnect()` sees to its end,
            as to that of a program in the URL.
        output: called out of `io()` with "stdout" or "stderr", and with each line that the server
            prints there: bytes, without the end of the line. Lines of over 65,536 bytes come in
            pieces. It needs pipes: a URL with a `2`, as `python2://file.py`, or those of
            `process`. They are read while `result()` waits, too.
        tls: what `tls://` is encrypted with, and whom it trusts: a context of the `ssl` module.
            Default is `ssl.create_default_context()`: the authorities that the system trusts. With
            one, `tcp://`, `unix://` and a socket are encrypted, too.
        server_hostname: the name that the certificate of the server has to be for; default is the
            host in the URL.
        reconnect: connect again when the connection is lost, after such a time.
            `server` is then a `tcp://`, `tls://` or `unix://` URL, or a list of them, which are
            tried in turn. Calls wait until a server has answered the first packet, which asks it
            to tell before it leaves, and their `timeout` runs. `fh` is the socket of the newest
            connection.
        retry: which of the calls that were under way when a connection was lost are sent again:
            "unsent" is those of which it is known that not all has left this process; "idempotent"
            is all, as the program knows that they may run twice. Others fail with `Disconnected`.

    Raises:
        URLError: the URL is not understood.
        OSError: the program cannot be started; or `process` is no child of this process.
        TypeError: `process` is neither, or the URL starts one itself; `output` cannot be called; or
            there is a list of URLs, or `retry`, without `reconnect`.
        ValueError: there is no such codec, `max_packet` is not between 7 and 2**32 - 1, `timeout`
            is negative, infinite or NaN, another limit is less than 1, there is `output` and
            no pipe, or `tls` for a program that is started.
    """

    _connects_again = False
    _reconnecting: ClassVar[type[Client] | None] = None  # put here from there

    def __new__(cls, *_args: object, **options: object) -> Client:
        """Make one of several connections, one after the other, if it is to connect again."""
        other = Client._reconnecting
        if cls is Client and other is not None and options.get("reconnect") is not None:
            cls = other
        return super().__new__(cls)

    @mux_comes_first
    @tells_options
    def __init__(
        self,
        mux: EventMux[Event],
        server: str | socket.socket | list[str],
        *args: str,
        codec: str | Codec = "storable",
        max_packet: int = DEFAULT_MAX_PACKET,
        timeout: float | None = None,
        max_items: int = DEFAULT_MAX_ITEMS,
        max_outbuffer: int | None = None,
        limit: int | None = None,
        close_on_idle: bool = False,
        process: subprocess.Popen[Any] | int | None = None,
        output: Callable[[str, bytes], object] | None = None,
        tls: SSLContext | None = None,
        server_hostname: str | None = None,
        reconnect: Backoff | None = None,
        retry: Literal["unsent", "idempotent"] | None = None,
    ) -> None:
        if max_outbuffer is None:
            max_outbuffer = 4 * check_max_packet(max_packet)
        check_limit("max_outbuffer", max_outbuffer)
        if limit is not None:
            check_limit("limit", limit)
        if reconnect is not None:
            raise TypeError(f"{type(self).__name__} has one connection: no reconnect=")
        server = checked_single(server, retry)
        child = checked_process(server, process, output)
        self._protocol = ClientProtocol(get_codec(codec, max_items), max_packet)
        self._name = server if isinstance(server, str) else repr(server)
        self._begin(mux, close_on_idle)
        check_timeout(timeout)
        self.fh = open_server(mux, server, args, tls, server_hostname)
        try:
            place = mux, self.fh, self._protocol
            self._inbox = Inbox(*place, self._name, self._give_up)
            self._loss = Loss(*place, self._inbox, self._name, child)
            self._times = Times(*place, self._inbox, self._loss, timeout)
            self._give_time = None if timeout is None else self._times.give
            self._unsent = Unsent(*place, self._loss, self._name)
            self._limited: LimitedOutbox | None = None
            if limit is not None:
                self._limited = LimitedOutbox(*place, max_outbuffer, limit, self._times.begin)
                self._times.outbox = self._limited
                self._unsent.waiting = self._limited.waiting
            self._outbox = self._limited or Outbox(*place, max_outbuffer)
            self._loss.outbox = self._outbox
            self._output: Output | None = None
            if output is not None:
                pipes = {"stdout": self.stdout, "stderr": self.stderr}
                self._output = Output(
                    mux, {name: pipes[name] for name in pipes if pipes[name]}, output
                )
        except BaseException:  # Ctrl-C, say: nobody has the client
            mux.remove(self.fh)
            if isinstance(server, str):
                url_disconnect(self.fh)
            raise

    __new__.__wrapped__ = __init__  # type: ignore[attr-defined]  # so `help()` tells the options

    def _begin(self, mux: EventMux[Event], close_on_idle: bool) -> None:
        """Be a client of this thread that has done nothing yet."""
        self._mux = mux
        self._closes_on_idle = close_on_idle
        self._thread = get_ident()
        self._unseen: Event | None = None  # what `result()` has taken from the mux
        self._is_relay = False  # a server gives us events, and may be interrupted behind that
        self._taken: Event | None = None  # by `io()`: goes on by itself, should that be interrupted
        self._nested = 0  # how many wait, each in a callback of the one before
        self._gave_up = False  # what the server sent could not be understood

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
        """The process of a server that was started for this client, or given to it, else None."""
        return self._loss.process

    @property
    def stdout(self) -> IO[bytes] | MaybeNone:
        """Its stdout, where the URL asks for a pipe, else None; it can be added to the mux."""
        return getattr(self._loss.process, "stdout", None)

    @property
    def stderr(self) -> IO[bytes] | MaybeNone:
        """Its stderr, where the URL asks for a pipe, else None."""
        return getattr(self._loss.process, "stderr", None)

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
            check_procedure(procedure)
        values = [*args]
        callback: Any = values.pop() if values and callable(values[-1]) else None
        for pair in named.items():
            values += pair
        call = Call(self, procedure, values, callback)
        try:
            self._outbox.put(call, values)
            if self._give_time is not None:
                self._give_time(call)
            return call  # in here: until then nobody has it
        except BaseException:  # Ctrl-C, say
            self._withdraw(call)
            raise

    def _withdraw(self, call: Call) -> None:
        """Wait no more for a call that could not be made after all."""
        if self._limited is not None:
            self._limited.disturb()
        self._protocol.withdraw(call)
        if self._limited is not None or self._closes_on_idle:
            self._inbox.wake()  # others may leave now, or we

    def _relay(
        self, call: Call, values: list[object], payload: bytes, functions: Mapping[Id, object]
    ) -> None:
        """Make a call that came from another client, in the packet that it came in."""
        self._check_thread()
        try:
            self._outbox.relay(call, values, payload, functions)
            if self._give_time is not None:
                self._give_time(call)
        except BaseException:  # Ctrl-C, say: nobody has the call
            self._withdraw(call)
            raise

    # For a server that passes calls on

    def _hand_to(self, handles: dict[object, Any], whose: object) -> None:
        """Have our events go to a server from now on, which looks up whose they are."""
        self._is_relay = True
        handles[self.fh] = whose

    def _take_back(self, handles: dict[object, Any], whose: object) -> None:
        """Have them go there no more, unless they are somebody else's meanwhile."""
        if handles.get(self.fh) is whose:
            del handles[self.fh]

    def _goes_on_with(self, event: Event) -> bool:
        """True if an event that was interrupted comes again by itself."""
        return self._taken is event

    def _protocol_of(self, call: Call) -> ClientProtocol:
        """Return the core that a call is pending in."""
        del call  # there is one
        return self._protocol

    def _functions(self) -> Collection[object]:
        """Return the functions that the server may still call."""
        return self._protocol.callbacks.values()

    # What is under way

    def has_requests(self) -> bool:
        """True while a call is not answered."""
        return bool(self._protocol.pending)

    def has_coderefs(self) -> int:
        """Return how many functions the server may still call."""
        return len(self._protocol.callbacks)

    def has_work(self) -> bool:
        """True while there is something to turn the loop for.

        `while rpc.has_work(): rpc.io(mux.mux())` is a whole program's loop. There is something for
        a call that is not answered, or a function that the server may still call; and
        after `disconnect()`, or once the server has gone, what is still to be sent, and a child
        process that has not ended. With `close_on_idle` the loop ends when all that is done.
        """
        if self._protocol.pending or self._protocol.callbacks or self._loss.is_ending:
            return True
        return self._closes_on_idle and self._inbox.is_woken

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
            if self._output is None:
                self._unseen = event = self._mux.mux(left, only=self.fh)
            else:
                event = self._next_with_output(self._output, deadline)
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

    def _next_with_output(self, output: Output, deadline: float | None) -> Event | None:
        """Return the next event of this client alone; what its process prints is read meanwhile."""
        now = self._mux.clock
        while True:
            output.read()
            left = None if deadline is None else max(0.0, deadline - now())
            is_last = not output.is_open or (left is not None and left <= _NAP)
            self._unseen = event = self._mux.mux(left if is_last else _NAP, only=self.fh)
            if is_last or event is None or event.type != "timeout":
                return event

    def _check_thread(self) -> None:
        """Raise RuntimeError in another thread: neither the client nor its mux could stand it."""
        if get_ident() != self._thread:
            raise RuntimeError(
                f"{self!r} belongs to another thread: let that one call, and use mux.post()"
                " to tell it"
            )

    # Calls that take too long, or are not wanted any more

    @tells_options
    def set_options(self, procedure: str, /, *, timeout: float | None) -> None:
        """Say how calls of one procedure are made from now on.

        Args:
            procedure: its name; there need not be one.
            timeout: seconds after which a call of it that is not answered fails with
                `CallTimeout`, whatever the `timeout` of the client is; None is never. What
                `Call.set_timeout()` says goes before it.

        Raises:
            ValueError: `timeout` is negative, infinite or NaN.
            TypeError: it is no number, or the name of the procedure no str.
            RuntimeError: this is another thread than that which made the client.
        """
        self._check_thread()
        self._times.set_own(check_procedure(procedure), timeout)
        self._give_time = self._times.give

    def _set_timeout(self, call: Call, seconds: float | None) -> None:
        self._check_thread()
        self._times.set(call, seconds)

    def _why_late(self, call: Call) -> str:  # noqa: ARG002  # it is for others
        """Return what is to be said of a call that was not answered in time, behind that."""
        return ""

    def _remote_error(self, procedure: str, text: str) -> RemoteError:
        """Return the error that a server has answered with."""
        if procedure in vars(self):  # else the program says call("disconnect"), and means it
            return remote_error(text, procedure, type(self))
        return RemoteError(text)

    def _cancel(self, call: Call) -> bool:
        self._check_thread()
        if self._protocol.pending.get(call.id) is not call:
            return False  # not by `call.done`, which Ctrl-C may have come behind
        call._drop(CallCancelled(f"{call.procedure}: cancelled"))
        if self._limited is None:
            self._protocol.abandon(call.id)
        else:
            self._inbox.wake()  # another may leave now
            self._limited.abandon(call.id)
        if self._closes_on_idle:
            self._inbox.wake()
        self._times.set_alarm()
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
                output = self._output
                if output is None or event is None or not output.has(event):
                    return event
                output.keep()
                unseen, self._unseen, output.todo = None, None, [*output.todo, event]  # one line
                output.take()
                return None
            if event.type == "read":
                inbox = self._inbox
                data = inbox.unfed + event.data  # type: ignore[attr-defined]
                # One line: all of it, or none
                unseen, self._unseen, self._taken, inbox.unfed = None, None, event, data
                failure = self._take()
            else:
                is_own, failure = self._other_event(event)
                if not is_own:
                    rest = event
        except BaseException:  # Ctrl-C, say: what is left to do is done on the next turn
            self._again(unseen)
            self._taken = event
            raise
        self._unseen = None
        if not self._is_relay:
            self._taken = None  # it may have read many bytes
        if self._closes_on_idle:
            self._see_idle()
        if failure is not None:
            raise failure
        return rest

    def _see_idle(self) -> None:
        """Disconnect if there is nothing to wait for; in the next turn if somebody waits here."""
        protocol = self._protocol
        if protocol.pending or protocol.callbacks or not protocol.next_id or self._loss.is_leaving:
            return
        if self._nested:
            self._inbox.wake()
        else:
            self.disconnect()

    def _take(self) -> Exception | None:
        """Hand over what the server has sent; return what a callback has raised."""
        try:
            failure = self._inbox.take()
        finally:
            if self._times.alarm is not None:
                self._times.set_alarm()
        return failure if self._limited is None else self._go_on(self._limited, failure)

    def _go_on(self, limited: LimitedOutbox, first: Exception | None) -> Exception | None:
        """Have calls leave that waited, and fail those that Ctrl-C came upon on their way."""
        limited.go_on()
        while limited.doubtful:
            call = limited.doubtful[0]
            if self._protocol.pending.get(call.id) is call:
                text = f"{call.procedure}: Ctrl-C came while it was being sent; it may have run"
                first = self._inbox.fail(call, CallCancelled(text), first)
            del limited.doubtful[0]
        return first

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
        elif kind == "timer" and details.data is self._times:
            failure = self._times.expire()
        elif kind == "timer" or kind == "child":
            is_own, failure = loss.io(event)
            self._times.set_alarm()
        elif kind == "closed":
            failure = self._inbox.take(is_last=True)
            loss.note(event)
            failure = first_of(failure, loss.lose())
            self._times.set_alarm()
        else:
            loss.note(event)
        if kind == "child" and is_own and self._output is not None:
            self._output.read()  # its last words
        if self._limited is not None:
            self._limited.disturb()  # some that waited may have ended
            failure = self._go_on(self._limited, failure)
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
        elif event is not None and self._output is not None and self._output.has(event):
            self._output.keep()
            self._output.todo = [*self._output.todo, event]
        elif event is not None and event.type != "timeout":
            self._mux.push_event(event)
        self._unseen = None
        self._inbox.wake()
        if self._output is not None:
            self._output.wake()

    # The end

    def disconnect(self, grace: float = 5.0) -> None:
        """End the connection; calls that have been made leave first.

        It does not wait. What the kernel does not take at once leaves as the loop turns, and
        calls that are pending fail with `Disconnected` then; those that wait because of `limit`
        are not sent. A server that was started for this client, or its `process`, is made to end
        as the loop turns, too: until then the mux has something to wait for.

        Args:
            grace: seconds that a server has to read what is queued for it: what it has not read
                then is dropped. A program that is the client's process has as long to end by itself
                before it gets SIGTERM, and then again before it gets SIGKILL. A second
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
            log.error("%s: %s", self._name, error, extra=fields(server=self._name))


_NAP = 0.1  # seconds between two looks at what a process prints
_MOST_NESTED = 32  # of callbacks that wait; Python's own limit would come down on anything
_OF_CONNECTION = {"ready", "sent", "error", "closing", "closed"}


def _raise_if_any(failure: Exception | None) -> None:
    if failure is not None:
        raise failure
