"""A server whose health and stats are none, or would write on a terminal and break lines."""

from typing import Any

from eventmux import EventMux
from rpcasync import Caller, Server, init_clients

EVIL = '\x1b[31m\nrpcasync_up{x="y"} 1\r\u202e"\\'


def rpc_health(caller: Caller) -> None:
    rpc.return_(caller, status=EVIL)


def rpc_stats(caller: Caller) -> None:
    about: dict[str, Any] = {
        "calls": 3,
        "errors": "many",
        "p50": float("nan"),
        "outcomes": {EVIL: 3, "answered": -1},
        "counts": [1, 2, 3],
        "seconds": EVIL,
    }
    rpc.return_(
        caller,
        status=EVIL,
        uptime=EVIL,
        clients=1,
        running=2**70,
        calls={EVIL: 1},
        bounds=[0.1, 0.2],
        procedures={EVIL: about, EVIL * 100: {**about, "counts": []}, "none": 5},
    )


mux = EventMux()
rpc = Server(mux)
init_clients(rpc)
while rpc.has_clients():
    rpc.io(mux.mux())
