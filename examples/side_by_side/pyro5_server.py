"""A total that grows, and is told to those who follow it: by Pyro5.

usage: python pyro5_server.py          prints the URI for clients
"""

import Pyro5.api


@Pyro5.api.expose
@Pyro5.api.behavior(instance_mode="single")
class Totals:
    def __init__(self):
        self.total = 0.0
        self.followers = []

    def add(self, amount):
        if amount < 0:
            raise ValueError("amount must not be negative")
        self.total += amount
        for proxy in self.followers:
            proxy._pyroClaimOwnership()  # each call may come in another thread
            proxy.show(self.total)
        return self.total

    def follow(self, callback):
        self.followers.append(callback)


daemon = Pyro5.api.Daemon(host="127.0.0.1", port=0)
print(daemon.register(Totals, "totals"), flush=True)
daemon.requestLoop()
