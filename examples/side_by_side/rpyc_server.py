import rpyc
from rpyc.utils.server import ThreadedServer


class Totals(rpyc.Service):
    total = 0.0
    followers = []

    def exposed_add(self, amount):
        if amount < 0:
            raise ValueError("amount must not be negative")
        Totals.total += amount
        for show in Totals.followers:
            show(Totals.total)
        return Totals.total

    def exposed_follow(self, callback):
        Totals.followers.append(callback)


server = ThreadedServer(Totals, hostname="127.0.0.1", port=0)
print(server.port, flush=True)
server.start()
