"""A server that answers nobody who has not shown a token, once for each connection.

usage: rpcasync listen -u URL token_server.py TOKEN_FILE
"""

import functools
import hmac
import logging
import sys
from pathlib import Path

from eventmux import EventMux
from rpcasync import Fault, Server, init_clients

log = logging.getLogger("token_server")


def rpc_login(caller, token: str):
    """Show the token, once; this connection may call all others from then on."""
    if "is_known" in caller.meta:  # else it could try as many as it likes
        raise Fault("a token was shown before; connect again to show another")
    is_known = hmac.compare_digest(token.encode("utf-8", "surrogatepass"), TOKEN)
    caller.meta["is_known"] = is_known  # gone with the connection
    if not is_known:
        log.warning("wrong token from %s", caller.peer.address or caller.peer.credentials)
        raise Fault("that is not the token")
    rpc.return_(caller)


def rpc_add_numbers(caller, n1: int, n2: int):
    rpc.return_(caller, sum=n1 + n2)


def behind_token(procedure):
    @functools.wraps(procedure)
    def checked(caller, *values, **named):
        if not caller.meta.get("is_known"):
            raise Fault("call login(token=...) first")
        return procedure(caller, *values, **named)

    return checked


if len(sys.argv) < 2:
    sys.exit(__doc__)
TOKEN = Path(sys.argv[1]).read_bytes().strip()
if len(TOKEN) < 32:
    sys.exit(f"{sys.argv[1]} has a token of {len(TOKEN)} bytes, must be 32 or more")
# All of them but one, so that none is forgotten.
procedures = {name: value for name, value in globals().items() if name.startswith("rpc_")}
guarded = {name: behind_token(procedure) for name, procedure in procedures.items()}
mux = EventMux()
rpc = Server(mux, {**guarded, "rpc_login": rpc_login})
init_clients(rpc)

while rpc.has_clients():
    rpc.io(mux.mux())
