"""Each file imports only from below it: the floors, and who stands on which.

A row is a folder or a file of the package, and may import from the rows above it. The files of a
folder may import each other, from top to bottom of `INSIDE`.
"""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# A file may import those of its package that stand in an earlier line, and nothing in its own.
FLOORS = {
    "eventmux": [
        ["errors", "passing", "peers", "tcp", "_crc32c", "_forking", "_memory", "_nearest"],
        ["events"],
        ["buffers", "proxy", "urls", "_queue", "_trace", "_socketfiles"],
        ["sources"],
        ["sockets", "datagrams", "destinations", "_waiting"],
        ["_tls", "_watching"],
        ["_channels"],
        ["_loop"],
        ["mux"],
        ["aio"],
        ["__init__"],
    ],
    "rpcasync": [
        ["backoff", "errors", "_log"],
        ["storable"],
        ["wire"],
        ["coderefs"],
        ["arguments", "comparing", "recording"],
        ["calls", "children", "describing"],
        ["certificates", "inbox", "outbox", "urls"],
        ["activation", "limited", "loss", "notifying", "opening", "serving", "times", "unsent"],
        ["client", "workers"],
        ["forwarding", "reconnecting"],
        ["awaiting", "leading", "recorder", "replaying", "server"],
        ["shadowing"],
        ["aio", "blocking", "startup"],
        ["cli"],
        ["__init__"],
        ["__main__"],
    ],
}
# The same within a folder.
INSIDE = {
    "eventmux._waiting": [["spinning", "pollable"], ["hangups"], ["poller"]],
    "eventmux._watching": [["timers", "signals", "mailbox"], ["children", "wakeup"], ["watches"]],
    "eventmux._tls": [["hello", "sessions", "texts", "usual"], ["layer"]],
    "eventmux._channels": [
        ["trust", "handles", "lingering", "backlog", "passing"],
        ["options", "descriptors"],
        ["contexts", "ports"],
        ["files", "lending"],
        ["channel"],
        ["arrivals", "extras"],
        ["intake", "listeners", "nested", "endings", "idling"],
        ["proxied", "streams"],
        ["packets", "secure"],
        ["dialing", "handshakes", "manual", "accompanied"],
        ["exceptional"],
        ["special"],
        ["fitting"],
        ["table"],
    ],
    "eventmux.buffers": [
        ["_heads", "_records"],
        ["_batch", "_frames", "_rewinding", "_size", "_split"],
        ["_http"],
    ],
    "rpcasync.shadowing": [["book", "copies", "reports"], ["pairs"], ["shadow"]],
    "rpcasync.storable": [
        ["_opcodes", "_values"],
        ["_places", "_tags", "_typed"],
        ["_leaves", "_scalars"],
        ["_decoder"],
        ["_freeze", "_thaw", "_walk"],
    ],
    "rpcasync.cli": [
        ["lines", "screen"],
        ["output"],
        [
            *("definitions", "figures", "handed", "holders", "log_file", "rendering", "tab"),
            *("trust", "usage"),
        ],
        ["balancing", "fullscreen", "intervals", "progress", "prometheus", "summary", "values"],
        ["workers"],
        ["dashboard", "options"],
        ["commands"],
        ["session", "terminal"],
        ["call", "completion", "health", "listen", "making", "methods", "shadow_report", "shell"],
        ["stats", "top"],
        ["record", "replay"],
    ],
    "rpcasync.wire": [
        ["counting", "deadlines", "leaves", "messages"],
        ["codecs", "framing", "splicing"],
        ["dialect", "strangers"],
        ["protocol"],
    ],
    "rpcasync.replaying": [["codecs", "tally"], ["connections"], ["replay"]],
    "rpcasync.recording": [["tagged"], ["lines", "redaction"], ["writer"], ["reader"]],
    "rpcasync.arguments": [
        ["conversions"],
        ["answers", "shortcuts"],
        ["signatures"],
        ["known", "misfits", "reflection", "wanted"],
    ],
    "rpcasync.comparing": [["differences", "scalars"], ["answers"]],
    "rpcasync.describing": [
        ["kinds", "names", "source"],
        ["hints", "procedures"],
        ["schema", "skeleton", "tables"],
        ["methods"],
        ["stub"],
    ],
    "rpcasync.leading": [["requests"], ["connection", "lasting", "lead", "sending"]],
    "rpcasync.reconnecting": [["keeping", "route"], ["link"], ["client"]],
    "rpcasync.awaiting": [
        ["callbacks", "encryption", "processes"],
        ["connection"],
        ["link", "opening"],
        ["lasting"],
    ],
    "rpcasync.forwarding": [["fallback", "namesakes", "relayed"], ["forwarding"]],
    "rpcasync.children": [
        ["environments", "forked", "leftover", "ending", "output", "parent"],
        ["programs"],
    ],
    "rpcasync.serving": [
        ["histogram", "identity", "listening", "mends", "notes", "scoreboard", "snapshot"],
        ["namespace", "records", "sharing"],
        ["peer", "reminder"],
        ["alarms", "budget", "callers", "ended", "looks", "muting", "patience", "turns"],
        ["admission", "aging", "closings", "counting", "idling", "lag", "retries", "watching"],
        ["peers"],
        ["entrance", "timeouts"],
        ["dispatch"],
        ["arrivals", "recovery", "seeing"],
        ["draining"],
        ["agent", "stopping"],
    ],
    "rpcasync.workers": [
        ["membership", "orphans"],
        ["worker"],
        ["roll"],
        ["supervisor"],
    ],
}
# What rpcasync may use of the other package, by row. eventmux needs nothing of rpcasync.
ACROSS = {
    "activation": {"eventmux.sockets"},
    "aio": {"eventmux._nearest", "eventmux.events"},
    "awaiting": {
        *("eventmux", "eventmux._tls.texts", "eventmux._tls.usual", "eventmux.aio"),
        *("eventmux.events", "eventmux.sockets", "eventmux.tcp", "eventmux.urls"),
    },
    "blocking": {"eventmux", "eventmux._forking", "eventmux._nearest"},
    "calls": {"eventmux._nearest"},
    "forwarding": {"eventmux", "eventmux.events"},
    "leading": {"eventmux.errors", "eventmux.events", "eventmux.sockets"},
    "children": {"eventmux", "eventmux.errors", "eventmux.events"},
    "urls": {"eventmux.errors", "eventmux.sockets", "eventmux.urls"},
    "serving": {
        *("eventmux._nearest", "eventmux.errors", "eventmux.events", "eventmux.peers"),
        "eventmux.sockets",
    },
    "client": {"eventmux", "eventmux._nearest", "eventmux.events"},
    "reconnecting": {"eventmux", "eventmux._nearest", "eventmux.events"},
    "inbox": {"eventmux", "eventmux.events"},
    "limited": {"eventmux", "eventmux.events"},
    "loss": {"eventmux", "eventmux.events"},
    "opening": {"eventmux", "eventmux.events"},
    "times": {"eventmux", "eventmux.events"},
    "outbox": {"eventmux", "eventmux.events"},
    "replaying": {"eventmux", "eventmux.buffers", "eventmux.events"},
    "server": {"eventmux._nearest", "eventmux.events"},
    "unsent": {"eventmux", "eventmux.events"},
    "shadowing": {"eventmux", "eventmux._nearest", "eventmux.events"},
    "startup": {"eventmux.errors", "eventmux.sockets"},
    "workers": {"eventmux", "eventmux.buffers"},
    "cli": {
        *("eventmux", "eventmux._nearest", "eventmux.buffers", "eventmux.events"),
        *("eventmux.sockets", "eventmux.urls"),
    },
}
# These deal in bytes and decisions: no socket, clock, process or file may be near.
PURE = {
    "eventmux": {"errors", "events", "peers", "proxy", "buffers", "urls", "_queue", "_crc32c"},
    "rpcasync": {
        *("errors", "_log", "storable", "wire", "coderefs"),
        *("arguments", "comparing", "describing"),
    },
}
IMPURE = {"socket", "select", "selectors", "time", "threading", "subprocess", "os", "io", "signal"}


@cache
def sources() -> list[tuple[str, str, list[str]]]:
    """Return package, dotted name in it, and what is imported, for each file."""
    found = []
    for package in FLOORS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT / package).with_suffix("").parts
            found.append((package, ".".join(parts), list(imports(path))))
    return found


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from eventmux import sockets` imports a module, `from eventmux import EventMux` not
            for alias in node.names:
                file = ROOT / str(node.module).replace(".", "/") / f"{alias.name}.py"
                yield f"{node.module}.{alias.name}" if file.exists() else str(node.module)


def floor(rows: list[list[str]], name: str) -> int:
    """Return the number of the row that a name stands in."""
    found = [number for number, row in enumerate(rows) if name in row]
    assert len(found) == 1, f"{name} stands in {len(found)} rows"
    return found[0]


def goes_down(package: str, file: str, imported: str) -> bool:
    """True if a file of a package may import a name of it, both without the package's name."""
    here, _, inner = file.partition(".")
    there, _, below = (imported or "__init__").partition(".")
    if here != there:
        return floor(FLOORS[package], there) < floor(FLOORS[package], here)
    rows = INSIDE.get(f"{package}.{here}")
    if rows is None or inner == "__init__":  # a folder whose files may use each other
        return True
    return floor(rows, below) < floor(rows, inner)


def test_imports_go_down():
    wrong = [
        f"{package}.{file} imports {name}"
        for package, file, names in sources()
        for name in names
        if name.partition(".")[0] == package
        and not goes_down(package, file, name.partition(".")[2])
    ]
    assert not wrong


def test_what_rpcasync_uses_of_eventmux():
    used: dict[str, set[str]] = {}
    for package, file, names in sources():
        other = "rpcasync" if package == "eventmux" else "eventmux"
        across = {name for name in names if name.partition(".")[0] == other}
        assert package == "rpcasync" or not across, file
        if across:
            used.setdefault(file.partition(".")[0], set()).update(across)
    assert used == ACROSS


def test_every_room_has_its_floor():
    for package, file, _ in sources():
        here, _, inner = file.partition(".")
        floor(FLOORS[package], here)
        if f"{package}.{here}" in INSIDE and inner != "__init__":
            floor(INSIDE[f"{package}.{here}"], inner)


def test_the_lower_floors_are_pure():
    for package, file, names in sources():
        impure = IMPURE.intersection(name.partition(".")[0] for name in names)
        if impure and file.partition(".")[0] in PURE[package]:
            assert impure <= for_checkers(package, file), file


def test_only_the_standard_library():
    for package, file, names in sources():
        tops = {name.partition(".")[0] for name in names}
        if "typing_extensions" in tops:  # type checkers bring it
            tops -= for_checkers(package, file)
        assert tops <= {*sys.stdlib_module_names, "eventmux", "rpcasync"}, file


def for_checkers(package: str, file: str) -> set[str]:
    """Return the modules that a file imports under `if TYPE_CHECKING:` alone: never, when run."""
    tree = parsed(ROOT / package / f"{file.replace('.', '/')}.py")
    inner = [
        statement
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
    ]
    checked = {id(node) for statement in inner for node in ast.walk(statement)}
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found[id(node) in checked].update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found[id(node) in checked].add(str(node.module))
    return found[True] - found[False]
