"""Several connections, one after the other, as one: what `AsyncClient` has in place of one.

New calls go to the newest link. One that was lost, or whose server is about to leave, has another
one follow, which takes over what can go on there. Where that goes, and when, is as for the other
clients: `reconnecting/route.py` says it.

This file sends nothing, and knows no transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from rpcasync.awaiting.callbacks import Callback
from rpcasync.awaiting.connection import Connection, Pending
from rpcasync.awaiting.encryption import Encryption
from rpcasync.awaiting.link import Link
from rpcasync.awaiting.opening import open_connection
from rpcasync.reconnecting.route import GOING, Route
from rpcasync.wire.protocol import ClientProtocol

__all__ = ["LastingConnection", "open_lasting"]


class LastingConnection:
    """Several connections as one.

    Args:
        loop: the one that runs.
        make_protocol: makes the core of each.
        route: the endpoints.
        encryption: how each of them is encrypted; None is plain.
        timeout: seconds until a call fails that is not answered; None is never.
        retry: which calls are sent again, as for `Client`.
        front: the class that the program calls.
    """

    is_full = False  # what waits here has a task that waits for it
    crowd: Mapping[asyncio.Future[None], None] = {}  # nobody ever
    process = None
    sock = None
    ending = None

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        make_protocol: Callable[[], ClientProtocol],
        route: Route,
        encryption: Mapping[str, Encryption | None],
        timeout: float | None,
        retry: str | None,
        front: type,
    ) -> None:
        self.loop = loop
        self.name = route.name
        self.timeout = timeout
        self.timeouts: dict[str, float | None] = {}
        """Those of single procedures."""
        self.retry = retry
        self.front = front
        self.workers: dict[asyncio.Task[None], Callback] = {}
        """Tasks that run callbacks, of all connections."""
        self.is_lost = False
        """The program has closed it."""
        self.ended: asyncio.Future[None] = loop.create_future()
        """Done when it has ended."""
        self.first: asyncio.Future[None] = loop.create_future()
        """Done when a server has answered."""
        self._make_protocol = make_protocol
        self._route = route
        self._encryption = encryption
        self._lost = ""  # why the last connection was lost, or did not come up
        self._held = 0
        self._inside = 0
        self._link = Link(self, make_protocol(), route, 0.0)
        self._links = [self._link]

    # What a client asks of its connection

    @property
    def pending(self) -> list[Pending]:
        """The calls that are not answered."""
        return [call for link in self._links for call in link.calls()]

    def put(self, call: Pending, values: list[object]) -> None:
        """Make a call, which has its id then; as `Connection.put()`."""
        self._link.put(call, values)

    def give_up(self, call: Pending) -> None:
        """Wait for an answer no more, if it has not come."""
        for link in self._links:
            if link.pending.get(call.id) is call:
                link.give_up(call)
                return

    def timeout_of(self, procedure: str) -> float | None:
        """Return the seconds that calls of a procedure have; None is for ever."""
        return self.timeouts.get(procedure, self.timeout)

    async def room(self) -> None:
        """Do nothing: there is room."""

    def hold(self, size: int) -> None:
        """Count bytes that wait for runs of callbacks."""
        self._held += size
        for link in self._links:
            link.hold(size)

    def enter(self, change: int) -> None:
        """Note that a callback waits for an answer, or no longer: until then all is read."""
        self._inside += change
        for link in self._links:
            link.enter(change)

    # What links ask for

    async def open(self, link: Link) -> Connection:
        """Connect a link."""
        encryption = self._encryption[link.name]
        return await open_connection(self.loop, link.name, (), lambda _: link, encryption)

    def follow(self, link: Link) -> Link | None:
        """Return the link that comes after one; None if the program has closed the client."""
        if self.is_lost:
            return None
        if self._link is link:
            self._make_next(link)
        return self._link

    def _make_next(self, link: Link) -> None:
        self._route, delay = self._route.after(
            is_going=link.is_going,
            is_lost=link.is_lost,
            has_heard=link.has_heard,
            seconds=self.loop.time() - link.began,
        )
        if delay is not None:
            self._lost = f"{link.name}: {link.reason or GOING}"
            self._route.tell(self._lost, delay)
        protocol = self._make_protocol()
        protocol.follow(link._protocol)
        self._link = Link(self, protocol, self._route, delay or 0.0)
        self._links.append(self._link)
        self._link.hold(self._held)
        self._link.enter(self._inside)

    def heard(self) -> None:
        """Note that a server has answered."""
        if not self.first.done():
            self.first.set_result(None)

    def why_not(self) -> str:
        """Return why calls cannot leave, in words."""
        return f"there is no connection: {self._lost or self._link.state}"

    def retire(self, link: Link) -> None:
        """Let go of a link that has ended."""
        if link in self._links:
            self._links.remove(link)
        if not self._links and not self.ended.done():
            self.ended.set_result(None)

    def stop(self) -> None:
        """Connect to nothing any more."""
        self.is_lost = True

    # The end

    def leave(self, grace: float) -> None:
        """Send what waits, and have all connections end."""
        self.is_lost = True
        for link in [*self._links]:
            link.leave(grace)

    def abort(self) -> None:
        """Drop what has not left."""
        for link in [*self._links]:
            link.abort()

    def drop(self) -> None:
        """Leave without a wait: nobody has the client any more."""
        self.leave(0.0)
        self.abort()


async def open_lasting(lasting: LastingConnection, timeout: float | None) -> LastingConnection:
    """Wait until a server has answered.

    Raises:
        TimeoutError: none does.
    """
    try:
        await asyncio.wait_for(asyncio.shield(lasting.first), timeout)
    except BaseException as error:
        why = lasting.why_not()
        lasting.drop()
        await asyncio.wait({lasting.ended})
        if isinstance(error, asyncio.TimeoutError):
            text = f"cannot connect to {lasting.name}: no answer within {timeout} seconds; {why}"
            raise TimeoutError(text) from None
        raise
    return lasting
