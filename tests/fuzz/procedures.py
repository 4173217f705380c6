"""A program's procedures, for the server that is fuzzed: they answer, keep, fail and call back."""

from __future__ import annotations

from rpcasync import Coderef, Fault, Server

__all__ = ["Procedures"]


class Procedures:
    """What a program has, and what it keeps of its clients."""

    def __init__(self) -> None:
        self.rpc: Server
        self.kept: list[object] = []
        self.callbacks: list[Coderef] = []

    def rpc_add(self, caller, n1: int, n2: int):
        self.rpc.return_(caller, sum=n1 + n2)

    def rpc_echo(self, caller, *values):
        self.rpc.return_(caller, *values)

    def rpc_fields(self, caller, /, **fields):
        self.rpc.return_(caller, **fields)

    def rpc_typed(
        self,
        caller,
        values: list[int],
        size: float = 1,
        text: bytes | dict[str, bool] | None = None,
    ):
        self.rpc.return_(caller, len(values))

    def rpc_keep(self, caller, *values):
        self.kept.append(caller)

    def rpc_let_go(self, caller):
        kept, self.kept = self.kept, []
        for each in [*kept, caller]:
            self.rpc.return_(each, "x" * 1000)

    def rpc_follow(self, caller, callback: Coderef, *more):
        self.callbacks.append(callback)
        self.rpc.return_(caller)
        for each in self.callbacks[-20:]:
            if each.alive:
                each("news", more)

    def rpc_fails(self, caller, *values):
        raise ValueError(f"cannot work with {values[0]}" if values else "cannot work")

    def rpc_fault(self, caller, text: str = "a fault"):
        raise Fault(text)

    def rpc_big(self, caller):
        self.rpc.return_(caller, "x" * 50_000)
