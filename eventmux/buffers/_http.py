"""HTTP/1 messages as records: `HTTP`.

The one rule: where a message ends is never guessed. A head that two readers could understand
in different ways is how requests are smuggled past a proxy, so it is refused (RFC 9112,
section 6.3). Nothing else of the head is interpreted.

    message     head  body
    head        start line, field lines, blank line; a line may end with a bare LF
    body        as long as `Content-Length` says, or chunked, or up to the end of the stream
    chunked     ( size in hex [";" extensions] CRLF  bytes CRLF )*  "0" CRLF  trailers, blank line

This file does not know which request a response answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from eventmux.buffers._records import MAX_SIZE, Records, check_limit, check_positive
from eventmux.errors import BufferOverflow, EventMuxError, MalformedRecord

__all__ = ["HTTP"]

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST = re.compile(_TOKEN + rb" [^\x00-\x20\x7f]+ HTTP/1\.([0-9])\r?\n")
_RESPONSE = re.compile(rb"HTTP/1\.([0-9]) ([0-9]{3})(?: [^\x00\r\n]*)?\r?\n")
# No blank before the colon, no folded line, no bare CR: readers differ about what these mean.
_FIELDS = re.compile(rb"(?:" + _TOKEN + rb":[^\x00\r\n]*\r?\n)*")
_FRAMING = re.compile(rb"^(content-length|transfer-encoding):([^\r\n]*)", re.I | re.M)
_LENGTH = re.compile(rb"[0-9]{1,19}")
# Bare LF is for heads only. Some servers pad the size with blanks.
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\x00\r\n]*)?\r\n")
_BLANK_LINES = re.compile(rb"[\r\n]+")
_END_OF_FIELDS = re.compile(rb"\n\r?\n")

# What a head says about its body, besides a length.
_CHUNKED = -1
_TO_END = -2


class _Record(bytes):
    """A record that did not come as it is."""

    raw: bytes


def _record(record: bytes, raw: bytes | bytearray) -> bytes:
    if record == raw:
        return record
    changed = _Record(record)
    changed.raw = bytes(raw)
    return changed


class HTTP(Records):
    r"""HTTP/1 requests and responses, one after the other; for real HTTP, take a library.

    It is small: for talking to a device, or for a status page. It knows no methods, no
    connections and no content codings; h11 or http.client do.

    A record is the head as it came, with its blank line, and then the body: as many bytes as
    `Content-Length` says, or the chunked coding with that coding removed and its trailers
    dropped. Without either, a request has no body, and the body of a response is all up to the
    end of the stream, except that 1xx, 204 and 304 have none. What is left of a message cut
    short has its chunks removed as far as they came.

    `max_header` limits a head, a line with the size of a chunk, and the trailers, to 64 KB unless
    told otherwise; `max_size` a record, also one that is only announced, to 32 MiB; in bytes.

    With `header_only` a record is one head, and the program decides about the body; an answer
    to HEAD or CONNECT, or one that changes the protocol, needs this. The buffer then holds what
    follows until `expect()` says how many bytes of body come. They are the next record. While
    it is `waiting`, nothing limits what is written to it. If `expect()` is not called, what
    follows is given out raw at the end of the stream.

    Raises:
        ValueError: `max_size` is neither a positive int nor None for no limit; `max_header` is
            not a positive int.
    """

    __slots__ = (
        "_header_only",
        "_is_bare",
        "_max_header",
        "_max_size",
        "_message",
        "_need",
        "_raw",
        "_scanned",
        "_skipped",
        "_step",
    )

    def __init__(
        self,
        *,
        header_only: bool = False,
        max_size: int | None = MAX_SIZE,
        max_header: int = 65536,
    ) -> None:
        super().__init__()
        check_limit("max_size", max_size)
        check_positive("max_header", max_header)
        self._header_only = header_only
        self._max_size = max_size
        self._max_header = max_header
        # The rest is what came and is not understood yet, and the body is counted there, too.
        # Only a message with chunks is put together here.
        self._message = bytearray()
        self._raw = bytearray()  # that message as it came, up to the rest
        self._is_bare = False  # so much came that it is not kept
        self._skipped = bytearray()  # blank lines in front of a message
        self._scanned = 0  # how far the rest was searched
        self._need = 0  # bytes of the record, or of the chunk, that the rest must have
        # What to do with the rest: it takes something off the front, or returns False.
        self._step: Callable[[HTTP], bool] = HTTP._read_head

    def fresh(self) -> HTTP:
        """Return an empty buffer with the same settings, for another stream."""
        return HTTP(
            header_only=self._header_only, max_size=self._max_size, max_header=self._max_header
        )

    @property
    def returns_last(self) -> bool:
        """False while a body comes that the end of the stream completes."""
        return self._step is not HTTP._read_to_end or self._failure is not None

    @property
    def waiting(self) -> bool:
        """True while a head was given out and `expect()` was not called for its body."""
        return self._step is HTTP._wait and self._failure is None

    @property
    def pending(self) -> int:
        """The number of bytes of the record that is not complete yet."""
        return len(self._message) + len(self._rest)

    def write(self, data: bytes) -> None:
        """Add bytes of the stream.

        Raises:
            BufferOverflow: a head is longer than `max_header`, or a record than `max_size`.
            MalformedRecord: this is not HTTP/1, or where the message ends is in doubt.
        """
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # else it would grow each time
        self._rest += data
        self._cut()

    def expect(self, size: int) -> None:
        """Say how many bytes of body follow the head that was given out; then `read()` again.

        With 0 there is no record for the body.

        Raises:
            ValueError: `size` is not an int of 0 or more, or the buffer is not `waiting`.
            BufferOverflow: `size` is more than `max_size`.
            EventMuxError: as for `write()`, about what was held until now.
        """
        if type(size) is not int or size < 0:
            raise ValueError(f"size is {size!r}, must be an int of 0 or more")
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        if not self.waiting:
            raise ValueError(f"expect({size}), but no head waits for its body")
        if self._max_size is not None and size > self._max_size:
            raise self._fail(BufferOverflow(size, self._max_size))
        self._need = size
        self._step = HTTP._read_body if size else HTTP._read_head
        self._cut()

    def read_last(self) -> list[bytes]:
        """Return what is left at the end of the stream, and empty the buffer."""
        raw = self._skipped + self._came() + self._rest
        self._rest[:0] = self._message
        last = super().read_last()
        if self._gave_rest:
            last[-1] = _record(last[-1], raw)
        else:
            self._skipped = raw
        return last

    @property
    def can_unread(self) -> bool:
        """True: a record that did not come as it is knows how it came."""
        return True

    def unread(self, records: list[bytes]) -> bytes:
        """Take back the last records; return the bytes of the stream from the first one on."""
        came = [record.raw if isinstance(record, _Record) else record for record in records]
        return b"".join([*came, self._skipped, self._came(), self._rest])

    def _restart(self) -> None:
        super()._restart()
        self._message = bytearray()
        self._scanned = 0
        self._raw.clear()
        self._skipped.clear()
        self._is_bare = False
        self._step = HTTP._read_head

    def _cut(self) -> None:
        try:
            while self._step(self):
                pass
        except EventMuxError as failure:
            self._fail(failure)
            raise

    # The steps. Each leaves the rest as it is if it raises.

    def _read_head(self) -> bool:
        rest = self._rest
        if blank := _BLANK_LINES.match(rest):  # in front of a message, see RFC 9112, section 2.2
            self._skipped += blank[0]
            del self._skipped[: -self._max_header]  # who sends so many does not miss any
            self._drop(blank.end())
        limit = self._max_header
        if self._max_size is not None:
            limit = min(limit, self._max_size)
        size = self._find_end_of_fields(limit)
        if not size:
            return False
        head = bytes(rest[:size])
        body = _announced(head)
        if self._header_only:
            self._complete(head, head)
            self._drop(size)
            self._step = HTTP._wait
        elif body == _CHUNKED:
            self._message += head
            self._keep(head)
            self._drop(size)
            self._step = HTTP._read_chunk_size
        elif body == _TO_END:
            self._step = HTTP._read_to_end
        else:
            self._check_size(size + body)
            self._need = size + body
            self._step = HTTP._read_body
        return True

    def _read_body(self) -> bool:
        size = self._need
        if len(self._rest) < size:
            return False
        record = bytes(self._rest[:size])
        if self._skipped:
            self._complete(record, record)
        else:
            self._records.append(record)
        self._drop(size)
        self._step = HTTP._read_head
        return True

    def _read_to_end(self) -> bool:
        self._check_size(len(self._rest))
        return False

    def _wait(self) -> bool:
        return False

    def _read_chunk_size(self) -> bool:
        end = self._find(self._rest.find(b"\n", self._scanned) + 1, self._max_header)
        if not end:
            return False
        line = _CHUNK.fullmatch(self._rest, 0, end)
        if line is None:
            raise MalformedRecord(f"chunk begins with {_shown(self._rest)}, must be its size")
        size = int(line[1], 16)
        self._check_size(len(self._message) + size)
        if size:
            self._keep(line[0])
            self._drop(end)
            self._need = size
            self._step = HTTP._read_chunk
        else:
            self._keep(line[0][:-1])
            self._drop(end - 1)  # with the LF left, the end of no trailers looks like any other
            self._step = HTTP._read_trailers
        return True

    def _read_chunk(self) -> bool:
        part = self._rest[: self._need]
        self._message += part
        self._keep(part)
        self._drop(len(part))
        self._need -= len(part)
        if self._need:
            return False
        self._step = HTTP._read_end_of_chunk
        return True

    def _read_end_of_chunk(self) -> bool:
        if not self._rest.startswith(b"\r\n"):
            if b"\r\n".startswith(self._rest):
                return False
            raise MalformedRecord(f"chunk is followed by {_shown(self._rest)}, must be CRLF")
        self._keep(b"\r\n")
        self._drop(2)
        self._step = HTTP._read_chunk_size
        return True

    def _read_trailers(self) -> bool:
        size = self._find_end_of_fields(self._max_header + 1)
        if not size:
            return False
        _check_fields(bytes(self._rest[:size]), 1)
        came = self._came()
        self._complete(bytes(self._message), came if self._is_bare else came + self._rest[:size])
        self._message = bytearray()
        self._raw = bytearray()
        self._is_bare = False
        self._drop(size)
        self._step = HTTP._read_head
        return True

    # What the steps have in common.

    def _find_end_of_fields(self, limit: int) -> int:
        found = _END_OF_FIELDS.search(self._rest, max(0, self._scanned - 2))
        return self._find(found.end() if found else 0, limit)

    def _find(self, end: int, limit: int) -> int:
        """Return the end that was searched for; 0 if it did not come yet."""
        size = end or len(self._rest)
        if size > limit:
            raise BufferOverflow(size, limit)
        self._scanned = len(self._rest)
        return end

    def _keep(self, came: bytes | bytearray) -> None:
        """Keep what came of a message in chunks, should it be taken back.

        Not for ever: a peer may put as much as it likes between the chunks. After that it counts
        as it was put together.
        """
        if not self._is_bare:
            self._raw += came
            limit = self._max_size
            if limit is not None and len(self._raw) > limit + self._max_header:
                self._is_bare = True
                self._raw.clear()

    def _came(self) -> bytearray:
        """Return what came of a message in chunks."""
        return self._message if self._is_bare else self._raw

    def _complete(self, record: bytes, raw: bytes | bytearray) -> None:
        if self._skipped or raw is not record:
            record = _record(record, self._skipped + raw)
            self._skipped.clear()
        self._records.append(record)

    def _drop(self, size: int) -> None:
        # Linear even for many messages in one write: a bytearray does not move what stays.
        del self._rest[:size]
        self._scanned = 0

    def _check_size(self, size: int) -> None:
        if self._max_size is not None and size > self._max_size:
            raise BufferOverflow(size, self._max_size)


def _announced(head: bytes) -> int:
    """Return the length of the body that belongs to a head; _CHUNKED or _TO_END for no length.

    Raises:
        MalformedRecord: the head is not one of HTTP/1, or the length is in doubt.
    """
    is_response = head.startswith(b"HTTP/")
    start = (_RESPONSE if is_response else _REQUEST).match(head)
    if start is None:
        raise MalformedRecord(f"message begins with {_shown(head)}, must be a start line of HTTP/1")
    _check_fields(head, start.end())
    if is_response and (start[2] in (b"204", b"304") or start[2].startswith(b"1")):
        return 0  # whatever its fields say: they may be about another response
    lengths: list[bytes] = []
    codings: list[bytes] = []
    for name, value in _FRAMING.findall(head, start.end()):
        (lengths if len(name) == len(b"content-length") else codings).append(value)
    if codings:
        if lengths:
            raise MalformedRecord("message has both Content-Length and Transfer-Encoding")
        if start[1] == b"0":
            raise MalformedRecord("message of HTTP/1.0 has a Transfer-Encoding")
        return _of_codings(codings, is_response)
    if lengths:
        return _of_lengths(lengths)
    return _TO_END if is_response else 0


def _check_fields(block: bytes, position: int) -> None:
    """Raise if there is anything but field lines between the position and the blank line."""
    fields = _FIELDS.match(block, position)
    end = fields.end() if fields is not None else position
    if block[end:] not in (b"\r\n", b"\n"):
        raise MalformedRecord(f"header line is {_shown(block[end:])}, must be a name and a value")


def _of_codings(values: list[bytes], is_response: bool) -> int:
    codings = [coding.lower() for coding in _items(values) if coding]
    if codings and b"chunked" not in codings[:-1]:
        if codings[-1] == b"chunked":
            return _CHUNKED
        if is_response:
            return _TO_END
    raise MalformedRecord(f"Transfer-Encoding is {_shown(b','.join(values))}, must end in chunked")


def _of_lengths(values: list[bytes]) -> int:
    lengths = set(_items(values))  # a proxy may have put equal ones together
    length = lengths.pop()
    if lengths or not _LENGTH.fullmatch(length):
        raise MalformedRecord(f"Content-Length is {_shown(b','.join(values))}, must be one number")
    return int(length)


def _items(values: Iterable[bytes]) -> list[bytes]:
    return [item.strip(b" \t") for value in values for item in value.split(b",")]


def _shown(data: bytes | bytearray) -> str:
    """Return the first line for a message, shortened."""
    return repr(bytes(data[:60]).partition(b"\n")[0])
