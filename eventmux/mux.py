"""`EventMux`: waits on all handles at once and returns one event at a time.

This file is what a program may ask for: each method checks what it is given, and passes it on. Only
`mux()` itself takes events that are in the queue already, since nearly every call comes to that.
The turns of the loop are in `_loop.py`, what can be done with a handle is its channel's, and what
else is watched is in `_watching`.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from types import NoneType
from typing import TYPE_CHECKING, Any, Generic, Literal, cast, overload

from eventmux import datagrams, sockets
from eventmux._channels.channel import PAUSED, Channel, as_bytes
from eventmux._channels.files import FilePart
from eventmux._channels.handles import fileno_of, is_closed
from eventmux._channels.listeners import Listener, Turns
from eventmux._channels.nested import Nestable
from eventmux._channels.options import (
    USUAL,
    ChannelOptions,
    Options,
    Usual,
    check_buffer,
    check_context,
    check_time,
)
from eventmux._channels.packets import Datagram
from eventmux._channels.passing import KeptFds
from eventmux._channels.streams import Stream
from eventmux._forking import Refusal, tell_of_forks
from eventmux._loop import Loop
from eventmux._memory import keep_freed_memory
from eventmux._nearest import tells_options
from eventmux._trace import Trace
from eventmux._waiting.spinning import Spinner
from eventmux._watching.watches import Watch
from eventmux.buffers import Buffer
from eventmux.destinations import leaving_from
from eventmux.events import Address, AnyEvent, Closed, Event, Handle
from eventmux.passing import MOST_FDS
from eventmux.peers import Peer
from eventmux.urls import parse_url

__all__ = ["EventMux"]

_UNSET: Any = object()
_UNIX = getattr(socket, "AF_UNIX", None)  # Windows builds may lack it

# The events of the program's own, which type checkers are told by `EventMux[Done]`.
if TYPE_CHECKING:
    from ssl import SSLContext

    from typing_extensions import Never, Self, TypeVar, Unpack

    Own = TypeVar("Own", bound=Event, default=Never, covariant=True)
else:
    from typing import TypeVar

    Own = TypeVar("Own", bound=Event, covariant=True)


class EventMux(Nestable, Generic[Own]):
    """A multiplexer for a loop that the program owns.

        mux = EventMux()
        server = mux.listen("tcp://127.0.0.1:7007")
        for event in mux:
            if event.type == "read":
                mux.send(event.fh, event.data)

    It belongs to one thread, and to one process. As a context manager it closes all that it
    watches at the end. One that is dropped without gives back the handlers of signals, and leaves
    the program's handles open.

    Args:
        selector: what to wait with; default is the best one of the platform.
        read_size: bytes to ask for in one read; the default stands for 256 KB with TLS.
        reads_per_turn: how often a handle with a buffer may read in one turn, while no record
            is complete, and how many packets a handle may read.
        clock: seconds that never go back, as `time.monotonic`.
        spin: seconds to look again and again for what is about to come, before the process is
            put to sleep; 0 is never. To wake it up takes about as long, so a peer that answers
            within that time is heard two to three times as often, in no more processor time.
            Where that does not pay, it is done less and less, down to one wait in 64.

    Raises:
        ValueError: `read_size` or `reads_per_turn` is less than 1, or `spin` is negative,
            infinite or NaN.
    """

    @tells_options
    def __init__(
        self,
        *,
        selector: selectors.BaseSelector | None = None,
        read_size: int = 65536,
        reads_per_turn: int = 10,
        clock: Callable[[], float] = time.monotonic,
        spin: float = 50e-6,
    ) -> None:
        self._defaults = ChannelOptions(read_size, reads_per_turn)
        self._spinner = Spinner(spin)
        keep_freed_memory()
        self.clock = clock
        """What it was given: seconds that never go back."""
        self._is_closed = False
        self._is_inherited = False  # by a forked child
        self._run(selectors.DefaultSelector() if selector is None else selector)
        tell_of_forks(self, EventMux._abandon)

    def _run(self, selector: selectors.BaseSelector) -> None:
        self._loop = Loop(selector, self._spinner, self.clock)
        self._sessions: dict[object, object] = {}
        self._see_parts()

    def _see_parts(self) -> None:
        """Have at hand what is asked for at each event."""
        self._channels = self._loop.table.channels
        self._queue = self._loop.queue
        self._timers = self._loop.watches.timers
        self._poller = self._loop.poller

    # The loop

    @overload
    def mux(self, timeout: float, /, *timeouts: float | None) -> AnyEvent | Own: ...

    @overload
    def mux(self, *timeouts: float | None, only: Handle | None = None) -> AnyEvent | Own | None: ...

    def mux(self, *timeouts: float | None, only: Handle | None = None) -> AnyEvent | Own | None:
        """Return the next event, waiting for one if need be.

        Args:
            timeouts: seconds to wait; the lowest that is not None counts. None or nothing is
                for ever, 0 asks without waiting. After it a `Timeout` is returned.
            only: return events of this handle alone, and `Timeout`; all others stay queued, in
                order. When many are, nothing more is read from the other handles meanwhile. Of
                the handle are also the timers and child processes that were given it as `fh`.

        Returns:
            The event; None if there is nothing to wait for: no handle, timer, signal or child
            is watched, nothing is queued, and no timeout is given; or `only` is given, and
            neither it is watched nor anything that is its own.

        Raises:
            ValueError: a timeout is negative.
            RuntimeError: the process has forked, and this is the child: see `after_fork()`.
        """
        timeout = _lowest(timeouts) if timeouts else None
        loop = self._loop
        if self._timers.heap:  # at each call, so that traffic cannot put a deadline off
            loop.watches.run_due(only, False)
        if only is None and loop.is_plain:
            event = self._queue.take()  # this is what nearly every call comes to
            if event is not None:
                if event.__class__ is Closed:
                    try:
                        is_over = loop.dispose(event)
                    except BaseException:  # as in _take()
                        loop.put_back(event)
                        loop.table.mend()
                        raise
                    if not is_over:
                        return loop.next_event(timeout, None)
                return event
            return loop.wait(timeout, None)
        return loop.next_event(timeout, only)

    def __iter__(self) -> Iterator[AnyEvent | Own]:
        """Iterate over `mux()` until there is nothing to wait for."""
        while (event := self.mux()) is not None:
            yield event

    def timeout(self) -> float | None:
        """Return for how long `mux()` need not be called, in seconds; None if a peer decides.

        For another loop that waits for `fileno()`: that tells of handles, but not of what is in
        the queue, nor of timers. It changes nothing.
        """
        if self._is_inherited:
            self._poller.refuse()
        return self._loop.timeout()

    def fileno(self) -> int:
        """Return the selector's descriptor, which is readable when `mux()` has something to do.

        So that a mux can be watched by another loop, or be added to another mux; see
        `timeout()`.

        Raises:
            io.UnsupportedOperation: the selector has none; those of epoll and kqueue have.
        """
        return self._poller.fileno()

    # The queue

    def push_event(self, *events: Event) -> None:
        """Put events at the end of the queue; they may be of classes of your own.

        When they have been handed out, the handles have a look before what is pushed meanwhile.

        Raises:
            TypeError: one of them is no `Event`.
        """
        _check_events(events)
        self._queue.push_own(events)
        self._loop.watches.changed()

    def post(self, *events: Event) -> None:
        """Do what `push_event()` does, from any thread, and wake a waiting `mux()`.

        It is the one method that other threads may call. When the mux has ended, nothing
        happens. Without an event `mux()` looks what there is to do, and waits on. That
        something may be posted is no reason for `mux()` to wait: give it a timeout if nothing
        else is watched.

        Raises:
            TypeError: one of them is no `Event`.
        """
        _check_events(events)
        self._loop.mailbox.post(*events)

    def has_events(self) -> int:
        """Return how many events `mux()` could hand out without waiting."""
        return self._queue.count() + self._loop.mailbox.count_events()

    # Handles

    def add(
        self,
        fh: Handle,
        *,
        listen: bool | None = None,
        type: str | None = None,  # noqa: A002  # as the method that asks for it
        proxy: Literal["require"] | None = None,
        trusted: Collection[str] = (),
        server_side: bool | None = None,
        server_hostname: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        """Watch a handle: a socket, any object with `fileno()`, a descriptor as a number.

        Nothing waits, though the handle stays blocking for those who share it. Made non-blocking
        until it is removed or closed are listeners, pipes and devices of the program's own, and
        sockets with either `manual_read` or `manual_write`. What Python has buffered of a file is
        not seen: the descriptor is read from. Another `EventMux` can be added; it reports
        `CanRead` when it has events.

        Args:
            fh: the handle. If it is a socket that is connecting, `Ready` or `Error` tells how
                that ended.
            listen: whether it is a listener; default is to ask the kernel.
            type: "stream", "dgram" or "seqpacket"; default is to ask the kernel. What is no
                socket is a stream unless told otherwise: a tun device is "dgram".
            proxy: "require" is for a listener whose clients come through proxies; see `listen()`.
            trusted: which proxies.
            buffered: cut what arrives into records. It serves as a pattern: each stream, and
                each connection that a listener accepts, gets an empty buffer of this kind.
            meta: anything; `meta(fh)` gives it back. What a listener accepts gets a shallow copy,
                or the thing itself if it cannot be copied.
            meta_handler: is called with the handle, the data and the sender of each `Read`, and
                returns its `id`, for example of a session; see `meta()`. What it raises comes
                out of `mux()`.
            read_size: bytes to ask for in one read; default is that of the mux. A packet that
                is longer is an `Error`.
            high_water: bytes, or packets. Once more than that is queued for output, the handle
                is not read from until all of it has left: a peer that asks and does not listen
                waits.
            max_outbuffer: bytes, or packets. Once more than that is queued for output, the
                handle gets an `Error` and is closed; None is no limit. Unless one is given, it
                is 64 MiB, or 16384 packets, and met only by a `send()` that finds more than
                that in the queue already, besides one piece of any length.
            errors: have datagrams that were not delivered reported by `Error` events with
                `receiver` and `data` (Linux, IP_RECVERR).
            manual_accept: report `Accepting`, and let the program accept.
            manual_read: report `CanRead`, and let the program read.
            manual_write: report `CanWrite`, and let the program write.
            tls: a context of the `ssl` module: the stream is encrypted by it. All that is said
                here of bytes is said of plain ones.
            server_side: with `tls`, whether we are the server; default is what the context is for.
            server_hostname: with `tls`, for a client, the name that the certificate has to be for.
            handshake_timeout: seconds that TLS, or a PROXY header, may take to be through.
            half_close: report `HalfClosed` when the peer of a connection has finished sending, and
                go on writing; without it the handle is closed then. Of TCP it is not known whether
                the peer still reads: see `HalfClosed`.
            idle_timeout: seconds. A handle on which nothing has come or gone for so long gets an
                `Error` and is closed, up to an eighth of it later; None is never. While the
                program does not read from it, and nothing waits to be sent, no time passes.
            keepalive: have the kernel ask a TCP peer that is silent whether it is still there: one
                that has vanished, or that takes nothing of what was sent, ends the connection
                with ETIMEDOUT after five minutes. What the program has set itself stays.
            nodelay: have TCP send small pieces at once.
            exceptional: report `CanRead` with `exceptional` when the kernel has something out of
                the ordinary (POLLPRI): urgent data of TCP, a terminal's packet mode, a change of a
                file in sysfs or /proc. The program reads it, at once, and nothing is read before
                it was told; a file is watched for nothing else. It takes one more descriptor, and
                epoll.
            receive_fds: how many descriptors one read of a UNIX socket may bring: each `Read` is a
                `ReadWithFds` then. More are an `Error`, which ends a stream; without the option the
                kernel closes what a peer sends. Not with a buffer.
            destination: of a UDP socket, have each `Read` be a `ReadWithDestination`, which says to
                which address the packet was sent. Linux.

        If it raises, nothing has changed.

        Raises:
            TypeError: it is no handle (a TLS socket is none), there is no such option, or
                `buffered` is no buffer.
            ValueError: it is watched already, a size is less than 1, or an option does not fit
                the handle.
            OSError: it is closed, or the kernel refuses.
        """
        inner = self._defaults.having(
            EventMux.add,
            options,
            proxy=proxy,
            trusted=trusted,
            server_side=server_side,
            server_hostname=server_hostname,
        )
        self._loop.table.add(fh, inner, options.get("meta"), listen=listen, kind=type)
        self._loop.watches.changed()

    def connect(
        self,
        url: str,
        *,
        timeout: float | None = None,
        server_hostname: str | None = None,
        source: Address | None = None,
        **options: Unpack[Options],
    ) -> socket.socket:
        """Start to connect to a URL and watch the socket.

        It returns at once: a name is looked up by a thread, one for each, and its addresses are
        tried as RFC 8305 says; what is set on the socket of such a connection before `Ready` is
        lost. How it went is told by an event: `Ready`, or `Error`, `Closing` and
        `Closed`; what is sent before waits. Datagram sockets have no `Ready`. With `tls://` and
        no `tls=`, servers are believed that the system trusts.

        Args:
            url: `tcp://host:port`, `tls://host:port`, `udp://host:port`, `unix://path`,
                `unix_dgram://path` or `unix_seqpacket://path`; `udp://` is a socket to use with
                `sendto()`.
            timeout: seconds until a connection that is not up fails; None leaves it to the
                system, which may take minutes.
            server_hostname: with TLS, the name that the certificate has to be for; default is the
                host of the URL.
            source: the address of this host that it comes from: `(host, port)`, where the host is
                numeric, "" is any, and port 0 lets the system choose; a name is connected to at
                addresses of that family alone. For UNIX sockets it is a path, as in a URL, whose
                file goes when the socket is closed. What the kernel says to it is an `Error`.
            options: as for `add()`, without `listen` and `type`.

        Raises:
            URLError: the URL is not understood.
            TypeError: there is no such option, or the URL is no str; the source is no address.
            ValueError: an option is wrong, or does not fit; the timeout is negative; the source is
                a name, or of another family than the URL.
            OSError: the process is out of descriptors; a port to send from is in use.
        """
        inner = self._defaults.having(EventMux.connect, options, server_hostname=server_hostname)
        if timeout is not None:
            _lowest((timeout,))
        endpoint = parse_url(url)
        if endpoint.scheme == "tls" or inner.tls is not None:
            from eventmux._channels import contexts  # it takes a while, and few need it

            inner = contexts.for_url(inner, endpoint)
        meta = options.get("meta")
        channel = self._loop.table.connect(endpoint, inner, meta, timeout, source)
        self._loop.watches.changed()
        return cast("socket.socket", channel.fh)

    def listen(
        self,
        url: str,
        *,
        backlog: int = 1024,
        mode: int | None = None,
        reuse_port: bool = False,
        proxy: Literal["require"] | None = None,
        trusted: Collection[str] = (),
        **options: Unpack[Options],
    ) -> socket.socket:
        """Listen at a URL and watch the socket; a datagram socket is bound to the address.

        Port 0 lets the system choose one, which `getsockname()` tells. A file left at a UNIX
        path by a server that has gone is replaced; ours goes when the socket is closed.

        Args:
            url: where to listen; as for `connect()`.
            backlog: how many connections may wait to be accepted.
            mode: who may connect to a UNIX path, as for `os.chmod()`: 0o600 is our user alone.
                Default is what the umask leaves.
            reuse_port: share the port with other sockets of this user that do the same; the kernel
                gives each connection, or packet, to one of them (SO_REUSEPORT).
            proxy: "require" has each connection begin with a PROXY header, version 1 or 2, in
                which a proxy says whose it is: `address` of `Connect` is what it says, and
                `peer.proxy` all of it. One without a header, with one that breaks the protocol,
                or with none within `handshake_timeout`, is an `Error` of the listener, and
                nothing more is heard of it. The header is all that is read before `Connect`.
            trusted: who may say so, since whoever may can pass for anybody. Networks as text, as
                "10.0.0.0/8" or "::1/128"; for UNIX sockets "unix:", which is whoever `mode` lets
                connect, or "uid:33", the processes of a user. Others are an `Error` of the
                listener, and nothing is read of them.
            options: as for `add()`, without `listen` and `type`; what is accepted inherits them.

        Raises:
            URLError: the URL is not understood.
            TypeError: there is no such option, or the URL is no str.
            ValueError: an option is wrong, or does not fit; the system cannot share ports.
            OSError: the address is in use, the name is unknown, permission is missing... Its
                `filename` is the URL.
        """
        inner = self._defaults.having(EventMux.listen, options, proxy=proxy, trusted=trusted)
        endpoint = parse_url(url)
        if endpoint.scheme == "tls" and inner.tls is None:
            raise ValueError(f"cannot listen at {url!r} without tls=, a context with a certificate")
        sock = sockets.listen(
            *(endpoint, backlog, mode),
            reuse_port=reuse_port,
            nodelay=inner.nodelay,
            keepalive=inner.keepalive,
        )
        try:
            self._loop.table.add(sock, inner, options.get("meta"), is_ours=True)
        except BaseException:
            sock.close()
            raise
        return sock

    def set(
        self,
        fh: Handle,
        *,
        buffered: Buffer | Usual | None = USUAL,
        idle_timeout: float | Usual | None = USUAL,
    ) -> None:
        """Change an option of a handle; what is not given stays.

        Args:
            fh: the handle.
            buffered: cut a stream in another way, or not at all, from the record on that was just
                handed out. All that the peer has sent behind that record counts, however it
                arrived: what was cut already and is in the queue is taken back, with an error and
                the end if they came of it. So a `meta_handler` may be called for it again. Once
                `Closing` is handed out, or an `Error` of the old buffer, nothing happens.
            idle_timeout: seconds, as for `add()`, which count from now; None is never. A listener
                hands it on to what it accepts from now on.

        Raises:
            KeyError: the handle is not watched.
            TypeError: it is no stream, or `buffered` is no buffer; or nothing is given.
            ValueError: `idle_timeout` is not above 0, or the mux does not see what the handle does:
                it has `manual_read` or `manual_write`, or is a mux.
            RuntimeError: a `meta_handler` calls it: its record is not handed out yet.
        """
        if buffered is USUAL and idle_timeout is USUAL:
            raise TypeError("set() needs something to change: buffered or idle_timeout")
        channel = self._channel(fh)
        if not isinstance(idle_timeout, (Usual, NoneType)):
            check_time("idle_timeout", idle_timeout)
        if not isinstance(buffered, Usual):
            self._set_buffer(fh, buffered)
        if not isinstance(idle_timeout, Usual):
            self._loop.table.set_idle_timeout(channel, idle_timeout)
            self._loop.watches.changed()

    def _set_buffer(self, fh: Handle, buffered: Buffer | None) -> None:
        stream = self._stream(fh)
        check_buffer(buffered)
        try:
            stream.set_buffer(buffered)
        finally:  # the program's meta_handler may raise
            self._poller.arm(stream)
            self._loop.watches.changed()

    def recvdata(self, fh: Handle, size: int) -> None:
        """Let the next `Read` be the body behind a head that `HTTP(header_only=True)` gave.

        Until it is called for a head, nothing is read from the handle; size 0 says that there
        is no body.

        Raises:
            KeyError: the handle is not watched.
            TypeError: it has no buffer that waits for a size.
            ValueError: no head waits for its body, or the size is not an int of 0 or more.

        Once the handle is closing, nothing happens.
        """
        stream = self._stream(fh)
        self._loop.table.mend(stream)
        try:
            stream.expect(size)
        finally:  # the program's meta_handler may raise
            self._poller.arm(stream)
            self._loop.watches.changed()

    def want_read(self, fh: Handle, wanted: bool) -> None:
        """Read from a handle, or report `CanRead` and `Accepting`, or stop it for a while.

        Raises:
            KeyError: the handle is not watched.
        """
        channel = self._channel(fh)
        self._loop.table.mend(channel)
        channel.muted = channel.muted & ~PAUSED if wanted else channel.muted | PAUSED
        self._poller.arm(channel)
        self._loop.watches.changed()

    def want_write(self, fh: Handle, wanted: bool) -> None:
        """Report `CanWrite` for a handle with `manual_write`, or stop it for a while.

        Raises:
            KeyError: the handle is not watched.
            ValueError: it has no `manual_write`: `send()` does the writing.
        """
        channel = self._channel(fh)
        if not channel.options.manual_write:
            raise ValueError(f"{fh!r} has no manual_write")
        self._loop.table.mend(channel)
        channel.write_off = not wanted
        self._poller.arm(channel)
        self._loop.watches.changed()

    # Output

    def send(self, fh: Handle, *data: bytes, later: bool = False) -> int:
        """Queue bytes for a stream, or packets, and send at once what the kernel takes.

        Each packet on a datagram socket without a peer becomes an `Error` event.

        Args:
            fh: the handle.
            data: one after the other, as one stream of bytes; or each one packet.
            later: do not send yet, but when `mux()` is about to wait, so that many small pieces
                cost one system call. They may leave before: a stream of which 32 pieces or 64 KB
                wait need not wait for more, and a plain `send()` to the same handle sends them,
                too. On a stream, `Sent` comes only if they had to wait for the peer.

        Returns:
            How many bytes, or packets, are in the queue now. After `close()` the data is
            ignored.

        Raises:
            KeyError: the handle is not watched.
            TypeError: something is not bytes, as a str that has to be encoded, or the handle takes
                none.
            ValueError: an empty packet for a connection of packets; or `shutdown()` was called.
        """
        channel = self._channels.get(fh) or self._channel_to_send(fh)
        try:
            if channel.send(data, later):
                self._poller.arm(channel)
        except BaseException:  # Ctrl-C, for example: what is queued leaves even so
            self._loop.table.mend(channel)
            raise
        if not self._loop.is_plain:
            self._loop.sent(channel, data)
        return channel.unsent

    def send_fds(
        self,
        fh: Handle,
        data: bytes,
        fds: Iterable[Handle],
        *,
        address: Address | None = None,
    ) -> int:
        """Queue bytes, or a packet, with descriptors that the peer is to have as its own.

        They are duplicated, so the program may close its own at once, and leave in order with what
        is queued. Those of a stream arrive with the first of these bytes. What never leaves is
        closed. A peer that does not ask for them (`receive_fds`, `recvmsg()`) gets the data alone.

        Args:
            fh: a UNIX socket.
            data: what goes along; a stream takes no descriptors without.
            fds: up to 253 handles: sockets, files, numbers...
            address: where a datagram is to go, if the socket has no peer.

        Returns:
            How many bytes, or packets, are in the queue now. After `close()` all is ignored.

        Raises:
            KeyError: the handle is not watched.
            TypeError: it is no UNIX socket, data is not bytes, or `fds` are no handles.
            ValueError: there is no data, no descriptor, or there are more than 253; the address
                cannot be.
            OSError: a descriptor is closed, or the process is out of them.
        """
        channel = self._channel_to_send(fh)
        port = channel.port
        if not isinstance(port, socket.socket) or port.family != _UNIX or channel.options.tls:
            raise TypeError(f"cannot send descriptors on {fh!r}: it is no plain UNIX socket")
        if address is not None:
            self._check_address(channel, address)
        piece = as_bytes(data)
        if not piece and channel.kind != "dgram":
            raise ValueError("no data is given for the descriptors to go along with")
        numbers = [fileno_of(handle) for handle in fds]
        if not 1 <= len(numbers) <= MOST_FDS:
            raise ValueError(f"{len(numbers)} descriptors are given, must be 1 to {MOST_FDS}")
        kept = KeptFds(numbers)
        self._loop.table.mend(channel)
        if channel.send_fds(piece, kept, address):
            self._poller.arm(channel)
        if not self._loop.is_plain:
            self._loop.sent(channel, (piece,))
        return channel.unsent

    def sendto(self, fh: Handle, address: Address, *data: bytes, source: str | None = None) -> int:
        """Queue packets for an address, and send at once what the kernel takes.

        Args:
            fh: a datagram socket.
            address: as the `socket` module has it; a host must be numeric, since looking up a
                name could block.
            data: each one packet, which may be empty.
            source: the address of ours that they are to come from, as `local` of a
                `ReadWithDestination`; None leaves it to the kernel. Linux, IPv4 and IPv6.

        Returns:
            How many packets are in the queue now. After `close()` the data is ignored.

        Raises:
            KeyError: the handle is not watched.
            TypeError: something is not bytes, the handle has no addresses, or an address is of
                the wrong kind.
            ValueError: an address is out of range, or has a name.
        """
        channel = self._channel_to_send(fh)
        self._check_address(channel, address)
        if source is not None:
            message = leaving_from(cast("socket.socket", channel.port), source)
        self._loop.table.mend(channel)
        if source is None:
            has_changed = channel.send(data, False, address)
        else:
            has_changed = cast("Datagram", channel).send_with(data, address, (message,))
        if has_changed:
            self._poller.arm(channel)
        if not self._loop.is_plain:
            self._loop.sent(channel, data)
        return channel.unsent

    @staticmethod
    def _check_address(channel: Channel, address: object) -> None:
        port = channel.port
        if channel.kind != "dgram" or not isinstance(port, socket.socket):
            raise TypeError(
                f"cannot send on {channel.fh!r} to an address: it is no datagram socket"
            )
        datagrams.check_address(port, address)

    def sendfile(self, fh: Handle, file: Handle, offset: int = 0, count: int | None = None) -> int:
        """Queue a part of a regular file behind what is queued for a stream, and begin to send it.

        The kernel copies it where it can (`os.sendfile()`: plain sockets that were accepted, or
        that `connect()` made); else it is read as it leaves. In neither case does it take memory,
        and it counts as one piece of output: in `buflen()`, for `high_water`, and as `missing`.
        What was put off by `send(later=True)` leaves first, and `Sent` comes when all has left.

        The file may be closed at once, and its position does not matter and does not change; what
        Python has buffered for it is not seen. Should the file become shorter meanwhile, or prove
        unreadable, the stream gets an `Error` with a `FileError` and is closed: the peer waits for
        bytes that are not there. To read a file from a disk may block, as in any loop.

        Args:
            fh: the stream.
            file: an object with `fileno()`, or a descriptor; open for reading.
            offset: where to begin, in bytes.
            count: how many bytes; default is all there are behind the offset.

        Returns:
            How many bytes are in the queue now. After `close()` the file is ignored.

        Raises:
            KeyError: the handle is not watched.
            TypeError: it is no stream of bytes, or takes none; `file` is no file; or a number is
                no int.
            ValueError: `file` is no regular file, or shorter than that; a number is negative; or
                `shutdown()` was called.
            OSError: the file is closed, or not open for reading; no descriptor is left.
        """
        stream = self._stream(fh)
        part = FilePart(file, offset, count)
        shown = repr(part)
        try:
            if stream.send_file(part):
                self._poller.arm(stream)
        except BaseException:  # as in send()
            self._loop.table.mend(stream)
            raise
        if not self._loop.is_plain:
            self._loop.sent(stream, (shown,))
        return stream.unsent

    def flush(self) -> None:
        """Send what `send(later=True)` has put off, as far as the kernel takes it.

        The mux does so before it waits. This is for a program that has much else to do before it
        calls `mux()` again.
        """
        if self._is_inherited:
            self._poller.refuse()
        table = self._loop.table
        try:
            table.flush()
        except BaseException:  # Ctrl-C, for example: what is queued leaves even so
            table.mend()
            raise
        self._loop.watches.changed()

    def buflen(self, fh: Handle) -> int:
        """Return how many bytes, or packets, are queued for output.

        Raises:
            KeyError: the handle is not watched.
        """
        return self._channel(fh).unsent

    # Letting go of handles

    def close(self, fh: Handle, *, timeout: float | None = None) -> None:
        """Close a handle in order: `Closing` comes, the output queue is sent, `Closed` comes.

        Nothing is read any more. If the peer of a connection is still sending, so that the last
        words could be lost, `Closed` comes only when it has ended, or after 2 seconds. Closing
        twice is once, but for the timeout, which can only become shorter; also when `Closed` was
        handed out in between: who ends a connection need not know whether the peer has.

        Args:
            fh: the handle.
            timeout: seconds until what has not left is dropped; `Closed` has it as `missing`, and
                a reason. Without one, a connection whose peer reads nothing for 90 seconds ends
                in that way, and a pipe or a terminal waits for its reader.

        Raises:
            KeyError: the handle is not watched, and it is open.
            ValueError: the timeout is negative, infinite or NaN, or no number.
        """
        if fh not in self._channels and is_closed(fh):
            return
        channel = self._channel(fh)
        if timeout is not None:
            _check_seconds(timeout)
        self._loop.table.mend(channel)
        channel.close()
        if timeout is not None:
            self._loop.table.endings.begin(channel, timeout)
        self._poller.arm(channel)
        self._loop.watches.changed()

    def shutdown(self, fh: Handle) -> None:
        """End our side of a connection once what is queued has left; reading goes on.

        The peer reads the end then, and may still send; with TLS it gets close_notify. When it has
        ended its side, too, `Closing` and `Closed` come, and no `HalfClosed`; if it has before,
        this is `close()`. So it is for what can only be written to, such as the input of a child
        process. Nothing can be sent any more. What is queued for a connection that is not up yet
        is sent first. A second time, and behind `close()`, nothing happens.

        Nothing waits for the peer to end its side: see `idle_timeout`.

        Args:
            fh: a stream, or a connection of packets.

        Raises:
            KeyError: the handle is not watched, and it is open.
            TypeError: it has no two sides: no connection, or one with `manual_write`, which the
                program can shut down itself.
        """
        if fh not in self._channels and is_closed(fh):
            return
        channel = self._channel(fh)
        self._loop.table.mend(channel)
        channel.shutdown()
        self._poller.arm(channel)
        self._loop.watches.changed()

    def kill(self, fh: Handle, reason: str | None = None) -> None:
        """Close a handle now. What is queued in either direction is dropped; `Closed` comes.

        Raises:
            KeyError: the handle is not watched.
        """
        self._loop.kill(self._channel(fh), reason)

    def remove(self, fh: Handle) -> None:
        """Stop watching a handle and leave it open, as it was before. No event comes.

        What is queued for it in either direction is dropped.

        Raises:
            KeyError: the handle is not watched.
        """
        self._loop.remove(self._channel(fh))

    # TLS

    def start_tls(
        self,
        fh: Handle,
        context: SSLContext,
        *,
        server_side: bool | None = None,
        server_hostname: str | None = None,
        handshake_timeout: float = 10.0,
    ) -> None:
        """Go on with TLS on a connection that was plain so far, as STARTTLS of SMTP has it.

        What is queued leaves first. After the handshake `Ready` comes, a second time on what has
        connected; what is sent before waits for it. If it fails: `Error`, `Closing`, `Closed`. So
        it does if the peer has sent more in plain text than the program was told of: that may be
        of somebody in between, and is never handed out.

        Args:
            fh: a stream.
            context: of the `ssl` module.
            server_side: whether we are the server; default is what the context is for.
            server_hostname: for a client, the name that the certificate has to be for.
            handshake_timeout: seconds until all that is through.

        Once the handle is closing, nothing happens.

        Raises:
            KeyError: the handle is not watched.
            TypeError: it is no stream, or the context is none.
            ValueError: it has TLS already, is not up yet, or an option does not fit.
        """
        stream = self._stream(fh)
        options = replace(
            stream.options,
            tls=context,
            server_side=server_side,
            server_hostname=server_hostname,
            handshake_timeout=handshake_timeout,
        )
        check_context(context)
        if stream.closing:
            return
        if stream.options.tls is not None:
            raise ValueError(f"{fh!r} has TLS already")
        if not stream.is_up:
            raise ValueError(f"{fh!r} is not up yet: wait for Ready, or give tls= to connect()")
        self._loop.table.start_tls(stream, options)
        self._loop.watches.changed()

    def set_tls(self, fh: Handle, context: SSLContext) -> None:
        """Use another context for what a listener accepts from now on: certificates are renewed.

        Connections that are up, and handshakes that have begun, are not touched.

        Raises:
            KeyError: the handle is not watched.
            TypeError: it is no listener, or the context is none.
            ValueError: it has no TLS, or the context is for clients.
        """
        channel = self._channel(fh)
        if not isinstance(channel, Listener):
            raise TypeError(f"{fh!r} is no listener")
        check_context(context)
        if channel.options.tls is None:
            raise ValueError(f"{fh!r} has no TLS: give tls= to listen()")
        self._loop.table.set_tls(channel, context)

    # What is known about handles

    def meta(self, fh: Any, value: Any = _UNSET) -> Any:
        """Return what the program has stored for a handle, after storing `value` if given.

        Instead of a handle it may be the `id` of a `Read`, that is, anything that can be a key
        and is neither an int nor has `fileno()`: then nothing stored is None, storing None
        forgets it, and it is the program that decides when.

        Raises:
            KeyError: the handle is not watched.
        """
        channel = self._channels.get(fh)
        if channel is None:
            if isinstance(fh, int) or hasattr(fh, "fileno"):
                raise KeyError(f"{fh!r} is not watched")
            return self._session(fh, value)
        if value is not _UNSET:
            channel.meta = value
        return channel.meta

    def _session(self, key: object, value: object) -> object:
        if value is None:
            self._sessions.pop(key, None)
        elif value is not _UNSET:
            self._sessions[key] = value
        return self._sessions.get(key)

    def peer(self, fh: Handle) -> Peer:
        """Return who is at the other end of a connection.

        Of what has no peer, such as a listener or a pipe, nothing is known: all is None. The same
        holds for the address of a plain connection that has broken; `Connect.peer` may be kept.

        Raises:
            KeyError: the handle is not watched.
        """
        return self._channel(fh).peer()

    def handles(self) -> list[Handle]:
        """Return the handles that are watched."""
        return list(self._channels)

    def type(self, fh: Handle) -> str:
        """Return "stream", "dgram" or "seqpacket".

        Raises:
            KeyError: the handle is not watched.
        """
        return self._channel(fh).kind

    def class_(self, fh: Handle) -> str:
        """Return "socket", or "other" for pipes, terminals, files and devices.

        Raises:
            KeyError: the handle is not watched.
        """
        return "socket" if self._channel(fh).is_socket else "other"

    def _channel(self, fh: Handle) -> Channel:
        try:
            return self._channels[fh]
        except KeyError:
            raise KeyError(f"{fh!r} is not watched") from None

    def _channel_to_send(self, fh: Handle) -> Channel:
        if isinstance(fh, (str, bytes)):  # the data, where the handle was forgotten
            raise TypeError(f"{_shortened(fh)} is no handle; that is the first argument")
        return self._channel(fh)

    def _awaited(self, listener: Handle) -> int:
        """Return how many a listener has accepted who have yet to say who they are."""
        return self._loop.table.arrivals.awaited(listener)

    def _take_turns(self, listener: Handle, turns: Turns) -> None:
        """Have a listener ask before each connection that it accepts, and take one at a time."""
        channel = self._channel(listener)
        if not isinstance(channel, Listener):
            raise TypeError(f"{listener!r} is no listener")
        channel.turns = turns

    def _has_anything(self) -> bool:
        """True if there is something that `mux()` could wait for."""
        return self._loop.has_anything()

    def _stream(self, fh: Handle) -> Stream:
        channel = self._channel(fh)
        if not isinstance(channel, Stream) or channel.kind != "stream":
            raise TypeError(f"{fh!r} is no stream of bytes")
        return channel

    # What else can be watched

    def timer(
        self,
        seconds: float,
        data: object = None,
        *,
        repeat: bool = False,
        fh: Handle | None = None,
    ) -> Watch:
        """Have a `Timer` event with `data` after so many seconds, or every so many.

        A timer that repeats keeps its beat; what the program was too busy for is left out.

        Args:
            seconds: how long.
            data: what the event brings.
            repeat: not once, but every so many seconds.
            fh: whose timer it is: the event comes with this handle, also from `mux(only=fh)`.
                The end of the handle does not cancel it.

        Returns:
            What can be cancelled, and `restart()`ed.

        Raises:
            ValueError: `seconds` is negative, or 0 with `repeat`.
        """
        if not 0 <= seconds < float("inf") or (repeat and not seconds):
            least = "more than 0" if repeat else "0 or more"
            raise ValueError(f"seconds is {seconds!r}, must be {least}")
        return self._loop.watches.timer(seconds, data, repeat, fh)

    def signal(self, *signums: int) -> Watch:
        """Have a `Signal` event when one of the signals arrives, instead of what it did before.

        Signals that arrive before the last is handed out count in one event. A handler of the
        program's own is still called, other than Python's own for Ctrl-C; the handlers of
        before are back when the watch is cancelled, or the mux ends.

        Returns:
            What can be cancelled.

        Raises:
            ValueError: there is no such signal, none is given, or this is not the main thread.
            OSError: the signal cannot be caught.
        """
        if not signums:
            raise ValueError("no signal is given")
        return self._loop.watches.signal(signums)

    def child(self, process: Any, *, fh: Handle | None = None) -> Watch:
        """Have a `Child` event when a child process ends. It is waited for, and leaves no zombie.

        Args:
            process: a `subprocess.Popen`, whose `returncode` is then set, or a pid.
            fh: whose process it is, as for `timer()`.

        Returns:
            What can be cancelled.

        Raises:
            TypeError: it is neither.
            ChildProcessError: the pid is of no child of this process.
            OSError: the process is out of descriptors, or the system cannot tell.
            ValueError: there are no pidfds, and this is not the main thread.
        """
        return self._loop.watches.child(process, fh)

    # Looking on

    def trace(self, logger: logging.Logger | None) -> None:
        """Log each event that is handed out and all that is sent, at level DEBUG; None stops it.

        What a handler of the logger does with a mux itself is not logged, and nor are the events
        that come of it. What such a handler raises comes out of `mux()` or `send()`, and tracing
        stops; nothing is lost by that.
        """
        self._loop.trace = None if logger is None else Trace(logger)

    # A forked process

    def _abandon(self) -> None:
        """Refuse everything until `after_fork()`: this is a forked child."""
        if self._is_inherited:
            return
        self._is_inherited = True
        if not self._is_closed:
            parent = os.getppid()
            why = f"this mux belongs to the parent, process {parent}: call after_fork() first"
            self._loop.abandon(Refusal(why))
            self._see_parts()

    def after_fork(self, *, keep: Iterable[Handle] = ()) -> None:
        """Start with nothing watched, in a child process that was forked.

        Until it is called there, all methods refuse. The child's copies of the handles are
        closed, which the parent does not notice; those in `keep` are left open. A selector of
        the program's own is replaced by a new one of its class.

        Raises:
            RuntimeError: this is not a forked child.
        """
        if not self._is_inherited:
            raise RuntimeError("after_fork() is for the child of a fork")
        self._loop.table.drop_inherited(tuple(keep))
        self._is_inherited = self._is_closed = False
        trace = self._loop.trace
        self._run(self._poller.new_selector())
        self._loop.trace = trace

    # The end

    def __enter__(self) -> Self:
        """Return the mux itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Send what can be sent without waiting, close all handles and the selector.

        After that the mux refuses to wait and to watch: RuntimeError.
        """
        if self._is_inherited:
            self._loop.table.drop_inherited(())
        elif not self._is_closed:
            self._loop.close(Refusal("this mux is closed"))
            self._is_closed = True

    def __del__(self) -> None:
        """Give back what is the process's, should the mux be dropped without its end.

        Handles stay open, as after `remove()`; signals do again what they did before.
        """
        has_begun = "_loop" in vars(self)  # else it has refused to
        if has_begun and not (self._is_closed or self._is_inherited or sys.is_finalizing()):
            self._loop.drop(Refusal("this mux is closed"))


def _lowest(timeouts: tuple[float | None, ...]) -> float | None:
    given = [timeout for timeout in timeouts if timeout is not None]
    if not given:
        return None
    for timeout in given:
        if not timeout >= 0:  # so that NaN is refused too
            raise ValueError(f"timeout is {timeout!r}, must be 0 or more")
    return min(given)


def _shortened(data: str | bytes) -> str:
    return repr(data) if len(data) <= 40 else f"{data[:40]!r}..."


def _check_seconds(timeout: object) -> None:
    is_number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not is_number or not 0 <= cast("float", timeout) < float("inf"):
        raise ValueError(f"timeout is {timeout!r}, must be a number of seconds, 0 or more")


def _check_events(events: tuple[Event, ...]) -> None:
    for event in events:
        if not isinstance(event, Event):
            raise TypeError(f"cannot queue {type(event).__name__}, only events")
