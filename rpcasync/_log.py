"""The logger of the package, and how text from a stranger is shown in it.

The package configures no logging: that is the program's. Where the program has set up none, its
warnings and errors go to stderr, as Python's own last resort would have it, but with their level
and the name of the package in front: a bare line does not tell where it comes from.

The one rule: whatever a peer sends, it writes no line of its own, and not as many as it likes. Each
record that the package logs passes `_Line`, which shows control characters with escapes, those in
the text of an exception too, and `Repeats`, which counts what is the same again.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import sys
import traceback
from collections.abc import Iterator
from typing import Protocol
from weakref import WeakSet

__all__ = [
    *("INTERVAL", "Repeats", "escape", "fields", "log", "log_to_stderr", "repeats", "shorten"),
]

log = logging.getLogger("rpcasync")

INTERVAL = 10.0
"""Seconds in which lines of a kind are counted."""
_MOST = 10  # lines of a kind in that time
_MOST_KINDS = 256

_SHOWN = 60  # characters of one value
_LONGEST = 1000  # characters of a line, and of the text of an exception
_MOST_FRAMES = 50
_MOST_EXCEPTIONS = 10  # in a chain, and in a group


def shorten(text: str) -> str:
    """Return text that came from a peer on one line, cut to a length that fits in a message."""
    return escape(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}...")


def escape(text: str) -> str:
    """Return text with an escape for all that is not shown as it is, or changes what is."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def fields(
    *,
    peer: str | None = None,
    procedure: str | None = None,
    call: int | str | None = None,
    ms: float | None = None,
    server: str | None = None,
) -> dict[str, object]:
    """Return what a record has beside its message, as its `extra`, for handlers that look for it.

    All lines have the same names for the same things, and those that concern nothing of a kind have
    no field for it. Text from a peer is as in messages: it writes no line of its own.

    Args:
        peer: a client of a server's, as messages name it.
        procedure: of a call; any text.
        call: the number of a call on the wire; any text.
        ms: milliseconds that something took.
        server: the URL of one that a client, or a fallback, is connected to.
    """
    named: dict[str, object] = {"peer": peer, "ms": ms, "server": server}
    named["procedure"] = procedure if procedure is None else shorten(procedure)
    named["call"] = shorten(call) if isinstance(call, str) else call
    return {name: value for name, value in named.items() if value is not None}


def _cut(text: str) -> str:
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}... and {len(text) - _LONGEST} characters more"
    return escape(text)


class _Line(logging.Filter):
    """Has each record make one line, and a traceback only lines of ours.

    `exc_info` stays for handlers that look at exceptions themselves.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record; it is always wanted."""
        text = record.getMessage()
        if len(text) > _LONGEST or not text.isprintable():
            record.msg, record.args = _cut(text), ()
        if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            record.exc_text = "\n".join(_lines_of(record.exc_info[1], ""))
        return True


def _lines_of(error: BaseException, indent: str) -> Iterator[str]:
    """Yield the lines of a traceback, as Python writes it."""
    chain = _chain_of(error)
    for number, each in enumerate(chain):
        if number:
            yield ""
            if each.__cause__ is not None:
                why = "The above exception was the direct cause of the following exception:"
            else:
                why = "During handling of the above exception, another exception occurred:"
            yield indent + why
            yield ""
        yield from _lines_of_one(each, indent)


def _chain_of(error: BaseException) -> list[BaseException]:
    """Return an exception and what it came from, that first."""
    chain = [error]
    while len(chain) < _MOST_EXCEPTIONS:
        last = chain[-1]
        before = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
        if before is None or any(before is each for each in chain):
            break
        chain.append(before)
    return chain[::-1]


def _lines_of_one(error: BaseException, indent: str) -> Iterator[str]:
    if error.__traceback__ is not None:
        yield f"{indent}Traceback (most recent call last):"
        walk = traceback.walk_tb(error.__traceback__)
        for frame in traceback.StackSummary.extract(walk, limit=-_MOST_FRAMES):
            file, name = _cut(frame.filename), _cut(frame.name)
            yield f'{indent}  File "{file}", line {frame.lineno}, in {name}'
            if frame.line:
                yield f"{indent}    {_cut(frame.line)}"
    kind, text = _kind_of(error), _text_of(error)
    yield f"{indent}{kind}: {_cut(text)}" if text else f"{indent}{kind}"
    notes = getattr(error, "__notes__", None)
    for note in notes[:_MOST_EXCEPTIONS] if isinstance(notes, list) else ():
        yield indent + _cut(_text_of(note))
    others = getattr(error, "exceptions", None)
    if isinstance(others, tuple) and len(indent) < _MOST_EXCEPTIONS:
        for number, each in enumerate(others[:_MOST_EXCEPTIONS], 1):
            if isinstance(each, BaseException):
                yield f"{indent}  {number} of {len(others)}:"
                yield from _lines_of(each, f"{indent}    ")


def _kind_of(error: BaseException) -> str:
    kind = type(error)
    is_known = kind.__module__ in ("builtins", "__main__")
    return _cut(kind.__qualname__ if is_known else f"{kind.__module__}.{kind.__qualname__}")


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001  # the program's own class: it is only shown
        return f"<its text cannot be had: {type(error).__name__}>"


class Waker(Protocol):
    """Who has the log tell what was held back, when the time is over."""

    def hold(self) -> None:
        """Call `repeats.flush()` after `INTERVAL`."""
        ...


class Repeats(logging.Filter):
    """Lets so many records of a kind pass in a time, and counts the rest.

    Records are of one kind that have the same message, but for its arguments; of a procedure, its
    name counts, too. What is DEBUG is asked for, and always passes, and so does what is marked as
    `is_bounded`: no peer can have much of it logged. How many were held back is told with the
    first record of any kind behind that time, by a server's timer, and at the end of the program.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wakers: WeakSet[Waker] = WeakSet()
        self._kinds: dict[tuple[object, ...], _Kind] = {}  # in the order that they began
        self._now = 0.0  # as of the last record

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is to be shown."""
        if record.levelno < logging.INFO or getattr(record, "is_bounded", False):
            return True
        self._tell(record.created)
        kind = self._find(record)
        kind.count += 1
        if kind.count <= _MOST:
            return True
        if kind.count == _MOST + 1:
            for waker in tuple(self.wakers):
                waker.hold()
        kind.level, kind.last = record.levelno, record.getMessage()[:_LONGEST]
        return False

    def _find(self, record: logging.LogRecord) -> _Kind:
        key: tuple[object, ...] = (record.levelno, record.msg)
        if isinstance(record.args, tuple) and str(record.msg).startswith("procedure %s"):
            key += record.args[:1]
        if key not in self._kinds and len(self._kinds) >= _MOST_KINDS:
            key = (record.levelno,)
        return self._kinds.setdefault(key, _Kind(record.created))

    def _tell(self, now: float) -> None:
        """Tell of the kinds whose time is over; of all if the clock was put back."""
        is_back, self._now = now < self._now, now
        for key, kind in tuple(self._kinds.items()):  # other threads may log as well
            if now - kind.begun < INTERVAL and not is_back:
                break  # those behind it began later
            self._kinds.pop(key, None)
            kind.tell()

    def flush(self) -> None:
        """Tell what was held back, and begin to count anew."""
        kinds, self._kinds = self._kinds, {}
        for kind in kinds.values():
            kind.tell()


class _Kind:
    """The records of one kind since a time."""

    __slots__ = ("begun", "count", "last", "level")

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.count = 0
        self.level = logging.INFO
        self.last = ""  # what was held back

    def tell(self) -> None:
        """Log how many were held back."""
        more = self.count - _MOST
        if more > 0:
            extra = {"is_bounded": True}
            log.log(
                self.level,
                "... and %d more like it in %d s: %s",
                more,
                INTERVAL,
                self.last,
                extra=extra,
            )


class _LastResort(logging.Handler):
    """Shows on stderr what nobody else does. `logging.lastResort = None` silences it, too."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless the program has a handler for it."""
        stream = sys.stderr  # as it is now: the program may have replaced it
        if stream is None or logging.lastResort is None or self._has_others():
            return
        try:
            stream.write(f"{self.format(record)}\n")
            stream.flush()
        except Exception:  # noqa: BLE001  # as all handlers do: logging says what becomes of it
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Say what has failed, unless stderr is closed or broken: then there is nobody to tell.

        Python would raise that where something is logged, in the middle of a server's loop.
        """
        with contextlib.suppress(Exception):
            super().handleError(record)

    def _has_others(self) -> bool:
        logger: logging.Logger | None = log
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return True
            logger = logger.parent if logger.propagate else None
        return False


repeats = Repeats()
_last_resort = _LastResort()
log.addFilter(repeats)
log.addFilter(_Line())
log.addHandler(_last_resort)
atexit.register(repeats.flush)


def log_to_stderr(level: int | str) -> None:
    """Show on stderr what is of this level or above, where nobody has set up logging."""
    _last_resort.setLevel(level)
    if _last_resort.level < log.getEffectiveLevel():
        log.setLevel(level)
