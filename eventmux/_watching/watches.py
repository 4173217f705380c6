"""What the mux watches besides handles: timers, signals and child processes.

Each `Watch` is alive until it is cancelled or has nothing more to report; while any is alive,
the mux has something to wait for. The timers serve the mux's own deadlines as well.

This file knows nothing of channels.
"""

from __future__ import annotations

import errno
import math
import signal
from collections.abc import Callable

from eventmux._queue import EventQueue
from eventmux._waiting.poller import Poller
from eventmux._watching.children import ChildProcess
from eventmux._watching.mailbox import Mailbox
from eventmux._watching.signals import Signals
from eventmux._watching.timers import Entry, Timers
from eventmux._watching.wakeup import Wakeup
from eventmux.events import Child, Event, Handle, Signal, Timer

__all__ = ["Watch", "Watches"]

_MOST_BETWEEN = 64  # events that late timers wait for


class Watch:
    """What is watched by `timer()`, `signal()` or `child()`, until it is cancelled."""

    __slots__ = ("_event", "_watches", "fh")

    def __init__(self, watches: Watches, fh: Handle | None = None) -> None:
        self._watches = watches
        self.fh = fh
        """Whose it is; None if it is the program's."""
        self._event: Event | None = None  # the last one; perhaps still in the queue

    def cancel(self) -> None:
        """Stop watching. An event that was not handed out yet is dropped; twice is once."""
        if self in self._watches.alive:
            self._watches.alive.discard(self)
            self._stop()
            self._watches.changed()
        self._drop_event()

    def restart(self) -> None:
        """Let a timer count anew from now on; one that is over, or cancelled, is set again.

        A `Timer` that was not handed out yet is dropped. It costs next to nothing, so it may be
        done for each line that arrives.

        Raises:
            TypeError: it is no timer: signals and child processes have no time that could begin.
            RuntimeError: the mux has ended.
        """
        raise TypeError("restart() is for timers")

    def _drop_event(self) -> None:
        if self._event is not None:
            self._watches.queue.remove(self._event)
            self._event = None

    def _stop(self) -> None:
        raise NotImplementedError


class _TimerWatch(Watch):
    __slots__ = ("_data", "_due", "_entry", "_repeat", "_seconds")

    def __init__(
        self, watches: Watches, seconds: float, data: object, repeat: bool, fh: Handle | None
    ) -> None:
        super().__init__(watches, fh)
        self._seconds = seconds
        self._data = data
        self._repeat = repeat
        self._due = watches.clock() + seconds
        self._entry = watches.timers.add(self._due, self._fire)
        watches.alive.add(self)

    def _fire(self) -> None:
        """Report it. It may have been done already, and interrupted before that was noted."""
        watches = self._watches
        if self not in watches.alive:
            return
        if not self._repeat:
            if self._event is None:
                if self._due > watches.clock():  # it was restarted: the entry is of before
                    self._entry = watches.timers.add(self._due, self._fire)
                    return
                self._report(math.inf)
            watches.alive.discard(self)
            return
        now = watches.clock()
        if self._due <= now:
            # The beat stays as it was; what the program was too busy for is left out.
            late = now - self._due
            due = self._due + (late - late % self._seconds + self._seconds)
            self._report(max(due, math.nextafter(now, math.inf)))  # else it is due for ever
        self._entry = watches.timers.add(self._due, self._fire)

    def restart(self) -> None:
        """Count anew. The entry of one that is running stays where it is, and is put off by then.

        So the heap does not grow, however often that is done.
        """
        watches = self._watches
        watches.check_round()
        is_running = self in watches.alive
        self._due = watches.clock() + self._seconds
        self._drop_event()
        if not is_running:
            self._entry = watches.timers.add(self._due, self._fire)
            watches.alive.add(self)
        watches.changed()

    def _report(self, due: float) -> None:
        """Queue an event, unless one is there already, and note when the next one is due."""
        queue = self._watches.queue
        event = Timer(self.fh, self._data)
        if self._event is not None and queue.has_urgent(self._event):
            self._due = due
            return
        # From here on nothing comes in between.
        self._event = event
        self._due = due
        queue.push_urgent(event)

    def _stop(self) -> None:
        self._watches.timers.cancel(self._entry)


class _SignalWatch(Watch):
    __slots__ = ("signums",)

    def __init__(self, watches: Watches, signums: tuple[int, ...]) -> None:
        super().__init__(watches)
        self.signums = signums
        added: list[int] = []
        try:
            for signum in signums:
                watches.signals.add(signum)
                added.append(signum)
            watches.alive.add(self)
        except BaseException:
            for signum in added:
                watches.signals.remove(signum)
            raise

    def is_alone(self, signum: int) -> bool:
        """True if nobody else watches a signal by this mux. A signal handler may ask."""
        others = (watch for watch in tuple(self._watches.alive) if watch is not self)
        return not any(isinstance(each, _SignalWatch) and signum in each.signums for each in others)

    def _stop(self) -> None:
        watches = self._watches
        for signum in self.signums:
            watches.signals.remove(signum)
            if not watches.is_awaited(signum):
                watches.drop_signal(signum)


class _ChildWatch(Watch):
    __slots__ = ("process",)

    def __init__(self, watches: Watches, process: object, fh: Handle | None) -> None:
        self.process = ChildProcess(process, self._ended)
        super().__init__(watches, fh)
        try:
            watches.alive.add(self)
            if self.process.fd >= 0:
                watches.poller.arm(self.process)
            elif not self.process.has_ended:
                watches.signals.add(_sigchld())
                watches.asked.append(self)
        except BaseException:
            watches.alive.discard(self)
            self.process.close()
            raise
        if self.process.fd < 0:
            self.process.readable()

    def _ended(self, process: ChildProcess, returncode: int | None) -> None:
        event = Child(self.fh, process.pid, returncode)
        if self._event is None:  # else this was interrupted
            self._event = event
            self._watches.queue.push(event)
        self._watches.alive.discard(self)
        self._stop()

    def _stop(self) -> None:
        watches = self._watches
        if self in watches.asked:
            watches.asked.remove(self)
            watches.signals.remove(_sigchld())
        watches.poller.disarm(self.process)
        self.process.close()


def _sigchld() -> int:
    number = getattr(signal, "SIGCHLD", None)
    if number is None:
        raise OSError(errno.ENOSYS, "child processes cannot be watched on this platform")
    return int(number)


class Watches:
    """All that is watched, and the deadlines of the mux itself."""

    __slots__ = (
        *(
            "_has_ended",
            "_is_owed",
            "_is_round",
            "_owed",
            "_reported",
            "_round_end",
            "_waited",
            "alive",
            "asked",
            "clock",
            "mailbox",
            "poller",
            "queue",
        ),
        *("outside", "signals", "timers", "wakeup"),
    )

    def __init__(
        self, queue: EventQueue, poller: Poller, mailbox: Mailbox, clock: Callable[[], float]
    ) -> None:
        self.queue = queue
        self.poller = poller
        self.mailbox = mailbox
        self.clock = clock
        self.timers = Timers()
        self.signals = Signals(mailbox.ring)
        self.alive: set[Watch] = set()
        self.asked: list[_ChildWatch] = []  # children without a pidfd
        self._has_ended = False
        # See _is_turn_of_others().
        self._is_round = False  # a round of timers is in the queue
        self._waited = 0  # how many others waited then
        self._round_end = -math.inf
        self._is_owed = False  # the others have a look at the handles before the next one
        self._owed = 0  # and so many events
        self._reported: dict[int, Signal] = {}  # by number, the last event; perhaps still queued
        self.outside: Callable[[], None] | None = None  # see Loop.outside
        self.wakeup = Wakeup(poller, mailbox)
        try:
            poller.arm(mailbox)
            self.wakeup.watch()
        except BaseException:
            self.wakeup.close()
            mailbox.close()
            raise

    def timer(self, seconds: float, data: object, repeat: bool, fh: Handle | None) -> Watch:
        """Watch the time."""
        self.check_round()
        watch = _TimerWatch(self, seconds, data, repeat, fh)
        self.changed()
        return watch

    def check_round(self) -> None:
        """See to the rounds before a timer is set, or set again.

        Raises:
            RuntimeError: the mux has ended.
        """
        self._check_alive()
        queue = self.queue
        # Not one that the program sets while it has the last timer of the round: it would be on
        # time whenever that takes longer than until it is due.
        if self._is_round and not queue.urgent and len(queue.waiting) != self._waited:
            self._end_round(self.clock())

    def signal(self, signums: tuple[int, ...]) -> Watch:
        """Watch signals."""
        self._check_alive()
        self.wakeup.watch()
        return _SignalWatch(self, signums)

    def child(self, process: object, fh: Handle | None) -> Watch:
        """Watch a child process."""
        self._check_alive()
        self.wakeup.watch()
        watch = _ChildWatch(self, process, fh)
        self.changed()
        return watch

    def changed(self) -> None:
        """Tell who waits for the mux in another loop that there may be more, or less, to do."""
        if self.outside is not None:
            self.outside()

    def has_of(self, fh: Handle) -> bool:
        """True if anything is watched that belongs to a handle."""
        return any(watch.fh == fh for watch in self.alive)

    def _check_alive(self) -> None:
        if self._has_ended:
            self.poller.refuse()

    def later(self, seconds: float, action: Callable[[], None]) -> Entry:
        """Do something for the mux itself after so many seconds."""
        return self.timers.add(self.clock() + seconds, action)

    def run_due(self, only: Handle | None, has_looked: bool) -> None:
        """Do what is due, unless it is the others' turn.

        Args:
            only: the handle that is waited for alone: no `Timer` is handed out meanwhile.
            has_looked: the handles have been looked at just now.
        """
        now = self.clock()
        if self._is_round and not self.queue.urgent:
            self._end_round(now)
        due = self.timers.heap[0][0]
        if due > now or (only is None and self._is_turn_of_others(due, has_looked)):
            return
        self.timers.run(now)
        self._is_round = bool(self.queue.urgent)
        self._waited = len(self.queue.waiting)

    def _end_round(self, now: float) -> None:
        self._is_round = False
        self._round_end = now
        self._is_owed = not self.queue.waiting
        self._owed = min(_MOST_BETWEEN, len(self.queue.waiting))

    def _is_turn_of_others(self, due: float, has_looked: bool) -> bool:
        """True if something else is to be handed out before the next round of timers.

        Between two rounds that is what waits, or what one look at the handles brings, but no more
        than so many: if a round takes longer than until its timers are due again, nothing else
        would get its turn. What was not due yet when the round ended is not put off.
        """
        queue = self.queue
        if queue.urgent:
            return True
        if due > self._round_end:
            return False
        if self._is_owed:
            if not has_looked:
                return True
            self._is_owed = False
            self._owed = min(_MOST_BETWEEN, len(queue.waiting))
        if not self._owed or not queue.waiting:
            return False
        self._owed -= 1
        return True

    def until_due(self, timeout: float | None) -> float | None:
        """Return how long to wait at most: until the timeout is over, or something is due."""
        due = self.timers.next_due()
        if due is None:
            return timeout
        left = max(0.0, due - self.clock())
        return left if timeout is None else min(left, timeout)

    def answer_bell(self) -> None:
        """Deal with what was posted, and with signals."""
        self.mailbox.empty(self.queue.waiting)
        self.signals.tell(self._report)
        self.mailbox.is_rung = False  # last: until then it is to be done again

    def _report(self, signum: int, count: int) -> None:
        if self.asked and signum == _sigchld():
            for watch in tuple(self.asked):
                watch.process.readable()
        if not self.is_awaited(signum):
            return
        event = self._reported.get(signum)
        if event is not None and self.queue.holds(event):
            event.count += count
            return
        self._reported[signum] = Signal(signum=signum, count=count)
        self.queue.push(self._reported[signum])

    def is_awaited(self, signum: int) -> bool:
        """True if the program watches a signal; there is one event, however often it does."""
        return any(
            isinstance(watch, _SignalWatch) and signum in watch.signums for watch in self.alive
        )

    def drop_signal(self, signum: int) -> None:
        """Drop the event of a signal if it is still in the queue."""
        event = self._reported.pop(signum, None)
        if event is not None:
            self.queue.remove(event)

    def close(self) -> None:
        """Stop watching, and put back the signal handlers of before."""
        for watch in tuple(self.alive):
            watch.cancel()
        self._has_ended = True
        self.signals.clear()
        for internal in (self.wakeup, self.mailbox):
            self.poller.disarm(internal)
            internal.close()

    def abandon(self) -> None:
        """Let go of what a forked child shares with its parent; cancelling does nothing then."""
        for watch in self.alive:
            if isinstance(watch, _ChildWatch):
                watch.process.close()
        self._has_ended = True
        self.alive.clear()
        self.asked.clear()
        self.signals.clear()
        self.wakeup.abandon()
        self.mailbox.abandon()
