"""Run a command, mark each line that it prints, and end with its exit status.

usage: python exec_wait.py COMMAND [ARGUMENT ...]

What comes on stdin goes to the command.
"""

import os
import sys
from subprocess import PIPE, Popen

from eventmux import Child, Closed, Closing, EventMux, Read, Sent
from eventmux.buffers import Split

if len(sys.argv) < 2:
    sys.exit(__doc__)
if sys.stdin is None:
    sys.exit("stdin is closed")
try:
    process = Popen(sys.argv[1:], stdin=PIPE, stdout=PIPE, stderr=PIPE, bufsize=0)  # noqa: S603
except OSError as error:
    sys.exit(f"{sys.argv[1]}: {error.strerror}")
assert process.stdin and process.stdout and process.stderr  # they are pipes

try:
    with EventMux() as mux:
        mux.child(process)
        mux.add(process.stdout, buffered=Split(), meta="out")
        mux.add(process.stderr, buffered=Split(), meta="err")
        mux.add(process.stdin)
        mux.add(sys.stdin)
        # A command may end while a child of its own still prints, or close its output and live on.
        waiting_for = {process.stdout, process.stderr, process.pid}
        while waiting_for:
            match mux.mux():
                case Read(fh, data) if fh is sys.stdin:
                    if mux.send(process.stdin, data):
                        mux.want_read(sys.stdin, False)  # the command reads more slowly than we do
                case Sent(fh) if sys.stdin in mux.handles():
                    mux.want_read(sys.stdin, True)
                case Closing(fh) if fh is sys.stdin:
                    mux.close(process.stdin)
                case Closed(fh) if fh is process.stdin and sys.stdin in mux.handles():
                    mux.remove(sys.stdin)  # the command does not want more
                case Read(fh, data):
                    print(f"{mux.meta(fh)}: {data.decode(errors='replace')}", flush=True)
                case Closed(fh):
                    waiting_for.discard(fh)
                case Child(pid=pid):
                    waiting_for.discard(pid)
    print("exit status", process.returncode, flush=True)
except KeyboardInterrupt:
    sys.exit(130)
except BrokenPipeError:  # nobody reads what we print; nor is the rest to be flushed at the end
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)
sys.exit(process.returncode if process.returncode >= 0 else 128 - process.returncode)
