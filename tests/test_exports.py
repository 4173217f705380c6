"""What is public is said once, sorted, and exists."""

import ast
import importlib
import importlib.resources
import pkgutil
import types
from pathlib import Path

import pytest

import eventmux
import rpcasync


def public_modules():
    for package in (eventmux, rpcasync):
        yield package.__name__
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            is_private = any(part.startswith("_") for part in info.name.split("."))
            if not is_private and not is_bare(info):
                yield info.name


def is_bare(info):
    """True for the file of a folder that only says what the folder is for."""
    if not info.ispkg:
        return False
    source = Path(importlib.import_module(info.name).__file__).read_text()
    return len(ast.parse(source).body) == 1


@pytest.mark.parametrize("name", list(public_modules()))
def test_all_is_sorted_and_true(name):
    module = importlib.import_module(name)
    assert module.__all__ == sorted(module.__all__, key=_ruff_order)
    for public in module.__all__:
        assert hasattr(module, public)


def _ruff_order(name):
    """Constants, then classes, then functions, each by name: as ruff sorts them."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name


@pytest.mark.parametrize("package", [eventmux, rpcasync])
def test_the_package_exports_what_it_imports(package):
    modules = {name for name, value in vars(package).items() if isinstance(value, types.ModuleType)}
    names = {name for name in vars(package) if not name.startswith("_")} - modules
    assert names == set(package.__all__)


def test_the_contract():
    assert {"EventMux", "Event", "Read", "Closed", "Error", "URLError"} <= set(eventmux.__all__)
    assert set(rpcasync.__all__) >= {
        *("Server", "Client", "Call", "Reply", "StorableCodec", "JSONCodec", "init_clients"),
        *("url_connect", "url_listen", "url_disconnect", "Fault", "RPCError", "RemoteError"),
        *("CallTimeout", "Disconnected", "ProtocolError", "DecodeError", "EncodeError"),
    }


@pytest.mark.parametrize("package", [eventmux, rpcasync])
def test_the_package_is_typed(package):
    assert (importlib.resources.files(package) / "py.typed").is_file()


def test_event_types_are_the_names_of_the_classes():
    """A `Read` that says more has the type of a `Read`: programs ask for that."""
    for name in eventmux.__all__:
        public = getattr(eventmux, name)
        if isinstance(public, type) and issubclass(public, eventmux.Read):
            assert public.type == "read"
        elif isinstance(public, type) and issubclass(public, eventmux.Event):
            spelled = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).strip("_")
            assert public.type == ("" if public is eventmux.Event else spelled)
