"""Three workers behind HAProxy, on this machine: each is restarted under load, and one is added.

usage: python fleet.py [--clients N] [--max-age SECONDS]

It prints how many of the calls failed, and how many clients each worker had. All it starts and
writes is gone when it ends, also by Ctrl-C.
"""

import argparse
import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from eventmux import EventMux
from rpcasync import Backoff, Client

HERE = Path(__file__).resolve().parent
SERVER = HERE.parent / "add_server.py"
RPCASYNC = [sys.executable, "-m", "rpcasync"]
PATIENCE = 30  # seconds, for what takes one


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def start(command, log, **options):
    """Start a program in a session of its own: Ctrl-C is for us, who stop it then."""
    with log.open("ab") as file:
        return subprocess.Popen(  # noqa: S603
            command, stderr=file, start_new_session=True, **options
        )


class Worker:
    """A server process, as `rpcasync listen` starts it."""

    def __init__(self, number, folder, max_age):
        self.name = f"w{number}"
        self.log = Path(folder, "log")
        self.agent_port = free_port()
        self.command = [
            *(*RPCASYNC, "listen", "-u", f"unix://{folder}/{number}.sock"),
            *("--proxy", "require", "--trusted", "unix:"),
            *("--agent", f"tcp://127.0.0.1:{self.agent_port}"),
            *("--max-age", str(max_age)),
            str(SERVER),
        ]
        self.process = None

    def start(self):
        self.process = start(self.command, self.log)

    def is_ready(self):
        """True if its agent says so. HAProxy asks less often, and may not know that it was gone."""
        try:
            with socket.create_connection(("127.0.0.1", self.agent_port)) as sock:
                return sock.recv(100).startswith(b"up ready")
        except OSError:
            return False

    def drain(self):
        self.process.send_signal(signal.SIGTERM)

    def has_ended(self):
        return self.process.poll() is not None

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Balancer:
    """HAProxy, with the configuration beside this file."""

    def __init__(self, folder, workers):
        self.log = Path(folder, "log")
        self.stats = f"{folder}/stats"
        self.front = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = "tcp://{}:{}".format(*self.front.getsockname())
        self.environment = {
            **os.environ,
            "FLEET_BIND": f"fd@{self.front.fileno()}",
            "FLEET_DIR": folder,
            "FLEET_STATS": self.stats,
            **{f"FLEET_AGENT_{w.name[1:]}": str(w.agent_port) for w in workers},
        }
        self.start()

    def start(self, *options):
        command = ["haproxy", "-db", "-f", HERE / "haproxy.cfg", *options]
        fds = [self.front.fileno()]
        self.process = start(command, self.log, env=self.environment, pass_fds=fds)

    def rows(self):
        """Return what HAProxy knows of each worker, by name."""
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(self.stats)
            except OSError:  # it has just been started
                return {}
            sock.sendall(b"show stat rpc 4 -1\n")
            with sock.makefile("r") as file:
                return {row["svname"]: row for row in csv.DictReader(file)}

    def has(self, worker):
        """True if a worker is ready, and is sent new clients."""
        row = self.rows().get(worker.name)
        return worker.is_ready() and row is not None and row["status"] == "UP"

    def clients(self):
        """Return how many clients each worker has."""
        return {name: int(row["scur"]) for name, row in self.rows().items()}

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.front.close()


class Load:
    """Clients, each of which calls again as soon as it has its answer."""

    def __init__(self, mux, url, count):
        self.mux = mux
        self.calls = 0
        self.errors = []
        self.is_on = True
        self.clients = [Client(mux, url, reconnect=Backoff(0.05, 1)) for _ in range(count)]
        for client in self.clients:
            self.call(client)

    def call(self, client):
        def answered(sum=None, error=None):
            self.calls += 1
            if error is not None or sum != 5:
                self.errors.append(error or f"2 + 3 = {sum}")
            if self.is_on:
                self.call(client)

        client.add_numbers(answered, n1=2, n2=3)

    def go_on(self, is_over, what):
        """Go on until something is so, which is looked at some times in a second."""
        end = time.monotonic() + PATIENCE
        while not is_over():
            if time.monotonic() > end:
                raise TimeoutError(f"{what} takes more than {PATIENCE} seconds")
            self.mux.timer(0.05, self)
            while not self.is_timer(self.mux.mux()):
                pass

    def is_timer(self, event):
        """Give an event to the client that it is for; return whether it is the timer."""
        for client in self.clients:
            event = client.io(event)
        return event is not None and event.type == "timer" and event.data is self

    def end(self):
        """Wait for the last answers."""
        self.is_on = False
        self.go_on(lambda: not any(c.has_requests() for c in self.clients), "the last answer")

    def stop(self):
        self.is_on = False
        for client in self.clients:
            client.disconnect(0)
        for event in self.mux:  # what they have to do for that
            self.is_timer(event)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--max-age", type=float, default=3)
    options = parser.parse_args()
    if shutil.which("haproxy") is None:
        sys.exit("there is no haproxy: apt-get install haproxy")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet"))
        workers = [Worker(n, folder, options.max_age) for n in (1, 2, 3, 4)]
        for worker in workers:
            stack.callback(worker.stop)
        for worker in workers[:3]:
            worker.start()
        balancer = Balancer(folder, workers)
        stack.callback(balancer.stop)
        mux = stack.enter_context(EventMux())
        try:
            run(stack, mux, balancer, workers, options)
        except TimeoutError as error:
            sys.exit(f"{error}:\n{balancer.log.read_text()}")


def run(stack, mux, balancer, workers, options):
    first, added = workers[:3], workers[3]
    nobody = Load(mux, balancer.url, 0)
    nobody.go_on(lambda: all(map(balancer.has, first)), "the start")
    load = Load(mux, balancer.url, options.clients)
    stack.callback(load.stop)
    print(f"{options.clients} clients at {balancer.url}", flush=True)
    spread_again(load, balancer, first, "at first")
    for worker in first:
        worker.drain()
        load.go_on(worker.has_ended, f"the end of {worker.name}")
        worker.start()
        load.go_on(lambda w=worker: balancer.has(w), f"the start of {worker.name}")
        tell(f"{worker.name} restarted", balancer, load)
    spread_again(load, balancer, first)
    added.start()
    load.go_on(lambda: balancer.has(added), f"the start of {added.name}")
    tell(f"{added.name} added", balancer, load)
    spread_again(load, balancer, workers)
    load.end()
    print(f"{load.calls} calls, {len(load.errors)} failed")
    sys.exit(f"the first: {load.errors[0]}" if load.errors else 0)


def spread_again(load, balancer, workers, what=""):
    """Wait until each worker has at least half of its part of the clients."""
    began, least = time.monotonic(), len(load.clients) // (2 * len(workers))

    def is_even():
        clients = balancer.clients()
        return all(clients[worker.name] >= least for worker in workers)

    load.go_on(is_even, "to spread")
    tell(what or f"{time.monotonic() - began:.1f} s later", balancer, load)


def tell(what, balancer, load):
    spread = "   ".join(f"{name} {count:>2}" for name, count in balancer.clients().items())
    print(f"{what:14} {spread}   {len(load.errors)} failed", flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
