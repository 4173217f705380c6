"""A server that the command line talks to: one client on a mux of its own.

A server that was started with pipes for its output prints to us, and what it prints is passed on
to stderr: stdout is for answers. A pipe that nobody reads would stop the server.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from eventmux import EventMux, URLError
from eventmux._nearest import did_you_mean
from eventmux.buffers import Split
from eventmux.events import Closed, Event, Read, Signal
from rpcasync._log import log
from rpcasync.calls import Reply
from rpcasync.cli.definitions import Definition, procedures
from rpcasync.cli.lines import Callback
from rpcasync.cli.output import CommandFailed, say, status
from rpcasync.cli.progress import Callbacks, waiting
from rpcasync.cli.trust import client_options
from rpcasync.client import Client
from rpcasync.errors import CallCancelled, CallTimeout, Disconnected, RemoteError, RPCError

if TYPE_CHECKING:
    from ssl import SSLContext

    from rpcasync.backoff import Backoff

__all__ = [
    *("LOOKING", "Session", "chosen", "connected", "connected_by", "is_unknown"),
    "suggestion",
]

_FEW, _SHORT = 5, 40  # names that are all told, and their characters
LOOKING = 2.0  # seconds to look for the name that was meant
_SHORT_GRACE = 1.0  # seconds that a server which did not answer has to end by itself


def connected_by(
    options: argparse.Namespace, *args: str, reconnect: Backoff | None = None
) -> AbstractContextManager[Session]:
    """Give a session with the server of a command, as `connected()` does.

    Args:
        options: what was typed.
        args: arguments for a server that is started.
        reconnect: as for `connected()`.

    Raises:
        CommandFailed: as `connected()`; or what is typed of TLS is wrong.
    """
    encryption = client_options(options, options.url)
    given = {"codec": options.codec, "timeout": options.timeout, **encryption}
    return connected(options.url, *args, reconnect=reconnect, **given)


@contextmanager
def connected(
    url: str,
    *args: str,
    codec: str = "storable",
    timeout: float | None = None,
    tls: SSLContext | None = None,
    server_hostname: str | None = None,
    reconnect: Backoff | None = None,
) -> Iterator[Session]:
    """Give a session with a server; the end of the block ends it.

    What failed in the block is told before the end of a server that we started is waited for. With
    `reconnect`, the client connects again by itself.

    Raises:
        CommandFailed: there is no such server, a call in the block failed, or Ctrl-C.
    """
    with _failures(url), EventMux() as mux:
        if log.isEnabledFor(logging.DEBUG):
            mux.trace(log)
        client = Client(
            mux,
            url,
            *args,
            codec=codec,
            tls=tls,
            server_hostname=server_hostname,
            reconnect=reconnect,
        )
        session = Session(mux, client, url, timeout)
        try:
            with _failures(url):
                yield session
        except KeyboardInterrupt:
            session.is_silent = True
            failure = CommandFailed("interrupted")
            failure.tell()
            raise failure from None
        except CommandFailed as failure:
            failure.tell()
            raise
        finally:
            session.end()


@contextmanager
def _failures(url: str) -> Iterator[None]:
    """Have what can go wrong with a server raise CommandFailed."""
    try:
        yield
    except URLError as error:
        hint = "" if "; did you mean " in str(error) else _hint(url)
        raise CommandFailed(f"{error}{hint}", 2) from None
    except RPCError as error:
        raise CommandFailed(error) from None
    except OSError as error:
        named = error.filename is not None
        raise CommandFailed(f"{error.filename}: {error.strerror}" if named else error) from None


def _hint(url: str) -> str:
    """Return what to write where a path stands for a URL; nothing if it is no path."""
    if "://" in url:
        return ""
    try:
        mode = os.stat(url).st_mode
    except (OSError, ValueError):
        return ""
    if stat.S_ISSOCK(mode):
        return f"; to connect to a socket: unix://{url}"
    scheme = "perl" if url.endswith(".pl") else "python"
    return f"; to start a program: {scheme}://{url}" if stat.S_ISREG(mode) else ""


def is_unknown(error: RPCError, procedure: str) -> bool:
    """True for what servers say of a procedure that they do not have."""
    return isinstance(error, RemoteError) and str(error).startswith(f"No sub '{procedure}' in ")


def suggestion(procedure: str, names: Collection[str], others: Iterable[str] = ()) -> str:
    """Return what to call in place of a name that the server does not have, with its semicolon.

    Args:
        procedure: what was called.
        names: the procedures of the server.
        others: more words that may have been meant.
    """
    meant = did_you_mean(procedure, [*(each for each in others if each != procedure), *names])
    if meant or not names:
        return meant
    few = len(names) <= _FEW and all(len(name) <= _SHORT for name in names)
    return f"; it has {', '.join(sorted(names))}" if few else "; `methods` lists what it has"


def chosen(found: dict[str, Definition], names: Sequence[str]) -> dict[str, Definition]:
    """Return the procedures of some names; all if there are none.

    Raises:
        CommandFailed: the server has no procedure of a name.
    """
    for name in names:
        if name not in found:
            meant = suggestion(name, found)
            raise CommandFailed(f"the server has no procedure {name!r}{meant}")
    return {name: found[name] for name in names} if names else found


class Session:
    """A client, the mux that it is on, and the pipes of the server at `url` if it has any.

    `timeout` is in seconds, for each call; None is for ever. With `is_interruptible`, Ctrl-C
    cancels the call that is waited for. `lost` says why the server has gone; it is None as long as
    it has not. `is_silent` is True after a call that was given up, until there is an answer.
    `callbacks` shows what the server calls with. `names` are the procedures of the server, None as
    long as nobody has asked; `own_words` is what else may have been meant by a name that is none
    of them.
    """

    def __init__(
        self, mux: EventMux[Event], client: Client, url: str, timeout: float | None
    ) -> None:
        self.mux = mux
        self.client = client
        self.timeout = timeout
        self.is_interruptible = False
        self.is_silent = False
        self.lost: str | None = None
        self.callbacks = Callbacks()
        self.names: list[str] | None = None
        self.own_words: Sequence[str] = ()
        self.url = url
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
            self.lost = f"{self.url}: {event.reason or 'the server closed the connection'}"
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
        end = None if limit is None else time.monotonic() + limit
        # The last one is for the answer. Without it, that would be a callback of the server's.
        call = self.client.call(procedure, *self.with_functions(values), _ignore).set_timeout(limit)
        watch = self.mux.signal(signal.SIGINT) if self.is_interruptible else None
        try:
            with waiting(self.mux, f"waiting for {procedure}") as shown:
                while not call.done and (event := self.mux.mux()) is not None:
                    if isinstance(self.take(event), Signal):
                        call.cancel()
                    shown.take(event)
                    if self.lost is not None:
                        shown.stop()
            reply = call.result()
            self.note(None)
            return reply
        except Disconnected as error:
            raise CommandFailed(error) from None
        except RPCError as error:
            self.note(error)
            if not is_unknown(error, procedure) or procedure == "methods":
                raise
            raise RemoteError(f"{error}{self._suggestion(procedure, end)}") from None
        finally:
            if watch is not None:
                watch.cancel()

    def with_functions(self, values: Sequence[object]) -> list[object]:
        """Return the values of a call, with a function in the place of each `Callback`."""
        return [
            self._function(value.name) if isinstance(value, Callback) else value for value in values
        ]

    def _function(self, name: str) -> Callable[..., None]:
        return lambda *values: self.callbacks.show(name, values)

    def attend(self) -> None:
        """Go on for as long as the server may call what it was given.

        Raises:
            CommandFailed: the server has gone.
        """
        with waiting(self.mux, "waiting for what the server calls, or Ctrl-C") as shown:
            while self.client.has_coderefs() and (event := self.mux.mux()) is not None:
                self.take(event)
                shown.take(event)
        if self.lost is not None:
            raise CommandFailed(self.lost)

    def _suggestion(self, procedure: str, end: float | None) -> str:
        """Return what to call instead of a procedure that there is not, with its semicolon."""
        left = LOOKING if end is None else min(LOOKING, end - time.monotonic())
        if self.names is None and left > 0:
            limit, self.timeout = self.timeout, None
            try:
                self.names = list(procedures(self.ask("methods", timeout=left)))
            except (RPCError, CommandFailed):  # the error that there is counts
                self.names = []
            finally:
                self.timeout = limit
        return suggestion(procedure, self.names or (), self.own_words)

    def note(self, error: RPCError | None) -> None:
        """Note how a call has ended: None is an answer."""
        self.is_silent = isinstance(error, (CallTimeout, CallCancelled))

    def definitions(self, timeout: float | None = None) -> dict[str, Definition]:
        """Return the procedures of the server, with definitions if it has any.

        What our own servers tell beside them is asked for, too; for others, 2 is as good as 1.

        Raises:
            CommandFailed: the server has gone.
            RPCError: there is no answer, or it is the answer to something else.
        """
        try:
            found = procedures(self.ask("methods", ("defs", 2), timeout=timeout))
        except RemoteError:  # it has none
            found = procedures(self.ask("methods", timeout=timeout))
        self.names = list(found)
        return found

    def end(self) -> None:
        """Disconnect; wait for the end of a server that was started, and pass on what it prints."""
        status.clear()
        if self.is_silent:
            self.client.disconnect(_SHORT_GRACE)
        else:
            self.client.disconnect()
        process = self.client.process
        if process is None:
            return
        try:
            while process.returncode is None and (event := self.mux.mux()) is not None:
                self.take(event)
        except KeyboardInterrupt:  # once more: not even that is waited for
            process.kill()
            raise
        self.catch_up()


def _ignore(*_: object, error: RPCError | None = None) -> None:
    """Take an answer that is asked for elsewhere."""
