"""A server that logs a line of JSON for each call, and for whatever goes wrong.

usage: python json_log.py -u URL
"""

import json
import logging
import sys
import time

from eventmux import EventMux, Peer
from rpcasync import Caller, CallRecord, Server, init_clients

PLAIN = vars(logging.makeLogRecord({})).keys() | {"message", "asctime"}
access = logging.getLogger("access")


class JSONFormatter(logging.Formatter):
    """Writes all that a record has: the usual things, and whatever it was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in PLAIN}
        if record.exc_info:
            line["traceback"] = record.exc_text or self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def name_of(peer: Peer) -> str:
    """Return who has called, as the log of rpcasync names him."""
    if isinstance(peer.address, tuple):
        return f"{peer.address[0]}:{peer.address[1]}"
    return "" if peer.credentials is None else f"uid {peer.credentials.uid}"


def log_call(record: CallRecord) -> None:
    name = record.procedure[:60]  # what a client sends may be long
    fields = {
        "peer": name_of(record.peer),
        "procedure": name,
        "call": record.id,
        "outcome": record.outcome,
        "ms": round(record.seconds * 1000, 3),
        "wait_ms": round(record.wait * 1000, 3),
        "received": record.received,
        "sent": record.sent,
    }
    access.info("%s %s", name, record.outcome, extra=fields)


def rpc_divide(caller: Caller, a: float, b: float) -> None:
    rpc.return_(caller, quotient=a / b)


handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(JSONFormatter())
logging.basicConfig(level=logging.INFO, handlers=[handler])
mux = EventMux()
rpc = Server(mux, on_call=log_call, on_exception="answer")
init_clients(rpc)
while rpc.has_clients():
    rpc.io(mux.mux())
