"""A call as its client's program sees it, and the values of its answer.

This file turns no loop: it asks the client to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from eventmux._nearest import nearest
from rpcasync._log import fields, log, shorten
from rpcasync.arguments.answers import answer_as
from rpcasync.arguments.known import signature_of
from rpcasync.arguments.misfits import misfit
from rpcasync.arguments.signatures import Signature
from rpcasync.errors import ArgumentError, CallTimeout, Disconnected, RemoteError, RPCError
from rpcasync.wire.messages import as_text

__all__ = [
    "Call",
    "CallOwner",
    "Outcome",
    "Reply",
    "Telling",
    "check_procedure",
    "raise_error",
    "remote_error",
]

_LONGEST_TOLD = 300  # characters of an error that nobody has asked for
_ENDS = {"close": "disconnect", "disconnect": "close"}  # as another client has it
_LIKE_ENOUGH = 0.75  # of a method's name; `calculate` does not mean `call`
_NAMES = slice(None, None, 2)
_VALUES = slice(1, None, 2)
_Kind = TypeVar("_Kind")


class Reply(tuple[Any, ...]):
    """The values of an answer, in order; `reply["sum"]` reads them as names and values."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        """Return the value at an index, or the one that follows a name.

        Raises:
            KeyError: there is no such name.
            ValueError: the values are no names and values.
        """
        return self.pairs()[key] if isinstance(key, str) else super().__getitem__(key)

    def pairs(self) -> dict[str, Any]:
        """Return the values as a dict of name and value; of a name given twice, the last.

        Raises:
            ValueError: the number of values is odd, or a name is no str.
        """
        if len(self) % 2:
            text = f"a reply of {len(self)} is no names and values: read it by index, as reply[0]"
            raise ValueError(text)
        names: Any = tuple.__getitem__(self, _NAMES)  # as `self[::2]`, without a call of ours
        for name in names:
            if type(name) is not str:
                names = _as_names(names)
                break
        return dict(zip(names, tuple.__getitem__(self, _VALUES), strict=True))

    def to(self, kind: type[_Kind]) -> _Kind:
        """Return the values as what a type says, converted as for an annotated parameter.

        With `Sum = TypedDict("Sum", {"sum": int})`, `reply.to(Sum)["sum"]` is an int, also where
        Perl has sent it as text.

        Args:
            kind: a TypedDict, or `dict[str, X]`, for names and values; `list[X]` for all values;
                any other type is that of the one value that there is.

        Raises:
            ArgumentError: the values are something else.
            TypeError: nothing is converted to that type.
        """
        return cast("_Kind", answer_as(kind, self, self.pairs))


def _as_names(values: Sequence[object]) -> list[str]:
    names = [as_text(value) for value in values]
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"{type(name).__name__} stands for a name")
    return cast("list[str]", names)


Outcome = Sequence[object] | RPCError
"""What comes of a call: the values of the answer, or an error."""


Telling = tuple[Callable[..., object], Sequence[object], Mapping[str, object]]
"""A function to call, and with what: what is left to do of a call that has ended."""


class CallOwner(Protocol):
    """What a call needs of its client, whose public names are procedures of the server."""

    def _run_until(self, is_over: Callable[[], bool], timeout: float | None) -> bool: ...

    def _cancel(self, call: Call) -> bool: ...

    def _set_timeout(self, call: Call, seconds: float | None) -> None: ...

    def _why_late(self, call: Call) -> str: ...

    def _remote_error(self, procedure: str, text: str) -> RemoteError: ...


class _Unasked:
    """An error that nobody has asked for yet, of a call without a callback."""

    __slots__ = ("error", "is_asked", "procedure")

    def __init__(self, procedure: str, error: RPCError) -> None:
        self.procedure = procedure
        self.error = error
        self.is_asked = False

    def __del__(self) -> None:
        """Tell the log, now that nobody can ask any more."""
        if not self.is_asked:
            text, name = str(self.error)[:_LONGEST_TOLD], f"{shorten(self.procedure)}: "
            told = text if text.startswith(name) else name + text
            extra = fields(procedure=self.procedure)
            log.warning("a call without a callback failed: %s", told, extra=extra)


class Call:
    """One call: what was asked, and what came of it.

    `id` is its number on the wire, `procedure` its name, `args` what was sent, and `timeout` the
    seconds that it was given, or None. A call belongs to the thread of its client: in any other,
    all that asks for something raises RuntimeError.

    One that fails without a callback, and is let go of without a look at its `result()`, leaves a
    warning in the log.
    """

    __slots__ = (
        "_callback",
        "_outcome",
        "_owner",
        "_signature",
        "_unasked",
        "args",
        "id",
        "procedure",
        "timeout",
    )

    def __init__(
        self,
        owner: CallOwner,
        procedure: str,
        args: list[object],
        callback: Callable[..., object] | None,
    ) -> None:
        self._owner = owner
        self._callback = callback
        # Read now, so that a callback that can take no answer is an error now.
        self._signature = None if callback is None else signature_of(callback)
        self._outcome: Outcome | None = None
        self._unasked: _Unasked | None = None
        self.id = -1
        self.procedure = procedure
        self.args = args
        self.timeout: float | None = None

    def __repr__(self) -> str:
        """Show the call and its state."""
        failed = isinstance(self._outcome, RPCError)
        state = "pending" if not self.done else "failed" if failed else "answered"
        return f"<Call {self.id} {self.procedure} {state}>"

    @property
    def done(self) -> bool:
        """True once the call has ended in an answer or an error."""
        return self._outcome is not None

    def result(self, timeout: float | None = None) -> Reply:
        """Wait for the answer and return it.

        The mux runs meanwhile. Events of other handles than this client's are kept, and come
        from `mux()` later, in order.

        Args:
            timeout: seconds to wait at most; None is for ever.

        Raises:
            RemoteError: the server answered with an error.
            Disconnected: the connection ended before the answer came.
            CallTimeout: there is no answer yet, and the call stays pending; or the call itself
                has a timeout, which is over.
            CallCancelled: the call was cancelled.
            ValueError: `timeout` is negative, infinite or NaN.
            RuntimeError: as for `Client.wait()`.
            Exception: what a callback of another call raised meanwhile.
        """
        if not self.done and not self._owner._run_until(lambda: self.done, timeout):
            why = self._owner._why_late(self)
            raise CallTimeout(f"{self.procedure}: no answer within {timeout} seconds{why}")
        if self._unasked is not None:
            self._unasked.is_asked = True
        if isinstance(self._outcome, RPCError):
            try:
                raise self._outcome.with_traceback(None)  # else it would grow each time
            finally:
                del self  # which has what is raised, whose traceback has this frame
        if not isinstance(self._outcome, Reply):
            self._outcome = Reply(cast("list[object]", self._outcome))
        return self._outcome

    def set_timeout(self, seconds: float | None) -> Call:
        """Have the call fail with `CallTimeout` if it is not answered in time; return the call.

        An answer that comes later is ignored. It takes the place of the client's `timeout`.

        Args:
            seconds: from now on; None is for ever.

        Raises:
            ValueError: `seconds` is negative, infinite or NaN.
        """
        self._owner._set_timeout(self, seconds)
        return self

    def cancel(self) -> bool:
        """Wait for the answer no more: the callback will not be called.

        The server is not told, as there is no way to; it may still call functions that were
        passed with the call, and so it may if the call has timed out, until it releases them.

        Returns:
            True; False if the call has ended before.
        """
        return self._owner._cancel(self)

    # For the client. No other may call these, so they have no public names. Until the client says
    # that the callback is called, all of it can be done again: Ctrl-C may come in between.

    def _answered(self, values: list[object]) -> Telling | None:
        """Note the answer; return how the callback is told of it, if there is one."""
        self._outcome = values
        callback, signature = self._callback, self._signature
        if callback is None or signature is None:
            return None
        try:
            args, named = signature.bind_result(values)
        except ArgumentError as error:
            whose = f"answer of {self.procedure}, to its callback"
            return _telling(callback, signature, misfit(whose, callback, signature, values, error))
        return callback, args, named

    def _failed(self, error: RPCError) -> Telling | None:
        """Note that the call has failed; return how the callback is told, if there is one."""
        self._outcome = error
        callback, signature = self._callback, self._signature
        if callback is not None and signature is not None:
            return _telling(callback, signature, error)
        is_news = isinstance(error, (RemoteError, CallTimeout)) or (
            isinstance(error, Disconnected) and not error._was_up
        )
        if is_news and self._unasked is None:
            self._unasked = _Unasked(self.procedure, error)
        return None

    def _refused(self, text: str) -> Telling | None:
        """Note that the server has answered with an error; return what `_failed()` does."""
        return self._failed(self._owner._remote_error(self.procedure, text))

    def _drop(self, error: RPCError) -> None:
        """Note that the call has failed, and tell nobody."""
        self._outcome = error
        self._callback = self._signature = None


def _telling(callback: Callable[..., object], signature: Signature, error: RPCError) -> Telling:
    if not signature.takes_error:
        return raise_error, (error,), {}
    args, named = signature.bind_error(error)
    return callback, args, named


def check_procedure(procedure: object) -> str:
    """Return the name of a procedure.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(procedure, str):
        raise TypeError(f"procedure is {procedure!r}, must be a str")
    return procedure


def raise_error(error: Exception) -> None:
    """Stand in for a callback that takes no error."""
    raise error


def remote_error(text: str, procedure: str, client: type) -> RemoteError:
    """Return the error that a server has answered with.

    Any name that a client does not have is a procedure. So where the server has none of that name,
    and a method of the client's has one like it, the error says so: `rpc.disconect()`.

    Args:
        text: what the server says.
        procedure: what the program called, as an attribute of the client.
        client: the client's class.
    """
    if text.startswith(f"No sub '{procedure}' in package "):  # Perl servers say it, too
        methods = [name for name in dir(client) if name[0] != "_"]
        methods = [name for name in methods if callable(getattr(client, name))]
        found = _ENDS.get(procedure, "")
        if found not in methods:
            found = nearest(procedure, methods) or ""
            found = found if _likeness(procedure, found) >= _LIKE_ENOUGH else ""
        if found:
            text = f"{text.rstrip()}; {client.__name__} itself has {found}()"
    return RemoteError(text)


def _likeness(one: str, other: str) -> float:
    from difflib import SequenceMatcher  # only here, as in `nearest()`

    return SequenceMatcher(None, one, other).ratio()
