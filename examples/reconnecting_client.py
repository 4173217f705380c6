"""Ask a server once more each second, in a loop, and go on when it was started anew.

usage: python reconnecting_client.py [URL ...]
"""

import sys

from eventmux import EventMux
from rpcasync import Backoff, Client

urls = sys.argv[1:] or ["tcp://127.0.0.1:7007"]
mux = EventMux()
rpc = Client(mux, urls, timeout=10, reconnect=Backoff(0.1, 30), retry="idempotent")
n = 0


def ask():
    rpc.add_numbers(answer, n1=n, n2=1)


def answer(sum=None, error=None):
    global n
    print(error or f"{n} + 1 = {sum}", flush=True)
    n += 1
    mux.timer(1, ask)


ask()
for event in mux:
    event = rpc.io(event)
    if event is not None and event.type == "timer":
        event.data()
