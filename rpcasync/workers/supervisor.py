"""The parent of the workers: starts them, starts again those that die, rolls them, and ends with
them.

It is a loop on a mux, and never runs the program. The first worker is started alone: a program that
cannot start fails once, and the command with it. The others follow, as many at a time as there are
processors. From then on a worker that ends is started again, after a while that grows as long as
none lasts.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import deque
from collections.abc import Callable
from functools import partial

from eventmux import Child, EventMux, Read, Signal, Timer
from eventmux.buffers import Split
from rpcasync._log import log
from rpcasync.backoff import Backoff
from rpcasync.notifying import Supervised, notify
from rpcasync.serving.scoreboard import Scoreboard
from rpcasync.workers.orphans import reap
from rpcasync.workers.roll import Roll, Seat
from rpcasync.workers.worker import Starter, Worker, how

__all__ = ["Supervisor"]

_START = 90  # seconds in which a worker has to be ready
_GRACE = 5.0  # seconds that a worker may take longer than it was given, until it is killed
_AT_ONCE = 2.0  # likewise, when it is to end at once
_AS_TOLD = (0, -signal.SIGTERM, -signal.SIGINT)  # a signal, before or behind its loop
_LASTS = 10.0  # seconds after which a worker that ends is no failure to start
_LONGEST = 8192  # bytes of a line that a worker tells


class Supervisor:
    """The parent.

    Args:
        mux: what it waits with.
        starter: starts a worker.
        board: has a place for each worker, and one more for a replacement.
        count: how many workers there are to be.
        drain: seconds that the clients of a worker have to leave.
        say: tells the user something.
        backoff: how long to wait before a worker is started again.
    """

    def __init__(
        self,
        mux: EventMux,
        starter: Starter,
        board: Scoreboard,
        count: int,
        drain: float,
        say: Callable[[str], object],
        backoff: Backoff | None = None,
    ) -> None:
        self._mux = mux
        self._starter = starter
        self._board = board
        self._places = [*range(count + 1)]  # on the scoreboard, that are free
        self._seats = [Seat(number) for number in range(1, count + 1)]
        self._unfilled = deque(self._seats)  # those that had no worker yet
        self._drain = drain
        self._say = say
        self._backoff = Backoff() if backoff is None else backoff
        self._workers: dict[int, Worker] = {}  # all processes, by their number
        self._supervised: Supervised | None = None  # by systemd, once all are ready
        self._roll: Roll | None = None
        self._rolls_again = False  # when this one is over
        self._has_begun = False  # one was ready
        self._signals = 0  # to stop
        self._status: int | None = None  # it is over

    def run(self) -> int:
        """Go on until it is told to stop, and all workers have ended; return the exit status."""
        mux = self._mux
        mux.signal(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        if os.getpid() == 1:
            mux.signal(signal.SIGCHLD)
        self._fill(self._unfilled.popleft())
        while self._status is None:
            match mux.mux():
                case Read(fh, data):
                    self._told(mux.meta(fh), data)
                case Child(pid=pid, returncode=returncode):
                    self._ended(self._workers.pop(pid), returncode)
                    self._reap()
                case Signal(signum=signum):
                    self._signalled(signum)
                case Timer(data=function) as event:
                    if self._supervised is None or not self._supervised.io(event):
                        function()
        return self._status

    # Starting

    def _fill(self, seat: Seat) -> None:
        """Start a worker where there is none."""
        seat.retry = None
        seat.worker = self._start(seat)
        if seat.worker is None and self._has_begun:
            self._try_again(seat)
        elif seat.worker is None:
            self._status = 1

    def _fill_more(self) -> None:
        """Start others for the first time, unless too many are about to get ready."""
        starting = sum(not worker.is_ready for worker in self._workers.values())
        for _ in range(starting, os.cpu_count() or 1):
            if self._unfilled:
                self._fill(self._unfilled.popleft())

    def _start(self, seat: Seat) -> Worker | None:
        """Start a worker; return None if it cannot be done."""
        place = self._places[-1]
        try:
            worker = self._starter.start(seat.number, place)
        except OSError as error:
            log.error("worker %d cannot be started: %s", seat.number, error.strerror or error)
            return None
        self._places.pop()
        self._workers[worker.process.pid] = worker
        self._mux.add(worker.sock, buffered=Split(b"\n", max_size=_LONGEST), meta=worker)
        self._mux.child(worker.process)
        worker.limit = self._mux.timer(_START, partial(self._is_late, worker))
        return worker

    def _is_late(self, worker: Worker) -> None:
        log.error("%s is not ready after %s s, and is ended", worker, _START)
        worker.is_dismissed = True
        self._end(worker, signal.SIGTERM, _GRACE)

    def _try_again(self, seat: Seat) -> float:
        """Start a worker in a while; return in how many seconds."""
        seconds = self._backoff.seconds(seat.attempts)
        seat.attempts += 1
        seat.retry = self._mux.timer(seconds, partial(self._fill, seat))
        return seconds

    # What a worker tells

    def _told(self, worker: Worker, line: bytes) -> None:
        if line == b"READY=1" and not worker.is_ready:
            self._ready(worker)
        elif line == b"WATCHDOG=1" and worker.signs is not None:
            worker.signs.restart()
        elif line.startswith(b"STATUS="):
            text = line.partition(b"=")[2].decode(errors="replace")
            notify(f"STATUS=worker {worker.number}: {text}")

    def _ready(self, worker: Worker) -> None:
        worker.be_ready()
        if self._starter.watchdog is not None:
            worker.signs = self._mux.timer(self._starter.watchdog, partial(self._hangs, worker))
        if self._signals or worker.is_dismissed:
            return
        self._has_begun = True
        self._fill_more()
        if self._roll is not None:
            self._roll.ready(worker)
        elif self._rolls_again:
            self._begin_roll()
        self._see_if_ready()

    def _see_if_ready(self) -> None:
        """Tell systemd when all are ready, for the first time."""
        if self._supervised is None and all(
            seat.worker is not None and seat.worker.is_ready for seat in self._seats
        ):
            self._supervised = Supervised(self._mux, lambda: True, self._starter.watchdog)

    def _hangs(self, worker: Worker) -> None:
        seconds = self._starter.watchdog
        log.error("%s gave no sign of life for %s s: SIGABRT", worker, seconds)
        self._end(worker, signal.SIGABRT, _GRACE)

    # The end of a worker

    def _end(self, worker: Worker, signum: int, seconds: float) -> None:
        """Have a worker end, within some seconds."""
        if worker.limit is not None:
            worker.limit.cancel()
        worker.limit = self._mux.timer(seconds, partial(self._kill, worker))
        worker.send_signal(signum)

    def _kill(self, worker: Worker) -> None:
        log.error("%s did not end in time, and is killed", worker)
        worker.send_signal(signal.SIGKILL)

    def _dismiss(self, worker: Worker) -> None:
        """Have a worker end in good order."""
        worker.is_dismissed = True
        self._end(worker, signal.SIGTERM, self._drain + _GRACE)

    def _ended(self, worker: Worker, returncode: int | None) -> None:
        worker.forget_limits()
        with contextlib.suppress(KeyError):  # it has closed its end before
            self._mux.kill(worker.sock)
        self._board.write(worker.place, None)
        self._places.append(worker.place)
        roll, end = self._roll, how(returncode)
        seat = self._seats[worker.number - 1]
        if self._signals or (seat.worker is not worker and worker.is_ready):
            if returncode not in _AS_TOLD:
                log.error("%s ended: %s", worker, end)
        elif seat.worker is not worker or not self._has_begun:
            log.error("%s ended before it was ready: %s", worker, end)
        if self._signals:
            self._status = None if self._workers else 0
        elif not self._has_begun:
            self._status = _as_status(returncode)
        elif roll is None or not roll.ended(worker):
            self._lost(worker, seat, end)

    def _lost(self, worker: Worker, seat: Seat, end: str) -> None:
        """Replace a worker that has ended, and was not to."""
        seat.worker = None
        if worker.age() >= _LASTS:
            seat.attempts = 0
        if self._roll is not None and self._roll.is_replacing(seat):
            log.error("%s ended: %s", worker, end)  # somebody is on the way
        else:
            seconds = self._try_again(seat)
            log.error("%s ended: %s; it is started again in %s s", worker, end, round(seconds, 1))
        self._fill_more()

    # Signals

    def _signalled(self, signum: int) -> None:
        if signum in (signal.SIGTERM, signal.SIGINT):
            self._stop(signal.Signals(signum).name)
        elif signum == signal.SIGHUP and not self._signals:
            self._begin_roll()
        self._reap()

    def _reap(self) -> None:
        """See to the children of others, if they have become ours."""
        if os.getpid() == 1:
            reap(self._workers)

    def _begin_roll(self) -> None:
        self._rolls_again = self._roll is not None or bool(self._unfilled) or not self._has_begun
        if self._rolls_again:
            return
        self._say(f"SIGHUP: replaces {len(self._seats)} workers, one after the other")
        if self._supervised is not None:
            self._supervised.reloading()
        self._roll = Roll(self._seats, self._replace, self._dismiss, self._rolled)
        self._roll.go_on()

    def _replace(self, seat: Seat) -> Worker | None:
        """Start somebody for a seat, whether there is somebody or not."""
        if seat.retry is not None:
            seat.retry.cancel()
            seat.retry = None
        return self._start(seat)

    def _rolled(self, count: int, seconds: float, is_done: bool) -> None:
        """A roll is over."""
        self._roll = None
        if is_done:
            self._say(f"{count} workers are replaced, in {seconds:.1f} s")
        else:
            log.error(
                "a replacement failed: the roll ends, with %d of %d workers replaced",
                *(count, len(self._seats)),
            )
        for seat in self._seats:
            if seat.worker is None and seat.retry is None:
                self._try_again(seat)
        if self._supervised is not None:
            self._supervised.ready()
        if self._rolls_again:
            self._begin_roll()

    # The end

    def _stop(self, name: str) -> None:
        """Have all workers end: in good order, and at once if it is said again."""
        self._signals += 1
        if self._signals > 1:
            for worker in self._workers.values():
                self._end(worker, signal.SIGINT, _AT_ONCE)
            return
        if self._supervised is not None:
            self._supervised.stopping()
        self._roll = None
        self._starter.close_listeners()
        for seat in self._seats:
            if seat.retry is not None:
                seat.retry.cancel()
        self._say(
            f"{name}: waits for {len(self._workers)} workers, {self._drain:g} s at most;"
            " a second signal ends it at once"
        )
        for worker in self._workers.values():
            self._dismiss(worker)
        if not self._workers:
            self._status = 0


def _as_status(returncode: int | None) -> int:
    """Return the exit status of a command whose program has ended so."""
    if returncode is None:
        return 1
    return returncode if returncode >= 0 else 128 - returncode
