"""Descriptors that are sent along with bytes and packets over UNIX sockets (SCM_RIGHTS, unix(7)).

They are duplicated at once, so that the program may close its own. A stream sends its bytes in
order as it always does: `Passing` stands between it and the kernel, knows in front of which byte
descriptors go, and ends a piece there. They go with the first byte of their data.

This file knows nothing of channels.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import starmap

from eventmux.passing import close_all, rights

__all__ = ["KeptFds", "Parcel", "Passing"]


class KeptFds:
    """Duplicates of descriptors that are to be sent, which it closes when it goes.

    It is the ancillary data for `sendmsg()`.

    Raises:
        OSError: one of them is closed, or the process is out of descriptors.
    """

    __slots__ = ("_numbers",)

    def __init__(self, numbers: list[int]) -> None:
        self._numbers: list[int] = []
        self._numbers.extend(map(os.dup, numbers))  # C code keeps each one as it is made

    def __iter__(self) -> Iterator[tuple[int, int, bytes]]:
        """Iterate over the messages for `sendmsg()`."""
        return iter((rights(self._numbers),))

    def __del__(self) -> None:
        """Close them."""
        close_all(getattr(self, "_numbers", []))


@dataclass(slots=True)
class Parcel:
    """Descriptors, and where in the output they go.

    Args:
        position: bytes, or packets, that are sent in front of them.
        size: bytes that they go along with.
        fds: the descriptors.
    """

    position: int
    size: int
    fds: KeptFds


class Passing:
    """What a stream sends by, in place of its socket, once descriptors go with some bytes."""

    __slots__ = ("_parcels", "_send", "_sendmsg", "sent")

    def __init__(self, port: socket.socket) -> None:
        self._send = port.send
        self._sendmsg = port.sendmsg
        self.sent = 0
        """Bytes, or packets, since then."""
        self._parcels: deque[Parcel] = deque()

    def put(self, parcel: Parcel) -> None:
        """Have descriptors go with what is queued next."""
        self._parcels.append(parcel)

    def take_back(self, parcel: Parcel) -> None:
        """Forget what was put last, if it was: its data was not queued."""
        if self._parcels and self._parcels[-1] is parcel:
            self._parcels.pop()

    def drop(self) -> None:
        """Close what was not sent: nothing is, any more."""
        self._parcels.clear()

    def send(self, data: bytes | memoryview, flags: int = 0, /) -> int:
        """Send bytes up to the next descriptors, or those with them."""
        parcels = self._parcels
        gap = parcels[0].position - self.sent if parcels else len(data)
        if gap:
            piece = data if len(data) <= gap else memoryview(data)[:gap]
            [sent] = starmap(self._send, ((piece, flags),))  # as in Stream._send_once()
            self.sent += sent
            return sent
        first = parcels[0]
        piece = memoryview(data)[: first.size]
        [sent] = starmap(self._sendmsg, (((piece,), first.fds, flags),))
        self.sent += sent
        del parcels[0]
        return sent

    def send_packet(self, packet: bytes | memoryview, flags: int = 0, /) -> int:
        """Send one packet, with its descriptors if it has some."""
        parcels = self._parcels
        has_fds = parcels and parcels[0].position == self.sent
        try:
            if has_fds:
                [sent] = starmap(self._sendmsg, (((packet,), parcels[0].fds, flags),))
            else:
                [sent] = starmap(self._send, ((packet, flags),))
        except OSError as error:
            if error.errno == errno.EMSGSIZE:  # the stream goes on with the next one
                self.sent += 1
                if has_fds:
                    del parcels[0]
            raise
        self.sent += 1
        if has_fds:
            del parcels[0]
        return sent
