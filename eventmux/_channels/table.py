"""The handles that are watched: which kind of channel each one needs, and what becomes of it.

A handle is known by the object, never by its number: numbers are used again. What the program
closes without telling is looked for here, since epoll is silent about it.
"""

from __future__ import annotations

import copy
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Container, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from eventmux import sockets
from eventmux._channels.arrivals import Arrival, Arrivals
from eventmux._channels.channel import PAUSED, Channel, Outlet
from eventmux._channels.descriptors import Descriptor
from eventmux._channels.dialing import Dialer
from eventmux._channels.endings import Endings
from eventmux._channels.exceptional import Noticing
from eventmux._channels.fitting import check_idle, fitting
from eventmux._channels.idling import Idling
from eventmux._channels.listeners import Listener
from eventmux._channels.manual import MANUAL
from eventmux._channels.nested import Nestable, Nested
from eventmux._channels.options import ChannelOptions
from eventmux._channels.packets import Datagram, PacketStream
from eventmux._channels.ports import Port, open_port
from eventmux._channels.special import is_special, special_class
from eventmux._channels.streams import Sink, Source, Stream
from eventmux._queue import EventQueue
from eventmux._waiting.poller import Poller
from eventmux._watching.timers import Entry
from eventmux._watching.watches import Watches
from eventmux.events import Address, CanRead, Handle
from eventmux.peers import Peer
from eventmux.sources import check_source
from eventmux.urls import Endpoint

if TYPE_CHECKING:
    from ssl import SSLContext

    from eventmux._channels.handshakes import Handshakes
    from eventmux._channels.proxied import Gate

__all__ = ["ChannelTable"]

_FEW = 4  # handles that are looked after at each turn; of more, one at a time

_KINDS = {socket.SOCK_STREAM: Stream, socket.SOCK_DGRAM: Datagram, socket.SOCK_RAW: Datagram}
if hasattr(socket, "SOCK_SEQPACKET"):
    _KINDS[socket.SOCK_SEQPACKET] = PacketStream


class ChannelTable:
    """The channels by handle."""

    def __init__(self, poller: Poller, queue: EventQueue, watches: Watches) -> None:
        self.channels: dict[Handle, Channel] = {}
        self.nested: list[Nested] = []
        self.unflushed: list[Channel] = []  # those with output that was put off
        cancel = watches.timers.cancel
        self.endings = Endings(watches.clock, watches.later, cancel, poller.arm)
        self.arrivals = Arrivals(queue.push, watches.later, cancel, self._resume_starved)
        self.idling = Idling(watches.clock, poller.arm)
        self.unsettled: deque[Channel] = deque()  # to go on when their events are handed out
        self._outlet = Outlet(
            queue.push,
            queue.remove,
            self.unflushed.append,
            self.endings.begin,
            queue.remove_of,
            self.unsettled.append,
        )
        self._poller = poller
        self._queue = queue
        self._watches = watches
        self._added: dict[int, Channel] = {}  # by descriptor, what the program added
        self._starved: dict[Channel, Entry] = {}  # listeners, and when they try again
        self._dialers: dict[Channel, Dialer] = {}
        self._deadlines: dict[Channel, Entry] = {}  # of connections that may take only so long
        self._handshakes: Handshakes | None = None  # as soon as TLS is asked for
        self._inherited: list[Channel] = []  # in a forked child, what is its parent's
        self._round: list[Channel] = []  # who is still to be looked after
        self.lost = 0  # handles that turned out to be closed

    # Which channel

    def add(
        self,
        fh: Handle,
        options: ChannelOptions,
        meta: object,
        *,
        listen: bool | None = None,
        kind: str | None = None,
        is_ours: bool = False,
    ) -> None:
        """Watch a handle of the program's, or one that was made for it.

        Raises:
            TypeError: it is no handle.
            ValueError: it is watched already, or an option does not fit it.
            OSError: it is closed, or the kernel refuses.
        """
        if fh in self.channels:
            raise ValueError(f"{fh!r} is watched already")
        if isinstance(fh, Nestable):
            fh.fileno()  # it says best what it lacks
        port = open_port(fh)
        try:
            self._check_owner(fh, port)
            channel = self._make(fh, port, options, meta, listen, kind)
        except BaseException:
            if port is not fh:
                port.detach()
            raise
        if is_ours and isinstance(channel, Listener):
            channel.was_tuned()
        self.watch(channel)
        self._added[channel.fd] = channel

    def _make(
        self,
        fh: Handle,
        port: Port,
        options: ChannelOptions,
        meta: object,
        listen: bool | None,
        kind: str | None,
    ) -> Channel:
        is_listening = isinstance(port, socket.socket) and sockets.is_listening(port)
        if listen is not None and listen != is_listening:
            does = "listens" if is_listening else "does not listen"
            raise ValueError(f"listen is {listen}, but {fh!r} {does}")
        if isinstance(fh, Nestable):
            cls: type[Channel] = Nested
        elif isinstance(port, Descriptor):
            cls = Datagram if kind == "dgram" else Stream
        else:
            cls = _KINDS.get(port.type, Datagram)
        if kind is not None and kind != cls.kind:
            raise ValueError(f"type is {kind!r}, but {fh!r} is {cls.kind!r}")
        options = fitting(options, cls, port, is_listening)
        if options.proxy is not None and not (is_listening and cls is Stream):
            raise ValueError(f"proxy is for listeners of streams, but {fh!r} is none")
        if cls is Nested:
            return Nested(fh, port, self._outlet, options, meta)
        if is_listening:
            adopt = self.adopt if options.proxy is None else self._gate(options, port).adopt
            return Listener(
                *(fh, port, self._outlet, options, meta),
                adopt=adopt,
                defer=self.defer,
                adjourn=self.adjourn,
                dismiss=self.arrivals.dismiss,
            )
        channel = self._build(cls, fh, port, options, meta, ready=False)
        if isinstance(channel, Stream) and isinstance(port, socket.socket):
            channel.connecting = channel.connecting and not sockets.is_connected(port)
        return channel

    def _build(
        self,
        cls: type[Channel],
        fh: Handle,
        port: Port,
        options: ChannelOptions,
        meta: object,
        *,
        ready: bool,
    ) -> Channel:
        arguments = (fh, port, self._outlet, options, meta)
        if options.manual_read or options.manual_write:
            cls = MANUAL[cls]
        elif isinstance(port, Descriptor) and cls is Stream:
            cls = Sink if not port.can_read else Source if not port.can_write else Stream
        if is_special(options):
            cls = special_class(cls, options, port)
        if issubclass(cls, Datagram):
            return cls(*arguments, defer=self.defer)
        if not issubclass(cls, Stream):
            return cls(*arguments)
        if options.tls is not None:
            return self.handshakes.secure(fh, port, options, meta)
        one_way = isinstance(port, Descriptor) and not (port.can_read and port.can_write)
        is_source = isinstance(port, Descriptor) and not port.can_write
        stream = cls(*arguments, ready=ready or is_source or options.manual_write)
        if one_way and not is_source and cls is not Sink:
            stream.muted |= PAUSED  # the other direction of manual_write: there is none
        return stream

    def _check_owner(self, fh: Handle, port: Port) -> None:
        fd = port.fileno()
        for other in (self._poller.owner(fd), self._added.get(fd)):  # one may be set aside
            if (
                isinstance(other, Channel)
                and self.channels.get(other.fh) is other
                and not other.is_lost()
            ):
                raise ValueError(f"{fh!r} is watched already, as {other.fh!r}")

    # Connections that are made, and that are accepted

    def connect(
        self,
        endpoint: Endpoint,
        options: ChannelOptions,
        meta: object,
        timeout: float | None,
        source: Address | None = None,
    ) -> Channel:
        """Make a socket that connects, watch it, and return its channel."""
        targets = sockets.known_targets(endpoint)
        if source is not None:
            check_source(endpoint, source, targets)
        error = None
        if targets is None:
            sock = sockets.placeholder(endpoint)
        elif not targets:
            sock = sockets.unconnected(endpoint, source)
        else:
            try:
                sock = sockets.start(targets[0], source)
            except OSError as failure:
                if failure.errno in (errno.EMFILE, errno.ENFILE):
                    raise
                sock, error = sockets.placeholder(endpoint), failure
        try:
            options = fitting(options, _KINDS[sock.type], sock)
            channel = self._build(_KINDS[sock.type], sock, sock, options, meta, ready=False)
            channel.dialing = targets is None
            self.watch(channel)
        except BaseException:
            sock.close()
            raise
        if targets is None:
            self._dial(cast("Stream | Datagram", channel), endpoint, source)
        if timeout is not None:
            give_up = partial(self._give_up, channel, timeout)
            self._deadlines[channel] = self._watches.later(timeout, give_up)
        if error is not None:
            channel.fail(error)
            self._poller.arm(channel)
        return channel

    def _dial(self, channel: Stream | Datagram, endpoint: Endpoint, source: Address | None) -> None:
        watches = self._watches
        later, cancel, ask = watches.later, watches.timers.cancel, watches.mailbox.ask
        dialer = Dialer(channel, self._poller, later, cancel, ask, source)
        self._dialers[channel] = dialer
        dialer.start(endpoint)

    def _give_up(self, channel: Channel, seconds: float) -> None:
        """End a connection that is not up after so many seconds."""
        self._deadlines.pop(channel, None)
        if self.channels.get(channel.fh) is channel and not channel.is_up:
            self._stop_dialing(channel)
            channel.fail(OSError(errno.ETIMEDOUT, f"no connection within {seconds} seconds"))
            self._poller.arm(channel)

    def _stop_dialing(self, channel: Channel) -> None:
        dialer = self._dialers.pop(channel, None)
        if dialer is not None:
            dialer.stop()
            channel.dialing = False

    def _gate(self, options: ChannelOptions, port: Port) -> Gate:
        """Return what takes those that come through proxies.

        Raises:
            ValueError: nobody could come.
        """
        from eventmux._channels.proxied import Gate  # with `ipaddress` it takes a while
        from eventmux._channels.trust import Trust

        trust = Trust(options.trusted)
        trust.check_family(cast("socket.socket", port).family)
        emit = self._outlet.emit
        return Gate(trust, _arrive, self.arrivals, self._poller, self.welcome, emit)

    def adopt(self, listener: Listener, sock: socket.socket, address: Address) -> None:
        """Watch a connection that a listener accepted, and tell the program of it."""
        self.welcome(sock, _arrive(listener, sock, address))

    def welcome(self, sock: socket.socket, arrival: Arrival) -> None:
        """Watch a connection whose proxy, if it has one, has said who is there."""
        if arrival.options.tls is not None:
            self.handshakes.greet(sock, arrival)
            return
        kind = _KINDS[sock.type]
        channel = self._build(kind, sock, sock, arrival.options, arrival.meta, ready=True)
        if arrival.peer.proxy is not None:
            cast("Stream", channel).introduce(arrival.peer)
        self._announce(channel, arrival)

    def _announce(self, channel: Channel, arrival: Arrival) -> None:
        """Watch a connection that was accepted, and tell the program of it."""
        channel.own()
        sock = cast("socket.socket", channel.fh)
        event = arrival.connect(sock)
        self.watch(channel)
        try:
            self._outlet.emit(event)
        except BaseException:  # Ctrl-C, for example: the program knows nothing of it
            self.forget(channel, channel.shut)
            self._queue.remove_of(sock)
            raise

    # TLS

    @property
    def handshakes(self) -> Handshakes:
        """Those that are under way."""
        if self._handshakes is None:
            from eventmux._channels.handshakes import Handshakes  # it takes 15 ms to import

            later, cancel = self._watches.later, self._watches.timers.cancel
            self._handshakes = Handshakes(
                self._poller, self.arrivals, later, cancel, self._announce, self._outlet
            )
        return self._handshakes

    def start_tls(self, stream: Stream, options: ChannelOptions) -> None:
        """Have a stream go on with TLS: another channel takes its place.

        Raises:
            ValueError: an option does not fit.
        """
        options = fitting(options, Stream, stream.port, accepted=stream.is_accepted)
        secure = self.handshakes.secure_over(stream, options)
        self.mend(stream)
        self._poller.disarm(stream)
        self.mend(secure)
        if self._added.get(stream.fd) is stream:
            self._added[stream.fd] = secure
        self.channels[stream.fh] = secure
        self.idling.replace(stream, secure)
        secure.start()
        self._poller.arm(secure)

    def set_tls(self, listener: Listener, context: SSLContext) -> None:
        """Have what a listener accepts from now on use another context.

        Raises:
            ValueError: it is for clients.
        """
        options = replace(listener.for_accepted, tls=context)
        listener.for_accepted = fitting(options, Stream, listener.port, is_listening=True)

    # Coming and going

    def set_idle_timeout(self, channel: Channel, seconds: float | None) -> None:
        """Give a handle another `idle_timeout`, or none; a listener hands it on.

        Raises:
            ValueError: the mux does not see what comes and goes there.
        """
        if isinstance(channel, Listener):
            channel.hand_on(seconds)
            return
        if seconds is not None:
            check_idle(channel.options, isinstance(channel, Nested), channel.port)
        self.idling.change(channel, seconds)

    def watch(self, channel: Channel) -> None:
        """Watch a channel, or leave no trace of it."""
        self.channels[channel.fh] = channel
        try:
            if isinstance(channel, Nested):
                self.nested.append(channel)
            self._poller.watch(channel)
            if channel.options.exceptional and isinstance(channel, Noticing):
                self._poller.watch(channel.notice)
            if not isinstance(channel, Listener):  # it is for what is accepted
                self.idling.watch(channel)
        except BaseException:
            self.forget(channel, channel.release)
            raise

    def forget(self, channel: Channel, finish: Callable[[], None]) -> None:
        """Do not watch a channel any more. Its descriptor may be what a listener lacks.

        It is known until all is done: should that be interrupted, it can be done again.

        Args:
            channel: which.
            finish: closes its handle, or gives it back.
        """
        channel.silence()
        self._stop_dialing(channel)
        self._poller.disarm(channel)
        if channel.options.exceptional and isinstance(channel, Noticing):
            self._poller.disarm(channel.notice)
        if self._added.get(channel.fd) is channel:
            del self._added[channel.fd]
        if isinstance(channel, Nested) and channel in self.nested:
            self.nested.remove(channel)
        entry = self._deadlines.pop(channel, None)
        if entry is not None:
            self._watches.timers.cancel(entry)
        self.endings.forget(channel)
        if self._handshakes is not None:
            self._handshakes.forget(channel)
        self.idling.forget(channel)
        channel.unflushed = False
        if isinstance(channel, Listener):
            self.arrivals.dismiss(channel.fh)
        try:
            finish()
        except Exception:  # the program's own close(), which would fail again
            self.channels.pop(channel.fh, None)
            raise
        self.channels.pop(channel.fh, None)
        self._resume_starved()

    def defer(self, channel: Channel, seconds: float) -> None:
        """Let a channel try again in a while; a listener also when a descriptor is given back."""
        entry = self.adjourn(channel, seconds)
        if isinstance(channel, Listener):
            self._starved[channel] = entry
            self.arrivals.give_way(channel.fh)

    def adjourn(self, channel: Channel, seconds: float) -> Entry:
        """Let a channel try again after so many seconds, and not before."""
        return self._watches.later(seconds, lambda: self._resume(channel))

    def _resume_starved(self) -> None:
        """Let listeners try again that lacked a descriptor: one was given back."""
        if self._starved:
            for listener in tuple(self._starved):
                self._resume(listener)

    def _resume(self, channel: Channel) -> None:
        entry = self._starved.pop(channel, None)
        if entry is not None:  # else each descriptor that is given back would leave one more
            self._watches.timers.cancel(entry)
        if self.channels.get(channel.fh) is channel:
            channel.resume()
            self._poller.arm(channel)

    # What is done at each turn

    def flush(self) -> None:
        """Send what was put off, and see to all that may have been interrupted.

        What a finalizer puts off meanwhile has its turn later. A channel leaves the list when all
        of this is done: should a signal handler raise, all of it is done again.
        """
        listed = self.unflushed[:]
        for channel in listed:
            if channel.unflushed:
                channel.flush()
            elif self.channels.get(channel.fh) is not channel:
                continue
            if channel.closing:
                channel.tell_end()
            self._poller.arm(channel)
        del self.unflushed[: len(listed)]

    def mend(self, channel: Channel | None = None) -> None:
        """Have a channel, or all, seen to in the next turn: something was interrupted."""
        self.unflushed.extend(self.channels.values() if channel is None else (channel,))

    def has_put_off(self) -> bool:
        """True if something is queued that nothing but `flush()` will send."""
        return any(channel.unflushed and channel.unsent for channel in self.unflushed)

    def settle(self, only: Handle | None) -> None:
        """Let channels go on whose events have all been handed out; with `only`, that one."""
        for _ in range(len(self.unsettled)):
            channel = self.unsettled[0]
            if self.channels.get(channel.fh) is channel:
                if only is not None and channel.fh != only:
                    self.unsettled.rotate(-1)
                    continue
                try:
                    channel.settle()
                except Exception:  # the program's meta_handler
                    del self.unsettled[0]
                    raise
                finally:
                    self._poller.arm(channel)
            del self.unsettled[0]  # last: should a signal handler raise, it is done again

    def is_behind(self) -> bool:
        """True if something was read that nothing but `settle()` will cut."""
        return any(channel.is_behind for channel in self.unsettled)

    def until_nested(self) -> float | None:
        """Return when the first of the nested muxes has something, besides its handles."""
        dues = [due for nested in self.nested if (due := nested.until_due()) is not None]
        return min(dues, default=None)

    def report_nested(self) -> None:
        """Report the nested muxes that have something, once in a turn."""
        reported = {id(event.fh) for event in self._queue if type(event) is CanRead}
        for nested in self.nested:
            if nested.until_due() == 0 and id(nested.fh) not in reported:
                nested.readable()

    # What the program closed without telling

    def _lose(self, channel: Channel) -> None:
        self.lost += 1
        self._stop_dialing(channel)
        channel.fail(OSError(errno.EBADF, os.strerror(errno.EBADF)))
        self._poller.arm(channel)

    def look_after_some(self) -> bool:
        """Look after a few handles; False if that were not all."""
        channels = self.channels
        if len(channels) <= _FEW:
            for channel in channels.values():
                if channel.is_lost():
                    self._look_after((channel,))
            return True
        if not self._round:
            self._round = list(channels.values())
        self._look_after((self._round.pop(),))
        return False

    def look_after_all(self) -> None:
        """Look after all handles."""
        self._round.clear()
        self._look_after(self.channels.values())

    def _look_after(self, channels: Iterable[Channel]) -> None:
        for channel in channels:
            if (
                channel.is_lost()
                and channel.closed is None
                and self.channels.get(channel.fh) is channel
            ):
                self._lose(channel)

    # The end

    def close(self) -> None:
        """Close what the program was never told of."""
        self.arrivals.close()
        if self._handshakes is not None:
            self._handshakes.close()

    def give_back(self) -> None:
        """Leave all handles open, as they were before: nobody has the mux any more."""
        for channel in self.channels.values():
            self._stop_dialing(channel)
            channel.silence()
            channel.release()
        self.close()

    # A forked process

    def abandon(self, refusal: Any) -> list[Channel]:
        """Watch nothing any more, and return what was watched; whoever asks is refused."""
        self._inherited = list(self.channels.values())
        self.channels = refusal
        self.unflushed.clear()
        self.unsettled.clear()
        return self._inherited

    def drop_inherited(self, keep: Container[Handle]) -> None:
        """Close what was abandoned, but for what is to be kept."""
        for channel in self._inherited:
            if channel.fh not in keep:
                channel.drop()
        self._inherited = []
        self.close()


def _arrive(listener: Listener, sock: socket.socket, address: Address) -> Arrival:
    """Return what is known of a connection that a listener accepted."""
    is_unix = type(address) is not tuple  # to ask the socket for its family takes longer
    peer = Peer(address, sockets.credentials(sock) if is_unix else None)
    return Arrival(listener.fh, listener.for_accepted, _copy(listener.meta), peer)


def _copy(meta: object) -> object:
    """Return a shallow copy; of what cannot be copied, such as a lock, the thing itself."""
    try:
        return copy.copy(meta)
    except Exception:  # noqa: BLE001  # a copy method of the program's may raise anything
        return meta
