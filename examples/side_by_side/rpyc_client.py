"""Follow the total of rpyc_server.py, and add to it.

usage: python rpyc_client.py PORT
"""

import sys

import rpyc


def show(total):
    print("the total is", total)


connection = rpyc.connect("127.0.0.1", int(sys.argv[1]))
connection.root.follow(show)
print("added:", connection.root.add(1.5))
try:
    connection.root.add(-1)
except ValueError as error:
    print("refused:", str(error).splitlines()[0])
connection.close()
