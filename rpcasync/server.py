"""`Server`: the shell that joins a mux on one side and the core on the other.

It owns the table of clients and calls the program's procedures, from one line, `_run()`. Every
decision about bytes is the core's; all sending is one `mux.send()`, put off until the mux is
about to wait, so that the answers of a turn leave in one write.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import Any, Protocol

from eventmux.events import Event
from rpcasync._log import log, shorten
from rpcasync.callers import Caller, Connection
from rpcasync.codecs import Codec, JSONCodec, StorableCodec
from rpcasync.errors import ArgumentError, EncodeError, Fault, ProtocolError
from rpcasync.framing import DEFAULT_MAX_PACKET, LengthPrefix
from rpcasync.messages import Id, Request
from rpcasync.procedures import Namespace, Procedure
from rpcasync.protocol import ServerProtocol
from rpcasync.urls import check_stream, url_listen

__all__ = ["Server"]

# A client that has this many bytes of answers to read is neither read from nor served.
_HIGH_WATER = 1024 * 1024


class Mux(Protocol):
    """What a server needs of a mux: a part of `EventMux`.

    Two more of its methods are used where a mux has them: without `close`, answers that do not
    leave at once are lost when we disconnect a client; without `push_event`, a call that the
    program dropped is answered when the next event comes.
    """

    def add(
        self, fh: socket.socket, *, listen: bool | None = ..., high_water: int | None = ...
    ) -> None:
        """Watch a socket, or a listener and what it accepts."""
        ...

    def send(self, fh: socket.socket, *data: bytes, later: bool = False) -> int:
        """Send, or queue to be sent in this turn."""
        ...

    def kill(self, fh: socket.socket, reason: str | None = None) -> None:
        """Close a socket now."""
        ...


class Server:
    """Answers calls with the `rpc_*` functions of a namespace.

        def rpc_add_numbers(caller, n1: int, n2: int):
            rpc.return_(caller, sum=n1 + n2)

        mux = EventMux()
        rpc = Server(mux)
        rpc.listen("tcp://127.0.0.1:7007")
        while rpc.has_clients():
            rpc.io(mux.mux())

    Args:
        mux: an `EventMux`, or anything with its `add`, `send` and `kill`.
        namespace: where the procedures are: a module, a mapping, an object with `rpc_*`
            methods, or the dotted name of a module. Default is the module of the caller.
        max_packet: bytes in one packet, both ways. A client that announces more is
            disconnected.
        codecs: what clients may speak; default is Storable and JSON. The first byte that a
            client sends in a packet chooses.

    Raises:
        ValueError: `max_packet` is not between 7 and 2**32 - 1, or `codecs` is empty.
        ImportError: there is no module of that name.
    """

    def __init__(
        self,
        mux: Mux,
        namespace: object = None,
        *,
        max_packet: int = DEFAULT_MAX_PACKET,
        codecs: Sequence[Codec] | None = None,
    ) -> None:
        LengthPrefix(max_packet)  # checks it: better here than when the first client comes
        self._mux = mux
        self._close = getattr(mux, "close", None)
        self._push_event = getattr(mux, "push_event", None)
        self._namespace = Namespace(sys._getframe(1).f_globals if namespace is None else namespace)
        self._max_packet = max_packet
        self._codecs = (StorableCodec(), JSONCodec()) if codecs is None else tuple(codecs)
        if not self._codecs:
            raise ValueError("codecs is empty: clients could speak nothing")
        self._clients: dict[socket.socket, Connection] = {}
        self._leaving: set[socket.socket] = set()  # disconnected by us, `Closed` is to come
        self._listeners: set[socket.socket] = set()
        self._dropped: deque[tuple[Connection, Id, str]] = deque()
        self._wake = Event()  # in the queue when a call was dropped, so that it is answered soon

    def __repr__(self) -> str:
        """Show how many clients and listeners there are."""
        return f"<Server {len(self._clients)} clients, {len(self._listeners)} listeners>"

    # Clients and listeners

    @property
    def clients(self) -> set[socket.socket]:
        """The sockets of the clients that are connected."""
        return set(self._clients)

    def has_clients(self) -> bool:
        """True while a client is connected, or a listener can still bring one.

        A client that was disconnected counts until what it is still to get has been sent.
        """
        return bool(self._clients or self._listeners or self._leaving)

    def add_client(self, sock: socket.socket) -> None:
        """Serve a connected socket.

        Raises:
            TypeError: it is no stream socket.
            ValueError: the mux watches it already, or it is a listener.
        """
        check_stream(sock)
        self._mux.add(sock, listen=False, high_water=_HIGH_WATER)
        self._add_client(sock, _name(sock))

    def _add_client(self, sock: socket.socket, name: str) -> None:
        protocol = ServerProtocol(self._codecs, self._max_packet)
        self._clients[sock] = Connection(sock, name, protocol, self._note_dropped)
        log.debug("client %s connected", name)

    def add_listener(self, sock: socket.socket) -> None:
        """Serve whoever connects to a listening socket.

        Raises:
            TypeError: it is no stream socket.
            ValueError: the mux watches it already, or it does not listen.
        """
        check_stream(sock)
        self._mux.add(sock, listen=True, high_water=_HIGH_WATER)
        self._listeners.add(sock)

    def listen(self, url: str) -> socket.socket:
        """Serve whoever connects to a `tcp://` or `unix://` URL; return the listening socket.

        Raises:
            URLError: the URL is not understood.
            OSError: the address is in use, the name is unknown, permission is missing...
        """
        sock = url_listen(url)
        try:
            self.add_listener(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    def close_listeners(self) -> None:
        """Accept nobody any more. The loop then ends with the last client."""
        listeners, self._listeners = self._listeners, set()
        for sock in listeners:
            with contextlib.suppress(KeyError):  # the program has closed it itself
                self._mux.kill(sock)
                self._leaving.add(sock)

    # Answers

    def return_(self, caller: Caller, /, *values: object, **named: object) -> bool:
        """Answer a call with values, then with names and values.

        Returns:
            True; False if the client has gone, and there is nobody to answer.

        Raises:
            TypeError: `caller` is not what a procedure was given.
            ValueError: the call is answered already.
            EncodeError: a value cannot be sent, or the packet is over the limit. The call is
                not answered then.
        """
        if named:
            values = (*values, *chain.from_iterable(named.items()))
        client = _check_open(caller)
        if client.gone:
            caller.answered = True
            return False
        packet = client.protocol.result(caller.id, values)
        caller.answered = True
        return self._send(client, packet)

    def error(self, caller: Caller, text: str) -> bool:
        """Answer a call with an error; the client stays. A text of over 4096 characters is cut.

        Returns:
            True; False if the client has gone, and there is nobody to answer.

        Raises:
            TypeError: `caller` is not what a procedure was given, or `text` is no str.
            ValueError: the call is answered already.
            EncodeError: the packet is over the limit. The call is not answered then.
        """
        if not isinstance(text, str):
            raise TypeError(f"error text is {text!r}, must be a str")
        client = _check_open(caller)
        packet = client.protocol.failure(caller.id, text)
        caller.answered = True
        return not client.gone and self._send(client, packet)

    def _send(self, client: Connection, packet: bytes) -> bool:
        try:
            client.queued = self._mux.send(client.fh, packet, later=True)
        except KeyError:  # the program killed or removed the socket without asking us
            self._forget(client)
            return False
        return True

    def _note_dropped(self, client: Connection, id: Id, procedure: str) -> None:  # noqa: A002
        """Remember a call to answer on the next turn. No more: this runs in a finalizer."""
        self._dropped.append((client, id, procedure))
        if self._push_event is not None:
            self._push_event(self._wake)

    def _answer_dropped(self) -> None:
        """Answer the calls whose `Caller` is gone."""
        while self._dropped:
            client, id, procedure = self._dropped.popleft()  # noqa: A001
            if not client.gone:
                name = shorten(procedure)
                log.error("procedure %s dropped call %r without an answer", name, id)
                self._send_failure(client, id, f"{name}: did not answer")

    def _send_failure(self, client: Connection, id: Id, text: str) -> None:  # noqa: A002
        """Answer with an error; if not even that can be sent, end the connection."""
        try:
            self._send(client, client.protocol.failure(id, text))
        except EncodeError as error:
            self._disconnect(client, f"an error cannot be sent to it: {error}")

    # Events

    def io(self, event: Event | None) -> Event | None:
        """Take an event if it is this server's; return it if it is not.

        Procedures run from here. What goes wrong in one is its client's affair; nothing is
        raised.
        """
        if self._dropped:
            self._answer_dropped()
        if event is None or event is self._wake:
            return None
        fh: Any = event.fh
        try:
            client = self._clients.get(fh)
        except TypeError:  # an event of the program's own, whose fh is no handle
            return event
        if client is not None:
            self._client_event(client, event)
        elif fh in self._leaving:
            if event.type == "closed":
                self._leaving.discard(fh)
        elif event.type == "connect" and self._is_ours(getattr(event, "parent_fh", None)):
            self._add_client(fh, _name(fh))
        elif fh in self._listeners:
            self._listener_event(fh, event)
        else:
            return event
        return None

    def _is_ours(self, listener: Any) -> bool:
        """True for a listener of this server; one that was just closed may have accepted before."""
        return listener in self._listeners or listener in self._leaving

    def _client_event(self, client: Connection, event: Any) -> None:
        kind = event.type
        if kind == "read":
            client.protocol.feed(event.data)
            self._resume(client)
        elif kind == "sent" or kind == "closing":
            if client.paused:
                self._resume(client)
        elif kind == "closed":
            log.debug("client %s closed: %s", client.name, event.reason or "end of stream")
            self._forget(client)
        elif kind == "error":
            log.warning("client %s: %s", client.name, event.error)

    def _listener_event(self, fh: socket.socket, event: Any) -> None:
        if event.type == "error":
            log.error("cannot accept: %s", event.error)
        elif event.type == "closed":
            self._listeners.discard(fh)

    def _resume(self, client: Connection) -> None:
        """Serve a client; if much was queued for it, ask how much still is."""
        if client.queued > _HIGH_WATER:
            with contextlib.suppress(KeyError):
                client.queued = self._mux.send(client.fh, later=True)
        self._serve(client)

    def _serve(self, client: Connection) -> None:
        """Run the calls that are complete, until too much of their answers is queued."""
        protocol = client.protocol
        client.paused = False
        while not client.gone:
            if client.queued > _HIGH_WATER:
                client.paused = True  # `Sent` will bring us back
                return
            try:
                request = protocol.next_message()
            except ProtocolError as error:
                client.broken = client.broken or str(error)
                break
            if request is None:
                break
            self._call(client, request)
            if self._dropped:
                self._answer_dropped()
        if client.broken and not client.gone:
            self._disconnect(client, client.broken)

    def _call(self, client: Connection, request: Request) -> None:
        """Answer one request: by the procedure, or with what is wrong with it."""
        caller = Caller(client, request.id, request.procedure)
        try:
            self._run(caller, request)
        except Fault as fault:
            if caller.answered:
                name = shorten(caller.procedure)
                log.error("procedure %s failed after its answer: %s", name, fault)
                return
            caller.answered = True
            self._send_failure(client, request.id, str(fault))
        except Exception:  # noqa: BLE001  # whatever it is, only this client suffers
            log.exception("procedure %s failed", shorten(request.procedure))
            caller.answered = True  # by the end of the connection
            client.broken = f"procedure {shorten(request.procedure)} failed"

    def _run(self, caller: Caller, request: Request) -> None:
        """Run the procedure: this is where the program's code is called.

        Raises:
            Fault: the client gets the text for an answer.
        """
        procedure = self._find(request.procedure)
        name = shorten(request.procedure)
        if procedure is None:
            package = self._namespace.name
            raise Fault(f"No sub '{name}' in package '{package}'")
        try:
            args, named = procedure.bind(request.args)
        except ArgumentError as error:
            raise Fault(str(error)) from None
        try:
            value = procedure.function(caller, *args, **named)
            if value is not None and not caller.answered:
                kind = type(value).__name__
                log.warning("procedure %s returned %s, which is ignored", name, kind)
        except EncodeError:
            log.exception("procedure %s has a value that cannot be sent", name)
            raise Fault(f"{name}: the answer cannot be sent") from None

    def _find(self, name: str) -> Procedure | None:
        found = self._namespace.find(name)
        return Procedure("methods", self._methods) if found is None and name == "methods" else found

    def _methods(self, caller: Caller, defs: bool = False) -> None:
        """Answer the built-in procedure `methods`."""
        if defs:
            raise Fault("methods: this server has no definitions")
        self.return_(caller, methods={name: {} for name in self._namespace.names()})

    # The end of a connection

    def _disconnect(self, client: Connection, reason: str) -> None:
        """Close a connection from our side; the answers that are queued go out first."""
        log.warning("client %s disconnected: %s", client.name, reason)
        self._forget(client)
        try:
            if self._close is not None:
                self._close(client.fh)
            else:
                self._mux.send(client.fh)
                self._mux.kill(client.fh, reason)
        except KeyError:
            return  # the program killed or removed the socket without asking us
        self._leaving.add(client.fh)

    def _forget(self, client: Connection) -> None:
        client.gone = True
        self._clients.pop(client.fh, None)


def _check_open(caller: Caller) -> Connection:
    if not isinstance(caller, Caller):
        raise TypeError(f"caller is {caller!r}, must be what the procedure was given")
    if caller.answered:
        raise ValueError(f"{caller!r} is answered already")
    return caller.connection


def _name(sock: socket.socket) -> str:
    """Name the peer for the log."""
    try:
        peer = sock.getpeername()
    except OSError:
        peer = ""
    if isinstance(peer, tuple):
        return f"{peer[0]}:{peer[1]}"
    return f"fd {sock.fileno()}"
