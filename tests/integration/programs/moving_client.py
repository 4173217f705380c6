"""A client that calls without pause, and moves to the second server when the first one asks it to.

usage: moving_client.py URL NEXT_URL CALLS_BEHIND

It prints "busy" when it has had some answers. It ends when it has moved, and so many calls were
answered by the second server; then it prints how many calls were answered by each, and how many
have failed.
"""

import sys

from eventmux import EventMux
from rpcasync import Client

IN_FLIGHT = 5
BUSY = 20  # answers


class Connection:
    """One to a server: how many calls were made, answered and lost."""

    def __init__(self, mux, url, move):
        self.client = Client(mux, url)
        self.made = self.answered = self.failed = 0
        self.is_open = True
        self.count(self.client.call, "goaway", move)

    def count(self, call, *values):
        def done(*values, error=None):
            if error is None:
                self.answered += 1
            else:
                self.failed += 1

        self.made += 1
        call(*values, done)

    @property
    def under_way(self):
        return self.made - self.answered - self.failed

    def leave(self):
        """End the connection, if no answer is missing."""
        if self.is_open and not self.under_way:
            self.client.disconnect()
            self.is_open = False


def run(mux, url, next_url, calls_behind):
    """Return the connection to each server."""
    connections = []

    def move():
        connections.append(Connection(mux, next_url, lambda: None))

    connections.append(Connection(mux, url, move))
    is_busy = False
    while any(each.is_open for each in connections):
        current = connections[-1]
        has_moved = len(connections) == 2
        if has_moved:
            connections[0].leave()
        if has_moved and current.answered >= calls_behind:
            current.leave()
        elif not any(each.failed for each in connections):
            while current.under_way < IN_FLIGHT:
                current.count(current.client.call, "add_numbers", "n1", 2, "n2", 3)
        event = mux.mux()
        for each in tuple(connections):
            event = each.client.io(event)
        if not is_busy and current.answered >= BUSY:
            is_busy = True
            print("busy", flush=True)
        if any(each.failed for each in connections) and not any(x.under_way for x in connections):
            break
    return connections


if __name__ == "__main__":
    with EventMux() as mux:
        connections = run(mux, sys.argv[1], sys.argv[2], int(sys.argv[3]))
        answered = [each.answered for each in connections]
        print(*answered, sum(each.failed + each.under_way for each in connections))
