"""Ask a server once more each second, and connect again when it has gone.

usage: python reconnecting_script.py [URL]
"""

import random
import sys
import time

import rpcasync

url = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7007"
rpc = None


def call(procedure, **values):
    """Call a procedure that may run twice, for as long as it takes."""
    global rpc
    delay = 0.1
    while True:
        try:
            if rpc is None or rpc.closed:
                rpc = rpcasync.connect(url, timeout=10)
                print("connected to", url, flush=True)
            return rpc.call(procedure, **values)
        except rpcasync.CallTimeout:
            raise  # the connection is there
        except OSError as error:  # it ended, or nobody listens
            print(error, flush=True)
            time.sleep(delay * random.uniform(0.5, 1))
            delay = min(2 * delay, 30)


for n in range(1_000_000):
    reply = call("add_numbers", n1=n, n2=1)
    print(n, "+ 1 =", reply["sum"], flush=True)
    time.sleep(1)
