"""From the requests of a client to the program's procedures: when each one runs, and what becomes
of it.

The program's procedures are called from one line, in `_run()`. What goes wrong in one is its
client's affair: nothing is raised, and no other request is lost.
"""

from __future__ import annotations

import logging
from functools import partial

from rpcasync._log import log, shorten
from rpcasync.admission import Admission
from rpcasync.callers import Caller
from rpcasync.connection import Connection
from rpcasync.connections import HIGH_WATER, Connections
from rpcasync.errors import ArgumentError, Disconnected, EncodeError, Fault, ProtocolError
from rpcasync.messages import Request
from rpcasync.procedures import Namespace, Procedure

__all__ = ["Dispatcher"]


class Dispatcher:
    """Serves the clients of one server.

    Args:
        connections: where the answers go.
        admission: says which calls run.
        namespace: the program's procedures.
        built_in: those that every server has, unless the program has one of that name.
    """

    def __init__(
        self,
        connections: Connections,
        admission: Admission,
        namespace: Namespace,
        built_in: dict[str, Procedure],
    ) -> None:
        self._connections = connections
        self._admission = admission
        self._namespace = namespace
        self._built_in = built_in
        self._is_running_waiting = False
        self.max_callbacks = 0  # alive, of one client
        self.max_waiting = 0  # calls of one client

    # When a call runs

    def serve(self, client: Connection) -> None:
        """Take the calls that are complete, until too much is queued."""
        protocol = client.protocol
        is_traced = log.isEnabledFor(logging.DEBUG)  # asked once: calls come by the hundred
        client.paused = False
        if client.stalled and not self._is_slow(client):
            self._admission.resume(client)
        while not client.gone:
            if (client.waiting and self._waits_too_much(client)) or (
                client.queued > HIGH_WATER and self._is_slow(client)
            ):
                client.paused = True  # `Sent`, or the turn of what waits, will bring us back
                break
            try:
                request = protocol.next_message()
            except ProtocolError as error:
                client.broken = client.broken or str(error)
                break
            if request is None:
                break
            if is_traced:
                name = shorten(request.procedure)
                log.debug("< call %r of %s: %s", request.id, client.name, name)
            if self._admission.admits() or not self._has_procedure(request.procedure):
                self._call(client, request)
            else:
                self._admission.put(client, request)
        if client.waiting or client.muted:
            self._connections.mute(client, self._waits_too_much(client))
        if client.broken:
            self._end_broken(client)

    def _is_slow(self, client: Connection) -> bool:
        """True if a client has too much to read before it may be given more."""
        if client.queued > HIGH_WATER:
            self._connections.update_queued(client)  # it may have read since
        return client.queued > HIGH_WATER

    def _has_procedure(self, name: str) -> bool:
        """False for what is answered at once, and never waits."""
        try:
            return self._namespace.find(name) is not None
        except Exception:  # noqa: BLE001  # the call itself will meet it again, and deal with it
            return False

    def run_waiting(self) -> None:
        """Run the calls that waited and may run now."""
        if self._is_running_waiting:  # a procedure turns the loop: what called it goes on
            return
        self._is_running_waiting = True
        try:
            while (next_one := self._admission.take()) is not None:
                client, request = next_one
                if client.stalled or self._is_slow(client):  # in order, so only serve() ends it
                    client.paused = True
                    self._admission.stall(client, request)
                    continue
                self._call(client, request)
                if client.paused and not self._waits_too_much(client, 2):
                    self.serve(client)
                self._end_broken(client)
        finally:
            self._is_running_waiting = False

    def resume_all(self) -> None:
        """Go on with all clients that are paused: a limit has changed."""
        for client in self._connections.by_fh.values():
            if client.paused:
                self._connections.note(partial(self.serve, client))

    def _waits_too_much(self, client: Connection, parts: int = 1) -> bool:
        """True if as much waits of a client as may, or a part of that: in calls, or in bytes."""
        if not client.waiting:
            return False
        size = client.protocol.max_packet / parts
        return client.waiting >= self.max_waiting / parts or client.waiting_size > size

    def _end_broken(self, client: Connection) -> None:
        """Disconnect a client that has to be, once all that it sent before has been served."""
        if client.broken and not client.gone and not client.paused and not client.waiting:
            self._connections.disconnect(client, client.broken)

    # What becomes of it

    def _call(self, client: Connection, request: Request) -> None:
        """Answer one request: by the procedure, or with what is wrong with it."""
        connections = self._connections
        caller = Caller(client, request.id, request.procedure)
        self._admission.start(client)
        try:
            self._run(caller, request)
        except Fault as fault:
            if caller.answered:
                name = shorten(caller.procedure)
                log.error("procedure %s failed after its answer: %s", name, fault)
            else:
                connections.finish(caller)
                connections.send_failure(client, request.id, str(fault))
        except Exception as error:  # noqa: BLE001  # whatever it is, only this client suffers
            name = shorten(request.procedure)
            if client.gone and isinstance(error, Disconnected):  # it called a callback
                log.debug("procedure %s: %s", name, error)
            else:
                log.exception("procedure %s failed", name)
            if not caller.answered:
                connections.finish(caller)  # by the end of the connection
            client.broken = f"procedure {name} failed"
        except BaseException:  # Ctrl-C, say, or the end of the program
            connections.note(partial(self.serve, client))  # should it go on, so do we
            raise
        del caller  # one that was dropped is to be answered now
        if connections.has_notes:
            connections.do_noted()

    def _run(self, caller: Caller, request: Request) -> None:
        """Run the procedure: this is where the program's code is called.

        Raises:
            Fault: the client gets the text for an answer.
        """
        procedure = self._namespace.find(request.procedure)
        if procedure is None:
            procedure = self._built_in.get(request.procedure)
        try:
            if procedure is None:
                self._arguments(caller.connection, request)  # so that callbacks are let go of
                raise Fault(self._unknown(shorten(request.procedure)))
            values = request.args
            if request.has_callbacks:
                values = self._arguments(caller.connection, request)
            args, named = procedure.bind(values)
        except ArgumentError as error:
            raise Fault(str(error)) from None
        try:
            value = procedure.function(caller, *args, **named)
        except EncodeError:
            name = shorten(request.procedure)
            log.exception("procedure %s has a value that cannot be sent", name)
            raise Fault(f"{name}: a value cannot be sent") from None
        if value is not None and not caller.answered:
            name, kind = shorten(request.procedure), type(value).__name__
            log.warning(
                "procedure %s returned %s, which is ignored: answer with return_()", name, kind
            )

    def _unknown(self, name: str) -> str:
        package = self._namespace.name
        if not self._namespace.names():
            log.warning("package %s has no rpc_* at all: define them before the loop", package)
        return f"No sub '{name}' in package '{package}'"

    def _arguments(self, client: Connection, request: Request) -> list[object]:
        try:
            return client.take_callbacks(request.args, self.max_callbacks)
        except (ArgumentError, ValueError) as error:  # too many, or nested too deeply
            raise ArgumentError(f"{shorten(request.procedure)}: {error}") from None
