"""Ask a server once more each second, in a loop, and connect again when it has gone.

usage: python reconnecting_client.py [URL]
"""

import random
import sys

from eventmux import EventMux
from rpcasync import Client, Disconnected

LEAST, MOST = 0.1, 30.0  # seconds to wait

url = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7007"
mux = EventMux()
rpc = Client(mux, url, timeout=10)
delay = LEAST
n = 0


def connect_again():
    global rpc
    rpc = Client(mux, url, timeout=10)
    ask()


def ask():
    rpc.add_numbers(answer, n1=n, n2=1)


def answer(sum=None, error=None):
    global delay, n
    if isinstance(error, Disconnected):
        print(error, flush=True)
        mux.timer(delay * random.uniform(0.5, 1), connect_again)  # and then the same call again
        delay = min(2 * delay, MOST)
        return
    print(error or f"{n} + 1 = {sum}", flush=True)
    delay = LEAST
    n += 1
    mux.timer(1, ask)


ask()
for event in mux:
    event = rpc.io(event)
    if event is not None and event.type == "timer":
        event.data()
