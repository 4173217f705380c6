"""Which call is made when, and what is done with its answer.

The rule: a call is made once all those have ended that had ended before it came in the recording,
of any client. So whatever a client could know when it made a call, it could know again; and what
ran at the same time does so, too. A call that was never answered is waited for by none.

Calls that cannot be made as they were are left out and counted: those whose arguments were
redacted, or were too long to be recorded, and those with values that have no form to be sent in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from eventmux import EventMux
from eventmux.events import Event
from rpcasync.errors import CallTimeout, Disconnected, EncodeError, QueueFull, RPCError
from rpcasync.forwarding.relayed import Answer, Relayed
from rpcasync.recording.lines import CallLine, Header, Invoked
from rpcasync.recording.reader import Recorded
from rpcasync.recording.redaction import Redaction
from rpcasync.replaying.connections import Connections, Place
from rpcasync.replaying.tally import Tally
from rpcasync.wire.leaves import map_leaves
from rpcasync.wire.messages import CallbackRef, Id

__all__ = ["Replay"]

_MOST_FRUITLESS = 3  # connections on which nothing is answered, until the server counts as gone


@dataclass(slots=True, eq=False)
class _Played:
    """A call that was made, and what its functions have been called with."""

    line: CallLine
    redaction: Redaction
    place: Place
    until: float  # when it had ended, on the clock of the recording
    heard: list[Invoked] = field(default_factory=list)
    expected: int = 0  # calls of its functions
    is_heard: bool = False  # they have been counted
    is_exceeded: bool = False  # and there was one more


class Replay:
    """Plays calls against a server: `run()`.

    Args:
        mux: watches all connections.
        url: of the server.
        calls: what was recorded, in order.
        tally: counts what comes of it.
        wants: says whether calls of a procedure are made.
        speed: how many times as fast as they came; None is as fast as they are answered.
        in_flight: how many calls may wait for an answer.
        timeout: seconds to wait for an answer, or for a function to be called as it had been.
        say: gets the lines that a program prints on its pipes.
        client_options: what each `Client` is given besides.
    """

    def __init__(
        self,
        mux: EventMux[Event],
        url: str,
        calls: Iterable[Recorded],
        tally: Tally,
        *,
        wants: Callable[[str], bool] = lambda _: True,
        speed: float | None = None,
        in_flight: int = 100,
        timeout: float = 10.0,
        say: Callable[[bytes], None] = lambda _: None,
        client_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._mux = mux
        self._tally = tally
        self._wants = wants
        self._speed = speed
        self._in_flight = in_flight
        self._timeout = timeout
        self._connections = Connections(mux, url, timeout, say, client_options or {})
        self._source: Iterator[Recorded] = iter(calls)
        self._next: Recorded | None = None
        self._session = -1
        self._offset = 0.0  # from the recording's clock to ours
        self._under_way: dict[_Played, None] = {}
        self._over: dict[Place, None] = {}  # clients that make no more calls

    def run(self) -> None:
        """Make all calls, and wait for what comes of them.

        Raises:
            OSError: the recording cannot be read any more.
            URLError: the URL is not understood.
        """
        began = self._mux.clock()
        try:
            self._advance()
            self._go_on()
            while not self._is_over():
                event = self._mux.mux(self._wait())
                if event is not None:
                    self._connections.io(event)
                self._go_on()
        finally:
            self._tally.seconds = self._mux.clock() - began
            self._tally.clients = self._connections.count
            self._leave_all()

    def end(self) -> None:
        """Wait until all connections have ended, and a program that was started."""
        while not self._connections.are_closed:
            event = self._mux.mux()
            if event is None:
                return
            self._connections.io(event)

    def _is_over(self) -> bool:
        if self._tally.gone is not None:
            return True
        return self._next is None and not self._connections.places

    def _leave_all(self) -> None:
        """Disconnect, and count what was not to be."""
        for place in self._connections.places:
            self._leave(place)
        for played in self._under_way:
            if played.until == math.inf:
                self._tally.unanswered += 1
            else:
                self._tally.failed["disconnected"] += 1
        self._under_way.clear()
        while self._tally.gone is not None and self._next is not None:
            if self._wants(self._next.line.procedure):
                self._tally.not_played["the server has gone"] += 1
            self._advance()

    # Which call is next

    def _advance(self) -> None:
        self._next = next(self._source, None)
        if self._next is not None:
            self._tally.names[self._next.line.procedure] += 1

    def _go_on(self) -> None:
        """Make the calls that can be made now, and let those leave who make no more."""
        while self._next is not None and self._tally.gone is None and self._take(self._next):
            self._advance()
        if self._connections.is_shared and self._next is None:
            self._over.update(dict.fromkeys(self._connections.places))
        for place in [*self._over]:
            if self._may_leave(place):
                self._leave(place)

    def _take(self, recorded: Recorded) -> bool:
        """Make a call, or leave it out; return False if it is too early for it."""
        line = recorded.line
        reason = self._why_not(line)
        if reason is None:
            if not self._is_due(recorded) or not self._play(recorded):
                return False
        elif reason:
            self._tally.not_played[reason] += 1
        if recorded.is_last and not self._connections.is_shared:
            place = self._connections.place(recorded.session, line.client, line.codec)
            place.since = self._mux.clock()
            self._over[place] = None
        return True

    def _why_not(self, line: CallLine) -> str | None:
        """Return why a call is left out, "" if nobody wants it, None if it is not."""
        if not self._wants(line.procedure):
            return ""
        if "arguments" in line.redacted:
            return "redacted"
        return "not recorded in full" if line.arguments is None else None

    def _is_due(self, recorded: Recorded) -> bool:
        if len(self._under_way) >= self._in_flight:
            return False
        at = recorded.line.at
        if recorded.session != self._session:
            if any(each.until < math.inf for each in self._under_way):
                return False  # of the session before
            self._session = recorded.session
            self._offset = self._mux.clock() - at / (self._speed or 1.0)
        if any(each.until <= at for each in self._under_way):
            return False
        return self._seconds_left(at) <= 0

    def _seconds_left(self, at: float) -> float:
        if self._speed is None:
            return 0.0
        return at / self._speed + self._offset - self._mux.clock()

    def _wait(self) -> float | None:
        """Return for how long nothing but events can have us go on."""
        now, dues = self._mux.clock(), []
        if self._next is not None and self._next.session == self._session:
            left = self._seconds_left(self._next.line.at)
            if left > 0:
                dues.append(left)
        dues += [
            max(0.0, place.since + self._timeout - now) for place in self._over if not place.awaited
        ]
        return min(dues, default=None)

    # A call

    def _play(self, recorded: Recorded) -> bool:
        """Make a call; return False if there is no room for it."""
        line = recorded.line
        place = self._connections.place(recorded.session, line.client, line.codec)
        has_ended = line.ended in ("answer", "error")
        played = _Played(
            line,
            _redaction(recorded.header),
            place,
            line.at + line.took if has_ended else math.inf,
            expected=sum(values is not None for _, values in line.callbacks),
        )
        try:
            client = self._connections.client_of(place)
            call = Relayed(client, line.procedure, lambda answer: self._done(played, answer))
            call.send(_with_functions(line.arguments or [], played, self._heard), b"", False)
        except EncodeError:
            self._tally.not_played["cannot be sent"] += 1
            return True
        except QueueFull:
            return False
        except OSError as error:
            named = error.filename is not None  # a program that is not there
            self._tally.gone = f"{error.filename}: {error.strerror}" if named else f"{error}"
            return False
        self._tally.played += 1
        self._under_way[played] = None
        place.awaited += has_ended
        if played.expected:
            place.listening[played] = None
        return True

    def _done(self, played: _Played, answer: Answer | RPCError) -> None:
        if self._under_way.pop(played, played) is played:  # all is over
            return
        place, tally = played.place, self._tally
        place.awaited -= played.until < math.inf
        place.since = self._mux.clock()
        if isinstance(answer, Answer):
            self._connections.note_answer(place)
            tally.answer(played.line, answer.values, played.redaction)
            self._count_heard(played)
            return
        place.listening.pop(played, None)
        if played.until == math.inf:
            tally.unanswered += 1
        else:
            tally.failed["timed out" if isinstance(answer, CallTimeout) else "disconnected"] += 1
        if isinstance(answer, Disconnected):
            self._see_to_server(answer)

    def _see_to_server(self, error: Disconnected) -> None:
        """Note that the server has gone, if it has not only disconnected a client."""
        if not error._was_up or self._connections.fruitless >= _MOST_FRUITLESS:
            self._tally.gone = self._tally.gone or str(error)

    # Its functions

    def _heard(self, played: _Played, id: Id, values: list[object]) -> None:  # noqa: A002
        """Note what a function was called with."""
        if not played.is_heard:
            played.heard.append((id, values))
            self._count_heard(played)
        elif not played.is_exceeded:
            played.is_exceeded = True
            self._tally.one_more_callback(played.line)

    def _count_heard(self, played: _Played) -> None:
        """Count what the functions of a call were called with, once nothing more is expected."""
        if played not in self._under_way and len(played.heard) >= played.expected:
            self._judge(played)

    def _judge(self, played: _Played) -> None:
        played.is_heard = True
        played.place.listening.pop(played, None)
        self._tally.callbacks(played.line, played.heard, played.redaction)

    # The end of a client

    def _may_leave(self, place: Place) -> bool:
        """True for a client that makes no more calls, and hears no more, or has waited for it."""
        if place.awaited:
            return False
        is_late = self._mux.clock() >= place.since + self._timeout
        return not place.listening or place.client is None or is_late

    def _leave(self, place: Place) -> None:
        for played in [*place.listening]:
            if isinstance(played, _Played) and played not in self._under_way:
                self._judge(played)
        self._over.pop(place, None)
        self._connections.leave(place)


@lru_cache(maxsize=16)
def _rules(names: tuple[str, ...], procedures: tuple[str, ...]) -> Redaction:
    return Redaction(names, procedures)


def _redaction(header: Header) -> Redaction:
    return _rules(tuple(header.names), tuple(header.procedures))


def _with_functions(
    values: list[object],
    played: _Played,
    heard: Callable[[_Played, Id, list[object]], None],
) -> list[object]:
    """Return arguments with a function in the place of each that was recorded."""
    functions: dict[Id, object] = {}

    def put(value: object) -> object:
        if not isinstance(value, CallbackRef):
            return value
        if value.id not in functions:
            number = value.id

            def function(*values: object) -> None:
                heard(played, number, [*values])

            functions[value.id] = function
        return functions[value.id]

    return map_leaves(values, put)
