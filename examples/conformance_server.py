"""The test server of the Perl original, carried over: for whoever ports a server of their own.

usage: rpcasync listen -u tcp://127.0.0.1:7007 examples/conformance_server.py
       rpcasync call tcp://127.0.0.1:7007 add_numbers n1=2 n2=3
       rpcasync methods --defs python://examples/conformance_server.py

Perl                                            here
my ($caller, %args) = @_                        def rpc_x(caller, n1: int, n2: int) or **args
$rpc->return($caller, sum => $sum)              rpc.return_(caller, sum=sum)
${$args{callback}{key}[0]}                      callback["key"][0].value
$callback->call($n)                             callback(n)
sub def_x { $_[1] ? { in } : { out } }          def_x = {"in": {...}, "out": {...}}, or the same
                                                function: def def_x(caller, is_in)
$rpc->set_limits(Outstanding => 100)            rpc.set_limits(outstanding=100)
"""

import os
import sys

from eventmux import EventMux
from rpcasync import Server, init_clients

sleepers = []  # calls that are answered as soon as others have to wait for them
has_waited = False  # a call had to
hanging = []  # calls that never are: one that is forgotten is answered with an error


# Numbers arrive as text from Perl: the annotations convert them.
def_add_numbers = {"in": {"n1": "int", "n2": "int"}, "out": {"sum": "int"}}


def rpc_add_numbers(caller, n1: int, n2: int):
    rpc.return_(caller, sum=n1 + n2)


def_sum = {"in": {"numbers": ["int"]}, "out": {"sum": "int"}}


def rpc_sum(caller, numbers: list[int]):
    rpc.return_(caller, sum=sum(numbers))


def_get_id = {"in": {}, "out": {"uid|gid|euid|egid": "int:pos"}}


def rpc_get_id(caller):
    groups = "".join(f" {group}" for group in os.getgroups())
    rpc.return_(
        caller,
        uid=os.getuid(),
        gid=f"{os.getgid()}{groups}",  # Perl's $( and $) are text: the group, then all groups
        euid=os.geteuid(),
        egid=f"{os.getegid()}{groups}",
    )


def_callback = {"in": {"calls_01": "int", "callback_02": "sub"}, "out": {}}


def rpc_callback(caller, calls: int, callback):
    function = callback["key"][0].value  # what Perl writes as {key => [\$function]}
    rpc.return_(caller)
    for _ in range(calls):
        function(calls)


everything = {
    "array_of_int_01": ["int"],
    "array_of_string_02": ["string"],
    "array_of_bool_03": ["bool"],
    "array_of_any_04": [""],
    "array_of_hash_any_05": [{}],
    "array_of_hash_string_06": [{"keyname": "string"}],
    "complicated_07": {
        "results|persons": [{"name": "string", "age": "long", "largeint": "int64"}],
        "has_error": "bool",
        "error": {"errornum": "byte", "errorstr": "string"},
    },
}
def_complicated = {"in": everything, "out": everything}


def rpc_complicated(caller, **args):
    rpc.return_(caller, **args)


def rpc_hang(caller):
    hanging.append(caller)


def rpc_die(_caller):
    # It ends its client, and nothing else. Perl adds the file and the line by itself.
    raise RuntimeError(f"I DIE at {__file__} line {sys._getframe().f_lineno}.")


def rpc_sleep(caller, count: int = 0):
    # It sleeps until another call has to wait; from then on nobody does, and is told so.
    if has_waited:
        rpc.return_(caller, count=count, queued=1)
    else:
        sleepers.append((caller, count))


def wake_sleepers():
    for caller, count in sleepers:
        rpc.return_(caller, count=count, queued=0)
    sleepers.clear()


mux = EventMux()
rpc = Server(mux)
rpc.set_limits(outstanding=100)
init_clients(rpc)

while rpc.has_clients():
    if rpc.has_queued():
        has_waited = True
        wake_sleepers()
    rpc.io(mux.mux())
