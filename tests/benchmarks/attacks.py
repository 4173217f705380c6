"""What a client does that means no good: each attack by hand, on bare sockets.

An attack is a function that does one round of it, and is called again until the time is over: when
the server disconnects it, it comes again. None of it uses the packages, so that the same attack
meets any version of them. `siege.py` has the procedures that are called here.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["ATTACKS", "Attack", "Attacker", "frame"]

_LENGTH = struct.Struct("!I")
_PAUSE = 0.01  # seconds, when the server refuses us
_MILLION = 1_000_000
_PIECE = 262_144


def frame(payload: bytes) -> bytes:
    """Return the packet of a payload."""
    return _LENGTH.pack(4 + len(payload)) + payload


class Attacker:
    """The connections of one attack, and what it has sent.

    Args:
        port: of the server.
        seconds: for which it attacks.
    """

    def __init__(self, port: int, seconds: float) -> None:
        self._port = port
        self._end = time.monotonic() + seconds
        self._held: list[socket.socket] = []
        self._room = bytearray(_PIECE)
        self.sent = 0
        self.connections = 0

    def attack(self, once: Callable[[Attacker], None]) -> None:
        """Do it again and again."""
        while not self.is_over:
            try:
                once(self)
            except (ConnectionResetError, BrokenPipeError):  # disconnected: so it comes again
                pass
            except OSError:
                time.sleep(_PAUSE)
            for sock in self._held:
                sock.close()
            self._held.clear()

    @property
    def is_over(self) -> bool:
        """True when the time is over."""
        return time.monotonic() > self._end

    def connect(self) -> socket.socket:
        """Return a new connection; it is closed at the end of the round."""
        sock = socket.create_connection(("127.0.0.1", self._port), timeout=1)
        # A reset at the end: else tens of thousands of ports would wait, and there are no more.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.setblocking(False)
        self._held.append(sock)
        self.connections += 1
        return sock

    def send(self, sock: socket.socket, data: bytes, patience: float = 0.5) -> bool:
        """Send, and read nothing; return whether the server took all of it in time."""
        return self._move(sock, data, patience, answers=0, reads=False)

    def ask(self, sock: socket.socket, data: bytes, answers: int = 0) -> bool:
        """Send, and read what comes back, until so many answers are there or the time is over."""
        return self._move(sock, data, self._end - time.monotonic(), answers, reads=True)

    def _move(
        self, sock: socket.socket, data: bytes, patience: float, answers: int, reads: bool
    ) -> bool:
        end = min(self._end, time.monotonic() + patience)
        rest, heard = memoryview(data), bytearray()
        while rest or answers > 0:
            left = end - time.monotonic()
            if left <= 0:
                return False
            readable, writable, _ = select.select(
                [sock] if reads else [], [sock] if rest else [], [], left
            )
            if writable:
                size = sock.send(rest[:_PIECE])
                self.sent += size
                rest = rest[size:]
            if readable:
                size = sock.recv_into(self._room)
                if not size:
                    raise ConnectionResetError
                heard += memoryview(self._room)[:size]
                answers -= _take_frames(heard)
        return True

    def wait(self) -> None:
        """Hold what there is for a while, or until the time is over."""
        time.sleep(max(0.0, min(0.5, self._end - time.monotonic())))


def _take_frames(heard: bytearray) -> int:
    """Take whole packets off the front; return how many."""
    count = at = 0
    while len(heard) - at >= 4:
        (size,) = _LENGTH.unpack_from(heard, at)
        if size < 4 or len(heard) - at < size:
            break
        at += size
        count += 1
    del heard[:at]
    return count


# ---- what a packet may cost --------------------------------------------------------------


def _colliding() -> bytes:
    names = b"".join(b",%d,0" % ((2**61 - 1) * number) for number in range(12_000))
    return frame(b'[0,"add"%b]' % names)


def _small() -> bytes:
    return frame(b"\x05\x0b\x02" + _LENGTH.pack(2**20) + b"\x04\x05" * 2**20)


def _lists() -> bytes:
    return frame(b'[1,"add",%b]' % b",".join([b"[]"] * 700_000))


def _deep() -> bytes:
    return frame(b"\x05\x0b\x02\0\0\0\x01" + b"\x04" * _MILLION + b"\x05")


def _deep_lists() -> bytes:
    return frame(b"[" * _MILLION + b"]" * _MILLION)


def _shared() -> bytes:
    """Write an array that holds another one twice, which holds another one twice..."""
    parts = [b"\x04\x02\0\0\0\0"]
    for tag in range(3, 3 + 2 * 18, 2):  # the first one, behind id and name; a reference, an array
        parts.append(b"\x04\x02\0\0\0\x02" + (b"\0" + _LENGTH.pack(tag)) * 2)
    body = b"\x08\x81\x0a\x04echo" + b"".join(parts)
    return frame(b"\x05\x0b\x02" + _LENGTH.pack(2 + len(parts)) + body)


def _packets(*makers: Callable[[], bytes]) -> Callable[[Attacker], None]:
    """Send packets, one after the other, each on a connection of its own."""
    made: list[bytes] = []

    def once(attacker: Attacker) -> None:
        if not made:  # in the process that attacks, and in no other
            made.extend(maker() for maker in makers)
        for packet in made:
            with contextlib.suppress(ConnectionError):  # it is refused
                attacker.ask(attacker.connect(), packet, answers=1)

    return once


def _dribble(attacker: Attacker) -> None:
    """Send calls on many connections, one byte at a time."""
    packet = frame(b'[1,"add","n1",1,"n2",2]')
    socks = [attacker.connect() for _ in range(50)]
    for at in range(len(packet)):
        for sock in socks:
            attacker.send(sock, packet[at : at + 1])


def _garbage(attacker: Attacker) -> None:
    """Send what is no call, which ends the connection, with something for the log."""
    sock = attacker.connect()
    attacker.ask(sock, frame(b'[1,"\\u001b[31m\\nERROR: forged",}' + b"x" * 200), answers=1)


def _failing(attacker: Attacker) -> None:
    """Have a procedure fail, which ends the connection, with something for the log."""
    sock = attacker.connect()
    attacker.ask(sock, frame(b'[1,"fails","\\u001b[31m\\nERROR: forged%b"]' % (b"x" * 1000)), 1)


# ---- what all clients may cost together --------------------------------------------------


def _gone(attacker: Attacker) -> None:
    """Ask for 4,000 MB, and go without reading any."""
    attacker.send(attacker.connect(), frame(b'[1,"big"]') * 4000, patience=0.2)


def _unread(attacker: Attacker) -> None:
    """Ask for very much on many connections, and stay without reading any."""
    for _ in range(20):
        attacker.send(attacker.connect(), frame(b'[1,"big"]') * 1000, patience=0.05)
    attacker.wait()


def _kept(attacker: Attacker) -> None:
    """Have 1,500 calls kept, which are then answered with 1 MB each, and do not read."""
    attacker.send(attacker.connect(), frame(b'[1,"keep"]') * 1500)
    attacker.ask(attacker.connect(), frame(b'[1,"let_go"]'), answers=1)
    attacker.wait()


def _unfinished(attacker: Attacker) -> None:
    """Begin a packet of 16 MB on each of many connections, and never end it."""
    for _ in range(100):
        attacker.send(attacker.connect(), _LENGTH.pack(16 << 20) + bytes(15 << 20))
    attacker.wait()


def _pipelined(attacker: Attacker) -> None:
    """Make 8,000 calls at once that take a millisecond each."""
    attacker.ask(attacker.connect(), frame(b'[1,"ms"]') * 8000, answers=8000)


def _unknown(attacker: Attacker) -> None:
    """Call procedures that there are not, 10,000 at once."""
    attacker.ask(attacker.connect(), frame(b'[1,"nothing"]') * 10_000, answers=10_000)


def _subscriber(attacker: Attacker) -> None:
    """Subscribe, and do not read, while another client publishes."""
    for number in range(20):
        attacker.send(attacker.connect(), frame(b'[1,"follow","callback",%b]' % _callback(number)))
    attacker.ask(attacker.connect(), frame(b'[1,"publish","%b"]' % (b"x" * 100_000)) * 200, 200)


def _callbacks(attacker: Attacker) -> None:
    """Pass callbacks by the thousand, and read nothing."""
    sock = attacker.connect()
    for start in range(0, 20_000, 1000):
        many = b",".join(map(_callback, range(start, start + 1000)))
        if not attacker.send(sock, frame(b'[1,"count_values",%b]' % many)):
            return
    calls = b"".join(frame(b'[1,"follow","callback",%b]' % _callback(n)) for n in range(20_000))
    attacker.ask(attacker.connect(), calls, answers=20_000)


def _callback(number: int) -> bytes:
    return b'{"RPC::Async::Coderef":{"id":%d}}' % number


def _connections(attacker: Attacker) -> None:
    """Connect and disconnect."""
    for _ in range(20):
        attacker.connect()


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack, and what the server is told for it."""

    title: str
    once: Callable[[Attacker], None]
    outstanding: int = 0  # calls that may run at a time; 0 is no limit


ATTACKS = {
    "calm": Attack("nobody", Attacker.wait),
    "names": Attack("numbers as names, which collide", _packets(_colliding)),
    "small": Attack("a million references to nothing", _packets(_small)),
    "lists": Attack("700,000 empty lists", _packets(_lists)),
    "deep": Attack("nested a million times", _packets(_deep, _deep_lists)),
    "shared": Attack("a short packet that stands for much", _packets(_shared)),
    "dribble": Attack("one byte at a time, 50 connections", _dribble),
    "garbage": Attack("garbage, for the log", _garbage),
    "failing": Attack("procedures that fail, for the log", _failing),
    "gone": Attack("asks for 4,000 MB and goes", _gone),
    "unread": Attack("asks for 20,000 MB and does not read", _unread),
    "kept": Attack("kept calls, answered with 1,500 MB, not read", _kept),
    "unfinished": Attack("100 packets of 16 MB that do not end", _unfinished),
    "pipelined": Attack("8,000 calls of 1 ms at once", _pipelined),
    "waiting": Attack("the same, 10 outstanding", _pipelined, outstanding=10),
    "unknown": Attack("10,000 unknown procedures at once", _unknown),
    "subscriber": Attack("20 subscribers that do not read", _subscriber),
    "callbacks": Attack("callbacks by the thousand", _callbacks),
    "connections": Attack("connects and disconnects", _connections),
}
"""By name. The first is nobody's: what the others are compared with."""
