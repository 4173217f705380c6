"""`stub()`: a module with a method for each procedure of a server, for editors and type checkers.

Its classes have a client, and make their calls by it: one waits, the other is awaited. What a
procedure answers, as far as that is told, is a class (`TypedDict`) or a list; the values are
converted to that, so that the types are true, whatever Perl makes of numbers.

The methods are in `methods.py`, and the classes for hashes in `tables.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rpcasync.describing.hints import BUILTINS
from rpcasync.describing.methods import Method
from rpcasync.describing.names import Names, is_name
from rpcasync.describing.procedures import Procedure
from rpcasync.describing.tables import Tables

__all__ = ["stub"]

_HEAD = '''\
"""The procedures of a server as methods; made by `rpcasync stub`, and best made anew.

{usage}

An answer that is not what the server has told of it raises ArgumentError. What may be
left out is left out where it is None.
"""

from __future__ import annotations
'''
_SYNC_USAGE = """\
    with rpcasync.connect(url) as rpc:
        client = Client(rpc)"""
_ASYNC_USAGE = """\
    async with rpcasync.aio.connect(url) as rpc:
        client = AsyncClient(rpc)"""
_SYNC_CLASS = '''\
class Client:
    """Calls the procedures of a server, and waits for each answer."""

    def __init__(self, rpc: rpcasync.BlockingClient) -> None:
        """Make the calls by a client; `rpcasync.connect()` gives one."""
        self.rpc = rpc
'''
_ASYNC_CLASS = '''\
class AsyncClient:
    """Calls the procedures of a server; each answer is awaited."""

    def __init__(self, rpc: rpcasync.aio.AsyncClient) -> None:
        """Make the calls by a client; `rpcasync.aio.connect()` gives one."""
        self.rpc = rpc
'''
_HELPERS = {
    "_given": '''\
def _given(**named: object) -> dict[str, object]:
    """Return what is not None."""
    return {name: value for name, value in named.items() if value is not None}
''',
    "_given_values": '''\
def _given_values(*values: object) -> list[object]:
    """Return what is in front of the first None."""
    return list(itertools.takewhile(lambda value: value is not None, values))
''',
}
# A method of such a name would be meant where these are.
_OURS = frozenset({"rpc", "builtins", "rpcasync", "Callable"})
_TAKEN = frozenset({"Client", "AsyncClient", "TypedDict", "annotations", "itertools"})


def stub(
    procedures: Sequence[Procedure],
    *,
    is_sync: bool = True,
    is_async: bool = True,
    has_undef: bool = False,
) -> str:
    """Return the text of the module.

    Args:
        procedures: of the server.
        is_sync: with the class `Client`, which waits.
        is_async: with the class `AsyncClient`, whose methods are awaited.
        has_undef: any text, number or boolean in an answer may be None.
    """
    names = _method_names(procedures)
    parameters = {name for each in procedures for name in each.names}
    taken = {*BUILTINS, *_OURS, *_TAKEN, *_HELPERS, *names, *parameters}
    tables = Tables(procedures, taken, has_undef=has_undef)
    hidden = BUILTINS.intersection(names)
    methods = [
        Method(each, name, tables, hidden) for each, name in zip(procedures, names, strict=True)
    ]
    bodies = []
    if is_sync:
        bodies.append("\n".join([_SYNC_CLASS, *(each.text(is_async=False) for each in methods)]))
    if is_async:
        bodies.append("\n".join([_ASYNC_CLASS, *(each.text(is_async=True) for each in methods)]))
    uses = set(tables.uses).union(*(each.uses for each in methods))
    head = _HEAD.format(usage="\n\n".join([_SYNC_USAGE] * is_sync + [_ASYNC_USAGE] * is_async))
    imports = "".join(f"{line}\n" for line in _imports(uses, is_async=is_async))
    helpers = [text for name, text in _HELPERS.items() if name in uses]
    return "\n\n".join([f"{head}\n{imports}", *helpers, *tables.texts, *bodies])


def _method_names(procedures: Sequence[Procedure]) -> list[str]:
    """Return a name of a method for each procedure: its own, if it can be."""
    good = {each.name for each in procedures if is_name(each.name, _OURS)}
    made = Names({*good, *_OURS, "self"})
    return [each.name if each.name in good else made.new(each.name) for each in procedures]


def _imports(uses: set[str], *, is_async: bool) -> Iterator[str]:
    for module in ("builtins", "itertools"):
        if module in uses:
            yield f"import {module}"
    if "Callable" in uses:
        yield "from collections.abc import Callable"
    if "TypedDict" in uses:
        yield "from typing import TypedDict"
    if {"builtins", "itertools", "Callable", "TypedDict"} & uses:
        yield ""
    yield "import rpcasync"
    if is_async:
        yield "import rpcasync.aio"
