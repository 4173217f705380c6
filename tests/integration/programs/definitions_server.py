"""A server with definitions of every kind, for the tests of reflection."""

from eventmux import EventMux
from rpcasync import Server, init_clients

SHARED = {"uid|gid|euid|egid": "int:pos"}


def def_add_numbers(caller, is_in):
    return {"n1": "int", "n2": "int"} if is_in else {"sum": "int"}


def rpc_add_numbers(caller, n1: int, n2: int):
    rpc.return_(caller, sum=n1 + n2)


def def_get_id(caller, is_in):
    return {} if is_in else SHARED


def rpc_get_id(caller):
    rpc.return_(caller, uid=1, gid=2, euid=3, egid=4)


def def_callback(caller, is_in):
    return {"calls_01": "int", "callback_02": "sub"} if is_in else {}


def rpc_callback(caller, calls, callback):
    rpc.return_(caller)


def_notes = {
    "in": {"text|author": "str", "ok_1": "bool"},
    "out": {"items|list": [{"size": "int64", "ratio": "double", "raw": "bin", "what": ""}]},
}


def rpc_notes(caller, **args):
    rpc.return_(caller)


def def_who(caller, is_in):
    return {caller.procedure: "latin1"}


def rpc_who(caller):
    rpc.return_(caller)


def def_broken(caller, is_in):
    raise RuntimeError("cannot tell")


def rpc_broken(caller, name: str):
    rpc.return_(caller)


def rpc_sum(caller, *numbers: int):
    """Add up numbers.

    Any number of them.
    """
    rpc.return_(caller, sum(numbers))


def rpc_scale(caller, point: dict[str, float], by: float = 2.0, *, tags: list[bytes] | None = None):
    rpc.return_(caller)


def rpc_echo(caller, **args):
    rpc.return_(caller, **args)


mux = EventMux()
rpc = Server(mux)
init_clients(rpc)
while rpc.has_clients():
    rpc.io(mux.mux())
