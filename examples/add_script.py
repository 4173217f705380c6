import sys

import rpcasync

url = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7007"

with rpcasync.connect(url) as rpc:
    print("2 + 3 =", rpc.add_numbers(n1=2, n2=3)["sum"])
