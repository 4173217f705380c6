"""HTTP/1 messages as records: `HTTP`.

The one rule: where a message ends is never guessed; what the head says about it is in `_heads`.

    message     head  body
    head        start line, field lines, blank line; all lines may end with a bare LF
    body        as long as `Content-Length` says, or chunked, or up to the end of the stream
    chunked     ( size in hex [";" extensions] CRLF  bytes CRLF )*  "0" CRLF  trailers, blank line

This file does not know which request a response answers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from eventmux.buffers._heads import (
    CHUNKED,
    TO_END,
    announced,
    check_trailers,
    expects_continue,
    shown,
)
from eventmux.buffers._records import MAX_SIZE, Records, check_limit, check_positive
from eventmux.errors import BufferOverflow, EventMuxError, HeaderOverflow, MalformedRecord

__all__ = ["HTTP"]

# Bare LF is for heads only. Some servers pad the size with blanks.
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\x00\r\n]*)?\r\n")
_BLANK_LINES = re.compile(rb"[\r\n]+")
_END_OF_FIELDS = re.compile(rb"\n\r?\n")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


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
    told otherwise; `max_size` a message, also one that is only announced, to 32 MiB; in bytes.

    With `piece_size` a body is not put together, but given out as it arrives: behind the head come
    pieces of at most so many bytes, and behind the last of them `b""`, also if there was no body.
    So what has no `b""` was cut short. `max_size` limits the sum of them.

    A client such as curl asks by `Expect: 100-continue` whether it may send a body, and waits for a
    second. `reply` is what it is to be told, and a mux tells it, unless the length is over the
    limit; with `send_continue=False` that is left to the program, as it is with `header_only`. The
    mux does not if any output waits; but when a client sends such a request before the response to
    the last one is there, and the program sends that piece by piece, it comes between two pieces.

    With `header_only` a record is one head, and the program decides about the body; an answer
    to HEAD or CONNECT, or one that changes the protocol, needs this. The buffer then holds what
    follows until `expect()` says how many bytes of body come. They are the next record. While
    it is `waiting`, nothing limits what is written to it. If `expect()` is not called, what
    follows is given out raw at the end of the stream.

    Raises:
        ValueError: `max_size` is neither a positive int nor None for no limit; `max_header` is
            not a positive int; `piece_size` is neither a positive int nor None, or is given with
            `header_only`.
    """

    __slots__ = (
        *("_came_with", "_header_only", "_is_bare", "_is_chunked"),
        *("_max_head", "_max_header", "_max_size"),
        *("_message", "_need", "_piece_size", "_raw", "_scanned", "_send_continue", "_size"),
        *("_skipped", "_step", "reply"),
    )

    def __init__(
        self,
        *,
        header_only: bool = False,
        piece_size: int | None = None,
        max_size: int | None = MAX_SIZE,
        max_header: int = 65536,
        send_continue: bool = True,
    ) -> None:
        super().__init__()
        check_limit("max_size", max_size)
        check_limit("piece_size", piece_size)
        check_positive("max_header", max_header)
        if header_only and piece_size is not None:
            raise ValueError(f"piece_size is {piece_size}, but with header_only there are none")
        self.reply = b""
        """What the peer is to be told at once, as `take_reply()` returns it."""
        self._header_only = header_only
        self._piece_size = piece_size
        self._send_continue = send_continue
        self._max_size = max_size
        self._max_header = max_header
        self._max_head = max_header if max_size is None else min(max_header, max_size)
        # The rest is what came and is not understood yet, and the body is counted there, too.
        # Only a message with chunks is put together here, and what is given out in pieces.
        self._message = bytearray()
        self._raw = bytearray()  # that message as it came, up to the rest
        self._size = 0  # bytes of the whole message so far, without those of the rest
        self._came_with = 0  # how much of that the last byte of the message came with
        self._is_chunked = False
        self._is_bare = False  # so much came that it is not kept
        self._skipped = bytearray()  # blank lines in front of a message
        self._scanned = 0  # how far the rest was searched
        self._need = 0  # bytes of the record, or of the chunk, that the rest must have
        # What to do with the rest: it takes something off the front, or returns False.
        self._step: Callable[[HTTP], bool] = HTTP._read_head

    def fresh(self) -> HTTP:
        """Return an empty buffer with the same settings, for another stream."""
        return HTTP(
            header_only=self._header_only,
            piece_size=self._piece_size,
            max_size=self._max_size,
            max_header=self._max_header,
            send_continue=self._send_continue,
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
    def has_begun(self) -> bool:
        """True if a message is not complete, also if all that came of it was given out."""
        return bool(self._rest) or self._step is not HTTP._read_head

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

    def take_reply(self) -> bytes:
        """Return what the peer is to be told at once, b"" for nothing; it is told only once."""
        reply, self.reply = self.reply, b""
        return reply

    def read_last(self) -> list[bytes]:
        """Return what is left at the end of the stream, and empty the buffer."""
        raw = self._skipped + self._came() + self._rest
        is_told = self._piece_size is not None and not self.returns_last
        self._rest[:0] = self._message
        last = super().read_last()
        if self._gave_rest:
            last[-1] = _record(last[-1], raw)
        else:
            self._skipped = raw
        return [*last, b""] if is_told else last

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
        self.reply = b""
        self._step = HTTP._read_head

    def _cut(self) -> None:
        try:
            while self._step(self):
                pass
        except EventMuxError as failure:
            self._give_piece()
            self._fail(failure)
            raise
        if self._piece_size is not None:
            self._give_piece()

    # The steps. Each leaves the rest as it is if it raises.

    def _read_head(self) -> bool:
        rest = self._rest
        if rest.startswith((b"\r", b"\n")) and (blank := _BLANK_LINES.match(rest)):
            self._skipped += blank[0]  # in front of a message, see RFC 9112, section 2.2
            del self._skipped[: -self._max_header]  # who sends so many does not miss any
            self._drop(blank.end())
        size = self._find_end_of_fields(self._max_head)
        if not size:
            return False
        head = bytes(rest[:size])
        body = announced(head)
        if self._header_only:
            self._complete(head, head)
            self._drop(size)
            self._step = HTTP._wait
            return True
        self._check_size(size + max(body, 0))
        if self._send_continue and body and len(rest) == size and not self._records:
            # Not if a request came in front that has no response yet, or the body is on its way.
            self.reply = _CONTINUE if expects_continue(head) else b""
        self._is_chunked = body == CHUNKED
        if self._piece_size is not None:
            self._complete(head, head)
            self._begin_body(size, body)
        elif self._is_chunked:
            self._message += head
            self._keep(head)
            self._begin_body(size, body)
        else:  # the rest has all of it
            self._size = 0
            self._need = size + body
            self._step = HTTP._read_to_end if body == TO_END else HTTP._read_body
        return True

    def _begin_body(self, size: int, body: int) -> None:
        """Go on behind a head of so many bytes, which was taken, with a body of that kind."""
        self._drop(size)
        self._size = size
        self._need = body
        if self._is_chunked:
            self._step = HTTP._read_chunk_size
        elif body == TO_END:
            self._step = HTTP._read_to_end
        else:
            self._step = HTTP._read_part if body else HTTP._end

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
        return bool(self._rest)

    def _read_to_end(self) -> bool:
        limit = self._max_size
        if self._piece_size is None:
            self._check_size(len(self._rest))
            return False
        if self._take(sys.maxsize if limit is None else limit - self._size):
            return True
        self._check_size(self._size + len(self._rest))
        return False

    def _wait(self) -> bool:
        return False

    def _read_chunk_size(self) -> bool:
        end = self._find(self._rest.find(b"\n", self._scanned) + 1, self._max_header)
        if not end:
            return False
        line = _CHUNK.fullmatch(self._rest, 0, end)
        if line is None:
            raise MalformedRecord(f"chunk begins with {shown(self._rest)}, must be its size")
        size = int(line[1], 16)
        self._check_size(self._size + size)
        if size:
            self._keep(line[0])
            self._drop(end)
            self._need = size
            self._step = HTTP._read_part
        else:
            self._keep(line[0][:-1])
            self._drop(end - 1)  # with the LF left, the end of no trailers looks like any other
            self._step = HTTP._read_trailers
        return True

    def _read_part(self) -> bool:
        """Take what has come of a chunk, or of a body in pieces."""
        taken = self._take(self._need)
        self._need -= taken
        if self._need:
            return taken > 0
        self._step = HTTP._read_end_of_chunk if self._is_chunked else HTTP._end
        return True

    def _read_end_of_chunk(self) -> bool:
        if not self._rest.startswith(b"\r\n"):
            if b"\r\n".startswith(self._rest):
                return False
            raise MalformedRecord(f"chunk is followed by {shown(self._rest)}, must be CRLF")
        self._keep(b"\r\n")
        self._drop(2)
        self._step = HTTP._read_chunk_size
        return True

    def _read_trailers(self) -> bool:
        size = self._find_end_of_fields(self._max_header + 1)
        if not size:
            return False
        check_trailers(bytes(self._rest[:size]))
        self._keep(self._rest[:size])
        self._drop(size)
        self._step = HTTP._end
        return True

    def _end(self) -> bool:
        """Give out a message that was put together, or tell that the last of its pieces was."""
        self._give_piece()
        self._complete(bytes(self._message), self._came())
        self._message = bytearray()
        self._raw = bytearray()
        self._is_bare = False
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
            kind = BufferOverflow if limit < self._max_header else HeaderOverflow
            raise kind(size, limit)
        self._scanned = len(self._rest)
        return end

    def _take(self, most: int) -> int:
        """Take of a body what is there, or so many bytes, or what a piece lacks; say how many."""
        if self._piece_size is not None:
            most = min(most, self._piece_size - len(self._message))
        part = self._rest[:most]
        self._size += len(part)
        self._message += part
        if self._is_chunked:
            self._keep(part)
            self._came_with = len(self._came())
        self._drop(len(part))
        if len(self._message) == self._piece_size:
            self._give_piece()
        return len(part)

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

    def _give_piece(self) -> None:
        """Give out what there is of a piece; nothing if messages are given out as a whole."""
        if self._piece_size is not None and self._message:
            piece, raw = bytes(self._message), self._came()
            self._complete(piece, raw[: self._came_with] if self._is_chunked else piece)
            self._raw = bytearray() if self._is_bare else raw[self._came_with :]
            self._message = bytearray()
            self._is_bare = False
            self._came_with = 0

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
