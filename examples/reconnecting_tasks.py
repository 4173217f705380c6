"""Ask a server once more each second, from two tasks, and go on when it was started anew.

usage: python reconnecting_tasks.py [URL ...]
"""

import asyncio
import sys

import rpcasync.aio
from rpcasync import Backoff


async def count(rpc, n):
    while True:
        reply = await rpc.add_numbers(n1=n, n2=1)
        print(f"{n} + 1 = {reply['sum']}", flush=True)
        n += 1
        await asyncio.sleep(1)


async def main(*urls):
    backoff = Backoff(0.1, 30)
    async with rpcasync.aio.connect([*urls], reconnect=backoff, retry="idempotent") as rpc:
        await asyncio.gather(count(rpc, 0), count(rpc, 1000))


asyncio.run(main(*(sys.argv[1:] or ["tcp://127.0.0.1:7007"])))
