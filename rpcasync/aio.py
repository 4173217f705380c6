"""`AsyncClient`: a client in a running asyncio loop, whose calls are awaited.

There is no mux here: the loop waits. This file is what a program may ask for; the core, the
signatures of callbacks and the errors are those of the other clients, and the connection is in
`awaiting/`.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import warnings
from collections.abc import Callable, Coroutine, Generator, Mapping
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Literal

from eventmux._nearest import tells_options
from eventmux.events import MaybeNone
from rpcasync.awaiting.connection import Connection, Pending
from rpcasync.awaiting.encryption import Encryption
from rpcasync.awaiting.lasting import LastingConnection, open_lasting
from rpcasync.awaiting.opening import open_connection
from rpcasync.backoff import Backoff
from rpcasync.calls import Reply, check_procedure
from rpcasync.errors import CallTimeout, RemoteError
from rpcasync.opening import checked_single
from rpcasync.reconnecting.route import Route, checked_retry, checked_route
from rpcasync.wire.codecs import DEFAULT_MAX_ITEMS, Codec, get_codec
from rpcasync.wire.deadlines import check_seconds, check_timeout
from rpcasync.wire.framing import DEFAULT_MAX_PACKET, check_max_packet
from rpcasync.wire.protocol import ClientProtocol

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["AsyncClient", "Connecting", "connect"]


def connect(
    url: str | socket.socket | list[str],
    *args: str,
    codec: str | Codec = "storable",
    max_packet: int = DEFAULT_MAX_PACKET,
    timeout: float | None = None,
    max_items: int = DEFAULT_MAX_ITEMS,
    tls: SSLContext | None = None,
    server_hostname: str | None = None,
    reconnect: Backoff | None = None,
    retry: Literal["unsent", "idempotent"] | None = None,
) -> Connecting:
    """Connect to a server, in a running asyncio loop.

    `async with rpcasync.aio.connect(url) as rpc:` closes at the end of the block. With
    `rpc = await rpcasync.aio.connect(url)` the client is open until `await rpc.close()`.

    Args:
        url: a URL, or a connected socket. A `python://` or `perl://` URL starts the program. With
            `reconnect`, a `tcp://`, `tls://` or `unix://` URL, or a list of them.
        args: arguments for a program that is started.
        codec: "storable", "json", or a codec of your own.
        max_packet: bytes in one packet, both ways.
        timeout: seconds after which connecting fails, and a call that is not answered with
            `CallTimeout`; None is never. For a single call there is `asyncio.timeout()`.
        max_items: values in one packet of the server, as for `Client`.
        tls: for `tls://`, as for `Client`; asyncio does the encrypting.
        server_hostname: as for `Client`.
        reconnect: connect again when the connection is lost, after such a time, as for `Client`.
        retry: which calls are sent again then, as for `Client`.

    Returns:
        What is awaited, or entered by `async with`, once: both give an `AsyncClient`. That raises
        OSError, whose text has the URL, if nobody is there or the program cannot be started. With
        `reconnect` it waits until a server has answered, and tries again and again.

    Raises:
        TypeError: there is a list of URLs, or `retry`, without `reconnect`.
        ValueError: there is no such codec, `max_packet` is not between 7 and 2**32 - 1, or
            `timeout` is negative, infinite or NaN; or `tls` is for a program that is started.
    """
    check_max_packet(max_packet)
    check_timeout(timeout)
    known = get_codec(codec, max_items)
    opening: Opening
    if reconnect is None:
        server = checked_single(url, retry)
        name = server if isinstance(server, str) else repr(server)
        encryption = Encryption.of(server, tls, server_hostname)
        opening = partial(_open, server, args, name, known, max_packet, timeout, encryption)
    else:
        if args:
            raise TypeError("reconnect= is for servers that others start: no args")
        route = checked_route(url, reconnect)
        name = route.name
        each = {one: Encryption.of(one, tls, server_hostname) for one in route.urls}
        retry_all = checked_retry(retry)
        opening = partial(_open_lasting, route, known, max_packet, timeout, retry_all, each)
    return Connecting(name, opening)


Opening = Callable[[asyncio.AbstractEventLoop], Coroutine[Any, Any, Connection | LastingConnection]]


async def _open(
    server: str | socket.socket,
    args: tuple[str, ...],
    name: str,
    codec: Codec,
    max_packet: int,
    timeout: float | None,
    encryption: Encryption | None,
    loop: asyncio.AbstractEventLoop,
) -> Connection:
    """Connect once."""

    def make(sock: socket.socket | None) -> Connection:
        return Connection(loop, ClientProtocol(codec, max_packet), name, timeout, sock)

    opening = open_connection(loop, server, args, make, encryption)
    if timeout is None:
        connection = await opening
    else:
        try:
            connection = await asyncio.wait_for(opening, timeout)
        except asyncio.TimeoutError:
            text = f"{name}: no connection within {timeout} seconds"
            raise TimeoutError(text) from None
    connection.front = AsyncClient
    return connection


async def _open_lasting(
    route: Route,
    codec: Codec,
    max_packet: int,
    timeout: float | None,
    retry: str | None,
    encryption: Mapping[str, Encryption | None],
    loop: asyncio.AbstractEventLoop,
) -> LastingConnection:
    """Connect, again and again, until a server has answered."""
    lasting = LastingConnection(
        loop,
        lambda: ClientProtocol(codec, max_packet),
        route,
        encryption,
        timeout,
        retry,
        AsyncClient,
    )
    return await open_lasting(lasting, timeout)


class Connecting:
    """What `connect()` returns: await it, or enter it by `async with`."""

    def __init__(self, name: str, opening: Opening) -> None:
        self._name = name
        self._opening = opening
        self._client: AsyncClient | None = None
        self._is_used = False

    def __await__(self) -> Generator[Any, None, AsyncClient]:
        """Connect."""
        return self._connect().__await__()

    async def __aenter__(self) -> AsyncClient:
        """Connect; the end of the block closes the client."""
        self._client = await self._connect()
        return self._client

    async def __aexit__(self, *exception: object) -> None:
        """Close the client."""
        if self._client is not None:
            await self._client.close()

    async def _connect(self) -> AsyncClient:
        if self._is_used:
            raise RuntimeError(f"connect() to {self._name} is used already: call it once more")
        self._is_used = True
        return AsyncClient(await self._opening(asyncio.get_running_loop()))

    def __del__(self) -> None:
        """Warn of one that was forgotten: nothing has happened."""
        if not getattr(self, "_is_used", True):
            warnings.warn(
                f"connect() to {self._name} was never awaited", RuntimeWarning, stacklevel=2
            )


class AsyncClient:
    """Calls the procedures of a server, which are awaited. `connect()` makes it.

    Any attribute that is not listed below is a procedure: `await rpc.add_numbers(n1=2, n2=3)` is
    short for `await rpc.call("add_numbers", n1=2, n2=3)`. A procedure that is named like a member
    is called by `rpc.call("close")`.

    Many tasks may call at once. The client belongs to the loop that it was connected in.
    """

    def __init__(self, connection: Connection | LastingConnection) -> None:
        self._connection = connection
        self._is_closed = False

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Reply]]:
        """Return what calls the procedure of that name."""
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return partial(self.call, name)

    def __repr__(self) -> str:
        """Show where it is connected to and how many calls are pending."""
        connection = self._connection
        state = "closed" if self._is_closed else f"{len(connection.pending)} calls pending"
        return f"<AsyncClient of {connection.name}, {state}>"

    async def __aenter__(self) -> AsyncClient:
        """Return the client itself; the end of the block closes it."""
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Close it."""
        await self.close()

    def __del__(self) -> None:
        """Warn of a client that was not closed, and close its connection."""
        if getattr(self, "_is_closed", True):
            return
        connection = self._connection
        if not connection.is_lost:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            if not connection.loop.is_closed():
                connection.loop.call_soon_threadsafe(connection.drop)

    # The server's process, if it was started for this client

    @property
    def process(self) -> subprocess.Popen[bytes] | MaybeNone:
        """The process of a server that was started for this client, else None."""
        return self._connection.process

    @property
    def stdout(self) -> IO[bytes] | MaybeNone:
        """Its stdout, where the URL asks for a pipe, else None."""
        return getattr(self._connection.sock, "stdout", None)

    @property
    def stderr(self) -> IO[bytes] | MaybeNone:
        """Its stderr, where the URL asks for a pipe, else None."""
        return getattr(self._connection.sock, "stderr", None)

    # Calls

    async def call(self, procedure: str, /, *args: object, **named: object) -> Reply:
        """Call a procedure with values, then with names and values, and return the answer.

        While too much waits for a server that does not read, it waits, too. If the task is
        cancelled, so is the call: a late answer is ignored. The server is not told.

        Any function among the arguments, also inside of lists, tuples, dicts and ScalarRefs, is
        passed to the server, which may call it any number of times. It may be a coroutine
        function. Its signature says how it takes the values, as for `Client.call()`. The runs of
        one function come in order, each when the one before has ended. Those that began before
        the answer have ended when the call returns, and what one of them raises, the call raises.
        What is raised later goes to the loop's exception handler. With a call that is cancelled,
        times out or fails without an answer, its functions are not called any more.

        Raises:
            RemoteError: the server answered with an error.
            Disconnected: the connection ended before the answer came. The call may have run,
                unless `may_have_run` is False.
            CallTimeout: the `timeout` of the client, or of the procedure, is over.
            EncodeError: an argument cannot be sent.
            ArgumentError: a function can take no values at all.
            TypeError: the name of the procedure is no str.
            RuntimeError: this is another loop than the client's.
            Exception: what a function raised that was passed with the call.
        """
        connection = self._connection
        if asyncio.get_running_loop() is not connection.loop:
            self._refuse_loop()
        if not isinstance(procedure, str):
            check_procedure(procedure)
        if connection.is_full or connection.crowd:
            await self._wait_for_room(procedure)
        values = [*args]
        for pair in named.items():
            values += pair
        call = Pending(connection.loop.create_future(), procedure)
        connection.put(call, values)
        is_inside = bool(connection.workers) and asyncio.current_task() in connection.workers
        if is_inside:
            connection.enter(1)
        try:
            reply = await call.answer
            for callback in call.callbacks:
                if callback.settled is not None:
                    await callback.settled
        except BaseException as error:  # cancelled, for example
            connection.give_up(call)
            if not isinstance(error, RemoteError):
                call.stop()
            raise
        finally:
            if is_inside:
                connection.enter(-1)
            del call  # which has what is raised, whose traceback has this frame
        return reply

    @tells_options
    def set_options(self, procedure: str, /, *, timeout: float | None) -> None:
        """Say how calls of one procedure are made from now on.

        Args:
            procedure: its name; there need not be one.
            timeout: seconds after which a call of it that is not answered fails with
                `CallTimeout`, in the place of those of the client; None is never.

        Raises:
            ValueError: `timeout` is negative, infinite or NaN.
            TypeError: it is no number, or the name of the procedure no str.
        """
        self._connection.timeouts[check_procedure(procedure)] = check_timeout(timeout)

    async def _wait_for_room(self, procedure: str) -> None:
        seconds = self._connection.timeout_of(procedure)
        try:
            await asyncio.wait_for(self._connection.room(), seconds)
        except asyncio.TimeoutError:
            text = f"{procedure}: not sent within {seconds} seconds: the server does not read"
            raise CallTimeout(text) from None

    def _refuse_loop(self) -> None:
        raise RuntimeError(
            f"{self!r} belongs to another event loop: call it there, with"
            " asyncio.run_coroutine_threadsafe() from another thread"
        )

    # The end

    async def close(self, grace: float = 5.0) -> None:
        """End the connection, and wait until it has ended; twice is once.

        What has been called leaves first. Calls that are pending fail with `Disconnected`, and
        no callback runs any more. A server that was started for this client ends, too.

        Args:
            grace: seconds that a server has to read what is queued for it. A program that was
                started has as long to end by itself before it gets SIGTERM, and then again
                before it gets SIGKILL.

        Raises:
            ValueError: `grace` is negative, infinite or NaN.
            RuntimeError: this is another loop than the client's.
        """
        connection = self._connection
        check_seconds("grace", grace)
        if asyncio.get_running_loop() is not connection.loop:
            self._refuse_loop()
        self._is_closed = True
        connection.leave(grace)
        try:
            await asyncio.wait({connection.ended}, timeout=grace)
        finally:
            connection.abort()
        workers = connection.workers.keys() - {asyncio.current_task()}
        for worker in workers:
            connection.workers[worker].stop()
        if connection.ending is not None:
            await asyncio.shield(connection.ending.task)
        await asyncio.wait({connection.ended, *workers})
