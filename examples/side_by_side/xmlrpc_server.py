"""A total that grows, and can be asked for: by xmlrpc.

usage: python xmlrpc_server.py          prints the URL for clients
"""

from xmlrpc.server import SimpleXMLRPCServer

total = 0.0


def add(amount):
    global total
    if amount < 0:
        raise ValueError("amount must not be negative")
    total += amount
    return total


def get_total():  # a client asks again and again: there are no callbacks
    return total


with SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False) as server:
    server.register_function(add)
    server.register_function(get_total)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
