"""Functions that were passed to the server, and their runs: functions, or coroutine functions.

The runs of one function come one after the other, in the order of the server's calls; different
functions do not wait for each other. What returns at once is run where the call arrives. What has
to be awaited is, in a task, and the runs that follow wait until it has ended.

The call that a function was passed with waits for the runs that came before its answer, and fails
with what one of them raises. When there is no call any more that could fail, the loop's exception
handler is told; of values that do not fit, the log, which counts what comes too often. With a call
that has failed by itself, its functions are not run any more.

This file knows nothing of bytes. How much may wait is the connection's affair.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, cast

from rpcasync._log import log
from rpcasync.arguments.known import signature_of
from rpcasync.arguments.misfits import misfit
from rpcasync.calls import Reply
from rpcasync.coderefs import Coderef, pass_on
from rpcasync.errors import ArgumentError

__all__ = ["Callback", "Holder"]


class Holder(Protocol):
    """What a function needs of its connection."""

    loop: asyncio.AbstractEventLoop
    name: str
    workers: dict[asyncio.Task[None], Callback]

    def hold(self, size: int) -> None:
        """Count bytes of the server that wait for a run to end; with a minus, no longer."""
        ...


class Callback:
    """A function, as long as the server may call it.

    Args:
        connection: of which server.
        function: the program's.
        answer: of the call that it is passed with.

    Raises:
        ArgumentError: the function cannot be called with any list.
    """

    __slots__ = (
        *("_answer", "_connection", "_context", "_function", "_is_busy", "_is_stopped"),
        *("_origin", "_queue", "_signature", "_task", "_unfinished", "settled"),
    )

    def __init__(
        self,
        connection: Holder,
        function: Callable[..., object],
        answer: asyncio.Future[Reply],
    ) -> None:
        self._connection = connection
        self._function = function
        self._signature = None if isinstance(function, Coderef) else signature_of(function)
        self._answer = answer
        self._origin = ""
        self._context = contextvars.copy_context()  # as a task that the call would have made
        self._queue: deque[tuple[Sequence[object], int]] = deque()
        self._is_busy = False  # a run is under way that is awaited
        self._task: asyncio.Task[None] | None = None  # which awaits it
        self._unfinished = 0  # runs that the answer waits for
        self._is_stopped = False
        self.settled: asyncio.Future[None] | None = None
        """Done when the runs have ended that came before the answer; None if all have."""

    def invoke(self, values: Sequence[object], size: int, origin: str) -> None:
        """Run the function for the server, now or when the runs before it have ended.

        Args:
            values: what it is called with.
            size: bytes that these took.
            origin: where the function stood among the arguments, for messages.
        """
        if self._is_stopped:
            return
        self._origin = origin
        if self._is_busy:
            self._queue.append((values, size))
            self._connection.hold(size)
            return
        try:
            result = self._context.run(self._call, values)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # the program's
            self._fail(error)
        else:
            if inspect.isawaitable(result):
                self._is_busy = True
                make = self._connection.loop.create_task
                task = self._context.run(make, self._work(result))
                if self._is_busy:  # else the loop has run it already, to its end
                    self._task = task
                    self._connection.workers[task] = self
                    task.add_done_callback(partial(self._see_if_it_ran, result))

    def _call(self, values: Sequence[object]) -> object:
        if self._signature is None:
            pass_on(self._connection.name, cast("Coderef", self._function), values)
            return None
        try:
            args, named = self._signature.bind(values)
        except ArgumentError as error:
            whose = f"values of the server, to {self._origin}"
            raise misfit(whose, self._function, self._signature, values, error) from None
        return self._function(*args, **named)

    async def _work(self, result: object) -> None:
        """Await what a run has returned, and then what the runs that wait return."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._connection.workers[task] = self
        try:
            while True:
                try:
                    if inspect.isawaitable(result):
                        await result
                except Exception as error:  # noqa: BLE001  # as above
                    self._fail(error)
                except asyncio.CancelledError as error:
                    if not self._is_stopped:  # something that it awaits was cancelled, or we were
                        self._fail_waiter(error)
                    raise
                self._finish()
                result = None
                if not self._queue:
                    return
                values, size = self._queue.popleft()
                self._connection.hold(-size)
                try:
                    result = self._call(values)
                except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # as above
                    self._fail(error)
        finally:
            self._rest(task)

    def _see_if_it_ran(self, result: object, task: asyncio.Task[None]) -> None:
        """Rest also if the task was cancelled before its first step."""
        if self._task is task:
            if inspect.iscoroutine(result):
                result.close()
            self._rest(task)

    def _rest(self, task: asyncio.Task[None]) -> None:
        self._drop_queue()
        self._is_busy, self._task = False, None
        self._connection.workers.pop(task, None)
        if self.settled is not None and not self.settled.done():
            self.settled.set_result(None)

    def _finish(self) -> None:
        """Note that a run has ended."""
        if self.settled is not None:
            self._unfinished -= 1
            if not self._unfinished and not self.settled.done():
                self.settled.set_result(None)

    def _drop_queue(self) -> None:
        for _, size in self._queue:
            self._connection.hold(-size)
        self._queue.clear()

    def answered(self) -> None:
        """Have `settled` done when the runs have ended that have come so far."""
        if self._is_busy:
            self.settled = self._connection.loop.create_future()
            self._unfinished = 1 + len(self._queue)

    def _fail_waiter(self, error: BaseException) -> bool:
        """Have the call fail with what the function has raised; False if it has ended."""
        for waiter in (self._answer, self.settled):
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)
                self._is_stopped = True
                self._drop_queue()
                return True
        return False

    def _fail(self, error: BaseException) -> None:
        """Tell whoever is to know what the function has raised: the call, or else the loop."""
        if self._fail_waiter(error):
            return
        if isinstance(error, ArgumentError):  # mostly the server's, which may do so without end
            log.error("callback of %s failed", self._connection.name, exc_info=error)
            return
        self._connection.loop.call_exception_handler(
            {
                "message": f"callback {self._function!r} of {self._connection.name} failed",
                "exception": error,
            }
        )

    def stop(self) -> None:
        """Run the function no more, and cancel the run that is under way."""
        self._is_stopped = True
        self._drop_queue()
        task = self._task
        if task is not None and task is not asyncio.current_task(self._connection.loop):
            task.cancel()
