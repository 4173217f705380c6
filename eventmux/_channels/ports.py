"""What a handle is, and how to read and write without waiting, what it is no matter.

A handle is a socket, an object with `fileno()`, or a descriptor as a number. `open_port()` gives
what channels do their input and output with, its *port*: a socket, or a `Descriptor`, which has
those methods of a socket that channels use.

O_NONBLOCK is left alone wherever that can be, as it belongs to the open file and others may have
that, too: a socket is told at each call, by RECV_FLAGS and SEND_FLAGS. `prepare()` says of the rest
that it has to be lent: `lending.py`.

This file knows nothing of selectors, channels and events.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from itertools import starmap
from typing import Any

from eventmux._channels.descriptors import Descriptor
from eventmux._channels.handles import check, close, fileno_of, which_file
from eventmux.events import Handle
from eventmux.sockets import RECV_FLAGS, SEND_FLAGS

__all__ = ["RECV_FLAGS", "SEND_FLAGS", "BorrowedSocket", "Port", "open_port", "prepare"]


class BorrowedSocket(socket.socket):
    """A socket that the program holds as a number, or as an object of its own.

    The kernel is called by `starmap()`: a signal handler may raise as soon as a call returns, and
    then what was read would be lost, or what was sent be sent again. Here C code calls.
    """

    owner: Handle
    file: tuple[int, int] | None

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Receive, if the number is still that of this socket."""
        check(self.owner, self.fileno(), self.file)
        [data] = starmap(super().recv, ((size, flags),))
        return data

    def recvmsg(
        self, size: int, ancillary_size: int = 0, flags: int = 0, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        """Receive, if the number is still that of this socket."""
        check(self.owner, self.fileno(), self.file)
        [packet] = starmap(super().recvmsg, ((size, ancillary_size, flags),))
        return packet

    def send(self, data: Any, flags: int = 0, /) -> int:
        """Send, if the number is still that of this socket."""
        check(self.owner, self.fileno(), self.file)
        [sent] = starmap(super().send, ((data, flags),))
        return sent

    def sendto(self, *arguments: Any) -> int:
        """Send, if the number is still that of this socket."""
        check(self.owner, self.fileno(), self.file)
        [sent] = starmap(super().sendto, (arguments,))
        return sent

    def sendmsg(self, *arguments: Any) -> int:
        """Send with ancillary data, if the number is still that of this socket."""
        check(self.owner, self.fileno(), self.file)
        [sent] = starmap(super().sendmsg, (arguments,))
        return sent

    def __del__(self) -> None:
        """Leave the program's handle open, should the mux be dropped without its end."""
        self.detach()

    def close(self) -> None:
        """Close the program's handle."""
        self.detach()
        close(self.owner)


Port = socket.socket | Descriptor
"""What a channel reads from and writes to."""


def open_port(fh: Handle) -> Port:
    """Return what to read from and write to a handle with.

    Raises:
        TypeError: it is no handle, or one that keeps data to itself, as TLS does.
        OSError: it is closed.
    """
    fd = fileno_of(fh)
    if hasattr(fh, "do_handshake"):
        why = "TLS holds data back that no selector can see; give the plain socket to"
        raise TypeError(f"cannot watch {fh!r}: {why} add(sock, tls=context)")
    if isinstance(fh, socket.socket) and fd >= 0:
        return fh
    try:
        mode = os.fstat(fd).st_mode
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None) or errno.EBADF
        raise OSError(number, f"cannot watch {fh!r}: {os.strerror(number)}") from None
    if not stat.S_ISSOCK(mode):
        return Descriptor(fd, fh, mode)
    blocking = os.get_blocking(fd)  # Python does not ask, and may set its own default
    sock = BorrowedSocket(fileno=fd)
    sock.owner, sock.file = fh, which_file(fd)
    sock.setblocking(blocking)
    return sock


def prepare(port: Port) -> bool:
    """See to it that reading and writing do not wait; False if O_NONBLOCK has to be set for that.

    A socket object with a timeout waits by itself, whatever the flags say.
    """
    if isinstance(port, Descriptor):
        return port.prepare()
    timeout = port.gettimeout()
    return timeout == 0.0 or (timeout is None and RECV_FLAGS != 0)
