"""`Client`: the shell that joins a mux on one side and the core on the other.

It sends calls and hands their answers to the program: to a callback, from `Call`, or through
`Call.result()`. Functions that the program has passed to the server are called from
`_invoke()`. Every decision about bytes is the core's; all sending is one `mux.send()`, put off so
that many calls leave in one write.

When the server was started as a child process, the calls that its end leaves without an answer wait
a moment for its exit status: `children/ending.py` watches the process, and `_lose()` says how long.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import subprocess
from collections.abc import Callable, Mapping
from threading import get_ident
from typing import IO, Any, cast

from eventmux import EventMux, Watch
from eventmux.events import Closed, Event
from rpcasync._log import log
from rpcasync.arguments.known import signature_of
from rpcasync.calls import Call
from rpcasync.children.ending import Ending
from rpcasync.coderefs import Coderef
from rpcasync.errors import (
    ArgumentError,
    CallCancelled,
    CallTimeout,
    Disconnected,
    ProtocolError,
    RemoteError,
    RPCError,
)
from rpcasync.urls import check_stream, connect_stream, is_stream_url, url_disconnect
from rpcasync.wire.codecs import DEFAULT_MAX_ITEMS, Codec, get_codec
from rpcasync.wire.deadlines import check_seconds
from rpcasync.wire.framing import DEFAULT_MAX_PACKET
from rpcasync.wire.messages import Failure, Id, Invoke, Result
from rpcasync.wire.protocol import ClientProtocol

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

    Raises:
        URLError: the URL is not understood.
        OSError: the program cannot be started.
        ValueError: there is no such codec, `max_packet` is not between 7 and 2**32 - 1, `max_items`
            is less than 1, or `timeout` is negative, infinite or NaN.
    """

    def __init__(
        self,
        mux: EventMux,
        server: str | socket.socket,
        *args: str,
        codec: str | Codec = "storable",
        max_packet: int = DEFAULT_MAX_PACKET,
        timeout: float | None = None,
        max_items: int = DEFAULT_MAX_ITEMS,
    ) -> None:
        self._protocol = ClientProtocol(get_codec(codec, max_items), max_packet)
        self._mux = mux
        self._timeout = None if timeout is None else check_seconds("timeout", timeout)
        self._thread = get_ident()
        self._alarm: Watch | None = None  # the mux's timer for the next call that fails by itself
        self._alarm_due = 0.0
        self._ending: Ending | None = None  # of the server's process
        self._status_due: float | None = None  # until when lost calls wait for its status
        self._is_status_awaited = False  # some do
        self._name = server if isinstance(server, str) else repr(server)
        self._reason = ""  # why the connection ended, as far as is known
        self._gave_up = False  # what the server sent could not be understood
        self._is_leaving = False  # the program has disconnected
        self.fh = _open(mux, server, args)

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
    def process(self) -> subprocess.Popen[bytes] | None:
        """The process of a server that was started for this client."""
        return getattr(self.fh, "process", None)

    @property
    def stdout(self) -> IO[bytes] | None:
        """Its stdout, where the URL asks for a pipe; it can be added to the mux."""
        return getattr(self.fh, "stdout", None)

    @property
    def stderr(self) -> IO[bytes] | None:
        """Its stderr, where the URL asks for a pipe."""
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
        call.id, packet = self._protocol.call(procedure, values, call)
        try:
            self._mux.send(self.fh, packet, later=True)
        except KeyError:  # there will be no event any more that could fail the call
            self._mux.push_event(Closed(self.fh, reason="the socket is not watched any more"))
        if self._timeout is not None:
            self._set_timeout(call, self._timeout)
        return call

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
        now = self._mux.clock
        deadline = None if timeout is None else now() + timeout
        self._take_messages()  # if a callback calls us, the answers behind its own come first
        while not is_over():
            due = _earlier(deadline, self._next_due())
            left = None if due is None else max(0.0, due - now())
            event = self._mux.mux(left, only=self.fh)
            if event is None:  # there is no connection that could bring one
                self._reason = self._reason or "the socket is not watched any more"
                self._lose()
                if not self._is_status_awaited:
                    return is_over()
                time = self._wait_for_process(deadline)
            elif event.fh is None:
                time = now()
            else:
                self.io(event)
                continue
            self._expire(time)
            if deadline is not None and time >= deadline:
                return is_over()
        return True

    def _wait_for_process(self, deadline: float | None) -> float:
        """Wait for the server's process, as `io()` may not; return what time it is then.

        It ends when something is due, and the time is that, whatever the mux's clock says.
        """
        process, now = self.process, self._mux.clock()
        due = _earlier(deadline, self._next_due())
        if process is None or due is None:
            return now
        try:
            process.wait(max(0.0, due - now))
        except subprocess.TimeoutExpired:
            return max(now, due)
        self._lose()
        return now

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
        due = self._protocol.next_deadline()
        if self._is_status_awaited and self.has_requests():
            due = _earlier(due, self._status_due)
        return due

    def _set_alarm(self) -> None:
        """Have the mux wake us for the next call that fails by itself, and for nothing else."""
        due = self._next_due()
        if self._alarm is not None and (due is None or due < self._alarm_due):
            self._alarm.cancel()
            self._alarm = None
        if self._alarm is None and due is not None:
            self._alarm = self._mux.timer(max(0.0, due - self._mux.clock()), self)
            self._alarm_due = due

    def _expire(self, now: float) -> None:
        """Fail the calls whose time is over."""
        calls = cast("list[Call]", self._protocol.expire(now))
        _fail_all(calls, _too_late)  # if it raises, the alarm brings us back for the others
        if self._is_status_awaited and self._status_due is not None and now >= self._status_due:
            self._fail_lost()

    def _cancel(self, call: Call) -> bool:
        self._check_thread()
        if call.done:
            return False
        self._protocol.abandon(call.id)
        self._set_alarm()
        call._drop(CallCancelled(f"{call.procedure}: cancelled"))
        return True

    # Events

    def io(self, event: Event | None) -> Event | None:
        """Take an event if it is this client's; return it if it is not.

        Callbacks run from here. If one raises, the others still run, and then the exception is
        raised; of several, the first, and the others are logged.

        Raises:
            RPCError: a call failed, and its callback takes no `error`.
        """
        if get_ident() != self._thread:
            self._check_thread()
        if event is None:
            return None
        if event.fh is not self.fh:
            return self._without_handle(event) if event.fh is None else event
        kind, details = event.type, cast("Any", event)
        if kind == "read":
            self._protocol.feed(details.data)
            self._take_messages()
        elif kind == "":  # our own: see _take_messages()
            self._take_messages()
        elif kind == "error":
            self._reason = details.error
        elif kind == "closing":
            self._reason = self._reason or details.reason or "the server closed the connection"
        elif kind == "closed":
            try:
                self._take_messages()
            finally:
                self._reason = self._reason or details.reason or "the socket was closed"
                self._lose()
        return None

    def _without_handle(self, event: Event) -> Event | None:
        """Take an event of a timer or a child process, if it is this client's."""
        if event.type == "timer" and getattr(event, "data", None) is self:
            self._alarm = None
            try:
                self._expire(self._mux.clock())
            finally:
                self._set_alarm()
            return None
        if self._ending is None or not self._ending.io(event):
            return event
        if self._is_status_awaited:
            self._lose()
        return None

    def _take_messages(self) -> None:
        """Hand over all answers that are complete, and do what the server asks for."""
        failure: Exception | None = None
        next_message = self._protocol.next_message
        try:
            while (message := next_message()) is not None:
                token: Any = message.token
                try:
                    if type(message) is Result:
                        token._answer(message.values)
                    elif type(message) is Failure:
                        token._fail(RemoteError(message.text))
                    elif type(message) is Invoke:
                        self._invoke(token, message.args)
                except Exception as error:  # noqa: BLE001  # raised below, when all had their turn
                    failure = _first(failure, error, token)
        except ProtocolError as error:
            self._give_up(error)
        except BaseException:  # Ctrl-C, say: the other answers come later
            self._mux.push_event(Event(self.fh))
            raise
        finally:
            if self._alarm is not None:
                self._set_alarm()
        if failure is not None:
            raise failure

    def _invoke(self, function: Callable[..., object], values: list[object]) -> None:
        """Call a function of the program's for the server."""
        try:
            args, named = signature_of(function).bind(values)
        except ArgumentError as error:
            raise ArgumentError(f"values of the server, to {function!r}: {error}") from None
        if not isinstance(function, Coderef):
            function(*args, **named)
            return
        # A callback of a client of ours that we have passed on. What goes wrong between the two
        # of them must not end us: the client has gone, or its codec has no form for a value.
        try:
            function(*args, **named)
        except (RPCError, ValueError) as error:
            log.warning("%s: a callback that was passed on: %s", self._name, error)

    # The end

    def disconnect(self, grace: float = 5.0) -> None:
        """End the connection; calls that have been made leave first.

        It does not wait. What the kernel does not take at once leaves as the loop turns, and
        calls that are pending fail with `Disconnected` then. A server that was started for this
        client is made to end as the loop turns, too: until then the mux has something to wait
        for.

        Args:
            grace: seconds that such a program has to end by itself before it gets SIGTERM, and
                then again before it gets SIGKILL. A second `disconnect()` can only shorten it.

        Raises:
            ValueError: `grace` is negative, infinite or NaN.
        """
        self._check_thread()
        check_seconds("grace", grace)
        self._reason = self._reason or "disconnected"
        self._is_leaving = True
        with contextlib.suppress(KeyError):  # the server has closed it before
            if self._mux.send(self.fh):
                self._mux.close(self.fh)  # the rest leaves as the loop turns
            else:
                self._mux.kill(self.fh)
        if self._ending is None:
            self._see_to_process(grace)
        else:
            self._ending.hurry(grace)
        if self._is_status_awaited:  # not any more
            self._mux.push_event(Closed(self.fh, reason=self._reason))

    def _give_up(self, error: ProtocolError) -> None:
        """Disconnect from a server that broke the rules of the protocol."""
        if not self._gave_up:
            self._gave_up = True
            self._reason = str(error)
            log.error("%s: %s", self._name, error)
            with contextlib.suppress(KeyError):  # the program has closed it before
                self._mux.kill(self.fh, str(error))

    def _lose(self) -> None:
        """See to what a connection leaves that has gone: calls to fail, and a process to end.

        A process closes its sockets on its way out: a moment later it has a status. The calls are
        pending until then, as the loop turns, and tell it.
        """
        now = self._mux.clock()
        if self._status_due is None:
            self._status_due = now + _MOMENT
        self._see_to_process(_GRACE)
        ending = self._ending
        self._is_status_awaited = (
            self.has_requests()
            and ending is not None
            and ending.is_running
            and not self._is_leaving
            and now < self._status_due
        )
        if self._is_status_awaited:
            self._set_alarm()
        else:
            self._fail_lost()

    def _fail_lost(self) -> None:
        """Fail all pending calls."""
        self._is_status_awaited = False
        calls = cast("list[Call]", self._protocol.connection_lost())
        self._set_alarm()
        error = f"{self._name}: {self._reason}"
        if calls and self.process is not None and not self._is_leaving:  # it ended by itself
            status = self.process.poll()
            error += "" if status is None else f"; its process has ended with status {status}"
        _fail_all(calls, lambda call: Disconnected(f"{call.procedure}: {error}"))

    def _see_to_process(self, grace: float) -> None:
        """Have the server's process end, if it was started for this client."""
        process = self.process
        if process is None or process.returncode is not None or self._ending is not None:
            return
        try:
            self._ending = Ending(self._mux, process, self._name, grace)
        except (OSError, RuntimeError, ValueError) as error:
            log.warning("%s: process %d is not waited for: %s", self._name, process.pid, error)


_GRACE = 5.0  # seconds that a server has to end by itself
_MOMENT = 1.0  # seconds that the status of a process may come after the end of its connection


def _earlier(one: float | None, other: float | None) -> float | None:
    """Return the lower of two times; None is never."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _too_late(call: Call) -> RPCError:
    return CallTimeout(f"{call.procedure}: no answer within {call.timeout} seconds")


def _fail_all(calls: list[Call], error: Callable[[Call], RPCError]) -> None:
    """Fail calls, whatever their callbacks raise; then raise the first."""
    errors = [error(call) for call in calls]
    for call, failure in zip(calls, errors, strict=True):
        call._settle(failure)  # all of them now: a callback may ask for another's result
    first: Exception | None = None
    for call, failure in zip(calls, errors, strict=True):
        try:
            call._fail(failure)
        except Exception as raised:  # noqa: BLE001  # raised below, when all had their turn
            first = _first(first, raised, call)
    if first is not None:
        raise first


def _first(first: Exception | None, error: Exception, token: object) -> Exception:
    """Return the first of two exceptions; the other one is logged."""
    if first is None:
        return error
    name = token.procedure if isinstance(token, Call) else "the server"
    log.error("callback of %s failed", name, exc_info=error)
    return first


def _open(mux: EventMux, server: str | socket.socket, args: tuple[str, ...]) -> socket.socket:
    """Return the socket, watched by the mux."""
    if isinstance(server, str):
        if is_stream_url(server) and not args:
            return mux.connect(server)
        sock = connect_stream(server, *args)
    else:
        sock = server
        check_stream(sock)
    try:
        mux.add(sock)
    except BaseException:
        if isinstance(server, str):
            url_disconnect(sock)
        raise
    return sock
