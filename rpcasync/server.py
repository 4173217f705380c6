"""`Server`: the shell that joins a mux on one side and the core on the other.

It knows the clients and the listeners, and gives each event to whom it belongs. Below it,
`dispatch` runs the program's procedures, and `peers` sends what they answer. Every decision about
bytes is the core's.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Collection, Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Literal

from eventmux._nearest import tells_options
from eventmux.events import Event, SomeEvent
from rpcasync.client import Client
from rpcasync.forwarding.forwarding import Forwarding
from rpcasync.notifying import Supervised
from rpcasync.serving.agent import Agent
from rpcasync.serving.alarms import Alarms
from rpcasync.serving.arrivals import Arrivals
from rpcasync.serving.callers import Caller, check_function, is_late
from rpcasync.serving.closings import Closing
from rpcasync.serving.dispatch import Dispatcher
from rpcasync.serving.draining import Draining
from rpcasync.serving.entrance import Authorize, check_authorize
from rpcasync.serving.listening import AcceptOptions, ListenOptions, check_options, check_uids
from rpcasync.serving.muting import Muting
from rpcasync.serving.namespace import Namespace, Procedure
from rpcasync.serving.notes import Notes
from rpcasync.serving.peers import OUT_OF_MEMORY, Mux, Peers
from rpcasync.serving.records import FAULT, Connection, OnCall, check_on_call
from rpcasync.serving.recovery import Recovery
from rpcasync.serving.reminder import Reminder
from rpcasync.serving.retries import Retries, Retry
from rpcasync.serving.seeing import Seeing
from rpcasync.serving.snapshot import Snapshot
from rpcasync.serving.timeouts import Timeouts
from rpcasync.urls import check_stream, parse_stream_url
from rpcasync.wire.codecs import DEFAULT_MAX_ITEMS, Codec, check_limit, get_codec
from rpcasync.wire.deadlines import check_time
from rpcasync.wire.framing import DEFAULT_MAX_PACKET, check_max_packet

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Server"]


class Server:
    """Answers calls with the `rpc_*` functions of a namespace.

        def rpc_add_numbers(caller, n1: int, n2: int):
            rpc.return_(caller, sum=n1 + n2)

        mux = EventMux()
        rpc = Server(mux)
        rpc.listen("tcp://127.0.0.1:7007")
        while rpc.has_clients():
            rpc.io(mux.mux())

    Leave the sockets of clients to the server: one that the program removes from the mux is not
    noticed until something is sent to it.

    Args:
        mux: an `EventMux`, or anything with its `add`, `send` and `kill`; `close`, `flush`,
            `push_event`, `post`, `want_read` and `timer` are used if they are there.
        namespace: where the procedures are: a module, a mapping, an object with `rpc_*`
            methods, or the dotted name of a module (`"pkg::"` works, too). Default is the module
            of the caller. Names are looked up at each call.
        max_packet: bytes in one packet, both ways. A client that announces more is
            disconnected; an answer that is longer becomes an error.
        codecs: what clients may speak, names or codecs; default is Storable and JSON. The first
            byte that a client sends in a packet chooses.
        max_callbacks: how many callbacks of one client may be alive. A call with more is
            answered with an error.
        max_waiting: how many calls of one client may wait with `set_limits(outstanding=...)`.
            Once there are so many, or they take `max_packet` bytes of memory, nothing is read from
            it until half of them have run. If it hangs up meanwhile, that is noticed within a
            second.
        max_outbuffer: bytes that may be queued for a client that does not read. When an answer
            or the call of a callback is to be sent beyond that, it is disconnected; nothing is
            raised then, and `return_()` returns False. Default is four times `max_packet`.
        max_buffered: bytes that may be kept for all clients together: what has come of packets,
            calls that wait, as they take memory, and what is queued. Beyond that, those that hold
            most are disconnected until the rest fits. Default is 256 MiB.
        packet_timeout: seconds that a packet may take to come, from its first byte; then the
            client is disconnected. None is no limit.
        max_clients: how many clients may be connected. When they are, the listeners pause, and who
            connects waits in the queue of the system until one has gone. What `add_client()` is
            given counts, but never waits. None is no limit.
        idle_timeout: seconds for which nothing may come of a client while nothing is under way:
            no call of it that was not answered, and no function that the program has of it. Then
            it is disconnected, up to an eighth of the time later. None is no limit.
        max_items: values in one packet of a client: what stands in its lists and hashes. A client
            that sends more is disconnected. A codec of `codecs` that is no name has its own limit.
        on_exception: what becomes of a client whose procedure raises anything but a `Fault`. The
            exception is logged and the call answered with an error, which says only that the
            procedure failed; then the client is disconnected, as by the original, or with
            "answer" it stays.
        slow: seconds for which a procedure may block the loop, and so all other clients, before
            the log names it. None is never.
        fallback: another server, for the calls of procedures that this one does not have: a
            `Client` of it, which all clients of ours share, or a URL. At a `tcp://`, `tls://` or
            `unix://` URL each client of ours has a connection of its own; a program that is started
            serves all, and is started again when it has ended. Calls and answers are passed on as
            they come, callbacks too, and `methods` lists what both have. `health` and `stats` are
            those of this server, unless the other one has procedures of its own with these names.
        timeout: seconds that a procedure has to answer a call, from when it is called. Then the
            client gets the error `timeout-server`, and the call counts as answered. None is any
            time. `set_options()` gives a procedure a time of its own.
        authorize: who may connect: a function that is called once for each connection with an
            `eventmux.Peer`, behind the TLS handshake, and before anything is looked at that the
            client has sent. Unless it returns True, the client is disconnected, and the log says
            who it was. So it is when it raises, with a traceback. It has to decide at once: it
            must not turn the loop. Default is to let in everybody.
        on_call: a function that is called with a `CallRecord` once for each call that has ended,
            whichever way, but for calls of built-in procedures. It has to be quick, and must not
            turn the loop; what it raises is logged, and harms no call. None is nobody.

    Raises:
        TypeError: `fallback` is something else, `authorize` or `on_call` cannot be called; or there
            is a `timeout` or an `idle_timeout`, and the mux has no `timer`.
        ValueError: `fallback` is a client on another mux, `max_packet` is not between 7 and
            2**32 - 1, `codecs` is empty, `packet_timeout`, `idle_timeout`, `slow` or `timeout` is
            not above 0, `on_exception` is neither word, or another limit is not 1 or more.
        URLError: `fallback` is a URL that is not understood.
        OSError: the program for it cannot be started.
        ImportError: there is no module of that name.
    """

    @tells_options
    def __init__(
        self,
        mux: Mux,
        namespace: object = None,
        *,
        max_packet: int = DEFAULT_MAX_PACKET,
        codecs: Sequence[str | Codec] | None = None,
        max_callbacks: int = 10_000,
        max_waiting: int = 1_000,
        max_outbuffer: int | None = None,
        max_buffered: int = 256 * 1024 * 1024,
        packet_timeout: float | None = 60.0,
        max_clients: int | None = None,
        idle_timeout: float | None = None,
        max_items: int = DEFAULT_MAX_ITEMS,
        on_exception: Literal["disconnect", "answer"] = "disconnect",
        slow: float | None = 0.1,
        fallback: Client | str | None = None,
        timeout: float | None = None,
        authorize: Authorize | None = None,
        on_call: OnCall | None = None,
    ) -> None:
        if max_outbuffer is None:
            max_outbuffer = 4 * check_max_packet(max_packet)
        self._mux = mux
        if namespace is None:
            namespace = sys._getframe(2).f_globals  # the nearest frame is of `tells_options`
        self._namespace = Namespace(namespace)
        self._notes = Notes(mux)
        self._muting = Muting(mux)
        self._reminder = Reminder(mux, self._notes)
        self._alarms = Alarms(mux)
        check_limit("max_outbuffer", max_outbuffer)
        check_limit("max_buffered", max_buffered)
        self._peers = Peers(mux, self._notes, self._alarms, max_outbuffer, max_buffered)
        self._timeouts = Timeouts(self._alarms, self._peers)
        self._built_in = {
            "methods": Procedure("methods", self._methods),
            "health": Procedure("health", self._health),
            "stats": Procedure("stats", self._stats),
        }
        self._dispatcher = Dispatcher(
            *(self._peers, self._muting, self._timeouts),
            *(self._namespace, self._built_in),
        )
        self._arrivals = Arrivals(mux, self._peers, self._muting, self._dispatcher)
        self._arrivals.take = self.io
        self._draining = Draining(mux, self._peers, self._arrivals, self.return_)
        self._draining.on_begin = self._tell_stopping
        self._agent: Agent | None = None  # most have none
        self._built_in["goaway"] = Procedure("goaway", self._draining.goaway)
        self._seeing = Seeing(mux, self._peers, self._arrivals.entrance, self._dispatcher)
        self._snapshot = Snapshot(mux, self._stats_for_others)
        self.on_call = on_call
        self.authorize = authorize
        self._recovery = Recovery(self._peers, self._notes, self._alarms, self._dispatcher)
        self._supervised: Supervised | None = None  # by systemd: `init_clients()` knows
        self._retries = Retries(self._alarms, self._dispatcher.call_again)
        self._forwarding = Forwarding(self._peers, self._dispatcher)
        self._timeouts.give_up = self._forwarding.give_up
        self.fallback = fallback
        self.set_limits(
            max_packet=max_packet,
            max_callbacks=max_callbacks,
            max_waiting=max_waiting,
            packet_timeout=packet_timeout,
            max_clients=max_clients,
            idle_timeout=idle_timeout,
        )
        self.on_exception = on_exception
        self.slow = slow
        self.timeout = timeout
        self._max_items = check_limit("max_items", max_items)
        self.set_codecs(*(("storable", "json") if codecs is None else codecs))

    def __repr__(self) -> str:
        """Show how many clients and listeners there are."""
        return (
            f"<Server {len(self._peers.by_fh)} clients, {len(self._arrivals.listeners)} listeners>"
        )

    # Limits

    @tells_options
    def set_limits(
        self,
        *,
        outstanding: int | EllipsisType | None = ...,
        max_packet: int | None = None,
        max_callbacks: int | None = None,
        max_waiting: int | None = None,
        max_buffered: int | None = None,
        packet_timeout: float | EllipsisType | None = ...,
        max_clients: int | EllipsisType | None = ...,
        idle_timeout: float | EllipsisType | None = ...,
        max_age: float | EllipsisType | None = ...,
    ) -> None:
        """Change limits; those that are not given stay.

        Args:
            outstanding: how many calls may run at a time, that is, have been given to a
                procedure and not been answered. Those beyond wait, and run by themselves as
                others are answered: client by client, and for each client in order. None is no
                limit, and the default. Calls of unknown procedures and of built-in ones never
                wait, and do not count.
            max_packet: as for `Server`; for clients that connect from now on.
            max_callbacks: as for `Server`.
            max_waiting: as for `Server`.
            max_buffered: as for `Server`.
            packet_timeout: as for `Server`.
            max_clients: as for `Server`. When it is less than there are, nobody has to leave.
            idle_timeout: as for `Server`.
            max_age: seconds after which a client is asked to connect anew, so that a balancer has
                it go elsewhere: the function is called that it has passed to the built-in
                procedure `goaway`. It may be a tenth sooner or later, by chance. A client that has
                passed none is left alone. Those that are connected already count from now on.
                None is no limit, and the default.

        Raises:
            ValueError: a limit is out of range.
            TypeError: there is an `idle_timeout` or a `max_age`, and the mux has no `timer`.
        """
        counts = {
            "max_callbacks": max_callbacks,
            "max_waiting": max_waiting,
            "max_buffered": max_buffered,
        }
        if outstanding is not ...:
            counts["outstanding"] = outstanding
        if max_clients is not ...:
            counts["max_clients"] = max_clients
        for name, limit in counts.items():  # all of them, before any is changed
            if limit is not None:
                check_limit(name, limit)
        if packet_timeout is not ...:
            check_time("packet_timeout", packet_timeout)
        if idle_timeout is not ...:
            check_time("idle_timeout", idle_timeout)
            self._peers.idling.check("idle_timeout", idle_timeout)
        if max_age is not ...:
            check_time("max_age", max_age)
            self._peers.aging.check("max_age", max_age)
        if max_packet is not None:
            self._arrivals.max_packet = check_max_packet(max_packet)
        if max_callbacks is not None:
            self._dispatcher.max_callbacks = max_callbacks
        if max_waiting is not None:
            self._dispatcher.max_waiting = max_waiting
        if max_buffered is not None:
            self._peers.budget.set_limit(max_buffered)
        if packet_timeout is not ...:
            self._peers.patience.set_limit(packet_timeout)
        if idle_timeout is not ...:
            self._peers.idling.set_limit(idle_timeout)
        if max_age is not ...:
            self._peers.aging.set_limit(max_age)
        if max_clients is not ...:
            self._arrivals.entrance.max_clients = max_clients
            self._arrivals.entrance.look()
        if outstanding is not ...:
            for admission in self._peers.admissions:
                admission.outstanding = outstanding
            self._peers.wake_for_waiting()
        self._dispatcher.resume_all()

    def has_queued(self) -> int:
        """Return how many calls wait until others have been answered."""
        return len(self._peers.admissions[0])

    def set_codecs(self, *codecs: str | Codec) -> None:
        """Say what clients may speak that connect from now on, by names or codecs.

        Raises:
            ValueError: there is none, or no codec of a name.
        """
        if not codecs:
            raise ValueError("codecs is empty: clients could speak nothing")
        self._arrivals.codecs = tuple(get_codec(codec, self._max_items) for codec in codecs)

    @property
    def on_exception(self) -> Literal["disconnect", "answer"]:
        """What becomes of a client whose procedure fails: "disconnect" or "answer".

        Raises:
            ValueError: it is set to something else.
        """
        return "answer" if self._dispatcher.keeps_failed else "disconnect"

    @on_exception.setter
    def on_exception(self, value: Literal["disconnect", "answer"]) -> None:
        if value not in ("disconnect", "answer"):
            raise ValueError(f"on_exception is {value!r}, must be 'disconnect' or 'answer'")
        self._dispatcher.keeps_failed = value == "answer"

    @property
    def slow(self) -> float | None:
        """Seconds for which a procedure may block the loop before the log names it; None is never.

        Raises:
            ValueError: it is set to something else than a number above 0 or None.
        """
        return None if self._dispatcher.slow == float("inf") else self._dispatcher.slow

    @slow.setter
    def slow(self, seconds: float | None) -> None:
        check_time("slow", seconds)
        self._dispatcher.slow = float("inf") if seconds is None else seconds

    @property
    def timeout(self) -> float | None:
        """Seconds that a procedure has to answer a call; None is any time.

        It counts for calls that begin from now on, of procedures without a time of their own.

        Raises:
            ValueError: it is set to something else than a number above 0 or None.
            TypeError: it is set to a number, and the mux has no `timer`.
        """
        return self._timeouts.default

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._timeouts.set_default(seconds)

    @property
    def authorize(self) -> Authorize | None:
        """Says who may connect from now on; None lets in everybody.

        Raises:
            TypeError: it is set to something that cannot be called.
        """
        return self._arrivals.entrance.authorize

    @authorize.setter
    def authorize(self, function: Authorize | None) -> None:
        check_authorize(function)
        self._arrivals.entrance.authorize = function

    @property
    def on_call(self) -> OnCall | None:
        """Is told of each call that ends from now on, by a `CallRecord`; None is nobody.

        Raises:
            TypeError: it is set to something that cannot be called.
        """
        return self._seeing.on_call

    @on_call.setter
    def on_call(self, function: OnCall | None) -> None:
        check_on_call(function)
        self._seeing.set_on_call(function)

    @tells_options
    def set_options(self, procedure: str, /, *, timeout: float | None) -> None:
        """Say how one procedure is treated, for calls that begin from now on.

        Args:
            procedure: its name, as clients call it; there need not be one yet.
            timeout: seconds that it has to answer, in the place of those of the server; None is
                any time.

        Raises:
            ValueError: `timeout` is not above 0.
            TypeError: `procedure` is no str; or the mux has no `timer`.
        """
        self._timeouts.set_own(procedure, timeout)

    # Clients and listeners

    @property
    def clients(self) -> set[socket.socket]:
        """The sockets of the clients that are connected."""
        return set(self._peers.by_fh) - self._peers.inner

    def has_clients(self) -> bool:
        """True while a client is connected, or a listener can still bring one.

        A client that was disconnected counts until what it is still to get has been sent, and any
        client until the functions of `on_close()` have been called.
        """
        peers, entrance = self._peers, self._arrivals.entrance
        are_here = len(peers.by_fh) > len(peers.inner) or entrance.waiting
        return bool(are_here or entrance.listeners or peers.leaving or peers.closings.due)

    def add_client(self, sock: socket.socket, *, meta: dict[Any, Any] | None = None) -> bool:
        """Serve a connected socket, however many clients there are.

        Args:
            sock: the socket.
            meta: what its calls have as `caller.meta`.

        Returns:
            True; False if `authorize` does not let it in: then it is closed.

        Raises:
            TypeError: it is no stream socket, or `meta` is no dict.
            ValueError: the mux watches it already, or it is a listener.
        """
        check_stream(sock)
        if not isinstance(meta, (dict, type(None))):
            raise TypeError(f"meta is {meta!r}, must be a dict")
        is_admitted = self._arrivals.add(sock, meta)
        self._draining.look_soon()
        return is_admitted

    def on_close(self, caller: Caller, function: Callable[[Caller], object]) -> Closing:
        """Have a function called once when the client of a call has gone, whatever the reason.

        It is called with `caller` from `io()`, in the next turn; if the client has gone already, in
        that, too. `caller` need not be kept: if nobody has, it is another one like it, with the
        same `meta`. A client that has only finished sending has not gone while it is owed an
        answer; over TCP, one that closes its socket looks the same until something is sent to it,
        or keepalive asks. Several functions are called in order. An exception is logged, and the
        others are called all the same. One that Ctrl-C interrupts is called again. A program that
        ends before its clients go calls none.

        Returns:
            What can be cancelled, with `cancel()`.

        Raises:
            TypeError: `caller` is not what a procedure was given, or `function` cannot be called.
        """
        check_function(caller, function)
        return self._peers.closings.add(caller, function)

    def add_listener(
        self,
        sock: socket.socket,
        *,
        uids: Collection[int] | None = None,
        shared: bool = False,
        **options: Unpack[AcceptOptions],
    ) -> None:
        """Serve whoever connects to a listening socket.

        Args:
            sock: the socket.
            uids: as for `listen()`.
            shared: another process accepts here, too, or will: `drain()` leaves to it who waits.
            options: as for `listen()`, but for `backlog` and `reuse_port`.

        Raises:
            TypeError: it is no stream socket, there is no such option, or one is wrong.
            ValueError: the mux watches it already, it does not listen, or an option does not fit.
        """
        check_stream(sock)
        check_options("add_listener", options, AcceptOptions.__optional_keys__)
        self._arrivals.add_listener(sock, check_uids(uids, sock.family), options)
        if shared:
            self._draining.share(sock)
            self._arrivals.entrance.share_listener(sock)
        self._draining.look_soon()

    def listen(
        self,
        url: str,
        *,
        mode: int | None = None,
        uids: Collection[int] | None = None,
        **options: Unpack[ListenOptions],
    ) -> socket.socket:
        """Serve whoever connects to a `tcp://`, `tls://` or `unix://` URL; return the listener.

        At an address that others on the network can reach, without TLS, a warning is logged.

        Args:
            url: where to listen.
            mode: who may connect to a UNIX path, as for `url_listen()`.
            uids: the users that may connect to a UNIX path, by number; root counts as any other.
                Who is not among them is disconnected, as by `authorize`. None is all.
            options: `tls`, `handshake_timeout`, `proxy`, `trusted`, `keepalive`, `nodelay`,
                `backlog` and `reuse_port`, as for `EventMux.listen()`; and `half_close`, which is
                True by default: a client that has finished sending still gets its answers.

        Raises:
            URLError: the URL is not understood.
            OSError: the address is in use, the name is unknown, permission is missing... Its
                `filename` is the URL.
            TypeError: there is no such option, or one is wrong.
            ValueError: an option does not fit: `uids` for what is no UNIX path, `tls://` without
                `tls`...
        """
        endpoint = parse_stream_url(url)  # what else can be listened on brings no streams
        check_options("listen", options, ListenOptions.__optional_keys__)
        allowed = check_uids(uids, socket.AF_UNIX if endpoint.path else socket.AF_INET)
        sock = self._arrivals.listen(url, mode, allowed, options)
        self._draining.look_soon()
        return sock

    def agent(self, url: str) -> socket.socket:
        """Tell a balancer how this server does: HAProxy, by its agent-check. Return the listener.

        Whoever connects is told in a line, and disconnected: `up ready N%`, where N is 100 if
        nothing is to be done, and less as more calls run and wait, of the `outstanding` that may,
        and as the loop is later; it is 1 at least. `drain`, as soon as the server drains, and
        `down`, once its deadline is over. No client is counted. When `has_clients()` is
        False, this listener is closed as well: it keeps no loop from ending.

        Args:
            url: where to listen: `tcp://` for HAProxy, or `unix://`.

        Raises:
            URLError: the URL is another one, or is not understood.
            OSError: the address is in use, permission is missing... Its `filename` is the URL.
        """
        if self._agent is None:
            entrance = self._arrivals.entrance
            self._agent = Agent(self._mux, self._peers, entrance, self._draining)
        return self._agent.listen(url)

    def close_listeners(self) -> None:
        """Accept nobody any more. The loop then ends with the last client."""
        self._arrivals.close_listeners()

    def drain(self, deadline: float = 30.0, delay: float = 0.0) -> None:
        """Stop without losing a call: `has_clients()` is False once all clients have left.

        Each client that has asked by the built-in procedure `goaway` has its callback called. A
        client leaves by itself; until it does, its calls are answered as ever. Who waits in the
        queue of a listener is accepted before that is closed, two seconds later at most. Called
        again, it brings the deadline nearer: 0 is now.

        Args:
            deadline: seconds until those who are left are disconnected, and the log says how many
                clients and unanswered calls that were.
            delay: seconds until the listeners are closed: for a balancer to notice first, that
                looks at `draining` by some procedure.

        Raises:
            ValueError: a time is negative, infinite or NaN.
            TypeError: a time is no number, or the mux has no `timer`.
        """
        self._draining.begin(deadline, delay)

    @property
    def draining(self) -> bool:
        """True from `drain()` on."""
        return self._draining.has_begun

    def _tell_stopping(self) -> None:
        """Have systemd know that the server has begun to stop."""
        if self._supervised is not None:
            self._supervised.stopping()

    # Answers

    def return_(self, caller: Caller, /, *values: object, **named: object) -> bool:
        """Answer a call with values, then with names and values.

        From then on `caller.answered` is True.

        Returns:
            True; False if the client has gone, or has got the error `timeout-server`, and there is
            nobody to answer.

        Raises:
            TypeError: `caller` is not what a procedure was given.
            ValueError: the call is answered already.
            EncodeError: a value cannot be sent, or the packet is over the limit. The call is
                not answered then.
        """
        answer = [*values]
        for pair in named.items():
            answer += pair
        if type(caller) is not Caller or caller.answered:
            return is_late(caller)
        peer = caller._peer
        try:
            packet = b"" if peer.gone else peer.protocol.result(caller.id, answer)
        except MemoryError:
            self._peers.kill(peer, OUT_OF_MEMORY)
            packet = b""
        return self._peers.answer(caller, packet)

    def error(self, caller: Caller, text: str) -> bool:
        """Answer a call with an error; the client stays. A text of over 4096 characters is cut.

        Returns:
            As `return_()`.

        Raises:
            TypeError: `caller` is not what a procedure was given, or `text` is no str.
            ValueError: the call is answered already.
            EncodeError: the packet is over the limit. The call is not answered then.
        """
        if not isinstance(text, str):
            raise TypeError(f"error text is {text!r}, must be a str")
        if type(caller) is not Caller or caller.answered:
            return is_late(caller)
        peer = caller._peer
        try:
            packet = b"" if peer.gone else peer.protocol.failure(caller.id, text)
        except MemoryError:
            self._peers.kill(peer, OUT_OF_MEMORY)
            packet = b""
        return self._peers.answer(caller, packet, FAULT)

    def retry(self, caller: Caller, seconds: float, function: Callable[[Caller], object]) -> Retry:
        """Have a function called after some seconds, unless the call has been answered by then.

        It is called as `function(caller)` from `io()`, and treated as the procedure itself: what
        it raises, how long it blocks the loop. It may answer, or ask for another retry. It is
        forgotten when the call is answered, when its time is over, and when its client has gone;
        until then `caller` is kept.

        Returns:
            What can be cancelled, with `cancel()`.

        Raises:
            TypeError: `caller` is not what a procedure was given, `seconds` is no number,
                `function` cannot be called, or the mux has no `timer`.
            ValueError: `seconds` is negative or infinite, or the program has answered the call.
        """
        check_function(caller, function)
        return self._retries.add(caller, seconds, function)

    def _methods(self, caller: Caller, defs: int | bool = 0) -> None:
        """Answer the built-in procedure `methods`."""

        def answer(others: dict[str, object]) -> None:
            self.return_(caller, methods=others | self._namespace.methods(defs, caller))

        self._forwarding.methods(caller, defs, answer)

    # How it does

    def stats(self) -> dict[str, Any]:
        """Return how the server does; from the first look on, calls are counted.

        Known at any time:

        - `status`: what the built-in procedure `health` answers: `ok`, `draining`, or `overloaded`
          when `max_clients` are connected, or as many calls wait as may run.
        - `pid`: the process that has answered, where several do at one address.
        - `uptime`: seconds since the server was made.
        - `listeners` and `clients`: how many there are.
        - `accepted` and `refused`: connections so far.
        - `running`: calls that were given to a procedure and not answered.
        - `waiting`: calls that wait until others have been answered.
        - `queued`: bytes that clients have not read.

        Counted since the first `stats()`, `connections()` or call of the built-in `stats`, and so 0
        or None at first:

        - `counted`: seconds since then.
        - `calls`: calls that have ended, by the outcomes of `CallRecord`.
        - `procedures`: by name, `calls`; `errors`, which are all that were not answered with
          values, but for clients that left; `p50` and `p99`, the seconds that half of the calls and
          99 of 100 took at most; `outcomes`; `seconds` of all calls together; and `counts`, how
          many took how long, by the `bounds` beside `procedures`, and longer than the last. From
          1,000 procedures on, all others are `(others)`.
        - `lag`: how many seconds the loop was late when it was looked at last, as it is once a
          second while there are clients.
        - `most_lag`: the most in the last 60 looks.

        Calls of built-in procedures are not counted.
        """
        stats = self._seeing.stats(self._status())
        draining = getattr(self, "draining", None)
        return stats if draining is None else {**stats, "draining": draining}

    def connections(self) -> list[Connection]:
        """Return a record for each client that is connected; as `stats()`, it turns counting on."""
        return self._seeing.connections()

    def _status(self) -> str:
        return self._seeing.health(bool(getattr(self, "draining", False)))

    def _health(self, caller: Caller) -> None:
        """Answer the built-in procedure `health`."""
        self.return_(caller, status=self._status())

    def _stats(self, caller: Caller) -> None:
        """Answer the built-in procedure `stats`."""
        peer = caller._peer
        self._peers.answer(caller, self._snapshot.packet(peer.protocol, caller.id))

    def _stats_for_others(self) -> dict[str, Any]:
        stats = self.stats()
        stats["running"] -= 1  # the call of `stats`, which is none of the program's
        return stats

    # Other servers

    @property
    def fallback(self) -> Client | str | None:
        """Another server, for calls of procedures that this one does not have; None is none.

        Raises:
            TypeError: it is set to something else than a `Client`, a URL or None.
            URLError: it is set to a URL that is not understood.
            OSError: it is set to a program that cannot be started.
        """
        return self._forwarding.server

    @fallback.setter
    def fallback(self, server: Client | str | None) -> None:
        self._forwarding.set_fallback(self._mux, server)

    # Events

    def io(self, event: SomeEvent) -> SomeEvent | None:
        """Take an event if it is this server's; return it if it is not.

        Procedures run from here, for some milliseconds, and what is left then waits for an event
        of the server's own. What goes wrong in one is its client's affair; nothing is raised but
        what ends a program, such as KeyboardInterrupt. If it goes on, no call is lost by that.
        """
        notes, peers, peer, is_ours = self._notes, self._peers, None, False
        unfed: Event | None = event
        try:
            if notes.actions:
                notes.do()
            fh: Any = None if event is None else event.fh
            if event is None or (fh is None and self._is_wake_up(event)):
                self._dispatcher.go_on()
                if event is None and self._draining.on_idle is not None:
                    self._draining.on_idle()
                return None
            try:
                peer = peers.by_fh.get(fh)
            except TypeError:  # an event of the program's own, whose fh is no handle
                return event
            if peer is not None:
                if event.type == "read":
                    if not peer.broken:  # else it is served to the end of what it sent before
                        peer.protocol.framing.feed(event.data)  # type: ignore[attr-defined]
                    unfed = None  # it must not be fed twice
                    if not peer.in_line:
                        self._dispatcher.serve(peer)
                else:
                    self._arrivals.peer_event(peer, event)
            elif fh in peers.leaving:
                is_ours = True
                if event.type == "closed":
                    peers.closed(fh)
                elif event.type == "connect":  # it was refused, and that was interrupted
                    self._arrivals.io(fh, event)
            elif fh in self._forwarding.connections:
                is_ours = True  # also when that was its last event, and it is not known any more
                if not self._forwarding.io(event):
                    return event
            elif not self._arrivals.io(fh, event) and not self._takes_agent(fh, event):
                return event
            if not notes.can_wake:
                notes.do()
                self._dispatcher.go_on()
            return None
        except MemoryError as error:
            self._recovery.run_out_of_memory(peer, error)
            return None
        except BaseException:  # Ctrl-C, say, or the end of the program
            if unfed is not None and self._forwarding.goes_on_with(unfed):
                unfed = None
            self._recovery.interrupted(unfed, self.io, is_ours or peer is not None)
            raise

    def _takes_agent(self, fh: Any, event: Event) -> bool:
        return self._agent is not None and self._agent.io(fh, event)

    def _is_wake_up(self, event: Event) -> bool:
        """True for an event that only tells us to look what there is to do."""
        return (
            self._notes.io(event)
            or self._muting.io(event)
            or self._peers.patience.io(event)
            or self._peers.idling.io(event)
            or self._peers.aging.io(event)
            or self._alarms.io(event)
            or self._reminder.io(event)
            or (self._supervised is not None and self._supervised.io(event))
            or self._draining.io(event)
            or self._peers.lag.io(event)
        )
