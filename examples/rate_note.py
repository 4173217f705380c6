"""Rate the first note of a board, by its typed client.

usage: python rate_note.py URL
"""

import sys

from notes_client import Client

import rpcasync

with rpcasync.connect(sys.argv[1]) as rpc:
    notes = Client(rpc)
    notes.add(author="Ann", text="buy milk")
    stars = notes.rate(number=0, stars=4)["stars"]  # a float, for type checkers and in truth
    print(f"{stars:.1f} stars")
