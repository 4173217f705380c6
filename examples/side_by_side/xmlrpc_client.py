"""Add to the total of xmlrpc_server.py, and ask for it.

usage: python xmlrpc_client.py URL
"""

import sys
import xmlrpc.client

with xmlrpc.client.ServerProxy(sys.argv[1]) as server:
    print("added:", server.add(1.5))
    print("the total is", server.get_total())
    try:
        server.add(-1)
    except xmlrpc.client.Fault as error:
        print("refused:", error.faultString)
