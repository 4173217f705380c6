"""From the requests of a client to the program's procedures: when each one runs, and what becomes
of it.

The program's procedures are called from one line, in `_call()`, and what they have given to
`retry()` from another, in `call_again()`. What goes wrong in one is its client's affair: nothing is
raised, and no other request is lost.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from functools import partial
from types import CoroutineType

from rpcasync._log import log, shorten
from rpcasync.errors import ArgumentError, Disconnected, EncodeError, Fault, ProtocolError
from rpcasync.serving.callers import Caller, about
from rpcasync.serving.muting import Muting
from rpcasync.serving.namespace import Namespace, Procedure
from rpcasync.serving.peer import Peer
from rpcasync.serving.peers import OUT_OF_MEMORY, Peers
from rpcasync.serving.records import EXCEPTION, FAULT, GONE, REFUSED, Outcome
from rpcasync.serving.timeouts import Timeouts
from rpcasync.serving.turns import MOST_CALLS, Turns
from rpcasync.serving.watching import Relay
from rpcasync.wire.dialect import OtherDialect
from rpcasync.wire.leaves import memory_of
from rpcasync.wire.messages import crash_text

__all__ = ["OWN_FIRST", "Dispatcher", "Refused"]

OWN_FIRST = frozenset(("health", "stats"))
"""Built-in procedures that give way to one of a server behind, if that has one of its own."""
_LITTLE = 256  # bytes of a packet, in which there cannot be much
_QUICKLY_READ = 4096  # bytes of a packet that takes some milliseconds at most


class Refused(Fault):
    """A call that no procedure is called for: there is none, or the values do not fit."""


class Dispatcher:
    """Serves the clients of one server.

    Args:
        peers: where the answers go.
        muting: stops reading from a client of which too many calls wait.
        timeouts: ends calls that take too long.
        namespace: the program's procedures.
        built_in: those that every server has, unless the program has one of that name.
    """

    def __init__(
        self,
        peers: Peers,
        muting: Muting,
        timeouts: Timeouts,
        namespace: Namespace,
        built_in: dict[str, Procedure],
    ) -> None:
        self._peers = peers
        self._high_water = peers.high_water
        self._muting = muting
        self._timeouts = timeouts
        self._notes = peers.notes
        self._turns = Turns(peers.notes)
        self._namespace = namespace
        self.built_in = built_in
        """The procedures that every server has, by name."""
        self._is_running_waiting = False
        self.max_callbacks = 0  # alive, of one client
        self.max_waiting = 0  # calls of one client
        self.slow = float("inf")  # seconds of one call that are told of
        self._serial = 0  # of turns: whether there was another one meanwhile
        self.keeps_failed = False  # a client stays whose procedure failed
        self.relay: Relay | None = None  # looks at calls before the procedures do

    # When a call runs

    def serve(self, peer: Peer) -> None:
        """Give a client a turn: take its calls that are complete, until it is over.

        It is over sooner when too much is queued for it or waits of it, and not at all for one
        whose connection is about to be closed.
        """
        admission = self._peers.admissions[peer.is_inner]
        noted, framing = self._notes.actions, peer.protocol.framing
        next_message: Callable[[type[Caller]], Caller | None] = peer.protocol.next_message
        clock, left = self._turns.clock, MOST_CALLS
        counting = None if peer.is_inner else self._peers.counting
        tells = counting is not None and counting.on_call is not None
        if self.relay is not None:
            next_message = partial(_next_with_payload, peer)
        is_traced = log.isEnabledFor(logging.DEBUG)  # asked once: calls come by the hundred
        now = clock()
        end, slow = self._turns.end(now), self.slow
        self._serial = serial = self._serial + 1
        peer.paused, peer.in_line, peer.was_heard = False, False, True
        if peer.stalled and not self._is_slow(peer):
            admission.resume(peer)
            self._peers.wake_for_waiting()
        while not peer.gone:
            is_usual = not peer.waiting and peer.queued <= self._high_water
            if not is_usual and (self._waits_too_much(peer) or self._is_slow(peer)):
                peer.paused = True  # until a `Sent` event, or until waiting calls of it have run
                break
            try:
                caller = next_message(Caller)
            except ProtocolError as error:
                if isinstance(error, OtherDialect) and not peer.broken:
                    self._peers.send(peer, error.answer)
                peer.broken = peer.broken or str(error)
                break
            if caller is None:
                break
            caller._peer, caller.answered = peer, None
            if caller.size > _QUICKLY_READ:
                now = clock()  # what it took to read is not the procedure's
            if is_traced:
                name = shorten(caller.procedure)
                extra = about(caller)
                log.debug("< call %r of %s: %s", caller.id, peer.name, name, extra=extra)
            if counting is not None:
                caller._began = now if tells else None
            if admission.admit(peer, caller):
                self._call(peer, caller)
            elif not self._may_wait(caller.procedure):
                admission.start(peer, caller)
                self._call(peer, caller)
            else:
                if counting is not None:
                    counting.put(caller, now)
                self._wait(peer, caller)
            began, now = now, clock()  # one look for all: it has a price
            if counting is not None:
                mark = caller._began
                if caller.answered and mark is None and not peer.gone:
                    counting.taken[caller.procedure](now - began)
                elif not (caller.answered and type(mark) is float):  # else it was told of
                    counting.returned(caller, began, now)
            if now - began > slow and serial == self._serial:
                self._tell_slow(caller, now - began)
            del caller  # if the procedure has dropped it, its finalizer leaves a note now
            if noted:
                self._notes.do()
                now = clock()
            left -= 1
            if (left <= 0 or now >= end) and framing.frames and self._ends_turn(peer):
                break
        if counting is not None and left != MOST_CALLS:
            counting.served(peer, MOST_CALLS - left)
        if peer.waiting or peer.muted or peer.in_line:
            self._muting.mute(peer, peer.in_line or self._waits_too_much(peer))
            self._peers.see(peer, left != MOST_CALLS)
        elif framing.size or peer.held:
            self._peers.see(peer, left != MOST_CALLS)
        elif peer.extras is not None:
            self._peers.ended.see(peer)  # it was in line when its end came
        if peer.broken:
            self._end_broken(peer)

    def _tell_slow(self, caller: Caller, seconds: float) -> None:
        """Say that a procedure has held up everybody else.

        One that turns the loop has not: if another client was served meanwhile, nobody comes here.
        """
        log.warning(
            "procedure %s blocked the loop for %s s: wait with a timer, have a thread or a process"
            " do what takes long, and answer later",
            shorten(caller.procedure),
            f"{seconds:.2f}",
            extra=about(caller, ms=seconds * 1000),
        )

    def _wait(self, peer: Peer, caller: Caller) -> None:
        """Have a call wait, which counts as what it takes in memory: often ten times its packet."""
        if caller.size > _LITTLE:
            caller.size = max(caller.size, memory_of(caller.args))
        caller.size += len(getattr(caller, "_payload", b""))  # which is there for the relay
        self._peers.admissions[peer.is_inner].put(peer, caller)

    def _ends_turn(self, peer: Peer) -> bool:
        """Put a client in line whose time is over; False if it has to be served to the end."""
        return not peer.ending and self._turns.put(peer)

    def _is_slow(self, peer: Peer) -> bool:
        """True if a client has too much to read before it may be given more."""
        if peer.queued > self._high_water:
            self._peers.update_queued(peer)  # it may have read since
        return peer.queued > self._high_water

    def has_procedure(self, name: str) -> bool:
        """Return True for a procedure of the program's, or a built-in one."""
        stays = name in self.built_in and name not in OWN_FIRST
        return stays or self.is_own(name)

    def is_own(self, name: str) -> bool:
        """Return True for a procedure of the program's."""
        return self._namespace.find(name) is not None

    def is_built_in(self, name: str) -> bool:
        """Return True for a procedure that every server has, if the program has none like it."""
        return name in self.built_in and not self.is_own(name)

    def _may_wait(self, name: str) -> bool:
        """False if nobody else has to answer: there is no such procedure, or it is built in."""
        try:
            if self._namespace.find(name) is not None:
                return True
            return self.relay is not None and self.relay.passes_on(name)
        except Exception:  # noqa: BLE001  # the call itself will meet it again, and deal with it
            return False

    def go_on(self) -> None:
        """Run calls that waited and may run now, and give those in line their turns.

        No more than fits in one turn, and one call and one client at least.
        """
        if self._turns:
            self._peers.flush()  # those who were just answered need not wait for others' calls
        end = self._turns.end_of_all()
        if not self._is_running_waiting:  # else a procedure called io(): who called it goes on
            try:
                self._is_running_waiting = True
                self._run_waiting(end)
            finally:
                self._is_running_waiting = False
        for _ in range(len(self._turns)):
            peer = self._turns.take()
            if peer is not None and not self._peers.drop_if_gone(peer):
                self._serve_safely(peer)
            if self._turns.clock() >= end:
                break
        if self._turns or (not self._is_running_waiting and self._peers.has_next()):
            self._notes.wake_later()

    def _serve_safely(self, peer: Peer) -> None:
        """Serve a client that no event is of: if memory runs out, it is the one to go."""
        try:
            self.serve(peer)
        except MemoryError:
            self._peers.kill(peer, OUT_OF_MEMORY)

    def _run_waiting(self, end: float) -> None:
        seen: set[Peer] = set()
        while (peer := self._peers.next_peer()) is not None:
            admission = self._peers.admissions[peer.is_inner]
            if peer.muted and peer not in seen:  # its end would not be noticed
                seen.add(peer)
                if self._peers.drop_if_gone(peer):
                    continue
            if self._is_slow(peer):  # serve() goes on with its calls
                if not peer.gone:
                    peer.paused = True
                    admission.stall(peer)
                continue
            if peer.gone:
                continue
            caller = admission.take(peer)
            admission.start(peer, caller)
            began, serial = self._turns.clock(), self._serial
            if self._peers.counting is not None:
                self._peers.counting.start(caller, began)
            self._call(peer, caller)
            seconds = self._turns.clock() - began
            if seconds > self.slow and serial == self._serial:
                self._tell_slow(caller, seconds)
            del caller  # if the procedure has dropped it, its finalizer leaves a note now
            if self._notes.actions:
                self._notes.do()
            if peer.paused and not self._waits_too_much(peer, 2):
                self._serve_safely(peer)
            self._end_broken(peer)
            if self._turns.clock() >= end:
                break

    def resume_all(self) -> None:
        """Go on with all clients that are paused: a limit has changed."""
        for peer in self._peers.by_fh.values():
            if peer.paused:
                self._notes.add(partial(self._serve_safely, peer))

    def recover(self) -> None:
        """Make good what an interrupt may have left half done, and give everybody a turn."""
        self._is_running_waiting = False
        peers = tuple(self._peers.by_fh.values())
        for peer in peers:
            if peer.gone:
                self._peers.forget(peer)
        for is_inner, admission in enumerate(self._peers.admissions):
            admission.recount(
                peer for peer in peers if not peer.gone and peer.is_inner == bool(is_inner)
            )
        for peer in peers:
            if not peer.gone:
                self._peers.ended.note(peer)
                self._muting.recover(peer)
                if not self._turns.put(peer):
                    self._notes.add(partial(self._serve_safely, peer))
        self._notes.recover()

    def _waits_too_much(self, peer: Peer, parts: int = 1) -> bool:
        """True if as many calls of a client wait as may, or as many bytes; or a part of that."""
        if not peer.waiting:
            return False
        size = peer.protocol.max_packet / parts
        return peer.waiting >= self.max_waiting / parts or peer.waiting_size > size

    def _end_broken(self, peer: Peer) -> None:
        """Disconnect a client if `broken` says why, once what it sent before has been served."""
        if (
            peer.broken
            and not peer.gone
            and not peer.paused
            and not peer.in_line
            and not peer.waiting
        ):
            self._peers.disconnect(peer, peer.broken)

    # What becomes of it

    def _call(self, peer: Peer, caller: Caller) -> None:
        """Answer one call, which is counted: by the procedure, or with what is wrong with it."""
        values, caller.args = caller.args, []  # else they would live as long as the call
        try:
            if caller.has_callbacks:
                values = self._take_callbacks(caller, values)
            if self._timeouts.are_used:
                self._timeouts.begin(caller)
            if self.relay is not None and self.relay.take(caller, values):
                return
            procedure = self._namespace.find(caller.procedure) or self._own(caller.procedure)
            try:
                args, named = procedure.bind(values)
            except ArgumentError as error:
                raise Refused(procedure.refusal(values, error)) from None
            # This is where the program's code is called.
            value = procedure.function(caller, *args, **named)
        except Exception as error:  # noqa: BLE001  # whatever it is, only this client suffers
            failure = error
        else:
            if value is not None and not caller.answered:
                self._ignore(caller, value)
            return
        try:
            self._end_failed(peer, caller, failure)
        finally:
            del failure  # its traceback holds this frame

    def call_built_in(self, caller: Caller, values: list[object]) -> None:
        """Answer a call by a procedure that every server has.

        Raises:
            Fault: the values do not fit.
        """
        procedure = self._own(caller.procedure)
        try:
            args, named = procedure.bind(values)
        except ArgumentError as error:
            raise Refused(procedure.refusal(values, error)) from None
        procedure.function(caller, *args, **named)

    def call_again(self, caller: Caller, function: Callable[[Caller], object]) -> None:
        """Go on with a call that was not answered yet, as its procedure has asked for."""
        peer, serial, began = caller._peer, self._serial, self._turns.clock()
        try:
            # This is where the program's code is called.
            value = function(caller)
        except Exception as error:  # noqa: BLE001  # as with a procedure
            failure: Exception | None = error
        else:
            failure = None
            if isinstance(value, CoroutineType):
                self._ignore(caller, value)
        seconds = self._turns.clock() - began
        if seconds > self.slow and serial == self._serial:
            self._tell_slow(caller, seconds)
        try:
            if failure is not None:
                self._end_failed(peer, caller, failure)
                self._end_broken(peer)
        finally:
            del failure  # its traceback holds this frame

    def _ignore(self, caller: Caller, value: object) -> None:
        """Say that what a procedure has returned is no answer."""
        name, kind = shorten(caller.procedure), type(value).__name__
        log.warning(
            "procedure %s returned %s, which is ignored: answer with return_()",
            *(name, kind),
            extra=about(caller),
        )
        if isinstance(value, CoroutineType):  # a decorator hid what it is; Python would tell again
            value.close()

    def _end_failed(self, peer: Peer, caller: Caller, error: Exception) -> None:
        """Deal with a call that an exception has ended.

        It is not being handled here: Python shows what is, as it is, when a handler of the log
        fails, at a character say that has no form in the encoding of its file.
        """
        if isinstance(error, Fault):
            self._fail(caller, str(error), REFUSED if isinstance(error, Refused) else FAULT)
        elif isinstance(error, EncodeError):
            name = shorten(caller.procedure)
            where = _place_of(error)
            log.error(
                "procedure %s has a value that cannot be sent: %s%s",
                *(name, error, where),
                extra=about(caller),
            )
            self._fail(caller, f"{name}: a value cannot be sent", EXCEPTION)
        elif isinstance(error, Disconnected):
            self._lose(peer, caller, error)
        else:
            self._break(peer, caller, error)

    def _fail(self, caller: Caller, text: str, outcome: Outcome) -> None:
        """Answer with an error."""
        if caller.answered:
            name = shorten(caller.procedure)
            extra = about(caller)
            log.error("procedure %s failed after its answer: %s", name, text, extra=extra)
        else:
            self._peers.fail(caller, text, outcome)

    def _lose(self, peer: Peer, caller: Caller, error: Disconnected) -> None:
        """Deal with a callback of a client that has gone: this one's, or another's."""
        name = shorten(caller.procedure)
        if peer.gone:
            log.debug("procedure %s: %s", name, error, extra=about(caller))
            self._peers.finish(caller)
            if self._peers.counting is not None:
                self._peers.counting.ended(caller, GONE, 0)
        else:
            log.error("procedure %s failed", name, exc_info=error, extra=about(caller))
            self._fail(caller, f"{name}: a connection has ended", EXCEPTION)

    def _break(self, peer: Peer, caller: Caller, error: Exception) -> None:
        """Answer a call whose procedure failed, and have its client disconnected.

        It may stay if the program says so; not if memory ran out, which frees what is kept for it.
        """
        name = shorten(caller.procedure)
        log.error("procedure %s failed", name, exc_info=error, extra=about(caller))
        keeps = self.keeps_failed or peer.is_inner
        if not keeps or isinstance(error, MemoryError):
            peer.broken = f"procedure {name} failed"
        if not caller.answered:
            self._peers.fail(caller, crash_text(caller.procedure), EXCEPTION)

    def end_with(self, caller: Caller, text: str, reason: str) -> None:
        """Answer a call whose server behind has gone, and have its client go, too, or stay.

        Args:
            caller: the call.
            text: what it is told.
            reason: why it is disconnected, unless the program has those stay whose calls fail.
        """
        peer = caller._peer
        if not self.keeps_failed and not peer.broken:
            peer.broken = reason
            self._notes.add(partial(self._end_broken, peer))  # once its other calls are told, too
        self._peers.fail(caller, text)

    def _take_callbacks(self, caller: Caller, values: list[object]) -> list[object]:
        try:
            return caller._peer.take_callbacks(values, self.max_callbacks)
        except ArgumentError as error:
            raise Refused(f"{shorten(caller.procedure)}: {error}") from None

    def _own(self, name: str) -> Procedure:
        """Return a procedure that every server has."""
        procedure = self.built_in.get(name)
        if procedure is None:
            raise Refused(self._unknown(shorten(name)))
        return procedure

    def _unknown(self, name: str) -> str:
        package = self._namespace.name
        if self._namespace.is_empty():
            log.warning(
                "package %s has no rpc_* functions: define them at the top of the file,"
                " before the loop",
                package,
            )
        return f"No sub '{name}' in package '{package}'"


def _next_with_payload(peer: Peer, make: type[Caller]) -> Caller | None:
    """Return the next call of a client, with the packet that it came in."""
    frames = peer.protocol.framing.frames or peer.protocol.framing.cut()
    payload = frames[-1] if frames else b""
    caller = peer.protocol.next_message(make)
    if caller is not None:
        caller._payload = payload
    return caller


def _place_of(error: Exception) -> str:
    """Return where the program was when something of this package was raised: the last line of it.

    What is beyond that line is how this package works, and no help.
    """
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if not str(frame.f_globals.get("__name__")).startswith("rpcasync."):
            place = f", in {frame.f_code.co_filename}, line {line}"
    return place
