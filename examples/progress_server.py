"""A long job that tells its client how far it is, while others are served.

usage: python examples/progress_client.py        starts this server itself
       rpcasync listen -u tcp://127.0.0.1:7007 examples/progress_server.py
"""

from collections import deque

from eventmux import EventMux
from rpcasync import Coderef, Disconnected, Server, init_clients

jobs = deque()


def rpc_count_primes(caller, upto: int, progress: Coderef):
    jobs.append(count_primes(caller, upto, progress))


def count_primes(caller, upto, progress, step=10_000):
    """Count step by step, and let others have their turn at each yield."""
    found = 0
    for start in range(0, upto, step):
        end = min(start + step, upto)
        found += sum(map(is_prime, range(start, end)))
        try:
            progress(done=end, total=upto)
        except Disconnected:
            return  # nobody wants to know any more
        yield
    rpc.return_(caller, found=found)  # and forgets `progress`, which tells the client so


def is_prime(number):
    return number > 1 and all(number % n for n in range(2, int(number**0.5) + 1))


mux = EventMux()
rpc = Server(mux)
init_clients(rpc)

while rpc.has_clients():
    rpc.io(mux.mux(0 if jobs else None))
    if jobs:
        job = jobs.popleft()
        if next(job, "over") != "over":
            jobs.append(job)
