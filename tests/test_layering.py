"""Each file imports only from below it: the floors, and who stands on which."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A file may import those of its package that stand in an earlier line, and nothing in its own.
FLOORS = {
    "eventmux": [
        ["errors", "events", "_timers", "_forking", "_memory"],
        ["buffers", "urls", "_queue", "_trace"],
        ["sockets", "datagrams", "_descriptors", "_mailbox", "_signals", "_spinning"],
        ["_channels", "_children"],
        ["_streams", "_listeners", "_poller"],
        ["_packets", "_watches"],
        ["_dialing", "_manual"],
        ["_table"],
        ["mux"],
        ["__init__"],
    ],
    "rpcasync": [
        ["errors", "_log", "_deadlines"],
        ["messages", "storable"],
        ["callbacks", "trees"],
        ["conversions"],
        ["signatures"],
        ["definitions"],
        ["procedures", "codecs", "framing"],
        ["protocol"],
        ["calls", "connection", "programs", "reaping"],
        ["callers", "urls"],
        ["admission"],
        ["connections"],
        ["dispatch"],
        ["client", "server"],
        ["startup"],
        ["cli"],
        ["__init__"],
        ["__main__"],
    ],
}
# What rpcasync needs of the other package, by file. eventmux needs nothing of rpcasync.
ACROSS = {
    "framing": {"eventmux.buffers", "eventmux.errors"},
    "programs": {"eventmux.errors"},
    "urls": {"eventmux.sockets", "eventmux.urls", "eventmux.errors"},
    "reaping": {"eventmux", "eventmux.events"},
    "client": {"eventmux", "eventmux.events"},
    "connections": {"eventmux.events", "eventmux.sockets"},
    "server": {"eventmux.events"},
    "startup": {"eventmux.errors", "eventmux.sockets"},
    "cli": {
        *("eventmux", "eventmux.buffers", "eventmux.events", "eventmux.sockets", "eventmux.urls"),
    },
}
# These deal in bytes and decisions: no socket, clock, process or file may be near.
PURE = {
    "eventmux": {"errors", "events", "buffers", "urls", "_queue", "_timers"},
    "rpcasync": {
        *("errors", "_log", "_deadlines", "messages", "storable", "callbacks", "trees"),
        *("conversions", "signatures", "definitions", "procedures", "codecs", "framing"),
        "protocol",
    },
}
IMPURE = {"socket", "select", "selectors", "time", "threading", "subprocess", "os", "io", "signal"}


def modules(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT / package).with_suffix("").parts
        yield pytest.param(package, parts[0], path, id=".".join((package, *parts)))


def all_modules():
    return [*modules("eventmux"), *modules("rpcasync")]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from eventmux import sockets` imports a module, `from eventmux import EventMux` not
            for alias in node.names:
                file = ROOT / node.module.replace(".", "/") / f"{alias.name}.py"
                yield f"{node.module}.{alias.name}" if file.exists() else node.module


def floor(package, module):
    return next(number for number, row in enumerate(FLOORS[package]) if module in row)


@pytest.mark.parametrize(("package", "module", "path"), all_modules())
def test_imports_go_down(package, module, path):
    for name in imports(path):
        top, _, rest = name.partition(".")
        if top == package:
            below = rest.partition(".")[0] or "__init__"
            inside = module == below  # a folder, whose files may use each other
            assert inside or floor(package, below) < floor(package, module), name
        elif top in FLOORS:
            assert package == "rpcasync", name
            allowed = ACROSS.get(module, set())
            assert name in allowed, name


@pytest.mark.parametrize(("package", "module", "path"), all_modules())
def test_the_lower_floors_are_pure(package, module, path):
    if module in PURE[package]:
        assert IMPURE.isdisjoint(name.partition(".")[0] for name in imports(path))


@pytest.mark.parametrize(("package", "module", "path"), all_modules())
def test_only_the_standard_library(package, module, path):
    for name in imports(path):
        assert name.partition(".")[0] in {*sys.stdlib_module_names, "eventmux", "rpcasync"}
