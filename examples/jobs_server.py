"""A long job that tells how far it is, and can be stopped.

usage: rpcasync listen -u URL examples/jobs_server.py
"""

from dataclasses import dataclass

from eventmux import EventMux
from rpcasync import Caller, Coderef, Server, init_clients


@dataclass
class Job:
    number: int
    caller: Caller
    upto: int
    progress: Coderef
    done: int = 0


jobs = {}
numbers = iter(range(1, 2**31))


def rpc_count(caller, upto: int, progress: Coderef):
    number = next(numbers)
    jobs[number] = Job(number, caller, upto, progress)
    progress(job=number, done=0)
    mux.timer(0.01, number)  # not the job: `event` below would keep it, and its callback


def go_on(number):
    job = jobs.get(number)
    if job is None or not job.progress.alive:
        jobs.pop(number, None)  # stopped, or its client has gone
        return
    job.done += 1
    job.progress(job=number, done=job.done)
    if job.done < job.upto:
        mux.timer(0.01, number)
    else:
        rpc.return_(jobs.pop(number).caller, counted=job.done)


def rpc_stop(caller, job: int):
    stopped = jobs.pop(job, None)
    if stopped is not None:
        rpc.error(stopped.caller, f"stopped at {stopped.done}")
    rpc.return_(caller, stopped=stopped is not None)


mux = EventMux()
rpc = Server(mux)
init_clients(rpc)

while rpc.has_clients():
    event = rpc.io(mux.mux())
    if event is not None and event.type == "timer":
        go_on(event.data)
