"""Long messages do not cost the kernel's pages each time. In a process of its own: what an
allocator does depends on all that was before."""

import platform
import subprocess
import sys

import pytest

MESSAGES = 100
PROGRAM = f"""
import resource, socket
from eventmux import EventMux
from eventmux.buffers import Size

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

ours, theirs = socket.socketpair()
mux = EventMux()
mux.add(ours, buffered=Size("!I"))
theirs.setblocking(False)
packet = (100_000).to_bytes(4, "big") + b"x" * 100_000

def talk():
    sent = 0
    while True:
        if sent < len(packet):
            sent += theirs.send(packet[sent:])
        event = mux.mux()
        if event.type == "read":
            copies = [event.data + bytes([number]) for number in range(4)]
            assert len(copies[3]) == 100_001
            return

for _ in range(10):
    talk()
before = faults()
for _ in range({MESSAGES}):
    talk()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators do otherwise")
def test_long_messages_do_not_get_their_memory_anew_each_time():
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True
    )
    assert int(run.stdout) < 10 * MESSAGES  # page faults; they were 65 for each
