"""The procedures of a server as methods; made by `rpcasync stub`, and best made anew.

    with rpcasync.connect(url) as rpc:
        client = Client(rpc)

An answer that is not what the server has told of it raises ArgumentError. What may be
left out is left out where it is None.
"""

from __future__ import annotations

from typing import TypedDict

import rpcasync


class RateAnswer(TypedDict):
    stars: float


class Client:
    """Calls the procedures of a server, and waits for each answer."""

    def __init__(self, rpc: rpcasync.BlockingClient) -> None:
        """Make the calls by a client; `rpcasync.connect()` gives one."""
        self.rpc = rpc

    def add(self, /, *values: object, **fields: object) -> rpcasync.Reply:
        return self.rpc.call("add", *values, **fields)

    def count(self, /, *values: object, **fields: object) -> rpcasync.Reply:
        return self.rpc.call("count", *values, **fields)

    def find(self, /, *values: object, **fields: object) -> rpcasync.Reply:
        return self.rpc.call("find", *values, **fields)

    def follow(self, /, *values: object, **fields: object) -> rpcasync.Reply:
        return self.rpc.call("follow", *values, **fields)

    def import_(self, /, *values: object, **fields: object) -> rpcasync.Reply:
        """The procedure is "import"."""
        return self.rpc.call("import", *values, **fields)

    def next(self, /, *values: object, **fields: object) -> rpcasync.Reply:
        return self.rpc.call("next", *values, **fields)

    def rate(self, *, number: int, stars: float) -> RateAnswer:
        reply = self.rpc.call("rate", number=number, stars=stars)
        return reply.to(RateAnswer)
