import sys

from eventmux import EventMux
from rpcasync import Client


def show(sum):
    print("2 + 3 =", sum)


mux = EventMux()
rpc = Client(mux, sys.argv[1])
rpc.add_numbers(show, n1=2, n2=3)

while rpc.has_requests():
    rpc.io(mux.mux())
rpc.disconnect()
