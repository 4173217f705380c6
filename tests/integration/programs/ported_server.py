"""A port of some procedures of perl/rpc_server.pl, with a mistake or two."""

from eventmux import EventMux
from rpcasync import Fault, Server, init_clients


def rpc_add_numbers(caller, n1: float, n2: float):
    rpc.return_(caller, sum=n1 + n2)


def rpc_sum(caller, *numbers: float):
    rpc.return_(caller, sum(numbers))


def rpc_echo(caller, *values):
    rpc.return_(caller, *values)


def rpc_values(caller):
    """Answer what Perl's does, but for one number, one key, a bool, and the objects."""
    shared = [1, 2]
    rpc.return_(
        caller,
        undef=None,
        true=True,
        float=0.1,
        big=2**40,
        integer="-5",
        latin1="caf\xe9",
        text="\u263a",
        list=[1, ["3"]],
        hash={"a": {"c": 1}},
        shared=[shared, [1, 2]],
        scalar_refs=None,
        object={"x": 1},
        pattern="a+b",
    )


def rpc_refuse(caller, why: str):
    raise Fault(why)


def rpc_explode(caller):
    rpc.return_(caller, "fine")


def rpc_garbage(caller):
    rpc.return_(caller, "fine")


mux = EventMux()
rpc = Server(mux)
init_clients(rpc)

while rpc.has_clients():
    rpc.io(mux.mux())
