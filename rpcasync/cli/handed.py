"""The sockets of systemd's that `rpcasync listen` leaves to its program, and what fits them.

They are looked at and not taken: `init_clients()` of the program does that, by their names.
"""

from __future__ import annotations

import os
import socket

from eventmux.sockets import inherited, is_listening
from eventmux.urls import Endpoint
from rpcasync.activation import others_pid, untaken
from rpcasync.cli.output import CommandFailed, say

__all__ = ["Handed", "why_none"]


class Handed:
    """What systemd has handed over to this process.

    Raises:
        CommandFailed: a descriptor is none.
    """

    def __init__(self) -> None:
        self.numbers = untaken()
        self.on_network: list[int] = []  # listeners that can be encrypted
        self.has_paths = False  # listeners that know who connects
        self._connections: list[int] = []
        self._addresses: dict[int, Endpoint] = {}
        for number in self.numbers:
            try:
                with inherited(os.dup(number)) as sock:
                    self._see(number, sock)
            except OSError as error:
                problem = f"descriptor {number} from systemd is of no use: {error.strerror}"
                raise CommandFailed(problem) from None

    def _see(self, number: int, sock: socket.socket) -> None:
        if not is_listening(sock):
            self._connections.append(number)
        elif sock.family == socket.AF_UNIX:
            self.has_paths = True
            name = sock.getsockname()
            path = name if isinstance(name, str) else f"@{name[1:].decode()}"
            self._addresses[number] = Endpoint("unix", path=path)
        else:
            self.on_network.append(number)
            host, port = sock.getsockname()[:2]
            self._addresses[number] = Endpoint("tcp", host=host, port=port)

    def check_flag(self, flag: str) -> None:
        """End if an option cannot hold for a connection that systemd has accepted.

        Raises:
            CommandFailed: there is such a connection.
        """
        if self._connections:
            problem = f"descriptor {self._connections[0]} from systemd is none; say Accept=no there"
            raise CommandFailed(f"{flag} is for listeners, and {problem}", 2)

    def tell(self) -> None:
        """Say where they listen."""
        for address in self._addresses.values():
            say(f"listening on {address}, from systemd")

    def are_taken(self) -> bool:
        """False if nobody has taken any of those that there are."""
        return not self.numbers or untaken() != self.numbers

    def taken(self) -> list[int]:
        """Return those that were taken."""
        return sorted({*self.numbers} - {*untaken()})


def why_none() -> str:
    """Return what is wrong if systemd has handed over sockets to somebody else; else ""."""
    pid = others_pid()
    if not pid:
        return ""
    return f"the sockets of LISTEN_FDS are for process {pid}, this is {os.getpid()}: exec it there"
