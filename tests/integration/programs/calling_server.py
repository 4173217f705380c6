"""A server that calls what it is given, for the tests of what the command line shows of it."""

from eventmux import EventMux
from rpcasync import Coderef, Server, init_clients

waiting = []  # callers that are answered when another calls `go`
updates = []  # what subscribers gave


def rpc_count(caller, to: int, progress: Coderef):
    for number in range(1, to + 1):
        progress(done=number, total=to)
    rpc.return_(caller, counted=to)


def rpc_count_and_wait(caller, to: int, progress: Coderef):
    progress(1, to)
    waiting.append(caller)


def rpc_tell(caller, callback: Coderef, *values):
    callback(*values)
    rpc.return_(caller)


def rpc_wait(caller):
    waiting.append(caller)


def rpc_go(caller):
    for other in waiting:
        rpc.return_(other, gone=1)
    rpc.return_(caller, count=len(waiting))
    waiting.clear()


def rpc_subscribe(caller, update: Coderef):
    updates.append(update)
    rpc.return_(caller, subscribed=len(updates))


def rpc_publish(caller, **news):
    for update in updates:
        update(**news)
    rpc.return_(caller)


def rpc_release(caller):
    updates.clear()
    rpc.return_(caller)


def rpc_fetch(caller, body: str):
    rpc.return_(caller, type="text/plain", body=body)


def rpc_people(caller):
    people = [{"id": 1, "name": "Ann", "home": "x" * 100}, {"id": 22, "name": "Bob", "home": ""}]
    rpc.return_(caller, people=people, count=2)


def rpc_scale(caller, n: int, by: float = 1.5):
    """Multiply a number.

    By one and a half, unless told.
    """
    rpc.return_(caller, n=n * by)


mux = EventMux()
rpc = Server(mux)
init_clients(rpc)
while rpc.has_clients():
    rpc.io(mux.mux())
