"""The route of one call through a server: which functions it goes through, and in which files.

    python tests/benchmarks/route.py [--codec json] [--list]

From the function that reads a request to the one that sends its answer, each call of a Python
function of the two packages counts, the files that these are in, and how often a call is in another
file than the one before. The call is the third one of its client: what is read once is known by
then.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = (str(ROOT / "eventmux"), str(ROOT / "rpcasync"))
sys.path.insert(0, str(ROOT))

from eventmux import EventMux  # noqa: E402  # those of this tree
from rpcasync import Client, Server  # noqa: E402

_FIRST, _LAST = "readable", "_send_once"  # what a channel has for `recv()` and `send()`


class Route:
    """Notes what is called from a read to the next write."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []  # file and function
        self._is_on = False

    def note(self, frame: FrameType, event: str, _argument: object) -> None:
        """Note one step, for `sys.setprofile()`."""
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if event != "call" or not file.startswith(_PACKAGES):
            return
        self._is_on = self._is_on or name == _FIRST
        if self._is_on:
            self.calls.append((str(Path(file).relative_to(ROOT)), name))
        self._is_on = self._is_on and name != _LAST

    def __str__(self) -> str:
        """Show how long it is."""
        files = [file for file, _ in self.calls]
        changes = sum(one != other for one, other in itertools.pairwise(files))
        return f"{len(files)} calls, {len(set(files))} files, {changes} changes of file"


def follow(codec: str) -> Route:
    """Return the route of a call of `add_numbers`."""
    route = Route()

    def add_numbers(caller: object, n1: int, n2: int) -> None:
        server.return_(caller, sum=n1 + n2)

    with EventMux() as ours, EventMux() as theirs:
        server = Server(ours, {"rpc_add_numbers": add_numbers})
        port = server.listen("tcp://127.0.0.1:0").getsockname()[1]
        client = Client(theirs, f"tcp://127.0.0.1:{port}", codec=codec)
        for is_last in (False, False, True):
            call = client.add_numbers(n1=2, n2=3)
            while theirs.buflen(client.fh):  # until it has left
                client.io(theirs.mux(0))
            sys.setprofile(route.note if is_last else None)
            event = ours.mux()
            while event is not None and event.type != "timeout":
                server.io(event)
                event = ours.mux(0)
            sys.setprofile(None)
            call.result()
    return route


def main(argv: Sequence[str] | None = None) -> int:
    """Print the route; return the exit status."""
    parser = argparse.ArgumentParser(prog="route.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--codec", choices=["storable", "json"], default="storable")
    parser.add_argument("--list", action="store_true", help="print each call, too")
    options = parser.parse_args(argv)
    route = follow(options.codec)
    if options.list:
        print("\n".join(f"{file}: {function}" for file, function in route.calls))
    print(route)
    return 0


if __name__ == "__main__":
    sys.exit(main())
