"""From the requests of a client to the program's procedures: when each one runs, and what becomes
of it.

The program's procedures are called from one line, in `_call()`. What goes wrong in one is its
client's affair: nothing is raised, and no other request is lost.
"""

from __future__ import annotations

import logging
from functools import partial

from rpcasync._log import log, shorten
from rpcasync.errors import ArgumentError, Disconnected, EncodeError, Fault, ProtocolError
from rpcasync.serving.admission import Admission
from rpcasync.serving.callers import Caller
from rpcasync.serving.namespace import Namespace, Procedure
from rpcasync.serving.peer import Connection
from rpcasync.serving.peers import HIGH_WATER, Connections

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
        admission, connections = self._admission, self._connections
        next_message = client.protocol.next_message
        is_traced = log.isEnabledFor(logging.DEBUG)  # asked once: calls come by the hundred
        client.paused = False
        if client.stalled and not self._is_slow(client):
            self._admission.resume(client)
        while not client.gone:
            is_usual = not client.waiting and client.queued <= HIGH_WATER
            if not is_usual and (self._waits_too_much(client) or self._is_slow(client)):
                client.paused = True  # `Sent`, or the turn of what waits, will bring us back
                break
            try:
                caller = next_message(Caller)
            except ProtocolError as error:
                client.broken = client.broken or str(error)
                break
            if caller is None:
                break
            caller.connection, caller.answered = client, False
            if is_traced:
                name = shorten(caller.procedure)
                log.debug("< call %r of %s: %s", caller.id, client.name, name)
            if admission.admit(client):
                self._call(client, caller)
            elif not self._has_procedure(caller.procedure):
                admission.start(client)
                self._call(client, caller)
            else:
                admission.put(client, caller)
            del caller  # one that was dropped is to be answered now
            if connections.notes:
                connections.do_noted()
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
                client, caller = next_one
                del next_one
                if client.stalled or self._is_slow(client):  # in order, so only serve() ends it
                    if client.gone:
                        continue
                    client.paused = True
                    self._admission.stall(client, caller)
                    continue
                self._admission.start(client)
                self._call(client, caller)
                del caller  # one that was dropped is to be answered now
                if self._connections.notes:
                    self._connections.do_noted()
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

    def _call(self, client: Connection, caller: Caller) -> None:
        """Answer one call, which is counted: by the procedure, or with what is wrong with it."""
        values, caller.args = caller.args, []  # else they would live as long as the call
        try:
            if caller.has_callbacks:
                values = self._take_callbacks(caller, values)
            procedure = self._namespace.find(caller.procedure) or self._own(caller.procedure)
            try:
                args, named = procedure.bind(values)
            except ArgumentError as error:
                raise Fault(f"{shorten(caller.procedure)}: {error}") from None
            # This is where the program's code is called.
            value = procedure.function(caller, *args, **named)
        except Fault as fault:
            self._fail(caller, str(fault))
        except EncodeError:
            name = shorten(caller.procedure)
            log.exception("procedure %s has a value that cannot be sent", name)
            self._fail(caller, f"{name}: a value cannot be sent")
        except Exception as error:  # noqa: BLE001  # whatever it is, only this client suffers
            self._break(client, caller, error)
        except BaseException:  # Ctrl-C, say, or the end of the program
            self._connections.note(partial(self.serve, client))  # should it go on, so do we
            raise
        else:
            if value is not None and not caller.answered:
                name, kind = shorten(caller.procedure), type(value).__name__
                log.warning(
                    "procedure %s returned %s, which is ignored: answer with return_()", name, kind
                )

    def _fail(self, caller: Caller, text: str) -> None:
        """Answer with an error."""
        if caller.answered:
            name = shorten(caller.procedure)
            log.error("procedure %s failed after its answer: %s", name, text)
        else:
            self._connections.finish(caller)
            self._connections.send_failure(caller.connection, caller.id, text)

    def _break(self, client: Connection, caller: Caller, error: Exception) -> None:
        """Have a client disconnected whose procedure failed."""
        name = shorten(caller.procedure)
        if client.gone and isinstance(error, Disconnected):  # it called a callback
            log.debug("procedure %s: %s", name, error)
        else:
            log.error("procedure %s failed", name, exc_info=error)
        if not caller.answered:
            self._connections.finish(caller)  # by the end of the connection
        client.broken = f"procedure {name} failed"

    def _take_callbacks(self, caller: Caller, values: list[object]) -> list[object]:
        try:
            return caller.connection.take_callbacks(values, self.max_callbacks)
        except ArgumentError as error:
            raise Fault(f"{shorten(caller.procedure)}: {error}") from None

    def _own(self, name: str) -> Procedure:
        """Return a procedure that every server has."""
        procedure = self._built_in.get(name)
        if procedure is None:
            raise Fault(self._unknown(shorten(name)))
        return procedure

    def _unknown(self, name: str) -> str:
        package = self._namespace.name
        if not self._namespace.names():
            log.warning("package %s has no rpc_* at all: define them before the loop", package)
        return f"No sub '{name}' in package '{package}'"
