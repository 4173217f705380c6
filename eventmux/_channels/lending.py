"""What was set on a handle of the program's, and is set back whatever happens.

A few handles cannot be used without O_NONBLOCK: listeners, what the program reads or writes half of
itself, pipes and devices of its own; and a socket object may have a timeout. That is a loan: it is
given back when the mux lets go of the handle, when the mux is dropped, and when the program ends.
What cannot be had: a process that is killed, or ends by `os._exit()`, gives nothing back.

This file knows nothing of channels.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import weakref

from eventmux._channels.handles import which_file
from eventmux._channels.ports import Port

__all__ = ["Loan"]

_IS_POSIX = os.name == "posix"


class Loan:
    """A handle that was made non-blocking, and how it was before."""

    __slots__ = ("__weakref__", "_fd", "_file", "_pid", "_port", "_timeout", "_was_free")

    def __init__(self, port: Port) -> None:
        self._port = port
        self._fd = port.fileno()
        self._file = which_file(self._fd)
        self._timeout = port.gettimeout()
        # A socket object may not know that its descriptor does not block.
        self._was_free = self._file is not None and _IS_POSIX and not os.get_blocking(self._fd)
        self._pid = os.getpid()
        self.renew()
        _loans.add(self)

    def renew(self) -> None:
        """Set it once more: another process that has the same open file may have set it back."""
        self._port.settimeout(0.0)

    def give_back(self) -> None:
        """Set it back as it was, unless it is closed, or this is a forked child of who set it."""
        if self._pid == os.getpid() and self._port.fileno() == self._fd >= 0:
            self._pid = 0
            if which_file(self._fd) == self._file:
                with contextlib.suppress(OSError):
                    self._port.settimeout(self._timeout)
                    if self._was_free:
                        os.set_blocking(self._fd, False)

    def __del__(self) -> None:
        """Give it back for a mux that was dropped without its end."""
        self.give_back()


_loans: weakref.WeakSet[Loan] = weakref.WeakSet()


@atexit.register
def _give_all_back() -> None:
    for loan in list(_loans):
        loan.give_back()
