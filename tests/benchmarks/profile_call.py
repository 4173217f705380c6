"""What one call costs, step by step: microseconds in memory, and system calls on the wire.

    python tests/benchmarks/profile_call.py [--write-docs]

In memory there is no kernel and no waiting: a client and a server of ours exchange what 100 calls
of add_numbers take, through a mux that only collects what it is given to send. A step that cannot
be called alone is the difference between two that can, so the steps add up to the whole. The
system calls are those that strace counts, if it is there. `--write-docs` puts both into
docs/profile.md.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:1] = [str(_ROOT), str(_ROOT / "tests")]

# Found by the line above, installed or not.
from benchmarks.processes import Child, free_port, wait_for  # noqa: E402
from benchmarks.report import Table, machine, write_between  # noqa: E402
from eventmux import EventMux  # noqa: E402
from eventmux.events import Handle, Read  # noqa: E402
from rpcasync import Caller, Client, Server  # noqa: E402
from rpcasync.wire.codecs import Codec, get_codec  # noqa: E402
from rpcasync.wire.protocol import ClientProtocol, ServerProtocol  # noqa: E402

_CALLS = 100  # at a time
_REPEATS = 300
_REQUEST: list[object] = [4711, "add_numbers", "n1", 592, "n2", 143]
_REPLY: list[object] = [4711, "sum", 735]
_CODECS = ("json", "storable")
_COUNTED = 2000  # calls, for strace


class _MemoryMux(EventMux):
    """A mux that sends nothing: it keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []

    def send(self, fh: Handle, *data: bytes, later: bool = False) -> int:
        self.sent += data
        return 0

    def take(self) -> bytes:
        """Return what would have left in one write."""
        data, self.sent = b"".join(self.sent), []
        return data


class _Pair:
    """A client and a server that exchange bytes by hand."""

    def __init__(self, codec: str) -> None:
        self._socks = socket.socketpair()
        self.client_mux, self.server_mux = _MemoryMux(), _MemoryMux()
        self.client = Client(self.client_mux, self._socks[0], codec=codec)

        def rpc_add_numbers(caller: Caller, n1: int, n2: int) -> None:
            self.server.return_(caller, sum=n1 + n2)

        self.server = Server(self.server_mux, {"rpc_add_numbers": rpc_add_numbers})
        self.server.add_client(self._socks[1])
        self.answers = 0

    def call(self) -> None:
        """Make 100 calls."""
        client, answer = self.client, self._answer
        for _ in range(_CALLS):
            client.add_numbers(answer, n1=592, n2=143)

    def _answer(self, sum):  # type: ignore[no-untyped-def]
        assert sum == 735, sum
        self.answers += 1

    def serve(self, requests: bytes) -> None:
        """Take 100 requests, as one read brings them, and answer them."""
        self.server.io(Read(self._socks[1], requests))
        while len(self.server_mux.sent) < _CALLS:  # its turn was over: this process had to wait
            self.server.io(self.server_mux.mux(0))

    def answer(self, replies: bytes) -> None:
        """Take 100 replies, as one read brings them, and call the callbacks."""
        self.client.io(Read(self._socks[0], replies))
        while self.client.has_requests():  # its turn was over, as in `serve()`
            self.client.io(self.client_mux.mux(0))

    def close(self) -> None:
        """Let go of the sockets."""
        for sock in self._socks:
            sock.close()


class _Clock:
    """The least time that each step took, in us for a call."""

    def __init__(self) -> None:
        self.best: dict[str, float] = {}

    def time(self, step: str, work: Callable[[], object]) -> None:
        """Time what does something for 100 calls."""
        start = time.perf_counter()
        work()
        took = (time.perf_counter() - start) / _CALLS * 1e6
        self.best[step] = min(took, self.best.get(step, took))


def _measure(name: str) -> dict[str, float]:
    """Return us for a call, for all that can be called alone."""
    codec, clock, pair = get_codec(name), _Clock(), _Pair(name)
    request, reply = codec.encode(_REQUEST), codec.encode(_REPLY)
    numbers = range(_CALLS)
    gc.disable()  # a collection would count for the step that it falls into
    try:
        for _ in range(_REPEATS):
            clock.time("encode call", lambda: [codec.encode(_REQUEST) for _ in numbers])
            clock.time("decode call", lambda: [codec.decode(request) for _ in numbers])
            clock.time("encode reply", lambda: [codec.encode(_REPLY) for _ in numbers])
            clock.time("decode reply", lambda: [codec.decode(reply) for _ in numbers])
            _time_core(clock, codec)
            clock.time("client call", pair.call)
            requests = pair.client_mux.take()
            clock.time("server io", lambda data=requests: pair.serve(data))  # type: ignore[misc]
            replies = pair.server_mux.take()
            clock.time("client io", lambda data=replies: pair.answer(data))  # type: ignore[misc]
    finally:
        gc.enable()
        pair.close()
    assert pair.answers == _CALLS * _REPEATS, "an answer is missing"
    return clock.best


def _time_core(clock: _Clock, codec: Codec) -> None:
    """Time the floor below client and server: bytes and messages."""
    numbers = range(_CALLS)
    caller, callee = ClientProtocol(codec), ServerProtocol()
    packets: list[bytes] = []

    def call() -> None:
        for number in numbers:
            packets.append(caller.call("add_numbers", _REQUEST[2:], number)[1])

    def drain(protocol: ClientProtocol | ServerProtocol, data: bytes) -> None:
        protocol.feed(data)
        while protocol.next_message() is not None:
            pass

    clock.time("core call", call)
    data = b"".join(packets)
    clock.time("core requests", lambda: drain(callee, data))
    replies: list[bytes] = []
    clock.time(
        "core reply", lambda: replies.extend(callee.result(id, _REPLY[1:]) for id in numbers)
    )
    answers = b"".join(replies)
    clock.time("core replies", lambda: drain(caller, answers))


# A step is what the first of these took, without what the others did.
_STEPS: dict[str, tuple[str, ...]] = {
    "client: `rpc.add_numbers(...)`, the `Call`, the callback kept": ("client call", "core call"),
    "client: id, token, length in front": ("core call", "encode call"),
    "client: encode the request": ("encode call",),
    "server: cut the read into packets, read one as a request": ("core requests", "decode call"),
    "server: decode the request": ("decode call",),
    "server: find the procedure, bind its arguments, call it, `return_()`": (
        "server io",
        "core requests",
        "core reply",
    ),
    "server: encode the reply": ("encode reply",),
    "server: id, length in front": ("core reply", "encode reply"),
    "client: cut the read into packets, find the call": ("core replies", "decode reply"),
    "client: decode the reply": ("decode reply",),
    "client: bind the answer to the callback, call it": ("client io", "core replies"),
}
_WHOLES = ("client call", "server io", "client io")


def _memory_table() -> Table:
    table = Table(
        "In memory", ("step", "JSON, us", "Storable, us"), note="100 calls at a time; least times."
    )
    found = [_measure(name) for name in _CODECS]
    for step, (whole, *parts) in _STEPS.items():
        figures = [each[whole] - sum(each[part] for part in parts) for each in found]
        table.rows.append((step, *(f"{figure:.2f}" for figure in figures)))
    totals = [sum(each[whole] for whole in _WHOLES) for each in found]
    table.rows.append(("**one call, both ends**", *(f"**{total:.2f}**" for total in totals)))
    return table


# System calls


def _calls_table() -> Table | None:
    """Return the table, None without strace."""
    if shutil.which("strace") is None:
        return None
    table = Table(
        "System calls",
        ("calls in flight, end", "for each call", "for each 100 calls"),
        note=f"strace, {_COUNTED:,} calls in JSON over TCP; what connecting takes is taken off.",
    )
    for window in (1, 100):
        none, many = (_strace(window, count) for count in (0, _COUNTED))
        for end in ("client", "server"):
            names = {name: many[end][name] - none[end].get(name, 0) for name in many[end]}
            every = sum(names.values()) / _COUNTED
            parts = [
                f"{name} {count / _COUNTED * 100:.0f}"
                for name, count in sorted(names.items(), key=lambda pair: -pair[1])
                if count / _COUNTED * 100 >= 1
            ]
            table.rows.append((f"{window}, {end}", f"{every:.2f}", ", ".join(parts)))
    return table


def _strace(window: int, count: int) -> dict[str, dict[str, int]]:
    """Return how often each end made each system call."""
    with tempfile.TemporaryDirectory() as folder:
        files = {end: Path(folder, end) for end in ("client", "server")}
        port = free_port()
        trace = ("strace", "-c", "-U", "calls,name", "-o")
        server = Child("serve", "ours-json", port, command=(*trace, str(files["server"])))
        try:
            wait_for(server, port)
            call = [sys.executable, __file__, "--call", str(port), str(window), str(count)]
            subprocess.run([*trace, str(files["client"]), *call], check=True)
            children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
            os.kill(int(children.split()[0]), signal.SIGINT)
            server.wait()  # strace writes when what it traces has ended
        finally:
            server.end()
        return {end: _counts(path.read_text()) for end, path in files.items()}


def _counts(text: str) -> dict[str, int]:
    found = re.findall(r"^\s*(\d+)\s+(\w+)$", text, re.MULTILINE)
    return {name: int(count) for count, name in found if name != "total"}


def _call(port: int, window: int, count: int) -> None:
    """Make so many calls; this is what strace looks at."""
    mux = EventMux()
    rpc = Client(mux, f"tcp://127.0.0.1:{port}", codec="json")
    left = count

    def answer(sum):  # type: ignore[no-untyped-def]
        nonlocal left
        assert sum == 5, sum
        if left > 0:
            left -= 1
            rpc.add_numbers(answer, n1=2, n2=3)

    left += 1
    for _ in range(min(window, left)):
        left -= 1
        rpc.add_numbers(answer, n1=2, n2=3)
    while rpc.has_requests():
        rpc.io(mux.mux())


def main() -> None:
    """Measure and print; see the head of this file."""
    parser = argparse.ArgumentParser(description="What one call costs, step by step.")
    parser.add_argument("--write-docs", action="store_true", help="into docs/profile.md")
    parser.add_argument("--call", nargs=3, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.call:
        _call(*options.call)
        return
    tables = [_memory_table(), _calls_table()]
    texts = [machine(), *(table.markdown() for table in tables if table is not None)]
    text = "\n\n".join(texts)
    print(text)
    if options.write_docs:
        write_between(_ROOT / "docs" / "profile.md", text)


if __name__ == "__main__":
    main()
