"""Ask a server once more each second, and go on when it was started anew.

usage: python reconnecting_script.py [URL ...]
"""

import sys
import time

import rpcasync
from rpcasync import Backoff

urls = sys.argv[1:] or ["tcp://127.0.0.1:7007"]
backoff = Backoff(0.1, 30)

with rpcasync.connect(urls, timeout=None, reconnect=backoff, retry="idempotent") as rpc:
    for n in range(1_000_000):
        print(n, "+ 1 =", rpc.add_numbers(n1=n, n2=1)["sum"], flush=True)
        time.sleep(1)
