"""`Client(mux, urls, reconnect=...)`: one client over several connections, one after the other.

It stands in front of its links, each of which is a connection or the wait for one. New calls go to
the newest link. One that was lost, or whose server is about to leave, has another one follow, which
takes over what can go on there; what cannot fails where it was. The program's callbacks are called
by the links, as those of any client: this file calls none.

An event belongs to one link, and goes to that. So whatever Ctrl-C interrupts comes again there.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Collection, Mapping
from threading import get_ident
from typing import TYPE_CHECKING, Any

from eventmux import EventMux
from eventmux._nearest import tells_options
from eventmux.events import Closed, Event, SomeEvent
from rpcasync._log import log
from rpcasync.backoff import Backoff
from rpcasync.calls import Call, check_procedure, remote_error
from rpcasync.client import Client, _raise_if_any
from rpcasync.errors import RemoteError
from rpcasync.opening import mux_comes_first
from rpcasync.reconnecting.link import Link, Plan
from rpcasync.reconnecting.route import GOING, Route, checked_retry, checked_route
from rpcasync.wire.codecs import DEFAULT_MAX_ITEMS, Codec, check_limit, get_codec
from rpcasync.wire.deadlines import check_seconds, check_timeout
from rpcasync.wire.framing import DEFAULT_MAX_PACKET, check_max_packet
from rpcasync.wire.messages import Id
from rpcasync.wire.protocol import ClientProtocol

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["ReconnectingClient"]

_NO_LIMIT = 2**31
_NAP = 0.01  # seconds between two looks at several connections, while `result()` waits
_MOST_NESTED = 32


class ReconnectingClient(Client):
    """What `Client(mux, url, reconnect=...)` is; the options are described there."""

    _called = "Client"  # in messages
    _connects_again = True

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
        retry: str | None = None,
    ) -> None:
        checked_retry(retry)
        if args or process is not None or output is not None:
            raise TypeError("reconnect= is for servers that others start: no args, process, output")
        self._route = checked_route(server, reconnect)
        if max_outbuffer is None:
            max_outbuffer = 4 * check_max_packet(max_packet)
        check_limit("max_outbuffer", max_outbuffer)
        if limit is not None:
            check_limit("limit", limit)
        self._lost = ""  # why the last connection was lost, or did not come up
        self._is_over = False  # the program has disconnected
        self._has_called = False
        self._plan = Plan(
            get_codec(codec, max_items),
            max_packet,
            max_outbuffer,
            _NO_LIMIT if limit is None else limit,
            check_timeout(timeout),
            retry,
            (tls, server_hostname),
        )
        self._name = self._route.name
        self._begin(mux, close_on_idle)
        self._home: tuple[dict[object, Any], object] | None = None  # who takes our events
        self._link = Link(self, mux, self._route, self._plan)
        self._links = [self._link]

    @property
    def fh(self) -> socket.socket:  # type: ignore[override]
        """The socket of the newest connection; while there is none, its `fileno()` is -1."""
        return self._link.fh

    @property
    def process(self) -> None:
        """None: the server is nobody's child."""
        return None

    @property
    def stdout(self) -> None:
        """None, too."""
        return None

    @property
    def stderr(self) -> None:
        """None, too."""
        return None

    def __repr__(self) -> str:
        """Show where it connects to and how many calls are pending."""
        return f"<Client of {self._name}, {len(self.dump_requests())} calls pending>"

    # Calls

    def call(self, procedure: str, /, *args: object, **named: object) -> Call:
        """As `Client.call()`."""
        if get_ident() != self._thread:
            self._check_thread()
        check_procedure(procedure)
        values = [*args]
        callback: Any = values.pop() if values and callable(values[-1]) else None
        for pair in named.items():
            values += pair
        call, link, self._has_called = Call(self, procedure, values, callback), self._link, True
        try:
            link.outbox.put(call, values)
            link._times.give(call)
            self._see_if_over()
            return call  # in here: until then nobody has it
        except BaseException:  # Ctrl-C, say
            link._withdraw(call)
            raise

    def _relay(
        self, call: Call, values: list[object], payload: bytes, functions: Mapping[Id, object]
    ) -> None:
        self._check_thread()
        link = self._link
        try:
            link.outbox.relay(call, values, payload, functions)
            link._times.give(call)
            self._see_if_over()
        except BaseException:  # Ctrl-C, say: nobody has the call
            link._withdraw(call)
            raise

    def _see_if_over(self) -> None:
        """Have the calls of a client fail that has disconnected."""
        if self._is_over:
            self._mux.push_event(Closed(self._link.fh, reason="disconnected"))

    # For a server that passes calls on

    def _hand_to(self, handles: dict[object, Any], whose: object) -> None:
        self._home = handles, whose
        for link in self._links:
            link._hand_to(handles, whose)

    def _take_back(self, handles: dict[object, Any], whose: object) -> None:
        home = self._home
        if home is not None and home[0] is handles and home[1] is whose:
            self._home = None
        for link in self._links:
            link._take_back(handles, whose)

    def _goes_on_with(self, event: Event) -> bool:
        return any(link._goes_on_with(event) for link in self._links)

    def _protocol_of(self, call: Call) -> ClientProtocol:
        return self._link_of(call)._protocol

    def _functions(self) -> Collection[object]:
        return [function for link in self._links for function in link.functions()]

    # What is under way

    def has_requests(self) -> bool:
        """As `Client.has_requests()`."""
        return any(link.calls() for link in self._links)

    def has_coderefs(self) -> int:
        """As `Client.has_coderefs()`."""
        return len(self._functions())

    def has_work(self) -> bool:
        """As `Client.has_work()`."""
        if self.has_requests() or self.has_coderefs():
            return True
        return any(
            link._loss.is_ending or (self._closes_on_idle and link._inbox.is_woken)
            for link in self._links
        )

    def dump_requests(self) -> Mapping[Id, Call]:
        """As `Client.dump_requests()`, but not live."""
        return {call.id: call for link in self._links for call in link.calls()}

    def wait(self, timeout: float | None, *calls: Call | Id) -> bool:
        """As `Client.wait()`."""
        ids = {call.id if isinstance(call, Call) else call for call in calls}
        if ids:
            return self._run_until(lambda: ids.isdisjoint(self.dump_requests()), timeout)
        return self._run_until(lambda: not self.has_requests(), timeout)

    def _run_until(self, is_over: Callable[[], bool], timeout: float | None) -> bool:
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
            for link in [*self._links]:
                _raise_if_any(link._take())
            while not is_over():
                if self._is_time_over(deadline):
                    return is_over()
        finally:
            self._nested -= 1
        return True

    def _is_time_over(self, deadline: float | None) -> bool:
        """Take the next event of each link; return True if there is no time for another."""
        links, now = [*self._links], self._mux.clock
        if len(links) == 1:
            is_over = links[0]._is_time_over(deadline)  # also if the connection is lost
            if self._closes_on_idle:
                self._see_idle()
            return is_over and deadline is not None and now() >= deadline
        for link in links:
            end = now() + (_NAP if link is links[-1] else 0.0)
            link._is_time_over(end if deadline is None else min(end, deadline))
        return deadline is not None and now() >= deadline

    @tells_options
    def set_options(self, procedure: str, /, *, timeout: float | None) -> None:
        """As `Client.set_options()`."""
        self._check_thread()
        self._plan.timeouts[check_procedure(procedure)] = check_timeout(timeout)
        for link in self._links:
            link._times.set_own(procedure, timeout)

    def _remote_error(self, procedure: str, text: str) -> RemoteError:
        if procedure in vars(self):
            return remote_error(text, procedure, Client)
        return RemoteError(text)

    def _link_of(self, call: Call) -> Link:
        """Return the link where a call is pending; any if it is not."""
        links = (link for link in self._links if link._protocol.pending.get(call.id) is call)
        return next(links, self._link)

    def _set_timeout(self, call: Call, seconds: float | None) -> None:
        self._check_thread()
        self._link_of(call)._times.set(call, seconds)

    def _cancel(self, call: Call) -> bool:
        self._check_thread()
        return self._link_of(call)._cancel(call)

    # Events

    def io(self, event: SomeEvent) -> SomeEvent | None:
        """As `Client.io()`."""
        if get_ident() != self._thread:
            self._check_thread()
        if not isinstance(event, Event):
            return self._link.io(event)  # None, or a wrong call
        for link in self._links:
            if event.fh is link.fh:
                rest: SomeEvent | None = link.io(event)
                if self._closes_on_idle:
                    self._see_idle()
                return rest
        return event

    def _see_idle(self) -> None:
        """Disconnect if there is nothing to wait for; in the next turn if somebody waits here."""
        if self._is_over or not self._has_called or self.has_requests() or self.has_coderefs():
            return
        if self._nested:
            self._link._inbox.wake()
        else:
            self.disconnect()

    # The links

    def _follow(self, link: Link) -> Link | None:
        """Return the link that comes after one; None if the program has disconnected."""
        if self._is_over:
            return None
        if self._link is link:
            self._make_next(link)
        return self._link

    def _make_next(self, link: Link) -> None:
        """Have another link after the newest one."""
        if link._delay is not None:  # it has waited
            self._connect(link, self._route)
            return
        route, delay = self._route.after(
            is_going=link.is_going,
            is_lost=bool(link._loss.reason),
            has_heard=link.has_heard,
            seconds=self._mux.clock() - link.began,
        )
        if delay is None:
            self._connect(link, route)
            return
        why = f"{link._name}: {link._loss.reason or GOING}"
        route.tell(why, delay)
        self._add(Link(self, self._mux, route, self._plan, link, delay), route, why)

    def _connect(self, link: Link, route: Route) -> None:
        following: Link | None = None
        try:
            following = Link(self, self._mux, route, self._plan, link)
            self._add(following, route, self._lost)
        except OSError as error:  # out of descriptors, for example
            after, delay = route.after_loss()
            why = f"{route.url}: {error}"
            log.warning("%s; connecting again in %s seconds", why, f"{delay:.2f}")
            following = Link(self, self._mux, after, self._plan, link, delay)
            self._add(following, after, why)
        except BaseException:  # Ctrl-C, say: nobody has the link
            if following is not None and following is not self._link:
                self._mux.kill(following.fh)
            raise

    def _add(self, following: Link, route: Route, why: str) -> None:
        if self._home is not None:
            following._hand_to(*self._home)
        links = [*self._links, following]
        # One line: all of it, or none
        self._links, self._route, self._lost, self._link = links, route, why, following

    def _why_late(self, call: Call) -> str:
        if self._link_of(call).has_heard:
            return ""
        return f"; {self._why_not()}"

    def _why_not(self) -> str:
        """Return why calls cannot leave just now, in words."""
        return f"there is no connection: {self._lost or self._link.state}"

    def _retire(self, link: Link) -> None:
        """Let go of a link."""
        if link is not self._link:
            if self._home is not None:
                link._take_back(*self._home)
            self._links = [other for other in self._links if other is not link]

    # The end

    def disconnect(self, grace: float = 5.0) -> None:
        """End the connection, and make no other; what has been called leaves as in `Client`.

        Calls that wait for a connection fail with `Disconnected`.

        Raises:
            ValueError: `grace` is negative, infinite or NaN.
        """
        self._check_thread()
        check_seconds("grace", grace)
        self._is_over = True
        for link in self._links:
            link.disconnect(grace)


Client._reconnecting = ReconnectingClient
