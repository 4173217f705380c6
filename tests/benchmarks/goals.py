"""What we want to reach: data, and nothing else. `run.py` shows at the terminal what is met.

Goals are ratios: ours over the peer's, calls per second, median of the rounds. They come from
measurements with a prototype, which lay above them.
"""

from __future__ import annotations

from dataclasses import dataclass

COLUMNS = ("one", "100", "1000", "50x10", "echo")


@dataclass(frozen=True, slots=True)
class Goal:
    """How many times as fast as a peer we want to be, in each column; None: no goal there."""

    ours: str
    ratios: tuple[float | None, ...]

    def of(self, column: str) -> float | None:
        """Return the goal of a column."""
        return self.ratios[COLUMNS.index(column)]


# Ahead of each of the libraries in every column, and pipelined by three times.
_LIBRARY = Goal("ours-json", (1.0, 3.0, 3.0, 3.0, 1.0))

CALLS = [
    ("asyncio", Goal("ours-json", (2.0, 1.8, 2.2, 2.5, 1.5))),
    ("streams", Goal("ours-aio", (0.95, 1.0, 1.0, 1.0, 1.0))),
    ("asyncio-64k", Goal("ours-json", (1.2, 1.8, 2.2, 2.5, None))),
    ("uvloop", Goal("ours-json", (1.0, 1.7, 2.0, 2.5, None))),
    ("selectors", Goal("ours-json", (0.8, 0.75, 0.8, 0.75, None))),
    *[(peer, _LIBRARY) for peer in ("pyro5", "rpyc", "aiorpcx", "grpc", "xmlrpc", "jsonrpc")],
    # One call at a time is what a client that waits is for; those of XML-RPC under way are a batch.
    ("xmlrpc", Goal("ours-blocking", (3.0, None, None, None, 1.5))),
    ("zerorpc", _LIBRARY),
    # AMP copies long text into its messages, as our Storable does, and JSON cannot.
    ("amp", Goal("ours-json", (1.0, 3.0, 3.0, 3.0, None))),
    ("amp", Goal("ours-storable", (1.0, 3.0, 3.0, 3.0, 1.0))),
]

PERL = Goal("ours-storable", (1.7, 3.0, 3.0, 4.0, 1.0))
# Perl was measured once, on a machine of this kind, beside both of these: RPC::Async 1.05 and
# IO::EventMux 2.02, Perl 5.36, calls per second over theirs.
PERL_OVER = {
    "asyncio": (1.36, 0.52, 0.68, 0.60, 3.25),
    "selectors": (0.41, 0.26, 0.22, 0.12, 2.85),
}

# eventmux over others, messages per second, with 1, 100 and 1,000 connections.
ECHO = {"selectors": 0.9, "asyncio": 1.0, "streams": 1.0, "trio": 1.0, "gevent": 1.0}

MEMORY = {"eventmux": 1024, "rpcasync": 2048}  # bytes for each idle connection, at most
GROWTH = 1.2  # cost of an event among the most idle connections over that among the fewest
STORABLE = 1.3  # time of Storable over that of json, at most, for one packet
LINEAR = 1.5  # time per byte of a long stream over that of a short one, at most
