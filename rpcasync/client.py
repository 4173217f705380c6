"""`Client`: the shell that joins a mux on one side and the core on the other.

It sends calls and hands their answers to the program: to a callback, from one line, `_hand_over()`,
or through `Call.result()`. Every decision about bytes is the core's; all sending is one
`mux.send()`, put off until the mux is about to wait, so that the calls of a turn leave in one
write.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, cast

from eventmux import EventMux
from eventmux.events import Closed, Event
from rpcasync._log import log
from rpcasync.codecs import Codec, get_codec
from rpcasync.errors import (
    ArgumentError,
    CallTimeout,
    Disconnected,
    ProtocolError,
    RemoteError,
    RPCError,
)
from rpcasync.framing import DEFAULT_MAX_PACKET
from rpcasync.messages import Id, Result, as_text
from rpcasync.protocol import ClientProtocol
from rpcasync.signatures import signature_of
from rpcasync.urls import ChildSocket, check_stream, url_connect, url_disconnect

__all__ = ["Call", "Client", "Reply"]


class Reply(tuple[Any, ...]):
    """The values of an answer, in order; `reply["sum"]` reads them as names and values."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        """Return the value at an index, or the one that follows a name.

        Raises:
            KeyError: there is no such name.
            ValueError: the values are no names and values.
        """
        return self.pairs()[key] if isinstance(key, str) else super().__getitem__(key)

    def pairs(self) -> dict[str, Any]:
        """Return the values as a dict of name and value; of a name given twice, the last.

        Raises:
            ValueError: the number of values is odd, or a name is no str.
        """
        if len(self) % 2:
            raise ValueError(f"{len(self)} values are not names and values")
        names = [as_text(name) for name in self[::2]]
        for name in names:
            if not isinstance(name, str):
                raise ValueError(f"{type(name).__name__} stands for a name")
        return dict(zip(cast("list[str]", names), self[1::2], strict=True))


Outcome = Sequence[object] | RPCError
"""What comes of a call: the values of the answer, or an error."""


class Call:
    """One call: what was asked, and what came of it.

    `id` is its number on the wire, `procedure` its name, and `args` what was sent.
    """

    __slots__ = ("_callback", "_client", "_outcome", "args", "id", "procedure")

    def __init__(
        self,
        client: Client,
        procedure: str,
        args: list[object],
        callback: Callable[..., object] | None,
    ) -> None:
        self._client = client
        self._callback = callback
        self._outcome: Outcome | None = None
        self.id = -1
        self.procedure = procedure
        self.args = args

    def __repr__(self) -> str:
        """Show the call and its state."""
        failed = isinstance(self._outcome, RPCError)
        state = "pending" if not self.done else "failed" if failed else "answered"
        return f"<Call {self.id} {self.procedure} {state}>"

    @property
    def done(self) -> bool:
        """True once the call has ended in an answer or an error."""
        return self._outcome is not None

    def result(self, timeout: float | None = None) -> Reply:
        """Wait for the answer and return it.

        The mux runs meanwhile. Events of other handles than this client's are kept, and come
        from `mux()` later, in order.

        Args:
            timeout: seconds to wait at most; None is for ever.

        Raises:
            RemoteError: the server answered with an error.
            Disconnected: the connection ended before the answer came.
            CallTimeout: there is no answer yet. The call stays pending.
            Exception: what a callback of another call raised meanwhile.
        """
        if not self.done and not self._client._run_until(lambda: self.done, timeout):
            raise CallTimeout(f"{self.procedure}: no answer within {timeout} seconds")
        if isinstance(self._outcome, RPCError):
            raise self._outcome.with_traceback(None)  # else it would grow each time
        if not isinstance(self._outcome, Reply):
            self._outcome = Reply(cast("list[object]", self._outcome))
        return self._outcome


class Client:
    """Calls the procedures of a server.

        mux = EventMux()
        rpc = Client(mux, "tcp://127.0.0.1:7007")
        rpc.add_numbers(lambda sum: print(sum), n1=2, n2=3)
        while rpc.has_requests():
            rpc.io(mux.mux())

    Any attribute that is not listed below is a procedure: `rpc.add_numbers(...)` is short for
    `rpc.call("add_numbers", ...)`.

    Args:
        mux: the mux that the program's loop runs.
        server: a URL, or a connected socket. Connecting to a URL does not wait; calls may be
            made at once. A `python://` URL starts the program.
        args: arguments for a program that is started.
        codec: "storable", "json", or a codec of your own.
        max_packet: bytes in one packet, both ways.

    Raises:
        URLError: the URL is not understood.
        OSError: the program cannot be started.
        ValueError: there is no such codec, or `max_packet` is not between 7 and 2**32 - 1.
    """

    def __init__(
        self,
        mux: EventMux,
        server: str | socket.socket,
        *args: str,
        codec: str | Codec = "storable",
        max_packet: int = DEFAULT_MAX_PACKET,
    ) -> None:
        self._protocol = ClientProtocol(get_codec(codec), max_packet)
        self._mux = mux
        self._name = server if isinstance(server, str) else repr(server)
        self._reason = ""  # why the connection ended, as far as is known
        self._gave_up = False  # what the server sent could not be understood
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

    # Calls

    def call(self, procedure: str, /, *args: object, **named: object) -> Call:
        """Call a procedure with values, then with names and values.

        The last of `args` is the callback if it can be called. Its signature says how it takes
        the answer, as with procedures: `def done(sum)` takes `sum => 5`, `def done(*values)`
        the list. An error goes to its parameter `error` or to its `**` if it has one, as an
        RPCError, and is raised out of `io()` if it has none. Without a callback the outcome is
        there for `Call.result()`.

        A call on a connection that has ended fails like one that was under way: with
        `Disconnected`, when the loop turns.

        Raises:
            EncodeError: an argument cannot be sent.
            ArgumentError: the callback can take no answer at all.
            TypeError: the name of the procedure is no str.
        """
        if not isinstance(procedure, str):
            raise TypeError(f"procedure is {procedure!r}, must be a str")
        values = list(args)
        callback: Any = values.pop() if values and callable(values[-1]) else None
        if named:
            values += chain.from_iterable(named.items())
        if callback is not None:
            signature_of(callback)  # raises now what it would raise when the answer comes
        call = Call(self, procedure, values, callback)
        call.id, packet = self._protocol.call(procedure, values, call)
        try:
            self._mux.send(self.fh, packet, later=True)
        except KeyError:  # there will be no event any more that could fail the call
            self._mux.push_event(Closed(self.fh, reason="the socket is not watched any more"))
        return call

    def has_requests(self) -> bool:
        """True while a call is not answered."""
        return bool(self._protocol.pending)

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
        """
        ids = {call.id if isinstance(call, Call) else call for call in calls}
        pending = self._protocol.pending
        if ids:
            return self._run_until(lambda: ids.isdisjoint(pending), timeout)
        return self._run_until(lambda: not pending, timeout)

    def _run_until(self, is_over: Callable[[], bool], timeout: float | None) -> bool:
        """Run the mux for this client alone until something is so; False if time is over."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._take_messages()  # called from a callback, there may be some behind its own
        while not is_over():
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            event = self._mux.mux(left, only=self.fh)
            if event is None:
                self._reason = self._reason or "the socket is not watched any more"
                self._lose()
                return is_over()
            if event.fh is not None:
                self.io(event)
            elif not left:
                return is_over()
        return True

    # Events

    def io(self, event: Event | None) -> Event | None:
        """Take an event if it is this client's; return it if it is not.

        Callbacks run from here. If one raises, the others still run, and then the exception is
        raised; of several, the first, and the others are logged.

        Raises:
            RPCError: a call failed, and its callback takes no `error`.
        """
        if event is None or event.fh is not self.fh:
            return event
        kind, details = event.type, cast("Any", event)
        if kind == "read":
            self._protocol.feed(details.data)
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

    def _take_messages(self) -> None:
        """Hand over all answers that are complete."""
        self._hand_over_all(self._outcomes())

    def _outcomes(self) -> Iterator[tuple[Call, Outcome]]:
        while True:
            try:
                message = self._protocol.next_message()
            except ProtocolError as error:
                self._give_up(error)
                return
            if message is None:
                return
            call = cast("Call", message.token)
            yield call, message.values if isinstance(message, Result) else RemoteError(message.text)

    def _hand_over_all(self, outcomes: Iterable[tuple[Call, Outcome]]) -> None:
        """Hand over one after the other, whatever callbacks raise; then raise the first."""
        failure: Exception | None = None
        for call, outcome in outcomes:
            try:
                self._hand_over(call, outcome)
            except Exception as error:  # noqa: BLE001  # raised below, when all had their turn
                if failure is None:
                    failure = error
                else:
                    log.exception("callback of %s failed", call.procedure)
        if failure is not None:
            raise failure

    def _hand_over(self, call: Call, outcome: Outcome) -> None:
        """End a call: this is where callbacks run."""
        call._outcome = outcome
        callback, call._callback = call._callback, None
        if callback is None:
            return
        signature = signature_of(callback)
        if not isinstance(outcome, RPCError):
            try:
                args, named = signature.bind_result(outcome)
            except ArgumentError as error:
                outcome = ArgumentError(f"answer of {call.procedure}, to its callback: {error}")
        if isinstance(outcome, RPCError):
            if not signature.takes_error:
                raise outcome
            args, named = signature.bind_error(outcome)
        callback(*args, **named)

    # The end

    def disconnect(self) -> None:
        """End the connection; calls that have been made leave first.

        What the kernel does not take at once leaves as the loop turns. If the server is a program
        that was started for this client, its end is waited for instead, and what it has not
        taken is dropped. Calls that are pending fail with `Disconnected` when the loop turns.
        """
        self._reason = self._reason or "disconnected"
        is_child = isinstance(self.fh, ChildSocket)
        with contextlib.suppress(KeyError):  # the server was faster
            unsent = self._mux.send(self.fh)
            if unsent and not is_child:
                self._mux.close(self.fh)  # the rest leaves as the loop turns
                return
            if unsent:
                log.warning("%s: %d bytes were not sent", self._name, unsent)
            self._mux.kill(self.fh)
        if is_child:
            url_disconnect(self.fh)

    def _give_up(self, error: ProtocolError) -> None:
        """The server is beyond understanding: let go of it."""
        if not self._gave_up:
            self._gave_up = True
            self._reason = str(error)
            log.error("%s: %s", self._name, error)
            with contextlib.suppress(KeyError):  # the program was faster
                self._mux.kill(self.fh, str(error))

    def _lose(self) -> None:
        """Fail all pending calls."""
        error = f"{self._name}: {self._reason}"
        calls = cast("list[Call]", self._protocol.connection_lost())
        outcomes = [(call, Disconnected(f"{call.procedure}: {error}")) for call in calls]
        for call, outcome in outcomes:  # all of them now: a callback may ask for another's result
            call._outcome = outcome
        self._hand_over_all(outcomes)


def _open(mux: EventMux, server: str | socket.socket, args: tuple[str, ...]) -> socket.socket:
    """Return the socket, watched by the mux."""
    if isinstance(server, str):
        if server.partition("://")[0] in ("tcp", "unix") and not args:
            return mux.connect(server)
        sock = url_connect(server, *args)
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
