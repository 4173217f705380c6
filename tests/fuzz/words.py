"""Words that mean something to the servers and clients that are fuzzed."""

from __future__ import annotations

__all__ = ["CODEREF", "FORGED", "KEYS", "PROCEDURES", "WORDS"]

CODEREF = "RPC::Async::Coderef"
FORGED = "\x1b[31m\nERROR rpcasync: forged"
"""Text that must not reach a log as it is."""

PROCEDURES = ["add", "echo", "fields", "typed", "keep", "let_go", "follow", "fails", "fault", "big"]
"""What the server has: see `procedures.py`."""

KEYS = ["n1", "n2", "values", "callback", "text", "size", "defs", "caller", "self", "id", "error"]
"""Names of arguments."""

WORDS = [*PROCEDURES, "methods", "rpc_add", "__init__", "", "x" * 300, "\xe9", "\u263a", FORGED]
"""What may stand in the place of a procedure's name."""
