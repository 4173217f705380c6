"""A total that grows, and is told to those who follow it: by RPyC.

usage: python rpyc_server.py          prints the port for clients
"""

import rpyc
from rpyc.utils.server import ThreadedServer

total = 0.0
followers = []


class Totals(rpyc.Service):
    def exposed_add(self, amount):
        global total
        if amount < 0:
            raise ValueError("amount must not be negative")
        total += amount
        for show in followers:
            show(total)
        return total

    def exposed_follow(self, callback):
        followers.append(callback)


server = ThreadedServer(Totals, hostname="127.0.0.1", port=0)
print(server.port, flush=True)
server.start()
