"""Follow the total of rpcasync_server.py, and add to it.

usage: python rpcasync_client.py URL
"""

import sys

import rpcasync


def show(total):
    print("the total is", total)


with rpcasync.connect(sys.argv[1]) as server:
    server.follow(callback=show)
    print("added:", server.add(amount=1.5)["total"])
    try:
        server.add(amount=-1)
    except rpcasync.RemoteError as error:
        print("refused:", error)
