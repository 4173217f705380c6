"""Follow the total of pyro5_server.py, and add to it.

usage: python pyro5_client.py URI
"""

import sys
import threading

import Pyro5.api


class Show:
    @Pyro5.api.expose
    @Pyro5.api.callback
    def show(self, total):
        print("the total is", total)


with Pyro5.api.Daemon() as daemon, Pyro5.api.Proxy(sys.argv[1]) as server:
    show = Show()
    daemon.register(show)
    threading.Thread(target=daemon.requestLoop, daemon=True).start()  # a server of its own
    server.follow(show)
    print("added:", server.add(1.5))
    try:
        server.add(-1)
    except ValueError as error:
        print("refused:", error)
