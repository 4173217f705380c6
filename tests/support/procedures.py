"""The procedures that tests call: each way to answer, and each way not to.

A test that needs one more adds it to its object: `procedures.rpc_mine = lambda caller: ...`.
"""

from __future__ import annotations

from rpcasync import Coderef, Fault


class Procedures:
    """What a `Bench` serves, and what became of the calls.

    `ran` has the argument of each call that notes that it ran, `parked` the calls that are not
    answered yet, `kept` the arguments of `keep`: callbacks live until a test lets go of them.
    """

    def __init__(self):
        self.bench = None  # who answers: whoever serves them sets it
        self.ran = []
        self.parked = []
        self.most_parked = 0
        self.kept = []
        self.connection = None  # that of the last call of `keep` or `ignore`

    def last(self):
        """Return the only value of the last call that was kept, and forget the call."""
        (value,) = self.kept.pop()
        return value

    # Answers at once

    def rpc_add(self, caller, n1: int, n2: int):
        self.bench.rpc.return_(caller, sum=n1 + n2)

    def rpc_list(self, caller, *values):
        self.bench.rpc.return_(caller, *values)

    def rpc_both(self, caller):
        self.bench.rpc.return_(caller, 1, two=2)

    def rpc_note(self, caller, n, /):
        self.ran.append(n)
        self.bench.rpc.return_(caller, n)

    def rpc_big(self, caller, size: int, /):
        self.ran.append(size)
        self.bench.rpc.return_(caller, "x" * size)

    def rpc_turn(self, caller, n, /):
        self.ran.append(n)
        self.bench.rpc.return_(caller)
        self.bench.turn()
        self.ran.append(n)

    # Takes callbacks

    def rpc_keep(self, caller, *values):
        self.connection = caller._peer
        self.kept.append(values)
        self.bench.rpc.return_(caller, len(values))

    def rpc_ignore(self, caller, *values):
        self.connection = caller._peer
        self.bench.rpc.return_(caller)

    def rpc_count(self, caller, upto: int, progress: Coderef):
        for number in range(upto):
            progress(number, name="x")
        self.bench.rpc.return_(caller, "done")

    # Answers later, or never

    def rpc_park(self, caller, n=None, /):
        self.ran.append(n)
        self.parked.append(caller)
        self.most_parked = max(self.most_parked, len(self.parked))

    def rpc_answer_first(self, caller):
        self.bench.rpc.return_(self.parked.pop(0))
        self.bench.rpc.return_(caller)

    def rpc_forget(self, caller):
        pass

    # Fails

    def rpc_error(self, caller):
        self.bench.rpc.error(caller, "no")

    def rpc_fault(self, caller):
        raise Fault("not for you")

    def rpc_late_fault(self, caller):
        self.bench.rpc.return_(caller, 1)
        raise Fault("too late")

    def rpc_explode(self, caller, *values):
        raise RuntimeError("secret")

    def rpc_unsendable(self, caller):
        self.bench.rpc.return_(caller, object())

    def rpc_twice(self, caller):
        self.bench.rpc.return_(caller, 1)
        self.bench.rpc.return_(caller, 2)
