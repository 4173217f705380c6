"""Handles that send and receive packets: datagram sockets, and connections of packets.

A packet is sent whole or not at all. A `Datagram` has no connection that could end: what goes
wrong with one packet is an `Error` event about that packet, and the handle lives on. A
`PacketStream` (SOCK_SEQPACKET) lives like a stream.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import starmap
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any, ClassVar, cast

from eventmux import datagrams
from eventmux._channels.channel import THROTTLED, Channel, Outlet, as_bytes, reason_of
from eventmux._channels.descriptors import Descriptor
from eventmux._channels.files import FilePart
from eventmux._channels.options import ChannelOptions
from eventmux._channels.passing import KeptFds, Passing
from eventmux._channels.ports import RECV_FLAGS, SEND_FLAGS, Port
from eventmux._channels.streams import Stream
from eventmux.events import Address, Error, Handle, Read, Sent

__all__ = ["Ancillary", "Datagram", "PacketStream", "too_long"]

_WRITES_PER_TURN = 64
_REPORTS_PER_TURN = 64
_STALL = 0.01  # seconds until a full receiver is tried again
_OUT_OF_RESOURCES = (errno.ENOBUFS, errno.ENOMEM)
_BROKEN = (errno.EBADF, errno.ENOTSOCK)
_TRUNCATED = int(getattr(socket, "MSG_TRUNC", 0))  # the enum would call functions of Python's

Ancillary = Iterable[tuple[int, int, bytes]]
Packet = tuple[bytes, Address | None, Ancillary | None]
Received = tuple[bytes, list[Any], int, Any]
Receive = Callable[[int, int, int], Received]


def _recvmsg(port: Port) -> Receive:
    """Return the method that tells whether a packet was cut; Windows has none."""
    recvmsg = getattr(port, "recvmsg", None)
    if recvmsg is not None:
        return cast("Receive", recvmsg)

    def recvfrom(size: int, _: int, flags: int) -> Received:
        data, sender = cast("socket.socket", port).recvfrom(size, flags)
        return data, [], 0, sender

    return recvfrom


def too_long(fh: Handle, data: bytes, read_size: int, sender: Address | None) -> Error:
    text = f"packet of more than read_size, {read_size} bytes"
    return Error(fh, text, errno.EMSGSIZE, data=data, sender=sender)


class Datagram(Channel):
    """A datagram socket, or a device that gives one packet at each read."""

    kind: ClassVar[str] = "dgram"
    __slots__ = ("_ancillary", "_defer", "_ends_with_nothing", "_out", "_receive", "_stalled")

    def __init__(
        self,
        fh: Handle,
        port: Port,
        outlet: Outlet,
        options: ChannelOptions,
        meta: object,
        *,
        defer: Callable[[Channel, float], None],
    ) -> None:
        if options.errors:
            datagrams.report_errors(cast("socket.socket", port))
        super().__init__(fh, port, outlet, options, meta)
        self._defer = defer
        self._out: deque[Packet] = deque()
        self._ancillary: Ancillary | None = None  # what goes with the packets being queued
        self._stalled = False
        self._receive = _recvmsg(port)
        self._ends_with_nothing = isinstance(port, Descriptor)

    @property
    def wanted(self) -> int:
        """The readiness to wait for."""
        if self.dialing:
            return 0
        write = EVENT_WRITE if self.unsent and not self._stalled else 0
        return write if self.closing or self.muted else write | EVENT_READ

    def connected(self) -> None:
        """Note that the socket has its address, by another descriptor."""
        self.transplanted()
        self.dialing = False
        self.quiet = 0
        if self.options.errors:
            datagrams.report_errors(cast("socket.socket", self.port))
        self.flush()

    def release(self) -> None:
        """Give the handle back as it was."""
        if self.options.errors and not self.is_lost():
            datagrams.report_errors(cast("socket.socket", self.port), False)
        super().release()

    # Input

    def readable(self) -> None:
        """Read what has arrived, one event for each packet."""
        if self.closing:
            return
        read_size = self.options.read_size
        for _ in range(self.options.reads_per_turn):
            if self.closing:  # by the program's code, in the middle of the turn
                return
            event = Read(self.fh)
            try:  # by starmap(), as in Intake.readable()
                [(event.data, _, flags, event.sender)] = starmap(
                    self._receive, ((read_size, 0, RECV_FLAGS),)
                )
            except BlockingIOError:
                self._report()
                return
            except OSError as error:
                if not self._report():
                    self._fail_to_receive(error)
                return
            self.quiet = 0
            if flags & _TRUNCATED:
                self._emit(too_long(self.fh, event.data, read_size, event.sender))
            elif event.data or not self._ends_with_nothing:
                self._emit(event)
                self._identify(event)
            else:
                self._begin_to_close()  # only sockets have packets of no bytes: it is the end
                return

    def _stop_reading(self, error: OSError) -> None:
        """Deal with a read that gave no packet."""
        if not self._report() and not isinstance(error, BlockingIOError):
            self._fail_to_receive(error)

    def _fail_to_receive(self, error: OSError) -> None:
        if error.errno in _BROKEN or isinstance(self.port, Descriptor):
            self.fail(error)
        else:
            self._emit(Error(self.fh, reason_of(error), error.errno, error))

    def _report(self) -> bool:
        """Emit what the kernel knows of packets that were not delivered; False if nothing."""
        reports = self._reports()
        for report in reports:
            self._emit_report(report)
        return bool(reports)

    def _reports(self) -> list[datagrams.SendError]:
        reports: list[datagrams.SendError] = []
        while self.options.errors and len(reports) < _REPORTS_PER_TURN:
            report = datagrams.read_error(cast("socket.socket", self.port))
            if report is None:
                break
            reports.append(report)
        return reports

    def _emit_report(self, report: datagrams.SendError) -> None:
        text = os.strerror(report.errno)
        self._emit(
            Error(
                self.fh,
                text,
                report.errno,
                OSError(report.errno, text),
                report.data,
                receiver=report.receiver,
                sender=report.offender,
                mtu=report.mtu,
            )
        )

    # Output

    def send_with(
        self, data: tuple[bytes, ...], receiver: Address | None, ancillary: Ancillary
    ) -> bool:
        """Do what `send()` does, with ancillary data beside each packet."""
        self._ancillary = ancillary
        try:
            return self.send(data, False, receiver)
        finally:
            self._ancillary = None

    def send_fds(self, data: bytes, fds: KeptFds, receiver: Address | None = None) -> bool:
        """Send a packet as `send()` does, and descriptors along with it."""
        return self.send_with((data,), receiver, fds)

    def queue(self, data: tuple[bytes, ...], receiver: Address | None = None) -> None:
        """Put packets in the output queue, unless the handle was closed by our side."""
        packets = [chunk if type(chunk) is bytes else as_bytes(chunk) for chunk in data]
        if not self.closing:
            ancillary = self._ancillary
            self._out.extend((packet, receiver, ancillary) for packet in packets)
            self.unsent = len(self._out)
            high_water = self.options.high_water
            if high_water is not None and self.unsent > high_water:
                self.muted |= THROTTLED

    def flush(self) -> None:
        """Send what the kernel takes, and emit `Sent` if that was all."""
        if not self._out or self.dialing:
            self.unflushed = False
            return
        try:
            self._send_some()
        finally:
            self.unsent = len(self._out)
        self.unflushed = False
        if not self._out:
            self.muted &= ~THROTTLED
            if not self.closing:
                self._emit(Sent(self.fh))
            else:
                self._end_if_drained()

    def _send_some(self) -> None:
        """Send from the front of the queue, past the packets of receivers that take no more.

        A UNIX receiver has a queue of its own, and one that does not read must not keep the
        packets of the others back. Those of one receiver stay in order.
        """
        full: set[Address] = set()
        kept: deque[Packet] = deque()
        attempts = 0
        try:
            while self._out and attempts < _WRITES_PER_TURN:
                receiver = self._out[0][1]
                if receiver is None or receiver not in full:
                    attempts += 1
                    if self._send_first():
                        continue
                    if not isinstance(receiver, (str, bytes)):  # it is the network that waits
                        break
                    full.add(receiver)
                kept.append(self._out.popleft())
        finally:
            self._out.extendleft(reversed(kept))

    def _send_first(self) -> bool:
        """Send the first packet, or give it up; False if it has to wait."""
        packet = self._out[0]
        error = self._try_to_send(*packet)
        if error is not None and not _must_wait(error):
            error = self._send_again(packet, error)
        if error is not None:
            return False
        self._out.popleft()
        return True

    def _send_again(self, packet: Packet, earlier: OSError) -> OSError | None:
        """Try a second time, and give the packet up, or return why it has to wait.

        The kernel may have told of an earlier packet, and not have looked at this one. If it is
        this one, it may have queued a report of each attempt, too.
        """
        data, receiver, _ = packet
        reports = self._reports()
        error = self._try_to_send(*packet)
        if not reports and (error is None or error.errno != earlier.errno):
            self._emit(Error(self.fh, reason_of(earlier), earlier.errno, earlier))
        bad = None if error is None or _must_wait(error) else error
        if bad is not None:
            reports += self._reports()
        mtu = None
        for report in reports:
            if bad is not None and bad.errno == report.errno and _is_of_this_host(report):
                mtu = report.mtu
            else:
                self._emit_report(report)
        if bad is None:
            return error
        text = reason_of(bad)
        self._emit(Error(self.fh, text, bad.errno, bad, data, receiver=receiver, mtu=mtu))
        return None

    def _try_to_send(
        self, data: bytes, receiver: Address | None, ancillary: Ancillary | None
    ) -> OSError | None:
        try:
            if ancillary is not None:
                port = cast("socket.socket", self.port)
                port.sendmsg((data,), ancillary, SEND_FLAGS, receiver)
            elif receiver is None:
                self.port.send(data, SEND_FLAGS)
            else:
                self.port.sendto(data, SEND_FLAGS, receiver)
        except OSError as error:
            return error
        except (TypeError, ValueError, OverflowError):  # an address of an odd family
            self._out.popleft()
            self.unsent -= 1
            raise
        self.quiet = 0
        return None

    def writable(self) -> bool | None:
        """Send what is queued."""
        before = self.unsent
        self.flush()
        if self.unsent and self.unsent == before:
            # A UNIX socket without a connection says it is writable while its receiver is full.
            self._stalled = True
            self._defer(self, _STALL)
        return False

    def resume(self) -> None:
        """Go on after the pause that was asked for."""
        super().resume()
        self._stalled = False

    def silence(self) -> None:
        """Emit nothing any more, and close what was to go along with packets."""
        super().silence()
        self._out.clear()

    def _drop_output(self) -> None:
        self._lost += self.unsent
        self._out.clear()
        self.unsent = 0


def _is_of_this_host(report: datagrams.SendError) -> bool:
    """True if the kernel refused the packet itself: then it keeps no data of it."""
    return report.offender is None and not report.data


def _must_wait(error: OSError) -> bool:
    return isinstance(error, BlockingIOError) or (error.errno in _OUT_OF_RESOURCES)


class PacketStream(Stream):
    """A connection of packets: SOCK_SEQPACKET.

    The kernel shows the end of it as a packet of no bytes, so none of those can be sent.
    """

    kind: ClassVar[str] = "seqpacket"
    most_queued: ClassVar[int] = Channel.most_queued
    __slots__ = ()

    def readable(self) -> None:
        """Read one packet."""
        if self.closing:
            self._hear()
            return
        read_size = self.options.read_size
        event = Read(self.fh)
        receive = cast("socket.socket", self.port).recvmsg
        try:  # by starmap(), as in readable() of other streams
            [(event.data, _, flags, _)] = starmap(receive, ((read_size, 0, RECV_FLAGS),))
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(error)
            return
        self.quiet = 0
        if flags & _TRUNCATED:
            self._emit(too_long(self.fh, event.data, read_size, None))
        elif event.data:
            self._emit(event)
            self._identify(event)
        else:
            self._end()

    def _longest_piece(self) -> int:
        return 0  # packets are counted

    def _send_by(self, passing: Passing) -> Callable[[bytes | memoryview, int], int]:
        return passing.send_packet

    def _append(self, chunks: Sequence[bytes | FilePart]) -> None:
        if not all(chunks):
            raise ValueError("cannot send an empty packet: it would look like the end")
        count = len(chunks)
        self._out += chunks
        self.unsent += count  # with no call in between

    def _send_once(self) -> bool:
        """Send one packet; False if the kernel did not take it."""
        out = self._out
        try:
            [_] = starmap(self._send, ((out[0], SEND_FLAGS),))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.EMSGSIZE:  # only this one cannot be sent
                if not self._ready:
                    self._get_ready()
                if self.closed is not None:  # nothing comes behind it; flush() tells it again
                    self._outlet.take_back(self.closed)
                    self.closed = None
                packet = bytes(cast("bytes", self._out.pop(0)))
                self.unsent -= 1
                self._emit(Error(self.fh, reason_of(error), error.errno, error, packet))
                return True
            if self._ready or error.errno != errno.ENOTCONN:  # else it is still connecting
                self._fail_to_send(error)
            return False
        del out[0]
        self.unsent -= 1
        self.quiet = 0
        if not self._ready:
            self._get_ready()
        return True
