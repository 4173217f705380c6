import sys

from eventmux import EventMux
from rpcasync import Client


def show(sum):
    print("2 + 3 =", sum)


url = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7007"
mux = EventMux()
rpc = Client(mux, url)
rpc.add_numbers(show, n1=2, n2=3)

while rpc.has_requests():
    rpc.io(mux.mux())
rpc.disconnect()
