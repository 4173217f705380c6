"""TLS between a stream and its socket: plain bytes on one side, records on the other.

The one rule: nothing that the kernel gave or took, and nothing that OpenSSL made of it, is lost or
done twice, wherever a signal handler raises. A handler may run as soon as a call returns, and also
inside OpenSSL's `read()` and `write()`, which then have done their work and return nothing. So what
is about to be done is noted first, and from what has changed it is seen whether it was done.

`recv()` and `send()` do what those of a non-blocking socket do. This file knows nothing of
channels, events and clocks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
from itertools import repeat, starmap
from typing import Any

from eventmux._tls.hello import server_name
from eventmux._tls.texts import explained
from eventmux.errors import TLSError
from eventmux.peers import TLSSession
from eventmux.sockets import RECV_FLAGS, SEND_FLAGS

__all__ = ["TLSLayer"]

_READ_SIZE = 72 * 1024  # bytes of records that are read at once: those of 64 KB, and more
_WRITE_SIZE = 64 * 1024  # plain bytes that are encrypted at once: no more wait as records
_MOST_AT_ONCE = 1024 * 1024  # plain bytes in one send(), so that others have their turn
_LONGEST_RECORD = 16 * 1024 + 512  # with its head; what OpenSSL may have of one that is incomplete
_STEPS = 8  # of a handshake in one turn
_LONGEST_HELLO = 16 * 1024  # bytes that are kept to see which name the client has asked for
_READ = ((_READ_SIZE, RECV_FLAGS),)  # arguments of recv(), for starmap()
_LONG_READ = ((240 * 1024, RECV_FLAGS),)  # when as much comes as was asked for
_FIRST = -1  # what was asked for is the first byte of a record
_ALL = (-1,)  # argument of the outgoing BIO's read(), for map()
_WOULD_BLOCK = (errno.EAGAIN, os.strerror(errno.EAGAIN))


class TLSLayer:
    """One TLS connection, from its handshake on.

    Args:
        sock: the connection.
        context: what it is made with.
        server_side: whether we are the server.
        server_hostname: the name that the server's certificate has to be for; None on its side.
        session: an earlier one with the same server, to be taken up again.

    Raises:
        ValueError: the context does not fit; a name is missing, or is none.
    """

    __slots__ = (
        "_asked",
        "_behind",
        "_chunk",
        "_decrypt",
        "_encrypt",
        "_encrypting",
        "_failure",
        "_feed",
        "_feed_end",
        "_filled",
        "_gone",
        "_hello",
        "_incoming",
        "_inside",
        "_outgoing",
        "_pending",
        "_plain",
        "_reading",
        "_reads",
        "_records",
        "_server_side",
        "_sock",
        "_ssl",
        "_taken",
        "has_more",
        "has_moved",
        "is_ended",
        "is_up",
        "needs_input",
        "plain_left",
    )

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._incoming = incoming = ssl.MemoryBIO()
        self._outgoing = outgoing = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        # The methods of `SSLObject` are functions of Python's, in which a signal handler may raise
        # before they return; these are what they call.
        inner: Any = getattr(self._ssl, "_sslobj", self._ssl)
        self._decrypt, self._encrypt, self._pending = inner.read, inner.write, inner.pending
        self._feed, self._feed_end = incoming.write, incoming.write_eof
        self._sock = sock
        self._server_side = server_side
        self._failure: OSError | None = None
        # Input, in the order in which it passes.
        self._chunk: bytes | None = None  # read during the handshake, and not fed yet
        self._hello = b""  # the first bytes that came; none once the handshake is through
        self._asked: str | None = self._ssl.server_hostname  # the name that the client asks for
        self._reads = _READ
        self._inside = _LONGEST_RECORD  # how much of a record OpenSSL may have that is incomplete
        self._plain = bytearray()  # decrypted, in front
        self._filled = 0  # how much of that
        self._reading = 0  # how much OpenSSL was asked for, until it is known that it gave that
        self._behind = 0  # how much of the record is then left
        # Output, likewise.
        self._encrypting = 0  # plain bytes that OpenSSL was given, until it is known that it did
        self._taken = 0  # plain bytes whose records have not left completely
        self._records = b""  # what is to leave next
        self._gone = 0  # plain bytes whose records have left, and that the caller was not told of
        self.plain_left = 0
        """Plain bytes that leave as they are, before the handshake."""
        self.is_up = False
        """The handshake is through."""
        self.is_ended = False
        """The peer has said that it sends no more."""
        self.has_more = True
        """There may be something inside that can be had without asking the kernel."""
        self.has_moved = False
        """Records, or a part of one, have come or gone since the caller has set this back."""
        self.needs_input = False
        """Nothing can be encrypted before the peer has sent something: a new handshake."""

    # Plain bytes

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Return plain bytes, at most `size`; none is the end that the peer has announced.

        If it returns `size`, `has_more` may be set: then the next call does not ask the kernel.

        Raises:
            BlockingIOError: there are none yet.
            TLSError: the peer, or somebody in between, broke the rules; or it ended without saying.
            OSError: the connection is broken.
        """
        del flags  # it never waits
        if self._failure is not None:
            raise self._failure
        if not self.is_up:
            raise BlockingIOError(*_WOULD_BLOCK)
        if not self.has_more:
            self._fetch(size)
        elif not self._plain:
            self._plain = bytearray(size)
        has_more = True
        try:
            has_more = self._fill(min(size, len(self._plain)))
        except ssl.SSLWantReadError:
            has_more, self._inside = False, _LONGEST_RECORD
        except ssl.SSLZeroReturnError:  # the end of the peer, where ours was said before
            self._reading, self.is_ended = 0, True
        except ssl.SSLError as error:
            self._failure = self._failed(error)
        filled = self._filled
        if not filled:
            self.has_more = has_more
            if self.is_ended:
                return b""
            if self._failure is not None:
                raise self._failure
            raise BlockingIOError(*_WOULD_BLOCK)
        data = bytes(memoryview(self._plain)[:filled])
        # No call from here on: it is the caller's.
        self._plain, self._filled, self.has_more = _NONE, 0, has_more
        return data

    def _fetch(self, size: int) -> None:
        """Give OpenSSL what the kernel has, and have room for what may come of it."""
        self.has_more = True  # until it is known: should this be interrupted, it is looked for
        try:
            [fed] = map(self._feed, starmap(self._sock.recv, self._reads))
        except BlockingIOError:
            self.has_more = False
            raise
        if not fed:
            self._feed_end()
        self._reads = _READ if fed < _READ_SIZE else _LONG_READ
        self.has_moved = True
        self.needs_input = False
        if not self._filled:
            self._plain = bytearray(min(size, fed + self._inside or 1))

    def _fill(self, size: int) -> bool:
        """Decrypt until there are so many bytes; False if OpenSSL has no more for sure.

        OpenSSL gives what is left of one record. It is asked for the first byte, and then for
        exactly what it says to have: so it is known whether it has given it, should a signal
        handler raise inside.

        Raises:
            ssl.SSLError: it gives no more, for the reason that the class of it says.
        """
        decrypt, pending, incoming = self._decrypt, self._pending, self._incoming
        if self._reading:
            self._recover()
        plain, filled = self._plain, self._filled
        room = memoryview(plain)
        rest, self._behind = pending(), 0
        while filled < size:
            if rest:  # of the record
                if rest > size - filled:
                    self._behind = rest - (size - filled)
                    rest = size - filled
                self._reading = rest
                decrypt(rest, room[filled:])
                filled += rest
                self._filled, self._reading = filled, 0
            if not incoming.pending and filled:  # to ask for more would cost an exception
                if pending():
                    return True
                self._inside = 0
                return False
            if filled == size:
                return True
            plain[filled] = 0  # what a byte that was not read looks like
            self._reading = _FIRST
            if not decrypt(1, room[filled:]):
                self._reading, self.is_ended = 0, True
                return True
            filled += 1
            self._filled, self._reading = filled, 0
            rest = pending()
        return True

    def _recover(self) -> None:
        """Count what OpenSSL gave when it was interrupted.

        It cannot be seen of a zero byte that is alone in its record.
        """
        left = self._pending()
        if self._reading == _FIRST:
            self._filled += bool(left or self._plain[self._filled])
        elif left == self._behind:
            self._filled += self._reading
        self._reading = 0

    def send(self, data: bytes | memoryview, flags: int = 0, /) -> int:
        """Take plain bytes whose records the kernel takes completely, and return how many.

        What is not taken has to come again, with the next call: its records may be under way.

        Raises:
            BlockingIOError: none can be taken now, or the handshake is not through.
            OSError: the connection is broken.
        """
        del flags
        if self.plain_left:
            [sent] = starmap(self._sock.send, ((memoryview(data)[: self.plain_left], SEND_FLAGS),))
            self.plain_left -= sent
            return sent
        if not self.is_up:
            raise BlockingIOError(*_WOULD_BLOCK)
        outgoing = self._outgoing
        if (
            len(data) <= _WRITE_SIZE
            and not (self._records or self._encrypting or self._gone)
            and not outgoing.pending
        ):  # as nearly always: what follows would do the same, by more calls
            if not self._write(data):
                raise BlockingIOError(*_WOULD_BLOCK)
            [self._records] = map(outgoing.read, _ALL)
            [sent] = starmap(self._sock.send, ((self._records, SEND_FLAGS),))
            self._records = self._records[sent:]
            self.has_moved = True
            if not self._records:
                gone, self._taken, self._encrypting = self._taken, 0, 0
                return gone
            raise BlockingIOError(*_WOULD_BLOCK)
        size = min(len(data), _MOST_AT_ONCE)
        while self.push() and self._gone < size:
            start = self._gone  # what is in front of that has left before
            whole = not start and len(data) <= _WRITE_SIZE
            if not self._write(data if whole else memoryview(data)[start : start + _WRITE_SIZE]):
                break
        if not self._gone:
            raise BlockingIOError(*_WOULD_BLOCK)
        gone, self._gone = self._gone, 0
        return gone

    def _write(self, piece: bytes | memoryview) -> bool:
        """Encrypt; False if OpenSSL cannot now."""
        self._encrypting = len(piece)
        try:
            [self._taken] = map(self._encrypt, (piece,))
        except ssl.SSLWantReadError:
            self._encrypting = 0
            self.needs_input = True
            return False
        except ssl.SSLError as error:
            self._encrypting = 0
            raise self._failed(error) from error
        return True

    def push(self) -> bool:
        """Have the records leave that are ready; True if all have.

        Raises:
            OSError: the connection is broken.
        """
        outgoing = self._outgoing
        while True:
            if self._encrypting and not self._taken:  # it was interrupted
                self._taken = self._encrypting if outgoing.pending > self._encrypting else 0
                self._encrypting = 0
            if not self._records:
                if not outgoing.pending:
                    self._gone += self._taken
                    self._taken = self._encrypting = 0
                    return True
                [self._records] = map(outgoing.read, (-1,))
            try:
                [sent] = starmap(self._sock.send, ((self._records, SEND_FLAGS),))
            except BlockingIOError:
                return False
            self._records = self._records[sent:]
            self.has_moved = True

    def push_or_drop(self) -> bool:
        """Do what `push()` does; what cannot be sent any more is forgotten: reading tells why."""
        try:
            return self.push()
        except OSError:
            self._outgoing.read()
            self._records = b""
            return True

    @property
    def has_records(self) -> bool:
        """True if records are ready that have not left."""
        return bool(self._records or self._outgoing.pending)

    @property
    def records_left(self) -> int:
        """How many bytes of records are ready that have not left."""
        return len(self._records) + self._outgoing.pending

    @property
    def has_failed(self) -> bool:
        """True once nothing more can come of it."""
        return self._failure is not None

    # The handshake

    def shake_hands(self) -> bool:
        """Go on with the handshake, as far as what has come allows; True if it is through.

        Raises:
            TLSError: it has failed; the alert for the peer is under way, or left by `push()`.
            OSError: the connection is broken.
        """
        if self._failure is not None:
            raise self._failure
        self.has_more = True  # until it is known
        for _ in repeat(None, _STEPS):
            try:
                self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                self.push_or_drop()
                if not self._fetch_flight():
                    self.has_more = False
                    return False
                continue
            except ssl.SSLError as error:
                self._failure = self._failed(error)
                raise self._failure from error
            self.push_or_drop()
            asked = server_name(self._hello) if self._server_side else self._asked
            self._asked, self._hello, self.is_up = asked, b"", True  # no call in between
            return True
        return False

    def _fetch_flight(self) -> bool:
        """Give OpenSSL what the kernel has; False if that is nothing."""
        if self._chunk is None:
            try:
                [self._chunk] = starmap(self._sock.recv, _READ)
            except BlockingIOError:
                return False
        if not self._chunk:
            self._feed_end()
            return True
        if len(self._hello) < _LONGEST_HELLO:
            self._hello += self._chunk
        [_] = map(self._feed, (self._chunk,))  # no call until it is noted
        self._chunk = None
        return True

    def _failed(self, error: ssl.SSLError) -> TLSError:
        """Return what tells why, with the first bytes of a peer that may speak something else."""
        error.__traceback__ = None  # it would keep this layer, which keeps it
        return explained(error, self.is_up, self._hello[:64])

    def session(self) -> TLSSession:
        """Return what the handshake came to."""
        tls = self._ssl
        cipher = tls.cipher()
        return TLSSession(
            tls.version() or "",
            cipher[0] if cipher else "",
            tls.selected_alpn_protocol(),
            self._asked,
            bool(tls.session_reused),
        )

    def certificate(self) -> dict[str, Any] | None:
        """Return that of the peer, if it was verified.

        Raises:
            TLSError: it cannot be read.
        """
        try:
            return self._ssl.getpeercert() or None
        except ValueError as error:
            raise TLSError(f"the certificate of the peer cannot be read: {error}") from error

    def ticket(self) -> ssl.SSLSession | None:
        """Return what a client may take the session up again with, if the server has given it."""
        session = None if self._server_side or not self.is_up else self._ssl.session
        return session if session is not None and session.has_ticket else None

    # The end

    def end_output(self) -> None:
        """Do what `say_end()` does, so that what the peer sends can be read on.

        What has come is decrypted first: OpenSSL looks for the end of the peer while it says ours,
        and gives up if it meets data.
        """
        if not self.is_up or self._failure is not None:
            return
        inside = self._incoming.pending + self._pending()
        if inside:
            self.has_more = True
            room = self._filled + inside + _LONGEST_RECORD
            self._plain += bytes(max(0, room - len(self._plain)))
            try:
                self._fill(len(self._plain))
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                self._reading, self.is_ended = 0, True
            except ssl.SSLError as error:
                self._failure = self._failed(error)
                return
        self.say_end()

    def say_end(self) -> None:
        """Tell the peer that no more comes; `push()` sends it."""
        if self.is_up and self._failure is None:
            with contextlib.suppress(ssl.SSLError):  # it has not ended its side, as most often
                self._ssl.unwrap()


_NONE = bytearray()
