"""The stores, step 1: two procedures are here, and old.pl answers the others.

usage: rpcasync listen -u URL --fallback perl://./old.pl step1.py
"""

from pathlib import Path
from typing import NamedTuple

from eventmux import EventMux
from rpcasync import Fault, Server, init_clients


class Part(NamedTuple):
    """A line of parts.tsv. The price stays the text that it is there: 24.90."""

    number: int
    name: str
    quantity: int
    keep: int
    box: int
    weight: float
    price: str
    supplier: str | None


def read_parts() -> dict[int, Part]:
    """One character for each byte, as Perl reads it."""
    lines = Path("parts.tsv").read_text("latin-1").splitlines()[1:]
    return {part.number: part for part in map(read_part, lines)}


def read_part(line: str) -> Part:
    number, name, quantity, keep, box, weight, price, *supplier = line.split("\t")
    counts = int(quantity), int(keep), int(box)
    return Part(int(number), name, *counts, float(weight), price, "".join(supplier) or None)


def part_of(number: int) -> Part:
    part = read_parts().get(number)
    if part is None:
        raise Fault(f"there is no part {number}")
    return part


def_part = {
    "out": {
        "name": "utf8string",
        "quantity": "integer32",
        "price": "float64",
        "supplier": "utf8string",
    },
}


def rpc_part(caller, number: int):
    part = part_of(number)
    rpc.return_(
        caller, name=part.name, quantity=part.quantity, price=part.price, supplier=part.supplier
    )


def_stock = {"out": {"stock": {}}}


def rpc_stock(caller):
    parts = read_parts().values()
    rpc.return_(caller, stock={str(part.number): part.quantity for part in parts})


mux = EventMux()
rpc = Server(mux)
init_clients(rpc)

while rpc.has_clients():
    rpc.io(mux.mux())
