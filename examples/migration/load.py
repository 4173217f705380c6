"""Calls what only reads, for each part and more than once, as a day's clients would.

usage: python load.py URL [ROUNDS]
"""

import sys

import rpcasync

url, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
answers = 0
with rpcasync.connect(url, timeout=10) as rpc:
    for count in range(1, rounds + 1):
        numbers = [int(number) for number in rpc.stock()["stock"]]
        replies = [rpc.search("chain"), rpc.weigh(numbers=numbers)]
        for number in numbers:
            replies.append(rpc.part(number=number))
            replies.append(rpc.price(number=number, count=count))
            replies.append(rpc.surplus(number=number))
        answers += 1 + len(replies)
print(f"{answers} answers")
