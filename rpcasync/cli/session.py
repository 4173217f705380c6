"""A server that the command line talks to: one client on a mux of its own.

A server that was started with pipes for its output prints to us, and what it prints is passed on
to stderr: stdout is for answers. A pipe that nobody reads would stop the server.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from eventmux import EventMux, URLError
from eventmux.buffers import Split
from eventmux.events import Closed, Event, Read, Signal
from rpcasync._log import log
from rpcasync.calls import Reply
from rpcasync.cli.output import CommandFailed, procedures, say
from rpcasync.client import Client
from rpcasync.errors import Disconnected, RemoteError, RPCError

__all__ = ["Session", "connected"]


@contextmanager
def connected(
    url: str, *args: str, codec: str = "storable", timeout: float | None = None
) -> Iterator[Session]:
    """Give a session with a server; the end of the block ends it.

    Raises:
        CommandFailed: there is no such server, or a call in the block failed.
    """
    try:
        with EventMux() as mux:
            if log.isEnabledFor(logging.DEBUG):
                mux.trace(log)
            session = Session(mux, Client(mux, url, *args, codec=codec), url, timeout)
            try:
                yield session
            finally:
                session.end()
    except URLError as error:
        raise CommandFailed(error, 2) from None
    except (RPCError, OSError) as error:
        raise CommandFailed(error) from None


class Session:
    """A client, the mux that it is on, and the pipes of the server if it has any.

    `timeout` is in seconds, for each call; None is for ever. With `is_interruptible`, Ctrl-C
    cancels the call that is waited for. `lost` says why the server has gone; it is None as long as
    it has not.
    """

    def __init__(self, mux: EventMux, client: Client, url: str, timeout: float | None) -> None:
        self.mux = mux
        self.client = client
        self.timeout = timeout
        self.is_interruptible = False
        self.lost: str | None = None
        self._url = url
        self._pipes = [pipe for pipe in (client.stdout, client.stderr) if pipe is not None]
        for pipe in self._pipes:
            mux.add(pipe, buffered=Split())

    def take(self, event: Event | None) -> Event | None:
        """Take an event of the client or of a pipe; return it if it is neither's."""
        if event is not None and event.fh in self._pipes:
            if isinstance(event, Read):
                say(event.data.decode(errors="backslashreplace"), prefix="")
            return None
        if isinstance(event, Closed) and event.fh is self.client.fh:
            self.lost = f"{self._url}: {event.reason or 'the server closed the connection'}"
        return self.client.io(event)

    def catch_up(self) -> None:
        """Take all that has happened."""
        while (event := self.mux.mux(0)) is not None and event.type != "timeout":
            self.take(event)

    def ask(
        self, procedure: str, values: Sequence[object] = (), *, timeout: float | None = None
    ) -> Reply:
        """Make a call, wait for the answer and return it.

        Args:
            procedure: what is called.
            values: what it is given.
            timeout: seconds to wait, if the session has no timeout.

        Raises:
            CommandFailed: the server has gone.
            RPCError: there is no answer for another reason.
        """
        limit = timeout if self.timeout is None else self.timeout
        call = self.client.call(procedure, *values).set_timeout(limit)
        watch = self.mux.signal(signal.SIGINT) if self.is_interruptible else None
        try:
            while not call.done and (event := self.mux.mux()) is not None:
                if isinstance(self.take(event), Signal):
                    call.cancel()
            return call.result()
        except Disconnected as error:
            raise CommandFailed(error) from None
        finally:
            if watch is not None:
                watch.cancel()

    def definitions(self, timeout: float | None = None) -> dict[str, Mapping[object, object]]:
        """Return the procedures of the server, with definitions if it has any.

        Raises:
            CommandFailed: the server has gone.
            RPCError: there is no answer, or it is the answer to something else.
        """
        try:
            return procedures(self.ask("methods", ("defs", 1), timeout=timeout))
        except RemoteError:  # it has none
            return procedures(self.ask("methods", timeout=timeout))

    def end(self) -> None:
        """Disconnect; wait for the end of a server that was started, and pass on what it prints."""
        self.client.disconnect()
        process = self.client.process
        if process is None:
            return
        while process.returncode is None and (event := self.mux.mux()) is not None:
            self.take(event)
        self.catch_up()
