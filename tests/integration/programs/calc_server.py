"""The server that the integration tests call, from Perl, from JSON and from Python."""

import os
import sys

from eventmux import EventMux
from rpcasync import Fault, Server, init_clients

parked = []


def rpc_add_numbers(caller, n1: int, n2: int):
    rpc.return_(caller, sum=n1 + n2)


def rpc_add_floats(caller, n1: float, n2: float):
    rpc.return_(caller, sum=n1 + n2)


def rpc_sum(caller, *numbers: float):
    rpc.return_(caller, sum(int(n) if n.is_integer() else n for n in numbers))


def rpc_echo(caller, **args):
    rpc.return_(caller, **args)


def rpc_refuse(caller, why: str):
    raise Fault(why)


def rpc_explode(caller):
    raise RuntimeError("on purpose")


def rpc_forget(caller):
    pass


def rpc_park(caller):
    parked.append(caller)


def rpc_parked(caller):
    rpc.return_(caller, count=len(parked))


def rpc_release(caller):
    for other in reversed(parked):
        rpc.return_(other, released=other.id)
    parked.clear()
    rpc.return_(caller, released="all")


def rpc_fill(caller, size: int):
    rpc.return_(caller, filling="x" * size)


def rpc_unsendable(caller):
    rpc.return_(caller, value=object())


def rpc_whoami(caller):
    rpc.return_(caller, pid=os.getpid(), argv=sys.argv[1:])


def rpc_stop(caller):
    rpc.return_(caller, stopping=1)
    rpc.close_listeners()


mux = EventMux()
rpc = Server(mux)
init_clients(rpc)
while rpc.has_clients():
    rpc.io(mux.mux())
