"""Which calls go to another server, and what comes back of them.

The answer goes to the caller as it came. A connection that ends takes with it the clients whose
calls were under way, as if they had been connected to the other server: they are told, and then
disconnected.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from eventmux.events import Event
from rpcasync._log import fields, log, shorten
from rpcasync.client import Client
from rpcasync.errors import CallTimeout, Disconnected, EncodeError, Fault, RPCError
from rpcasync.forwarding.fallback import Fallback
from rpcasync.forwarding.namesakes import Namesakes
from rpcasync.forwarding.relayed import Answer, Relayed
from rpcasync.serving.budget import LITTLE
from rpcasync.serving.callers import Caller, about, has_timed_out
from rpcasync.serving.dispatch import OWN_FIRST, Dispatcher
from rpcasync.serving.peer import Peer
from rpcasync.serving.peers import Mux, Peers
from rpcasync.serving.records import ANSWERED, EXCEPTION, FAULT
from rpcasync.serving.watching import CallWatcher, Watchers
from rpcasync.wire.messages import failure_text

__all__ = ["Forwarding"]


class Forwarding:
    """Stands between the calls of a server's clients and its procedures.

    `fallback` gets the calls that the server has no procedure for, and `instead` says who gets
    those of some procedures that it has.

    Args:
        peers: who is answered.
        dispatcher: asks this object before it looks at the procedures, and ends what fails.
    """

    def __init__(self, peers: Peers, dispatcher: Dispatcher) -> None:
        self._peers = peers
        self._dispatcher = dispatcher
        self.connections: dict[object, Fallback] = {}
        """Those that have one to another server, by handle; they note that themselves."""
        self.server: Client | str | None = None
        """Whom calls are passed on to that the server has no procedure for, as it was given."""
        self.fallback: Fallback | None = None
        """The connections to it."""
        self._namesakes = Namesakes()
        # Those under way. A call has its caller, which need not be known when it has ended.
        self._calls: dict[Peer, WeakValueDictionary[Caller, Relayed]] = {}
        self.instead: Callable[[str], Fallback | None] = _nobody
        self._failing: Caller | None = None  # whose answer is an error of ours, while it leaves

    def set_fallback(
        self,
        mux: Mux,
        server: Client | str | None,
        client_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Pass calls on to another server from now on, or to none.

        Args:
            mux: what it is watched by.
            server: which one.
            client_options: what each `Client` of a URL is given besides.

        Raises:
            Exception: as for `Fallback`; nothing has changed then.
        """
        fallback = None
        if server is not None:
            fallback = Fallback(mux, server, self.connections, client_options)
        if self.fallback is not None:
            self.fallback.close()
        self.fallback, self.server, self._namesakes = fallback, server, Namesakes()
        self._see_to_relay()

    def watch(self, watcher: CallWatcher) -> None:
        """Have somebody see all calls from now on."""
        if self._peers.watchers is None:
            self._peers.watchers = Watchers()
        self._peers.watchers.all.append(watcher)
        self._see_to_relay()

    def _see_to_relay(self) -> None:
        """Have calls looked at before their procedures are, if anybody wants to."""
        is_wanted = self.fallback is not None or self._peers.watchers is not None
        self._dispatcher.relay = self if is_wanted else None

    def io(self, event: Event) -> bool:
        """Take an event of a connection to another server; return whether it is one."""
        target = self.connections.get(event.fh)
        return target is not None and target.io(event) is None

    def goes_on_with(self, event: Event) -> bool:
        """True if an event that was interrupted comes again by itself."""
        is_socket = isinstance(event.fh, socket.socket)  # else it may be nothing to look up
        target = self.connections.get(event.fh) if is_socket else None
        return target is not None and target.goes_on_with(event)

    def passes_on(self, procedure: str) -> bool:
        """Return True if somebody else answers the calls of a procedure, as far as is known."""
        target = self._target(procedure)
        is_ours = procedure in OWN_FIRST and target is self.fallback
        return target is not None and not (is_ours and not self._namesakes.has(procedure))

    def _target(self, procedure: str) -> Fallback | None:
        target = self.instead(procedure)
        if target is None and self.fallback and not self._dispatcher.has_procedure(procedure):
            return self.fallback
        return target

    def take(self, caller: Caller, values: list[object]) -> bool:
        """Pass a call on; return False if it is for a procedure of the server's own.

        Raises:
            Exception: it cannot be passed on.
        """
        payload = getattr(caller, "_payload", b"")  # none if it came before us
        caller._payload = b""
        if caller._peer.is_inner:
            return False
        watchers = self._peers.watchers
        if watchers is not None:
            watchers.began(caller, values, payload)
        target = self._target(caller.procedure)
        if target is None:
            return False
        if caller.procedure in OWN_FIRST and target is self.fallback:
            self._look_up(caller, target, values, payload)
        else:
            self._pass_on(caller, target, values, payload)
        return True

    def _look_up(
        self, caller: Caller, target: Fallback, values: list[object], payload: bytes
    ) -> None:
        """Answer a call of what every server has, unless the server behind has one of its own."""

        def found(is_behind: bool) -> None:
            if caller.answered or caller._peer.gone:
                return
            try:
                if is_behind:
                    self._pass_on(caller, target, values, payload)
                else:
                    self._dispatcher.call_built_in(caller, values)
            except Fault as error:
                self._peers.fail(caller, str(error))

        try:
            client = target.client_of(caller._peer)
            self._namesakes.look_up(caller.procedure, client, found)
        except (RPCError, OSError):  # there is no such server now
            found(False)

    def _pass_on(
        self, caller: Caller, target: Fallback, values: list[object], payload: bytes
    ) -> None:
        """Have a server behind answer a call.

        Raises:
            Fault: the client may not make it: it is told as by a procedure.
        """
        try:
            self._send(caller, target, values, payload)
        except Fault:
            raise
        except (RPCError, OSError) as error:
            self._fail(caller, target, error)

    def _send(self, caller: Caller, target: Fallback, values: list[object], payload: bytes) -> None:
        peer, most = caller._peer, self._dispatcher.max_callbacks
        client = target.client_of(peer)
        if caller.has_callbacks and not target.has_room(client, peer, most):
            raise Fault(f"{shorten(caller.procedure)}: too many callbacks are kept")
        call = Relayed(client, caller.procedure, partial(self._done, caller, target))
        call.send(values, payload, caller.has_callbacks)
        self._note(caller, call)
        extras = peer.extras
        if extras is not None and extras.behind is not None and extras.behind() > LITTLE:
            self._peers.budget.see(peer)

    def _note(self, caller: Caller, call: Relayed) -> None:
        """Note that a call is under way: nobody waits for it any more once its client has gone."""
        peer = caller._peer
        calls = self._calls.get(peer)
        if calls is None:
            peer.call_when_gone(partial(self._forget, peer))
            calls = self._calls[peer] = WeakValueDictionary()
        calls[caller] = call

    def _forget(self, peer: Peer) -> None:
        calls = self._calls.get(peer)
        if calls is not None:
            for call in calls.values():
                call.cancel()
            self._calls.pop(peer, None)

    def give_up(self, caller: Caller) -> None:
        """Wait no more for the answer to a call, if it was passed on."""
        calls = self._calls.get(caller._peer)
        call = None if calls is None else calls.get(caller)
        if call is not None:
            call.cancel()

    # What comes back

    def has_failed(self, caller: object) -> bool:
        """Return True if a call that was passed on is being answered, with an error of ours."""
        return caller is self._failing or has_timed_out(caller)

    def _done(self, caller: Caller, target: Fallback, answer: Answer | RPCError) -> None:
        if caller.answered:
            return
        if isinstance(answer, RPCError):
            self._fail(caller, target, answer)
            return
        peer = caller._peer
        if caller.procedure in OWN_FIRST and _has_none(answer, caller.procedure):
            self._dispatcher.call_built_in(caller, [])
            return
        try:
            packet = b"" if peer.gone else peer.protocol.relayed(caller.id, *answer)
        except EncodeError as error:
            name = shorten(caller.procedure)
            log.error(
                "procedure %s has a value that cannot be sent: %s",
                *(name, error),
                extra=about(caller),
            )
            with self._failure_of(caller):
                self._peers.fail(caller, f"{name}: a value cannot be sent", EXCEPTION)
            return
        outcome = ANSWERED
        if self._peers.counting is not None and failure_text(answer.values) is not None:
            outcome = FAULT
        self._peers.answer(caller, packet, outcome)

    def _fail(self, caller: Caller, target: Fallback, error: RPCError | OSError) -> None:
        """Answer with an error that does not tell a client more of the other server than it may."""
        name = shorten(caller.procedure)
        log.error(
            "procedure %s cannot be passed on to %s: %s",
            *(name, target.name, error),
            extra={**about(caller), **fields(server=target.name)},
        )
        with self._failure_of(caller):
            if isinstance(error, OSError) and not isinstance(error, CallTimeout):
                text = f"{name}: the server behind has gone; see the server's log"
                self._dispatcher.end_with(caller, text, f"the server behind {name} has gone")
            else:
                text = f"{name}: was not answered by the server behind; see the server's log"
                self._peers.fail(caller, text)

    @contextmanager
    def _failure_of(self, caller: Caller) -> Iterator[None]:
        self._failing = caller
        try:
            yield
        finally:
            self._failing = None

    # Which procedures there are

    def methods(
        self, caller: Caller, defs: object, done: Callable[[dict[str, object]], None]
    ) -> None:
        """Ask the fallback which procedures it has: `done` gets them by name, {} if it has none."""
        target = self.fallback
        if target is None:
            done({})
            return

        namesakes = self._namesakes

        def answered(*values: object, error: RPCError | None = None) -> None:
            found = namesakes.learn(values)
            if error is not None or found is None:
                log.warning(
                    "fallback %s does not tell its procedures: %s",
                    *(target.name, error),
                    extra=fields(server=target.name),
                )
            if not caller.answered:
                done(found or {})

        try:
            args = ("defs", defs) if defs else ()
            target.client_of(caller._peer).call("methods", *args, answered)
        except (RPCError, OSError) as error:
            answered(error=error if isinstance(error, RPCError) else Disconnected(str(error)))


def _nobody(procedure: str) -> None:
    """Say that no other server gets the calls of a procedure that ours has."""


def _has_none(answer: Answer, procedure: str) -> bool:
    """Return True for what a server answers that has no procedure of a name."""
    text = failure_text(answer.values)
    return text is not None and text.startswith(f"No sub '{procedure}' ")
