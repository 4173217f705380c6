"""Print a file and what is added to it; or what comes on stdin, or from a FIFO, until it ends.

usage: python tail.py [FILE]

A file can always be read from, so nothing can wait for it to grow: a timer looks again.
"""

import os
import stat
import sys
from contextlib import suppress

from eventmux import EventMux

INTERVAL = 0.1  # seconds


def show(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def follow(mux, file):
    """Show what is new in a file each time that the timer is due."""
    mux.timer(INTERVAL, file, repeat=True)
    show(file.read())
    for event in mux:
        if event.type == "timer":
            if os.fstat(file.fileno()).st_size < file.tell():
                print("the file was cut", file=sys.stderr, flush=True)
                file.seek(0)
            show(file.read())


def copy(mux, file):
    """Show what comes through a pipe, a FIFO or a terminal."""
    mux.add(file)
    for event in mux:
        if event.type == "read":
            show(event.data)
        elif event.type == "error":
            raise event.exception or OSError(event.errno, event.error)


def open_file(path):
    # Opening a FIFO would wait for somebody who writes to it.
    return open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)


name = sys.argv[1] if len(sys.argv) > 1 else "stdin"
try:
    with EventMux() as mux, suppress(KeyboardInterrupt):
        file = open_file(name) if len(sys.argv) > 1 else sys.stdin
        if file is None:
            sys.exit("stdin is closed")
        if len(sys.argv) > 1 and stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            follow(mux, file)
        else:
            copy(mux, file)
except BrokenPipeError:  # nobody reads what we print; nor is the rest to be flushed at the end
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
except OSError as error:
    sys.exit(f"{name}: {error.strerror}")
