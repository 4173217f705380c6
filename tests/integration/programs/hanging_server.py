"""A server that hangs in a procedure, deaf to SIGTERM, and is to end with its parent.

usage: hanging_server.py [-d]     with -d SIGTERM ends it as it ends any program
"""

import os
import signal
import sys
import time

from eventmux import EventMux
from rpcasync import Server, init_clients
from rpcasync.children import parent

parent._GRACE = 0.1


def rpc_report(caller):
    rpc.return_(caller, pid=os.getpid())


def rpc_hang(_caller, **_args):
    signal.signal(signal.SIGTERM, signal.SIG_DFL if sys.argv[1:] else signal.SIG_IGN)
    print("hangs", flush=True)
    while True:
        time.sleep(100)


rpc_add_numbers = rpc_hang

mux = EventMux()
rpc = Server(mux)
init_clients(rpc)
while rpc.has_clients():
    rpc.io(mux.mux())
