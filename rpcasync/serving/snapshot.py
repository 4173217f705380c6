"""What `stats` is answered with, where there is much to tell: it is kept for a moment.

To tell of a thousand procedures takes as long as a thousand calls. Whoever asks again and again,
in a loop say, would keep all others waiting. So he gets the same answer again, until so much time
has passed that to make the next one takes a part of the loop's time, and no more. With few
procedures, each answer is made anew.

This file does not know what is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rpcasync.wire.codecs import Codec
from rpcasync.wire.messages import Id
from rpcasync.wire.protocol import ServerProtocol

__all__ = ["Snapshot"]

_FEW = 50  # procedures
_EACH = 0.0003  # seconds for which an answer is kept, for each procedure, which takes 50 us


class Snapshot:
    """The last answer of one server.

    Args:
        mux: has the clock, if it is one of ours.
        make: returns the next answer.
    """

    __slots__ = ("_clock", "_end", "_make", "_payloads", "_values")

    def __init__(self, mux: object, make: Callable[[], dict[str, Any]]) -> None:
        self._clock: Callable[[], float] = getattr(mux, "clock", time.monotonic)
        self._make = make
        self._values: list[object] = []
        self._payloads: dict[Codec, bytes] = {}  # what it is in each codec that was asked for
        self._end: float | None = None  # when it is too old; None if none is kept

    def packet(self, protocol: ServerProtocol, id: Id) -> bytes:  # noqa: A002
        """Return the packet that answers a call.

        Raises:
            EncodeError: it is over the limit.
        """
        now = self._clock()
        if self._end is None or now >= self._end:
            stats = self._make()
            values = [each for pair in stats.items() for each in pair]
            count = len(stats["procedures"])
            if count <= _FEW:
                return protocol.result(id, values)
            # One line: should Ctrl-C come, all of it is old, or new
            self._values, self._payloads, self._end = values, {}, now + count * _EACH
        codec = protocol.codec
        payload = self._payloads.get(codec)
        if payload is not None:
            return protocol.relayed(id, payload, self._values)
        packet = protocol.result(id, self._values)
        self._payloads[codec] = packet[4:]  # without its length
        return packet
